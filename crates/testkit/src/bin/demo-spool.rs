//! Makes the spool that `cylinder demo` unpacks: two accounts on a real Cyrus 3.6.1, stopped, as
//! a zstd tar of its configuration directory and its partition.
//!
//! Usage: `demo-spool FILE`; run by `cargo xtask demo-spool`.

use std::error::Error;
use std::fs::File;
use std::path::Path;

use testkit::imap::Append;
use testkit::mail::{MailGenerator, Sizes};
use testkit::{Cyrus, ImapClient, cyrus_or_skip};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// What of the configuration directory belongs to the accounts; the rest is caches, sockets and
/// logs of the server.
const KEPT: [&str; 4] = ["mailboxes.db", "annotations.db", "quota", "user"];

fn main() -> Outcome {
    let target = std::env::args().nth(1).ok_or("usage: demo-spool FILE")?;
    let builder = cyrus_or_skip("demo-spool").ok_or("the real Cyrus is needed")?;
    let mut cyrus = builder.start()?;
    fill(&cyrus, "glad", &GLAD)?;
    fill(&cyrus, "iris", &IRIS)?;
    cyrus.stop();
    pack(&cyrus, Path::new(&target))
}

/// A folder and the subjects of its messages.
type Folder = (&'static str, &'static [&'static str]);

const GLAD: [Folder; 4] = [
    ("INBOX", &["Welcome to the archive", "Minutes of Monday", "Re: Minutes of Monday", "Lunch?"]),
    ("INBOX.Travel", &["Tickets to Babylon", "Hotel by the canal", "Packing list", "Visa"]),
    ("INBOX.Clay", &["Firing schedule", "Re: Firing schedule", "Kiln broken", "Kiln mended"]),
    ("INBOX.Sent", &["Re: Lunch?", "Order: two tons of clay"]),
];

const IRIS: [Folder; 2] =
    [("INBOX", &["Hello", "Lost and found"]), ("INBOX.Drafts", &["To whom it may concern"])];

/// 2026-11-01T00:00:00Z; messages arrive an hour apart.
const FIRST_ARRIVAL: i64 = 1_793_491_200;

/// How many messages the list has.
const LIST_MESSAGES: u32 = 250;

fn fill(cyrus: &Cyrus, user: &str, folders: &[Folder]) -> Outcome {
    cyrus.create_user(user)?;
    cyrus.admin()?.set_quota(&format!("user/{user}"), "STORAGE 100000")?;
    let mut client = cyrus.imap_as(user)?;
    let mut arrival = FIRST_ARRIVAL;
    for (folder, subjects) in folders {
        let folder = folder.replace('.', "/");
        if folder != "INBOX" {
            client.create(&folder)?;
            client.subscribe(&folder)?;
        }
        for (n, subject) in subjects.iter().enumerate() {
            let message = message(user, subject, arrival, n);
            let flags: &[&str] = match n % 3 {
                0 => &["\\Seen"],
                1 => &["\\Seen", "\\Answered", "$Forwarded"],
                _ => &[],
            };
            let internaldate = Some(arrival);
            client.append(&folder, Append { message: &message, flags, internaldate })?;
            arrival += 3600;
        }
    }
    if folders.len() > 3 {
        client.select("INBOX")?;
        client.copy("1", "INBOX/Clay")?;
        fill_list(&mut client, arrival)?;
    }
    client.set_metadata("INBOX", "/private/comment", Some("made for the demo"))?;
    client.logout()?;
    Ok(())
}

/// A busy mailing list, so that there is something to count.
fn fill_list(client: &mut ImapClient, mut arrival: i64) -> Outcome {
    client.create("INBOX/Lists")?;
    let mut mail = MailGenerator::new(538, Sizes::Small);
    for _ in 0..LIST_MESSAGES {
        arrival += 600;
        let message = mail.message();
        let internaldate = Some(arrival);
        client.append("INBOX/Lists", Append { message: &message, flags: &[], internaldate })?;
    }
    Ok(())
}

/// A message of a few lines, and one with an attachment of some size in each folder.
fn message(user: &str, subject: &str, arrival: i64, n: usize) -> Vec<u8> {
    let mut text = format!(
        "From: Somebody <somebody@example.org>\r\n\
         To: {user} <{user}@example.org>\r\n\
         Subject: {subject}\r\n\
         Date: {}\r\n\
         Message-ID: <{arrival}.{user}@example.org>\r\n\
         MIME-Version: 1.0\r\n\
         Content-Type: text/plain; charset=us-ascii\r\n\
         \r\n",
        testkit::imap::date_time(arrival),
    );
    let lines = if n == 1 { 400 } else { 12 };
    for line in 0..lines {
        text.push_str(&format!("{subject}, line {line}: what is written on clay stays.\r\n"));
    }
    text.into_bytes()
}

fn pack(cyrus: &Cyrus, target: &Path) -> Outcome {
    let mut out = tar::Builder::new(zstd::Encoder::new(File::create(target)?, 19)?);
    out.mode(tar::HeaderMode::Deterministic);
    out.append_dir_all("spool", cyrus.spool())?;
    for name in KEPT {
        let path = cyrus.config_directory().join(name);
        let place = Path::new("conf").join(name);
        if path.is_dir() {
            out.append_dir_all(place, path)?;
        } else if path.is_file() {
            out.append_path_with_name(path, place)?;
        }
    }
    out.into_inner()?.finish()?;
    println!("{}: {} bytes", target.display(), target.metadata()?.len());
    Ok(())
}
