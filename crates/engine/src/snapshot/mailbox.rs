//! One mailbox of a snapshot: its new messages, its links, its metadata files.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::rc::Rc;

use cyrus_format::index::RecordKey;
use model::diff::{RecordStep, diff_records};
use model::state::MailboxKey;
use model::{Finding, FindingKind, Guid, MboxName, Uid};
use segment::manifest::StoredFile;

use super::{Run, SnapshotError};
use crate::base::HadMailbox;
use crate::exceptions::{self, Exceptions};
use crate::fetch::{Action, Job, Outcome, Reading, Work, fetch, read_message};
use crate::records::{Facts, Records, identity};
use crate::source::fingerprint;

impl<W: Write> Run<'_, W> {
    /// Writes what is new in a mailbox. `changed` names the metadata files that differ from the
    /// parent's; `None` means that the mailbox is new to the chain.
    pub(super) fn write_mailbox(
        &mut self,
        key: &MailboxKey,
        changed: Option<&[String]>,
    ) -> Result<(), SnapshotError> {
        let Some(at) = self.positions.get(key).copied() else { return Ok(()) };
        let had = match changed {
            Some(_) => self.known.had(key).map_err(SnapshotError::Archive)?,
            None => Rc::default(),
        };
        // Taken out of the account so that the run can be changed while they are read; the
        // memory is free again at the end of this function.
        let files = std::mem::take(&mut self.account.mailboxes[at].files);
        let found = std::mem::take(&mut self.account.mailboxes[at].findings);
        found.into_iter().for_each(|finding| self.report(finding));

        let name = self.account.mailboxes[at].name.clone();
        let records = Records::read(&files);
        let header = files.get("cyrus.header").map(Vec::as_slice);
        let findings = records.check(&name, header);
        findings.into_iter().for_each(|finding| self.report(finding));
        match changed {
            None => self.look_for_orphans(at, &name, &records),
            Some(_) => self.recall_orphans(key, &records),
        }
        let anew = changed.is_some() && would_link_twice(&records, &had);
        if anew {
            self.new_dir(key)?;
        }
        let (exceptions, linked_to) = self.write_messages(key, at, name, &records, &had, anew)?;
        self.messages.release(at);
        self.known.forget(key);
        self.facts.insert(key.clone(), Facts { linked_to, ..records.facts() });
        drop(records);
        self.write_files(key, files, changed.filter(|_| !anew), &exceptions)
    }

    /// Moves a mailbox to a directory that the chain has not used: no name may be written twice,
    /// and what the old names lead to must not be taken for this mailbox's messages.
    fn new_dir(&mut self, key: &MailboxKey) -> Result<(), SnapshotError> {
        let dir = self.links.new_dir(&String::from_utf8_lossy(&key.0));
        self.store.writer.mailbox_dir(&dir)?;
        self.dirs.insert(key.clone(), dir);
        self.link_folder(key)
    }

    /// Gives the exceptions, and the highest UID that has a link by now.
    fn write_messages(
        &mut self,
        key: &MailboxKey,
        at: usize,
        name: MboxName,
        records: &Records<'_>,
        had: &HadMailbox,
        anew: bool,
    ) -> Result<(Exceptions, u32), SnapshotError> {
        self.monitor.expect(records.len() as u64);
        let dir = self.dirs[key].clone();
        let linked_to = if anew { 0 } else { had.linked_to };
        let (source, workers) = (self.messages, self.options.workers);
        let reading = Reading { source, mailbox: at, workers, early: None };
        let (steps, exceptions) = (steps(records, had), Exceptions::default());
        let mut work =
            Mailbox { run: self, at, name, dir, steps, had, anew, linked_to, exceptions };
        fetch(&reading, &mut work)?;
        Ok((work.exceptions, work.linked_to))
    }

    fn look_for_orphans(&mut self, at: usize, name: &MboxName, records: &Records<'_>) {
        let mut files = match self.messages.list(at) {
            Ok(files) => files,
            // A directory that is not there has a finding of its own.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => {
                let detail = format!("its directory cannot be listed: {error}");
                self.report(Finding::new(FindingKind::MailboxMissing, name, detail));
                return;
            }
        };
        // Clients go on while the directory is listed. What they put there since the index was
        // copied has a higher UID than the mailbox had given out, and is nobody's orphan.
        let last = records.last_uid();
        files.retain(|uid| last.is_none_or(|last| *uid <= last));
        files.sort_unstable();
        files.dedup();
        let mut known = records.iter().map(|record| record.uid).peekable();
        for uid in files {
            while known.next_if(|known| *known < uid).is_some() {}
            if known.peek() != Some(&uid) {
                let finding = Finding::new(FindingKind::OrphanFile, name, "no record names it");
                self.report(finding.at_uid(uid.0));
            }
        }
    }

    /// Says again which files had no record, and still have none: the directory of a mailbox is
    /// listed once in a chain.
    fn recall_orphans(&mut self, key: &MailboxKey, records: &Records<'_>) {
        for finding in self.findings_before(key) {
            let uid = finding.uid.map(Uid).filter(|_| finding.kind == FindingKind::OrphanFile);
            if uid.is_some_and(|uid| records.record(uid).is_none()) {
                self.report(finding);
            }
        }
    }

    fn write_files(
        &mut self,
        key: &MailboxKey,
        files: BTreeMap<String, Vec<u8>>,
        changed: Option<&[String]>,
        exceptions: &Exceptions,
    ) -> Result<(), SnapshotError> {
        let dir = self.dirs[key].clone();
        let mut stored = BTreeMap::new();
        for (name, bytes) in files {
            if changed.is_some_and(|changed| !changed.contains(&name))
                && let Some(file) = self.base.and_then(|base| base.mailbox_file(key, &name))
            {
                stored.insert(name, file.clone());
                continue;
            }
            let taken_at = self.options.taken_at;
            let file = self.store.writer.mailbox_file(&dir, &name, taken_at, &bytes)?;
            stored.insert(name, file);
        }
        if let Some(file) = self.write_exceptions(key, &dir, exceptions)? {
            stored.insert(exceptions::FILE.to_owned(), file);
        }
        self.files.insert(key.clone(), stored);
        Ok(())
    }

    /// Stores the list of exceptions, unless there are none or the chain has this very list.
    fn write_exceptions(
        &mut self,
        key: &MailboxKey,
        dir: &str,
        exceptions: &Exceptions,
    ) -> Result<Option<StoredFile>, SnapshotError> {
        if exceptions.is_empty() {
            return Ok(None);
        }
        let bytes = exceptions.to_bytes();
        let state = fingerprint(&bytes);
        let before = self.base.and_then(|base| base.mailbox_file(key, exceptions::FILE));
        if let Some(file) = before.filter(|file| file.sha256 == state.digest) {
            return Ok(Some(file.clone()));
        }
        let path = format!("{}/{dir}", exceptions::FILE);
        let file = self.store.writer.account_file(&path, self.options.taken_at, &bytes)?;
        Ok(Some(StoredFile { name: exceptions::FILE.to_owned(), ..file }))
    }
}

