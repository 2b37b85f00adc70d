//! A replica as masters see it, and as it lies on disk.

mod driver;
mod earlier;
mod faults;
mod kill;
mod lethal;
mod promoted;
mod recorded;
#[path = "../../../csync/tests/recording/mod.rs"]
mod recording;
