//! Flat databases: one line of text for every entry (`lib/cyrusdb_flat.c`).
//!
//! A line is key, TAB, value, LF. Since 2.5 the bytes that would break it are escaped; older
//! files hold no such bytes, so reading needs no version.

use std::borrow::Cow;
use std::cmp::Ordering;

use super::{Db, DbFormat};
use crate::error::{EncodeError, FormatError};

const WHAT: &str = "flat database";

const ESCAPE: u8 = 0xff;
/// Set in an escaped byte, so that the line holds no trace of the original.
const ESCAPED: u8 = 0x80;

/// Reads a flat database.
///
/// A last line without its end is left out, and of lines with one key all but the first; see
/// [`Db::recovered`].
///
/// # Errors
/// [`FormatError::Damaged`] if there are NULs: no version writes them.
pub fn read(bytes: &[u8]) -> Result<Db<'_>, FormatError> {
    if let Some(nul) = bytes.iter().position(|byte| *byte == 0) {
        let detail = "a NUL in a file of text".to_owned();
        return Err(FormatError::Damaged { what: WHAT, offset: nul as u64, detail });
    }
    let mut entries = Vec::new();
    let mut without_tab = 0_usize;
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
    for line in bytes[..whole].split_inclusive(|byte| *byte == b'\n') {
        let line = &line[..line.len() - 1];
        let tab = line.iter().position(|byte| *byte == b'\t');
        without_tab += usize::from(tab.is_none());
        let key = &line[..tab.unwrap_or(line.len())];
        let value = tab.map_or(&[][..], |tab| &line[tab + 1..]);
        entries.push((unescape(key), unescape(value)));
    }

    let mut notes = Vec::new();
    if without_tab > 0 {
        notes.push(format!("lines without a tab, taken as keys: {without_tab}"));
    }
    if whole < bytes.len() {
        notes.push(format!("the last line, at byte {whole}, has no end and is left out"));
    }
    Ok(Db::new(DbFormat::Flat, entries, notes))
}

/// Writes entries as Cyrus 2.5 and later do, in the order in which it searches.
///
/// # Errors
/// [`EncodeError::Range`] for an empty key and for one that comes twice.
pub fn write<K: AsRef<[u8]>, V: AsRef<[u8]>>(entries: &[(K, V)]) -> Result<Vec<u8>, EncodeError> {
    let mut lines: Vec<_> =
        entries.iter().map(|(key, value)| (escape(key.as_ref()), value.as_ref())).collect();
    lines.sort_by(|(a, _), (b, _)| mailbox_order(a, b));
    let mut bytes = Vec::new();
    let mut previous: &[u8] = &[];
    for (key, value) in &lines {
        if key.as_ref() == previous {
            return Err(EncodeError::Range {
                what: WHAT,
                field: "key",
                value: if key.is_empty() {
                    "no bytes".to_owned()
                } else {
                    format!("{:?} twice", String::from_utf8_lossy(key))
                },
            });
        }
        previous = key;
        bytes.extend_from_slice(key);
        bytes.push(b'\t');
        bytes.extend_from_slice(&escape(value));
        bytes.push(b'\n');
    }
    Ok(bytes)
}

/// A key or value as it stands in a line.
pub fn escape(bytes: &[u8]) -> Cow<'_, [u8]> {
    let special = |byte: &u8| matches!(*byte, 0 | b'\t' | b'\r' | b'\n' | ESCAPE);
    if !bytes.iter().any(special) {
        return Cow::Borrowed(bytes);
    }
    let mut escaped = Vec::with_capacity(bytes.len() + 8);
    for byte in bytes {
        if special(byte) {
            escaped.extend([ESCAPE, *byte | ESCAPED]);
        } else {
            escaped.push(*byte);
        }
    }
    Cow::Owned(escaped)
}

/// The key or value that stands in a line.
///
/// An FF that escapes nothing is itself: versions until 2.4 did not escape.
pub fn unescape(line: &[u8]) -> Cow<'_, [u8]> {
    if !line.contains(&ESCAPE) {
        return Cow::Borrowed(line);
    }
    let mut bytes = Vec::with_capacity(line.len());
    let mut rest = line;
    while let Some((byte, behind)) = rest.split_first() {
        rest = behind;
        let original = match (*byte, behind.first().copied()) {
            (ESCAPE, Some(ESCAPE)) => Some(ESCAPE),
            (ESCAPE, Some(escaped)) => {
                [0, b'\t', b'\r', b'\n'].into_iter().find(|byte| byte | ESCAPED == escaped)
            }
            _ => None,
        };
        if original.is_some() {
            rest = &behind[1..];
        }
        bytes.push(original.unwrap_or(*byte));
    }
    Cow::Owned(bytes)
}

/// How Cyrus orders mailbox names (`lib/bsearch.c`): a mailbox, then its children, then others
/// that begin like it.
///
/// Not a total order of all bytes: TAB and LF are equal.
pub fn mailbox_order(a: &[u8], b: &[u8]) -> Ordering {
    a.iter().map(|byte| weight(*byte)).cmp(b.iter().map(|byte| weight(*byte)))
}

fn weight(byte: u8) -> u8 {
    match byte {
        b'\t' | b'\n' => 1,
        b'.' => 2,
        1..=8 => byte + 2,
        other => other,
    }
}
