//! One bad mailbox never stops the others, and is never passed over in silence.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::support::{self, Hand, findings, mailbox, names, text};
use model::Userid;
use spool::{Options, SpoolError};

/// A sound INBOX by id, and whatever a test adds.
fn inbox() -> Hand {
    let mut hand = Hand::new();
    hand.by_id("user/glad", "c1fk", "e").metadata("spool/uuid/c/1/c1fk");
    hand
}

/// A sound INBOX by name.
fn inbox_by_name() -> Hand {
    let mut hand = Hand::new();
    hand.record("user.glad", "%(A %() I 0123456789abcdef0 P default V 1 F 1 C 1 M 1)");
    hand.metadata("spool/user/glad");
    hand
}

#[track_caller]
fn check(hand: &Hand, name: &str, expected: &[&str]) {
    let frozen = hand.freeze("glad");
    assert_eq!(frozen.findings, []);
    let found = findings(&mailbox(&frozen, name).findings);
    assert_eq!(found, expected.iter().map(|code| (*code, name)).collect::<Vec<_>>());
    let inbox = mailbox(&frozen, "user.glad");
    assert!(inbox.index.is_some() && inbox.findings.is_empty(), "{:?}", inbox.findings);
}

#[test]
fn a_mailbox_without_a_directory() {
    let mut hand = inbox();
    hand.by_id("user/glad/gone", "d2fk", "e");
    check(&hand, "user.glad.gone", &["mailbox-missing"]);
    hand.file("spool/uuid/d/2/d2fk", "a file in its place");
    check(&hand, "user.glad.gone", &["mailbox-missing"]);
}

#[test]
fn a_mailbox_without_metadata() {
    let mut hand = inbox();
    hand.by_id("user/glad/bare", "d2fk", "e");
    support::make_dir(&hand.path("spool/uuid/d/2/d2fk"));
    check(&hand, "user.glad.bare", &["index-unreadable", "header-unreadable"]);
    hand.file("spool/uuid/d/2/d2fk/cyrus.index", "index");
    check(&hand, "user.glad.bare", &["header-unreadable"]);
}

#[test]
fn metadata_that_cannot_be_read() {
    let mut hand = inbox();
    hand.by_id("user/glad/odd", "d2fk", "e");
    for file in ["header", "index", "annotations"] {
        support::make_dir(&hand.path(&format!("spool/uuid/d/2/d2fk/cyrus.{file}")));
    }
    let expected = ["index-unreadable", "header-unreadable", "metadata-unreadable"];
    check(&hand, "user.glad.odd", &expected);
    let details = hand.freeze("glad").mailboxes.remove(1).findings;
    assert!(details[0].detail.contains("not a regular file"), "{details:?}");
}

#[test]
fn the_same_in_2_3() {
    let mut hand = Hand::new();
    hand.record("user.glad", "0 default ").record("user.glad.odd", "0 default ");
    hand.record("user.glad.bare", "0 default ").metadata("spool/user/glad");
    support::make_dir(&hand.path("spool/user/glad/bare"));
    for file in ["header", "index", "expunge"] {
        support::make_dir(&hand.path(&format!("spool/user/glad/odd/cyrus.{file}")));
    }
    check(&hand, "user.glad.bare", &["header-unreadable", "index-unreadable"]);
    let expected = ["header-unreadable", "index-unreadable", "metadata-unreadable"];
    check(&hand, "user.glad.odd", &expected);
}

#[test]
fn names_that_would_leave_the_tree_or_are_none() {
    let value = "%(A %() I 0123456789abcdef0 P default V 1 F 1 C 1 M 1)";
    let long = format!("user.glad.{}", "x".repeat(1000));
    for name in ["user.glad.a/../../b", "user.glad...", "user.glad..x", "user.glad.a/b", &long] {
        let mut hand = inbox_by_name();
        hand.record(name, value).file("spool/b/cyrus.index", "not to be found");
        let frozen = hand.freeze("glad");
        let odd = mailbox(&frozen, name);
        assert!(odd.index.is_none() && odd.list_messages().unwrap().is_empty(), "{name}");
        let codes: Vec<_> = findings(&odd.findings).into_iter().map(|(code, _)| code).collect();
        assert_eq!(codes, ["metadata-unreadable", "mailbox-missing"], "{name}");
        assert_eq!(text(&mailbox(&frozen, "user.glad").index), "index in spool/user/glad");
    }
}

