//! Values that are too many for memory, kept for a while.

use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;

use super::Files;
use super::disk::{Unnamed, io_error};
use super::error::Result;

/// How much is written at a time.
const PIECE: usize = 1 << 16;

/// A file without a name that holds values one behind the other; it is gone when this is dropped.
#[derive(Debug)]
pub struct Scratch {
    unnamed: Unnamed,
    /// What is not in the file yet.
    rest: Vec<u8>,
}

impl Scratch {
    /// Adds a value.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn push(&mut self, value: &[u8]) -> Result<()> {
        self.rest.extend_from_slice(&(value.len() as u64).to_be_bytes());
        self.rest.extend_from_slice(value);
        if self.rest.len() < PIECE {
            return Ok(());
        }
        self.flush()
    }

    fn flush(&mut self) -> Result<()> {
        let file = &mut self.unnamed.file;
        let written = file.seek(SeekFrom::End(0)).and_then(|_| file.write_all(&self.rest));
        written.map_err(io_error("write", Path::new("a scratch file")))?;
        self.rest.clear();
        Ok(())
    }

    /// All values in their order.
    ///
    /// # Errors
    /// If the last of them cannot be written, or any be read.
    pub fn values(&mut self) -> Result<impl Iterator<Item = Result<Vec<u8>>>> {
        let failed = || io_error("read", Path::new("a scratch file"));
        self.flush()?;
        let mut left = self.unnamed.file.stream_position().map_err(failed())?;
        self.unnamed.file.rewind().map_err(failed())?;
        let mut file = BufReader::with_capacity(PIECE, &self.unnamed.file);
        Ok(std::iter::from_fn(move || {
            (left > 0).then(|| {
                let value = read_value(&mut file).map_err(failed())?;
                left = left.saturating_sub(value.len() as u64 + 8);
                Ok(value)
            })
        }))
    }
}

fn read_value(mut file: impl Read) -> io::Result<Vec<u8>> {
    let mut length = [0; 8];
    file.read_exact(&mut length)?;
    let mut value = Vec::new();
    file.take(u64::from_be_bytes(length)).read_to_end(&mut value)?;
    Ok(value)
}

impl Files {
    /// A new scratch file.
    ///
    /// # Errors
    /// If none can be made.
    pub fn scratch(&self) -> Result<Scratch> {
        Ok(Scratch { unnamed: self.disk.unnamed(Path::new("spool"))?, rest: Vec::new() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica::Replica;

    #[test]
    fn values_come_back_as_often_as_they_are_asked_for() {
        let top = tempfile::tempdir().expect("a directory");
        let replica = Replica::open(&top.path().join("replica")).expect("a replica");
        let mut scratch = replica.files().scratch().expect("a file");
        let values: Vec<Vec<u8>> = (0..3000_usize).map(|n| vec![b'x'; n % 97]).collect();
        values.iter().for_each(|value| scratch.push(value).expect("written"));
        for _ in 0..2 {
            let read: Result<Vec<Vec<u8>>> = scratch.values().expect("a file").collect();
            assert_eq!(read.expect("read"), values);
        }
    }
}
