//! Opening and copying files of the spool, for reading only.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::buffer::spare_capacity;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat, StatxFlags, fstat, openat, statx};
use rustix::io::Errno;

use crate::error::SpoolError;

/// What a file may grow between the moment its buffer is made and the moment it is locked,
/// before the buffer must grow under the lock: a few messages' worth of records.
const SLACK: usize = 4096;

/// No machine that runs Cyrus has smaller pages of memory.
const PAGE: usize = 4096;

/// As many bytes at the start of a file as tell what it is.
pub(crate) const HEAD: usize = 64;

/// Whether a symbolic link may stand in for the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Links {
    /// Configuration files: administrators move databases to other disks that way.
    Follow,
    /// Files of a mailbox: Cyrus never makes one.
    Refuse,
}

/// A file, named by an open directory and the path below it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub dir: BorrowedFd<'a>,
    pub name: &'a Path,
    /// The directory's own path, for messages.
    pub below: &'a Path,
    pub links: Links,
}

impl<'a> Place<'a> {
    /// A file of the configuration, by its absolute path.
    pub fn absolute(path: &'a Path) -> Self {
        Self { dir: CWD, name: path, below: Path::new(""), links: Links::Follow }
    }

    /// The whole path, for messages.
    pub fn path(&self) -> PathBuf {
        self.below.join(self.name)
    }

    /// An error about this file.
    pub fn error(&self, op: &'static str, source: impl Into<io::Error>) -> SpoolError {
        SpoolError::Io { op, path: self.path(), source: source.into() }
    }

    /// How to look at what the path leads to now.
    pub fn stat_flags(&self) -> AtFlags {
        match self.links {
            Links::Follow => AtFlags::empty(),
            Links::Refuse => AtFlags::SYMLINK_NOFOLLOW,
        }
    }
}

/// A file that was copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Copied {
    pub bytes: Vec<u8>,
    /// Modification time, nanoseconds since 1970.
    pub mtime: i128,
}

/// Opens a file for reading. A pipe or a device in its place never blocks.
pub(crate) fn open(place: Place<'_>) -> rustix::io::Result<File> {
    let mut flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    if place.links == Links::Refuse {
        flags |= OFlags::NOFOLLOW;
    }
    openat(place.dir, place.name, flags, Mode::empty()).map(File::from)
}

/// Opens a directory.
pub(crate) fn open_dir(dir: BorrowedFd<'_>, name: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::DIRECTORY;
    openat(dir, name, flags, Mode::empty())
}

/// Copies a whole file that needs no lock of its own, into that memory.
pub(crate) fn copy(place: Place<'_>, buffer: Vec<u8>) -> io::Result<Copied> {
    let file = open(place)?;
    let stat = fstat(&file)?;
    let bytes = read_all(&file, &stat, make_room(buffer, &stat)?)?;
    Ok(Copied { bytes, mtime: mtime(&stat) })
}

/// The first bytes of a file; zeros behind its end.
pub(crate) fn head(place: Place<'_>) -> io::Result<[u8; HEAD]> {
    let mut bytes = [0; HEAD];
    rustix::io::pread(&open(place)?, &mut bytes, 0)?;
    Ok(bytes)
}

/// Memory for the bytes of a file as it is now, and for a few more.
pub(crate) fn room_for(file: &File) -> io::Result<Vec<u8>> {
    make_room(Vec::new(), &fstat(file)?)
}

/// Makes memory ready for the bytes of a file that looks like this, and for a few more.
///
/// The kernel hands out memory only when it is first written to, page by page, and that takes
/// several times as long as to copy a file into it. So that is done here, before any lock.
fn make_room(mut buffer: Vec<u8>, stat: &Stat) -> io::Result<Vec<u8>> {
    buffer.clear();
    let wanted = size_of_file(stat)?.saturating_add(SLACK);
    if buffer.capacity() < wanted {
        reserve(&mut buffer, wanted)?;
        for byte in buffer.spare_capacity_mut().iter_mut().step_by(PAGE) {
            byte.write(0);
        }
    }
    Ok(buffer)
}

/// Reads as many bytes as the file had when `stat` was taken, with read(2), never through a
/// mapping: Cyrus truncates a replaced skiplist file, and a mapped reader would die of it.
pub(crate) fn read_all(file: &File, stat: &Stat, mut buffer: Vec<u8>) -> io::Result<Vec<u8>> {
    let size = size_of_file(stat)?;
    buffer.clear();
    reserve(&mut buffer, size)?;
    while buffer.len() < size {
        match rustix::io::read(file, spare_capacity(&mut buffer)) {
            Ok(0) => break,
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    buffer.truncate(size);
    Ok(buffer)
}

/// Modification time, nanoseconds since 1970.
pub(crate) fn mtime(stat: &Stat) -> i128 {
    nanos(stat.st_mtime, stat.st_mtime_nsec)
}

/// Time of the last change of content or attributes, nanoseconds since 1970.
pub(crate) fn ctime(stat: &Stat) -> i128 {
    nanos(stat.st_ctime, stat.st_ctime_nsec)
}

/// When a file was made, in nanoseconds since 1970, where the file system knows. Without a name, the
/// open one itself is meant.
pub(crate) fn born(dir: impl AsFd, name: &Path) -> Option<i128> {
    let flags = match name.as_os_str().is_empty() {
        true => AtFlags::EMPTY_PATH,
        false => AtFlags::empty(),
    };
    let stat = statx(dir, name, flags, StatxFlags::BTIME).ok()?;
    let known = stat.stx_mask & StatxFlags::BTIME.bits() != 0;
    known.then(|| nanos(stat.stx_btime.tv_sec, stat.stx_btime.tv_nsec))
}

/// Nanoseconds since 1970. The types of both parts differ from one machine to the next.
pub(crate) fn nanos(secs: impl Into<i128>, nanos: impl Into<i128>) -> i128 {
    secs.into() * 1_000_000_000 + nanos.into()
}

/// Whether the error says that this process or machine has run out of something. That is never
/// a fault of the file at hand, so nothing about the file must be concluded from it.
pub(crate) fn is_exhaustion(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    let exhausted = [Errno::MFILE, Errno::NFILE, Errno::NOMEM];
    errno.is_some_and(|errno| exhausted.contains(&errno))
        || error.kind() == io::ErrorKind::OutOfMemory
}

/// Its size, if it is a regular file.
fn size_of_file(stat: &Stat) -> io::Result<usize> {
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    usize::try_from(stat.st_size).map_err(|_| io::ErrorKind::FileTooLarge.into())
}

/// Gives an empty buffer room for `size` bytes, or says that there is none.
fn reserve(buffer: &mut Vec<u8>, size: usize) -> io::Result<()> {
    buffer.try_reserve_exact(size).map_err(|_| io::ErrorKind::OutOfMemory.into())
}
