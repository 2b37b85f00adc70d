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

use testkit::bench::{Options, Outcome};

fn main() -> Outcome {
    let options = Options::parse(std::env::args().skip(1))?;
    let document = match options.what.as_str() {
        "race" => race::run(&options)?,
        "memory" => made_up::run(&options)?,
        "leftovers" => leftovers::run(&options)?,
        what => return Err(format!("nothing is called `{what}`").into()),
    };
    println!("{document}");
    Ok(())
}
