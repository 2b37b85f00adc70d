//! What is about to be stored: its name depends on all of its bytes, so it is kept until then.

use std::fs::File;
use std::io::{self, Write};

use bytes::Bytes;
use tempfile::{SpooledData, SpooledTempFile};

/// What is kept in memory. What is larger goes to a temporary file that has no name and is gone
/// with the process.
const MEMORY_MAX: usize = 16 << 20;

/// Takes the bytes of an object.
pub struct Stage {
    file: SpooledTempFile,
    size: u64,
}

/// The bytes of an object, complete.
pub enum Staged {
    /// A small one.
    Memory(Bytes),
    /// A large one.
    File {
        /// Where its bytes are, from the start.
        file: File,
        /// How many.
        size: u64,
    },
}

impl Stage {
    /// Of nothing yet.
    pub fn new() -> Self {
        Self { file: SpooledTempFile::new(MEMORY_MAX), size: 0 }
    }

    /// Nothing more comes.
    pub fn finish(self) -> Staged {
        match self.file.into_inner() {
            SpooledData::InMemory(bytes) => Staged::Memory(bytes.into_inner().into()),
            SpooledData::OnDisk(file) => Staged::File { file, size: self.size },
        }
    }
}

impl Default for Stage {
    fn default() -> Self {
        Self::new()
    }
}

impl Write for Stage {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.file.write(bytes)?;
        self.size += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Staged {
    /// How many bytes there are.
    pub fn size(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::File { size, .. } => *size,
        }
    }
}
