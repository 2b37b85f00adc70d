//! The seek table: how long each frame of a zstd file is, compressed and not.
//!
//! Layout: zstd's contrib/seekable_format, version 0.1.0, without checksums of its own; every
//! frame has one already. A skippable frame holds, little-endian: per frame its compressed and
//! its decompressed size, 4 bytes each; then the number of frames, a byte of flags, and a magic
//! number. So it is found from the end of a file.

use std::io;

use crate::read_at::ReadAt;

const TABLE_MAGIC: u32 = 0x184D_2A5E;
const SEEKABLE_MAGIC: u32 = 0x8F92_EAB1;

/// Magic number and length of a skippable frame.
const HEADER: u64 = 8;
/// Number of frames, flags, magic number.
const FOOTER: u64 = 9;
/// An entry, and the checksum that entries of other programs may have.
const ENTRY: u64 = 8;
const CHECKSUM: u64 = 4;

const HAS_CHECKSUMS: u8 = 0x80;
/// Flags that must not be set, because nobody has said yet what they mean.
const RESERVED: u8 = 0x7c;

/// The most frames that the format allows.
const FRAMES_MAX: u64 = 0x800_0000;

/// The largest frame that is decoded, in bytes of content: frames of ours have 1 MiB, and one
/// that is much larger is read from front to back instead.
pub(super) const CONTENT_MAX: u32 = 64 << 20;

/// The sizes of one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameSizes {
    pub compressed: u32,
    pub content: u32,
}

/// The skippable frame that lists these frames.
pub(super) fn encode(frames: &[FrameSizes]) -> io::Result<Vec<u8>> {
    let count = u32::try_from(frames.len()).ok().filter(|n| u64::from(*n) <= FRAMES_MAX);
    let count = count.ok_or_else(|| io::Error::other("more frames than a seek table can list"))?;
    let length = frames.len() * ENTRY as usize + FOOTER as usize;
    let mut table = Vec::with_capacity(HEADER as usize + length);
    table.extend_from_slice(&TABLE_MAGIC.to_le_bytes());
    // 2^27 entries of 8 bytes are within 32 bits.
    table.extend_from_slice(&(length as u32).to_le_bytes());
    for frame in frames {
        table.extend_from_slice(&frame.compressed.to_le_bytes());
        table.extend_from_slice(&frame.content.to_le_bytes());
    }
    table.extend_from_slice(&count.to_le_bytes());
    table.push(0);
    table.extend_from_slice(&SEEKABLE_MAGIC.to_le_bytes());
    Ok(table)
}

/// What a table that ends at some byte says.
pub(super) struct Table {
    /// Where its file begins: the first of its frames.
    pub start: u64,
    pub frames: Vec<FrameSizes>,
}

/// Reads the table that ends at `end`; `Ok(None)` if none does, or not one that can be used.
pub(super) fn read_before(archive: &dyn ReadAt, end: u64) -> io::Result<Option<Table>> {
    let Some(footer_at) = end.checked_sub(FOOTER) else { return Ok(None) };
    let mut footer = [0; FOOTER as usize];
    archive.read_exact_at(footer_at, &mut footer)?;
    let [n0, n1, n2, n3, flags, magic @ ..] = footer;
    if u32::from_le_bytes(magic) != SEEKABLE_MAGIC || flags & RESERVED != 0 {
        return Ok(None);
    }
    let count = u64::from(u32::from_le_bytes([n0, n1, n2, n3]));
    let entry = ENTRY + if flags & HAS_CHECKSUMS == 0 { 0 } else { CHECKSUM };
    let entries_bytes = count * entry;
    let length = entries_bytes + FOOTER;
    let Some(table_at) = end.checked_sub(HEADER + length) else { return Ok(None) };
    let mut header = [0; HEADER as usize];
    archive.read_exact_at(table_at, &mut header)?;
    let [m0, m1, m2, m3, l0, l1, l2, l3] = header;
    if u32::from_le_bytes([m0, m1, m2, m3]) != TABLE_MAGIC
        || u64::from(u32::from_le_bytes([l0, l1, l2, l3])) != length
    {
        return Ok(None);
    }
    let Some(frames) = read_entries(archive, table_at + HEADER, count, entry)? else {
        return Ok(None);
    };
    let compressed: u64 = frames.iter().map(|frame| u64::from(frame.compressed)).sum();
    Ok(table_at.checked_sub(compressed).map(|start| Table { start, frames }))
}

/// The entries, or `None` if a frame is too large to be decoded at once.
fn read_entries(
    archive: &dyn ReadAt,
    mut at: u64,
    count: u64,
    entry: u64,
) -> io::Result<Option<Vec<FrameSizes>>> {
    let mut frames = Vec::new();
    let mut piece = vec![0; (4096 * entry) as usize];
    let mut left = count;
    while left > 0 {
        let entries = left.min(4096);
        let piece = &mut piece[..(entries * entry) as usize];
        archive.read_exact_at(at, piece)?;
        for bytes in piece.chunks_exact(entry as usize) {
            let [c0, c1, c2, c3, d0, d1, d2, d3, ..] = *bytes else { return Ok(None) };
            let compressed = u32::from_le_bytes([c0, c1, c2, c3]);
            let content = u32::from_le_bytes([d0, d1, d2, d3]);
            if content > CONTENT_MAX {
                return Ok(None);
            }
            frames.push(FrameSizes { compressed, content });
        }
        at += piece.len() as u64;
        left -= entries;
    }
    Ok(Some(frames))
}
