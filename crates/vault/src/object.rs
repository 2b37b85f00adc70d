//! An object as bytes that can be read anywhere.

use std::io::{self, Read};
use std::sync::{Mutex, MutexGuard, PoisonError};

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

    /// Has everything from `offset` to the end at hand, if the store is far away: one request now
    /// in place of many later, or none where somebody had it before.
    ///
    /// # Errors
    ///
    /// What the store says.
    pub fn reach(&self, offset: u64) -> io::Result<()> {
        if self.store.is_near() {
            return Ok(());
        }
        let tail = self.tail()?;
        let from = self.size - tail.len() as u64;
        if offset < from {
            let before = self.store.read(&self.name, offset..from).map_err(io::Error::other)?;
            let longer = Bytes::from([before, tail].concat());
            self.store.keep(&self.name, longer.clone());
            *self.lock() = Some(longer);
        }
        Ok(())
    }

    /// The end of the object, as much of it as is at hand.
    fn tail(&self) -> io::Result<Bytes> {
        let mut tail = self.lock();
        if let Some(tail) = &*tail {
            return Ok(tail.clone());
        }
        let from = self.size.saturating_sub(TAIL);
        let kept = self.store.kept(&self.name);
        // What is longer than the object was kept of another one.
        if let Some(kept) =
            kept.filter(|kept| (self.size - from..=self.size).contains(&(kept.len() as u64)))
        {
            return Ok(tail.insert(kept).clone());
        }
        let bytes = self.store.read(&self.name, from..self.size).map_err(io::Error::other)?;
        self.store.keep(&self.name, bytes.clone());
        Ok(tail.insert(bytes).clone())
    }

    fn lock(&self) -> MutexGuard<'_, Option<Bytes>> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ReadAt for ObjectFile {
    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(buf.len() as u64).filter(|end| *end <= self.size);
        let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
        // Whoever has not asked for the end yet begins with it; what is far from it can wait.
        let at_hand = self.lock().as_ref().map_or(TAIL.min(self.size), |tail| tail.len() as u64);
        let from = self.size - at_hand;
        if offset < from {
            let bytes = self.store.read(&self.name, offset..end).map_err(io::Error::other)?;
            buf.copy_from_slice(&bytes);
            return Ok(());
        }
        let tail = self.tail()?;
        // Both fit: the range lies within the object, and the tail is its end.
        let at = offset - (self.size - tail.len() as u64);
        let at = usize::try_from(at).map_err(io::Error::other)?;
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
