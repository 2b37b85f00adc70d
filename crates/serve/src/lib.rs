//! A replica of Cyrus: what masters send is kept in a spool, and told back.

pub mod handler;
pub mod replica;

pub use handler::{Failure, Handler, Modes};
