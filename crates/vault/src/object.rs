//! An object as bytes that can be read anywhere.

use std::io::{self, Read};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use segment::ReadAt;

use crate::store::Store;

/// The end of a segment is read first: seek table, end block and manifest are there. As much as
/// this comes with one request, and most incremental segments are no longer.
const TAIL: u64 = 256 << 10;

/// An object of a store.
#[derive(Debug)]
pub struct ObjectFile {
    store: Store,
    name: String,
    size: u64,
    tail: Mutex<Option<Bytes>>,
}

impl ObjectFile {
    /// An object of this length, which a listing told.
    pub fn new(store: Store, name: String, size: u64) -> Self {
        Self { store, name, size, tail: Mutex::default() }
    }

    fn tail(&self) -> io::Result<Bytes> {
        let mut tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tail) = &*tail {
            return Ok(tail.clone());
        }
        let from = self.size.saturating_sub(TAIL);
        let bytes = self.store.read(&self.name, from..self.size).map_err(io::Error::other)?;
        Ok(tail.insert(bytes).clone())
    }
}

impl ReadAt for ObjectFile {
    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(buf.len() as u64).filter(|end| *end <= self.size);
        let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
        let from = self.size.saturating_sub(TAIL);
        if offset < from {
            let bytes = self.store.read(&self.name, offset..end).map_err(io::Error::other)?;
            buf.copy_from_slice(&bytes);
            return Ok(());
        }
        let tail = self.tail()?;
        // Both fit: the range lies within the object, and the tail is its end.
        let at = usize::try_from(offset - from).map_err(io::Error::other)?;
        let found = tail.get(at..).and_then(|rest| rest.get(..buf.len()));
        buf.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn len(&self) -> u64 {
        self.size
    }
}

/// How much of an object is asked for at once when it is read from front to back.
const STREAM_STEP: u64 = 4 << 20;

/// An object as a stream of its bytes.
#[derive(Debug)]
pub struct ObjectStream {
    store: Store,
    name: String,
    size: u64,
    at: u64,
    piece: Bytes,
}

impl ObjectStream {
    /// An object of this length, which a listing told.
    pub(crate) fn new(store: Store, name: String, size: u64) -> Self {
        Self { store, name, size, at: 0, piece: Bytes::new() }
    }
}

impl Read for ObjectStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.piece.is_empty() {
            let end = self.size.min(self.at.saturating_add(STREAM_STEP));
            self.piece = self.store.read(&self.name, self.at..end).map_err(io::Error::other)?;
            self.at = end;
        }
        let len = buf.len().min(self.piece.len());
        buf[..len].copy_from_slice(&self.piece.split_to(len));
        Ok(len)
    }
}
