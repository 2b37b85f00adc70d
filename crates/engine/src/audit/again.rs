//! Looking again, with what the account is by then.

use std::collections::BTreeSet;

use model::{Finding, FindingKind, Uid, Userid};
use spool::{Frozen, FrozenMailbox, Server, SpoolError};

use super::subject::Subject;
use super::verdict::Suspect;
use super::{Issue, Look, Options, metadata, quota};

/// Files that are opened at once, while cleanup of their mailbox waits.
const BATCH: usize = 64;

/// A mailbox that is damaged all over is told by its first messages; the rest is a number.
const SUSPECTS_MAX: usize = 1000;

/// How often a mailbox is looked for that others rename meanwhile.
const RENAMES_MAX: usize = 5;

/// An account that is looked at.
pub(super) struct Account<'a> {
    pub server: &'a Server,
    pub userid: &'a Userid,
    pub options: &'a Options<'a>,
}

impl Account<'_> {
    /// What is wrong with an account as a whole.
    pub fn whole(&self, frozen: &Frozen) -> Result<Vec<Finding>, SpoolError> {
        let mut findings = frozen.findings.clone();
        findings.extend(self.server.identity_findings(self.userid)?);
        findings.extend(quota::check(frozen));
        Ok(findings)
    }

    /// Those of these findings that are still true.
    pub fn whole_again(
        &self,
        first: Vec<Finding>,
        lapsed: &mut u64,
    ) -> Result<Vec<Finding>, SpoolError> {
        if first.is_empty() {
            return Ok(first);
        }
        let mut frozen = self.server.freeze(self.userid)?;
        frozen.mailboxes.iter_mut().for_each(FrozenMailbox::let_go);
        // Where nothing keeps mailboxes and quotas as they are for one instant, a sum counts only if
        // it stays the same.
        let is_instant = frozen.era.user_lock_freezes_content(self.userid);
        let mut second = self.whole(&frozen)?;
        second.retain(|finding| {
            first.iter().any(|before| {
                let is_same = is_instant || finding.kind != FindingKind::QuotaUsage;
                (before.kind, &before.place) == (finding.kind, &finding.place)
                    && (is_same || before.detail == finding.detail)
            })
        });
        *lapsed += first.len().saturating_sub(second.len()) as u64;
        Ok(second)
    }

    /// What is wrong with a mailbox that looked so.
    pub fn again(
        &self,
        subject: &Subject,
        look: &Look,
        lapsed: &mut u64,
    ) -> Result<Vec<Issue>, SpoolError> {
        let seen: BTreeSet<(FindingKind, Option<u32>)> =
            look.findings.iter().map(|finding| (finding.kind, finding.uid)).collect();
        let suspects: Vec<Uid> =
            look.messages.suspects.iter().copied().take(SUSPECTS_MAX).collect();
        let mut batches = suspects.chunks(BATCH);
        let mut issues: Vec<Issue> = Vec::new();
        let mut is_first = true;
        loop {
            let batch = batches.next().unwrap_or_default();
            if !is_first && batch.is_empty() {
                break;
            }
            let Some(frozen) = self.freeze(subject)? else { break };
            let (fresh, opened) = take_up(frozen, batch);
            if is_first {
                let records = fresh.records();
                let owner = self.userid.user();
                let findings = metadata::check(&fresh, &records, owner, self.options.pace);
                let still = findings.into_iter().filter(|f| seen.contains(&(f.kind, f.uid)));
                issues.extend(still.map(Issue::from));
                issues.extend(unlisted(&fresh, look));
            }
            let judged = opened.into_iter();
            issues.extend(judged.filter_map(|s| s.judge(&fresh.name, self.options.pace)));
            is_first = false;
        }
        let looked_wrong = look.findings.len() + suspects.len();
        *lapsed += looked_wrong.saturating_sub(issues.len()) as u64;
        let more = look.messages.suspects.len() - suspects.len();
        if more > 0 && !issues.is_empty() {
            let detail = format!("{more} more of its messages look wrong and are not listed");
            let finding = Finding::new(FindingKind::MailboxDamaged, &subject.name, detail);
            issues.push(finding.into());
        }
        Ok(issues)
    }

    /// The mailbox as it is now, whatever it is called; `None` if it is gone.
    fn freeze(&self, subject: &Subject) -> Result<Option<FrozenMailbox>, SpoolError> {
        for _ in 0..RENAMES_MAX {
            let entries = self.server.entries_of(self.userid)?;
            let has_id = |id: &Option<model::UniqueId>| {
                subject.uniqueid.is_some() && *id == subject.uniqueid
            };
            let same = entries.iter().find(|entry| {
                entry.name == subject.name
                    && (subject.uniqueid.is_none() || has_id(&entry.uniqueid))
            });
            let Some(entry) = same.or_else(|| entries.iter().find(|e| has_id(&e.uniqueid))) else {
                return Ok(None);
            };
            let names = BTreeSet::from([entry.name.clone()]);
            let frozen = match self.server.freeze_mailboxes(self.userid, &names) {
                Err(SpoolError::NoSuchAccount { .. }) => return Ok(None),
                frozen => frozen?,
            };
            if let Some(mailbox) = frozen.mailboxes.into_iter().next() {
                return Ok(Some(mailbox));
            }
        }
        Ok(None)
    }
}

/// Opens all that is to be looked at of a mailbox that is held, and gives it back.
fn take_up(frozen: FrozenMailbox, batch: &[Uid]) -> (Subject, Vec<Suspect>) {
    let mut fresh = Subject::of(frozen);
    fresh.hold_caches();
    let records = fresh.records();
    let opened = batch.iter().filter_map(|uid| Suspect::open(&fresh, &records, *uid)).collect();
    drop(records);
    fresh.frozen.let_go();
    (fresh, opened)
}

/// Whether the directory cannot be listed this time, either.
fn unlisted(fresh: &Subject, look: &Look) -> Option<Issue> {
    let before = look.messages.unlisted.as_ref()?;
    fresh.frozen.list_messages().is_err().then(|| Issue::from(before.clone()))
}
