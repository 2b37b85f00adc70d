//! `cargo xtask man`: the manual page, from the definitions that the program itself parses with.

use std::fs;

use crate::{Failure, no_arguments, process, workspace};

/// The command.
pub fn run(args: &[String]) -> Result<(), Failure> {
    no_arguments(args)?;
    let page = process::output(&mut process::cargo(&["run", "--quiet", "-p", "cli", "--", "man"]))?;
    let dir = workspace::root().join("target/man");
    fs::create_dir_all(&dir).map_err(|e| format!("create {}: {e}", dir.display()))?;
    let path = dir.join("cylinder.1");
    fs::write(&path, page).map_err(|e| format!("write {}: {e}", path.display()))?;
    println!("{}", path.display());
    Ok(())
}
