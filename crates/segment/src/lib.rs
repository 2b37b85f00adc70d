//! Snapshots as tar runs that concatenate: entries, manifests, compression.
//!
//! A **segment** is one snapshot of one account, full or incremental: a run of tar entries whose
//! last two are a manifest and a fixed-size block that points back at it. Segments of any number
//! of accounts, one behind the other, make an archive that every tar program lists and extracts;
//! `docs/format-segment.md` fixes every byte and says why.
//!
//! - [`writer`] turns what a snapshot found into a segment.
//! - [`reader`] finds the segments of an archive and reads from them, [`chain`] puts those of one
//!   account in order, [`verify`] looks at every byte.
//! - [`compress`] cuts a stream into frames that can be read one by one.
//! - [`names`], [`links`], [`entry`], [`end`] and [`manifest`] are the parts that these share.
//!
//! This crate turns bytes into values and values into bytes. It opens no file and asks no clock;
//! archives come in as [`ReadAt`] and go out through [`std::io::Write`].

mod bytes;
pub mod chain;
pub mod compress;
pub mod end;
pub mod entry;
pub mod links;
pub mod manifest;
pub mod names;
pub mod read_at;
pub mod reader;
pub mod verify;
pub mod writer;

pub use read_at::ReadAt;
