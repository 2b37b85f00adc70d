//! How much a peer may take, and how long.

use std::time::Duration;

/// The limits of a server. What a connection may take of memory is in `wire`; the rest is time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at the same time; those beyond are told to come again.
    pub connections_max: usize,
    /// From the first byte to the login, whatever is said meanwhile.
    pub login: Duration,
    /// How long somebody who has logged in may say nothing, or take nothing of an answer.
    pub idle: Duration,
    /// How long a command that has begun may take when the server is told to end.
    pub drain: Duration,
    /// How long the answer to a wrong password takes.
    pub login_pause: Duration,
    /// Wrong passwords on one connection.
    pub login_failures_max: u32,
    /// How large a command may be.
    pub wire: csync::framer::Limits,
}

impl Default for Limits {
    /// As Cyrus has them, where it has any (`sync_timeout`, `failedloginpause`).
    fn default() -> Self {
        Self {
            connections_max: 1000,
            login: Duration::from_secs(60),
            idle: Duration::from_secs(30 * 60),
            drain: Duration::from_secs(30),
            login_pause: Duration::from_secs(3),
            login_failures_max: 3,
            wire: csync::framer::Limits::default(),
        }
    }
}
