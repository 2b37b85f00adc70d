//! twoskip databases (`lib/cyrusdb_twoskip.c`): the default since 2.5.
//!
//! A skip list in a file that only grows. Every byte is under a CRC, the header says where the last
//! finished transaction ended, and each record has two links on the lowest level, so that one of
//! them is always from before an unfinished transaction. Walking those links is safe at any time;
//! `docs` call it recovery1. If they are broken, the records are read in the order in which they
//! were written.

use std::borrow::Cow;
use std::cmp::Ordering;

use super::flat::mailbox_order;
use super::{Db, DbFormat, Entry};
use crate::bytes::Reader;
use crate::error::FormatError;

mod record;
mod replay;
mod write;

pub use write::write_fresh;

use record::{Kind, Record};
use replay::Replay;

const WHAT: &str = "twoskip";

/// What a file begins with.
pub const MAGIC: &[u8] = b"\xa1\x02\x8b\x0dtwoskip file\0\0\0\0";

const VERSION: u32 = 1;
const HEADER_SIZE: usize = 64;
/// Where the list's head is.
const DUMMY_OFFSET: u64 = 64;
/// Where the first record is, behind the list's head.
const FIRST_RECORD: u64 = 336;
const MAX_LEVEL: u8 = 31;
/// Set while a transaction is under way.
const DIRTY: u32 = 1;
/// Stands before a record whose head would otherwise straddle two disk blocks (since 3.0).
const FILLER: &[u8; 8] = b" BLANK\x07\xa0";

/// Reads a twoskip database as of its last finished transaction.
///
/// # Errors
/// [`FormatError::Foreign`] for another magic, [`FormatError::TooNew`] for a newer version,
/// [`FormatError::Damaged`] if no record can be rescued from a broken file.
pub fn read(bytes: &[u8]) -> Result<Db<'_>, FormatError> {
    if !bytes.starts_with(MAGIC) {
        return Err(FormatError::Foreign { what: WHAT, detail: "another magic".to_owned() });
    }
    let mut walk = Walk::new();
    let header = match Header::read(bytes) {
        Ok(header) => header,
        Err(trouble @ FormatError::Damaged { .. }) => {
            return walk.rescue(Replay::of_transactions(bytes), trouble, Vec::new());
        }
        Err(other) => return Err(other),
    };
    let end = usize::try_from(header.current_size).map_or(bytes.len(), |end| end.min(bytes.len()));
    let committed = &bytes[..end];
    let mut notes = header.notes(bytes.len());
    if let Err(trouble) = walk.run(committed, &header) {
        let replay = Replay::of_all(committed, walk.order);
        return walk.rescue(replay, trouble, notes);
    }
    notes.extend(lost(&walk.lost));
    Ok(Db::new(DbFormat::Twoskip, walk.entries, notes))
}

/// How the keys of a file are sorted: of mailboxes.db, either, as `improved_mboxlist_sort` in
/// imapd.conf says; of all others, by bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Bytes,
    Mailboxes,
}

impl Order {
    fn compare(self, a: &[u8], b: &[u8]) -> Ordering {
        match self {
            Order::Bytes => a.cmp(b),
            // Keys with a TAB and a LF in one place are not equal for all that.
            Order::Mailboxes => mailbox_order(a, b).then_with(|| a.cmp(b)),
        }
    }
}

struct Header {
    num_records: u64,
    current_size: u64,
    dirty: bool,
}

impl Header {
    fn read(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut file = Reader::new(WHAT, bytes);
        let mut header = file.sub(HEADER_SIZE)?;
        let summed = &bytes[..HEADER_SIZE - 4];
        header.take(MAGIC.len())?;
        let version = header.u32()?;
        let (_generation, num_records, _repack_size) =
            (header.u64()?, header.u64()?, header.u64()?);
        let current_size = header.u64()?;
        let flags = header.u32()?;
        if header.u32()? != crc32fast::hash(summed) {
            return Err(Reader::new(WHAT, bytes).damaged("the header's CRC is wrong"));
        }
        if version > VERSION {
            return Err(FormatError::TooNew { what: WHAT, version, newest: VERSION });
        }
        if current_size < FIRST_RECORD {
            return Err(header.damaged(format!("a file cannot end at byte {current_size}")));
        }
        Ok(Self { num_records, current_size, dirty: flags & DIRTY != 0 })
    }

