//! Our locks against the POSIX locks of another process, which is what Cyrus would be.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;

use rustix::fs::{CWD, OFlags, openat};
use tempfile::TempDir;
use testkit::locks::{LockMode, LockProcess, is_waited_for};
use testkit::process::wait_until;

use super::*;
use crate::files::Links;

const PATIENCE: Duration = Duration::from_secs(60);
const WANTED: Wanted<'static> = Wanted { kind: LockKind::Index, mailbox: None };

/// Locks and unlocks without a pause until its input ends.
const STORM: &str = r#"
import fcntl, select, sys
file = open(sys.argv[1], "r+")
print("ok", flush=True)
while not select.select([sys.stdin], [], [], 0)[0]:
    fcntl.lockf(file, fcntl.LOCK_EX)
    for _ in range(20000):
        pass
    fcntl.lockf(file, fcntl.LOCK_UN)
"#;

/// A process that locks and unlocks a file all the time.
struct Writer(Child);

impl Writer {
    /// Returns when it has begun.
    fn start(path: &Path) -> Self {
        let mut command = Command::new("/usr/bin/python3");
        command.args(["-I", "-S", "-c", STORM]).arg(path);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).unwrap();
        assert_eq!(line, "ok\n");
        Self(child)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A directory with one file in it.
struct Scene {
    dir: TempDir,
    fd: std::os::fd::OwnedFd,
}

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join("cyrus.index"), b"old").expect("a file");
        let fd = openat(CWD, dir.path(), OFlags::RDONLY, rustix::fs::Mode::empty()).expect("opens");
        Self { dir, fd }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("cyrus.index")
    }

    fn place(&self) -> Place<'_> {
        Place {
            dir: self.fd.as_fd(),
            name: Path::new("cyrus.index"),
            below: self.dir.path(),
            links: Links::Refuse,
        }
    }
}

/// Returns as soon as some lock on the file is being waited for.
fn until_somebody_waits(path: &Path) {
    assert!(wait_until(PATIENCE, || is_waited_for(path).expect("Linux")));
}

#[test]
fn ours_and_theirs_exclude_each_other() {
    let scene = Scene::new();
    let mut other = LockProcess::start().expect("python3");
    let path = &scene.path();
    let mut ledger = Ledger::new(PATIENCE);
    let locked = ledger
        .lock_data_file(scene.place(), WANTED, files::room_for)
        .unwrap()
        .expect("it is there");
    assert!(!other.try_lock(path, LockMode::Exclusive).unwrap());
    assert!(!other.would_block(path, LockMode::Shared).unwrap());

    // With POSIX locks, this close would have dropped the lock.
    drop(fs::File::open(scene.path()).expect("opens"));
    assert!(!other.try_lock(path, LockMode::Exclusive).unwrap());

    drop(locked.held);
    assert!(other.try_lock(path, LockMode::Exclusive).unwrap());

    let mut impatient = Ledger::new(Duration::ZERO);
    let refused = impatient.lock_data_file(scene.place(), WANTED, files::room_for);
    assert!(matches!(refused, Err(SpoolError::LockTimeout { .. })), "{refused:?}");

    let reports = ledger.into_reports();
    assert_eq!(reports.len(), 1);
    assert_eq!((reports[0].kind, &reports[0].file), (LockKind::Index, &scene.path()));
    assert!(reports[0].held().is_some());
}

#[test]
fn a_timeout_names_the_holder() {
    let scene = Scene::new();
    let mut other = LockProcess::start().expect("python3");
    let path = &scene.path();
    assert!(other.try_lock(path, LockMode::Exclusive).unwrap());
    let mailbox = MboxName::from("user.glad");
    let wanted = Wanted { kind: LockKind::Index, mailbox: Some(&mailbox) };
    let mut ledger = Ledger::new(Duration::from_millis(20));
    let error =
        ledger.lock_data_file(scene.place(), wanted, files::room_for).expect_err("it is held");
    let SpoolError::LockTimeout { file, kind, mailbox: named, waited, holder } = &error else {
        panic!("{error:?}");
    };
    assert_eq!((file, *kind, named.as_ref()), (&scene.path(), LockKind::Index, Some(&mailbox)));
    assert!(*waited >= Duration::from_millis(20));
    let holder = holder.as_ref().expect("the kernel knows");
    assert_eq!(holder.pid, other.pid());
    assert_eq!(holder.command.as_deref(), Some("python3"));
    assert!(error.to_string().contains(&format!("process {}", holder.pid)), "{error}");
    assert!(ledger.into_reports().is_empty());
}

#[test]
fn a_lock_that_comes_too_late_is_given_back() {
    let scene = Scene::new();
    let mut first = LockProcess::start().expect("python3");
    let mut second = LockProcess::start().expect("python3");
    let path = &scene.path();
    assert!(first.try_lock(path, LockMode::Exclusive).unwrap());
    let mut impatient = Ledger::new(Duration::from_millis(1));
    assert!(impatient.lock_data_file(scene.place(), WANTED, files::room_for).is_err());
    first.unlock(path).unwrap();
    // The waiting thread may get it now, but must not keep it.
    second.wait_for(path, LockMode::Exclusive).unwrap();
    assert!(second.granted(PATIENCE).unwrap());
}

