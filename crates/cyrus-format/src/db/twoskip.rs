//! twoskip databases (`lib/cyrusdb_twoskip.c`): the default since 2.5.
//!
//! A skip list in a file that only grows. Every byte is under a CRC, the header says where the
//! last finished transaction ended, and each record has two links on the lowest level, so that one
//! of them is always from before an unfinished transaction. So walking those links is safe at any
//! time. Where they are broken, links of higher levels lead around; what is missed then is sought
//! among all records, in the order in which they were written.

use std::cmp::Ordering;

use super::flat::mailbox_order;
use super::{Db, DbFormat};
use crate::bytes::Reader;
use crate::error::FormatError;

mod record;
mod replay;
#[cfg(test)]
mod tests;
mod walk;
mod write;

pub use write::write_fresh;

use replay::Replay;
use walk::Walk;

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
    let header = match Header::read(bytes) {
        Ok(header) => header,
        Err(trouble @ FormatError::Damaged { .. }) => {
            let (notes, replay) = (Vec::new(), Replay::of_transactions(bytes));
            return rescue(Walk::nowhere(), replay, trouble, notes);
        }
        Err(other) => return Err(other),
    };
    let end = usize::try_from(header.current_size).map_or(bytes.len(), |end| end.min(bytes.len()));
    let committed = &bytes[..end];
    let mut notes = header.notes(bytes.len());
    let (walk, trouble) = Walk::through(committed, &header);
    if let Some(trouble) = trouble {
        notes.push(format!("it should hold {} entries", header.num_records));
        let replay = Replay::of_all(committed, walk.order);
        return rescue(walk, replay, trouble, notes);
    }
    notes.extend(count_places("lost records", &walk.lost));
    Ok(Db::new(DbFormat::Twoskip, walk.entries, notes))
}

/// Puts together what was reached through a broken list and what the records say by themselves.
fn rescue<'a>(
    walk: Walk<'a>,
    replay: Replay<'a>,
    trouble: FormatError,
    mut notes: Vec<String>,
) -> Result<Db<'a>, FormatError> {
    notes.extend(count_places("unreadable places", &replay.lost));
    let entries: Vec<_> = if replay.lost.is_empty() {
        replay.into_entries().collect()
    } else {
        if replay.undecided > 0 {
            notes.push(format!("deletions that could not be repeated: {}", replay.undecided));
        }
        let missed = replay.into_entries().filter(|(key, _)| walk.may_have_missed(key));
        let missed: Vec<_> = missed.collect();
        walk.entries.into_iter().chain(missed).collect()
    };
    if entries.is_empty() {
        return Err(trouble);
    }
    let found = entries.len();
    notes.push(format!("{found} were rebuilt from its records, its list is broken: {trouble}"));
    Ok(Db::new(DbFormat::Twoskip, entries, notes))
}

fn count_places(what: &str, offsets: &[u64]) -> Option<String> {
    let first = offsets.first()?;
    Some(format!("{what}: {}, the first at byte {first}", offsets.len()))
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
