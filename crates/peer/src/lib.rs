//! The other end of a connection: bytes that come and go, in the clear, by TLS or deflated.
//!
//! [`Link`] blocks its thread, but never for longer than it was told, and not when a [`Stop`] calls:
//! sockets do not block, and whoever waits asks the system for all of that at once.
//!
//! A [`Session`] is the master's end: it connects, logs in, and says one command of `csync` after the
//! other. The other end is up to `serve`; a `Link` does not know what is said.

mod deflate;
mod error;
mod link;
mod login;
mod session;
mod stop;
mod tls;
mod wait;

pub use error::LinkError;
pub use link::{Link, Received};
pub use login::{Account, Address, Limits, Secrecy};
pub use session::{Session, SessionError};
pub use stop::{Stop, Stopper};
pub use tls::{Identity, IdentityError, Trust, TrustError};
