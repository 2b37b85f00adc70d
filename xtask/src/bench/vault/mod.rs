//! `cargo xtask bench vault`: backups and what comes back of them, raced against restic and borg.

mod contest;
mod growth;
mod page;
mod programs;
mod verdicts;

use contest::Contest;
use growth::Point;
use programs::Program;

use super::race;
use super::workbench::Workbench;
use crate::Failure;

/// What the results are written to.
const PAGE: &str = "docs/benchmarks-vault.md";

/// How the options are called.
pub const ARGUMENTS: &str =
    "vault [--quick] [--only accounts,fleet,large,growth] [--rounds N] [--write]";

/// What is measured.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Options {
    /// The sizes of single accounts of real mail, in messages.
    accounts: Vec<u64>,
    /// How many accounts the fleet has, each of 10 mailboxes and 1,000 messages of real mail.
    fleet: u64,
    /// How many accounts of 1,000 large messages fill the large vault.
    large: u64,
    /// The sizes of the accounts of tiny messages.
    growth: Vec<u64>,
    /// How often each account is raced.
    rounds: usize,
    /// Whether to write the page.
    write: bool,
    /// What was typed.
    typed: String,
}

/// Everything that was measured.
#[derive(Debug, Default)]
struct Results {
    /// One account each, smallest first.
    accounts: Vec<Contest>,
    /// Many accounts.
    fleet: Option<Contest>,
    /// Many bytes.
    large: Option<Contest>,
    /// Growing accounts, smallest first.
    growth: Vec<Point>,
}

/// The command.
pub fn run(args: &[String]) -> Result<(), Failure> {
    let options = Options::parse(args)?;
    let (bench, computer) = super::begin()?;
    let results = measure(&bench, &options)?;
    bench.clear()?;
    let page = page::render(&options, &computer, &results);
    super::publish(&page, options.write.then_some(PAGE))
}

fn measure(bench: &Workbench, options: &Options) -> Result<Results, String> {
    let mut results = Results::default();
    let missing = race::missing();
    let is_here =
        |program: &&Program| !missing.iter().any(|(missing, _)| program.needs() == Some(*missing));
    let all: Vec<Program> = Program::ALL.iter().filter(is_here).copied().collect();
    let two: Vec<Program> =
        all.iter().filter(|p| matches!(p, Program::Cylinder | Program::Restic)).copied().collect();
    for &messages in &options.accounts {
        let spool = bench.spool(messages, &["--copies", "12"])?;
        let contest = Contest::account(bench, spool, &all, options.rounds)?;
        eprintln!("{}", page::table(&contest));
        results.accounts.push(contest);
    }
    for &messages in &options.growth {
        results.growth.push(growth::measure(bench, messages)?);
    }
    if options.fleet > 0 {
        let spool = contest::fleet(bench, options.fleet)?;
        let contest = Contest::fleet(bench, spool, &two)?;
        eprintln!("{}", page::table(&contest));
        results.fleet = Some(contest);
    }
    if options.large > 0 {
        let spool = contest::large(bench, options.large)?;
        let contest = Contest::fleet(bench, spool, &two)?;
        eprintln!("{}", page::table(&contest));
        results.large = Some(contest);
    }
    Ok(results)
}

impl Options {
    /// Reads the arguments behind `bench vault`.
    fn parse(args: &[String]) -> Result<Self, Failure> {
        let quick = args.iter().any(|arg| arg == "--quick");
        let mut options = Self::of(quick);
        options.typed = format!("cargo xtask bench vault {}", args.join(" ")).trim_end().to_owned();
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--quick" => {}
                "--write" => options.write = true,
                "--only" => {
                    let what = args.next().map(String::as_str).unwrap_or_default();
                    options = options.only(what)?;
                }
                "--rounds" => {
                    let rounds = args.next().and_then(|rounds| rounds.parse().ok());
                    let usage = || Failure::Usage(format!("bench {ARGUMENTS}"));
                    options.rounds = rounds.filter(|rounds| *rounds > 0).ok_or_else(usage)?;
                }
                other => return Err(Failure::Usage(format!("unknown option `{other}`"))),
            }
        }
        Ok(options)
    }

    fn of(quick: bool) -> Self {
        let (write, typed) = (false, String::new());
        if quick {
            let (accounts, growth) = (vec![6_046], vec![1_000, 10_000]);
            return Self { accounts, fleet: 50, large: 5, growth, rounds: 1, write, typed };
        }
        let (accounts, growth) = (vec![6_046, 60_460], vec![1_000, 10_000, 100_000, 1_000_000]);
        Self { accounts, fleet: 1_000, large: 200, growth, rounds: 3, write, typed }
    }

    fn only(self, what: &str) -> Result<Self, Failure> {
        let (accounts, growth) = (Vec::new(), Vec::new());
        let mut only = Self { accounts, fleet: 0, large: 0, growth, ..self.clone() };
        for part in what.split(',') {
            match part {
                "accounts" => only.accounts.clone_from(&self.accounts),
                "fleet" => only.fleet = self.fleet,
                "large" => only.large = self.large,
                "growth" => only.growth.clone_from(&self.growth),
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
        let fleet = parse("--only fleet --write").expect("understood");
        assert_eq!((fleet.accounts.len(), fleet.fleet, fleet.large), (0, 1_000, 0));
        assert!(fleet.write && fleet.growth.is_empty());
        assert_eq!(fleet.typed, "cargo xtask bench vault --only fleet --write");
        assert_eq!(parse("--quick").expect("understood").fleet, 50);
        assert_eq!(parse("--only tomorrow"), None);
        let two = parse("--only accounts,growth --rounds 1").expect("understood");
        assert_eq!((two.rounds, two.fleet, two.accounts.len(), two.growth.len()), (1, 0, 2, 4));
        assert_eq!(parse("--rounds 0"), None);
        assert_eq!(parse("--only"), None);
        assert_eq!(parse("more"), None);
    }
}
