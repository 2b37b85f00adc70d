//! The messages of a stored mailbox as clients saw them.

use std::collections::BTreeMap;

use cyrus_format::index::RecordKey;
use model::{Guid, Record, SystemFlags, Uid};

use crate::exceptions::Exceptions;
use crate::records::Records;

/// What clients saw of a mailbox.
pub(crate) struct View<'m> {
    records: Records<'m>,
    contents: &'m Exceptions,
    flag_names: Vec<Option<Vec<u8>>>,
}

impl<'m> View<'m> {
    /// A mailbox by its metadata files, and its flags by their names in cyrus.header.
    pub fn new(
        files: &'m BTreeMap<String, Vec<u8>>,
        contents: &'m Exceptions,
        flag_names: Option<Vec<Option<Vec<u8>>>>,
    ) -> Self {
        let flag_names = flag_names.unwrap_or_default();
        Self { records: Records::read(files), contents, flag_names }
    }

    /// Its messages, by UID.
    pub fn visible(&self) -> impl Iterator<Item = RecordKey> + '_ {
        self.records.linked().filter(|record| !record.is_expunged())
    }

    /// The whole record of a message.
    pub fn record(&self, uid: Uid) -> Record {
        self.records.record(uid).unwrap_or_default()
    }

    /// The GUID of what is stored of a message; `None` if nothing is.
    pub fn guid(&self, uid: Uid) -> Option<Guid> {
        let of_record = || Some(self.record(uid).guid).filter(|guid| !guid.is_zero());
        self.contents.get(uid).unwrap_or_else(of_record)
    }

    /// The flags of a message, system flags first; `unnamed` is what to call one whose name is not
    /// known, if anything.
    pub fn flags(&self, uid: Uid, unnamed: impl Fn(usize) -> Option<String>) -> Vec<String> {
        let record = self.record(uid);
        let system = SYSTEM_FLAGS.iter().filter(|(flag, _)| record.system_flags.contains(*flag));
        let mut flags: Vec<String> = system.map(|(_, name)| (*name).to_owned()).collect();
        let system = flags.len();
        flags.extend(record.user_flags.iter().filter_map(
            |number| match self.flag_names.get(number) {
                Some(Some(name)) => Some(String::from_utf8_lossy(name).into_owned()),
                _ => unnamed(number),
            },
        ));
        // Their numbers may differ from one snapshot to the other.
        flags[system..].sort_unstable();
        flags
    }
}

pub(crate) const SYSTEM_FLAGS: [(SystemFlags, &str); 5] = [
    (SystemFlags::ANSWERED, "\\Answered"),
    (SystemFlags::DELETED, "\\Deleted"),
    (SystemFlags::DRAFT, "\\Draft"),
    (SystemFlags::FLAGGED, "\\Flagged"),
    (SystemFlags::SEEN, SEEN),
];

/// The flag that index versions below 12 keep in the seen state.
pub(crate) const SEEN: &str = "\\Seen";
