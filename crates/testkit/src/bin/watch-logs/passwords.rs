//! Who knows the passwords: what Cyrus asks in place of saslauthd.

use std::fs::{self, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;

/// Everybody's password.
pub const RIGHT: &str = "any";

/// Answers for as long as the program runs, unless its socket is taken away.
pub struct Passwords {
    path: PathBuf,
}

impl Passwords {
    /// Listens at that path.
    pub fn listen(path: &Path) -> io::Result<Self> {
        let listener = UnixListener::bind(path)?;
        fs::set_permissions(path, Permissions::from_mode(0o666))?;
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // Who asks nothing sensible gets no answer.
                let _ = answer(stream);
            }
        });
        Ok(Self { path: path.to_owned() })
    }

    /// Nobody answers meanwhile.
    pub fn without(&self, act: impl FnOnce()) -> io::Result<()> {
        let aside = self.path.with_extension("aside");
        fs::rename(&self.path, &aside)?;
        act();
        fs::rename(&aside, &self.path)
    }
}

/// A user, a password, a service and a realm, each behind its length in two bytes; so is the answer
/// (Cyrus SASL: saslauthd/ipc_unix.c).
fn answer(mut stream: UnixStream) -> io::Result<()> {
    let mut asked = Vec::new();
    for _ in 0..4 {
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        let mut text = vec![0; u16::from_be_bytes(length).into()];
        stream.read_exact(&mut text)?;
        asked.push(text);
    }
    let is_right = asked[1] == RIGHT.as_bytes();
    stream.write_all(if is_right { b"\0\x02OK" } else { b"\0\x02NO" })
}
