//! Lengths of time, as they are typed.

use std::time::Duration;

/// A length of time such as `7d`.
pub fn span(text: &str) -> Result<Duration, String> {
    const UNITS: [(char, u64); 4] = [('s', 1), ('m', 60), ('h', 3600), ('d', 86_400)];
    let unit = UNITS.iter().find(|(name, _)| text.ends_with(*name));
    let wrong = || "a number with s, m, h or d behind it, as 7d".to_owned();
    let (name, seconds) = unit.ok_or_else(wrong)?;
    let number: u64 = text.trim_end_matches(*name).parse().map_err(|_| wrong())?;
    number.checked_mul(*seconds).map(Duration::from_secs).ok_or_else(wrong)
}

/// A number of seconds, with or without an `s`.
pub fn seconds(text: &str) -> Result<Duration, String> {
    let number = text.strip_suffix('s').unwrap_or(text);
    let seconds: f64 = number.parse().map_err(|_| "not a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|_| "not a possible length of time".to_owned())
}
