//! The kernel calls behind every lock here: try, wait, and ask who holds it. Closing the
//! file gives it back.
//!
//! Open-file-description locks conflict with the POSIX record locks that Cyrus takes
//! (`lib/lock_fcntl.c`, Cyrus 3.6), but belong to the open file: closing another descriptor of
//! the same file does not drop them, and any thread may hold them. Always the whole file.

use std::fs::File;
use std::io;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

/// Takes the lock if nobody is in the way, and says whether it did.
pub(crate) fn try_lock(file: &File, mode: Mode) -> io::Result<bool> {
    let lock = whole_file(mode.kind());
    match retried(|| fcntl(file, FcntlArg::F_OFD_SETLK(&lock))) {
        Ok(_) => Ok(true),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// How a lock is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// With others.
    Shared,
    /// Alone; the file has to be open for writing.
    Exclusive,
}

impl Mode {
    fn kind(self) -> libc::c_int {
        match self {
            Mode::Shared => libc::F_RDLCK,
            Mode::Exclusive => libc::F_WRLCK,
        }
    }
}

/// Waits for the lock, however long that takes.
pub(super) fn wait(file: &File, mode: Mode) -> io::Result<()> {
    let lock = whole_file(mode.kind());
    retried(|| fcntl(file, FcntlArg::F_OFD_SETLKW(&lock)))?;
    Ok(())
}

/// The process that would have to let go, where the kernel knows one.
///
/// `None` if nobody is in the way any more, if the holder uses an open-file-description lock
/// (which belongs to no process), or if it lives in another pid namespace.
pub(super) fn holder_pid(file: &File) -> Option<u32> {
    let mut lock = whole_file(libc::F_RDLCK);
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut lock)).ok()?;
    if i32::from(lock.l_type) == libc::F_UNLCK {
        return None;
    }
    u32::try_from(lock.l_pid).ok().filter(|pid| *pid != 0)
}

fn whole_file(kind: libc::c_int) -> libc::flock {
    libc::flock {
        // Both constants are 0, 1 or 2.
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

/// Repeats a call that a signal interrupted.
fn retried(mut call: impl FnMut() -> nix::Result<libc::c_int>) -> nix::Result<libc::c_int> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            result => return result,
        }
    }
}
