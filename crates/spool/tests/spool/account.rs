//! What belongs to an account besides its mailboxes, in each place and form.

use std::os::unix::fs::symlink;
use std::time::{Duration, SystemTime};

use crate::support::{self, Hand, dump, files_proper, findings};
use cyrus_format::db;
use model::Timestamp;

fn by_id() -> Hand {
    let mut hand = Hand::new();
    hand.by_id("user/glad", "c1fk", "e").metadata("spool/uuid/c/1/c1fk");
    hand
}

fn by_name() -> Hand {
    let mut hand = Hand::new();
    let value = "%(A %() I 0123456789abcdef0 P default V 1 F 1 C 1 M 1)";
    hand.record("user.fred^smith", value).metadata("spool/user/fred^smith");
    hand
}

#[test]
fn files_placed_by_id() {
    let hand = by_id();
    for (suffix, bytes) in [("sub", "s"), ("seen", "e"), ("counters", "c"), ("dav", "not ours")] {
        hand.file(&format!("conf/user/uuid/c/1/c1fk/{suffix}.db"), bytes);
        hand.file(&format!("conf/user/g/glad.{suffix}"), "left over");
    }
    let expected = [("counters", "c"), ("sub", "s"), ("seen", "e")];
    assert_eq!(files_proper(&hand.freeze("glad")), expected);
}

#[test]
fn files_placed_by_name_and_legacy_accounts() {
    let hand = by_name();
    hand.file("conf/user/f/fred.smith.sub", "s").file("conf/user/f/fred.smith.seen", "e");
    assert_eq!(files_proper(&hand.freeze("fred.smith")), [("sub", "s"), ("seen", "e")]);

    let mut hand = Hand::new();
    hand.by_id("user/glad", "c1fk", "el").metadata("spool/user/glad");
    hand.file("conf/user/g/glad.sub", "legacy").file("conf/user/uuid/c/1/c1fk/sub.db", "no");
    assert_eq!(files_proper(&hand.freeze("glad")), [("sub", "legacy")]);
}

#[test]
fn files_keep_their_times() {
    let hand = by_id();
    hand.file("conf/user/uuid/c/1/c1fk/sub.db", "s");
    let time = SystemTime::UNIX_EPOCH + Duration::new(1_700_000_000, 5);
    let path = hand.path("conf/user/uuid/c/1/c1fk/sub.db");
    std::fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
    let files = hand.freeze("glad").account_files;
    let sub = files.iter().find(|file| file.name == "sub").expect("it is there");
    assert_eq!(sub.mtime, Timestamp { secs: 1_700_000_000, nanos: 5 });
}

#[test]
fn a_file_that_cannot_be_read_is_a_finding() {
    let hand = by_id();
    support::make_dir(&hand.path("conf/user/uuid/c/1/c1fk/sub.db"));
    hand.file("conf/annotations.db", b"\xa1\x02\x8b\x0dtwoskip file\0\0\0\0rubbish");
    let frozen = hand.freeze("glad");
    assert_eq!(files_proper(&frozen), []);
    let expected = [("metadata-unreadable", "glad"), ("metadata-unreadable", "glad")];
    assert_eq!(findings(&frozen.findings), expected);
    assert!(frozen.findings[0].detail.contains("annotations.db"), "{:?}", frozen.findings);
    assert!(frozen.findings[1].detail.contains("sub.db"), "{:?}", frozen.findings);
}

#[test]
fn quota_roots_are_those_that_the_mailboxes_name() {
    let mut hand = by_id();
    hand.by_id("user/glad/a", "aaaa", "e").metadata("spool/uuid/a/a/aaaa");
    hand.by_id("user/glad/b", "bbbb", "e").metadata("spool/uuid/b/b/bbbb");
    hand.header("spool/uuid/a/a/aaaa", "user.glad.a");
    // Somebody else's root is not the account's to restore.
    hand.header("spool/uuid/b/b/bbbb", "user.gladys");
    hand.file("conf/quota/g/user.glad", "1").file("conf/quota/g/user.glad.a", "2");
    hand.file("conf/quota/g/user.gladys", "3").file("conf/quota/g/user.glad.unnamed", "4");
    let expected = [("quota/user.glad", "1"), ("quota/user.glad.a", "2")];
    assert_eq!(files_proper(&hand.freeze("glad")), expected);
}

