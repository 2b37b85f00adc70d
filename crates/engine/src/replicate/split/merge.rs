//! What both sides have to be told so that each has all of a mailbox that both have changed.
//!
//! A number that means two messages belongs to neither of them any more: both get new ones, above all
//! that either side has given out. A message that both sides have under different numbers is known by
//! its GUID, and stays one message: so a run that was cut off between the two sides is finished by the
//! next one, and nothing is doubled.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use csync::record::Record as Told;
use model::state::MailboxKey;
use model::{Guid, MboxName, Modseq, SystemFlags, Uid};

use crate::replicate::apply::BATCH_MESSAGES;
use crate::replicate::compare::{Bounds, Comparison, Difference, Pair, is_same, pairs};
use crate::replicate::local::Opened;

/// Which side counts where both know a message, and have it otherwise. Messages that one side alone has
/// get to the other in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolve {
    /// As Cyrus' own client has it: who expunged it is right, and else who changed it last.
    Renumber,
    /// The master.
    Master,
    /// The replica.
    Replica,
}

/// How a mailbox is brought together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Merge {
    /// Which.
    pub key: MailboxKey,
    /// Its name here.
    pub name: MboxName,
    /// What the sides do not agree on.
    pub differences: Vec<Difference>,
    /// What the master is told, UIDs ascending. A modseq of 0 is that of the moment.
    pub master: Vec<Told>,
    /// What the replica is told, likewise.
    pub replica: Vec<Told>,
    /// Messages that get to the other side or get another number, by that.
    pub numbers: BTreeMap<Uid, Numbers>,
    /// How many messages the master does not have, and how many the replica does not have.
    pub new: (u64, u64),
    /// Messages of the replica that were lawfully removed here so long ago that no record is left.
    pub gone: u64,
    /// Messages that are left for later, since there are so many.
    pub rest: usize,
}

/// The numbers that a message has until then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbers {
    /// What it is.
    pub guid: Guid,
    /// Its number on the master.
    pub here: Option<Uid>,
    /// Its number on the replica.
    pub there: Option<Uid>,
}

/// A message, and the numbers that it has.
struct Placement {
    here: Option<Told>,
    there: Option<Told>,
}

struct Merger {
    mode: Resolve,
    bounds: Bounds,
    /// Messages without a record of the same number and GUID on the other side.
    loose: (Vec<Told>, Vec<Told>),
    master: BTreeMap<Uid, Told>,
    replica: BTreeMap<Uid, Told>,
    merge: Merge,
}

impl Merge {
    /// Brings the master's records together with the replica's, both in the order of their UIDs; `None`
    /// if there are no UIDs left.
    pub(in crate::replicate) fn new(
        here: &Opened<'_>,
        there: &[Told],
        bounds: Bounds,
        comparison: Comparison,
        mode: Resolve,
    ) -> Option<Self> {
        let Comparison { differences, expunge, .. } = comparison;
        let gone: BTreeSet<Uid> = expunge.into_iter().collect();
        let merge = Merge { differences, gone: gone.len() as u64, ..Merge::default() };
        let mut merger = Merger {
            mode,
            bounds,
            loose: (Vec::new(), Vec::new()),
            master: BTreeMap::new(),
            replica: BTreeMap::new(),
            merge,
        };
        for pair in pairs(here, there) {
            match pair {
                Pair::Here(own) if !own.is_expunged() => merger.loose.0.push(own),
                Pair::There(other) if !other.is_expunged() => match gone.contains(&other.uid) {
                    true => merger.expunge_there(other),
                    false => merger.loose.1.push(other.clone()),
                },
                Pair::Here(_) | Pair::There(_) => {}
                Pair::Both(own, other) => merger.both(own, other),
            }
        }
        merger.settle()
    }

    /// The messages that do not keep their numbers, and those that they get.
    pub fn moved(&self) -> impl Iterator<Item = (Uid, Numbers)> {
        let numbers = self.numbers.iter().map(|(to, numbers)| (*to, *numbers));
        numbers.filter(|(to, numbers)| {
            [numbers.here, numbers.there].into_iter().flatten().any(|uid| uid != *to)
        })
    }

