//! The workspace's own commands: `cargo xtask <command>`.
//!
//! A new command is one module with a `run` function and one line in [`COMMANDS`].

mod bench;
mod check;
mod corpus;
mod demo_spool;
mod garage;
mod machine;
mod man;
mod process;
mod tally;
mod test;
mod watch_logs;
mod workspace;

use std::process::ExitCode;

/// One command.
struct Command {
    name: &'static str,
    arguments: &'static str,
    about: &'static str,
    run: fn(&[String]) -> Result<(), Failure>,
}

const COMMANDS: &[Command] = &[
    Command {
        name: "test",
        arguments: "[--quick | --garage] [FILTER]",
        about: "format, house rules, lints, docs and tests: what has to pass before a merge",
        run: test::run,
    },
    Command {
        name: "check",
        arguments: "",
        about: "the house rules alone, in a second",
        run: check::run,
    },
    Command {
        name: "corpus",
        arguments: "",
        about: "fetch the real mail that benchmarks use into target/corpus",
        run: corpus::run,
    },
    Command {
        name: "bench",
        arguments: bench::ARGUMENTS,
        about: "race cylinder against tar, restic, borg, rsync and Cyrus; write docs/benchmarks*.md",
        run: bench::run,
    },
    Command {
        name: "demo-spool",
        arguments: "",
        about: "make the demo's bundled spool anew, on a real Cyrus",
        run: demo_spool::run,
    },
    Command {
        name: "watch-logs",
        arguments: "",
        about: "make the logs anew that cylinder watch is tried on, with a real Cyrus",
        run: watch_logs::run,
    },
    Command {
        name: "watch-compare",
        arguments: "",
        about: "what cylinder watch and logcheck tell of these logs: the table of docs/watch.md",
        run: watch_logs::compare,
    },
    Command {
        name: "man",
        arguments: "",
        about: "write the manual page to target/man/cylinder.1",
        run: man::run,
    },
];

/// Why a command did not succeed.
enum Failure {
    /// It was called wrongly.
    Usage(String),
    /// It was called well, and failed.
    Failed(String),
}

impl From<String> for Failure {
    fn from(reason: String) -> Self {
        Failure::Failed(reason)
    }
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Failed(reason)) => {
            eprintln!("xtask: {reason}");
            ExitCode::from(1)
        }
        Err(Failure::Usage(reason)) => {
            eprintln!("xtask: {reason}\n\n{}", usage());
            ExitCode::from(2)
        }
    }
}

fn dispatch(args: &[String]) -> Result<(), Failure> {
    let Some((name, rest)) = args.split_first() else {
        return Err(Failure::Usage("which command?".to_string()));
    };
    if matches!(name.as_str(), "help" | "-h" | "--help") {
        println!("{}", usage());
        return Ok(());
    }
    match COMMANDS.iter().find(|command| command.name == name) {
        Some(command) => (command.run)(rest),
        None => Err(Failure::Usage(format!("no command is called `{name}`"))),
    }
}

fn usage() -> String {
    let mut text = String::from("Usage: cargo xtask <command>\n");
    for Command { name, arguments, about, .. } in COMMANDS {
        let call = format!("{name} {arguments}");
        text.push_str(&format!("\n  {:<26} {about}", call.trim_end()));
    }
    text
}

/// For commands that take no arguments.
fn no_arguments(args: &[String]) -> Result<(), Failure> {
    match args.first() {
        None => Ok(()),
        Some(extra) => Err(Failure::Usage(format!("unexpected argument `{extra}`"))),
    }
}
