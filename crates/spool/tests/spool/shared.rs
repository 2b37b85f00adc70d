//! The account of the mailboxes that nobody owns.

use std::fs::File;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use crate::support::{Hand, dump, files_proper, findings, names};
use model::Userid;
use spool::{LockKind, Options, SpoolError};

/// Shared mailboxes of two domains, one of them deleted, among those of users.
fn mixed() -> Hand {
    let mut hand = Hand::new();
    hand.by_id("shared/box", "s1fk", "e").metadata("spool/uuid/s/1/s1fk");
    hand.by_id("DELETED/shared/old/5A5A5A5A", "s2fk", "e").metadata("spool/uuid/s/2/s2fk");
    of_other_com(&mut hand, "shared\x1fbox", "s3fk");
    hand.by_id("users/all", "s4fk", "e").metadata("spool/uuid/s/4/s4fk");
    hand.by_id("user/glad", "c1fk", "e").metadata("spool/uuid/c/1/c1fk");
    hand.by_id("DELETED/user/glad/old/5A5A5A5A", "c2fk", "e").metadata("spool/uuid/c/2/c2fk");
    of_other_com(&mut hand, "user\x1fann", "c3fk");
    hand
}

/// A mailbox of a domain, whose dbname is no atom.
fn of_other_com(hand: &mut Hand, local: &str, id: &str) {
    let (dbname, rest) = (format!("other.com\x1d{local}"), "P default V 1 M 1 A %()");
    hand.record(&format!("N{dbname}"), &format!("%(T e I {id} {rest})"));
    hand.record(&format!("I{id}"), &format!("%(T e N \"{dbname}\" {rest})"));
    hand.metadata(&format!("spool/uuid/{}/{}/{id}", &id[..1], &id[1..2]));
}

#[test]
fn shared_mailboxes_of_all_domains_are_one_account() {
    let hand = mixed();
    let server = hand.open().unwrap();
    let accounts = ["%shared", "ann@other.com", "glad"].map(Userid::from);
    assert_eq!(server.accounts().unwrap(), accounts);
    let frozen = server.freeze(&Userid::shared()).unwrap();
    let expected =
        ["DELETED.shared.old.5A5A5A5A", "other.com!shared.box", "shared.box", "users.all"];
    assert_eq!(names(&frozen), expected);
    assert_eq!(frozen.findings, []);
    assert_eq!(names(&server.freeze(&"glad".into()).unwrap()).len(), 2);
}

#[test]
fn its_records_are_those_of_no_user() {
    let mut hand = mixed();
    hand.by_id("shared/gone", "s5fk", "d").by_id("shared", "s6fk", "ei");
    hand.record("$RACL$U$glad$shared.box", "");
    let records = dump(&hand.freeze("%shared"), "mailboxes");
    let keys: Vec<String> =
        records.keys().map(|key| String::from_utf8_lossy(key).escape_debug().to_string()).collect();
    let expected = [
        "Is1fk",
        "Is2fk",
        "Is3fk",
        "Is4fk",
        "Is5fk",
        "Is6fk",
        r"NDELETED\u{1f}shared\u{1f}old\u{1f}5A5A5A5A",
        r"Nother.com\u{1d}shared\u{1f}box",
        "Nshared",
        r"Nshared\u{1f}box",
        r"Nshared\u{1f}gone",
        r"Nusers\u{1f}all",
    ];
    assert_eq!(keys, expected);
}

#[test]
fn its_records_are_found_under_plain_names_too() {
    let mut hand = Hand::new();
    let value = "%(A %() I 0123456789abcdef P default V 1 M 1)";
    for name in
        ["shared.box", "DELETED.shared.x.5A5A5A5A", "user.glad", "DELETED.user.glad.x.5A5A5A5A"]
    {
        hand.record(name, value);
    }
    hand.record("$RACL$U$glad$shared.box", "").metadata("spool/shared/box");
    hand.metadata("spool/DELETED/shared/x/5A5A5A5A");
    let records = dump(&hand.freeze("%shared"), "mailboxes");
    let keys: Vec<&[u8]> = records.keys().map(Vec::as_slice).collect();
    assert_eq!(keys, [b"DELETED.shared.x.5A5A5A5A".as_slice(), b"shared.box"]);
}

