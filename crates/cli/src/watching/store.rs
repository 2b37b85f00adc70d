//! What `cylinder watch` keeps: one directory, whose files are small whatever the log holds.
//!
//! `state` is what is everyday, what goes on, and how far each log and the journal were read: one file,
//! replaced whole, so that these three never disagree. `accepted` is what was accepted, so that it can be changed while
//! a daemon runs. `noises.jsonl` is what was said, and `noises.jsonl.1` what was said before it.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use logwatch::Watcher;
use logwatch::book::BookLimits;
use logwatch::noise::{Noise, NoiseId};
use logwatch::time::Time;
use rustix::fs::{FlockOperation, fcntl_lock};
use serde_json::{Value, json};

use super::follow::Place;
use super::show;
use crate::error::{CliError, Exit};
use crate::output::Output;

/// Where it is.
pub struct Store {
    dir: PathBuf,
}

/// Nobody else changes the state meanwhile.
pub struct Lock {
    _file: File,
}

/// Everything that the state file has.
pub struct Kept {
    /// What is known.
    pub watcher: Watcher,
    /// How far each log was read.
    pub places: Vec<Place>,
    /// The last entry of the journal that was read.
    pub cursor: Option<String>,
}

/// What was said stays readable up to this size, and as much before it.
const NOISES_BYTES_MAX: u64 = 1 << 20;

