//! Time as a log tells it.

/// Seconds in an hour.
pub const HOUR: i64 = 3600;
/// Seconds in a day.
pub const DAY: i64 = 86_400;

/// A moment as the clock on the server's wall shows it: seconds since it showed 1970-01-01 00:00.
///
/// Traditional stamps tell no zone, and what is everyday follows the wall: people come at nine,
/// whatever that is in UTC. An hour that comes twice, or never, is the reader's to bear.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub i64);

/// A date and a time of the day; no field has been checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Civil {
    /// The year, as 2026.
    pub year: i64,
    /// 1 to 12.
    pub month: u32,
    /// 1 to 31.
    pub day: u32,
    /// 0 to 23.
    pub hour: u32,
    /// 0 to 59.
    pub minute: u32,
    /// 0 to 60.
    pub second: u32,
}

impl Civil {
    /// The moment; `None` if no calendar has it.
    pub fn time(self) -> Option<Time> {
        let in_range = (1..=12).contains(&self.month)
            && (1..=days_of(self.year, self.month)).contains(&self.day)
            && self.hour < 24
            && self.minute < 60
            && self.second <= 60
            && (1..=9999).contains(&self.year);
        let seconds = i64::from(self.hour * 3600 + self.minute * 60 + self.second);
        in_range.then(|| Time(days_before(self.year, self.month, self.day) * DAY + seconds))
    }
}

impl Time {
    /// Which day that is, counted from 1970-01-01.
    pub fn day(self) -> i64 {
        self.0.div_euclid(DAY)
    }

    /// Which hour that is, counted likewise.
    pub fn hour(self) -> i64 {
        self.0.div_euclid(HOUR)
    }

    /// Which minute that is, counted likewise.
    pub fn minute(self) -> i64 {
        self.0.div_euclid(60)
    }

    /// The year on the wall.
    pub fn year(self) -> i64 {
        // Wrong by at most one, as no year differs from the mean by as much as a day and a half.
        let guess = 1970 + self.0.div_euclid(31_556_952);
        let starts = |year| days_before(year, 1, 1) * DAY;
        match () {
            () if self.0 < starts(guess) => guess - 1,
            () if self.0 >= starts(guess + 1) => guess + 1,
            () => guess,
        }
    }

    /// The moment so many seconds later; the last one that there is, where there is none.
    #[must_use]
    pub fn plus(self, seconds: i64) -> Self {
        Self(self.0.saturating_add(seconds))
    }

    /// Seconds from `earlier` to this.
    pub fn since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Whether an hour, as [`Time::hour`] counts them, is of a Saturday or a Sunday.
pub fn is_weekend(hour: i64) -> bool {
    // 1970-01-01 was a Thursday.
    matches!((hour.div_euclid(24) + 4).rem_euclid(7), 0 | 6)
}

/// Days from 1970-01-01 to that one, by the Gregorian calendar.
fn days_before(year: i64, month: u32, day: u32) -> i64 {
    // Years that begin in March have their leap day at the end.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leaps = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    365 * year + leaps + i64::from((153 * month + 2) / 5 + day - 1) - 719_468
}

fn days_of(year: i64, month: u32) -> u32 {
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 if is_leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(year: i64, month: u32, day: u32) -> Option<Time> {
        Civil { year, month, day, hour: 0, minute: 0, second: 0 }.time()
    }

    #[test]
    fn days_are_counted_as_the_calendar_does() {
        assert_eq!(at(1970, 1, 1), Some(Time(0)));
        assert_eq!(at(2000, 3, 1), Some(Time(951_868_800)));
        assert_eq!(at(2026, 11, 26), Some(Time(1_795_651_200)));
        assert_eq!(at(2024, 2, 29).map(Time::year), Some(2024));
        assert_eq!(at(2023, 2, 29), None);
        assert_eq!(at(2026, 13, 1), None);
    }

    #[test]
    fn every_first_and_last_second_is_of_its_year() {
        for year in 1900..2300 {
            let first = at(year, 1, 1).expect("every year begins");
            assert_eq!(first.year(), year);
            assert_eq!(first.plus(-1).year(), year - 1);
        }
    }

    #[test]
    fn the_week_ends_on_saturday() {
        let weekend = |day| is_weekend(at(2026, 11, day).expect("a day").hour());
        assert_eq!([27, 28, 29, 30].map(weekend), [false, true, true, false]);
    }
}
