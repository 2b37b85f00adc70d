//! `cargo xtask bench audit`: `cylinder audit` raced against `sha1sum`, `cat` and Cyrus' own `reconstruct`,
//! and `cylinder compare` against `sync_client`.

mod page;

use serde_json::Value;

use super::computer::cyrus_version;
use super::workbench::Workbench;
use crate::Failure;

/// What the results are written to.
const PAGE: &str = "docs/benchmarks-audit.md";

/// How the options are called.
pub const ARGUMENTS: &str = "audit [--quick] [--only full,quick,compare] [--write]";

/// The program that does it.
const PROGRAM: &str = "bench-audit";

/// What is measured.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Options {
    /// Messages, and how often they are read.
    full: Option<(u64, u64)>,
    /// Accounts of ten mailboxes, messages in each of these, and how often they are looked at.
    quick: Option<(u64, u64, u64)>,
    /// The same of accounts that are compared with replicas.
    compare: Option<(u64, u64, u64)>,
    write: bool,
    /// What was typed.
    typed: String,
}

/// What `bench-audit` answered.
#[derive(Debug, Default)]
struct Results {
    full: Option<Value>,
    quick: Option<Value>,
    compare: Option<Value>,
}

/// The command.
pub fn run(args: &[String]) -> Result<(), Failure> {
    let options = Options::parse(args)?;
    let (bench, computer) = super::begin()?;
    let results = measure(&bench, &options)?;
    bench.clear()?;
    let page = page::render(&options.typed, &computer, cyrus_version().ok().as_deref(), &results);
    super::publish(&page, options.write.then_some(PAGE))
}

fn measure(bench: &Workbench, options: &Options) -> Result<Results, String> {
    let mut results = Results::default();
    if let Some((messages, repeat)) = options.full {
        let numbers = [("messages", messages), ("repeat", repeat)];
        results.full = Some(bench.ask(PROGRAM, "full", &numbers)?);
    }
    let fleet = |(accounts, messages, repeat): (u64, u64, u64)| {
        [("accounts", accounts), ("mailboxes", 10), ("messages", messages), ("repeat", repeat)]
    };
    if let Some(quick) = options.quick {
        results.quick = Some(bench.ask(PROGRAM, "quick", &fleet(quick))?);
    }
    if let Some(compare) = options.compare {
        results.compare = Some(bench.ask(PROGRAM, "compare", &fleet(compare))?);
    }
    Ok(results)
}

impl Options {
    /// Reads the arguments behind `bench audit`.
    fn parse(args: &[String]) -> Result<Self, Failure> {
        let quick = args.iter().any(|arg| arg == "--quick");
        let mut options = Self::of(quick);
        options.typed = format!("cargo xtask bench audit {}", args.join(" ")).trim_end().to_owned();
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--quick" => {}
                "--write" => options.write = true,
                "--only" => {
                    let what = args.next().map(String::as_str).unwrap_or_default();
                    options = options.only(what)?;
                }
                other => return Err(Failure::Usage(format!("unknown option `{other}`"))),
            }
        }
        Ok(options)
    }

    fn of(quick: bool) -> Self {
        let (write, typed) = (false, String::new());
        let (full, accounts) = match quick {
            true => ((6_000, 3), (100, 10, 3)),
            false => ((60_000, 5), (1_000, 10, 5)),
        };
        Self { full: Some(full), quick: Some(accounts), compare: Some(accounts), write, typed }
    }

    fn only(self, what: &str) -> Result<Self, Failure> {
        let mut only = Self { full: None, quick: None, compare: None, ..self.clone() };
        for part in what.split(',') {
            match part {
                "full" => only.full = self.full,
                "quick" => only.quick = self.quick,
                "compare" => only.compare = self.compare,
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
        assert_eq!(
            (all.full, all.quick, all.write),
            (Some((60_000, 5)), Some((1_000, 10, 5)), true)
        );
        let quick = parse("--only quick --quick").expect("understood");
        assert_eq!((quick.full, quick.quick), (None, Some((100, 10, 3))));
        assert_eq!(
            parse("--only compare").map(|o| (o.quick, o.compare)),
            Some((None, all.compare))
        );
        assert_eq!(quick.typed, "cargo xtask bench audit --only quick --quick");
        assert_eq!(parse("--only tomorrow"), None);
        assert_eq!(parse("--only"), None);
        assert_eq!(parse("more"), None);
    }
}
