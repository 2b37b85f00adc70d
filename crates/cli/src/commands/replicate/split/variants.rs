//! Both variants of mailboxes that both sides have changed, as plain files. `docs/replicate.md` tells
//! what is where.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use csync::record::Record;
use cyrus_format::imapd_conf::ImapdConf;
use engine::export::Tree;
use engine::replicate::split::{Keep, Side};
use engine::restore::journal::Flags;
use model::{MboxName, Userid};
use segment::names::escape;
use serde_json::{Value, json};
use spool::tree::{DirTree, Owner};

use crate::directory::Directory;
use crate::error::CliError;
use crate::when;

/// So many bytes of lines are kept in memory.
const LINES_BYTES: usize = 1 << 16;

/// Where the variants of all accounts go that one run finds: a directory of its own, which is there only
/// if it finds any.
pub struct Shelf {
    path: PathBuf,
    tree: Mutex<Directory>,
}

/// Those of one account.
pub struct Variants<'s> {
    shelf: &'s Shelf,
    top: PathBuf,
    kept: BTreeSet<MboxName>,
    /// The directory of the mailbox at hand.
    at: PathBuf,
    /// What is still to be written of either side.
    lines: [Vec<u8>; 2],
}

impl Shelf {
    /// One below this directory, which is made if it is not there.
    pub fn new(dir: &Path, conf: &ImapdConf) -> Result<Self, CliError> {
        let failed = |error: io::Error| {
            CliError::failed(format!("cannot write to {}", dir.display()), error)
                .hint("--export names a directory, which is made if it is not there")
        };
        if let Err(error) = fs::create_dir(dir)
            && error.kind() != io::ErrorKind::AlreadyExists
        {
            return Err(failed(error));
        }
        let now = when::rfc3339(when::now()).replace(':', "");
        // Several runs may begin within a second.
        let mut names = std::iter::once(now.clone()).chain((2..).map(|n| format!("{now}-{n}")));
        let path = loop {
            let path = dir.join(names.next().unwrap_or_default());
            match fs::create_dir(&path) {
                Ok(()) => break path,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed(error)),
            }
        };
        // It is Cyrus' user who writes there.
        let owner = rustix::process::geteuid().is_root().then(|| Owner::of_conf(conf)).flatten();
        let tree = Mutex::new(Directory::new(DirTree::create(&path, owner).map_err(failed)?));
        Ok(Self { path, tree })
    }

    /// For an account.
    pub fn variants(&self, userid: &Userid) -> Variants<'_> {
        Variants {
            shelf: self,
            top: PathBuf::from(escape(userid.as_bytes())),
            kept: BTreeSet::new(),
            at: PathBuf::new(),
            lines: [Vec::new(), Vec::new()],
        }
    }

    /// Removes it if nothing is in it; else, where it is.
    pub fn finish(&self) -> Option<String> {
        let is_empty = fs::remove_dir(&self.path).is_ok();
        (!is_empty).then(|| self.path.display().to_string())
    }

    fn tree(&self) -> MutexGuard<'_, Directory> {
        self.tree.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Variants<'_> {
    fn write_lines(&mut self, side: Side) -> io::Result<()> {
        let lines = std::mem::take(&mut self.lines[side as usize]);
        self.shelf.tree().append(&self.at.join(format!("{}.jsonl", name(side))), &lines)
    }
}

impl Keep for Variants<'_> {
    fn begin(&mut self, mailbox: &MboxName) -> io::Result<bool> {
        if !self.kept.insert(mailbox.clone()) {
            return Ok(false);
        }
        self.at = self.top.join(escape(mailbox.as_bytes()));
        let mut tree = self.shelf.tree();
        for side in [Side::Master, Side::Replica] {
            tree.dir(&self.at.join(name(side)))?;
            tree.file(&self.at.join(format!("{}.jsonl", name(side))), when::now(), b"")?;
        }
        Ok(true)
    }

    fn record(&mut self, side: Side, record: &Record) -> io::Result<()> {
        let lines = &mut self.lines[side as usize];
        lines.extend_from_slice(format!("{}\n", record_json(record)).as_bytes());
        if lines.len() > LINES_BYTES { self.write_lines(side) } else { Ok(()) }
    }

    fn message(&mut self, side: Side, record: &Record, bytes: &mut dyn Read) -> io::Result<()> {
        let path = self.at.join(name(side)).join(format!("{}.eml", record.uid));
        self.shelf.tree().copy(&path, record.internaldate.secs, bytes)
    }

    fn end(&mut self) -> io::Result<()> {
        self.write_lines(Side::Master)?;
        self.write_lines(Side::Replica)?;
        self.shelf.tree().sync()
    }
}

fn name(side: Side) -> &'static str {
    match side {
        Side::Master => "master",
        Side::Replica => "replica",
    }
}

/// What a side says of a message.
pub fn record_json(record: &Record) -> Value {
    let flags = Flags::of(record).names();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let annotations = record.annotations.iter().map(|note| {
        json!({
            "entry": text(&note.entry),
            "userid": note.userid.to_string(),
            "value": text(&note.value),
        })
    });
    json!({
        "uid": record.uid.0,
        "guid": record.guid.to_string(),
        "internaldate": when::rfc3339(record.internaldate.secs),
        "size": record.size,
        "flags": flags.iter().map(|flag| text(flag)).collect::<Vec<_>>(),
        "expunged": record.is_expunged(),
        "modseq": record.modseq.0,
        "last_updated": when::rfc3339(record.last_updated.secs),
        "annotations": annotations.collect::<Vec<_>>(),
    })
}
