//! Several changes to a replica that are there all or not at all, whatever ends the process.
//!
//! What is new is written beside what it is to replace, under names that mean nothing
//! (`NAME.<n>.NEW`), and made durable together with the links of new messages, which no index names
//! yet. Then follow the renames and removals that make it count. One of them is a change by itself.
//! If there are more, they are written down first, in a file that appears whole: the intent. From
//! then on the batch is done, and whoever opens the replica next goes on with what is left of it.
//! `docs/decisions/0007-replica.md` goes through every state in between.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cyrus_format::FormatError;
use cyrus_format::db::flat;
use model::Timestamp;
use rustix::fs::fsync;

use super::disk::{Disk, io_error, parent};
use super::error::{ReplicaError, Result};
use super::message::{self, Message};

/// Where an intent is written down.
pub(super) const INTENT: &str = "conf/cylinder-intent";

/// The first line of an intent.
const MAGIC: &[u8] = b"cylinder intent 1";

/// What a file in the making ends with.
pub(super) const NEW: &[u8] = b".NEW";

/// From how many files on the whole file system is made durable instead of each of them.
const SYNCED_SINGLY: usize = 8;

/// A change that is done or not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Rename, over what is there.
    Rename { from: PathBuf, to: PathBuf },
    /// Remove a name.
    Remove(PathBuf),
    /// Remove a directory with all that is in it.
    RemoveTree(PathBuf),
}

/// Changes that belong together.
#[derive(Debug)]
pub(super) struct Batch<'d> {
    disk: &'d Disk,
    files: Vec<(PathBuf, Vec<u8>)>,
    symlinks: Vec<(PathBuf, Vec<u8>)>,
    links: Vec<(PathBuf, Arc<Message>, Timestamp)>,
    steps: Vec<Step>,
}

/// What has been made for a batch that does not count yet.
#[derive(Default)]
struct Prepared {
    made: Vec<PathBuf>,
    files: Vec<File>,
    dirty: BTreeSet<PathBuf>,
    new_dirs: BTreeSet<PathBuf>,
    steps: Vec<Step>,
}

impl<'d> Batch<'d> {
    pub fn new(disk: &'d Disk) -> Self {
        Self { disk, files: Vec::new(), symlinks: Vec::new(), links: Vec::new(), steps: Vec::new() }
    }

    /// Makes a file, or replaces it whole.
    pub fn put(&mut self, path: PathBuf, bytes: Vec<u8>) {
        self.files.push((path, bytes));
    }

    /// Makes a symbolic link, or replaces it.
    pub fn put_symlink(&mut self, path: PathBuf, target: Vec<u8>) {
        self.symlinks.push((path, target));
    }

    /// Gives a message a name that nothing refers to before the batch counts.
    pub fn link(&mut self, path: PathBuf, message: Arc<Message>, arrived: Timestamp) {
        self.links.push((path, message, arrived));
    }

    /// Does something once all files are in place.
    pub fn then(&mut self, step: Step) {
        self.steps.push(step);
    }

    /// Does it all, durably. After an error nothing has changed, or the replica is broken: then
    /// only opening it anew tells what is done.
    pub fn commit(self) -> Result<()> {
        self.disk.check_whole()?;
        let mut prepared = Prepared::default();
        if let Err(error) = self.prepare(&mut prepared) {
            // What cannot be removed now is swept when the replica is opened next.
            for path in &prepared.made {
                let _ = self.disk.remove(path);
            }
            return Err(error);
        }
        let steps = std::mem::take(&mut prepared.steps);
        match steps.as_slice() {
            [] => Ok(()),
            [step] => {
                let done = step.run(self.disk).and_then(|()| sync_dirs(self.disk, &steps));
                done.inspect_err(|_| self.disk.set_broken())
            }
            _ => {
                write_intent(self.disk, &steps)?;
                let done = finish(self.disk, &steps);
                done.inspect_err(|_| self.disk.set_broken())
            }
        }
    }

    fn prepare(&self, prepared: &mut Prepared) -> Result<()> {
        for (path, message, arrived) in &self.links {
            self.link_message(path, message, *arrived, prepared)?;
        }
        for (path, bytes) in &self.files {
            let new = self.new_name(path);
            let dir = self.disk.make_dir(parent(path), &mut prepared.new_dirs)?;
            let file = self.disk.unnamed_with(parent(path), bytes)?;
            prepared.made.push(new.clone());
            self.disk.name(&file.file, &dir, &new).map_err(io_error("name", &new))?;
            prepared.files.push(file.file);
            prepared.dirty.insert(parent(path).to_owned());
            prepared.steps.push(Step::Rename { from: new, to: path.clone() });
        }
        for (path, target) in &self.symlinks {
            let new = self.new_name(path);
            let dir = self.disk.make_dir(parent(path), &mut prepared.new_dirs)?;
            prepared.made.push(new.clone());
            self.disk.symlink(target, &dir, &new)?;
            prepared.dirty.insert(parent(path).to_owned());
            prepared.steps.push(Step::Rename { from: new, to: path.clone() });
        }
        prepared.steps.extend(self.steps.iter().cloned());
        self.sync(prepared)
    }

