//! How long a user or index lock is held, compared with reading the same files.

use std::time::Duration;

use super::racers::Ground;
use super::sample::Series;
use super::workbench::{Workbench, remove};
use crate::words;

/// Short runs, so there are more of them.
const RUNS_PER_ROUND: usize = 3;

/// What was measured on an account that is one single mailbox.
#[derive(Debug)]
pub struct Locks {
    /// How many messages it has.
    pub messages: u64,
    /// What cyrus.index and cyrus.header weigh.
    pub metadata_bytes: u64,
    /// The longest lock of a full snapshot.
    pub full: Duration,
    /// The longest lock of an unchanged one.
    pub unchanged: Duration,
    /// `cat` of the files.
    pub cat: Duration,
    /// `cat` of nothing: what starting a program takes.
    pub start: Duration,
}

/// Measures it.
pub fn measure(bench: &Workbench, messages: u64, repeat: usize) -> Result<Locks, String> {
    let spool = bench.spool(messages, &["--size", "400", "--mailboxes", "1"])?;
    let ground = Ground { bench, spool: &spool, own: bench.fresh("locks")? };
    let base = ground.own.join("base.tar").display().to_string();
    spool.warm(&bench.meter)?;
    bench.meter.run(&ground.snapshot(&["--output", &base]))?;

    let commands = [
        [ground.snapshot(&[]), words!["|", "cat"]].concat(),
        [ground.snapshot(&["--since", &base]), words!["|", "cat"]].concat(),
        spool.cat_metadata()?,
        words!["cat", "/dev/null"],
    ];
    let mut series: [Series; 4] = Default::default();
    for _ in 0..repeat * RUNS_PER_ROUND {
        for (series, command) in series.iter_mut().zip(&commands) {
            series.0.push(bench.meter.run(command)?);
        }
    }
    let [full, unchanged, cat, start] = &series;
    let locks = Locks {
        messages,
        metadata_bytes: spool.bytes_of("cyrus.index")? + spool.bytes_of("cyrus.header")?,
        full: full.longest_lock()?,
        unchanged: unchanged.longest_lock()?,
        cat: cat.median(),
        start: start.median(),
    };
    remove(&ground.own)?;
    Ok(locks)
}
