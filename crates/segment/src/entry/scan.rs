//! Entries one after the other, of an archive that may be anything.

use std::io::{self, Read};

use super::Kind;
use super::header::{Block, Header};
use crate::bytes::{BLOCK, padded, printable};
use crate::read_at::ReadAt;

/// The longest extended header that is read. A name of ours needs less than 1 KiB.
const EXTENDED_MAX: u64 = 1 << 20;

/// Where a [`Scan`] gets its bytes.
pub trait Tape {
    /// Reads some bytes; 0 means that there are no more.
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize>;

    /// Passes over `bytes` bytes and says how many there were.
    fn skip(&mut self, bytes: u64) -> io::Result<u64>;
}

/// A pipe, or anything else that can only be read on and on.
pub struct Sequential<R>(pub R);

impl<R: Read> Tape for Sequential<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf)
    }

    fn skip(&mut self, bytes: u64) -> io::Result<u64> {
        io::copy(&mut self.0.by_ref().take(bytes), &mut io::sink())
    }
}

/// A part of an archive whose contents are passed over without being read.
#[derive(Clone, Copy)]
pub struct Random<'a> {
    archive: &'a dyn ReadAt,
    at: u64,
    end: u64,
}

impl<'a> Random<'a> {
    /// From byte `from` to the byte before `to`, or to the archive's end if that is nearer.
    pub fn new(archive: &'a dyn ReadAt, from: u64, to: u64) -> Self {
        let end = to.min(archive.len());
        Self { archive, at: from.min(end), end }
    }
}

impl Tape for Random<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        let len = buf.len().min(left);
        self.archive.read_exact_at(self.at, &mut buf[..len])?;
        self.at += len as u64;
        Ok(len)
    }

    fn skip(&mut self, bytes: u64) -> io::Result<u64> {
        let skipped = bytes.min(self.end - self.at);
        self.at += skipped;
        Ok(skipped)
    }
}

/// An entry, without its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where its first header block begins, extended ones included.
    pub at: u64,
    /// Where its content begins.
    pub content: u64,
    /// Bytes of content.
    pub size: u64,
    /// What it is.
    pub kind: Kind,
    /// Its name, as it stands there: check it before using it.
    pub name: Vec<u8>,
    /// What a link points at, likewise.
    pub link: Vec<u8>,
    /// Modification time in seconds since 1970.
    pub mtime: i64,
}

/// Why a scan cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// The archive cannot be read.
    #[error("cannot read the archive at byte {at}")]
    Read {
        /// Where.
        at: u64,
        /// What was said.
        source: io::Error,
    },
    /// The archive is cut off.
    #[error(
        "the archive ends inside {entry}, which begins at byte {begins}: \
             {missing} bytes are missing at byte {at}"
    )]
    Cut {
        /// The entry that is incomplete.
        entry: String,
        /// Where its header is.
        begins: u64,
        /// The length of the archive.
        at: u64,
        /// How many bytes the entry would still need.
        missing: u64,
    },
    /// Something that is no tar header stands where one should.
    #[error("no tar header at byte {at}, behind {behind}")]
    NoHeader {
        /// Where.
        at: u64,
        /// The entry before.
        behind: String,
    },
    /// A header's field makes no sense.
    #[error("the header of {entry} at byte {at} has a wrong {field}")]
    BadField {
        /// The entry.
        entry: String,
        /// Where its header is.
        at: u64,
        /// Which field.
        field: &'static str,
    },
}

/// Goes through the entries of an archive from front to back.
///
/// ustar, pax and GNU long names are understood. Blocks of zeros between entries, which mark an
/// archive's end, are passed over: archives that other programs closed concatenate as well.
pub struct Scan<T> {
    tape: T,
    /// Where the tape is.
    at: u64,
    /// Content of the current entry that was not read yet, and its padding.
    content_left: u64,
    padding_left: u64,
    /// The entry that was given last: its name and where it begins.
    current: (String, u64),
}

impl<T: Tape> Scan<T> {
    /// Starts at the tape's present place, which is byte `at` of the archive.
    pub fn new(tape: T, at: u64) -> Self {
        let current = ("the start of the archive".to_owned(), at);
        Self { tape, at, content_left: 0, padding_left: 0, current }
    }

