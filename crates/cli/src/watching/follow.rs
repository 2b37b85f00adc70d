//! Log files that grow, and are rotated in one way or the other while they do.
//!
//! A file is known by its first bytes, and not by its name or number: both are given to others when it
//! is rotated. Where a log goes on under another name, or was cut after it was copied, the rest is looked
//! for in the files beside it whose names begin with its own.

use std::cmp::Reverse;
use std::fs::{self, File};
use std::io::{self, BufRead, ErrorKind, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

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
    /// If there are none, when that was found, in milliseconds since 1970: what the log was before
    /// then was no concern of ours.
    opened: u64,
}

/// A log that is read as it grows.
pub struct Follower {
    path: PathBuf,
    now: Option<Open>,
    /// Files that the log was before; whoever writes it may have them still open.
    before: Vec<Open>,
    /// The end of a compressed one, if that is what was read last.
    past: Option<Place>,
    /// When nothing was known of the log yet, or nothing was left of what was known.
    opened: SystemTime,
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
    /// Whether there was nothing more when it was read last.
    is_at_end: bool,
}

/// What was found behind the last byte that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece {
    Some,
    Nothing,
    /// The file was emptied meanwhile, and what was read is not what follows.
    Cut,
}

/// A file that the log was before.
enum Old {
    Plain(Open),
    Packed { head: Vec<u8>, lines: Box<dyn BufRead>, offset: u64 },
}

/// How many old files are kept open for writers that are slow to leave them.
const BEFORE_MAX: usize = 2;

/// The offset of a file that was read to its end, and that nobody writes to.
const ALL: u64 = u64::MAX;

/// So much the stamps of a file system may be behind the clock, in milliseconds.
const COARSE: u64 = 20;

/// How often the files beside a log are looked at anew because one was renamed meanwhile.
const LOOKS_MAX: usize = 20;

impl Place {
    fn new(path: &Path, offset: u64, head: &[u8]) -> Self {
        let (path, hash) = (path.to_owned(), hash_of(head));
        Self { path, offset, head: head.len() as u64, hash, opened: 0 }
    }

    /// Of a log of which nothing was read since that time.
    fn empty(path: &Path, opened: SystemTime) -> Self {
        Self { opened: millis(opened), ..Self::new(path, 0, b"") }
    }

    /// For the state file.
    pub fn json(&self) -> Value {
        json!({
            "path": self.path,
            "offset": self.offset,
            "head": self.head,
            "hash": self.hash,
            "opened": self.opened,
        })
    }

    /// From the state file.
    pub fn from_json(value: &Value) -> Option<Self> {
        Some(Self {
            path: PathBuf::from(value["path"].as_str()?),
            offset: value["offset"].as_u64()?,
            head: value["head"].as_u64()?,
            hash: value["hash"].as_str()?.to_owned(),
            opened: value["opened"].as_u64()?,
        })
    }

    /// Whether a file was written to since nothing was known of the log.
    fn is_before(&self, modified: SystemTime) -> bool {
        millis(modified).saturating_add(COARSE) >= self.opened
    }

    /// Whether a file that begins so is that one.
    fn is_of(&self, head: &[u8]) -> bool {
        let length = usize::try_from(self.head).unwrap_or(usize::MAX);
        head.get(..length).is_some_and(|head| hash_of(head) == self.hash)
    }
}

impl Follower {
    /// Follows a log from its beginning.
    pub fn new(path: &Path) -> Self {
        let (path, opened) = (path.to_owned(), SystemTime::now());
        Self { path, now: None, before: Vec::new(), past: None, opened }
    }

    /// Goes on behind a place. Of what was written since and has been rotated, what is compressed is
    /// given at once.
    ///
    /// # Errors
    ///
    /// If a file cannot be read. The log need not exist.
    pub fn resume(place: &Place, take: &mut dyn FnMut(&[u8])) -> io::Result<Self> {
        let opened = SystemTime::UNIX_EPOCH + Duration::from_millis(place.opened);
        let mut follower = Self { opened, ..Self::new(&place.path) };
        if let Some(mut now) = Open::log(&place.path)?
            && place.head > 0
            && now.file.metadata()?.len() >= place.offset
            && place.is_of(&now.head)
        {
            now.read = place.offset;
            follower.now = Some(now);
            return Ok(follower);
        }
        // If nothing of it is left, or what is left is older, the log itself is all there is.
        let (now, old) = since(place)?;
        follower.queue(old, take)?;
        follower.now = now;
        Ok(follower)
    }

