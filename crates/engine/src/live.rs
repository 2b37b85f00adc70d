//! A frozen account of a live spool as a source.

use std::collections::BTreeMap;
use std::io::{self, Read};

use cyrus_format::index::RecordKey;
use model::{MboxName, Uid};
use spool::{Frozen, FrozenMailbox, LockReport, MessageFiles, NAME_LOCK_HOLD};

use crate::exceptions::Exceptions;
use crate::folder::is_deleted;
use crate::ports::MessageSource;
use crate::source::{LockHeld, SourceAccount, SourceFile, SourceMailbox};

/// The messages of a frozen account, kept within reach as long as this lives.
pub struct LiveMessages {
    names: Vec<MboxName>,
    files: MessageFiles,
    locks: Vec<LockReport>,
}

/// The mailboxes of a frozen account of which no message is asked for yet. As long as this lives,
/// their locks are held: it is not for anything that waits.
pub struct Untouched {
    names: Vec<MboxName>,
    mailboxes: Vec<FrozenMailbox>,
    locks: Vec<LockReport>,
}

impl Untouched {
    /// Their messages, kept within reach without holding anybody up.
    pub fn messages(self) -> LiveMessages {
        let Self { names, mailboxes, locks } = self;
        LiveMessages { names, files: MessageFiles::new(mailboxes, NAME_LOCK_HOLD), locks }
    }
}

/// Takes a frozen account apart: what is in memory, and what is still to be read.
pub fn live(frozen: Frozen) -> (SourceAccount, LiveMessages) {
    let (account, untouched) = apart(frozen);
    (account, untouched.messages())
}

/// The same for whoever may find that nothing is to be read.
pub fn apart(frozen: Frozen) -> (SourceAccount, Untouched) {
    let Frozen { userid, era, mut mailboxes, account_files, findings, locks, .. } = frozen;
    let account = SourceAccount {
        userid,
        cyrus: era.to_string(),
        mailboxes: mailboxes.iter_mut().map(take_mailbox).collect(),
        files: account_files
            .into_iter()
            .map(|file| SourceFile { name: file.name, mtime: file.mtime.secs, bytes: file.bytes })
            .collect(),
        findings,
    };
    let names = mailboxes.iter().map(|mailbox| mailbox.entry.name.clone()).collect();
    (account, Untouched { names, mailboxes, locks })
}

/// Takes the metadata of a mailbox; its messages stay within reach.
pub(crate) fn take_mailbox(frozen: &mut FrozenMailbox) -> SourceMailbox {
    let entry = &frozen.entry;
    let files = [
        ("cyrus.header", frozen.header.take()),
        ("cyrus.index", frozen.index.take()),
        ("cyrus.expunge", frozen.expunge.take()),
        ("cyrus.annotations", frozen.annotations.take()),
    ];
    let files = files.into_iter().filter_map(|(name, bytes)| Some((name.to_owned(), bytes?)));
    SourceMailbox {
        name: entry.name.clone(),
        uniqueid: entry.uniqueid.clone(),
        partition: entry.partition.clone().unwrap_or_default(),
        mbtype: entry.mbtype.to_string(),
        deleted: is_deleted(entry.name.as_bytes()),
        files: files.collect::<BTreeMap<_, _>>(),
        contents: Exceptions::default(),
        findings: std::mem::take(&mut frozen.findings),
    }
}

fn micros(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

impl MessageSource for LiveMessages {
    fn open(&self, mailbox: usize, record: &RecordKey) -> io::Result<Box<dyn Read + Send + '_>> {
        let file = self.files.open(mailbox, record.uid, record.is_archived())?;
        Ok(Box::new(file))
    }

    fn place(&self, mailbox: usize, record: &RecordKey) -> String {
        let name = self.names.get(mailbox).map(MboxName::to_string);
        format!("file {}. of {}", record.uid, name.unwrap_or_default())
    }

    fn list(&self, mailbox: usize) -> io::Result<Vec<Uid>> {
        self.files.list(mailbox)
    }

    fn index_now(&self, mailbox: usize) -> io::Result<Option<Vec<u8>>> {
        self.files.reread_index(mailbox)
    }

    fn pass(&self, mailbox: usize, uid: Uid) {
        self.files.pass(mailbox, uid);
    }

    fn release(&self, mailbox: usize) {
        self.files.release(mailbox);
    }

    fn locks(&self) -> Vec<LockHeld> {
        locks_held(&self.locks)
    }
}

/// What is told of locks.
pub(crate) fn locks_held(locks: &[LockReport]) -> Vec<LockHeld> {
    let held = |lock: &LockReport| LockHeld {
        kind: lock.kind.to_string(),
        file: lock.file.display().to_string(),
        waited_us: micros(lock.waited),
        held_us: lock.held().map(micros),
    };
    locks.iter().map(held).collect()
}
