//! One segment within an archive.

use std::cmp::Ordering;
use std::fmt;
use std::io::{self, Read};

use model::Guid;
use model::state::Digest;
use sha1::{Digest as _, Sha1};
use sha2::Sha256;

use super::ReadError;
use crate::bytes::{BLOCK, sha256};
use crate::end::EndBlock;
use crate::manifest::{
    self, Located, Manifest, ManifestHead, MessageTable, ROW, Rows, StoredFile, TableRow,
};
use crate::read_at::ReadAt;

/// The longest manifest: it is held in memory, and 4 GiB speak of 58 million messages.
pub const MANIFEST_MAX: u64 = 4 << 30;

/// Memory is taken in steps of this, as bytes really turn up: a length may lie, and behind a
/// compressed archive there may be much less than it says.
const STEP: usize = 4 << 20;

/// Bytes of a message table that are read at a time.
const ROWS_READ: u64 = 4096 * ROW as u64;

/// A segment of an archive whose end block was found.
#[derive(Clone)]
pub struct SegmentRef<'a> {
    archive: &'a dyn ReadAt,
    start: u64,
    end: EndBlock,
}

impl<'a> SegmentRef<'a> {
    /// The segment whose end block, already decoded, ends before byte `end_at` of the archive;
    /// `None` if it would begin before the archive does.
    pub(super) fn new(archive: &'a dyn ReadAt, end_at: u64, end: EndBlock) -> Option<Self> {
        let start = end_at.checked_sub(end.segment_bytes)?;
        Some(Self { archive, start, end })
    }

    /// The account's component.
    pub fn account(&self) -> &str {
        &self.end.account
    }

    /// Its number; higher than that of the one it continues.
    pub fn seq(&self) -> u32 {
        self.end.seq
    }

    /// Where it begins in its archive.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// Its length.
    pub fn bytes(&self) -> u64 {
        self.end.segment_bytes
    }

    /// What its end block says.
    pub fn end_block(&self) -> &EndBlock {
        &self.end
    }

    /// SHA-256 of its manifest: the segment's identity.
    pub fn manifest_sha256(&self) -> Digest {
        self.end.manifest_sha256
    }

