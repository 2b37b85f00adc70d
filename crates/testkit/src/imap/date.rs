//! The date-time of IMAP (RFC 9051, section 9).

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const DAY: i64 = 86_400;

/// `14-Jul-2017 02:40:00 +0000` for 1,500,000,000 seconds after the epoch.
pub fn date_time(secs: i64) -> String {
    let (year, month, day) = civil(secs.div_euclid(DAY));
    let second = secs.rem_euclid(DAY);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let month = MONTHS[usize::from(month - 1)];
    format!("{day:02}-{month}-{year:04} {hour:02}:{minute:02}:{second:02} +0000")
}

/// `Fri, 14 Jul 2017 02:40:00 +0000`, as the Date: header has it (RFC 5322, section 3.3).
pub(crate) fn mail_date(secs: i64) -> String {
    const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    let days = secs.div_euclid(DAY);
    let (year, month, day) = civil(days);
    let weekday = WEEKDAYS[days.rem_euclid(7) as usize];
    let month = MONTHS[usize::from(month - 1)];
    let second = secs.rem_euclid(DAY);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{weekday}, {day} {month} {year:04} {hour:02}:{minute:02}:{second:02} +0000")
}

/// Year, month from 1 and day from 1 of a day counted from 1970-01-01, in the Gregorian calendar.
/// The year is reckoned from March, so that a leap day comes last.
fn civil(days: i64) -> (i64, u8, u8) {
    const DAYS_OF_400_YEARS: i64 = 146_097;
    let since_march_0000 = days + 719_468;
    let era = since_march_0000.div_euclid(DAYS_OF_400_YEARS);
    let day_of_era = since_march_0000.rem_euclid(DAYS_OF_400_YEARS);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month as u8, day as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_moments_print_as_they_should() {
        for (secs, expected) in [
            (0, "01-Jan-1970 00:00:00 +0000"),
            (-1, "31-Dec-1969 23:59:59 +0000"),
            (951_782_400, "29-Feb-2000 00:00:00 +0000"),
            (1_500_000_000, "14-Jul-2017 02:40:00 +0000"),
            (4_107_542_399, "28-Feb-2100 23:59:59 +0000"),
        ] {
            assert_eq!(date_time(secs), expected);
        }
        assert_eq!(mail_date(1_500_000_000), "Fri, 14 Jul 2017 02:40:00 +0000");
        assert_eq!(mail_date(0), "Thu, 1 Jan 1970 00:00:00 +0000");
    }
}
