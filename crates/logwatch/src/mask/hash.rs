//! A hash for words: quick, the same on every machine, and good enough for tables.

/// Multiplies bits into all places (the golden ratio in 64 bits).
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// A hash in the making. Not a secret: who can choose the words of a message can make two that are
/// taken for one.
#[derive(Clone, Copy, Debug)]
pub struct Hash(u64);

impl Hash {
    /// Begins with a number that tells apart what is hashed for different ends.
    #[inline]
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_add(SPREAD))
    }

    /// Goes on with a number.
    #[inline]
    #[must_use]
    pub fn number(self, number: u64) -> Self {
        let mixed = (self.0.rotate_left(23) ^ number).wrapping_mul(SPREAD);
        Self(mixed ^ (mixed >> 32))
    }

    /// Goes on with bytes, and how many they are.
    #[inline]
    #[must_use]
    pub fn bytes(self, bytes: &[u8]) -> Self {
        let (chunks, rest) = bytes.as_chunks::<8>();
        let hash = chunks.iter().fold(self, |hash, chunk| hash.number(u64::from_le_bytes(*chunk)));
        let last = rest.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
        hash.number(last ^ (bytes.len() as u64) << 56)
    }

    /// The hash.
    #[inline]
    #[must_use]
    pub fn end(self) -> u64 {
        let mixed = (self.0 ^ (self.0 >> 29)).wrapping_mul(SPREAD);
        mixed ^ (mixed >> 32)
    }
}
