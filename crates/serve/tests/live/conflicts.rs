//! A replica that has become another than its master believes. It is the master who repairs that; we
//! only refuse.

use testkit::mail::{MailGenerator, Sizes};
use testkit::{Cyrus, ImapClient};

use crate::pair::{Pair, append};

/// A second master with the same user, whose mail it has from the first.
fn other_master(pair: &Pair) -> Cyrus {
    let other = pair.builder.clone().start().expect("another master");
    let to = other.sync_address().to_string();
    pair.master.tool("sync_client", &["-S", &to, "-u", "glad"]).expect("copied");
    other
}

fn fill(pair: &Pair) -> ImapClient {
    pair.master.create_user("glad").expect("a user");
    let mut imap = pair.client("glad");
    for message in MailGenerator::new(8, Sizes::Small).messages(8) {
        append(&mut imap, "INBOX", &message);
    }
    imap
}

#[test]
fn what_two_masters_did_to_one_mailbox_is_put_together() {
    let Some(pair) = Pair::start("what_two_masters_did") else { return };
    let mut one = fill(&pair);
    let other = other_master(&pair);
    pair.sync(&["-u", "glad"]);

    let mut two = other.imap_as("glad").expect("a client");
    two.select("INBOX").expect("selected");
    append(&mut two, "INBOX", b"Subject: of two\r\n\r\nbody\r\n");
    append(&mut two, "INBOX", b"Subject: also of two\r\n\r\nbody\r\n");
    two.store("1:2", "+FLAGS", &["\\Flagged", "two"]).expect("stored");
    two.store("3", "+FLAGS", &["\\Deleted"]).expect("stored");
    two.expunge().expect("expunged");
    one.select("INBOX").expect("selected");
    append(&mut one, "INBOX", b"Subject: of one\r\n\r\nbody\r\n");
    one.store("2", "+FLAGS", &["\\Answered", "one"]).expect("stored");
    one.store("4", "+FLAGS", &["\\Deleted"]).expect("stored");
    one.expunge().expect("expunged");

    pair.sync_from(&other, &["-u", "glad"]);
    let lines = pair.sync(&["-u", "glad"]);
    let refused = "APPLY MAILBOX was answered with NO IMAP_SYNC_C";
    assert!(lines.iter().any(|line| line.contains(refused)), "{lines:#?}");
    one.select("INBOX").expect("selected");
    for subject in ["of one", "of two", "also of two"] {
        let found = one.search(&format!("SUBJECT \"{subject}\"")).expect("searched");
        assert!(!found.is_empty(), "{subject}");
    }
    one.unselect().expect("closed");
    pair.sync(&["-u", "glad"]);
    pair.assert_in_sync("glad");
    pair.promote().assert_same("glad");
}

#[test]
fn a_mailbox_of_another_identity_is_replaced_only_by_force() {
    let Some(pair) = Pair::start("a_mailbox_of_another_identity") else { return };
    let mut one = fill(&pair);
    let other = other_master(&pair);
    let mut two = other.imap_as("glad").expect("a client");
    for (imap, text) in [(&mut one, "one"), (&mut two, "two")] {
        imap.create("INBOX/both").expect("created");
        append(imap, "INBOX/both", format!("Subject: {text}\r\n\r\nbody\r\n").as_bytes());
    }
    pair.sync_from(&other, &["-u", "glad"]);
    let to = pair.server.plain.to_string();
    let moved = "APPLY MAILBOX was answered with NO IMAP_MAILBOX_MOVED";
    let refusals = || pair.lines().iter().filter(|line| line.contains(moved)).count();
    assert!(pair.master.tool("sync_client", &["-S", &to, "-u", "glad"]).is_err());
    assert_eq!(refusals(), 1, "{:#?}", pair.lines());
    pair.sync(&["-O", "-u", "glad"]);
    pair.assert_in_sync("glad");
    // The force was that session's; Cyrus' own server would keep it.
    assert!(other.tool("sync_client", &["-S", &to, "-u", "glad"]).is_err());
    assert_eq!(refusals(), 2, "{:#?}", pair.lines());
    pair.promote().assert_same("glad");
}
