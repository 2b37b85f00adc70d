//! What `cylinder watch` needs around `logwatch`: log files, what is kept, and who is told.

pub mod follow;
pub mod logs;
pub mod notify;
pub mod show;
pub mod store;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use logwatch::time::Time;

/// What the clock on the wall shows.
pub fn now() -> Time {
    let now = Timestamp::now();
    let ahead = TimeZone::system().to_offset(now).seconds();
    Time(now.as_second()).plus(i64::from(ahead))
}

/// As `2026-11-26T19:15:36`, without a zone, as logs mostly are.
pub fn wall(time: Time) -> String {
    match Timestamp::from_second(time.0) {
        Ok(moment) => moment.to_string().trim_end_matches('Z').to_owned(),
        Err(_) => format!("@{}", time.0),
    }
}
