//! One account of a live server into a vault.

use engine::base::Base;
use engine::live::{LiveMessages, apart};
use engine::ports::Monitor;
use engine::snapshot::parts::{self, Limit};
use engine::snapshot::{self, SnapshotError, Summary};
use engine::source::Described;
use model::Userid;
use model::diff::Step;
use segment::compress::Writer;
use spool::{Server, SpoolError};
use vault::{
    Account, Entry, History, Lineage, Note, SegmentKind, SegmentName, Stage, Vault, VaultError,
    What,
};

use crate::{PROGRAM, when};

/// Messages that are missing in the vault are stored in advance, this much at a time: what is
/// stored is not stored again if the run is stopped. What is held of so many messages until a part
/// ends is some 20 MiB.
pub const PART: Limit = Limit { bytes: 256 << 20, messages: 64 << 10 };

/// How often a backup begins again because somebody erased the account, or pruned it and took
/// longer than a day, meanwhile.
const ATTEMPTS: u32 = 3;

/// What became of an account.
#[derive(Debug)]
pub enum Outcome {
    /// Nothing had changed since this snapshot.
    Unchanged(SegmentName),
    /// There is a new snapshot.
    Stored(Box<Stored>),
}

/// A new snapshot.
#[derive(Debug)]
pub struct Stored {
    /// What it is.
    pub entry: Entry,
    /// How it was taken.
    pub summary: Summary,
    /// Parts that were stored before it.
    pub parts: u64,
    /// Messages that were stored, in parts and with it.
    pub messages: u64,
    /// Bytes that were put, of snapshot and parts.
    pub bytes: u64,
    /// Heads that it joined: others had backed up the account at the same time.
    pub joined: Vec<SegmentName>,
}

/// An account at one instant.
struct Frozen {
    source: Described,
    messages: LiveMessages,
    /// When, seconds since 1970.
    taken_at: i64,
}

/// What an account is, compared with its newest snapshot.
enum Now {
    Changed(Box<Frozen>),
    /// Nothing has changed since that one.
    Unchanged(SegmentName),
}

/// Why there is no new snapshot of an account.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The spool.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// The vault.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// Taking it.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// What the vault holds of it.
    #[error("cannot continue what the vault holds")]
    Base(#[source] engine::archive::ArchiveError),
    /// Compressing it.
    #[error("cannot compress it")]
    Compress(#[source] std::io::Error),
    /// It is the account of the shared mailboxes, and the vault holds another server's.
    #[error("the vault holds shared mailboxes of another server, and none of these")]
    AnotherServer,
    /// Somebody else removes what it continues, again and again.
    #[error("what it continues was removed from the vault meanwhile, {0} times")]
    Removed(u32),
}

/// Backs up accounts of one server into one vault.
pub struct Backup<'a> {
    pub vault: &'a Vault,
    pub server: &'a Server,
    /// The name of this machine.
    pub host: &'a str,
    /// Threads for each account.
    pub workers: usize,
    /// How much is stored at a time in advance: [`PART`].
    pub part: Limit,
    /// Whether shared mailboxes may all be others than those of the last snapshot.
    pub accepts_removals: bool,
    /// Seconds since 1970: [`when::now`].
    pub clock: &'a (dyn Fn() -> i64 + Sync),
}