    /// The archive that it is in.
    pub fn archive(&self) -> &'a dyn ReadAt {
        self.archive
    }

    /// Reads the manifest.
    ///
    /// # Errors
    ///
    /// Unless its bytes have the SHA-256 that the end block names, and say the same as it.
    pub fn manifest(&self) -> Result<Manifest, ReadError> {
        let end = &self.end;
        let located = Located { offset: end.manifest_offset, size: end.manifest_bytes };
        if located.size > MANIFEST_MAX {
            return Err(self.out_of_bounds("a manifest".into(), located));
        }
        let bytes = self.read_bytes(located)?;
        let at = self.start + located.offset;
        if sha256(&bytes) != end.manifest_sha256 {
            return Err(self.damaged("the manifest".into(), at, "its SHA-256 is wrong"));
        }
        let wrong = |source| ReadError::Manifest { segment: self.to_string(), at, source };
        let manifest = Manifest::parse(bytes).map_err(wrong)?;
        self.agrees_with(manifest.head())?;
        if end.manifest_offset + manifest.rows_at() != end.rows_offset {
            let detail = "it contradicts the end block";
            return Err(self.damaged("the manifest".into(), at, detail));
        }
        let outside = manifest.table().iter().find(|row| {
            let located = Located { offset: row.offset, size: row.size };
            !self.holds(located)
        });
        if let Some(row) = outside {
            let located = Located { offset: row.offset, size: row.size };
            return Err(self.out_of_bounds(format!("message {}", row.guid), located));
        }
        Ok(manifest)
    }

    /// Reads the manifest without its message table. The SHA-256 covers the table too, so all of
    /// it is read, but no more than the head is kept.
    ///
    /// # Errors
    ///
    /// As for [`manifest`](Self::manifest), except that the rows of the table are not looked at.
    pub fn head(&self) -> Result<ManifestHead, ReadError> {
        let end = &self.end;
        let located = Located { offset: end.manifest_offset, size: end.manifest_bytes };
        let fields = end.rows_offset.checked_sub(end.manifest_offset);
        let fields =
            fields.filter(|fields| *fields <= located.size && located.size <= MANIFEST_MAX);
        let Some(fields) = fields.and_then(|fields| usize::try_from(fields).ok()) else {
            return Err(self.out_of_bounds("a manifest".into(), located));
        };
        let mut hash = Sha256::new();
        let mut line = Vec::new();
        let mut piece = Vec::new();
        let mut read = 0;
        while read < located.size {
            let len = (located.size - read).min(STEP as u64);
            piece.resize(usize::try_from(len).unwrap_or(STEP), 0);
            self.read_at(self.start + located.offset + read, &mut piece)?;
            hash.update(&piece);
            let wanted = fields - line.len();
            line.extend_from_slice(&piece[..wanted.min(piece.len())]);
            read += len;
        }
        let at = self.start + located.offset;
        if Digest(hash.finalize().into()) != end.manifest_sha256 {
            return Err(self.damaged("the manifest".into(), at, "its SHA-256 is wrong"));
        }
        let wrong = |source| ReadError::Manifest { segment: self.to_string(), at, source };
        let head = manifest::parse_fields(&line).map_err(wrong)?;
        self.agrees_with(&head)?;
        Ok(head)
    }

    /// Hands on the rows of the message table, as many at a time as fit into little memory. Their
    /// form is not checked: one that cannot be read is of no message, at the segment's first byte.
    ///
    /// # Errors
    ///
    /// If they cannot be where the end block says, or cannot be read.
    pub fn each_row(&self, mut take: impl FnMut(TableRow)) -> Result<(), ReadError> {
        let table = self.table()?;
        let mut piece = Vec::new();
        let mut read = 0;
        while read < table.size {
            let len = (table.size - read).min(ROWS_READ);
            piece.resize(usize::try_from(len).unwrap_or_default(), 0);
            self.read_at(self.start + table.offset + read, &mut piece)?;
            MessageTable::unchecked(&piece).iter().for_each(&mut take);
            read += len;
        }
        Ok(())
    }

    /// Reads the message table, whose form is not checked.
    ///
    /// # Errors
    ///
    /// Those of [`each_row`](Self::each_row).
    pub fn rows(&self) -> Result<Rows, ReadError> {
        // A table that lies gets no more than this before its bytes are there.
        let hint = self.end.rows.min((STEP / ROW) as u64);
        let mut rows = Rows::with_capacity(usize::try_from(hint).unwrap_or_default());
        self.each_row(|row| rows.push(&row))?;
        Ok(rows)
    }

    /// Looks a message up in the table as it is stored: for a few of them, that costs less than
    /// to read it all.
    ///
    /// # Errors
    ///
    /// Those of [`each_row`](Self::each_row).
    pub fn find(&self, guid: &Guid) -> Result<Option<Located>, ReadError> {
        let table = self.table()?;
        let (mut from, mut to) = (0, self.end.rows);
        let mut row = [0; ROW];
        while from < to {
            let middle = from + (to - from) / 2;
            self.read_at(self.start + table.offset + middle * ROW as u64, &mut row)?;
            match manifest::compare(&row, guid) {
                Ordering::Less => from = middle + 1,
                Ordering::Greater => to = middle,
                Ordering::Equal => return Ok(MessageTable::unchecked(&row).find(guid)),
            }
        }
        Ok(None)
    }

    /// Where the rows are, by what the end block says.
    fn table(&self) -> Result<Located, ReadError> {
        let end = &self.end;
        let size = end.rows.saturating_mul(ROW as u64);
        let located = Located { offset: end.rows_offset, size };
        let fits = end.rows_offset.checked_add(size).is_some_and(|rows_end| {
            end.rows_offset >= end.manifest_offset
                && rows_end <= end.manifest_offset.saturating_add(end.manifest_bytes)
        });
        match fits && end.manifest_bytes <= MANIFEST_MAX {
            true => Ok(located),
            false => Err(self.out_of_bounds("a message table".into(), located)),
        }
    }

    fn agrees_with(&self, head: &ManifestHead) -> Result<(), ReadError> {
        if head.account == self.end.account && head.seq == self.end.seq {
            return Ok(());
        }
        let at = self.start + self.end.manifest_offset;
        Err(self.damaged("the manifest".into(), at, "it contradicts the end block"))
    }

    /// Reads a file that this segment holds.
    ///
    /// # Errors
    ///
    /// Unless its bytes have the SHA-256 that the manifest names.
    pub fn read_file(&self, file: &StoredFile) -> Result<Vec<u8>, ReadError> {
        let located = Located { offset: file.offset, size: file.size };
        if file.seq != self.seq() || !self.holds(located) {
            return Err(self.out_of_bounds(format!("file {}", file.name), located));
        }
        let bytes = self.read_bytes(located)?;
        if sha256(&bytes) != file.sha256 {
            let what = format!("file {}", file.name);
            return Err(self.damaged(what, self.start + file.offset, "its SHA-256 is wrong"));
        }
        Ok(bytes)
    }

    /// Reads a message that this segment holds.
    ///
    /// # Errors
    ///
    /// Unless its bytes have the SHA-1 that is its GUID.
    pub fn message(&self, guid: &Guid, located: Located) -> Result<Vec<u8>, ReadError> {
        if !self.holds(located) {
            return Err(self.out_of_bounds(format!("message {guid}"), located));
        }
        let bytes = self.read_bytes(located)?;
        if Guid(Sha1::digest(&bytes).into()) != *guid {
            return Err(self.wrong_message(guid, located));
        }
        Ok(bytes)
    }

    /// Reads a message of any size bit by bit.
    ///
    /// Only the read that reaches its end can tell whether the bytes were right: until it has
    /// returned 0, nothing that was read may be believed.
    pub fn message_reader(
        &self,
        guid: &Guid,
        located: Located,
    ) -> Result<MessageReader<'a>, ReadError> {
        if !self.holds(located) {
            return Err(self.out_of_bounds(format!("message {guid}"), located));
        }
        let hash = Some(Sha1::new());
        Ok(MessageReader { segment: self.clone(), guid: *guid, located, read: 0, hash })
    }

    /// Whether these bytes can be the content of an entry before the manifest.
    pub(crate) fn holds(&self, located: Located) -> bool {
        let end = located.offset.checked_add(located.size);
        located.offset >= BLOCK
            && located.offset.is_multiple_of(BLOCK)
            && end.is_some_and(|end| end <= self.end.manifest_offset - BLOCK)
    }

    fn read_bytes(&self, located: Located) -> Result<Vec<u8>, ReadError> {
        let Ok(size) = usize::try_from(located.size) else {
            return Err(self.out_of_bounds("something for this machine".into(), located));
        };
        let mut bytes = Vec::new();
        while bytes.len() < size {
            let from = bytes.len();
            let at = self.start + located.offset + from as u64;
            bytes.resize(from + STEP.min(size - from), 0);
            self.read_at(at, &mut bytes[from..])?;
        }
        Ok(bytes)
    }

    fn read_at(&self, at: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        let read = self.archive.read_exact_at(at, buf);
        read.map_err(|source| ReadError::Read { at, source })
    }

    fn wrong_message(&self, guid: &Guid, located: Located) -> ReadError {
        let at = self.start + located.offset;
        self.damaged(format!("message {guid}"), at, "its SHA-1 is wrong")
    }

    pub(crate) fn damaged(&self, what: String, at: u64, detail: &'static str) -> ReadError {
        ReadError::Damaged { what, segment: self.to_string(), at, detail }
    }

    fn out_of_bounds(&self, what: String, located: Located) -> ReadError {
        let Located { offset, size } = located;
        ReadError::OutOfBounds { what, segment: self.to_string(), offset, size }
    }
}

