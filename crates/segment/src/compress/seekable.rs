//! Reading anywhere in a zstd file that has a seek table.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::FRAME;
use super::seek_table::{self, FrameSizes};
use crate::read_at::ReadAt;

/// Decoded frames that are kept: neighbours are wanted together, and several threads read.
const CACHED: usize = 16;

/// Memory of frames that nobody wants any more, kept for the next ones: the kernel takes longer to
/// hand out so much anew than a frame takes to be copied.
const SPARE: usize = 4;

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
    cache: Arc<FrameCache>,
    /// Its number in the cache.
    number: usize,
}

/// Decoded frames of the files that share it: memory is bounded, however many they are.
#[derive(Debug, Default)]
pub struct FrameCache(Mutex<Cached>);

#[derive(Debug, Default)]
struct Cached {
    files: usize,
    /// By the numbers of file and frame; the one that was wanted last is in front.
    frames: VecDeque<((usize, usize), Arc<Slot>)>,
    spare: Vec<Vec<u8>>,
}

/// A frame's content, once somebody has decoded it.
type Slot = Mutex<Option<Arc<Vec<u8>>>>;

impl FrameCache {
    fn lock(&self) -> MutexGuard<'_, Cached> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn holds(&self, key: (usize, usize)) -> bool {
        self.lock().frames.iter().any(|(cached, _)| *cached == key)
    }

    fn slot(&self, key: (usize, usize)) -> Arc<Slot> {
        let mut cached = self.lock();
        let at = cached.frames.iter().position(|(cached, _)| *cached == key);
        let entry = at.and_then(|at| cached.frames.remove(at)).unwrap_or_else(|| {
            while cached.frames.len() >= CACHED {
                cached.forget_last();
            }
            (key, Arc::default())
        });
        let slot = Arc::clone(&entry.1);
        cached.frames.push_front(entry);
        slot
    }

    fn spare(&self) -> Vec<u8> {
        self.lock().spare.pop().unwrap_or_default()
    }
}

impl Cached {
    fn forget_last(&mut self) {
        let slot = self.frames.pop_back().and_then(|(_, slot)| Arc::into_inner(slot));
        let content = slot.and_then(|slot| slot.into_inner().ok().flatten());
        // Somebody may still be reading it.
        let Some(mut memory) = content.and_then(Arc::into_inner) else { return };
        if self.spare.len() < SPARE && memory.capacity() <= FRAME {
            memory.clear();
            self.spare.push(memory);
        }
    }
}

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
        Self::open_sharing(file, &Arc::default())
    }

    /// The same of one of several files that share what is kept of them.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Self::open).
    pub fn open_sharing(file: R, cache: &Arc<FrameCache>) -> Result<Self, SeekableError> {
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
        let (cache, number) = (Arc::clone(cache), cache.lock().files);
        cache.lock().files += 1;
        Ok(Self { file, frames, len, cache, number })
    }

    /// The file.
    pub fn file(&self) -> &R {
        &self.file
    }

    /// Where in the file the frame begins that holds byte `offset` of the content.
    pub fn frame_of(&self, offset: u64) -> u64 {
        self.frames.get(self.index_of(offset)).map_or(0, |frame| frame.at)
    }

    /// The last frame that begins at or before this byte of the content.
    fn index_of(&self, offset: u64) -> usize {
        self.frames.partition_point(|frame| frame.content_at <= offset).saturating_sub(1)
    }

    /// The content of frame number `index`. Who wants one that somebody else decodes waits for it.
    fn content(&self, index: usize) -> io::Result<Arc<Vec<u8>>> {
        let frame = &self.frames[index];
        self.content_or(index, || {
            self.decode(frame, &self.compressed(frame.at, frame.sizes.compressed as usize)?)
        })
    }

    /// The same; if nobody has it, `decode` gives it.
    fn content_or(
        &self,
        index: usize,
        decode: impl FnOnce() -> io::Result<Vec<u8>>,
    ) -> io::Result<Arc<Vec<u8>>> {
        let slot = self.cache.slot((self.number, index));
        let mut content = slot.lock().unwrap_or_else(PoisonError::into_inner);
        match &*content {
            Some(content) => Ok(Arc::clone(content)),
            None => Ok(Arc::clone(content.insert(Arc::new(decode()?)))),
        }
    }

    /// Has these frames decoded. What is missing of them is asked for in one go: where the file is
    /// far away, each question costs more than its answer.
    fn fetch(&self, first: usize, last: usize) -> io::Result<()> {
        let is_cached = |index: usize| self.cache.holds((self.number, index));
        let mut wanted = (first..=last).filter(|index| !is_cached(*index));
        let (Some(first), Some(last)) = (wanted.next(), wanted.next_back()) else { return Ok(()) };
        if last - first >= CACHED {
            return Ok(());
        }
        let (from, end) = (&self.frames[first], &self.frames[last]);
        let len = end.at + u64::from(end.sizes.compressed) - from.at;
        let bytes = self.compressed(from.at, usize::try_from(len).map_err(io::Error::other)?)?;
        for index in first..=last {
            let frame = &self.frames[index];
            // Both lie in what was read, which ends where the last frame does.
            let at = (frame.at - from.at) as usize;
            let compressed = &bytes[at..at + frame.sizes.compressed as usize];
            self.content_or(index, || self.decode(frame, compressed))?;
        }
        Ok(())
    }

    fn compressed(&self, at: u64, len: usize) -> io::Result<Vec<u8>> {
        // No longer than the file, because the table was laid out over it.
        let mut compressed = vec![0; len];
        self.file.read_exact_at(at, &mut compressed)?;
        Ok(compressed)
    }

    fn decode(&self, frame: &Frame, compressed: &[u8]) -> io::Result<Vec<u8>> {
        let expected = frame.sizes.content as usize;
        let mut content = self.cache.spare();
        // A table that lies gets no more than this, and memory that is not written to costs none.
        content.try_reserve_exact(expected)?;
        let decoded = zstd::bulk::Decompressor::new()?
            .decompress_to_buffer(compressed, &mut content)
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
        let mut index = self.index_of(offset);
        let last = self.index_of(end.unwrap_or(offset).saturating_sub(1));
        if last > index {
            self.fetch(index, last)?;
        }
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
