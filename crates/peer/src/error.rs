//! Why a connection ends before its time.

use std::io;

use thiserror::Error;

/// What happened to a connection. All of it is for the log: the peer is told nothing.
#[derive(Debug, Error)]
pub enum LinkError {
    /// The peer went away while something was being sent to it.
    #[error("the peer closed the connection while it was being answered")]
    Closed,
    /// The peer neither sent nor took a byte in the time it had.
    #[error("the peer was silent for too long")]
    Silent,
    /// What the peer says is not TLS, or not one that is spoken here.
    #[error("TLS with the peer")]
    Tls(#[from] rustls::Error),
    /// What the peer says is not deflated.
    #[error("the peer's data cannot be inflated")]
    Inflate,
    /// Deflating went wrong on this side.
    #[error("data for the peer cannot be deflated")]
    Deflate,
    /// The system refused something.
    #[error("{operation}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

impl LinkError {
    /// Names the operation of an error of the system; that the peer is gone is not one of those.
    pub(crate) fn io(operation: &'static str, source: io::Error) -> Self {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
        match source.kind() {
            BrokenPipe | ConnectionAborted | ConnectionReset => Self::Closed,
            _ => Self::Io { operation, source },
        }
    }
}
