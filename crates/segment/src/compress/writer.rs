//! Compressing a stream on several threads, in order and in bounded memory.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use super::seek_table::{self, FrameSizes};
use super::{Compression, FRAME};

/// zstd's own default: three quarters of the size of gzip at several times its speed.
const ZSTD_LEVEL: i32 = 3;

/// Half the time of the default, and an eighth more bytes. What is faster than that saves no more
/// time of a backup that can be measured, and costs twice as many bytes again.
const ZSTD_LEVEL_QUICK: i32 = 1;

/// gzip's own default.
const GZIP_LEVEL: u32 = 6;

/// Frames under way for each thread: one being compressed, one waiting for it.
const UNDER_WAY: usize = 2;

/// A frame that is ended before it is full has at least this: smaller ones cost more in size than
/// they save in decoding.
const WORTH_A_FRAME: usize = FRAME / 16;

/// Compresses what is written to it and passes it on, frame by frame, in order.
///
/// Memory: some 4 MiB a thread. [`finish`](Self::finish) must be called; what is dropped before
/// ends in the middle, as it should after an error.
pub struct Writer<W: Write> {
    out: W,
    how: Compression,
    /// What is not yet enough for a frame.
    pending: Vec<u8>,
    /// Buffers that were compressed and can be filled again.
    spare: Vec<Vec<u8>>,
    under_way: VecDeque<Receiver<io::Result<Frame>>>,
    workers: Option<Workers>,
    /// For compressing without workers.
    coder: Coder,
    frames: Vec<FrameSizes>,
}

/// A frame, and the buffer that it was made of.
struct Frame {
    compressed: Vec<u8>,
    content: Vec<u8>,
}

type Job = (Vec<u8>, SyncSender<io::Result<Frame>>);

/// Threads that end by themselves when the writer does.
struct Workers {
    jobs: SyncSender<Job>,
    threads: usize,
}

impl<W: Write> Writer<W> {
    /// Compresses with this many threads; with none, on the one that writes.
    pub fn new(out: W, how: Compression, threads: usize) -> Self {
        Self::with_coder(out, Coder::new(how, ZSTD_LEVEL), threads)
    }

    /// Compresses with zstd, where time counts more than size.
    pub fn quick(out: W, threads: usize) -> Self {
        Self::with_coder(out, Coder::new(Compression::Zstd, ZSTD_LEVEL_QUICK), threads)
    }

    fn with_coder(out: W, coder: Coder, threads: usize) -> Self {
        let how = coder.how;
        let workers = if how == Compression::None { None } else { Workers::new(&coder, threads) };
        Self {
            out,
            how,
            pending: Vec::new(),
            spare: Vec::new(),
            under_way: VecDeque::new(),
            workers,
            coder,
            frames: Vec::new(),
        }
    }

    /// Compresses what is left, writes the seek table, flushes, and gives the sink back.
    pub fn finish(mut self) -> io::Result<W> {
        // A stream of nothing has no frame; gzip programs want one member at least.
        let empty = self.frames.is_empty() && self.under_way.is_empty();
        if !self.pending.is_empty() || (empty && self.how == Compression::Gzip) {
            self.send_frame()?;
        }
        while !self.under_way.is_empty() {
            self.write_frame()?;
        }
        if self.how == Compression::Zstd {
            self.out.write_all(&seek_table::encode(&self.frames)?)?;
        }
        self.out.flush()?;
        Ok(self.out)
    }

    /// Has the pending bytes compressed.
    fn send_frame(&mut self) -> io::Result<()> {
        let empty = self.spare.pop().unwrap_or_default();
        let content = std::mem::replace(&mut self.pending, empty);
        let Some(workers) = &self.workers else {
            let frame = self.coder.compress(content)?;
            return self.put_frame(frame);
        };
        let (reply, frame) = sync_channel(1);
        workers.jobs.send((content, reply)).map_err(|_| worker_lost())?;
        self.under_way.push_back(frame);
        if self.under_way.len() >= UNDER_WAY * workers.threads {
            self.write_frame()?;
        }
        Ok(())
    }

