//! The history of an account: what the names of its objects tell.

use std::collections::{BTreeMap, BTreeSet};

use model::state::Digest;

use crate::keys::{NoteName, SegmentKind, SegmentName, What};
use crate::note::Note;
use crate::store::Object;

/// A segment of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What its name says.
    pub name: SegmentName,
    /// Bytes of the object.
    pub size: u64,
}

/// The history of one account.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// All segments that are there, by identity.
    segments: BTreeMap<Digest, Entry>,
    /// All notes that are there.
    pub notes: Vec<(NoteName, Note)>,
    /// Objects that have none of the names that are known.
    pub strange: Vec<String>,
    /// What is dropped or erased.
    dead: BTreeSet<Digest>,
    hidden: BTreeSet<Digest>,
    joined: BTreeSet<Digest>,
}

/// A segment and what it continues, the oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lineage {
    /// The segments that are there.
    pub entries: Vec<Entry>,
    /// The parent of the first one, if that is not there.
    pub torn: Option<Digest>,
}

impl History {
    /// Reads the names; `read` fetches a note.
    ///
    /// # Errors
    ///
    /// Those of `read`: who does not know what was dropped must not continue anything.
    pub fn new<E>(
        objects: &[Object],
        mut read: impl FnMut(&str, &NoteName) -> Result<Note, E>,
    ) -> Result<Self, E> {
        let mut history = Self::default();
        for object in objects {
            if let Some(name) = SegmentName::parse(&object.name) {
                history.segments.insert(name.own, Entry { name, size: object.size });
            } else if let Some(name) = NoteName::parse(&object.name) {
                let note = read(&object.name, &name)?;
                history.notes.push((name, note));
            } else {
                history.strange.push(object.name.clone());
            }
        }
        history.take_notes();
        Ok(history)
    }

    fn take_notes(&mut self) {
        for (_, note) in &self.notes {
            let named = note.names.iter().filter_map(|name| SegmentName::parse(name));
            let named = named.map(|name| name.own);
            match note.what {
                What::Hidden => self.hidden.extend(named),
                What::Dropped | What::Erased => self.dead.extend(named),
                What::Joined => self.joined.extend(named),
                What::Hold | What::Verified => {}
            }
        }
    }

    /// Whether there is nothing of the account that could be continued or restored.
    pub fn is_empty(&self) -> bool {
        self.live().next().is_none()
    }

    /// All segments that are there, dropped ones included.
    pub fn segments(&self) -> impl Iterator<Item = &Entry> {
        self.segments.values()
    }

    /// The segment of that identity, if it is there.
    pub fn segment(&self, own: &Digest) -> Option<&Entry> {
        self.segments.get(own)
    }

    /// Segments that nobody has dropped.
    pub fn live(&self) -> impl Iterator<Item = &Entry> {
        self.segments.values().filter(|entry| !self.dead.contains(&entry.name.own))
    }

    /// Whether a segment was dropped or erased.
    pub fn is_dead(&self, own: &Digest) -> bool {
        self.dead.contains(own)
    }

    /// Snapshots that can be shown and restored: live, not hidden, with a lineage that is whole.
    /// By number, those of one number by time.
    pub fn snapshots(&self) -> Vec<&Entry> {
        let shown = |entry: &&Entry| {
            entry.name.kind == SegmentKind::Snapshot && !self.hidden.contains(&entry.name.own)
        };
        let mut snapshots: Vec<&Entry> = self.live().filter(shown).collect();
        snapshots.retain(|entry| self.lineage(&entry.name.own).torn.is_none());
        snapshots.sort_by_key(|entry| (entry.name.seq, entry.name.taken_at, entry.name.own));
        snapshots
    }

    /// Live segments that nothing continues and nobody has joined, the one to be continued last.
    pub fn heads(&self) -> Vec<&Entry> {
        let parents: BTreeSet<Digest> = self.live().filter_map(|entry| entry.name.parent).collect();
        let is_head = |own: &Digest| !parents.contains(own) && !self.joined.contains(own);
        let mut heads: Vec<&Entry> = self.live().filter(|entry| is_head(&entry.name.own)).collect();
        heads.sort_by_key(|entry| (entry.name.seq, entry.name.own));
        heads
    }

    /// The segment that the next one continues: the last head whose lineage is whole. `None` if
    /// the next one must be a full one.
    pub fn tip(&self) -> Option<&Entry> {
        let whole = |entry: &&Entry| self.lineage(&entry.name.own).torn.is_none();
        self.heads().into_iter().rev().find(whole)
    }

    /// The newest snapshot: that of the tip's lineage.
    pub fn newest(&self) -> Option<Entry> {
        let lineage = self.lineage(&self.tip()?.name.own);
        let shown = self.snapshots();
        lineage.entries.into_iter().rev().find(|entry| shown.contains(&entry))
    }

    /// A segment and all that it continues. Empty, and torn at itself, if it is not there.
    pub fn lineage(&self, own: &Digest) -> Lineage {
        let mut entries: Vec<Entry> = Vec::new();
        let mut next = Some(*own);
        while let Some(digest) = next {
            // Numbers ascend, so that a ring of parents, which nothing lawful makes, is a tear.
            let limit = entries.last().map_or(u32::MAX, |entry| entry.name.seq);
            let found = self
                .segments
                .get(&digest)
                .filter(|entry| entry.name.seq < limit || entries.is_empty());
            let Some(entry) = found else { break };
            next = entry.name.parent;
            entries.push(entry.clone());
        }
        entries.reverse();
        Lineage { entries, torn: next }
    }

    /// The parts that were stored in advance of this snapshot, the last one first.
    pub fn parts_of(&self, snapshot: &SegmentName) -> Vec<&Entry> {
        let mut parts: Vec<&Entry> = Vec::new();
        let mut next = snapshot;
        while let Some(before) = next.parent.as_ref().and_then(|parent| self.segments.get(parent)) {
            // As in a lineage, numbers ascend.
            if before.name.kind != SegmentKind::Part || before.name.seq >= next.seq {
                break;
            }
            next = &before.name;
            parts.push(before);
        }
        parts
    }

    /// The number of the next segment: greater than all that were ever seen here.
    pub fn next_seq(&self) -> u32 {
        let highest = self.segments.values().map(|entry| entry.name.seq).max();
        highest.unwrap_or(0).saturating_add(1)
    }

    /// The notes of one kind, the latest last.
    pub fn notes_of(&self, what: What) -> Vec<&(NoteName, Note)> {
        let mut notes: Vec<_> = self.notes.iter().filter(|(name, _)| name.what == what).collect();
        notes.sort_by_key(|(name, _)| (name.at, name.sha256));
        notes
    }

    /// Whether the account is under a legal hold.
    pub fn is_held(&self) -> bool {
        self.notes.iter().any(|(name, _)| name.what == What::Hold)
    }
}

#[cfg(test)]
mod tests;
