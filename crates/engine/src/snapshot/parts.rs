//! Parts: messages that are stored before the snapshot that lists them.
//!
//! The first snapshot of a large account takes hours. So that one which is stopped has kept what it
//! did, messages are stored in segments of their own in advance, each continuing the one before;
//! the snapshot finds them in its chain. A part describes the account as its parent does, and finds
//! nothing wrong: the snapshot meets the same messages and says so.
//!
//! Only messages whose GUID is known can be stored in advance: without it, nobody could tell from
//! the index that the chain has them.

use std::collections::{BTreeMap, HashSet};
use std::io::Write;
use std::rc::Rc;

use cyrus_format::index::RecordKey;
use model::Guid;
use model::diff::{Plan, Step};
use model::state::{AccountState, Digest, MailboxKey};
use segment::manifest::{Cyrus, ManifestHead, Quoted, TakenAt, Totals};
use segment::writer::WriteError;

use super::mailbox::{kept, steps};
use super::store::Store;
use super::{Options, SnapshotError, plan};
use crate::base::{Base, HadMailbox};
use crate::fetch::{Action, Job, Outcome, Reading, Work, fetch};
use crate::known::Known;
use crate::ports::{MessageSource, Monitor};
use crate::records::Records;
use crate::source::{Described, SourceAccount};

/// A part that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartSummary {
    /// Its number.
    pub seq: u32,
    /// SHA-256 of its manifest: its identity.
    pub manifest_sha256: Digest,
    /// Messages that it holds.
    pub messages: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Bytes of the segment, before compression.
    pub segment_bytes: u64,
}

/// How much is stored in advance at a time, of what the chain lacks: as much as reaches either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Bytes of messages; at least one.
    pub bytes: u64,
    /// Messages, of each of which row and envelope are held until the segment ends; at least one.
    pub messages: u64,
}

impl Limit {
    /// More than there can be.
    const NONE: Self = Self { bytes: u64::MAX, messages: u64::MAX };
}

/// How much it is.
#[derive(Clone, Copy, Debug, Default)]
struct Amount {
    bytes: u64,
    messages: u64,
}

impl Amount {
    fn add(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_add(bytes);
        self.messages += 1;
    }

    fn reaches(&self, limit: &Limit) -> bool {
        self.bytes >= limit.bytes.max(1) || self.messages >= limit.messages.max(1)
    }
}

/// How many bytes of messages a snapshot would store now, by what the indexes say. It may be less:
/// copies of a message of unknown GUID are all counted, and so is what cannot be read.
///
/// # Errors
/// A chain that cannot be read, or that is of another account.
pub fn missing(account: &Described, base: Option<&Base<'_>>) -> Result<u64, SnapshotError> {
    let mut ahead = Ahead::new(account, base)?;
    let named = ahead.lacks(&Limit::NONE)?;
    Ok(named.bytes.saturating_add(ahead.bytes_unnamed()?))
}

/// Writes one part of as much as `limit` of the messages that the chain lacks, or a smaller one if
/// no more of them can be read. `None` if fewer are missing, or nothing of them can be stored in
/// advance; then it is the snapshot's turn. `out` is called when the first message
/// is about to be written, and what it gave is dropped if that message changes meanwhile and there
/// is no other.
///
/// No mailbox of the source is released, since the snapshot that follows will ask for them.
///
/// # Errors
/// Those of [`snapshot`](super::snapshot).
pub fn part<W: Write>(
    described: &Described,
    messages: &dyn MessageSource,
    base: Option<&Base<'_>>,
    out: impl FnOnce() -> W,
    limit: &Limit,
    options: &Options,
    monitor: &dyn Monitor,
) -> Result<Option<(W, PartSummary)>, SnapshotError> {
    let account = &described.account;
    let mut ahead = Ahead::new(described, base)?;
    if !ahead.lacks(limit)?.reaches(limit) {
        return Ok(None);
    }
    let seq = options.seq_after(base);
    let new = || Store::new(out(), account, seq, options);
    let (stored, pending) = (Amount::default(), Amount::default());
    let mut writing = Writing { out: Some(new), store: None, stored, pending, limit };
    let mailboxes = ahead.mailboxes.clone();
    for mailbox in &mailboxes {
        if writing.stored.reaches(limit) {
            break;
        }
        let had = ahead.had(mailbox)?;
        let records = Records::read(&account.mailboxes[mailbox.at].files);
        let mut work = PartOfMailbox {
            records: lacking(&records, &had),
            is_done: false,
            passes: true,
            at: mailbox.at,
            ahead: &mut ahead,
            writing: &mut writing,
            messages,
            monitor,
        };
        let (source, workers) = (messages, options.workers);
        let reading = Reading { source, mailbox: mailbox.at, workers, early: None };
        // Records may have promised more than there was: then there is room for others.
        while !work.is_done && !work.writing.stored.reaches(limit) {
            fetch(&reading, &mut work)?;
        }
    }
    let Some(store) = writing.store.filter(|store| !store.is_empty()) else { return Ok(None) };
    let (out, finished) = store.finish(manifest(account, base, options))?;
    let summary = PartSummary {
        seq,
        manifest_sha256: finished.manifest_sha256,
        messages: finished.head.totals.messages_new,
        bytes: finished.head.totals.bytes_new,
        segment_bytes: finished.bytes,
    };
    Ok(Some((out, summary)))
}

