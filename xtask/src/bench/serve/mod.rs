//! `cargo xtask bench serve`: `cylinder serve` raced against Cyrus' own `sync_server`.

mod page;

use std::process::Command;

use serde_json::Value;

use super::workbench::Workbench;
use crate::{Failure, process};

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
    let cyrus = process::output(Command::new("dpkg-query").args([
        "--show",
        "--showformat",
        "${Version}",
        "cyrus-imapd",
    ]))?;
    let page = page::render(&options.typed, &computer, &cyrus, &results);
    super::publish(&page, options.write.then_some(PAGE))
}

fn measure(bench: &Workbench, options: &Options) -> Result<Results, String> {
    let mut results = Results::default();
    if let Some(Race { messages, flagged, repeat, rounds }) = options.race {
        let numbers =
            [("messages", messages), ("flagged", flagged), ("repeat", repeat), ("rounds", rounds)];
        results.race = Some(ask(bench, "race", &numbers)?);
    }
    for records in &options.memory {
        results.memory.push(ask(bench, "memory", &[("records", *records)])?);
    }
    if let Some(kills) = options.kills {
        results.leftovers = Some(ask(bench, "leftovers", &[("kills", kills), ("seed", 1)])?);
    }
    Ok(results)
}

fn ask(bench: &Workbench, what: &str, numbers: &[(&str, u64)]) -> Result<Value, String> {
    eprintln!("\n{what} {numbers:?}");
    let mut command = Command::new(bench.program(PROGRAM));
    // On the disk that all benchmarks are on.
    command.env("TMPDIR", &bench.root).arg(what).args(["--cylinder", &bench.cylinder]);
    for (name, number) in numbers {
        command.args([format!("--{name}"), number.to_string()]);
    }
    let text = process::output(&mut command)?;
    serde_json::from_str(&text).map_err(|e| format!("read the answer of {PROGRAM}: {e}"))
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
        let args: Vec<String> = line.split_whitespace().map(String::from).collect();
        Options::parse(&args).ok()
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
