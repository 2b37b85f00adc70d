//! `cargo xtask bench serve`: `cylinder serve` raced against Cyrus' own `sync_server`.

mod page;

use serde_json::Value;

use super::computer::cyrus_version;
use super::workbench::Workbench;
use crate::Failure;

/// What the results are written to.
const PAGE: &str = "docs/benchmarks-serve.md";

/// How the options are called.
pub const ARGUMENTS: &str = "serve [--quick] [--only race,memory,leftovers] [--kills N] [--write]";

/// The program that does it.
const PROGRAM: &str = "bench-serve";

/// What is measured.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Options {
    race: Option<Race>,
    /// The sizes of mailboxes, in records.
    memory: Vec<u64>,
    /// How often each replica is killed.
    kills: Option<u64>,
    write: bool,
    /// What was typed.
    typed: String,
}

/// Numbers of messages and repetitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Race {
    /// Of the corpus.
    messages: u64,
    /// Small ones, for flags and appends.
    flagged: u64,
    /// How often short tasks are repeated.
    repeat: u64,
    /// How often replicas begin with nothing.
    rounds: u64,
}

/// What `bench-serve` answered.
#[derive(Debug, Default)]
struct Results {
    race: Option<Value>,
    memory: Vec<Value>,
    leftovers: Option<Value>,
}

/// The command.
pub fn run(args: &[String]) -> Result<(), Failure> {
    let options = Options::parse(args)?;
    let (bench, computer) = super::begin()?;
    let results = measure(&bench, &options)?;
    bench.clear()?;
    let page = page::render(&options.typed, &computer, &cyrus_version()?, &results);
    super::publish(&page, options.write.then_some(PAGE))
}

fn measure(bench: &Workbench, options: &Options) -> Result<Results, String> {
    let mut results = Results::default();
    if let Some(Race { messages, flagged, repeat, rounds }) = options.race {
        let numbers =
            [("messages", messages), ("flagged", flagged), ("repeat", repeat), ("rounds", rounds)];
        results.race = Some(bench.ask(PROGRAM, "race", &numbers)?);
    }
    for records in &options.memory {
        results.memory.push(bench.ask(PROGRAM, "memory", &[("records", *records)])?);
    }
    if let Some(kills) = options.kills {
        let numbers = [("kills", kills), ("seed", 1)];
        results.leftovers = Some(bench.ask(PROGRAM, "leftovers", &numbers)?);
    }
    Ok(results)
}

impl Options {
    /// Reads the arguments behind `bench serve`.
    fn parse(args: &[String]) -> Result<Self, Failure> {
        let quick = args.iter().any(|arg| arg == "--quick");
        let mut options = Self::of(quick);
        options.typed = format!("cargo xtask bench serve {}", args.join(" ")).trim_end().to_owned();
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--quick" => {}
                "--write" => options.write = true,
                "--only" => {
                    let what = args.next().map(String::as_str).unwrap_or_default();
                    options = options.only(what)?;
                }
                "--kills" => {
                    let kills = args.next().and_then(|kills| kills.parse().ok());
                    let usage = || Failure::Usage(format!("bench {ARGUMENTS}"));
                    options.kills = Some(kills.filter(|kills| *kills > 0).ok_or_else(usage)?);
                }
                other => return Err(Failure::Usage(format!("unknown option `{other}`"))),
            }
        }
        Ok(options)
    }

    fn of(quick: bool) -> Self {
        let (write, typed) = (false, String::new());
        if quick {
            let race = Some(Race { messages: 600, flagged: 1_000, repeat: 3, rounds: 1 });
            return Self { race, memory: vec![10_000], kills: Some(5), write, typed };
        }
        let race = Some(Race { messages: 6_046, flagged: 10_000, repeat: 15, rounds: 3 });
        let memory = vec![10_000, 100_000, 1_000_000];
        Self { race, memory, kills: Some(500), write, typed }
    }

    fn only(self, what: &str) -> Result<Self, Failure> {
        let mut only = Self { race: None, memory: Vec::new(), kills: None, ..self.clone() };
        for part in what.split(',') {
            match part {
                "race" => only.race = self.race,
                "memory" => only.memory.clone_from(&self.memory),
                "leftovers" => only.kills = self.kills,
                _ => return Err(Failure::Usage(format!("bench {ARGUMENTS}"))),
            }
        }
        Ok(only)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Option<Options> {
        Options::parse(&crate::bench::words(line)).ok()
    }

    #[test]
    fn a_part_can_be_asked_for() {
        let memory = parse("--only memory --write").expect("understood");
        assert_eq!((memory.race, memory.memory.len(), memory.kills), (None, 3, None));
        assert!(memory.write);
        assert_eq!(memory.typed, "cargo xtask bench serve --only memory --write");
        let quick = parse("--quick --only race,leftovers").expect("understood");
        assert_eq!((quick.race.map(|race| race.repeat), quick.kills), (Some(3), Some(5)));
        assert_eq!(parse("--kills 40").expect("understood").kills, Some(40));
        assert_eq!(parse("--kills 0"), None);
        assert_eq!(parse("--only tomorrow"), None);
        assert_eq!(parse("--only"), None);
        assert_eq!(parse("more"), None);
    }
}
