//! One account that is to be looked at, is being looked at, or is ill.

use std::collections::{BTreeMap, BTreeSet};

use cyrus_format::sync_log::Scope;
use model::MboxName;

use super::illness::{Illness, Known};
use super::{ChunkId, Complaint, Moment};
use crate::replicate::Trouble;

/// Where an entry is written down, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Source {
    /// The chunk that has it; none if it follows from others.
    pub chunk: Option<ChunkId>,
    pub since: Moment,
}

/// What is to be looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Entries {
    /// All of the account.
    pub whole: Option<Source>,
    /// Mailboxes of it.
    pub mailboxes: BTreeMap<MboxName, Source>,
}

/// When an account can be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// There is nothing to be done, or somebody is at it.
    None,
    /// At once; who has waited longest comes first.
    Ready(Moment),
    /// Then.
    Later(Moment),
}

#[derive(Clone, Debug)]
pub(super) struct Account {
    pub pending: Entries,
    /// What somebody is at.
    pub running: Option<Entries>,
    pub illness: Option<Illness>,
    /// How often in a row the connection broke over it.
    pub strikes: u32,
    /// Not to be taken before.
    pub not_before: Moment,
    /// Its place in the queues.
    pub turn: Turn,
}

impl Default for Account {
    fn default() -> Self {
        Self {
            pending: Entries::default(),
            running: None,
            illness: None,
            strikes: 0,
            not_before: Moment(i64::MIN),
            turn: Turn::None,
        }
    }
}

impl Account {
    /// Takes news about all of it; whether its chunk is needed for that. It is not if an older one says
    /// the same, or if the account is tried again anyway.
    pub fn add_whole(&mut self, source: Source) -> bool {
        let is_covered = self.pending.whole.is_some_and(|whole| whole.chunk.is_some());
        if self.absorbs(|illness| illness.account.is_some()) || is_covered {
            return false;
        }
        self.pending.whole = Some(source);
        true
    }

    /// Takes news about a mailbox, likewise.
    pub fn add_mailbox(&mut self, name: &MboxName, source: Source) -> bool {
        let is_covered = self.pending.whole.is_some_and(|whole| whole.chunk.is_some())
            || self.pending.mailboxes.contains_key(name);
        if self.absorbs(|illness| illness.mailboxes.contains_key(name)) || is_covered {
            return false;
        }
        self.pending.mailboxes.insert(name.clone(), source);
        true
    }

    /// Whether what is ill is tried again anyway. While somebody is at it, nobody knows whether it still
    /// is, and whether he saw the news.
    fn absorbs(&mut self, is_ill: impl Fn(&Illness) -> bool) -> bool {
        match &mut self.illness {
            Some(illness) if self.running.is_none() && is_ill(illness) => {
                illness.hurry();
                true
            }
            _ => false,
        }
    }

    /// Gives back what waits and would be absorbed by now.
    pub fn absorb_pending(&mut self) -> Vec<Source> {
        let pending = std::mem::take(&mut self.pending);
        let mut absorbed = Vec::new();
        match pending.whole {
            Some(source) if self.absorbs(|illness| illness.account.is_some()) => {
                absorbed.push(source);
            }
            whole => self.pending.whole = whole,
        }
        for (name, source) in pending.mailboxes {
            match self.absorbs(|illness| illness.mailboxes.contains_key(&name)) {
                true => absorbed.push(source),
                false => drop(self.pending.mailboxes.insert(name, source)),
            }
        }
        absorbed
    }

    /// The connection has not broken over it.
    pub fn forgive(&mut self) {
        (self.strikes, self.not_before) = (0, Moment(i64::MIN));
    }

    /// What is to be done now: what is pending, or another try.
    pub fn start(&mut self) -> Scope {
        let entries = std::mem::take(&mut self.pending);
        let scope = match (&entries.whole, entries.mailboxes.is_empty()) {
            (None, false) => Scope::Mailboxes(entries.mailboxes.keys().cloned().collect()),
            _ => Scope::Whole,
        };
        self.running = Some(entries);
        scope
    }

