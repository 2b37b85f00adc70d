//! What an index record has to say of the bytes of a message.

use std::io::{self, Read};

use cyrus_format::sent::Sent;
use model::Guid;
use sha1::{Digest as _, Sha1};

/// How much of a header is kept, for the date in it.
const HEAD_MAX: usize = 64 << 10;

/// Bytes that are read at once.
const PIECE: usize = 64 << 10;

/// What is learnt of a message while its bytes pass by (`imap/message.c`: message_create_record).
#[derive(Debug, Default)]
pub struct Digest {
    sha1: Sha1,
    size: u64,
    /// Where the body begins, once its blank line has come.
    header_size: Option<u64>,
    /// How much of CR LF CR LF has just come.
    matched: usize,
    /// The beginning of the header.
    head: Vec<u8>,
}

impl Digest {
    /// Takes all that a reader has.
    ///
    /// # Errors
    /// What keeps it from being read.
    pub fn read(from: &mut impl Read) -> io::Result<Self> {
        let mut digest = Self::default();
        let mut buffer = vec![0; PIECE];
        loop {
            match from.read(&mut buffer) {
                Ok(0) => return Ok(digest),
                Ok(n) => digest.update(&buffer[..n]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.sha1.update(bytes);
        if self.header_size.is_none() {
            let room = HEAD_MAX - self.head.len();
            self.head.extend_from_slice(&bytes[..bytes.len().min(room)]);
            for (at, byte) in bytes.iter().enumerate() {
                self.matched = match (byte, self.matched) {
                    (b'\r', 0 | 2) | (b'\n', 1 | 3) => self.matched + 1,
                    (b'\r', _) => 1,
                    _ => 0,
                };
                if self.matched == 4 {
                    self.header_size = Some(self.size + at as u64 + 1);
                    break;
                }
            }
        }
        self.size += bytes.len() as u64;
    }

    /// How many bytes have come.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Their SHA-1.
    pub fn guid(&self) -> Guid {
        Guid(self.sha1.clone().finalize().into())
    }

    /// Bytes before the body; all of them if there is none.
    pub fn header_size(&self) -> u32 {
        u32::try_from(self.header_size.unwrap_or(self.size)).unwrap_or(u32::MAX)
    }

    /// When the message says that it was sent.
    pub fn sent(&self) -> Option<Sent> {
        let header_size = usize::try_from(self.header_size()).unwrap_or(usize::MAX);
        Sent::of_header(&self.head[..self.head.len().min(header_size)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header_size(pieces: &[&[u8]]) -> u32 {
        let mut digest = Digest::default();
        pieces.iter().for_each(|piece| digest.update(piece));
        digest.header_size()
    }

    #[test]
    fn the_header_ends_behind_its_blank_line() {
        assert_eq!(header_size(&[b"A: b\r\n\r\nbody\r\n\r\n"]), 8);
        assert_eq!(header_size(&[b"A: b\r\n\r", b"\nbody"]), 8);
        assert_eq!(header_size(&[b"A: b\r\r\n\r", b"\r\n\r\n"]), 12);
        assert_eq!(header_size(&[b"A: b\n\nbody"]), 10);
        assert_eq!(header_size(&[]), 0);
    }
}