/// What happened to the messages of a mailbox since the parent.
pub(super) fn steps(
    records: &Records<'_>,
    had: &HadMailbox,
) -> impl Iterator<Item = RecordStep<RecordKey>> {
    let key = |record: &RecordKey| (record.uid, identity(record));
    diff_records(records.linked(), had.linked.iter().copied(), key)
}

/// The message that a step is about, and what the chain has of it already. Nothing, if its bytes
/// were not to be had last time: somebody may have put the file back. `None` for a message that is
/// no longer wanted.
pub(super) fn kept(
    step: RecordStep<RecordKey>,
    had: &HadMailbox,
) -> Option<(RecordKey, Option<Guid>)> {
    match step {
        RecordStep::Add(record) => Some((record, None)),
        RecordStep::Keep(record) => Some((record, had.exceptions.stored(record.uid, record.guid))),
        RecordStep::Replace(record) => {
            let found = had.exceptions.get(record.uid).flatten();
            Some((record, found.filter(|found| *found == record.guid)))
        }
        RecordStep::Remove(_) => None,
    }
}

/// Whether the mailbox's directory may have a link already of a name that is to lead to something
/// else, or to something again. Nothing lawful does that, but damage and its repair do, and UIDs
/// that start over.
fn would_link_twice(records: &Records<'_>, had: &HadMailbox) -> bool {
    steps(records, had).any(|step| match step {
        RecordStep::Add(record) => record.uid.0 <= had.linked_to,
        RecordStep::Replace(record) => match had.exceptions.get(record.uid) {
            // What is not to be had has no link.
            Some(None) => false,
            // The record was wrong, and now says what was found.
            Some(found) => found != Some(record.guid),
            None => true,
        },
        RecordStep::Keep(_) | RecordStep::Remove(_) => false,
    })
}

