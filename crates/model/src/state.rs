//! An account as one endpoint describes it: its mailboxes and files, each with a fingerprint.
//!
//! A description is small: it holds no records, only what tells whether a mailbox needs a closer
//! look. A live spool and an archive describe the same account in the same words, which is what
//! makes one [`diff`](crate::diff) enough for everything.

use std::collections::BTreeMap;
use std::fmt;

use crate::ids::{MboxName, UniqueId, Userid};

/// SHA-256 of a metadata file's bytes. Messages have a [`Guid`](crate::Guid) instead.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// Reads exactly 64 hex digits; anything else is `None`.
    pub fn from_hex(hex: &str) -> Option<Self> {
        if hex.len() != 64 || !hex.is_ascii() {
            return None;
        }
        let value = |digit: u8| u8::try_from(char::from(digit).to_digit(16)?).ok();
        let mut digest = [0; 32];
        for (byte, pair) in digest.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
            *byte = value(pair[0])? << 4 | value(pair[1])?;
        }
        Some(Self(digest))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = String::with_capacity(64);
        for byte in self.0 {
            text.push(char::from(DIGITS[usize::from(byte >> 4)]));
            text.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
        f.write_str(&text)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

/// What a file holds, without its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileState {
    /// Bytes.
    pub size: u64,
    /// SHA-256 of them.
    pub digest: Digest,
}

/// Identifies a mailbox within one account.
///
/// It is the uniqueid wherever that is one. Cyrus before 3.0 could give the same id to two
/// mailboxes, and a damaged mailbox may have none; those get a key made from the name, so that
/// no two mailboxes of an account ever share one.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MailboxKey(pub Vec<u8>);

impl fmt::Display for MailboxKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        UniqueId::new(self.0.as_slice()).fmt(f)
    }
}

/// A mailbox: its name, and the fingerprints of its metadata files by file name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailboxState {
    /// Its name now, in internal form.
    pub name: MboxName,
    /// `cyrus.header`, `cyrus.index`, `cyrus.annotations`, `cyrus.expunge`, as far as present.
    pub files: BTreeMap<String, FileState>,
}

/// Everything of one account at one instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountState {
    /// Whose.
    pub userid: Userid,
    /// Its mailboxes, deleted but kept ones included.
    pub mailboxes: BTreeMap<MailboxKey, MailboxState>,
    /// Subscriptions, seen state, quota and so on, by name.
    pub files: BTreeMap<String, FileState>,
}

impl AccountState {
    /// An account of which nothing is known: the `have` of a first snapshot.
    pub fn empty(userid: Userid) -> Self {
        Self { userid, mailboxes: BTreeMap::new(), files: BTreeMap::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_read_as_it_is_written_and_nothing_else_is() {
        let digest = Digest(std::array::from_fn(|at| (at * 9) as u8));
        let text = digest.to_string();
        assert!(text.starts_with("0009121b") && text.ends_with("0e17"), "{text}");
        assert_eq!(Digest::from_hex(&text), Some(digest));
        assert_eq!(Digest::from_hex(&text.to_uppercase()), Some(digest));
        let wrong = [text[..62].to_owned(), format!("{text}00"), "+1".repeat(32), "zz".repeat(32)];
        for other in wrong {
            assert_eq!(Digest::from_hex(&other), None, "{other}");
        }
    }
}
