//! Shared locks on the files that Cyrus locks, taken so that Cyrus notices.
//!
//! There are two kinds of files. A *lock file* exists only to be locked; it is created when it
//! is missing and never removed (`LockDir`). A *data file* (index, header, database) may be
//! replaced by a new one at any moment until it is locked, so the lock counts only if the path
//! still leads to the very file that was locked.

mod lockdir;
pub(crate) mod ofd;
#[cfg(test)]
mod tests;
pub(crate) mod wait;

use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use model::MboxName;
use rustix::fs::{Stat, fstat, statat};
use rustix::io::Errno;

use crate::error::{Result, SpoolError};
use crate::files::{self, Place};

pub(crate) use lockdir::{LockDir, LockFile};

/// How often a data file may be replaced under our hands before that is an error. Cyrus replaces
/// one a few times a minute at most.
const MAX_REPLACED: u32 = 100;

/// What a lock protects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LockKind {
    /// All of an account (Cyrus 3.2+).
    User,
    /// The name and the files of a mailbox (2.4+): holds back cleanup, not clients.
    Name,
    /// `cyrus.index`: the records of a mailbox.
    Index,
    /// A database file.
    Db,
    /// `cyrus.header` (2.3).
    Header,
    /// `cyrus.expunge` (2.3).
    Expunge,
}

impl LockKind {
    /// The word used in manifests and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            LockKind::User => "user",
            LockKind::Name => "name",
            LockKind::Index => "index",
            LockKind::Db => "db",
            LockKind::Header => "header",
            LockKind::Expunge => "expunge",
        }
    }
}

impl fmt::Display for LockKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A lock that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockReport {
    /// The file that was locked.
    pub file: PathBuf,
    /// What it protects.
    pub kind: LockKind,
    /// The mailbox concerned, where it is one.
    pub mailbox: Option<MboxName>,
    /// From the first attempt until it was ours.
    pub waited: Duration,
    /// Written down when it is given back, wherever that happens.
    held: Arc<OnceLock<Duration>>,
}

impl LockReport {
    /// From the moment when the lock was ours until it was given back; `None` while it is held.
    pub fn held(&self) -> Option<Duration> {
        self.held.get().copied()
    }
}

/// Who is in the way of a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The process.
    pub pid: u32,
    /// Its name as the kernel keeps it (at most 15 bytes); `None` if it is gone already.
    pub command: Option<String>,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.command {
            Some(command) => write!(f, "process {} ({command})", self.pid),
            None => write!(f, "process {}", self.pid),
        }
    }
}

/// All locks of one freeze, in the order in which they were obtained.
#[derive(Debug)]
pub(crate) struct Ledger {
    timeout: Duration,
    reports: Vec<LockReport>,
}

/// A lock that is held. Dropping it gives the lock back and writes down how long it was held.
#[derive(Debug)]
pub(crate) struct Held {
    // Fields are dropped in this order: the lock is free before its time is taken.
    file: File,
    _clock: Clock,
}

/// Writes into a report how long it existed.
#[derive(Debug)]
struct Clock {
    since: Instant,
    report: Arc<OnceLock<Duration>>,
}

impl Drop for Clock {
    fn drop(&mut self) {
        // Nobody else sets it.
        let _ = self.report.set(self.since.elapsed());
    }
}

/// What is to be locked, for the ledger and for errors.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    pub kind: LockKind,
    pub mailbox: Option<&'a MboxName>,
}

impl Ledger {
    /// `timeout` bounds the wait for each single lock.
    pub fn new(timeout: Duration) -> Self {
        Self { timeout, reports: Vec::new() }
    }

    /// Takes a shared lock on an open file.
    pub fn lock(&mut self, file: File, path: &Path, wanted: Wanted<'_>) -> Result<Held> {
        let (file, waited) =
            wait::lock(file, ofd::Mode::Shared, self.timeout).map_err(|failure| {
                let file = path.to_owned();
                match failure {
                    wait::Failure::Timeout { waited, holder } => SpoolError::LockTimeout {
                        file,
                        kind: wanted.kind,
                        mailbox: wanted.mailbox.cloned(),
                        waited,
                        holder,
                    },
                    wait::Failure::Io(source) => SpoolError::Io { op: "lock", path: file, source },
                }
            })?;
        let held = Arc::default();
        let clock = Clock { since: Instant::now(), report: Arc::clone(&held) };
        self.reports.push(LockReport {
            file: path.to_owned(),
            kind: wanted.kind,
            mailbox: wanted.mailbox.cloned(),
            waited,
            held,
        });
        Ok(Held { file, _clock: clock })
    }

    /// Takes a shared lock on a file that may be replaced at any moment, and makes sure that it
    /// was not. `None` if there is no such file.
    ///
    /// `room` is asked for a buffer for this file before the lock is asked for, so that nobody
    /// waits for our memory.
    pub fn lock_data_file(
        &mut self,
        place: Place<'_>,
        wanted: Wanted<'_>,
        mut room: impl FnMut(&File) -> io::Result<Vec<u8>>,
    ) -> Result<Option<LockedFile>> {
        for _ in 0..MAX_REPLACED {
            let Some(file) = files::open(place).or_none().map_err(|e| place.error("open", e))?
            else {
                return Ok(None);
            };
            let buffer = room(&file).map_err(|e| place.error("read", e))?;
            let held = self.lock(file, &place.path(), wanted)?;
            let stat = fstat(&held.file).map_err(|e| place.error("examine", e))?;
            match statat(place.dir, place.name, place.stat_flags()) {
                Ok(now) if (now.st_dev, now.st_ino) == (stat.st_dev, stat.st_ino) => {
                    return Ok(Some(LockedFile { held, stat, buffer }));
                }
                Ok(_) | Err(Errno::NOENT) => drop(held),
                Err(errno) => return Err(place.error("examine", errno)),
            }
        }
        Err(SpoolError::KeepsBeingReplaced { file: place.path(), times: MAX_REPLACED })
    }

    /// The reports so far.
    pub fn into_reports(self) -> Vec<LockReport> {
        self.reports
    }
}

/// A data file with a lock on it.
#[derive(Debug)]
pub(crate) struct LockedFile {
    pub held: Held,
    /// What it was like right after it was locked.
    pub stat: Stat,
    buffer: Vec<u8>,
}

impl LockedFile {
    /// Its bytes; the lock goes on.
    pub fn read(self, place: Place<'_>) -> Result<(Vec<u8>, Held)> {
        let bytes = files::read_all(&self.held.file, &self.stat, self.buffer)
            .map_err(|e| place.error("read", e))?;
        Ok((bytes, self.held))
    }

    /// The first bytes of it, at most `N`.
    pub fn peek<const N: usize>(&self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        rustix::io::pread(&self.held.file, &mut bytes, 0)?;
        Ok(bytes)
    }
}

/// Turns "there is no such file" into `None`.
pub(crate) trait OrNone<T> {
    fn or_none(self) -> io::Result<Option<T>>;
}

impl<T, E: Into<io::Error>> OrNone<T> for std::result::Result<T, E> {
    fn or_none(self) -> io::Result<Option<T>> {
        match self.map_err(Into::into) {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}
