//! Pruning one account of a vault: a plan first, and then that plan.

use std::collections::BTreeSet;

use engine::archive::{ArchiveError, stored};
use engine::base::Base;
use engine::ports::Silent;
use engine::selection::Selection;
use engine::snapshot::{self, SnapshotError};
use jiff::tz::TimeZone;
use model::Finding;
use model::state::Digest;
use segment::chain::ChainError;
use segment::compress::{Compression, Writer};
use segment::manifest::{StoredFile, StoredMailbox};
use segment::reader::ReadError;
use vault::policy::{Rules, Verdict, judge};
use vault::{Account, Entry, History, Lineage, Note, SegmentKind, SegmentName, VaultError, What};

use super::garbage::{Garbage, weigh};
use super::verify;
use crate::{PROGRAM, when};

/// How to prune.
#[derive(Clone, Debug)]
pub struct Options {
    /// What to keep.
    pub rules: Rules,
    /// Whose hours and days.
    pub zone: TimeZone,
    /// How long dropped segments stay, seconds: for backups and readers that do not know yet.
    pub grace: i64,
    /// Per cent of an account's bytes that may be garbage before it is rewritten.
    pub garbage: u64,
    /// Whether the brake is off.
    pub accept_removals: bool,
    /// The time, seconds since 1970.
    pub now: i64,
    /// The name of this machine.
    pub host: String,
    /// Threads.
    pub workers: usize,
}

/// What is to be done with an account.
#[derive(Debug)]
pub struct Plan {
    /// Segments that were dropped long enough ago.
    pub delete: Vec<SegmentName>,
    /// Notes that have nothing left to say.
    pub notes: Vec<String>,
    /// What becomes of each snapshot.
    pub verdicts: Vec<Verdict>,
    /// Segments that no kept snapshot needs: they are dropped.
    pub drop: Vec<SegmentName>,
    /// Snapshots that others need, and that are not shown any more.
    pub hide: Vec<SegmentName>,
    /// The kept snapshots, if all of the account is to be written anew, and everything else
    /// dropped.
    pub rewrite: Option<Vec<Entry>>,
    /// What others need of the hidden ones, and what nobody does.
    pub garbage: Garbage,
}

