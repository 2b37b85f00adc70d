//! Finds the segments of an archive and reads from them.
//!
//! An undamaged archive is read from its end: every segment ends with a block that says where it
//! begins, and that is where the one before it ends. Where this does not work out, a scan of all
//! headers from the front finds what is whole and names what is not.

mod error;
mod segment_ref;
mod survey;

pub use error::{LastWhole, ReadError};
pub use segment_ref::{MANIFEST_MAX, MessageReader, SegmentRef};
pub(crate) use survey::check_entry;
pub use survey::{Survey, only_segment, segments, survey};
