//! Races masters: the real `sync_client` and `cylinder replicate`, towards the same real `sync_server`,
//! and ours towards `cylinder serve`.
//!
//! Usage: `bench-replicate initial|unchanged|rolling --cylinder PROGRAM [OPTION]...`. Prints JSON.
//!
//! - `initial`: `--messages N` of the corpus, `--repeat N`, each time to replicas that have nothing.
//! - `unchanged`: `--accounts N`, `--repeat N`.
//! - `rolling`: `--repeat N`, messages that are delivered one after the other.
//!
//! Everything lies below the directory for temporary files, on whose disk it is measured.

mod initial;
mod pairs;
mod rolling;
mod unchanged;

use testkit::bench::{Options, Outcome};

fn main() -> Outcome {
    let options = Options::parse(std::env::args().skip(1))?;
    let document = match options.what.as_str() {
        "initial" => initial::run(&options)?,
        "unchanged" => unchanged::run(&options)?,
        "rolling" => rolling::run(&options)?,
        what => return Err(format!("nothing is called `{what}`").into()),
    };
    println!("{document}");
    Ok(())
}
