//! Garage, for tests of vaults in a store that is more than one server.

use std::path::PathBuf;

use crate::process::{cargo, run};
use crate::workspace;

/// The version that the tests were written with.
const VERSION: &str = "2.5.0";

/// The program, built if it is not there yet: that takes a quarter of an hour, once.
pub fn program() -> Result<PathBuf, String> {
    let root = workspace::root().join("target/garage");
    let program = root.join("bin/garage");
    if !program.exists() {
        eprintln!("Building Garage {VERSION} in {}, once.", root.display());
        let mut install = cargo(&["install", "garage", "--locked", "--version", VERSION, "--root"]);
        run(install.arg(&root))?;
    }
    Ok(program)
}
