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
    /// There is no replica.
    #[error("there is no replica in {}", path.display())]
    NoReplica {
        /// The directory.
        path: PathBuf,
    },
    /// It was a replica.
    #[error("{} is no replica any more: it was promoted, and belongs to a Cyrus", path.display())]
    Promoted {
        /// Its root.
        path: PathBuf,
    },
    /// mailboxes.db has a mailbox that is not there.
    #[error("mailbox {mailbox} has lost its directory {}", path.display())]
    Vanished {
        /// Its name.
        mailbox: MboxName,
        /// Where it should be, below the root of the replica.
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

impl ReplicaError {
    /// What it says, and what every error behind it adds, in one line.
    pub fn explained(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            text.push_str(&format!(": {cause}"));
            source = cause.source();
        }
        text
    }
}

/// The result of working on a replica.
pub type Result<T, E = ReplicaError> = std::result::Result<T, E>;
