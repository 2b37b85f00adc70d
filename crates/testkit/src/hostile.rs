//! A disk that forgets at a power cut what was not synced, and not in the order in which it came.
//!
//! The calls of a process are watched, and repeated on a disk in memory that knows of each file and
//! each directory what is durable. What a power cut may leave is then written to a real directory.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::Rng;

/// What [`Disk::run`] has to see, for `strace -e`. Strings have to be in hexadecimal and whole: `-xx`
/// and `-s` with a large number.
pub const CALLS: &str = "trace=openat,close,dup,fcntl,mkdirat,linkat,symlinkat,renameat,renameat2,\
                         unlinkat,write,pwrite64,copy_file_range,lseek,fsync,fdatasync,syncfs";

/// A file, a directory or a symbolic link, by its number.
type Id = usize;
type Names = BTreeMap<Vec<u8>, Id>;

#[derive(Clone, Debug)]
enum Inode {
    File { bytes: Vec<u8>, durable: Vec<u8>, pending: Vec<(usize, Vec<u8>)> },
    Dir { names: Names, durable: Names },
    Link(Vec<u8>),
}

/// A change of directories that is not durable.
#[derive(Clone, Debug)]
struct Change {
    /// Each with a name, and what it stands for then.
    parts: Vec<(Id, Vec<u8>, Option<Id>)>,
}

impl Change {
    fn concerns(&self, dirs: &BTreeSet<Id>) -> bool {
        self.parts.iter().any(|(dir, _, _)| dirs.contains(dir))
    }
}

/// What is open.
#[derive(Clone, Copy, Debug)]
struct Open {
    id: Id,
    at: usize,
}

/// What a power cut does to what is not durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// All of it is lost.
    All,
    /// Names are there, bytes are not.
    Bytes,
    /// Bytes are there, names are not.
    Names,
    /// Nothing is lost.
    Nothing,
    /// Some of it is lost, as this number chooses: for each directory what came last, of each file any
    /// of what was written.
    Some(u64),
}

/// A disk, and the descriptors of the process that uses it.
#[derive(Clone, Debug)]
pub struct Disk {
    inodes: Vec<Inode>,
    pending: Vec<Change>,
    root: Vec<u8>,
    opens: Vec<Open>,
    descriptors: BTreeMap<i64, usize>,
}

const ROOT: Id = 0;

impl Disk {
    /// An empty directory.
    pub fn new(root: &Path) -> Self {
        let dir = Inode::Dir { names: Names::new(), durable: Names::new() };
        Self {
            inodes: vec![dir],
            pending: Vec::new(),
            root: root.as_os_str().as_encoded_bytes().to_vec(),
            opens: Vec::new(),
            descriptors: BTreeMap::new(),
        }
    }

    /// Does what a line of strace says. Returns what was written to standard output, if that was it.
    ///
    /// # Panics
    ///
    /// If it says something that this does not know.
    pub fn run(&mut self, line: &str) -> Option<Vec<u8>> {
        let (name, arguments, result) = parts_of(line)?;
        if result < 0 {
            return None;
        }
        let number = |at: usize| arguments[at].parse().unwrap_or(-1_i64);
        match name {
            "openat" => self.open(&arguments, result),
            "close" => drop(self.descriptors.remove(&number(0))),
            "dup" => self.share(number(0), result),
            "fcntl" if arguments[1].starts_with("F_DUPFD") => self.share(number(0), result),
            "mkdirat" => {
                let dir = Inode::Dir { names: Names::new(), durable: Names::new() };
                self.make(number(0), &bytes_of(arguments[1]), dir);
            }
            "symlinkat" => {
                let link = Inode::Link(bytes_of(arguments[0]));
                self.make(number(1), &bytes_of(arguments[2]), link);
            }
            "linkat" => {
                let from = String::from_utf8(bytes_of(arguments[1])).expect("a path");
                let from = from.strip_prefix("/proc/self/fd/").expect("a descriptor");
                let linked = self.opened(from.parse().expect("a number")).map(|open| open.id);
                if let (Some(dir), Some(linked)) = (self.dir(number(2)), linked) {
                    self.change(vec![(dir, bytes_of(arguments[3]), Some(linked))]);
                }
            }
            "renameat" | "renameat2" => {
                let (from, to) = (self.dir(number(0)), self.dir(number(2)));
                if let (Some(from), Some(to)) = (from, to) {
                    let (old, new) = (bytes_of(arguments[1]), bytes_of(arguments[3]));
                    let moved = self.names(from).get(&old).copied();
                    self.change(vec![(to, new, moved), (from, old, None)]);
                }
            }
            "unlinkat" => {
                if let Some(dir) = self.dir(number(0)) {
                    self.change(vec![(dir, bytes_of(arguments[1]), None)]);
                }
            }
            "write" if number(0) == 1 => return Some(bytes_of(arguments[1])),
            "write" => self.write(number(0), None, &bytes_of(arguments[1])),
            "pwrite64" => {
                let at = arguments[3].parse().expect("an offset");
                self.write(number(0), Some(at), &bytes_of(arguments[1]));
            }
            "copy_file_range" => self.copy(number(0), number(2), result),
            "lseek" => self.seek(number(0), result),
            "fsync" | "fdatasync" => self.sync(number(0)),
            "syncfs" => self.sync_all(number(0)),
            _ => {}
        }
        None
    }

