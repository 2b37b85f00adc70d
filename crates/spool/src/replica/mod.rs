//! The spool of a replica: ours alone until it is promoted to a Cyrus of its own.
//!
//! Below the root are `imapd.conf`, `conf/` and `spool/<partition>/`, as Cyrus 3.6 lays them out by
//! uniqueid. The truth about a mailbox is in its own files; the list of mailboxes is made of them
//! when the replica is opened, and kept in memory. mailboxes.db and annotations.db repeat it for
//! whoever reads the spool, and follow within a share of the list ([`State::flush`]).
//!
//! ```no_run
//! let replica = spool::replica::Replica::open("/srv/replica".as_ref())?;
//! let state = replica.lock();
//! let inbox = state.mailbox(&"user.glad".into());
//! # Ok::<(), spool::replica::ReplicaError>(())
//! ```

mod account;
mod batch;
mod claims;
mod contents;
mod dirs;
mod disk;
mod error;
mod examine;
mod files;
mod hold;
mod list;
mod message;
mod open;
mod placed;
mod promote;
mod quota;
mod records;
mod relocate;
mod revision;
mod scratch;
mod store;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::RwLock;

use cyrus_format::annotations::Annotated;
use cyrus_format::db::twoskip;
use cyrus_format::mboxlist::MailboxEntry;
use cyrus_format::names::NameRules;
use cyrus_format::paths::{DirHash, PathRules};
use cyrus_format::quota::Quota;
use model::{MboxName, Partition, UidValidity, UniqueId, Userid};

pub use account::{Home, ScriptFile, Wanted};
pub use batch::NewMessage;
pub use claims::Concern;
pub use contents::{Contents, INDEX_VERSION, MailboxExtra, Summary};
pub use cyrus_format::annotations::Note;
pub use error::{ReplicaError, Result};
pub use files::Files;
pub use message::{Arriving, Message};
pub(crate) use open::LOCK_NAME;
pub use records::Records;
pub use revision::{Recorded, Revised, Revision};
pub use scratch::Scratch;
pub use store::{Claim, Update, Whole};

use batch::{Batch, Step};
use claims::Claims;
use contents::Place;
use hold::Held;
use list::{List, MAILBOXES_DB};

use crate::catalog::Owned;
use crate::lock::ofd;

const ANNOTATIONS_DB: &str = "conf/annotations.db";

/// The list is written down anew once this share of it has changed: so that what is written for
/// each change does not grow with the list, and small lists are always up to date.
const SHARE: usize = 64;

/// A replica that is open: no other process can open it.
#[derive(Debug)]
pub struct Replica {
    files: Files,
    claims: Claims,
    state: RwLock<State>,
}

/// What is known of a replica. Its files are read and changed by those who have [claimed](Claim) them.
#[derive(Debug)]
pub struct State {
    files: Files,
    /// Held for as long as the replica is open.
    _lock: File,
    list: List,
    quotas: BTreeMap<MboxName, Quota>,
    server_notes: Vec<Note>,
    /// Annotations of mailboxes, of those that have any.
    notes: HashMap<UniqueId, Vec<Note>>,
    partitions: BTreeSet<Partition>,
    /// What has changed since mailboxes.db and annotations.db were written.
    unwritten: usize,
    /// Quota roots below which something has changed since their use was counted.
    uncounted: BTreeSet<MboxName>,
    /// Names below which headers may name another quota root than theirs.
    unassigned: BTreeSet<MboxName>,
    /// Directories that are no mailboxes any more.
    damaged: Vec<ReplicaError>,
}

/// What becomes of a name whose mailbox goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Remains {
    Tombstone,
    Intermediate,
}

impl Replica {
    /// Opens a replica, or makes one where there is nothing. Whatever a process left that was
    /// killed is completed or removed.
    ///
    /// # Errors
    /// [`ReplicaError::InUse`] if another process has it, [`ReplicaError::Foreign`] for a directory
    /// that holds something else, [`ReplicaError::Promoted`] for one that held a replica, and what the
    /// system says.
    pub fn open(root: &Path) -> Result<Self> {
        let state = State::open(root)?;
        let (files, claims) = (state.files.clone(), Claims::default());
        Ok(Self { files, claims, state: RwLock::new(state) })
    }