/// Why an account was not pruned.
#[derive(Debug, thiserror::Error)]
pub enum PruneError {
    /// The vault.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// A legal hold.
    #[error("it is under a legal hold")]
    Held,
    /// The plan destroys too much.
    #[error("{forgotten} of {all} snapshots would go")]
    Brake {
        /// Snapshots that would go.
        forgotten: usize,
        /// Snapshots there are.
        all: usize,
    },
    /// The newest snapshot is of a time that is not yet.
    #[error("its newest snapshot was taken on {0}, which is not yet")]
    Future(String),
    /// What is stored.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// Writing it anew.
    #[error("it cannot be written anew")]
    Rewrite(#[from] SnapshotError),
    /// Something in it cannot be read now.
    #[error("it cannot be written anew without a loss: {0}")]
    Lossy(String),
    /// Compressing it.
    #[error("it cannot be compressed")]
    Compress(#[source] std::io::Error),
    /// What was written anew is not what was to be written; the old one stays.
    #[error("what was written anew cannot be read back")]
    ReadBack(#[source] ReadError),
    /// Likewise.
    #[error("what was written anew is damaged: {0}: {1}")]
    Wrong(String, String),
}

impl From<ReadError> for PruneError {
    fn from(error: ReadError) -> Self {
        Self::Archive(error.into())
    }
}

impl From<ChainError> for PruneError {
    fn from(error: ChainError) -> Self {
        Self::Archive(error.into())
    }
}

/// More snapshots than this share at once are a mistake rather than a policy, in per cent; unless
/// there are only a few.
const BRAKE_SHARE: usize = 90;
const BRAKE_FEW: usize = 10;

/// A clock that is ahead of ours by more than this, in seconds, is wrong; or ours is.
const FUTURE: i64 = 86_400;

impl Plan {
    /// Decides what is to be done. Reads, and changes nothing.
    pub fn new(
        account: &Account,
        history: &History,
        options: &Options,
    ) -> Result<Self, PruneError> {
        if history.is_held() {
            return Err(PruneError::Held);
        }
        let snapshots = without_copies(account, history);
        let verdicts = judge(&snapshots, &options.rules, &options.zone);
        let (keep, forget): (Vec<&Verdict>, Vec<&Verdict>) =
            verdicts.iter().partition(|verdict| !verdict.kept.is_empty());
        brake(&keep, &forget, options)?;

        let needed = needed(history, keep.iter().map(|verdict| &verdict.entry));
        let drop = history.live().filter(|entry| !needed.contains(&entry.name.own));
        let drop = drop.filter(|entry| history.lineage(&entry.name.own).torn.is_none());
        let drop: Vec<SegmentName> = drop.map(|entry| entry.name.clone()).collect();
        let hide = forget.iter().map(|verdict| verdict.entry.name.clone());
        let hide: Vec<SegmentName> = hide.filter(|name| needed.contains(&name.own)).collect();

        let keep: Vec<Entry> = keep.into_iter().map(|verdict| verdict.entry.clone()).collect();
        let any_hidden = !hide.is_empty()
            || history.notes_of(What::Hidden).iter().any(|(_, note)| {
                note.names
                    .iter()
                    .filter_map(|name| SegmentName::parse(name))
                    .any(|name| needed.contains(&name.own))
            });
        let garbage =
            if any_hidden { weigh(account, history, &keep, &needed)? } else { Garbage::default() };
        let too_much = garbage.unneeded * 100 > garbage.all * options.garbage;
        let (delete, notes) = matured(history, options);
        let rewrite = (any_hidden && too_much).then_some(keep);
        Ok(Self { delete, notes, verdicts, drop, hide, rewrite, garbage })
    }

    /// Does it. Whatever is interrupted is completed by the next prune.
    pub fn apply(
        &self,
        account: &Account,
        history: &History,
        options: &Options,
    ) -> Result<(), PruneError> {
        for name in &self.delete {
            account.delete(&name.to_string())?;
        }
        for name in &self.notes {
            account.delete(name)?;
        }
        match &self.rewrite {
            Some(keep) => {
                let replaced = rewrite(account, history, keep, options)?;
                put_note(account, What::Dropped, &replaced, options)
            }
            None => {
                put_note(account, What::Hidden, &self.hide, options)?;
                put_note(account, What::Dropped, &self.drop, options)
            }
        }
    }
}

/// Deletes all of an account, in an order in which nothing is ever left that looks whole.
pub fn erase(account: &Account, history: &History, options: &Options) -> Result<u64, PruneError> {
    if history.is_held() {
        return Err(PruneError::Held);
    }
    let mut names: Vec<SegmentName> = history.segments().map(|entry| entry.name.clone()).collect();
    put_note(account, What::Erased, &names, options)?;
    names.sort();
    for name in names.iter().rev() {
        account.delete(&name.to_string())?;
    }
    for name in &history.strange {
        account.delete(name)?;
    }
    // The note that was just put, too: nothing is left for it to speak of.
    for (name, _) in account.history()?.notes {
        account.delete(&name.to_string())?;
    }
    Ok(names.len() as u64)
}

/// The snapshots that count. After a rewrite that was interrupted there are two of some; those of
/// the lineage that is going to be continued are taken.
///
/// Two machines may have backed up the account within one second, under one number: only what the
/// manifests say tells that from a copy.
fn without_copies<'h>(account: &Account, history: &'h History) -> Vec<&'h Entry> {
    let tip = history.tip().map(|tip| history.lineage(&tip.name.own)).unwrap_or_default();
    let in_line: BTreeSet<Digest> = tip.entries.iter().map(|entry| entry.name.own).collect();
    let mut snapshots = history.snapshots();
    let all = snapshots.clone();
    snapshots.retain(|entry| {
        let is_copied = |other: &&Entry| {
            in_line.contains(&other.name.own)
                && other.name.taken_at == entry.name.taken_at
                && is_copy(account, entry, other)
        };
        in_line.contains(&entry.name.own) || !all.iter().any(is_copied)
    });
    snapshots
}

/// Whether two snapshots of one moment say the same. What cannot be read is nobody's copy.
fn is_copy(account: &Account, one: &Entry, other: &Entry) -> bool {
    match (saying(account, one), saying(account, other)) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}

/// What a snapshot says of the account, wherever it is stored: the entries of its mailboxes, and
/// the hashes of all metadata files. Those name the messages, and what is missing of them.
fn saying(account: &Account, entry: &Entry) -> Result<BTreeSet<Vec<String>>, ReadError> {
    let opened = account.open_alone(entry);
    let chain = opened.chain();
    let Some(snapshot) = chain.snapshots().last() else { return Ok(BTreeSet::new()) };
    let head = snapshot.head()?;
    let file = |file: &StoredFile| format!("{} {}", file.name, file.sha256);
    let mailboxes = head.mailboxes.iter().map(|mailbox| {
        let StoredMailbox { name, uniqueid, partition, mbtype, deleted, .. } = mailbox;
        let entry = format!("{name:?} {uniqueid:?} {partition:?} {mbtype} {deleted}");
        std::iter::once(entry).chain(mailbox.files.iter().map(file)).collect()
    });
    let files = head.account_files.iter().map(|one| vec![file(one)]);
    Ok(mailboxes.chain(files).collect())
}

fn brake(keep: &[&Verdict], forget: &[&Verdict], options: &Options) -> Result<(), PruneError> {
    if options.accept_removals {
        return Ok(());
    }
    let all = keep.len() + forget.len();
    if forget.len() > BRAKE_FEW && forget.len() * 100 > all * BRAKE_SHARE {
        return Err(PruneError::Brake { forgotten: forget.len(), all });
    }
    match keep.last() {
        Some(newest) if newest.entry.name.taken_at > options.now.saturating_add(FUTURE) => {
            Err(PruneError::Future(when::rfc3339(newest.entry.name.taken_at)))
        }
        _ => Ok(()),
    }
}

/// What these snapshots consist of, and what the next backup continues.
fn needed<'e>(history: &History, keep: impl Iterator<Item = &'e Entry>) -> BTreeSet<Digest> {
    let tip = history.tip().map(|tip| tip.name.own);
    let mut needed = BTreeSet::new();
    for own in keep.map(|entry| entry.name.own).chain(tip) {
        needed.extend(history.lineage(&own).entries.iter().map(|entry| entry.name.own));
    }
    needed
}