    /// Whether all of it is durable.
    pub fn is_clean(&self) -> bool {
        let is_durable =
            |inode: &Inode| !matches!(inode, Inode::File { pending, .. } if !pending.is_empty());
        self.pending.is_empty() && self.inodes.iter().all(is_durable)
    }

    /// Whether a line would make something durable: what is before it is where a cut hurts most.
    pub fn is_sync(line: &str) -> bool {
        let call = parts_of(line).map(|(name, ..)| name);
        matches!(call, Some("fsync" | "fdatasync" | "syncfs"))
    }

    fn opened(&self, descriptor: i64) -> Option<&Open> {
        self.descriptors.get(&descriptor).map(|at| &self.opens[*at])
    }

    fn dir(&self, descriptor: i64) -> Option<Id> {
        self.opened(descriptor).map(|open| open.id)
    }

    fn names(&self, dir: Id) -> &Names {
        match &self.inodes[dir] {
            Inode::Dir { names, .. } => names,
            other => panic!("{other:?} is no directory"),
        }
    }

    fn open(&mut self, arguments: &[&str], descriptor: i64) {
        self.descriptors.remove(&descriptor);
        let (name, flags) = (bytes_of(arguments[1]), arguments[2]);
        let dir = self.dir(arguments[0].parse().unwrap_or(-1));
        let file = || Inode::File { bytes: Vec::new(), durable: Vec::new(), pending: Vec::new() };
        let id = match dir {
            None if name == self.root => ROOT,
            None => return,
            Some(_) if flags.contains("O_TMPFILE") => {
                self.inodes.push(file());
                self.inodes.len() - 1
            }
            Some(dir) if name == b"." => dir,
            Some(dir) => match self.names(dir).get(&name) {
                Some(id) => *id,
                None => {
                    assert!(flags.contains("O_CREAT"), "{arguments:?} is not there");
                    self.inodes.push(file());
                    self.change(vec![(dir, name, Some(self.inodes.len() - 1))]);
                    self.inodes.len() - 1
                }
            },
        };
        self.opens.push(Open { id, at: 0 });
        self.descriptors.insert(descriptor, self.opens.len() - 1);
    }

    fn share(&mut self, from: i64, to: i64) {
        match self.descriptors.get(&from).copied() {
            Some(open) => drop(self.descriptors.insert(to, open)),
            None => drop(self.descriptors.remove(&to)),
        }
    }

    fn make(&mut self, dir: i64, name: &[u8], inode: Inode) {
        if let Some(dir) = self.dir(dir) {
            self.inodes.push(inode);
            self.change(vec![(dir, name.to_vec(), Some(self.inodes.len() - 1))]);
        }
    }

    fn change(&mut self, parts: Vec<(Id, Vec<u8>, Option<Id>)>) {
        let change = Change { parts };
        change.apply(&mut self.inodes, |inode| match inode {
            Inode::Dir { names, .. } => Some(names),
            _ => None,
        });
        self.pending.push(change);
    }

    fn write(&mut self, descriptor: i64, at: Option<usize>, text: &[u8]) {
        let Some(open) = self.descriptors.get(&descriptor) else { return };
        let open = &mut self.opens[*open];
        let begin = at.unwrap_or(open.at);
        if at.is_none() {
            open.at += text.len();
        }
        if let Inode::File { bytes, pending, .. } = &mut self.inodes[open.id] {
            put(bytes, begin, text);
            pending.push((begin, text.to_vec()));
        }
    }

