//! What `cylinder watch` needs around `logwatch`: log files, what is kept, and who is told.

pub mod follow;
pub mod journal;
pub mod logs;
pub mod notify;
pub mod show;
pub mod store;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use logwatch::line::{Entry, LineReader};
use logwatch::time::Time;
use logwatch::{Mode, Watcher};

/// What the clock on the wall shows.
pub fn now() -> Time {
    Time(Timestamp::now().as_second()).plus(i64::from(utc_offset()))
}

/// What that clock is ahead of UTC now, in seconds.
pub fn utc_offset() -> i32 {
    TimeZone::system().to_offset(Timestamp::now()).seconds()
}

/// Takes a line of a file: of syslog, or an entry of the journal as JSON.
pub fn take(watcher: &mut Watcher, reader: &mut LineReader, line: &[u8], mode: Mode) {
    match entry(line) {
        Some(entry) => watcher.take(&entry.line(), mode),
        None => watcher.take(&reader.read(line), mode),
    }
}

/// The entry of the journal that a line is, if it is one.
pub fn entry(line: &[u8]) -> Option<Entry> {
    if !line.starts_with(b"{") {
        return None;
    }
    Entry::parse(line, utc_offset()).ok().filter(|entry| entry.time.is_some())
}

/// As `2026-11-26T19:15:36`, without a zone, as logs mostly are.
pub fn wall(time: Time) -> String {
    match Timestamp::from_second(time.0) {
        Ok(moment) => moment.to_string().trim_end_matches('Z').to_owned(),
        Err(_) => format!("@{}", time.0),
    }
}
