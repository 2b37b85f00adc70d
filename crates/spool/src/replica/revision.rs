//! Records on their way from what is there to what is to be.

use std::iter::Peekable;

use cyrus_format::index::{IndexHeader, Tally};
use model::crc::{self, FlagCrcs, ThridText};
use model::{Partition, Record, Uid};

use super::contents::{Contents, INDEX_VERSION};
use super::error::Result;
use super::records::{Iter, Records, Rewritten};
use super::{Files, Note};

/// Up to so many records are changed by themselves, if they are a small part of all. They are kept in
/// memory, and written down twice if the index is changed in place.
const FEW: usize = 4096;
const SMALL_PART: usize = 8;

/// What becomes of the records of a mailbox.
#[derive(Debug)]
pub enum Recorded {
    /// They stay.
    Same,
    /// Few of them change, or are added at the end: with their places, from 0.
    Few(Vec<(usize, Record)>),
    /// All are written anew.
    All(Rewritten),
}

/// Changes the records of a mailbox in the order of their UIDs, and counts them.
#[derive(Debug)]
pub struct Revision<'r> {
    way: Way<'r>,
    flags: Flags,
    before: Sums,
    after: Sums,
}

#[derive(Debug)]
enum Way<'r> {
    Few {
        records: &'r Records,
        changes: Vec<(usize, Record)>,
        /// Where the next one is looked for.
        from: usize,
        /// Where the next one is put.
        place: usize,
        /// Where the next one is added.
        end: usize,
    },
    All {
        rest: Box<Peekable<Iter<'r>>>,
        out: Rewritten,
    },
}

/// User flags and what they add to CRCs: names are added while records are changed.
#[derive(Debug, Default)]
struct Flags {
    names: Vec<Option<Vec<u8>>>,
    crcs: Option<FlagCrcs>,
}

impl Flags {
    fn of(&mut self, contents: &Contents) -> &FlagCrcs {
        if self.names != contents.header.user_flags {
            self.names.clone_from(&contents.header.user_flags);
            self.crcs = None;
        }
        self.crcs.get_or_insert_with(|| contents.header.flag_crcs())
    }
}

/// What records add to the counters of their mailbox, for both ways to write conversation ids.
#[derive(Clone, Debug, Default)]
pub(super) struct Sums {
    short: Tally,
    padded: Tally,
    annots: u32,
    /// Bytes of annotations.
    annots_used: u64,
}

impl Sums {
    pub fn add(&mut self, record: &Record, flags: &FlagCrcs, notes: &[Note]) {
        self.short.add(record, INDEX_VERSION, flags, ThridText::Short);
        self.padded.add(record, INDEX_VERSION, flags, ThridText::Padded);
        // As Cyrus, this forgets what was noted of a message that is expunged.
        for note in notes.iter().filter(|_| !record.is_expunged()) {
            let userid = note.userid.as_bytes();
            self.annots ^= crc::annotation(record.uid, &note.entry, userid, &note.value);
            self.annots_used = self.annots_used.saturating_add(note.value.len() as u64);
        }
    }

    fn tally(&self, thrid: ThridText) -> &Tally {
        match thrid {
            ThridText::Short => &self.short,
            ThridText::Padded => &self.padded,
        }
    }
}

