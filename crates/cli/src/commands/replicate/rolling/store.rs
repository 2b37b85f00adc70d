//! What rolling replication keeps: a directory for each server and channel.
//!
//! `chunk-NUMBER-TIME` are pieces of the sync log that are still to be done, each one a sync log itself;
//! TIME is when its first line was written, in milliseconds since 1970. `ill.json` lists what could not
//! be replicated, and is to be tried again. `status.json` is for people and programs. `lock` says who
//! works here.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use cyrus_format::names::NameRules;
use cyrus_format::sync_log::{Backlog, Work};
use engine::rolling::{ChunkId, Complaint, IllAccount, IllThing, Moment};
use model::{MboxName, Userid};
use rustix::fs::{FlockOperation, fcntl_lock};
use segment::names::{escape, quote, unquote};
use serde_json::{Value, json};
use spool::sync_log::TakenLog;

use crate::error::{CliError, Exit};
use crate::output::Output;

/// Lines of a chunk.
const CHUNK_LINES: usize = 10_000;

/// A log that may be no more than one chunk: it is moved, and not written anew.
const SHORT_BYTES: u64 = 1 << 20;

/// Bytes that are read at once.
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
    /// When its first line was written.
    pub since: Moment,
    pub lines: u64,
    path: PathBuf,
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
        let open = OpenOptions::new().append(true).open(self.directory.join("lock"));
        open.is_ok_and(|file| fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive).is_err())
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
            chunks.push(Chunk { id: ChunkId(number), since: Moment(since), lines, path });
            self.next = self.next.max(number + 1);
        }
        chunks.sort_by_key(|chunk| chunk.id);
        Ok(chunks.into())
    }

    /// Takes a log over. When this returns, Cyrus' directory has nothing of it any more, and all of it
    /// is here; a kill on the way leaves it there.
    pub fn take(&mut self, log: TakenLog, rules: &NameRules) -> Result<Vec<Chunk>, CliError> {
        let since = millis(log.waiting.since);
        if log.waiting.bytes <= SHORT_BYTES {
            let mut bytes = Vec::new();
            (&log.file)
                .read_to_end(&mut bytes)
                .map_err(|e| self.failed("read", &self.directory, e))?;
            let lines = lines_of(&bytes);
            if lines <= CHUNK_LINES as u64 {
                let chunk = self.chunk(since, lines);
                let is_moved = log.move_to(&chunk.path).map_err(crate::spool_error::explain)?;
                if !is_moved {
                    self.write(&chunk.path, &bytes)?;
                    log.remove().map_err(crate::spool_error::explain)?;
                }
                return Ok(vec![chunk]);
            }
        }
        let mut backlog = Backlog::new(rules);
        // What is short but has many lines was read to its end.
        let read = (&log.file).rewind().and_then(|()| read_all(&mut &log.file, &mut backlog));
        read.map_err(|e| self.failed("read", &self.directory, e))?;
        let work = backlog.finish();
        let entries: Vec<Vec<u8>> = work.entries().map(|entry| entry.line()).collect();
        let mut chunks = Vec::new();
        for lines in entries.chunks(CHUNK_LINES) {
            let chunk = self.chunk(since, lines.len() as u64);
            self.write(&chunk.path, &lines.concat())?;
            chunks.push(chunk);
        }
        log.remove().map_err(crate::spool_error::explain)?;
        Ok(chunks)
    }

    fn chunk(&mut self, since: i64, lines: u64) -> Chunk {
        let number = self.next;
        self.next += 1;
        let path = self.directory.join(format!("chunk-{number:010}-{since}"));
        Chunk { id: ChunkId(number), since: Moment(since), lines, path }
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
    pub fn ill(&self) -> Result<Vec<IllAccount>, CliError> {
        let path = self.directory.join("ill.json");
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(self.failed("read", &path, error)),
        };
        let parsed = serde_json::from_slice::<Value>(&bytes).ok();
        let ill = parsed.as_ref().and_then(|document| {
            document.as_array()?.iter().map(ill_from).collect::<Option<Vec<_>>>()
        });
        ill.ok_or_else(|| {
            CliError::plain(format!("{} is damaged", path.display()))
                .hint("move it away, and run cylinder replicate --all once")
        })
    }

    /// Keeps what is ill; either all of it, or what was kept before.
    pub fn keep_ill(&self, ill: &[IllAccount]) -> Result<(), CliError> {
        let document = json!(ill.iter().map(ill_json).collect::<Vec<_>>());
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

fn read_all(file: &mut impl Read, backlog: &mut Backlog<'_>) -> io::Result<()> {
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        match file.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(length) => backlog.feed(&piece[..length]),
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

/// Milliseconds since 1970.
pub fn millis(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn ill_json(ill: &IllAccount) -> Value {
    let thing = |thing: &IllThing| {
        let Complaint { mailbox, code, reason } = &thing.complaint;
        json!({
            "mailbox": mailbox.as_ref().map(|name| quote(name.as_bytes())),
            "code": code,
            "reason": reason,
            "since": thing.since.0,
        })
    };
    json!({
        "account": quote(ill.account.as_bytes()),
        "things": ill.things.iter().map(thing).collect::<Vec<_>>(),
    })
}

fn ill_from(document: &Value) -> Option<IllAccount> {
    let thing = |thing: &Value| {
        let mailbox = match &thing["mailbox"] {
            Value::Null => None,
            name => Some(MboxName::new(unquote(name.as_str()?)?)),
        };
        let text = |key: &str| Some(thing[key].as_str()?.to_owned());
        let complaint = Complaint { mailbox, code: text("code")?, reason: text("reason")? };
        Some(IllThing { complaint, since: Moment(thing["since"].as_i64()?) })
    };
    let things = document["things"].as_array()?.iter().map(thing).collect::<Option<Vec<_>>>()?;
    let account = Userid::new(unquote(document["account"].as_str()?)?);
    Some(IllAccount { account, tries: 0, next: Moment(0), things })
}

#[cfg(test)]
mod tests {
    use cyrus_format::imapd_conf::ImapdConf;
    use spool::sync_log::SyncLog;
    use tempfile::TempDir;

    use super::*;

    struct Stage {
        directory: TempDir,
        log: SyncLog,
        rules: NameRules,
    }

    impl Stage {
        fn new() -> Self {
            let directory = tempfile::tempdir().expect("a directory");
            let conf = format!("configdirectory: {}\n", directory.path().display());
            let mut none = |_: &str| Err(String::new());
            let conf = ImapdConf::parse("imapd.conf", conf.as_bytes(), &mut none);
            let log = SyncLog::new(&conf.expect("a configuration"), None);
            fs::create_dir(log.directory()).expect("made");
            Self { directory, log, rules: NameRules::v3() }
        }

        fn store(&self) -> Store {
            Store::new(&self.directory.path().join("state"), "[::1]:2005", Some("a/b"))
        }

        fn take(&self, store: &mut Store) -> Vec<Chunk> {
            let log = self.log.take().expect("it can be taken").expect("a log");
            store.take(log, &self.rules).expect("taken")
        }
    }

    #[test]
    fn a_long_log_is_cut_and_a_short_one_is_moved() {
        let stage = Stage::new();
        let mut store = stage.store();
        let _lock = store.lock().expect("nobody else");
        let long: String = (0..50_000)
            .map(|at| format!("APPEND user.u{}.{}\n", at % 25_000, "x".repeat(20)))
            .collect();
        fs::write(stage.log.directory().join("log"), long).expect("written");
        let lines: Vec<u64> = stage.take(&mut store).iter().map(|chunk| chunk.lines).collect();
        assert_eq!(lines, [10_000, 10_000, 5_000]);
        let short = "MAILBOX user.a\nMAILBOX user.a\nMAILBOX user.b";
        fs::write(stage.log.directory().join("log"), short).expect("written");
        assert_eq!(stage.take(&mut store)[0].lines, 3);
        assert_eq!(fs::read_dir(stage.log.directory()).expect("a directory").count(), 0);
        // All of it is there for whoever comes next.
        let mut next = stage.store();
        let chunks = next.chunks().expect("readable");
        assert_eq!(chunks.len(), 4);
        let accounts = |chunk: &Chunk| next.read(chunk, &stage.rules).expect("readable").accounts;
        let all: usize = chunks.iter().map(|chunk| accounts(chunk).len()).sum();
        assert_eq!(all, 25_002);
        assert_eq!(fs::read(&chunks[3].path).expect("readable"), short.as_bytes());
        chunks.iter().for_each(|chunk| next.forget(chunk).expect("removed"));
        assert!(next.chunks().expect("readable").is_empty());
    }

    #[test]
    fn what_is_ill_is_kept_whatever_its_names_are() {
        let stage = Stage::new();
        let store = stage.store();
        let _lock = store.lock().expect("nobody else");
        assert_eq!(store.ill().expect("nothing"), []);
        let thing = |mailbox: Option<&[u8]>| IllThing {
            complaint: Complaint {
                mailbox: mailbox.map(MboxName::new),
                code: "damaged".to_owned(),
                reason: "it is \"damaged\"\n".to_owned(),
            },
            since: Moment(17),
        };
        let things = vec![thing(None), thing(Some(b"user.\xff%.a b"))];
        let account = Userid::new(b"\xff%".as_slice());
        let ill = [IllAccount { account, tries: 0, next: Moment(0), things }];
        store.keep_ill(&ill).expect("kept");
        assert_eq!(store.ill().expect("readable"), ill);
        fs::write(store.directory.join("ill.json"), "[{}]").expect("written");
        assert!(store.ill().is_err());
    }

    #[test]
    fn a_second_one_hears_who_is_there() {
        let stage = Stage::new();
        let store = stage.store();
        assert!(!store.is_locked());
        let lock = store.lock().expect("nobody else");
        // A lock of this kind keeps only other processes out, so this one looks at what it says.
        let who = fs::read_to_string(store.directory.join("lock")).expect("readable");
        assert_eq!(who, format!("{}\n", std::process::id()));
        drop(lock);
    }
}
