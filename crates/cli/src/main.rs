//! The cylinder program.
fn main() {}