    /// Names a message, or a copy of it where that is not possible.
    fn link_message(
        &self,
        path: &Path,
        message: &Message,
        arrived: Timestamp,
        prepared: &mut Prepared,
    ) -> Result<()> {
        let dir = self.disk.make_dir(parent(path), &mut prepared.new_dirs)?;
        let file = message.open(self.disk)?;
        if !message.is_stored() {
            message::date(&file, arrived).map_err(io_error("date", path))?;
        }
        prepared.dirty.insert(parent(path).to_owned());
        prepared.made.push(path.to_owned());
        let named = match self.disk.name(&file, &dir, path) {
            // No index names it: it is of a batch that failed.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.disk.remove(path)?;
                self.disk.name(&file, &dir, path)
            }
            named => named,
        };
        match named {
            Err(error) if is_no_place_for_links(&error) => {
                let made = self.disk.unnamed(parent(path))?;
                message::copy(&file, &made.file).map_err(io_error("copy", path))?;
                message::date(&made.file, arrived).map_err(io_error("date", path))?;
                self.disk.name(&made.file, &dir, path).map_err(io_error("name", path))?;
                prepared.files.push(made.file.try_clone().map_err(io_error("sync", path))?);
            }
            named => named.map_err(io_error("link", path))?,
        }
        Ok(())
    }

    fn sync(&self, prepared: &Prepared) -> Result<()> {
        let count = prepared.files.len() + self.links.len() + prepared.new_dirs.len();
        if count > SYNCED_SINGLY {
            // Both, since either may be a file system of its own.
            self.disk.sync_all(Path::new("conf"))?;
            return self.disk.sync_all(Path::new("spool"));
        }
        for (path, message, _) in &self.links {
            let file = message.open(self.disk)?;
            fsync(&file).map_err(|error| io_error("sync", path)(error.into()))?;
        }
        for file in &prepared.files {
            let path = Path::new("a new file");
            fsync(file).map_err(|error| io_error("sync", path)(error.into()))?;
        }
        for dir in prepared.dirty.iter().chain(&prepared.new_dirs) {
            self.disk.sync_dir(dir)?;
        }
        Ok(())
    }

    fn new_name(&self, path: &Path) -> PathBuf {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}", self.disk.number()));
        name.push(OsStr::from_bytes(NEW));
        path.with_file_name(name)
    }
}

/// Whether a copy may do where a link cannot be made: another file system, too many links, or a
/// message that has lost its last name since it was reserved.
fn is_no_place_for_links(error: &io::Error) -> bool {
    use io::ErrorKind::{CrossesDevices, NotFound, TooManyLinks};
    matches!(error.kind(), CrossesDevices | NotFound | TooManyLinks)
}

impl Step {
    fn run(&self, disk: &Disk) -> Result<()> {
        match self {
            Step::Rename { from, to } => disk.rename(from, to),
            Step::Remove(path) => disk.remove(path),
            Step::RemoveTree(path) => disk.remove_tree(path),
        }
    }

    fn paths(&self) -> (u8, Vec<&Path>) {
        match self {
            Step::Rename { from, to } => (b'n', vec![from, to]),
            Step::Remove(path) => (b'r', vec![path]),
            Step::RemoveTree(path) => (b't', vec![path]),
        }
    }
}

/// Makes the directories durable in which steps have changed something.
fn sync_dirs(disk: &Disk, steps: &[Step]) -> Result<()> {
    let paths = steps.iter().flat_map(|step| step.paths().1);
    let dirs: BTreeSet<&Path> = paths.map(parent).collect();
    dirs.into_iter().try_for_each(|dir| disk.sync_dir(dir))
}

fn write_intent(disk: &Disk, steps: &[Step]) -> Result<()> {
    let mut text = MAGIC.to_vec();
    for step in steps {
        let (letter, paths) = step.paths();
        text.extend_from_slice(&[b'\n', letter]);
        for path in paths {
            text.push(b'\t');
            text.extend_from_slice(&flat::escape(path.as_os_str().as_bytes()));
        }
    }
    text.push(b'\n');
    let path = Path::new(INTENT);
    let dir = disk.make_dir(parent(path), &mut BTreeSet::new())?;
    let file = disk.unnamed_with(parent(path), &text)?;
    fsync(&file.file).map_err(|error| io_error("sync", path)(error.into()))?;
    disk.name(&file.file, &dir, path).map_err(io_error("name", path))?;
    disk.sync_dir(parent(path)).inspect_err(|_| disk.set_broken())
}

/// Takes the steps and forgets the intent.
fn finish(disk: &Disk, steps: &[Step]) -> Result<()> {
    steps.iter().try_for_each(|step| step.run(disk))?;
    sync_dirs(disk, steps)?;
    let path = Path::new(INTENT);
    disk.remove(path)?;
    disk.sync_dir(parent(path))
}

/// Completes the batch of a process that was killed, if it had come to its intent.
pub(super) fn recover(disk: &Disk) -> Result<()> {
    let path = Path::new(INTENT);
    let Some(text) = disk.read(path)? else { return Ok(()) };
    let damaged = |detail: &str| ReplicaError::Damaged {
        path: path.to_owned(),
        source: FormatError::Damaged { what: "intent", offset: 0, detail: detail.to_owned() },
    };
    let text = text.strip_suffix(b"\n").ok_or_else(|| damaged("it has no end"))?;
    let mut lines = text.split(|byte| *byte == b'\n');
    if lines.next() != Some(MAGIC) {
        return Err(damaged("it is none of this version"));
    }
    let steps: Option<Vec<Step>> = lines.map(read_step).collect();
    finish(disk, &steps.ok_or_else(|| damaged("a step makes no sense"))?)
}

fn read_step(line: &[u8]) -> Option<Step> {
    let mut fields = line.split(|byte| *byte == b'\t');
    let letter = fields.next()?;
    let mut path = || {
        let bytes = flat::unescape(fields.next()?).into_owned();
        Some(PathBuf::from(std::ffi::OsString::from_vec(bytes)))
    };
    Some(match letter {
        b"n" => Step::Rename { from: path()?, to: path()? },
        b"r" => Step::Remove(path()?),
        b"t" => Step::RemoveTree(path()?),
        _ => return None,
    })
}