impl Store {
    /// In this directory, which need not exist as long as nothing is written.
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// Makes the directory, and keeps others from writing.
    pub fn lock(&self) -> Result<Lock, CliError> {
        let make = || {
            fs::create_dir_all(&self.dir)?;
            OpenOptions::new().create(true).append(true).open(self.dir.join("lock"))
        };
        let file = make().map_err(|error| {
            self.failed("use", "", error).hint("--state names another directory")
        })?;
        match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Lock { _file: file }),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::ACCESS) => {
                Err(CliError::plain(format!("another watch uses {}", self.dir.display()))
                    .hint("stop it first; --accept, --explain and --list work beside it")
                    .exit(Exit::TryAgain))
            }
            Err(error) => Err(self.failed("lock", "lock", error.into())),
        }
    }

    /// Reads what was kept; nothing if there is nothing.
    pub fn load(&self) -> Result<Kept, CliError> {
        let mut kept = match fs::read(self.dir.join("state")) {
            Ok(bytes) => self.parse(&bytes)?,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Kept { watcher: Watcher::default(), places: Vec::new(), cursor: None }
            }
            Err(error) => return Err(self.failed("read", "state", error)),
        };
        for (id, until) in self.accepted()? {
            kept.watcher.accept(id, until);
        }
        Ok(kept)
    }

    fn parse(&self, bytes: &[u8]) -> Result<Kept, CliError> {
        let damaged = |error: String| {
            let path = self.dir.join("state");
            CliError::failed(format!("cannot use {}", path.display()), error)
                .hint("move it away, and learn anew with --learn")
        };
        let line = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
        let (head, body) = bytes.split_at(line);
        let places: Value =
            serde_json::from_slice(head).map_err(|error| damaged(error.to_string()))?;
        let places = places.as_array().map_or(&[][..], Vec::as_slice);
        let watcher = Watcher::decode(body.get(1..).unwrap_or_default(), BookLimits::default())
            .map_err(|error| damaged(error.to_string()))?;
        let cursor = places.iter().find_map(|place| place["journal"].as_str());
        let cursor = cursor.map(String::from);
        Ok(Kept { watcher, places: places.iter().filter_map(Place::from_json).collect(), cursor })
    }

    /// Keeps it all; either the whole of it is kept, or what was kept before.
    pub fn save(
        &self,
        watcher: &Watcher,
        places: &[Place],
        cursor: Option<&str>,
    ) -> Result<(), CliError> {
        let mut places: Vec<Value> = places.iter().map(Place::json).collect();
        places.extend(cursor.map(|cursor| json!({ "journal": cursor })));
        let mut bytes = json!(places).to_string().into_bytes();
        bytes.push(b'\n');
        bytes.extend_from_slice(&watcher.encode());
        self.replace("state", &bytes)
    }

    /// What is accepted until when.
    pub fn accepted(&self) -> Result<BTreeMap<NoiseId, Time>, CliError> {
        let text = match fs::read_to_string(self.dir.join("accepted")) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            Err(error) => return Err(self.failed("read", "accepted", error)),
        };
        let line = |line: &str| {
            let (id, until) = line.split_once(' ')?;
            Some((show::parse_id(id)?, Time(until.parse().ok()?)))
        };
        Ok(text.lines().filter_map(line).collect())
    }

    /// Accepts one more, and forgets those whose time is over.
    pub fn accept(&self, id: NoiseId, until: Time, now: Time) -> Result<(), CliError> {
        let mut accepted = self.accepted()?;
        accepted.insert(id, until);
        accepted.retain(|_, until| now < *until);
        let line = |(id, until): (&NoiseId, &Time)| format!("{} {}\n", show::id(*id), until.0);
        let text: String = accepted.iter().map(line).collect();
        fs::create_dir_all(&self.dir).map_err(|error| self.failed("make", "", error))?;
        self.replace("accepted", text.as_bytes())
    }

    /// Which noises were written down, by their keys, and whether they have been told.
    pub fn said(&self) -> Result<BTreeMap<String, bool>, CliError> {
        let mut said = BTreeMap::new();
        for name in ["noises.jsonl.1", "noises.jsonl"] {
            let file = match File::open(self.dir.join(name)) {
                Ok(file) => file,
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(self.failed("read", name, error)),
            };
            for line in BufReader::new(file).split(b'\n') {
                let line = line.map_err(|error| self.failed("read", name, error))?;
                // A line that was cut by a kill was followed by nothing.
                let Ok(entry) = serde_json::from_slice::<Value>(&line) else { continue };
                let Some(key) = entry["key"].as_str() else { continue };
                *said.entry(key.to_owned()).or_default() |= entry.get("noise").is_none();
            }
        }
        Ok(said)
    }

    /// Writes down what is about to be told.
    pub fn note(&self, noise: &Noise) -> Result<(), CliError> {
        self.append(&json!({ "key": key(noise), "noise": show::document(noise) }))
    }

    /// Writes down that it was.
    pub fn note_told(&self, key: &str) -> Result<(), CliError> {
        self.append(&json!({ "key": key }))
    }

    fn append(&self, entry: &Value) -> Result<(), CliError> {
        let path = self.dir.join("noises.jsonl");
        let write = || -> io::Result<()> {
            if fs::metadata(&path).is_ok_and(|found| found.len() > NOISES_BYTES_MAX) {
                fs::rename(&path, path.with_extension("jsonl.1"))?;
            }
            // Lines of the log are not for everybody.
            let mut file = OpenOptions::new().create(true).append(true).mode(0o600).open(&path)?;
            file.write_all(show::json_line(entry).as_bytes())?;
            file.sync_data()
        };
        write().map_err(|error| self.failed("write", "noises.jsonl", error))
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), CliError> {
        let mut output = Output::open(Some(&self.dir.join(name)))?;
        let written = output.write_all(bytes).and_then(|()| output.finish());
        written.map_err(|error| self.failed("write", name, error))
    }

    fn failed(&self, operation: &str, name: &str, error: io::Error) -> CliError {
        let path = self.dir.join(name);
        CliError::failed(format!("cannot {operation} {}", path.display()), error)
    }
}

/// The noise and its time that a key is of.
pub fn parse_key(key: &str) -> Option<(NoiseId, Time)> {
    let (id, time) = key.split_once('-')?;
    Some((show::parse_id(id)?, Time(time.parse().ok()?)))
}

/// The same for the same noise, also when its line is read a second time.
pub fn key(noise: &Noise) -> String {
    format!("{}-{}", show::id(noise.id), noise.time.0)
}
