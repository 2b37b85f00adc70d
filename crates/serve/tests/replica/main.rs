//! A replica as masters see it, and as it lies on disk.

mod driver;
mod earlier;
mod faults;
mod full;
mod kill;
mod large;
mod lethal;
mod power;
mod promoted;
mod recorded;
#[path = "../../../csync/tests/recording/mod.rs"]
mod recording;
mod together;
