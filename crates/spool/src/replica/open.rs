//! Opening a replica: taking it over, completing or removing what a killed process left, and
//! finding out what it holds.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::path::Path;

use cyrus_format::annotations::{Annotated, AnnotationDb};
use cyrus_format::db;
use rustix::fs::{self, FileType, Mode, OFlags};

use super::batch::{self, Batch, NEW};
use super::contents::{HEADER, INDEX, STATE, damaged};
use super::dirs::NewDirs;
use super::disk::{Disk, STAGE, io_error};
use super::error::{ReplicaError, Result};
use super::list::{self, List};
use super::records;
use super::{ANNOTATIONS_DB, Files, MailboxExtra, Note, State};
use crate::lock::ofd;
use crate::tree::Owner;

/// The file whose lock says that a replica is open.
pub(super) const LOCK: &str = "conf/cylinder-replica";

/// The same in the configuration directory.
pub(crate) const LOCK_NAME: &str = "cylinder-replica";
/// What its name is once the replica is none any more.
pub(super) const PROMOTED: &str = "conf/cylinder-promoted";
const CONF: &str = "imapd.conf";

impl State {
    pub(super) fn open(root: &Path) -> Result<Self> {
        let disk = Disk::open(root, Owner::for_cyrus()).map_err(io_error("open", root))?;
        let lock = take(&disk, root)?;
        batch::recover(&disk)?;
        if disk.open_file(Path::new(PROMOTED))?.is_some() {
            return Err(ReplicaError::Promoted { path: root.to_owned() });
        }
        disk.remove_tree(Path::new(STAGE))?;
        sweep_conf(&disk, Path::new("conf"))?;
        list::sweep_names(&disk, Path::new(""), &is_unfinished)?;
        let (mut broken, mut dirs) = (Vec::new(), Vec::new());
        for (partition, dir) in list::mailbox_dirs(&disk)? {
            match sweep_mailbox(&disk, &dir) {
                Ok(Swept::Nothing) => {}
                Ok(Swept::Mailbox) => dirs.push((partition, dir)),
                Err(error) => broken.push(error),
            }
        }
        let (list, roots) = List::load(&disk, dirs, &mut broken)?;
        let mut state = Self {
            quotas: super::quota::load(&disk)?,
            server_notes: load_server_notes(&disk)?,
            notes: HashMap::new(),
            partitions: list::partitions(&disk)?.into_iter().collect(),
            unwritten: 1,
            uncounted: BTreeSet::new(),
            unassigned: BTreeSet::new(),
            damaged: broken,
            list,
            files: Files::of(disk),
            _lock: lock,
        };
        state.load_notes()?;
        state.write_conf()?;
        // A root was set or removed, and not every header had been told.
        for (name, root) in roots {
            if state.quota_root_of(&name) != root.as_ref() {
                state.assign_root(&name)?;
            }
        }
        state.flush()?;
        Ok(state)
    }

    fn load_notes(&mut self) -> Result<()> {
        for entry in self.list.entries().filter(|entry| entry.mbtype.has_data()) {
            let MailboxExtra { notes, .. } = self.files.summary(entry)?.extra;
            if let (Some(id), false) = (&entry.uniqueid, notes.is_empty()) {
                self.notes.insert(id.clone(), notes);
            }
        }
        Ok(())
    }

    /// Writes imapd.conf, if it is not as it should be.
    pub(super) fn write_conf(&self) -> Result<()> {
        let root = self.files.disk.path().display();
        let mut text = format!(
            "# Made by cylinder: serves this replica once it is promoted.\n\
             configdirectory: {root}/conf\n\
             sievedir: {root}/conf/sieve\n\
             unixhierarchysep: yes\n\
             hashimapspool: no\n\
             fulldirhash: no\n"
        );
        let mut names: Vec<String> = self.partitions.iter().map(ToString::to_string).collect();
        if names.is_empty() {
            names.push("default".to_owned());
        }
        for name in &names {
            text.push_str(&format!("partition-{name}: {root}/spool/{name}\n"));
        }
        let default = names.iter().find(|name| *name == "default").unwrap_or(&names[0]);
        text.push_str(&format!("defaultpartition: {default}\n"));
        let path = Path::new(CONF);
        if self.files.disk.read(path)?.as_deref() == Some(text.as_bytes()) {
            return Ok(());
        }
        let mut batch = Batch::new(&self.files.disk);
        batch.put(path.to_owned(), text.into_bytes());
        batch.commit()
    }
}