    /// Puts entries back that somebody was at; gives back those that have been said again meanwhile.
    pub fn put_back(&mut self, entries: Entries) -> Vec<Source> {
        let mut doubled = Vec::new();
        if let Some(source) = entries.whole {
            match self.pending.whole {
                // What follows from others is written down nowhere.
                Some(pending) if source.chunk.is_none() => self.pending.whole = Some(pending),
                _ => doubled.extend(self.pending.whole.replace(source)),
            }
        }
        for (name, source) in entries.mailboxes {
            doubled.extend(self.pending.mailboxes.insert(name, source));
        }
        doubled
    }

    /// The account as a whole cannot be replicated, as was found out by trying this much of it.
    pub fn fail(
        &mut self,
        scope: &Scope,
        entries: Entries,
        complaint: Complaint,
        now: Moment,
    ) -> Vec<Source> {
        if let Scope::Mailboxes(names) = scope {
            let of = |name: &MboxName| {
                let Complaint { code, reason, .. } = complaint.clone();
                Complaint { mailbox: Some(name.clone()), code, reason }
            };
            return self.end_mailboxes(entries, names.iter().map(of).collect(), now);
        }
        // Nothing is known of these but what was known before.
        let known = self.illness.iter().flat_map(|illness| illness.mailboxes.values());
        let known = known.map(|known| known.complaint.clone());
        let complaints = known.chain([complaint]).collect();
        self.illness = Illness::after(self.illness.as_ref(), complaints, now);
        entries.sources().copied().collect()
    }

    /// Mailboxes were tried. Those that did not go want all of the account to be tried, unless that is
    /// known to be in vain. Gives back what need not be kept any more.
    pub fn end_mailboxes(
        &mut self,
        entries: Entries,
        complaints: Vec<Complaint>,
        now: Moment,
    ) -> Vec<Source> {
        let named = complaints.iter().filter_map(|complaint| complaint.mailbox.as_ref());
        let is_known = |name: &&MboxName| entries.mailboxes.contains_key(*name);
        let is_about_others = complaints.iter().any(|complaint| {
            complaint.mailbox.as_ref().is_none_or(|name| !entries.mailboxes.contains_key(name))
        });
        let bad: BTreeSet<MboxName> = match is_about_others {
            true => entries.mailboxes.keys().cloned().collect(),
            false => named.filter(is_known).cloned().collect(),
        };
        let (bad, good) = entries.split(&bad);
        let mut released: Vec<Source> = good.sources().copied().collect();
        let Some(since) = bad.since() else { return released };
        match &mut self.illness {
            Some(illness) if illness.account.is_some() => {
                // That one is not here any more is a matter of the account, which is complained of.
                let is_own = |complaint: &Complaint| complaint.code != Trouble::NotHere.code();
                for complaint in complaints.into_iter().filter(is_own) {
                    illness.put(Known { complaint, since: now });
                }
                released.extend(bad.sources());
            }
            _ => {
                released.extend(self.put_back(bad));
                self.pending.whole.get_or_insert(Source { chunk: None, since });
            }
        }
        released
    }

    pub fn turn(&self, now: Moment) -> Turn {
        if self.running.is_some() {
            return Turn::None;
        }
        if let Some(since) = self.pending.since() {
            return match self.not_before <= now {
                true => Turn::Ready(since),
                false => Turn::Later(self.not_before),
            };
        }
        self.illness.as_ref().map_or(Turn::None, |illness| {
            let next = illness.next.max(self.not_before);
            if next <= now { Turn::Ready(next) } else { Turn::Later(next) }
        })
    }

    /// Whether there is nothing to be known of it.
    pub fn is_idle(&self) -> bool {
        self.pending.is_empty() && self.running.is_none() && self.illness.is_none()
    }
}

impl Entries {
    pub fn is_empty(&self) -> bool {
        self.whole.is_none() && self.mailboxes.is_empty()
    }

    pub fn sources(&self) -> impl Iterator<Item = &Source> {
        self.whole.iter().chain(self.mailboxes.values())
    }

    /// Since when the first of them is there.
    pub fn since(&self) -> Option<Moment> {
        self.sources().map(|source| source.since).min()
    }

    /// Only those of some mailboxes, and the rest.
    pub fn split(self, names: &BTreeSet<MboxName>) -> (Self, Self) {
        let (inside, outside) =
            self.mailboxes.into_iter().partition(|(name, _)| names.contains(name));
        (Self { whole: None, mailboxes: inside }, Self { whole: self.whole, mailboxes: outside })
    }
}
