//! Files below the root of a replica: made whole, named at once, and, but for parts of a large index,
//! never written to again.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use rustix::fs::{self, AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use super::batch;
use super::dirs::Unsynced;
use super::error::{ReplicaError, Result};
use super::records::Patches;
use crate::tree::{Owner, give_to};

/// Where files lie that are not anonymous, on file systems that know no such thing.
pub(super) const STAGE: &str = "spool/stage.";

/// How many files in the making are kept by being open, at most; others get a name. The system's limit
/// for a process is shared with connections, so that a quarter of it has to do.
const OPEN_MAX: usize = 8192;

/// From this size on, an index is changed in place: a copy is more to write than an intent.
const PATCHED_FROM: u64 = 1 << 20;

pub(super) const READ_DIR: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A directory and what is below it. No path leads out of it, and no link is followed.
#[derive(Debug)]
pub(super) struct Disk {
    root: OwnedFd,
    path: PathBuf,
    pub(super) owner: Option<Owner>,
    /// Counts files in the making, so that none has the name of another.
    made: AtomicU64,
    /// How many files in the making are kept by being open.
    open: Arc<AtomicUsize>,
    open_max: usize,
    stage: OnceLock<Arc<OwnedFd>>,
    /// Directories in which message after message is begun.
    partitions: Mutex<HashMap<PathBuf, Arc<OwnedFd>>>,
    pub(super) unsynced: Unsynced,
    /// A batch that counts could not be finished.
    broken: AtomicBool,
    /// Held from the writing of an intent to its removal.
    intent: Mutex<()>,
    /// No intent of a batch that is done can come back.
    intent_gone: AtomicBool,
}

/// A file in the making. It has no name, or none that means anything; without one it is gone with
/// the process, whatever ends that.
#[derive(Debug)]
pub(super) struct Unnamed {
    pub file: File,
    pub kept: Kept,
}

/// What keeps a file in the making.
#[derive(Debug)]
pub(super) enum Kept {
    /// That it is open. There may not be many of these: files that a process may have open are
    /// counted.
    Open { _counted: Counted },
    /// A name in [`STAGE`].
    Staged(Staged),
}

/// A name in [`STAGE`], which goes when this is dropped.
#[derive(Debug)]
pub(super) struct Staged {
    dir: Arc<OwnedFd>,
    name: OsString,
}

/// One of the files that are counted.
#[derive(Debug)]
pub(super) struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Staged {
    /// Opens the file once more.
    pub fn open(&self) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(File::from(fs::openat(&self.dir, self.name.as_os_str(), flags, Mode::empty())?))
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // What cannot be removed now is swept when the replica is opened next.
        let _ = fs::unlinkat(&self.dir, self.name.as_os_str(), AtFlags::empty());
    }
}

/// Whoever has the spool next may change what the last intent was about.
impl Drop for Disk {
    fn drop(&mut self) {
        // If this fails, the intent is still about what is there.
        let _ = batch::forget_intent(self);
    }
}

impl Disk {
    pub fn open(path: &Path, owner: Option<Owner>) -> io::Result<Self> {
        let is_new = match fs::mkdirat(CWD, path, Mode::RWXU) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(error) => return Err(error.into()),
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = fs::openat(CWD, path, flags, Mode::empty())?;
        let path = std::path::absolute(path)?;
        if is_new {
            give_to(&root, owner)?;
            let above = fs::openat(CWD, parent(&path), flags, Mode::empty())?;
            fs::fsync(&above)?;
        }
        Ok(Self {
            root,
            path,
            owner,
            made: AtomicU64::new(0),
            open: Arc::new(AtomicUsize::new(0)),
            open_max: open_max(),
            stage: OnceLock::new(),
            partitions: Mutex::default(),
            unsynced: Unsynced::default(),
            broken: AtomicBool::new(false),
            intent: Mutex::default(),
            intent_gone: AtomicBool::new(true),
        })
    }

    /// From now on nothing is written: what is in memory may not be what is on disk.
    pub fn set_broken(&self) {
        self.broken.store(true, Ordering::Relaxed);
    }

    /// Fails if that was said.
    pub fn check_whole(&self) -> Result<()> {
        match self.broken.load(Ordering::Relaxed) {
            true => Err(ReplicaError::Incomplete {
                path: self.path.clone(),
                what: "a change could not be finished; open the replica anew",
            }),
            false => Ok(()),
        }
    }