/// Dropped segments whose time has come, the newest first, and notes that name nothing any more.
fn matured(history: &History, options: &Options) -> (Vec<SegmentName>, Vec<String>) {
    let alive: BTreeSet<Digest> = history
        .live()
        .flat_map(|entry| history.lineage(&entry.name.own).entries)
        .map(|entry| entry.name.own)
        .collect();
    let (mut delete, mut notes) = (BTreeSet::new(), Vec::new());
    for (name, note) in &history.notes {
        let about_segments =
            matches!(name.what, What::Dropped | What::Erased | What::Hidden | What::Joined);
        let there: Vec<SegmentName> = note
            .names
            .iter()
            .filter_map(|name| SegmentName::parse(name))
            .filter(|name| history.segment(&name.own).is_some())
            .collect();
        if there.is_empty() && about_segments {
            notes.push(name.to_string());
        } else if name.what == What::Erased {
            // Whoever reads or continues it is to lose it.
            delete.extend(there);
        } else if name.what == What::Dropped && note.at.saturating_add(options.grace) <= options.now
        {
            delete.extend(there.into_iter().filter(|name| !alive.contains(&name.own)));
        }
    }
    (delete.into_iter().rev().collect(), notes)
}

fn put_note(
    account: &Account,
    what: What,
    names: &[SegmentName],
    options: &Options,
) -> Result<(), PruneError> {
    if names.is_empty() {
        return Ok(());
    }
    let names = names.iter().map(SegmentName::to_string).collect();
    Ok(account.put_note(&Note::new(what, options.now, &options.host, PROGRAM, names))?)
}

