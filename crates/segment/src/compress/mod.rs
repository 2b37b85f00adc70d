//! Compression: streams cut into frames that can be decoded one by one.
//!
//! Both ways of compressing give files that the usual programs read: zstd frames, and gzip
//! members as `pigz -i` makes them. Files concatenate. A zstd file ends with a seek table, so a
//! message in the middle of an archive is had by decoding 1 MiB; gzip has nothing like it, and is
//! read from front to back.

mod decode;
mod seek_table;
mod seekable;
mod writer;

pub use decode::{Decoder, sniff};
pub use seekable::{FrameCache, SeekableError, SeekableZstd};
pub use writer::Writer;

/// How an archive is compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// Independent gzip members.
    Gzip,
    /// Independent zstd frames, with a seek table at the end.
    Zstd,
}

/// Bytes that go into one frame: small enough that reading one message costs little, large
/// enough that frames compress nearly as well as the whole.
pub const FRAME: usize = 1 << 20;
