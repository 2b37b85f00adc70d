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
            let mut entry = match read_entry(disk, &dir, partition) {
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
        Ok((list, roots))
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
        for entry in self.by_name.values() {
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

/// What the files of a mailbox say about it, and its quota root.
fn read_entry(
    disk: &Disk,
    dir: &Path,
    partition: Partition,
) -> Result<(MailboxEntry, Option<MboxName>)> {
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
