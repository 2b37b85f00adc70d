//! Log files that grow, and are rotated in one way or the other while they do.
//!
//! A file is known by its first bytes, and not by its name or number: both are given to others when it
//! is rotated. Where a log goes on under another name, or was cut after it was copied, the rest is looked
//! for in the files beside it whose names begin with its own.

use std::cmp::Reverse;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde_json::{Value, json};
use sha1::{Digest, Sha1};

use super::logs::{self, LINE_BYTES_MAX};

/// So many bytes at the beginning make a file known.
const HEAD: u64 = 1024;

/// So many bytes are read at a time.
const PIECE: usize = 256 << 10;

/// How far a log was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The log.
    pub path: PathBuf,
    /// Where the next line begins, in bytes.
    pub offset: u64,
    /// How many of the first bytes are hashed.
    head: u64,
    /// Their SHA-1, in hex digits.
    hash: String,
}

/// A log that is read as it grows.
pub struct Follower {
    path: PathBuf,
    now: Option<Open>,
    /// Files that the log was before; whoever writes it may have them still open.
    before: Vec<Open>,
}

/// A file at hand.
struct Open {
    file: File,
    /// How many bytes were read.
    read: u64,
    /// What was read of a line without an end.
    rest: Vec<u8>,
    /// How many bytes of that line were passed over, as it is too long.
    skipped: u64,
    /// The first bytes, as they were when they were read.
    head: Vec<u8>,
}

/// How many old files are kept open for writers that are slow to leave them.
const BEFORE_MAX: usize = 2;

impl Place {
    /// For the state file.
    pub fn json(&self) -> Value {
        json!({ "path": self.path, "offset": self.offset, "head": self.head, "hash": self.hash })
    }

    /// From the state file.
    pub fn from_json(value: &Value) -> Option<Self> {
        Some(Self {
            path: PathBuf::from(value["path"].as_str()?),
            offset: value["offset"].as_u64()?,
            head: value["head"].as_u64()?,
            hash: value["hash"].as_str()?.to_owned(),
        })
    }

    /// Whether a file begins like that one.
    fn is_of(&self, file: &mut impl Read) -> io::Result<bool> {
        Ok(hash_of(file, self.head)?.is_some_and(|hash| hash == self.hash))
    }
}

impl Follower {
    /// Follows a log from its beginning.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), now: None, before: Vec::new() }
    }

    /// Goes on behind a place. What was written since and has been rotated is given at once.
    ///
    /// # Errors
    ///
    /// If a file cannot be read. The log need not exist.
    pub fn resume(place: &Place, take: &mut dyn FnMut(&[u8])) -> io::Result<Self> {
        let mut follower = Self::new(&place.path);
        if let Some(file) = open_log(&place.path)?
            && file.metadata()?.len() >= place.offset
            && place.is_of(&mut &file)?
        {
            follower.now = Some(Open::at(file, place.offset)?);
            return Ok(follower);
        }
        let mut siblings = siblings(&place.path)?;
        let mut at = None;
        for (index, path) in siblings.iter().enumerate() {
            if place.is_of(&mut logs::open(path)?)? {
                at = Some(index);
            }
        }
        // Nothing of it is left, or what is left is older: the log itself is all there is.
        let Some(at) = at else { return Ok(follower) };
        let mut skip = place.offset;
        for path in siblings.drain(at..) {
            give_rest(&path, skip, take)?;
            skip = 0;
        }
        Ok(follower)
    }

    /// Gives the lines that have come, as far as one piece goes; whether there may be more.
    ///
    /// # Errors
    ///
    /// If a file cannot be read. The log need not exist.
    pub fn read(&mut self, take: &mut dyn FnMut(&[u8])) -> io::Result<bool> {
        for old in &mut self.before {
            if old.read_piece(take)? {
                return Ok(true);
            }
        }
        let Some(now) = &mut self.now else {
            self.now = open_log(&self.path)?.map(|file| Open::at(file, 0)).transpose()?;
            return Ok(self.now.is_some());
        };
        if now.was_cut()? {
            return self.restart(take);
        }
        if now.read_piece(take)? {
            return Ok(true);
        }
        if is_at(&self.path, &now.file)? {
            return Ok(false);
        }
        self.before.extend(self.now.take());
        if self.before.len() > BEFORE_MAX {
            self.before.remove(0).end(take);
        }
        Ok(true)
    }

    /// The log was cut. What had come before, and was not read yet, is in a copy, if anywhere.
    fn restart(&mut self, take: &mut dyn FnMut(&[u8])) -> io::Result<bool> {
        let Some(mut now) = self.now.take() else { return Ok(false) };
        // The newest copy is the one that was made when it was cut.
        if let Some(path) = siblings(&self.path)?.pop() {
            let begin = now.read - now.rest.len() as u64 - now.skipped;
            if fs::metadata(&path)?.len() >= begin {
                give_rest(&path, begin, take)?;
                now.rest.clear();
            }
        }
        now.end(take);
        self.now = open_log(&self.path)?.map(|file| Open::at(file, 0)).transpose()?;
        Ok(true)
    }

    /// How far the log was read: what is to be kept.
    ///
    /// # Errors
    ///
    /// If the file cannot be read.
    pub fn place(&self) -> io::Result<Option<Place>> {
        // Of files that were the log before, only ends without a line end may be left.
        let Some(now) = &self.now else { return Ok(None) };
        let offset = now.read - now.rest.len() as u64 - now.skipped;
        let head = offset.min(now.head.len() as u64);
        let hash = hash_of(&mut &now.head[..], head)?.unwrap_or_default();
        Ok(Some(Place { path: self.path.clone(), offset, head, hash }))
    }
}

