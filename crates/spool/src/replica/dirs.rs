//! Directories in the making, and how they become durable.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::{self, Mode};
use rustix::io::Errno;

use super::disk::{Disk, READ_DIR, io_error};
use super::error::Result;
use crate::tree::give_to;

/// How many have made directories that are not durable yet: somebody else may find them there, and
/// put something into them.
#[derive(Debug, Default)]
pub(super) struct Unsynced(AtomicUsize);

/// Directories in which others were made.
#[derive(Debug, Default)]
pub(super) struct NewDirs {
    parents: BTreeSet<PathBuf>,
}

impl NewDirs {
    /// In how many directories others were made.
    pub fn len(&self) -> usize {
        self.parents.len()
    }
}

impl Disk {
    /// A directory, which is made if it is not there. [`Disk::sync_new`] makes it durable; where that
    /// fails or is forgotten, the next one does it for all.
    pub fn make_dir(&self, path: &Path, new: &mut NewDirs) -> Result<OwnedFd> {
        self.make(path, &mut |parent| {
            if new.parents.is_empty() {
                self.unsynced.0.fetch_add(1, Ordering::SeqCst);
            }
            new.parents.insert(parent.to_owned());
        })
    }

    /// The same where it does no harm if the directory is lost.
    pub fn make_passing_dir(&self, path: &Path) -> Result<OwnedFd> {
        self.make(path, &mut |_| {})
    }

    /// Makes directories durable that were made, with those on the way to them that others make at the
    /// moment.
    pub fn sync_new(&self, new: NewDirs) -> Result<()> {
        if new.parents.is_empty() {
            return Ok(());
        }
        match self.unsynced.0.load(Ordering::SeqCst) {
            1 => new.parents.iter().try_for_each(|dir| self.sync_dir(dir))?,
            _ => self.sync_everything()?,
        }
        self.are_synced(new);
        Ok(())
    }

    /// Takes note that everything was made durable since these were made.
    pub fn are_synced(&self, new: NewDirs) {
        if !new.parents.is_empty() {
            self.unsynced.0.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// `making` is told in which directory one is about to be made.
    fn make(&self, path: &Path, making: &mut dyn FnMut(&Path)) -> Result<OwnedFd> {
        let mut make = |above: &OwnedFd, below: &Path| {
            let name = below.file_name().unwrap_or_default();
            making(below.parent().unwrap_or(Path::new("")));
            match fs::mkdirat(above, name, Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
            let dir = fs::openat(above, name, READ_DIR, Mode::empty())?;
            give_to(&dir, self.owner)?;
            Ok(true)
        };
        let made = self.walk(path, &mut make).map_err(io_error("make", path))?;
        made.ok_or_else(|| io_error("make", path)(std::io::ErrorKind::NotFound.into()))
    }
}
