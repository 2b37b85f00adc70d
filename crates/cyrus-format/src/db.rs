//! The databases of Cyrus: keys with values, in one file.
//!
//! Which format a file has is said by the file alone: Cyrus goes by the first bytes, too,
//! whatever `imapd.conf` says (`lib/cyrusdb.c`).

use std::borrow::Cow;

use crate::error::FormatError;

pub mod flat;
pub mod skiplist;
pub mod twoskip;

const WHAT: &str = "database";

/// What every format that Cyrus invented begins with.
const MARK: &[u8] = b"\xa1\x02\x8b\x0d";
/// Cyrus 3.13 (`lib/cyrusdb_twom.c`). Its version follows at byte 32, little endian.
const TWOM_MAGIC: &[u8] = b"\xa1\x02\x8b\x0dtwomfile\0\0\0\0";
const SQLITE_MAGIC: &[u8] = b"SQLite format 3\0";
/// Berkeley DB has its magic at byte 12, in the byte order of the machine: btree and hash.
const BERKELEY_MAGICS: [u32; 2] = [0x0005_3162, 0x0006_1561];

/// A key and its value.
pub type Entry<'a> = (Cow<'a, [u8]>, Cow<'a, [u8]>);

/// The formats that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DbFormat {
    /// Default since 2.5.
    Twoskip,
    /// Default until 2.4. Has no checksums, so damage may go unnoticed.
    Skiplist,
    /// Lines of text: subscriptions, mostly. Has no checksums. An empty file counts as one.
    Flat,
}

/// The contents of a database file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Db<'a> {
    /// How the file is written.
    pub format: DbFormat,
    /// All entries, by the bytes of their keys, each key once. (Cyrus sorts some files
    /// differently.)
    pub entries: Vec<Entry<'a>>,
    /// What was wrong with the file and what that cost, if it was not taken as it stands. A
    /// transaction that was never finished costs nothing. Damage may cost entries, or bring back
    /// an older value of one, or one that was deleted.
    pub recovered: Option<String>,
}

impl<'a> Db<'a> {
    /// The value of a key.
    pub fn get(&self, key: &[u8]) -> Option<&[u8]> {
        let found = self.entries.binary_search_by(|(other, _)| other.as_ref().cmp(key)).ok()?;
        self.entries.get(found).map(|(_, value)| value.as_ref())
    }

    /// Brings entries from a file into order; of entries with one key the first stays.
    fn new(format: DbFormat, mut entries: Vec<Entry<'a>>, mut notes: Vec<String>) -> Self {
        if !entries.is_sorted_by(|(a, _), (b, _)| a < b) {
            let all = entries.len();
            entries.sort_by(|(a, _), (b, _)| a.cmp(b));
            entries.dedup_by(|(later, _), (first, _)| later == first);
            if entries.len() < all {
                notes.push(format!("entries that repeat a key: {}", all - entries.len()));
            }
        }
        let recovered = (!notes.is_empty()).then(|| notes.join("; "));
        Self { format, entries, recovered }
    }
}

/// Reads a database of any format.
///
/// Damage does not fail this as long as something is left to rescue; [`Db::recovered`] tells.
///
/// # Errors
/// [`FormatError::Foreign`] for Berkeley DB and SQLite files, [`FormatError::TooNew`] for twom and
/// for unknown versions, [`FormatError::Damaged`] if nothing can be made of the file.
pub fn read(bytes: &[u8]) -> Result<Db<'_>, FormatError> {
    if bytes.starts_with(twoskip::MAGIC) {
        twoskip::read(bytes)
    } else if bytes.starts_with(skiplist::MAGIC) {
        skiplist::read(bytes)
    } else if bytes.starts_with(TWOM_MAGIC) {
        let version = bytes.get(32..).and_then(|at| at.first_chunk()).copied();
        Err(FormatError::TooNew {
            what: "twom database",
            version: u32::from_le_bytes(version.unwrap_or_default()),
            newest: 0,
        })
    } else if let Some(name) = foreign(bytes) {
        Err(FormatError::Foreign { what: WHAT, detail: format!("this is {name}") })
    } else if !bytes.is_empty() && (bytes.starts_with(MARK) || MARK.starts_with(bytes)) {
        let detail = "the name of the format is spoilt".to_owned();
        Err(FormatError::Damaged { what: WHAT, offset: 0, detail })
    } else {
        flat::read(bytes)
    }
}

/// What a file is that no Cyrus of today can open as a database either.
fn foreign(bytes: &[u8]) -> Option<&'static str> {
    if bytes.starts_with(SQLITE_MAGIC) {
        return Some("an SQLite file");
    }
    let magic = *bytes.get(12..)?.first_chunk()?;
    let berkeley = BERKELEY_MAGICS.contains(&u32::from_be_bytes(magic))
        || BERKELEY_MAGICS.contains(&u32::from_le_bytes(magic));
    berkeley.then_some("a Berkeley DB file")
}
