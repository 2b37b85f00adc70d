//! What stands between a connection and what it is about.
//!
//! The connection drives [`csync::server::Server`] and hands each of its actions to a [`Handler`],
//! one per session. Logins, TLS, compression, NOOP and EXIT never come here.

use std::io::{self, Write};

use csync::command::{Apply, Command, Get, Restore};
use csync::framer::FileHead;
use csync::record::Record;
use csync::reply::No;
use thiserror::Error;

/// What the session has agreed on; see [`csync::server::Server`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Modes {
    /// What contradicts the replica is to be taken all the same.
    pub force: bool,
    /// The master knows that sieve scripts are messages of a mailbox.
    pub sieve_mailbox: bool,
}

/// Why a command has no OK.
#[derive(Debug, Error)]
pub enum Failure {
    /// It is answered with NO, and the session goes on.
    #[error("{why}")]
    Refused {
        /// What the master is told.
        no: No,
        /// What the log is told, one line.
        why: String,
    },
    /// Untagged output broke off in the middle of a message: only closing the connection tells that.
    #[error("write the answer")]
    Output(#[source] io::Error),
}

impl Failure {
    /// A refusal.
    pub fn refused(no: No, why: impl Into<String>) -> Self {
        Failure::Refused { no, why: why.into() }
    }
}

/// One session's access to the replica.
///
/// Untagged replies go to `out` before a method returns; they may be as large as a mailbox or a
/// message, so `out` should be the connection, or a buffer in front of it. `Ok` is the promise that
/// [`Server::done`](csync::server::Server::done) then makes to the master: what was asked for is on
/// disk. Methods without a result keep what goes wrong for the command that they belong to.
pub trait Handler: Send {
    /// A message file begins. Its bytes follow, as many as it says.
    fn file(&mut self, head: FileHead);

    /// The next bytes of it.
    fn file_bytes(&mut self, bytes: &[u8]);

    /// It is complete.
    fn file_end(&mut self);

    /// Records begin; `command` is what is known of the command that they belong to, which is final
    /// only in [`Handler::apply`] or [`Handler::restore`].
    fn records(&mut self, command: Option<Box<Command>>);

    /// The next record.
    fn record(&mut self, record: Record);

    /// The command whose files or records came is refused; it has been answered.
    fn abandon(&mut self);

    /// Answers a question.
    ///
    /// # Errors
    /// See [`Failure`].
    fn get(&mut self, get: Get, modes: Modes, out: &mut dyn Write) -> Result<(), Failure>;

    /// Does what the master wants.
    ///
    /// # Errors
    /// See [`Failure`].
    fn apply(&mut self, apply: Apply, modes: Modes, out: &mut dyn Write) -> Result<(), Failure>;

    /// Adds the records that came to a mailbox (RESTORE). Cyrus' backups ask for this, masters never
    /// do.
    ///
    /// # Errors
    /// See [`Failure`].
    fn restore(&mut self, restore: Restore) -> Result<(), Failure> {
        self.abandon();
        let why =
            format!("RESTORE of {}: a replica takes mail from its master only", restore.mboxname);
        Err(Failure::refused(No::ProtocolError, why))
    }

    /// Forgets what was reserved and sent (RESTART). The end of a session does the same: handlers
    /// leave nothing behind when they are dropped.
    fn restart(&mut self);
}
