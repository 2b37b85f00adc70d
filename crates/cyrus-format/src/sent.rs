//! When a message says that it was sent, as Cyrus reads it (`imap/message.c`, message_create_record;
//! `lib/times.c`, time_from_rfc5322, 3.6). Clients sort and search by this.

use model::Timestamp;

/// What a `Date` header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The date as it is written, at midnight UTC whatever the zone: `sentdate` of a record.
    pub day: Timestamp,
    /// The moment: `gmtime` of a record.
    pub moment: Timestamp,
}

const MONTHS: [&[u8]; 12] = [
    b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec",
];

/// Zones that have names (RFC 5322, 4.3), by their hours.
const ZONES: [(&[u8], i64); 12] = [
    (b"ut", 0),
    (b"utc", 0),
    (b"gmt", 0),
    (b"z", 0),
    (b"est", -5),
    (b"edt", -4),
    (b"cst", -6),
    (b"cdt", -5),
    (b"mst", -7),
    (b"mdt", -6),
    (b"pst", -8),
    (b"pdt", -7),
];

impl Sent {
    /// Reads it from the header of a message; `None` if there is no date, or one that makes no sense.
    pub fn of_header(header: &[u8]) -> Option<Self> {
        let mut lines = header.split(|byte| *byte == b'\n');
        let name =
            |line: &&[u8]| line.get(..5).is_some_and(|name| name.eq_ignore_ascii_case(b"date:"));
        let mut text = lines.find(name)?.get(5..)?.to_vec();
        for folded in lines.take_while(|line| matches!(line.first(), Some(b' ' | b'\t'))) {
            text.extend_from_slice(folded);
        }
        Self::parse(&text)
    }

    /// `[day-name,] 31 Oct 2017 12:30[:59] [+0100]`.
    fn parse(text: &[u8]) -> Option<Self> {
        let is_between = |byte: &u8| byte.is_ascii_whitespace() || *byte == b',';
        let mut words = text.split(is_between).filter(|word| !word.is_empty()).peekable();
        words.next_if(|word| word.first().is_some_and(u8::is_ascii_alphabetic));
        let day = number(words.next()?).filter(|day| (1..=31).contains(day))?;
        let month = words.next()?.get(..3)?.to_ascii_lowercase();
        let month = (1_i64..).zip(MONTHS).find(|(_, name)| *name == month)?.0;
        let year = words.next()?;
        let year = match (year.len(), number(year)?) {
            (2, year) if year < 50 => 2000 + year,
            (2 | 3, year) => 1900 + year,
            (4, year) => year,
            _ => return None,
        };
        let mut clock = words.next()?.split(|byte| *byte == b':');
        let hour = number(clock.next()?).filter(|hour| *hour < 24)?;
        let minute = number(clock.next()?).filter(|minute| *minute < 60)?;
        let second = clock.next().map_or(Some(0), number).filter(|second| *second <= 60)?;
        let zone = words.next().map_or(Some(0), zone)?;
        let day = days_since_1970(year, month, day) * 86_400;
        let moment = day + hour * 3600 + minute * 60 + second - zone;
        Some(Self { day: as_stored(day), moment: as_stored(moment) })
    }
}

/// An index has 32 bits for either, and Cyrus drops what does not fit in them: spam comes from before
/// 1970, too.
fn as_stored(secs: i64) -> Timestamp {
    Timestamp::from_secs(secs.rem_euclid(1 << 32))
}

/// Digits alone, few enough to be part of a date.
fn number(word: &[u8]) -> Option<i64> {
    let is_number = (1..=4).contains(&word.len()) && word.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(word).ok().filter(|_| is_number)?.parse().ok()
}

/// Seconds east of Greenwich; names that nobody knows are taken for UTC.
fn zone(word: &[u8]) -> Option<i64> {
    let sign = match word.first()? {
        b'+' => 1,
        b'-' => -1,
        _ => {
            let known = ZONES.iter().find(|(name, _)| word.eq_ignore_ascii_case(name));
            return Some(known.map_or(0, |(_, hours)| hours * 3600));
        }
    };
    let offset = number(word.get(1..)?).filter(|_| word.len() == 5)?;
    Some(sign * (offset / 100 * 3600 + offset % 100 * 60))
}

/// Of the Gregorian calendar; years begin in March, so that a leap day is the last of one.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    days + (153 * month + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(date: &str) -> Option<(i64, i64)> {
        let header = format!("Subject: x\r\nDATE:{date}\r\nTo: a\r\n\r\n");
        Sent::of_header(header.as_bytes()).map(|sent| (sent.day.secs, sent.moment.secs))
    }

    #[test]
    fn dates_are_read_in_all_their_forms() {
        let day = 1_509_408_000;
        for (date, moment) in [
            (" Tue, 31 Oct 2017 12:30:59 +0000", day + 45_059),
            (" 31 Oct 2017 12:30 GMT", day + 45_000),
            ("Tue,\r\n 31 Oct 2017\r\n\t12:30:59 +0130 (comment)", day + 45_059 - 5400),
            (" 31 oct 17 23:00:00 -0800", day + 31 * 3600),
            (" 31 October 117 00:00:00 EST", day + 5 * 3600),
            (" Tue, 31 Oct 2017 00:00:00", day),
        ] {
            assert_eq!(read(date), Some((day, moment)), "{date}");
        }
        assert_eq!(read(" 1 Jan 1970 00:00:00 +0000"), Some((0, 0)));
        assert_eq!(read(" 29 Feb 2000 00:00:00 Z"), Some((951_782_400, 951_782_400)));
    }

    #[test]
    fn dates_that_an_index_cannot_hold_lose_what_does_not_fit() {
        let last = 4_294_967_295;
        assert_eq!(read(" 31 Dec 1969 23:59:59 +0000"), Some((last - 86_399, last)));
        for date in
            [" 5 Aug 0102 18:02:07 -0300", " 1 Jan 9999 00:00:00 +0000", " 7 Feb 2106 06:28:16 Z"]
        {
            let (day, moment) = read(date).expect("a date");
            assert!((0..=last).contains(&day) && (0..=last).contains(&moment), "{date}");
        }
        assert_eq!(read(" 7 Feb 2106 06:28:16 Z").map(|(_, moment)| moment), Some(0));
    }

    #[test]
    fn what_is_no_date_is_none() {
        for date in [
            "",
            " yesterday",
            " 32 Oct 2017 12:30:59 +0000",
            " 31 Okt 2017 12:30:59 +0000",
            " 31 Oct 20170 12:30:59 +0000",
            " 31 Oct 2017 24:30:59 +0000",
            " 31 Oct 2017 12",
            " 31 Oct 2017",
            " 31 Oct 2017 12:30:59 +01",
            " 99999999999999999999 Oct 2017 12:30:59 +0000",
        ] {
            assert_eq!(read(date), None, "{date}");
        }
        assert_eq!(Sent::of_header(b"Subject: x\r\n\r\n"), None);
    }
}
