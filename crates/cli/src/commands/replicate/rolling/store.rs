//! What rolling replication keeps: a directory for each server and channel.
//!
//! `chunk-NUMBER-TIME` are pieces of the sync log that are still to be done, each one a sync log itself;
//! TIME is when its first line was written, in milliseconds since 1970. `ill.json` lists what could not
//! be replicated, and is to be tried again. `status.json` is for people and programs. `lock` says who
//! works here.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use cyrus_format::names::NameRules;
use cyrus_format::sync_log::{Backlog, Malformed, Work};
use engine::rolling::{ChunkId, Complaint, IllAccount, IllThing, Moment};
use model::{MboxName, Userid};
use rustix::fs::{FlockOperation, fcntl_lock};
use rustix::process::{Flock, FlockOffsetType, FlockType, fcntl_getlk};
use segment::names::{escape, quote, unquote};
use serde_json::{Value, json};
use spool::SpoolError;
use spool::sync_log::TakenLog;

use super::clock::{Now, millis_of};
use crate::error::{CliError, Exit};
use crate::output::Output;

/// Lines of a chunk.
const CHUNK_LINES: usize = 10_000;

/// A log that may be no more than one chunk: it is moved, and not written anew.
const SHORT_BYTES: u64 = 1 << 20;

/// Bytes of a log that are read at once.
const PIECE_BYTES: usize = 256 << 10;

/// Where it is.
pub struct Store {
    directory: PathBuf,
    next: u64,
}

/// A piece of the log that waits.
#[derive(Clone, Debug)]
pub struct Chunk {
    pub id: ChunkId,
    /// When its first line was written, in milliseconds since 1970.
    pub since: i64,
    pub lines: u64,
    path: PathBuf,
}

/// What became of a log that was taken over.
#[derive(Debug, Default)]
pub struct Cut {
    /// Where all of its entries are.
    pub chunks: Vec<Chunk>,
    /// What was left out of them: lines that are none.
    pub malformed: Malformed,
    /// And lines about the server itself.
    pub of_server: u64,
}

/// Nobody else works here.
pub struct Lock {
    _file: File,
}

impl Store {
    /// Of this replica and channel, beneath that directory.
    pub fn new(state: &Path, replica: &str, channel: Option<&str>) -> Self {
        let channel = channel.map_or("default".to_owned(), |name| format!("channel.{name}"));
        let directory = state.join(escape(replica.as_bytes())).join(escape(channel.as_bytes()));
        Self { directory, next: 1 }
    }

    /// Where status is written.
    pub fn status(&self) -> PathBuf {
        self.directory.join("status.json")
    }

    /// Whether somebody works here.
    pub fn is_locked(&self) -> bool {
        is_locked(&self.directory)
    }

    /// Directories of other replicas with something of the same channel that is still to be done, and
    /// nobody who works there.
    pub fn abandoned(&self) -> Vec<PathBuf> {
        let Some((state, channel)) =
            self.directory.ancestors().nth(2).zip(self.directory.file_name())
        else {
            return Vec::new();
        };
        let entries = fs::read_dir(state).into_iter().flatten().flatten();
        let others = entries.map(|entry| entry.path().join(channel));
        let mut others: Vec<PathBuf> = others
            .filter(|other| *other != self.directory && has_chunks(other) && !is_locked(other))
            .collect();
        others.sort();
        others
    }

