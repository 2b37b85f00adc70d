//! Why a chain, or a snapshot of it, is not to be had.

use std::sync::Arc;

use model::state::Digest;

use crate::reader::ReadError;

/// Why a chain, or a snapshot of it, is not to be had.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ChainError {
    /// The archives hold nothing of this account.
    #[error("there is no snapshot of {account}")]
    NoAccount {
        /// The account's component.
        account: String,
    },
    /// The chain ends before this number.
    #[error("there is no snapshot {seq} of {account}, the last one is {last}")]
    NoSnapshot {
        /// The account's component.
        account: String,
        /// The number asked for.
        seq: u32,
        /// The chain's last number.
        last: u32,
    },
    /// The chain begins after this time.
    #[error("the first snapshot of {account} was taken at {first}, after the time asked for")]
    NothingYet {
        /// The account's component.
        account: String,
        /// When the first one was taken.
        first: String,
    },
    /// A segment is not there that another one continues.
    #[error("snapshot {missing} of {account} is missing, and {next} is based on it")]
    Hole {
        /// The account's component.
        account: String,
        /// The number that is not there.
        missing: u32,
        /// The number of the one that continues it.
        next: u32,
    },
    /// A segment that continues another one than the one there is.
    #[error("snapshot {seq} of {account} continues {wanted}, which is not here{}", instead(found))]
    ForeignParent {
        /// The account's component.
        account: String,
        /// The segment's number.
        seq: u32,
        /// SHA-256 of the manifest that it continues, or that its chain begins with.
        wanted: Digest,
        /// SHA-256 of the one that is in its place.
        found: Option<Digest>,
    },
    /// Two segments continue the same one, or have the same number.
    #[error("{}: {one} and {other}", branches(account, *seq, *other_seq))]
    Fork {
        /// The account's component.
        account: String,
        /// The number of one.
        seq: u32,
        /// The number of the other; the same or a higher one.
        other_seq: u32,
        /// SHA-256 of the manifest of one.
        one: Digest,
        /// SHA-256 of the manifest of the other.
        other: Digest,
    },
    /// A manifest cannot be read.
    #[error("the manifest of snapshot {seq} of {account} cannot be read")]
    Manifest {
        /// The account's component.
        account: String,
        /// The segment's number.
        seq: u32,
        /// Why not.
        source: Arc<ReadError>,
    },
}

fn instead(found: &Option<Digest>) -> String {
    found.map(|found| format!("; {found} is in its place")).unwrap_or_default()
}

fn branches(account: &str, seq: u32, other_seq: u32) -> String {
    if seq == other_seq {
        format!("there are two snapshots {seq} of {account}")
    } else {
        format!("snapshots {seq} and {other_seq} of {account} continue the same one")
    }
}
