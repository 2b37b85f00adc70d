//! `cargo xtask bench snapshot`, `vault`, `serve`, `replicate`, `audit` and `watch`: cylinder raced against
//! what people use today, in one go, on one disk, on the same real mail, or the same log.

mod audit;
mod computer;
mod curve;
mod goals;
mod json;
mod lock;
mod options;
mod page;
mod race;
mod racers;
mod replicate;
mod sample;
mod serve;
mod vault;
mod watch;
mod workbench;

use std::fs;

use computer::Computer;
use goals::Results;
use options::Options;
use race::Rules;
use workbench::Workbench;

use crate::{Failure, corpus, workspace};

/// What the results are written to.
const PAGE: &str = "docs/benchmarks.md";

/// How it is called.
pub const ARGUMENTS: &str =
    "snapshot|vault|serve|replicate|audit|watch [--quick] [--only PART] [--write] ...";

/// The command.
pub fn run(args: &[String]) -> Result<(), Failure> {
    match args.split_first() {
        Some((what, rest)) if what == "vault" => vault::run(rest),
        Some((what, rest)) if what == "serve" => serve::run(rest),
        Some((what, rest)) if what == "replicate" => replicate::run(rest),
        Some((what, rest)) if what == "audit" => audit::run(rest),
        Some((what, rest)) if what == "watch" => watch::run(rest),
        _ => snapshot(args),
    }
}

fn snapshot(args: &[String]) -> Result<(), Failure> {
    let options = Options::parse(args)?;
    let (bench, computer) = begin()?;
    let results = measure(&bench, &options)?;
    bench.clear()?;
    let page = page::render(&options, &computer, &results);
    publish(&page, options.write.then_some(PAGE))
}

/// Makes everything ready, and says what will not take part.
fn begin() -> Result<(Workbench, Computer), Failure> {
    corpus::run(&[])?;
    let bench = Workbench::set_up()?;
    let computer = Computer::describe(&bench.root, &bench.cylinder)?;
    for (program, package) in &computer.missing {
        eprintln!("Skipped: {program}, which is not installed: apt-get install {package}");
    }
    Ok((bench, computer))
}

/// Prints a page, and writes it to the place that it has in the workspace.
fn publish(page: &str, place: Option<&str>) -> Result<(), Failure> {
    println!("{page}");
    if let Some(place) = place {
        let path = workspace::root().join(place);
        fs::write(&path, page).map_err(|e| format!("write {}: {e}", path.display()))?;
    }
    Ok(())
}

/// Measures what the goals asked for need.
fn measure(bench: &Workbench, options: &Options) -> Result<Results, String> {
    let mut results = Results::default();
    if options.wants(1) || options.wants(2) {
        for &messages in &options.races {
            let rounds = options.rounds(messages);
            let rules = Rules { messages, rounds, full_only: options.only.is_some() };
            results.races.push(race::run(bench, rules)?);
        }
    }
    if options.wants(3) || options.wants(4) {
        let messages = options.account;
        let rules = Rules { messages, rounds: options.rounds(messages), full_only: false };
        results.account = Some(race::run(bench, rules)?);
    }
    if options.wants(3) || options.wants(5) {
        for &messages in &options.curve {
            results.curve.push(curve::measure(bench, messages, options.repeat)?);
        }
    }
    if options.wants(6) {
        results.locks = Some(lock::measure(bench, options.account, options.repeat)?);
    }
    Ok(results)
}

/// A command line, as the tests of options type it.
#[cfg(test)]
fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(String::from).collect()
}
