//! Each damage is the one it says: Cyrus' own reconstruct, or its servers, notice it.

use std::fs;
use std::path::PathBuf;

use testkit::damage::{self, Checksum};
use testkit::imap::Append;
use testkit::mail::{MailGenerator, Sizes};
use testkit::{Cyrus, cyrus_or_skip};

fn word(path: &PathBuf, at: usize) -> u32 {
    let bytes = fs::read(path).expect("an index");
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// A stopped Cyrus with five messages in `user/glad`, and that mailbox's directory.
fn fixture(test: &str) -> Option<(Cyrus, PathBuf)> {
    let mut cyrus = cyrus_or_skip(test)?.start().expect("Cyrus starts");
    cyrus.create_user("glad").expect("a user");
    let mut client = cyrus.imap_as("glad").expect("a client");
    for message in MailGenerator::new(2, Sizes::Small).messages(5) {
        client
            .append("INBOX", Append { message: &message, ..Append::default() })
            .expect("an append");
    }
    let directory = cyrus.mailbox_directory("user/glad").expect("a path");
    cyrus.stop();
    Some((cyrus, directory))
}

#[test]
fn reconstruct_notices_damaged_messages() {
    let Some((cyrus, mailbox)) = fixture("reconstruct_notices_damaged_messages") else { return };
    damage::remove_message(&mailbox, 1).expect("a damage");
    damage::change_message(&mailbox, 2).expect("a damage");
    damage::shorten_message(&mailbox, 3, 10).expect("a damage");
    damage::add_orphan(&mailbox, 9, b"Subject: orphan\r\n\r\n").expect("a damage");
    let output = cyrus.tool("reconstruct", &["-n", "-G", "user/glad"]).expect("reconstruct");
    let said = output.stdout + &output.stderr;
    for part in ["uid 1 not found", "uid 2 guid mismatch", "uid 3 guid mismatch", "uid 9 found"] {
        assert!(said.contains(part), "nothing about {part} in {said}");
    }
}

#[test]
fn the_index_is_damaged_where_it_should_be() {
    let Some((mut cyrus, mailbox)) = fixture("the_index_is_damaged") else { return };
    let index = mailbox.join("cyrus.index");
    let good = fs::read(&index).expect("an index");
    let (start, size) = (word(&index, 12) as usize, word(&index, 16) as usize);
    let restore = || fs::write(&index, &good).expect("the good index");

    damage::zero_guid(&index, 1, Checksum::Fixed).expect("a damage");
    let bytes = fs::read(&index).expect("an index");
    let record = &bytes[start + size..start + 2 * size];
    assert_eq!(record[60..80], [0; 20]);
    assert_eq!(record[size - 4..], crc32fast::hash(&record[..size - 4]).to_be_bytes());
    restore();

    damage::lie_about_records(&index, 4).expect("a damage");
    cyrus.start().expect("Cyrus starts");
    let mut client = cyrus.imap_as("glad").expect("a client");
    client.examine("INBOX").expect("a lie that is consistent is believed");
    let mut uids = Vec::new();
    client.fetch("1:*", "FLAGS", &mut |fetched| uids.push(fetched.uid())).expect("a fetch");
    assert_eq!(uids.len(), 4);
    drop(client);
    restore();

    type Damage = fn(&std::path::Path) -> std::io::Result<()>;
    let refused: [(&str, Damage); 4] = [
        ("header checksum", damage::break_index_header),
        ("version", |index| damage::claim_version(index, 99)),
        ("count", |index| damage::lie_about_records(index, 6)),
        ("length", |index| damage::truncate(index, 1)),
    ];
    for (what, break_it) in refused {
        break_it(&index).expect("a damage");
        let mut client = cyrus.imap_as("glad").expect("a client");
        assert!(client.examine("INBOX").is_err(), "{what} is not noticed");
        restore();
    }
    damage::lengthen(&index, b"tail").expect("a damage");
    let mut client = cyrus.imap_as("glad").expect("a client");
    assert_eq!(client.examine("INBOX").expect("a tail is ignored").exists, 5);
}

#[test]
fn replaced_files_leave_other_links_and_owners_alone() {
    let Some((_cyrus, mailbox)) = fixture("replaced_files_leave") else { return };
    use std::os::unix::fs::MetadataExt;
    let message = damage::message_path(&mailbox, 1);
    let before = fs::metadata(&message).expect("a message");
    let link = mailbox.join("77.");
    fs::hard_link(&message, &link).expect("a link");
    let good = fs::read(&message).expect("a message");
    damage::change_message(&mailbox, 1).expect("a damage");
    assert_eq!(fs::read(&link).expect("the link"), good);
    let bad = fs::read(&message).expect("a message");
    assert_eq!(bad.len(), good.len());
    assert_ne!(bad, good);
    let after = fs::metadata(&message).expect("a message");
    assert_eq!(
        (after.uid(), after.gid(), after.mode()),
        (before.uid(), before.gid(), before.mode())
    );
    damage::make_unreadable(&message).expect("a damage");
    assert_eq!(fs::metadata(&message).expect("a message").mode() & 0o777, 0);
}

#[test]
fn hostile_names_get_into_mailboxes_db_and_leave_the_others_alone() {
    let Some((mut cyrus, _)) = fixture("hostile_names_get_into") else { return };
    let list = cyrus.config_directory().join("mailboxes.db");
    damage::add_mailboxes(&list, &damage::hostile_names()).expect("a damage");
    let shown = cyrus
        .tool("cyr_dbtool", &[&list.display().to_string(), "twoskip", "consistent"])
        .expect("a database");
    assert!(shown.stdout.contains("Yes, consistent"), "{shown:?}");
    cyrus.start().expect("Cyrus starts");
    let view = cyrus.imap_as("glad").expect("a client").select("INBOX").expect("INBOX");
    assert_eq!(view.exists, 5);
}
