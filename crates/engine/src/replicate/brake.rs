//! What is not done to a replica without consent.

use std::fmt;

use model::{MboxName, UidValidity, UniqueId};

use super::plan::{Plan, Step};
use crate::folder::is_deleted;

/// So few mailboxes may always go.
const MAILBOXES_FEW: u64 = 3;

/// So few messages may always go.
const MESSAGES_FEW: u64 = 1000;

/// Why a plan is not applied as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Brake {
    /// The replica has an INBOX, and here there is none any more.
    WholeAccount,
    /// Too much would go at once.
    Removals {
        /// `mailboxes` or `messages`.
        what: &'static str,
        /// How many would go.
        gone: u64,
        /// Of how many.
        of: u64,
    },
    /// A mailbox of the replica has the name of another one here, which nothing says was removed.
    OtherIdentity {
        /// The name.
        mailbox: MboxName,
        /// The uniqueid here.
        here: UniqueId,
        /// The uniqueid there.
        there: UniqueId,
    },
    /// The same mailbox, but UIDs that have nothing to do with each other.
    OtherUidValidity {
        /// The mailbox.
        mailbox: MboxName,
        /// Here.
        here: UidValidity,
        /// There.
        there: UidValidity,
    },
}

/// How much there is, and how much of it may go at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    /// Mailboxes with messages that the replica has, but for those that are deleted and kept.
    pub mailboxes: u64,
    /// Messages of the account that are here and on the replica.
    pub messages: u64,
    /// Of these, and of those mailboxes, so many per cent may be removed at once.
    pub share: u64,
}

/// Whether a plan removes too much.
pub fn of_removals(plan: &Plan, amounts: Amounts) -> Vec<Brake> {
    let (mut mailboxes, mut messages) = (0, 0);
    for step in &plan.steps {
        match step {
            // What was deleted before, and kept for a while, is expired every night.
            Step::Remove { name, is_empty: false } if !is_deleted(name.as_bytes()) => {
                mailboxes += 1;
            }
            Step::Send(send) => messages += send.counts.expunged,
            Step::Merge(merge) => messages += merge.gone,
            _ => {}
        }
    }
    let all = amounts.messages.saturating_add(messages);
    [
        ("mailboxes", mailboxes, amounts.mailboxes, MAILBOXES_FEW),
        ("messages", messages, all, MESSAGES_FEW),
    ]
    .into_iter()
    .filter(|(_, gone, of, few)| gone > few && gone * 100 > of * amounts.share)
    .map(|(what, gone, of, _)| Brake::Removals { what, gone, of })
    .collect()
}

impl fmt::Display for Brake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Brake::WholeAccount => write!(f, "the whole account would go: it has no INBOX here"),
            Brake::Removals { what, gone, of } => {
                write!(f, "{gone} of {of} {what} would be removed from the replica")
            }
            Brake::OtherIdentity { mailbox, here, there } => write!(
                f,
                "{mailbox} is another mailbox on the replica: uniqueid {there}, not {here}"
            ),
            Brake::OtherUidValidity { mailbox, here, there } => write!(
                f,
                "{mailbox} has other UIDs on the replica: UIDVALIDITY {there}, not {here}"
            ),
        }
    }
}
