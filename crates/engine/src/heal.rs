//! Heal: give damaged messages the bytes back that their records tell of.
//!
//! What is damaged, an [audit](crate::audit) says. Good bytes come from another message of the same spool,
//! or from another [place](crate::place). They are gathered and compared with the GUID before anything is
//! changed; where there are none, nothing is.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

use model::Guid;
use peer::SessionError;
use sha1::{Digest, Sha1};
use spool::{Mending, Server};

use crate::audit::{Audited, Custody, Nature, Place as Message};
use crate::place::Place;

/// Bytes that are held in memory while they are compared; more go into a temporary file.
const MEMORY_MAX: usize = 4 << 20;

/// Where good bytes were found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// In the file of another message of this spool.
    Message(Message),
    /// At the other place.
    Place,
}

/// What became of a damaged message.
#[derive(Debug)]
pub enum Outcome {
    /// It has its bytes again, or would have.
    Healed(Origin),
    /// Nobody has its bytes. It is as it was.
    NoCopy,
    /// Its bytes were found, and could not be given to it. It is as it was.
    Failed(Origin, io::Error),
}

/// The damaged messages of an account whose bytes are known by their GUID.
pub fn wounds(audited: &Audited) -> impl Iterator<Item = &Custody> {
    let custodies = audited.issues.iter().filter_map(|issue| issue.custody.as_deref());
    custodies.filter(|custody| {
        !custody.recorded.guid.is_zero() && !matches!(custody.nature, Nature::WrongSize)
    })
}

/// Heals one. `note` is told where good bytes were found before anything is changed, and may refuse.
///
/// # Errors
/// If the other place no longer answers.
pub fn heal(
    server: &Server,
    wound: &Custody,
    other: Option<&mut dyn Place>,
    dry_run: bool,
    note: &mut dyn FnMut(&Origin) -> io::Result<()>,
) -> Result<Outcome, SessionError> {
    let wanted = (wound.recorded.guid, wound.recorded.size);
    let mut found = None;
    for copy in &wound.copies {
        let mut gathered = Gathered::new(wanted);
        let read = server.open_message(&copy.mailbox, copy.uid);
        if read.is_ok_and(|mut file| gathered.pour(&mut file)) && gathered.is_good() {
            found = Some((gathered, Origin::Message(copy.clone())));
            break;
        }
    }
    if let (None, Some(other)) = (&found, other) {
        let mut gathered = Gathered::new(wanted);
        let told = other.bytes_of(&wanted.0, &mut |bytes| gathered.take(bytes))?;
        if told && gathered.is_good() {
            found = Some((gathered, Origin::Place));
        }
    }
    let Some((gathered, origin)) = found else { return Ok(Outcome::NoCopy) };
    if dry_run {
        return Ok(Outcome::Healed(origin));
    }
    let done = note(&origin).and_then(|()| mend(server, wound, gathered));
    Ok(match done {
        Ok(()) => Outcome::Healed(origin),
        Err(error) => Outcome::Failed(origin, error),
    })
}

fn mend(server: &Server, wound: &Custody, gathered: Gathered) -> io::Result<()> {
    let mending = Mending {
        mailbox: &wound.place.mailbox,
        uid: wound.place.uid,
        archived: wound.recorded.archived,
        guid: wound.recorded.guid,
        size: wound.recorded.size,
        internaldate: wound.recorded.internaldate,
    };
    let mut bytes = gathered.into_reader()?;
    server.mend(&mending, &mut *bytes).map_err(io::Error::other)
}

/// Bytes that are compared with a GUID before they are used.
struct Gathered {
    wanted: (Guid, u64),
    hash: Sha1,
    size: u64,
    kept: Kept,
}

enum Kept {
    Memory(Vec<u8>),
    File(File),
    /// They are not what is wanted, or could not be kept.
    Nothing,
}

impl Gathered {
    fn new(wanted: (Guid, u64)) -> Self {
        Self { wanted, hash: Sha1::new(), size: 0, kept: Kept::Memory(Vec::new()) }
    }

    fn take(&mut self, bytes: &[u8]) {
        self.size += bytes.len() as u64;
        if self.size > self.wanted.1 {
            self.kept = Kept::Nothing;
        }
        self.hash.update(bytes);
        let kept = std::mem::replace(&mut self.kept, Kept::Nothing);
        self.kept = keep(kept, bytes).unwrap_or(Kept::Nothing);
    }

    /// All that a file has; whether it could be read.
    fn pour(&mut self, file: &mut dyn Read) -> bool {
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

    fn is_good(&self) -> bool {
        let found = (Guid(self.hash.clone().finalize().into()), self.size);
        found == self.wanted && !matches!(self.kept, Kept::Nothing)
    }

    fn into_reader(self) -> io::Result<Box<dyn Read>> {
        Ok(match self.kept {
            Kept::Memory(bytes) => Box::new(io::Cursor::new(bytes)),
            Kept::File(mut file) => {
                file.seek(SeekFrom::Start(0))?;
                Box::new(file)
            }
            Kept::Nothing => return Err(io::ErrorKind::InvalidData.into()),
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
        Kept::Nothing => Kept::Nothing,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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
