//! Snapshot: one account, as it is at one instant, written as a segment.
//!
//! Want is the source, have is the newest snapshot of the chain that is continued, or nothing.
//! Their diff is the plan; applying it writes the segment. What did not change is not looked at:
//! a mailbox whose metadata files are the same bytes as in the parent costs their hash only.

mod mailbox;
pub mod parts;
mod store;

use std::collections::BTreeMap;
use std::io::Write;

use model::diff::{Plan, Step, diff};
use model::state::{AccountState, Digest, MailboxKey};
use model::{Finding, FindingKind, Guid, MboxName, Uid, UniqueId};
use segment::links::{Link, Links};
use segment::manifest::{
    Cyrus, Gone, ManifestHead, Quoted, StoredFile, StoredFinding, StoredLock, StoredMailbox,
    TakenAt, Totals,
};
use segment::writer::WriteError;

use self::store::Store;
use crate::archive::ArchiveError;
use crate::base::Base;
use crate::folder::relative_name;
use crate::known::Known;
use crate::ports::{MessageSource, Monitor};
use crate::records::Facts;
use crate::source::{Described, LockHeld, SourceAccount};

/// How a snapshot is to be taken.
#[derive(Clone, Debug)]
pub struct Options {
    /// The instant of the snapshot, seconds since 1970.
    pub taken_at: i64,
    /// The same as RFC 3339 text.
    pub taken_at_text: String,
    /// Name and version of the program, for the manifest.
    pub program: String,
    /// Threads that read messages ahead; at least one.
    pub workers: usize,
    /// The segment's number, higher than its parent's; `None` for the next one.
    pub seq: Option<u32>,
    /// When the snapshot was written once more, seconds since 1970; `None` if it is taken now.
    pub rewritten_at: Option<i64>,
    /// Whether the segment lists the envelopes of its messages; see [`catalog`](crate::catalog).
    pub catalog: bool,
}

/// How it went.
#[derive(Clone, Debug)]
pub struct Summary {
    /// The account, as the user writes it.
    pub account: String,
    /// The segment's number.
    pub seq: u32,
    /// SHA-256 of the segment's manifest: its identity.
    pub manifest_sha256: Digest,
    /// What was done.
    pub plan: Plan,
    /// Counts.
    pub totals: Totals,
    /// Links written: a message that was there already under another name or UID.
    pub links: u64,
    /// Bytes of the segment, before compression.
    pub segment_bytes: u64,
    /// Everything that is wrong, also what was known from the parent.
    pub findings: Vec<Finding>,
    /// How many of them the parent does not tell of.
    pub findings_new: u64,
    /// The locks that were held.
    pub locks: Vec<LockHeld>,
}

/// Why there is no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The segment could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The archive to continue cannot be read.
    #[error("cannot read the archive that this snapshot continues")]
    Archive(#[source] ArchiveError),
    /// The archive to continue holds another account.
    #[error("the archive holds snapshots of {found}, not of {wanted}")]
    ForeignAccount {
        /// Whose snapshot was asked for.
        wanted: String,
        /// Whose the archive holds.
        found: String,
    },
}

/// Takes a snapshot of `account` and writes it to `out`.
///
/// # Errors
/// Only what makes the result worthless: output that cannot be written, a chain that cannot be
/// read. Everything wrong with the account itself is a finding, and the rest is saved.
pub fn snapshot<W: Write>(
    account: impl Into<Described>,
    messages: &dyn MessageSource,
    base: Option<&Base<'_>>,
    out: W,
    options: &Options,
    monitor: &dyn Monitor,
) -> Result<(W, Summary), SnapshotError> {
    let described = account.into();
    let plan = plan(&described, base)?;
    let Described { account, keys, mut findings, state: want } = described;
    findings.splice(0..0, account.findings.iter().cloned());
    for finding in &findings {
        monitor.finding(finding);
    }
    let seq = options.seq_after(base);
    let links = base.map(Base::links).unwrap_or_default();
    let mut run = Run {
        dirs: keys.iter().map(|key| (key.clone(), dir_of(key, base, &links))).collect(),
        positions: keys.iter().cloned().zip(0..).collect(),
        store: Store::new(out, &account, seq, options)?,
        account,
        keys,
        want,
        messages,
        base,
        known: Known::new(base),
        links,
        files: BTreeMap::new(),
        facts: BTreeMap::new(),
        account_files: BTreeMap::new(),
        seq,
        totals: Totals::default(),
        hard_links: 0,
        findings,
        options,
        monitor,
    };
    run.release_others(&plan);
    run.apply(&plan)?;
    run.finish(plan)
}

