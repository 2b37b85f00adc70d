//! The vocabulary of Cylinder: accounts, mailboxes, records, GUIDs, sync CRCs, findings.
//!
//! Everything here is a value. This crate never touches a file, a socket, a clock or a random
//! source, and depends on nothing else of the workspace, so every other crate may use its words.

pub mod crc;
pub mod diff;
pub mod finding;
pub mod ids;
pub mod record;
pub mod state;

pub use finding::{Blame, Finding, FindingKind};
pub use ids::{Guid, MboxName, Modseq, Partition, Uid, UidValidity, UniqueId, Userid};
pub use record::{Record, SystemFlags, Timestamp, UserFlags};
