//! A mailbox that is looked at.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;

use model::{Finding, MboxName, UniqueId};
use spool::FrozenMailbox;

use crate::live::take_mailbox;
use crate::records::Records;

/// A mailbox: its metadata in memory, and its messages within reach, as long as they are there.
pub(crate) struct Subject {
    pub name: MboxName,
    /// What mailboxes.db says.
    pub uniqueid: Option<UniqueId>,
    /// The metadata files by name.
    pub files: BTreeMap<String, Vec<u8>>,
    pub frozen: FrozenMailbox,
    /// What was wrong when its files were copied.
    pub findings: Vec<Finding>,
    /// The caches of messages here and of archived ones, if they were opened in time.
    caches: Option<[io::Result<Option<File>>; 2]>,
}

impl Subject {
    pub fn of(mut frozen: FrozenMailbox) -> Self {
        let source = take_mailbox(&mut frozen);
        Self {
            name: source.name,
            uniqueid: source.uniqueid.filter(|id| !id.is_empty()),
            files: source.files,
            findings: source.findings,
            frozen,
            caches: None,
        }
    }

    /// The records, as far as they can be read.
    pub fn records(&self) -> Records<'_> {
        Records::read(&self.files)
    }

    /// cyrus.header.
    pub fn header(&self) -> Option<&[u8]> {
        self.files.get("cyrus.header").map(Vec::as_slice)
    }

    /// cyrus.annotations.
    pub fn annotations(&self) -> Option<&[u8]> {
        self.files.get("cyrus.annotations").map(Vec::as_slice)
    }

    /// Opens the caches while the mailbox is held, so that they stay those that the index is about.
    pub fn hold_caches(&mut self) {
        self.caches = Some([false, true].map(|archived| self.frozen.open_cache(archived)));
    }

    /// A cache; `None` if there is none.
    pub fn cache(&self, archived: bool) -> io::Result<Option<File>> {
        match self.caches.as_ref().map(|caches| &caches[usize::from(archived)]) {
            Some(Ok(held)) => held.as_ref().map(File::try_clone).transpose(),
            Some(Err(error)) => Err(io::Error::new(error.kind(), error.to_string())),
            None => self.frozen.open_cache(archived),
        }
    }
}