    fn copy(&mut self, from: i64, to: i64, count: i64) {
        let count = usize::try_from(count).expect("it is not negative");
        let Some(open) = self.descriptors.get(&from).copied() else { return };
        let Open { id, at } = self.opens[open];
        self.opens[open].at += count;
        let Inode::File { bytes, .. } = &self.inodes[id] else { return };
        let copied = bytes[at..at + count].to_vec();
        self.write(to, None, &copied);
    }

    fn seek(&mut self, descriptor: i64, to: i64) {
        if let Some(open) = self.descriptors.get(&descriptor) {
            self.opens[*open].at = usize::try_from(to).expect("it is not negative");
        }
    }

    fn sync(&mut self, descriptor: i64) {
        let Some(id) = self.dir(descriptor) else { return };
        if let Inode::File { bytes, durable, pending } = &mut self.inodes[id] {
            durable.clone_from(bytes);
            pending.clear();
            return;
        }
        let dirs = self.bound_to(id);
        let (done, left) = self.pending.drain(..).partition(|change| change.concerns(&dirs));
        self.pending = left;
        for change in done as Vec<Change> {
            change.apply(&mut self.inodes, durable_names);
        }
    }

    fn sync_all(&mut self, descriptor: i64) {
        if self.dir(descriptor).is_none() {
            return;
        }
        for inode in &mut self.inodes {
            match inode {
                Inode::File { bytes, durable, pending } => {
                    durable.clone_from(bytes);
                    pending.clear();
                }
                Inode::Dir { names, durable } => durable.clone_from(names),
                Inode::Link(_) => {}
            }
        }
        self.pending.clear();
    }

    /// The directories whose changes are durable together with those of this one: between which
    /// something was moved, which is there once at any time.
    fn bound_to(&self, dir: Id) -> BTreeSet<Id> {
        let mut dirs = BTreeSet::from([dir]);
        loop {
            let before = dirs.len();
            for change in &self.pending {
                if change.concerns(&dirs) {
                    dirs.extend(change.parts.iter().map(|(dir, _, _)| *dir));
                }
            }
            if dirs.len() == before {
                return dirs;
            }
        }
    }

    /// Writes to an empty directory what a power cut leaves.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn leave(&self, cut: Cut, to: &Path) -> io::Result<()> {
        let mut left = self.clone();
        let mut rng = match cut {
            Cut::Some(seed) => Rng::new(seed),
            _ => Rng::new(0),
        };
        while let Some(change) = left.pending.first() {
            let dirs = left.bound_to(change.parts[0].0);
            let (bound, others): (Vec<Change>, Vec<Change>) =
                left.pending.drain(..).partition(|change| change.concerns(&dirs));
            left.pending = others;
            let kept = match cut {
                Cut::All | Cut::Names => 0,
                Cut::Bytes | Cut::Nothing => bound.len(),
                Cut::Some(_) => rng.index(bound.len() + 1),
            };
            bound
                .iter()
                .take(kept)
                .for_each(|change| change.apply(&mut left.inodes, durable_names));
        }
        for inode in &mut left.inodes {
            let Inode::File { bytes, durable, pending } = inode else { continue };
            match cut {
                Cut::All | Cut::Bytes => {}
                Cut::Names | Cut::Nothing => durable.clone_from(bytes),
                Cut::Some(_) => {
                    for (at, text) in pending.iter() {
                        if rng.chance(50) {
                            continue;
                        }
                        let whole = rng.chance(70);
                        let length = if whole { text.len() } else { rng.index(text.len() + 1) };
                        put(durable, *at, &text[..length]);
                    }
                }
            }
        }
        left.write_out(ROOT, to, &mut BTreeMap::new())
    }

    fn write_out(
        &self,
        dir: Id,
        to: &Path,
        written: &mut BTreeMap<Id, std::path::PathBuf>,
    ) -> io::Result<()> {
        let Inode::Dir { durable, .. } = &self.inodes[dir] else { return Ok(()) };
        for (name, id) in durable {
            let path = to.join(std::ffi::OsStr::new(&*String::from_utf8_lossy(name)));
            match (&self.inodes[*id], written.get(id)) {
                (Inode::Dir { .. }, _) => {
                    fs::create_dir(&path)?;
                    self.write_out(*id, &path, written)?;
                }
                (Inode::Link(target), _) => {
                    symlink(&*String::from_utf8_lossy(target), &path)?;
                }
                (Inode::File { .. }, Some(first)) => fs::hard_link(first, &path)?,
                (Inode::File { durable, .. }, None) => {
                    fs::write(&path, durable)?;
                    written.insert(*id, path);
                }
            }
        }
        Ok(())
    }
}