#[test]
fn quotas_of_a_database() {
    let mut hand = by_id();
    hand.option("quota_db", "twoskip");
    hand.file("conf/quotas.db", "user.glad\t%(S (5 10))\nuser.gladys\t%(S (6))\n");
    hand.file("conf/quota/g/user.glad", "left over");
    assert_eq!(files_proper(&hand.freeze("glad")), [("quota/user.glad", "%(S (5 10))")]);
}

/// A twoskip annotations.db: keys and values hold NULs.
fn annotations(hand: &Hand, keys: &[&str]) {
    let mut entries: Vec<(Vec<u8>, Vec<u8>)> = keys
        .iter()
        .map(|key| (key.replace('|', "\0").into_bytes(), format!("\0\t{key}").into_bytes()))
        .collect();
    entries.sort();
    let bytes = db::twoskip::write_fresh(&entries);
    hand.file("conf/annotations.db", bytes.unwrap());
}

#[test]
fn annotations_of_the_accounts_mailboxes_only() {
    let hand = by_id();
    annotations(&hand, &["|/server|", "c1fk|/comment|", "c1fk|/x|[.OwNeR.]", "c1fkx|/comment|"]);
    let frozen = hand.freeze("glad");
    assert_eq!(frozen.findings, []);
    let keys: Vec<Vec<u8>> = dump(&frozen, "annotations").into_keys().collect();
    assert_eq!(keys, [&b"c1fk\0/comment\0"[..], b"c1fk\0/x\0[.OwNeR.]"]);
    assert_eq!(dump(&frozen, "annotations").values().next().unwrap(), b"\0\tc1fk|/comment|");

    let hand = by_name();
    annotations(&hand, &["user.fred^smith|/comment|", "user.fred^smith.x|/comment|"]);
    let keys: Vec<Vec<u8>> = dump(&hand.freeze("fred.smith"), "annotations").into_keys().collect();
    assert_eq!(keys, [b"user.fred^smith\0/comment\0"]);
}

#[test]
fn records_of_3_6_with_tombstones_and_ids() {
    let mut hand = by_id();
    hand.by_id("user/glad/sub.folder", "d2fk", "e").metadata("spool/uuid/d/2/d2fk");
    hand.by_id("DELETED/user/glad/x/5A5A5A5A", "e3fk", "e").metadata("spool/uuid/e/3/e3fk");
    hand.by_id("user/gladys", "gggg", "e").by_id("user/glad2", "hhhh", "e");
    // The tombstone of a former name, whose id now is somebody else's.
    hand.record("Nuser\x1fglad\x1fgone", "%(T ed I gggg V 1 M 1)");
    hand.record("AU\x1eiris\x1euser\x1fglad", "").record("$RACL$x", "");
    let frozen = hand.freeze("glad");
    let keys: Vec<String> =
        dump(&frozen, "mailboxes").into_keys().map(|key| String::from_utf8(key).unwrap()).collect();
    let expected = [
        "Ic1fk",
        "Id2fk",
        "Ie3fk",
        "NDELETED\x1fuser\x1fglad\x1fx\x1f5A5A5A5A",
        "Nuser\x1fglad",
        "Nuser\x1fglad\x1fgone",
        "Nuser\x1fglad\x1fsub.folder",
    ];
    assert_eq!(keys, expected);
    let value = &dump(&frozen, "mailboxes")[&b"Ic1fk"[..]];
    assert_eq!(value, b"%(T e N user\x1fglad P default V 1 M 1 A %())");
}

