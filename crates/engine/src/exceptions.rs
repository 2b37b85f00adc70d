//! Messages whose bytes are not what their record's GUID says.
//!
//! Normally the record names the content, and a snapshot needs to remember nothing else. Cyrus
//! 2.3 leaves the GUID zero unless told otherwise, and damage makes it wrong; then the snapshot
//! keeps, per mailbox, a list of what was really found. It is stored as `guids`, one line a
//! message, sorted by UID: the UID, a blank, and 40 hex digits or `-` where nothing was found.

use model::{Guid, Uid};

/// The file's name among a mailbox's files.
pub(crate) const FILE: &str = "guids";

/// What was found instead, by UID.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exceptions(Vec<(Uid, Option<Guid>)>);

impl Exceptions {
    /// Adds one; UIDs come in ascending order.
    pub fn push(&mut self, uid: Uid, found: Option<Guid>) {
        debug_assert!(self.0.last().is_none_or(|(last, _)| *last < uid));
        self.0.push((uid, found));
    }

    /// What was found for this UID, nothing included; `None` if it is no exception.
    pub fn get(&self, uid: Uid) -> Option<Option<Guid>> {
        let at = self.0.binary_search_by_key(&uid, |(uid, _)| *uid).ok()?;
        Some(self.0[at].1)
    }

    /// The GUID of what is stored for a message: what was found, nothing included, or what its
    /// record says.
    pub fn stored(&self, uid: Uid, recorded: Guid) -> Option<Guid> {
        self.get(uid).unwrap_or(Some(recorded))
    }

    /// Whether every message is what its record says.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether any message was not to be had.
    pub fn any_missing(&self) -> bool {
        self.0.iter().any(|(_, found)| found.is_none())
    }

    /// The list as it is stored.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.0.len() * 48);
        for (uid, found) in &self.0 {
            bytes.extend_from_slice(uid.to_string().as_bytes());
            bytes.push(b' ');
            match found {
                Some(guid) => bytes.extend_from_slice(&guid.to_hex()),
                None => bytes.push(b'-'),
            }
            bytes.push(b'\n');
        }
        bytes
    }

    /// Reads the list; `None` if it is not one.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let mut list: Vec<(Uid, Option<Guid>)> = Vec::new();
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let line = line.strip_suffix(b"\n")?;
            let (uid, found) = line.split_at(line.iter().position(|byte| *byte == b' ')?);
            let uid = Uid(std::str::from_utf8(uid).ok()?.parse().ok()?);
            let found = match &found[1..] {
                b"-" => None,
                hex => Some(Guid::from_hex(hex)?),
            };
            if list.last().is_some_and(|(last, _)| *last >= uid) {
                return None;
            }
            list.push((uid, found));
        }
        Some(Self(list))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn reads_what_it_wrote(
            map in proptest::collection::btree_map(any::<u32>(), any::<Option<[u8; 20]>>(), 0..9),
        ) {
            let mut list = Exceptions::default();
            for (uid, found) in &map {
                list.push(Uid(*uid), found.map(Guid));
            }
            let bytes = list.to_bytes();
            prop_assert_eq!(Exceptions::parse(&bytes), Some(list.clone()));
            for (uid, found) in &map {
                prop_assert_eq!(list.get(Uid(*uid)), Some(found.map(Guid)));
            }
            if let Some(cut) = bytes.len().checked_sub(1) {
                prop_assert_eq!(Exceptions::parse(&bytes[..cut]), None);
            }
        }

        #[test]
        fn foreign_bytes_are_no_list_or_a_list(bytes: Vec<u8>) {
            if let Some(list) = Exceptions::parse(&bytes) {
                prop_assert_eq!(Exceptions::parse(&list.to_bytes()), Some(list));
            }
        }
    }
}
