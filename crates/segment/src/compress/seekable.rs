//! Reading anywhere in a zstd file that has a seek table.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use super::seek_table::{self, FrameSizes};
use crate::read_at::ReadAt;

/// Decoded frames that are kept: neighbours are wanted together, and several threads read.
const CACHED: usize = 16;

/// Why a zstd file is not read this way.
#[derive(Debug, thiserror::Error)]
pub enum SeekableError {
    /// It cannot be read.
    #[error("cannot read the seek table of a zstd file")]
    Read(#[from] io::Error),
    /// There is no seek table, or not one that speaks of the whole file. It can still be decoded
    /// from front to back.
    #[error("the zstd file has no seek table that ends at byte {end}")]
    NoTable {
        /// Where one should end.
        end: u64,
    },
}

/// A zstd file, or several one behind the other, as the bytes that they hold.
pub struct SeekableZstd<R> {
    file: R,
    frames: Vec<Frame>,
    len: u64,
    cache: Mutex<VecDeque<(usize, Arc<Slot>)>>,
}

/// A frame's content, once somebody has decoded it.
type Slot = Mutex<Option<Arc<Vec<u8>>>>;

/// A frame: where it is in the file, and where its content is in what the file holds.
#[derive(Clone, Copy)]
struct Frame {
    at: u64,
    content_at: u64,
    sizes: FrameSizes,
}

impl<R: ReadAt> SeekableZstd<R> {
    /// Reads the seek tables, from the end of the file to its start.
    ///
    /// # Errors
    ///
    /// [`SeekableError::NoTable`] if the file is to be decoded in some other way.
    pub fn open(file: R) -> Result<Self, SeekableError> {
        let mut tables = Vec::new();
        let mut end = file.len();
        while end > 0 {
            let table = seek_table::read_before(&file, end)?;
            let table = table.ok_or(SeekableError::NoTable { end })?;
            end = table.start;
            tables.push(table);
        }
        let mut frames = Vec::new();
        let mut len = 0u64;
        for table in tables.iter().rev() {
            let mut at = table.start;
            for sizes in &table.frames {
                // Neither sum overflows: there are fewer than 2^32 frames of less than 2^32 bytes
                // in memory.
                frames.push(Frame { at, content_at: len, sizes: *sizes });
                at += u64::from(sizes.compressed);
                len += u64::from(sizes.content);
            }
        }
        Ok(Self { file, frames, len, cache: Mutex::default() })
    }

    /// The content of frame number `index`. Who wants one that somebody else decodes waits for it.
    fn content(&self, index: usize) -> io::Result<Arc<Vec<u8>>> {
        let slot = self.slot(index);
        let mut content = slot.lock().unwrap_or_else(PoisonError::into_inner);
        match &*content {
            Some(content) => Ok(Arc::clone(content)),
            None => Ok(Arc::clone(content.insert(Arc::new(self.decode(&self.frames[index])?)))),
        }
    }

    fn slot(&self, index: usize) -> Arc<Slot> {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let cached = cache.iter().position(|(cached, _)| *cached == index);
        let entry = cached.and_then(|at| cache.remove(at)).unwrap_or_else(|| {
            cache.truncate(CACHED - 1);
            (index, Arc::default())
        });
        let slot = Arc::clone(&entry.1);
        cache.push_front(entry);
        slot
    }

    fn decode(&self, frame: &Frame) -> io::Result<Vec<u8>> {
        // No longer than the file, because the table was laid out over it.
        let mut compressed = vec![0; frame.sizes.compressed as usize];
        self.file.read_exact_at(frame.at, &mut compressed)?;
        let expected = frame.sizes.content as usize;
        // A table that lies gets no more than this, and memory that is not written to costs none.
        let mut content = Vec::new();
        content.try_reserve_exact(expected)?;
        let decoded = zstd::bulk::Decompressor::new()?
            .decompress_to_buffer(&compressed, &mut content)
            .is_ok_and(|len| len == expected);
        if decoded {
            return Ok(content);
        }
        let detail =
            format!("the zstd frame at byte {} is damaged, or not as long as listed", frame.at);
        Err(io::Error::new(io::ErrorKind::InvalidData, detail))
    }
}

impl<R: ReadAt> ReadAt for SeekableZstd<R> {
    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(buf.len() as u64);
        if end.is_none_or(|end| end > self.len) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // The last frame that begins at or before the offset.
        let mut index = self.frames.partition_point(|frame| frame.content_at <= offset);
        index = index.saturating_sub(1);
        let mut filled = 0;
        while filled < buf.len() {
            let frame = self.frames[index];
            let within = (offset + filled as u64 - frame.content_at) as usize;
            let left = (frame.sizes.content as usize).saturating_sub(within);
            if left > 0 {
                let len = left.min(buf.len() - filled);
                let content = self.content(index)?;
                buf[filled..filled + len].copy_from_slice(&content[within..within + len]);
                filled += len;
            }
            index += 1;
        }
        Ok(())
    }

    fn len(&self) -> u64 {
        self.len
    }
}
