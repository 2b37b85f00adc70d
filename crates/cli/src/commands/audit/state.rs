//! What audits remember: when each account was looked at last, and whether the last run came to its end.
//!
//! `audits.jsonl` grows by a line for each account that was looked at, and is written anew when most of
//! it is old. A line that a kill has cut off is none: its account is looked at once more. `lock` keeps
//! a second audit from the same directory.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use engine::audit::Depth;
use model::Userid;
use segment::names::{quote, unquote};
use serde_json::{Value, json};

use super::choice::{Begun, History};
use crate::error::{CliError, Exit};
use crate::output::Output;

/// How much may be lost in a power cut: what was looked at since is looked at once more.
const SYNC: Duration = Duration::from_secs(1);

/// So many lines are never too many.
const LINES_MIN: usize = 1000;

/// A directory that is ours while this lives.
pub struct State {
    path: PathBuf,
    file: File,
    history: History,
    synced: Instant,
    _lock: File,
}

impl State {
    /// Opens it, or makes it.
    pub fn open(directory: &Path) -> Result<Self, CliError> {
        let path = directory.join("audits.jsonl");
        let failed = |error| {
            CliError::failed(format!("cannot use {}", path.display()), error)
                .hint("--state names a directory that can be written to")
        };
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
        let lock = OpenOptions::new().create(true).append(true).open(directory.join("lock"));
        let lock = lock.map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let busy = format!("another audit uses {}", directory.display());
                let hint = "wait for it, or name another directory with --state";
                return Err(CliError::plain(busy).hint(hint).exit(Exit::TryAgain));
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            read => read.map_err(failed)?,
        };
        let (history, lines) = read(&bytes);
        let is_torn = !bytes.is_empty() && !bytes.ends_with(b"\n");
        if is_torn || lines > LINES_MIN.max(2 * history.last.len()) {
            let mut output = Output::open(Some(&path))?;
            let written = output.write_all(&write(&history)).and_then(|()| output.finish());
            written.map_err(failed)?;
        }
        let file = OpenOptions::new().create(true).append(true).open(&path).map_err(failed)?;
        Ok(Self { path, file, history, synced: Instant::now(), _lock: lock })
    }

    /// What was there when it was opened.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// An audit of so many accounts begins.
    pub fn begin(&mut self, depth: Depth, accounts: usize, now: i64) -> Result<(), CliError> {
        self.append(&begun_line(depth, Begun { at: now, accounts, is_over: false }))?;
        self.sync()
    }

    /// An account was looked at, with so many findings.
    pub fn note(
        &mut self,
        userid: &Userid,
        depth: Depth,
        now: i64,
        findings: usize,
    ) -> Result<(), CliError> {
        let account = quote(userid.as_bytes());
        let line =
            json!({ "account": account, "depth": word(depth), "at": now, "findings": findings });
        self.append(&line)?;
        if self.synced.elapsed() >= SYNC { self.sync() } else { Ok(()) }
    }

    /// The audit stops, or comes to its end at that moment.
    pub fn finish(mut self, over: Option<(Depth, i64)>) -> Result<(), CliError> {
        if let Some((depth, at)) = over {
            self.append(&json!({ "ended": word(depth), "at": at }))?;
        }
        self.sync()
    }

    fn append(&mut self, line: &Value) -> Result<(), CliError> {
        // One call, so that a kill leaves all of it or none.
        let written = self.file.write_all(format!("{line}\n").as_bytes());
        written.map_err(|error| self.failed(error))
    }

    fn sync(&mut self) -> Result<(), CliError> {
        self.synced = Instant::now();
        self.file.sync_data().map_err(|error| self.failed(error))
    }

    fn failed(&self, error: io::Error) -> CliError {
        CliError::failed(format!("cannot write {}", self.path.display()), error)
            .hint("what was looked at since is looked at once more the next time")
    }
}

fn word(depth: Depth) -> &'static str {
    match depth {
        Depth::Quick => "quick",
        Depth::Full => "full",
    }
}

fn depth_of(word: &Value) -> Option<Depth> {
    [Depth::Quick, Depth::Full].into_iter().find(|depth| word == self::word(*depth))
}

fn begun_line(depth: Depth, begun: Begun) -> Value {
    json!({ "begun": word(depth), "at": begun.at, "accounts": begun.accounts })
}

/// Reads all lines that make sense, and counts them.
fn read(bytes: &[u8]) -> (History, usize) {
    let (mut history, mut lines) = (History::default(), 0);
    for line in bytes.split(|byte| *byte == b'\n') {
        let Ok(line) = serde_json::from_slice::<Value>(line) else { continue };
        lines += usize::from(take(&mut history, &line).is_some());
    }
    (history, lines)
}