    /// Opens a replica that is there.
    ///
    /// # Errors
    /// [`ReplicaError::NoReplica`] if there is none, [`ReplicaError::Promoted`] if there was one, and
    /// as for [`Replica::open`].
    pub fn open_existing(root: &Path) -> Result<Self> {
        let is_there = |name: &&str| root.join(name).symlink_metadata().is_ok();
        if ![open::LOCK, open::PROMOTED].iter().any(is_there) {
            return Err(ReplicaError::NoReplica { path: root.to_owned() });
        }
        Self::open(root)
    }
}

impl State {
    /// What stands in the way of being whole: directories that are no mailboxes any more. Masters
    /// make them anew.
    pub fn damaged(&self) -> &[ReplicaError] {
        &self.damaged
    }

    /// The mailbox, intermediate name or tombstone of this name.
    pub fn mailbox(&self, name: &MboxName) -> Option<&MailboxEntry> {
        self.list.get(name)
    }

    /// The mailbox of this identity.
    pub fn mailbox_by_id(&self, id: &UniqueId) -> Option<&MailboxEntry> {
        self.list.by_id(id)
    }

    /// All mailboxes and intermediate names of an account, INBOX first, and then what is deleted but
    /// kept.
    pub fn mailboxes_of(&self, userid: &Userid) -> Vec<&MailboxEntry> {
        let names = &rules().names;
        // Asked of every name that there is: none is taken apart for it.
        let owned = userid.user().and_then(|user| Owned::by(user, &rules()));
        let is_his =
            |name: &MboxName| owned.as_ref().is_some_and(|own| own.has_name(name.as_bytes()));
        let mut found: Vec<_> = self
            .list
            .entries()
            .filter(|entry| !entry.mbtype.deleted && is_his(&entry.name))
            .map(|entry| (names.is_deleted(&entry.name), names.to_dbname(&entry.name).ok(), entry))
            .collect();
        found.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        found.into_iter().map(|(_, _, entry)| entry).collect()
    }

    /// Gives a mailbox another name, another partition, or both.
    ///
    /// # Errors
    /// [`ReplicaError::NoSuchMailbox`] if there is none; likewise, if another has the name.
    pub fn rename(
        &mut self,
        old: &MboxName,
        new: &MboxName,
        partition: &Partition,
        uidvalidity: Option<UidValidity>,
    ) -> Result<()> {
        let missing = || ReplicaError::NoSuchMailbox(old.clone());
        let entry = self.list.get(old).filter(|entry| entry.mbtype.has_data());
        let mut entry = entry.ok_or_else(missing)?.clone();
        rules().names.to_dbname(new)?;
        let id = entry.uniqueid.clone().unwrap_or_default();
        let held = Held::of_mailboxes(&self.files.disk, [old, new])?;
        let _held = held.and_mailbox(&self.files.disk, old, &id, ofd::Mode::Exclusive)?;
        if entry.partition.as_deref() != Some(partition.as_bytes()) {
            self.move_to(&mut entry, partition)?;
        }
        if old == new {
            self.follow();
            return Ok(());
        }
        let before = self.files.contents(&entry)?;
        let mut after = before.clone();
        after.header.name = Some(new.clone());
        after.header.quotaroot = self.quota_root_of(new).cloned();
        after.index.uidvalidity = uidvalidity.unwrap_or(after.index.uidvalidity);
        after.extra.foldermodseq = after.extra.foldermodseq.max(after.index.highestmodseq);
        let (dir, owner) = (list::dir_of(&entry)?, list::owner(new));
        let mut list = List::default();
        std::mem::swap(&mut list, &mut self.list);
        let mut renamed = entry.clone();
        renamed.name = new.clone();
        let extra = after.extra.clone();
        list::take_counters(&mut renamed, &Summary { index: after.index.clone(), extra });
        let tombstone = tombstone_of(&entry);
        list.remove(old);
        list.insert(tombstone);
        let former = list.remove(new);
        list.insert(renamed);
        std::mem::swap(&mut list, &mut self.list);
        let mut batch = Batch::new(&self.files.disk);
        let (disk, is_told) = (&self.files.disk, self.files.told.has(&dir.join(contents::INDEX)));
        let place = Place { disk, dir: &dir, owner: owner.as_ref(), is_told };
        let put = after.put(Some(&before), Recorded::Same, &place, &mut batch);
        let done = put.and_then(|()| self.list.write()).and_then(|bytes| {
            batch.put(PathBuf::from(MAILBOXES_DB), bytes);
            batch.commit()
        });
        if let Err(error) = done {
            self.list.remove(new);
            self.list.insert(entry);
            former.into_iter().for_each(|former| self.list.insert(former));
            return Err(error);
        }
        self.uncounted.extend(before.header.quotaroot);
        self.uncounted.extend(after.header.quotaroot);
        self.follow();
        Ok(())
    }

