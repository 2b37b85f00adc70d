//! One race: all programs on one spool, in turns.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::racers::{Ground, Phase, RACERS, Racer};
use super::sample::{Sample, Series};
use super::workbench::{Spool, Workbench, bytes_below, remove};

/// How often an unchanged spool is saved again in each round: such runs are short.
const UNCHANGED_RUNS: usize = 3;

/// How a race is run.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// How many different messages the spool has.
    pub messages: u64,
    /// How often everything is done.
    pub rounds: usize,
    /// Whether it ends when everything has been saved once.
    pub full_only: bool,
}

/// How a race went.
#[derive(Debug)]
pub struct Race {
    /// What was saved.
    pub spool: Spool,
    /// What the files called cyrus.cache weigh, which all but cylinder save too.
    pub cache_bytes: u64,
    /// How many rounds there were.
    pub rounds: usize,
    /// One per program that took part.
    pub results: Vec<Performance>,
}

/// What one program showed.
#[derive(Debug)]
pub struct Performance {
    /// The program.
    pub name: &'static str,
    /// Saving everything.
    pub full: Series,
    /// Saving it again, unchanged.
    pub unchanged: Series,
    /// Saving it again after a delivery.
    pub delivered: Series,
    /// What a full snapshot takes on disk, or in the pipe, where that is known.
    pub stored: Option<u64>,
}

impl Race {
    /// What the program of that name showed, if it took part.
    pub fn of(&self, name: &str) -> Option<&Performance> {
        self.results.iter().find(|result| result.name == name)
    }
}

impl Performance {
    fn new(name: &'static str) -> Self {
        let (full, unchanged, delivered) = Default::default();
        Self { name, full, unchanged, delivered, stored: None }
    }

    /// How long cylinder held a user or index lock, the middle of the longest ones of all runs
    /// that saved everything.
    pub fn longest_lock(&self) -> Option<Duration> {
        self.full.longest_lock().ok()
    }

    fn take(&mut self, run: Run) {
        self.stored = self.stored.or(run.stored);
        match run.phase {
            Phase::Full => self.full.0.push(run.sample),
            Phase::Unchanged => self.unchanged.0.push(run.sample),
            Phase::Delivered => self.delivered.0.push(run.sample),
        }
    }
}

/// Programs that are not installed, each with the package that has it.
pub fn missing() -> Vec<(&'static str, &'static str)> {
    let mut needed: Vec<_> = RACERS.iter().filter_map(Racer::needs).collect();
    needed.dedup();
    needed.retain(|(program, _)| !is_there(program));
    needed
}

fn is_there(program: &str) -> bool {
    let mut command = Command::new(program);
    command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok()
}

/// Builds a spool and runs the race.
pub fn run(bench: &Workbench, rules: Rules) -> Result<Race, String> {
    let spool = bench.spool(rules.messages, &["--copies", "12"])?;
    let missing = missing();
    let is_here = |racer: &&Racer| racer.needs().is_none_or(|needed| !missing.contains(&needed));
    let mut racers: Vec<&Racer> = RACERS.iter().filter(is_here).collect();
    let mut results: Vec<_> = racers.iter().map(|racer| Performance::new(racer.name)).collect();
    for number in 1..=rules.rounds {
        eprintln!("{} messages, round {number} of {}", rules.messages, rules.rounds);
        let round = Round { bench, spool: &spool, own: bench.fresh("round")?, racers: &racers };
        for run in round.run(rules)? {
            let result = results.iter_mut().find(|result| result.name == run.name);
            result.into_iter().for_each(|result| result.take(run.clone()));
        }
        remove(&round.own)?;
        // Nobody always runs behind the same other program.
        racers.rotate_left(1);
    }
    Ok(Race { cache_bytes: spool.bytes_of("cyrus.cache")?, spool, rounds: rules.rounds, results })
}

/// One timed run.
#[derive(Clone, Debug)]
struct Run {
    name: &'static str,
    phase: Phase,
    sample: Sample,
    stored: Option<u64>,
}

/// Everything once, in the order of the racers.
struct Round<'a> {
    bench: &'a Workbench,
    spool: &'a Spool,
    own: PathBuf,
    racers: &'a [&'static Racer],
}

impl Round<'_> {
    fn run(&self, rules: Rules) -> Result<Vec<Run>, String> {
        let mut runs = Vec::new();
        for racer in self.racers {
            // What the one before wrote may have pushed mail out of memory.
            self.spool.warm(&self.bench.meter)?;
            self.prepare(racer, Phase::Full)?;
            runs.extend(self.time(racer, Phase::Full)?);
        }
        if rules.full_only {
            return Ok(runs);
        }
        for racer in self.racers {
            self.prepare(racer, Phase::Unchanged)?;
        }
        self.spool.warm(&self.bench.meter)?;
        for _ in 0..UNCHANGED_RUNS {
            for racer in self.racers {
                runs.extend(self.time(racer, Phase::Unchanged)?);
            }
        }
        self.spool.deliver()?;
        for racer in self.racers {
            self.prepare(racer, Phase::Delivered)?;
        }
        self.spool.warm(&self.bench.meter)?;
        for racer in self.racers {
            runs.extend(self.time(racer, Phase::Delivered)?);
        }
        Ok(runs)
    }

    fn prepare(&self, racer: &Racer, phase: Phase) -> Result<(), String> {
        let ground = self.ground(racer)?;
        racer.before(&ground, phase).iter().try_for_each(|words| {
            self.bench.meter.run(words)?;
            Ok(())
        })
    }

    fn time(&self, racer: &'static Racer, phase: Phase) -> Result<Option<Run>, String> {
        let ground = self.ground(racer)?;
        let Some(words) = racer.timed(&ground, phase)? else { return Ok(None) };
        let sample = self.bench.meter.run(&words)?;
        let stored = match racer.store(&ground) {
            _ if phase != Phase::Full => None,
            Some(store) => Some(bytes_below(&store)?),
            None => sample.written(),
        };
        Ok(Some(Run { name: racer.name, phase, sample, stored }))
    }

    fn ground(&self, racer: &Racer) -> Result<Ground<'_>, String> {
        let own = self.own.join(racer.name.replace(' ', "-"));
        fs::create_dir_all(&own).map_err(|e| format!("create {}: {e}", own.display()))?;
        Ok(Ground { bench: self.bench, spool: self.spool, own })
    }
}
