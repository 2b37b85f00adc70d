//! The replication protocol of Cyrus IMAP (csync), without input or output of its own.
//!
//! A master (`sync_client`) connects to a replica (`sync_server`), asks what it has, sends messages
//! and then the state of mailboxes. This crate is both ends of that, from bytes to values and back,
//! for Cyrus 2.4 to 3.13:
//!
//! - [`framer`] finds where a command or a reply ends, whatever it holds.
//! - [`command`] is what the master says, [`reply`] and [`untagged`] what the replica answers,
//!   [`banner`] how it begins.
//! - [`mailbox`], [`record`] and [`meta`] are the values that go both ways.
//! - [`stored`] makes the latter of what Cyrus keeps on disk.
//! - [`server`] and [`client`] say what may come when.
//!
//! Memory has a bound that does not depend on what is sent: message files pass by in pieces, and a
//! mailbox of a million messages one record at a time.
//!
//! Nobody here judges names. A mailbox name, a userid, a partition or a script's file name is any
//! bytes until whoever makes a path of it has looked at it.
//!
//! Facts come from Cyrus' sources (`imap/sync_support.c`, `imap/sync_server.c`,
//! `imap/sync_client.c`, `imap/dlist.c`) and from sessions of a real 3.6.1, some of which the tests
//! replay.
//!
//! A replica that has nothing:
//!
//! ```
//! use csync::banner::Banner;
//! use csync::framer::Limits;
//! use csync::reply::No;
//! use csync::server::{Action, Rights, Server};
//!
//! let mut out = Vec::new();
//! let mut server = Server::start(Banner::new("r.example.com", "1.0"), Limits::default(), &mut out);
//! let mut input: &[u8] = b"AUTHENTICATE PLAIN AHJlcGwAc2VjcmV0\r\nGET USER alice\r\nEXIT\r\n";
//! while let Some(action) = server.next(&mut input, &mut out)? {
//!     match action {
//!         // Here, whether `\0repl\0secret` is right would be looked up.
//!         Action::Authenticate { .. } => server.logged_in(Rights::Admin, "no protection", &mut out),
//!         Action::Get(_) => server.done(&mut out),
//!         Action::Apply(_) => server.refuse(&No::Unknown, &mut out),
//!         Action::Close => break,
//!         _ => {}
//!     }
//! }
//! assert!(out.ends_with(b"OK Success (no protection)\r\nOK success\r\nOK Finished\r\n"));
//! # Ok::<(), csync::framer::Fatal>(())
//! ```

pub mod banner;
pub mod client;
pub mod command;
pub mod framer;
pub mod mailbox;
pub mod message;
pub mod meta;
pub mod record;
pub mod reply;
pub mod sasl;
pub mod server;
pub mod stored;
pub mod untagged;
mod wire;

pub use wire::ValueError;