impl Change {
    fn apply(&self, inodes: &mut [Inode], names: fn(&mut Inode) -> Option<&mut Names>) {
        for (dir, name, what) in &self.parts {
            let Some(names) = names(&mut inodes[*dir]) else { continue };
            match what {
                Some(id) => drop(names.insert(name.clone(), *id)),
                None => drop(names.remove(name)),
            }
        }
    }
}

fn durable_names(inode: &mut Inode) -> Option<&mut Names> {
    match inode {
        Inode::Dir { durable, .. } => Some(durable),
        _ => None,
    }
}

fn put(bytes: &mut Vec<u8>, at: usize, text: &[u8]) {
    let end = at + text.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[at..end].copy_from_slice(text);
}

/// The call of a line, its arguments and its result; `None` for what is no call.
fn parts_of(line: &str) -> Option<(&str, Vec<&str>, i64)> {
    assert!(!line.contains("<unfinished"), "calls at the same time: {line:.200}");
    let call = line.trim_start_matches(|c: char| c.is_ascii_digit()).trim_start();
    let (name, rest) = call.split_once('(')?;
    let (arguments, result) = rest.rsplit_once(" = ")?;
    let arguments = arguments.trim_end().strip_suffix(')')?;
    // Nothing that is quoted has a comma: it is hexadecimal.
    let result = result.split_whitespace().next()?.parse().ok()?;
    Some((name, arguments.split(", ").collect(), result))
}

/// The bytes of a string in hexadecimal: `"\x2f\x61"`.
fn bytes_of(text: &str) -> Vec<u8> {
    let inner = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    let inner = inner.unwrap_or_else(|| panic!("{text:.80} is not whole"));
    let digits = inner.split("\\x").skip(1);
    digits.map(|digits| u8::from_str_radix(digits, 16).expect("two digits")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> String {
        let digits: String = text.bytes().map(|byte| format!("\\x{byte:02x}")).collect();
        format!("\"{digits}\"")
    }

    /// A file is made without a name, synced, named, and only then its directory is.
    #[test]
    fn what_is_not_synced_is_forgotten() {
        let top = tempfile::tempdir().expect("a directory");
        let mut disk = Disk::new(Path::new("/r"));
        let from = hex("/proc/self/fd/4");
        let lines = [
            format!("7 openat(AT_FDCWD, {}, O_RDONLY|O_DIRECTORY) = 3", hex("/r")),
            format!("7 openat(3, {}, O_RDWR|O_TMPFILE, 0600) = 4", hex(".")),
            format!("7 write(4, {}, 2)   = 2", hex("hi")),
            "7 fsync(4) = 0".to_owned(),
            format!("7 write(4, {}, 1) = 1", hex("!")),
            format!("7 linkat(AT_FDCWD, {from}, 3, {}, AT_SYMLINK_FOLLOW) = 0", hex("a")),
            format!("7 write(1, {}, 1) = 1", hex("x")),
        ];
        for line in &lines[..6] {
            assert_eq!(disk.run(line), None);
        }
        assert_eq!(disk.run(&lines[6]).as_deref(), Some(&b"x"[..]));
        assert!(!disk.is_clean());
        let left = |disk: &Disk, cut: Cut, name: &str| {
            let to = top.path().join(name);
            fs::create_dir(&to).expect("a directory");
            disk.leave(cut, &to).expect("written");
            fs::read_to_string(to.join("a")).ok()
        };
        assert_eq!(left(&disk, Cut::All, "1"), None);
        assert_eq!(left(&disk, Cut::Names, "2"), None);
        assert_eq!(left(&disk, Cut::Bytes, "3").as_deref(), Some("hi"));
        assert_eq!(left(&disk, Cut::Nothing, "4").as_deref(), Some("hi!"));
        disk.run("7 fsync(3) = 0");
        assert_eq!(left(&disk, Cut::All, "5").as_deref(), Some("hi"));
    }
}
