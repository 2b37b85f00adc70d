//! One file a verb: what was typed becomes values, the engine does the work, the result is shown.

pub mod demo;
pub mod list;
pub mod man;
pub mod restore;
pub mod snapshot;
