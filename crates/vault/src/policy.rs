//! Which snapshots to keep.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::history::Entry;

/// How many snapshots of each kind are kept. What one rule keeps, no other gives up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// The newest ones.
    pub last: u32,
    /// The newest one of as many hours that have one.
    pub hourly: u32,
    /// Likewise of days.
    pub daily: u32,
    /// Of ISO weeks.
    pub weekly: u32,
    /// Of months.
    pub monthly: u32,
    /// Of years.
    pub yearly: u32,
}

impl Rules {
    /// Whether there is any rule at all.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Which rules keep a snapshot; none if it can go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The snapshot.
    pub entry: Entry,
    /// Why it stays: `newest`, `last`, `hourly` and so on.
    pub kept: Vec<&'static str>,
}

/// Judges snapshots, given in the order of their numbers. The newest is always kept.
///
/// Hours and days are those of `zone`; the hour that comes twice when summer time ends counts once.
/// A clock that went backwards makes two snapshots of one hour
/// that are not neighbours; then both are kept, since each was the newest of its hour when it was
/// taken.
pub fn judge(snapshots: &[&Entry], rules: &Rules, zone: &TimeZone) -> Vec<Verdict> {
    let mut periods = [
        Period::new("hourly", rules.hourly, |time| time.strftime("%Y-%m-%d %H").to_string()),
        Period::new("daily", rules.daily, |time| time.strftime("%Y-%m-%d").to_string()),
        Period::new("weekly", rules.weekly, |time| time.strftime("%G-%V").to_string()),
        Period::new("monthly", rules.monthly, |time| time.strftime("%Y-%m").to_string()),
        Period::new("yearly", rules.yearly, |time| time.strftime("%Y").to_string()),
    ];
    let mut verdicts = Vec::with_capacity(snapshots.len());
    for (age, entry) in snapshots.iter().rev().enumerate() {
        let mut kept = Vec::new();
        if age == 0 {
            kept.push("newest");
        }
        if u32::try_from(age).is_ok_and(|age| age < rules.last) {
            kept.push("last");
        }
        let time = Timestamp::from_second(entry.name.taken_at).unwrap_or_default();
        let time = zone.to_datetime(time);
        let of_period = periods.iter_mut().filter_map(|period| period.keeps(&time));
        kept.extend(of_period);
        verdicts.push(Verdict { entry: Entry::clone(entry), kept });
    }
    verdicts.reverse();
    verdicts
}

/// A rule that keeps one snapshot of each hour, day and so on.
struct Period {
    name: &'static str,
    left: u32,
    bucket: fn(&DateTime) -> String,
    last: Option<String>,
}

impl Period {
    fn new(name: &'static str, left: u32, bucket: fn(&DateTime) -> String) -> Self {
        Self { name, left, bucket, last: None }
    }

    /// Its name, if this is the newest snapshot of its period.
    fn keeps(&mut self, time: &DateTime) -> Option<&'static str> {
        if self.left == 0 {
            return None;
        }
        let bucket = (self.bucket)(time);
        if self.last.as_ref() == Some(&bucket) {
            return None;
        }
        self.last = Some(bucket);
        self.left -= 1;
        Some(self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{SegmentKind, SegmentName};
    use model::state::Digest;

    /// Snapshots of these times, numbered in this order.
    fn entries(times: &[&str]) -> Vec<Entry> {
        let entry = |(at, time): (usize, &&str)| {
            let time: Timestamp = time.parse().expect("a time");
            let seq = u32::try_from(at).expect("few") + 1;
            let name = SegmentName {
                seq,
                taken_at: time.as_second(),
                own: Digest([u8::try_from(seq).expect("few"); 32]),
                parent: None,
                kind: SegmentKind::Snapshot,
            };
            Entry { name, size: 1 }
        };
        times.iter().enumerate().map(entry).collect()
    }

    fn kept(times: &[&str], rules: Rules) -> Vec<u32> {
        let entries = entries(times);
        let entries: Vec<&Entry> = entries.iter().collect();
        let verdicts = judge(&entries, &rules, &TimeZone::UTC);
        let kept = verdicts.iter().filter(|verdict| !verdict.kept.is_empty());
        kept.map(|verdict| verdict.entry.name.seq).collect()
    }

    const TIMES: [&str; 7] = [
        "2025-12-31T23:00:00Z",
        "2026-01-01T00:10:00Z",
        "2026-01-01T00:50:00Z",
        "2026-01-02T10:00:00Z",
        "2026-01-02T11:00:00Z",
        "2026-01-05T00:00:00Z",
        "2026-02-01T00:00:00Z",
    ];

    #[test]
    fn the_newest_is_kept_whatever_the_rules() {
        assert_eq!(kept(&TIMES, Rules::default()), [7]);
        assert_eq!(kept(&[], Rules::default()), [0; 0]);
    }

    #[test]
    fn each_rule_keeps_the_newest_of_its_periods() {
        assert_eq!(kept(&TIMES, Rules { last: 3, ..Rules::default() }), [5, 6, 7]);
        assert_eq!(kept(&TIMES, Rules { hourly: 4, ..Rules::default() }), [4, 5, 6, 7]);
        assert_eq!(kept(&TIMES, Rules { daily: 4, ..Rules::default() }), [3, 5, 6, 7]);
        assert_eq!(kept(&TIMES, Rules { weekly: 3, ..Rules::default() }), [5, 6, 7]);
        assert_eq!(kept(&TIMES, Rules { monthly: 9, ..Rules::default() }), [1, 6, 7]);
        assert_eq!(kept(&TIMES, Rules { yearly: 9, ..Rules::default() }), [1, 7]);
    }

    #[test]
    fn rules_add_up_and_say_why() {
        let entries = entries(&TIMES);
        let entries: Vec<&Entry> = entries.iter().collect();
        let rules = Rules { last: 1, daily: 2, ..Rules::default() };
        let verdicts = judge(&entries, &rules, &TimeZone::UTC);
        assert_eq!(verdicts[6].kept, ["newest", "last", "daily"]);
        assert_eq!(verdicts[5].kept, ["daily"]);
        assert!(verdicts[..5].iter().all(|verdict| verdict.kept.is_empty()));
    }

    #[test]
    fn a_clock_that_went_back_loses_nothing() {
        let times = ["2026-01-02T10:00:00Z", "2026-01-01T10:00:00Z", "2026-01-02T10:30:00Z"];
        assert_eq!(kept(&times, Rules { daily: 3, ..Rules::default() }), [1, 2, 3]);
    }
}
