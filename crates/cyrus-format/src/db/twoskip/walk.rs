//! Following the list of a twoskip file on its lowest level, and around what is broken.

use std::borrow::Cow;

use super::record::{Kind, Record};
use super::{DUMMY_OFFSET, FIRST_RECORD, Header, MAX_LEVEL, Order};
use crate::db::Entry;
use crate::error::FormatError;

/// What was found on the way.
pub(super) struct Walk<'a> {
    /// In the order of the list.
    pub entries: Vec<Entry<'a>>,
    /// Offsets of records that are in the list, but whose key or value is spoilt.
    pub lost: Vec<u64>,
    /// Where the list could not be followed.
    gaps: Vec<Gap<'a>>,
    /// The order that all keys are in; by bytes, if that is undecided.
    pub order: Order,
}

impl<'a> Walk<'a> {
    /// A walk that never began.
    pub(super) fn nowhere() -> Self {
        let gaps = vec![Gap { after: b"", before: None }];
        Self { entries: Vec::new(), lost: Vec::new(), gaps, order: Order::Bytes }
    }

    /// Walks through all of the list that can be reached. Also returns the first thing that is
    /// wrong with it.
    pub(super) fn through(file: &'a [u8], header: &Header) -> (Self, Option<FormatError>) {
        let dummy = match Record::read(file, DUMMY_OFFSET) {
            Ok(dummy) if dummy.kind == Kind::Dummy => dummy,
            Ok(other) => {
                return (Self::nowhere(), Some(other.damaged("the list's head is missing")));
            }
            Err(trouble) => return (Self::nowhere(), Some(trouble)),
        };
        let mut walk = Self { gaps: Vec::new(), ..Self::nowhere() };
        let mut walker = Walker::new(file, header.current_size, dummy);
        let mut trouble = None;
        loop {
            match walker.step() {
                Ok(None) => break,
                Ok(Some(found)) => walk.enter(found),
                Err(error) => {
                    trouble.get_or_insert(error);
                    let after = walker.key;
                    let Some(found) = walker.detour() else {
                        walk.gaps.push(Gap { after, before: None });
                        break;
                    };
                    walk.gaps.push(Gap { after, before: Some(walker.key) });
                    walk.enter(found);
                }
            }
        }
        walk.order = walker.orders[0];
        let (found, announced) = (walk.entries.len() + walk.lost.len(), header.num_records);
        // A count fits into 64 bits.
        if trouble.is_none() && !header.counts(found as u64) {
            let detail = format!("{announced} records announced, {found} found");
            trouble = Some(walker.record.damaged(detail));
        }
        (walk, trouble)
    }

    /// Whether there may be such a key although it was not reached.
    pub(super) fn may_have_missed(&self, key: &[u8]) -> bool {
        // Gaps are in order and do not overlap.
        let behind = |before: &[u8]| self.order.compare(before, key).is_le();
        let at = self.gaps.partition_point(|gap| gap.before.is_some_and(behind));
        self.gaps.get(at).is_some_and(|gap| self.order.compare(gap.after, key).is_lt())
    }

    fn enter(&mut self, found: Found<'a>) {
        match found {
            Found::Entry(key, value) => {
                self.entries.push((Cow::Borrowed(key), Cow::Borrowed(value)));
            }
            Found::Spoilt(offset) => self.lost.push(offset),
        }
    }
}

enum Found<'a> {
    /// Key and value.
    Entry(&'a [u8], &'a [u8]),
    /// The offset of a record whose key or value is spoilt. Its links are not.
    Spoilt(u64),
}

/// Keys between two others, all of which may have been missed.
struct Gap<'a> {
    /// Empty if nothing was reached before.
    after: &'a [u8],
    before: Option<&'a [u8]>,
}

/// A place in the list.
struct Walker<'a> {
    file: &'a [u8],
    /// The end of the last finished transaction.
    committed: u64,
    record: Record<'a>,
    /// The last key that was whole.
    key: &'a [u8],
    /// For each level, the link of the last record that has it.
    ahead: [u64; MAX_LEVEL as usize],
    /// In which the keys so far may be sorted; never empty.
    orders: Vec<Order>,
    /// Bytes that are not part of a record in the list yet. If records overlapped, they could be
    /// worth many times the file, and take as long.
    unclaimed: u64,
}

impl<'a> Walker<'a> {
    fn new(file: &'a [u8], committed: u64, dummy: Record<'a>) -> Self {
        let unclaimed = (file.len() as u64).saturating_sub(FIRST_RECORD);
        let orders = vec![Order::Bytes, Order::Mailboxes];
        let ahead = [0; MAX_LEVEL as usize];
        let mut walker =
            Self { file, committed, record: dummy, key: b"", ahead, orders, unclaimed };
        walker.remember_links();
        walker
    }

    /// Goes to the next record.
    fn step(&mut self) -> Result<Option<Found<'a>>, FormatError> {
        let Some(next) = self.record.next_live(self.file, self.committed)? else {
            return Ok(None);
        };
        let found = self.inspect(&next)?;
        self.go_to(next);
        Ok(Some(found))
    }

    /// Goes to the nearest whole record that can be reached from somewhere behind.
    fn detour(&mut self) -> Option<Found<'a>> {
        let real = FIRST_RECORD..self.committed;
        let links = self.ahead;
        links.into_iter().filter(|link| real.contains(link)).find_map(|link| {
            let record = Record::read(self.file, link).ok()?;
            if record.kind != Kind::Live {
                return None;
            }
            match self.inspect(&record).ok()? {
                found @ Found::Entry(..) => {
                    self.go_to(record);
                    Some(found)
                }
                Found::Spoilt(_) => None,
            }
        })
    }

    /// Checks whether a live record fits in here.
    fn inspect(&mut self, next: &Record<'a>) -> Result<Found<'a>, FormatError> {
        self.unclaimed = self
            .unclaimed
            .checked_sub(next.end - next.offset)
            .ok_or_else(|| next.damaged("records overlap"))?;
        if !next.tail_is_good() {
            return Ok(Found::Spoilt(next.offset));
        }
        let (from, to) = (self.key, next.key);
        if !self.orders.iter().any(|order| order.compare(from, to).is_lt()) {
            return Err(next.damaged("keys out of order"));
        }
        self.orders.retain(|order| order.compare(from, to).is_lt());
        self.key = to;
        Ok(Found::Entry(to, next.value))
    }

    fn go_to(&mut self, next: Record<'a>) {
        self.record = next;
        self.remember_links();
    }

    fn remember_links(&mut self) {
        for (ahead, link) in self.ahead.iter_mut().zip(self.record.higher_links()) {
            *ahead = link;
        }
    }
}
