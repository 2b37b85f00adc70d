//! Reading a compressed stream from front to back.

use std::io::{self, BufRead, Read};

use flate2::bufread::MultiGzDecoder;

use super::Compression;

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
const ZSTD_MAGIC: [u8; 4] = 0xfd2f_b528_u32.to_le_bytes();

/// Sixteen magic numbers begin frames that every zstd program skips: 0x184D2A50 to 0x184D2A5F.
const SKIPPABLE_MAGIC: [u8; 3] = [0x2a, 0x4d, 0x18];

/// The largest window that a zstd frame may ask memory for, as a power of two: what the `zstd`
/// program allows without being told otherwise, too.
const WINDOW_LOG_MAX: u32 = 27;

/// How a stream is compressed, by its first four bytes or more.
pub fn sniff(first: &[u8]) -> Compression {
    let skippable = first.get(1..4) == Some(&SKIPPABLE_MAGIC) && first[0] & 0xf0 == 0x50;
    if first.starts_with(&GZIP_MAGIC) {
        Compression::Gzip
    } else if first.starts_with(&ZSTD_MAGIC) || skippable {
        Compression::Zstd
    } else {
        Compression::None
    }
}

/// The bytes behind a compressed stream of any number of gzip members or zstd frames.
pub struct Decoder<R: BufRead>(Kind<R>);

enum Kind<R: BufRead> {
    Plain(R),
    Gzip(Box<MultiGzDecoder<R>>),
    Zstd(Box<zstd::Decoder<'static, R>>),
}

impl<R: BufRead> Decoder<R> {
    /// Decodes what was compressed in this way.
    ///
    /// # Errors
    ///
    /// If there is no memory for the decoder.
    pub fn new(input: R, compression: Compression) -> io::Result<Self> {
        Ok(Self(match compression {
            Compression::None => Kind::Plain(input),
            Compression::Gzip => Kind::Gzip(Box::new(MultiGzDecoder::new(input))),
            Compression::Zstd => {
                let mut decoder = zstd::Decoder::with_buffer(input)?;
                decoder.window_log_max(WINDOW_LOG_MAX)?;
                Kind::Zstd(Box::new(decoder))
            }
        }))
    }
}

impl<R: BufRead> Read for Decoder<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match &mut self.0 {
            Kind::Plain(input) => input.read(buf),
            Kind::Gzip(decoder) => decoder.read(buf),
            Kind::Zstd(decoder) => decoder.read(buf),
        }
    }
}
