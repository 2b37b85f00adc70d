//! A small blocking IMAP client, and everything that it can see of an account as one value.

mod client;
mod date;
mod differences;
mod error;
mod view;
pub mod wire;

pub use client::{Append, Fetched, ImapClient, Selected};
pub use date::date_time;
pub(crate) use date::mail_date;
pub use error::ImapError;
pub use view::{FolderView, ImapView, MessageView, QuotaView, guid_of};
