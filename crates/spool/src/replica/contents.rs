//! A mailbox of a replica, as values and as files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cyrus_format::annotations::{Annotated, Note};
use cyrus_format::db::twoskip;
use cyrus_format::dlist::Dlist;
use cyrus_format::header::{MailboxHeader, file_crc};
use cyrus_format::index::IndexHeader;
use cyrus_format::{EncodeError, FormatError};
use model::{Modseq, Uid, Userid};

use super::batch::{Batch, Step};
use super::disk::Disk;
use super::error::{ReplicaError, Result};
use super::records;
use super::revision::Recorded;

/// The version of cyrus.index that is written: that of 3.4 to 3.8, which later releases read.
pub const INDEX_VERSION: u32 = 17;

pub(super) const HEADER: &str = "cyrus.header";
pub(super) const INDEX: &str = "cyrus.index";
pub(super) const ANNOTATIONS: &str = "cyrus.annotations";
/// What masters say of a mailbox and Cyrus keeps in databases of the server. Cyrus passes over
/// what it does not know and begins with `cyrus.`.
pub(super) const STATE: &str = "cyrus.cylinder";

/// What is kept of a mailbox that its own files have no place for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MailboxExtra {
    /// When the mailbox itself last changed.
    pub foldermodseq: Modseq,
    /// Where its conversations changed last, as the master says.
    pub xconvmodseq: Option<Modseq>,
    /// Only with `reverseacls`.
    pub raclmodseq: Option<Modseq>,
    /// Its own annotations.
    pub notes: Vec<Note>,
}

/// A mailbox with all but its records, which are read by themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Who it is, and what its flags are called.
    pub header: MailboxHeader,
    /// Its counters.
    pub index: IndexHeader,
    /// The annotations of its messages.
    pub notes: BTreeMap<Uid, Vec<Note>>,
    /// The rest.
    pub extra: MailboxExtra,
}

/// The counters of a mailbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Its counters.
    pub index: IndexHeader,
    /// What its own files have no place for.
    pub extra: MailboxExtra,
}

impl Contents {
    /// An empty mailbox.
    ///
    /// # Errors
    /// Never, as long as [`INDEX_VERSION`] is known.
    pub fn new(header: MailboxHeader) -> Result<Self, EncodeError> {
        let index = IndexHeader::fresh(INDEX_VERSION)?;
        Ok(Self { header, index, ..Self::default() })
    }

    /// The annotations of a message.
    pub(super) fn notes_of(&self, uid: Uid) -> &[Note] {
        self.notes.get(&uid).map(Vec::as_slice).unwrap_or_default()
    }

    /// Reads it; `None` if it is not there.
    pub(super) fn load(disk: &Disk, dir: &Path, owner: Option<&Userid>) -> Result<Option<Self>> {
        let path = dir.join(HEADER);
        let Some(bytes) = disk.read(&path)? else { return Ok(None) };
        let header = MailboxHeader::parse(&bytes).map_err(damaged(&path))?;
        let Some((index, _)) = records::open(disk, dir)? else { return Ok(None) };
        let path = dir.join(ANNOTATIONS);
        let notes = match disk.read(&path)? {
            Some(bytes) => Note::of_messages(&bytes, owner).map_err(damaged(&path))?,
            None => BTreeMap::new(),
        };
        let extra = MailboxExtra::load(disk, dir)?;
        Ok(Some(Self { header, index, notes, extra }))
    }

    /// Adds all files that have changed since `before` to a batch.
    pub(super) fn put(
        &mut self,
        before: Option<&Self>,
        records: Recorded,
        place: &Place<'_>,
        batch: &mut Batch<'_>,
    ) -> Result<()> {
        let path = |name: &str| place.dir.join(name);
        let header = self.header.write().map_err(encode(&path(HEADER)))?;
        self.index.header_file_crc = file_crc(&header);
        if let (Some(before), false) = (before, matches!(records, Recorded::All(_))) {
            let (was, is) = (before.extra.used(), self.extra.used());
            let used = self.index.quota_annot_used;
            self.index.quota_annot_used = used.saturating_sub(was).saturating_add(is);
        }
        let is_new = |same: fn(&Self, &Self) -> bool| before.is_none_or(|old| !same(self, old));
        if is_new(|new, old| new.header == old.header) {
            batch.put(path(HEADER), header);
        }
        if is_new(|new, old| new.extra == old.extra) {
            batch.put(path(STATE), self.extra.write());
        }
        let has_notes = before.is_some_and(|old| !old.notes.is_empty()) || !self.notes.is_empty();
        if has_notes && is_new(|new, old| new.notes == old.notes) {
            let bytes = write_notes(&self.notes, place.owner);
            batch.put(path(ANNOTATIONS), bytes.map_err(encode(&path(ANNOTATIONS)))?);
        }
        self.put_index(records, place, batch)
    }

