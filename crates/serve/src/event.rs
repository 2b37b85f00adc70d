//! What a server has to say: one line an event, that names the peer, the user, and whose fault it is.

use std::error::Error;
use std::fmt;
use std::net::SocketAddr;

/// Something that happened.
#[derive(Debug)]
pub struct Event {
    /// On which connection, if it was one.
    pub peer: Option<SocketAddr>,
    /// Who had logged in.
    pub user: Option<String>,
    /// What it was.
    pub what: What,
}

/// What happened. Texts may quote what a peer said; whoever prints them takes care of that.
#[derive(Debug)]
pub enum What {
    /// The server waits for connections at an address.
    Listening(SocketAddr),
    /// It is told to end, with so many connections open.
    Stopping(usize),
    /// So many did not end in time; they were cut.
    Cut(usize),
    /// There is no room for another connection.
    Full,
    /// This machine does not give what a connection takes.
    Trouble {
        /// What for.
        doing: &'static str,
        /// Its reasons, in one line.
        why: String,
    },
    /// Somebody has logged in.
    LoggedIn {
        /// Whether by TLS.
        encrypted: bool,
    },
    /// Somebody has not; he said that he is this one.
    LoginFailed {
        /// As he said.
        name: String,
        /// Why not.
        why: &'static str,
    },
    /// A command has no OK.
    Refused {
        /// Which.
        command: String,
        /// What the master was told.
        reply: String,
        /// Why.
        why: String,
    },
    /// What was said is no command.
    NotUnderstood {
        /// What the peer was told.
        reply: String,
    },
    /// The connection is over.
    Ended {
        /// GET, APPLY and RESTORE that were answered.
        commands: u64,
        /// How.
        how: End,
    },
}

/// How a connection ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The master said EXIT.
    Exit,
    /// The peer closed it between two commands.
    Closed,
    /// The peer closed it in the middle of a command.
    Broken,
    /// This server ends.
    Stopped,
    /// Nobody logged in, in the time that is given for it.
    NoLogin,
    /// Too many wrong passwords.
    TooManyFailures,
    /// Bytes came in the clear behind STARTTLS: the peer's fault, or of somebody between.
    Injected,
    /// What the peer says cannot be followed any further.
    Fatal(String),
    /// The connection broke, or the peer was silent.
    Failed(String),
    /// The code of this program is wrong.
    Panicked,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.peer, &self.user) {
            (Some(peer), Some(user)) => write!(f, "{peer} {user}: {}", self.what),
            (Some(peer), None) => write!(f, "{peer}: {}", self.what),
            (None, _) => self.what.fmt(f),
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            What::Listening(address) => write!(f, "listening at {address}"),
            What::Stopping(0) => f.write_str("stopping"),
            What::Stopping(open) => write!(f, "stopping; connections that are still open: {open}"),
            What::Cut(open) => {
                write!(f, "connections that were cut in the middle of a command: {open}")
            }
            What::Full => f.write_str("sent away: there are as many connections as are allowed"),
            What::Trouble { doing, why } => write!(f, "this machine cannot {doing}: {why}"),
            What::LoggedIn { encrypted: true } => f.write_str("logged in, with TLS"),
            What::LoggedIn { encrypted: false } => f.write_str("logged in"),
            What::LoginFailed { name, why } => write!(f, "login as {name} failed: {why}"),
            What::Refused { command, reply, why } => {
                write!(f, "{command} was answered with NO {reply}: {why}")
            }
            What::NotUnderstood { reply } => {
                write!(f, "the peer's command was answered with {reply}")
            }
            What::Ended { commands, how } => write!(f, "{how}; commands: {commands}"),
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            End::Exit => "the master is done",
            End::Closed => "the peer closed the connection",
            End::Broken => "the peer closed the connection in the middle of a command",
            End::Stopped => "sent away, because this server ends",
            End::NoLogin => "closed: the peer did not log in in time",
            End::TooManyFailures => "closed: the peer had too many wrong passwords",
            End::Injected => "closed: the peer, or somebody between, said more behind STARTTLS",
            End::Panicked => "closed, because of a bug in this program",
            End::Fatal(why) => return write!(f, "closed: the peer cannot be followed: {why}"),
            End::Failed(why) => return write!(f, "closed: {why}"),
        })
    }
}

/// An error with all its reasons, in one line.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text.push_str(": ");
        text.push_str(&error.to_string());
        next = error.source();
    }
    text
}