    /// Waits for the oldest frame and writes it.
    fn write_frame(&mut self) -> io::Result<()> {
        match self.under_way.pop_front() {
            Some(frame) => frame.recv().map_err(|_| worker_lost())?.and_then(|f| self.put_frame(f)),
            None => Ok(()),
        }
    }

    fn put_frame(&mut self, mut frame: Frame) -> io::Result<()> {
        self.out.write_all(&frame.compressed)?;
        let size = |bytes: &[u8]| u32::try_from(bytes.len()).map_err(io::Error::other);
        self.frames.push(FrameSizes {
            compressed: size(&frame.compressed)?,
            content: size(&frame.content)?,
        });
        frame.content.clear();
        self.spare.push(frame.content);
        Ok(())
    }
}

impl<W: Write> Write for Writer<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if self.how == Compression::None {
            return self.out.write(buf);
        }
        let len = buf.len().min(FRAME - self.pending.len());
        if self.pending.capacity() == 0 {
            self.pending.reserve_exact(FRAME);
        }
        self.pending.extend_from_slice(&buf[..len]);
        if self.pending.len() == FRAME {
            self.send_frame()?;
        }
        Ok(len)
    }

    /// Ends the frame that is being filled, if it is large enough to be worth it, and flushes the
    /// sink. Whoever reads what follows need not decode what went before.
    fn flush(&mut self) -> io::Result<()> {
        if self.pending.len() >= WORTH_A_FRAME {
            self.send_frame()?;
        }
        self.out.flush()
    }
}

impl Workers {
    /// As many threads as there can be, up to this number; `None` if that is none.
    fn new(coder: &Coder, wanted: usize) -> Option<Self> {
        let (jobs, queue) = sync_channel::<Job>(wanted * UNDER_WAY);
        let queue = Arc::new(Mutex::new(queue));
        let spawned = (0..wanted).map_while(|_| {
            let (queue, coder) = (Arc::clone(&queue), Coder::new(coder.how, coder.level));
            thread::Builder::new().spawn(move || work_off(coder, &queue)).ok()
        });
        let threads = spawned.count();
        (threads > 0).then_some(Self { jobs, threads })
    }
}

fn work_off(mut coder: Coder, queue: &Mutex<Receiver<Job>>) {
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((content, reply)) = job else { return };
        // The writer may be gone after an error; then nobody waits for this frame.
        if reply.send(coder.compress(content)).is_err() {
            return;
        }
    }
}

fn worker_lost() -> io::Error {
    io::Error::other("a compressing thread has ended")
}

/// Compresses one frame after the other; zstd's tables are set up once.
struct Coder {
    how: Compression,
    /// Of zstd.
    level: i32,
    zstd: Option<zstd::bulk::Compressor<'static>>,
}

impl Coder {
    fn new(how: Compression, level: i32) -> Self {
        Self { how, level, zstd: None }
    }

    fn compress(&mut self, content: Vec<u8>) -> io::Result<Frame> {
        let compressed = match self.how {
            Compression::None => content.clone(),
            Compression::Gzip => gzip(&content)?,
            Compression::Zstd => self.zstd()?.compress(&content)?,
        };
        Ok(Frame { compressed, content })
    }

    fn zstd(&mut self) -> io::Result<&mut zstd::bulk::Compressor<'static>> {
        let compressor = match self.zstd.take() {
            Some(compressor) => compressor,
            None => {
                let mut compressor = zstd::bulk::Compressor::new(self.level)?;
                compressor.include_checksum(true)?;
                compressor
            }
        };
        Ok(self.zstd.insert(compressor))
    }
}

/// One gzip member, without a name and a time.
fn gzip(content: &[u8]) -> io::Result<Vec<u8>> {
    let level = flate2::Compression::new(GZIP_LEVEL);
    let mut encoder = flate2::write::GzEncoder::new(Vec::with_capacity(FRAME / 2), level);
    encoder.write_all(content)?;
    encoder.finish()
}