fn take(history: &mut History, line: &Value) -> Option<()> {
    let at = line["at"].as_i64()?;
    if let Some(account) = line["account"].as_str() {
        let depth = depth_of(&line["depth"])?;
        let last = history.last.entry(Userid::new(unquote(account)?)).or_default();
        match depth {
            Depth::Quick => last.quick = last.quick.max(Some(at)),
            Depth::Full => last.full = last.full.max(Some(at)),
        }
    } else if let Some(depth) = depth_of(&line["begun"]) {
        let accounts = usize::try_from(line["accounts"].as_u64()?).ok()?;
        *begun_of(history, depth) = Some(Begun { at, accounts, is_over: false });
    } else {
        begun_of(history, depth_of(&line["ended"])?).as_mut()?.is_over = true;
    }
    Some(())
}

fn begun_of(history: &mut History, depth: Depth) -> &mut Option<Begun> {
    match depth {
        Depth::Quick => &mut history.quick,
        Depth::Full => &mut history.full,
    }
}

/// The file that says the same in as few lines as can be.
fn write(history: &History) -> Vec<u8> {
    let mut lines = Vec::new();
    for (userid, last) in &history.last {
        for (depth, at) in [(Depth::Quick, last.quick), (Depth::Full, last.full)] {
            let account = quote(userid.as_bytes());
            let line = |at: i64| json!({ "account": account, "depth": word(depth), "at": at });
            lines.extend(at.map(line));
        }
    }
    for depth in [Depth::Quick, Depth::Full] {
        let Some(begun) = history.begun(depth) else { continue };
        lines.push(begun_line(depth, begun));
        if begun.is_over {
            lines.push(json!({ "ended": word(depth), "at": begun.at }));
        }
    }
    lines.iter().flat_map(|line| format!("{line}\n").into_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::choice::Last;
    use super::*;

    fn fill(directory: &Path) -> History {
        let mut state = State::open(directory).expect("opened");
        state.begin(Depth::Full, 2, 10).expect("written");
        state.note(&Userid::from("glad"), Depth::Full, 11, 0).expect("written");
        state.note(&Userid::new(b"a\xff\nb".as_slice()), Depth::Quick, 12, 3).expect("written");
        state.note(&Userid::from("glad"), Depth::Quick, 13, 0).expect("written");
        state.finish(Some((Depth::Full, 14))).expect("written");
        let last = |quick, full| Last { quick, full };
        let both = [
            (Userid::from("glad"), last(Some(13), Some(11))),
            (Userid::new(b"a\xff\nb".as_slice()), last(Some(12), None)),
        ];
        let full = Some(Begun { at: 10, accounts: 2, is_over: true });
        History { last: both.into(), quick: None, full }
    }

    #[test]
    fn what_was_noted_is_known_when_it_is_opened_again() {
        let directory = tempfile::tempdir().expect("a directory");
        let expected = fill(directory.path());
        let state = State::open(directory.path()).expect("opened");
        assert_eq!(*state.history(), expected);
        assert_eq!(read(&write(&expected)).0, expected);
        let busy = State::open(directory.path()).err().expect("one at a time");
        assert_eq!(busy.exit_code(), Exit::TryAgain);
    }

    #[test]
    fn whatever_a_kill_leaves_is_read_and_goes_on() {
        let directory = tempfile::tempdir().expect("a directory");
        fill(directory.path());
        let path = directory.path().join("audits.jsonl");
        let whole = fs::read(&path).expect("it is there");
        for cut in 0..=whole.len() {
            fs::write(&path, &whole[..cut]).expect("cut");
            let mut state = State::open(directory.path()).expect("opened");
            let before = state.history().clone();
            let kept = whole[..cut].split_inclusive(|byte| *byte == b'\n');
            let lines: Vec<u8> =
                kept.filter(|line| line.ends_with(b"\n")).flatten().copied().collect();
            // A line whose end of line alone is missing is as good as whole.
            let is_known = [read(&lines).0, read(&whole[..cut]).0].contains(&before);
            assert!(is_known, "{cut}");
            state.note(&Userid::from("iris"), Depth::Full, 20, 0).expect("written");
            drop(state);
            let state = State::open(directory.path()).expect("opened");
            let mut expected = before;
            expected.last.insert(Userid::from("iris"), Last { quick: None, full: Some(20) });
            assert_eq!(*state.history(), expected, "{cut}");
        }
    }

    #[test]
    fn the_file_does_not_grow_for_ever() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("audits.jsonl");
        let line = "{\"account\":\"glad\",\"depth\":\"full\",\"at\":7}\n";
        fs::write(&path, line.repeat(LINES_MIN + 1)).expect("written");
        drop(State::open(directory.path()).expect("opened"));
        let size = fs::metadata(&path).expect("it is there").len();
        assert!(size <= line.len() as u64, "{size}");
    }
}
