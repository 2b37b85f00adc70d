//! `cylinder sweep`: what dead processes have left where messages wait.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::io;
use std::path::{Path, PathBuf};

use cyrus_format::imapd_conf::ImapdConf;
use engine::ports::Monitor;
use serde_json::{Value, json};
use spool::staging::{
    Cut, Group, Inode, Maker, Options, Purpose, Removed, Staged, Survey, Weight, messages_of,
};

use crate::args::SweepArgs;
use crate::error::{CliError, Exit};
use crate::progress::Progress;
use crate::render::{self, bytes, count, plain};
use crate::spool_error;
use crate::when::{self, age, rfc3339};

/// So many names of a message are told; the rest is counted.
const NAMES_MAX: usize = 3;

/// Runs the command.
pub fn run(args: &SweepArgs) -> Result<Exit, CliError> {
    let conf = spool::read_conf(&args.config).map_err(spool_error::explain)?;
    let options = Options { older_than: args.older_than };
    let survey = Survey::take(&conf, options).map_err(|error| {
        let hint = "run it as root, where Cyrus runs: there all processes are seen";
        spool_error::explain(error).hint(hint)
    })?;
    let progress = Progress::new(args.talk);
    progress.expect(survey.weigh(survey.gone()).linked);
    let (cut, unread) = survey.cut_short(|size| progress.advance(1, size));
    progress.clear();
    let mut sweep = Sweep { survey, cut, unread, messages: BTreeMap::new(), removed: None };
    sweep.find_messages(&conf, args.messages);
    if args.apply {
        sweep.remove();
    }
    let text = match args.talk.json {
        true => format!("{:#}\n", sweep.document()),
        false => sweep.text(),
    };
    render::print("the report", text)?;
    Ok(sweep.exit())
}

/// What was found, and what became of it.
struct Sweep {
    survey: Survey,
    cut: Vec<Cut>,
    /// Files that could not be read.
    unread: Vec<(PathBuf, io::Error)>,
    /// The names that files have in mailboxes, as far as they were looked for.
    messages: BTreeMap<Inode, Vec<PathBuf>>,
    /// What became of each group, in the order of the survey, if anything was to be removed.
    removed: Option<Vec<Removed>>,
}

impl Sweep {
    /// Looks for the messages that were cut short, or for `all` that share files with what waits.
    fn find_messages(&mut self, conf: &ImapdConf, all: bool) {
        let damaged = self.cut.iter().map(|cut| cut.inode);
        let others = self.survey.groups.iter().flat_map(|group| &group.files);
        let others = others.filter(|file| all && file.links > 1).map(|file| file.inode);
        let wanted: BTreeSet<Inode> = damaged.chain(others).collect();
        self.messages = messages_of(conf, &wanted);
    }

    fn remove(&mut self) {
        let removed = self.survey.groups.iter().map(|group| match group.maker.is_gone() {
            true => self.survey.remove(group),
            false => Removed::default(),
        });
        self.removed = Some(removed.collect());
    }

    /// What is left although it was to be removed.
    fn left(&self) -> impl Iterator<Item = &(PathBuf, io::Error)> {
        self.removed.iter().flatten().flat_map(|removed| &removed.left)
    }

    /// What could not be looked at.
    fn unread(&self) -> impl Iterator<Item = &(PathBuf, io::Error)> {
        self.survey.unread.iter().chain(&self.unread)
    }

    fn exit(&self) -> Exit {
        let is_wrong = !self.cut.is_empty()
            || !self.survey.strange.is_empty()
            || self.unread().next().is_some()
            || self.left().next().is_some();
        if is_wrong { Exit::Findings } else { Exit::Done }
    }

    fn names_of(&self, inode: Inode) -> &[PathBuf] {
        self.messages.get(&inode).map(Vec::as_slice).unwrap_or_default()
    }

    // Writing into a String cannot fail, so the results below are dropped.

    fn text(&self) -> String {
        let mut out = String::new();
        for (at, group) in self.survey.groups.iter().enumerate() {
            let weight = self.survey.weigh([group]);
            let _ = writeln!(out, "{}: {}", named(group), describe(group, &weight));
            self.text_of_files(&mut out, group);
            for (path, why) in self.removed.iter().flat_map(|removed| &removed[at].left) {
                let _ = writeln!(out, "  left: {}: {why}", shown(path));
            }
        }
        for cut in &self.cut {
            self.text_of_cut(&mut out, cut);
        }
        for path in &self.survey.strange {
            let _ = writeln!(out, "finding: {} is none of Cyrus' and is left", shown(path));
        }
        for (path, why) in self.unread() {
            let _ = writeln!(out, "finding: cannot look at {}: {why}", shown(path));
        }
        out.push_str(&self.summary());
        out
    }

    fn text_of_files(&self, out: &mut String, group: &Group) {
        for file in &group.files {
            let names = self.names_of(file.inode);
            if !names.is_empty() {
                let name = file.name.to_string_lossy();
                let _ = writeln!(out, "  {} is {}", plain(&name), listed(names));
            }
        }
    }

    fn text_of_cut(&self, out: &mut String, cut: &Cut) {
        let _ = writeln!(
            out,
            "finding: {} has {} of another message or of a part of it: their GUID is {}",
            shown(&cut.path),
            bytes(cut.size),
            cut.found,
        );
        let names = self.names_of(cut.inode);
        if !names.is_empty() {
            let _ = writeln!(out, "  the same file is {}", listed(names));
        }
        let _ = writeln!(
            out,
            "  to do: look for {} in a backup or on the replica; its mailbox has lost it",
            cut.guid
        );
    }

