//! `cargo xtask watch-logs`: makes the logs that `cylinder watch` is tried on, with a real Cyrus.
//! `cargo xtask watch-compare`: what it and logcheck tell of them.
//!
//! The logs need to be made anew only when they are to show something else: the result is kept in the
//! repository.

use crate::{Failure, no_arguments, process, workspace};

/// Where the tests find them.
const LOGS: &str = "crates/logwatch/tests/data";

/// Makes the logs.
pub fn run(args: &[String]) -> Result<(), Failure> {
    with_logs("watch-logs", args)
}

/// Prints the table of docs/watch.md.
pub fn compare(args: &[String]) -> Result<(), Failure> {
    with_logs("watch-compare", args)
}

fn with_logs(program: &str, args: &[String]) -> Result<(), Failure> {
    no_arguments(args)?;
    let run = ["run", "--quiet", "-p", "testkit", "--bin", program, "--", LOGS];
    process::run(process::cargo(&run).current_dir(workspace::root()))?;
    Ok(())
}
