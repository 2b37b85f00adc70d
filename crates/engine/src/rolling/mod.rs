//! What is replicated next, and what of it did not go: rolling replication without its input, output
//! and clock.
//!
//! [`Schedule`] has the accounts that are to be looked at, and those that are ill. [`Link`] knows
//! whether the replica can be reached. Both are told what happens, and what time it is.
//! ([0013](../../../../docs/decisions/0013-rolling.md))

mod account;
mod illness;
mod link;
mod schedule;

use model::{MboxName, Userid};

use crate::replicate::{Problem, Trouble};

pub use illness::{IllAccount, IllThing};
pub use link::{Link, Loss, Reach};
pub use schedule::{Effects, Schedule, Task, Told};

pub use cyrus_format::sync_log::{Scope, Work};

/// A time, in milliseconds, of a clock that never goes back. Where it begins is the business of whoever
/// reads it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub i64);

/// A piece of a sync log, kept until all that it is about is replicated or known to be ill.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkId(pub u64);

/// What became of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The replica has it all, but for what is complained of.
    Done(Vec<Complaint>),
    /// The account as a whole cannot be replicated; nothing was done.
    Failed(Complaint),
    /// The connection broke over it.
    Broken(String),
    /// There was no connection to begin with.
    NotReached,
}

/// Why something is left as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// The mailbox, or the file of the account; the account as a whole without one.
    pub mailbox: Option<MboxName>,
    /// A stable word for programs.
    pub code: String,
    /// The reason, for people.
    pub reason: String,
}

/// The account, or a mailbox of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Whose.
    pub account: Userid,
    /// Which.
    pub mailbox: Option<MboxName>,
}

impl Moment {
    fn plus(self, millis: i64) -> Self {
        Self(self.0.saturating_add(millis))
    }
}

impl Complaint {
    /// Of the account as a whole.
    pub fn of_account(code: &str, reason: impl std::fmt::Display) -> Self {
        Self { mailbox: None, code: code.to_owned(), reason: reason.to_string() }
    }
}

impl From<&Problem> for Complaint {
    fn from(problem: &Problem) -> Self {
        let reason = match &problem.trouble {
            Trouble::Diverged(differences) => match differences.first() {
                Some(first) => format!("{}: {first} and so on", problem.trouble),
                None => problem.trouble.to_string(),
            },
            other => other.to_string(),
        };
        let code = problem.trouble.code().to_owned();
        Self { mailbox: Some(problem.mailbox.clone()), code, reason }
    }
}

/// So long, after so many tries: twice as long each time, up to a limit; in milliseconds.
fn delay(tries: u32, first: i64, most: i64) -> i64 {
    let doubled = tries.saturating_sub(1).min(32);
    first.saturating_mul(1 << doubled).min(most)
}
