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
        let mut digest = [0; 32];
        for (byte, at) in digest.iter_mut().zip((0..64).step_by(2)) {
            *byte = u8::from_str_radix(hex.get(at..at + 2)?, 16).ok()?;
        }
        Some(Self(digest))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0 {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
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
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
