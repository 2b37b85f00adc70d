//! The vault: every account's history as immutable objects.
//!
//! A [`Vault`] lies in a directory or an object store. Each [`Account`] in it has segments, whose
//! names tell what continues what, and notes; together they are its [`History`]. A [`Lineage`] of
//! it, opened, is a [chain](segment::chain::Chain) like that of any archive. What the objects are
//! called and in which order they are written, `docs/format-vault.md` says and why.
//!
//! This crate knows nothing of spools or of how a snapshot is taken.

mod cache;
mod directory;
pub mod error;
pub mod history;
pub mod keys;
mod lineage;
pub mod note;
mod object;
pub mod policy;
mod stage;
pub mod store;
mod sweep;
mod vault;

pub use error::{Result, VaultError};
pub use history::{Entry, History, Lineage};
pub use keys::{SegmentKind, SegmentName, What};
pub use lineage::OpenLineage;
pub use note::Note;
pub use object::{ObjectFile, ObjectStream};
pub use stage::{Stage, Staged};
pub use store::Store;
pub use vault::{Account, Vault};