    /// Deletes a mailbox with all that belongs to it. Where others are below it, its name stays as a
    /// level between them.
    ///
    /// # Errors
    /// [`ReplicaError::NoSuchMailbox`] if there is none.
    pub fn remove(&mut self, name: &MboxName) -> Result<()> {
        let entry = self.list.get(name).filter(|entry| !entry.mbtype.deleted);
        let entry = entry.ok_or_else(|| ReplicaError::NoSuchMailbox(name.clone()))?.clone();
        let below = [name.as_bytes(), b"."].concat();
        let has_children = self
            .list
            .entries()
            .any(|other| other.name.as_bytes().starts_with(&below) && other.mbtype.has_data());
        let remains = if has_children { Remains::Intermediate } else { Remains::Tombstone };
        self.remove_all(vec![(entry, remains)], Vec::new())
    }

    /// Writes down a name without messages: a tombstone or a level between mailboxes. A mailbox of
    /// that name goes.
    ///
    /// # Errors
    /// A name that has no form in mailboxes.db.
    pub fn put_name(&mut self, entry: MailboxEntry) -> Result<()> {
        rules().names.to_dbname(&entry.name)?;
        let old = self.list.get(&entry.name).filter(|old| old.mbtype.has_data()).cloned();
        if let Some(old) = old {
            self.remove_all(vec![(old, Remains::Tombstone)], Vec::new())?;
        }
        let (name, before) = (entry.name.clone(), self.list.get(&entry.name).cloned());
        self.list.insert(entry);
        self.unwritten += 1;
        self.flush().inspect_err(|_| {
            self.list.remove(&name);
            before.into_iter().for_each(|before| self.list.insert(before));
        })
    }

    /// Deletes mailboxes and files at once.
    fn remove_all(&mut self, gone: Vec<(MailboxEntry, Remains)>, files: Vec<Step>) -> Result<()> {
        let mut held =
            Held::of_mailboxes(&self.files.disk, gone.iter().map(|(entry, _)| &entry.name))?;
        for (entry, _) in gone.iter().filter(|(entry, _)| entry.mbtype.has_data()) {
            let id = entry.uniqueid.clone().unwrap_or_default();
            held = held.and_mailbox(&self.files.disk, &entry.name, &id, ofd::Mode::Exclusive)?;
        }
        let mut batch = Batch::new(&self.files.disk);
        for (entry, _) in gone.iter().filter(|(entry, _)| entry.mbtype.has_data()) {
            batch.then(Step::RemoveTree(list::dir_of(entry)?));
        }
        files.into_iter().for_each(|step| batch.then(step));
        for (entry, remains) in &gone {
            self.list.insert(match remains {
                Remains::Tombstone => tombstone_of(entry),
                Remains::Intermediate => intermediate_of(entry),
            });
        }
        let done = self.list.write().and_then(|bytes| {
            batch.put(PathBuf::from(MAILBOXES_DB), bytes);
            batch.commit()
        });
        if let Err(error) = done {
            gone.into_iter().for_each(|(entry, _)| self.list.insert(entry));
            return Err(error);
        }
        drop(held);
        for (entry, _) in &gone {
            self.uncounted.extend(self.quota_root_of(&entry.name).cloned());
            if let Some(id) = &entry.uniqueid {
                self.unwritten += usize::from(self.notes.remove(id).is_some());
            }
        }
        self.follow();
        Ok(())
    }

    /// The annotations of the server.
    pub fn server_notes(&self) -> &[Note] {
        &self.server_notes
    }

    /// Sets an annotation of the server; without a value it goes.
    ///
    /// # Errors
    /// If that cannot be written.
    pub fn set_server_note(&mut self, note: Note) -> Result<()> {
        let before = self.server_notes.clone();
        set_note(&mut self.server_notes, note);
        self.unwritten += 1;
        self.flush().inspect_err(|_| self.server_notes = before)
    }

    fn set_notes(&mut self, id: UniqueId, notes: Vec<Note>) {
        let old = match notes.is_empty() {
            true => self.notes.remove(&id),
            false => self.notes.insert(id, notes.clone()),
        };
        self.unwritten += usize::from(old.unwrap_or_default() != notes);
    }

