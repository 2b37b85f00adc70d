//! One record of a twoskip file.

use super::{MAX_LEVEL, WHAT};
use crate::bytes::Reader;
use crate::error::FormatError;

/// Written instead of a length that does not fit; the length itself follows with 64 bits.
pub(super) const LONG_KEY: u16 = u16::MAX;
pub(super) const LONG_VALUE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The list's head.
    Dummy,
    Live,
    /// Stands in the list where something was deleted, on the lowest level only.
    Delete,
    /// Ends a transaction; its pointer is the transaction's start.
    Commit,
}

impl Kind {
    pub(super) const fn letter(self) -> u8 {
        match self {
            Kind::Dummy => b'=',
            Kind::Live => b'+',
            Kind::Delete => b'-',
            Kind::Commit => b'$',
        }
    }

    fn from_letter(letter: u8) -> Option<Self> {
        [Kind::Dummy, Kind::Live, Kind::Delete, Kind::Commit]
            .into_iter()
            .find(|kind| kind.letter() == letter)
    }
}

/// A record whose head is as it was written; its key and value need not be.
#[derive(Clone, Debug)]
pub(super) struct Record<'a> {
    pub offset: u64,
    /// Where the next record may start.
    pub end: u64,
    pub kind: Kind,
    pub key: &'a [u8],
    pub value: &'a [u8],
    /// Links of 8 bytes each, one more than the record's level.
    pub pointers: &'a [u8],
    tail: &'a [u8],
    tail_crc: u32,
}

impl<'a> Record<'a> {
    /// Reads the record at `offset`.
    ///
    /// # Errors
    /// `Damaged` unless it lies whole in `file` and the CRC of its head is right.
    pub(super) fn read(file: &'a [u8], offset: u64) -> Result<Self, FormatError> {
        let bytes = usize::try_from(offset).ok().and_then(|start| file.get(start..));
        let bytes = bytes.unwrap_or_default();
        let mut reader = Reader::at(WHAT, bytes, offset);
        let damaged = |detail: &str| Err(Reader::at(WHAT, bytes, offset).damaged(detail));

        let letter = reader.u8()?;
        let Some(kind) = Kind::from_letter(letter) else {
            return damaged("no record starts like this");
        };
        let level = reader.u8()?;
        if level > MAX_LEVEL {
            return damaged("a record of too high a level");
        }
        let (short_key, short_value) = (reader.u16()?, reader.u32()?);
        let key_len = if short_key == LONG_KEY { reader.u64()? } else { short_key.into() };
        let value_len = if short_value == LONG_VALUE { reader.u64()? } else { short_value.into() };
        let pointers = reader.take((usize::from(level) + 1) * 8)?;
        let head = &bytes[..reader.consumed()];
        if reader.u32()? != crc32fast::hash(head) {
            return damaged("the CRC of a record's head is wrong");
        }
        let tail_crc = reader.u32()?;

        let lengths = usize::try_from(key_len).ok().zip(usize::try_from(value_len).ok());
        let padded = lengths
            .and_then(|(key, value)| key.checked_add(value))
            .and_then(|both| both.checked_next_multiple_of(8));
        let (Some((key_len, value_len)), Some(padded)) = (lengths, padded) else {
            return damaged("a record of impossible length");
        };
        let tail = reader.take(padded)?;
        let (key, behind) = tail.split_at(key_len);
        let value = &behind[..value_len];
        let end = reader.offset();
        Ok(Self { offset, end, kind, key, value, pointers, tail, tail_crc })
    }

    /// Whether key and value are as they were written.
    pub(super) fn tail_is_good(&self) -> bool {
        crc32fast::hash(self.tail) == self.tail_crc
    }

    /// The first pointer: what deletions and commits have to say.
    pub(super) fn target(&self) -> u64 {
        self.slot(0).unwrap_or_default()
    }

    /// The next live record on the lowest level, as of the transaction that ended at
    /// `committed`.
    ///
    /// # Errors
    /// `Damaged` if the list leads into something else.
    pub(super) fn next_live(
        &self,
        file: &'a [u8],
        committed: u64,
    ) -> Result<Option<Self>, FormatError> {
        let Some(mut next) = self.link(committed) else {
            return Err(self.damaged("both links lead behind the last transaction"));
        };
        // A deletion points back at a record that was there before it, so this comes to an end.
        let mut limit = committed;
        loop {
            if next == 0 {
                return Ok(None);
            }
            if next >= limit {
                return Err(self.damaged("a deletion that leads forward"));
            }
            let record = Self::read(file, next)?;
            match record.kind {
                Kind::Live => return Ok(Some(record)),
                Kind::Delete => (limit, next) = (next, record.target()),
                Kind::Dummy | Kind::Commit => {
                    return Err(record.damaged("the list leads to a record that is not in it"));
                }
            }
        }
    }

    /// The links of all levels but the lowest, upwards.
    pub(super) fn higher_links(&self) -> impl Iterator<Item = u64> {
        let (slots, _) = self.pointers.as_chunks::<8>();
        slots.iter().skip(2).map(|slot| u64::from_be_bytes(*slot))
    }

    pub(super) fn damaged(&self, detail: impl Into<String>) -> FormatError {
        Reader::at(WHAT, &[], self.offset).damaged(detail)
    }

    /// The link of the lowest level: of two that are written in turn, the newer one that is not
    /// from an unfinished transaction.
    fn link(&self, committed: u64) -> Option<u64> {
        [self.slot(0), self.slot(1)].into_iter().flatten().filter(|link| *link < committed).max()
    }

    fn slot(&self, index: usize) -> Option<u64> {
        let (slots, _) = self.pointers.as_chunks::<8>();
        slots.get(index).map(|slot| u64::from_be_bytes(*slot))
    }
}
