//! Which locks are taken, in which order, and what others may do meanwhile.

use std::env;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::support::{self, Hand};
use model::Userid;
use spool::{Frozen, LockKind, Options, Server, SpoolError};
use testkit::locks::{LockMode, LockProcess, is_waited_for};
use testkit::process::wait_until;
use testkit::strace::{self, LockAction};

const IMPATIENT: Duration = Duration::from_millis(20);

/// INBOX and Sent of 3.6, with subscriptions.
fn two_mailboxes() -> Hand {
    let mut hand = Hand::new();
    hand.by_id("user/glad", "c1fk", "e").by_id("user/glad/Sent", "d2fk", "e");
    hand.metadata("spool/uuid/c/1/c1fk").metadata("spool/uuid/d/2/d2fk");
    hand.file("conf/user/uuid/c/1/c1fk/sub.db", "Ninbox\t\n");
    hand
}

/// The files that [`two_mailboxes`] makes us lock, in Cyrus' order.
const ORDER: [(LockKind, &str); 8] = [
    (LockKind::User, "conf/lock/*U*glad.lock"),
    (LockKind::User, "conf/lock/*U*user/glad.lock"),
    (LockKind::Db, "conf/mailboxes.db"),
    (LockKind::Name, "conf/lock/c1fk.lock"),
    (LockKind::Name, "conf/lock/d2fk.lock"),
    (LockKind::Index, "spool/uuid/c/1/c1fk/cyrus.index"),
    (LockKind::Index, "spool/uuid/d/2/d2fk/cyrus.index"),
    (LockKind::Db, "conf/user/uuid/c/1/c1fk/sub.db"),
];

fn impatient(hand: &Hand) -> Server {
    hand.open_with(&Options { lock_timeout: IMPATIENT, cyrus_version: None }).unwrap()
}

fn glad(server: &Server) -> spool::Result<Frozen> {
    server.freeze(&Userid::from("glad"))
}

#[test]
fn locks_are_taken_in_cyrus_own_order_and_only_names_stay_locked() {
    let hand = two_mailboxes();
    let frozen = hand.freeze("glad");
    let taken: Vec<(LockKind, PathBuf)> =
        frozen.locks.iter().map(|lock| (lock.kind, lock.file.clone())).collect();
    assert_eq!(taken, ORDER.map(|(kind, file)| (kind, hand.path(file))));
    for lock in &frozen.locks {
        assert_eq!(lock.held().is_none(), lock.kind == LockKind::Name, "{lock:?}");
        let concerns_mailbox = matches!(lock.kind, LockKind::Name | LockKind::Index);
        assert_eq!(lock.mailbox.is_some(), concerns_mailbox, "{lock:?}");
    }

    let mut other = LockProcess::start().expect("python3");
    for (kind, file) in ORDER {
        let path = hand.path(file);
        let blocked = other.would_block(&path, LockMode::Exclusive).unwrap();
        assert_eq!(blocked, kind == LockKind::Name, "{file}");
        assert!(!other.would_block(&path, LockMode::Shared).unwrap(), "{file}");
    }
    let mut mailboxes = frozen.mailboxes;
    drop(mailboxes.remove(0));
    assert!(!other.would_block(&hand.path("conf/lock/c1fk.lock"), LockMode::Exclusive).unwrap());
    assert!(other.would_block(&hand.path("conf/lock/d2fk.lock"), LockMode::Exclusive).unwrap());
}