    /// Makes the directory, and keeps others from it.
    pub fn lock(&self) -> Result<Lock, CliError> {
        let path = self.directory.join("lock");
        let open = || {
            fs::create_dir_all(&self.directory)?;
            OpenOptions::new().create(true).append(true).read(true).open(&path)
        };
        let mut file = open().map_err(|error| {
            CliError::failed(format!("cannot use {}", path.display()), error)
                .hint("--state names another directory; it has to be writable")
        })?;
        match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::ACCESS) => {
                let mut who = String::new();
                let _ = file.read_to_string(&mut who);
                return Err(CliError::plain(format!(
                    "process {} replicates this channel already",
                    who.trim()
                ))
                .hint("stop it first; --status works beside it")
                .exit(Exit::TryAgain));
            }
            Err(error) => return Err(self.failed("lock", &path, error.into())),
        }
        let note = || {
            file.set_len(0)?;
            (&file).write_all(format!("{}\n", std::process::id()).as_bytes())
        };
        note().map_err(|error| self.failed("write", &path, error))?;
        Ok(Lock { _file: file })
    }

    /// The chunks that are there, oldest first.
    pub fn chunks(&mut self) -> Result<VecDeque<Chunk>, CliError> {
        let listed = fs::read_dir(&self.directory);
        let listed = listed.map_err(|error| self.failed("list", &self.directory, error))?;
        let mut chunks = Vec::new();
        for entry in listed {
            let path = entry.map_err(|error| self.failed("list", &self.directory, error))?.path();
            let Some((number, since)) = numbers_of(&path) else { continue };
            let text = fs::read(&path).map_err(|error| self.failed("read", &path, error))?;
            let lines = lines_of(&text);
            chunks.push(Chunk { id: ChunkId(number), since, lines, path });
            self.next = self.next.max(number + 1);
        }
        chunks.sort_by_key(|chunk| chunk.id);
        Ok(chunks.into())
    }

    /// Takes a log over. When this returns, Cyrus' directory has nothing of it any more, and all of it
    /// is here; a kill on the way leaves it there.
    pub fn take(&mut self, log: TakenLog, rules: &NameRules) -> Result<Cut, CliError> {
        let since = millis_of(log.waiting.since);
        let mut backlog = Backlog::new(rules);
        if log.waiting.bytes <= SHORT_BYTES {
            let mut bytes = Vec::new();
            let read = (&log.file).read_to_end(&mut bytes);
            self.check_read(&log, read.map(|read| read as u64))?;
            let lines = lines_of(&bytes);
            if lines <= CHUNK_LINES as u64 {
                let chunk = self.chunk(since, lines);
                self.keep_short(log, &chunk, &bytes)?;
                return Ok(Cut { chunks: vec![chunk], ..Cut::default() });
            }
            backlog.feed(&bytes);
        } else {
            self.check_read(&log, read_all(&mut &log.file, &mut backlog))?;
        }
        let mut work = backlog.finish();
        let (malformed, of_server) = (std::mem::take(&mut work.malformed), work.of_server);
        Ok(Cut { chunks: self.keep_long(log, &work, since)?, malformed, of_server })
    }

    /// A log that was not read to its end must not be removed.
    fn check_read(&self, log: &TakenLog, read: io::Result<u64>) -> Result<(), CliError> {
        let read = read.map_err(|error| CliError::failed("cannot read the sync log", error))?;
        let all = log.waiting.bytes;
        if read < all {
            return Err(CliError::plain(format!(
                "of {all} bytes of the sync log, {read} were read"
            ))
            .hint("it is left where it is"));
        }
        Ok(())
    }

    /// Makes a log the chunk that it is.
    fn keep_short(&self, log: TakenLog, chunk: &Chunk, bytes: &[u8]) -> Result<(), CliError> {
        let is_moved = match log.move_to(&chunk.path) {
            Ok(is_moved) => is_moved,
            Err(error) => {
                if matches!(error, SpoolError::LogTakenAway { .. }) {
                    // Whoever has it may send it somewhere else.
                    self.write(&chunk.path, bytes)?;
                }
                return Err(crate::spool_error::explain(error));
            }
        };
        if !is_moved {
            self.write(&chunk.path, bytes)?;
            self.remove(log, std::slice::from_ref(chunk))?;
        }
        Ok(())
    }

    /// Writes down what a log is about, and removes it.
    fn keep_long(
        &mut self,
        log: TakenLog,
        work: &Work,
        since: i64,
    ) -> Result<Vec<Chunk>, CliError> {
        let entries: Vec<Vec<u8>> = work.entries().map(|entry| entry.line()).collect();
        let mut chunks = Vec::new();
        for lines in entries.chunks(CHUNK_LINES) {
            let chunk = self.chunk(since, lines.len() as u64);
            if let Err(error) = self.write(&chunk.path, &lines.concat()) {
                self.withdraw(&chunks);
                return Err(error);
            }
            chunks.push(chunk);
        }
        self.remove(log, &chunks)?;
        Ok(chunks)
    }

    /// Removes a log of which all is in these chunks.
    fn remove(&self, log: TakenLog, chunks: &[Chunk]) -> Result<(), CliError> {
        log.remove().map_err(|error| {
            // Whoever has taken it may send it somewhere else. Otherwise it is still there.
            if !matches!(error, SpoolError::LogTakenAway { .. }) {
                self.withdraw(chunks);
            }
            crate::spool_error::explain(error)
        })
    }

    /// Removes chunks of a log that is still there. What stays is done twice, and costs no more than that.
    fn withdraw(&self, chunks: &[Chunk]) {
        for chunk in chunks {
            let _ = self.forget(chunk);
        }
    }

    fn chunk(&mut self, since: i64, lines: u64) -> Chunk {
        let number = self.next;
        self.next += 1;
        let path = self.directory.join(format!("chunk-{number:010}-{since}"));
        Chunk { id: ChunkId(number), since, lines, path }
    }

    /// What a chunk is about.
    pub fn read(&self, chunk: &Chunk, rules: &NameRules) -> Result<Work, CliError> {
        let mut backlog = Backlog::new(rules);
        let read = File::open(&chunk.path).and_then(|mut file| read_all(&mut file, &mut backlog));
        read.map_err(|error| self.failed("read", &chunk.path, error))?;
        Ok(backlog.finish())
    }

    /// Removes a chunk that nobody needs any more.
    pub fn forget(&self, chunk: &Chunk) -> Result<(), CliError> {
        match fs::remove_file(&chunk.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(self.failed("remove", &chunk.path, error))
            }
            _ => Ok(()),
        }
    }

    /// What was ill when somebody worked here last.
    pub fn ill(&self, now: Now) -> Result<Vec<IllAccount>, CliError> {
        let path = self.directory.join("ill.json");
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(self.failed("read", &path, error)),
        };
        let parsed = serde_json::from_slice::<Value>(&bytes).ok();
        let ill = parsed.as_ref().and_then(|document| {
            let ill = document.as_array()?.iter().map(|ill| ill_from(ill, now));
            ill.collect::<Option<Vec<_>>>()
        });
        ill.ok_or_else(|| {
            CliError::plain(format!("{} is damaged", path.display()))
                .hint("move it away, and run cylinder replicate --all once")
        })
    }

    /// Keeps what is ill; either all of it, or what was kept before.
    pub fn keep_ill(&self, ill: &[IllAccount], now: Now) -> Result<(), CliError> {
        let document = json!(ill.iter().map(|ill| ill_json(ill, now)).collect::<Vec<_>>());
        self.write(&self.directory.join("ill.json"), format!("{document:#}\n").as_bytes())
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), CliError> {
        let write = || {
            let mut output = Output::create(path)?;
            output.write_all(bytes)?;
            output.finish()
        };
        write().map_err(|error| self.failed("write", path, error))
    }

    fn failed(&self, operation: &str, path: &Path, error: io::Error) -> CliError {
        CliError::failed(format!("cannot {operation} {}", path.display()), error)
    }
}

