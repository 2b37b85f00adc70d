//! How time and memory grow with the number of messages: accounts of 100 mailboxes, with messages
//! so small that only their number counts.

use std::process::Command;

use super::racers::Ground;
use super::sample::{Series, Words};
use super::workbench::{Workbench, remove};
use crate::words;

/// The same at every size, so that what grows is the number of messages alone.
const MAILBOXES: &str = "100";

/// One size.
#[derive(Debug)]
pub struct Point {
    /// How many messages, hence records.
    pub messages: u64,
    /// What cyrus.index and cyrus.header of all mailboxes weigh.
    pub metadata_bytes: u64,
    /// A full snapshot, through a pipe.
    pub full: Series,
    /// The same, compressed.
    pub zstd: Series,
    /// Another one, nothing having changed.
    pub unchanged: Series,
    /// `cat` of all cyrus.header and cyrus.index.
    pub cat: Series,
    /// System calls of an unchanged run, if they could be counted.
    pub calls: Option<Calls>,
}

/// What `strace` saw of an unchanged run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Calls {
    /// All system calls.
    pub all: u64,
    /// Those that name a message file.
    pub on_messages: u64,
}

impl Point {
    /// The most memory that any run took, in KiB.
    pub fn peak_kib(&self) -> u64 {
        [&self.full, &self.zstd, &self.unchanged]
            .map(Series::peak_kib)
            .into_iter()
            .max()
            .unwrap_or(0)
    }
}

/// Measures one size.
pub fn measure(bench: &Workbench, messages: u64, repeat: usize) -> Result<Point, String> {
    let spool = bench.spool(messages, &["--size", "400", "--mailboxes", MAILBOXES])?;
    let ground = Ground { bench, spool: &spool, own: bench.fresh("curve")? };
    let base = ground.own.join("base.tar").display().to_string();
    spool.warm(&bench.meter)?;
    bench.meter.run(&ground.snapshot(&["--output", &base]))?;

    let full = [ground.snapshot(&[]), words!["|", "cat"]].concat();
    let zstd = [ground.snapshot(&["--compress", "zstd"]), words!["|", "cat"]].concat();
    let unchanged = ground.snapshot(&["--since", &base]);
    let mut point = Point {
        messages,
        metadata_bytes: spool.bytes_of("cyrus.index")? + spool.bytes_of("cyrus.header")?,
        full: Series::default(),
        zstd: Series::default(),
        unchanged: Series::default(),
        cat: Series::default(),
        calls: calls(bench, &unchanged)?,
    };
    let unchanged = [unchanged, words!["|", "cat"]].concat();
    let cat = spool.cat_metadata()?;
    for _ in 0..repeat {
        point.full.0.push(bench.meter.run(&full)?);
        point.zstd.0.push(bench.meter.run(&zstd)?);
        point.unchanged.0.push(bench.meter.run(&unchanged)?);
        point.cat.0.push(bench.meter.run(&cat)?);
    }
    remove(&ground.own)?;
    Ok(point)
}

/// Counts the system calls of a command; nothing where there is no `strace`.
fn calls(bench: &Workbench, command: &Words) -> Result<Option<Calls>, String> {
    let log = bench.root.join("calls");
    let mut strace = Command::new("strace");
    strace.args(["--follow-forks", "-qq", "--signal=none", "--output"]).arg(&log).args(command);
    let Ok(output) = strace.output() else { return Ok(None) };
    if !output.status.success() {
        return Err(format!("strace {}: {}", command.join(" "), output.status));
    }
    let log = std::fs::read(&log).map_err(|e| format!("read the log of strace: {e}"))?;
    Ok(Some(count(&String::from_utf8_lossy(&log))))
}

fn count(log: &str) -> Calls {
    // A call that another thread interrupts has a second line.
    let calls = log.lines().filter(|line| !line.contains(" resumed>"));
    let (mut all, mut on_messages) = (0, 0);
    for call in calls {
        all += 1;
        on_messages += u64::from(call.split('"').skip(1).step_by(2).any(is_message));
    }
    Calls { all, on_messages }
}

/// Whether a path ends like the file of a message: `17.`.
fn is_message(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let uid = name.strip_suffix('.').unwrap_or_default();
    !uid.is_empty() && uid.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_on_message_files_are_told_from_others() {
        let log = "1 openat(5, \"17.\", O_RDONLY) = 7\n\
                   2 read(5,  <unfinished ...>\n\
                   1 openat(5, \"/a/1.2\", O_RDONLY) = 7\n\
                   2 <... read resumed>\"\", 9) = 0\n\
                   1 statx(5, \"/x/3.\", 0) = 0\n";
        assert_eq!(count(log), Calls { all: 4, on_messages: 2 });
    }
}
