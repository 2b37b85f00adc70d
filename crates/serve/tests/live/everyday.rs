//! What happens every day: mail comes and goes, and the master tells it.

use std::process::Stdio;

use testkit::imap::Append;
use testkit::mail::{MailGenerator, Sizes};
use testkit::process::Group;

use crate::pair::{Pair, append};

#[test]
fn a_master_replicates_and_a_cyrus_serves_what_it_replicated() {
    let Some(pair) = Pair::start("a_master_replicates") else { return };
    pair.master.create_user("glad").expect("a user");
    let mut imap = pair.client("glad");
    for folder in ["INBOX/Sent", "INBOX/Old", "INBOX/Gone"] {
        imap.create(folder).expect("created");
    }
    let mut mail = MailGenerator::new(4, Sizes::Small).messages(12);
    mail.push(b"Subject: no body\r\n\r\n".to_vec());
    for (at, message) in mail.iter().enumerate() {
        let flags: &[&str] = if at % 3 == 0 { &["\\Seen", "$Label1"] } else { &[] };
        let append = Append { message, flags, internaldate: Some(1_700_000_000 + at as i64) };
        imap.append("INBOX", append).expect("appended");
    }
    imap.select("INBOX").expect("selected");
    imap.copy("1:5", "INBOX/Sent").expect("copied");
    imap.subscribe("INBOX/Sent").expect("subscribed");
    pair.sync(&["-u", "glad"]);
    pair.assert_in_sync("glad");

    imap.store("2", "+FLAGS", &["\\Flagged", "Work"]).expect("stored");
    imap.store("3:4", "+FLAGS", &["\\Deleted"]).expect("stored");
    imap.expunge().expect("expunged");
    imap.rename("INBOX/Old", "INBOX/New").expect("renamed");
    imap.delete("INBOX/Gone").expect("deleted");
    imap.copy("6:8", "INBOX/New").expect("copied");
    imap.unsubscribe("INBOX/Sent").expect("unsubscribed");
    imap.subscribe("INBOX/New").expect("subscribed");
    pair.sync(&["-u", "glad"]);
    pair.assert_in_sync("glad");
    // What `cyr_expire` has removed for good is known to the replica, and stays until then.
    pair.master.tool("cyr_expire", &["-E", "0", "-X", "0", "-D", "0"]).expect("expired");
    append(&mut imap, "INBOX", &mail[0]);
    pair.sync(&["-u", "glad"]);
    pair.assert_in_sync("glad");
    pair.promote().assert_same("glad");
}

#[test]
fn a_log_is_worked_off_until_both_are_the_same() {
    let Some(pair) = Pair::start("a_log_is_worked_off") else { return };
    for user in ["glad", "bob"] {
        pair.master.create_user(user).expect("a user");
    }
    let mail = MailGenerator::new(5, Sizes::Small).messages(20);
    for user in ["glad", "bob"] {
        let mut imap = pair.client(user);
        for folder in ["INBOX/a", "INBOX/a/b", "INBOX/c.d"] {
            imap.create(folder).expect("created");
        }
        mail.iter().for_each(|message| append(&mut imap, "INBOX/a/b", message));
        append(&mut imap, "INBOX", &mail[3]);
    }
    pair.sync_log();

    let mut glad = pair.client("glad");
    glad.select("INBOX/a/b").expect("selected");
    glad.annotate("3", "/comment", "value.priv", "mine").expect("annotated");
    glad.annotate("4", "/comment", "value.shared", "ours").expect("annotated");
    glad.move_to("5:9", "INBOX/c.d").expect("moved");
    glad.rename("INBOX/a", "INBOX/z").expect("renamed");
    glad.create("INBOX/a").expect("created");
    append(&mut glad, "INBOX/a", &mail[4]);
    glad.delete("INBOX/z/b").expect("deleted");
    pair.sync_log();
    append(&mut glad, "INBOX/a", &mail[5]);
    pair.sync_log();
    pair.assert_in_sync("glad");
    pair.assert_in_sync("bob");
    let promoted = pair.promote();
    promoted.assert_same("glad");
    promoted.assert_same("bob");
}

#[test]
fn a_master_uses_tls() {
    let Some(pair) = Pair::start("a_master_uses_tls") else { return };
    pair.master.create_user("glad").expect("a user");
    let mut imap = pair.client("glad");
    for message in MailGenerator::new(7, Sizes::Small).messages(10) {
        append(&mut imap, "INBOX", &message);
    }
    let to = format!("{}/tls", pair.server.tls);
    let lines = pair.sync_to(&pair.master, &to, &["-u", "glad"]);
    assert!(lines.iter().any(|line| line.ends_with("repl: logged in, with TLS")), "{lines:#?}");
    pair.assert_in_sync("glad");
}

#[test]
fn a_master_with_a_wrong_password_is_blamed() {
    let wrong = |builder: testkit::CyrusBuilder| builder.option("sync_password", "wrong");
    let Some(pair) = Pair::start_with("a_master_with_a_wrong_password", wrong) else { return };
    pair.master.create_user("glad").expect("a user");
    let mut client = pair.master.tool_command("sync_client");
    client.args(["-S", &pair.server.plain.to_string(), "-u", "glad"]);
    client.stdout(Stdio::null()).stderr(Stdio::null());
    // It tries for ever.
    let _client = Group::spawn_guarded(&mut client).expect("it starts");
    pair.server.logged("login as repl failed: no such user, or a wrong password");
}

/// A master that takes everybody for an IMAP server first is told at once that this is none, and comes
/// again as it should.
#[test]
fn a_master_that_tries_imap_first_is_told_that_this_is_none() {
    let tries = |builder: testkit::CyrusBuilder| builder.option("sync_try_imap", "yes");
    let Some(pair) = Pair::start_with("a_master_that_tries_imap", tries) else { return };
    pair.master.create_user("glad").expect("a user");
    let mut imap = pair.client("glad");
    for message in MailGenerator::new(13, Sizes::Small).messages(3) {
        append(&mut imap, "INBOX", &message);
    }
    let lines = pair.sync(&["-u", "glad"]);
    assert_eq!(lines.iter().filter(|line| line.contains("logged in")).count(), 1, "{lines:#?}");
    // It asked on a connection of its own.
    pair.server.logged("the peer closed the connection; commands: 0");
    pair.assert_in_sync("glad");
    pair.promote().assert_same("glad");
}