    /// Writes down what is only in memory: the list of mailboxes, annotations of mailboxes, and what
    /// quotas have in use. All of it can be found out anew; this is for those who read the spool
    /// without asking us.
    ///
    /// # Errors
    /// If that cannot be written.
    pub fn flush(&mut self) -> Result<()> {
        self.assign_all()?;
        if self.unwritten == 0 && self.uncounted.is_empty() {
            return Ok(());
        }
        let mut batch = Batch::new(&self.files.disk);
        if self.unwritten > 0 {
            self.put_databases(&mut batch)?;
        }
        let counted = self.count_quotas(&mut batch)?;
        batch.commit()?;
        self.quotas.extend(counted);
        self.unwritten = 0;
        self.uncounted.clear();
        Ok(())
    }

    /// Adds mailboxes.db and annotations.db to a batch, as far as they have changed.
    fn put_databases(&self, batch: &mut Batch<'_>) -> Result<()> {
        for (path, bytes) in
            [(MAILBOXES_DB, self.list.write()?), (ANNOTATIONS_DB, self.annotations_db()?)]
        {
            let path = PathBuf::from(path);
            if self.files.disk.read(&path)?.as_ref() != Some(&bytes) {
                batch.put(path, bytes);
            }
        }
        Ok(())
    }

    /// The same behind a change that is done: what cannot be written now is with the next change.
    fn follow(&mut self) {
        let _ = self.flush();
    }

    fn annotations_db(&self) -> Result<Vec<u8>> {
        let mut records = BTreeMap::new();
        for note in &self.server_notes {
            records.insert(note.key(Annotated::Server, None), note.stored());
        }
        for (id, notes) in &self.notes {
            let owner = self.list.by_id(id).and_then(|entry| list::owner(&entry.name));
            for note in notes {
                let annotated = Annotated::Mailbox(id.as_bytes().to_vec());
                records.insert(note.key(annotated, owner.as_ref()), note.stored());
            }
        }
        let records: Vec<_> = records.into_iter().collect();
        let what = || ANNOTATIONS_DB.to_owned();
        twoskip::write_fresh(&records)
            .map_err(|source| ReplicaError::Encode { what: what(), source })
    }

    /// Takes note of a partition, so that imapd.conf names it.
    fn add_partition(&mut self, partition: &Partition) -> Result<()> {
        let dir = partition_dir(partition)?;
        if !self.partitions.contains(partition) {
            self.files.disk.make_durable_dir(&dir)?;
            self.partitions.insert(partition.clone());
            self.write_conf().inspect_err(|_| {
                // So that the next one who wants it tries again.
                self.partitions.remove(partition);
            })?;
        }
        Ok(())
    }
}

/// Sets an annotation among others; without a value it goes.
pub fn set_note(notes: &mut Vec<Note>, note: Note) {
    notes.retain(|old| (&old.entry, &old.userid) != (&note.entry, &note.userid));
    if !note.value.is_empty() {
        notes.push(note);
        notes.sort();
    }
}

/// How names become paths in a replica, as its imapd.conf says.
pub fn rules() -> PathRules {
    PathRules { names: NameRules::v3(), hashimapspool: false, dirhash: DirHash::Simple }
}

/// The directory of a partition.
fn partition_dir(partition: &Partition) -> Result<PathBuf> {
    // What imapd.conf can say behind `partition-` (`lib/libconfig.c`), in lower case as Cyrus has it.
    let plain =
        |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(byte);
    let bytes = partition.as_bytes();
    match std::str::from_utf8(bytes) {
        Ok(name) if (1..=64).contains(&bytes.len()) && bytes.iter().all(plain) => {
            Ok(Path::new("spool").join(name))
        }
        _ => Err(ReplicaError::Partition(partition.to_string())),
    }
}

fn mailbox_dir(partition: &Partition, id: &UniqueId) -> Result<PathBuf> {
    Ok(partition_dir(partition)?.join(rules().mailbox_dir_by_id(id)?))
}

fn tombstone_of(entry: &MailboxEntry) -> MailboxEntry {
    let mut mbtype = entry.mbtype;
    (mbtype.deleted, mbtype.intermediate) = (true, false);
    MailboxEntry { mbtype, partition: None, acl: Vec::new(), history: Vec::new(), ..entry.clone() }
}

fn intermediate_of(entry: &MailboxEntry) -> MailboxEntry {
    let mut mbtype = entry.mbtype;
    mbtype.intermediate = true;
    MailboxEntry { mbtype, partition: None, acl: Vec::new(), history: Vec::new(), ..entry.clone() }
}
