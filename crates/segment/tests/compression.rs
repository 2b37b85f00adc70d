//! Compressed archives: any length, any number of threads, any number of files in a row.

use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

use proptest::prelude::*;
use segment::ReadAt;
use segment::compress::{Compression, Decoder, FRAME, SeekableError, SeekableZstd, Writer, sniff};

/// Bytes that compress to about a half, the same for the same seed.
fn sample(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend((state & 0x0f0f_0f0f_0f0f_0f0f).to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

fn compress(how: Compression, threads: usize, content: &[u8]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), how, threads);
    writer.write_all(content).expect("memory takes it");
    writer.finish().expect("memory takes it")
}

fn decode(how: Compression, file: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    Decoder::new(file, how).expect("a decoder").read_to_end(&mut content).expect("right bytes");
    content
}

#[test]
fn every_way_gives_back_what_went_in() {
    for how in [Compression::None, Compression::Gzip, Compression::Zstd] {
        for len in [0, 1, FRAME - 1, FRAME, FRAME + 1, 3 * FRAME + 17] {
            let content = sample(7, len);
            for threads in [0, 1, 3] {
                let file = compress(how, threads, &content);
                if len > 0 {
                    assert_eq!(sniff(&file), how);
                }
                assert!(decode(how, &file) == content, "{how:?} {len} {threads}");
                if threads == 0 {
                    assert!(file == compress(how, 2, &content), "threads change nothing");
                }
            }
        }
    }
}

#[test]
fn files_in_a_row_are_one_file() {
    let parts = [sample(1, 2 * FRAME + 5), Vec::new(), sample(2, 100), sample(3, FRAME)];
    let whole = parts.concat();
    for how in [Compression::Gzip, Compression::Zstd] {
        let file: Vec<u8> = parts.iter().flat_map(|part| compress(how, 2, part)).collect();
        assert_eq!(sniff(&file), how);
        assert!(decode(how, &file) == whole, "{how:?}");
        if how == Compression::Zstd {
            let seekable = SeekableZstd::open(file).expect("every part has its table");
            assert_eq!(ReadAt::len(&seekable), whole.len() as u64);
            let mut all = vec![0; whole.len()];
            seekable.read_exact_at(0, &mut all).expect("all of it");
            assert!(all == whole);
        }
    }
}

#[test]
fn a_file_without_a_table_is_left_to_the_decoder() {
    let content = sample(9, 1000);
    let plain = zstd::encode_all(content.as_slice(), 3).expect("it compresses");
    let seekable = compress(Compression::Zstd, 1, &content);
    for file in [plain.clone(), [plain.clone(), seekable].concat()] {
        let result = SeekableZstd::open(file.as_slice());
        assert!(matches!(result, Err(SeekableError::NoTable { .. })));
        assert_eq!(decode(Compression::Zstd, &file).len() % 1000, 0);
    }
}

#[test]
fn a_table_that_lies_is_an_error() {
    let content = sample(4, 3 * FRAME);
    let file = compress(Compression::Zstd, 1, &content);
    let table_at = file.len() - 9 - 3 * 8;
    let mut buf = vec![0; content.len()];
    for byte in table_at..file.len() {
        for bit in 0..8 {
            let mut damaged = file.clone();
            damaged[byte] ^= 1 << bit;
            // Either it is seen at once, or no wrong byte is given as a right one.
            if let Ok(seekable) = SeekableZstd::open(damaged)
                && seekable.read_exact_at(0, &mut buf).is_ok()
            {
                assert!(buf == content, "byte {byte} bit {bit}");
            }
        }
    }
}

#[test]
fn a_frame_that_unfolds_to_more_than_listed_is_stopped() {
    let bomb = zstd::encode_all(std::io::repeat(0).take(1 << 28), 19).expect("it compresses");
    let mut file = compress(Compression::Zstd, 0, &[0; 1000]);
    // The honest table with the bomb in the honest frame's place.
    let frames = file.len() - (8 + 8 + 9);
    file.splice(..frames, bomb.iter().copied());
    let entry = bomb.len() + 8;
    file[entry..entry + 4].copy_from_slice(&(bomb.len() as u32).to_le_bytes());
    let seekable = SeekableZstd::open(file).expect("the table is well-formed");
    let error = seekable.read_exact_at(0, &mut [0; 10]).expect_err("it lies");
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
}

