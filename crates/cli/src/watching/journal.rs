//! systemd's journal, read through `journalctl`, which knows its files and who may read them.
//!
//! What has come since the last run is read to its end first, by a `journalctl` that ends; only then one
//! is started that follows. So it is known when all has been read, and nothing seems to be missing that
//! is merely on its way. Either goes on behind the cursor of the last entry that was taken.

use std::io::{self, Read, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::str::FromStr;
use std::time::{Duration, Instant};

use logwatch::line::{Entry, Line};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::utc_offset;
use crate::render::plain;

/// Which entries are wanted: what is typed behind `--journal=`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matches(Vec<String>);

/// Follows the journal.
pub struct Journal {
    matches: Matches,
    cursor: Option<String>,
    run: Option<Run>,
    /// How often `journalctl` has ended since the last entry.
    failures: u32,
    /// It is not started again before.
    retry: Instant,
}

/// A `journalctl` at work.
struct Run {
    child: Child,
    stdout: ChildStdout,
    follows: bool,
    /// What was read of an entry without an end; no more than [`ENTRY_BYTES_MAX`] of it.
    rest: Vec<u8>,
}

/// The fields that are looked at. Others may be large, and are whatever a program likes.
const FIELDS: &str = "--output-fields=MESSAGE,SYSLOG_IDENTIFIER,SYSLOG_PID,_PID,_HOSTNAME";

/// A journal that nothing is known of is read from here on.
const SINCE: &str = "--since=-1d";

/// An entry is read no further than this. The longest message that a socket of syslog takes, some
/// 200 kB, has a tenth of room left even as a list of bytes.
const ENTRY_BYTES_MAX: usize = 1 << 20;

/// So many bytes are read at a time.
const PIECE: usize = 64 << 10;

/// So long is waited for more of what came since the last run.
const CATCH_UP: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

/// The longest pause before `journalctl` is started again, in seconds.
const PAUSE_MAX: u64 = 60;

impl FromStr for Matches {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words: Vec<String> = text.split_whitespace().map(String::from).collect();
        let is_match = |word: &String| {
            let (field, _) = word.split_once('=').unwrap_or_default();
            word == "+" || (!field.is_empty() && !field.starts_with('-'))
        };
        match !words.is_empty() && words.iter().all(is_match) {
            true => Ok(Self(words)),
            false => Err("it is FIELD=VALUE, as journalctl takes it".into()),
        }
    }
}

impl Journal {
    /// Goes on behind a cursor, or from a day ago.
    ///
    /// # Errors
    ///
    /// If there is no `journalctl`.
    pub fn start(matches: &Matches, cursor: Option<String>) -> io::Result<Self> {
        let run = Run::start(matches, cursor.as_deref(), false)?;
        let matches = matches.clone();
        Ok(Self { matches, cursor, run: Some(run), failures: 0, retry: Instant::now() })
    }