    fn put_index(&self, records: Recorded, place: &Place<'_>, batch: &mut Batch<'_>) -> Result<()> {
        let path = place.dir.join(INDEX);
        let changes = match records {
            Recorded::All(rewritten) => {
                batch.put_file(path, rewritten.finish(&self.index)?);
                return Ok(());
            }
            Recorded::Few(changes) => changes,
            Recorded::Same => Vec::new(),
        };
        let patches = records::patches(&self.index, &changes, &path)?;
        if !place.is_told && place.disk.can_patch(&path, &patches)? {
            batch.then(Step::Patch { path, patches });
        } else {
            let copy = records::patched_copy(place.disk, &path, &patches)?;
            batch.put_file(path, copy);
        }
        Ok(())
    }
}

/// Where a mailbox is stored.
pub(super) struct Place<'p> {
    pub disk: &'p Disk,
    pub dir: &'p Path,
    pub owner: Option<&'p Userid>,
    /// Whether somebody reads its index.
    pub is_told: bool,
}

impl Summary {
    /// Reads it; `None` if the mailbox is not there.
    pub(super) fn load(disk: &Disk, dir: &Path) -> Result<Option<Self>> {
        let Some((index, _)) = records::open(disk, dir)? else { return Ok(None) };
        Ok(Some(Self { index, extra: MailboxExtra::load(disk, dir)? }))
    }
}

impl MailboxExtra {
    /// Bytes that its annotations count for.
    pub(super) fn used(&self) -> u64 {
        self.notes.iter().map(|note| note.value.len() as u64).sum()
    }

    fn load(disk: &Disk, dir: &Path) -> Result<Self> {
        let path = dir.join(STATE);
        let Some(bytes) = disk.read(&path)? else { return Ok(Self::default()) };
        Self::parse(&bytes).map_err(damaged(&path))
    }

    fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        let value = Dlist::parse_exact(bytes.trim_ascii_end())?;
        let modseq = |key: &[u8]| value.get(key).and_then(Dlist::as_num).map(Modseq);
        let text = |value: &Dlist, key: &[u8]| {
            value.get(key).and_then(Dlist::as_bytes).unwrap_or_default().to_vec()
        };
        let notes = value.get(b"ANNOTATIONS").and_then(Dlist::items).unwrap_or_default();
        let notes = notes.iter().map(|note| Note {
            entry: text(note, b"ENTRY"),
            userid: Userid::new(text(note, b"USERID")),
            value: text(note, b"VALUE"),
            modseq: Modseq(note.get(b"MODSEQ").and_then(Dlist::as_num).unwrap_or(0)),
        });
        Ok(Self {
            foldermodseq: modseq(b"FOLDERMODSEQ").unwrap_or_default(),
            xconvmodseq: modseq(b"XCONVMODSEQ"),
            raclmodseq: modseq(b"RACLMODSEQ"),
            notes: notes.collect(),
        })
    }

    fn write(&self) -> Vec<u8> {
        let pair = |key: &str, value: Dlist| (key.as_bytes().to_vec(), value);
        let mut pairs = vec![pair("FOLDERMODSEQ", Dlist::num(self.foldermodseq.0))];
        let others = [("XCONVMODSEQ", self.xconvmodseq), ("RACLMODSEQ", self.raclmodseq)];
        for (key, modseq) in others {
            pairs.extend(modseq.map(|modseq| pair(key, Dlist::num(modseq.0))));
        }
        let notes = self.notes.iter().map(|note| {
            Dlist::Kv(vec![
                pair("ENTRY", Dlist::bytes(note.entry.as_slice())),
                pair("USERID", Dlist::bytes(note.userid.as_bytes())),
                pair("MODSEQ", Dlist::num(note.modseq.0)),
                pair("VALUE", Dlist::bytes(note.value.as_slice())),
            ])
        });
        pairs.push(pair("ANNOTATIONS", Dlist::List(notes.collect())));
        let mut bytes = Dlist::Kv(pairs).to_vec();
        bytes.push(b'\n');
        bytes
    }
}

fn write_notes(
    notes: &BTreeMap<Uid, Vec<Note>>,
    owner: Option<&Userid>,
) -> Result<Vec<u8>, EncodeError> {
    let mut records = BTreeMap::new();
    for (uid, note) in notes.iter().flat_map(|(uid, notes)| notes.iter().map(move |n| (uid, n))) {
        let annotated = Annotated::Message(*uid);
        records.insert(note.key(annotated, owner), note.stored());
    }
    twoskip::write_fresh(&records.into_iter().collect::<Vec<_>>())
}

/// The error for a file that makes no sense.
pub(super) fn damaged(path: &Path) -> impl FnOnce(FormatError) -> ReplicaError {
    let path: PathBuf = path.to_owned();
    move |source| ReplicaError::Damaged { path, source }
}

/// The error for a value that a file has no room for.
pub(super) fn encode(path: &Path) -> impl FnOnce(EncodeError) -> ReplicaError {
    let what = path.display().to_string();
    move |source| ReplicaError::Encode { what, source }
}
