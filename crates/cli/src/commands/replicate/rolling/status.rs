//! How it is doing, for programs and for people.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use engine::rolling::{IllAccount, Moment, Reach};
use model::Userid;
use segment::names::quote;
use serde_json::{Value, json};

use super::clock::Now;
use super::store::Store;
use crate::error::{CliError, Exit};
use crate::render::{count, plain, print};
use crate::when;

/// How long back the pace is measured, in samples of a second.
const PACE_SAMPLES: usize = 60;

/// A status that is older, in seconds, is of somebody who is dead or stuck.
const STALE: i64 = 60;

/// All that is told.
pub struct Status<'s> {
    pub now: Now,
    pub replica: &'s str,
    pub channel: Option<&'s str>,
    /// `running`, `stopping` or `ended`.
    pub state: &'static str,
    pub reach: &'s Reach,
    pub connections: usize,
    pub jobs: usize,
    /// Since when the oldest entry waits that is not ill.
    pub oldest: Option<Moment>,
    /// Entries that are known, and lines of chunks that are not read yet.
    pub left: u64,
    pub log_bytes: u64,
    pub chunks: usize,
    pub done: u64,
    pub per_second: f64,
    pub messages: u64,
    pub malformed: u64,
    pub left_out: u64,
    pub running: Vec<&'s Userid>,
    pub ill: Vec<IllAccount>,
}

/// How fast it goes.
#[derive(Default)]
pub struct Pace {
    samples: VecDeque<(Moment, u64)>,
}

impl Pace {
    /// Takes how much is done by now, once in a second; entries in a second.
    pub fn per_second(&mut self, now: Moment, done: u64) -> f64 {
        self.samples.push_back((now, done));
        if self.samples.len() > PACE_SAMPLES {
            self.samples.pop_front();
        }
        let Some((then, before)) = self.samples.front() else { return 0.0 };
        let seconds = (now.0 - then.0) as f64 / 1000.0;
        if seconds > 0.0 { (done - before) as f64 / seconds } else { 0.0 }
    }
}

impl Status<'_> {
    /// How far the replica is behind, in seconds.
    pub fn lag(&self) -> f64 {
        self.oldest.map_or(0.0, |oldest| (self.now.moment.0 - oldest.0).max(0) as f64 / 1000.0)
    }

    fn seconds_left(&self) -> Option<f64> {
        let is_known = self.left > 0 && self.per_second > 0.0;
        is_known.then(|| self.left as f64 / self.per_second)
    }

    /// One line.
    pub fn line(&self) -> String {
        if let Reach::Down { why, .. } = self.reach {
            return format!("the replica is away: {why}; lag {:.0} s", self.lag());
        }
        let mut line = format!("{} done, {} left", self.done, self.left);
        if self.left > 0 {
            line.push_str(&format!(", {:.1}/s", self.per_second));
        }
        if let Some(seconds) = self.seconds_left() {
            line.push_str(&format!(", {seconds:.0} s to go"));
        }
        line.push_str(&format!(", oldest {:.0} s", self.lag()));
        match self.ill.len() {
            0 => line,
            ill => format!("{line}; {} left as it is", count(ill as u64, "account")),
        }
    }

    /// As JSON.
    pub fn document(&self) -> Value {
        let (since, why, next) = match self.reach {
            Reach::Unknown => (None, None, None),
            Reach::Up { since } => (Some(since), None, None),
            Reach::Down { since, why, next, .. } => (Some(since), Some(why), Some(next)),
        };
        let time = |moment: Moment| time(self.now, moment);
        let quarantine = self.ill.iter().flat_map(|ill| quarantine_json(ill, self.now));
        let quarantine: Vec<Value> = quarantine.collect();
        json!({
            "updated": time(self.now.moment),
            "updated_at": self.now.calendar / 1000,
            "pid": std::process::id(),
            "program": crate::PROGRAM,
            "replica": self.replica,
            "channel": self.channel,
            "state": self.state,
            "reachable": matches!(self.reach, Reach::Up { .. }),
            "reachable_since": since.map(|since| time(*since)),
            "unreachable_because": why,
            "next_connect": next.map(|next| time(*next)),
            "connections": self.connections,
            "jobs": self.jobs,
            "lag_seconds": self.lag(),
            "oldest": self.oldest.map(time),
            "backlog": {
                "left": self.left,
                "log_bytes": self.log_bytes,
                "chunks": self.chunks,
                "done": self.done,
                "per_second": self.per_second,
                "seconds_left": self.seconds_left(),
            },
            "running": self.running.iter().map(|user| quote(user.as_bytes())).collect::<Vec<_>>(),
            "messages": self.messages,
            "malformed_lines": self.malformed,
            "mailboxes_of_other_kinds": self.left_out,
            "quarantine": quarantine,
        })
    }

    /// In the words of Prometheus.
    pub fn metrics(&self) -> String {
        let channel = self.channel.unwrap_or_default();
        let labels = format!("{{replica={:?},channel={channel:?}}}", self.replica);
        let is_up = u8::from(matches!(self.reach, Reach::Up { .. }));
        let things: usize = self.ill.iter().map(|ill| ill.things.len()).sum();
        let values: [(&str, &str, &str, f64); 9] = [
            ("up", "gauge", "Whether the replica can be reached.", is_up.into()),
            ("lag_seconds", "gauge", "The age of the oldest entry.", self.lag()),
            ("backlog_entries", "gauge", "Entries to be done.", self.left as f64),
            ("log_bytes", "gauge", "What is in the sync log itself.", self.log_bytes as f64),
            ("done_total", "counter", "Entries that were done.", self.done as f64),
            ("messages_total", "counter", "Messages that were sent.", self.messages as f64),
            ("quarantined", "gauge", "What is left as it is.", things as f64),
            ("malformed_lines_total", "counter", "Lines that are none.", self.malformed as f64),
            (
                "updated_seconds",
                "gauge",
                "When this was written.",
                (self.now.calendar / 1000) as f64,
            ),
        ];
        let lines = values.iter().map(|(name, kind, help, value)| {
            let name = format!("cylinder_rolling_{name}");
            format!("# HELP {name} {help}\n# TYPE {name} {kind}\n{name}{labels} {value}\n")
        });
        lines.collect()
    }
}

