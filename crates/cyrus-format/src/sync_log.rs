//! The sync log: what a master writes down so that its replicas hear of it (`imap/sync_log.c`, 2.3 to
//! 3.12).
//!
//! A line is a word and one or two names, in internal form, between spaces. A name is in quotation marks
//! if it is empty or holds a space, a tab, a parenthesis, a brace, a quotation mark or a backslash; the
//! last two, and braces, stand behind a backslash then. Lines come in any order, and most of them several
//! times.
//!
//! [`Entry`] is one line; [`Backlog`] makes of many of them what is to be looked at.

mod backlog;

use std::borrow::Cow;

use model::{MboxName, UniqueId, Userid};
use thiserror::Error;

pub use backlog::{Backlog, Malformed, Scope, Work};

/// No line is longer: the names of two mailboxes have 490 bytes each at the most
/// (`imap/mailbox.h`, MAX_MAILBOX_NAME), each perhaps behind a backslash.
pub const LINE_BYTES_MAX: usize = 16 << 10;

/// The words that lines begin with.
const WORDS: [&[u8]; 14] = [
    b"APPEND",
    b"MAILBOX",
    b"DOUBLEMAILBOX",
    b"RENAME",
    b"UNMAILBOX",
    b"USER",
    b"UNUSER",
    b"META",
    b"SIEVE",
    b"SUB",
    b"UNSUB",
    b"SEEN",
    b"QUOTA",
    b"ANNOTATION",
];

/// The length of the longest of them.
const WORD_BYTES_MAX: usize = 13;

/// Bytes that make a writer use quotation marks.
const QUOTED: &[u8] = b" \t()\\\"{}";

/// Those of them that stand behind a backslash.
const ESCAPED: &[u8] = b"\\\"{}";

/// What has changed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Entry {
    /// A mailbox got a message.
    Append(MboxName),
    /// Something about a mailbox.
    Mailbox(MboxName),
    /// Two mailboxes: messages were copied or moved.
    DoubleMailbox(MboxName, MboxName),
    /// A mailbox has another name.
    Rename(MboxName, MboxName),
    /// A mailbox was deleted.
    UnMailbox(MboxName),
    /// Anything about a user.
    User(Userid),
    /// A user was deleted.
    UnUser(Userid),
    /// Something of a user that is no mailbox.
    Meta(Userid),
    /// A user's sieve scripts.
    Sieve(Userid),
    /// A user subscribed to a mailbox.
    Sub(Userid, MboxName),
    /// A user no longer is.
    UnSub(Userid, MboxName),
    /// A user has read something in a mailbox that is not his own.
    Seen(Userid, UniqueId),
    /// The limits of a quota root.
    Quota(MboxName),
    /// An annotation of a mailbox, or with an empty name one of the server.
    Annotation(MboxName),
}

/// Why a line is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BadLine {
    /// Its first word is none of those that masters write.
    #[error("an unknown word")]
    Word,
    /// It has not as many names as its word wants, or one that is empty.
    #[error("a name too few or too many")]
    Names,
    /// A name is not written as a name.
    #[error("a name that cannot be read")]
    Quoting,
    /// It is longer than any line.
    #[error("a line too long")]
    TooLong,
}

impl Entry {
    /// Reads a line, without what ends it; `None` if nothing is in it.
    ///
    /// # Errors
    /// If no master has written it like that.
    pub fn parse(line: &[u8]) -> Result<Option<Self>, BadLine> {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.iter().all(|byte| matches!(byte, b' ' | b'\t')) {
            return Ok(None);
        }
        if line.len() > LINE_BYTES_MAX {
            return Err(BadLine::TooLong);
        }
        let end = line.iter().position(|byte| *byte == b' ').ok_or(BadLine::Word)?;
        let mut rest = &line[end + 1..];
        let mut word = [0; WORD_BYTES_MAX];
        let word = word.get_mut(..end).ok_or(BadLine::Word)?;
        word.copy_from_slice(&line[..end]);
        word.make_ascii_uppercase();
        let first = name(&mut rest)?;
        let second = match rest.strip_prefix(b" ") {
            Some(more) => {
                rest = more;
                Some(name(&mut rest)?)
            }
            None => None,
        };
        if !rest.is_empty() {
            return Err(BadLine::Names);
        }
        Self::from_names(word, first, second).map(Some)
    }

