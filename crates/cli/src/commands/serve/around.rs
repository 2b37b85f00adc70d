//! What surrounds a server: sockets of systemd, and what the system allows.

use std::io;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;

use ::serve::{Door, Tls};
use listenfd::ListenFd;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

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