/// What the parent's manifest says, in a part's.
fn manifest(account: &SourceAccount, base: Option<&Base<'_>>, options: &Options) -> ManifestHead {
    let before = base.map(|base| base.head().clone()).unwrap_or_default();
    let era = base.map_or_else(|| account.cyrus.clone(), |_| before.cyrus.era.clone());
    ManifestHead {
        part: true,
        userid: Quoted::from(account.userid.as_bytes()),
        taken_at: TakenAt { unix: options.taken_at, text: options.taken_at_text.clone() },
        program: options.program.clone(),
        parent: base.map(Base::parent),
        chain: base.map(Base::chain_id),
        rewritten_at: options.rewritten_at,
        cyrus: Cyrus { era },
        gone: Vec::new(),
        locks: Vec::new(),
        catalog: None,
        totals: Totals {
            messages: before.totals.messages,
            mailboxes: before.totals.mailboxes,
            ..Totals::default()
        },
        ..before
    }
}

/// The messages of a mailbox that are to be stored, unless the chain has them from elsewhere.
fn lacking<'r>(
    records: &'r Records<'_>,
    had: &'r HadMailbox,
) -> impl Iterator<Item = RecordKey> + 'r {
    steps(records, had).filter_map(|step| match kept(step, had) {
        Some((record, None)) => Some(record),
        _ => None,
    })
}

/// What a snapshot is going to look at.
struct Ahead<'a> {
    account: &'a SourceAccount,
    positions: BTreeMap<MailboxKey, usize>,
    want: &'a AccountState,
    known: Known<'a>,
    mailboxes: Vec<Planned>,
}

/// A mailbox that it is going to look at.
#[derive(Clone)]
struct Planned {
    key: MailboxKey,
    at: usize,
    /// Whether the parent does not list it.
    is_new: bool,
}

impl<'a> Ahead<'a> {
    fn new(described: &'a Described, base: Option<&'a Base<'a>>) -> Result<Self, SnapshotError> {
        let Described { account, keys, state: want, .. } = described;
        let plan = plan(described, base)?;
        let positions: BTreeMap<MailboxKey, usize> = keys.iter().cloned().zip(0..).collect();
        let mailboxes = planned(&plan, &positions);
        Ok(Self { account, positions, want, known: Known::new(base), mailboxes })
    }

    /// How many messages of known GUIDs the chain lacks; no more of them are counted when they
    /// reach the limit.
    fn lacks(&mut self, limit: &Limit) -> Result<Amount, SnapshotError> {
        let mut counted = HashSet::new();
        let mut amount = Amount::default();
        for mailbox in self.mailboxes.clone() {
            let had = self.had(&mailbox)?;
            let records = Records::read(&self.account.mailboxes[mailbox.at].files);
            for record in lacking(&records, &had).filter(|record| !record.guid.is_zero()) {
                if amount.reaches(limit) {
                    return Ok(amount);
                }
                if !self.holds(&record.guid)? && counted.insert(record.guid) {
                    amount.add(record.size);
                }
            }
        }
        Ok(amount)
    }

    /// How many bytes the messages of unknown GUIDs have of which the chain has nothing.
    fn bytes_unnamed(&mut self) -> Result<u64, SnapshotError> {
        let mut bytes = 0u64;
        for mailbox in self.mailboxes.clone() {
            let had = self.had(&mailbox)?;
            let records = Records::read(&self.account.mailboxes[mailbox.at].files);
            let unnamed = lacking(&records, &had).filter(|record| record.guid.is_zero());
            bytes = unnamed.fold(bytes, |bytes, record| bytes.saturating_add(record.size));
        }
        Ok(bytes)
    }

    fn had(&mut self, mailbox: &Planned) -> Result<Rc<HadMailbox>, SnapshotError> {
        match mailbox.is_new {
            true => Ok(Rc::default()),
            false => self.known.had(&mailbox.key).map_err(SnapshotError::Archive),
        }
    }

    fn holds(&mut self, guid: &Guid) -> Result<bool, SnapshotError> {
        let live = |key: &MailboxKey| {
            let mailbox = &self.account.mailboxes[*self.positions.get(key)?];
            Some((self.want.mailboxes.get(key)?, &mailbox.files))
        };
        self.known.holds(guid, live).map_err(SnapshotError::Archive)
    }
}

