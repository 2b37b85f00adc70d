//! A directory tree that is being written: never outside its root, never over anything.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use cyrus_format::imapd_conf::ImapdConf;
use rustix::fs::{self, AtFlags, CWD, Mode, OFlags, Timespec, Timestamps};

use crate::privileges::Identity;
use crate::server::{CYRUS_USER, cyrus_user};

/// Owner and group that new files get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

impl Owner {
    /// Cyrus' user, if this process is root's and there is one: what is restored for Cyrus must
    /// be readable by it. Nobody else can give files away.
    pub fn for_cyrus() -> Option<Self> {
        let is_root = rustix::process::geteuid().is_root();
        is_root.then(|| Self::of_user(CYRUS_USER)).flatten()
    }

    /// The user that a Cyrus with this configuration runs as, if there is one.
    pub fn of_conf(conf: &ImapdConf) -> Option<Self> {
        Self::of_user(&cyrus_user(conf))
    }

    fn of_user(user: &str) -> Option<Self> {
        let identity = Identity::find(user).ok()??;
        Some(Self { uid: identity.uid, gid: identity.gid })
    }
}

/// A tree below one directory.
///
/// Every file is made anew (`O_EXCL`), beneath a directory that is opened component by component
/// without following symbolic links, so no path and no link in the tree leads out of it. The
/// directory used last stays open: files come in runs.
#[derive(Debug)]
pub struct DirTree {
    root: OwnedFd,
    owner: Option<Owner>,
    last: Option<(PathBuf, OwnedFd)>,
}

