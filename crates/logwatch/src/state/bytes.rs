//! Integers and bytes, there and back.

use super::StateError;

/// Bytes in the making.
pub struct Target(pub Vec<u8>);

impl Target {
    pub fn u8(&mut self, number: u8) {
        self.0.push(number);
    }
    pub fn u16(&mut self, number: u16) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }
    pub fn u32(&mut self, number: u32) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }
    pub fn u64(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }
    pub fn i64(&mut self, number: i64) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }
    pub fn f32(&mut self, number: f32) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }
    /// How many things follow. All of them are bounded far below the limit of the type.
    pub fn count(&mut self, count: usize) {
        self.u32(count as u32);
    }
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.0.extend_from_slice(bytes);
    }
}

/// Bytes that are read from the front; the checksum at their end is not for reading.
pub struct Source<'a> {
    rest: &'a [u8],
    length: usize,
}

impl<'a> Source<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        let rest = &bytes[..bytes.len().saturating_sub(4)];
        Self { rest, length: rest.len() }
    }

    pub fn damaged(&self) -> StateError {
        StateError::Damaged(self.length - self.rest.len())
    }

    pub fn take(&mut self, length: usize) -> Result<&'a [u8], StateError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(self.damaged())?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], StateError> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(self.damaged())?;
        self.rest = rest;
        Ok(*taken)
    }

    pub fn u8(&mut self) -> Result<u8, StateError> {
        self.array().map(u8::from_le_bytes)
    }
    pub fn u16(&mut self) -> Result<u16, StateError> {
        self.array().map(u16::from_le_bytes)
    }
    pub fn u32(&mut self) -> Result<u32, StateError> {
        self.array().map(u32::from_le_bytes)
    }
    pub fn u64(&mut self) -> Result<u64, StateError> {
        self.array().map(u64::from_le_bytes)
    }
    pub fn i64(&mut self) -> Result<i64, StateError> {
        self.array().map(i64::from_le_bytes)
    }
    pub fn f32(&mut self) -> Result<f32, StateError> {
        let number = self.array().map(f32::from_le_bytes)?;
        if number.is_finite() { Ok(number) } else { Err(self.damaged()) }
    }
    /// How many things follow: each takes a byte at the least.
    pub fn count(&mut self) -> Result<usize, StateError> {
        let count = self.u32()? as usize;
        if count <= self.rest.len() { Ok(count) } else { Err(self.damaged()) }
    }
    pub fn bytes(&mut self) -> Result<&'a [u8], StateError> {
        let length = self.count()?;
        self.take(length)
    }
    pub fn end(&self) -> Result<(), StateError> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.damaged()) }
    }
}
