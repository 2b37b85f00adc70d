//! A replica of Cyrus: what masters send is kept in a spool, and told back.
//!
//! [`serve`] takes connections and gives each a thread, which drives the protocol and hands what is
//! to be done to a [`Handler`].

mod event;
pub mod handler;
mod limits;
mod login;
pub mod replica;
mod server;
mod session;
mod users;

pub use event::{End, Event, What};
pub use handler::{Failure, Handler, Modes};
pub use limits::Limits;
pub use server::{Config, Door, Handlers, Tls, Watch, serve};
pub use users::{Users, UsersError, UsersFile};
