//! What programs of benchmarks answer; what is missing counts as nothing.

use std::time::Duration;

use serde_json::Value;

/// The items of a list.
pub fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// A text.
pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// A number.
pub fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

/// A time in microseconds.
pub fn micros(value: &Value) -> Duration {
    Duration::from_micros(number(value))
}
