//! A mailbox whose metadata is in memory and whose message files stay where they are.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use cyrus_format::index::{self, Index, RecordKey};
use cyrus_format::mboxlist::MailboxEntry;
use model::{Finding, FindingKind, MboxName, Uid};

use crate::error::Result;
use crate::files;
use crate::lock::{Held, OrNone};
use crate::placement::{MessageStat, Placement};

/// One mailbox of a frozen account.
///
/// The metadata are bytes as they lay on disk. As long as this value lives, its locks keep Cyrus
/// from removing the message files; drop it as soon as they are read. In 2.3, where the only
/// locks are those on the metadata files themselves, they also keep clients from changing the
/// mailbox meanwhile.
#[derive(Debug)]
pub struct FrozenMailbox {
    /// What mailboxes.db says of it.
    pub entry: MailboxEntry,
    /// `cyrus.header`.
    pub header: Option<Vec<u8>>,
    /// `cyrus.index`.
    pub index: Option<Vec<u8>>,
    /// `cyrus.expunge` (2.3 with delayed expunge).
    pub expunge: Option<Vec<u8>>,
    /// `cyrus.annotations` (2.5+); most mailboxes have none.
    pub annotations: Option<Vec<u8>>,
    /// What is wrong with it, as far as that shows without looking into those files.
    pub findings: Vec<Finding>,
    pub(crate) place: Option<Placement>,
    /// Whether a message may vanish in spite of the locks (2.3).
    pub(crate) loosely_held: bool,
    /// Held, never looked at.
    pub(crate) locks: Vec<Held>,
}

impl FrozenMailbox {
    /// One of which nothing has been read yet.
    pub(crate) fn new(entry: MailboxEntry, loosely_held: bool) -> Self {
        Self {
            entry,
            header: None,
            index: None,
            expunge: None,
            annotations: None,
            findings: Vec::new(),
            place: None,
            loosely_held,
            locks: Vec::new(),
        }
    }

    /// Says if the directory of its messages is missing, now that its index was copied.
    ///
    /// Cyrus makes it for the first message. A mailbox whose metadata is kept elsewhere does
    /// without one until then (`imap/mailbox.c`: mailbox_create, Cyrus 3.6), and for ever if all of
    /// its messages go to the archive partition.
    pub(crate) fn check_directory(&mut self) {
        let Some(missing) = self.place.as_ref().and_then(Placement::missing_directory) else {
            return;
        };
        let has_archive = self.place.as_ref().is_some_and(Placement::has_archive);
        let is_elsewhere =
            |record: RecordKey| record.is_unlinked() || record.is_archived() && has_archive;
        let index = self.index.as_deref().and_then(|bytes| Index::parse(bytes).ok());
        let is_not_needed = index.is_some_and(|index| {
            index.len() as u64 == u64::from(index.announced()) && index.keys().all(is_elsewhere)
        });
        if !is_not_needed {
            let mut notes = Notes { mailbox: &self.entry.name, findings: &mut self.findings };
            let why = format!("there is no directory {}", missing.display());
            notes.add(FindingKind::MailboxMissing, why);
        }
    }

    /// Whether cleanup of this mailbox waits for us.
    pub(crate) fn is_held(&self) -> bool {
        !self.locks.is_empty()
    }

    /// Gives its locks back before its messages are read: one may vanish from now on.
    pub fn let_go(&mut self) {
        self.locks.clear();
        self.loosely_held = true;
    }

    /// Opens the file of a message; `archived` says where its record claims it to be.
    ///
    /// If it is not there, the other place is tried too: Cyrus may just be moving it.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::NotFound`] if there is no such file anywhere; else what the system says.
    /// A symbolic link is never followed.
    pub fn open_message(&self, uid: Uid, archived: bool) -> io::Result<File> {
        self.place.as_ref().ok_or(io::ErrorKind::NotFound)?.open_message(uid, archived)
    }

    /// The UIDs of the message files there are, in ascending order, on both partitions.
    ///
    /// # Errors
    ///
    /// What the system says; a directory that does not exist holds none.
    pub fn list_messages(&self) -> io::Result<Vec<Uid>> {
        self.place.as_ref().map_or(Ok(Vec::new()), Placement::list_messages)
    }