/// Whether a snapshot would say what the segment that it continues says: then there is no need to
/// take it. Nothing is read but metadata.
///
/// Costs less than to take one and look at it, and says no wherever a message must be looked at.
///
/// # Errors
/// A chain that cannot be read, or that is of another account.
pub fn is_unchanged(account: &Described, base: &Base<'_>) -> Result<bool, SnapshotError> {
    let of_mailboxes = account.account.mailboxes.iter().flat_map(|mailbox| &mailbox.findings);
    let mut told = account.account.findings.iter().chain(&account.findings).chain(of_mailboxes);
    let is_new = told.any(|finding| !base.tells(finding));
    Ok(!is_new && plan(account, Some(base))?.steps.is_empty())
}

impl Options {
    fn seq_after(&self, base: Option<&Base<'_>>) -> u32 {
        self.seq.unwrap_or_else(|| base.map_or(1, |base| base.seq().saturating_add(1)))
    }
}

/// What makes the chain equal to the account as it is.
fn plan(account: &Described, base: Option<&Base<'_>>) -> Result<Plan, SnapshotError> {
    let want = &account.state;
    let have = match base {
        Some(base) if base.userid() != want.userid => {
            let (wanted, found) = (want.userid.to_string(), base.userid().to_string());
            return Err(SnapshotError::ForeignAccount { wanted, found });
        }
        Some(base) => base.describe(),
        None => AccountState::empty(want.userid.clone()),
    };
    let mut plan = diff(want, &have);
    if let Some(base) = base {
        look_again(base, want, &mut plan).map_err(SnapshotError::Archive)?;
    }
    Ok(plan)
}

/// Adds the mailboxes of which messages were missing last time, even if nothing changed since:
/// somebody may have put the files back.
fn look_again(base: &Base<'_>, want: &AccountState, plan: &mut Plan) -> Result<(), ArchiveError> {
    for key in base.mailboxes_with_missing()? {
        let planned = plan.steps.iter().any(|step| {
            matches!(step, Step::Update { mailbox, .. } | Step::Remove { mailbox, .. }
                if *mailbox == key)
        });
        if want.mailboxes.contains_key(&key) && !planned {
            plan.steps.push(Step::Update { mailbox: key, files: vec![], dropped: vec![] });
        }
    }
    Ok(())
}

/// A snapshot being written.
struct Run<'a, W: Write> {
    account: SourceAccount,
    keys: Vec<MailboxKey>,
    positions: BTreeMap<MailboxKey, usize>,
    /// Each mailbox's component in entry names.
    dirs: BTreeMap<MailboxKey, String>,
    want: AccountState,
    messages: &'a dyn MessageSource,
    base: Option<&'a Base<'a>>,
    /// What the chain holds.
    known: Known<'a>,
    store: Store<W>,
    links: Links,
    /// Where the metadata files of the mailboxes looked at are; the others are where they were.
    files: BTreeMap<MailboxKey, BTreeMap<String, StoredFile>>,
    /// What the indexes of the mailboxes looked at say.
    facts: BTreeMap<MailboxKey, Facts>,
    account_files: BTreeMap<String, StoredFile>,
    seq: u32,
    totals: Totals,
    hard_links: u64,
    findings: Vec<Finding>,
    options: &'a Options,
    monitor: &'a dyn Monitor,
}