/// Runs itself under strace, where it does nothing but freeze an account.
#[test]
fn the_kernel_sees_the_same_locks_in_the_same_order() {
    const CONF: &str = "CYLINDER_TEST_CONF";
    if let Ok(conf) = env::var(CONF) {
        let server = Server::open(Path::new(&conf), &Options::default()).unwrap();
        assert_eq!(glad(&server).unwrap().mailboxes.len(), 2);
        return;
    }
    let hand = two_mailboxes();
    hand.open().unwrap();
    let setting = format!("{CONF}={}", hand.path("imapd.conf").display());
    let this = env::current_exe().unwrap();
    let name = "locks::the_kernel_sees_the_same_locks_in_the_same_order";
    let arguments = [&setting, this.to_str().unwrap(), "--exact", name];
    let Some((calls, output)) = strace::locks_or_skip(name, Path::new("/usr/bin/env"), &arguments)
    else {
        return;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let ours = calls.iter().filter(|call| call.path.starts_with(hand.path("")));
    let (locks, others): (Vec<_>, Vec<_>) =
        ours.partition(|call| matches!(call.action, LockAction::Lock { .. }));
    assert!(others.iter().all(|call| call.action == LockAction::Close), "{others:?}");
    let expected = LockAction::Lock { mode: LockMode::Shared, waits: false, ofd: true };
    assert!(locks.iter().all(|call| call.action == expected && call.succeeded), "{locks:?}");
    // mailboxes.db is also read before, when the server is opened and the account looked up.
    let before = 2;
    let files: Vec<&Path> = locks.iter().map(|call| call.path.as_path()).collect();
    assert_eq!(files[..before], [hand.path("conf/mailboxes.db"), hand.path("conf/mailboxes.db")]);
    assert_eq!(files[before..], ORDER.map(|(_, file)| hand.path(file)));
}

#[test]
fn a_lock_that_cannot_be_had_is_named_with_its_holder() {
    for (kind, file) in ORDER {
        let hand = two_mailboxes();
        let server = impatient(&hand);
        let path = hand.path(file);
        support::make_dir(path.parent().unwrap());
        let mut other = LockProcess::start().expect("python3");
        assert!(other.try_lock(&path, LockMode::Exclusive).unwrap());
        let error = glad(&server).map(|frozen| frozen.locks).expect_err(file);
        let SpoolError::LockTimeout { file: named, kind: of, mailbox, waited, holder } = &error
        else {
            panic!("{file}: {error:?}");
        };
        assert_eq!((named, *of), (&path, kind));
        assert_eq!(mailbox.is_some(), matches!(kind, LockKind::Name | LockKind::Index));
        assert!(*waited >= IMPATIENT);
        assert_eq!(holder.as_ref().map(|holder| holder.pid), Some(other.pid()), "{file}");

        // All that was locked before is free again.
        let last = ORDER.iter().position(|(_, other)| *other == file).unwrap();
        for (_, before) in &ORDER[..last] {
            let path = hand.path(before);
            // mailboxes.db is looked into before anything is locked.
            assert!(path.exists() || kind == LockKind::Db, "{before}");
            let is_held = path.exists() && other.would_block(&path, LockMode::Exclusive).unwrap();
            assert!(!is_held, "{file}: {before}");
        }
    }
}

#[test]
fn shared_locks_of_others_are_in_nobodys_way() {
    let hand = two_mailboxes();
    let mut other = LockProcess::start().expect("python3");
    for (_, file) in ORDER {
        let path = hand.path(file);
        support::make_dir(path.parent().unwrap());
        if path.extension().is_some_and(|extension| extension == "lock") {
            assert!(other.try_lock(&path, LockMode::Shared).unwrap());
        }
    }
    assert_eq!(glad(&impatient(&hand)).unwrap().mailboxes.len(), 2);
}

#[test]
fn an_account_that_does_not_exist_leaves_no_lock_behind() {
    let hand = two_mailboxes();
    let server = hand.open().unwrap();
    let error = server.freeze(&Userid::from("gladd")).expect_err("there is none");
    let SpoolError::NoSuchAccount { userid, near } = error else { panic!("{error:?}") };
    assert_eq!((userid, near), (Userid::from("gladd"), vec![Userid::from("glad")]));
    assert!(!hand.path("conf/lock").exists());
}

#[test]
fn record_locks_of_2_3_last_until_the_messages_are_read() {
    let mut hand = Hand::new();
    hand.record("user.glad", "0 default glad\tlrswipkxtecda\t");
    hand.metadata("spool/user/glad").file("spool/user/glad/cyrus.expunge", "expunged");
    let mut frozen = hand.freeze("glad");
    assert_eq!(frozen.era.to_string(), "2.3");
    assert_eq!(frozen.findings, []);
    let kinds: Vec<LockKind> = frozen.locks.iter().map(|lock| lock.kind).collect();
    let records = [LockKind::Header, LockKind::Index, LockKind::Expunge];
    assert_eq!(kinds, [&[LockKind::Db][..], &records, &[LockKind::Db]].concat());
    assert!(!hand.path("conf/lock").exists());

    let mailbox = frozen.mailboxes.remove(0);
    assert_eq!(support::text(&mailbox.expunge), "expunged");
    let mut other = LockProcess::start().expect("python3");
    let files = ["header", "index", "expunge"].map(|kind| format!("spool/user/glad/cyrus.{kind}"));
    for file in &files {
        assert!(other.would_block(&hand.path(file), LockMode::Exclusive).unwrap(), "{file}");
    }

    // An expunge that began before replaces the index all the same.
    hand.file("spool/user/glad/cyrus.index.NEW", "newer");
    let index = hand.path("spool/user/glad/cyrus.index");
    std::fs::rename(hand.path("spool/user/glad/cyrus.index.NEW"), index).unwrap();
    assert_eq!(mailbox.reread_index().unwrap().as_deref(), Some(&b"newer"[..]));
    drop(mailbox);
    for file in &files {
        assert!(!other.would_block(&hand.path(file), LockMode::Exclusive).unwrap(), "{file}");
    }
}

#[test]
fn where_name_locks_hold_messages_the_index_is_not_read_again() {
    let hand = two_mailboxes();
    let frozen = hand.freeze("glad");
    assert_eq!(frozen.mailboxes[0].reread_index().unwrap(), None);
}

#[test]
fn lock_files_that_cyrus_does_not_use_are_pointed_out() {
    let hand = two_mailboxes();
    support::make_dir(&hand.path("conf/lock"));
    let can_tell = hand.path("conf/lock").metadata().unwrap().created().is_ok();
    let set_changed = |file: &str, when: SystemTime| {
        File::options().write(true).open(hand.path(file)).unwrap().set_modified(when).unwrap();
    };
    let index = "spool/uuid/c/1/c1fk/cyrus.index";
    let unused = |server: &Server| {
        let findings = glad(server).unwrap().findings;
        assert!(findings.iter().all(|finding| finding.kind.code() == "lock-unused"));
        findings.into_iter().map(|finding| PathBuf::from(finding.place)).collect::<Vec<_>>()
    };
    let server = hand.open().unwrap();
    let minutes = |count: u64| Duration::from_secs(60 * count);

    // Changed before there was a lock directory: that says nothing.
    set_changed(index, SystemTime::now() - minutes(60 * 24 * 365 * 50));
    set_changed("spool/uuid/d/2/d2fk/cyrus.index", SystemTime::UNIX_EPOCH);
    assert_eq!(unused(&server), [] as [PathBuf; 0]);

    // Changed since: the user lock must have been touched. Both are ours, but they exist.
    set_changed(index, SystemTime::now() + minutes(10));
    assert_eq!(unused(&server), [] as [PathBuf; 0]);
    set_changed(index, SystemTime::now() + minutes(70));
    let (user, name) = ("conf/lock/*U*glad.lock", "conf/lock/c1fk.lock");
    let expected = |files: &[&str]| -> Vec<PathBuf> {
        files.iter().filter(|_| can_tell).map(|file| hand.path(file)).collect()
    };
    assert_eq!(unused(&server), expected(&[user]));

    // One of the two user locks in use is enough, and a name lock that was not there is not.
    set_changed("conf/lock/*U*glad.lock", SystemTime::now() + minutes(30));
    std::fs::remove_file(hand.path(name)).unwrap();
    assert_eq!(unused(&server), expected(&[name]));
    std::fs::remove_dir_all(hand.path("conf/lock/*U*user")).unwrap();
    std::fs::remove_file(hand.path("conf/lock/*U*glad.lock")).unwrap();
    assert_eq!(unused(&server), expected(&[user]));
}

/// An account of 2.5 whose entry in mailboxes.db changes each time that both its indexes have
/// been read, as often as asked for.
fn freeze_while_it_changes(times: u32) -> spool::Result<Frozen> {
    let value = |mtime: u32| format!("%(A %() I 0123456789abcdef P default V 1 M {mtime})");
    let mut hand = Hand::new();
    hand.record("user.glad", &value(0)).record("user.glad.b", &value(0));
    hand.metadata("spool/user/glad").metadata("spool/user/glad/b");
    let first = hand.path("spool/user/glad/cyrus.index");
    let second = hand.path("spool/user/glad/b/cyrus.index");
    let server = hand.open().unwrap();
    let mut other = LockProcess::start().expect("python3");
    let lock = |other: &mut LockProcess, path: &Path| {
        assert!(other.try_lock(path, LockMode::Exclusive).unwrap());
    };
    let until_waiting = |path: &Path| {
        assert!(wait_until(Duration::from_secs(60), || is_waited_for(path).unwrap()));
    };
    lock(&mut other, &first);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| glad(&server));
        for time in 1..=times {
            // The reader is led from one index to the other, so it never passes both unseen.
            until_waiting(&first);
            lock(&mut other, &second);
            other.unlock(&first).unwrap();
            until_waiting(&second);
            let list = format!("user.glad\t{}\nuser.glad.b\t{}\n", value(time), value(0));
            hand.file("conf/mailboxes.db", list);
            if time < times {
                lock(&mut other, &first);
            }
            other.unlock(&second).unwrap();
        }
        reader.join().expect("no panic")
    })
}

