//! What time it is: by a clock that never goes back, for what is to be done when, and by the calendar,
//! for people and files.

use std::time::{SystemTime, UNIX_EPOCH};

use engine::rolling::Moment;
use rustix::time::{ClockId, clock_gettime};

/// The same instant on both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Since this machine was started, the time included in which it slept.
    pub moment: Moment,
    /// Milliseconds since 1970. It may be set at any time, and goes back then.
    pub calendar: i64,
}

impl Now {
    /// Looks at both.
    pub fn read() -> Self {
        let since_start = clock_gettime(ClockId::Boottime);
        let millis = since_start.tv_sec.saturating_mul(1000) + since_start.tv_nsec / 1_000_000;
        Self { moment: Moment(millis), calendar: millis_of(SystemTime::now()) }
    }

    /// What the calendar says of a moment, as it goes by now.
    pub fn calendar_of(self, moment: Moment) -> i64 {
        self.calendar.saturating_add(moment.0.saturating_sub(self.moment.0))
    }

    /// When something was that has a date. What comes from the future was just now: the calendar was set
    /// back since.
    pub fn moment_of(self, calendar: i64) -> Moment {
        let age = self.calendar.saturating_sub(calendar).max(0);
        Moment(self.moment.0.saturating_sub(age))
    }

    /// Whether a moment has come.
    pub fn is_past(self, moment: Moment) -> bool {
        moment <= self.moment
    }

    /// The moment in so many milliseconds.
    pub fn plus(self, millis: i64) -> Moment {
        Moment(self.moment.0.saturating_add(millis))
    }
}

/// Milliseconds since 1970.
pub fn millis_of(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_calendar_that_is_set_moves_no_moment() {
        let now = Now { moment: Moment(50_000), calendar: 1_800_000_000_000 };
        let taken = now.moment_of(1_799_999_990_000);
        assert_eq!(taken, Moment(40_000));
        // An hour forward, and a second later.
        let later = Now { moment: Moment(51_000), calendar: now.calendar + 3_601_000 };
        assert_eq!(later.moment.0 - taken.0, 11_000, "its age is not an hour");
        assert_eq!(later.calendar_of(taken), later.calendar - 11_000);
        assert_eq!(later.calendar_of(later.plus(500)), later.calendar + 500);
        // And back: what was written before has a date that is still to come.
        let back = Now { moment: Moment(52_000), calendar: now.calendar - 3_600_000 };
        assert_eq!(back.moment_of(now.calendar), back.moment);
    }

    #[test]
    fn both_clocks_go() {
        let (before, after) = (Now::read(), Now::read());
        assert!(before.moment <= after.moment && before.calendar > 1_700_000_000_000);
    }
}