impl fmt::Display for SegmentRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.account(), self.seq())
    }
}

impl fmt::Debug for SegmentRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SegmentRef").field("start", &self.start).field("end", &self.end).finish()
    }
}

/// The bytes of a message, checked when their end is reached.
pub struct MessageReader<'a> {
    segment: SegmentRef<'a>,
    guid: Guid,
    located: Located,
    read: u64,
    hash: Option<Sha1>,
}

impl MessageReader<'_> {
    /// For somebody who hashes the bytes anyway: nothing is checked.
    #[must_use]
    pub fn unchecked(self) -> Self {
        Self { hash: None, ..self }
    }

    fn is_right(&self) -> bool {
        let found = self.hash.as_ref().map(|hash| Guid(hash.clone().finalize().into()));
        found.is_none_or(|found| found == self.guid)
    }
}

impl Read for MessageReader<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        let left = self.located.size - self.read;
        if left == 0 {
            if !self.is_right() {
                let error = self.segment.wrong_message(&self.guid, self.located);
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
            return Ok(0);
        }
        let len = buf.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let at = self.segment.start + self.located.offset + self.read;
        self.segment.archive.read_exact_at(at, &mut buf[..len])?;
        if let Some(hash) = &mut self.hash {
            hash.update(&buf[..len]);
        }
        self.read += len as u64;
        Ok(len)
    }
}
