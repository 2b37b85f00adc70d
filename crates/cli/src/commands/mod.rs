//! One file a verb: what was typed becomes values, the engine does the work, the result is shown.

pub mod audit;
pub mod backup;
pub mod compare;
pub mod demo;
pub mod diff;
pub mod find;
pub mod heal;
pub mod history;
pub mod list;
pub mod man;
pub mod promote;
pub mod prune;
pub mod reconstruct;
pub mod replicate;
pub mod restore;
pub mod serve;
pub mod show;
pub mod snapshot;
pub mod sweep;
pub mod verify;
pub mod watch;
