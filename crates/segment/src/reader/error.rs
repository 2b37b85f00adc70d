//! What can be wrong with an archive.

use std::fmt;
use std::io;

use crate::end::EndError;
use crate::entry::ScanError;
use crate::manifest::ManifestError;
use crate::names::NameError;

/// Why something of an archive is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The archive cannot be read.
    #[error("cannot read the archive at byte {at}")]
    Read {
        /// Where.
        at: u64,
        /// What was said.
        source: io::Error,
    },
    /// The entries cannot be followed to the end.
    #[error("the archive is not whole; {last}")]
    Broken {
        /// What can still be had.
        last: LastWhole,
        /// What stopped the scan; it names the entry and the place.
        source: ScanError,
    },
    /// The archive ends between two entries, and the end of the segment is not there.
    #[error(
        "the segment that begins at byte {begins} has no end, its last entry is {entry}; {last}"
    )]
    Unfinished {
        /// Where the segment's first entry is.
        begins: u64,
        /// The last entry there is.
        entry: String,
        /// What can still be had.
        last: LastWhole,
    },
    /// An entry that no segment holds.
    #[error("the entry at byte {at} is not of a segment")]
    Foreign {
        /// Where.
        at: u64,
        /// Why not.
        source: NameError,
    },
    /// A link that leads elsewhere than a link of its kind may.
    #[error("the link {entry} at byte {at} leads to \"{target}\"")]
    Target {
        /// The link.
        entry: String,
        /// Where.
        at: u64,
        /// Its target, made printable.
        target: String,
    },
    /// The end of a segment cannot be used.
    #[error("the end of a segment, {entry} at byte {at}, cannot be used")]
    End {
        /// The entry.
        entry: String,
        /// Where its content is.
        at: u64,
        /// Why not.
        source: EndError,
    },
    /// Entries that no end of a segment follows.
    #[error("the entries from byte {from} to byte {to} are of no whole segment")]
    NoSegment {
        /// Where the first of them is.
        from: u64,
        /// Where the next whole segment begins.
        to: u64,
    },
    /// The end of a segment that does not begin where it says.
    #[error("the segment that ends with {entry} at byte {at} does not begin at byte {begins}")]
    Stray {
        /// The entry.
        entry: String,
        /// Where its content is.
        at: u64,
        /// Where the segment should begin.
        begins: u64,
    },
    /// A manifest cannot be used.
    #[error("the manifest of {segment} at byte {at} cannot be used")]
    Manifest {
        /// Whose.
        segment: String,
        /// Where.
        at: u64,
        /// Why not.
        source: ManifestError,
    },
    /// Bytes are not those that were written.
    #[error("{what} of {segment} is damaged at byte {at}: {detail}")]
    Damaged {
        /// What they should be.
        what: String,
        /// Of which segment.
        segment: String,
        /// Where they begin.
        at: u64,
        /// What is wrong.
        detail: &'static str,
    },
    /// A place that is not within the segment.
    #[error("{what} is said to be at {offset} + {size} in {segment}, where it cannot be")]
    OutOfBounds {
        /// What.
        what: String,
        /// Which segment.
        segment: String,
        /// Where it should begin, counted from the segment's first byte.
        offset: u64,
        /// How long it should be.
        size: u64,
    },
}

/// The last snapshot before the damage, for people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LastWhole(pub Option<(String, u32)>);

impl fmt::Display for LastWhole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some((account, seq)) => write!(f, "the last whole snapshot is {account} {seq}"),
            None => f.write_str("it holds no whole snapshot before that"),
        }
    }
}
