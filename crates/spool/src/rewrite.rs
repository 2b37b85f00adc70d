//! Metadata of a mailbox made anew, where nobody else is at work.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use model::{MboxName, Uid, crc};
use rustix::fs::{self, CWD, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::geteuid;

use crate::error::{Result, SpoolError};
use crate::files;
use crate::lock::{Ledger, OrNone};
use crate::mailbox::INDEX;
use crate::placement::Placement;
use crate::roots::{Partition, Root};
use crate::server::Server;

/// What a file is called until it replaces another one, behind that one's name. Whoever is killed before
/// that leaves it to the next one who writes there; Cyrus passes over it.
const NEW: &str = "cylinder.NEW";

/// What is to be different about a mailbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rewriting {
    /// Which mailbox.
    pub mailbox: MboxName,
    /// The cyrus.index that this was made of, if there was one: another one is not replaced.
    pub planned_from: Option<Fingerprint>,
    /// Message files that get another UID, on the partition where they are. No file has the new one.
    pub renumbered: Vec<(Uid, Uid)>,
    /// cyrus.header, if it is to be another one.
    pub header: Option<Vec<u8>>,
    /// cyrus.expunge (2.3), likewise.
    pub expunge: Option<Vec<u8>>,
    /// cyrus.index, likewise.
    pub index: Option<Vec<u8>>,
}

/// What tells the bytes of a file from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    length: usize,
    crc: u32,
}

impl Fingerprint {
    /// That of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self { length: bytes.len(), crc: crc::crc32(bytes) }
    }
}

/// The right to rewrite what a server has, held by one process at a time.
#[derive(Debug)]
pub struct RewriteLock {
    /// Closing it ends the lock.
    _directory: OwnedFd,
}

impl Server {
    /// Takes the right to rewrite: a lock on the configuration directory itself, which leaves nothing behind.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::WouldBlock`] if another process has it; else what the system says.
    #[expect(clippy::disallowed_methods, reason = "it keeps off others of our own, not Cyrus")]
    pub fn lock_for_rewriting(&self) -> Result<RewriteLock> {
        let path = self.conf.configdirectory();
        let failed = |errno: Errno| SpoolError::Io {
            op: "lock",
            path: path.to_owned(),
            source: errno.into(),
        };
        let directory = files::open_dir(CWD, path).map_err(failed)?;
        fs::flock(&directory, FlockOperation::NonBlockingLockExclusive).map_err(failed)?;
        Ok(RewriteLock { _directory: directory })
    }

    /// The quota root that a mailbox counts for: the nearest one above it.
    ///
    /// # Errors
    ///
    /// What keeps quotas from being read.
    pub fn quota_root_of(&self, name: &MboxName) -> Result<Option<MboxName>> {
        let mut above = name.and_above();
        if self.conf.quota_db() == b"quotalegacy" {
            let is_root = |root: &MboxName| {
                let file = self.rules.quota_file(root);
                file.is_ok_and(|file| self.conf.quota_root().join(file).is_file())
            };
            return Ok(above.find(is_root));
        }
        let quotas = self.load_quotas(&mut Ledger::new(self.lock_timeout))?;
        let Some(quotas) = quotas else { return Ok(None) };
        Ok(above.find(|root| quotas.value.get(root.as_bytes()).is_some()))
    }

    /// Makes it so: message files first, cyrus.index last, each file written beside the old one, synced and
    /// renamed to it. Whoever is killed on the way leaves each file old or new: files that have a new UID and
    /// no record yet are above the last one, where whoever looks for them finds them under that number. The
    /// calling thread must be [Cyrus' user](Server::act_as_cyrus), and nobody may be
    /// [at work](crate::running::running).
    ///
    /// # Errors
    ///
    /// What the system says. What was done until then stays.
    pub fn rewrite(&self, rewriting: &Rewriting) -> Result<()> {
        let name = &rewriting.mailbox;
        let failed = |source| SpoolError::Io {
            op: "rewrite",
            path: PathBuf::from(name.to_string()),
            source,
        };
        let catalog = self.load_catalog(&mut Ledger::new(self.lock_timeout))?.value;
        self.place_of(&catalog, name).and_then(|place| rewrite(&place, rewriting)).map_err(failed)
    }

