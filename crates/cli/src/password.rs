//! A password from standard input, which a terminal does not show.

use std::io::{self, BufRead, IsTerminal, Read, Write};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

/// More than any password has, its line end included.
const LINE_BYTES: u64 = 4096;

/// Reads the first line.
pub fn read(name: &str) -> io::Result<Vec<u8>> {
    let stdin = io::stdin();
    let _silence = if stdin.is_terminal() {
        write!(io::stderr(), "password of {name}: ")?;
        Some(Silence::begin()?)
    } else {
        None
    };
    let mut line = Vec::new();
    stdin.lock().take(LINE_BYTES).read_until(b'\n', &mut line)?;
    if line.ends_with(b"\n") {
        line.pop();
    }
    if line.ends_with(b"\r") {
        line.pop();
    }
    Ok(line)
}

/// The terminal shows nothing of what is typed, until this is dropped.
struct Silence {
    before: Termios,
}

impl Silence {
    fn begin() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Now, &silent)?;
        Ok(Self { before })
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        // A terminal that went away needs nothing.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
        let _ = writeln!(io::stderr());
    }
}
