//! What is about to be stored: its name depends on all of its bytes, so it is kept until then.

use std::fs::File;
use std::io::{self, Write};

use bytes::Bytes;

/// What is kept in memory. What is larger goes to a file that has no name and is gone with the
/// process.
const MEMORY_MAX: usize = 16 << 20;

/// The same where that file only needs a name to be the object.
const MEMORY_MAX_AT_HOME: usize = 1 << 20;

/// Makes a file without a name; says whether it is [at home](Staged::Home).
type MakeFile = Box<dyn FnOnce() -> io::Result<(File, bool)> + Send>;

/// Takes the bytes of an object.
pub struct Stage {
    kept: Kept,
    size: u64,
    memory_max: usize,
    make_file: Option<MakeFile>,
}

/// Where they are.
enum Kept {
    Memory(Vec<u8>),
    File { file: File, at_home: bool },
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
    /// A large one whose bytes are in the store's directory already, in a file without a name.
    Home {
        /// Where its bytes are, from the start.
        file: File,
        /// How many.
        size: u64,
    },
}

impl Stage {
    /// Of nothing yet, for any store. [`Store::stage`](crate::Store::stage) knows of something
    /// cheaper.
    pub fn new() -> Self {
        Self::with(MEMORY_MAX, Box::new(|| Ok((tempfile::tempfile()?, false))))
    }

    /// Of nothing yet, for a store that is a directory, which makes the file if it can.
    pub(crate) fn at_home(make_file: impl FnOnce() -> io::Result<File> + Send + 'static) -> Self {
        let make_file = || match make_file() {
            Ok(file) => Ok((file, true)),
            // Not every file system has files without a name.
            Err(_) => Ok((tempfile::tempfile()?, false)),
        };
        Self::with(MEMORY_MAX_AT_HOME, Box::new(make_file))
    }

    fn with(memory_max: usize, make_file: MakeFile) -> Self {
        Self { kept: Kept::Memory(Vec::new()), size: 0, memory_max, make_file: Some(make_file) }
    }

    /// Nothing more comes.
    pub fn finish(self) -> Staged {
        let size = self.size;
        match self.kept {
            Kept::Memory(bytes) => Staged::Memory(bytes.into()),
            Kept::File { file, at_home: true } => Staged::Home { file, size },
            Kept::File { file, at_home: false } => Staged::File { file, size },
        }
    }

    /// Goes on in a file, once.
    fn overflow(&mut self) -> io::Result<()> {
        let (Kept::Memory(bytes), Some(make_file)) = (&self.kept, self.make_file.take()) else {
            return Ok(());
        };
        let (mut file, at_home) = make_file()?;
        file.write_all(bytes)?;
        self.kept = Kept::File { file, at_home };
        Ok(())
    }
}

impl Default for Stage {
    fn default() -> Self {
        Self::new()
    }
}

impl Write for Stage {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.size + bytes.len() as u64 > self.memory_max as u64 {
            self.overflow()?;
        }
        let written = match &mut self.kept {
            Kept::Memory(kept) => kept.write(bytes)?,
            Kept::File { file, .. } => file.write(bytes)?,
        };
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Staged {
    /// How many bytes there are.
    pub fn size(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::File { size, .. } | Self::Home { size, .. } => *size,
        }
    }
}
