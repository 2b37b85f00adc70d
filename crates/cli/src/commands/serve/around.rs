//! What surrounds a server: signals, systemd, and what the system allows.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;

use ::serve::{Door, Tls};
use listenfd::ListenFd;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

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

/// The sockets that systemd opened for this process (sd_listen_fds(3)). One that is named `tls`
/// begins with TLS.
pub fn activated() -> io::Result<Vec<Door>> {
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let names: Vec<&str> = names.split(':').collect();
    let mut sockets = ListenFd::from_env();
    let mut doors = Vec::new();
    for at in 0..sockets.len() {
        if let Some(listener) = sockets.take_tcp_listener(at)? {
            let secret = names.get(at).is_some_and(|name| *name == "tls");
            let tls = if secret { Tls::AtOnce } else { Tls::IfAsked };
            doors.push(Door { listener, tls });
        }
    }
    Ok(doors)
}

/// Asks for as many open files as are allowed: each connection is one, and a default of 1024 goes
/// back to programs that can count no further.
pub fn allow_descriptors() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // Where it is refused, fewer connections can be taken.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

/// Whose a file is, if it is there.
pub fn owner(path: &Path) -> io::Result<Option<(u32, u32)>> {
    match path.metadata() {
        Ok(found) => Ok(Some((found.uid(), found.gid()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Gives a file back to whom it belonged before it was replaced.
pub fn give(path: &Path, owner: Option<(u32, u32)>) -> io::Result<()> {
    match owner {
        Some(owner) if self::owner(path)? != Some(owner) => {
            chown(path, Some(owner.0), Some(owner.1))
        }
        _ => Ok(()),
    }
}
