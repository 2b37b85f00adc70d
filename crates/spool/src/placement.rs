//! Where a mailbox's directory is, what its lock is called, and how its messages are opened.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use cyrus_format::locks::{LockEra, LockedMailbox};
use cyrus_format::mboxlist::{MailboxEntry, MboxListEra};
use cyrus_format::names::NameError;
use cyrus_format::paths::PathRules;
use model::{FindingKind, Timestamp, Uid, UniqueId};
use rustix::fs::{AtFlags, Dir, FileType, RenameFlags, Stat, fsync, renameat_with, statat};
use rustix::io::Errno;

use crate::error::Result;
use crate::files::{self, Links, Place};
use crate::lock::OrNone;
use crate::mailbox::Notes;
use crate::roots::{Partition, Root};
use crate::staging::Inode;

const CACHE: &str = "cyrus.cache";

/// The mailbox's directory below each root of its partition.
pub(crate) fn directory(
    entry: &MailboxEntry,
    list: MboxListEra,
    rules: &PathRules,
) -> std::result::Result<PathBuf, NameError> {
    if is_by_name(entry, list) {
        return rules.mailbox_dir_by_name(&entry.name);
    }
    rules.mailbox_dir_by_id(entry.uniqueid.as_ref().unwrap_or(&UniqueId::default()))
}

/// The lock files of the mailbox, one for each way in which the releases in question name it.
pub(crate) fn name_locks(
    entry: &MailboxEntry,
    list: MboxListEra,
    eras: &[LockEra],
    rules: &PathRules,
) -> std::result::Result<Vec<PathBuf>, NameError> {
    let mailbox = LockedMailbox {
        name: &entry.name,
        uniqueid: entry.uniqueid.as_ref(),
        by_name: is_by_name(entry, list),
    };
    let mut files = Vec::new();
    for name in eras.iter().filter_map(|era| era.mailbox_lock(&mailbox)) {
        let file = rules.lock_file(&name)?;
        if !files.contains(&file) {
            files.push(file);
        }
    }
    Ok(files)
}

/// Whether its directory has its name: always up to 3.4; since 3.6 if it is of type `l`.
fn is_by_name(entry: &MailboxEntry, list: MboxListEra) -> bool {
    list != MboxListEra::ById || entry.mbtype.legacy_dirs
}

/// Where a mailbox's files are.
#[derive(Debug)]
pub(crate) struct Placement {
    partition: Arc<Partition>,
    /// Relative to each root of the partition.
    dir: PathBuf,
    data: Directory,
    archive: Option<Directory>,
    /// Whether the directory on the data partition was there.
    is_there: bool,
}

impl Placement {
    /// Looks for the mailbox's directory. It stays open if `keep_open`, so that
    /// messages are found later without looking for the directory again.
    pub fn open(
        partition: Arc<Partition>,
        dir: PathBuf,
        keep_open: bool,
        notes: &mut Notes<'_>,
    ) -> Result<Self> {
        let data = Directory::new(&partition.data, keep_open);
        let place = partition.data.mail_file(&dir);
        let is_there = match data.with(&dir, |_| Ok(())) {
            Ok(found) => found.is_some(),
            Err(error) => {
                let error = Err(place.error("open", error));
                notes.optional::<()>(FindingKind::MetadataUnreadable, error)?;
                true
            }
        };
        let archive = partition.archive.as_ref().map(|root| Directory::new(root, keep_open));
        Ok(Self { partition, dir, data, archive, is_there })
    }

    /// Whether it makes sense to look for metadata: if the mailbox has no directory, then only
    /// where metadata is kept elsewhere.
    pub fn may_have_metadata(&self) -> bool {
        self.is_there || !Arc::ptr_eq(&self.partition.index, &self.partition.data)
    }

    /// The directory on the data partition, if it was not there.
    pub fn missing_directory(&self) -> Option<PathBuf> {
        (!self.is_there).then(|| self.partition.data.mail_file(&self.dir).path())
    }

