//! What can go wrong with a Cyrus under test.

use std::io;

use crate::imap::ImapError;
use crate::lmtp::LmtpError;

/// A Cyrus that does not do what a test needs.
#[derive(Debug, thiserror::Error)]
pub enum CyrusError {
    /// The system refused something.
    #[error("{operation}")]
    Io {
        /// What was being done, to what.
        operation: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The servers did not come up.
    #[error("Cyrus does not come up: {reason}; its master wrote: {log}")]
    NotReady {
        /// What was waited for.
        reason: String,
        /// Everything the master wrote.
        log: String,
    },
    /// A tool failed.
    #[error("{command}: {status}: {stderr} {stdout}")]
    Tool {
        /// The command line.
        command: String,
        /// How it ended.
        status: String,
        /// Its standard output.
        stdout: String,
        /// Its error output.
        stderr: String,
    },
    /// A conversation with the IMAP server failed.
    #[error("IMAP at the Cyrus under test")]
    Imap(#[from] ImapError),
    /// A conversation with the LMTP server failed.
    #[error("LMTP at the Cyrus under test")]
    Lmtp(#[from] LmtpError),
}

/// Names the operation of an [`io::Error`].
pub(super) fn io_error(operation: impl ToString) -> impl FnOnce(io::Error) -> CyrusError {
    move |source| CyrusError::Io { operation: operation.to_string(), source }
}
