//! An account as it is handed to an operation: all metadata in memory, messages still to be read.

use std::collections::{BTreeMap, BTreeSet};

use cyrus_format::index::RecordKey;
use model::state::{AccountState, Digest, FileState, MailboxKey, MailboxState};
use model::{Finding, FindingKind, Guid, MboxName, UniqueId, Userid};
use segment::names;
use sha2::{Digest as _, Sha256};

use crate::exceptions::Exceptions;
use crate::records::Records;

/// An account at one instant.
#[derive(Clone, Debug)]
pub struct SourceAccount {
    /// Whose.
    pub userid: Userid,
    /// Which Cyrus releases write spools like this one, for people: "3.6 to 3.10".
    pub cyrus: String,
    /// Its mailboxes; a [`MessageSource`](crate::ports::MessageSource) numbers them likewise.
    pub mailboxes: Vec<SourceMailbox>,
    /// Subscriptions, seen state, quota and so on.
    pub files: Vec<SourceFile>,
    /// What is wrong with the account as a whole.
    pub findings: Vec<Finding>,
}

/// One mailbox of it.
#[derive(Clone, Debug, Default)]
pub struct SourceMailbox {
    /// Its internal name.
    pub name: MboxName,
    /// Its identity, where it has one.
    pub uniqueid: Option<UniqueId>,
    /// Its partition's name.
    pub partition: Vec<u8>,
    /// Its type letters in mailboxes.db (reference: `imap/mboxlist.h`, Cyrus 3.6).
    pub mbtype: String,
    /// Whether it is deleted but kept.
    pub deleted: bool,
    /// Its metadata files by name: `cyrus.header`, `cyrus.index` and so on.
    pub files: BTreeMap<String, Vec<u8>>,
    /// Messages whose bytes are known to be others than their record's GUID says.
    pub contents: Exceptions,
    /// What is wrong with it, as far as its files were not looked into yet.
    pub findings: Vec<Finding>,
}

impl SourceMailbox {
    /// How many messages it has that clients see.
    pub fn exists(&self) -> u64 {
        Records::read(&self.files).facts().exists
    }

    /// How many messages it has whose files should be there, expunged ones included.
    pub fn kept(&self) -> u64 {
        let facts = Records::read(&self.files).facts();
        facts.exists + facts.expunged
    }

    /// The hash that the bytes of this message must have; `None` where nobody knows.
    pub(crate) fn content_of(&self, record: &RecordKey) -> Option<Guid> {
        match self.contents.get(record.uid) {
            Some(found) => found,
            None => Some(record.guid).filter(|guid| !guid.is_zero()),
        }
    }
}

/// A file of the account.
#[derive(Clone, Debug)]
pub struct SourceFile {
    /// Its name in the snapshot: `sub`, `seen`, `quota/user.glad` and so on.
    pub name: String,
    /// Its modification time, seconds since 1970.
    pub mtime: i64,
    /// What it holds.
    pub bytes: Vec<u8>,
}

/// A lock that the source took.
#[derive(Clone, Debug)]
pub struct LockHeld {
    /// What it protects: `user`, `name`, `index`, `db`, `header` or `expunge`.
    pub kind: String,
    /// The file locked.
    pub file: String,
    /// How long it took to get it, in microseconds.
    pub waited_us: u64,
    /// How long it was held, in microseconds; `None` while the messages are still to be read.
    pub held_us: Option<u64>,
}

impl SourceAccount {
    /// The identity of each mailbox within the account, in the order of `mailboxes`, with a
    /// finding for each that had to be made up. It is the name of its directory in a segment.
    pub fn keys(&self) -> (Vec<MailboxKey>, Vec<Finding>) {
        let mut taken = BTreeSet::new();
        let mut findings = Vec::new();
        // By name, so that the same mailbox keeps a contested id from one snapshot to the next.
        let mut order: Vec<usize> = (0..self.mailboxes.len()).collect();
        order.sort_by(|a, b| self.mailboxes[*a].name.cmp(&self.mailboxes[*b].name));
        let mut keys = vec![MailboxKey(Vec::new()); self.mailboxes.len()];
        for at in order {
            let mailbox = &self.mailboxes[at];
            let id = mailbox.uniqueid.as_ref().map(UniqueId::as_bytes).unwrap_or_default();
            let mut key = id.to_vec();
            if id.is_empty() || !taken.insert(key.clone()) {
                // No id holds a NUL, so this can clash with none.
                key.push(0);
                key.extend_from_slice(mailbox.name.as_bytes());
                taken.insert(key.clone());
            }
            if !id.is_empty() && key.len() > id.len() {
                let detail = format!("another mailbox has the id {} too", UniqueId::new(id));
                findings.push(Finding::new(FindingKind::DuplicateUniqueId, &mailbox.name, detail));
            }
            keys[at] = MailboxKey(names::escape(&key).into_bytes());
        }
        (keys, findings)
    }
}

/// An account, and the fingerprints of everything of it that is in memory: they are taken once,
/// whatever it is compared with.
#[derive(Clone, Debug)]
pub struct Described {
    /// The account.
    pub account: SourceAccount,
    /// The [identity](SourceAccount::keys) of each of its mailboxes.
    pub keys: Vec<MailboxKey>,
    /// What is wrong with those identities.
    pub findings: Vec<Finding>,
    /// The fingerprints.
    pub state: AccountState,
}

impl From<SourceAccount> for Described {
    fn from(account: SourceAccount) -> Self {
        let (keys, findings) = account.keys();
        let mailboxes = account.mailboxes.iter().zip(&keys).map(|(mailbox, key)| {
            let files = mailbox.files.iter();
            let files = files.map(|(name, bytes)| (name.clone(), fingerprint(bytes))).collect();
            (key.clone(), MailboxState { name: mailbox.name.clone(), files })
        });
        let files = account.files.iter();
        let state = AccountState {
            userid: account.userid.clone(),
            mailboxes: mailboxes.collect(),
            files: files.map(|f| (f.name.clone(), fingerprint(&f.bytes))).collect(),
        };
        Self { account, keys, findings, state }
    }
}

/// Size and SHA-256.
pub(crate) fn fingerprint(bytes: &[u8]) -> FileState {
    FileState { size: bytes.len() as u64, digest: Digest(Sha256::digest(bytes).into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mailbox(name: &str, id: Option<&str>) -> SourceMailbox {
        SourceMailbox {
            name: name.into(),
            uniqueid: id.map(UniqueId::from),
            partition: b"default".to_vec(),
            mbtype: "e".into(),
            deleted: false,
            files: BTreeMap::new(),
            contents: Exceptions::default(),
            findings: Vec::new(),
        }
    }

    #[test]
    fn every_mailbox_has_a_key_of_its_own() {
        let account = SourceAccount {
            userid: "glad".into(),
            cyrus: String::new(),
            mailboxes: vec![
                mailbox("user.glad.z", Some("a1")),
                mailbox("user.glad", Some("a1")),
                mailbox("user.glad.none", None),
                mailbox("user.glad.empty", Some("")),
            ],
            files: Vec::new(),
            findings: Vec::new(),
        };
        let (keys, findings) = account.keys();
        let keys: Vec<&[u8]> = keys.iter().map(|key| key.0.as_slice()).collect();
        assert_eq!(
            keys,
            [b"a1%00user.glad.z".as_slice(), b"a1", b"%00user.glad.none", b"%00user.glad.empty"]
        );
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].place, "user.glad.z");
    }
}
