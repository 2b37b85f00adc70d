//! Message files that stay within reach while their locks are given back.

use std::env;
use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use model::Uid;
use spool::{Frozen, MessageFiles};
use testkit::locks::{LockMode, LockProcess};

use crate::support::Hand;

/// Never, as far as these tests are concerned.
const LONG: Duration = Duration::from_secs(3600);
const PATIENCE: Duration = Duration::from_secs(60);

const INBOX: &str = "spool/uuid/c/1/c1fk";
const SENT: &str = "spool/uuid/d/2/d2fk";
const INBOX_LOCK: &str = "conf/lock/c1fk.lock";
const SENT_LOCK: &str = "conf/lock/d2fk.lock";

/// INBOX with messages 1 to 5, and Sent with one.
fn two_mailboxes() -> Hand {
    let mut hand = Hand::new();
    hand.by_id("user/glad", "c1fk", "e").by_id("user/glad/Sent", "d2fk", "e");
    hand.metadata(INBOX).metadata(SENT);
    for uid in 1..=5 {
        hand.file(&format!("{INBOX}/{uid}."), format!("message {uid}"));
    }
    hand.file(&format!("{SENT}/1."), "sent");
    hand
}

fn files(frozen: Frozen, hold: Duration) -> MessageFiles {
    MessageFiles::new(frozen.mailboxes, hold)
}

fn read(files: &MessageFiles, mailbox: usize, uid: u32) -> io::Result<String> {
    let mut text = String::new();
    files.open(mailbox, Uid(uid), false)?.read_to_string(&mut text)?;
    Ok(text)
}

/// Waits as cleanup does, until the lock can be had.
fn wait_for(path: &Path) -> LockProcess {
    let mut cleanup = LockProcess::start().unwrap();
    cleanup.wait_for(path, LockMode::Exclusive).unwrap();
    assert!(cleanup.granted(PATIENCE).unwrap(), "{} is held for ever", path.display());
    cleanup
}

#[test]
fn a_mailbox_that_is_done_with_is_given_back_at_once_and_the_others_stay() {
    let hand = two_mailboxes();
    let frozen = hand.freeze("glad");
    let reports = frozen.locks.clone();
    let files = files(frozen, LONG);
    assert_eq!(read(&files, 0, 5).unwrap(), "message 5");
    files.release(0);
    let mut other = LockProcess::start().unwrap();
    assert!(!other.would_block(&hand.path(INBOX_LOCK), LockMode::Exclusive).unwrap());
    assert!(other.would_block(&hand.path(SENT_LOCK), LockMode::Exclusive).unwrap());
    assert_eq!(files.reread_index(1).unwrap(), None, "it holds what it read");
    for lock in reports {
        assert_eq!(lock.held().is_none(), lock.file == hand.path(SENT_LOCK), "{lock:?}");
    }
    // That would be a mistake of ours, and must not look like a missing message.
    assert_eq!(read(&files, 0, 5).unwrap_err().kind(), io::ErrorKind::Other);
    drop(files);
    assert!(!other.would_block(&hand.path(SENT_LOCK), LockMode::Exclusive).unwrap());
}

#[test]
fn a_lock_is_given_back_in_time_and_what_is_still_wanted_stays_readable() {
    let hand = two_mailboxes();
    let frozen = hand.freeze("glad");
    let reports = frozen.locks.clone();
    let files = files(frozen, Duration::from_millis(50));
    files.pass(0, Uid(2));
    // Nobody reads anything, and still cleanup gets what it waits for.
    let _cleanup = [wait_for(&hand.path(INBOX_LOCK)), wait_for(&hand.path(SENT_LOCK))];
    assert!(reports.iter().all(|lock| lock.held().is_some()), "{reports:?}");
    for uid in 1..=5 {
        fs::remove_file(hand.path(&format!("{INBOX}/{uid}."))).unwrap();
    }
    fs::remove_dir_all(hand.path(SENT)).unwrap();

    // Twice, since a large message is read twice.
    for _ in 0..2 {
        assert_eq!(read(&files, 0, 3).unwrap(), "message 3");
        assert_eq!(read(&files, 0, 5).unwrap(), "message 5");
        assert_eq!(read(&files, 1, 1).unwrap(), "sent");
    }
    assert_eq!(read(&files, 0, 2).unwrap_err().kind(), io::ErrorKind::NotFound);
    // Whoever misses one looks it up in the index as it is by now.
    hand.file(&format!("{INBOX}/cyrus.index"), "without it");
    assert_eq!(files.reread_index(0).unwrap().as_deref(), Some(&b"without it"[..]));

    files.pass(0, Uid(4));
    assert_eq!(read(&files, 0, 4).unwrap_err().kind(), io::ErrorKind::NotFound);
    assert_eq!(read(&files, 0, 5).unwrap(), "message 5");
}

/// Runs itself where hardly any file may be open.
#[test]
fn locks_stay_while_more_is_to_be_read_than_may_be_open() {
    const HAND: &str = "CYLINDER_TEST_FEW_FILES";
    const NAME: &str = "messages::locks_stay_while_more_is_to_be_read_than_may_be_open";
    if env::var_os(HAND).is_none() {
        // Room for three messages besides what every account needs.
        let script = "ulimit -n 265 && exec \"$0\" --exact \"$1\"";
        let this = env::current_exe().unwrap();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]).arg(this).arg(NAME).env(HAND, "");
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        return;
    }
    let hand = two_mailboxes();
    let files = files(hand.freeze("glad"), Duration::from_millis(50));
    // The one message of Sent has room, the five of INBOX have not.
    drop(wait_for(&hand.path(SENT_LOCK)));
    let mut other = LockProcess::start().unwrap();
    assert!(other.would_block(&hand.path(INBOX_LOCK), LockMode::Exclusive).unwrap());
    for uid in 1..=3 {
        assert_eq!(read(&files, 0, uid).unwrap(), format!("message {uid}"));
        files.pass(0, Uid(uid));
    }
    // Two are left, and have room beside that of Sent.
    drop(wait_for(&hand.path(INBOX_LOCK)));
    fs::remove_dir_all(hand.path("spool")).unwrap();
    assert_eq!(read(&files, 0, 4).unwrap(), "message 4");
    assert_eq!(read(&files, 1, 1).unwrap(), "sent");
}