    /// What the system says of each message file there is, by UID, on both partitions.
    ///
    /// # Errors
    ///
    /// What the system says; a directory that does not exist holds none.
    pub fn stat_messages(&self) -> io::Result<Vec<MessageStat>> {
        let mut found = self.stat_files()?;
        // One that is just moving to the other partition has both names.
        found.dedup_by_key(|stat| stat.uid);
        Ok(found)
    }

    /// The same with both files of a message that has two, the one on the archive partition second.
    ///
    /// # Errors
    ///
    /// What the system says; a directory that does not exist holds none.
    pub fn stat_files(&self) -> io::Result<Vec<MessageStat>> {
        self.place.as_ref().map_or(Ok(Vec::new()), Placement::stat_files)
    }

    /// Whether there is something where this metadata file is to be, whether or not it can be read.
    pub fn has_metadata(&self, file: &str) -> bool {
        self.place.as_ref().is_some_and(|place| place.has_metadata(file))
    }

    /// `cyrus.cache` of the messages here, or of those on the archive partition; `None` if there
    /// is none. As long as the mailbox is held, it is the one that the index is about, and what is
    /// open stays that.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn open_cache(&self, archived: bool) -> io::Result<Option<File>> {
        self.place.as_ref().map_or(Ok(None), |place| place.open_cache(archived))
    }

    /// Whether archived messages are elsewhere.
    pub fn has_archive(&self) -> bool {
        self.place.as_ref().is_some_and(Placement::has_archive)
    }

    /// Where the file of a message is to be, for people; nothing if the mailbox has no place.
    pub fn path_of(&self, uid: Uid) -> PathBuf {
        self.place.as_ref().map(|place| place.path_of(uid)).unwrap_or_default()
    }

    /// `cyrus.index` as it is now, where no lock held cleanup back when the mailbox was copied
    /// (2.3): a message that is gone since is looked up there, and not guessed at. `None` where
    /// the copy in [`index`](Self::index) stays binding, or if there is none any more.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn reread_index(&self) -> io::Result<Option<Vec<u8>>> {
        let Some(place) = self.place.as_ref().filter(|_| self.loosely_held) else {
            return Ok(None);
        };
        let name = place.name_of(INDEX);
        let index = files::copy(place.partition().index.mail_file(&name), Vec::new()).or_none()?;
        Ok(index.map(|copied| copied.bytes))
    }
}

pub(crate) const INDEX: &str = "cyrus.index";

/// The minor version in the first bytes of an index, if they are those of an index.
///
/// Locking depends on it, so a number alone is not believed: the sizes that belong to it must
/// stand beside it.
pub(crate) fn index_version(head: &[u8]) -> Option<u32> {
    let word = |at: usize| Some(u32::from_be_bytes(*head.get(at..)?.first_chunk()?));
    let (version, header_size, record_size) = (word(8)?, word(12)?, word(16)?);
    let expected = index::sizes(version)?;
    let found = (usize::try_from(header_size).ok()?, usize::try_from(record_size).ok()?);
    (found == expected).then_some(version)
}

/// Collects what is wrong with one mailbox.
pub(crate) struct Notes<'a> {
    pub mailbox: &'a MboxName,
    pub findings: &'a mut Vec<Finding>,
}

impl Notes<'_> {
    pub fn add(&mut self, kind: FindingKind, detail: String) {
        self.findings.push(Finding::new(kind, self.mailbox, detail));
    }

    /// Passes a result on; an error about this file alone becomes a finding, and `None`.
    pub fn optional<T>(
        &mut self,
        kind: FindingKind,
        result: Result<Option<T>>,
    ) -> Result<Option<T>> {
        result.or_else(|error| {
            self.add(kind, error.into_detail()?);
            Ok(None)
        })
    }

    /// Likewise, and that the file is missing is a finding too.
    pub fn required<T>(
        &mut self,
        kind: FindingKind,
        file: &str,
        result: Result<Option<T>>,
    ) -> Result<Option<T>> {
        if let Ok(None) = result {
            self.add(kind, format!("there is no {file}"));
        }
        self.optional(kind, result)
    }
}