    /// Waits until no batch of others has an intent: there is one at a time.
    pub fn take_intent(&self) -> MutexGuard<'_, ()> {
        self.intent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the last batch's intent is gone for good.
    pub fn is_intent_gone(&self) -> bool {
        self.intent_gone.load(Ordering::Relaxed)
    }

    /// From now on it is.
    pub fn set_intent_gone(&self) {
        self.intent_gone.store(true, Ordering::Relaxed);
    }

    /// It is removed, and may come back.
    pub fn set_intent_removed(&self) {
        self.intent_gone.store(false, Ordering::Relaxed);
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A directory, if it is there.
    pub fn dir(&self, path: &Path) -> Result<Option<OwnedFd>> {
        self.walk(path, &mut |_, _| Ok(false)).map_err(io_error("open", path))
    }

    /// Opens component by component; `missing` may make what is not there.
    pub(super) fn walk(
        &self,
        path: &Path,
        missing: &mut dyn FnMut(&OwnedFd, &Path) -> io::Result<bool>,
    ) -> io::Result<Option<OwnedFd>> {
        let mut dir = rustix::io::dup(&self.root)?;
        let mut so_far = PathBuf::new();
        for component in path.components() {
            let Component::Normal(name) = component else {
                return Err(io::ErrorKind::InvalidInput.into());
            };
            so_far.push(name);
            dir = match fs::openat(&dir, name, READ_DIR, Mode::empty()) {
                Ok(below) => below,
                Err(Errno::NOENT) if missing(&dir, &so_far)? => {
                    fs::openat(&dir, name, READ_DIR, Mode::empty())?
                }
                Err(Errno::NOENT) => return Ok(None),
                Err(error) => return Err(error.into()),
            };
        }
        Ok(Some(dir))
    }

    /// Opens a file for reading, if it is there.
    pub fn open_file(&self, path: &Path) -> Result<Option<File>> {
        self.open_with(path, OFlags::RDONLY)
    }

    fn open_with(&self, path: &Path, mode: OFlags) -> Result<Option<File>> {
        let Some(dir) = self.dir(parent(path))? else { return Ok(None) };
        let flags = mode | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match fs::openat(&dir, path.file_name().unwrap_or_default(), flags, Mode::empty()) {
            Ok(file) => Ok(Some(File::from(file))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(io_error("open", path)(error.into())),
        }
    }

    /// All of a file, if it is there.
    pub fn read(&self, path: &Path) -> Result<Option<Vec<u8>>> {
        let Some(mut file) = self.open_file(path)? else { return Ok(None) };
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(io_error("read", path))?;
        Ok(Some(bytes))
    }

    /// Where a symbolic link leads, if there is one.
    pub fn read_link(&self, path: &Path) -> Result<Option<Vec<u8>>> {
        let Some(dir) = self.dir(parent(path))? else { return Ok(None) };
        match fs::readlinkat(&dir, path.file_name().unwrap_or_default(), Vec::new()) {
            Ok(target) => Ok(Some(target.into_bytes())),
            Err(Errno::NOENT | Errno::INVAL) => Ok(None),
            Err(error) => Err(io_error("read", path)(error.into())),
        }
    }

    /// The names in a directory, sorted; none if it is not there.
    pub fn names(&self, path: &Path) -> Result<Vec<(OsString, FileType)>> {
        let Some(dir) = self.dir(path)? else { return Ok(Vec::new()) };
        let list = || -> io::Result<Vec<(OsString, FileType)>> {
            let mut names = Vec::new();
            for entry in fs::Dir::read_from(&dir)? {
                let entry = entry?;
                let name = entry.file_name().to_bytes();
                if matches!(name, b"." | b"..") {
                    continue;
                }
                let name = std::ffi::OsStr::from_bytes(name).to_owned();
                let kind = match entry.file_type() {
                    FileType::Unknown => {
                        let stat = fs::statat(&dir, name.as_os_str(), AtFlags::SYMLINK_NOFOLLOW)?;
                        FileType::from_raw_mode(stat.st_mode)
                    }
                    known => known,
                };
                names.push((name, kind));
            }
            names.sort_by(|a, b| a.0.cmp(&b.0));
            Ok(names)
        };
        list().map_err(io_error("list", path))
    }

    /// Begins a file on the file system of `near`, a directory.
    pub fn unnamed(&self, near: &Path) -> Result<Unnamed> {
        // If it is there, it need not be there for good: what is made has no name in it.
        let dir = match self.dir(near)? {
            Some(dir) => dir,
            None => self.make_durable_dir(near)?,
        };
        self.unnamed_in(&dir, near)
    }

    /// The same in a directory that stays for good, and need not be looked for each time.
    pub fn unnamed_on(&self, partition: &Path) -> Result<Unnamed> {
        let mut partitions = self.partitions.lock().unwrap_or_else(PoisonError::into_inner);
        let dir = match partitions.get(partition) {
            Some(dir) => Arc::clone(dir),
            None => {
                let dir = Arc::new(self.make_durable_dir(partition)?);
                partitions.insert(partition.to_owned(), Arc::clone(&dir));
                dir
            }
        };
        drop(partitions);
        self.unnamed_in(&dir, partition)
    }

    fn unnamed_in(&self, dir: &OwnedFd, near: &Path) -> Result<Unnamed> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let counted = Kept::Open { _counted: Counted(Arc::clone(&self.open)) };
        let is_free = self.open.fetch_add(1, Ordering::Relaxed) < self.open_max;
        let opened = match is_free {
            true => fs::openat(dir, ".", flags, Mode::RUSR | Mode::WUSR),
            false => Err(Errno::OPNOTSUPP),
        };
        let unnamed = match opened {
            Ok(file) => Unnamed { file: File::from(file), kept: counted },
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => self.staged()?,
            Err(error) => return Err(io_error("make a file in", near)(error.into())),
        };
        give_to(&unnamed.file, self.owner).map_err(io_error("give away a file in", near))?;
        Ok(unnamed)
    }

    /// The same where there are no anonymous files, or enough of them. Only the process that holds
    /// the replica's lock has any, and the next one sweeps them.
    fn staged(&self) -> Result<Unnamed> {
        let stage = Path::new(STAGE);
        let dir = match self.stage.get() {
            Some(dir) => Arc::clone(dir),
            None => {
                let made = Arc::new(self.make_passing_dir(stage)?);
                Arc::clone(self.stage.get_or_init(|| made))
            }
        };
        let name = OsString::from(self.number().to_string());
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = fs::openat(&dir, name.as_os_str(), flags, Mode::RUSR | Mode::WUSR)
            .map_err(|error| io_error("make a file in", stage)(error.into()))?;
        Ok(Unnamed { file: File::from(file), kept: Kept::Staged(Staged { dir, name }) })
    }

    /// A file with these bytes.
    pub fn unnamed_with(&self, near: &Path, bytes: &[u8]) -> Result<Unnamed> {
        let mut unnamed = self.unnamed(near)?;
        unnamed.file.write_all(bytes).map_err(io_error("write a file in", near))?;
        Ok(unnamed)
    }

    /// Gives an open file a name, which must be free.
    pub fn name(&self, file: &File, dir: &OwnedFd, path: &Path) -> io::Result<()> {
        let from = format!("/proc/self/fd/{}", file.as_raw_fd());
        let name = path.file_name().unwrap_or_default();
        Ok(fs::linkat(CWD, from, dir, name, AtFlags::SYMLINK_FOLLOW)?)
    }

    /// Gives a new file to whom the replica's files belong.
    pub fn own(&self, file: impl AsFd) -> io::Result<()> {
        give_to(file, self.owner)
    }

    /// Gives a directory and all that is below it to an owner.
    pub fn give_tree(&self, path: &Path, owner: Owner) -> Result<()> {
        let Some(dir) = self.dir(path)? else { return Ok(()) };
        give_to(&dir, Some(owner)).map_err(io_error("give away", path))?;
        let (uid, gid) = (fs::Uid::from_raw(owner.uid), fs::Gid::from_raw(owner.gid));
        for (name, kind) in self.names(path)? {
            let below = path.join(&name);
            if kind == FileType::Directory {
                self.give_tree(&below, owner)?;
                continue;
            }
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            fs::statat(&dir, name.as_os_str(), flags)
                .and_then(|stat| match (stat.st_uid, stat.st_gid) == (owner.uid, owner.gid) {
                    true => Ok(()),
                    false => fs::chownat(&dir, name.as_os_str(), Some(uid), Some(gid), flags),
                })
                .map_err(|error| io_error("give away", &below)(error.into()))?;
        }
        Ok(())
    }

    /// Makes a symbolic link. Its target is text: it is never followed here.
    pub fn symlink(&self, target: &[u8], dir: &OwnedFd, path: &Path) -> Result<()> {
        let name = path.file_name().unwrap_or_default();
        fs::symlinkat(target, dir, name).map_err(|error| io_error("make", path)(error.into()))
    }

    /// Whether a file may be changed in place: it is large enough that this is faster than a new
    /// one, and there is room for what comes behind its end.
    pub fn can_patch(&self, path: &Path, patches: &Patches) -> Result<bool> {
        let Some(file) = self.open_to_patch(path)? else { return Ok(false) };
        let length = file.metadata().map_err(io_error("examine", path))?.len();
        let end = patches.iter().map(|(offset, bytes)| offset.saturating_add(bytes.len() as u64));
        let end = end.max().unwrap_or_default();
        if length < PATCHED_FROM {
            return Ok(false);
        }
        match fs::fallocate(&file, fs::FallocateFlags::KEEP_SIZE, 0, end) {
            Ok(()) => Ok(true),
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(false),
            Err(error) => Err(io_error("make room in", path)(error.into())),
        }
    }

    /// Writes bytes into a file, durably. Nothing happens if it is not there.
    pub fn patch(&self, path: &Path, patches: &Patches) -> Result<()> {
        let Some(file) = self.open_to_patch(path)? else { return Ok(()) };
        for (offset, bytes) in patches {
            file.write_all_at(bytes, *offset).map_err(io_error("write", path))?;
        }
        file.sync_data().map_err(io_error("sync", path))
    }

    fn open_to_patch(&self, path: &Path) -> Result<Option<File>> {
        self.open_with(path, OFlags::RDWR)
    }

    /// Renames, over what may be there. Nothing happens if it was done before.
    pub fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        let (Some(from_dir), Some(to_dir)) = (self.dir(parent(from))?, self.dir(parent(to))?)
        else {
            return Ok(());
        };
        let from_name = from.file_name().unwrap_or_default();
        let to_name = to.file_name().unwrap_or_default();
        match fs::renameat(&from_dir, from_name, &to_dir, to_name) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(io_error("rename", from)(error.into())),
        }
    }

    /// Removes a name, if it is there.
    pub fn remove(&self, path: &Path) -> Result<()> {
        let Some(dir) = self.dir(parent(path))? else { return Ok(()) };
        match fs::unlinkat(&dir, path.file_name().unwrap_or_default(), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(io_error("remove", path)(error.into())),
        }
    }

    /// Removes a directory with all that is in it, if it is there.
    pub fn remove_tree(&self, path: &Path) -> Result<()> {
        for (name, kind) in self.names(path)? {
            let below = path.join(name);
            match kind {
                FileType::Directory => self.remove_tree(&below)?,
                _ => self.remove(&below)?,
            }
        }
        let Some(dir) = self.dir(parent(path))? else { return Ok(()) };
        match fs::unlinkat(&dir, path.file_name().unwrap_or_default(), AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(io_error("remove", path)(error.into())),
        }
    }

    /// Makes the names in a directory durable, if it is there.
    pub fn sync_dir(&self, path: &Path) -> Result<()> {
        let Some(dir) = self.dir(path)? else { return Ok(()) };
        fs::fsync(&dir).map_err(|error| io_error("sync", path)(error.into()))
    }

    /// Makes everything durable that was written, on however many file systems it is.
    pub fn sync_everything(&self) -> Result<()> {
        for (path, dir) in self.file_systems()? {
            fs::syncfs(&dir).map_err(|error| io_error("sync", &path)(error.into()))?;
        }
        Ok(())
    }

    /// A directory of each file system: a partition may be one of its own, and so may whatever else
    /// is right below `conf` or `spool`.
    fn file_systems(&self) -> Result<Vec<(PathBuf, OwnedFd)>> {
        let mut paths = vec![PathBuf::new()];
        for above in ["conf", "spool"].map(Path::new) {
            paths.push(above.to_owned());
            let below = self.names(above)?.into_iter();
            let dirs = below.filter(|(_, kind)| *kind == FileType::Directory);
            paths.extend(dirs.map(|(name, _)| above.join(name)));
        }
        let (mut devices, mut found) = (BTreeSet::new(), Vec::new());
        for path in paths {
            let Some(dir) = self.dir(&path)? else { continue };
            let stat = fs::fstat(&dir).map_err(|error| io_error("examine", &path)(error.into()))?;
            if devices.insert(stat.st_dev) {
                found.push((path, dir));
            }
        }
        Ok(found)
    }

    /// Whether two directories are on one file system, so that a name can go from one to the other.
    pub fn are_together(&self, one: &Path, other: &Path) -> Result<bool> {
        let device = |path: &Path| -> Result<u64> {
            let missing = || io_error("open", path)(io::ErrorKind::NotFound.into());
            let dir = self.dir(path)?.ok_or_else(missing)?;
            Ok(fs::fstat(&dir).map_err(|error| io_error("examine", path)(error.into()))?.st_dev)
        };
        Ok(device(one)? == device(other)?)
    }

    /// A number that no other file in the making has.
    pub fn number(&self) -> u64 {
        self.made.fetch_add(1, Ordering::Relaxed)
    }
}