#[test]
fn an_account_that_changes_meanwhile_is_read_again() {
    let frozen = freeze_while_it_changes(2).unwrap();
    assert!(!frozen.era.user_lock_freezes_names());
    assert_eq!(frozen.mailboxes[0].entry.mtime, Some(2));
    assert_eq!(frozen.findings, []);
}

#[test]
fn an_account_that_never_stops_changing_is_given_up() {
    let error = freeze_while_it_changes(5).map(|frozen| frozen.locks).expect_err("five times");
    assert!(matches!(error, SpoolError::KeepsChanging { attempts: 5, .. }), "{error:?}");
}

/// Two mailboxes of 2.3.
fn two_of_2_3() -> Hand {
    let mut hand = Hand::new();
    hand.record("user.glad", "0 default ").record("user.glad.b", "0 default ");
    hand.metadata("spool/user/glad").metadata("spool/user/glad/b");
    hand
}

#[test]
fn in_2_3_nothing_is_held_while_a_lock_is_waited_for() {
    let hand = two_of_2_3();
    let server = hand.open().unwrap();
    let busy = hand.path("spool/user/glad/b/cyrus.index");
    let mut other = LockProcess::start().expect("python3");
    assert!(other.try_lock(&busy, LockMode::Exclusive).unwrap());
    let frozen = std::thread::scope(|scope| {
        let reader = scope.spawn(|| glad(&server).unwrap());
        assert!(wait_until(Duration::from_secs(60), || is_waited_for(&busy).unwrap()));
        for file in ["cyrus.header", "cyrus.index", "b/cyrus.header"] {
            let path = hand.path("spool/user/glad").join(file);
            assert!(!other.would_block(&path, LockMode::Exclusive).unwrap(), "{file}");
        }
        other.unlock(&busy).unwrap();
        reader.join().expect("no panic")
    });
    assert_eq!(frozen.mailboxes.len(), 2);
    assert_eq!((frozen.locks[0].kind, &frozen.locks[0].file), (LockKind::Index, &busy));
    assert!(frozen.locks[0].held().is_some(), "the wait is reported, and was not kept");
}

#[test]
fn in_2_3_waiting_has_an_end_too() {
    let hand = two_of_2_3();
    let busy = hand.path("spool/user/glad/b/cyrus.header");
    let mut other = LockProcess::start().expect("python3");
    assert!(other.try_lock(&busy, LockMode::Exclusive).unwrap());
    let error = glad(&impatient(&hand)).map(|frozen| frozen.locks).expect_err("it is held");
    let SpoolError::LockTimeout { file, kind: LockKind::Header, mailbox, holder, .. } = &error
    else {
        panic!("{error:?}");
    };
    assert_eq!((file, mailbox.as_ref()), (&busy, Some(&"user.glad.b".into())));
    assert_eq!(holder.as_ref().map(|holder| holder.pid), Some(other.pid()));
}
