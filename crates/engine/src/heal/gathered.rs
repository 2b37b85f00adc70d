//! Bytes that are gathered, and compared with a GUID before anybody uses them.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

use model::Guid;
use sha1::{Digest, Sha1};

/// Bytes that are held in memory while they are compared; more go into a temporary file.
const MEMORY_MAX: usize = 4 << 20;

/// Bytes that are compared with a GUID before they are used.
pub(super) struct Gathered {
    wanted: (Guid, u64),
    hash: Sha1,
    size: u64,
    kept: Kept,
}

enum Kept {
    Memory(Vec<u8>),
    File(File),
    /// They are too many to be what is wanted.
    Nothing,
    /// They could not be kept.
    Lost(io::Error),
}

impl Gathered {
    /// Nothing yet of the message of this GUID and size.
    pub fn new(wanted: (Guid, u64)) -> Self {
        Self { wanted, hash: Sha1::new(), size: 0, kept: Kept::Memory(Vec::new()) }
    }

    /// The next bytes.
    pub fn take(&mut self, bytes: &[u8]) {
        self.size += bytes.len() as u64;
        if self.size > self.wanted.1 {
            self.kept = Kept::Nothing;
        }
        self.hash.update(bytes);
        let kept = std::mem::replace(&mut self.kept, Kept::Nothing);
        self.kept = keep(kept, bytes).unwrap_or_else(Kept::Lost);
    }

    /// All that a file has; whether it could be read.
    pub fn pour(&mut self, file: &mut dyn Read) -> bool {
        let mut piece = vec![0; 64 << 10];
        loop {
            match file.read(&mut piece) {
                Ok(0) => return true,
                Ok(read) => self.take(&piece[..read]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
    }

    /// Whether these are the bytes, all of them. That they could not be kept is told by whoever asks for them.
    pub fn is_good(&self) -> bool {
        (Guid(self.hash.clone().finalize().into()), self.size) == self.wanted
    }

    /// What was kept.
    ///
    /// # Errors
    /// If nothing was, or it cannot be read.
    pub fn into_reader(self) -> io::Result<Box<dyn Read>> {
        Ok(match self.kept {
            Kept::Memory(bytes) => Box::new(io::Cursor::new(bytes)),
            Kept::File(mut file) => {
                file.seek(SeekFrom::Start(0))?;
                Box::new(file)
            }
            Kept::Nothing => return Err(io::ErrorKind::InvalidData.into()),
            Kept::Lost(error) => return Err(error),
        })
    }
}

fn keep(kept: Kept, bytes: &[u8]) -> io::Result<Kept> {
    Ok(match kept {
        Kept::Memory(mut held) if held.len() + bytes.len() <= MEMORY_MAX => {
            held.extend_from_slice(bytes);
            Kept::Memory(held)
        }
        Kept::Memory(held) => {
            let mut file = spool::mend::temporary()?;
            file.write_all(&held)?;
            file.write_all(bytes)?;
            Kept::File(file)
        }
        Kept::File(mut file) => {
            file.write_all(bytes)?;
            Kept::File(file)
        }
        nothing => nothing,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn that_bytes_could_not_be_kept_is_no_lack_of_them() {
        let wanted = (Guid(Sha1::digest(b"mail").into()), 4);
        let mut gathered = Gathered::new(wanted);
        gathered.kept = Kept::Lost(io::ErrorKind::StorageFull.into());
        gathered.take(b"mail");
        assert!(gathered.is_good());
        let lost = gathered.into_reader().err().map(|error| error.kind());
        assert_eq!(lost, Some(io::ErrorKind::StorageFull));
    }

    #[test]
    fn only_the_bytes_of_the_guid_are_good() {
        let wanted = (Guid(Sha1::digest(b"mail").into()), 4);
        let gathered = |pieces: &[&[u8]]| {
            let mut gathered = Gathered::new(wanted);
            pieces.iter().for_each(|piece| gathered.take(piece));
            gathered
        };
        assert!(gathered(&[b"ma", b"il"]).is_good());
        for pieces in [[b"mai".as_slice(), b""], [b"mail", b"s"], [b"mala", b""]] {
            assert!(!gathered(&pieces).is_good(), "{pieces:?}");
        }
        let mut text = String::new();
        let mut reader = gathered(&[b"mail"]).into_reader().expect("they are kept");
        reader.read_to_string(&mut text).expect("they are there");
        assert_eq!(text, "mail");
    }
}
