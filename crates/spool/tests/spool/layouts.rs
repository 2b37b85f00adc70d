//! Where files lie: by name and by id, with letters, domains, metapartitions and archives.

use std::fs;
use std::io::Read;

use crate::support::{self, Hand, mailbox, text};
use cyrus_format::index::{IndexHeader, write_index};
use model::{Record, Uid};
use spool::FrozenMailbox;

fn message(mailbox: &FrozenMailbox, uid: u32, archived: bool) -> String {
    let mut text = String::new();
    mailbox.open_message(Uid(uid), archived).unwrap().read_to_string(&mut text).unwrap();
    text
}

#[test]
fn mailboxes_lie_where_their_ids_say_unless_they_are_legacy() {
    let mut hand = Hand::new();
    hand.option("hashimapspool", "yes");
    hand.by_id("user/glad", "c1fk", "e").by_id("user/glad/Sent", "9erx", "e");
    hand.by_id("user/glad/old.box", "0aaa", "el").by_id(
        "DELETED/user/glad/Gone/5A5A5A5A",
        "zzzz",
        "e",
    );
    hand.metadata("spool/uuid/c/1/c1fk").metadata("spool/uuid/9/e/9erx");
    hand.metadata("spool/g/user/glad/old^box").metadata("spool/uuid/z/z/zzzz");
    let frozen = hand.freeze("glad");
    assert_eq!(frozen.findings, []);
    let expected = [
        ("user.glad", "uuid/c/1/c1fk"),
        ("user.glad.Sent", "uuid/9/e/9erx"),
        ("user.glad.old^box", "g/user/glad/old^box"),
        ("DELETED.user.glad.Gone.5A5A5A5A", "uuid/z/z/zzzz"),
    ];
    assert_eq!(frozen.mailboxes.len(), expected.len());
    for (name, dir) in expected {
        let mailbox = mailbox(&frozen, name);
        assert_eq!(mailbox.findings, []);
        assert_eq!(text(&mailbox.index), format!("index in spool/{dir}"));
        assert_eq!(text(&mailbox.header), format!("header in spool/{dir}"));
    }
    // Name locks likewise, with a letter because of hashimapspool.
    for lock in ["c/c1fk", "q/9erx", "q/0aaa", "g/user/glad/old^box", "z/zzzz"] {
        let exists = hand.path(&format!("conf/lock/{lock}.lock")).exists();
        assert_eq!(exists, lock != "q/0aaa", "{lock}");
    }
}

#[test]
fn names_hash_fully_and_domains_have_their_own_levels() {
    let mut hand = Hand::new();
    hand.option("hashimapspool", "yes")
        .option("fulldirhash", "yes")
        .option("virtdomains", "userid");
    let value = "%(A %() I 0123456789abcdef0 P default V 1 F 1 M 1)";
    hand.record("user.glad", value).record("user.fred^smith", value);
    hand.record("other.com!user.ann", value);
    hand.metadata("spool/H/user/glad").metadata("spool/E/user/fred^smith");
    hand.metadata("spool/domain/M/other.com/N/user/ann");
    for (userid, dir) in [
        ("glad", "H/user/glad"),
        ("fred.smith", "E/user/fred^smith"),
        ("ann@other.com", "domain/M/other.com/N/user/ann"),
    ] {
        let frozen = hand.freeze(userid);
        assert_eq!(text(&frozen.mailboxes[0].index), format!("index in spool/{dir}"));
        assert_eq!(frozen.mailboxes[0].findings, []);
    }
    assert!(hand.path("conf/lock/domain/M/other.com/N/user/ann.lock").exists());
}

#[test]
fn each_kind_of_metadata_has_its_own_root() {
    let mut hand = Hand::new();
    hand.option("metapartition-default", "@/meta");
    hand.option("metapartition_files", "header index expunge");
    hand.option("metadir-header-default", "@/headers");
    hand.by_id("user/glad", "c1fk", "e");
    for root in ["spool", "meta", "headers"] {
        hand.metadata(&format!("{root}/uuid/c/1/c1fk"));
        hand.file(&format!("{root}/uuid/c/1/c1fk/cyrus.annotations"), root);
    }
    let frozen = hand.freeze("glad");
    let mailbox = mailbox(&frozen, "user.glad");
    assert_eq!(mailbox.findings, []);
    assert_eq!(text(&mailbox.header), "header in headers/uuid/c/1/c1fk");
    assert_eq!(text(&mailbox.index), "index in meta/uuid/c/1/c1fk");
    assert_eq!(text(&mailbox.annotations), "spool");
}

