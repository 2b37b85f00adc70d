//! Spools that are read: built as each release leaves them, by hand, and in ruins.

mod account;
mod damage;
mod every_era;
mod layouts;
mod locks;
mod messages;
mod server;
mod shared;
mod staging;
mod support;
