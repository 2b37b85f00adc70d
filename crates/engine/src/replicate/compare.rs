//! The records of one mailbox on both sides, where counters alone do not tell what has to be done.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fmt;

use csync::record::Record as Told;
use model::{Guid, Modseq, Uid};

use super::local::Opened;

/// A message that the two sides do not agree on, such that sending the master's state would lose
/// what the replica has, or would be refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Its number.
    pub uid: Uid,
    /// What is wrong.
    pub kind: DifferenceKind,
}

/// How a message differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DifferenceKind {
    /// The replica alone has it, and nothing says that the master ever had.
    OnlyThere(Guid),
    /// The master alone has it, below what the replica has given out.
    OnlyHere(Guid),
    /// One number, two messages.
    Others {
        /// The master's.
        here: Guid,
        /// The replica's.
        there: Guid,
    },
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
    /// The highest UID that the replica has given out.
    pub remote_last_uid: Uid,
}

/// Compares the master's records with the replica's, both in the order of their UIDs.
pub fn compare(here: &Opened<'_>, there: &[Told], bounds: Bounds) -> Comparison {
    let mut comparison = Comparison::default();
    let mut there = there.iter().peekable();
    for record in here.stored() {
        let own = here.tell(&record);
        while let Some(other) = there.next_if(|other| other.uid < own.uid) {
            comparison.only_there(other, bounds);
        }
        match there.next_if(|other| other.uid == own.uid) {
            Some(other) => comparison.both(&own, other),
            None => comparison.only_here(&own, bounds),
        }
    }
    there.for_each(|other| comparison.only_there(other, bounds));
    comparison
}

impl Comparison {
    fn differs(&mut self, uid: Uid, kind: DifferenceKind) {
        self.differences.push(Difference { uid, kind });
    }

    fn only_there(&mut self, other: &Told, bounds: Bounds) {
        if other.is_expunged() {
            return;
        }
        // The record was here, and was removed with its message; that may be long ago.
        let is_gone = other.uid <= bounds.last_uid && other.modseq <= bounds.deletedmodseq;
        match is_gone {
            true => self.expunge.push(other.uid),
            false => self.differs(other.uid, DifferenceKind::OnlyThere(other.guid)),
        }
    }

    fn only_here(&mut self, own: &Told, bounds: Bounds) {
        match own.uid.cmp(&bounds.remote_last_uid) {
            Ordering::Greater => {
                self.tell.insert(own.uid);
            }
            // Of what is gone here, the replica need not know.
            _ if own.is_expunged() => {}
            _ => self.differs(own.uid, DifferenceKind::OnlyHere(own.guid)),
        }
    }

    fn both(&mut self, own: &Told, other: &Told) {
        match (own.is_expunged(), other.is_expunged()) {
            (true, true) => {}
            (false, true) => self.differs(own.uid, DifferenceKind::ExpungedThere),
            _ if own.guid != other.guid => {
                let kind = DifferenceKind::Others { here: own.guid, there: other.guid };
                self.differs(own.uid, kind);
            }
            _ if is_same(own, other) => {}
            _ if other.modseq > own.modseq => self.differs(own.uid, DifferenceKind::ChangedThere),
            _ => {
                self.tell.insert(own.uid);
            }
        }
    }
}

/// Whether a message has the same state on both sides.
fn is_same(own: &Told, other: &Told) -> bool {
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

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let uid = self.uid;
        match self.kind {
            DifferenceKind::OnlyThere(guid) => write!(f, "uid {uid}: only the replica has {guid}"),
            DifferenceKind::OnlyHere(guid) => write!(f, "uid {uid}: the replica lacks {guid}"),
            DifferenceKind::Others { here, there } => {
                write!(f, "uid {uid}: {here} here, {there} on the replica")
            }
            DifferenceKind::ExpungedThere => write!(f, "uid {uid}: expunged on the replica only"),
            DifferenceKind::ChangedThere => write!(f, "uid {uid}: changed on the replica later"),
        }
    }
}