    /// Gives the lines that have come, as far as one piece goes; whether there may be more.
    ///
    /// # Errors
    ///
    /// If a file cannot be read. The log need not exist.
    pub fn read(&mut self, take: &mut dyn FnMut(&[u8])) -> io::Result<bool> {
        for old in &mut self.before {
            if old.read_piece(take)? == Piece::Some {
                return Ok(true);
            }
        }
        let Some(now) = &mut self.now else {
            return if self.path.exists() { self.turn(take) } else { Ok(false) };
        };
        if now.head.is_empty() && now.file.metadata()?.len() > 0 {
            // There is no telling whether these are the first lines since it was empty.
            return self.turn(take);
        }
        match now.read_piece(take)? {
            Piece::Some => Ok(true),
            Piece::Cut => self.restart(take),
            Piece::Nothing if is_at(&self.path, &now.file)? => Ok(false),
            Piece::Nothing => self.turn(take),
        }
    }

    /// The log was cut. What had come before, and was not read yet, is in a copy, if anywhere.
    fn restart(&mut self, take: &mut dyn FnMut(&[u8])) -> io::Result<bool> {
        let Some(cut) = self.now.take() else { return Ok(false) };
        let (now, old) = since(&cut.place(&self.path))?;
        if old.is_empty() {
            cut.end(take);
            self.opened = SystemTime::now();
        }
        self.leave_old(take);
        self.queue(old, take)?;
        self.now = now;
        Ok(true)
    }

    /// The log goes on in another file, or in the last one of several.
    fn turn(&mut self, take: &mut dyn FnMut(&[u8])) -> io::Result<bool> {
        let place = self.place();
        let (now, mut old) = since(&place)?;
        if place.head > 0 {
            // The first has been read already.
            old.drain(..old.len().min(1));
        }
        self.leave_old(take);
        // One of which nothing was read is among those that were found.
        self.before.extend(self.now.take().filter(|last| last.read > 0));
        self.queue(old, take)?;
        self.now = now;
        Ok(true)
    }

    /// Closes those that no writer can still have, once they have been read.
    fn leave_old(&mut self, take: &mut dyn FnMut(&[u8])) {
        while self.before.len() >= BEFORE_MAX {
            self.before.remove(0).end(take);
        }
    }

    /// Lets old files be read before the log, in their order.
    fn queue(&mut self, old: Vec<Old>, take: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        for old in old {
            match old {
                Old::Plain(open) => self.before.push(open),
                Old::Packed { head, lines, offset } => {
                    for mut open in self.before.drain(..) {
                        while open.read_piece(take)? == Piece::Some {}
                        open.end(take);
                    }
                    give(lines, offset, take)?;
                    self.past = Some(Place::new(&self.path, ALL, &head));
                }
            }
        }
        Ok(())
    }

    /// How far the log was read: what is to be kept.
    pub fn place(&self) -> Place {
        let of = |open: &Open| open.place(&self.path);
        if let Some(now) = self.now.as_ref().filter(|now| now.read > 0) {
            // Of what it was before, only ends without a line end may be left.
            return of(now);
        }
        let unread = self.before.iter().find(|old| !old.is_at_end);
        let before = unread.or(self.before.last()).map(of);
        let before = before.or_else(|| self.past.clone());
        before.unwrap_or_else(|| Place::empty(&self.path, self.opened))
    }
}

/// Gives what there is behind an offset.
fn give(mut lines: Box<dyn BufRead>, offset: u64, take: &mut dyn FnMut(&[u8])) -> io::Result<()> {
    io::copy(&mut lines.by_ref().take(offset), &mut io::sink())?;
    logs::lines_of(&mut lines, take)
}

/// The log as it is now, and what it was from a place on: first the file of that place, if it is still
/// there, from that place on.
fn since(place: &Place) -> io::Result<(Option<Open>, Vec<Old>)> {
    let mut look = 0;
    loop {
        // What is renamed or compressed right now is there under another name the next time.
        match look_since(place) {
            Err(error) if error.kind() == ErrorKind::NotFound && look < LOOKS_MAX => look += 1,
            result => return result,
        }
    }
}

fn look_since(place: &Place) -> io::Result<(Option<Open>, Vec<Old>)> {
    // The log first: what it has is read from itself, also if it is just being copied.
    let now = Open::log(&place.path)?;
    let mut heads: Vec<Vec<u8>> = now.iter().map(|now| now.head.clone()).collect();
    let mut old = Vec::new();
    for (path, modified) in siblings(&place.path)? {
        let Some(head) = head_of(&path)? else { continue };
        let offset = match old.is_empty() {
            true if place.head == 0 && !place.is_before(modified) => continue,
            true if place.is_of(&head) => place.offset,
            true => continue,
            false => 0,
        };
        // One that is just being compressed is there twice.
        if heads.iter().all(|known| !is_same(known, &head)) {
            old.push(Old::open(&path, offset, &head)?);
            heads.push(head);
        }
    }
    Ok((now, old))
}

/// The first bytes of what a file holds, whatever compressed it; `None` if that is nothing, or cannot
/// be read yet.
fn head_of(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let mut head = Vec::new();
    match logs::open(path).and_then(|lines| lines.take(HEAD).read_to_end(&mut head)) {
        Ok(_) => Ok(Some(head).filter(|head| !head.is_empty())),
        Err(error) if error.kind() == ErrorKind::NotFound => Err(error),
        Err(_) => Ok(None),
    }
}

