//! Directories in the making, and how they become durable.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{self, Mode};
use rustix::io::Errno;

use super::disk::{Disk, READ_DIR, io_error};
use super::error::Result;
use crate::tree::give_to;

/// In which directories others were made that may not be durable yet, and how many have done so:
/// whoever finds one of these there, and puts something into it, must not rely on it.
#[derive(Debug, Default)]
pub(super) struct Unsynced(Mutex<BTreeMap<PathBuf, usize>>);

/// What has to be durable on the way to the directories that somebody uses.
#[derive(Debug, Default)]
pub(super) struct NewDirs {
    /// In these he has made others.
    made: BTreeSet<PathBuf>,
    /// In these somebody else has, who may not be done with it.
    found: BTreeSet<PathBuf>,
}

impl NewDirs {
    /// How many directories have to be synced.
    pub fn len(&self) -> usize {
        self.made.union(&self.found).count()
    }
}

impl Unsynced {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<PathBuf, usize>> {
        // A panic leaves nothing half done there.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Before a directory is made in this one.
    fn begin(&self, above: &Path) {
        *self.lock().entry(above.to_owned()).or_default() += 1;
    }

    /// Once it is durable.
    fn end(&self, above: &Path) {
        let mut unsynced = self.lock();
        if let Some(count) = unsynced.get_mut(above) {
            *count -= 1;
            if *count == 0 {
                unsynced.remove(above);
            }
        }
    }

    /// The directories on the way to this one in which any was made.
    fn above(&self, path: &Path) -> Vec<PathBuf> {
        let unsynced = self.lock();
        let above = path.ancestors().skip(1).filter(|above| unsynced.contains_key(*above));
        above.map(Path::to_owned).collect()
    }
}

impl Disk {
    /// A directory, which is made if it is not there. [`Disk::sync_new`] makes it durable, also if
    /// somebody else has just made it.
    pub fn make_dir(&self, path: &Path, new: &mut NewDirs) -> Result<OwnedFd> {
        let dir = self.make(path, &mut |above| {
            if new.made.insert(above.to_owned()) {
                self.unsynced.begin(above);
            }
        })?;
        // Whoever made what was found has said so before, unless it is durable by now.
        new.found.extend(self.unsynced.above(path));
        Ok(dir)
    }

    /// The same where it does no harm if the directory is lost.
    pub fn make_passing_dir(&self, path: &Path) -> Result<OwnedFd> {
        self.make(path, &mut |_| {})
    }

    /// The same, durable.
    pub fn make_durable_dir(&self, path: &Path) -> Result<OwnedFd> {
        let mut new = NewDirs::default();
        let made = self.make_dir(path, &mut new);
        // Also what was made before one could not be, so that nobody else has to see to it.
        let synced = self.sync_new(new);
        let dir = made?;
        synced.map(|()| dir)
    }

    /// Makes directories durable. Where that fails or is forgotten, everybody who comes the same way
    /// does it.
    pub fn sync_new(&self, new: NewDirs) -> Result<()> {
        new.made.union(&new.found).try_for_each(|dir| self.sync_dir(dir))?;
        self.are_synced(new);
        Ok(())
    }

    /// Takes note that everything was made durable since these were made.
    pub fn are_synced(&self, new: NewDirs) {
        new.made.iter().for_each(|above| self.unsynced.end(above));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(names: &[&str]) -> BTreeSet<PathBuf> {
        names.iter().map(PathBuf::from).collect()
    }

    #[test]
    fn who_uses_what_another_has_made_makes_it_durable_as_well() {
        let top = tempfile::tempdir().expect("a directory");
        let disk = Disk::open(top.path(), None).expect("a disk");
        let (mut first, mut second) = (NewDirs::default(), NewDirs::default());
        disk.make_dir("a/b".as_ref(), &mut first).expect("made");
        disk.make_dir("a/b".as_ref(), &mut second).expect("found");
        assert_eq!((&second.made, &second.found), (&paths(&[]), &paths(&["", "a"])));
        // One of them only makes what is below, and another one goes another way.
        let (mut third, mut fourth) = (NewDirs::default(), NewDirs::default());
        disk.make_dir("a/b/c".as_ref(), &mut third).expect("made");
        assert_eq!((&third.made, third.len()), (&paths(&["a/b"]), 3));
        disk.make_dir("d".as_ref(), &mut fourth).expect("made");
        assert_eq!(fourth.len(), 1);
        disk.sync_new(second).expect("synced");
        disk.sync_new(first).expect("synced");
        // The name of "d" is still to be synced, and so is that of "c".
        let mut last = NewDirs::default();
        disk.make_dir("a/b/c".as_ref(), &mut last).expect("found");
        assert_eq!(last.found, paths(&["", "a/b"]));
        disk.sync_new(third).expect("synced");
        disk.are_synced(fourth);
        assert_eq!(*disk.unsynced.lock(), BTreeMap::new());
    }

    #[test]
    fn a_directory_that_cannot_be_made_leaves_nothing_to_others() {
        let top = tempfile::tempdir().expect("a directory");
        let disk = Disk::open(top.path(), None).expect("a disk");
        std::fs::create_dir(top.path().join("a")).expect("made");
        std::fs::write(top.path().join("a/file"), "").expect("written");
        disk.make_durable_dir("a/b/../c".as_ref()).expect_err("it leads upwards");
        disk.make_durable_dir("a/file/c".as_ref()).expect_err("it is a file");
        assert_eq!(*disk.unsynced.lock(), BTreeMap::new());
        // Where that is forgotten, the others do it.
        let mut forgotten = NewDirs::default();
        disk.make_dir("a/d".as_ref(), &mut forgotten).expect("made");
        drop(forgotten);
        let mut other = NewDirs::default();
        disk.make_dir("a/d".as_ref(), &mut other).expect("found");
        assert_eq!(other.found, paths(&["a"]));
    }
}
