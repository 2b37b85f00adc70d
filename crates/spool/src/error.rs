//! What can keep an account from being read at all.
//!
//! Whatever concerns only one mailbox or one file is a [`Finding`](model::Finding) instead.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use cyrus_format::FormatError;
use cyrus_format::imapd_conf::ConfError;
use cyrus_format::names::NameError;
use model::{MboxName, Userid};

use crate::files;
use crate::lock::{Holder, LockKind};

/// The result of reading a spool.
pub type Result<T, E = SpoolError> = std::result::Result<T, E>;

/// Why a spool cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// A call of the operating system failed.
    #[error("cannot {op} {}", path.display())]
    Io {
        /// What was tried, as a verb.
        op: &'static str,
        /// With what.
        path: PathBuf,
        /// The answer.
        source: io::Error,
    },
    /// Somebody else held a lock for too long.
    #[error(
        "no {kind} lock on {} within {:.1} s{}",
        file.display(), waited.as_secs_f64(), describe_holder(holder.as_ref())
    )]
    LockTimeout {
        /// The file to be locked.
        file: PathBuf,
        /// What the lock protects.
        kind: LockKind,
        /// The mailbox concerned, where it is one.
        mailbox: Option<MboxName>,
        /// How long it was waited for.
        waited: Duration,
        /// Who held it in the end, where the kernel knows.
        holder: Option<Holder>,
    },
    /// A file was replaced by a new one each time it was locked.
    #[error("{} was replaced {times} times while it was being locked", file.display())]
    KeepsBeingReplaced {
        /// The file.
        file: PathBuf,
        /// How often.
        times: u32,
    },
    /// The account's mailboxes changed each time they were read.
    #[error("the mailboxes of {userid} changed during each of {attempts} attempts to read them")]
    KeepsChanging {
        /// Whose.
        userid: Userid,
        /// How often it was tried.
        attempts: u32,
    },
    /// The configuration cannot be used.
    #[error("cannot use the configuration {}", path.display())]
    Conf {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: Box<ConfError>,
    },
    /// A release that is none.
    #[error("there is no Cyrus IMAP {release}")]
    UnknownRelease {
        /// What was given.
        release: String,
    },
    /// The configuration leads to no list of mailboxes.
    #[error("there is no mailbox list {}, where {} leads", path.display(), conf.display())]
    NoMailboxList {
        /// Where it was looked for.
        path: PathBuf,
        /// The configuration file.
        conf: PathBuf,
    },
    /// A database that everything depends on cannot be read.
    #[error("cannot read the database {}", path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// Why.
        source: FormatError,
    },
    /// A partition that holds mailboxes has no directory, or one of its metadata or archive
    /// directories is missing. Perhaps it is not mounted.
    #[error("cannot open {}, a directory of partition {partition}", path.display())]
    NoPartition {
        /// The partition.
        partition: String,
        /// The directory.
        path: PathBuf,
        /// The answer.
        source: io::Error,
    },
    /// Nobody of that name has a mailbox here.
    #[error("there is no account {userid}")]
    NoSuchAccount {
        /// The name.
        userid: Userid,
        /// Names that look like it, the nearest first.
        near: Vec<Userid>,
    },
    /// A sync log that was taken lost its name before it was read to its end.
    #[error("somebody else has taken the sync log {}", path.display())]
    LogTakenAway {
        /// Where it was.
        path: PathBuf,
    },
    /// The account's name makes no lock file.
    #[error("there is no lock file for the account {userid}")]
    NoUserLock {
        /// Whose.
        userid: Userid,
        /// Why.
        source: NameError,
    },
    /// Root is to act as a user whom this machine does not have.
    #[error("there is no user {user} in /etc/passwd to act as")]
    UnknownUser {
        /// The name, from `cyrus_user` or the default.
        user: String,
    },
    /// The kernel did not let root act as the user.
    #[error("cannot act as user {user}")]
    Credentials {
        /// The name.
        user: String,
        /// The answer.
        source: io::Error,
    },
}

impl SpoolError {
    /// Takes an error as a fault of the one file it is about, in one line. It stays an error if
    /// the file is not to blame: a lock that others hold, or a process that has run out of
    /// something.
    pub(crate) fn into_detail(self) -> Result<String> {
        match self {
            SpoolError::Io { op, path, source } if !files::is_exhaustion(&source) => {
                Ok(format!("cannot {op} {}: {source}", path.display()))
            }
            SpoolError::Database { path, source } => Ok(format!("{}: {source}", path.display())),
            other => Err(other),
        }
    }
}

fn describe_holder(holder: Option<&Holder>) -> String {
    holder.map(|holder| format!("; {holder} holds it")).unwrap_or_default()
}
