//! What can go wrong in a conversation with an IMAP server.

use std::io;

/// A command that did not succeed. `command` is its beginning, for people.
#[derive(Debug, thiserror::Error)]
pub enum ImapError {
    /// The server understood and refused.
    #[error("{command}: refused: {text}")]
    No {
        /// The command.
        command: String,
        /// What the server said.
        text: String,
    },
    /// The server did not understand.
    #[error("{command}: not understood by the server: {text}")]
    Bad {
        /// The command.
        command: String,
        /// What the server said.
        text: String,
    },
    /// The server answered something that this client does not expect.
    #[error("{command}: unexpected answer: {text}")]
    Unexpected {
        /// The command.
        command: String,
        /// What the server said.
        text: String,
    },
    /// The connection broke, or nothing came for too long.
    #[error("{command}: the connection failed")]
    Io {
        /// The command.
        command: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl ImapError {
    /// Whether the server merely refused: the conversation can go on.
    pub fn is_refusal(&self) -> bool {
        matches!(self, ImapError::No { .. })
    }
}