#[test]
fn ids_that_would_leave_the_tree() {
    for id in ["../../x", "..", "x", "a/b"] {
        let mut hand = inbox();
        hand.by_id("user/glad/odd", id, "e");
        let frozen = hand.freeze("glad");
        let odd = mailbox(&frozen, "user.glad.odd");
        assert!(odd.index.is_none(), "{id}");
        let found = findings(&odd.findings);
        assert!(found.contains(&("mailbox-missing", "user.glad.odd")), "{id}: {found:?}");
    }
}

#[test]
fn partitions_that_the_configuration_does_not_know() {
    let mut hand = inbox_by_name();
    hand.record("user.glad.far", "%(A %() I 0123456789abcdef1 P other V 1 M 1)");
    hand.record("user.glad.nowhere", "%(A %() I 0123456789abcdef2 V 1 M 1)");
    check(&hand, "user.glad.far", &["mailbox-missing"]);
    check(&hand, "user.glad.nowhere", &["mailbox-missing"]);
}

#[test]
fn mailboxes_without_data_are_not_missed() {
    let mut hand = inbox();
    hand.by_id("user/glad/level", "lllk", "ei").by_id("user/glad/far", "mmmk", "er");
    hand.by_id("user/glad/was", "nnnk", "ed");
    let frozen = hand.freeze("glad");
    assert_eq!(names(&frozen), ["user.glad"]);
    assert_eq!(frozen.findings, []);
}

#[test]
fn entries_that_make_no_sense_are_reported_to_their_owner_only() {
    let mut hand = inbox();
    hand.by_id("user/gladys", "eeee", "e").metadata("spool/uuid/e/e/eeee");
    hand.record("Nuser\x1fglad\x1fbroken", "%(T e I");
    hand.record("Nuser\x1fglad\x1fhalf", "%(T e I ffff P default V 1)").record("Iffff", "%(T");
    hand.metadata("spool/uuid/f/f/ffff");
    let expected = ["Iffff", "Nuser\\x1fglad\\x1fbroken"].map(|key| ("entry-unreadable", key));
    let frozen = hand.freeze("glad");
    assert_eq!(findings(&frozen.findings), expected);
    assert_eq!(names(&frozen), ["user.glad", "user.glad.half"]);
    assert_eq!(hand.freeze("gladys").findings, []);
}

#[test]
fn a_damaged_mailbox_list_is_a_finding_if_something_can_be_made_of_it() {
    let hand = inbox();
    let server = hand.open().unwrap();
    let list = fs::read(hand.path("conf/mailboxes.db")).unwrap();
    hand.file("conf/mailboxes.db", [&list[..], b"Nuser\x1fglad\x1fcut off"].concat());
    let frozen = server.freeze(&Userid::from("glad")).unwrap();
    let place = hand.path("conf/mailboxes.db").display().to_string();
    assert_eq!(findings(&frozen.findings), [("metadata-unreadable", place.as_str())]);

    hand.file("conf/mailboxes.db", b"\xa1\x02\x8b\x0dtwoskip file\0\0\0\0rubbish");
    let error = server.freeze(&Userid::from("glad")).expect_err("it cannot be read");
    assert!(matches!(error, SpoolError::Database { .. }), "{error:?}");
}