    /// Whether neither side has had a message under this number that gets it.
    pub(super) fn is_renumbered(&self, to: Uid) -> bool {
        let numbers = self.numbers.get(&to);
        numbers.is_some_and(|numbers| numbers.here != Some(to) && numbers.there != Some(to))
    }
}

impl Merger {
    fn both(&mut self, own: Told, other: &Told) {
        match (own.is_expunged(), other.is_expunged(), own.guid == other.guid) {
            (true, true, _) => {}
            (own_is_gone, other_is_gone, false) => {
                // Neither of them keeps the number.
                if !own_is_gone {
                    self.loose.0.push(own);
                }
                if !other_is_gone {
                    self.loose.1.push(other.clone());
                }
            }
            (false, false, true) if is_same(&own, other) => {}
            (false, false, true) => self.state(own, other),
            // What a side has expunged, it does not take back: it gets the message anew.
            (false, true, true) => match self.mode {
                Resolve::Master => self.loose.0.push(own),
                Resolve::Renumber | Resolve::Replica => self.expunge_here(&own),
            },
            (true, false, true) => match self.mode {
                Resolve::Replica => self.loose.1.push(other.clone()),
                Resolve::Renumber | Resolve::Master => self.expunge_there(other),
            },
        }
    }

    /// Flags, dates and annotations.
    fn state(&mut self, own: Told, other: &Told) {
        let other_wins = match self.mode {
            Resolve::Renumber => is_later(other, &own),
            Resolve::Master => false,
            Resolve::Replica => true,
        };
        let bounds = &self.bounds;
        // A state stays as it is if that is news to the other side.
        if !other_wins && own.modseq >= other.modseq && own.modseq > bounds.remote_highestmodseq {
            self.replica.insert(own.uid, own);
        } else if other_wins && other.modseq > own.modseq && other.modseq > bounds.highestmodseq {
            self.master.insert(own.uid, other.clone());
        } else {
            let last_updated = own.last_updated.max(other.last_updated);
            let winner = if other_wins { other.clone() } else { own };
            let record = Told { modseq: Modseq(0), last_updated, ..winner };
            self.master.insert(record.uid, record.clone());
            self.replica.insert(record.uid, record);
        }
    }

    fn expunge_here(&mut self, own: &Told) {
        self.master.insert(own.uid, expunged(own));
    }

    fn expunge_there(&mut self, other: &Told) {
        self.replica.insert(other.uid, expunged(other));
    }

    /// Gives all loose messages their numbers.
    fn settle(mut self) -> Option<Merge> {
        let (here, there) = std::mem::take(&mut self.loose);
        let (mut placed, mut homeless) = (Vec::new(), Vec::new());
        for placement in matched(here, there, self.bounds.remote_last_uid) {
            match self.home_of(&placement) {
                Some(uid) => placed.push((uid, placement)),
                None => homeless.push(placement),
            }
        }
        // The order that both sides agree on, as in Cyrus.
        homeless.sort_by_key(Placement::order);
        let mut next = self.bounds.last_uid.max(self.bounds.remote_last_uid);
        for placement in homeless {
            next = Uid(next.0.checked_add(1)?);
            placed.push((next, placement));
        }
        placed.sort_by_key(|(uid, _)| *uid);
        self.merge.rest = placed.len().saturating_sub(BATCH_MESSAGES);
        placed.truncate(BATCH_MESSAGES);
        for (uid, placement) in placed {
            self.place(placement, uid);
        }
        let mut merge = self.merge;
        let numbers = || merge.numbers.values();
        merge.new = (
            numbers().filter(|numbers| numbers.here.is_none()).count() as u64,
            numbers().filter(|numbers| numbers.there.is_none()).count() as u64,
        );
        merge.master = self.master.into_values().collect();
        merge.replica = self.replica.into_values().collect();
        Some(merge)
    }

    /// The number that one side has given to a message, and the other to none.
    fn home_of(&self, placement: &Placement) -> Option<Uid> {
        let here = placement.here.as_ref().map(|record| record.uid);
        let there = placement.there.as_ref().map(|record| record.uid);
        let here = here.filter(|uid| *uid > self.bounds.remote_last_uid);
        here.or(there.filter(|uid| *uid > self.bounds.last_uid))
    }

