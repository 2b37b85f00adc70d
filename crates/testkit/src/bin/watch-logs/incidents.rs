//! One trouble after the other.

mod services;

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use testkit::ImapClient;
use testkit::imap::Append;

use crate::everyday::END;
use crate::tamper::{processes, system, with_fault};
use crate::{Lab, Outcome};

/// A trouble: what it should be called, and how it is brought about. Each has a user of its own.
type Trouble = (&'static str, fn(&mut Lab, &str) -> Outcome);

const TROUBLES: &[Trouble] = &[
    ("crash", killed_imapd),
    ("crash", killed_sync_server),
    ("index-damaged", short_index),
    ("header-damaged", damaged_header),
    ("cache-damaged", damaged_cache),
    ("mailbox-missing", missing_directory),
    ("permission-denied", forbidden_directory),
    ("guid-mismatch", changed_message),
    ("database-magic", damaged_conversations),
    ("disk-full", full_disk),
    ("disk-read-only", read_only_disk),
    ("disk-failing", failing_disk),
    ("quota-lost", quota_root_gone),
    ("header-checksum", copied_header),
    ("memory-exhausted", no_memory),
    ("files-exhausted", no_descriptors),
    ("fork-failed", services::no_processes),
    ("server-unreachable", services::replica_down),
    ("replica-refused", services::replica_refuses),
    ("sync-log", services::unwritable_sync_log),
    ("storm", services::wrong_names),
    ("storm", services::wrong_passwords),
    ("auth-unavailable", services::no_saslauthd),
    ("private-key", services::unreadable_key),
    ("address-taken", services::taken_port),
    ("program-missing", services::missing_program),
    ("service-disabled", services::failing_service),
    ("database-magic", damaged_mailboxes_db),
];

/// No trouble takes longer to show.
pub const LIMIT: Duration = Duration::from_secs(120);

/// Brings all of them about; their lines, each behind a line with its number and name.
pub fn run(lab: &mut Lab) -> Outcome<Vec<u8>> {
    let mut log = Vec::new();
    for (number, (name, trouble)) in (1..).zip(TROUBLES) {
        let letter = |number: usize| char::from(b'a' + (number % 26) as u8);
        let user = format!("victim{}{}", letter(number / 26), letter(number));
        prepare(lab, &user)?;
        lab.log.take(&lab.masters());
        // All of them happen ten minutes after the everyday has ended.
        lab.log.set_clock(END + 600);
        // Most troubles make the client fail as well.
        let outcome = trouble(lab, &user);
        let lines = lab.log.take(&lab.masters());
        log.extend_from_slice(format!("# {number} {name}\n").as_bytes());
        log.extend_from_slice(&lines);
        println!("{number} {name}: {} bytes, {outcome:?}", lines.len());
    }
    Ok(log)
}

fn prepare(lab: &Lab, user: &str) -> Outcome {
    lab.master.create_user(user)?;
    lab.master.admin()?.set_quota(&format!("user/{user}"), "STORAGE 100000")?;
    let mut client = lab.master.imap_as(user)?;
    for n in 0..3 {
        append(&mut client, "INBOX", n)?;
    }
    client.logout()?;
    lab.master.tool("sync_client", &["-l", "-u", user])?;
    Ok(())
}

fn append(client: &mut ImapClient, mailbox: &str, n: usize) -> Outcome {
    let message = format!("From: a@example.org\r\nSubject: {n}\r\n\r\n{}\r\n", "text ".repeat(400));
    let append = Append { message: message.as_bytes(), flags: &[], internaldate: None };
    client.append(mailbox, append)?;
    Ok(())
}

fn inbox(lab: &Lab, user: &str) -> Outcome<PathBuf> {
    Ok(lab.master.mailbox_directory(&format!("user/{user}"))?)
}

/// Opens the mailbox, and reads and changes what is in it.
fn visit(lab: &Lab, user: &str) -> Outcome {
    let mut client = lab.master.imap_as(user)?;
    client.select("INBOX")?;
    client.command("FETCH 1:* (FLAGS ENVELOPE BODY[])")?;
    append(&mut client, "INBOX", 7)
}

/// Kills the processes of a service of one server.
fn kill(server: &testkit::Cyrus, program: &str) -> Outcome {
    processes(server, program)?.iter().try_for_each(|pid| system("kill", &["-KILL", pid]))
}

fn killed_imapd(lab: &mut Lab, user: &str) -> Outcome {
    let mut client = lab.master.imap_as(user)?;
    kill(&lab.master, "imapd")?;
    client.select("INBOX")?;
    Ok(())
}

fn killed_sync_server(lab: &mut Lab, user: &str) -> Outcome {
    visit(lab, user)?;
    lab.master.tool("sync_client", &["-l", "-u", user])?;
    kill(&lab.replica, "sync_server")
}

fn short_index(lab: &mut Lab, user: &str) -> Outcome {
    let path = inbox(lab, user)?.join("cyrus.index");
    let length = path.metadata()?.len();
    fs::OpenOptions::new().write(true).open(path)?.set_len(length - 90)?;
    visit(lab, user)
}

fn damaged_header(lab: &mut Lab, user: &str) -> Outcome {
    let path = inbox(lab, user)?.join("cyrus.header");
    fs::write(path, b"no header at all\n")?;
    visit(lab, user)
}

fn damaged_cache(lab: &mut Lab, user: &str) -> Outcome {
    let path = inbox(lab, user)?.join("cyrus.cache");
    let length = path.metadata()?.len() as usize;
    fs::write(path, vec![0xff; length])?;
    visit(lab, user)
}

fn missing_directory(lab: &mut Lab, user: &str) -> Outcome {
    let path = inbox(lab, user)?;
    fs::rename(&path, path.with_extension("gone"))?;
    visit(lab, user)
}

fn forbidden_directory(lab: &mut Lab, user: &str) -> Outcome {
    let path = inbox(lab, user)?;
    std::os::unix::fs::chown(&path, Some(0), Some(0))?;
    Command::new("chmod").arg("700").arg(&path).status()?;
    visit(lab, user)
}

fn changed_message(lab: &mut Lab, user: &str) -> Outcome {
    let mut client = lab.master.imap_as(user)?;
    append(&mut client, "INBOX", 4)?;
    client.logout()?;
    let path = inbox(lab, user)?.join("4.");
    let text = fs::read_to_string(&path)?.replace("text", "tixt");
    fs::write(&path, text)?;
    lab.master.tool("sync_client", &["-l", "-u", user])?;
    Ok(())
}

fn damaged_conversations(lab: &mut Lab, user: &str) -> Outcome {
    let mut find = Command::new("find");
    find.arg(lab.master.config_directory().join("user")).args(["-name", "*conversations*"]);
    let found = find.output()?;
    let inbox = inbox(lab, user)?;
    let id = inbox.file_name().and_then(|id| id.to_str()).ok_or("an INBOX without an id")?;
    let paths = String::from_utf8_lossy(&found.stdout).into_owned();
    for path in paths.lines().filter(|path| path.contains(id) || path.contains(user)) {
        fs::write(path, vec![b'x'; 2048])?;
    }
    visit(lab, user)
}

/// Opens a mailbox while a call that concerns its index fails; the server says no, or dies of it.
fn open_with_fault(lab: &Lab, user: &str, fault: &str) -> Outcome {
    let path = inbox(lab, user)?.join("cyrus.index");
    let mut client = lab.master.imap_as(user)?;
    with_fault(&processes(&lab.master, "imapd")?, fault, Some(&path), || {
        match client.select("INBOX") {
            Ok(_) => Err("the mailbox could be opened all the same".into()),
            Err(_) => Ok(()),
        }
    })
}

fn failing_disk(lab: &mut Lab, user: &str) -> Outcome {
    open_with_fault(lab, user, "openat:error=EIO")
}

fn no_memory(lab: &mut Lab, user: &str) -> Outcome {
    open_with_fault(lab, user, "mmap:error=ENOMEM")
}

fn no_descriptors(lab: &mut Lab, user: &str) -> Outcome {
    open_with_fault(lab, user, "openat:error=EMFILE")
}

fn quota_root_gone(lab: &mut Lab, user: &str) -> Outcome {
    let mut find = Command::new("find");
    find.arg(lab.master.config_directory().join("quota")).args(["-name", &format!("*{user}*")]);
    let found = find.arg("-delete").arg("-print").output()?;
    println!("    {}", String::from_utf8_lossy(&found.stdout).trim_end());
    visit(lab, user)
}

/// A mailbox that was made by copying another.
fn copied_header(lab: &mut Lab, user: &str) -> Outcome {
    let mut client = lab.master.imap_as(user)?;
    client.create("INBOX/copy")?;
    append(&mut client, "INBOX/copy", 1)?;
    client.logout()?;
    let copy = lab.master.mailbox_directory(&format!("user/{user}/copy"))?;
    fs::copy(inbox(lab, user)?.join("cyrus.header"), copy.join("cyrus.header"))?;
    lab.master.tool("reconstruct", &[&format!("user/{user}/copy")])?;
    Ok(())
}

/// A mailbox on a file system of its own, which is `full` in the end, or cannot be written.
fn on_small_disk(lab: &Lab, user: &str, spoil: fn(&PathBuf) -> Outcome) -> Outcome {
    let partition = lab.master.directory("partition-small").ok_or("no such partition")?.to_owned();
    let cyrus = lab.master.user();
    let options = format!("size=400k,mode=755,uid={},gid={}", cyrus.uid, cyrus.gid);
    system("mount", &["-t", "tmpfs", "-o", &options, "none", &partition.display().to_string()])?;
    lab.master.admin()?.command(&format!("CREATE user/{user}/small small"))?;
    spoil(&partition)?;
    let mut client = lab.master.imap_as(user)?;
    let outcome = (0..5).try_for_each(|n| append(&mut client, "INBOX/small", n));
    drop(client);
    system("umount", &["-l", &partition.display().to_string()])?;
    outcome
}

fn full_disk(lab: &mut Lab, user: &str) -> Outcome {
    on_small_disk(lab, user, |partition| {
        // It ends where there is no more room.
        let _ = fs::write(partition.join("ballast"), vec![0; 1 << 20]);
        Ok(())
    })
}

fn read_only_disk(lab: &mut Lab, user: &str) -> Outcome {
    on_small_disk(lab, user, |partition| {
        system("mount", &["-o", "remount,ro", &partition.display().to_string()])
    })
}

fn damaged_mailboxes_db(lab: &mut Lab, user: &str) -> Outcome {
    lab.master.stop();
    lab.log.take(&[]);
    let path = lab.master.config_directory().join("mailboxes.db");
    let length = path.metadata()?.len() as usize;
    fs::write(path, vec![b'x'; length])?;
    let _ = lab.master.start();
    visit(lab, user)
}