/// The messages of one mailbox on their way into the segment.
struct Mailbox<'r, 'a, W: Write, S> {
    run: &'r mut Run<'a, W>,
    at: usize,
    name: MboxName,
    dir: String,
    steps: S,
    had: &'r HadMailbox,
    /// Whether the directory is new, so that all messages need their links.
    anew: bool,
    linked_to: u32,
    exceptions: Exceptions,
}

impl<W: Write, S> Work for Mailbox<'_, '_, W, S>
where
    S: Iterator<Item = RecordStep<RecordKey>>,
{
    type Error = SnapshotError;

    fn next(&mut self) -> Result<Option<Job>, SnapshotError> {
        while let Some(step) = self.steps.next() {
            let Some((record, kept)) = kept(step, self.had) else { continue };
            let action = match kept {
                Some(found) if found == record.guid && !self.anew => {
                    self.run.totals.messages += 1;
                    self.run.monitor.advance(1, 0);
                    continue;
                }
                Some(found) => Action::Carry(found),
                None => self.action(&record.guid)?,
            };
            return Ok(Some(Job { record, action }));
        }
        Ok(None)
    }

    fn done(&mut self, job: &Job, outcome: Outcome, bytes: &[u8]) -> Result<(), SnapshotError> {
        let mut read = 0;
        let found = match (job.action, outcome) {
            (Action::Carry(found), _) => {
                if self.anew {
                    self.link(&job.record, &found)?;
                }
                Some(found)
            }
            (_, Outcome::Skipped) => self.link_or_read(&job.record)?,
            (_, outcome) => {
                read = match &outcome {
                    Outcome::Whole { start, end, .. } => (end - start) as u64,
                    Outcome::Large { size, .. } => *size,
                    Outcome::Skipped | Outcome::Taken { .. } | Outcome::Failed(_) => 0,
                };
                self.store(&job.record, outcome, bytes)?
            }
        };
        if found != Some(job.record.guid) {
            self.exceptions.push(job.record.uid, found);
        }
        self.run.messages.pass(self.at, job.record.uid);
        self.run.totals.messages += u64::from(found.is_some());
        self.run.monitor.advance(1, read);
        Ok(())
    }
}

impl<W: Write, S> Mailbox<'_, '_, W, S> {
    fn action(&mut self, guid: &Guid) -> Result<Action, SnapshotError> {
        let known = !guid.is_zero() && self.run.knows(guid)?;
        Ok(if known { Action::Link } else { Action::Read })
    }

    /// Links a message whose bytes were met before; if they could not be had there, reads its
    /// own file after all.
    fn link_or_read(&mut self, record: &RecordKey) -> Result<Option<Guid>, SnapshotError> {
        if self.run.knows(&record.guid)? {
            self.link(record, &record.guid)?;
            return Ok(Some(record.guid));
        }
        let mut bytes = Vec::new();
        let outcome = read_message(self.run.messages, self.at, record, &mut bytes)
            .unwrap_or_else(Outcome::Failed);
        self.store(record, outcome, &bytes)
    }

