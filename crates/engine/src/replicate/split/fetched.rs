//! The bytes of a message that another server has.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, sync_channel};
use std::{panic, thread};

use csync::command::Fetch;
use model::Guid;
use peer::SessionError;
use sha1::{Digest, Sha1};

use crate::fetch::WHOLE_BYTES_MAX;
use crate::ports::Peer;

/// So many pieces of a large message may wait to be read.
const PIECES_MAX: usize = 4;

/// Hands a message of this size to `sink`, and returns what that returns; `None` if the server does not
/// have it, or has other bytes than its GUID and size say. A large one is asked for twice, so that no
/// more than a piece of it is in memory.
///
/// # Errors
/// If the server cannot be asked.
pub(super) fn fetched<T>(
    peer: &mut dyn Peer,
    fetch: &Fetch,
    size: u32,
    sink: &mut dyn FnMut(&mut dyn Read) -> T,
) -> Result<Option<T>, SessionError> {
    let size = u64::from(size);
    let is_small = size <= WHOLE_BYTES_MAX;
    let (mut hash, mut length, mut whole) = (Sha1::new(), 0, Vec::new());
    let has_come = peer.fetch(fetch, &mut |bytes| {
        hash.update(bytes);
        length += bytes.len() as u64;
        if is_small && length <= size {
            whole.extend_from_slice(bytes);
        }
    })?;
    if !has_come || length != size || Guid(hash.finalize().into()) != fetch.guid {
        return Ok(None);
    }
    if is_small {
        return Ok(Some(sink(&mut whole.as_slice())));
    }
    let (sender, receiver) = sync_channel(PIECES_MAX);
    thread::scope(|scope| {
        let feeding = scope.spawn(move || {
            peer.fetch(fetch, &mut |bytes| {
                // Nobody may want the rest, which has to be taken off the connection all the same.
                let _ = sender.send(bytes.to_vec());
            })
        });
        let result = sink(&mut Pieces { receiver, piece: Vec::new(), read: 0 });
        match feeding.join() {
            Ok(fed) => fed.map(|_| Some(result)),
            Err(panic) => panic::resume_unwind(panic),
        }
    })
}

/// What another thread sends, as one stream.
struct Pieces {
    receiver: Receiver<Vec<u8>>,
    piece: Vec<u8>,
    read: usize,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.read == self.piece.len() {
            match self.receiver.recv() {
                Ok(piece) => (self.piece, self.read) = (piece, 0),
                Err(_) => return Ok(0),
            }
        }
        let mut rest = self.piece.get(self.read..).unwrap_or_default();
        let count = rest.read(buffer)?;
        self.read += count;
        Ok(count)
    }
}