    fn summary(&self) -> String {
        let survey = &self.survey;
        if survey.groups.is_empty() {
            return "nothing waits\n".to_owned();
        }
        let (gone, all) = (survey.weigh(survey.gone()), survey.weigh(&survey.groups));
        let kept = all.files - gone.files;
        let mut text = match &self.removed {
            Some(removed) => {
                let removed: u64 = removed.iter().map(|removed| removed.files).sum();
                format!("{} removed", count(removed, "file"))
            }
            None => format!("{} of dead processes", count(gone.files, "file")),
        };
        if gone.files > 0 {
            let _ = write!(text, " ({}, {} on disk)", bytes(gone.bytes), bytes(gone.held));
        }
        if kept > 0 {
            let _ = write!(text, ", {kept} left to others");
        }
        let left = self.left().count() as u64;
        if left > 0 {
            let _ = write!(text, ", {} not removed", count(left, "name"));
        }
        if self.removed.is_none() && survey.gone().next().is_some() {
            text.push_str("; --apply removes them");
        }
        text + "\n"
    }

    fn document(&self) -> Value {
        let survey = &self.survey;
        let groups = survey.groups.iter().enumerate().map(|(at, group)| {
            let mut document = self.document_of(group);
            if let Some(removed) = &self.removed {
                document["removed"] = json!(removed[at].files);
                document["left"] = problems(removed[at].left.iter());
            }
            document
        });
        let cut = self.cut.iter().map(|cut| {
            json!({
                "path": cut.path.to_string_lossy(),
                "guid": cut.guid.to_string(),
                "found": cut.found.to_string(),
                "size": cut.size,
                "messages": paths(self.names_of(cut.inode)),
            })
        });
        json!({
            "applied": self.removed.is_some(),
            "groups": groups.collect::<Vec<_>>(),
            "gone": weight_json(&survey.weigh(survey.gone())),
            "all": weight_json(&survey.weigh(&survey.groups)),
            "cut_short": cut.collect::<Vec<_>>(),
            "strange": paths(&survey.strange),
            "unread": problems(self.unread()),
        })
    }

    fn document_of(&self, group: &Group) -> Value {
        let file = |file: &Staged| {
            json!({
                "name": file.name.to_string_lossy(),
                "size": file.size,
                "allocated": file.allocated,
                "links": file.links,
                "changed_at": rfc3339(seconds(file.mtime)),
                "messages": paths(self.names_of(file.inode)),
            })
        };
        let (state, process) = state(&group.maker);
        json!({
            "directory": group.directory.to_string_lossy(),
            "purpose": match group.purpose {
                Purpose::Append => "append",
                Purpose::Replication => "replication",
            },
            "pid": group.pid,
            "state": state,
            "process": process.map(|process| json!({
                "command": process.command,
                "uid": process.uid,
                "started_at": rfc3339(seconds(process.started_at)),
            })),
            "changed_at": rfc3339(seconds(group.changed_at)),
            "weight": weight_json(&self.survey.weigh([group])),
            "files": group.files.iter().map(file).collect::<Vec<_>>(),
        })
    }
}

/// What is said of a process in one word, and who it is.
fn state(maker: &Maker) -> (&'static str, Option<&spool::staging::Process>) {
    match maker {
        Maker::Gone => ("gone", None),
        Maker::Followed(process) => ("followed", Some(process)),
        Maker::Alive(process) => ("alive", Some(process)),
        Maker::InContainer => ("in-container", None),
        Maker::TooNew => ("too-new", None),
        Maker::Unknown => ("unknown", None),
    }
}

fn named(group: &Group) -> String {
    match (group.purpose, group.pid) {
        (Purpose::Append, Some(pid)) => format!("{} of {pid}", shown(&group.directory)),
        _ => shown(&group.directory),
    }
}

fn describe(group: &Group, weight: &Weight) -> String {
    let who = match &group.maker {
        Maker::Gone => "its process is gone".to_owned(),
        Maker::Followed(now) => {
            format!("its process is gone, {} has that number now", plain(&now.command))
        }
        Maker::Alive(process) => format!("{} is at work", plain(&process.command)),
        Maker::InContainer => "a process in a container may be at work".to_owned(),
        Maker::TooNew => "too new to tell; see --older-than".to_owned(),
        Maker::Unknown => "nobody knows whose".to_owned(),
    };
    let mut text = format!("{}, {}", count(weight.files, "file"), bytes(weight.bytes));
    if weight.linked > 0 {
        let _ = write!(text, ", {} also in mailboxes", weight.linked);
    }
    let ago = age(when::now(), seconds(group.changed_at));
    let _ = write!(text, "; {who}; last changed {ago} ago");
    text
}

fn weight_json(weight: &Weight) -> Value {
    json!({
        "files": weight.files,
        "bytes": weight.bytes,
        "held": weight.held,
        "linked": weight.linked,
    })
}

/// The first of some names.
fn listed(names: &[PathBuf]) -> String {
    let mut text: Vec<String> = names.iter().take(NAMES_MAX).map(|path| shown(path)).collect();
    if let Some(more) = names.len().checked_sub(NAMES_MAX).filter(|more| *more > 0) {
        text.push(format!("{more} more"));
    }
    text.join(", ")
}

fn problems<'p>(problems: impl Iterator<Item = &'p (PathBuf, io::Error)>) -> Value {
    let problem = |(path, why): &(PathBuf, io::Error)| json!({ "path": path.to_string_lossy(), "why": why.to_string() });
    problems.map(problem).collect()
}

fn paths(paths: &[PathBuf]) -> Value {
    paths.iter().map(|path| json!(path.to_string_lossy())).collect()
}

fn shown(path: &Path) -> String {
    plain(&path.to_string_lossy())
}

/// From nanoseconds since 1970.
fn seconds(nanos: i128) -> i64 {
    i64::try_from(nanos.div_euclid(1_000_000_000)).unwrap_or_default()
}