#[test]
fn records_of_older_releases() {
    let mut hand = Hand::new();
    hand.option("virtdomains", "userid");
    for name in ["user.ann", "x.org!user.ann", "x.org!user.ann.a", "x.org!user.anne"] {
        hand.record(name, &format!("0 default {name}\tlr\t"));
    }
    hand.record("x.org!DELETED.user.ann.b.5A5A5A5A", "0 default ann\tlr\t");
    hand.metadata("spool/user/ann").metadata("spool/domain/x.org/user/ann");
    let keys = |userid: &str| {
        let keys = dump(&hand.freeze(userid), "mailboxes").into_keys();
        keys.map(|key| String::from_utf8(key).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(keys("ann"), ["user.ann"]);
    let expected = ["x.org!DELETED.user.ann.b.5A5A5A5A", "x.org!user.ann", "x.org!user.ann.a"];
    assert_eq!(keys("ann@x.org"), expected);
}

#[test]
fn sieve_scripts_and_which_is_active() {
    let mut hand = by_name();
    hand.option("sievedir", "@/sieve");
    let dir = "sieve/f/fred.smith";
    hand.file(&format!("{dir}/main.script"), "keep;").file(&format!("{dir}/main.bc"), "\0");
    hand.file(&format!("{dir}/away.script"), "discard;");
    symlink("main.bc", hand.path(&format!("{dir}/defaultbc"))).unwrap();
    let expected = [
        ("sieve/away.script", "discard;"),
        ("sieve/main.script", "keep;"),
        ("sieve.active", "main"),
    ];
    assert_eq!(files_proper(&hand.freeze("fred.smith")), expected);

    hand.option("sieveusehomedir", "yes");
    assert_eq!(files_proper(&hand.freeze("fred.smith")), []);
}

#[test]
fn since_3_6_only_the_active_script_is_kept_by_name() {
    let mut hand = by_id();
    hand.option("sievedir", "@/sieve");
    hand.file("sieve/uuid/c/1/c1fk/vacation.bc", "\0");
    symlink("vacation.bc", hand.path("sieve/uuid/c/1/c1fk/defaultbc")).unwrap();
    assert_eq!(files_proper(&hand.freeze("glad")), [("sieve.active", "vacation")]);
}

#[test]
fn mailboxes_are_frozen_alone_and_so_are_the_traces_of_others() {
    let mut hand = by_id();
    hand.by_id("user/glad/a", "aaaa", "e").metadata("spool/uuid/a/a/aaaa");
    hand.by_id("user/gone", "bbbb", "d");
    let server = hand.open().unwrap();
    let only = ["user.glad.a", "user.glad.none"].map(model::MboxName::from).into();
    let frozen = server.freeze_mailboxes(&"glad".into(), &only).unwrap();
    assert_eq!(support::names(&frozen), ["user.glad.a"]);
    // What there is beside them is known all the same.
    assert_eq!(dump(&frozen, "mailboxes").len(), 4);
    assert!(server.freeze_mailboxes(&"gone".into(), &only).is_err());
    assert!(server.freeze(&"gone".into()).is_err());
    let traces = server.freeze_traces(&"gone".into()).unwrap();
    assert!(traces.mailboxes.is_empty() && !dump(&traces, "mailboxes").is_empty());
    let nothing = server.freeze_traces(&"nobody".into()).unwrap();
    assert!(dump(&nothing, "mailboxes").is_empty());
}

#[test]
fn what_was_renamed_to_somebody_else_is_not_deleted() {
    let mut hand = by_id();
    let tombstone = "%(T d I aaaa V 1 M 1 A %())";
    hand.record("Nuser\x1fglad\x1fgiven", tombstone);
    hand.by_id("user/iris/taken", "aaaa", "e").metadata("spool/uuid/a/a/aaaa");
    hand.by_id("user/glad/gone", "bbbb", "d");
    assert_eq!(hand.freeze("glad").moved, ["aaaa".into()].into());
    assert_eq!(hand.freeze("iris").moved, [].into());
}
