//! The other end of a connection: bytes that come and go, in the clear, by TLS or deflated.
//!
//! [`Link`] blocks its thread, but never for longer than it was told, and not when a [`Stop`] calls:
//! sockets do not block, and whoever waits asks the system for all of that at once.
//!
//! Nothing here knows what is said: `csync` does, and `serve` brings the two together.

mod deflate;
mod error;
mod link;
mod stop;
mod tls;
mod wait;

pub use error::LinkError;
pub use link::{Link, Received};
pub use stop::{Stop, Stopper};
pub use tls::{Identity, IdentityError};