impl Backup<'_> {
    /// Backs up one account. The calling thread must be able to read the spool.
    pub fn account(&self, userid: &Userid, monitor: &dyn Monitor) -> Result<Outcome, BackupError> {
        let account = self.vault.account(userid);
        for _ in 0..ATTEMPTS {
            let history = account.history()?;
            let outcome = self.attempt(userid, &account, &history, monitor)?;
            let Outcome::Stored(stored) = &outcome else { return Ok(outcome) };
            let now = account.history()?;
            let lineage = now.lineage(&stored.entry.name.own);
            if lineage.torn.is_none() && !now.is_dead(&stored.entry.name.own) {
                self.join(&account, &stored.joined)?;
                return Ok(outcome);
            }
        }
        Err(BackupError::Removed(ATTEMPTS))
    }

    fn attempt(
        &self,
        userid: &Userid,
        account: &Account,
        history: &History,
        monitor: &dyn Monitor,
    ) -> Result<Outcome, BackupError> {
        let tip = history.tip();
        let mut lineage = tip.map(|tip| history.lineage(&tip.name.own)).unwrap_or_default();
        let joined = history.heads().into_iter().filter(|head| Some(*head) != tip);
        let joined: Vec<SegmentName> = joined.map(|head| head.name.clone()).collect();
        let (mut seq, mut parts, mut messages_new, mut bytes) = (history.next_seq(), 0, 0, 0);

        let mut opened = account.open(&lineage);
        let mut frozen = None;
        loop {
            let chain = opened.chain();
            let base = (!lineage.entries.is_empty()).then(|| Base::new(&chain)).transpose();
            let base = base.map_err(BackupError::Base)?;
            let now = match frozen.take() {
                Some(frozen) => Now::Changed(frozen),
                None => self.freeze(userid, base.as_ref(), to_be_unchanged(&lineage, &joined))?,
            };
            let Frozen { source, messages, taken_at } = match now {
                Now::Changed(frozen) => *frozen,
                Now::Unchanged(newest) => return Ok(Outcome::Unchanged(newest)),
            };
            let options = self.options(taken_at, seq);
            let part = parts::part(
                &source,
                &messages,
                base.as_ref(),
                || self.writer(),
                &self.part,
                &options,
                monitor,
            )?;
            if let Some((writer, part)) = part {
                let name = name_of(SegmentKind::Part, &options, part.manifest_sha256, &lineage);
                let entry = self.put(account, &name, writer)?;
                bytes += entry.size;
                messages_new += part.messages;
                (seq, parts) = (name.seq + 1, parts + 1);
                drop(base);
                drop(chain);
                opened.push(account, &entry);
                lineage.entries.push(entry);
                frozen = Some(Box::new(Frozen { source, messages, taken_at }));
                continue;
            }
            let (writer, summary) = snapshot::snapshot(
                source,
                &messages,
                base.as_ref(),
                self.writer(),
                &options,
                monitor,
            )?;
            if let Some(newest) = unchanged(&lineage, &summary, &joined) {
                return Ok(Outcome::Unchanged(newest));
            }
            let name = name_of(SegmentKind::Snapshot, &options, summary.manifest_sha256, &lineage);
            let entry = self.put(account, &name, writer)?;
            bytes += entry.size;
            let messages = messages_new + summary.totals.messages_new;
            let stored = Stored { entry, summary, parts, messages, bytes, joined };
            return Ok(Outcome::Stored(Box::new(stored)));
        }
    }

    /// Freezes the account, and compares it with the snapshot that is continued, if there is one:
    /// `newest`, where nothing else stands against leaving it as it is. What the vault holds was read
    /// by then: nothing is locked while a store is waited for.
    fn freeze(
        &self,
        userid: &Userid,
        base: Option<&Base<'_>>,
        newest: Option<SegmentName>,
    ) -> Result<Now, BackupError> {
        let frozen = self.server.freeze(userid)?;
        let taken_at = (self.clock)();
        let (source, untouched) = apart(frozen);
        let source = Described::from(source);
        if let Some(base) = base {
            if base.is_of_another_server(&source) && !self.accepts_removals {
                return Err(BackupError::AnotherServer);
            }
            if let Some(newest) = newest
                && snapshot::is_unchanged(&source, base)?
            {
                return Ok(Now::Unchanged(newest));
            }
        }
        let messages = untouched.messages();
        Ok(Now::Changed(Box::new(Frozen { source, messages, taken_at })))
    }

    fn options(&self, taken_at: i64, seq: u32) -> snapshot::Options {
        snapshot::Options {
            taken_at,
            taken_at_text: when::rfc3339(taken_at),
            program: PROGRAM.to_owned(),
            workers: self.workers,
            seq: Some(seq),
            rewritten_at: None,
            catalog: true,
        }
    }

    fn writer(&self) -> Writer<Stage> {
        Writer::quick(self.vault.store().stage(), self.workers)
    }

    fn put(
        &self,
        account: &Account,
        name: &SegmentName,
        writer: Writer<Stage>,
    ) -> Result<Entry, BackupError> {
        let stage = writer.finish().map_err(BackupError::Compress)?;
        Ok(account.put_segment(name, stage.finish())?)
    }

    /// Writes down that these heads are none any more.
    fn join(&self, account: &Account, heads: &[SegmentName]) -> Result<(), BackupError> {
        if heads.is_empty() {
            return Ok(());
        }
        let names = heads.iter().map(SegmentName::to_string).collect();
        let note = Note::new(What::Joined, (self.clock)(), self.host, PROGRAM, names);
        Ok(account.put_note(&note)?)
    }
}

/// The snapshot that is still true if nothing has changed since.
fn to_be_unchanged(lineage: &Lineage, joined: &[SegmentName]) -> Option<SegmentName> {
    let newest = lineage.entries.last()?;
    let is_snapshot = newest.name.kind == SegmentKind::Snapshot;
    (is_snapshot && joined.is_empty()).then(|| newest.name.clone())
}

/// The snapshot that is still true, since the one that was taken says nothing else.
fn unchanged(lineage: &Lineage, summary: &Summary, joined: &[SegmentName]) -> Option<SegmentName> {
    // A mailbox of which messages are missing is looked at each time.
    let looked_in_vain = |step: &Step| matches!(step, Step::Update { files, dropped, .. } if files.is_empty() && dropped.is_empty());
    let same = summary.plan.steps.iter().all(looked_in_vain)
        && summary.links == 0
        && summary.totals.messages_new == 0
        && summary.findings_new == 0;
    to_be_unchanged(lineage, joined).filter(|_| same)
}

fn name_of(
    kind: SegmentKind,
    options: &snapshot::Options,
    own: model::state::Digest,
    lineage: &Lineage,
) -> SegmentName {
    SegmentName {
        seq: options.seq.unwrap_or(1),
        taken_at: options.taken_at,
        own,
        parent: lineage.entries.last().map(|entry| entry.name.own),
        kind,
    }
}
