//! What `cylinder watch` and logcheck tell of the same logs: those that `watch-logs` made, and troubles
//! that were written by hand.
//!
//! Usage: `watch-compare DIRECTORY`; run by `cargo xtask watch-compare`, as root, with logcheck and its rules
//! installed. Prints a table for docs/watch.md.
//!
//! Of everyday days, all that is told is a false alarm. A trouble is found by logcheck if one line is
//! reported of which the everyday has nothing like it, or that our noise is about: more cannot be asked
//! of a list. It is found by the watch if there is one noise, and it has the right name.

use std::collections::BTreeSet;
use std::error::Error;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use logwatch::line::LineReader;
use logwatch::noise::Noise;
use logwatch::time::Civil;
use logwatch::{Mode, Watcher};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// What was told of some lines.
struct Told {
    noises: Vec<Noise>,
    reported: BTreeSet<String>,
}

fn main() -> Outcome {
    let directory = std::env::args().nth(1).ok_or("usage: watch-compare DIRECTORY")?;
    let read = |name: &str| -> Outcome<String> {
        let packed = fs::read(Path::new(&directory).join(name))?;
        Ok(String::from_utf8(zstd::decode_all(&packed[..])?)?)
    };
    let (everyday, incidents) = (read("everyday.zst")?, read("incidents.zst")?);
    println!("| | lines | `cylinder watch` | logcheck |\n| --- | ---: | --- | ---: |");
    // From Monday to Sunday; the next two days are watched.
    let (week, rest) = everyday.split_at(everyday.find("Nov  9 ").ok_or("no second Monday")?);
    let told = Told::of(&learn(week), rest)?;
    let kinds = format!(" of {} kinds", told.kinds(&learn(week)));
    row("two everyday days", rest, &told, &format!("{} noises", told.noises.len()), &kinds);
    let mut missed = (0, 0);
    let mut trouble = |name: &str, lines: &str, learned: &Watcher| -> Outcome {
        let told = Told::of(learned, lines)?;
        let names: Vec<&str> = told.noises.iter().map(|noise| noise.cause.name()).collect();
        let is_found = told.is_found(learned);
        missed.0 += u32::from(names != [name]);
        missed.1 += u32::from(!is_found);
        row(
            name,
            lines,
            &told,
            &names.join(", "),
            if is_found { ": found" } else { ": **missed**" },
        );
        Ok(())
    };
    let learned = learn(&everyday);
    let injected = fs::read_to_string(Path::new(&directory).join("injected.log"))?;
    for incident in [incidents, injected].concat().split("# ").skip(1) {
        let (title, lines) = incident.split_once('\n').ok_or("a trouble without lines")?;
        let (_, name) = title.split_once(' ').ok_or("a trouble without a name")?;
        trouble(name, lines, &learned)?;
    }
    // The servers go on, but nobody checkpoints any more.
    let (before, behind) = everyday.split_at(everyday.find("Nov 10 12:").ok_or("no Tuesday")?);
    let silent = behind.split_inclusive('\n').filter(|line| !line.contains("checkpointing"));
    trouble("silence", &silent.collect::<String>(), &learn(before))?;
    println!("| **missed** | | **{}** | **{}** |", missed.0, missed.1);
    println!("| **false alarms** | | **{}** | **{}** |", told.noises.len(), told.reported.len());
    Ok(())
}

fn row(name: &str, lines: &str, told: &Told, ours: &str, verdict: &str) {
    let (lines, reported) = (lines.lines().count(), told.reported.len());
    println!("| {name} | {lines} | {ours} | {reported} lines{verdict} |");
}

/// The last day of the month in which all of it happened.
fn reader() -> LineReader {
    let civil = Civil { year: 2026, month: 11, day: 30, hour: 0, minute: 0, second: 0 };
    LineReader::new(civil.time().unwrap_or_default())
}

fn learn(lines: &str) -> Watcher {
    let (mut watcher, mut reader) = (Watcher::default(), reader());
    lines.lines().for_each(|line| watcher.take(&reader.read(line.as_bytes()), Mode::Learn));
    watcher
}

impl Told {
    fn of(learned: &Watcher, lines: &str) -> Outcome<Self> {
        let (mut watcher, mut reader) = (learned.clone(), reader());
        lines.lines().for_each(|line| watcher.take(&reader.read(line.as_bytes()), Mode::Watch));
        watcher.stop_waiting();
        let noises = watcher.noises(watcher.now());
        Ok(Self { noises, reported: logcheck(lines)? })
    }

    /// Of how many templates the lines are that logcheck reports.
    fn kinds(&self, learned: &Watcher) -> usize {
        let id = |line: &String| {
            let known = learned.explain(&reader().read(line.as_bytes()));
            known.template.map(|template| template.id)
        };
        self.reported.iter().map(id).collect::<BTreeSet<_>>().len()
    }

    /// Whether a line of the trouble is among those that logcheck reports.
    fn is_found(&self, learned: &Watcher) -> bool {
        let is_of_it = |line: &String| {
            let known = learned.explain(&reader().read(line.as_bytes()));
            let is_new = known.template.is_none() || known.differs || known.alarm.is_some();
            let pattern = known.template.map(|template| &template.pattern);
            is_new || self.noises.iter().any(|noise| Some(&noise.pattern) == pattern)
        };
        self.reported.iter().any(is_of_it)
    }
}

/// The lines that logcheck reports, at the level of a server. It does not run as root.
fn logcheck(lines: &str) -> Outcome<BTreeSet<String>> {
    let directory = tempfile::tempdir()?;
    fs::set_permissions(directory.path(), Permissions::from_mode(0o755))?;
    let log = directory.path().join("log");
    fs::write(&log, lines)?;
    fs::set_permissions(&log, Permissions::from_mode(0o644))?;
    let mut command = Command::new("runuser");
    command.args(["-u", "logcheck", "--", "logcheck", "-o", "-t", "-s", "-l"]).arg(&log);
    let output = command.output().map_err(|error| format!("run logcheck: {error}"))?;
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    if !output.status.success() {
        return Err(format!("logcheck: {}: {errors}", output.status).into());
    }
    let all: BTreeSet<&str> = lines.lines().collect();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let reported = text.lines().filter(|line| all.contains(line));
    Ok(reported.map(String::from).collect())
}