impl<W: Write> Run<'_, W> {
    /// Gives back the mailboxes of which no message is going to be read, and tells where reading
    /// begins in the others.
    fn release_others(&self, plan: &Plan) {
        let mut wanted = BTreeMap::new();
        for step in &plan.steps {
            if let Step::Create { mailbox, .. } | Step::Update { mailbox, .. } = step {
                let before = self.base.and_then(|base| base.stored_mailbox(mailbox));
                wanted.insert(mailbox, before.map_or(0, |before| before.linked_to));
            }
        }
        for (key, at) in &self.positions {
            match wanted.get(key) {
                Some(linked_to) => self.messages.pass(*at, Uid(*linked_to)),
                None => self.messages.release(*at),
            }
        }
    }

    fn apply(&mut self, plan: &Plan) -> Result<(), SnapshotError> {
        for step in &plan.steps {
            match step {
                Step::Create { mailbox, .. } => {
                    self.store.writer.mailbox_dir(&self.dirs[mailbox])?;
                    self.link_folder(mailbox)?;
                    self.write_mailbox(mailbox, None)?;
                }
                Step::Rename { mailbox, .. } => self.link_folder(mailbox)?,
                Step::Update { mailbox, files, .. } => self.write_mailbox(mailbox, Some(files))?,
                Step::PutFile(name) => self.write_account_file(name)?,
                // What is gone is left out of the manifest; nothing needs to be written for it.
                Step::Remove { .. } | Step::RemoveFile(_) => {}
            }
        }
        Ok(())
    }

    /// Writes the symlink from the folder's name to its directory, once in a chain.
    fn link_folder(&mut self, mailbox: &MailboxKey) -> Result<(), SnapshotError> {
        let name = &self.want.mailboxes[mailbox].name;
        let folder = relative_name(name.as_bytes(), self.account.userid.as_bytes());
        let dir = &self.dirs[mailbox];
        if let Link::New(link) = self.links.link(&folder, dir) {
            self.store.writer.folder(&link, dir)?;
        }
        Ok(())
    }

    fn write_account_file(&mut self, name: &str) -> Result<(), SnapshotError> {
        if let Some(file) = self.account.files.iter().find(|file| file.name == name) {
            let stored = self.store.writer.account_file(name, file.mtime, &file.bytes)?;
            self.account_files.insert(name.to_owned(), stored);
        }
        Ok(())
    }

    /// Whether the chain or this segment holds the bytes already, as far as that is known.
    fn knows(&mut self, guid: &Guid) -> Result<bool, SnapshotError> {
        if self.store.contains(guid) {
            return Ok(true);
        }
        let live = |key: &MailboxKey| {
            let mailbox = &self.account.mailboxes[*self.positions.get(key)?];
            Some((self.want.mailboxes.get(key)?, &mailbox.files))
        };
        self.known.holds(guid, live).map_err(SnapshotError::Archive)
    }

    fn report(&mut self, finding: Finding) {
        self.monitor.finding(&finding);
        self.findings.push(finding);
    }

    /// Writes manifest and end block.
    fn finish(mut self, plan: Plan) -> Result<(W, Summary), SnapshotError> {
        self.recall_findings();
        let locks = self.messages.locks();
        let is_known = |finding: &Finding| self.base.is_some_and(|base| base.tells(finding));
        let findings_new = self.findings.iter().filter(|finding| !is_known(finding)).count() as u64;
        let head = self.manifest(&plan, &locks);
        let (out, finished) = self.store.finish(head)?;
        let summary = Summary {
            account: self.account.userid.to_string(),
            seq: self.seq,
            manifest_sha256: finished.manifest_sha256,
            plan,
            totals: finished.head.totals,
            links: self.hard_links,
            segment_bytes: finished.bytes,
            findings: self.findings,
            findings_new,
            locks,
        };
        Ok((out, summary))
    }

    /// Says what is wrong with mailboxes that were not looked at this time: what the source tells,
    /// and what was found when they were.
    fn recall_findings(&mut self) {
        for at in 0..self.keys.len() {
            let key = self.keys[at].clone();
            if self.facts.contains_key(&key) {
                continue;
            }
            let told = std::mem::take(&mut self.account.mailboxes[at].findings);
            let mut recalled = self.findings_before(&key);
            recalled.retain(|finding| !is_told_anew(finding.kind) && !told.contains(finding));
            told.into_iter().chain(recalled).for_each(|finding| self.report(finding));
        }
    }

    /// What the parent says is wrong with a mailbox, under the name that it has now.
    fn findings_before(&self, key: &MailboxKey) -> Vec<Finding> {
        let before = self.base.and_then(|base| Some((base, base.stored_mailbox(key)?)));
        let Some((base, before)) = before else { return Vec::new() };
        let place = self.want.mailboxes[key].name.to_string();
        let findings = base.findings_of(&MboxName::new(before.name.as_bytes()));
        findings.map(|finding| Finding { place: place.clone(), ..finding }).collect()
    }

    fn manifest(&mut self, plan: &Plan, locks: &[LockHeld]) -> ManifestHead {
        let mailboxes: Vec<StoredMailbox> =
            (0..self.keys.len()).map(|at| self.stored_mailbox(at)).collect();
        let account_files = self.account.files.iter().filter_map(|file| {
            let written = self.account_files.get(&file.name);
            let before = || self.base.and_then(|base| base.account_file(&file.name));
            written.or_else(before).cloned()
        });
        let gone = plan.steps.iter().filter_map(|step| match step {
            Step::Remove { mailbox, name } => {
                let before = self.base.and_then(|base| base.stored_mailbox(mailbox))?;
                Some(Gone { dir: before.dir.clone(), name: Quoted::from(name.as_bytes()) })
            }
            _ => None,
        });
        ManifestHead {
            userid: Quoted::from(self.account.userid.as_bytes()),
            taken_at: TakenAt {
                unix: self.options.taken_at,
                text: self.options.taken_at_text.clone(),
            },
            program: self.options.program.clone(),
            parent: self.base.map(Base::parent),
            chain: self.base.map(Base::chain_id),
            rewritten_at: self.options.rewritten_at,
            cyrus: Cyrus { era: self.account.cyrus.clone() },
            gone: gone.collect(),
            links: self.links.to_stored(),
            account_files: account_files.collect(),
            findings: self.findings.iter().map(stored_finding).collect(),
            locks: locks.iter().map(stored_lock).collect(),
            totals: Totals {
                mailboxes: mailboxes.len() as u64,
                messages: self.totals.messages,
                ..Totals::default()
            },
            mailboxes,
            ..ManifestHead::default()
        }
    }

    fn stored_mailbox(&mut self, at: usize) -> StoredMailbox {
        let (key, mailbox) = (&self.keys[at], &self.account.mailboxes[at]);
        let before = self.base.and_then(|base| base.stored_mailbox(key));
        let named = StoredMailbox {
            dir: self.dirs[key].clone(),
            uniqueid: Quoted::from(mailbox.uniqueid.as_ref().map_or(&[][..], UniqueId::as_bytes)),
            name: Quoted::from(mailbox.name.as_bytes()),
            partition: Quoted::from(mailbox.partition.as_slice()),
            mbtype: mailbox.mbtype.clone(),
            deleted: mailbox.deleted,
            ..before.cloned().unwrap_or_default()
        };
        let Some(facts) = self.facts.get(key) else {
            // Not looked at: nothing that the index says has changed.
            // None of its messages is missing, or it would have been looked at.
            self.totals.messages += named.exists + named.expunged;
            return named;
        };
        StoredMailbox {
            uidvalidity: facts.uidvalidity,
            index_version: facts.index_version,
            announced: facts.announced,
            exists: facts.exists,
            expunged: facts.expunged,
            last_uid: facts.last_uid,
            highestmodseq: facts.highestmodseq,
            linked_to: facts.linked_to,
            files: self.files.remove(key).unwrap_or_default().into_values().collect(),
            ..named
        }
    }
}

