//! `cargo xtask bench replicate`: `cylinder replicate` raced against Cyrus' own `sync_client`.

mod page;

use serde_json::Value;

use super::computer::cyrus_version;
use super::workbench::Workbench;
use crate::Failure;

/// What the results are written to.
const PAGE: &str = "docs/benchmarks-replicate.md";

/// How the options are called.
pub const ARGUMENTS: &str = "replicate [--quick] [--only initial,unchanged,rolling] [--write]";

/// The program that does it.
const PROGRAM: &str = "bench-replicate";

/// What is measured.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Options {
    /// Messages of the corpus, and how often they are sent to replicas that have nothing.
    initial: Option<(u64, u64)>,
    /// Accounts without news, and how often they are looked at.
    unchanged: Option<(u64, u64)>,
    /// Messages that are delivered one after the other.
    rolling: Option<u64>,
    write: bool,
    /// What was typed.
    typed: String,
}

/// What `bench-replicate` answered.
#[derive(Debug, Default)]
struct Results {
    initial: Option<Value>,
    unchanged: Option<Value>,
    rolling: Option<Value>,
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
    if let Some((messages, repeat)) = options.initial {
        let numbers = [("messages", messages), ("repeat", repeat)];
        results.initial = Some(bench.ask(PROGRAM, "initial", &numbers)?);
    }
    if let Some((accounts, repeat)) = options.unchanged {
        let numbers = [("accounts", accounts), ("repeat", repeat)];
        results.unchanged = Some(bench.ask(PROGRAM, "unchanged", &numbers)?);
    }
    if let Some(repeat) = options.rolling {
        results.rolling = Some(bench.ask(PROGRAM, "rolling", &[("repeat", repeat)])?);
    }
    Ok(results)
}

impl Options {
    /// Reads the arguments behind `bench replicate`.
    fn parse(args: &[String]) -> Result<Self, Failure> {
        let quick = args.iter().any(|arg| arg == "--quick");
        let mut options = Self::of(quick);
        // Not before it is asked for.
        let rolling = options.rolling.take();
        let typed = format!("cargo xtask bench replicate {}", args.join(" "));
        options.typed = typed.trim_end().to_owned();
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--quick" => {}
                "--write" => options.write = true,
                "--only" => {
                    let what = args.next().map(String::as_str).unwrap_or_default();
                    options = Self { rolling, ..options }.only(what)?;
                }
                other => return Err(Failure::Usage(format!("unknown option `{other}`"))),
            }
        }
        Ok(options)
    }

    fn of(quick: bool) -> Self {
        let (write, typed) = (false, String::new());
        if quick {
            let (initial, unchanged) = (Some((600, 1)), Some((50, 3)));
            return Self { initial, unchanged, rolling: Some(10), write, typed };
        }
        let (initial, unchanged) = (Some((6_046, 3)), Some((1_000, 5)));
        Self { initial, unchanged, rolling: Some(100), write, typed }
    }

    fn only(self, what: &str) -> Result<Self, Failure> {
        let mut only = Self { initial: None, unchanged: None, rolling: None, ..self.clone() };
        for part in what.split(',') {
            match part {
                "initial" => only.initial = self.initial,
                "unchanged" => only.unchanged = self.unchanged,
                "rolling" => only.rolling = self.rolling,
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
        let all = parse("--write").expect("understood");
        assert_eq!((all.initial, all.unchanged), (Some((6_046, 3)), Some((1_000, 5))));
        assert_eq!((all.rolling, all.write), (None, true));
        assert_eq!(all.typed, "cargo xtask bench replicate --write");
        let quick = parse("--quick --only rolling,unchanged").expect("understood");
        assert_eq!((quick.initial, quick.rolling), (None, Some(10)));
        assert_eq!(quick.unchanged, Some((50, 3)));
        assert_eq!(parse("--only tomorrow"), None);
        assert_eq!(parse("--only"), None);
        assert_eq!(parse("more"), None);
    }
}