#[test]
fn metadata_is_saved_even_if_the_data_directory_is_gone() {
    let mut hand = Hand::new();
    hand.option("metapartition-default", "@/meta").option("metapartition_files", "header index");
    hand.by_id("user/glad", "c1fk", "e").metadata("meta/uuid/c/1/c1fk");
    let frozen = hand.freeze("glad");
    let mailbox = mailbox(&frozen, "user.glad");
    assert_eq!(support::findings(&mailbox.findings), [("mailbox-missing", "user.glad")]);
    assert_eq!(text(&mailbox.index), "index in meta/uuid/c/1/c1fk");
    assert_eq!(mailbox.list_messages().unwrap(), []);
    assert!(mailbox.open_message(Uid(1), false).is_err());
}

#[test]
fn a_mailbox_that_never_had_a_message_needs_no_data_directory() {
    let mut hand = Hand::new();
    hand.option("metapartition-default", "@/meta").option("metapartition_files", "header index");
    hand.by_id("user/glad", "c1fk", "e").metadata("meta/uuid/c/1/c1fk");
    for (records, found) in [(0, vec![]), (1, vec![("mailbox-missing", "user.glad")])] {
        let records = vec![Record { uid: Uid(1), ..Record::default() }; records];
        let mut header = IndexHeader::fresh(17).unwrap();
        header.num_records = u32::try_from(records.len()).unwrap();
        let index = write_index(&header, &records).unwrap();
        hand.file("meta/uuid/c/1/c1fk/cyrus.index", index);
        let frozen = hand.freeze("glad");
        let mailbox = mailbox(&frozen, "user.glad");
        assert_eq!(support::findings(&mailbox.findings), found);
        assert_eq!(mailbox.list_messages().unwrap(), []);
    }
}

#[test]
fn archived_messages_are_found_on_either_partition() {
    let mut hand = Hand::new();
    hand.option("archive_enabled", "yes").option("archivepartition-default", "@/archive");
    hand.by_id("user/glad", "c1fk", "e").metadata("spool/uuid/c/1/c1fk");
    hand.by_id("user/glad/new", "c1fl", "e").metadata("spool/uuid/c/1/c1fl");
    let (data, archive) = ("spool/uuid/c/1/c1fk", "archive/uuid/c/1/c1fk");
    hand.file(&format!("{data}/1."), "one").file(&format!("{archive}/2."), "two");
    hand.file(&format!("{data}/3."), "three, data")
        .file(&format!("{archive}/3."), "three, archive");
    let frozen = hand.freeze("glad");
    let inbox = mailbox(&frozen, "user.glad");
    for archived in [false, true] {
        assert_eq!(message(inbox, 1, archived), "one");
        assert_eq!(message(inbox, 2, archived), "two");
    }
    assert_eq!(message(inbox, 3, false), "three, data");
    assert_eq!(message(inbox, 3, true), "three, archive");
    assert_eq!(inbox.list_messages().unwrap(), [Uid(1), Uid(2), Uid(3)]);

    // Nothing was ever archived here, and then something is.
    let other = mailbox(&frozen, "user.glad.new");
    assert!(other.open_message(Uid(7), true).is_err());
    assert_eq!(other.list_messages().unwrap(), []);
    hand.file("archive/uuid/c/1/c1fl/7.", "seven");
    assert_eq!(message(other, 7, false), "seven");
}

#[test]
fn an_archive_partition_counts_only_if_archiving_is_enabled() {
    let mut hand = Hand::new();
    hand.option("archivepartition-default", "@/archive");
    hand.by_id("user/glad", "c1fk", "e").metadata("spool/uuid/c/1/c1fk");
    hand.file("archive/uuid/c/1/c1fk/2.", "two");
    let frozen = hand.freeze("glad");
    let error = mailbox(&frozen, "user.glad").open_message(Uid(2), true).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
}

#[test]
fn no_link_is_taken_for_a_message() {
    let mut hand = Hand::new();
    hand.by_id("user/glad", "c1fk", "e").metadata("spool/uuid/c/1/c1fk");
    hand.file("secret", "not for you");
    let dir = hand.path("spool/uuid/c/1/c1fk");
    std::os::unix::fs::symlink(hand.path("secret"), dir.join("1.")).unwrap();
    let frozen = hand.freeze("glad");
    let error = mailbox(&frozen, "user.glad").open_message(Uid(1), false).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::LOOP.raw_os_error()));
}

#[test]
fn a_directory_on_another_disk_may_be_linked() {
    let mut hand = Hand::new();
    hand.by_id("user/glad", "c1fk", "e").metadata("elsewhere/c1fk");
    support::make_dir(&hand.path("spool/uuid/c/1"));
    let link = hand.path("spool/uuid/c/1/c1fk");
    std::os::unix::fs::symlink(hand.path("elsewhere/c1fk"), link).unwrap();
    fs::write(hand.path("elsewhere/c1fk/5."), "five").unwrap();
    let frozen = hand.freeze("glad");
    assert_eq!(message(mailbox(&frozen, "user.glad"), 5, false), "five");
    assert_eq!(frozen.mailboxes[0].findings, []);
}
