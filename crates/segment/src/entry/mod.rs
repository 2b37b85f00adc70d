//! Tar entries: headers written the one way that every program reads, and read every usual way.
//!
//! Layout of a header block: POSIX.1-2017, `pax`, "ustar Interchange Format". Written are plain
//! ustar headers; a pax extended header precedes one whose name or link target does not fit, and
//! a size past 8 GiB is put in base 256, which busybox reads while it ignores pax sizes.

mod header;
mod scan;

pub(crate) use header::NewEntry;
pub use scan::{Entry, Random, Scan, ScanError, Sequential, Tape};

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// One more name of an entry before it.
    HardLink,
    /// A symbolic link.
    Symlink,
    /// A directory.
    Directory,
    /// Anything else, by its type flag; no segment holds one.
    Other(u8),
}

impl Kind {
    fn flag(self) -> u8 {
        match self {
            Kind::File => b'0',
            Kind::HardLink => b'1',
            Kind::Symlink => b'2',
            Kind::Directory => b'5',
            Kind::Other(flag) => flag,
        }
    }

    /// Permissions: mail is for its owner alone. What a symbolic link has, nothing looks at.
    fn mode(self) -> u64 {
        match self {
            Kind::Directory => 0o700,
            Kind::Symlink => 0o777,
            _ => 0o600,
        }
    }

    fn from_flag(flag: u8) -> Self {
        match flag {
            b'0' | 0 => Kind::File,
            b'1' => Kind::HardLink,
            b'2' => Kind::Symlink,
            b'5' => Kind::Directory,
            other => Kind::Other(other),
        }
    }
}
