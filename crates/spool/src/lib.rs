//! Cyrus directories on this machine: locks, consistent reads, durable writes.

mod account_files;
mod catalog;
mod copy;
mod database;
mod entries;
pub mod era;
pub mod error;
mod files;
mod freeze;
mod limits;
pub mod lock;
mod mailbox;
mod near;
mod placement;
mod prepare;
pub mod privileges;
mod roots;
mod server;
pub mod tree;
mod unused;

pub use account_files::AccountFile;
pub use era::Era;
pub use error::{Result, SpoolError};
pub use freeze::Frozen;
pub use lock::{Holder, LockKind, LockReport};
pub use mailbox::FrozenMailbox;
pub use privileges::ActingAs;
pub use server::{Options, Server};
