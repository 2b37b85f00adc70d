//! What was to be reached, and whether it was. Everything here is computed from what was measured.

use std::time::Duration;

use super::curve::Point;
use super::lock::Locks;
use super::page::{count, mib, time};
use super::race::{Performance, Race};
use super::racers::{CYLINDER, CYLINDER_ZSTD, RESTIC, RSYNC, TAR, TAR_ZSTD};
use super::sample::Series;

/// Everything that was measured.
#[derive(Debug, Default)]
pub struct Results {
    /// Races on real mail, smallest first.
    pub races: Vec<Race>,
    /// The race on the account that hardly changes.
    pub account: Option<Race>,
    /// Accounts of tiny messages, smallest first.
    pub curve: Vec<Point>,
    /// Lock times.
    pub locks: Option<Locks>,
}

/// A goal, or a part of it, on one spool.
#[derive(Debug, PartialEq)]
pub struct Verdict {
    /// Its number.
    pub goal: u8,
    /// What it is about.
    pub about: String,
    /// What was measured.
    pub measured: String,
    /// What was to be reached.
    pub limit: &'static str,
    /// Whether it was.
    pub reached: bool,
}

/// Most memory at the largest account, in KiB.
const MOST_MEMORY: u64 = 250 * 1024;

/// How much longer a message of an account ten times as large may take, for time to be called
/// linear.
const LINEAR: f64 = 1.25;

impl Results {
    /// What can be said from what was measured.
    pub fn verdicts(&self) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        verdicts.extend(self.races.iter().filter_map(full));
        verdicts.extend(self.races.iter().flat_map(compressed));
        if let Some(race) = &self.account {
            verdicts.extend(unchanged(race));
        }
        verdicts.extend(independent(&self.curve));
        verdicts.extend(self.account.as_ref().and_then(delivered));
        verdicts.extend(memory(&self.curve));
        verdicts.extend(linear(&self.curve));
        verdicts.extend(self.locks.iter().flat_map(locks));
        verdicts
    }
}

fn full(race: &Race) -> Option<Verdict> {
    let (ours, tar) = (&race.of(CYLINDER)?.full, &race.of(TAR)?.full);
    let ratio = ratio(ours, tar);
    Some(Verdict {
        goal: 1,
        about: format!("full, {} messages", count(race.spool.messages)),
        measured: format!("{ratio:.2} times the time of `tar cf - DIR \\| cat`"),
        limit: "1.00",
        reached: ratio <= 1.0,
    })
}

fn compressed(race: &Race) -> Vec<Verdict> {
    let (Some(ours), Some(tar)) = (race.of(CYLINDER_ZSTD), race.of(TAR_ZSTD)) else {
        return Vec::new();
    };
    let messages = count(race.spool.messages);
    let slower = ratio(&ours.full, &tar.full);
    let mut verdicts = vec![Verdict {
        goal: 2,
        about: format!("full with zstd, {messages} messages"),
        measured: format!("{slower:.2} times the time of `tar cf - DIR \\| zstd -3`"),
        limit: "1.00",
        reached: slower <= 1.0,
    }];
    if let (Some(ours), Some(tar)) = (ours.stored, tar.stored) {
        let larger = ours as f64 / tar as f64;
        verdicts.push(Verdict {
            goal: 2,
            about: format!("its size, {messages} messages"),
            measured: format!("{larger:.2} times the size"),
            limit: "below 1.00",
            reached: ours < tar,
        });
    }
    verdicts
}

fn unchanged(race: &Race) -> Vec<Verdict> {
    let Some(ours) = race.of(CYLINDER) else { return Vec::new() };
    let against = |name: &'static str, limit, at_least: f64| {
        let faster = ratio(&race.of(name)?.unchanged, &ours.unchanged);
        Some(Verdict {
            goal: 3,
            about: format!("unchanged, {} messages", count(race.spool.messages)),
            measured: format!("{faster:.0} times as fast as {name}"),
            limit,
            reached: faster >= at_least,
        })
    };
    [against(RESTIC, "50", 50.0), against(RSYNC, "10", 10.0)].into_iter().flatten().collect()
}

