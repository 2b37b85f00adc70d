//! The server at the network, over a replica in memory: what it takes, and what it does not.

mod client;
mod crowd;
mod hostile;
mod master;
mod memory;
mod own_master;
mod protection;
mod sessions;
mod site;
