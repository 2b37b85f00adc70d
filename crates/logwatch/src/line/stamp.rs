//! Stamps of syslog.

use crate::time::{Civil, DAY, Time};

/// How long a traditional stamp is: `Nov 26 19:15:36`.
const TRADITIONAL: usize = 15;

/// Reads stamps. Neighbours have nearly always the same, so that the last one is kept.
#[derive(Clone, Debug)]
pub struct Stamps {
    /// No stamp is later than this by more than a day.
    pub now: Time,
    last: ([u8; TRADITIONAL], Time),
}

impl Stamps {
    pub fn new(now: Time) -> Self {
        Self { now, last: ([0; TRADITIONAL], Time(0)) }
    }

    /// The stamp in front of a text, and what comes behind the blank that follows it.
    pub fn read<'a>(&mut self, text: &'a [u8]) -> Option<(Time, &'a [u8])> {
        let stamp: &[u8; TRADITIONAL] = text.first_chunk()?;
        if stamp[0].is_ascii_digit() {
            return rfc3339(text);
        }
        let rest = text[TRADITIONAL..].strip_prefix(b" ")?;
        if *stamp != self.last.0 {
            self.last = (*stamp, self.traditional(stamp)?);
        }
        Some((self.last.1, rest))
    }

    /// The newest moment that may be meant by a stamp without a year.
    fn traditional(&self, stamp: &[u8; TRADITIONAL]) -> Option<Time> {
        let [m0, m1, m2, b' ', d0, d1, b' ', clock @ ..] = stamp else { return None };
        let month = month(&[*m0, *m1, *m2])?;
        let day = digits(&[if *d0 == b' ' { b'0' } else { *d0 }, *d1])?;
        let (hour, minute, second) = clock_of(clock)?;
        let latest = self.now.plus(DAY);
        // 29 February comes every eighth year at the least.
        let years = (latest.year() - 8..=latest.year()).rev();
        let times = years.filter_map(|year| {
            Civil { year, month, day, hour, minute, second }.time().filter(|time| *time <= latest)
        });
        times.max()
    }
}

/// `2026-11-26T19:15:36.123456+01:00`: what the wall showed is what is wanted, so that the offset is
/// read over (RFC 3339, section 5.6).
fn rfc3339(text: &[u8]) -> Option<(Time, &[u8])> {
    let [y0, y1, y2, y3, b'-', m0, m1, b'-', d0, d1, b'T' | b't' | b' ', ..] = text else {
        return None;
    };
    let date =
        [digits(&[*y0, *y1])?, digits(&[*y2, *y3])?, digits(&[*m0, *m1])?, digits(&[*d0, *d1])?];
    let (hour, minute, second) = clock_of(text.get(11..19)?.first_chunk()?)?;
    let year = i64::from(date[0] * 100 + date[1]);
    let time = Civil { year, month: date[2], day: date[3], hour, minute, second }.time()?;
    let tail = &text[19..];
    // A fraction and an offset: 22 bytes are enough for both.
    let length = tail.iter().take(23).position(|byte| *byte == b' ')?;
    let known = |byte: &u8| byte.is_ascii_digit() || b".,+-:Zz".contains(byte);
    tail[..length].iter().all(known).then(|| (time, &tail[length + 1..]))
}

fn clock_of(text: &[u8; 8]) -> Option<(u32, u32, u32)> {
    let [h0, h1, b':', m0, m1, b':', s0, s1] = text else { return None };
    Some((digits(&[*h0, *h1])?, digits(&[*m0, *m1])?, digits(&[*s0, *s1])?))
}

fn digits(text: &[u8; 2]) -> Option<u32> {
    let both = text.iter().all(u8::is_ascii_digit);
    both.then(|| u32::from(text[0] - b'0') * 10 + u32::from(text[1] - b'0'))
}

fn month(name: &[u8; 3]) -> Option<u32> {
    const MONTHS: &[u8; 36] = b"JanFebMarAprMayJunJulAugSepOctNovDec";
    let at = MONTHS.chunks(3).position(|month| month == name)?;
    u32::try_from(at + 1).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(year: i64, month: u32, day: u32) -> Time {
        Civil { year, month, day, hour: 0, minute: 0, second: 0 }.time().expect("a day")
    }

    #[test]
    fn the_year_is_the_newest_that_is_not_ahead() {
        let of = |now, stamp: &[u8]| Stamps::new(now).read(stamp).map(|(time, _)| time);
        let new_year = time(2027, 1, 1);
        assert_eq!(of(new_year, b"Dec 31 00:00:00 x"), Some(time(2026, 12, 31)));
        assert_eq!(of(new_year, b"Jan  2 00:00:00 x"), Some(time(2027, 1, 2)));
        assert_eq!(of(new_year, b"Jan  3 00:00:00 x"), Some(time(2026, 1, 3)));
        assert_eq!(of(new_year, b"Feb 29 00:00:00 x"), Some(time(2024, 2, 29)));
        assert_eq!(of(new_year, b"Feb 30 00:00:00 x"), None);
    }

    #[test]
    fn a_stamp_that_was_kept_is_the_same() {
        let mut stamps = Stamps::new(time(2026, 11, 26));
        let first = stamps.read(b"Nov 26 00:00:01 a");
        assert_eq!(first, stamps.read(b"Nov 26 00:00:01 a"));
        assert_eq!(stamps.read(b"Nov 26 00:00:00 a").map(|(t, _)| t), Some(time(2026, 11, 26)));
    }

    #[test]
    fn stamps_of_rfc_3339_keep_the_wall() {
        for tail in ["", "Z", ".5Z", ".123456789+05:30", "-08:00"] {
            let text = format!("2026-11-26T00:00:00{tail} m");
            let read = Stamps::new(Time(0)).read(text.as_bytes());
            assert_eq!(read, Some((time(2026, 11, 26), &b"m"[..])), "{text}");
        }
        assert_eq!(Stamps::new(Time(0)).read(b"2026-11-26T00:00:00!x m"), None);
    }
}
