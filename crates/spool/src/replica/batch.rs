//! Several changes to a replica that are there all or not at all, whatever ends the process.
//!
//! What is new is written beside what it is to replace, under names that mean nothing
//! (`NAME.<n>.NEW`), and made durable together with the links of new messages, which no index names
//! yet. Then follow the renames and removals that make it count, and changes within a large index.
//! One rename or removal is a change by itself. Anything else is written down first, in a file that
//! appears whole: the intent. From then on the batch is done, and whoever opens the replica next goes
//! on with what is left of it.
//! `docs/decisions/0007-replica.md` goes through every state in between.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cyrus_format::FormatError;
use cyrus_format::db::flat;
use model::{Timestamp, Uid};
use rustix::fs::fsync;

use super::dirs::NewDirs;
use super::disk::{Disk, Unnamed, io_error, parent};
use super::error::{ReplicaError, Result};
use super::message::{self, Message};
use super::records::Patches;

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
    /// Write bytes into an index, at these places.
    Patch { path: PathBuf, patches: Patches },
}

/// A message and the name that it gets.
#[derive(Clone, Debug)]
pub struct NewMessage {
    /// Its number in the mailbox.
    pub uid: Uid,
    /// Its bytes.
    pub message: Arc<Message>,
    /// When it arrived in the mailbox.
    pub arrived: Timestamp,
}

/// What a file is to hold.
#[derive(Debug)]
enum Body {
    Bytes(Vec<u8>),
    /// It is there already, and lacks its name.
    Made(Unnamed),
}

/// Changes that belong together.
#[derive(Debug)]
pub(super) struct Batch<'d> {
    disk: &'d Disk,
    files: Vec<(PathBuf, Body)>,
    symlinks: Vec<(PathBuf, Vec<u8>)>,
    /// Messages of directories.
    links: Vec<(PathBuf, Vec<NewMessage>)>,
    steps: Vec<Step>,
}

/// What has been made for a batch that does not count yet.
#[derive(Default)]
struct Prepared {
    made: Vec<PathBuf>,
    /// How many messages of each directory may have their names.
    linked: Vec<usize>,
    files: Vec<File>,
    dirty: BTreeSet<PathBuf>,
    new_dirs: NewDirs,
    steps: Vec<Step>,
}

impl<'d> Batch<'d> {
    pub fn new(disk: &'d Disk) -> Self {
        Self { disk, files: Vec::new(), symlinks: Vec::new(), links: Vec::new(), steps: Vec::new() }
    }

    /// Makes a file, or replaces it whole.
    pub fn put(&mut self, path: PathBuf, bytes: Vec<u8>) {
        self.files.push((path, Body::Bytes(bytes)));
    }

    /// The same with a file that is complete but for its name.
    pub fn put_file(&mut self, path: PathBuf, made: Unnamed) {
        self.files.push((path, Body::Made(made)));
    }

    /// Makes a symbolic link, or replaces it.
    pub fn put_symlink(&mut self, path: PathBuf, target: Vec<u8>) {
        self.symlinks.push((path, target));
    }

    /// Gives messages names that nothing refers to before the batch counts.
    pub fn link(&mut self, dir: &Path, messages: Vec<NewMessage>) {
        if !messages.is_empty() {
            self.links.push((dir.to_owned(), messages));
        }
    }

    /// Does something once all files are in place.
    pub fn then(&mut self, step: Step) {
        self.steps.push(step);
    }

    /// Does it all, durably. After an error nothing has changed, or the replica is broken: then
    /// only opening it anew tells what is done.
    pub fn commit(mut self) -> Result<()> {
        self.disk.check_whole()?;
        let mut prepared = Prepared::default();
        let mut turn = None;
        let made = self.prepare(&mut prepared).and_then(|()| self.sync(&mut prepared));
        let ready = made.and_then(|()| match prepared.steps.as_slice() {
            [] => Ok(()),
            [step] if step.is_atomic() => forget_intent(self.disk),
            steps => {
                turn = Some(self.disk.take_intent());
                write_intent(self.disk, steps)
            }
        });
        if let Err(error) = ready {
            // An intent that may be there needs what it names.
            if self.disk.check_whole().is_ok() {
                self.undo(prepared);
            }
            return Err(error);
        }
        let done = match prepared.steps.as_slice() {
            [] => Ok(()),
            [step] if step.is_atomic() => {
                step.run(self.disk).and_then(|()| sync_dirs(self.disk, &prepared.steps))
            }
            steps => finish(self.disk, steps),
        };
        drop(turn);
        done.inspect_err(|_| self.disk.set_broken())
    }