/// Writes the kept snapshots as a new lineage, reads it back, and tells what it replaces: all
/// that was live before and is no part of it.
fn rewrite(
    account: &Account,
    history: &History,
    keep: &[Entry],
    options: &Options,
) -> Result<Vec<SegmentName>, PruneError> {
    // A torn segment may be all that is left of something: it is not for us to drop.
    let whole = |entry: &&Entry| history.lineage(&entry.name.own).torn.is_none();
    let old: Vec<SegmentName> =
        history.live().filter(whole).map(|entry| entry.name.clone()).collect();
    let mut lineage = Lineage::default();
    // Later than all notes: what they drop must not be mistaken for what is written now.
    let noted = history.notes.iter().map(|(_, note)| note.at.saturating_add(1)).max();
    let rewritten_at = noted.unwrap_or(i64::MIN).max(options.now);
    for entry in keep {
        let entry = copy(account, history, entry, &lineage, rewritten_at, options)?;
        lineage.entries.push(entry);
    }
    read_back(account, &lineage)?;
    // An interrupted prune may have written some of the very same segments.
    Ok(old.into_iter().filter(|name| lineage.entries.iter().all(|new| new.name != *name)).collect())
}

/// Stores one snapshot once more, as the next one of a new lineage.
fn copy(
    account: &Account,
    history: &History,
    entry: &Entry,
    lineage: &Lineage,
    rewritten_at: i64,
    options: &Options,
) -> Result<Entry, PruneError> {
    let old = account.open(&history.lineage(&entry.name.own));
    let old = old.chain();
    let (mut source, messages, head) = stored(&old, old.at(entry.name.seq)?, &Selection::all())?;
    let carried = head.findings.iter().filter_map(engine::archive::finding_of);
    source.findings = carried.filter(|finding| snapshot::is_told_anew(finding.kind)).collect();

    let new = account.open(lineage);
    let chain = new.chain();
    let base = (!lineage.entries.is_empty()).then(|| Base::new(&chain)).transpose()?;
    let parent = lineage.entries.last();
    // Of two branches of a fork that had equal numbers, one goes on counting.
    let seq = parent.map_or(0, |parent| parent.name.seq + 1).max(entry.name.seq);
    let taking = snapshot::Options {
        taken_at: head.taken_at.unix,
        taken_at_text: head.taken_at.text.clone(),
        program: PROGRAM.to_owned(),
        workers: options.workers,
        seq: Some(seq),
        rewritten_at: Some(rewritten_at),
        catalog: true,
    };
    let writer = Writer::new(account.stage(), Compression::Zstd, options.workers);
    let (writer, summary) =
        snapshot::snapshot(source, &messages, base.as_ref(), writer, &taking, &Silent)?;
    let is_known = |finding: &Finding| {
        head.findings.iter().any(|known| {
            (known.code.as_str(), known.place.as_str(), known.uid)
                == (finding.kind.code(), finding.place.as_str(), finding.uid)
        })
    };
    // A copy that lacks something must never take the place of what it was made of.
    if let Some(lost) = summary.findings.iter().find(|finding| !is_known(finding)) {
        return Err(PruneError::Lossy(lost.to_string()));
    }
    let name = SegmentName {
        seq,
        taken_at: taking.taken_at,
        own: summary.manifest_sha256,
        parent: parent.map(|parent| parent.name.own),
        kind: SegmentKind::Snapshot,
    };
    let stage = writer.finish().map_err(PruneError::Compress)?;
    Ok(account.put_segment(&name, stage.finish())?)
}

/// Reads every byte of what was written: only then is the old one dropped.
fn read_back(account: &Account, lineage: &Lineage) -> Result<(), PruneError> {
    let report = verify::lineage(account, lineage).map_err(PruneError::ReadBack)?;
    match report.damage.into_iter().next() {
        None => Ok(()),
        Some(damage) => Err(PruneError::Wrong(damage.object, damage.detail)),
    }
}
