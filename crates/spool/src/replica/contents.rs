//! A mailbox of a replica, as values and as files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cyrus_format::annotations::{Annotated, Note};
use cyrus_format::db::twoskip;
use cyrus_format::dlist::Dlist;
use cyrus_format::header::{MailboxHeader, file_crc};
use cyrus_format::index::{Index, IndexHeader, Tally, write_index};
use cyrus_format::{EncodeError, FormatError};
use model::crc::{self, ThridText};
use model::{Modseq, Record, Uid, Userid};

use super::batch::Batch;
use super::disk::Disk;
use super::error::{ReplicaError, Result};

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

/// A mailbox with its messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Who it is, and what its flags are called.
    pub header: MailboxHeader,
    /// Its counters. Those that follow from the records are set when it is stored.
    pub index: IndexHeader,
    /// Its messages, UIDs ascending.
    pub records: Vec<Record>,
    /// The annotations of its messages.
    pub notes: BTreeMap<Uid, Vec<Note>>,
    /// The rest.
    pub extra: MailboxExtra,
}

/// A mailbox without its messages.
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

    /// Counts the records anew and puts what they say into the index header. `thrid` is how the
    /// master writes conversation ids where it adds up its CRC.
    pub fn recount(&mut self, thrid: ThridText) {
        let flags = self.header.flag_crcs();
        let tally = Tally::of(self.records.iter().cloned(), INDEX_VERSION, &flags, thrid);
        let annots = self.notes_crc();
        self.index.first_expunged = model::Timestamp::default();
        tally.apply(&mut self.index, annots);
        // As Cyrus, this forgets what was noted of a message that is expunged.
        let notes = self.live_notes().map(|(_, note)| note).chain(&self.extra.notes);
        self.index.quota_annot_used = notes.map(|note| note.value.len() as u64).sum();
    }

    /// The part of the annotation CRC that the records themselves have no part in.
    pub(super) fn notes_crc(&self) -> u32 {
        self.live_notes().fold(crc::ANNOT_START, |sum, (uid, note)| {
            sum ^ crc::annotation(uid, &note.entry, note.userid.as_bytes(), &note.value)
        })
    }

    /// The annotations of messages that are not expunged.
    fn live_notes(&self) -> impl Iterator<Item = (Uid, &Note)> {
        let live = self.records.iter().filter(|record| !record.is_expunged());
        live.flat_map(|record| {
            self.notes.get(&record.uid).into_iter().flatten().map(|note| (record.uid, note))
        })
    }

    /// Reads it; `None` if it is not there.
    pub(super) fn load(disk: &Disk, dir: &Path, owner: Option<&Userid>) -> Result<Option<Self>> {
        let path = dir.join(HEADER);
        let Some(bytes) = disk.read(&path)? else { return Ok(None) };
        let header = MailboxHeader::parse(&bytes).map_err(damaged(&path))?;
        let path = dir.join(INDEX);
        let Some(bytes) = disk.read(&path)? else { return Ok(None) };
        let view = Index::parse(&bytes).map_err(damaged(&path))?;
        let (index, records) = (view.header().clone(), view.records().collect());
        let path = dir.join(ANNOTATIONS);
        let notes = match disk.read(&path)? {
            Some(bytes) => Note::of_messages(&bytes, owner).map_err(damaged(&path))?,
            None => BTreeMap::new(),
        };
        let extra = MailboxExtra::load(disk, dir)?;
        Ok(Some(Self { header, index, records, notes, extra }))
    }

    /// Adds all files that have changed since `before` to a batch.
    pub(super) fn put(
        &mut self,
        before: Option<&Self>,
        dir: &Path,
        owner: Option<&Userid>,
        batch: &mut Batch<'_>,
    ) -> Result<()> {
        let encode = |name: &'static str| {
            let what = dir.join(name).display().to_string();
            move |source| ReplicaError::Encode { what, source }
        };
        let header = self.header.write().map_err(encode(HEADER))?;
        self.index.header_file_crc = file_crc(&header);
        let index = write_index(&self.index, &self.records).map_err(encode(INDEX))?;
        let is_new = |same: fn(&Self, &Self) -> bool| before.is_none_or(|old| !same(self, old));
        if is_new(|new, old| new.header == old.header) {
            batch.put(dir.join(HEADER), header);
        }
        if is_new(|new, old| new.extra == old.extra) {
            batch.put(dir.join(STATE), self.extra.write());
        }
        let has_notes = before.is_some_and(|old| !old.notes.is_empty()) || !self.notes.is_empty();
        if has_notes && is_new(|new, old| new.notes == old.notes) {
            let bytes = write_notes(&self.notes, owner).map_err(encode(ANNOTATIONS))?;
            batch.put(dir.join(ANNOTATIONS), bytes);
        }
        batch.put(dir.join(INDEX), index);
        Ok(())
    }
}

impl Summary {
    /// Reads it; `None` if the mailbox is not there.
    pub(super) fn load(disk: &Disk, dir: &Path) -> Result<Option<Self>> {
        let path = dir.join(INDEX);
        let Some(file) = disk.open_file(&path)? else { return Ok(None) };
        let (size, _) = cyrus_format::index::sizes(INDEX_VERSION).unwrap_or((160, 112));
        let mut bytes = Vec::with_capacity(size);
        let mut head = std::io::Read::take(file, size as u64);
        std::io::Read::read_to_end(&mut head, &mut bytes)
            .map_err(super::disk::io_error("read", &path))?;
        let index = Index::parse(&bytes).map_err(damaged(&path))?.header().clone();
        Ok(Some(Self { index, extra: MailboxExtra::load(disk, dir)? }))
    }
}

impl MailboxExtra {
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