/// Whether one of two files may be the copy of the other, by their first bytes.
fn is_same(one: &[u8], other: &[u8]) -> bool {
    let length = one.len().min(other.len());
    length > 0 && one[..length] == other[..length]
}

impl Old {
    fn open(path: &Path, offset: u64, head: &[u8]) -> io::Result<Self> {
        let file = File::open(path)?;
        let mut first = [0; logs::MAGIC_BYTES];
        let length = file.read_at(&mut first, 0)?;
        Ok(match logs::is_plain(&first[..length]) {
            true => Self::Plain(Open { read: offset, ..Open::new(file)? }),
            false => Self::Packed { head: head.to_owned(), lines: logs::open(path)?, offset },
        })
    }
}

impl Open {
    /// From its beginning.
    fn new(file: File) -> io::Result<Self> {
        let mut head = Vec::new();
        let mut piece = [0; HEAD as usize];
        let length = file.read_at(&mut piece, 0)?;
        head.extend_from_slice(&piece[..length]);
        Ok(Self { file, read: 0, rest: Vec::new(), skipped: 0, head, is_at_end: false })
    }

    /// The log itself, if it is there.
    fn log(path: &Path) -> io::Result<Option<Self>> {
        match File::open(path) {
            Ok(file) => Ok(Some(Self::new(file)?)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn place(&self, path: &Path) -> Place {
        let offset = self.read - self.rest.len() as u64 - self.skipped;
        Place::new(path, offset, &self.head)
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

    /// Reads a piece, and gives the lines that end in it.
    fn read_piece(&mut self, take: &mut dyn FnMut(&[u8])) -> io::Result<Piece> {
        let mut piece = vec![0; PIECE];
        let length = self.file.read_at(&mut piece, self.read)?;
        // Behind the reading, as it may have been cut just before it.
        let is_cut = self.was_cut()?;
        self.is_at_end = is_cut || length == 0;
        if is_cut {
            return Ok(Piece::Cut);
        }
        let known = self.head.len() as u64;
        if known < HEAD && self.read <= known {
            let new = &piece[..length.min((HEAD - self.read) as usize)];
            self.head.extend(new.iter().skip((known - self.read) as usize));
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
        Ok(if length > 0 { Piece::Some } else { Piece::Nothing })
    }

    /// A line without an end is one, too, if nothing will follow it.
    fn end(self, take: &mut dyn FnMut(&[u8])) {
        if !self.rest.is_empty() {
            take(&self.rest);
        }
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

/// What a log was before, oldest first: the files beside it that have its name and a mark of rotation.
fn siblings(path: &Path) -> io::Result<Vec<(PathBuf, SystemTime)>> {
    // Whoever rotates a log does so where it lies, and not where a link to it is.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(Vec::new());
    };
    let parent = if parent == Path::new("") { Path::new(".") } else { parent };
    let mut found: Vec<(SystemTime, Reverse<u32>, PathBuf)> = Vec::new();
    for entry in fs::read_dir(parent)? {
        let entry = entry?;
        let other = entry.file_name();
        let number = rotation(name.as_encoded_bytes(), other.as_encoded_bytes());
        let Some(number) = number else { continue };
        let metadata = entry.metadata()?;
        if metadata.is_file() {
            found.push((metadata.modified()?, Reverse(number), entry.path()));
        }
    }
    found.sort();
    Ok(found.into_iter().map(|(modified, _, path)| (path, modified)).collect())
}

/// What compressed logs end with.
const PACKED: [&[u8]; 4] = [b".gz", b".zst", b".xz", b".bz2"];

/// How often a log was rotated, if another file is what it was: `mail.log.2` and `mail.log.2.gz` are
/// older than `mail.log.1`, which the clock of a file system may be too coarse to tell. A date is 0, and
/// stands before or behind the extension. `mail.err` is no older `mail`.
fn rotation(name: &[u8], other: &[u8]) -> Option<u32> {
    let other = PACKED.iter().find_map(|end| other.strip_suffix(*end)).unwrap_or(other);
    let dot = name.iter().rposition(|byte| *byte == b'.').unwrap_or(name.len());
    let (stem, extension) = name.split_at(dot);
    let between = || other.strip_prefix(stem)?.strip_suffix(extension);
    let mark = other.strip_prefix(name).or_else(between)?;
    let (first, rest) = mark.split_first()?;
    let is_known = |byte: &u8| byte.is_ascii_digit() || b".-_:+TZ".contains(byte);
    let is_mark = mark == b".old"
        || (b".-_".contains(first) && rest.first()?.is_ascii_digit() && rest.iter().all(is_known));
    let number = || std::str::from_utf8(mark.strip_prefix(b".")?).ok()?.parse().ok();
    is_mark.then(|| number().unwrap_or(0))
}

/// Milliseconds since 1970.
fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The SHA-1 of some bytes, in hex digits.
fn hash_of(bytes: &[u8]) -> String {
    Sha1::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