    /// What is to be said about the file's end.
    fn notes(&self, len: usize) -> Vec<String> {
        // A length fits into 64 bits.
        let len = len as u64;
        let mut notes = Vec::new();
        if len < self.current_size {
            notes.push(format!("it ends at byte {len}, not at {}", self.current_size));
        } else if self.dirty || len > self.current_size {
            let behind = len - self.current_size;
            notes.push(format!("an unfinished transaction, {behind} bytes, is left out"));
        }
        notes
    }

    /// Whether so many records agree with the header. The count of a file in a transaction may
    /// already lack the record that is being replaced or deleted.
    fn counts(&self, records: u64) -> bool {
        records == self.num_records || (self.dirty && records == self.num_records.saturating_add(1))
    }
}

/// The list, followed on its lowest level.
struct Walk<'a> {
    /// What was found, in the order of the list, up to the trouble.
    entries: Vec<Entry<'a>>,
    /// Offsets of records that are in the list, but whose key or value is spoilt.
    lost: Vec<u64>,
    /// The order that all keys are in; by bytes, if that is undecided.
    order: Order,
}

impl<'a> Walk<'a> {
    fn new() -> Self {
        Self { entries: Vec::new(), lost: Vec::new(), order: Order::Bytes }
    }

    /// Follows the list to its end or to the trouble.
    fn run(&mut self, file: &'a [u8], header: &Header) -> Result<(), FormatError> {
        let mut record = Record::read(file, DUMMY_OFFSET)?;
        if record.kind != Kind::Dummy {
            return Err(record.damaged("the list's head is missing"));
        }
        let mut possible = vec![Order::Bytes, Order::Mailboxes];
        while let Some(next) = record.next_live(file, header.current_size)? {
            possible.retain(|order| order.compare(record.key, next.key).is_lt());
            self.order = *possible.first().ok_or_else(|| next.damaged("keys out of order"))?;
            if next.tail_is_good() {
                self.entries.push((Cow::Borrowed(next.key), Cow::Borrowed(next.value)));
            } else {
                self.lost.push(next.offset);
            }
            record = next;
        }
        let (found, announced) = (self.entries.len() + self.lost.len(), header.num_records);
        // A count fits into 64 bits.
        if !header.counts(found as u64) {
            return Err(record.damaged(format!("{announced} records announced, {found} found")));
        }
        Ok(())
    }

    /// Adds to what was reached what the records say by themselves about the rest.
    fn rescue(
        self,
        replay: Replay<'a>,
        trouble: FormatError,
        mut notes: Vec<String>,
    ) -> Result<Db<'a>, FormatError> {
        notes.push(format!("rebuilt from its records, because its list is broken: {trouble}"));
        notes.extend(lost(&replay.lost));
        if replay.undecided > 0 {
            notes.push(format!("{} deletions could not be repeated", replay.undecided));
        }
        let mut entries = self.entries;
        if replay.lost.is_empty() {
            entries.clear();
        }
        // As far as the list reaches, it also knows what is deleted.
        let reached = entries.last().map(|(key, _)| key.clone());
        let beyond = |key: &[u8]| {
            reached.as_ref().is_none_or(|reached| self.order.compare(reached, key).is_lt())
        };
        entries.extend(replay.into_entries().filter(|(key, _)| beyond(key)));
        if entries.is_empty() {
            return Err(trouble);
        }
        Ok(Db::new(DbFormat::Twoskip, entries, notes))
    }
}

fn lost(offsets: &[u64]) -> Option<String> {
    let first = offsets.first()?;
    Some(format!("{} records are lost, the first at byte {first}", offsets.len()))
}
