//! A password from standard input, which a terminal does not show, or from a file that nobody else can
//! read.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

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
    first_line(stdin.lock())
}

/// Reads the first line of a file.
pub fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    if file.metadata()?.mode() & 0o077 != 0 {
        let why = "others can read it, or write to it";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    }
    first_line(BufReader::new(file))
}

fn first_line(input: impl BufRead) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    input.take(LINE_BYTES).read_until(b'\n', &mut line)?;
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
