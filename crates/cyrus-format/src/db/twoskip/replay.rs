//! Reading the records of a twoskip file in the order in which they were written, for files whose
//! list is broken.
//!
//! Cyrus does the same when all else fails (`recovery2`), but drops a transaction with one
//! unreadable record whole, and takes the pointer of a deletion for its victim. It is what came
//! behind the victim.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::record::{Kind, Record};
use super::{FILLER, FIRST_RECORD, Order};
use crate::db::Entry;

/// What all readable records amount to.
pub(super) struct Replay<'a> {
    order: Order,
    live: BTreeMap<Key<'a>, Record<'a>>,
    /// Where there was nothing readable, or a record with a spoilt key or value.
    pub lost: Vec<u64>,
    /// Deletions whose victim cannot be told, because something before them is lost.
    pub undecided: usize,
}

impl<'a> Replay<'a> {
    /// Replays a file that holds nothing but finished transactions.
    pub(super) fn of_all(committed: &'a [u8], order: Order) -> Self {
        let mut replay = Self::new(order);
        let pending = replay.run(committed);
        replay.apply(committed, pending);
        replay
    }

    /// Replays the finished transactions of a file whose header cannot be trusted.
    pub(super) fn of_transactions(file: &'a [u8]) -> Self {
        let mut replay = Self::new(Order::Bytes);
        replay.run(file);
        replay
    }

    /// All entries that there are in the end.
    pub(super) fn into_entries(self) -> impl Iterator<Item = Entry<'a>> {
        let entry = |record: Record<'a>| (Cow::Borrowed(record.key), Cow::Borrowed(record.value));
        self.live.into_values().map(entry)
    }

    fn new(order: Order) -> Self {
        Self { order, live: BTreeMap::new(), lost: Vec::new(), undecided: 0 }
    }

    /// Returns the records behind the last commit.
    fn run(&mut self, file: &'a [u8]) -> Vec<Record<'a>> {
        let mut pending = Vec::new();
        let mut offset = FIRST_RECORD;
        let mut lost_here = false;
        while let Some(rest) = usize::try_from(offset).ok().and_then(|at| file.get(at..)) {
            if rest.is_empty() {
                break;
            }
            if rest.starts_with(FILLER) {
                offset += 8;
                continue;
            }
            let Ok(record) = Record::read(file, offset) else {
                // One stretch of rubbish counts once.
                if !lost_here {
                    self.lost.push(offset);
                }
                lost_here = true;
                offset += 8;
                continue;
            };
            lost_here = false;
            offset = record.end;
            match record.kind {
                Kind::Commit => self.apply(file, std::mem::take(&mut pending)),
                Kind::Live if !record.tail_is_good() => self.lost.push(record.offset),
                Kind::Live | Kind::Delete => pending.push(record),
                Kind::Dummy => self.lost.push(record.offset),
            }
        }
        pending
    }

    fn apply(&mut self, file: &'a [u8], transaction: Vec<Record<'a>>) {
        for record in transaction {
            if record.kind == Kind::Live {
                self.live.insert(self.key(record.key), record);
            } else if let Some(victim) = self.victim(file, &record) {
                self.live.remove(&victim);
            } else {
                self.undecided += 1;
            }
        }
    }

    /// What a deletion deleted. It names the record that followed, so that is only certain if
    /// all that was there before it is known.
    fn victim(&self, file: &'a [u8], deletion: &Record<'_>) -> Option<Key<'a>> {
        if !self.lost.is_empty() {
            return None;
        }
        if deletion.target() == 0 {
            return self.live.last_key_value().map(|(key, _)| *key);
        }
        let target = Record::read(file, deletion.target()).ok()?;
        let next = self.key(target.key);
        self.live.get(&next).filter(|live| live.offset == target.offset)?;
        self.live.range(..next).next_back().map(|(key, _)| *key)
    }

    fn key<'k>(&self, bytes: &'k [u8]) -> Key<'k> {
        Key { order: self.order, bytes }
    }
}

/// A key that knows the order of its file. All keys of one map have the same.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Key<'a> {
    order: Order,
    bytes: &'a [u8],
}

impl Ord for Key<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.order.compare(self.bytes, other.bytes)
    }
}

impl PartialOrd for Key<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
