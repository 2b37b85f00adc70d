//! Metadata of a mailbox made anew, where nobody else is at work.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use model::{MboxName, Uid};
use rustix::fs::{self, CWD, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::error::{Result, SpoolError};
use crate::files;
use crate::lock::Ledger;
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
    /// Message files that get another UID, on the partition where they are. No file has the new one.
    pub renumbered: Vec<(Uid, Uid)>,
    /// cyrus.header, if it is to be another one.
    pub header: Option<Vec<u8>>,
    /// cyrus.expunge (2.3), likewise.
    pub expunge: Option<Vec<u8>>,
    /// cyrus.index, likewise.
    pub index: Option<Vec<u8>>,
}

impl Server {
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
        let entry = catalog.list.get(name).filter(|entry| entry.mbtype.has_data());
        let entry = entry.ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
        let placed = self.placed(entry).map_err(failed)?;
        let placed = placed.ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
        rewrite(&placed, rewriting).map_err(failed)
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
    for (from, to) in &rewriting.renumbered {
        placed.with_dir_of(*from, false, |dir| {
            let names = [from, to].map(|uid| format!("{uid}."));
            let [from, to] = &names;
            Ok(fs::renameat_with(dir, from, dir, to, RenameFlags::NOREPLACE)?)
        })?;
    }
    if !rewriting.renumbered.is_empty() {
        placed.sync()?;
    }
    let partition = placed.partition();
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

/// The directory of a mailbox below a root.
fn directory(root: &Root, name: &Path) -> io::Result<OwnedFd> {
    Ok(files::open_dir(root.fd(), name)?)
}

/// Lets a file hold these bytes and no others, at every instant what it held or what it is to hold.
fn replace(dir: &OwnedFd, name: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = format!("{}.{NEW}", name.display());
    match fs::unlinkat(dir, &*new, fs::AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(errno) => return Err(errno.into()),
    }
    // As Cyrus makes them (`imap/mailbox.c`).
    let mode = Mode::RUSR | Mode::WUSR;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(fs::openat(dir, &*new, flags, mode)?);
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    if let Err(error) = written {
        // A disk that is full gets its room back.
        let _ = fs::unlinkat(dir, &*new, fs::AtFlags::empty());
        return Err(error);
    }
    fs::renameat(dir.as_fd(), &*new, dir.as_fd(), name)?;
    Ok(fs::fsync(dir)?)
}
