//! Runs programs joined by pipes and writes down what they took, as the shell's `time` would.
//!
//! Usage: `measure REPORT PROGRAM [ARGUMENT]... ['|' PROGRAM [ARGUMENT]...]...`
//!
//! REPORT becomes a JSON object: `wall_us` from the first start to the last end, `cpu_us` of all
//! programs, and of the first program alone `first_cpu_us`, `first_peak_kib` (the most memory that
//! it, or a process that it waited for, had resident) and `first_code`. Standard input is empty,
//! standard output is the last program's. Ends with the first code that is not 0.

use std::error::Error;
use std::io;
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};
use std::time::Instant;

use nix::sys::resource::{Usage, UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use serde_json::json;

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((report, programs)) = arguments.split_first().filter(|(_, rest)| !rest.is_empty())
    else {
        return Err("usage: measure REPORT PROGRAM [ARGUMENT]... ['|' PROGRAM ...]...".into());
    };
    let start = Instant::now();
    let mut children = start_all(programs)?;
    let mut codes = Vec::with_capacity(children.len());
    let mut first = None;
    // The first is waited for first: until then, the usage of all children is its usage.
    for child in &mut children {
        let status = child.wait()?;
        codes.push(status.code().unwrap_or(255));
        if first.is_none() {
            first = Some(getrusage(UsageWho::RUSAGE_CHILDREN)?);
        }
    }
    let wall = start.elapsed();
    let all = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let first = first.unwrap_or(all);
    let document = json!({
        "wall_us": u64::try_from(wall.as_micros())?,
        "cpu_us": cpu_us(&all),
        "first_cpu_us": cpu_us(&first),
        "first_peak_kib": first.max_rss(),
        "first_code": codes.first(),
    });
    std::fs::write(report, document.to_string())?;
    let failed = codes.into_iter().find(|code| *code != 0);
    Ok(failed.map_or(ExitCode::SUCCESS, |code| ExitCode::from(u8::try_from(code).unwrap_or(255))))
}

/// Starts every program of the pipeline, each reading what the one before writes.
fn start_all(programs: &[String]) -> io::Result<Vec<Child>> {
    let stages: Vec<&[String]> = programs.split(|word| word == "|").collect();
    let mut children = Vec::with_capacity(stages.len());
    let mut upstream: Option<ChildStdout> = None;
    for (number, stage) in stages.iter().enumerate() {
        let (program, arguments) =
            stage.split_first().ok_or_else(|| io::Error::other("a pipe to nothing"))?;
        let mut command = Command::new(program);
        command.args(arguments);
        command.stdin(upstream.take().map_or_else(Stdio::null, Stdio::from));
        if number + 1 < stages.len() {
            command.stdout(Stdio::piped());
        }
        let failed = |error| io::Error::new(io::Error::kind(&error), format!("{program}: {error}"));
        let mut child = command.spawn().map_err(failed)?;
        upstream = child.stdout.take();
        children.push(child);
    }
    Ok(children)
}

/// Processor time, of the programs themselves and of the system for them.
fn cpu_us(usage: &Usage) -> i64 {
    usage.user_time().num_microseconds() + usage.system_time().num_microseconds()
}