#[test]
fn a_file_replaced_during_the_wait_is_opened_again() {
    let scene = Scene::new();
    let mut other = LockProcess::start().expect("python3");
    let path = &scene.path();
    assert!(other.try_lock(path, LockMode::Exclusive).unwrap());
    let bytes = thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut ledger = Ledger::new(PATIENCE);
            let locked = ledger
                .lock_data_file(scene.place(), WANTED, files::room_for)
                .unwrap()
                .expect("there");
            let (bytes, held) = locked.read(scene.place()).unwrap();
            drop(held);
            (bytes, ledger.into_reports())
        });
        until_somebody_waits(&scene.path());
        let fresh = scene.dir.path().join("cyrus.index.NEW");
        fs::write(&fresh, b"new bytes").unwrap();
        fs::rename(&fresh, scene.path()).unwrap();
        other.unlock(path).unwrap();
        reader.join().expect("no panic")
    });
    assert_eq!(bytes.0, b"new bytes");
    assert_eq!(bytes.1.len(), 2, "the dead file's lock is reported too");
}

#[test]
fn a_file_that_grows_during_the_wait_is_read_to_its_new_end() {
    let scene = Scene::new();
    let mut other = LockProcess::start().expect("python3");
    let path = &scene.path();
    assert!(other.try_lock(path, LockMode::Exclusive).unwrap());
    let grown: Vec<u8> = (0..100_000_u32).flat_map(u32::to_be_bytes).collect();
    let bytes = thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut ledger = Ledger::new(PATIENCE);
            let locked = ledger.lock_data_file(scene.place(), WANTED, files::room_for).unwrap();
            locked.expect("there").read(scene.place()).unwrap().0
        });
        until_somebody_waits(&scene.path());
        fs::write(path, &grown).unwrap();
        other.unlock(path).unwrap();
        reader.join().expect("no panic")
    });
    assert!(bytes == grown, "{} bytes of {}", bytes.len(), grown.len());
}

#[test]
fn a_file_removed_during_the_wait_is_absent() {
    let scene = Scene::new();
    let mut other = LockProcess::start().expect("python3");
    let path = &scene.path();
    assert!(other.try_lock(path, LockMode::Exclusive).unwrap());
    let absent = thread::scope(|scope| {
        let reader = scope.spawn(|| {
            Ledger::new(PATIENCE)
                .lock_data_file(scene.place(), WANTED, files::room_for)
                .unwrap()
                .is_none()
        });
        until_somebody_waits(&scene.path());
        fs::remove_file(scene.path()).unwrap();
        other.unlock(path).unwrap();
        reader.join().expect("no panic")
    });
    assert!(absent);
}

#[test]
fn a_storm_of_writers_does_not_starve_us() {
    let scene = Scene::new();
    let _writers: Vec<Writer> = (0..3).map(|_| Writer::start(&scene.path())).collect();
    let (sender, receiver) = mpsc::channel();
    let place = scene.place();
    thread::scope(|scope| {
        scope.spawn(move || {
            for _ in 0..30 {
                let mut ledger = Ledger::new(PATIENCE);
                let locked = ledger.lock_data_file(place, WANTED, files::room_for);
                sender.send(locked.is_ok_and(|file| file.is_some())).expect("somebody counts");
            }
        });
        assert_eq!(receiver.iter().filter(|got| *got).count(), 30);
    });
}

#[test]
fn a_pipe_in_the_place_of_a_file_is_refused_at_once() {
    let scene = Scene::new();
    fs::remove_file(scene.path()).unwrap();
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(CWD, scene.path(), rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let refused = Ledger::new(PATIENCE).lock_data_file(scene.place(), WANTED, files::room_for);
    assert!(matches!(refused, Err(SpoolError::Io { .. })), "{refused:?}");
}

#[test]
fn lock_files_are_made_with_their_directories_and_left_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let locks = LockDir::new(dir.path().join("lock"), None);
    assert!(!locks.exists());
    let name = Path::new("user/glad.lock");
    assert!(locks.open(name).unwrap().born);
    assert!(locks.exists());
    let path = dir.path().join("lock/user/glad.lock");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o600, 0o600);

    fs::write(&path, b"never truncated").unwrap();
    let before = fs::metadata(&path).unwrap();
    let again = locks.open(name).unwrap();
    assert!(!again.born);
    assert_eq!(again.path, path);
    let after = fs::metadata(&path).unwrap();
    assert_eq!(after.len(), 15);
    assert_eq!(after.modified().unwrap(), before.modified().unwrap());
    assert!(locks.born().is_none_or(|born| born <= again.used().unwrap()));
}
