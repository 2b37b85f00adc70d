//! `cargo xtask test`: everything that has to pass before a merge, in one command.

use std::io::IsTerminal;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::machine::{self, Machine};
use crate::process::{cargo, run as run_program, watch};
use crate::tally::{Runner, Tally};
use crate::{Failure, check};

/// What was asked for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Options {
    /// Without the tests that start a real Cyrus.
    quick: bool,
    /// Only the tests of stores, and those with Garage, which is built for that.
    garage: bool,
    /// Only the tests whose name contains this; then nothing but tests is run.
    filter: Option<String>,
}

impl Options {
    fn parse(args: &[String]) -> Result<Self, Failure> {
        let mut options = Options::default();
        for arg in args {
            match arg.as_str() {
                "--quick" => options.quick = true,
                "--garage" => options.garage = true,
                flag if flag.starts_with('-') => {
                    return Err(Failure::Usage(format!("unknown option `{flag}`")));
                }
                _ if options.filter.is_some() => {
                    return Err(Failure::Usage(format!("a second filter, `{arg}`")));
                }
                _ => options.filter = Some(arg.clone()),
            }
        }
        Ok(options)
    }
}

/// Runs every step, also after one has failed, and sums them up.
pub fn run(args: &[String]) -> Result<(), Failure> {
    let options = Options::parse(args)?;
    let mut steps = Steps::default();
    if options.garage {
        return with_garage(steps, &options);
    }
    let mut machine = Machine::default();
    if options.quick {
        eprintln!("Skipped by --quick: every test that starts a real Cyrus.");
    } else {
        steps.take("packages", || {
            machine = machine::prepare()?;
            Ok(())
        });
    }
    if options.filter.is_none() {
        steps.take("format", || run_program(&mut cargo(&["fmt", "--all", "--check"])));
        steps.take("house rules", check::workspace);
        steps.take("lints", || run_program(&mut clippy()));
        steps.take("docs", || run_program(&mut rustdoc()));
    }
    let mut tally = Tally::default();
    let mut run_tests = |name, runner, command: Command| {
        let mut command = for_machine(command, &options, machine);
        steps.take(name, || watch(&mut command, &mut |line| tally.read_line(runner, line)));
    };
    if has_nextest() {
        run_tests("doc tests", Runner::Cargo, cargo_test(&options, &["--doc"]));
        run_tests("tests", Runner::Nextest, nextest(&options));
    } else {
        run_tests("tests", Runner::Cargo, cargo_test(&options, &[]));
    }
    steps.print();
    println!("\n{tally}");
    steps.verdict(tally)
}

/// Runs what is asked of every store, and what only three servers can show.
fn with_garage(mut steps: Steps, options: &Options) -> Result<(), Failure> {
    let mut tally = Tally::default();
    let program = crate::garage::program()?;
    let suites = [
        ("vault", "conformance", options.filter.as_deref()),
        ("cli", "offline", Some("vault_garage")),
    ];
    for (package, suite, filter) in suites {
        let mut tests = cargo(&["test", "--no-fail-fast", "-p", package, "--test", suite]);
        tests.args(locked()).arg("--").args(filter).arg("--test-threads=1");
        tests.env("CYLINDER_GARAGE", &program).env("CYLINDER_REQUIRE_GARAGE", "1");
        let take = &mut |line: &str| tally.read_line(Runner::Cargo, line);
        steps.take(package, || watch(&mut tests, take));
    }
    steps.print();
    println!("\n{tally}");
    steps.verdict(tally)
}

fn clippy() -> Command {
    let mut command = cargo(&["clippy", "--workspace", "--all-targets"]);
    command.args(locked()).args(["--", "-D", "warnings"]);
    command
}

fn rustdoc() -> Command {
    let mut command = cargo(&["doc", "--workspace", "--no-deps"]);
    command.args(locked()).env("RUSTDOCFLAGS", "-D warnings");
    command
}

