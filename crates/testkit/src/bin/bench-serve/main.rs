//! Races replicas: the real `sync_server` and `cylinder serve`, driven by the same real `sync_client`
//! and by the same sessions replayed; and what both leave behind when they are killed.
//!
//! Usage: `bench-serve race|memory|leftovers --cylinder PROGRAM [OPTION]...`. Prints JSON.
//!
//! - `race`: `--messages N` of the corpus, `--flagged N` small ones, `--repeat N` of what is short,
//!   `--rounds N` of what is first, with new replicas each.
//! - `memory`: `--records N`, the size of the mailbox that a made-up master sends.
//! - `leftovers`: `--kills N`, `--seed N`.
//!
//! Everything lies below the directory for temporary files, on whose disk it is measured.

mod leftovers;
mod made_up;
mod race;
mod replay;
mod servers;

use std::collections::BTreeMap;
use std::error::Error;
use std::path::PathBuf;

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

fn main() -> Outcome {
    let mut arguments = std::env::args().skip(1);
    let what = arguments.next().unwrap_or_default();
    let mut options = Options::default();
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name} takes a value"))?;
        match name.as_str() {
            "--cylinder" => options.cylinder = value.into(),
            _ => drop(options.numbers.insert(name, value.parse()?)),
        }
    }
    let document = match what.as_str() {
        "race" => race::run(&options)?,
        "memory" => made_up::run(&options)?,
        "leftovers" => leftovers::run(&options)?,
        _ => return Err(format!("nothing is called `{what}`").into()),
    };
    println!("{document}");
    Ok(())
}

/// What was asked for.
#[derive(Debug, Default)]
struct Options {
    cylinder: PathBuf,
    numbers: BTreeMap<String, u64>,
}

impl Options {
    fn number(&self, name: &str) -> Outcome<u64> {
        Ok(*self.numbers.get(name).ok_or_else(|| format!("{name} is missing"))?)
    }
}