/// Reads to the end; how many bytes there were.
fn read_all(file: &mut impl Read, backlog: &mut Backlog<'_>) -> io::Result<u64> {
    let mut piece = vec![0; PIECE_BYTES];
    let mut all = 0;
    loop {
        match file.read(&mut piece) {
            Ok(0) => return Ok(all),
            Ok(length) => {
                backlog.feed(&piece[..length]);
                all += length as u64;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// How many lines there are; a torn one counts.
fn lines_of(text: &[u8]) -> u64 {
    let ends = text.iter().filter(|byte| **byte == b'\n').count() as u64;
    ends + u64::from(text.last().is_some_and(|byte| *byte != b'\n'))
}

fn numbers_of(path: &Path) -> Option<(u64, i64)> {
    let name = path.file_name()?.to_str()?.strip_prefix("chunk-")?;
    let (number, since) = name.split_once('-')?;
    Some((number.parse().ok()?, since.parse().ok()?))
}

/// Whether there is anything in a directory that is still to be done.
fn has_chunks(directory: &Path) -> bool {
    let mut entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.any(|entry| numbers_of(&entry.path()).is_some())
}

/// Whether somebody works in a directory. It is only asked: a lock that was taken for a moment would be in
/// the way of whoever is about to work there.
fn is_locked(directory: &Path) -> bool {
    let asked = Flock {
        start: 0,
        length: 0,
        pid: None,
        typ: FlockType::WriteLock,
        offset_type: FlockOffsetType::Set,
    };
    let file = File::open(directory.join("lock"));
    file.is_ok_and(|file| matches!(fcntl_getlk(&file, &asked), Ok(Some(_))))
}

fn ill_json(ill: &IllAccount, now: Now) -> Value {
    let thing = |thing: &IllThing| {
        let Complaint { mailbox, code, reason } = &thing.complaint;
        json!({
            "mailbox": mailbox.as_ref().map(|name| quote(name.as_bytes())),
            "code": code,
            "reason": reason,
            "since": now.calendar_of(thing.since),
        })
    };
    json!({
        "account": quote(ill.account.as_bytes()),
        "things": ill.things.iter().map(thing).collect::<Vec<_>>(),
    })
}

fn ill_from(document: &Value, now: Now) -> Option<IllAccount> {
    let thing = |thing: &Value| {
        let mailbox = match &thing["mailbox"] {
            Value::Null => None,
            name => Some(MboxName::new(unquote(name.as_str()?)?)),
        };
        let text = |key: &str| Some(thing[key].as_str()?.to_owned());
        let complaint = Complaint { mailbox, code: text("code")?, reason: text("reason")? };
        Some(IllThing { complaint, since: now.moment_of(thing["since"].as_i64()?) })
    };
    let things = document["things"].as_array()?.iter().map(thing).collect::<Option<Vec<_>>>()?;
    let account = Userid::new(unquote(document["account"].as_str()?)?);
    Some(IllAccount { account, tries: 0, next: Moment(0), things })
}

#[cfg(test)]
mod tests;
