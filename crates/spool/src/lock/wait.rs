//! Waiting for a lock, but not for ever.

use std::fs::{self, File};
use std::io;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use super::Holder;
use super::ofd::{self, Mode};

/// Stack of a thread that does nothing but wait in one system call.
const WAITER_STACK: usize = 64 * 1024;

/// Why a lock was not obtained.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Somebody held it all the time.
    Timeout { waited: Duration, holder: Option<Holder> },
    /// The kernel refused.
    Io(io::Error),
}

/// Takes a lock on the whole file, waiting at most `timeout`, and gives the locked file
/// back with the time that it took.
///
/// The wait happens inside the kernel, in a thread of its own: whoever polls under a storm of
/// writers may never find the lock free, while a sleeper is woken at each release. If it is
/// woken too late, the thread drops the file and thereby the lock.
pub(crate) fn lock(file: File, mode: Mode, timeout: Duration) -> Result<(File, Duration), Failure> {
    let start = Instant::now();
    if ofd::try_lock(&file, mode).map_err(Failure::Io)? {
        return Ok((file, start.elapsed()));
    }
    if timeout.is_zero() {
        return Err(Failure::Timeout { waited: start.elapsed(), holder: holder(&file) });
    }
    // Shares the open file, so that asking for the holder never asks about ourselves.
    let witness = file.try_clone().map_err(Failure::Io)?;
    let (sender, receiver) = mpsc::channel();
    thread::Builder::new()
        .name("lock-wait".to_owned())
        .stack_size(WAITER_STACK)
        .spawn(move || {
            let result = ofd::wait(&file, mode).map(|()| file);
            // Nobody listens any more after a timeout; the file goes down with the message.
            drop(sender.send(result));
        })
        .map_err(Failure::Io)?;
    match receiver.recv_timeout(timeout) {
        Ok(Ok(file)) => Ok((file, start.elapsed())),
        Ok(Err(error)) => Err(Failure::Io(error)),
        Err(RecvTimeoutError::Timeout) => {
            Err(Failure::Timeout { waited: start.elapsed(), holder: holder(&witness) })
        }
        Err(RecvTimeoutError::Disconnected) => {
            Err(Failure::Io(io::Error::other("the waiting thread ended without an answer")))
        }
    }
}

fn holder(file: &File) -> Option<Holder> {
    let pid = ofd::holder_pid(file)?;
    let command = fs::read(format!("/proc/{pid}/comm"))
        .ok()
        .map(|name| String::from_utf8_lossy(name.trim_ascii_end()).into_owned());
    Some(Holder { pid, command })
}