#[test]
fn a_cut_file_is_an_error_and_not_a_short_one() {
    let content = sample(6, FRAME + 1000);
    for how in [Compression::Gzip, Compression::Zstd] {
        let file = compress(how, 0, &content);
        // Where the last frame with content ends; the seek table is no content.
        let end = if how == Compression::Zstd { file.len() - (8 + 2 * 8 + 9) } else { file.len() };
        for cut in [1, 3, 20, end / 2, end - 1000, end - 5, end - 1] {
            let mut decoder = Decoder::new(&file[..cut], how).expect("a decoder");
            let mut decoded = Vec::new();
            decoder.read_to_end(&mut decoded).expect_err("it is cut");
            assert!(content.starts_with(&decoded), "{how:?} {cut}");
            assert!(SeekableZstd::open(&file[..cut]).is_err(), "{how:?} {cut}");
        }
    }
}

#[test]
fn an_error_of_the_sink_comes_back() {
    struct Full(usize);
    impl Write for Full {
        fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
            self.0 = self.0.checked_sub(1).ok_or(std::io::ErrorKind::StorageFull)?;
            Ok(buf.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let content = sample(5, 20 * FRAME);
    for how in [Compression::Gzip, Compression::Zstd] {
        for room in [0, 1, 5, 19] {
            let mut writer = Writer::new(Full(room), how, 2);
            let result = writer.write_all(&content).and_then(|()| writer.finish().map(drop));
            let error = result.expect_err("the sink is full");
            assert_eq!(error.kind(), std::io::ErrorKind::StorageFull, "{how:?} {room}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Reading anywhere in a run of files gives what reading all of it gives.
    #[test]
    fn random_reads_are_right(
        lens in proptest::collection::vec(0usize..2 * FRAME, 1..4),
        reads in proptest::collection::vec((0.0..1.0f64, 0usize..FRAME + FRAME / 2), 1..60),
    ) {
        let parts: Vec<Vec<u8>> =
            lens.iter().zip(1..).map(|(len, seed)| sample(seed, *len)).collect();
        let whole = parts.concat();
        let file: Vec<u8> =
            parts.iter().flat_map(|part| compress(Compression::Zstd, 2, part)).collect();
        let seekable = SeekableZstd::open(file).expect("tables");
        for (place, len) in reads {
            let offset = (place * whole.len() as f64) as usize;
            let mut buf = vec![0; len];
            let read = seekable.read_exact_at(offset as u64, &mut buf);
            match whole.get(offset..offset + len) {
                Some(right) => {
                    prop_assert!(read.is_ok());
                    prop_assert!(buf == right);
                }
                None => prop_assert!(read.is_err()),
            }
        }
    }
}

/// A file that counts how often it is read, and how many bytes.
struct Counted {
    file: Vec<u8>,
    reads: AtomicUsize,
    bytes: AtomicUsize,
}

impl Counted {
    fn new(file: Vec<u8>) -> Self {
        Self { file, reads: AtomicUsize::new(0), bytes: AtomicUsize::new(0) }
    }

    /// Reads and bytes since this was asked last.
    fn taken(&self) -> (usize, usize) {
        (self.reads.swap(0, Ordering::Relaxed), self.bytes.swap(0, Ordering::Relaxed))
    }
}

impl ReadAt for &Counted {
    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(buf.len(), Ordering::Relaxed);
        self.file.read_exact_at(offset, buf)
    }

    fn len(&self) -> u64 {
        self.file.len() as u64
    }
}

#[test]
fn readers_of_one_frame_decode_it_once() {
    let content = sample(5, 2 * FRAME);
    let file = compress(Compression::Zstd, 0, &content);
    let counted = Counted::new(file);
    let seekable = SeekableZstd::open(&counted).expect("a seek table");
    counted.taken();
    let begin = Barrier::new(8);
    thread::scope(|scope| {
        for reader in 0..8 {
            let (begin, seekable, content) = (&begin, &seekable, &content);
            scope.spawn(move || {
                begin.wait();
                let mut read = [0; 100];
                seekable.read_exact_at(reader * 1000, &mut read).expect("there");
                assert_eq!(read, content[reader as usize * 1000..][..100]);
            });
        }
    });
    assert_eq!(counted.taken().0, 1);
}

#[test]
fn several_frames_are_asked_for_in_one_go() {
    let content = sample(5, 5 * FRAME);
    let counted = Counted::new(compress(Compression::Zstd, 0, &content));
    let seekable = SeekableZstd::open(&counted).expect("a seek table");
    seekable.read_exact_at(2 * FRAME as u64, &mut [0; 10]).expect("there");
    counted.taken();
    let mut read = vec![0; 4 * FRAME];
    seekable.read_exact_at(100, &mut read).expect("there");
    assert!(read == content[100..][..4 * FRAME]);
    assert_eq!(counted.taken().0, 1);
    seekable.read_exact_at(0, &mut read).expect("there");
    assert_eq!(counted.taken().0, 0, "all of them are kept");
}

#[test]
fn files_that_share_what_is_kept_keep_no_more_than_one() {
    let contents = [1, 3, 5].map(|seed| sample(seed, 10 * FRAME));
    let cache = Arc::default();
    let counted: Vec<Counted> = contents
        .iter()
        .map(|content| Counted::new(compress(Compression::Zstd, 0, content)))
        .collect();
    let open = |file| SeekableZstd::open_sharing(file, &cache).expect("a seek table");
    let files: Vec<_> = counted.iter().map(open).collect();
    let mut byte = [0];
    for (file, content) in files.iter().zip(&contents) {
        for frame in 0..10 {
            let at = frame * FRAME + 1000;
            file.read_exact_at(at as u64, &mut byte).expect("there");
            assert_eq!(byte[0], content[at]);
        }
    }
    for (file, kept) in [(2, true), (0, false)] {
        counted[file].taken();
        files[file].read_exact_at(FRAME as u64 + 7, &mut byte).expect("there");
        assert_eq!(byte[0], contents[file][FRAME + 7]);
        assert_eq!(counted[file].taken().0 == 0, kept, "file {file}");
    }
}

#[test]
fn what_is_compressed_quickly_is_the_same_stream_in_more_bytes() {
    let content = sample(1, 3 * FRAME + 5);
    for threads in [0, 2] {
        let mut writer = Writer::quick(Vec::new(), threads);
        writer.write_all(&content).expect("memory takes it");
        let quick = writer.finish().expect("memory takes it");
        assert!(quick != compress(Compression::Zstd, 0, &content));
        let seekable = SeekableZstd::open(&quick).expect("a seek table");
        let mut read = vec![0; content.len()];
        seekable.read_exact_at(0, &mut read).expect("there");
        assert!(read == content);
    }
}

#[test]
fn what_is_flushed_ends_a_frame_if_it_is_worth_one() {
    for (len, is_worth_it) in [(FRAME / 16 - 1, false), (FRAME / 16, true)] {
        let mut writer = Writer::new(Vec::new(), Compression::Zstd, 1);
        writer.write_all(&sample(3, len)).expect("memory takes it");
        writer.flush().expect("memory takes it");
        writer.write_all(b"what is read first").expect("memory takes it");
        let counted = Counted::new(writer.finish().expect("memory takes it"));
        let seekable = SeekableZstd::open(&counted).expect("a seek table");
        counted.taken();
        let mut last = [0; 18];
        seekable.read_exact_at(len as u64, &mut last).expect("there");
        assert_eq!(last, *b"what is read first");
        assert_eq!(counted.taken().1 < 100, is_worth_it);
    }
}
