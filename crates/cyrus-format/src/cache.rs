//! cyrus.cache: what Cyrus has parsed out of each message, so that it need not parse it again.
//!
//! All of it can be made anew from the messages. It is read here only to tell whether what
//! cyrus.index points at is there and whole (`imap/mailbox.c`: mailbox_cacherecord, Cyrus 2.3 to
//! 3.13).

use model::{Record, crc};

use crate::bytes::Reader;
use crate::error::FormatError;

const WHAT: &str = "cyrus.cache";

/// How many items a record has.
pub const ITEMS: usize = 10;

/// The items of a record, in the order of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheItem {
    /// The ENVELOPE answer.
    Envelope = 0,
    /// The BODYSTRUCTURE answer.
    BodyStructure = 1,
    /// The BODY answer.
    Body = 2,
    /// Where the parts of the message lie; binary, and not the same in all cache versions.
    Sections = 3,
    /// The headers that clients ask for often.
    Headers = 4,
    /// The addresses of From.
    From = 5,
    /// The addresses of To.
    To = 6,
    /// The addresses of Cc.
    Cc = 7,
    /// The addresses of Bcc.
    Bcc = 8,
    /// The subject.
    Subject = 9,
}

/// One record, borrowed from the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheRecord<'a> {
    raw: &'a [u8],
    items: [&'a [u8]; ITEMS],
}

impl<'a> CacheRecord<'a> {
    /// All bytes, lengths and padding included.
    pub fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// The bytes of one item.
    pub fn item(&self, item: CacheItem) -> &'a [u8] {
        self.items[item as usize]
    }

    /// CRC-32 of all bytes, which the index record repeats since version 12.
    pub fn crc(&self) -> u32 {
        crc::crc32(self.raw)
    }
}

/// What there is to say about the cache record of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheState {
    /// The index points at none.
    Absent,
    /// It is whole and fits the CRC of the index.
    Good,
    /// It is whole; the index has no CRC of it.
    Unchecked,
    /// It is whole but not what the index has the CRC of.
    BadCrc,
}

/// The generation, which cyrus.index repeats: up to Cyrus 2.4 the mailbox cannot be opened if the
/// two differ, later nobody compares them.
///
/// # Errors
/// [`FormatError::Damaged`] if the file is shorter than that.
pub fn generation(file: &[u8]) -> Result<u32, FormatError> {
    Reader::new(WHAT, file).u32()
}

/// The record at `offset`, in bytes from the start of the file.
///
/// # Errors
/// [`FormatError::Damaged`] if there is no room for one.
pub fn record_at(file: &[u8], offset: u64) -> Result<CacheRecord<'_>, FormatError> {
    let mut reader = Reader::new(WHAT, file);
    reader.u32()?;
    let start = usize::try_from(offset).ok().filter(|start| *start >= reader.consumed());
    let rest = start.and_then(|start| file.get(start..)).ok_or_else(|| {
        reader.damaged(format!("a record at {offset} in a file of {} bytes", file.len()))
    })?;
    record_of(rest, offset)
}

/// The record that these bytes begin with, which are those at `offset` of the file: for whoever has
/// only a part of it in memory. More bytes may follow.
///
/// # Errors
/// [`FormatError::Damaged`] if they end within it.
pub fn record_of(bytes: &[u8], offset: u64) -> Result<CacheRecord<'_>, FormatError> {
    let mut reader = Reader::at(WHAT, bytes, offset);
    let mut items = [[].as_slice(); ITEMS];
    for item in &mut items {
        *item = read_item(&mut reader)?;
    }
    Ok(CacheRecord { raw: &bytes[..reader.consumed()], items })
}

/// Looks at the cache record that an index record points at.
///
/// # Errors
/// [`FormatError::Damaged`] if it points at bytes that are no record.
pub fn check(file: &[u8], record: &Record) -> Result<CacheState, FormatError> {
    if record.cache_offset == 0 {
        return Ok(CacheState::Absent);
    }
    let found = record_at(file, record.cache_offset)?;
    Ok(match record.cache_crc {
        0 => CacheState::Unchecked,
        stored if stored == found.crc() => CacheState::Good,
        _ => CacheState::BadCrc,
    })
}

/// A length, that many bytes, and what fills them up to a multiple of four.
fn read_item<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], FormatError> {
    let length = reader.u32()?;
    let Ok(length) = usize::try_from(length) else {
        return Err(reader.damaged(format!("an item of {length} bytes")));
    };
    let item = reader.take(length)?;
    reader.take(length.wrapping_neg() % 4)?;
    Ok(item)
}
