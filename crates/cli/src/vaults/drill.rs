//! A drill: the newest snapshot of an account is restored, as after a loss, and compared with what
//! plain tools make of the same objects, `zstdcat | tar x`. The two ways from object to file share
//! no code: this one decodes whole streams and leaves tar to the `tar` package.

mod compare;

use std::fs::{self, DirBuilder};
use std::io::{self, BufReader};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use engine::archive::stored;
use engine::export::{self, ExportError, Expunged, Form, Layout, SpoolOptions, export};
use engine::ports::Monitor;
use engine::selection::Selection;
use engine::source::SourceAccount;
use model::{Finding, FindingKind};
use spool::tree::DirTree;
use vault::{Account, Entry, History, SegmentKind};

use crate::directory::Directory;
use crate::error::chain_of;
use crate::processors;

/// Differences that are kept; the rest is a number.
const KEPT: usize = 1000;

/// The largest window of a zstd frame that the `zstd` program takes without being told to, as a
/// power of two.
const WINDOW_LOG_MAX: u32 = 27;

/// Something that was not restored as plain tools have it, or not as it is said to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// The mailbox's internal name, if it is about one.
    pub mailbox: Option<String>,
    /// The message's UID there, if it is about one.
    pub uid: Option<u32>,
    /// The message's GUID, if it has one.
    pub guid: Option<String>,
    /// What is wrong.
    pub detail: String,
}

/// What a drill found.
#[derive(Debug, Default)]
pub struct Report {
    /// The snapshot's number, and when it was taken; `None` if there is none to restore.
    pub snapshot: Option<(u32, i64)>,
    /// Segments that were unpacked.
    pub segments: u64,
    /// Messages that were compared.
    pub messages: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Metadata files that were compared.
    pub files: u64,
    /// What differs.
    pub differences: Vec<Difference>,
    /// How much more does.
    pub more: u64,
}

impl Report {
    /// Whether all is as it should be.
    pub fn is_clean(&self) -> bool {
        self.differences.is_empty()
    }

    /// How much differs.
    pub fn count(&self) -> u64 {
        self.differences.len() as u64 + self.more
    }

    fn differs(&mut self, difference: Difference) {
        match self.differences.len() < KEPT {
            true => self.differences.push(difference),
            false => self.more += 1,
        }
    }

    /// Something that is about no mailbox.
    fn wrong(&mut self, detail: String) {
        self.differs(Difference { detail, ..Difference::default() });
    }
}

/// Why a drill could not be held. What is wrong with the vault is a [`Difference`].
#[derive(Debug, thiserror::Error)]
pub enum DrillError {
    /// The place for it.
    #[error("cannot use {}", place.display())]
    Scratch {
        /// Where.
        place: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// What is restored there.
    #[error("cannot restore into {}", place.display())]
    Restore {
        /// Where.
        place: PathBuf,
        /// Why not.
        source: ExportError,
    },
}

/// Makes the place for drills: a directory that does not exist yet, or an empty one. Whether it was
/// made.
pub fn prepare(place: &Path) -> Result<bool, DrillError> {
    let wrong = |source| DrillError::Scratch { place: place.to_owned(), source };
    match DirBuilder::new().mode(0o700).create(place) {
        Ok(()) => return Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(wrong(error)),
    }
    match fs::read_dir(place).map_err(wrong)?.next() {
        None => Ok(false),
        Some(_) => Err(wrong(io::ErrorKind::DirectoryNotEmpty.into())),
    }
}

/// Holds a drill for one account in a new directory, which is left as it is.
pub fn account(
    account: &Account,
    history: &History,
    place: &Path,
    monitor: &dyn Monitor,
) -> Result<Report, DrillError> {
    let mut report = Report::default();
    let torn = |entry: &&Entry| {
        let is_snapshot = entry.name.kind == SegmentKind::Snapshot;
        is_snapshot && history.lineage(&entry.name.own).torn.is_some()
    };
    for entry in history.live().filter(torn) {
        report.wrong(format!("{} continues a segment that is not there", entry.name));
    }
    let Some(newest) = history.newest() else {
        if !history.is_empty() && report.is_clean() {
            report.wrong("it has no snapshot that can be restored".to_owned());
        }
        return Ok(report);
    };
    report.snapshot = Some((newest.name.seq, newest.name.taken_at));
    let (restored_to, plain) = (place.join("restored"), place.join("plain"));
    for made in [place, &plain] {
        let made = DirBuilder::new().mode(0o700).create(made);
        made.map_err(|source| DrillError::Scratch { place: place.to_owned(), source })?;
    }
    let drill = Drill { account, history, newest: &newest, monitor };
    let restored = drill.restore(&restored_to, &mut report)?;
    let is_unpacked = drill.unpack(&plain, &mut report)?;
    if is_unpacked {
        let root = plain.join(account.component());
        let compared = compare::trees(&root, newest.name.seq, restored.as_ref(), &mut report);
        compared.map_err(|source| DrillError::Scratch { place: place.to_owned(), source })?;
    }
    Ok(report)
}

/// What was restored.
struct Restored {
    root: PathBuf,
    account: SourceAccount,
    /// The directory of each mailbox.
    dirs: Vec<PathBuf>,
    /// What the restore found wrong.
    findings: Vec<Finding>,
}

/// One drill.
struct Drill<'a> {
    account: &'a Account,
    history: &'a History,
    newest: &'a Entry,
    monitor: &'a dyn Monitor,
}

