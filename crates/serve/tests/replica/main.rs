//! A replica as masters see it, and as it lies on disk.

mod driver;
mod faults;
mod full;
mod kill;
mod large;
mod live;
mod power;
mod recorded;
#[path = "../../../csync/tests/recording/mod.rs"]
mod recording;
