//! Old logs: whole files, compressed or not.

use std::collections::VecDeque;
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

/// Old logs by their first stamps, which names of rotated files tell in too many ways; first those
/// that have none.
pub fn in_order(paths: &[PathBuf], now: Time) -> Result<Vec<(Time, PathBuf)>, CliError> {
    let mut dated = Vec::new();
    for path in paths {
        let mut first = None;
        let mut log = Log::open(path, now)?;
        while first.is_none() && log.advance()? {
            first = log.stamp();
        }
        dated.push((first.unwrap_or(Time(i64::MIN)), path.clone()));
    }
    dated.sort_by_key(|(first, _)| *first);
    Ok(dated)
}

/// Gives the lines of all logs in the order of their stamps, where several servers wrote some at the
/// same time. Only those are open that are needed.
pub fn merge(
    logs: Vec<(Time, PathBuf)>,
    now: Time,
    take: &mut dyn FnMut(&[u8]),
) -> Result<(), CliError> {
    let mut pending = VecDeque::from(logs);
    let mut open: Vec<Log> = Vec::new();
    loop {
        let earliest = open.iter().map(|log| log.time).min();
        if let Some((first, path)) = pending.front()
            && earliest.is_none_or(|earliest| *first <= earliest)
        {
            let mut log = Log::open(path, now)?;
            if log.advance()? {
                open.push(log);
            }
            pending.pop_front();
            continue;
        }
        let Some(at) = (0..open.len()).min_by_key(|at| open[*at].time) else { return Ok(()) };
        let others = open.iter().enumerate().filter(|(other, _)| *other != at);
        let limit = others.map(|(_, log)| log.time).chain(pending.front().map(|log| log.0)).min();
        let log = &mut open[at];
        loop {
            take(&log.line);
            if !log.advance()? {
                open.swap_remove(at);
                break;
            }
            if limit.is_some_and(|limit| log.time > limit) {
                break;
            }
        }
    }
}

/// A log that is read line by line.
struct Log {
    path: PathBuf,
    lines: Box<dyn BufRead>,
    reader: LineReader,
    line: Vec<u8>,
    /// The newest stamp so far.
    time: Time,
}

impl Log {
    fn open(path: &Path, now: Time) -> Result<Self, CliError> {
        let lines = open(path).map_err(|error| unreadable(path, error))?;
        let reader = LineReader::new(now);
        let (path, line) = (path.to_owned(), Vec::with_capacity(1024));
        Ok(Self { path, lines, reader, line, time: Time(i64::MIN) })
    }

    /// Goes to the next line; whether there is one.
    fn advance(&mut self) -> Result<bool, CliError> {
        let is_there = next_line(&mut self.lines, &mut self.line);
        let is_there = is_there.map_err(|error| unreadable(&self.path, error))?;
        if is_there && let Some(stamp) = self.stamp() {
            self.time = self.time.max(stamp);
        }
        Ok(is_there)
    }

    /// When the line was written.
    fn stamp(&mut self) -> Option<Time> {
        match super::entry(&self.line) {
            Some(entry) => entry.time,
            None => self.reader.read(&self.line).time,
        }
    }
}

fn unreadable(path: &Path, error: io::Error) -> CliError {
    CliError::failed(format!("cannot read {}", path.display()), error)
        .hint("logs may be plain, gzip, zstd, xz or bzip2")
}

/// Gives every line of what is open, without its end.
pub fn lines_of(lines: &mut impl BufRead, take: &mut dyn FnMut(&[u8])) -> io::Result<()> {
    let mut line = Vec::with_capacity(1024);
    while next_line(lines, &mut line)? {
        take(&line);
    }
    Ok(())
}

/// Reads a line, no further than [`LINE_BYTES_MAX`]; whether there is one.
fn next_line(lines: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    if lines.by_ref().take(LINE_BYTES_MAX as u64).read_until(b'\n', line)? == 0 {
        return Ok(false);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
    } else {
        lines.skip_until(b'\n')?;
    }
    Ok(true)
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
