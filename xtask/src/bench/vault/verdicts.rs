//! What was to be reached, and whether it was. Everything here is computed from what was measured.

use super::Results;
use super::contest::Contest;
use super::growth::Point;
use super::programs::{Program, Task};
use crate::bench::goals::Verdict;
use crate::bench::page::{count, mib};
use crate::bench::sample::Series;

/// Most memory, whatever the size of the vault, in KiB.
const MOST_MEMORY: u64 = 250 * 1024;

impl Results {
    /// What can be said from what was measured.
    pub fn verdicts(&self) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        let contests = || self.accounts.iter().chain(&self.fleet).chain(&self.large);
        for contest in contests() {
            verdicts.extend(faster(contest, 1, Task::First, Program::Restic, 5.0, "5.0"));
            verdicts.extend(smaller(contest, Program::Restic));
            verdicts.extend(smaller(contest, Program::Borg));
        }
        for contest in self.fleet.iter().chain(&self.accounts) {
            verdicts.extend(faster(contest, 2, Task::Unchanged, Program::Restic, 50.0, "50.0"));
        }
        for contest in contests() {
            verdicts.extend(faster(contest, 3, Task::Message, Program::Restic, 100.0, "100.0"));
        }
        for contest in &self.accounts {
            verdicts.extend(faster(contest, 4, Task::Restore, Program::Tar, 1.0, "1.0"));
            verdicts.extend(faster(contest, 4, Task::Restore, Program::Restic, 3.0, "3.0"));
        }
        verdicts.extend(self.growth.last().map(memory));
        verdicts
    }
}

/// Speed against another program's.
fn faster(
    contest: &Contest,
    goal: u8,
    task: Task,
    other: Program,
    at_least: f64,
    limit: &'static str,
) -> Option<Verdict> {
    let (ours, theirs) = (contest.of(Program::Cylinder, task)?, contest.of(other, task)?);
    let faster = ratio(theirs, ours);
    let what = match task {
        Task::First => "first backup",
        Task::Unchanged => "unchanged",
        Task::Message => "one message",
        Task::Restore => "restored",
        Task::Verify => "verified",
    };
    Some(Verdict {
        goal,
        about: format!("{what}, {}", about(contest)),
        measured: format!("{faster:.1} times as fast as {}", other.name()),
        limit,
        reached: faster >= at_least,
    })
}

fn smaller(contest: &Contest, other: Program) -> Option<Verdict> {
    let (ours, theirs) = (contest.stored(Program::Cylinder)?, contest.stored(other)?);
    Some(Verdict {
        goal: 1,
        about: format!("size, {}", about(contest)),
        measured: format!("{:.2} times that of {}", ours as f64 / theirs as f64, other.name()),
        limit: "1.00",
        reached: ours <= theirs,
    })
}

fn memory(largest: &Point) -> Verdict {
    Verdict {
        goal: 5,
        about: format!("peak memory of any command, {} messages", count(largest.messages)),
        measured: mib(largest.peak_kib() * 1024),
        limit: "250.0 MiB",
        reached: largest.peak_kib() <= MOST_MEMORY,
    }
}

/// What a contest was about, in few words.
pub fn about(contest: &Contest) -> String {
    let spool = &contest.spool;
    let stored = contest.stored(Program::Cylinder).unwrap_or_default();
    match spool.accounts {
        1 => format!("{} messages", count(spool.messages)),
        many => format!("{} accounts, vault of {}", count(many), mib(stored)),
    }
}

/// How many times as long the first takes as the second.
fn ratio(first: &Series, second: &Series) -> f64 {
    first.median().as_secs_f64() / second.median().as_secs_f64()
}
