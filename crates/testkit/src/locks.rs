//! Record locks held by another process, as Cyrus holds them.
//!
//! A process never conflicts with its own POSIX locks, so a test that asks whether a lock is
//! respected needs somebody else to hold it.

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use crate::process::Group;
use crate::skip::{Need, skip};

const PYTHON: &str = "/usr/bin/python3";
/// How long an answer may take that does not wait for a lock.
const PATIENCE: Duration = Duration::from_secs(30);

/// The other process: a line in, a line out. Each file has one descriptor, as closing any
/// descriptor would drop the locks of all.
const PROGRAM: &str = r#"
import fcntl, os, sys
os.umask(0)
held = {}
for line in sys.stdin:
    verb, path = line.split()
    path = bytes.fromhex(path)
    try:
        if path not in held:
            held[path] = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        wait = 0 if verb.isupper() else fcntl.LOCK_NB
        how = {"s": fcntl.LOCK_SH, "x": fcntl.LOCK_EX, "u": fcntl.LOCK_UN}[verb.lower()]
        fcntl.lockf(held[path], how if verb == "u" else how | wait)
        answer = "done"
    except BlockingIOError:
        answer = "busy"
    except OSError as error:
        answer = "error %d" % error.errno
    print(answer, flush=True)
"#;

/// Shared or exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockMode {
    /// `F_RDLCK`.
    Shared,
    /// `F_WRLCK`.
    Exclusive,
}

/// Whether somebody waits for a lock on that file now, as the kernel tells.
pub fn is_waited_for(path: &Path) -> io::Result<bool> {
    let inode = format!(":{} ", fs::metadata(path)?.ino());
    let locks = fs::read_to_string("/proc/locks")?;
    Ok(locks.lines().any(|line| line.contains("->") && line.contains(&inode)))
}

/// A process that takes and releases `fcntl` locks on whole files when told to. It drops them all
/// when this is dropped.
#[derive(Debug)]
pub struct LockProcess {
    // Killed before the pipe closes, so no reader is left waiting.
    group: Group,
    requests: ChildStdin,
    answers: Receiver<io::Result<String>>,
    waiting: bool,
}

impl LockProcess {
    /// Starts the process; or notes that `test` is skipped where there is no Python.
    ///
    /// # Panics
    ///
    /// Instead of skipping, if `CYLINDER_REQUIRE_TOOLS` is set.
    pub fn start_or_skip(test: &str) -> Option<Self> {
        match Self::start() {
            Ok(process) => Some(process),
            Err(error) => {
                skip(test, Need::Tools, &format!("{PYTHON} ({error})"));
                None
            }
        }
    }

