//! Which mailboxes there are.
//!
//! Those with messages are found by their own files when a replica is opened; tombstones and
//! intermediate names are only in mailboxes.db, which is therefore replaced at once when one of
//! them changes.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use cyrus_format::db::{self, twoskip};
use cyrus_format::header::MailboxHeader;
use cyrus_format::mboxlist::{MailboxEntry, MailboxType, MboxList, MboxListEra};
use model::{MboxName, Partition, UniqueId, Userid};
use rustix::fs::FileType;

use super::contents::{HEADER, Summary, damaged};
use super::disk::Disk;
use super::error::{ReplicaError, Result};
use super::rules;

pub(super) const MAILBOXES_DB: &str = "conf/mailboxes.db";

/// The list of mailboxes.
#[derive(Debug, Default)]
pub(super) struct List {
    by_name: BTreeMap<MboxName, MailboxEntry>,
    by_id: HashMap<UniqueId, MboxName>,
    /// Mailboxes whose directories have gone, as with a disk that is not mounted. mailboxes.db keeps
    /// them, so that this is not forgotten.
    vanished: BTreeMap<MboxName, MailboxEntry>,
}

/// A list, and the quota root that each mailbox's header names.
pub(super) type Loaded = (List, Vec<(MboxName, Option<MboxName>)>);

impl List {
    /// Reads all mailboxes from their files, and what has none from mailboxes.db. What cannot be
    /// read is added to `broken`.
    pub fn load(
        disk: &Disk,
        dirs: Vec<(Partition, PathBuf)>,
        broken: &mut Vec<ReplicaError>,
    ) -> Result<Loaded> {
        let (mut list, mut roots) = (Self::default(), Vec::new());
        let path = Path::new(MAILBOXES_DB);
        let mut before = HashMap::new();
        if let Some(bytes) = disk.read(path)? {
            let read = db::read(&bytes).map_err(damaged(path))?;
            let records = read.entries.iter().map(|(key, value)| (key.as_ref(), value.as_ref()));
            let list_before = MboxList::parse_as(MboxListEra::ById, records, &rules().names);
            for entry in list_before.entries {
                match entry.mbtype.has_data() {
                    false => list.insert(entry),
                    true => drop(before.insert(entry.uniqueid.clone(), entry)),
                }
            }
        }
        for (partition, dir) in dirs {
            let read = read_entry(disk, &dir, partition).and_then(|read| list.check(&dir, read));
            let mut entry = match read {
                Ok((entry, root)) => {
                    roots.push((entry.name.clone(), root));
                    entry
                }
                Err(error) => {
                    broken.push(error);
                    continue;
                }
            };
            if let Some(old) = before.remove(&entry.uniqueid) {
                entry.history = old.history;
            }
            list.insert(entry);
        }
        for entry in before.into_values() {
            // A mailbox that replaced another has its name before mailboxes.db says so.
            let is_replaced = list.get(&entry.name).is_some_and(|new| new.mbtype.has_data());
            let path = dir_of(&entry)?;
            if !is_replaced && disk.dir(&path)?.is_none() {
                let mailbox = entry.name.clone();
                broken.push(ReplicaError::Vanished { mailbox: mailbox.clone(), path });
                list.vanished.insert(mailbox, entry);
            }
        }
        Ok((list, roots))
    }

    /// Refuses a mailbox that another one would hide.
    fn check(&self, dir: &Path, read: ReadEntry) -> Result<ReadEntry> {
        let incomplete = |what| Err(ReplicaError::Incomplete { path: dir.to_owned(), what });
        if dir_of(&read.0)? != dir {
            return incomplete("its mailbox belongs into another directory");
        }
        match self.get(&read.0.name).is_some_and(|other| other.mbtype.has_data()) {
            true => incomplete("its mailbox has the name of another one"),
            false => Ok(read),
        }
    }

    /// Gives up what has no directory any more.
    pub fn forget_vanished(&mut self) {
        self.vanished.clear();
    }

    pub fn get(&self, name: &MboxName) -> Option<&MailboxEntry> {
        self.by_name.get(name)
    }

    /// The mailbox of this identity, if it has messages.
    pub fn by_id(&self, id: &UniqueId) -> Option<&MailboxEntry> {
        self.by_name.get(self.by_id.get(id)?)
    }

    pub fn entries(&self) -> impl Iterator<Item = &MailboxEntry> {
        self.by_name.values()
    }

    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Adds it, or replaces the one of its name.
    pub fn insert(&mut self, entry: MailboxEntry) {
        self.remove(&entry.name.clone());
        self.vanished.retain(|name, old| *name != entry.name && old.uniqueid != entry.uniqueid);
        if let Some(id) = entry.uniqueid.clone().filter(|_| entry.mbtype.has_data()) {
            self.by_id.insert(id, entry.name.clone());
        }
        self.by_name.insert(entry.name.clone(), entry);
    }

