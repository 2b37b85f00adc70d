//! The directory that benchmarks work in, and the programs and spools they work with.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::sample::{Meter, Words};
use crate::process::{self, cargo};
use crate::{words, workspace};

/// Disk that a race takes at most, per message: the spool and what every program makes of it.
const BYTES_PER_MESSAGE: u64 = 60_000;

/// Programs and places.
#[derive(Debug)]
pub struct Workbench {
    /// Everything below is ours, and goes when we go.
    pub root: PathBuf,
    /// `cylinder`, built for speed.
    pub cylinder: String,
    bench_spool: PathBuf,
    /// What pipelines are run under.
    pub meter: Meter,
}

impl Workbench {
    /// Builds the programs and empties the place.
    pub fn set_up() -> Result<Self, String> {
        process::run(&mut cargo(&["build", "--release", "-p", "cli", "-p", "testkit", "--bins"]))?;
        let bin = target_directory()?.join("release");
        let root = workspace::root().join(".bench");
        let bench = Self {
            cylinder: bin.join("cylinder").display().to_string(),
            bench_spool: bin.join("bench-spool"),
            meter: Meter {
                measure: bin.join("measure"),
                report: root.join("measured.json"),
                talk: root.join("talk"),
            },
            root,
        };
        bench.clear()?;
        fs::create_dir(&bench.root).map_err(|e| format!("create {}: {e}", bench.root.display()))?;
        Ok(bench)
    }

    /// Another program that was built for benchmarks.
    pub fn program(&self, name: &str) -> PathBuf {
        self.bench_spool.with_file_name(name)
    }

    /// What a program that was built for benchmarks answers, on the disk that all of them are on.
    pub fn ask(&self, program: &str, what: &str, numbers: &[(&str, u64)]) -> Result<Value, String> {
        eprintln!("\n{what} {numbers:?}");
        let mut command = Command::new(self.program(program));
        command.env("TMPDIR", &self.root).arg(what).args(["--cylinder", &self.cylinder]);
        for (name, number) in numbers {
            command.args([format!("--{name}"), number.to_string()]);
        }
        let text = process::output(&mut command)?;
        serde_json::from_str(&text).map_err(|e| format!("read the answer of {program}: {e}"))
    }

    /// Removes everything that benchmarks left.
    pub fn clear(&self) -> Result<(), String> {
        remove(&self.root)
    }

    /// Builds a spool of that many messages.
    pub fn spool(&self, messages: u64, options: &[&str]) -> Result<Spool, String> {
        let size = options.iter().skip_while(|option| **option != "--size").nth(1);
        // Every file takes a block, an inode and a name, in each place it is in.
        let made_up = size.and_then(|size| size.parse::<u64>().ok()).map(|size| 4 * (size + 5_000));
        self.check_room(messages * made_up.unwrap_or(BYTES_PER_MESSAGE))?;
        let root = self.root.join("spool");
        remove(&root)?;
        eprintln!("\nBuilding a spool of {messages} messages {}", options.join(" "));
        let mut command = Command::new(&self.bench_spool);
        command.args(["--messages", &messages.to_string()]).args(options).arg("--out").arg(&root);
        let text = process::output(&mut command)?;
        let description: Value =
            serde_json::from_str(&text).map_err(|e| format!("read bench-spool's answer: {e}"))?;
        let spool = Spool::of(&description, root, self.bench_spool.clone());
        spool.ok_or_else(|| format!("bench-spool answered {text}"))
    }

    /// An empty directory for what the programs make of a spool.
    pub fn fresh(&self, name: &str) -> Result<PathBuf, String> {
        let path = self.root.join(name);
        remove(&path)?;
        fs::create_dir_all(&path).map_err(|e| format!("create {}: {e}", path.display()))?;
        Ok(path)
    }

    /// Refuses to begin what the disk has no room for.
    pub fn check_room(&self, needed: u64) -> Result<(), String> {
        let mut df = Command::new("df");
        df.args(["--output=avail", "--block-size=1"]).arg(&self.root);
        let text = process::output(&mut df)?;
        let free: u64 = text.lines().nth(1).and_then(|line| line.trim().parse().ok()).unwrap_or(0);
        if free < needed {
            let (free, needed) = (free >> 30, (needed >> 30) + 1);
            return Err(format!("this takes {needed} GiB of disk, {free} are free"));
        }
        Ok(())
    }
}

