//! A replica as masters see it, and as it lies on disk.

mod driver;
mod kill;
mod live;
mod recorded;
#[path = "../../../csync/tests/recording/mod.rs"]
mod recording;
