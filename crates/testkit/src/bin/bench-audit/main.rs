//! Races audits: `cylinder audit` against `sha1sum`, `cat` and Cyrus' own `reconstruct -n -G`, on the same
//! spool.
//!
//! Usage: `bench-audit full|quick --cylinder PROGRAM [OPTION]...`. Prints JSON.
//!
//! - `full`: `--messages N` of the corpus, over and over, in ten accounts; `--repeat N`.
//! - `quick`: `--accounts N`, `--mailboxes N` in each, `--messages N` in each of those; `--repeat N`.
//!
//! Everything lies below the directory for temporary files, on whose disk it is measured.

mod race;

use testkit::bench::{Options, Outcome};

fn main() -> Outcome {
    let options = Options::parse(std::env::args().skip(1))?;
    let document = match options.what.as_str() {
        "full" => race::full(&options)?,
        "quick" => race::quick(&options)?,
        what => return Err(format!("nothing is called `{what}`").into()),
    };
    println!("{document}");
    Ok(())
}
