//! What can be wrong with a cyrus.index that can still be read.

use std::fmt;

use model::{Finding, FindingKind, Uid};

/// One thing that is wrong with a cyrus.index or cyrus.expunge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IndexProblem {
    /// The header does not fit its CRC.
    HeaderCrc,
    /// The header names other sizes than its version has; Cyrus then refuses the file.
    Sizes {
        /// The version.
        minor_version: u32,
        /// Bytes of the header, as it says.
        start_offset: u32,
        /// Bytes of a record, as the header says.
        record_size: u32,
    },
    /// The file ends before the last record that is announced.
    Truncated {
        /// Records that the header counts.
        announced: u32,
        /// Records that are whole.
        present: usize,
    },
    /// The file goes on behind the last record that is announced.
    Tail {
        /// How long it goes on.
        bytes: usize,
        /// How many records that has room for.
        whole_records: usize,
    },
    /// A record does not fit its CRC.
    RecordCrc {
        /// The record's place, the first being 0.
        i: usize,
        /// The UID that it holds, which may be what is wrong.
        uid: Uid,
    },
    /// A record's UID is not above all those before it.
    RecordOrder {
        /// The record's place, the first being 0.
        i: usize,
        /// Its UID.
        uid: Uid,
        /// The highest one before.
        previous: Uid,
    },
}

impl IndexProblem {
    /// The kind of finding that it is.
    pub fn kind(&self) -> FindingKind {
        match self {
            Self::HeaderCrc => FindingKind::IndexHeaderCrc,
            Self::Sizes { .. } => FindingKind::IndexSizes,
            Self::Truncated { .. } => FindingKind::IndexTruncated,
            Self::Tail { .. } => FindingKind::IndexTail,
            Self::RecordCrc { .. } => FindingKind::RecordCrc,
            Self::RecordOrder { .. } => FindingKind::RecordOrder,
        }
    }

    /// The finding, in the mailbox or file `place`.
    pub fn finding(&self, place: impl fmt::Display) -> Finding {
        let finding = Finding::new(self.kind(), place, self);
        match self {
            Self::RecordCrc { uid, .. } | Self::RecordOrder { uid, .. } => finding.at_uid(uid.0),
            _ => finding,
        }
    }
}

impl fmt::Display for IndexProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HeaderCrc => write!(f, "the header does not fit its CRC"),
            Self::Sizes { minor_version, start_offset, record_size } => write!(
                f,
                "the header names {start_offset} and {record_size} as the sizes of header and \
                 records, which version {minor_version} does not have"
            ),
            Self::Truncated { announced, present } => {
                write!(f, "{announced} records announced, {present} are there")
            }
            Self::Tail { bytes, whole_records } => {
                write!(f, "{bytes} bytes behind the last record, room for {whole_records} more")
            }
            Self::RecordCrc { i, .. } => write!(f, "record {i} does not fit its CRC"),
            Self::RecordOrder { i, uid, previous } => {
                write!(f, "record {i} has UID {uid} and comes after UID {previous}")
            }
        }
    }
}
