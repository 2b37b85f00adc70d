//! The file of a message made anew with the bytes that its record tells of, where nobody else is at work.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use model::{Guid, MboxName, Timestamp, Uid};
use rustix::fs::{self, AtFlags, CWD, Mode, OFlags, RenameFlags, Timespec, Timestamps};
use rustix::io::Errno;
use sha1::{Digest, Sha1};

use crate::error::{Result, SpoolError};
use crate::lock::Ledger;
use crate::server::Server;
use crate::staging::Purpose;

/// Which file is made, and what it must hold.
#[derive(Clone, Copy, Debug)]
pub struct Mending<'m> {
    /// The mailbox.
    pub mailbox: &'m MboxName,
    /// The message.
    pub uid: Uid,
    /// Whether its record says that it is archived.
    pub archived: bool,
    /// SHA-1 of its bytes.
    pub guid: Guid,
    /// How many they are.
    pub size: u64,
    /// When it arrived: the file's date.
    pub internaldate: Timestamp,
}

impl Server {
    /// Gives a message the file that it should have: written in `stage.`, compared with the GUID, synced,
    /// and only then renamed to it. The old file is not written to, so that whatever other names it
    /// has keep what they have. The calling thread must be [Cyrus' user](Server::act_as_cyrus), and
    /// nobody may be [at work](crate::running::running).
    ///
    /// # Errors
    ///
    /// If the bytes are not those of the GUID, nothing is changed; else what the system says.
    pub fn mend(&self, mending: &Mending<'_>, good: &mut dyn Read) -> Result<()> {
        let catalog = self.load_catalog(&mut Ledger::new(self.lock_timeout))?.value;
        let path = || {
            let what = format!("{} uid {}", mending.mailbox, mending.uid);
            std::path::PathBuf::from(what)
        };
        let failed = |source| SpoolError::Io { op: "mend", path: path(), source };
        let placed = self.place_of(&catalog, mending.mailbox).map_err(failed)?;
        let done = placed.with_root_and_dir_of(mending.uid, mending.archived, |root, dir| {
            replace(&Stage::open(root)?, dir, mending, good)
        });
        done.map_err(failed)
    }
}

/// A message whose file another one has, for [`Server::exchange`].
#[derive(Clone, Copy, Debug)]
pub struct Exchanged<'m> {
    /// The mailbox.
    pub mailbox: &'m MboxName,
    /// The message.
    pub uid: Uid,
    /// Whether its record says that it is archived.
    pub archived: bool,
}

impl Server {
    /// Gives each of two messages the other one's file, in one step: at every instant both files have a name. The
    /// calling thread must be [Cyrus' user](Server::act_as_cyrus), and nobody may be
    /// [at work](crate::running::running).
    ///
    /// # Errors
    ///
    /// If one of them is not there, or what the system says: files of two file systems cannot be exchanged.
    pub fn exchange(&self, first: Exchanged<'_>, second: Exchanged<'_>) -> Result<()> {
        let catalog = self.load_catalog(&mut Ledger::new(self.lock_timeout))?.value;
        let failed = |source| SpoolError::Io {
            op: "exchange",
            path: format!("{} uid {}", first.mailbox, first.uid).into(),
            source,
        };
        let ours = self.place_of(&catalog, first.mailbox).map_err(failed)?;
        let theirs = self.place_of(&catalog, second.mailbox).map_err(failed)?;
        let done = ours.with_root_and_dir_of(first.uid, first.archived, |_, here| {
            theirs.with_root_and_dir_of(second.uid, second.archived, |_, there| {
                let names = [first, second].map(|message| format!("{}.", message.uid));
                fs::renameat_with(here, &*names[0], there, &*names[1], RenameFlags::EXCHANGE)?;
                fs::fsync(here)?;
                Ok(fs::fsync(there)?)
            })
        });
        done.map_err(failed)
    }
}

/// Where a file is for the instant before it gets its name: where Cyrus has those that it delivers, called
/// as Cyrus calls them. So what a kill leaves in that instant is found by a [sweep](crate::staging).
struct Stage {
    dir: OwnedFd,
}

impl Stage {
    fn open(root: BorrowedFd<'_>) -> io::Result<Self> {
        let name = Purpose::Append.directory();
        match fs::mkdirat(root, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        Ok(Self { dir: fs::openat(root, name, flags, Mode::empty())? })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match fs::unlinkat(&self.dir, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// A file without a name, or where the file system has none of those, with this one.
    fn create(&self, name: &str) -> io::Result<(File, bool)> {
        let mode = Mode::RUSR | Mode::WUSR;
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        match fs::openat(&self.dir, ".", flags | OFlags::TMPFILE, mode) {
            Ok(file) => Ok((File::from(file), false)),
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {
                let flags = flags | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
                Ok((File::from(fs::openat(&self.dir, name, flags, mode)?), true))
            }
            Err(error) => Err(error.into()),
        }
    }
}

fn replace(
    stage: &Stage,
    dir: BorrowedFd<'_>,
    mending: &Mending<'_>,
    good: &mut dyn Read,
) -> io::Result<()> {
    let name = format!("{}-{}-heal", std::process::id(), mending.uid);
    // Somebody had this number before.
    stage.remove(&name)?;
    let (mut file, is_named) = stage.create(&name)?;
    let done = fill(&mut file, mending, good).and_then(|()| {
        if !is_named {
            let unnamed = format!("/proc/self/fd/{}", file.as_raw_fd());
            fs::linkat(CWD, &*unnamed, &stage.dir, &*name, AtFlags::SYMLINK_FOLLOW)?;
        }
        Ok(fs::renameat(&stage.dir, &*name, dir, format!("{}.", mending.uid))?)
    });
    if done.is_err() {
        // What is not good, or has no place, is not kept.
        let _ = stage.remove(&name);
    }
    done?;
    Ok(fs::fsync(dir)?)
}

fn fill(file: &mut File, mending: &Mending<'_>, good: &mut dyn Read) -> io::Result<()> {
    let mut hash = Sha1::new();
    let mut size = 0;
    let mut piece = vec![0; 64 << 10];
    loop {
        let read = match good.read(&mut piece) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        size += read as u64;
        if size > mending.size {
            break;
        }
        hash.update(&piece[..read]);
        file.write_all(&piece[..read])?;
    }
    if size != mending.size || Guid(hash.finalize().into()) != mending.guid {
        let why = format!("these are not the {} bytes of {}", mending.size, mending.guid);
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    let time = Timespec { tv_sec: mending.internaldate.secs, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    fs::futimens(file.as_fd(), &times)?;
    file.sync_all()
}

/// A file without a name, for bytes that are not known to be good yet; gone with the process. It is made in the
/// directory for temporary files, or in those that everybody may use: Cyrus' user may be somebody else than TMPDIR
/// was meant for.
///
/// # Errors
///
/// What the system says of the first of them, if none will do.
pub fn temporary() -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
    let own = std::env::temp_dir();
    let open = |dir: &Path| fs::openat(CWD, dir, flags, Mode::RUSR | Mode::WUSR).map(File::from);
    let first = match open(&own) {
        Ok(file) => return Ok(file),
        Err(errno) => io::Error::from(errno),
    };
    let others = ["/var/tmp", "/tmp"].iter().find_map(|dir| open(Path::new(dir)).ok());
    others.ok_or_else(|| {
        let why = format!("make a temporary file in {}: {first}", own.display());
        io::Error::new(first.kind(), why)
    })
}