    /// Whether archived messages are elsewhere.
    pub fn has_archive(&self) -> bool {
        self.archive.is_some()
    }

    /// The roots below which its files lie.
    pub fn partition(&self) -> Arc<Partition> {
        Arc::clone(&self.partition)
    }

    /// Names one of its metadata files below each root.
    pub fn name_of(&self, file: &str) -> PathBuf {
        self.dir.join(file)
    }

    /// See [`FrozenMailbox::open_message`](crate::FrozenMailbox::open_message).
    pub fn open_message(&self, uid: Uid, archived: bool) -> io::Result<File> {
        let name = format!("{uid}.");
        let data = Some(&self.data);
        let places = match (&self.archive, archived) {
            (None, _) => [data, None, None],
            // A file that moves from the second place to the first between two looks is caught
            // by the third.
            (Some(archive), false) => [data, Some(archive), data],
            (Some(archive), true) => [Some(archive), data, Some(archive)],
        };
        for directory in places.into_iter().flatten() {
            let found = directory.with(&self.dir, |dir| {
                let name = Path::new(&name);
                files::open(Place { dir, name, below: &self.dir, links: Links::Refuse }).or_none()
            });
            if let Some(Some(file)) = found? {
                return Ok(file);
            }
        }
        Err(io::ErrorKind::NotFound.into())
    }

    /// Does something with the directory that has the file of a message, or should have it, and with the root
    /// that it is below.
    pub fn with_root_and_dir_of<T>(
        &self,
        uid: Uid,
        archived: bool,
        action: impl FnOnce(BorrowedFd<'_>, BorrowedFd<'_>) -> io::Result<T>,
    ) -> io::Result<T> {
        let name = format!("{uid}.");
        let has_it = |directory: &&Directory| {
            let found = directory
                .with(&self.dir, |dir| Ok(statat(dir, &*name, AtFlags::SYMLINK_NOFOLLOW)?));
            matches!(found, Ok(Some(_)))
        };
        let data = Some(&self.data);
        let order = match (&self.archive, archived) {
            (Some(archive), true) => [Some(archive), data],
            (archive, _) => [data, archive.as_ref()],
        };
        let found = order.into_iter().flatten().find(has_it);
        let directory = found.or_else(|| order.into_iter().flatten().next());
        let directory = directory.ok_or(io::ErrorKind::NotFound)?;
        let root = directory.root.fd();
        let done = directory.with(&self.dir, |dir| action(root, dir))?;
        done.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Gives a file another name, on each partition that has it; no file is replaced.
    pub fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        for directory in [Some(&self.data), self.archive.as_ref()].into_iter().flatten() {
            directory.with(&self.dir, |dir| {
                match renameat_with(dir, from, dir, to, RenameFlags::NOREPLACE) {
                    Ok(()) | Err(Errno::NOENT) => Ok(()),
                    Err(errno) => Err(errno.into()),
                }
            })?;
        }
        Ok(())
    }

    /// Whether there is something of that name where such a metadata file is to be.
    pub fn has_metadata(&self, file: &str) -> bool {
        let roots = &self.partition;
        let root = match file {
            "cyrus.header" => &roots.header,
            "cyrus.index" => &roots.index,
            "cyrus.expunge" => &roots.expunge,
            _ => &roots.annotations,
        };
        let found = statat(root.fd(), &*self.name_of(file), AtFlags::SYMLINK_NOFOLLOW);
        !matches!(found, Err(Errno::NOENT | Errno::NOTDIR))
    }

    /// Makes the names of its message files durable.
    pub fn sync(&self) -> io::Result<()> {
        for directory in [Some(&self.data), self.archive.as_ref()].into_iter().flatten() {
            directory.with(&self.dir, |dir| Ok(fsync(dir)?))?;
        }
        Ok(())
    }

