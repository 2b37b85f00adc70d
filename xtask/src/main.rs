//! Tests, benchmarks and house checks.
fn main() {}
