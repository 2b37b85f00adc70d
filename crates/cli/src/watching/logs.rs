//! Old logs: whole files, compressed or not.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use logwatch::line::LineReader;
use logwatch::time::Time;
use segment::compress::{Compression, Decoder, sniff};

use crate::error::CliError;

/// A line is read no further than this; what comes behind is passed over.
pub const LINE_BYTES_MAX: usize = 64 << 10;

/// Old logs in the order of their first stamps: names of rotated files tell it in too many ways.
pub fn in_order(paths: &[PathBuf], now: Time) -> Result<Vec<PathBuf>, CliError> {
    let mut dated = Vec::new();
    for path in paths {
        let mut first = None;
        each_line(path, &mut |line| {
            first = match super::entry(line) {
                Some(entry) => entry.time,
                None => LineReader::new(now).read(line).time,
            };
            first.is_none()
        })?;
        dated.push((first, path.clone()));
    }
    dated.sort_by_key(|(first, _)| *first);
    Ok(dated.into_iter().map(|(_, path)| path).collect())
}

/// Gives every line of a file, without its end, until there is enough.
pub fn each_line(path: &Path, take: &mut dyn FnMut(&[u8]) -> bool) -> Result<(), CliError> {
    let read = open(path).and_then(|mut lines| lines_of(&mut lines, take));
    read.map_err(|error| {
        CliError::failed(format!("cannot read {}", path.display()), error)
            .hint("logs may be plain, gzip, zstd, xz or bzip2")
    })
}

/// The same for what is open.
pub fn lines_of(lines: &mut impl BufRead, take: &mut dyn FnMut(&[u8]) -> bool) -> io::Result<()> {
    let mut line = Vec::with_capacity(1024);
    loop {
        line.clear();
        let mut bounded = lines.by_ref().take(LINE_BYTES_MAX as u64);
        if bounded.read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        if line.last() == Some(&b'\n') {
            line.pop();
        } else {
            lines.skip_until(b'\n')?;
        }
        if !take(&line) {
            return Ok(());
        }
    }
}

/// Opens a log, whatever compressed it: gzip and zstd are read here, xz and bzip2 by their programs.
pub fn open(path: &Path) -> io::Result<Box<dyn BufRead>> {
    let mut file = File::open(path)?;
    if file.metadata()?.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let mut first = Vec::with_capacity(MAGIC_BYTES);
    (&mut file).take(MAGIC_BYTES as u64).read_to_end(&mut first)?;
    file.rewind()?;
    if let Some(program) = unpacker(&first) {
        return Ok(Box::new(BufReader::with_capacity(BUFFER, Unpacked::start(program, file)?)));
    }
    let bytes = BufReader::with_capacity(BUFFER, file);
    Ok(Box::new(BufReader::with_capacity(BUFFER, Decoder::new(bytes, sniff(&first))?)))
}

/// So many bytes at the beginning tell what compressed a file.
pub const MAGIC_BYTES: usize = 6;

const BUFFER: usize = 256 << 10;

/// Whether a log is compressed by nothing, by its first bytes.
pub fn is_plain(first: &[u8]) -> bool {
    unpacker(first).is_none() && sniff(first) == Compression::None
}

/// The program that is needed, by the first bytes (xz: doc/xz-file-format.txt; bzip2: `BZh` and the
/// size of its blocks).
fn unpacker(first: &[u8]) -> Option<&'static str> {
    match first {
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some("xz"),
        [b'B', b'Z', b'h', b'1'..=b'9', ..] => Some("bzip2"),
        _ => None,
    }
}

/// What a program makes of a file.
struct Unpacked {
    name: &'static str,
    program: Child,
    bytes: ChildStdout,
}

impl Unpacked {
    fn start(name: &'static str, file: File) -> io::Result<Self> {
        let mut command = Command::new(name);
        command.arg("-dc").stdin(file).stdout(Stdio::piped()).stderr(Stdio::null());
        let needed = |error| io::Error::other(format!("{name} is needed to read it: {error}"));
        let mut program = command.spawn().map_err(needed)?;
        let bytes = program.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        Ok(Self { name, program, bytes })
    }
}

impl Read for Unpacked {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.bytes.read(buffer)?;
        if length == 0 && !buffer.is_empty() {
            let status = self.program.wait()?;
            if !status.success() {
                return Err(io::Error::other(format!("{} ended with {status}", self.name)));
            }
        }
        Ok(length)
    }
}

impl Drop for Unpacked {
    fn drop(&mut self) {
        // Whoever has read enough does not wait for the rest.
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}