    /// Removes what has been made, but for directories. What cannot be removed now is swept when the
    /// replica is opened next.
    fn undo(&self, prepared: Prepared) {
        for path in &prepared.made {
            let _ = self.disk.remove(path);
        }
        for ((dir, messages), linked) in self.links.iter().zip(&prepared.linked) {
            for message in messages.iter().take(*linked) {
                let _ = self.disk.remove(&dir.join(message.name()));
            }
        }
        // Directories that were made stay. If this fails, others who use them do it.
        let _ = self.disk.sync_new(prepared.new_dirs);
    }

    fn prepare(&mut self, prepared: &mut Prepared) -> Result<()> {
        for (path, messages) in &self.links {
            let dir = self.disk.make_dir(path, &mut prepared.new_dirs)?;
            prepared.dirty.insert(path.clone());
            prepared.linked.push(0);
            for message in messages {
                if let Some(linked) = prepared.linked.last_mut() {
                    *linked += 1;
                }
                self.link_message(path, &dir, message, &mut prepared.files)?;
            }
        }
        for (path, body) in std::mem::take(&mut self.files) {
            let path = &path;
            let new = self.new_name(path);
            let dir = self.disk.make_dir(parent(path), &mut prepared.new_dirs)?;
            let file = match body {
                Body::Bytes(bytes) => self.disk.unnamed_with(parent(path), &bytes)?,
                Body::Made(made) => made,
            };
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
        Ok(())
    }

    /// Names a message, or a copy of it where that is not possible.
    fn link_message(
        &self,
        path: &Path,
        dir: &OwnedFd,
        new: &NewMessage,
        files: &mut Vec<File>,
    ) -> Result<()> {
        let name = PathBuf::from(new.name());
        let path = &path.join(&name);
        let file = new.message.open(self.disk)?;
        if !new.message.is_stored() {
            message::date(&file, new.arrived).map_err(io_error("date", path))?;
        }
        let named = match self.disk.name(&file, dir, &name) {
            // No index names it: it is of a batch that failed.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.disk.remove(path)?;
                self.disk.name(&file, dir, &name)
            }
            named => named,
        };
        match named {
            Err(error) if is_no_place_for_links(&error) => {
                let made = self.disk.unnamed(parent(path))?;
                message::copy(&file, &made.file).map_err(io_error("copy", path))?;
                message::date(&made.file, new.arrived).map_err(io_error("date", path))?;
                self.disk.name(&made.file, dir, &name).map_err(io_error("name", path))?;
                // Many of them are made durable at once, and need not stay open for that.
                if files.len() <= SYNCED_SINGLY {
                    files.push(made.file.try_clone().map_err(io_error("sync", path))?);
                }
            }
            named => named.map_err(io_error("link", path))?,
        }
        Ok(())
    }

    /// Makes all of it durable.
    fn sync(&self, prepared: &mut Prepared) -> Result<()> {
        let links: usize = self.links.iter().map(|(_, messages)| messages.len()).sum();
        let count = prepared.files.len() + links + prepared.new_dirs.len();
        let is_one = prepared.replaces_one_file() && links == 0;
        if count > SYNCED_SINGLY {
            self.disk.sync_everything()?;
            self.disk.are_synced(std::mem::take(&mut prepared.new_dirs));
            return Ok(());
        }
        for (path, messages) in &self.links {
            for message in messages {
                let file = message.message.open(self.disk)?;
                fsync(&*file).map_err(|error| io_error("sync", path)(error.into()))?;
            }
        }
        for file in &prepared.files {
            let path = Path::new("a new file");
            fsync(file).map_err(|error| io_error("sync", path)(error.into()))?;
        }
        // The one rename that follows makes its own name durable, or leaves what was there.
        if !is_one {
            prepared.dirty.iter().try_for_each(|dir| self.disk.sync_dir(dir))?;
        }
        self.disk.sync_new(std::mem::take(&mut prepared.new_dirs))
    }

    fn new_name(&self, path: &Path) -> PathBuf {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}", self.disk.number()));
        name.push(OsStr::from_bytes(NEW));
        path.with_file_name(name)
    }
}

impl Prepared {
    /// Whether all that is done is that a new file takes a name in a directory that is there for good.
    fn replaces_one_file(&self) -> bool {
        let is_one = matches!(self.steps.as_slice(), [Step::Rename { .. }]);
        is_one && self.made.len() == 1 && self.new_dirs.len() == 0
    }
}

impl NewMessage {
    fn name(&self) -> String {
        format!("{}.", self.uid)
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
            Step::Patch { path, patches } => disk.patch(path, patches),
        }
    }

    /// Whether it is done as a whole or not at all, whatever happens meanwhile.
    fn is_atomic(&self) -> bool {
        matches!(self, Step::Rename { .. } | Step::Remove(_))
    }

    fn paths(&self) -> (u8, Vec<&Path>) {
        match self {
            Step::Rename { from, to } => (b'n', vec![from, to]),
            Step::Remove(path) => (b'r', vec![path]),
            Step::RemoveTree(path) => (b't', vec![path]),
            Step::Patch { path, .. } => (b'p', vec![path]),
        }
    }

    /// Appends the line that stands for it in an intent.
    fn write(&self, line: &mut Vec<u8>) {
        let (letter, paths) = self.paths();
        line.push(letter);
        for path in paths {
            line.push(b'\t');
            line.extend_from_slice(&flat::escape(path.as_os_str().as_bytes()));
        }
        let Step::Patch { patches, .. } = self else { return };
        for (offset, bytes) in patches {
            line.extend_from_slice(format!("\t{offset}\t").as_bytes());
            line.extend_from_slice(&flat::escape(bytes));
        }
    }
}