    /// Writes the file of a quota root; `false`, and nothing is written, where quotas are kept in a database.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn rewrite_quota(&self, root: &MboxName, bytes: &[u8]) -> Result<bool> {
        if self.conf.quota_db() != b"quotalegacy" {
            return Ok(false);
        }
        let name = self.rules.quota_file(root);
        let path =
            self.conf.quota_root().join(name.map_err(io::Error::other).map_err(|source| {
                SpoolError::Io { op: "name the quota of", path: root.to_string().into(), source }
            })?);
        let parent = path.parent().unwrap_or(Path::new("/"));
        let file = path.file_name().map(Path::new).unwrap_or(Path::new(""));
        let written = files::open_dir(CWD, parent)
            .map_err(io::Error::from)
            .and_then(|dir| replace(&dir, file, bytes));
        written.map_err(|source| SpoolError::Io { op: "write", path, source })?;
        Ok(true)
    }
}

fn rewrite(placed: &Placement, rewriting: &Rewriting) -> io::Result<()> {
    let partition = placed.partition();
    let index = files::copy(partition.index.mail_file(&placed.name_of(INDEX)), Vec::new());
    let now = index.or_none()?.map(|copied| Fingerprint::of(&copied.bytes));
    if now != rewriting.planned_from {
        let why = "its cyrus.index has changed since it was looked at: somebody is at work";
        return Err(io::Error::new(io::ErrorKind::WouldBlock, why));
    }
    for (from, to) in &rewriting.renumbered {
        let names = [from, to].map(|uid| format!("{uid}."));
        placed.rename(&names[0], &names[1])?;
    }
    if !rewriting.renumbered.is_empty() {
        placed.sync()?;
    }
    let Partition { header, expunge, index, .. } = &*partition;
    let files = [
        (header, "cyrus.header", &rewriting.header),
        (expunge, "cyrus.expunge", &rewriting.expunge),
        (index, INDEX, &rewriting.index),
    ];
    for (root, name, bytes) in files {
        let Some(bytes) = bytes else { continue };
        let path = placed.name_of(name);
        let dir = directory(root, path.parent().unwrap_or(Path::new("")))?;
        replace(&dir, Path::new(name), bytes)?;
    }
    Ok(())
}

/// The directory of a mailbox below a root: made if it is not there, as on a new disk for metadata.
fn directory(root: &Root, name: &Path) -> io::Result<OwnedFd> {
    match files::open_dir(root.fd(), name) {
        Ok(dir) => return Ok(dir),
        Err(Errno::NOENT) => {}
        Err(errno) => return Err(errno.into()),
    }
    let mut dir = root.fd().try_clone_to_owned()?;
    for part in name {
        match fs::mkdirat(&dir, part, Mode::RWXU) {
            Ok(()) => fs::fsync(&dir)?,
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
        dir = files::open_dir(dir.as_fd(), Path::new(part))?;
    }
    Ok(dir)
}

/// Lets a file hold these bytes and no others, at every instant what it held or what it is to hold.
fn replace(dir: &OwnedFd, name: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = format!("{}.{NEW}", name.display());
    match fs::unlinkat(dir, &*new, fs::AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(errno) => return Err(errno.into()),
    }
    // As Cyrus makes them (`imap/mailbox.c`), or as somebody has made them since.
    let mut mode = Mode::RUSR | Mode::WUSR;
    match fs::statat(dir, name, fs::AtFlags::SYMLINK_NOFOLLOW) {
        Ok(old) if old.st_uid != geteuid().as_raw() => {
            let why = "it belongs to another user: run this as that user, or as root";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
        }
        Ok(old) => mode = Mode::from_raw_mode(old.st_mode),
        Err(Errno::NOENT) => {}
        Err(errno) => return Err(errno.into()),
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(fs::openat(dir, &*new, flags, Mode::RUSR | Mode::WUSR)?);
    fs::fchmod(&file, mode)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    if let Err(error) = written {
        // A disk that is full gets its room back.
        let _ = fs::unlinkat(dir, &*new, fs::AtFlags::empty());
        return Err(error);
    }
    fs::renameat(dir.as_fd(), &*new, dir.as_fd(), name)?;
    Ok(fs::fsync(dir)?)
}
