//! A real master of Cyrus 3.6 replicates to us; then a real Cyrus serves what it replicated.

mod conflicts;
mod everyday;
mod folders;
mod kinds;
mod pair;
#[path = "../network/server.rs"]
mod server;
mod storm;
