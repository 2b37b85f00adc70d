//! The server at the network, over a replica in memory: what it takes, and what it does not.

mod client;
mod crowd;
mod hostile;
mod memory;
mod own_master;
mod protection;
mod server;
mod sessions;
mod site;
