//! Messages on their way into a replica.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::ops::Deref;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use cyrus_format::sent::Sent;
use model::{Guid, Partition, Timestamp};
use rustix::fs::{Timespec, Timestamps};

use super::Files;
use super::disk::{Disk, Kept, Staged, Unnamed, io_error};
use super::error::{ReplicaError, Result};
use crate::digest::Digest;
use crate::files;

/// A message whose bytes were compared with its GUID. Links are made of it when a mailbox refers to
/// it; until then it has no name.
#[derive(Debug)]
pub struct Message {
    guid: Guid,
    size: u64,
    header_size: u32,
    sent: Option<Sent>,
    bytes: Bytes,
}

#[derive(Debug)]
enum Bytes {
    /// New, and open.
    Open(Unnamed),
    /// New, in a file that has a name for now.
    Staged(Staged),
    /// A file of a mailbox of the replica, whose bytes were read.
    Stored { path: PathBuf, identity: Identity },
}

/// What tells a file from another one that has its name by now, and perhaps even its inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    size: u64,
    /// When it was made, in nanoseconds since 1970; where the file system does not know, when it was
    /// last written.
    made_at: i128,
}

impl Identity {
    fn of(file: &File) -> io::Result<Self> {
        let stat = file.metadata()?;
        // Its other names come and go, so that the time of its last change tells nothing.
        Ok(Self {
            device: stat.dev(),
            inode: stat.ino(),
            size: stat.size(),
            made_at: files::born(file, Path::new(""))
                .unwrap_or_else(|| files::nanos(stat.mtime(), stat.mtime_nsec())),
        })
    }
}

/// The file of a message.
#[derive(Debug)]
pub(super) enum Opened<'m> {
    /// It is open all the time.
    Kept(&'m File),
    Once(File),
}

impl Deref for Opened<'_> {
    type Target = File;

    fn deref(&self) -> &File {
        match self {
            Opened::Kept(file) => file,
            Opened::Once(file) => file,
        }
    }
}

/// A message that is arriving.
#[derive(Debug)]
pub struct Arriving {
    announced: Guid,
    unnamed: Unnamed,
    digest: Digest,
}

impl Arriving {
    /// Takes the next bytes.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.digest.update(bytes);
        let path = Path::new("a message in the making");
        self.unnamed.file.write_all(bytes).map_err(io_error("write", path))
    }

    /// All bytes have come.
    ///
    /// # Errors
    /// [`ReplicaError::OtherBytes`] if they are not those that were announced.
    pub fn finish(self) -> Result<Message> {
        if self.digest.guid() != self.announced {
            return Err(ReplicaError::OtherBytes { guid: self.announced });
        }
        let (size, header_size) = (self.digest.size(), self.digest.header_size());
        let sent = self.digest.sent();
        let bytes = match self.unnamed {
            Unnamed { kept: Kept::Staged(staged), .. } => Bytes::Staged(staged),
            open => Bytes::Open(open),
        };
        Ok(Message { guid: self.announced, size, header_size, sent, bytes })
    }
}

impl Message {
    /// What it is.
    pub fn guid(&self) -> Guid {
        self.guid
    }

    /// Its bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Bytes before its body, the blank line included.
    pub fn header_size(&self) -> u32 {
        self.header_size
    }

    /// When it says that it was sent.
    pub fn sent(&self) -> Option<Sent> {
        self.sent
    }

    /// Its file, opened if it is not, wherever in it reading begins. That of a mailbox must still be the
    /// one that was compared with its GUID.
    pub(super) fn open(&self, disk: &Disk) -> Result<Opened<'_>> {
        let name = Path::new("a new message");
        match &self.bytes {
            Bytes::Open(unnamed) => Ok(Opened::Kept(&unnamed.file)),
            Bytes::Staged(staged) => {
                staged.open().map(Opened::Once).map_err(io_error("open", name))
            }
            Bytes::Stored { path, identity } => {
                let gone = || io_error("open", path)(io::ErrorKind::NotFound.into());
                let file = disk.open_file(path)?.ok_or_else(gone)?;
                // Whoever was told that it is there may have let others change the mailbox meanwhile.
                match Identity::of(&file).map_err(io_error("examine", path))? == *identity {
                    true => Ok(Opened::Once(file)),
                    false => Err(ReplicaError::OtherBytes { guid: self.guid }),
                }
            }
        }
    }

    /// Whether its bytes are already part of a mailbox.
    pub(super) fn is_stored(&self) -> bool {
        matches!(self.bytes, Bytes::Stored { .. })
    }
}

/// Dates a new message, as Cyrus does: by when it arrived in the mailbox.
pub(super) fn date(file: &File, arrived: Timestamp) -> io::Result<()> {
    let time = Timespec { tv_sec: arrived.secs, tv_nsec: 0 };
    Ok(rustix::fs::futimens(file, &Timestamps { last_access: time, last_modification: time })?)
}

/// Copies all bytes, for where no link can be made.
pub(super) fn copy(mut from: &File, mut to: &File) -> io::Result<()> {
    from.seek(SeekFrom::Start(0))?;
    io::copy(&mut from, &mut to).map(drop)
}

/// Reads a file of a mailbox; `None` if its bytes are not those of the GUID.
pub(super) fn check(file: &File, guid: Guid, path: &Path) -> Result<Option<Message>> {
    let identity = Identity::of(file).map_err(io_error("examine", path))?;
    let digest = Digest::read(&mut { file }).map_err(io_error("read", path))?;
    let (size, header_size) = (digest.size(), digest.header_size());
    let (same, sent) = (digest.guid() == guid, digest.sent());
    let bytes = Bytes::Stored { path: path.to_owned(), identity };
    Ok(same.then_some(Message { guid, size, header_size, sent, bytes }))
}

impl Files {
    /// Begins to take a message. It belongs to nobody until a mailbox refers to it, and is gone
    /// with what is returned, or with the process.
    ///
    /// # Errors
    /// If the partition has no name that imapd.conf can hold, or no file can be made.
    pub fn arriving(&self, partition: &Partition, announced: Guid) -> Result<Arriving> {
        let unnamed = self.disk.unnamed_on(&super::partition_dir(partition)?)?;
        Ok(Arriving { announced, unnamed, digest: Digest::default() })
    }
}
