//! `cargo xtask watch-logs`: makes the logs that `cylinder watch` is tried on, with a real Cyrus.
//!
//! Needed only when they are to show something else: the result is kept in the repository.

use crate::{Failure, no_arguments, process, workspace};

/// Where the tests find them.
const LOGS: &str = "crates/logwatch/tests/data";

/// The command.
pub fn run(args: &[String]) -> Result<(), Failure> {
    no_arguments(args)?;
    let make = ["run", "--quiet", "-p", "testkit", "--bin", "watch-logs", "--", LOGS];
    process::run(process::cargo(&make).current_dir(workspace::root()))?;
    Ok(())
}