#[test]
fn a_lock_file_that_cannot_be_opened_is_no_reason_to_lose_the_mailbox() {
    let mut hand = inbox();
    hand.by_id("user/glad/odd", "d2fk", "e").metadata("spool/uuid/d/2/d2fk");
    support::make_dir(&hand.path("conf/lock"));
    std::os::unix::fs::symlink("/nonexistent", hand.path("conf/lock/d2fk.lock")).unwrap();
    check(&hand, "user.glad.odd", &["metadata-unreadable"]);
    assert!(hand.freeze("glad").mailboxes[1].index.is_some());
}

#[track_caller]
fn refused(hand: &Hand) -> (SpoolError, String) {
    let error = hand.open().map(|server| server.era()).expect_err("it cannot be opened");
    let text = error.to_string();
    (error, text)
}

#[test]
fn servers_that_cannot_be_opened_say_what_is_missing() {
    let nowhere = tempfile::tempdir().unwrap().path().join("imapd.conf");
    let error = spool::Server::open(&nowhere, &Options::default()).map(|s| s.era()).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot read {}", nowhere.display()));

    let hand = inbox();
    hand.file("empty.conf", "partition-default: /x\n");
    let error = spool::Server::open(&hand.path("empty.conf"), &Options::default());
    let error = error.map(|server| server.era()).unwrap_err();
    let SpoolError::Conf { source, .. } = error else { panic!("{error:?}") };
    assert!(source.to_string().contains("configdirectory"), "{source}");

    let mut hand = inbox();
    hand.option("mboxlist_db_path", "@/conf/elsewhere.db");
    let (_, text) = refused(&hand);
    assert!(text.contains("elsewhere.db") && text.contains("imapd.conf"), "{text}");

    let hand = inbox();
    fs::remove_dir_all(hand.path("spool")).unwrap();
    let (error, text) = refused(&hand);
    assert!(matches!(error, SpoolError::NoPartition { .. }), "{error:?}");
    assert!(text.contains("partition default") && text.contains("/spool"), "{text}");

    let mut hand = inbox();
    hand.option("archive_enabled", "yes").option("archivepartition-default", "@/unmounted");
    assert!(refused(&hand).1.contains("/unmounted"));

    let options = Options { cyrus_version: Some("4.2".into()), ..Options::default() };
    let error = inbox().open_with(&options).map(|server| server.era()).unwrap_err();
    assert_eq!(error.to_string(), "there is no Cyrus IMAP 4.2");
}

#[test]
fn a_partition_that_no_mailbox_uses_may_be_missing() {
    let mut hand = inbox();
    hand.option("partition-news", "@/news");
    assert_eq!(hand.freeze("glad").mailboxes[0].findings, []);
}

#[test]
fn configurations_include_others() {
    let mut hand = inbox();
    let path = hand.path("more.conf").display().to_string();
    hand.file("more.conf", format!("mboxname_lockpath: {}\n", hand.path("locks").display()));
    hand.option("@include", &path.replace('@', ""));
    hand.freeze("glad");
    assert!(hand.path("locks/c1fk.lock").exists() && !hand.path("conf/lock").exists());
}

#[test]
fn a_stranger_makes_no_lock_files_that_would_stop_cyrus() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let hand = inbox();
    let server = hand.open().unwrap();
    for dir in ["", "conf", "spool"] {
        fs::set_permissions(hand.path(dir), fs::Permissions::from_mode(0o777)).unwrap();
    }
    // Credentials belong to a thread; this one is not used for anything else.
    let error = std::thread::scope(|scope| {
        let stranger = scope.spawn(|| {
            let nobody = rustix::process::Uid::from_raw(65534);
            rustix::thread::set_thread_res_uid(None, nobody, None).unwrap();
            server.freeze(&Userid::from("glad")).map(|frozen| frozen.locks)
        });
        stranger.join().unwrap().expect_err("it is nobody's")
    });
    let SpoolError::Io { source, .. } = error else { panic!("{error:?}") };
    assert!(source.to_string().contains("user id 65534 is not Cyrus"), "{source}");
    assert!(!hand.path("conf/lock").exists());
}
