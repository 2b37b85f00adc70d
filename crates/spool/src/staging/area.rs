//! Where messages wait, and what is there.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use cyrus_format::imapd_conf::{ImapdConf, Meta};
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, fstat, openat, statat};
use rustix::io::Errno;

use super::process::Maker;
use super::{Group, Inode, Own, Purpose, Staged, Survey};
use crate::files;

/// One such directory, kept open: what is removed later is below this one.
#[derive(Debug)]
pub(super) struct Area {
    pub purpose: Purpose,
    pub path: PathBuf,
    pub fd: OwnedFd,
}

impl Area {
    /// Those of all partitions, on whatever root: data, metadata and archive.
    pub fn open_all(conf: &ImapdConf) -> (Vec<Self>, Vec<(PathBuf, io::Error)>) {
        let (mut areas, mut unread) = (Vec::new(), Vec::new());
        let mut seen: Vec<Inode> = Vec::new();
        for root in roots(conf) {
            for purpose in Purpose::ALL {
                let path = root.join(purpose.directory());
                match open_dir(CWD, &path) {
                    // Partitions may share a directory.
                    Ok((_, inode)) if seen.contains(&inode) => {}
                    Ok((fd, inode)) => {
                        seen.push(inode);
                        areas.push(Self { purpose, path, fd });
                    }
                    Err(Errno::NOENT) => {}
                    Err(errno) => unread.push((path, errno.into())),
                }
            }
        }
        (areas, unread)
    }
}

/// All directories that partitions consist of.
pub(crate) fn roots(conf: &ImapdConf) -> Vec<PathBuf> {
    const METAS: [Meta; 4] = [Meta::Header, Meta::Index, Meta::Expunge, Meta::Annotations];
    let mut roots: Vec<PathBuf> = Vec::new();
    for (name, data) in conf.partitions() {
        let name = name.as_bytes();
        let metas = METAS.iter().filter_map(|meta| conf.meta_root(*meta, name));
        roots.push(data.to_owned());
        roots.extend(metas.chain(conf.archive_root(name)).map(Path::to_owned));
    }
    roots.sort();
    roots.dedup();
    roots
}

/// Opens a directory that is one, and no link to it.
pub(super) fn open_dir(dir: BorrowedFd<'_>, name: &Path) -> Result<(OwnedFd, Inode), Errno> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::DIRECTORY | OFlags::NOFOLLOW;
    let fd = openat(dir, name, flags, Mode::empty())?;
    let stat = fstat(&fd)?;
    Ok((fd, inode(&stat)))
}

pub(super) fn inode(stat: &Stat) -> Inode {
    (stat.st_dev, stat.st_ino)
}

impl Survey {
    /// Adds what is in one area.
    pub(super) fn list(&mut self, at: usize) {
        let (purpose, path) = (self.areas[at].purpose, self.areas[at].path.clone());
        let entries = match entries(self.areas[at].fd.as_fd()) {
            Ok(entries) => entries,
            Err(error) => return self.unread.push((path, error)),
        };
        let mut loose: Vec<Group> = Vec::new();
        for (name, stat) in entries {
            let kind = FileType::from_raw_mode(stat.st_mode);
            match (purpose, kind, pid_of(&name)) {
                (Purpose::Replication, FileType::Directory, Some((pid, b""))) => {
                    self.list_process(at, pid, &name);
                }
                // What a message says, as a server before 2.4 had taken it apart.
                (Purpose::Replication, FileType::RegularFile, Some((pid, b".cache")))
                | (Purpose::Append, FileType::RegularFile, Some((pid, [b'-', ..]))) => {
                    // Since its other names may have been removed since, that is the time at most.
                    let changed_at = files::mtime(&stat).max(files::ctime(&stat));
                    let group = match loose.iter_mut().find(|group| group.pid == Some(pid)) {
                        Some(group) => group,
                        None => loose.push_mut(group(purpose, &path, pid, at, None)),
                    };
                    group.changed_at = group.changed_at.max(changed_at);
                    group.files.push(staged(name, &stat));
                }
                _ => self.strange.push(path.join(name)),
            }
        }
        self.groups.append(&mut loose);
    }

    /// Adds what a process has in a directory of its own.
    fn list_process(&mut self, at: usize, pid: u32, name: &OsStr) {
        let path = self.areas[at].path.join(name);
        let opened = open_dir(self.areas[at].fd.as_fd(), Path::new(name));
        let listed = opened.map_err(io::Error::from).and_then(|(fd, inode)| {
            // What comes or goes while it is listed changes it later than this.
            let stat = fstat(&fd)?;
            let own = Own { name: name.to_owned(), inode, ctime: files::ctime(&stat) };
            Ok((own, files::mtime(&stat), entries(fd.as_fd())?))
        });
        let (own, changed_at, entries) = match listed {
            Ok(listed) => listed,
            // It has just ended in good order.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => return self.unread.push((path, error)),
        };
        let mut group = group(Purpose::Replication, &path, pid, at, Some(own));
        // A name that comes or goes changes the directory.
        group.changed_at = changed_at;
        for (name, stat) in entries {
            if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
                group.changed_at =
                    group.changed_at.max(files::mtime(&stat).min(files::ctime(&stat)));
                group.files.push(staged(name, &stat));
            } else {
                self.strange.push(path.join(name));
            }
        }
        self.groups.push(group);
    }
}

fn group(purpose: Purpose, path: &Path, pid: u32, area: usize, own: Option<Own>) -> Group {
    Group {
        purpose,
        directory: path.to_owned(),
        pid: Some(pid),
        maker: Maker::Unknown,
        changed_at: 0,
        files: Vec::new(),
        area,
        own,
    }
}

fn staged(name: OsString, stat: &Stat) -> Staged {
    /// What `st_blocks` counts, whatever the file system's blocks are.
    const BLOCK: u64 = 512;
    Staged {
        name,
        inode: inode(stat),
        size: u64::try_from(stat.st_size).unwrap_or(0),
        allocated: u64::try_from(stat.st_blocks).unwrap_or(0) * BLOCK,
        links: stat.st_nlink,
        mtime: files::mtime(stat),
        ctime: files::ctime(stat),
    }
}

/// What is in a directory. What goes meanwhile is left out.
fn entries(dir: BorrowedFd<'_>) -> io::Result<Vec<(OsString, Stat)>> {
    let mut entries = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if [b".".as_slice(), b".."].contains(&name.to_bytes()) {
            continue;
        }
        match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => entries.push((OsStr::from_bytes(name.to_bytes()).to_owned(), stat)),
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(entries)
}

/// The process number that a name begins with, and the rest.
fn pid_of(name: &OsStr) -> Option<(u32, &[u8])> {
    let name = name.as_bytes();
    let digits = name.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (number, rest) = name.split_at(digits);
    let pid: u32 = std::str::from_utf8(number).ok()?.parse().ok()?;
    (pid > 0 && !number.starts_with(b"0")).then_some((pid, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_begins_with_a_process_number() {
        let of = |name: &str| pid_of(name.as_ref()).map(|(pid, rest)| (pid, rest.to_vec()));
        assert_eq!(of("4711"), Some((4711, vec![])));
        assert_eq!(of("4711-1700000000-0"), Some((4711, b"-1700000000-0".to_vec())));
        assert_eq!(of("12.cache"), Some((12, b".cache".to_vec())));
        for other in ["", "x", "-1", "0", "007", "99999999999", ".cache"] {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
