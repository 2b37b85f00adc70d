//! The program under test, run as an operator runs it: as root, with arguments, to its end.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use testkit::process;

/// Path of the binary.
pub const CYLINDER: &str = env!("CARGO_BIN_EXE_cylinder");

/// How long a run may take, on a machine that is busy with other things.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// How a run ended.
#[derive(Debug)]
pub struct Ran {
    /// Its exit code.
    pub code: i32,
    /// What it wrote to standard output.
    pub stdout: Vec<u8>,
    /// What it wrote to standard error.
    pub stderr: String,
}

/// Runs the program with these arguments.
pub fn cylinder<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Ran {
    let mut command = Command::new(CYLINDER);
    command.args(arguments);
    run(&mut command)
}

/// Runs a command that ends with an exit code.
pub fn run(command: &mut Command) -> Ran {
    let output = process::run(command, b"", PATIENCE).expect("the program runs to its end");
    Ran {
        code: output.status.code().expect("no signal ends it"),
        stdout: output.stdout,
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

impl Ran {
    /// The same run, if it ended with this code.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}", self.stderr);
        self
    }

    /// What `--json` makes it print to standard error.
    #[track_caller]
    pub fn report(&self) -> Value {
        report_of(&self.stderr)
    }
}

/// The one JSON document that `--json` prints.
#[track_caller]
pub fn report_of(stderr: &str) -> Value {
    serde_json::from_str(stderr).unwrap_or_else(|error| panic!("{error}: {stderr}"))
}

/// A snapshot of an account into a file, continuing others or not.
#[derive(Clone, Copy, Debug)]
pub struct Snapshot<'a> {
    /// The server's imapd.conf.
    pub conf: &'a Path,
    /// Whose.
    pub account: &'a str,
    /// What it continues.
    pub since: &'a [&'a Path],
}

impl<'a> Snapshot<'a> {
    /// A full one.
    pub fn full(conf: &'a Path, account: &'a str) -> Self {
        Self { conf, account, since: &[] }
    }

    /// The arguments that make the program take it, without an output.
    pub fn arguments(&self) -> Vec<OsString> {
        let mut arguments = vec!["snapshot".into(), self.account.into(), "--json".into()];
        arguments.extend(["-C".into(), self.conf.into()]);
        for since in self.since {
            arguments.extend(["--since".into(), since.into()]);
        }
        arguments
    }

    /// Runs the program, whatever comes of it.
    pub fn attempt(&self, output: &Path) -> Ran {
        let mut arguments = self.arguments();
        arguments.extend(["-o".into(), output.into()]);
        cylinder(arguments)
    }

    /// Takes it; nothing may be wrong with the account. Returns the report.
    #[track_caller]
    pub fn take(&self, output: &Path) -> Value {
        let ran = self.attempt(output);
        let report = ran.report();
        assert_eq!((ran.code, &report["findings"]), (0, &json!([])), "{}", ran.stderr);
        report
    }
}

/// Restores an account from archives, with whatever other options; nothing may be wrong.
#[track_caller]
pub fn restore(account: &str, from: &[&Path], to: &str, options: &[&str]) -> Value {
    let mut arguments: Vec<OsString> = vec!["restore".into(), account.into(), "--json".into()];
    for archive in from {
        arguments.extend(["--from".into(), archive.into()]);
    }
    arguments.extend(["--to".into(), to.into()]);
    arguments.extend(options.iter().map(OsString::from));
    let ran = cylinder(arguments).expect(0);
    ran.report()
}

/// What `list --json` says of an archive: its snapshots.
#[track_caller]
pub fn list(archives: &[&Path]) -> Vec<Value> {
    let mut arguments: Vec<OsString> = vec!["list".into(), "--json".into()];
    arguments.extend(archives.iter().map(OsString::from));
    let ran = cylinder(arguments).expect(0);
    let document: Value = serde_json::from_slice(&ran.stdout).expect("a JSON document");
    document["snapshots"].as_array().expect("snapshots").clone()
}
