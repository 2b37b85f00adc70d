//! Small things about bytes that several modules need.

use model::state::Digest;
use sha2::{Digest as _, Sha256};

/// The unit of tar: headers are this long, contents are padded to a multiple of it.
pub(crate) const BLOCK: u64 = 512;

/// How many bytes follow a content of `size` bytes up to the next block.
pub(crate) fn padding(size: u64) -> u64 {
    (BLOCK - size % BLOCK) % BLOCK
}

/// `size` and its padding; `None` where that is no number any more.
pub(crate) fn padded(size: u64) -> Option<u64> {
    size.checked_add(padding(size))
}

/// A foreign name for people: printable ASCII as it is, everything else escaped.
pub(crate) fn printable(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

/// SHA-256 of what is in memory.
pub(crate) fn sha256(bytes: &[u8]) -> Digest {
    Digest(Sha256::digest(bytes).into())
}

/// The value of an upper-case hex digit, or `None`.
pub(crate) fn upper_hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// The value of a lower-case hex digit, or `None`.
pub(crate) fn lower_hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

/// The value of lower-case hex digits; `None` if there is anything else or it is too large.
pub(crate) fn parse_lower_hex(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0u64, |value, digit| {
        value.checked_mul(16)?.checked_add(u64::from(lower_hex(*digit)?))
    })
}

/// The value of decimal digits; `None` if there is anything else, nothing, or it is too large.
pub(crate) fn parse_decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |value, digit| {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit < 10)?;
        value.checked_mul(10)?.checked_add(u64::from(digit))
    })
}