    fn from_names(
        word: &[u8],
        first: Cow<'_, [u8]>,
        second: Option<Cow<'_, [u8]>>,
    ) -> Result<Self, BadLine> {
        let may_be_empty = word == b"ANNOTATION";
        if first.is_empty() && !may_be_empty || second.as_ref().is_some_and(|name| name.is_empty())
        {
            return Err(BadLine::Names);
        }
        let mailbox = |name: Cow<'_, [u8]>| MboxName::new(name.into_owned());
        let user = |name: Cow<'_, [u8]>| Userid::new(name.into_owned());
        Ok(match (word, second) {
            (b"APPEND", None) => Entry::Append(mailbox(first)),
            (b"MAILBOX", None) => Entry::Mailbox(mailbox(first)),
            (b"DOUBLEMAILBOX", Some(other)) => Entry::DoubleMailbox(mailbox(first), mailbox(other)),
            (b"RENAME", Some(other)) => Entry::Rename(mailbox(first), mailbox(other)),
            (b"UNMAILBOX", None) => Entry::UnMailbox(mailbox(first)),
            (b"USER", None) => Entry::User(user(first)),
            (b"UNUSER", None) => Entry::UnUser(user(first)),
            (b"META", None) => Entry::Meta(user(first)),
            (b"SIEVE", None) => Entry::Sieve(user(first)),
            (b"SUB", Some(other)) => Entry::Sub(user(first), mailbox(other)),
            (b"UNSUB", Some(other)) => Entry::UnSub(user(first), mailbox(other)),
            (b"SEEN", Some(other)) => Entry::Seen(user(first), UniqueId::new(other.into_owned())),
            (b"QUOTA", None) => Entry::Quota(mailbox(first)),
            (b"ANNOTATION", None) => Entry::Annotation(mailbox(first)),
            (word, _) if WORDS.contains(&word) => return Err(BadLine::Names),
            _ => return Err(BadLine::Word),
        })
    }

    /// The line, with what ends it.
    pub fn line(&self) -> Vec<u8> {
        let (word, names): (&str, [Option<&[u8]>; 2]) = match self {
            Entry::Append(name) => ("APPEND", [Some(name.as_bytes()), None]),
            Entry::Mailbox(name) => ("MAILBOX", [Some(name.as_bytes()), None]),
            Entry::DoubleMailbox(from, to) => {
                ("DOUBLEMAILBOX", [Some(from.as_bytes()), Some(to.as_bytes())])
            }
            Entry::Rename(from, to) => ("RENAME", [Some(from.as_bytes()), Some(to.as_bytes())]),
            Entry::UnMailbox(name) => ("UNMAILBOX", [Some(name.as_bytes()), None]),
            Entry::User(user) => ("USER", [Some(user.as_bytes()), None]),
            Entry::UnUser(user) => ("UNUSER", [Some(user.as_bytes()), None]),
            Entry::Meta(user) => ("META", [Some(user.as_bytes()), None]),
            Entry::Sieve(user) => ("SIEVE", [Some(user.as_bytes()), None]),
            Entry::Sub(user, name) => ("SUB", [Some(user.as_bytes()), Some(name.as_bytes())]),
            Entry::UnSub(user, name) => ("UNSUB", [Some(user.as_bytes()), Some(name.as_bytes())]),
            Entry::Seen(user, id) => ("SEEN", [Some(user.as_bytes()), Some(id.as_bytes())]),
            Entry::Quota(root) => ("QUOTA", [Some(root.as_bytes()), None]),
            Entry::Annotation(name) => ("ANNOTATION", [Some(name.as_bytes()), None]),
        };
        let mut line = word.as_bytes().to_vec();
        for name in names.into_iter().flatten() {
            line.push(b' ');
            write_name(name, &mut line);
        }
        line.push(b'\n');
        line
    }
}

/// Takes a name from the front.
fn name<'l>(rest: &mut &'l [u8]) -> Result<Cow<'l, [u8]>, BadLine> {
    let Some(quoted) = rest.strip_prefix(b"\"") else {
        let end = rest.iter().position(|byte| matches!(byte, b' ' | b'\t')).unwrap_or(rest.len());
        let (word, behind) = rest.split_at(end);
        let is_odd = |byte: &u8| matches!(byte, b'"' | b'(' | b')' | 0);
        if word.is_empty() {
            return Err(BadLine::Names);
        }
        // A literal's length, for which no line has room.
        if word.starts_with(b"{") || word.iter().any(is_odd) {
            return Err(BadLine::Quoting);
        }
        *rest = behind;
        return Ok(Cow::Borrowed(word));
    };
    let mut text = Vec::new();
    let mut bytes = quoted.iter().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => {
                *rest = &quoted[at + 1..];
                return Ok(Cow::Owned(text));
            }
            b'\\' => text.push(*bytes.next().ok_or(BadLine::Quoting)?.1),
            0 => return Err(BadLine::Quoting),
            _ => text.push(*byte),
        }
    }
    Err(BadLine::Quoting)
}

fn write_name(name: &[u8], line: &mut Vec<u8>) {
    if !name.is_empty() && !name.iter().any(|byte| QUOTED.contains(byte)) {
        return line.extend_from_slice(name);
    }
    line.push(b'"');
    for byte in name {
        if ESCAPED.contains(byte) {
            line.push(b'\\');
        }
        line.push(*byte);
    }
    line.push(b'"');
}

#[cfg(test)]
mod tests;
