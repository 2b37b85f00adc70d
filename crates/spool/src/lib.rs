//! Cyrus directories on this machine: locks, consistent reads, durable writes.
//!
//! [`Server::open`] reads a configuration and judges which releases may be running;
//! [`Server::freeze`] copies all metadata of one account at one instant, under the locks that
//! those releases take, and keeps the account's message files in place until the last
//! [`FrozenMailbox`] is dropped. [`MessageFiles`] gives them back one by one, as soon as their
//! messages are read or would take too long to read. A live spool is never written to; all that is left behind are
//! empty lock files, where Cyrus would have made them.
//!
//! ```no_run
//! use spool::{Options, Server};
//!
//! # fn main() -> spool::Result<()> {
//! let server = Server::open("/etc/imapd.conf".as_ref(), &Options::default())?;
//! let _acting = server.act_as_cyrus()?;
//! let frozen = server.freeze(&"glad".into())?;
//! for mailbox in &frozen.mailboxes {
//!     println!("{}: {} bytes", mailbox.entry.name, mailbox.index.as_ref().map_or(0, Vec::len));
//! }
//! # Ok(())
//! # }
//! ```

mod account_files;
mod attempt;
mod catalog;
mod copies;
mod copy;
mod database;
pub mod digest;
mod entries;
pub mod era;
pub mod error;
mod files;
mod freeze;
mod identities;
mod limits;
pub mod lock;
mod mailbox;
pub mod mend;
mod messages;
mod near;
mod placement;
mod prepare;
pub mod privileges;
pub mod replica;
mod rewrite;
mod roots;
pub mod running;
mod server;
pub mod staging;
pub mod sync_log;
pub mod tree;
mod unused;

pub use account_files::AccountFile;
pub use copies::Candidate;
pub use era::Era;
pub use error::{Result, SpoolError};
pub use freeze::Frozen;
pub use lock::{Holder, LockKind, LockReport};
pub use mailbox::FrozenMailbox;
pub use mend::{Exchanged, Mending};
pub use messages::{MessageFile, MessageFiles, NAME_LOCK_HOLD};
pub use placement::MessageStat;
pub use privileges::ActingAs;
pub use rewrite::{Fingerprint, RewriteLock, Rewriting};
pub use server::{Options, Server, read_conf};