impl DirTree {
    /// Takes `path` as the root: a directory that does not exist yet, or an empty one.
    ///
    /// # Errors
    /// [`DirectoryNotEmpty`](io::ErrorKind::DirectoryNotEmpty), or what the system says.
    pub fn create(path: &Path, owner: Option<Owner>) -> io::Result<Self> {
        match fs::mkdirat(CWD, path, Mode::RWXU) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = fs::openat(CWD, path, flags, Mode::empty())?;
        for entry in fs::Dir::read_from(&root)? {
            let entry = entry?;
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                return Err(io::ErrorKind::DirectoryNotEmpty.into());
            }
        }
        let tree = Self { root, owner, last: None };
        tree.own(&tree.root)?;
        Ok(tree)
    }

    /// Makes a directory and those above it; one that exists is fine.
    pub fn dir(&mut self, path: &Path) -> io::Result<()> {
        self.open_dir(path).map(drop)
    }

    /// Makes a file of these bytes. `mtime` is in seconds since 1970.
    pub fn file(&mut self, path: &Path, mtime: i64, bytes: &[u8]) -> io::Result<()> {
        let mut file = self.create_file(path)?;
        file.write_all(bytes)?;
        set_mtime(&file, mtime)
    }

    /// Makes a file of all that `bytes` gives.
    pub fn copy(&mut self, path: &Path, mtime: i64, bytes: &mut dyn Read) -> io::Result<()> {
        let mut file = self.create_file(path)?;
        io::copy(bytes, &mut file)?;
        set_mtime(&file, mtime)
    }

    /// Adds to the end of a file of this tree.
    pub fn append(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let (dir, name) = self.parent(path)?;
        let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = fs::openat(dir, name, flags, Mode::empty())?;
        File::from(file).write_all(bytes)
    }

    /// Gives a file of this tree a second name.
    pub fn link(&mut self, existing: &Path, path: &Path) -> io::Result<()> {
        let (dir, name) = self.parent(existing)?;
        let (from, from_name) = (rustix::io::dup(dir)?, name.to_owned());
        let (dir, name) = self.parent(path)?;
        Ok(fs::linkat(from, from_name, dir, name, AtFlags::empty())?)
    }

    /// Makes a symbolic link. Its target is text: this tree never follows it.
    pub fn symlink(&mut self, target: &Path, path: &Path) -> io::Result<()> {
        let (dir, name) = self.parent(path)?;
        Ok(fs::symlinkat(target, dir, name)?)
    }

    /// Makes everything durable.
    pub fn sync(&self) -> io::Result<()> {
        Ok(fs::syncfs(&self.root)?)
    }

    fn create_file(&mut self, path: &Path) -> io::Result<File> {
        let owner = self.owner;
        let (dir, name) = self.parent(path)?;
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR)?;
        give_to(&file, owner)?;
        Ok(File::from(file))
    }

    fn parent<'a, 'p>(&'a mut self, path: &'p Path) -> io::Result<(&'a OwnedFd, &'p OsStr)> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let dir = self.open_dir(path.parent().unwrap_or(Path::new("")))?;
        Ok((dir, name))
    }

    fn open_dir(&mut self, path: &Path) -> io::Result<&OwnedFd> {
        if path.as_os_str().is_empty() {
            return Ok(&self.root);
        }
        if self.last.as_ref().is_none_or(|(last, _)| last != path) {
            let mut dir = rustix::io::dup(&self.root)?;
            for component in path.components() {
                let Component::Normal(name) = component else {
                    return Err(io::ErrorKind::InvalidInput.into());
                };
                dir = self.enter(&dir, name)?;
            }
            self.last = Some((path.to_owned(), dir));
        }
        match &self.last {
            Some((_, dir)) => Ok(dir),
            None => Ok(&self.root),
        }
    }

    fn enter(&self, above: &OwnedFd, name: &OsStr) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match fs::openat(above, name, flags, Mode::empty()) {
            Ok(dir) => Ok(dir),
            Err(rustix::io::Errno::NOENT) => {
                fs::mkdirat(above, name, Mode::RWXU)?;
                let dir = fs::openat(above, name, flags, Mode::empty())?;
                self.own(&dir)?;
                Ok(dir)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn own(&self, file: &OwnedFd) -> io::Result<()> {
        give_to(file, self.owner)
    }
}

/// Makes it the owner's, if there is one to be.
pub(crate) fn give_to(file: impl AsFd, owner: Option<Owner>) -> io::Result<()> {
    let Some(owner) = owner else { return Ok(()) };
    let uid = fs::Uid::from_raw(owner.uid);
    let gid = fs::Gid::from_raw(owner.gid);
    Ok(fs::fchown(file, Some(uid), Some(gid))?)
}

fn set_mtime(file: &File, mtime: i64) -> io::Result<()> {
    let time = Timespec { tv_sec: mtime, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    Ok(fs::futimens(file, &times)?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn files_lie_where_they_should_and_have_their_dates() {
        let top = tempfile::tempdir().expect("a temporary directory");
        let root = top.path().join("out");
        let mut tree = DirTree::create(&root, None).expect("a new directory");
        tree.file(Path::new("a/b/1."), 86_400, b"one").expect("a file");
        tree.link(Path::new("a/b/1."), Path::new("a/c/2.")).expect("a link");
        tree.append(Path::new("a/b/1."), b"more").expect("appended");
        tree.symlink(Path::new("b"), Path::new("a/s")).expect("a symlink");
        assert_eq!(std::fs::read(root.join("a/c/2.")).expect("readable"), b"onemore");
        let inode = |name| std::fs::metadata(root.join(name)).expect("there").ino();
        assert_eq!(inode("a/b/1."), inode("a/c/2."));
        tree.file(Path::new("dated"), 86_400, b"").expect("a file");
        assert_eq!(std::fs::metadata(root.join("dated")).expect("there").mtime(), 86_400);
    }

    #[test]
    fn nothing_is_replaced_and_nothing_leads_out() {
        let top = tempfile::tempdir().expect("a temporary directory");
        std::fs::create_dir(top.path().join("outside")).expect("a directory");
        let root = top.path().join("out");
        let mut tree = DirTree::create(&root, None).expect("a new directory");
        tree.file(Path::new("x"), 0, b"first").expect("a file");
        assert!(tree.file(Path::new("x"), 0, b"second").is_err());
        assert_eq!(std::fs::read(root.join("x")).expect("readable"), b"first");
        for path in ["../x", "a/../../x", "/x", ".."] {
            assert!(tree.file(Path::new(path), 0, b"").is_err(), "{path}");
        }
        tree.symlink(Path::new("../outside"), Path::new("door")).expect("a symlink");
        assert!(tree.file(Path::new("door/x"), 0, b"").is_err());
        assert!(!top.path().join("outside/x").exists());
    }

    #[test]
    fn a_directory_with_anything_in_it_is_refused() {
        let top = tempfile::tempdir().expect("a temporary directory");
        DirTree::create(top.path(), None).expect("an empty directory is fine");
        std::fs::write(top.path().join(".hidden"), b"").expect("a file");
        let error = DirTree::create(top.path(), None).expect_err("not empty");
        assert_eq!(error.kind(), io::ErrorKind::DirectoryNotEmpty);
    }
}
