//! The records of a mailbox, which are never in memory as a whole: a mailbox may have a million.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use cyrus_format::FormatError;
use cyrus_format::index::{
    Index, IndexHeader, RecordFormat, sizes, versions, write_header, write_record,
};
use cyrus_format::mboxlist::MailboxEntry;
use model::{Guid, MboxName, Partition, Record, Uid, Userid};

use super::contents::{INDEX, damaged, encode};
use super::disk::{Disk, Unnamed, io_error};
use super::error::Result;
use super::list::dir_of;
use super::message::Message;
use super::{Files, State, partition_dir, rules};

/// How much is read or written at a time.
const PIECE: usize = 1 << 16;

/// The records of a mailbox as they were when this was made.
#[derive(Debug)]
pub struct Records {
    source: Option<Source>,
    count: usize,
    /// Keeps the file from being changed.
    _told: Option<Arc<()>>,
}

#[derive(Debug)]
struct Source {
    file: File,
    path: PathBuf,
    format: RecordFormat,
}

impl Source {
    fn read(&self, at: usize, raw: &mut [u8]) -> Result<()> {
        let read = self.file.read_exact_at(raw, self.format.offset(at));
        read.map_err(io_error("read", &self.path))
    }

    /// A record of bytes that are as many as one has.
    fn record(&self, raw: &[u8]) -> Result<Record> {
        let detail = "a record is cut short".to_owned();
        let cut = FormatError::Damaged { what: "cyrus.index", offset: 0, detail };
        self.format.read(raw).ok_or_else(|| damaged(&self.path)(cut))
    }
}

impl Records {
    /// Those of a mailbox that is not there yet.
    pub fn none() -> Self {
        Self { source: None, count: 0, _told: None }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The record at a place, from 0.
    ///
    /// # Errors
    /// What the disk says.
    pub fn get(&self, at: usize) -> Result<Option<Record>> {
        let Some(source) = self.source.as_ref().filter(|_| at < self.count) else {
            return Ok(None);
        };
        let mut raw = vec![0; source.format.size()];
        source.read(at, &mut raw)?;
        source.record(&raw).map(Some)
    }

    /// The place of a UID and its record, looked for from a place on.
    ///
    /// # Errors
    /// What the disk says.
    pub fn find(&self, uid: Uid, from: usize) -> Result<Option<(usize, Record)>> {
        let (mut low, mut high) = (from, self.count);
        while low < high {
            let middle = low + (high - low) / 2;
            let Some(record) = self.get(middle)? else { return Ok(None) };
            match record.uid.cmp(&uid) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Equal => return Ok(Some((middle, record))),
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        Ok(None)
    }

    /// All of them, in the order of the file.
    pub fn iter(&self) -> Iter<'_> {
        Iter { records: self, next: 0, piece: Vec::new(), used: 0 }
    }
}

impl<'r> IntoIterator for &'r Records {
    type Item = Result<Record>;
    type IntoIter = Iter<'r>;

    fn into_iter(self) -> Iter<'r> {
        self.iter()
    }
}

/// Reads records one by one.
#[derive(Debug)]
pub struct Iter<'r> {
    records: &'r Records,
    next: usize,
    piece: Vec<u8>,
    used: usize,
}

impl Iter<'_> {
    fn read(&mut self, source: &Source) -> Result<Record> {
        let size = source.format.size();
        if self.used == self.piece.len() {
            let count = (PIECE / size).max(1).min(self.records.count - self.next);
            self.piece.resize(count * size, 0);
            self.used = 0;
            source.read(self.next, &mut self.piece)?;
        }
        let record = source.record(&self.piece[self.used..])?;
        self.used += size;
        self.next += 1;
        Ok(record)
    }
}

impl Iterator for Iter<'_> {
    type Item = Result<Record>;

    fn next(&mut self) -> Option<Result<Record>> {
        let source = self.records.source.as_ref()?;
        if self.next >= self.records.count {
            return None;
        }
        let read = self.read(source);
        if read.is_err() {
            // What cannot be read once is not tried for ever.
            self.next = self.records.count;
        }
        Some(read)
    }
}

/// The header of a mailbox's index, and its records; `None` if it is not there.
pub(super) fn open(disk: &Disk, dir: &Path) -> Result<Option<(IndexHeader, Records)>> {
    let path = dir.join(INDEX);
    let Some(file) = disk.open_file(&path)? else { return Ok(None) };
    let size = versions().filter_map(sizes).map(|(header, _)| header).max().unwrap_or_default();
    let mut head = Vec::with_capacity(size);
    (&file).take(size as u64).read_to_end(&mut head).map_err(io_error("read", &path))?;
    let index = Index::parse(&head).map_err(damaged(&path))?;
    let (header, format) = (index.header().clone(), index.record_format());
    if !format.is_written() {
        let detail = format!("records of {} bytes", format.size());
        return Err(damaged(&path)(FormatError::Foreign { what: "cyrus.index", detail }));
    }
    let length = file.metadata().map_err(io_error("examine", &path))?.len();
    let room = length.saturating_sub(format.offset(0)) / format.size() as u64;
    let count = usize::try_from(room.min(header.num_records.into())).unwrap_or(usize::MAX);
    let source = Some(Source { file, path, format });
    Ok(Some((header, Records { source, count, _told: None })))
}

/// A cyrus.index in the making.
#[derive(Debug)]
pub struct Rewritten {
    unnamed: Unnamed,
    path: PathBuf,
    minor_version: u32,
    piece: Vec<u8>,
    count: u32,
}

impl Rewritten {
    fn begin(disk: &Disk, near: &Path, minor_version: u32) -> Result<Self> {
        // The header comes last.
        let piece = vec![0; sizes(minor_version).unwrap_or_default().0];
        let (unnamed, path) = (disk.unnamed_on(near)?, near.join(INDEX));
        Ok(Self { unnamed, path, minor_version, piece, count: 0 })
    }

