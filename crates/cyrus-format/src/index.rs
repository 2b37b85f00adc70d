//! cyrus.index: one record of fixed size for every message of a mailbox, behind one header.
//!
//! Every version from 6 (Cyrus 2.2) to 20 (Cyrus 3.13) is read and written; 11 was never released.
//! Where each field lies is said by the tables in `layout.rs`.

mod field;
mod header;
mod layout;
mod problem;
mod salvage;
mod tally;
mod view;
mod write;

pub use header::{IndexHeader, MailboxOptions};
pub use problem::IndexProblem;
pub use salvage::{Corrector, FlippedBit, Salvaged, correct_file, salvage};
pub use tally::{Counter, Tally};
pub use view::{CrcState, Index, RecordFormat, RecordKey};
pub use write::{patch_header, patch_record, write_header, write_index, write_record};

const WHAT: &str = "cyrus.index";

/// The newest version that is known.
pub const NEWEST: u32 = 20;

/// Every version that is known, ascending.
pub fn versions() -> impl Iterator<Item = u32> {
    layout::LAYOUTS.iter().map(|layout| layout.minor)
}

/// Bytes of a header and of a record of that version, if it is known.
pub fn sizes(minor_version: u32) -> Option<(usize, usize)> {
    layout::layout(minor_version).map(|layout| (layout.header_size, layout.record_size))
}
