//! The manifest: what a snapshot consists of, as JSON that can be searched without parsing it.
//!
//! A manifest is one JSON object. All its fields but the last stand on its first line; the last,
//! `messages`, is an array of fixed-width strings, one a line, sorted by GUID. serde reads the
//! line, a binary search reads the rest, and `jq` reads it all.

mod document;
mod quoted;
mod stored;
mod table;

pub use document::{Manifest, ManifestError};
pub(crate) use document::{ROWS_END, parse_fields, write_head};
pub use quoted::Quoted;
pub use stored::{
    Cyrus, Gone, ManifestHead, Parent, StoredFile, StoredFinding, StoredLink, StoredLock,
    StoredMailbox, TakenAt, Totals,
};
pub use table::{Located, MessageTable, ROW, Rows, TableRow};
pub(crate) use table::{SIZE_MAX, compare};
