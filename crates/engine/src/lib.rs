//! The operations: take a snapshot, read one back, give mail out.
//!
//! An operation gets its account as a [`source::SourceAccount`] and its messages through
//! [`ports::MessageSource`], wherever they come from; it writes to any [`std::io::Write`] or to
//! an [`export::Tree`]. Nothing here opens a file or asks the time.

pub mod archive;
pub mod audit;
pub mod base;
pub mod catalog;
pub mod changes;
pub mod compare;
mod envelope;
mod exceptions;
pub mod export;
mod fetch;
pub mod find;
pub mod flags;
pub mod folder;
pub mod heal;
mod held;
mod known;
pub mod live;
pub mod place;
pub mod ports;
pub mod reconstruct;
mod records;
pub mod replicate;
pub mod restore;
pub mod rolling;
pub mod selection;
pub mod snapshot;
pub mod source;
mod stored;
mod view;
pub mod words;

pub use exceptions::Exceptions;
pub use source::SourceAccount;
