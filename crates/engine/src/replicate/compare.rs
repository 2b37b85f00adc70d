//! The records of one mailbox on both sides, where counters alone do not tell what has to be done.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::{fmt, iter};

use csync::record::Record as Told;
use model::{Modseq, Uid};

use super::local::Opened;

/// A message that the two sides do not agree on, such that sending the master's state would lose
/// what the replica has, or would be refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Its number.
    pub uid: Uid,
    /// What is wrong.
    pub kind: DifferenceKind,
    /// The master's record of that number, if it has one.
    pub here: Option<Box<Told>>,
    /// The replica's, likewise.
    pub there: Option<Box<Told>>,
}

/// How a message differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DifferenceKind {
    /// The replica alone has it, and nothing says that the master ever had.
    OnlyThere,
    /// The master alone has it, below what the replica has given out.
    OnlyHere,
    /// One number, two messages, of which one may be expunged.
    Others,
    /// It was expunged on the replica, and not here.
    ExpungedThere,
    /// Its flags, dates or annotations were changed on the replica later than here.
    ChangedThere,
}

/// What is to be done with a mailbox so that the replica has the master's state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Messages that are to be told.
    pub tell: BTreeSet<Uid>,
    /// Messages that were lawfully removed here so long ago that no record is left.
    pub expunge: Vec<Uid>,
    /// What stands in the way.
    pub differences: Vec<Difference>,
}

/// What is known of a mailbox as a whole.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// The highest UID that the master has given out.
    pub last_uid: Uid,
    /// The highest modseq of what is no longer there.
    pub deletedmodseq: Modseq,
    /// When anything in it changed last.
    pub highestmodseq: Modseq,
    /// The highest UID that the replica has given out.
    pub remote_last_uid: Uid,
    /// When anything in it changed last on the replica, in its own counting.
    pub remote_highestmodseq: Modseq,
}

/// The records of one number.
pub(super) enum Pair<'t> {
    /// The master alone has one.
    Here(Told),
    /// The replica alone has one.
    There(&'t Told),
    /// Both have one.
    Both(Told, &'t Told),
}

/// Walks through the master's records and the replica's, both in the order of their UIDs.
pub(super) fn pairs<'t>(here: &'t Opened<'_>, there: &'t [Told]) -> impl Iterator<Item = Pair<'t>> {
    let mut own = here.stored().map(|record| here.tell(&record)).peekable();
    let mut other = there.iter().peekable();
    iter::from_fn(move || {
        let order = match (own.peek(), other.peek()) {
            (None, None) => return None,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(own), Some(other)) => own.uid.cmp(&other.uid),
        };
        match order {
            Ordering::Less => own.next().map(Pair::Here),
            Ordering::Greater => other.next().map(Pair::There),
            Ordering::Equal => Some(Pair::Both(own.next()?, other.next()?)),
        }
    })
}

/// Compares the master's records with the replica's, both in the order of their UIDs.
pub fn compare(here: &Opened<'_>, there: &[Told], bounds: Bounds) -> Comparison {
    let mut comparison = Comparison::default();
    let mut gone = Vec::new();
    let mut common = Modseq(0);
    for pair in pairs(here, there) {
        match pair {
            Pair::There(other) if other.is_expunged() => {}
            // The record was here, and was removed with its message; that may be long ago.
            Pair::There(other) if bounds.was_here(other) => gone.push(other),
            Pair::There(other) => comparison.differs(DifferenceKind::OnlyThere, None, Some(other)),
            Pair::Here(own) => comparison.only_here(own, bounds),
            Pair::Both(own, other) => {
                if own.guid == other.guid && is_same(&own, other) {
                    common = common.max(own.modseq);
                }
                comparison.both(own, other);
            }
        }
    }
    // Where the replica has gone its own way, the modseqs that it has counted since say nothing about what
    // was here.
    let is_split = !comparison.differences.is_empty();
    for other in gone {
        match is_split && other.modseq > common {
            true => comparison.differs(DifferenceKind::OnlyThere, None, Some(other)),
            false => comparison.expunge.push(other.uid),
        }
    }
    comparison.differences.sort_by_key(|difference| difference.uid);
    comparison
}

impl Bounds {
    fn was_here(&self, other: &Told) -> bool {
        other.uid <= self.last_uid && other.modseq <= self.deletedmodseq
    }
}

impl Comparison {
    fn differs(&mut self, kind: DifferenceKind, here: Option<Told>, there: Option<&Told>) {
        let there = there.cloned();
        let uid = here.as_ref().or(there.as_ref()).map(|record| record.uid).unwrap_or_default();
        let (here, there) = (here.map(Box::new), there.map(Box::new));
        self.differences.push(Difference { uid, kind, here, there });
    }

    fn only_here(&mut self, own: Told, bounds: Bounds) {
        match own.uid.cmp(&bounds.remote_last_uid) {
            Ordering::Greater => {
                self.tell.insert(own.uid);
            }
            // Of what is gone here, the replica need not know.
            _ if own.is_expunged() => {}
            _ => self.differs(DifferenceKind::OnlyHere, Some(own), None),
        }
    }

    fn both(&mut self, own: Told, other: &Told) {
        let kind = match (own.is_expunged(), other.is_expunged()) {
            (true, true) => return,
            _ if own.guid != other.guid => DifferenceKind::Others,
            (false, true) => DifferenceKind::ExpungedThere,
            _ if is_same(&own, other) => return,
            _ if other.modseq > own.modseq => DifferenceKind::ChangedThere,
            _ => {
                self.tell.insert(own.uid);
                return;
            }
        };
        self.differs(kind, Some(own), Some(other));
    }
}

/// Whether a message has the same state on both sides.
pub(super) fn is_same(own: &Told, other: &Told) -> bool {
    let flags = |record: &Told| -> BTreeSet<Vec<u8>> {
        record.user_flags.iter().map(|flag| flag.to_ascii_lowercase()).collect()
    };
    let notes = |record: &Told| -> BTreeSet<(Vec<u8>, Vec<u8>, Vec<u8>)> {
        let notes = record.annotations.iter();
        notes.map(|n| (n.entry.clone(), n.userid.as_bytes().to_vec(), n.value.clone())).collect()
    };
    own.modseq == other.modseq
        && own.last_updated == other.last_updated
        && own.internaldate == other.internaldate
        && own.system_flags == other.system_flags
        && flags(own) == flags(other)
        && notes(own) == notes(other)
}

impl DifferenceKind {
    /// A stable word for programs.
    pub fn code(self) -> &'static str {
        match self {
            DifferenceKind::OnlyThere => "only-on-replica",
            DifferenceKind::OnlyHere => "only-on-master",
            DifferenceKind::Others => "other-message",
            DifferenceKind::ExpungedThere => "expunged-on-replica",
            DifferenceKind::ChangedThere => "changed-on-replica",
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "uid {}: ", self.uid)?;
        match self.kind {
            DifferenceKind::OnlyThere => write!(f, "only the replica has it"),
            DifferenceKind::OnlyHere => write!(f, "the replica lacks it"),
            DifferenceKind::Others => write!(f, "two messages"),
            DifferenceKind::ExpungedThere => write!(f, "expunged on the replica only"),
            DifferenceKind::ChangedThere => write!(f, "changed on the replica later"),
        }
    }
}
