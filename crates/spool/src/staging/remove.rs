//! Removing what a process has left, beside a server that runs.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, fstat, statat, unlinkat};
use rustix::io::Errno;

use super::area::{inode, open_dir};
use super::process::Processes;
use super::{Group, Own, Staged, Survey, maker};
use crate::files;

/// So many files are removed before it is looked again whether the process is still gone.
const AT_ONCE: usize = 64;

/// What became of a group.
#[derive(Debug, Default)]
pub struct Removed {
    /// Names that are gone.
    pub files: u64,
    /// What is still there, and why.
    pub left: Vec<(PathBuf, io::Error)>,
}

/// Where a group's names are, as it was found or as it has been left here.
struct Place<'s> {
    dir: BorrowedFd<'s>,
    /// What its directory looks like, if that is its own.
    own: Option<(&'s Own, i128)>,
}

impl Survey {
    /// Removes what a process that is gone has left, as far as it is still what was found, and
    /// tells what is left for the next time. Of any other group, it leaves everything.
    pub fn remove(&self, group: &Group) -> Removed {
        let mut removed = Removed::default();
        let area = &self.areas[group.area];
        let opened = group.own.as_ref().map(|own| open_dir(area.fd.as_fd(), Path::new(&own.name)));
        let opened = match opened.transpose() {
            Ok(opened) => opened,
            // Another sweep was faster.
            Err(Errno::NOENT) => return removed,
            Err(errno) => {
                removed.left.push((group.directory.clone(), errno.into()));
                return removed;
            }
        };
        let dir = opened.as_ref().map_or(area.fd.as_fd(), |(fd, _)| fd.as_fd());
        let own = group.own.as_ref().map(|own| (own, own.ctime));
        let mut place = Place { dir, own };
        for files in group.files.chunks(AT_ONCE) {
            if let Err(why) = self.is_still_gone(group).and_then(|()| place.check()) {
                removed.left.push((group.directory.clone(), why));
                return removed;
            }
            for file in files {
                match remove(dir, file) {
                    Ok(()) => removed.files += 1,
                    Err(why) => removed.left.push((group.directory.join(&file.name), why)),
                }
            }
            place.look();
        }
        if let (Some(own), true) = (&group.own, removed.left.is_empty()) {
            let gone =
                self.is_still_gone(group).and_then(|()| place.check()).and_then(
                    |()| match unlinkat(&area.fd, &own.name, AtFlags::REMOVEDIR) {
                        Ok(()) | Err(Errno::NOENT) => Ok(()),
                        Err(errno) => Err(errno.into()),
                    },
                );
            removed.left.extend(gone.err().map(|why| (group.directory.clone(), why)));
        }
        removed
    }

    fn is_still_gone(&self, group: &Group) -> io::Result<()> {
        let processes = Processes::now(self.cyrus_uid)?;
        match maker(group, &processes, self.options)?.is_gone() {
            true => Ok(()),
            false => Err(io::Error::other("a process has its number now")),
        }
    }
}

impl Place<'_> {
    /// Fails if the directory is another one, or somebody else has put anything there or taken it away.
    fn check(&self) -> io::Result<()> {
        let Some((own, ctime)) = self.own else { return Ok(()) };
        let now = fstat(self.dir)?;
        match inode(&now) == own.inode && files::ctime(&now) == ctime {
            true => Ok(()),
            false => Err(changed()),
        }
    }

    /// Takes note of what it looks like now.
    fn look(&mut self) {
        if let (Some((_, ctime)), Ok(now)) = (&mut self.own, fstat(self.dir)) {
            *ctime = files::ctime(&now);
        }
    }
}

/// Removes a name, if it is still that of the file that was found, as it was.
fn remove(dir: BorrowedFd<'_>, file: &Staged) -> io::Result<()> {
    let now = match statat(dir, &file.name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(now) => now,
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(errno.into()),
    };
    let same = inode(&now) == file.inode
        && files::mtime(&now) == file.mtime
        && u64::try_from(now.st_size) == Ok(file.size);
    // Other names may go, here or in a mailbox. Whoever gives it one more is at work with it.
    let is_at_rest = files::ctime(&now) == file.ctime || now.st_nlink < file.links;
    if !same || !is_at_rest {
        return Err(changed());
    }
    match unlinkat(dir, &file.name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

fn changed() -> io::Error {
    io::Error::other("somebody has changed it meanwhile")
}