fn independent(curve: &[Point]) -> Option<Verdict> {
    let (first, last) = (curve.first()?, curve.last()?);
    let (few, many) = (first.calls?, last.calls?);
    Some(Verdict {
        goal: 3,
        about: format!("unchanged, {} and {}", count(first.messages), count(last.messages)),
        measured: format!(
            "{} and {} system calls, {} of them on messages",
            count(few.all),
            count(many.all),
            few.on_messages + many.on_messages,
        ),
        limit: "none on messages",
        reached: few.on_messages + many.on_messages == 0,
    })
}

fn delivered(race: &Race) -> Option<Verdict> {
    let Performance { delivered, unchanged, .. } = race.of(CYLINDER)?;
    let ratio = ratio(delivered, unchanged);
    Some(Verdict {
        goal: 4,
        about: format!("one new message, {} messages", count(race.spool.messages)),
        measured: format!("{ratio:.2} times the unchanged run"),
        limit: "2.00",
        reached: ratio <= 2.0,
    })
}

fn memory(curve: &[Point]) -> Option<Verdict> {
    let largest = curve.last()?;
    Some(Verdict {
        goal: 5,
        about: format!("peak memory, {} records", count(largest.messages)),
        measured: mib(largest.peak_kib() * 1024),
        limit: "250.0 MiB",
        reached: largest.peak_kib() <= MOST_MEMORY,
    })
}

/// The two largest accounts show it: in smaller ones, the start of the program weighs more.
fn linear(curve: &[Point]) -> Option<Verdict> {
    let [.., small, large] = curve else { return None };
    let growth = large.messages as f64 / small.messages as f64;
    let ratio = ratio(&large.full, &small.full) / growth;
    Some(Verdict {
        goal: 5,
        about: format!("time, {} and {} messages", count(small.messages), count(large.messages)),
        measured: format!("{ratio:.2} times as long per message"),
        limit: "1.25",
        reached: ratio <= LINEAR,
    })
}

fn locks(locks: &Locks) -> Vec<Verdict> {
    let verdict = |kind: &str, held: Duration| {
        let ratio = held.as_secs_f64() / locks.cat.as_secs_f64();
        Verdict {
            goal: 6,
            about: format!("longest lock, {kind}, {} messages", count(locks.messages)),
            measured: format!("{}, {ratio:.2} times `cat`", time(held)),
            limit: "3.00",
            reached: ratio <= 3.0,
        }
    };
    vec![verdict("full", locks.full), verdict("unchanged", locks.unchanged)]
}

/// How many times as long the first takes as the second.
fn ratio(first: &Series, second: &Series) -> f64 {
    first.median().as_secs_f64() / second.median().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::curve::Calls;
    use crate::bench::sample::Sample;

    fn series(millis: u64, peak_kib: u64) -> Series {
        Series(vec![Sample {
            wall: Duration::from_millis(millis),
            cpu: Duration::ZERO,
            peak_kib,
            output: String::new(),
            talk: String::new(),
        }])
    }

    fn point(messages: u64, millis: u64, peak_kib: u64, on_messages: u64) -> Point {
        Point {
            messages,
            metadata_bytes: 0,
            full: series(millis, peak_kib),
            zstd: series(1, 1),
            unchanged: series(1, 1),
            cat: series(1, 1),
            calls: Some(Calls { all: 9, on_messages }),
        }
    }

    fn reached(results: &Results) -> Vec<bool> {
        results.verdicts().iter().map(|verdict| verdict.reached).collect()
    }

    #[test]
    fn a_curve_is_judged_by_memory_messages_touched_and_growth() {
        let good = vec![point(10, 10, 9, 0), point(100, 125, 250 * 1024, 0)];
        assert_eq!(reached(&Results { curve: good, ..Results::default() }), [true, true, true]);
        let bad = vec![point(10, 10, 9, 1), point(100, 126, 250 * 1024 + 1, 0)];
        assert_eq!(reached(&Results { curve: bad, ..Results::default() }), [false, false, false]);
        assert_eq!(reached(&Results::default()), [true; 0]);
    }

    #[test]
    fn locks_are_judged_by_the_time_of_cat() {
        let millis = Duration::from_millis;
        let (full, unchanged, cat, start) = (millis(30), millis(31), millis(10), millis(1));
        let locks = Locks { messages: 1, metadata_bytes: 1, full, unchanged, cat, start };
        let results = Results { locks: Some(locks), ..Results::default() };
        assert_eq!(reached(&results), [true, false]);
        assert_eq!(results.verdicts()[0].measured, "30.0 ms, 3.00 times `cat`");
    }
}
