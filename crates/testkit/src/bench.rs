//! What the programs that race replication have in common: their options, the servers that take part,
//! and what a run of a client takes.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

use crate::served::{NAME, PASSWORD};
use crate::{Cyrus, CyrusBuilder, cyrus_or_skip};

/// What comes of a part of a benchmark.
pub type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// What was asked for: a word, and `--NAME VALUE` as often as wanted.
#[derive(Debug, Default)]
pub struct Options {
    /// The part.
    pub what: String,
    /// The program under test.
    pub cylinder: PathBuf,
    numbers: BTreeMap<String, u64>,
}

impl Options {
    /// Reads arguments, the program's own name left out.
    ///
    /// # Errors
    ///
    /// A name without a value, or a value that is no number.
    pub fn parse(mut arguments: impl Iterator<Item = String>) -> Outcome<Self> {
        let mut options = Self { what: arguments.next().unwrap_or_default(), ..Self::default() };
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or_else(|| format!("{name} takes a value"))?;
            match name.as_str() {
                "--cylinder" => options.cylinder = value.into(),
                _ => drop(options.numbers.insert(name, value.parse()?)),
            }
        }
        Ok(options)
    }

    /// The value of a name, as `--messages`.
    ///
    /// # Errors
    ///
    /// If it was not given.
    pub fn number(&self, name: &str) -> Outcome<u64> {
        Ok(*self.numbers.get(name).ok_or_else(|| format!("{name} is missing"))?)
    }
}

/// A Cyrus whose files are real, and synced as it wants them.
///
/// # Errors
///
/// If there is none on this machine.
pub fn cyrus() -> Outcome<CyrusBuilder> {
    let builder = cyrus_or_skip("a benchmark").ok_or("there is no Cyrus")?;
    let builder = builder.option("sync_authname", NAME).option("sync_password", PASSWORD);
    Ok(builder.option("sync_log", "yes").eatmydata(false))
}

/// The master. Its own files are not synced: what is measured is the replica.
///
/// # Errors
///
/// If it does not start.
pub fn master() -> Outcome<Cyrus> {
    Ok(cyrus()?.eatmydata(true).start()?)
}

/// What a run of a client took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Run {
    /// From its start to its end.
    pub wall: Duration,
    /// Processor time of the client itself.
    pub client_cpu: Duration,
}

/// Runs a client to its end, with that input, once all that was written before is on disk: a sync of
/// the file system would wait for it otherwise.
///
/// # Errors
///
/// If it does not end with 0.
pub fn measure(client: &mut Command, input: &[u8]) -> Outcome<Run> {
    nix::unistd::sync();
    client.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let before = children_cpu()?;
    let start = Instant::now();
    let mut child = client.spawn()?;
    child.stdin.take().map(|mut pipe| std::io::Write::write_all(&mut pipe, input)).transpose()?;
    let output = child.wait_with_output()?;
    let wall = start.elapsed();
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(format!("{client:?}: {}: {said}", output.status).into());
    }
    Ok(Run { wall, client_cpu: children_cpu()?.saturating_sub(before) })
}

/// Processor time of all children that were waited for: servers run on.
fn children_cpu() -> Outcome<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Ok(Duration::from_micros(u64::try_from(micros)?))
}

/// The middle one.
pub fn median(times: impl Iterator<Item = Duration>) -> Duration {
    let mut times: Vec<Duration> = times.collect();
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// Whole microseconds, for JSON.
pub fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
