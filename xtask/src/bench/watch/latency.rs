//! How long it takes from a line to its noise, through the daemon.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::process;

const MESSAGE: &str =
    "mail1 cyrus/imap[7]: IOERROR: writing message: syserror=<No space left on device>";

/// Follows a log of its own, and writes one line to it, so many times.
pub fn measure(root: &Path, cylinder: &str, times: usize) -> Result<Vec<Duration>, String> {
    (0..times).map(|time| once(&root.join(format!("latency-{time}")), cylinder)).collect()
}

fn once(directory: &Path, cylinder: &str) -> Result<Duration, String> {
    let failed =
        |error: std::io::Error| format!("follow a log in {}: {error}", directory.display());
    fs::create_dir(directory).map_err(failed)?;
    let path = directory.join("log");
    let mut log = File::create(&path).map_err(failed)?;
    let mut watch = Command::new(cylinder);
    watch.arg("watch").arg("--state").arg(directory.join("state")).arg("--log").arg(&path);
    watch.stdin(Stdio::null()).stderr(Stdio::piped());
    let mut daemon = watch.spawn().map_err(failed)?;
    let stamp = process::output(Command::new("date").arg("+%Y-%m-%dT%H:%M:%S"))?;
    let start = Instant::now();
    let mut said = String::new();
    let outcome = writeln!(log, "{} {MESSAGE}", stamp.trim()).and_then(|()| {
        let stderr = daemon.stderr.take().ok_or(std::io::ErrorKind::BrokenPipe)?;
        BufReader::new(stderr).read_line(&mut said)
    });
    let took = start.elapsed();
    let ended = daemon.kill().and_then(|()| daemon.wait());
    outcome.and(ended).map_err(failed)?;
    match said.contains("disk-full") {
        true => Ok(took),
        false => Err(format!("a full disk was told as {said:?}")),
    }
}