    pub(super) fn push(&mut self, record: &Record) -> Result<()> {
        write_record(self.minor_version, record, &mut self.piece).map_err(encode(&self.path))?;
        self.count = self.count.saturating_add(1);
        if self.piece.len() < PIECE {
            return Ok(());
        }
        self.flush()
    }

    fn flush(&mut self) -> Result<()> {
        self.unnamed.file.write_all(&self.piece).map_err(io_error("write", &self.path))?;
        self.piece.clear();
        Ok(())
    }

    /// Completes it with its header.
    pub(super) fn finish(mut self, header: &IndexHeader) -> Result<Unnamed> {
        self.flush()?;
        let header = IndexHeader { num_records: self.count, ..header.clone() };
        let raw = write_header(&header).map_err(encode(&self.path))?;
        self.unnamed.file.write_all_at(&raw, 0).map_err(io_error("write", &self.path))?;
        Ok(self.unnamed)
    }
}

/// Indexes that are read by somebody who does not hold the replica.
#[derive(Debug, Default)]
pub(super) struct Told(Mutex<HashMap<PathBuf, Weak<()>>>);

impl Told {
    fn enter(&self, path: PathBuf) -> Arc<()> {
        let mut told = self.readers();
        told.retain(|_, readers| readers.strong_count() > 0);
        let reader = told.get(&path).and_then(Weak::upgrade).unwrap_or_default();
        told.insert(path, Arc::downgrade(&reader));
        reader
    }

    /// Whether somebody reads it.
    pub fn has(&self, path: &Path) -> bool {
        self.readers().get(path).is_some_and(|readers| readers.strong_count() > 0)
    }

    fn readers(&self) -> MutexGuard<'_, HashMap<PathBuf, Weak<()>>> {
        // A panic leaves nothing half done there.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Files {
    /// The records of a mailbox, for as long as it is claimed; none if it has none yet.
    ///
    /// # Errors
    /// What its index is wrong with.
    pub fn records(&self, entry: &MailboxEntry) -> Result<Records> {
        let found = open(&self.disk, &dir_of(entry)?)?;
        Ok(found.map_or_else(Records::none, |(_, records)| records))
    }

    /// The same for whoever takes his time: they stay as they are, whatever happens to the mailbox.
    ///
    /// # Errors
    /// As for [`Files::records`].
    pub fn records_to_tell(&self, entry: &MailboxEntry) -> Result<Records> {
        let told = self.told.enter(dir_of(entry)?.join(INDEX));
        Ok(Records { _told: Some(told), ..self.records(entry)? })
    }

    /// The messages of these that mailboxes have. Those that are damaged are not among them.
    ///
    /// # Errors
    /// If an index cannot be read.
    pub fn find_messages(
        &self,
        mailboxes: &[MailboxEntry],
        wanted: &BTreeSet<Guid>,
    ) -> Result<Vec<Arc<Message>>> {
        let mut missing = wanted.clone();
        let mut found = Vec::new();
        for entry in mailboxes {
            if missing.is_empty() {
                break;
            }
            for record in &self.records(entry)? {
                let record = record?;
                if !record.is_unlinked()
                    && missing.contains(&record.guid)
                    && let Some((_, Some(message))) =
                        self.message(entry, record.uid, record.guid)?
                {
                    missing.remove(&record.guid);
                    found.push(Arc::new(message));
                }
            }
        }
        Ok(found)
    }

    pub(super) fn rewrite(&self, partition: &Partition, minor_version: u32) -> Result<Rewritten> {
        Rewritten::begin(&self.disk, &partition_dir(partition)?, minor_version)
    }
}

impl State {
    /// These mailboxes, and all others of the accounts that they belong to.
    pub fn mailboxes_near(&self, near: &[MboxName]) -> Vec<MailboxEntry> {
        let names = &rules().names;
        let owners: BTreeSet<Userid> = near.iter().filter_map(|name| names.owner(name)).collect();
        let is_near = |entry: &&MailboxEntry| {
            let owner = names.owner(&entry.name);
            near.contains(&entry.name) || owner.is_some_and(|owner| owners.contains(&owner))
        };
        let there = self.list.entries().filter(|entry| entry.mbtype.has_data());
        there.filter(is_near).cloned().collect()
    }
}

/// Changes of a file: where, and what is to be there.
pub(super) type Patches = Vec<(u64, Vec<u8>)>;

/// A header and some records as changes of an index.
pub(super) fn patches(
    header: &IndexHeader,
    changes: &[(usize, Record)],
    path: &Path,
) -> Result<Patches> {
    let raw = write_header(header).map_err(encode(path))?;
    let format = Index::parse(&raw).map_err(damaged(path))?.record_format();
    let mut patches = vec![(0, raw.clone())];
    for (at, record) in changes {
        let mut raw = Vec::with_capacity(format.size());
        write_record(header.minor_version, record, &mut raw).map_err(encode(path))?;
        patches.push((format.offset(*at), raw));
    }
    Ok(patches)
}

/// A copy of a file with changes.
pub(super) fn patched_copy(disk: &Disk, path: &Path, patches: &Patches) -> Result<Unnamed> {
    let missing = || io_error("open", path)(io::ErrorKind::NotFound.into());
    let file = disk.open_file(path)?.ok_or_else(missing)?;
    let made = disk.unnamed(super::disk::parent(path))?;
    super::message::copy(&file, &made.file).map_err(io_error("copy", path))?;
    for (offset, bytes) in patches {
        made.file.write_all_at(bytes, *offset).map_err(io_error("write", path))?;
    }
    Ok(made)
}