fn planned(plan: &Plan, positions: &BTreeMap<MailboxKey, usize>) -> Vec<Planned> {
    let planned = plan.steps.iter().filter_map(|step| {
        let (key, is_new) = match step {
            Step::Create { mailbox, .. } => (mailbox, true),
            Step::Update { mailbox, .. } => (mailbox, false),
            _ => return None,
        };
        Some(Planned { key: key.clone(), at: *positions.get(key)?, is_new })
    });
    planned.collect()
}

/// A part that begins with its first message.
struct Writing<'l, W: Write, F> {
    out: Option<F>,
    store: Option<Store<W>>,
    stored: Amount,
    /// What is being read, by what the records say.
    pending: Amount,
    limit: &'l Limit,
}

impl<W: Write, F: FnOnce() -> Result<Store<W>, WriteError>> Writing<'_, W, F> {
    /// Whether this will be all, if all that is being read is what its records say.
    fn is_enough(&self) -> bool {
        let Amount { bytes, messages } = self.pending;
        let stored = self.stored;
        let bytes = stored.bytes.saturating_add(bytes);
        Amount { bytes, messages: stored.messages + messages }.reaches(self.limit)
    }

    fn contains(&self, guid: &Guid) -> bool {
        self.store.as_ref().is_some_and(|store| store.contains(guid))
    }

    fn store(&mut self) -> Result<&mut Store<W>, WriteError> {
        if let Some(new) = self.out.take() {
            self.store = Some(new()?);
        }
        self.store.as_mut().ok_or(WriteError::GivenUp)
    }
}

/// The messages of one mailbox on their way into a part.
struct PartOfMailbox<'r, 'a, W: Write, F, I> {
    records: I,
    /// Whether there are no more records.
    is_done: bool,
    /// Whether nothing was left behind that the snapshot is going to read.
    passes: bool,
    at: usize,
    ahead: &'r mut Ahead<'a>,
    writing: &'r mut Writing<'a, W, F>,
    messages: &'r dyn MessageSource,
    monitor: &'r dyn Monitor,
}

impl<W, F, I> Work for PartOfMailbox<'_, '_, W, F, I>
where
    W: Write,
    F: FnOnce() -> Result<Store<W>, WriteError>,
    I: Iterator<Item = RecordKey>,
{
    type Error = SnapshotError;

    fn next(&mut self) -> Result<Option<Job>, SnapshotError> {
        while !self.writing.is_enough() {
            let Some(record) = self.records.next() else {
                self.is_done = true;
                return Ok(None);
            };
            if record.guid.is_zero() {
                self.passes = false;
                continue;
            }
            if self.writing.contains(&record.guid) || self.ahead.holds(&record.guid)? {
                continue;
            }
            self.writing.pending.add(record.size);
            self.monitor.expect(1);
            return Ok(Some(Job { record, action: Action::Read }));
        }
        Ok(None)
    }

    fn done(&mut self, job: &Job, outcome: Outcome, bytes: &[u8]) -> Result<(), SnapshotError> {
        let Job { record, .. } = job;
        self.writing.pending.bytes = self.writing.pending.bytes.saturating_sub(record.size);
        self.writing.pending.messages = self.writing.pending.messages.saturating_sub(1);
        let read = match outcome {
            Outcome::Whole { start, end, guid } => {
                let body = &bytes[start..end];
                if guid == record.guid && !self.writing.contains(&guid) {
                    self.writing.store()?.put(guid, record.internaldate.secs, body)?;
                    self.writing.stored.add(body.len() as u64);
                }
                body.len() as u64
            }
            Outcome::Large { size, guid } => {
                if guid == record.guid && !self.writing.contains(&guid) {
                    self.copy_large(record, guid, size)?;
                }
                size
            }
            Outcome::Skipped | Outcome::Taken { .. } | Outcome::Failed(_) => 0,
        };
        self.passes &= self.writing.contains(&record.guid);
        if self.passes {
            self.messages.pass(self.at, record.uid);
        }
        self.monitor.advance(1, read);
        Ok(())
    }
}

impl<W, F, I> PartOfMailbox<'_, '_, W, F, I>
where
    W: Write,
    F: FnOnce() -> Result<Store<W>, WriteError>,
{
    fn copy_large(
        &mut self,
        record: &RecordKey,
        guid: Guid,
        size: u64,
    ) -> Result<(), SnapshotError> {
        let Ok(mut file) = self.messages.open(self.at, record) else { return Ok(()) };
        let mtime = record.internaldate.secs;
        if self.writing.store()?.copy(guid, size, mtime, &mut file)? {
            self.writing.stored.add(size);
        }
        Ok(())
    }
}