/// How many files in the making may be open here.
fn open_max() -> usize {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(limit / 4).unwrap_or(OPEN_MAX).min(OPEN_MAX)
}

/// The directory of a path.
pub(super) fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

/// An error with its operation and object.
pub(super) fn io_error(op: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ReplicaError {
    let path = path.to_owned();
    move |source| ReplicaError::Io { op, path, source }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use cyrus_format::header::{HeaderForm, MailboxHeader};
    use model::{Guid, Partition, Record, Timestamp, Uid};
    use sha1::{Digest, Sha1};
    use testkit::disk::SmallDisk;

    use super::*;
    use crate::replica::{Contents, NewMessage, Records, Replica, Update};

    #[test]
    fn a_partition_that_is_a_file_system_of_its_own_is_made_durable_too() {
        let top = tempfile::tempdir().expect("a directory");
        let root = top.path().join("replica");
        let replica = Replica::open(&root).expect("a replica");
        let test = "a_partition_that_is_a_file_system_of_its_own";
        let Some(_mounted) = SmallDisk::or_skip(test, &root.join("spool/other"), 64) else {
            return;
        };
        let disk = &replica.files().disk;
        disk.make_durable_dir(Path::new("spool/default")).expect("made");
        let found = disk.file_systems().expect("readable");
        let found: Vec<&Path> = found.iter().map(|(path, _)| path.as_path()).collect();
        assert_eq!(found, [Path::new(""), Path::new("spool/other")]);
        disk.sync_everything().expect("synced");
    }

    /// As on a file system without anonymous files: each file in the making has a name meanwhile.
    #[test]
    fn without_anonymous_files_nothing_is_left_either() {
        let top = tempfile::tempdir().expect("a directory");
        let replica = Replica::open(&top.path().join("replica")).expect("a replica");
        let mut state = replica.lock();
        state.files.disk.open.store(OPEN_MAX, Ordering::Relaxed);
        let (partition, guid) = (Partition::new("default"), Guid(Sha1::digest("text").into()));
        let mut arriving = replica.files().arriving(&partition, guid).expect("a file");
        arriving.write(b"text").expect("written");
        let forgotten = replica.files().arriving(&partition, guid).expect("another file");
        let message = Arc::new(arriving.finish().expect("the bytes of the GUID"));
        assert_eq!(state.files.disk.names(Path::new(STAGE)).expect("a directory").len(), 2);
        let header = MailboxHeader {
            form: HeaderForm::Dlist,
            name: Some("user.glad".into()),
            uniqueid: Some("someid".into()),
            ..MailboxHeader::default()
        };
        let mut after = Contents::new(header).expect("a mailbox");
        let none = Records::none();
        let mut revision = replica.files().revise(&none, &partition, &after, 1).expect("a file");
        let record = Record { uid: Uid(1), guid, size: 4, ..Record::default() };
        assert_eq!(revision.take(Uid(1), &after).expect("readable"), None);
        revision.put(record, &after).expect("written");
        let revised = revision.finish(&after).expect("written");
        after.index = revised.index(&after, model::crc::ThridText::Short);
        let arrived = Timestamp::from_secs(1);
        let messages = vec![NewMessage { uid: Uid(1), message, arrived }];
        let (before, records, replaces) = (None, revised.records, None);
        let update = Update { partition, before, after, records, messages, replaces };
        state.store(update).expect("stored");
        drop(forgotten);
        assert_eq!(state.files.disk.names(Path::new(STAGE)).expect("a directory"), []);
        let path = Path::new("spool/default/uuid/s/o/someid/1.");
        assert_eq!(state.files.disk.read(path).expect("readable").as_deref(), Some(&b"text"[..]));
        let near = state.mailboxes_near(&["user.glad".into()]);
        assert_eq!(
            replica.files().find_messages(&near, &[guid].into()).map(|m| m.len()).ok(),
            Some(1)
        );
    }
}
