//! Locks of another process really stop Cyrus, and strace sees who takes which.

use std::path::Path;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use testkit::cyrus_or_skip;
use testkit::locks::{LockMode, LockProcess};
use testkit::strace::{LockAction, locks_or_skip};

#[test]
fn the_user_lock_stops_a_writer_until_it_is_released() {
    let Some(builder) = cyrus_or_skip("the_user_lock_stops_a_writer") else { return };
    let cyrus = builder.start().expect("Cyrus starts");
    cyrus.create_user("glad").expect("a user");
    let mut client = cyrus.imap_as("glad").expect("a client");
    let mut holder = LockProcess::start().expect("a lock process");
    let lock = cyrus.config_directory().join("lock/*U*glad.lock");
    assert!(lock.exists(), "{} was never used", lock.display());

    assert!(holder.try_lock(&lock, LockMode::Shared).expect("an answer"));
    client.examine("INBOX").expect("a reader is not stopped");
    let (sender, finished) = channel();
    let writer = thread::spawn(move || {
        let outcome = client.select("INBOX");
        sender.send(()).expect("the test listens");
        outcome
    });
    finished.recv_timeout(Duration::from_millis(200)).expect_err("the writer waits");
    holder.unlock(&lock).expect("an answer");
    finished.recv_timeout(Duration::from_secs(20)).expect("the writer goes on");
    writer.join().expect("no panic").expect("a mailbox");
}

#[test]
fn strace_tells_which_locks_a_program_takes() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("a.lock");
    let program = "import fcntl, sys\n\
                   f = open(sys.argv[1], 'w')\n\
                   fcntl.lockf(f, fcntl.LOCK_EX)\n\
                   fcntl.lockf(f, fcntl.LOCK_UN)\n\
                   fcntl.flock(f, fcntl.LOCK_SH)\n\
                   f.close()";
    let arguments = ["-I", "-S", "-c", program, path.to_str().expect("a plain path")];
    let Some((calls, output)) =
        locks_or_skip("strace_tells_which_locks", Path::new("/usr/bin/python3"), &arguments)
    else {
        return;
    };
    assert!(output.status.success(), "{output:?}");
    let exclusive = LockAction::Lock { mode: LockMode::Exclusive, waits: true, ofd: false };
    let actions: Vec<_> =
        calls.iter().filter(|call| call.path == path).map(|call| call.action).collect();
    assert_eq!(actions, [exclusive, LockAction::Unlock, LockAction::Flock, LockAction::Close]);
    assert!(calls.iter().all(|call| call.succeeded), "{calls:?}");
}
