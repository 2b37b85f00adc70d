//! What can differ, and how it is said.

use std::fmt;

use model::{Guid, MboxName, Timestamp, Uid};
use peer::SessionError;

use super::Lost;

/// One of the two places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// The first.
    A,
    /// The second.
    B,
}

impl Side {
    /// The other one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Side::A => Side::B,
            Side::B => Side::A,
        }
    }
}

impl Side {
    /// Says of an error which place's it is.
    pub(super) fn lost(self) -> impl Fn(SessionError) -> Lost {
        move |source| Lost { side: self, source }
    }
}

/// Something that both places have, and not the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Both<T> {
    /// At the first.
    pub a: T,
    /// At the second.
    pub b: T,
}

/// A difference of an account.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Difference {
    /// The mailbox, by its name at the first place that has it; none if it is the account's.
    pub mailbox: Option<MboxName>,
    /// The message, if it is one's.
    pub uid: Option<Uid>,
    /// What differs.
    pub what: What,
}

/// What differs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// Only this place has the account, the mailbox, or the message of this GUID.
    OnlyAt(Side, Option<Guid>),
    /// The message is expunged at this place only.
    ExpungedAt(Side),
    /// Two messages have one number.
    Guid(Both<Guid>),
    /// The flags of a message.
    Flags(Both<Vec<String>>),
    /// Whatever else belongs to a message or a mailbox; its name as in the protocol.
    Value(&'static str, Both<String>),
    /// The bytes are not those of the GUID, which both sides agree on or one alone has.
    Content {
        /// Where.
        at: Side,
        /// What the record says.
        recorded: Guid,
        /// What the bytes hash to, or why they cannot be read.
        found: Result<Guid, String>,
    },
    /// Subscribed to at this place only.
    Subscribed(Side, MboxName),
    /// This place alone has this file of the account, or each has another one.
    File(String, Option<Side>),
}

impl Difference {
    /// A stable word for programs.
    pub fn code(&self) -> &'static str {
        match (&self.what, &self.mailbox, &self.uid) {
            (What::OnlyAt(..), None, _) => "account-only",
            (What::OnlyAt(..), _, None) => "mailbox-only",
            (What::OnlyAt(..), _, _) => "message-only",
            (What::ExpungedAt(_), _, _) => "expunged",
            (What::Guid(_), _, _) => "guid",
            (What::Flags(_), _, _) => "flags",
            (What::Value(name, _), _, _) => name,
            (What::Content { .. }, _, _) => "content",
            (What::Subscribed(..), _, _) => "subscribed",
            (What::File(..), _, _) => "file",
        }
    }

    /// The place that has what the other lacks, or whose bytes are wrong.
    pub fn side(&self) -> Option<Side> {
        match &self.what {
            What::OnlyAt(side, _) | What::ExpungedAt(side) | What::Subscribed(side, _) => {
                Some(*side)
            }
            What::Content { at, .. } => Some(*at),
            What::File(_, side) => *side,
            What::Guid(_) | What::Flags(_) | What::Value(..) => None,
        }
    }

    /// In one line, with these names of the two places.
    pub fn line<'l>(&'l self, names: [&'l str; 2]) -> impl fmt::Display + 'l {
        Line { difference: self, names }
    }
}

struct Line<'l> {
    difference: &'l Difference,
    names: [&'l str; 2],
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b] = self.names;
        let at = |side: &Side| match side {
            Side::A => a,
            Side::B => b,
        };
        let Difference { mailbox, uid, what } = self.difference;
        if let Some(mailbox) = mailbox {
            write!(f, "{mailbox}: ")?;
        }
        if let Some(uid) = uid {
            write!(f, "uid {uid}: ")?;
        }
        match what {
            What::OnlyAt(side, None) => write!(f, "only {} has it", at(side)),
            What::OnlyAt(side, Some(guid)) => write!(f, "only {} has {guid}", at(side)),
            What::ExpungedAt(side) => write!(f, "expunged at {} only", at(side)),
            What::Guid(guids) => write!(f, "{} at {a}, {} at {b}", guids.a, guids.b),
            What::Flags(flags) => {
                let text = |flags: &[String]| match flags {
                    [] => "no flags".to_owned(),
                    flags => flags.join(" "),
                };
                write!(f, "{} at {a}, {} at {b}", text(&flags.a), text(&flags.b))
            }
            What::Value(name, both) => {
                write!(f, "{name} {} at {a}, {} at {b}", quoted(&both.a), quoted(&both.b))
            }
            What::Content { at: side, recorded, found: Ok(found) } => {
                write!(f, "the bytes at {} hash to {found}, not to {recorded}", at(side))
            }
            What::Content { at: side, recorded, found: Err(why) } => {
                write!(f, "{recorded} at {}: {why}", at(side))
            }
            What::Subscribed(side, name) => write!(f, "subscribed to {name} at {} only", at(side)),
            What::File(name, Some(side)) => write!(f, "only {} has {name}", at(side)),
            What::File(name, None) => write!(f, "{name} differs"),
        }
    }
}

fn quoted(text: &str) -> &str {
    if text.is_empty() { "nothing" } else { text }
}

/// A time as a difference names it: seconds since 1970.
pub(super) fn seconds(time: Timestamp) -> String {
    time.secs.to_string()
}
