//! Old logs: whole files, compressed or not.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek};
use std::path::{Path, PathBuf};

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
            .hint("logs may be plain, gzip or zstd")
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

/// Opens a log, whatever compressed it.
pub fn open(path: &Path) -> io::Result<BufReader<Decoder<BufReader<File>>>> {
    let mut file = File::open(path)?;
    if file.metadata()?.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let mut first = Vec::with_capacity(4);
    (&mut file).take(4).read_to_end(&mut first)?;
    file.rewind()?;
    let bytes = BufReader::with_capacity(256 << 10, file);
    Ok(BufReader::with_capacity(256 << 10, Decoder::new(bytes, sniff(&first))?))
}

/// Whether a log is compressed by nothing, by its first four bytes.
pub fn is_plain(first: &[u8]) -> bool {
    sniff(first) == Compression::None
}