    /// Gives the entries that have come, as far as one piece goes; whether there may be more.
    ///
    /// # Errors
    ///
    /// If the pipe cannot be read. A `journalctl` that has ended is started again, and said.
    pub fn read(&mut self, take: &mut dyn FnMut(&Line<'_>)) -> io::Result<bool> {
        let Some(run) = &mut self.run else { return Ok(self.start_again()) };
        if !run.is_ready()? {
            return Ok(!run.follows);
        }
        let mut piece = vec![0; PIECE];
        let length = run.stdout.read(&mut piece)?;
        if length == 0 {
            return Ok(self.end());
        }
        let (cursor, failures) = (&mut self.cursor, &mut self.failures);
        run.cut(&piece[..length], &mut |json| match Entry::parse(json, utc_offset()) {
            Ok(entry) => {
                *failures = 0;
                take(&entry.line());
                if !entry.cursor.is_empty() {
                    *cursor = Some(entry.cursor);
                }
            }
            // What nobody understands deserves a look, too.
            Err(_) => take(&Line { time: None, host: b"", process: b"", pid: None, message: json }),
        });
        Ok(true)
    }

    /// The cursor of the last entry that was given: what is to be kept.
    pub fn cursor(&self) -> Option<&str> {
        self.cursor.as_deref()
    }

    /// It has ended. If it was to end, another one follows; whether it is at work already.
    fn end(&mut self) -> bool {
        let Some(mut run) = self.run.take() else { return false };
        let status = run.child.wait();
        if !run.follows && status.as_ref().is_ok_and(|status| status.success()) {
            return self.launch(true);
        }
        let how = match status {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        self.fail(&how);
        false
    }

    fn start_again(&mut self) -> bool {
        Instant::now() >= self.retry && self.launch(false)
    }

    fn launch(&mut self, follows: bool) -> bool {
        match Run::start(&self.matches, self.cursor.as_deref(), follows) {
            Ok(run) => self.run = Some(run),
            Err(error) => self.fail(&error.to_string()),
        }
        self.run.is_some()
    }

    /// The first time, it is started again at once, and it is said; then ever later.
    fn fail(&mut self, how: &str) {
        if self.failures == 0 {
            let text = plain(&format!("cylinder: journalctl has ended ({how}); starting it again"));
            // Nobody is left to be told when standard error itself is gone.
            let _ = io::stderr().write_all(format!("{text}\n").as_bytes());
        }
        let pause = if self.failures == 0 { 0 } else { 1 << (self.failures - 1).min(6) };
        self.retry = Instant::now() + Duration::from_secs(pause.min(PAUSE_MAX));
        self.failures += 1;
    }
}

impl Run {
    fn start(matches: &Matches, cursor: Option<&str>, follows: bool) -> io::Result<Self> {
        let mut command = Command::new("journalctl");
        // Without --all, a field of more than 4096 bytes is left out; without --no-tail, all but ten
        // entries are.
        command.args(["--output=json", "--all", "--quiet", "--no-pager", "--no-tail", FIELDS]);
        command.arg(cursor.map_or(SINCE.to_owned(), |cursor| format!("--after-cursor={cursor}")));
        if follows {
            command.arg("--follow");
        }
        command.args(&matches.0).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let stdout =
            child.stdout.take().ok_or_else(|| io::Error::other("a child without a pipe"))?;
        Ok(Self { child, stdout, follows, rest: Vec::new() })
    }

    /// Whether a read does not wait. What is to end is waited for, shortly.
    fn is_ready(&self) -> io::Result<bool> {
        let mut polled = [PollFd::new(&self.stdout, PollFlags::IN)];
        let limit = if self.follows { Timespec::default() } else { CATCH_UP };
        match poll(&mut polled, Some(&limit)) {
            Ok(ready) => Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Gives what ends in this piece, and keeps the rest.
    fn cut(&mut self, piece: &[u8], give: &mut dyn FnMut(&[u8])) {
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            let text = part.strip_suffix(b"\n").unwrap_or(part);
            let room = ENTRY_BYTES_MAX - self.rest.len();
            self.rest.extend_from_slice(&text[..text.len().min(room)]);
            if text.len() < part.len() {
                give(&self.rest);
                self.rest.clear();
            }
        }
        if self.rest.is_empty() {
            // One entry that was long is no reason to hold its room for ever.
            self.rest.shrink_to(PIECE);
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_are_no_options() {
        let two = "SYSLOG_FACILITY=2 + _SYSTEMD_UNIT=cyrus-imapd.service".parse::<Matches>();
        assert_eq!(two.expect("matches").0.len(), 3);
        for wrong in ["", "  ", "--file=/etc/shadow", "-D=x", "cyrus", "=x"] {
            assert!(wrong.parse::<Matches>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_entry_without_an_end_costs_no_memory() {
        let child = Command::new("true").stdout(Stdio::piped()).spawn();
        let mut child = child.expect("it starts");
        let stdout = child.stdout.take().expect("a pipe");
        let mut run = Run { child, stdout, follows: true, rest: Vec::new() };
        let mut given = Vec::new();
        let mut give = |json: &[u8]| given.push(json.len());
        for _ in 0..40 {
            run.cut(&[b'x'; PIECE], &mut give);
        }
        assert!(run.rest.capacity() <= 2 * ENTRY_BYTES_MAX, "{}", run.rest.capacity());
        run.cut(b"y\n{}\n{", &mut give);
        assert_eq!(given, [ENTRY_BYTES_MAX, 2]);
        assert_eq!(run.rest, b"{");
    }
}
