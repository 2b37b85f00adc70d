//! Running other programs: their failure is an error.

use std::ffi::OsString;
use std::io;
use std::process::{Command, Stdio};

use crate::workspace;

/// `cargo`, the one that runs us, in the workspace's root and without standard input.
pub fn cargo(args: &[&str]) -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(program);
    command.args(args).current_dir(workspace::root()).stdin(Stdio::null());
    command
}

/// Runs a program quietly and gives back what it printed.
pub fn output(command: &mut Command) -> Result<String, String> {
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|e| failed_to_start(command, e))?;
    if !output.status.success() {
        return Err(format!("{}: {}", line_of(command), output.status));
    }
    String::from_utf8(output.stdout).map_err(|e| format!("{}: {e}", line_of(command)))
}

fn failed_to_start(command: &Command, error: io::Error) -> String {
    format!("start {}: {error}", line_of(command))
}

/// The command as one would type it, the program by its bare name.
fn line_of(command: &Command) -> String {
    let program = std::path::Path::new(command.get_program());
    let name = program.file_name().unwrap_or(command.get_program());
    let mut line = name.to_string_lossy().into_owned();
    for arg in command.get_args() {
        line.push(' ');
        line.push_str(&arg.to_string_lossy());
    }
    line
}
