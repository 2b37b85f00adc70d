//! The directory of lock files, `mboxname_lockpath`.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, OFlags, fstat};
use rustix::process::geteuid;

use super::OrNone;
use crate::error::{Result, SpoolError};
use crate::files;

/// Mode of a new directory, as Cyrus makes it (`cyrus_mkdir`, `lib/util.c`, Cyrus 3.6).
const DIRECTORY_MODE: u32 = 0o755;

/// Mode of a new lock file before the umask, likewise.
const FILE_MODE: u32 = 0o666;

/// Where lock files are.
#[derive(Debug)]
pub(crate) struct LockDir {
    root: PathBuf,
    /// The user that Cyrus runs as, if this machine has it.
    cyrus_uid: Option<u32>,
}

/// A lock file, not locked yet.
#[derive(Debug)]
pub(crate) struct LockFile {
    pub file: File,
    pub path: PathBuf,
    /// Whether it did not exist before.
    pub born: bool,
}

impl LockDir {
    pub fn new(root: PathBuf, cyrus_uid: Option<u32>) -> Self {
        Self { root, cyrus_uid }
    }

    /// Whether it exists: then a Cyrus that locks by lock files (2.4+) has been here.
    pub fn exists(&self) -> bool {
        self.root.is_dir()
    }

    /// When it was made, in nanoseconds since 1970, where the file system knows. It often lies
    /// on a file system in memory, and is younger than the mail.
    pub fn born(&self) -> Option<i128> {
        files::born(CWD, &self.root)
    }

    /// Opens the lock file `name`, a path below the root. It is created if it is missing, with
    /// the directories above it; never truncated, and never removed.
    pub fn open(&self, name: &Path) -> Result<LockFile> {
        let path = self.root.join(name);
        self.open_or_create(&path).map_err(|source| SpoolError::Io {
            op: "open lock file",
            path,
            source,
        })
    }

    fn open_or_create(&self, path: &Path) -> io::Result<LockFile> {
        let mut made_parents = false;
        loop {
            if let Some(file) = open_existing(path).or_none()? {
                return Ok(LockFile { file, path: path.to_owned(), born: false });
            }
            self.refuse_foreign_owner()?;
            match create_new(path) {
                Ok(file) => return Ok(LockFile { file, path: path.to_owned(), born: true }),
                // Somebody else was faster: open theirs.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound && !made_parents => {
                    let parent = path.parent().unwrap_or(&self.root);
                    DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(parent)?;
                    made_parents = true;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// A lock file that Cyrus cannot open stops Cyrus, so only its own user makes new ones.
    fn refuse_foreign_owner(&self) -> io::Result<()> {
        let me = geteuid().as_raw();
        let owner = self.root.ancestors().find_map(|dir| dir.metadata().ok()).map(|m| m.uid());
        if self.cyrus_uid == Some(me) || owner == Some(me) {
            return Ok(());
        }
        let why =
            format!("user id {me} is not Cyrus: a lock file that it creates would stop Cyrus");
        Err(io::Error::new(io::ErrorKind::PermissionDenied, why))
    }
}

impl LockFile {
    /// When it was last opened by Cyrus, which truncates it each time: nanoseconds since 1970.
    pub fn used(&self) -> io::Result<i128> {
        Ok(files::mtime(&fstat(&self.file)?))
    }
}

/// Reading suffices for a shared lock. A pipe or a device by that name must not block us.
fn open_existing(path: &Path) -> io::Result<File> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
    OpenOptions::new().read(true).custom_flags(flags as i32).open(path)
}

fn create_new(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(FILE_MODE).open(path)
}