/// Whether findings of this kind come from the source, which tells them each time.
pub fn is_told_anew(kind: FindingKind) -> bool {
    matches!(
        kind,
        FindingKind::DuplicateUniqueId
            | FindingKind::EntryUnreadable
            | FindingKind::LockUnused
            | FindingKind::MetadataUnreadable
    )
}

/// The mailbox's component in entry names: the one it has in the parent, or one that the chain
/// has not used. A mailbox that was gone and came back gets a new one, since no name may be
/// written twice.
fn dir_of(key: &MailboxKey, base: Option<&Base<'_>>, links: &Links) -> String {
    match base.and_then(|base| base.stored_mailbox(key)) {
        Some(before) => before.dir.clone(),
        None => links.new_dir(&String::from_utf8_lossy(&key.0)),
    }
}

fn stored_finding(finding: &Finding) -> StoredFinding {
    StoredFinding {
        code: finding.kind.code().to_owned(),
        place: finding.place.clone(),
        uid: finding.uid,
        detail: finding.detail.clone(),
    }
}

fn stored_lock(lock: &LockHeld) -> StoredLock {
    StoredLock {
        kind: lock.kind.clone(),
        file: lock.file.clone(),
        waited_us: lock.waited_us,
        held_us: lock.held_us,
    }
}
