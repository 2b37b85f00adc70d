//! `cargo xtask demo-spool`: makes the spool that the demo unpacks, on a real Cyrus.
//!
//! Needed only when the demo is to show something else: the result is kept in the repository.

use crate::{Failure, no_arguments, process, workspace};

/// Where the program includes it from.
const SPOOL: &str = "crates/cli/demo/spool.tar.zst";

/// The command.
pub fn run(args: &[String]) -> Result<(), Failure> {
    no_arguments(args)?;
    let make = ["run", "--quiet", "-p", "testkit", "--bin", "demo-spool", "--", SPOOL];
    process::run(process::cargo(&make).current_dir(workspace::root()))?;
    Ok(())
}
