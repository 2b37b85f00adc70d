//! What can go wrong with a replica.

use std::io;
use std::path::PathBuf;

use cyrus_format::names::NameError;
use cyrus_format::{EncodeError, FormatError};
use model::{Guid, MboxName};

/// Why a replica cannot be opened, or does not hold what it was to hold.
#[derive(Debug, thiserror::Error)]
pub enum ReplicaError {
    /// A call of the operating system failed.
    #[error("cannot {op} {}", path.display())]
    Io {
        /// What was tried, as a verb.
        op: &'static str,
        /// With what, below the root of the replica.
        path: PathBuf,
        /// The answer.
        source: io::Error,
    },
    /// Another process serves it.
    #[error("the replica {} is in use by another process", path.display())]
    InUse {
        /// Its root.
        path: PathBuf,
    },
    /// Somebody was reading the account for too long.
    #[error("somebody holds the lock {} for too long", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// A directory that holds something else.
    #[error("{} is not empty and holds no replica", path.display())]
    Foreign {
        /// The directory.
        path: PathBuf,
    },
    /// A file of the replica cannot be read.
    #[error("cannot make sense of {}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Why.
        source: FormatError,
    },
    /// A file of the replica lacks what everything depends on.
    #[error("{}: {what}", path.display())]
    Incomplete {
        /// The file.
        path: PathBuf,
        /// What is missing.
        what: &'static str,
    },
    /// Something that the format has no room for.
    #[error("cannot write {what}")]
    Encode {
        /// What was to be written.
        what: String,
        /// Why.
        source: EncodeError,
    },
    /// A name that makes no path.
    #[error("a name that cannot be used")]
    Name(#[from] NameError),
    /// A partition that imapd.conf could not name.
    #[error("\"{0}\" is no partition's name")]
    Partition(String),
    /// There is no such mailbox.
    #[error("there is no mailbox {0}")]
    NoSuchMailbox(MboxName),
    /// A message that was to be linked is not as it was announced.
    #[error("the message {guid} has other bytes")]
    OtherBytes {
        /// What it should be.
        guid: Guid,
    },
}

/// The result of working on a replica.
pub type Result<T, E = ReplicaError> = std::result::Result<T, E>;
