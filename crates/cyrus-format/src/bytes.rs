//! A reader over a slice that cannot run past its end and always knows where it is.

use crate::error::FormatError;

/// Reads big-endian numbers and sub-slices from a slice, front to back.
///
/// Nothing is copied. Every failure is [`FormatError::Damaged`] with the offset in the file, and
/// leaves the reader where it was.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    what: &'static str,
    bytes: &'a [u8],
    pos: usize,
    base: u64,
}

impl<'a> Reader<'a> {
    /// Reads `bytes` from their start; `what` names the kind of file in errors.
    pub fn new(what: &'static str, bytes: &'a [u8]) -> Self {
        Self::at(what, bytes, 0)
    }

    /// Reads `bytes` which start at byte `base` of their file.
    pub fn at(what: &'static str, bytes: &'a [u8], base: u64) -> Self {
        Self { what, bytes, pos: 0, base }
    }

    /// The offset in the file of the next byte.
    pub fn offset(&self) -> u64 {
        // A slice is never longer than isize::MAX, but `base` is anybody's.
        self.base.saturating_add(self.pos as u64)
    }

    /// How many bytes of the slice have been read.
    pub fn consumed(&self) -> usize {
        self.pos
    }

    /// How many bytes are left.
    pub fn remaining(&self) -> usize {
        self.bytes.len() - self.pos
    }

    /// Whether everything has been read.
    pub fn is_empty(&self) -> bool {
        self.remaining() == 0
    }

    /// All bytes that are left, without reading them.
    pub fn rest(&self) -> &'a [u8] {
        &self.bytes[self.pos..]
    }

    /// The next byte, without reading it.
    pub fn peek(&self) -> Option<u8> {
        self.bytes.get(self.pos).copied()
    }

    /// The next `n` bytes.
    ///
    /// # Errors
    /// `Damaged` if fewer are left.
    pub fn take(&mut self, n: usize) -> Result<&'a [u8], FormatError> {
        match self.rest().get(..n) {
            Some(taken) => {
                self.pos += n;
                Ok(taken)
            }
            None => Err(self.damaged(format!("{n} bytes wanted, {} are left", self.remaining()))),
        }
    }

    /// A reader over just the next `n` bytes, which this one skips.
    ///
    /// # Errors
    /// `Damaged` if fewer are left.
    pub fn sub(&mut self, n: usize) -> Result<Reader<'a>, FormatError> {
        let base = self.offset();
        Ok(Reader::at(self.what, self.take(n)?, base))
    }

    /// The bytes before the next `delimiter`, which is read as well but not part of the result.
    ///
    /// # Errors
    /// `Damaged` if there is no such byte in what is left.
    pub fn until(&mut self, delimiter: u8) -> Result<&'a [u8], FormatError> {
        let rest = self.rest();
        match rest.iter().position(|byte| *byte == delimiter) {
            Some(at) => {
                self.pos += at + 1;
                Ok(&rest[..at])
            }
            None => Err(self.damaged(format!("no {:?} until the end", char::from(delimiter)))),
        }
    }

    /// Reads `expected` and nothing else.
    ///
    /// # Errors
    /// `Damaged` if the next bytes are others; nothing is read then.
    pub fn expect(&mut self, expected: &[u8]) -> Result<(), FormatError> {
        if self.rest().starts_with(expected) {
            self.pos += expected.len();
            return Ok(());
        }
        Err(self.damaged(format!("{:?} is missing", String::from_utf8_lossy(expected))))
    }

    /// The next `N` bytes as an array.
    ///
    /// # Errors
    /// `Damaged` if fewer are left.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        match self.rest().first_chunk::<N>() {
            Some(chunk) => {
                self.pos += N;
                Ok(*chunk)
            }
            None => Err(self.damaged(format!("{N} bytes wanted, {} are left", self.remaining()))),
        }
    }

    /// One byte.
    ///
    /// # Errors
    /// `Damaged` at the end.
    pub fn u8(&mut self) -> Result<u8, FormatError> {
        self.array().map(u8::from_be_bytes)
    }

    /// A big-endian number of 16 bits.
    ///
    /// # Errors
    /// `Damaged` if fewer than two bytes are left.
    pub fn u16(&mut self) -> Result<u16, FormatError> {
        self.array().map(u16::from_be_bytes)
    }

    /// A big-endian number of 32 bits.
    ///
    /// # Errors
    /// `Damaged` if fewer than four bytes are left.
    pub fn u32(&mut self) -> Result<u32, FormatError> {
        self.array().map(u32::from_be_bytes)
    }

    /// A big-endian number of 64 bits.
    ///
    /// # Errors
    /// `Damaged` if fewer than eight bytes are left.
    pub fn u64(&mut self) -> Result<u64, FormatError> {
        self.array().map(u64::from_be_bytes)
    }

    /// The error for damage at the next byte.
    pub fn damaged(&self, detail: impl Into<String>) -> FormatError {
        FormatError::Damaged { what: self.what, offset: self.offset(), detail: detail.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_big_endian_and_the_offset_follows() {
        let bytes = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
        let mut reader = Reader::at("test", &bytes, 100);
        assert_eq!(reader.u8(), Ok(1));
        assert_eq!(reader.u16(), Ok(0x0203));
        assert_eq!(reader.u32(), Ok(0x0405_0607));
        assert_eq!(reader.u64(), Ok(0x0809_0a0b_0c0d_0e0f));
        assert_eq!((reader.offset(), reader.consumed(), reader.remaining()), (115, 15, 0));
        assert!(reader.is_empty());
    }

    #[test]
    fn running_past_the_end_names_the_place_and_reads_nothing() {
        let mut reader = Reader::at("test", b"abc", 7);
        assert_eq!(reader.take(1), Ok(b"a".as_slice()));
        let damaged = FormatError::Damaged {
            what: "test",
            offset: 8,
            detail: "4 bytes wanted, 2 are left".to_owned(),
        };
        assert_eq!(reader.u32(), Err(damaged.clone()));
        assert_eq!(reader.take(4), Err(damaged));
        assert!(reader.take(usize::MAX).is_err());
        assert_eq!(reader.rest(), b"bc");
    }

    #[test]
    fn a_sub_reader_ends_where_it_should_and_keeps_the_offset() {
        let mut reader = Reader::new("test", b"abcdef");
        reader.expect(b"ab").expect("they are next");
        let mut inner = reader.sub(2).expect("two are left");
        assert_eq!(inner.offset(), 2);
        assert_eq!(inner.take(2), Ok(b"cd".as_slice()));
        assert!(inner.u8().is_err());
        assert_eq!(reader.peek(), Some(b'e'));
    }

    #[test]
    fn until_reads_the_delimiter_but_does_not_return_it() {
        let mut reader = Reader::new("test", b"one\ntwo");
        assert_eq!(reader.until(b'\n'), Ok(b"one".as_slice()));
        assert!(reader.until(b'\n').is_err());
        assert_eq!(reader.rest(), b"two");
        assert!(reader.expect(b"twofold").is_err());
    }
}
