//! What a server learns once and keeps, and what it must not keep.

use crate::support::{Hand, names};
use model::Userid;
use spool::{ActingAs, Options, Server, SpoolError};

/// The head of an index of that minor version, as much of it as tells the version.
fn index(minor: u32) -> Vec<u8> {
    let (header, record) = cyrus_format::index::sizes(minor).expect("a known version");
    let words = [1, 0, minor, u32::try_from(header).unwrap(), u32::try_from(record).unwrap()];
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

#[test]
fn the_newest_mailboxes_tell_the_release() {
    for (minor, era) in [(17, "3.6 or newer"), (19, "3.6 or newer"), (20, "3.12 or newer")] {
        let mut hand = Hand::new();
        for at in 0..40 {
            let (id, value) = (format!("ab{at}"), 1000 + at);
            let rest = format!("P default V {value} M 1 A %()");
            hand.record(&format!("Nuser\x1fu{at}"), &format!("%(T e I {id} {rest})"));
            hand.record(&format!("I{id}"), &format!("%(T e N user\x1fu{at} {rest})"));
            let minor = if at == 39 { minor } else { 13 };
            hand.file(&format!("spool/uuid/a/b/{id}/cyrus.index"), index(minor));
        }
        assert_eq!(hand.open().unwrap().era().to_string(), era);
    }
}

#[test]
fn the_operator_may_know_better() {
    let mut hand = Hand::new();
    hand.by_id("user/glad", "c1fk", "e").metadata("spool/uuid/c/1/c1fk");
    let options = Options { cyrus_version: Some("3.6.1".into()), ..Options::default() };
    let frozen = hand.open_with(&options).unwrap().freeze(&Userid::from("glad")).unwrap();
    assert_eq!(frozen.era.to_string(), "3.6 to 3.10");
    assert!(hand.path("conf/lock/*U*glad.lock").exists());
    assert!(!hand.path("conf/lock/*U*user").exists());
}

/// More mailboxes than are looked at to begin with, and one of them newer than the others.
#[test]
fn an_account_read_under_too_few_locks_is_read_again() {
    let mut hand = Hand::new();
    for at in 0..100 {
        let name = format!("user.u{at:02}");
        hand.record(&name, "0 default x\tlr\t");
        let minor = if at == 2 { 12 } else { 10 };
        let dir = format!("spool/user/u{at:02}");
        hand.metadata(&dir).file(&format!("{dir}/cyrus.index"), index(minor));
    }
    let server = hand.open().unwrap();
    assert_eq!(server.era().to_string(), "2.3");
    assert_eq!(server.freeze(&Userid::from("u01")).unwrap().era.to_string(), "2.3");
    assert!(!hand.path("conf/lock").exists());
    assert_eq!(server.freeze(&Userid::from("u02")).unwrap().era.to_string(), "2.4 to 3.0");
    assert!(hand.path("conf/lock/user/u02.lock").exists());
    assert_eq!(server.freeze(&Userid::from("u01")).unwrap().era.to_string(), "2.4 to 3.0");
}

#[test]
fn mailboxes_that_come_and_go_are_noticed() {
    let mut hand = Hand::new();
    hand.by_id("user/glad", "c1fk", "e").metadata("spool/uuid/c/1/c1fk");
    let server = hand.open().unwrap();
    let glad = Userid::from("glad");
    assert_eq!(names(&server.freeze(&glad).unwrap()), ["user.glad"]);
    hand.by_id("user/glad/new", "d2fk", "e").metadata("spool/uuid/d/2/d2fk");
    hand.by_id("user/iris", "e3fk", "e").metadata("spool/uuid/e/3/e3fk");
    // Opening another server writes mailboxes.db anew.
    hand.open().unwrap();
    assert_eq!(names(&server.freeze(&glad).unwrap()), ["user.glad", "user.glad.new"]);
    assert_eq!(server.accounts().unwrap(), ["glad", "iris"].map(Userid::from));
    std::fs::write(hand.path("conf/mailboxes.db"), "").unwrap();
    let error = server.freeze(&glad).map(|frozen| frozen.locks).expect_err("all are gone");
    assert!(matches!(error, SpoolError::NoSuchAccount { .. }), "{error:?}");
}

#[test]
fn accounts_of_deleted_mailboxes_only_are_accounts_too() {
    let mut hand = Hand::new();
    hand.by_id("DELETED/user/glad/5A5A5A5A", "c1fk", "e").metadata("spool/uuid/c/1/c1fk");
    assert_eq!(names(&hand.freeze("glad")), ["DELETED.user.glad.5A5A5A5A"]);
}

#[test]
fn several_threads_may_freeze_and_read() {
    let mut hand = Hand::new();
    for at in 0..8 {
        let id = format!("id{at}");
        hand.by_id(&format!("user/u{at}"), &id, "e").metadata(&format!("spool/uuid/i/d/{id}"));
        hand.file(&format!("spool/uuid/i/d/{id}/1."), format!("message of {at}"));
    }
    let server = hand.open().unwrap();
    std::thread::scope(|scope| {
        for at in 0..8 {
            let server = &server;
            scope.spawn(move || {
                let frozen = server.freeze(&Userid::new(format!("u{at}"))).unwrap();
                let mailbox = &frozen.mailboxes[0];
                let message = mailbox.open_message(model::Uid(1), false).unwrap();
                let text = std::io::read_to_string(message).unwrap();
                assert_eq!(text, format!("message of {at}"));
            });
        }
    });
}

/// Everything else runs as whoever runs the tests.
#[test]
fn root_acts_as_cyrus_and_comes_back() {
    use rustix::process::{getegid, geteuid, getgroups};
    let before = (geteuid(), getegid(), getgroups().unwrap());
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap();
    let Some(line) = passwd.lines().find(|line| line.starts_with("nobody:")) else { return };
    let uid: u32 = line.split(':').nth(2).unwrap().parse().unwrap();
    let acting = ActingAs::user("nobody").unwrap();
    assert_eq!(acting.name(), "nobody");
    if before.0.is_root() {
        assert!(acting.is_user());
        assert_eq!(geteuid().as_raw(), uid);
        assert!(std::fs::read("/etc/shadow").is_err(), "root's files are out of reach");
        let started = std::thread::spawn(|| geteuid().as_raw());
        assert_eq!(started.join().unwrap(), uid, "threads inherit it");
        let error = ActingAs::user("no-such-user").map(|acting| acting.is_user());
        assert!(!error.unwrap(), "nobody cannot become anybody");
    } else {
        assert_eq!(acting.is_user(), before.0.as_raw() == uid);
    }
    drop(acting);
    assert_eq!((geteuid(), getegid(), getgroups().unwrap()), before);
    if before.0.is_root() {
        let error = ActingAs::user("no-such-user").map(|acting| acting.is_user()).unwrap_err();
        assert_eq!(error.to_string(), "there is no user no-such-user in /etc/passwd to act as");
    }
}

#[test]
fn whom_cyrus_runs_as_is_configured() {
    let mut hand = Hand::new();
    hand.by_id("user/glad", "c1fk", "e").option("cyrus_user", "nobody");
    let server: Server = hand.open().unwrap();
    assert_eq!(server.act_as_cyrus().unwrap().name(), "nobody");
}