    /// See [`FrozenMailbox::list_messages`](crate::FrozenMailbox::list_messages).
    pub fn list_messages(&self) -> io::Result<Vec<Uid>> {
        let mut uids = Vec::new();
        for directory in [Some(&self.data), self.archive.as_ref()].into_iter().flatten() {
            directory.with(&self.dir, |dir| {
                for entry in Dir::read_from(dir)? {
                    uids.extend(uid_of_file(entry?.file_name().to_bytes()));
                }
                Ok(())
            })?;
        }
        uids.sort_unstable();
        uids.dedup();
        Ok(uids)
    }

    /// See [`FrozenMailbox::stat_files`](crate::FrozenMailbox::stat_files).
    pub fn stat_files(&self) -> io::Result<Vec<MessageStat>> {
        let mut found = Vec::new();
        let places = [(Some(&self.data), false), (self.archive.as_ref(), true)];
        for (directory, is_archive) in places {
            let Some(directory) = directory else { continue };
            directory.with(&self.dir, |dir| {
                for entry in Dir::read_from(dir)? {
                    let entry = entry?;
                    let Some(uid) = uid_of_file(entry.file_name().to_bytes()) else { continue };
                    match statat(dir, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW) {
                        Ok(stat) => found.push(MessageStat::of(uid, &stat, is_archive)),
                        // It went between two calls.
                        Err(Errno::NOENT) => {}
                        Err(errno) => return Err(errno.into()),
                    }
                }
                Ok(())
            })?;
        }
        found.sort_unstable_by_key(|stat| (stat.uid, stat.is_archived));
        Ok(found)
    }

    /// See [`FrozenMailbox::open_cache`](crate::FrozenMailbox::open_cache).
    pub fn open_cache(&self, archived: bool) -> io::Result<Option<File>> {
        let roots = &self.partition;
        let root = if archived { &roots.archive_cache } else { &roots.cache };
        let Some(root) = root else { return Ok(None) };
        files::open(root.mail_file(&self.dir.join(CACHE))).or_none()
    }

    /// The whole path of a message file on the data partition, for people.
    pub fn path_of(&self, uid: Uid) -> PathBuf {
        self.partition.data.mail_file(&self.dir.join(format!("{uid}."))).path()
    }
}

impl MessageStat {
    fn of(uid: Uid, stat: &Stat, is_archived: bool) -> Self {
        Self {
            uid,
            inode: (stat.st_dev, stat.st_ino),
            links: stat.st_nlink,
            size: u64::try_from(stat.st_size).unwrap_or_default(),
            is_file: FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile,
            mtime: Timestamp { secs: stat.st_mtime, nanos: stat.st_mtime_nsec as u32 },
            is_archived,
        }
    }
}

/// What the system says of a message file, without its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageStat {
    /// The UID in its name.
    pub uid: Uid,
    /// Which file it is.
    pub inode: Inode,
    /// How many names it has.
    pub links: u64,
    /// How many bytes.
    pub size: u64,
    /// Whether it is a regular file.
    pub is_file: bool,
    /// When it was last written; Cyrus sets that to when the message arrived.
    pub mtime: Timestamp,
    /// Whether it is on the archive partition, and not on the other one.
    pub is_archived: bool,
}

/// A mailbox's directory below one root.
#[derive(Debug)]
struct Directory {
    root: Arc<Root>,
    keep_open: bool,
    fd: OnceLock<OwnedFd>,
}

impl Directory {
    fn new(root: &Arc<Root>, keep_open: bool) -> Self {
        Self { root: Arc::clone(root), keep_open, fd: OnceLock::new() }
    }

    /// Does something with the directory of that name; `None` if it does not exist.
    fn with<T>(
        &self,
        name: &Path,
        action: impl FnOnce(BorrowedFd<'_>) -> io::Result<T>,
    ) -> io::Result<Option<T>> {
        if let Some(fd) = self.fd.get() {
            return action(fd.as_fd()).map(Some);
        }
        let fd = match files::open_dir(self.root.fd(), name) {
            Ok(fd) => fd,
            // No directory has a name like this.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        };
        let done = action(fd.as_fd())?;
        if self.keep_open {
            // Another thread may have been faster; then ours is closed.
            drop(self.fd.set(fd));
        }
        Ok(Some(done))
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
