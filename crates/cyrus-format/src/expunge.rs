//! cyrus.expunge: the messages that Cyrus 2.3 has expunged but still keeps.
//!
//! The file is laid out like a cyrus.index of the same version, but its records are in the order in
//! which they were expunged, `last_updated` says when that was, and the counters of its header are
//! about the expunged messages (`imap/mailbox.c`: mailbox_expunge, Cyrus 2.3.14). Since 2.4 such
//! records stay in cyrus.index and bear a flag.

use std::collections::HashMap;

use model::{Record, SystemFlags, Uid};

use crate::error::FormatError;
use crate::index::Index;

const WHAT: &str = "cyrus.expunge";

/// Reads a cyrus.expunge. In [`Index::problems`], records out of order mean nothing here.
///
/// # Errors
/// As for [`Index::parse`].
pub fn parse(bytes: &[u8]) -> Result<Index<'_>, FormatError> {
    Index::parse_as(WHAT, bytes)
}

/// All messages of a mailbox of Cyrus 2.3.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    /// Live and expunged messages by ascending UID, each UID once unless cyrus.index itself repeats
    /// one. The expunged ones bear [`SystemFlags::EXPUNGED`], as if Cyrus 2.4 had taken them over.
    pub records: Vec<Record>,
    /// UIDs that are in both files, ascending. A crash amid an expunge leaves them: the records are
    /// already in cyrus.expunge, the old cyrus.index is still in place. These messages are live.
    pub overlaps: Vec<Uid>,
}

/// Brings both files of a mailbox together. What is in cyrus.index is live, whatever cyrus.expunge
/// says; of two expunged records of one UID, which an expunge after such a crash leaves, the later
/// one counts.
pub fn merge(index: &Index<'_>, expunge: &Index<'_>) -> Merged {
    let mut expunged: HashMap<Uid, Record> = HashMap::new();
    for mut record in expunge.records() {
        record.system_flags.0 |= SystemFlags::EXPUNGED.0;
        expunged.insert(record.uid, record);
    }
    let mut overlaps = Vec::new();
    let mut records = Vec::with_capacity(index.len() + expunged.len());
    for record in index.records() {
        if expunged.remove(&record.uid).is_some() {
            overlaps.push(record.uid);
        }
        records.push(record);
    }
    records.extend(expunged.into_values());
    records.sort_by_key(|record| record.uid);
    overlaps.sort();
    Merged { records, overlaps }
}