impl Revision<'_> {
    /// The record of this UID as it is, if there is one. It is gone unless it is put back.
    ///
    /// # Errors
    /// What the disk says.
    pub fn take(&mut self, uid: Uid, contents: &Contents) -> Result<Option<Record>> {
        match &mut self.way {
            Way::Few { records, from, place, end, .. } => {
                let Some((at, record)) = records.find(uid, *from)? else {
                    *place = *end;
                    return Ok(None);
                };
                (*from, *place) = (at + 1, at);
                self.before.add(&record, self.flags.of(contents), contents.notes_of(uid));
                Ok(Some(record))
            }
            Way::All { rest, out } => loop {
                let is_before = |next: &Result<Record>| next.as_ref().map_or(true, |r| r.uid < uid);
                match rest.next_if(is_before) {
                    Some(record) => {
                        let record = record?;
                        let notes = contents.notes_of(record.uid);
                        self.after.add(&record, self.flags.of(contents), notes);
                        out.push(&record)?;
                    }
                    None => {
                        let is_it = |next: &Result<Record>| matches!(next, Ok(r) if r.uid == uid);
                        return rest.next_if(is_it).transpose();
                    }
                }
            },
        }
    }

    /// What was asked for last, as it is to be. Records that are new have UIDs above all others.
    ///
    /// # Errors
    /// What the disk says.
    pub fn put(&mut self, record: Record, contents: &Contents) -> Result<()> {
        let notes = contents.notes_of(record.uid);
        self.after.add(&record, self.flags.of(contents), notes);
        match &mut self.way {
            Way::Few { changes, place, end, .. } => {
                *end = (*end).max(*place + 1);
                changes.push((*place, record));
                Ok(())
            }
            Way::All { out, .. } => out.push(&record),
        }
    }

    /// All that were to be changed have been.
    ///
    /// # Errors
    /// What the disk says.
    pub fn finish(mut self, contents: &Contents) -> Result<Revised> {
        // Behind all UIDs that there can be.
        if let Way::All { .. } = self.way {
            let last = self.take(Uid(u32::MAX), contents)?;
            last.map(|record| self.put(record, contents)).transpose()?;
        }
        let records = match self.way {
            Way::Few { changes, .. } if changes.is_empty() => Recorded::Same,
            Way::Few { changes, .. } => Recorded::Few(changes),
            Way::All { out, .. } => Recorded::All(out),
        };
        Ok(Revised { records, before: self.before, after: self.after })
    }
}

/// Records that have been revised.
#[derive(Debug)]
pub struct Revised {
    /// What becomes of them.
    pub records: Recorded,
    before: Sums,
    after: Sums,
}

impl Revised {
    /// The index header with what the records say. `thrid` is how the master writes conversation ids
    /// where it adds up its CRC.
    pub fn index(&self, contents: &Contents, thrid: ThridText) -> IndexHeader {
        let mut index = contents.index.clone();
        let after = self.after.tally(thrid);
        match self.records {
            Recorded::All(_) => {
                index.first_expunged = model::Timestamp::default();
                after.apply(&mut index, crc::ANNOT_START ^ self.after.annots);
                let used = contents.extra.used();
                index.quota_annot_used = self.after.annots_used.saturating_add(used);
            }
            _ => {
                let annots = self.before.annots ^ self.after.annots;
                after.apply_change(self.before.tally(thrid), &mut index, annots);
                let others = index.quota_annot_used.saturating_sub(self.before.annots_used);
                index.quota_annot_used = others.saturating_add(self.after.annots_used);
            }
        }
        index
    }
}

impl Files {
    /// Begins to change so many records of a mailbox. If they are few, the others are not looked at,
    /// and its counters have to be right; [`usize::MAX`] relies on nothing.
    ///
    /// # Errors
    /// What the disk says.
    pub fn revise<'r>(
        &self,
        records: &'r Records,
        partition: &Partition,
        contents: &Contents,
        changes: usize,
    ) -> Result<Revision<'r>> {
        let is_few = changes <= FEW && changes.saturating_mul(SMALL_PART) <= records.len();
        let last = records.len().checked_sub(1).map(|last| records.get(last)).transpose()?;
        // New ones have to come behind it. Of no records, there may be no file yet.
        let is_before = |last: &Record| last.uid <= contents.index.last_uid;
        let way = match is_few && last.flatten().as_ref().is_some_and(is_before) {
            true => {
                let end = records.len();
                Way::Few { records, changes: Vec::new(), from: 0, place: end, end }
            }
            false => {
                let out = self.rewrite(partition, contents.index.minor_version)?;
                Way::All { rest: Box::new(records.iter().peekable()), out }
            }
        };
        let (flags, before, after) = (Flags::default(), Sums::default(), Sums::default());
        Ok(Revision { way, flags, before, after })
    }
}
