//! Database files, read whole under their own lock.

use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{Stat, fstat};

use crate::error::Result;
use crate::files::{self, Place};
use crate::lock::{Ledger, LockKind, LockedFile, Wanted};

const DB_LOCK: Wanted<'static> = Wanted { kind: LockKind::Db, mailbox: None };

/// Bytes at the start of a file that are compared to see whether it changed. Holds the whole
/// header of a skiplist or twoskip file, with its counts and sizes.
const HEAD: usize = 64;

/// What was made of a database file, kept until the file changes.
///
/// mailboxes.db and annotations.db hold the entries of all accounts; without this, reading every
/// account of a server would take time in the square of their number.
#[derive(Debug)]
pub(crate) struct Cached<T> {
    last: Mutex<Option<(Fingerprint, Arc<T>)>>,
}

/// What was made of a database file.
#[derive(Debug)]
pub(crate) struct Loaded<T> {
    pub value: Arc<T>,
    /// When the file was modified, nanoseconds since 1970.
    pub mtime: i128,
}

/// Tells one state of a file from the next: a transaction changes the size and the header, a
/// checkpoint changes the inode, anything else the times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fingerprint {
    file: (u64, u64),
    size: i64,
    modified: i128,
    changed: i128,
    head: [u8; HEAD],
}

impl<T> Cached<T> {
    pub fn new() -> Self {
        Self { last: Mutex::new(None) }
    }

    /// What `parse` makes of the file as it is now; `None` if there is no such file.
    ///
    /// The lock is held while the file is copied, not while it is parsed.
    pub fn load(
        &self,
        place: Place<'_>,
        ledger: &mut Ledger,
        parse: impl FnOnce(&[u8]) -> Result<T>,
    ) -> Result<Option<Loaded<T>>> {
        // Memory for a file that will not be read would be wasted.
        let last = self.last().as_ref().map(|(then, _)| *then);
        let room = |file: &File| match last {
            Some(last) if last.looks_like(&fstat(file)?) => Ok(Vec::new()),
            _ => files::room_for(file),
        };
        let locked = ledger.lock_data_file(place, DB_LOCK, room)?;
        let Some(locked) = locked else { return Ok(None) };
        let now = Fingerprint::of(&locked).map_err(|e| place.error("read", e))?;
        if let Some(value) = self.value_of(&now) {
            drop(locked.held);
            return Ok(Some(Loaded { value, mtime: now.modified }));
        }
        let (bytes, held) = locked.read(place)?;
        drop(held);
        let value = Arc::new(parse(&bytes)?);
        *self.last() = Some((now, Arc::clone(&value)));
        Ok(Some(Loaded { value, mtime: now.modified }))
    }

    fn value_of(&self, now: &Fingerprint) -> Option<Arc<T>> {
        let last = self.last();
        last.as_ref().filter(|(then, _)| then == now).map(|(_, value)| Arc::clone(value))
    }

    /// The value is replaced in one step, so a thread that panicked leaves no half of one.
    fn last(&self) -> MutexGuard<'_, Option<(Fingerprint, Arc<T>)>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Fingerprint {
    /// Whether a file with these attributes is probably still the same.
    fn looks_like(&self, stat: &Stat) -> bool {
        self.file == (stat.st_dev, stat.st_ino) && self.changed == files::ctime(stat)
    }

    fn of(locked: &LockedFile) -> io::Result<Self> {
        let stat = &locked.stat;
        Ok(Self {
            file: (stat.st_dev, stat.st_ino),
            size: stat.st_size,
            modified: files::mtime(stat),
            changed: files::ctime(stat),
            head: locked.peek()?,
        })
    }
}

/// Copies a database file under its lock; `None` if there is no such file.
pub(crate) fn copy(place: Place<'_>, ledger: &mut Ledger) -> Result<Option<files::Copied>> {
    let locked = ledger.lock_data_file(place, DB_LOCK, files::room_for)?;
    let Some(locked) = locked else { return Ok(None) };
    let mtime = files::mtime(&locked.stat);
    let (bytes, held) = locked.read(place)?;
    drop(held);
    Ok(Some(files::Copied { bytes, mtime }))
}
