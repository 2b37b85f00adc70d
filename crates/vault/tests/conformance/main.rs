//! The storage below a vault: whatever it is made of, the same is promised of it.

mod faults;
mod large;
mod names;
mod objects;
mod opening;
mod places;
mod vaults;
