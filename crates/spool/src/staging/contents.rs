//! What the files that wait have to do with messages.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use cyrus_format::imapd_conf::ImapdConf;
use model::Guid;
use rustix::fs::{AtFlags, CWD, Dir, FileType, statat};
use sha1::{Digest, Sha1};

use super::area::{inode, open_dir, roots};
use super::{Group, Inode, Purpose, Staged, Survey};
use crate::files::{self, Links, Place};

/// Directories deeper than that are none of a spool.
const DEPTH_MAX: usize = 64;

/// A file that waits and has other names, but not the bytes of its GUID. Whoever cut it short did so
/// to the message, too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The name that it waits under.
    pub path: PathBuf,
    /// Which file it is.
    pub inode: Inode,
    /// The GUID that it should have.
    pub guid: Guid,
    /// The GUID of its bytes.
    pub found: Guid,
    /// How many bytes it has.
    pub size: u64,
}

impl Survey {
    /// Reads the files that have other names, of processes that are gone, and tells which of them do
    /// not have the bytes of their GUIDs. `read` is told the bytes of each.
    pub fn cut_short(&self, mut read: impl FnMut(u64)) -> (Vec<Cut>, Vec<(PathBuf, io::Error)>) {
        let (mut cut, mut unread) = (Vec::new(), Vec::new());
        let mut names: BTreeMap<Inode, u64> = BTreeMap::new();
        for file in self.groups.iter().flat_map(|group| &group.files) {
            *names.entry(file.inode).or_default() += 1;
        }
        let mut seen = BTreeSet::new();
        for group in self.gone().filter(|group| group.purpose == Purpose::Replication) {
            for file in &group.files {
                let Some(guid) = file.guid() else { continue };
                if file.links <= names[&file.inode] || !seen.insert(file.inode) {
                    continue;
                }
                match self.hash(group, file) {
                    Ok(found) if found == guid => {}
                    Ok(found) => cut.push(Cut {
                        path: group.directory.join(&file.name),
                        inode: file.inode,
                        guid,
                        found,
                        size: file.size,
                    }),
                    // Another sweep was faster.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => unread.push((group.directory.join(&file.name), error)),
                }
                read(file.size);
            }
        }
        (cut, unread)
    }

    fn hash(&self, group: &Group, file: &Staged) -> io::Result<Guid> {
        let area = &self.areas[group.area];
        let own = group.own.as_ref().map(|own| open_dir(area.fd.as_fd(), Path::new(&own.name)));
        let own = own.transpose()?;
        let dir = own.as_ref().map_or(area.fd.as_fd(), |(fd, _)| fd.as_fd());
        let name = Path::new(&file.name);
        let mut bytes =
            files::open(Place { dir, name, below: &group.directory, links: Links::Refuse })?;
        let mut hash = Sha1::new();
        let mut buffer = vec![0; 1 << 16];
        loop {
            match bytes.read(&mut buffer) {
                Ok(0) => return Ok(Guid(hash.finalize().into())),
                Ok(n) => hash.update(&buffer[..n]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// The names that files have in the mailboxes of a server: every directory is listed for them, which
/// takes its time where there are many. What cannot be listed is left out.
pub fn messages_of(conf: &ImapdConf, wanted: &BTreeSet<Inode>) -> BTreeMap<Inode, Vec<PathBuf>> {
    let mut search = Search { wanted, found: BTreeMap::new() };
    if !wanted.is_empty() {
        for root in roots(conf) {
            if let Ok((fd, (device, _))) = open_dir(CWD, &root) {
                search.walk(fd.as_fd(), &root, device, 0);
            }
        }
    }
    for names in search.found.values_mut() {
        names.sort();
        names.dedup();
    }
    search.found
}

struct Search<'s> {
    wanted: &'s BTreeSet<Inode>,
    found: BTreeMap<Inode, Vec<PathBuf>>,
}

impl Search<'_> {
    fn walk(&mut self, dir: BorrowedFd<'_>, path: &Path, device: u64, depth: usize) {
        let Ok(listed) = Dir::read_from(dir) else { return };
        for entry in listed.flatten() {
            let name = Path::new(OsStr::from_bytes(entry.file_name().to_bytes()));
            let is_staging = |purpose: Purpose| name == Path::new(purpose.directory());
            if [".", ".."].map(Path::new).contains(&name)
                || Purpose::ALL.into_iter().any(is_staging)
            {
                continue;
            }
            let may_be_directory =
                matches!(entry.file_type(), FileType::Directory | FileType::Unknown);
            if may_be_directory && depth < DEPTH_MAX {
                if let Ok((fd, (device, _))) = open_dir(dir, name) {
                    self.walk(fd.as_fd(), &path.join(name), device, depth + 1);
                }
            } else if self.wanted.contains(&(device, entry.ino()))
                && let Ok(stat) = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
            {
                self.found.entry(inode(&stat)).or_default().push(path.join(name));
            }
        }
    }
}
