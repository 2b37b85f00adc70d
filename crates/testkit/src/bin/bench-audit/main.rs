//! Races audits: `cylinder audit` against `sha1sum`, `cat` and Cyrus' own `reconstruct -n -G`, on the same
//! spool; and `cylinder compare` against `sync_client`.
//!
//! Usage: `bench-audit full|quick|compare --cylinder PROGRAM [OPTION]...`. Prints JSON.
//!
//! - `full`: `--messages N` of the corpus, over and over, in ten accounts; `--repeat N`.
//! - `quick`: `--accounts N`, `--mailboxes N` in each, `--messages N` in each of those; `--repeat N`.
//! - `compare`: the same, with replicas that have all of it.
//!
//! Everything lies below the directory for temporary files, on whose disk it is measured.

mod compare;
mod race;

use testkit::bench::{Options, Outcome};

fn main() -> Outcome {
    let options = Options::parse(std::env::args().skip(1))?;
    let document = match options.what.as_str() {
        "full" => race::full(&options)?,
        "quick" => race::quick(&options)?,
        "compare" => compare::run(&options)?,
        what => return Err(format!("nothing is called `{what}`").into()),
    };
    println!("{document}");
    Ok(())
}
