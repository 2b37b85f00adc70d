//! The cylinder program: reads the command line, runs one operation, says how it went.

mod archive;
mod args;
mod at_work;
mod commands;
mod directory;
mod error;
mod output;
mod password;
mod places;
mod progress;
mod queue;
mod render;
mod signals;
mod spool_error;
mod vaults;
mod watching;
mod when;

use std::num::NonZero;
use std::process::ExitCode;
use std::thread;

use clap::Parser;

use crate::args::{Cli, Command};
use crate::error::{CliError, Exit};

/// Name and version, for manifests.
const PROGRAM: &str = concat!("cylinder ", env!("CARGO_PKG_VERSION"));

fn main() -> ExitCode {
    // A panic has said what it is about by itself; its exit code must not be mistaken for ours.
    std::panic::catch_unwind(act).unwrap_or_else(|_| Exit::Bug.into())
}

/// Does what the command line says.
fn act() -> ExitCode {
    let cli = Cli::parse();
    let json = match &cli.command {
        Command::Snapshot(args) => args.talk.json,
        Command::Restore(args) => args.talk.json,
        Command::Backup(args) => args.talk.json,
        Command::History(args) => args.json,
        Command::Diff(args) => args.json,
        Command::Find(args) => args.json,
        Command::Replicate(args) => args.talk.json,
        Command::Verify(args) => args.talk.json,
        Command::Prune(args) => args.json,
        Command::Promote(args) => args.json,
        Command::List(args) => args.json,
        Command::Sweep(args) => args.talk.json,
        Command::Audit(args) => args.talk.json,
        Command::Compare(args) => args.talk.json,
        Command::Heal(args) => args.talk.json,
        Command::Reconstruct(args) => args.talk.json,
        Command::Watch(args) => args.json,
        Command::Show(_) | Command::Serve(_) | Command::Demo(_) | Command::Man => false,
    };
    match run(&cli.command) {
        Ok(exit) => exit.into(),
        // The reader of our output has seen enough. Still not a success: a snapshot cut short
        // by `head` must not look like a whole one.
        Err(error) if error.is_broken_pipe() => Exit::Failed.into(),
        Err(error) => error.report(json).into(),
    }
}

/// Runs one command.
fn run(command: &Command) -> Result<Exit, CliError> {
    match command {
        Command::Snapshot(args) => commands::snapshot::run(args),
        Command::Backup(args) => commands::backup::run(args),
        Command::History(args) => commands::history::run(args),
        Command::Show(args) => commands::show::run(args),
        Command::Diff(args) => commands::diff::run(args),
        Command::Find(args) => commands::find::run(args),
        Command::Verify(args) => commands::verify::run(args),
        Command::Prune(args) => commands::prune::run(args),
        Command::List(args) => commands::list::run(args),
        Command::Restore(args) => commands::restore::run(args),
        Command::Replicate(args) => commands::replicate::run(args),
        Command::Serve(args) => commands::serve::run(args),
        Command::Promote(args) => commands::promote::run(args),
        Command::Sweep(args) => commands::sweep::run(args),
        Command::Audit(args) => commands::audit::run(args),
        Command::Compare(args) => commands::compare::run(args),
        Command::Heal(args) => commands::heal::run(args),
        Command::Reconstruct(args) => commands::reconstruct::run(args),
        Command::Watch(args) => commands::watch::run(args),
        Command::Demo(args) => commands::demo::run(args),
        Command::Man => commands::man::run(),
    }
}

/// How many threads are worth starting.
fn processors() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}