fn quarantine_json(ill: &IllAccount, now: Now) -> Vec<Value> {
    let thing = |thing: &engine::rolling::IllThing| {
        let mailbox = thing.complaint.mailbox.as_ref();
        json!({
            "account": quote(ill.account.as_bytes()),
            "mailbox": mailbox.map(|name| quote(name.as_bytes())),
            "code": thing.complaint.code,
            "reason": thing.complaint.reason,
            "since": time(now, thing.since),
            "tries": ill.tries,
            "next_try": time(now, ill.next),
        })
    };
    ill.things.iter().map(thing).collect()
}

/// By the calendar.
fn time(now: Now, moment: Moment) -> String {
    when::rfc3339(now.calendar_of(moment).div_euclid(1000))
}

/// Replaces a small file in one step. It need not survive a power cut: the next one comes soon.
pub fn replace(path: &Path, text: &str) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    let mut file = match create(&new) {
        // Of one who was killed in the middle; or somebody wants another file to be written.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            fs::remove_file(&new)?;
            create(&new)?
        }
        created => created?,
    };
    file.write_all(text.as_bytes())?;
    file.set_permissions(Permissions::from_mode(0o644))?;
    fs::rename(&new, path)
}

/// Makes a file where there is nothing, not even a symlink.
fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).open(path)
}

/// Prints what a daemon wrote last.
pub fn tell(store: &Store, json: bool) -> Result<Exit, CliError> {
    let path = store.status();
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(CliError::plain("nobody has replicated there")
                .hint("--to, --channel and --state are to be those of the daemon"));
        }
        Err(error) => {
            return Err(CliError::failed(format!("cannot read {}", path.display()), error));
        }
    };
    let document: Value = serde_json::from_str(&text)
        .map_err(|error| CliError::failed(format!("cannot use {}", path.display()), error))?;
    let age = when::now() - document["updated_at"].as_i64().unwrap_or_default();
    let is_alive = store.is_locked() && age < STALE;
    let shown = if json { text } else { text_of(&document, is_alive, age) };
    print("the status", shown)?;
    let is_up = document["reachable"] == true;
    let is_ill = document["quarantine"].as_array().is_some_and(|ill| !ill.is_empty());
    Ok(match (is_alive && is_up, is_ill) {
        (false, _) => Exit::Failed,
        (true, true) => Exit::Findings,
        (true, false) => Exit::Done,
    })
}

fn text_of(document: &Value, is_alive: bool, age: i64) -> String {
    let word = |key: &str| plain(document[key].as_str().unwrap_or("-"));
    let number = |value: &Value| value.as_f64().unwrap_or_default();
    let backlog = &document["backlog"];
    let mut lines = vec![match is_alive {
        true => format!("process {} replicates to {}", document["pid"], word("replica")),
        false => format!("nobody replicates to {}; this is {age} s old", word("replica")),
    }];
    lines.push(match document["reachable"] == true {
        true => format!(
            "replica: reached since {}, {} of {} connections",
            word("reachable_since"),
            document["connections"],
            document["jobs"]
        ),
        false => format!(
            "replica: away since {}: {}; next try {}",
            word("reachable_since"),
            word("unreachable_because"),
            word("next_connect")
        ),
    });
    lines.push(format!("lag: {:.1} s", number(&document["lag_seconds"])));
    let mut left = format!(
        "backlog: {} left, {} done, {:.1}/s, {} bytes in the log",
        backlog["left"],
        backlog["done"],
        number(&backlog["per_second"]),
        backlog["log_bytes"]
    );
    if let Some(seconds) = backlog["seconds_left"].as_f64() {
        left.push_str(&format!(", {seconds:.0} s to go"));
    }
    lines.push(left);
    let ill = document["quarantine"].as_array().map_or(&[][..], Vec::as_slice);
    lines.push(format!("left as it is: {}", ill.len()));
    for ill in ill {
        let text = |key: &str| ill[key].as_str().unwrap_or_default();
        let what = match &ill["mailbox"] {
            Value::Null => format!("account {}", text("account")),
            _ => text("mailbox").to_owned(),
        };
        let line = format!("  {what}: {}: {}", text("code"), text("reason"));
        let when = format!("    since {}, next try {}", text("since"), text("next_try"));
        lines.extend([plain(&line), plain(&when)]);
    }
    lines.iter().map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_file_is_replaced_and_no_other_one_through_a_symlink() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = |name: &str| directory.path().join(name);
        fs::write(path("other"), "precious").expect("written");
        for name in ["status", "status.new"] {
            symlink(path("other"), path(name)).expect("a symlink");
            replace(&path("status"), "news").expect("replaced");
            assert_eq!(fs::read_to_string(path("status")).expect("there"), "news");
            assert_eq!(fs::read_to_string(path("other")).expect("there"), "precious");
            assert!(!path("status.new").exists());
        }
        let mode = fs::symlink_metadata(path("status")).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o644);
    }
}