    /// Stores what was read and says which GUID it has; `None` if there was nothing to store.
    fn store(
        &mut self,
        record: &RecordKey,
        outcome: Outcome,
        bytes: &[u8],
    ) -> Result<Option<Guid>, SnapshotError> {
        let (guid, size) = match outcome {
            Outcome::Whole { start, end, guid } => {
                let bytes = &bytes[start..end];
                if !self.run.knows(&guid)? {
                    self.run.store.put(guid, record.internaldate.secs, bytes)?;
                }
                (guid, bytes.len() as u64)
            }
            Outcome::Large { size, guid } => {
                if !self.run.knows(&guid)? && !self.copy_large(record, guid, size)? {
                    self.report_unread(record, &io::Error::other("it changes while it is read"));
                    return Ok(None);
                }
                (guid, size)
            }
            Outcome::Failed(error) => {
                self.report_unread(record, &error);
                return Ok(None);
            }
            Outcome::Skipped | Outcome::Taken { .. } => return Ok(None),
        };
        self.compare(record, guid, size);
        self.link(record, &guid)?;
        Ok(Some(guid))
    }

    fn link(&mut self, record: &RecordKey, guid: &Guid) -> Result<(), SnapshotError> {
        self.run.hard_links += 1;
        self.linked_to = self.linked_to.max(record.uid.0);
        let mtime = record.internaldate.secs;
        Ok(self.run.store.writer.hard_link(&self.dir, record.uid, guid, mtime)?)
    }

    /// Reads a large message a second time, into the segment; `false` if that gave something
    /// else than the first time.
    fn copy_large(
        &mut self,
        record: &RecordKey,
        guid: Guid,
        size: u64,
    ) -> Result<bool, SnapshotError> {
        let Ok(mut file) = self.run.messages.open(self.at, record) else { return Ok(false) };
        Ok(self.run.store.copy(guid, size, record.internaldate.secs, &mut file)?)
    }

    /// Compares what was read with what the record says.
    fn compare(&mut self, record: &RecordKey, guid: Guid, size: u64) {
        let uid = record.uid.0;
        if !record.guid.is_zero() && guid != record.guid {
            let detail = format!("the record says {}, its bytes hash to {guid}", record.guid);
            let finding = Finding::new(FindingKind::GuidMismatch, &self.name, detail);
            self.run.report(finding.at_uid(uid));
        } else if size != record.size {
            let detail = format!("the record says {} bytes, the file has {size}", record.size);
            let finding = Finding::new(FindingKind::SizeMismatch, &self.name, detail);
            self.run.report(finding.at_uid(uid));
        }
    }

    fn report_unread(&mut self, record: &RecordKey, error: &io::Error) {
        let missing = error.kind() == io::ErrorKind::NotFound;
        if missing && self.is_gone_since(record) {
            return;
        }
        let finding = if missing {
            Finding::new(FindingKind::MessageMissing, &self.name, "its file is not there")
        } else {
            let detail = format!("its file cannot be read: {error}");
            Finding::new(FindingKind::MessageUnreadable, &self.name, detail)
        };
        self.run.report(finding.at_uid(record.uid.0));
    }

    /// Whether the index, as it is by now, no longer lists the message. Only Cyrus 2.3 lets a
    /// cleanup run meanwhile; elsewhere a lock holds it back and the answer is no.
    fn is_gone_since(&self, record: &RecordKey) -> bool {
        let Ok(Some(now)) = self.run.messages.index_now(self.at) else { return false };
        let files = BTreeMap::from([("cyrus.index".to_owned(), now)]);
        let records = Records::read(&files);
        !records.linked().any(|now| now.uid == record.uid)
    }
}
