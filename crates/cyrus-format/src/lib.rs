//! The on-disk formats of Cyrus IMAP, read and written as bytes.
//!
//! Everything here turns slices into values and values into bytes. Nothing opens a file, asks a
//! clock or draws a random number, and no input makes it panic or allocate beyond its own size.

pub mod annotations;
pub mod bytes;
pub mod cache;
pub mod db;
pub mod dlist;
pub mod error;
pub mod expunge;
pub mod header;
pub mod imapd_conf;
pub mod index;
pub mod locks;
pub mod mboxlist;
pub mod names;
pub mod paths;
pub mod quota;
pub mod seen;
pub mod sent;
pub mod sieve;
pub mod subs;
pub mod sync_log;

pub use error::{EncodeError, FormatError};