    fn place(&mut self, placement: Placement, to: Uid) {
        let guid = placement.guid();
        let Placement { here, there } = placement;
        let is_at = |record: &Option<Told>| record.as_ref().is_some_and(|told| told.uid == to);
        let (stays_here, stays_there) = (is_at(&here), is_at(&there));
        let [at_here, at_there] = [&here, &there].map(|told| told.as_ref().map(|told| told.uid));
        self.merge.numbers.insert(to, Numbers { guid, here: at_here, there: at_there });
        if let Some(own) = here.as_ref().filter(|_| !stays_here) {
            self.expunge_here(own);
        }
        if let Some(other) = there.as_ref().filter(|_| !stays_there) {
            self.expunge_there(other);
        }
        let bounds = self.bounds;
        match (here, there) {
            (Some(own), None) if stays_here && own.modseq > bounds.remote_highestmodseq => {
                self.replica.insert(to, own);
            }
            (None, Some(other)) if stays_there && other.modseq > bounds.highestmodseq => {
                self.master.insert(to, other);
            }
            (here, there) => {
                let Some(record) = later(here, there) else { return };
                let record = Told { uid: to, modseq: Modseq(0), ..record };
                self.master.insert(to, record.clone());
                self.replica.insert(to, record);
            }
        }
    }
}

impl Placement {
    fn any(&self) -> impl Iterator<Item = &Told> {
        self.here.iter().chain(&self.there)
    }

    fn guid(&self) -> Guid {
        self.any().next().map(|record| record.guid).unwrap_or_default()
    }

    fn order(&self) -> (Option<Uid>, Guid) {
        (self.any().map(|record| record.uid).min(), self.guid())
    }
}

/// Finds those that are the same message on both sides. One whose number is free on the replica comes
/// first: it may have got that by a run that was cut off.
fn matched(here: Vec<Told>, there: Vec<Told>, remote_last_uid: Uid) -> Vec<Placement> {
    let mut by_guid: HashMap<Guid, Vec<usize>> = HashMap::new();
    let is_free = |record: &Told| record.uid > remote_last_uid;
    let mut order: Vec<usize> = (0..here.len()).collect();
    // The last one is taken first.
    order.sort_by_key(|at| (is_free(&here[*at]), std::cmp::Reverse(here[*at].uid)));
    for at in order {
        by_guid.entry(here[at].guid).or_default().push(at);
    }
    let mut here: Vec<Option<Told>> = here.into_iter().map(Some).collect();
    let mut placements = Vec::new();
    for other in there {
        let at = by_guid.get_mut(&other.guid).and_then(Vec::pop);
        let own = at.and_then(|at| here[at].take());
        placements.push(Placement { here: own, there: Some(other) });
    }
    let rest = here.into_iter().flatten();
    placements.extend(rest.map(|own| Placement { here: Some(own), there: None }));
    placements
}

/// Whether the replica's state counts by Cyrus' rule (`imap/sync_support.c`, compare_one_record, 3.6).
fn is_later(other: &Told, own: &Told) -> bool {
    other.modseq > own.modseq && other.last_updated >= own.last_updated
}

fn later(here: Option<Told>, there: Option<Told>) -> Option<Told> {
    match (here, there) {
        (Some(own), Some(other)) if is_later(&other, &own) => Some(other),
        (own, other) => own.or(other),
    }
}

fn expunged(record: &Told) -> Told {
    let system_flags = SystemFlags(record.system_flags.0 | SystemFlags::EXPUNGED.0);
    Told { modseq: Modseq(0), system_flags, ..record.clone() }
}

impl fmt::Display for Merge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (here, there) = self.new;
        write!(f, "merge {}: {here} to the master, {there} to the replica", self.name)?;
        write!(f, ", {} with new UIDs", self.moved().count())?;
        if self.gone > 0 {
            write!(f, ", {} expunged", self.gone)?;
        }
        if self.rest > 0 {
            write!(f, ", then {} more", self.rest)?;
        }
        Ok(())
    }
}
