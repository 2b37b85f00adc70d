//! A replica that has become another than its master believes. It is the master who repairs that; we
//! only refuse.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use cyrus_format::index::{Index, write_header};
use model::UidValidity;
use testkit::mail::{MailGenerator, Sizes};
use testkit::process::wait_until;
use testkit::{Cyrus, ImapClient};

use crate::pair::{Pair, append};
use crate::server::LIMIT;

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
    let await_refusals = |count| {
        assert!(wait_until(LIMIT, || refusals() == count), "{:#?}", pair.lines());
    };
    assert!(pair.master.tool("sync_client", &["-S", &to, "-u", "glad"]).is_err());
    await_refusals(1);
    pair.sync(&["-O", "-u", "glad"]);
    pair.assert_in_sync("glad");
    // The force was that session's; Cyrus' own server would keep it.
    assert!(other.tool("sync_client", &["-S", &to, "-u", "glad"]).is_err());
    await_refusals(2);
    pair.promote().assert_same("glad");
}

/// One mailbox of one identity, whose UIDs begin anew on the second master.
#[test]
fn of_two_uidvalidities_both_masters_take_the_higher_one() {
    let Some(pair) = Pair::start("of_two_uidvalidities") else { return };
    let mut one = fill(&pair);
    one.create("INBOX/both").expect("created");
    append(&mut one, "INBOX/both", b"Subject: of one\r\n\r\nbody\r\n");
    let other = other_master(&pair);
    pair.sync(&["-u", "glad"]);
    let higher = uidvalidity(&mut one) + 100;
    begin_uids_anew(&other, "user/glad/both", higher);
    let mut two = other.imap_as("glad").expect("a client");
    assert_eq!(uidvalidity(&mut two), higher);
    append(&mut two, "INBOX/both", b"Subject: of two\r\n\r\nbody\r\n");

    pair.sync_from(&other, &["-u", "glad"]);
    let lines = pair.sync(&["-u", "glad"]);
    let refused = "APPLY MAILBOX was answered with NO IMAP_SYNC_C";
    assert!(lines.iter().any(|line| line.contains(refused)), "{lines:#?}");
    assert_eq!(uidvalidity(&mut one), higher);
    one.select("INBOX/both").expect("selected");
    for subject in ["of one", "of two"] {
        let found = one.search(&format!("SUBJECT \"{subject}\"")).expect("searched");
        assert_eq!(found.len(), 1, "{subject}");
    }
    one.unselect().expect("closed");
    pair.sync(&["-u", "glad"]);
    pair.assert_in_sync("glad");
    pair.promote().assert_same("glad");
}

/// Writes it into the index: nothing that a client can ask for changes it.
fn begin_uids_anew(cyrus: &Cyrus, mailbox: &str, uidvalidity: u64) {
    let found = cyrus.tool("mbpath", &[mailbox]).expect("a directory");
    let path = Path::new(found.stdout.trim()).join("cyrus.index");
    let bytes = fs::read(&path).expect("an index");
    let mut header = Index::parse(&bytes).expect("a good one").header().clone();
    header.uidvalidity = UidValidity(u32::try_from(uidvalidity).expect("a number"));
    let raw = write_header(&header).expect("a header");
    let index = File::options().write(true).open(&path).expect("an index");
    index.write_all_at(&raw, 0).expect("written");
}

fn uidvalidity(imap: &mut ImapClient) -> u64 {
    let selected = imap.examine("INBOX/both").expect("opened");
    imap.unselect().expect("closed");
    selected.uid_validity
}
