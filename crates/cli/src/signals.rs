//! How a daemon is told to end, and tells how it is doing.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// SIGTERM and SIGINT, as something that can be waited for along with sockets.
pub struct Signals {
    fd: SignalFd,
}

impl Signals {
    /// Takes them from this thread, and from those that it starts.
    pub fn block() -> io::Result<Self> {
        let mask: SigSet = [Signal::SIGTERM, Signal::SIGINT].into_iter().collect();
        mask.thread_block()?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        Ok(Self { fd: SignalFd::with_flags(&mask, flags)? })
    }

    /// Waits for one, for a while at most; whether there is one.
    pub fn wait(&self, limit: Duration) -> io::Result<bool> {
        let mut polled = [PollFd::new(&self.fd, PollFlags::IN)];
        let limit = Timespec::try_from(limit).map_err(io::Error::other)?;
        match poll(&mut polled, Some(&limit)) {
            Ok(ready) => Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes one that has come, so that the next one can be told from it.
    pub fn forget(&self) {
        // Without one, there is nothing to be forgotten.
        let _ = self.fd.read_signal();
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Where systemd hears how a service is doing (sd_notify(3)), if it listens.
pub struct Notify {
    socket: Option<(UnixDatagram, SocketAddr)>,
}

impl Notify {
    /// Where the environment says.
    pub fn from_env() -> Self {
        Self { socket: std::env::var_os("NOTIFY_SOCKET").and_then(open) }
    }

    /// Says a line, as `READY=1`.
    pub fn say(&self, line: &str) {
        if let Some((socket, address)) = &self.socket {
            // A service manager that does not hear it notices by itself.
            let _ = socket.send_to_addr(line.as_bytes(), address);
        }
    }
}

fn open(name: OsString) -> Option<(UnixDatagram, SocketAddr)> {
    let address = match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&name),
    };
    Some((UnixDatagram::unbound().ok()?, address.ok()?))
}
