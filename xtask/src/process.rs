//! Running other programs: their output streams through, their failure is an error.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use crate::workspace;

/// `cargo`, the one that runs us, in the workspace's root and without standard input.
pub fn cargo(args: &[&str]) -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(program);
    command.args(args).current_dir(workspace::root()).stdin(Stdio::null());
    command
}

/// Runs a program to its end.
pub fn run(command: &mut Command) -> Result<(), String> {
    announce(command);
    let status = command.status().map_err(|e| failed_to_start(command, e))?;
    if status.success() { Ok(()) } else { Err(format!("{}: {status}", line_of(command))) }
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

/// Runs a program to its end and shows each line of its output to `on_line` as it passes.
pub fn watch(command: &mut Command, on_line: &mut (dyn FnMut(&str) + Send)) -> Result<(), String> {
    announce(command);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| failed_to_start(command, e))?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let on_line = Mutex::new(on_line);
    std::thread::scope(|scope| {
        scope.spawn(|| stdout.map(|from| relay(from, io::stdout(), &on_line)));
        scope.spawn(|| stderr.map(|from| relay(from, io::stderr(), &on_line)));
    });
    let status = child.wait().map_err(|e| format!("wait for {}: {e}", line_of(command)))?;
    if status.success() { Ok(()) } else { Err(format!("{}: {status}", line_of(command))) }
}

/// Copies lines until the stream ends. A reader that went away must not stop the program watched.
fn relay(from: impl Read, mut to: impl Write, on_line: &Mutex<&mut (dyn FnMut(&str) + Send)>) {
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    while from.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
        let _ = to.write_all(&line).and_then(|()| to.flush());
        let mut on_line = on_line.lock().unwrap_or_else(PoisonError::into_inner);
        on_line(&String::from_utf8_lossy(&line));
        line.clear();
    }
}

fn announce(command: &Command) {
    eprintln!("\n$ {}", line_of(command));
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
