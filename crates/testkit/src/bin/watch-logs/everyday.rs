//! Days on which nothing happens.

use std::process::{Command, Stdio};

pub use sasl::plain;
use testkit::Rng;
use testkit::imap::Append;
use testkit::mail::{MailGenerator, Sizes};

use crate::{Lab, Outcome, USERS, sieve};

/// Monday, 2 November 2026, in seconds since that month began.
pub const START: i64 = 86_400;

/// From that Monday to the Tuesday of the next week.
const DAYS: i64 = 9;

/// When the last of these days ends.
pub const END: i64 = START + DAYS * 86_400;

/// Half an hour.
const STEP: i64 = 1800;

/// Sessions in half an hour, by the hour of a working day.
const SESSIONS: [u64; 24] =
    [1, 1, 1, 1, 1, 1, 2, 3, 5, 6, 6, 5, 4, 5, 6, 5, 5, 4, 3, 3, 3, 2, 2, 1];

pub fn run(lab: &Lab) -> Outcome {
    lab.log.run_faster(60);
    let mut rng = Rng::new(42);
    let mut mail = MailGenerator::new(42, Sizes::Small);
    for step in 0..DAYS * 86_400 / STEP {
        let time = START + step * STEP;
        lab.log.push_clock(time);
        let (hour, day) = ((time % 86_400) / 3600, time / 86_400);
        let is_weekend = matches!(day % 7, 6 | 0);
        let busy = SESSIONS[hour as usize].div_ceil(if is_weekend { 2 } else { 1 });
        deliver(lab, &mut rng, &mut mail, busy)?;
        for _ in 0..busy {
            session(lab, &mut rng, &mut mail)?;
        }
        if hour % 6 == 3 && step % 2 == 0 {
            mistake(lab, &mut rng)?;
        }
        if hour % 8 == 1 && step % 2 == 0 {
            wrong_password(lab, rng.pick::<&str>(&USERS))?;
        }
        if hour % 5 == 2 && step % 2 == 0 {
            sieve::put_script(lab.master.sieve_address(), rng.pick::<&str>(&USERS))?;
        }
        if step % 2 == 0 {
            encrypted(lab)?;
        }
        upkeep(lab, hour, step % 2 == 0)?;
    }
    lab.log.run_faster(1);
    Ok(())
}

fn deliver(lab: &Lab, rng: &mut Rng, mail: &mut MailGenerator, count: u64) -> Outcome {
    let mut lmtp = lab.master.lmtp()?;
    for _ in 0..count {
        lmtp.deliver(&[*rng.pick(&USERS)], &mail.message())?;
    }
    Ok(())
}

/// What a client does.
fn session(lab: &Lab, rng: &mut Rng, mail: &mut MailGenerator) -> Outcome {
    let user: &str = rng.pick::<&str>(&USERS);
    let mut client = lab.master.imap_as(user)?;
    client.command("LIST \"\" \"*\"")?;
    client.select("INBOX")?;
    if rng.chance(30) {
        client.command("UID STORE 1:* +FLAGS (\\Seen)")?;
    }
    if rng.chance(20) {
        client.command("UID STORE 1:3 +FLAGS (\\Deleted)")?;
        client.expunge()?;
    }
    if rng.chance(30) {
        let message = mail.message();
        client.append(
            "INBOX",
            Append { message: &message, flags: &["\\Seen"], internaldate: None },
        )?;
    }
    if rng.chance(5) {
        // It is there from the second time on.
        let _ = client.create("INBOX/Sent");
    }
    client.logout()?;
    Ok(())
}

/// Somebody who is not who he says he is.
fn mistake(lab: &Lab, rng: &mut Rng) -> Outcome {
    mistake_of(lab, rng.pick::<&str>(&USERS), rng.pick::<&str>(&USERS))
}

/// Lets a user try to act as another.
pub fn mistake_of(lab: &Lab, user: &str, other: &str) -> Outcome {
    let mut client = testkit::ImapClient::connect(lab.master.imap_address())?;
    // The server says no, and has logged it.
    let _ = client.command(&format!("AUTHENTICATE PLAIN {}", plain(other, user)));
    let _ = client.logout();
    Ok(())
}

/// Somebody who has mistyped his password.
pub fn wrong_password(lab: &Lab, user: &str) -> Outcome {
    let mut client = testkit::ImapClient::connect(lab.master.imap_address())?;
    // The server says no, and has logged it.
    let _ = client.login(user, "wrong");
    let _ = client.logout();
    Ok(())
}

/// A client that turns encryption on, and leaves.
pub fn encrypted(lab: &Lab) -> Outcome {
    let mut client = Command::new("openssl");
    client.args(["s_client", "-quiet", "-starttls", "imap", "-connect"]);
    client.arg(lab.master.imap_address().to_string());
    client.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = client.spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // It may be gone already, if the server does not know how to.
        let _ = std::io::Write::write_all(&mut stdin, b"a LOGOUT\r\n");
    }
    child.wait()?;
    Ok(())
}

/// What runs by itself.
fn upkeep(lab: &Lab, hour: i64, is_full: bool) -> Outcome {
    lab.master.tool("ctl_cyrusdb", &["-c"])?;
    lab.replica.tool("ctl_cyrusdb", &["-c"])?;
    let mut arguments = vec!["-l", "-u"];
    arguments.extend(USERS);
    lab.master.tool("sync_client", &arguments)?;
    if hour == 4 && is_full {
        for server in [&lab.master, &lab.replica] {
            server.tool("cyr_expire", &["-E", "3", "-D", "3", "-X", "3"])?;
            server.tool("tls_prune", &[])?;
        }
        lab.master.tool("squatter", &["-r", "user"])?;
    }
    Ok(())
}

mod sasl {
    //! The few bytes of base64 that a login needs.

    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    /// What SASL's PLAIN says: act as `authzid`, being `authcid` (RFC 4616).
    pub fn plain(authzid: &str, authcid: &str) -> String {
        let text = format!("{authzid}\0{authcid}\0any");
        let groups = text.as_bytes().chunks(3);
        let digits = groups.flat_map(|group| {
            let bits = (0..3).fold(0_u32, |bits, at| {
                bits << 8 | u32::from(group.get(at).copied().unwrap_or_default())
            });
            (0..4_usize).map(move |at| match at <= group.len() {
                true => char::from(DIGITS[(bits >> (18 - 6 * at) & 63) as usize]),
                false => '=',
            })
        });
        digits.collect()
    }
}
