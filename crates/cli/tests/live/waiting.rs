//! Processes that wait for locks, and programs that are still running.

use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use testkit::process::{Group, wait_until};

use crate::program::{PATIENCE, Ran};

/// Long enough that something that is not stopped by a lock would have happened.
pub const A_WHILE: Duration = Duration::from_millis(300);

/// Whether anybody waits for a record lock on this file just now (proc_locks(5)).
fn is_waited_for(path: &Path) -> bool {
    let inode = format!(":{} ", fs::metadata(path).expect("a file").ino());
    let locks = fs::read_to_string("/proc/locks").expect("Linux");
    locks.lines().any(|line| line.contains("->") && line.contains(&inode))
}

/// Returns as soon as somebody waits for a lock on this file.
#[track_caller]
pub fn until_waited_for(path: &Path) {
    assert!(wait_until(PATIENCE, || is_waited_for(path)), "nobody waits for {}", path.display());
}

/// A program that was started and not waited for yet.
#[derive(Debug)]
pub struct Running(Group);

impl Running {
    /// Starts it; it finds nothing on its standard input.
    pub fn start(command: &mut Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self(Group::spawn(command).expect("it starts"))
    }

    /// Whether it has not ended yet.
    pub fn is_running(&mut self) -> bool {
        self.0.is_running()
    }

    /// The first bytes of what it writes; it may go on only as far as the pipe holds.
    pub fn read_first(&mut self) -> [u8; 1] {
        let mut first = [0];
        let stdout = self.0.leader().stdout.as_mut().expect("a pipe");
        stdout.read_exact(&mut first).expect("it writes something");
        first
    }

    /// Reads the rest of what it writes, and waits for its end.
    pub fn end(mut self) -> Ran {
        let leader = self.0.leader();
        let (mut stdout, mut stderr) = (Vec::new(), String::new());
        let out = leader.stdout.as_mut().expect("a pipe");
        out.read_to_end(&mut stdout).expect("it closes its output");
        let err = leader.stderr.as_mut().expect("a pipe");
        err.read_to_string(&mut stderr).expect("it writes text");
        let status = leader.wait().expect("it ends");
        Ran { code: status.code().unwrap_or(-1), stdout, stderr }
    }

    /// Kills it, and waits until it is gone.
    pub fn kill(mut self) {
        self.0.kill();
    }
}
