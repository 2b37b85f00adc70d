//! Which messages this run has stored already, and where.

use model::Guid;
use segment::manifest::TableRow;

/// A set of GUIDs in the order of storing: 44 to 52 bytes a message, so that an account of a
/// million messages costs some 50 MiB and not more.
///
/// A GUID is a hash already, so its first bytes say where to look; the slots hold row numbers.
#[derive(Default)]
pub(crate) struct Stored {
    rows: Vec<TableRow>,
    slots: Vec<u32>,
}

/// No row: more rows than this do not fit, at 36 bytes each, into memory anyway.
const EMPTY: u32 = u32::MAX;

impl Stored {
    pub fn contains(&self, guid: &Guid) -> bool {
        !self.slots.is_empty() && self.slots[self.slot_of(guid)] != EMPTY
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Adds a row; one whose GUID is there already changes nothing.
    pub fn insert(&mut self, row: TableRow) {
        if self.rows.len() * 4 >= self.slots.len() * 3 {
            self.grow();
        }
        let slot = self.slot_of(&row.guid);
        if self.slots[slot] == EMPTY {
            self.slots[slot] = u32::try_from(self.rows.len()).unwrap_or(EMPTY);
            self.rows.push(row);
        }
    }

    /// The rows, sorted by GUID as a manifest wants them.
    pub fn into_sorted_rows(mut self) -> Vec<TableRow> {
        drop(std::mem::take(&mut self.slots));
        self.rows.sort_unstable_by_key(|row| row.guid);
        self.rows
    }

    /// The slot that holds this GUID, or the free one where it belongs. There always is one: a
    /// quarter of the slots is free.
    fn slot_of(&self, guid: &Guid) -> usize {
        let mask = self.slots.len() - 1;
        let mut first = [0; 8];
        first.copy_from_slice(&guid.0[..8]);
        let mut slot = usize::try_from(u64::from_le_bytes(first) & mask as u64).unwrap_or_default();
        while self.slots[slot] != EMPTY && self.rows[self.slots[slot] as usize].guid != *guid {
            slot = (slot + 1) & mask;
        }
        slot
    }

    fn grow(&mut self) {
        let len = (self.slots.len() * 2).max(1024);
        self.slots = vec![EMPTY; len];
        for at in 0..self.rows.len() {
            let slot = self.slot_of(&self.rows[at].guid);
            self.slots[slot] = u32::try_from(at).unwrap_or(EMPTY);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(n: u64) -> TableRow {
        let mut guid = [0; 20];
        // Few different first bytes, so that probing is exercised.
        guid[..8].copy_from_slice(&(n % 7).to_le_bytes());
        guid[12..].copy_from_slice(&n.to_be_bytes());
        TableRow { guid: Guid(guid), offset: n, size: n }
    }

    #[test]
    fn holds_what_was_put_in_once_and_sorted() {
        let mut stored = Stored::default();
        assert!(!stored.contains(&row(0).guid));
        for n in (0..3000).chain(0..3000) {
            stored.insert(row(n));
        }
        assert!((0..3000).all(|n| stored.contains(&row(n).guid)));
        assert!(!stored.contains(&row(3000).guid));
        let rows = stored.into_sorted_rows();
        assert_eq!(rows.len(), 3000);
        assert!(rows.is_sorted_by(|a, b| a.guid < b.guid));
    }
}
