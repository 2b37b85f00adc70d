//! Which locks a program takes, in which order: watched from outside.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use crate::locks::LockMode;
use crate::process;
use crate::skip::{Need, skip};

const STRACE: &str = "/usr/bin/strace";
const LIMIT: Duration = Duration::from_secs(120);

/// One call that concerns locks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockCall {
    /// The process or thread that made it.
    pub pid: u32,
    /// What it asked for.
    pub action: LockAction,
    /// The file, as the kernel names it.
    pub path: PathBuf,
    /// Whether it succeeded.
    pub succeeded: bool,
}

/// What a call asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockAction {
    /// A record lock.
    Lock {
        /// Shared or exclusive.
        mode: LockMode,
        /// Whether the call waits.
        waits: bool,
        /// Whether the lock belongs to the open file description, not to the process.
        ofd: bool,
    },
    /// The end of a record lock.
    Unlock,
    /// `flock`, which Cyrus never sees.
    Flock,
    /// The close of a descriptor of a file that was locked before: it ends what locks there are.
    Close,
}

/// Runs a command to its end under strace and returns the calls in order of their beginning, and
/// what the command wrote; or notes that `test` is skipped, and returns `None`, where there is no
/// strace or it may not trace.
///
/// # Panics
///
/// Instead of skipping, if `CYLINDER_REQUIRE_TOOLS` is set.
pub fn locks_or_skip(
    test: &str,
    program: &Path,
    arguments: &[&str],
) -> Option<(Vec<LockCall>, Output)> {
    match locks(program, arguments) {
        Ok(watched) => Some(watched),
        Err(error) => {
            skip(test, Need::Tools, &format!("{STRACE} ({error})"));
            None
        }
    }
}

fn locks(program: &Path, arguments: &[&str]) -> io::Result<(Vec<LockCall>, Output)> {
    let directory = tempfile::tempdir()?;
    let log = directory.path().join("strace");
    let mut command = Command::new(STRACE);
    command.args(["-f", "-qq", "-y", "-e", "trace=fcntl,flock,close", "-e", "signal=none", "-o"]);
    command.arg(&log).arg("--").arg(program).args(arguments);
    let output = process::run(&mut command, b"", LIMIT)?;
    let text = fs::read(&log)?;
    if text.is_empty() {
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(io::Error::other(message));
    }
    Ok((parse(&String::from_utf8_lossy(&text)), output))
}

/// Reads the lines of strace. A call that another one interrupted comes in two lines.
fn parse(log: &str) -> Vec<LockCall> {
    let mut calls: Vec<LockCall> = Vec::new();
    let mut unfinished: BTreeMap<u32, Option<usize>> = BTreeMap::new();
    for line in log.lines() {
        let Some((pid, call)) = line.split_once(' ') else { continue };
        let Ok(pid) = pid.parse() else { continue };
        let call = call.trim_start();
        if call.starts_with("<... ") {
            if let Some(at) = unfinished.remove(&pid).flatten() {
                calls[at].succeeded = returned_zero(call);
            }
            continue;
        }
        let parsed = parse_call(pid, call).filter(|new| {
            new.action != LockAction::Close || calls.iter().any(|old| old.path == new.path)
        });
        let is_recorded = parsed.is_some();
        calls.extend(parsed);
        if call.ends_with("<unfinished ...>") {
            unfinished.insert(pid, is_recorded.then(|| calls.len() - 1));
        }
    }
    calls
}

/// Reads `NAME(FD<PATH>, …) = RESULT`.
fn parse_call(pid: u32, call: &str) -> Option<LockCall> {
    let (name, rest) = call.split_once('(')?;
    let (_, rest) = rest.split_once('<')?;
    let (path, rest) = path_and_rest(rest)?;
    let action = match name {
        "close" => LockAction::Close,
        "flock" => LockAction::Flock,
        "fcntl" => lock_action(rest)?,
        _ => return None,
    };
    Some(LockCall { pid, action, path, succeeded: returned_zero(call) })
}