    /// Starts the process.
    pub fn start() -> io::Result<Self> {
        let mut command = Command::new(PYTHON);
        command.args(["-I", "-S", "-c", PROGRAM]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut group = Group::spawn(&mut command)?;
        let no_pipe = || io::Error::other("the child has no pipe");
        let requests = group.leader().stdin.take().ok_or_else(no_pipe)?;
        let output = group.leader().stdout.take().ok_or_else(no_pipe)?;
        let (sender, answers) = channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines() {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self { group, requests, answers, waiting: false })
    }

    /// Its process id, by which the kernel names the holder of a lock.
    pub fn pid(&mut self) -> u32 {
        self.group.leader().id()
    }

    /// Takes a lock if that is possible at once; creates the file if it is not there. Returns
    /// whether it has the lock now.
    pub fn try_lock(&mut self, path: &Path, mode: LockMode) -> io::Result<bool> {
        let verb = match mode {
            LockMode::Shared => 's',
            LockMode::Exclusive => 'x',
        };
        self.send(verb, path)?;
        match self.answer(PATIENCE)?.as_str() {
            "done" => Ok(true),
            "busy" => Ok(false),
            other => Err(refusal(other)),
        }
    }

    /// Whether somebody else's lock stands against this one. Holds nothing afterwards, neither
    /// what it tried nor what it held on that file before.
    pub fn would_block(&mut self, path: &Path, mode: LockMode) -> io::Result<bool> {
        let taken = self.try_lock(path, mode)?;
        if taken {
            self.unlock(path)?;
        }
        Ok(!taken)
    }

    /// Starts to wait for a lock; [`LockProcess::granted`] tells when it has come. Nothing else
    /// can be asked meanwhile.
    pub fn wait_for(&mut self, path: &Path, mode: LockMode) -> io::Result<()> {
        let verb = match mode {
            LockMode::Shared => 'S',
            LockMode::Exclusive => 'X',
        };
        self.send(verb, path)?;
        self.waiting = true;
        Ok(())
    }

    /// Whether the lock that is waited for has come, or comes within `limit`.
    pub fn granted(&mut self, limit: Duration) -> io::Result<bool> {
        match self.answer(limit) {
            Ok(answer) if answer == "done" => {
                self.waiting = false;
                Ok(true)
            }
            Ok(other) => Err(refusal(&other)),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Releases the lock on a file.
    pub fn unlock(&mut self, path: &Path) -> io::Result<()> {
        self.send('u', path)?;
        match self.answer(PATIENCE)?.as_str() {
            "done" => Ok(()),
            other => Err(refusal(other)),
        }
    }

    fn send(&mut self, verb: char, path: &Path) -> io::Result<()> {
        if self.waiting {
            return Err(io::Error::other("the lock process is waiting for another lock"));
        }
        let hex: String = path.as_os_str().as_bytes().iter().map(|b| format!("{b:02x}")).collect();
        writeln!(self.requests, "{verb} {hex}")?;
        self.requests.flush()
    }

    fn answer(&self, limit: Duration) -> io::Result<String> {
        match self.answers.recv_timeout(limit) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => Err(io::ErrorKind::TimedOut.into()),
            Err(RecvTimeoutError::Disconnected) => {
                Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the lock process ended"))
            }
        }
    }
}

fn refusal(answer: &str) -> io::Error {
    match answer.strip_prefix("error ").and_then(|number| number.parse().ok()) {
        Some(number) => io::Error::from_raw_os_error(number),
        None => io::Error::other(format!("the lock process says {answer:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::wait_until;

    #[test]
    fn locks_of_two_processes_conflict_as_they_should() {
        let Some(mut one) = LockProcess::start_or_skip("locks_of_two_processes") else { return };
        let mut two = LockProcess::start().expect("a second process");
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("a b\nc.lock");

        assert!(one.try_lock(&path, LockMode::Shared).expect("an answer"));
        assert!(!two.would_block(&path, LockMode::Shared).expect("an answer"));
        assert!(two.would_block(&path, LockMode::Exclusive).expect("an answer"));
        two.wait_for(&path, LockMode::Exclusive).expect("a request");
        assert!(wait_until(PATIENCE, || is_waited_for(&path).expect("Linux")));
        assert!(!two.granted(Duration::from_millis(20)).expect("an answer"));
        two.try_lock(&path, LockMode::Shared).expect_err("it is waiting");
        one.unlock(&path).expect("an answer");
        assert!(two.granted(PATIENCE).expect("an answer"));
        assert!(!is_waited_for(&path).expect("Linux"));
        assert!(one.would_block(&path, LockMode::Shared).expect("an answer"));
        drop(two);
        one.wait_for(&path, LockMode::Exclusive).expect("a request");
        assert!(one.granted(PATIENCE).expect("an answer"));
    }

    #[test]
    fn a_path_that_cannot_be_opened_is_an_error() {
        let Some(mut process) = LockProcess::start_or_skip("a_path_that_cannot") else { return };
        let error = process
            .try_lock(Path::new("/nonexistent/x"), LockMode::Shared)
            .expect_err("there is no such directory");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