    pub fn remove(&mut self, name: &MboxName) -> Option<MailboxEntry> {
        let entry = self.by_name.remove(name)?;
        if entry.mbtype.has_data()
            && let Some(id) = &entry.uniqueid
        {
            self.by_id.remove(id);
        }
        Some(entry)
    }

    /// The bytes of mailboxes.db.
    pub fn write(&self) -> Result<Vec<u8>> {
        let mut records = Vec::new();
        for entry in self.by_name.values().chain(self.vanished.values()) {
            records.extend(entry.to_by_id(&rules().names)?);
        }
        records.sort();
        // An intermediate name may have kept the identity of a mailbox that has moved on.
        records.dedup_by(|next, first| next.0 == first.0);
        let what = || MAILBOXES_DB.to_owned();
        twoskip::write_fresh(&records)
            .map_err(|source| ReplicaError::Encode { what: what(), source })
    }
}

/// The directory of a mailbox.
pub(super) fn dir_of(entry: &MailboxEntry) -> Result<PathBuf> {
    let missing = || ReplicaError::NoSuchMailbox(entry.name.clone());
    let partition = entry.partition.as_deref().filter(|_| entry.mbtype.has_data());
    let partition = Partition::new(partition.ok_or_else(missing)?);
    super::mailbox_dir(&partition, entry.uniqueid.as_ref().ok_or_else(missing)?)
}

/// The directories of all mailboxes below all partitions, whether there is a mailbox in them or not.
pub(super) fn mailbox_dirs(disk: &Disk) -> Result<Vec<(Partition, PathBuf)>> {
    let mut dirs = Vec::new();
    for partition in partitions(disk)? {
        let root = super::partition_dir(&partition)?.join("uuid");
        for first in subdirs(disk, &root)? {
            for second in subdirs(disk, &first)? {
                let found = subdirs(disk, &second)?;
                dirs.extend(found.into_iter().map(|dir| (partition.clone(), dir)));
            }
        }
    }
    Ok(dirs)
}

/// The partitions that have a directory.
pub(super) fn partitions(disk: &Disk) -> Result<Vec<Partition>> {
    let named = |dir: PathBuf| {
        let name = dir.file_name()?.as_encoded_bytes().to_vec();
        Some(Partition::new(name)).filter(|name| super::partition_dir(name).is_ok())
    };
    Ok(subdirs(disk, Path::new("spool"))?.into_iter().filter_map(named).collect())
}

fn subdirs(disk: &Disk, path: &Path) -> Result<Vec<PathBuf>> {
    let names = disk.names(path)?.into_iter();
    Ok(names
        .filter(|(_, kind)| *kind == FileType::Directory)
        .map(|(name, _)| path.join(name))
        .collect())
}

/// A mailbox, and its quota root.
type ReadEntry = (MailboxEntry, Option<MboxName>);

/// What the files of a mailbox say about it.
fn read_entry(disk: &Disk, dir: &Path, partition: Partition) -> Result<ReadEntry> {
    let path = dir.join(HEADER);
    let missing = |what| ReplicaError::Incomplete { path: dir.join(HEADER), what };
    let bytes = disk.read(&path)?.ok_or_else(|| missing("it is missing"))?;
    let header = MailboxHeader::parse(&bytes).map_err(damaged(&path))?;
    let summary = Summary::load(disk, dir)?.ok_or_else(|| missing("it has no index"))?;
    let mut entry = MailboxEntry {
        name: header.name.ok_or_else(|| missing("it has no name"))?,
        uniqueid: Some(header.uniqueid.ok_or_else(|| missing("it has no uniqueid"))?),
        mbtype: MailboxType::from_letters(&header.mbtype),
        partition: Some(partition.as_bytes().to_vec()),
        acl: header.acl,
        ..MailboxEntry::default()
    };
    take_counters(&mut entry, &summary);
    Ok((entry, header.quotaroot))
}

/// Copies into an entry what mailboxes.db repeats of a mailbox's own files.
pub(super) fn take_counters(entry: &mut MailboxEntry, summary: &Summary) {
    entry.uidvalidity = Some(summary.index.uidvalidity);
    entry.createdmodseq = Some(summary.index.createdmodseq);
    entry.foldermodseq = Some(summary.extra.foldermodseq);
}

/// Whose mailbox it is.
pub(super) fn owner(name: &MboxName) -> Option<Userid> {
    rules().names.owner(name)
}

/// Removes files that no mailbox refers to: what a process left that was killed.
pub(super) fn sweep_names(
    disk: &Disk,
    dir: &Path,
    is_litter: &dyn Fn(&[u8]) -> bool,
) -> Result<()> {
    for (name, kind) in disk.names(dir)? {
        if kind != FileType::Directory && is_litter(name.as_encoded_bytes()) {
            disk.remove(&dir.join(name))?;
        }
    }
    Ok(())
}
