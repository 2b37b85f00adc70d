//! The entries of a database, kept in one piece of memory and found by key.

use cyrus_format::db::Db;

/// Keys and values, ascending by key as memcmp compares, whatever order the file has.
#[derive(Debug, Default)]
pub(crate) struct Entries {
    bytes: Vec<u8>,
    spans: Vec<Span>,
    /// What a damaged database cost.
    pub recovered: Option<String>,
}

/// A key, and its value right behind it.
#[derive(Clone, Copy, Debug)]
struct Span {
    key: usize,
    value: usize,
    end: usize,
}

impl Entries {
    pub fn new(db: &Db<'_>) -> Self {
        let pairs = db.entries.iter().map(|(key, value)| (key.as_ref(), value.as_ref()));
        Self { recovered: db.recovered.clone(), ..Self::of_pairs(pairs) }
    }

    fn of_pairs<'a>(pairs: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Self {
        let mut this = Self::default();
        for (key, value) in pairs {
            let start = this.bytes.len();
            this.bytes.extend_from_slice(key);
            this.bytes.extend_from_slice(value);
            let end = this.bytes.len();
            this.spans.push(Span { key: start, value: start + key.len(), end });
        }
        let Self { bytes, spans, .. } = &mut this;
        spans.sort_by(|a, b| bytes[a.key..a.value].cmp(&bytes[b.key..b.value]));
        this
    }

    /// The entry of exactly this key.
    pub fn get(&self, key: &[u8]) -> Option<(&[u8], &[u8])> {
        let at = self.spans.binary_search_by(|span| self.entry(*span).0.cmp(key)).ok()?;
        self.spans.get(at).map(|span| self.entry(*span))
    }

    /// All entries whose keys start like this.
    pub fn starting_with<'a, 'p>(
        &'a self,
        prefix: &'p [u8],
    ) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a, 'p> {
        let first = self.spans.partition_point(|span| self.entry(*span).0 < prefix);
        let rest = self.spans[first..].iter().map(|span| self.entry(*span));
        rest.take_while(move |(key, _)| key.starts_with(prefix))
    }

    fn entry(&self, span: Span) -> (&[u8], &[u8]) {
        (&self.bytes[span.key..span.value], &self.bytes[span.value..span.end])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    use super::*;

    proptest! {
        #[test]
        fn finds_what_a_map_finds(
            map in proptest::collection::btree_map(
                proptest::collection::vec(0u8..4, 0..4), proptest::collection::vec(0u8..4, 0..4),
                0..30),
            key in proptest::collection::vec(0u8..4, 0..4),
        ) {
            let map: BTreeMap<Vec<u8>, Vec<u8>> = map;
            // Backwards, as a file in another order would have it.
            let entries = Entries::of_pairs(map.iter().rev().map(|(k, v)| (&k[..], &v[..])));
            let entry = map.get_key_value(&key).map(|(k, v)| (&k[..], &v[..]));
            prop_assert_eq!(entries.get(&key), entry);
            let found: Vec<_> = entries.starting_with(&key).collect();
            let wanted: Vec<_> = map.iter().filter(|(k, _)| k.starts_with(&key))
                .map(|(k, v)| (&k[..], &v[..])).collect();
            prop_assert_eq!(found, wanted);
        }
    }
}