fn nextest(options: &Options) -> Command {
    let mut command = cargo(&["nextest", "run", "--workspace", "--no-fail-fast"]);
    command.args(locked());
    if let Some(filter) = &options.filter {
        // A filter that matches no test is told apart by the tally, for both runners alike.
        command.args(["--no-tests", "pass", "--", filter]);
    }
    command
}

fn cargo_test(options: &Options, extra: &[&str]) -> Command {
    let mut command = cargo(&["test", "--workspace", "--no-fail-fast"]);
    command.args(locked()).args(extra).args(options.filter.as_deref());
    command
}

/// Tells the tests what they may rely on: what is there must be used, so that no test can pass in
/// CI by skipping itself.
fn for_machine(mut command: Command, options: &Options, machine: Machine) -> Command {
    let says = [
        ("CYLINDER_QUICK", options.quick),
        ("CYLINDER_REQUIRE_CYRUS", machine.cyrus),
        ("CYLINDER_REQUIRE_TOOLS", machine.tools),
    ];
    for (name, _) in says.iter().filter(|(_, says)| *says) {
        command.env(name, "1");
    }
    if std::io::stderr().is_terminal() {
        command.env("CARGO_TERM_COLOR", "always");
    }
    command
}

/// In CI the lock file has to be up to date; at a desk, cargo may bring it up to date.
fn locked() -> Option<&'static str> {
    std::env::var_os("CI").map(|_| "--locked")
}

fn has_nextest() -> bool {
    let mut version = cargo(&["nextest", "--version"]);
    version.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
}

/// What was done, how long it took, and what became of it.
#[derive(Default)]
struct Steps(Vec<(&'static str, Duration, Result<(), String>)>);

impl Steps {
    fn take(&mut self, name: &'static str, step: impl FnOnce() -> Result<(), String>) {
        let start = Instant::now();
        let result = step();
        if let Err(reason) = &result {
            eprintln!("{name}: {reason}");
        }
        self.0.push((name, start.elapsed(), result));
    }

    fn print(&self) {
        println!();
        for (name, took, result) in &self.0 {
            let verdict = if result.is_ok() { "ok" } else { "FAILED" };
            println!("{verdict:>8} {:8.1} s  {name}", took.as_secs_f64());
        }
    }

    /// Good is: no step failed, and tests were run at all.
    fn verdict(&self, tally: Tally) -> Result<(), Failure> {
        let failed = self.0.iter().filter(|(.., result)| result.is_err());
        let names: Vec<&str> = failed.map(|(name, ..)| *name).collect();
        if !names.is_empty() {
            return Err(Failure::Failed(format!("failed: {}", names.join(", "))));
        }
        if tally.is_empty() {
            return Err(Failure::Failed("no test was run".to_string()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Option<Options> {
        let args: Vec<String> = args.iter().map(|arg| arg.to_string()).collect();
        Options::parse(&args).ok()
    }

    #[test]
    fn options_are_a_flag_and_one_filter() {
        assert_eq!(parse(&[]), Some(Options::default()));
        let both = Options { quick: true, filter: Some("index".to_string()), garage: false };
        assert_eq!(parse(&["--quick", "index"]), Some(both));
        assert_eq!(parse(&["one", "two"]), None);
        assert_eq!(parse(&["--slow"]), None);
    }

    #[test]
    fn one_failed_step_or_no_test_at_all_is_a_failure() {
        let mut ran = Tally::default();
        ran.read_line(Runner::Cargo, "test result: ok. 1 passed; 0 failed");
        let mut good = Steps::default();
        good.take("good", || Ok(()));
        assert!(good.verdict(ran).is_ok());

        let mut empty = Steps::default();
        empty.take("good", || Ok(()));
        assert!(empty.verdict(Tally::default()).is_err());

        let mut bad = Steps::default();
        bad.take("bad", || Err("on purpose".to_string()));
        bad.take("good", || Ok(()));
        assert!(bad.verdict(ran).is_err());
    }
}