impl Open {
    fn at(file: File, offset: u64) -> io::Result<Self> {
        let mut head = vec![0; offset.min(HEAD) as usize];
        file.read_exact_at(&mut head, 0)?;
        Ok(Self { file, read: offset, rest: Vec::new(), skipped: 0, head })
    }

    /// Whether it was emptied, however much has been written to it since.
    fn was_cut(&self) -> io::Result<bool> {
        let mut head = vec![0; self.head.len()];
        match self.file.read_exact_at(&mut head, 0) {
            Ok(()) => Ok(head != self.head || self.file.metadata()?.len() < self.read),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Reads a piece, and gives the lines that end in it; whether there was anything.
    fn read_piece(&mut self, take: &mut dyn FnMut(&[u8])) -> io::Result<bool> {
        let mut piece = vec![0; PIECE];
        let length = self.file.read_at(&mut piece, self.read)?;
        let missing = HEAD as usize - self.head.len();
        if missing > 0 && self.read == self.head.len() as u64 {
            self.head.extend_from_slice(&piece[..length.min(missing)]);
        }
        self.read += length as u64;
        for part in piece[..length].split_inclusive(|byte| *byte == b'\n') {
            let (text, ends) = match part.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (part, false),
            };
            let room = LINE_BYTES_MAX - self.rest.len();
            self.rest.extend_from_slice(&text[..text.len().min(room)]);
            self.skipped += text.len().saturating_sub(room) as u64;
            if ends {
                take(&self.rest);
                self.rest.clear();
                self.skipped = 0;
            }
        }
        Ok(length > 0)
    }

    /// A line without an end is one, too, if nothing will follow it.
    fn end(self, take: &mut dyn FnMut(&[u8])) {
        if !self.rest.is_empty() {
            take(&self.rest);
        }
    }
}

fn open_log(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether that file still has that name. If there is none, nothing has taken its place yet.
fn is_at(path: &Path, file: &File) -> io::Result<bool> {
    let mine = file.metadata()?;
    match fs::metadata(path) {
        Ok(found) => Ok((found.dev(), found.ino()) == (mine.dev(), mine.ino())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

/// Files beside a log whose names begin with its own, oldest first.
fn siblings(path: &Path) -> io::Result<Vec<PathBuf>> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(Vec::new());
    };
    let parent = if parent == Path::new("") { Path::new(".") } else { parent };
    let mut found: Vec<(SystemTime, Reverse<u32>, PathBuf)> = Vec::new();
    for entry in fs::read_dir(parent)? {
        let entry = entry?;
        let other = entry.file_name();
        let is_old = other != name
            && other.as_encoded_bytes().starts_with(name.as_encoded_bytes())
            && entry.file_type()?.is_file();
        if is_old {
            let number = rotation(&other.as_encoded_bytes()[name.len()..]);
            found.push((entry.metadata()?.modified()?, Reverse(number), entry.path()));
        }
    }
    found.sort();
    Ok(found.into_iter().map(|(.., path)| path).collect())
}

/// How often a log was rotated, by what stands behind its name: `.2` and `.2.gz` are older than `.1`,
/// which the clock of a file system may be too coarse to tell. 0 if it has no number.
fn rotation(behind: &[u8]) -> u32 {
    let digits = behind.strip_prefix(b".").and_then(|rest| rest.split(|byte| *byte == b'.').next());
    digits.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok()).unwrap_or(0)
}

/// Gives what a file has behind an offset, which is that of its content if it is compressed.
fn give_rest(path: &Path, offset: u64, take: &mut dyn FnMut(&[u8])) -> io::Result<()> {
    let mut lines = logs::open(path)?;
    io::copy(&mut lines.by_ref().take(offset), &mut io::sink())?;
    logs::lines_of(&mut lines, &mut |line| {
        take(line);
        true
    })
}

/// The SHA-1 of the first bytes; `None` if there are not so many.
fn hash_of(file: &mut impl Read, head: u64) -> io::Result<Option<String>> {
    let mut first = Vec::new();
    file.by_ref().take(head).read_to_end(&mut first)?;
    let digest = Sha1::digest(&first);
    let hex = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok((first.len() as u64 == head).then_some(hex))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use tempfile::TempDir;

    use super::*;

    /// A log, who writes it, who follows it, and what he was given.
    struct Stage {
        dir: TempDir,
        follower: Follower,
        written: u32,
        given: Vec<String>,
    }

    impl Stage {
        fn new() -> Self {
            let dir = tempfile::tempdir().expect("a directory");
            let follower = Follower::new(&dir.path().join("log"));
            Self { dir, follower, written: 0, given: Vec::new() }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.dir.path().join(name)
        }

        fn open(&self, name: &str) -> File {
            File::options().create(true).append(true).open(self.path(name)).expect("a log")
        }

        /// Writes so many lines, each a number.
        fn write(&mut self, file: &mut File, lines: u32) {
            for _ in 0..lines {
                self.written += 1;
                file.write_all(format!("line {}\n", self.written).as_bytes()).expect("written");
            }
        }

        fn read(&mut self) {
            let given = &mut self.given;
            let mut take = |line: &[u8]| given.push(String::from_utf8_lossy(line).into_owned());
            while self.follower.read(&mut take).expect("readable") {}
        }

        /// Goes on as after a kill: with the place alone.
        fn restart(&mut self) {
            let place = self.follower.place().expect("readable").expect("a place");
            let place = Place::from_json(&place.json()).expect("a place");
            self.resume(&place);
        }

        fn resume(&mut self, place: &Place) {
            let given = &mut self.given;
            let mut take = |line: &[u8]| given.push(String::from_utf8_lossy(line).into_owned());
            self.follower = Follower::resume(place, &mut take).expect("readable");
        }

        #[track_caller]
        fn assert_each_once(&mut self) {
            self.read();
            let all: Vec<String> = (1..=self.written).map(|n| format!("line {n}")).collect();
            assert_eq!(self.given, all);
        }
    }

    #[test]
    fn a_log_that_is_renamed_is_read_to_its_end() {
        let mut stage = Stage::new();
        let mut old = stage.open("log");
        stage.write(&mut old, 10);
        stage.read();
        fs::rename(stage.path("log"), stage.path("log.1")).expect("renamed");
        stage.write(&mut old, 10);
        stage.read();
        let mut new = stage.open("log");
        stage.read();
        // Its writer has not heard of it yet.
        stage.write(&mut old, 10);
        stage.read();
        stage.write(&mut new, 10);
        stage.assert_each_once();
    }

    #[test]
    fn a_log_that_is_copied_and_cut_is_read_to_its_end() {
        let mut stage = Stage::new();
        let mut log = stage.open("log");
        stage.write(&mut log, 10);
        stage.read();
        stage.write(&mut log, 10);
        fs::copy(stage.path("log"), stage.path("log.1")).expect("copied");
        log.set_len(0).expect("cut");
        // More than there was before, so that its length does not tell.
        stage.write(&mut log, 100);
        stage.assert_each_once();
        log.set_len(0).expect("cut");
        stage.read();
        stage.write(&mut log, 3);
        stage.assert_each_once();
    }

    #[test]
    fn what_was_rotated_while_nobody_watched_is_read_too() {
        let mut stage = Stage::new();
        let mut log = stage.open("log");
        stage.write(&mut log, 10);
        stage.read();
        let place = stage.follower.place().expect("readable").expect("a place");
        stage.write(&mut log, 10);
        let packed = zstd::encode_all(File::open(stage.path("log")).expect("it"), 1).expect("zstd");
        fs::write(stage.path("log.2.zst"), packed).expect("written");
        fs::remove_file(stage.path("log")).expect("removed");
        let mut next = stage.open("log.1");
        stage.write(&mut next, 10);
        let mut newest = stage.open("log");
        stage.write(&mut newest, 10);
        stage.resume(&place);
        stage.assert_each_once();
    }

    #[test]
    fn files_of_one_moment_are_in_the_order_of_their_numbers() {
        let stage = Stage::new();
        let made = SystemTime::UNIX_EPOCH;
        for name in ["log.1", "log.10.gz", "log.2.zst", "log", "log-20261101", "log-20261102"] {
            stage.open(name).set_modified(made).expect("dated");
        }
        let found = siblings(&stage.path("log")).expect("readable");
        let names: Vec<_> = found.iter().filter_map(|path| path.file_name()?.to_str()).collect();
        assert_eq!(names, ["log.10.gz", "log.2.zst", "log.1", "log-20261101", "log-20261102"]);
    }

    #[test]
    fn a_kill_at_any_byte_costs_no_line() {
        let mut stage = Stage::new();
        let mut log = stage.open("log");
        stage.write(&mut log, 3);
        stage.read();
        for byte in b"line 4\nline 5\n" {
            log.write_all(&[*byte]).expect("written");
            stage.read();
            stage.restart();
        }
        stage.written = 5;
        stage.assert_each_once();
    }

    #[test]
    fn a_line_without_an_end_costs_no_memory() {
        let mut stage = Stage::new();
        let mut log = stage.open("log");
        for _ in 0..40 {
            log.write_all(&vec![b'x'; PIECE]).expect("written");
            stage.read();
        }
        let now = stage.follower.now.as_ref().expect("a file");
        assert!(now.rest.capacity() <= 4 * LINE_BYTES_MAX, "{}", now.rest.capacity());
        log.write_all(b"\nnext\n").expect("written");
        stage.read();
        let lengths: Vec<usize> = stage.given.iter().map(String::len).collect();
        assert_eq!(lengths, [LINE_BYTES_MAX, 4]);
    }
}
