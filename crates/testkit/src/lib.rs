//! What the tests of the whole workspace share: a real Cyrus in a temporary directory, a client
//! that looks at it, builders of spools, and means to damage, lock and fuzz them.
//!
//! Development only: nothing that is installed depends on this crate.

pub mod bench;
pub mod cyrus;
pub mod damage;
pub mod dialogue;
pub mod disk;
pub mod fake;
#[cfg(feature = "stores")]
pub mod faults;
pub mod fuzz;
#[cfg(feature = "stores")]
pub mod garage;
pub mod hostile;
pub mod imap;
pub mod kills;
pub mod leftovers;
pub mod lmtp;
pub mod locks;
pub mod mail;
pub mod process;
pub mod relay;
mod rng;
#[cfg(feature = "stores")]
pub mod s3;
pub mod served;
pub mod skip;
pub mod spool_builder;
pub mod storm;
pub mod strace;

pub use cyrus::{Cyrus, CyrusBuilder, cyrus_or_skip};
pub use imap::{ImapClient, ImapView};
pub use rng::Rng;
