//! One run of a pipeline, and what many runs of it say.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

/// The words of a command, `|` between the programs of a pipeline.
pub type Words = Vec<String>;

/// Words from whatever has a text.
#[macro_export]
macro_rules! words {
    ($($word:expr),* $(,)?) => { vec![$($word.to_string()),*] };
}

/// What one run took.
#[derive(Clone, Debug)]
pub struct Sample {
    /// From the start of the first program to the end of the last.
    pub wall: Duration,
    /// Processor time of all programs of the pipeline.
    pub cpu: Duration,
    /// The most memory that the first program had resident, in KiB.
    pub peak_kib: u64,
    /// What came out at the end of the pipeline.
    pub output: String,
    /// What was said on standard error.
    pub talk: String,
}

impl Sample {
    /// The report of a `cylinder ... --json`.
    pub fn report(&self) -> Result<Value, String> {
        let line = self.talk.lines().last().unwrap_or_default();
        serde_json::from_str(line).map_err(|e| format!("read the report {line:?}: {e}"))
    }

    /// How many bytes went through the pipe, where `wc` or a report says so.
    pub fn written(&self) -> Option<u64> {
        let counted = self.output.parse().ok();
        counted.or_else(|| self.report().ok()?["segment_bytes"].as_u64())
    }

    /// How long the user's lock, or the index of a mailbox, was locked at most.
    pub fn longest_lock(&self) -> Result<Duration, String> {
        let report = self.report()?;
        let locks = report["locks"].as_array().ok_or("a report without locks")?;
        let stalling =
            locks.iter().filter(|lock| lock["kind"] == "user" || lock["kind"] == "index");
        let held = stalling.filter_map(|lock| lock["held_us"].as_u64());
        held.max().map(Duration::from_micros).ok_or_else(|| "no lock was held".to_string())
    }
}

/// Runs pipelines under `measure`.
#[derive(Debug)]
pub struct Meter {
    /// The program.
    pub measure: PathBuf,
    /// Where it leaves its report.
    pub report: PathBuf,
    /// Where standard error goes meanwhile.
    pub talk: PathBuf,
}

impl Meter {
    /// Runs a pipeline after all earlier writes have reached the disk. What comes out at its end is
    /// only kept where it is a `wc`; otherwise it goes to /dev/null.
    pub fn run(&self, words: &Words) -> Result<Sample, String> {
        let failed = |what: &str, e: &dyn std::fmt::Display| format!("{what}: {e}");
        Command::new("sync").status().map_err(|e| failed("sync", &e))?;
        let talk = File::create(&self.talk).map_err(|e| failed("create a log", &e))?;
        let counted = words.iter().any(|word| word == "wc");
        let output = Command::new(&self.measure)
            .arg(&self.report)
            .args(words)
            .stdin(Stdio::null())
            .stdout(if counted { Stdio::piped() } else { Stdio::null() })
            .stderr(talk)
            .output()
            .map_err(|e| failed("start measure", &e))?;
        let talk = fs::read(&self.talk).map_err(|e| failed("read the log", &e))?;
        let talk = String::from_utf8_lossy(&talk).into_owned();
        if !output.status.success() {
            return Err(format!("{}: {}\n{talk}", words.join(" "), output.status));
        }
        let report = fs::read(&self.report).map_err(|e| failed("read what was measured", &e))?;
        let report: Value =
            serde_json::from_slice(&report).map_err(|e| failed("read what was measured", &e))?;
        let micros = |name: &str| Duration::from_micros(report[name].as_u64().unwrap_or(0));
        Ok(Sample {
            wall: micros("wall_us"),
            cpu: micros("cpu_us"),
            peak_kib: report["first_peak_kib"].as_u64().unwrap_or(0),
            output: String::from_utf8_lossy(&output.stdout).trim().to_string(),
            talk,
        })
    }
}

/// Runs of the same pipeline.
#[derive(Clone, Debug, Default)]
pub struct Series(pub Vec<Sample>);

impl Series {
    /// The middle one of the wall times.
    pub fn median(&self) -> Duration {
        median(self.0.iter().map(|sample| sample.wall))
    }

    /// The shortest wall time.
    pub fn best(&self) -> Duration {
        self.0.iter().map(|sample| sample.wall).min().unwrap_or_default()
    }

    /// The middle one of the processor times.
    pub fn cpu(&self) -> Duration {
        median(self.0.iter().map(|sample| sample.cpu))
    }

    /// The most memory of any run, in KiB.
    pub fn peak_kib(&self) -> u64 {
        self.0.iter().map(|sample| sample.peak_kib).max().unwrap_or(0)
    }

    /// The middle one of how long a user or index lock was held at most.
    pub fn longest_lock(&self) -> Result<Duration, String> {
        let held: Result<Vec<_>, _> = self.0.iter().map(Sample::longest_lock).collect();
        Ok(median(held?.into_iter()))
    }
}

/// The middle one; the longer one of two in the middle; nothing of nothing.
fn median(times: impl Iterator<Item = Duration>) -> Duration {
    let mut times: Vec<Duration> = times.collect();
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(millis: u64, talk: &str) -> Sample {
        Sample {
            wall: Duration::from_millis(millis),
            cpu: Duration::ZERO,
            peak_kib: millis,
            output: "42".to_string(),
            talk: talk.to_string(),
        }
    }

    #[test]
    fn a_series_has_a_middle_a_best_and_a_peak() {
        let series = Series([9, 1, 5].map(|millis| sample(millis, "")).into());
        assert_eq!(series.median(), Duration::from_millis(5));
        assert_eq!(series.best(), Duration::from_millis(1));
        assert_eq!(series.peak_kib(), 9);
        assert_eq!(Series::default().median(), Duration::ZERO);
    }

    #[test]
    fn what_was_written_is_counted_or_reported() {
        assert_eq!(sample(1, "{\"segment_bytes\":7}").written(), Some(42));
        let uncounted = Sample { output: String::new(), ..sample(1, "{\"segment_bytes\":7}") };
        assert_eq!(uncounted.written(), Some(7));
        assert_eq!(Sample { talk: String::new(), ..uncounted }.written(), None);
    }

    #[test]
    fn only_locks_that_stop_clients_count() {
        let talk = "progress\n{\"locks\":[{\"kind\":\"name\",\"held_us\":9},\
                    {\"kind\":\"user\",\"held_us\":4},{\"kind\":\"index\",\"held_us\":null}]}";
        assert_eq!(sample(1, talk).longest_lock(), Ok(Duration::from_micros(4)));
        assert!(sample(1, "{\"locks\":[]}").longest_lock().is_err());
        assert!(sample(1, "").longest_lock().is_err());
    }
}
