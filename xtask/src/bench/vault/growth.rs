//! How time and memory grow with the number of messages in an account.

use super::programs::{Program, Task};
use crate::bench::racers::Ground;
use crate::bench::sample::{Sample, Words};
use crate::bench::workbench::{Workbench, remove};
use crate::words;

/// One size.
#[derive(Debug)]
pub struct Point {
    /// How many messages.
    pub messages: u64,
    /// What was done, under the name that the table has for it, and what it took.
    pub runs: Vec<(&'static str, Sample)>,
}

impl Point {
    /// The most memory that any run took, in KiB.
    pub fn peak_kib(&self) -> u64 {
        self.runs.iter().map(|(_, sample)| sample.peak_kib).max().unwrap_or(0)
    }
}

/// Measures one size: messages so small that only their number counts.
pub fn measure(bench: &Workbench, messages: u64) -> Result<Point, String> {
    let spool = bench.spool(messages, &["--size", "400", "--mailboxes", "100"])?;
    let ground = Ground { bench, spool: &spool, own: bench.fresh("growth")? };
    spool.warm(&bench.meter)?;
    let vault = ground.own("store");
    let of = |words: Words| -> Words {
        [words![bench.cylinder], words, words!["--vault", vault, spool.account]].concat()
    };
    let task = |task: Task| Program::Cylinder.words(task, &ground, 0).unwrap_or_default();
    let tar = format!("tar:{}", ground.own("restored.tar"));
    let mut point = Point { messages, runs: Vec::new() };
    let mut run = |name: &'static str, words: Words| -> Result<(), String> {
        point.runs.push((name, bench.meter.run(&words)?));
        Ok(())
    };
    run("first", task(Task::First))?;
    run("unchanged", task(Task::Unchanged))?;
    spool.deliver()?;
    run("one new", task(Task::Unchanged))?;
    run("one message", task(Task::Message))?;
    run("`find`", of(words!["find", "--subject", "tablet"]))?;
    run("restored to a tar", of(words!["restore", "--to", tar]))?;
    run("verified, every byte", task(Task::Verify))?;
    run("pruned", words![bench.cylinder, "prune", "--vault", vault, "--keep-last", 1])?;
    remove(&ground.own)?;
    Ok(point)
}