/// Makes the directories durable in which steps have changed something.
fn sync_dirs(disk: &Disk, steps: &[Step]) -> Result<()> {
    let is_of_names = |step: &&Step| !matches!(step, Step::Patch { .. });
    let paths = steps.iter().filter(is_of_names).flat_map(|step| step.paths().1);
    let dirs: BTreeSet<&Path> = paths.map(parent).collect();
    dirs.into_iter().try_for_each(|dir| disk.sync_dir(dir))
}

fn write_intent(disk: &Disk, steps: &[Step]) -> Result<()> {
    let mut text = MAGIC.to_vec();
    for step in steps {
        text.push(b'\n');
        step.write(&mut text);
    }
    text.push(b'\n');
    let path = Path::new(INTENT);
    let dir = disk.make_passing_dir(parent(path))?;
    let file = disk.unnamed_with(parent(path), &text)?;
    fsync(&file.file).map_err(|error| io_error("sync", path)(error.into()))?;
    disk.name(&file.file, &dir, path).map_err(io_error("name", path))?;
    // A former one may come back until now; from here on it is replaced.
    disk.sync_dir(parent(path)).inspect_err(|_| disk.set_broken())?;
    disk.set_intent_gone();
    Ok(())
}

/// Takes the steps and removes the intent. A power cut may bring it back: then its steps change
/// nothing, as long as no other batch was done meanwhile.
fn finish(disk: &Disk, steps: &[Step]) -> Result<()> {
    steps.iter().try_for_each(|step| step.run(disk))?;
    sync_dirs(disk, steps)?;
    disk.remove(Path::new(INTENT))?;
    disk.set_intent_removed();
    Ok(())
}

/// Makes sure that no former intent comes back. Another intent does that, too, by replacing it.
pub(super) fn forget_intent(disk: &Disk) -> Result<()> {
    if disk.is_intent_gone() {
        return Ok(());
    }
    let _turn = disk.take_intent();
    // Meanwhile, another batch may have done it.
    if !disk.is_intent_gone() {
        disk.sync_dir(parent(Path::new(INTENT)))?;
        disk.set_intent_gone();
    }
    Ok(())
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
    finish(disk, &steps.ok_or_else(|| damaged("a step makes no sense"))?)?;
    forget_intent(disk)
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
        b"p" => Step::Patch { path: path()?, patches: read_patches(fields)? },
        _ => return None,
    })
}

fn read_patches<'f>(mut fields: impl Iterator<Item = &'f [u8]>) -> Option<Patches> {
    let mut patches = Patches::new();
    while let Some(offset) = fields.next() {
        let offset = std::str::from_utf8(offset).ok()?.parse().ok()?;
        patches.push((offset, flat::unescape(fields.next()?).into_owned()));
    }
    Some(patches)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_alone_is_enough_only_where_nobody_else_is_still_making_its_directory() {
        let top = tempfile::tempdir().expect("a directory");
        let disk = Disk::open(top.path(), None).expect("a disk");
        let mut others = NewDirs::default();
        disk.make_dir(Path::new("conf/user"), &mut others).expect("made");
        let prepared = || {
            let mut batch = Batch::new(&disk);
            batch.put(PathBuf::from("conf/user/glad.sub"), b"INBOX".to_vec());
            let mut prepared = Prepared::default();
            batch.prepare(&mut prepared).expect("prepared");
            prepared
        };
        let early = prepared();
        assert!(!early.replaces_one_file());
        assert_eq!(early.new_dirs.len(), 2, "what the others have made is made durable as well");
        disk.sync_new(others).expect("synced");
        assert!(prepared().replaces_one_file());
    }

    #[test]
    fn what_is_to_be_written_is_read_as_it_was() {
        let bytes: Vec<u8> = (0..=255).collect();
        let patches = vec![(0, bytes.clone()), (1 << 40, Vec::new()), (7, bytes)];
        let step = Step::Patch { path: PathBuf::from("spool/a\tb"), patches };
        let mut line = Vec::new();
        step.write(&mut line);
        assert!(!line.contains(&b'\n'));
        assert_eq!(read_step(&line), Some(step));
        assert_eq!(read_step(b"p\tpath\tx\tbytes"), None);
        assert_eq!(read_step(b"p\tpath\t7"), None);
    }
}
