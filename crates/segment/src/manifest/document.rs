//! The whole document: a line of fields, then the table's rows.

use std::ops::Range;

use serde::Deserialize;

use super::{ManifestHead, MessageTable, ROW};
use crate::bytes::printable;
use crate::end::FORMAT;
use crate::names;

/// How the first line ends. JSON text as it is written here holds no other newline before the
/// rows, so a reader finds them at the first one.
const ROWS_BEGIN: &[u8] = b",\"messages\":[\n";

/// What follows the last row.
pub(crate) const ROWS_END: &[u8] = b"]}\n";

/// Why a manifest is not used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It belongs to a later version of the format.
    #[error("the manifest is of format {version}; this program reads up to format {FORMAT}")]
    TooNew {
        /// Which.
        version: u32,
    },
    /// It is not laid out as a manifest.
    #[error("the manifest is malformed at byte {at}: {detail}")]
    Layout {
        /// Where.
        at: u64,
        /// How.
        detail: &'static str,
    },
    /// Its first line is no JSON, or lacks fields.
    #[error("the manifest's first line cannot be read")]
    Json(#[from] serde_json::Error),
    /// A field holds what it must not hold.
    #[error("the manifest has a wrong {field}: \"{value}\"")]
    Field {
        /// Which field.
        field: &'static str,
        /// What it holds, made printable.
        value: String,
    },
}

/// A manifest as it was read.
#[derive(Clone, Debug)]
pub struct Manifest {
    head: ManifestHead,
    bytes: Vec<u8>,
    rows: Range<usize>,
}

impl Manifest {
    /// Reads a manifest: the line of fields whole, the rows only as far as to know their form.
    ///
    /// # Errors
    ///
    /// See [`ManifestError`]; a later format is told from damage.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, ManifestError> {
        let layout = |at: usize, detail| ManifestError::Layout { at: at as u64, detail };
        let line = bytes.iter().position(|byte| *byte == b'\n').map(|newline| newline + 1);
        let rows_at = line.ok_or_else(|| layout(0, "it has no second line"))?;
        let head = parse_fields(&bytes[..rows_at])?;
        let table = bytes[rows_at..].strip_suffix(ROWS_END);
        let table = table.ok_or_else(|| layout(bytes.len(), "its end is missing"))?;
        MessageTable::parse(table)
            .map_err(|row| layout(rows_at + row as usize * ROW, "a row is wrong"))?;
        let rows = rows_at..rows_at + table.len();
        Ok(Self { head, bytes, rows })
    }

    /// All but the message table.
    pub fn head(&self) -> &ManifestHead {
        &self.head
    }

    /// The message table.
    pub fn table(&self) -> MessageTable<'_> {
        MessageTable::unchecked(&self.bytes[self.rows.clone()])
    }

    /// Gives up the document for its head and the bytes of its rows.
    pub fn into_parts(mut self) -> (ManifestHead, Vec<u8>) {
        self.bytes.truncate(self.rows.end);
        self.bytes.drain(..self.rows.start);
        self.bytes.shrink_to_fit();
        (self.head, self.bytes)
    }

    /// Where the first row begins, counted from the manifest's first byte.
    pub(crate) fn rows_at(&self) -> u64 {
        self.rows.start as u64
    }
}

/// Reads the first line of a manifest.
pub(crate) fn parse_fields(line: &[u8]) -> Result<ManifestHead, ManifestError> {
    let at = line.len() as u64;
    let fields = line.strip_suffix(ROWS_BEGIN);
    let none = ManifestError::Layout { at, detail: "no table follows its first line" };
    parse_head(fields.ok_or(none)?)
}

fn parse_head(fields: &[u8]) -> Result<ManifestHead, ManifestError> {
    #[derive(Deserialize)]
    struct Version {
        format: u32,
    }
    let object = [fields, b"}"].concat();
    // First, so that a field which only a later version explains is not called an error.
    let Version { format } = serde_json::from_slice(&object)?;
    if format > FORMAT {
        return Err(ManifestError::TooNew { version: format });
    }
    let head: ManifestHead = serde_json::from_slice(&object)?;
    check_names(&head)?;
    Ok(head)
}

/// Every component that the manifest holds must be one: it may become part of a path.
fn check_names(head: &ManifestHead) -> Result<(), ManifestError> {
    let check = |field: &'static str, value: &str, right: bool| {
        let wrong = || ManifestError::Field { field, value: printable(value.as_bytes()) };
        if right { Ok(()) } else { Err(wrong()) }
    };
    let dir = |value: &str| names::check_dir(value).is_ok();
    check("format", &head.format.to_string(), head.format > 0)?;
    check("seq", &head.seq.to_string(), head.seq > 0)?;
    if let Some(parent) = &head.parent {
        check("parent", &parent.seq.to_string(), (1..head.seq).contains(&parent.seq))?;
    }
    check("account", &head.account, head.account == names::account(head.userid.as_bytes()))?;
    for mailbox in &head.mailboxes {
        check("mailbox directory", &mailbox.dir, dir(&mailbox.dir))?;
        for file in &mailbox.files {
            let name = &file.name;
            check("mailbox file", name, names::escape(name.as_bytes()) == *name)?;
        }
    }
    let of_mailboxes = head.mailboxes.iter().flat_map(|mailbox| &mailbox.files);
    for file in of_mailboxes.chain(&head.account_files) {
        check("segment of a file", &file.name, (1..=head.seq).contains(&file.seq))?;
    }
    if let Some(file) = &head.catalog {
        check("segment of a file", &file.name, file.seq == head.seq)?;
    }
    for gone in &head.gone {
        check("mailbox directory", &gone.dir, dir(&gone.dir))?;
    }
    for link in &head.links {
        check("link", &link.link, crate::links::split(&link.link).is_some())?;
        check("mailbox directory", &link.dir, dir(&link.dir))?;
    }
    Ok(())
}

/// The first line of a manifest with this head.
pub(crate) fn write_head(head: &ManifestHead) -> Result<Vec<u8>, serde_json::Error> {
    let mut line = serde_json::to_vec(head)?;
    // The closing brace moves behind the rows.
    line.pop();
    line.extend_from_slice(ROWS_BEGIN);
    Ok(line)
}