/// A spool that `bench-spool` built.
#[derive(Clone, Debug)]
pub struct Spool {
    root: PathBuf,
    bench_spool: PathBuf,
    /// Its imapd.conf.
    pub conf: String,
    /// The partition: what programs that know nothing of Cyrus copy.
    pub partition: PathBuf,
    /// The account, or the first of them.
    pub account: String,
    /// How many there are.
    pub accounts: u64,
    /// The directory of that account's INBOX.
    pub inbox: PathBuf,
    /// How many mailboxes it has.
    pub mailboxes: u64,
    /// Different messages.
    pub messages: u64,
    /// Copies on top, as hard links.
    pub copies: u64,
    /// What the different messages weigh.
    pub message_bytes: u64,
}

impl Spool {
    fn of(description: &Value, root: PathBuf, bench_spool: PathBuf) -> Option<Self> {
        let text = |name: &str| description[name].as_str().map(String::from);
        let number = |name: &str| description[name].as_u64();
        Some(Self {
            root,
            bench_spool,
            conf: text("imapd_conf")?,
            partition: text("spool")?.into(),
            account: text("account")?,
            accounts: number("accounts")?,
            inbox: text("inbox")?.into(),
            mailboxes: number("mailboxes")?,
            messages: number("messages")?,
            copies: number("copies")?,
            message_bytes: number("message_bytes")?,
        })
    }

    /// Delivers one new message to the INBOX.
    pub fn deliver(&self) -> Result<(), String> {
        process::output(Command::new(&self.bench_spool).arg("--deliver").arg(&self.root))?;
        Ok(())
    }

    /// Every file of that name, in the order of the paths.
    pub fn files(&self, name: &str) -> Result<Vec<PathBuf>, String> {
        let mut files = Vec::new();
        find(&self.partition, name, &mut files)?;
        files.sort();
        Ok(files)
    }

    /// What all files of that name weigh.
    pub fn bytes_of(&self, name: &str) -> Result<u64, String> {
        let files = self.files(name)?;
        Ok(files.iter().filter_map(|path| fs::metadata(path).ok()).map(|meta| meta.len()).sum())
    }

    /// `cat` of the metadata files that a snapshot copies from the mailboxes.
    pub fn cat_metadata(&self) -> Result<Words, String> {
        let mut command = words!["cat"];
        for name in ["cyrus.header", "cyrus.index"] {
            command.extend(self.files(name)?.iter().map(|path| path.display().to_string()));
        }
        Ok(command)
    }

    /// Reads the tree once, so that it is in the page cache, with everything that leads to it.
    pub fn warm(&self, meter: &Meter) -> Result<(), String> {
        meter.run(&words!["tar", "cf", "-", self.partition.display(), "|", "cat"])?;
        Ok(())
    }
}

/// Removes a directory and all below it, if it is there.
pub fn remove(path: &Path) -> Result<(), String> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("remove {}: {e}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Bytes of all files below a directory.
pub fn bytes_below(path: &Path) -> Result<u64, String> {
    let mut du = Command::new("du");
    du.args(["--summarize", "--apparent-size", "--block-size=1"]).arg(path);
    let text = process::output(&mut du)?;
    let bytes = text.split_whitespace().next().and_then(|word| word.parse().ok());
    bytes.ok_or_else(|| format!("du answered {text}"))
}

fn find(dir: &Path, name: &str, found: &mut Vec<PathBuf>) -> Result<(), String> {
    let failed = |e| format!("list {}: {e}", dir.display());
    for entry in fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_name() == name {
            found.push(entry.path());
        } else if entry.file_type().map_err(failed)?.is_dir() {
            find(&entry.path(), name, found)?;
        }
    }
    Ok(())
}

fn target_directory() -> Result<PathBuf, String> {
    let mut command = cargo(&["metadata", "--no-deps", "--format-version", "1", "--offline"]);
    let metadata: Value = serde_json::from_str(&process::output(&mut command)?)
        .map_err(|e| format!("read cargo's metadata: {e}"))?;
    let path = metadata["target_directory"].as_str().ok_or("cargo names no target directory")?;
    Ok(path.into())
}
