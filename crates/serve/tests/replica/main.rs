//! A replica as masters see it, and as it lies on disk.

mod driver;
mod faults;
mod kill;
mod live;
mod recorded;
#[path = "../../../csync/tests/recording/mod.rs"]
mod recording;
