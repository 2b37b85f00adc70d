//! The program under test, run to its end, and what it may say on the way.

use std::ffi::OsStr;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use testkit::process;

/// Path of the binary.
pub const CYLINDER: &str = env!("CARGO_BIN_EXE_cylinder");

/// How long a run may take, on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(120);

/// How a run ended.
#[derive(Debug)]
pub struct Ran {
    /// Its exit code.
    pub code: i32,
    /// What it wrote to standard output.
    pub stdout: Vec<u8>,
    /// What it wrote to standard error.
    pub stderr: String,
}

/// Runs the program with these arguments.
pub fn cylinder<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Ran {
    run(Command::new(CYLINDER).args(arguments))
}

/// Runs the program with no more address space than that. Threads and mapped libraries count, so
/// some 100 MB are gone before anything is read.
pub fn cylinder_within<A: AsRef<OsStr>>(kib: u64, arguments: impl IntoIterator<Item = A>) -> Ran {
    let script = format!("ulimit -v {kib} && exec \"$0\" \"$@\"");
    run(Command::new("/bin/sh").args(["-c", &script, CYLINDER]).args(arguments))
}

/// Runs a command that ends with an exit code.
pub fn run(command: &mut Command) -> Ran {
    let output = process::run(command, b"", PATIENCE).expect("the program runs to its end");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let Some(code) = output.status.code() else { panic!("a signal ended it: {stderr}") };
    assert!(!stderr.contains("panicked"), "{stderr}");
    Ran { code, stdout: output.stdout, stderr }
}

impl Ran {
    /// The same run, if it ended with this code.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}", self.stderr);
        self
    }

    /// What it wrote to standard output, as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// The JSON document on standard output.
    #[track_caller]
    pub fn document(&self) -> Value {
        serde_json::from_slice(&self.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// The JSON document on standard error.
    #[track_caller]
    pub fn report(&self) -> Value {
        serde_json::from_str(&self.stderr)
            .unwrap_or_else(|error| panic!("{error}: {}", self.stderr))
    }

    /// The one line that says what went wrong; nothing else may be there but hints.
    #[track_caller]
    pub fn error(&self) -> &str {
        let mut lines = self.stderr.lines().filter(|line| !line.starts_with("hint: "));
        let error = lines.next().and_then(|line| line.strip_prefix("cylinder: "));
        let error = error.unwrap_or_else(|| panic!("no error: {}", self.stderr));
        assert_eq!(lines.next(), None, "{}", self.stderr);
        assert!(!error.contains("os error 0"), "{error}");
        error
    }

    /// Whether a hint with these words is given.
    pub fn hints(&self, words: &str) -> bool {
        self.stderr.lines().any(|line| line.starts_with("hint: ") && line.contains(words))
    }
}
