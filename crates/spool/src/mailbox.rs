//! A mailbox whose metadata is in memory and whose message files stay where they are.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use cyrus_format::index;
use cyrus_format::mboxlist::MailboxEntry;
use model::{Finding, FindingKind, MboxName, Uid};
use rustix::fs::Dir;
use rustix::io::Errno;

use crate::error::Result;
use crate::files::{self, Links, Place};
use crate::lock::{Held, OrNone};
use crate::roots::Partition;

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
        let index = files::copy(place.partition.index.mail_file(&name)).or_none()?;
        Ok(index.map(|copied| copied.bytes))
    }
}

pub(crate) const HEADER: &str = "cyrus.header";
pub(crate) const INDEX: &str = "cyrus.index";
pub(crate) const EXPUNGE: &str = "cyrus.expunge";
pub(crate) const ANNOTATIONS: &str = "cyrus.annotations";

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

/// Where a mailbox's files are.
#[derive(Debug)]
pub(crate) struct Placement {
    pub partition: Arc<Partition>,
    /// Relative to each root of the partition.
    pub dir: PathBuf,
    /// The directory on the data partition, if it is there.
    data: Option<OwnedFd>,
    /// The one on the archive partition, opened when first needed.
    archive: OnceLock<OwnedFd>,
}

impl Placement {
    /// Opens the mailbox's directory.
    pub fn open(partition: Arc<Partition>, dir: PathBuf, notes: &mut Notes<'_>) -> Result<Self> {
        let place = partition.data.mail_file(&dir);
        let data = match files::open_dir(place.dir, &dir) {
            Ok(data) => Some(data),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG) => {
                let why = format!("there is no directory {}", place.path().display());
                notes.add(FindingKind::MailboxMissing, why);
                None
            }
            Err(errno) => {
                let error = Err(place.error("open", errno));
                notes.optional(FindingKind::MetadataUnreadable, error)?
            }
        };
        Ok(Self { partition, dir, data, archive: OnceLock::new() })
    }

    /// Whether it makes sense to look for metadata: if the mailbox has no directory, then only
    /// where metadata is kept elsewhere.
    pub fn may_have_metadata(&self) -> bool {
        self.data.is_some() || !Arc::ptr_eq(&self.partition.index, &self.partition.data)
    }

    /// Names one of its metadata files below each root.
    pub fn name_of(&self, file: &str) -> PathBuf {
        self.dir.join(file)
    }

    fn open_message(&self, uid: Uid, archived: bool) -> io::Result<File> {
        let name = format!("{uid}.");
        let name = Path::new(&name);
        if self.partition.archive.is_none() {
            return self.open_in(false, name)?.ok_or_else(|| io::ErrorKind::NotFound.into());
        }
        // A file that moves from the second place to the first between two looks is caught by
        // the third.
        for archived in [archived, !archived, archived] {
            if let Some(file) = self.open_in(archived, name)? {
                return Ok(file);
            }
        }
        Err(io::ErrorKind::NotFound.into())
    }

    fn open_in(&self, archived: bool, name: &Path) -> io::Result<Option<File>> {
        let dir = if archived { self.archive()? } else { self.data() };
        let Some(dir) = dir else { return Ok(None) };
        files::open(Place { dir, name, below: &self.dir, links: Links::Refuse }).or_none()
    }

    fn data(&self) -> Option<BorrowedFd<'_>> {
        self.data.as_ref().map(AsFd::as_fd)
    }

    /// The mailbox's directory on the archive partition, if both exist.
    fn archive(&self) -> io::Result<Option<BorrowedFd<'_>>> {
        let Some(root) = &self.partition.archive else { return Ok(None) };
        if self.archive.get().is_none()
            && let Some(fd) = files::open_dir(root.fd(), &self.dir).or_none()?
        {
            // Another thread may have been faster; then ours is closed.
            drop(self.archive.set(fd));
        }
        Ok(self.archive.get().map(AsFd::as_fd))
    }

    fn list_messages(&self) -> io::Result<Vec<Uid>> {
        let mut uids = Vec::new();
        for dir in [self.data(), self.archive()?].into_iter().flatten() {
            for entry in Dir::read_from(dir)? {
                uids.extend(uid_of_file(entry?.file_name().to_bytes()));
            }
        }
        uids.sort_unstable();
        uids.dedup();
        Ok(uids)
    }
}

/// The UID in a message file's name: decimal digits without padding, and a dot.
fn uid_of_file(name: &[u8]) -> Option<Uid> {
    let digits = name.strip_suffix(b".")?;
    if !digits.first().is_some_and(|digit| (b'1'..=b'9').contains(digit)) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok().map(Uid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_canonical_uid_and_a_dot_name_a_message() {
        let uid = |name: &str| uid_of_file(name.as_bytes()).map(|uid| uid.0);
        assert_eq!(uid("1."), Some(1));
        assert_eq!(uid("4294967295."), Some(u32::MAX));
        for other in ["", ".", "0.", "01.", "+1.", "1", "1..", "4294967296.", "x.", "cyrus.index"] {
            assert_eq!(uid(other), None, "{other}");
        }
    }
}
