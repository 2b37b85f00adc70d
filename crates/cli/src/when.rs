//! Times: as they are typed after `--at`, and as they are printed.

use jiff::Timestamp;
use jiff::civil;
use jiff::tz::TimeZone;

/// Which snapshot is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// Its number in the chain.
    Seq(u64),
    /// The last one taken at or before this moment, seconds since 1970.
    Time(i64),
}

/// Reads a number, `@` and seconds since 1970, an RFC 3339 time, or a local date or date and time.
///
/// A date alone means the end of that day: "as it was on Tuesday" includes Tuesday.
pub fn parse_at(text: &str, zone: &TimeZone) -> Option<At> {
    if let Some(seconds) = text.strip_prefix('@') {
        return Some(At::Time(seconds.parse().ok()?));
    }
    if let Ok(seq) = text.parse() {
        return Some(At::Seq(seq));
    }
    if let Ok(moment) = text.parse::<Timestamp>() {
        return Some(At::Time(moment.as_second()));
    }
    let local = match text.parse::<civil::Date>() {
        // A date with a time parses as a date too.
        Ok(date) if is_date_alone(text) => date.at(23, 59, 59, 0),
        _ => text.parse::<civil::DateTime>().ok()?,
    };
    Some(At::Time(zone.to_timestamp(local).ok()?.as_second()))
}

/// The same for a beginning: a date alone means the beginning of that day.
pub fn parse_since(text: &str, zone: &TimeZone) -> Option<At> {
    match text.parse::<civil::Date>() {
        Ok(date) if is_date_alone(text) => {
            Some(At::Time(zone.to_timestamp(date.at(0, 0, 0, 0)).ok()?.as_second()))
        }
        _ => parse_at(text, zone),
    }
}

fn is_date_alone(text: &str) -> bool {
    text.len() <= "2026-11-23".len()
}

/// Seconds since 1970 as an RFC 3339 time in UTC; the bare number where no calendar has it.
pub fn rfc3339(seconds: i64) -> String {
    match Timestamp::from_second(seconds) {
        Ok(moment) => moment.to_string(),
        Err(_) => format!("@{seconds}"),
    }
}

/// Seconds since 1970, now.
pub fn now() -> i64 {
    Timestamp::now().as_second()
}

/// How long ago that was, in the largest unit that says enough; nothing is older than it is.
pub fn age(now: i64, then: i64) -> String {
    let seconds = now.saturating_sub(then).max(0);
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_times_and_dates_are_told_apart() {
        let at = |text| parse_at(text, &TimeZone::UTC);
        assert_eq!(at("17"), Some(At::Seq(17)));
        assert_eq!(at("@17"), Some(At::Time(17)));
        assert_eq!(at("1970-01-02T00:00:00Z"), Some(At::Time(86_400)));
        assert_eq!(at("1970-01-02T02:00:00+02:00"), Some(At::Time(86_400)));
        assert_eq!(at("1970-01-02 00:01"), Some(At::Time(86_460)));
        assert_eq!(at("1970-01-01"), Some(At::Time(86_399)));
        assert_eq!(at("tuesday"), None);
    }

    #[test]
    fn a_day_begins_with_its_first_second() {
        let since = |text| parse_since(text, &TimeZone::UTC);
        assert_eq!(since("1970-01-02"), Some(At::Time(86_400)));
        assert_eq!(since("1970-01-02 00:01"), Some(At::Time(86_460)));
        assert_eq!(since("17"), Some(At::Seq(17)));
        assert_eq!(since("tuesday"), None);
    }

    #[test]
    fn ages_read_well() {
        let ages = [0, 119, 120, 7_199, 7_200, 172_799, 172_800, -1].map(|ago| age(100, 100 - ago));
        assert_eq!(ages, ["0 s", "119 s", "2 min", "119 min", "2 h", "47 h", "2 days", "0 s"]);
        assert_eq!(age(i64::MAX, i64::MIN), "106751991167300 days");
    }

    #[test]
    fn times_print_in_utc() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(i64::MAX), "@9223372036854775807");
    }
}