fn lock_action(arguments: &str) -> Option<LockAction> {
    let command = arguments.trim_start_matches([',', ' ']).split(',').next()?;
    let (waits, ofd) = match command {
        "F_SETLK" => (false, false),
        "F_SETLKW" => (true, false),
        "F_OFD_SETLK" => (false, true),
        "F_OFD_SETLKW" => (true, true),
        _ => return None,
    };
    let (_, kind) = arguments.split_once("l_type=")?;
    match kind.split(',').next()? {
        "F_RDLCK" => Some(LockAction::Lock { mode: LockMode::Shared, waits, ofd }),
        "F_WRLCK" => Some(LockAction::Lock { mode: LockMode::Exclusive, waits, ofd }),
        "F_UNLCK" => Some(LockAction::Unlock),
        _ => None,
    }
}

fn returned_zero(call: &str) -> bool {
    call.rsplit_once(" = ").is_some_and(|(_, result)| result.split(' ').next() == Some("0"))
}

/// The path up to `>` with the escapes of C undone, and what follows.
fn path_and_rest(text: &str) -> Option<(PathBuf, &str)> {
    let mut path = Vec::new();
    let mut rest = text.as_bytes();
    loop {
        match rest {
            [b'>', ..] => break,
            [b'\\', tail @ ..] => {
                let (byte, used) = escape(tail)?;
                path.push(byte);
                rest = &tail[used..];
            }
            [byte, tail @ ..] => {
                path.push(*byte);
                rest = tail;
            }
            [] => return None,
        }
    }
    let used = text.len() - rest.len();
    Some((PathBuf::from(OsString::from_vec(path)), &text[used + 1..]))
}

/// The byte that an escape behind its backslash means, and its length.
fn escape(text: &[u8]) -> Option<(u8, usize)> {
    let octal = text.iter().take(3).take_while(|byte| (b'0'..=b'7').contains(byte)).count();
    if octal > 0 {
        let value =
            text[..octal].iter().fold(0_u32, |sum, digit| sum * 8 + u32::from(digit - b'0'));
        return Some((u8::try_from(value).ok()?, octal));
    }
    let byte = match text.first()? {
        b'n' => b'\n',
        b't' => b'\t',
        b'r' => b'\r',
        b'v' => 0x0b,
        b'f' => 0x0c,
        other => *other,
    };
    Some((byte, 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_strace_become_calls() {
        let log = r#"7 fcntl(5</c/lock/*U*glad.lock>, F_OFD_SETLKW, {l_type=F_RDLCK, l_whence=SEEK_SET, l_start=0, l_len=0}) = 0
7 fcntl(6</c/a\76\\b\351>, F_SETLK, {l_type=F_WRLCK, l_whence=SEEK_SET, l_start=0, l_len=0}) = -1 EAGAIN (Resource temporarily unavailable)
8 fcntl(6</c/x>, F_GETFD) = 0x1 (flags FD_CLOEXEC)
7 fcntl(6</c/x>, F_SETLKW, {l_type=F_UNLCK, l_whence=SEEK_SET, l_start=0, l_len=0} <unfinished ...>
8 close(9</c/unrelated>) = 0
7 <... fcntl resumed>) = 0
7 close(5</c/lock/*U*glad.lock>) = 0
"#;
        let read = LockAction::Lock { mode: LockMode::Shared, waits: true, ofd: true };
        let write = LockAction::Lock { mode: LockMode::Exclusive, waits: false, ofd: false };
        let seen: Vec<_> = parse(log)
            .into_iter()
            .map(|call| (call.action, call.path.into_os_string().into_vec(), call.succeeded))
            .collect();
        let expected = vec![
            (read, b"/c/lock/*U*glad.lock".to_vec(), true),
            (write, b"/c/a>\\b\xe9".to_vec(), false),
            (LockAction::Unlock, b"/c/x".to_vec(), true),
            (LockAction::Close, b"/c/lock/*U*glad.lock".to_vec(), true),
        ];
        assert_eq!(seen, expected);
    }
}