impl Drill<'_> {
    /// Restores as `cylinder restore --to dir:` does; `None` if that fails, which is reported.
    fn restore(&self, to: &Path, report: &mut Report) -> Result<Option<Restored>, DrillError> {
        let wrong = |source| DrillError::Scratch { place: to.to_owned(), source };
        let own = &self.newest.name.own;
        let lineage = self.account.open(&self.history.lineage(own));
        let chain = lineage.chain();
        let read = chain.at(self.newest.name.seq).map_err(Into::into);
        let read = read.and_then(|snapshot| stored(&chain, snapshot, &Selection::all()));
        let (account, messages, head) = match read {
            Ok(read) => read,
            Err(error) => {
                report.wrong(format!("it cannot be restored: {}", chain_of(&error)));
                return Ok(None);
            }
        };
        let root = std::path::absolute(to).map_err(wrong)?;
        let form = Form::Spool(SpoolOptions { layout: Layout::Source, root: root.clone() });
        let mut tree = Directory::new(DirTree::create(to, None).map_err(wrong)?);
        let options = export::Options {
            taken_at: head.taken_at.unix,
            workers: processors(),
            expunged: Expunged::WhereMarked,
        };
        let given = export(&account, &messages, &form, &mut tree, &options, self.monitor);
        let summary = match given {
            Ok(summary) => summary,
            Err(error @ ExportError::Layout { .. }) => {
                report.wrong(format!("it cannot be restored: {}", chain_of(&error)));
                return Ok(None);
            }
            Err(source) => return Err(DrillError::Restore { place: to.to_owned(), source }),
        };
        let mut findings = summary.findings;
        // That a message was not to be had when the snapshot was taken is nothing new.
        findings.retain(|finding| finding.kind != FindingKind::MessageMissing);
        drop(messages);
        Ok(Some(Restored { root, account, dirs: tree.dirs, findings }))
    }

    /// Unpacks all segments in order, as plain tools would; whether all of them came out.
    fn unpack(&self, to: &Path, report: &mut Report) -> Result<bool, DrillError> {
        for entry in self.history.lineage(&self.newest.name.own).entries {
            let Err(error) = unpack(self.account, &entry, to) else {
                report.segments += 1;
                continue;
            };
            let is_ours = [
                io::ErrorKind::StorageFull,
                io::ErrorKind::QuotaExceeded,
                io::ErrorKind::PermissionDenied,
            ];
            if is_ours.contains(&error.kind()) {
                return Err(DrillError::Scratch { place: to.to_owned(), source: error });
            }
            report.wrong(format!("plain tools cannot unpack {}: {}", entry.name, chain_of(&error)));
            return Ok(false);
        }
        Ok(true)
    }
}

fn unpack(account: &Account, entry: &Entry, to: &Path) -> io::Result<()> {
    let mut decoder = zstd::Decoder::with_buffer(BufReader::new(account.stream(entry)))?;
    decoder.window_log_max(WINDOW_LOG_MAX)?;
    let mut archive = tar::Archive::new(decoder);
    archive.set_preserve_mtime(false);
    archive.set_preserve_permissions(false);
    archive.unpack(to)?;
    // To the very end: whatever follows the last entry is checked, too.
    io::copy(&mut archive.into_inner(), &mut io::sink()).map(drop)
}