    /// The next entry, or `None` at the end of the archive.
    ///
    /// # Errors
    ///
    /// After an error, the scan is over: it does not guess where the next entry might begin.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, ScanError> {
        self.skip_rest()?;
        let mut extended = Extended::default();
        let mut begins = None;
        loop {
            let mut block: Block = [0; BLOCK as usize];
            let at = self.at;
            if !self.read_block(&mut block)? {
                return match begins {
                    None => Ok(None),
                    Some(begins) => Err(self.cut("an extended header".to_owned(), begins, BLOCK)),
                };
            }
            if block.iter().all(|byte| *byte == 0) && begins.is_none() {
                continue;
            }
            let header = Header::parse(&block)
                .ok_or_else(|| ScanError::NoHeader { at, behind: self.current.0.clone() })?;
            let begins = *begins.get_or_insert(at);
            if matches!(header.flag(), b'x' | b'g' | b'L' | b'K') {
                self.read_extended(&header, at, &mut extended)?;
                continue;
            }
            return self.enter(&header, begins, extended).map(Some);
        }
    }

    /// Reads on in the content of the entry that was given last; 0 means that it ends here.
    pub fn read_content(&mut self, buf: &mut [u8]) -> Result<usize, ScanError> {
        let left = usize::try_from(self.content_left).unwrap_or(usize::MAX);
        let len = buf.len().min(left);
        if len == 0 {
            return Ok(0);
        }
        let read = self.read_some(&mut buf[..len])?;
        if read == 0 {
            return Err(self.cut_content());
        }
        self.content_left -= read as u64;
        Ok(read)
    }

    /// Makes an entry of its header and what the extended ones said.
    fn enter(
        &mut self,
        header: &Header<'_>,
        begins: u64,
        extended: Extended,
    ) -> Result<Entry, ScanError> {
        let name = extended.path.unwrap_or_else(|| header.name());
        let shown = printable(&name);
        let bad = |field| ScanError::BadField { entry: shown.clone(), at: begins, field };
        let kind = Kind::from_flag(header.flag());
        let size = extended.size.or_else(|| header.size()).ok_or_else(|| bad("size"))?;
        if size > 0 && !matches!(kind, Kind::File | Kind::Other(_)) {
            return Err(bad("size: links and directories have no content"));
        }
        let padded = padded(size).filter(|padded| self.at.checked_add(*padded).is_some());
        let padded = padded.ok_or_else(|| bad("size"))?;
        self.content_left = size;
        self.padding_left = padded - size;
        self.current = (shown, begins);
        let link = extended.link.unwrap_or_else(|| header.link());
        Ok(Entry { at: begins, content: self.at, size, kind, name, link, mtime: header.mtime() })
    }

    /// Reads a pax header or a GNU long name and remembers what it says.
    fn read_extended(
        &mut self,
        header: &Header<'_>,
        at: u64,
        extended: &mut Extended,
    ) -> Result<(), ScanError> {
        let bad = |field| ScanError::BadField { entry: printable(&header.name()), at, field };
        let size = header.size().filter(|size| *size <= EXTENDED_MAX);
        let size = size.ok_or_else(|| bad("size of an extended header"))?;
        let mut content = Vec::new();
        let mut left = usize::try_from(size).unwrap_or(0);
        // In pieces, so that memory is only taken for what is really there.
        let mut piece = [0; 4096];
        while left > 0 {
            let want = left.min(piece.len());
            let read = self.read_some(&mut piece[..want])?;
            if read == 0 {
                return Err(self.cut("an extended header".to_owned(), at, left as u64));
            }
            content.extend_from_slice(&piece[..read]);
            left -= read;
        }
        self.padding_left = padded(size).unwrap_or(size) - size;
        self.skip_rest()?;
        match header.flag() {
            b'L' => extended.path = Some(until_nul(content)),
            b'K' => extended.link = Some(until_nul(content)),
            // A global header says nothing that matters here: names are never shared.
            b'g' => {}
            _ => extended.add_pax(&content).ok_or_else(|| bad("pax record"))?,
        }
        Ok(())
    }

    /// Passes over what is left of the current entry.
    fn skip_rest(&mut self) -> Result<(), ScanError> {
        let left = self.content_left + self.padding_left;
        let skipped = self.tape.skip(left).map_err(|source| self.read_error(source))?;
        self.at += skipped;
        if skipped < left {
            self.content_left = self.content_left.saturating_sub(skipped);
            return Err(self.cut_content());
        }
        (self.content_left, self.padding_left) = (0, 0);
        Ok(())
    }

    /// Fills the block; `false` if the archive ends before it.
    fn read_block(&mut self, block: &mut Block) -> Result<bool, ScanError> {
        let mut filled = 0;
        while filled < block.len() {
            match self.read_some(&mut block[filled..])? {
                0 if filled == 0 => return Ok(false),
                0 => {
                    let behind = format!("the header behind {}", self.current.0);
                    let begins = self.at - filled as u64;
                    return Err(self.cut(behind, begins, BLOCK - filled as u64));
                }
                read => filled += read,
            }
        }
        Ok(true)
    }

    fn read_some(&mut self, buf: &mut [u8]) -> Result<usize, ScanError> {
        loop {
            match self.tape.read(buf) {
                Ok(read) => {
                    self.at += read as u64;
                    return Ok(read);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.read_error(error)),
            }
        }
    }

    fn read_error(&self, source: io::Error) -> ScanError {
        ScanError::Read { at: self.at, source }
    }

    fn cut(&self, entry: String, begins: u64, missing: u64) -> ScanError {
        ScanError::Cut { entry, begins, at: self.at, missing }
    }

    fn cut_content(&self) -> ScanError {
        let (entry, begins) = self.current.clone();
        self.cut(entry, begins, self.content_left + self.padding_left)
    }
}

/// What extended headers say about the entry that follows them.
#[derive(Default)]
struct Extended {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
}

impl Extended {
    /// Takes the records of a pax header; `None` if they are not well-formed.
    fn add_pax(&mut self, mut records: &[u8]) -> Option<()> {
        while !records.is_empty() {
            let space = records.iter().position(|byte| *byte == b' ')?;
            let length = crate::bytes::parse_decimal(&records[..space])?;
            let (record, rest) = records.split_at_checked(usize::try_from(length).ok()?)?;
            let record = record.get(space + 1..)?.strip_suffix(b"\n")?;
            let equals = record.iter().position(|byte| *byte == b'=')?;
            let value = &record[equals + 1..];
            match &record[..equals] {
                b"path" => self.path = Some(value.to_vec()),
                b"linkpath" => self.link = Some(value.to_vec()),
                b"size" => self.size = Some(crate::bytes::parse_decimal(value)?),
                _ => {}
            }
            records = rest;
        }
        Some(())
    }
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(end) = bytes.iter().position(|byte| *byte == 0) {
        bytes.truncate(end);
    }
    bytes
}