#[test]
fn counters_and_quotas_belong_to_it_and_users_files_do_not() {
    let mut hand = mixed();
    hand.option("virtdomains", "userid");
    hand.file("conf/shared.counters", "c").file("conf/domain/o/other.com/shared.counters", "o");
    hand.file("conf/user/q/%shared.sub", "nobody's").file("conf/user/q/%shared.seen", "nobody's");
    hand.header("spool/uuid/s/1/s1fk", "shared").header("spool/uuid/s/3/s3fk", "other.com!");
    // What a mailbox says that was a user's once.
    hand.header("spool/uuid/s/4/s4fk", "user.glad");
    hand.file("conf/quota/s/shared", "1").file("conf/domain/o/other.com/quota/root", "2");
    hand.file("conf/quota/g/user.glad", "3").file("conf/quota/u/users", "4");
    let expected = [
        ("counters", "c"),
        ("counters/other.com", "o"),
        ("quota/other.com!", "2"),
        ("quota/shared", "1"),
    ];
    assert_eq!(files_proper(&hand.freeze("%shared")), expected);
}

#[test]
fn the_lock_of_no_user_is_taken_and_then_each_mailbox_is_locked() {
    let mut hand = Hand::new();
    hand.by_id("shared/a", "s1fk", "e").metadata("spool/uuid/s/1/s1fk");
    hand.by_id("shared/b", "s2fk", "e").metadata("spool/uuid/s/2/s2fk");
    let frozen = hand.freeze("%shared");
    let taken: Vec<(LockKind, PathBuf)> =
        frozen.locks.iter().map(|lock| (lock.kind, lock.file.clone())).collect();
    let expected = [
        (LockKind::User, "conf/lock/*U*.lock"),
        (LockKind::Db, "conf/mailboxes.db"),
        (LockKind::Name, "conf/lock/s1fk.lock"),
        (LockKind::Name, "conf/lock/s2fk.lock"),
        (LockKind::Index, "spool/uuid/s/1/s1fk/cyrus.index"),
        (LockKind::Index, "spool/uuid/s/2/s2fk/cyrus.index"),
    ];
    assert_eq!(taken, expected.map(|(kind, file)| (kind, hand.path(file))));
}

/// Up to 3.10, messages of shared mailboxes come and go without the lock: that nobody has used it
/// proves nothing.
#[test]
fn that_nobody_uses_its_lock_is_told_only_where_every_change_needs_it() {
    let mut hand = Hand::new();
    hand.by_id("shared/a", "s1fk", "e").metadata("spool/uuid/s/1/s1fk");
    hand.file("conf/lock/s1fk.lock", "").file("conf/lock/*U*.lock", "");
    let can_tell = hand.path("conf/lock").metadata().unwrap().created().is_ok();
    let later = SystemTime::now() + Duration::from_secs(70 * 60);
    let index = hand.path("spool/uuid/s/1/s1fk/cyrus.index");
    File::options().write(true).open(index).unwrap().set_modified(later).unwrap();
    let lock = hand.path("conf/lock/*U*.lock").display().to_string();
    for (release, is_told) in [("3.6", false), ("3.12", can_tell)] {
        let options = Options { cyrus_version: Some(release.into()), ..Options::default() };
        let frozen = hand.open_with(&options).unwrap().freeze(&Userid::shared()).unwrap();
        let expected = is_told.then_some(("lock-unused", lock.as_str()));
        assert_eq!(findings(&frozen.findings), Vec::from_iter(expected), "{release}");
    }
}

#[test]
fn without_such_mailboxes_there_is_no_such_account() {
    let mut hand = Hand::new();
    hand.by_id("user/glad", "c1fk", "e").metadata("spool/uuid/c/1/c1fk");
    let server = hand.open().unwrap();
    assert_eq!(server.accounts().unwrap(), ["glad"].map(Userid::from));
    let error = server.freeze(&Userid::shared()).map(|frozen| frozen.locks).expect_err("none");
    assert!(matches!(error, SpoolError::NoSuchAccount { .. }), "{error:?}");
    assert!(!hand.path("conf/lock").exists(), "lock files were left behind");
}

#[test]
fn who_forgets_the_sign_is_told() {
    let error = mixed().open().unwrap().freeze(&"shared".into()).map(|frozen| frozen.locks);
    let Err(SpoolError::NoSuchAccount { near, .. }) = &error else { panic!("{error:?}") };
    assert_eq!(near, &[Userid::shared()]);
}

/// No Cyrus makes such a user. If there is one, his mailboxes are kept, and nobody else's are hurt.
#[test]
fn a_user_of_that_name_would_lose_nothing() {
    let mut hand = mixed();
    hand.by_id("user/%shared", "u1fk", "e").metadata("spool/uuid/u/1/u1fk");
    let found = names(&hand.freeze("%shared"));
    assert_eq!(found.len(), 5);
    assert!(found.contains(&"user.%shared".to_owned()), "{found:?}");
}