/// Makes sure that this is a replica or nothing yet, and that nobody else has it.
fn take(disk: &Disk, root: &Path) -> Result<File> {
    let mut lock = Path::new(LOCK);
    if disk.open_file(Path::new(PROMOTED))?.is_some() {
        // A promotion may still have to be finished.
        lock = Path::new(PROMOTED);
    } else if disk.open_file(lock)?.is_none() {
        let is_begun = |name: &std::ffi::OsStr| name == "conf";
        let nothing = disk.names(Path::new(""))?.iter().all(|(name, _)| is_begun(name))
            && disk.names(Path::new("conf"))?.is_empty();
        if !nothing {
            return Err(ReplicaError::Foreign { path: root.to_owned() });
        }
    }
    let mut new = NewDirs::default();
    let dir = disk.make_dir(Path::new("conf"), &mut new)?;
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let name = lock.file_name().unwrap_or_default();
    let file = fs::openat(&dir, name, flags, Mode::RUSR | Mode::WUSR)
        .map_err(|error| io_error("open", lock)(error.into()))?;
    let file = File::from(file);
    if !ofd::try_lock(&file, ofd::Mode::Exclusive).map_err(io_error("lock", lock))? {
        return Err(ReplicaError::InUse { path: root.to_owned() });
    }
    // Nothing else is there before the file is that says what it is.
    disk.sync_dir(Path::new("conf"))?;
    disk.sync_new(new)?;
    disk.make_durable_dir(Path::new("spool"))?;
    Ok(file)
}

/// Whether a file was being made when a process was killed: `NAME.<n>.NEW`.
fn is_unfinished(name: &[u8]) -> bool {
    let Some(front) = name.strip_suffix(NEW) else { return false };
    let digits = front.rsplit(|byte| *byte == b'.').next().unwrap_or_default();
    digits.len() < front.len() && !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
}

fn sweep_conf(disk: &Disk, dir: &Path) -> Result<()> {
    list::sweep_names(disk, dir, &is_unfinished)?;
    for (name, kind) in disk.names(dir)? {
        if kind == FileType::Directory {
            sweep_conf(disk, &dir.join(name))?;
        }
    }
    Ok(())
}

/// What a directory was found to be.
enum Swept {
    Mailbox,
    Nothing,
}

/// Removes what no index names. Without any of its files a directory was never a mailbox; if only
/// some are there, it is left alone for somebody to look at.
fn sweep_mailbox(disk: &Disk, dir: &Path) -> Result<Swept> {
    list::sweep_names(disk, dir, &is_unfinished)?;
    let mut there = 0;
    for name in [HEADER, INDEX, STATE] {
        there += usize::from(disk.open_file(&dir.join(name))?.is_some());
    }
    match there {
        0 => return disk.remove_tree(dir).map(|()| Swept::Nothing),
        3 => {}
        _ => {
            let what = "the mailbox lacks some of its files";
            return Err(ReplicaError::Incomplete { path: dir.to_owned(), what });
        }
    }
    let mut kept = HashSet::new();
    for record in records::open(disk, dir)?.iter().flat_map(|(_, records)| records) {
        let record = record?;
        if !record.is_unlinked() {
            kept.insert(record.uid.0);
        }
    }
    list::sweep_names(disk, dir, &|name| uid_of(name).is_some_and(|uid| !kept.contains(&uid)))?;
    Ok(Swept::Mailbox)
}

/// The UID of a message's file name.
fn uid_of(name: &[u8]) -> Option<u32> {
    let digits = name.strip_suffix(b".")?;
    let plain = digits.iter().all(u8::is_ascii_digit) && !digits.starts_with(b"0");
    std::str::from_utf8(digits).ok().filter(|_| plain)?.parse().ok()
}

/// annotations.db is the only place of what concerns the whole server.
fn load_server_notes(disk: &Disk) -> Result<Vec<Note>> {
    let path = Path::new(ANNOTATIONS_DB);
    let Some(bytes) = disk.read(path)? else { return Ok(Vec::new()) };
    let read = db::read(&bytes).map_err(damaged(path))?;
    let mut notes = Vec::new();
    for (key, value) in &read.entries {
        let parsed = Note::parse(AnnotationDb::Global, key, value, None);
        if let Some((Annotated::Server, note)) = parsed.map_err(damaged(path))? {
            notes.push(note);
        }
    }
    notes.sort();
    Ok(notes)
}
