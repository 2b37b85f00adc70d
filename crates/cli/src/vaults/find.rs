//! Messages by their envelopes, in all snapshots of an account.

use std::collections::{BTreeMap, BTreeSet};

use engine::archive::ArchiveError;
use engine::catalog::{self, Listed};
use engine::find::{Found, Guids, Query, Search};
use model::state::Digest;
use segment::chain::{Chain, Snapshot};
use vault::{Account, Entry, History, Lineage};

/// An open segment keeps some of its bytes in memory, so only so many are open at a time.
const SEGMENTS_OPEN: usize = 16;

/// Which snapshots to look at, and what makes a message count.
pub struct Scope<'a> {
    /// The snapshots, by number.
    pub snapshots: Vec<Entry>,
    /// Find only messages that this one of them does not show any more.
    pub gone_from: Option<Entry>,
    /// Which mailboxes are wanted, by their internal names.
    pub wanted: &'a dyn Fn(&[u8]) -> bool,
}

/// What was found.
pub struct Searched {
    /// The messages; their snapshots are numbered from 0 on. `None` if the snapshot that they
    /// should be gone from cannot be read.
    pub found: Option<Found>,
    /// The messages that match and that clients see in the newest snapshot; `None` if that cannot
    /// be read.
    pub newest: Option<Guids>,
    /// What could not be read, each once.
    pub trouble: Vec<ArchiveError>,
    /// The segments that hold messages that match.
    pub sources: Vec<Entry>,
}

/// Searches an account.
pub fn search(account: &Account, history: &History, scope: &Scope<'_>, query: Query) -> Searched {
    let newest = history.newest();
    let numbers = (0..).zip(&scope.snapshots).map(|(number, entry)| (entry.name.own, number));
    let noted = scope.gone_from.iter().chain(&newest).map(|entry| entry.name.own);
    let mut walk = Walk {
        account,
        search: Search::new(query, scope.wanted),
        numbers: numbers.collect(),
        noted: noted.collect(),
        visible: BTreeMap::new(),
        visited: BTreeSet::new(),
        sources: Vec::new(),
        trouble: Trouble::default(),
    };
    for entry in scope.snapshots.iter().rev() {
        if !walk.visited.contains(&entry.name.own) {
            walk.lineage(&history.lineage(&entry.name.own).entries);
        }
    }
    if let Some(newest) = newest.as_ref().filter(|entry| !walk.visited.contains(&entry.name.own)) {
        walk.look_outside(&history.lineage(&newest.name.own));
    }
    let newest = newest.and_then(|entry| walk.visible.get(&entry.name.own).cloned());
    let found = match &scope.gone_from {
        None => Some(walk.search.finish(None)),
        Some(entry) => {
            let visible = walk.visible.get(&entry.name.own);
            visible.map(|visible| walk.search.finish(Some(visible)))
        }
    };
    Searched { found, newest, trouble: walk.trouble.errors, sources: walk.sources }
}

/// The catalogue of one segment.
///
/// # Errors
///
/// If it cannot be read, now.
pub fn catalogue(account: &Account, entry: &Entry) -> Result<Listed, ArchiveError> {
    let opened = account.open_alone(entry);
    let chain = opened.chain();
    catalog::listed(&chain, &chain.tip()?.head()?)
}

/// A walk through the segments of one lineage after the other, each of them once.
struct Walk<'a> {
    account: &'a Account,
    search: Search<'a>,
    /// The snapshots to look at.
    numbers: BTreeMap<Digest, u32>,
    /// Those of which it is noted what they show.
    noted: BTreeSet<Digest>,
    visible: BTreeMap<Digest, Guids>,
    visited: BTreeSet<Digest>,
    sources: Vec<Entry>,
    trouble: Trouble,
}

impl Walk<'_> {
    fn lineage(&mut self, entries: &[Entry]) {
        for from in (0..entries.len()).step_by(SEGMENTS_OPEN) {
            let upto = entries.len().min(from + SEGMENTS_OPEN);
            let begun = Lineage { entries: entries[..upto].to_vec(), torn: None };
            let opened = self.account.open(&begun);
            let chain = opened.chain();
            for (entry, segment) in entries[..upto].iter().zip(chain.snapshots()).skip(from) {
                if self.visited.insert(entry.name.own)
                    && let Err(error) = self.segment(entry, &chain, segment)
                {
                    self.trouble.add(error);
                }
            }
        }
    }

    fn segment(
        &mut self,
        entry: &Entry,
        chain: &Chain<'_>,
        segment: &Snapshot<'_>,
    ) -> Result<(), ArchiveError> {
        let head = segment.head()?;
        match catalog::listed(chain, &head) {
            Ok(listed) if self.search.catalogue(listed.envelopes()) => {
                self.sources.push(entry.clone())
            }
            Ok(_) => {}
            Err(error) => self.trouble.add(error),
        }
        if let Some(number) = self.numbers.get(&entry.name.own) {
            let errors = self.search.snapshot(*number, chain, &head);
            errors.into_iter().for_each(|error| self.trouble.add(error));
            if self.noted.contains(&entry.name.own) {
                self.visible.insert(entry.name.own, self.search.visible());
            }
        }
        Ok(())
    }

    /// Notes what the last snapshot of a lineage shows, which is none of those to look at.
    fn look_outside(&mut self, lineage: &Lineage) {
        let opened = self.account.open(lineage);
        let chain = opened.chain();
        let Some(last) = chain.snapshots().last() else { return };
        match last.head() {
            Ok(head) => {
                let (visible, errors) = self.search.visible_in(&chain, &head);
                errors.into_iter().for_each(|error| self.trouble.add(error));
                self.visible.insert(last.sha256(), visible);
            }
            Err(error) => self.trouble.add(error.into()),
        }
    }
}

/// Errors, each once: what is damaged is met again with every snapshot that needs it.
#[derive(Default)]
struct Trouble {
    errors: Vec<ArchiveError>,
    texts: BTreeSet<String>,
}

impl Trouble {
    fn add(&mut self, error: ArchiveError) {
        if self.texts.insert(format!("{error:?}")) {
            self.errors.push(error);
        }
    }
}
