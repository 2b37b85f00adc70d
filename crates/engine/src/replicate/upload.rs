//! Messages on their way to a replica.

use std::collections::{BTreeMap, HashMap, HashSet};

use csync::command::{Apply, Reserve};
use csync::framer::FileHead;
use csync::untagged::Untagged;
use cyrus_format::index::RecordKey;
use model::{Finding, FindingKind, Guid, MboxName, Partition, Record};
use peer::SessionError;

use crate::fetch::{Action, Job, Outcome, Reading, Work, fetch};
use crate::ports::{MessageSource, Monitor, Peer};

/// GUIDs of one RESERVE; Cyrus sends one more.
const RESERVE_MAX: usize = 8192;

/// Messages of one command, as Cyrus sends them, and about as many bytes: what is answered in one
/// piece has to be done before the replica's silence is too long.
pub const FILES_MAX: usize = 1024;
pub const BYTES_MAX: u64 = 64 << 20;

/// What the replica has at hand in this run, by the partition where it lies.
#[derive(Debug, Default)]
pub struct Staged {
    there: HashMap<Partition, HashSet<Guid>>,
}

impl Staged {
    /// Whether nothing is there that the replica would have to forget.
    pub fn is_empty(&self) -> bool {
        self.there.is_empty()
    }

    /// Whether a message is there.
    pub fn has(&self, partition: &Partition, guid: &Guid) -> bool {
        self.there.get(partition).is_some_and(|guids| guids.contains(guid))
    }

    /// Takes note of a message that was sent otherwise.
    pub fn insert(&mut self, partition: &Partition, guid: Guid) {
        self.there.entry(partition.clone()).or_default().insert(guid);
    }

    /// Has the replica look for messages in these of its mailboxes.
    ///
    /// # Errors
    /// If it cannot be asked.
    pub fn reserve(
        &mut self,
        wanted: &BTreeMap<Partition, Vec<Guid>>,
        mailboxes: &[MboxName],
        peer: &mut dyn Peer,
    ) -> Result<(), SessionError> {
        for (partition, guids) in wanted {
            for guids in guids.chunks(RESERVE_MAX) {
                let reserve = Apply::Reserve(Reserve {
                    partition: partition.clone(),
                    mailboxes: mailboxes.to_vec(),
                    guids: guids.to_vec(),
                });
                let mut missing = HashSet::new();
                for told in peer.apply(&reserve)? {
                    if let Untagged::Missing(guids) = told {
                        missing.extend(guids);
                    }
                }
                for guid in guids.iter().filter(|guid| !missing.contains(*guid)) {
                    self.insert(partition, *guid);
                }
            }
        }
        Ok(())
    }

    /// Sends those of a mailbox's messages that are not there yet. Returns what is wrong with them:
    /// then some are missing, and the mailbox must not refer to them.
    ///
    /// # Errors
    /// If the replica does not take them.
    pub fn send(
        &mut self,
        mailbox: Sender<'_>,
        records: &[Record],
        peer: &mut dyn Peer,
    ) -> Result<Vec<Finding>, SessionError> {
        let Sender { messages: source, at, workers, .. } = mailbox;
        let reading = Reading { source, mailbox: at, workers, early: None };
        let mut upload = Upload {
            staged: self,
            mailbox,
            peer,
            records: records.iter(),
            queued: HashSet::new(),
            findings: Vec::new(),
            files: 0,
            bytes: 0,
        };
        fetch(&reading, &mut upload)?;
        upload.end()?;
        Ok(upload.findings)
    }
}

/// Where messages come from, and where they go.
#[derive(Clone, Copy)]
pub struct Sender<'s> {
    /// The mailbox's number here.
    pub at: usize,
    /// Its name.
    pub name: &'s MboxName,
    /// Where it lies on the replica.
    pub partition: &'s Partition,
    /// Gives the bytes.
    pub messages: &'s dyn MessageSource,
    /// Watches.
    pub monitor: &'s dyn Monitor,
    /// Threads that read.
    pub workers: usize,
}

struct Upload<'u, 's> {
    staged: &'u mut Staged,
    mailbox: Sender<'s>,
    peer: &'u mut dyn Peer,
    records: std::slice::Iter<'u, Record>,
    /// Those that are being read.
    queued: HashSet<Guid>,
    findings: Vec<Finding>,
    files: usize,
    bytes: u64,
}

impl Work for Upload<'_, '_> {
    type Error = SessionError;

    fn next(&mut self) -> Result<Option<Job>, SessionError> {
        for record in self.records.by_ref() {
            let known = self.staged.has(self.mailbox.partition, &record.guid);
            // What was removed needs no bytes, if only its number is told.
            if record.is_unlinked() || known || !self.queued.insert(record.guid) {
                self.mailbox.monitor.advance(1, 0);
                continue;
            }
            return Ok(Some(Job { record: key_of(record), action: Action::Read }));
        }
        Ok(None)
    }

    fn done(&mut self, job: &Job, outcome: Outcome, bytes: &[u8]) -> Result<(), SessionError> {
        self.mailbox.monitor.advance(1, job.record.size);
        self.mailbox.messages.pass(self.mailbox.at, job.record.uid);
        let record = &job.record;
        match outcome {
            Outcome::Whole { start, end, guid } => {
                let bytes = &bytes[start..end];
                match self.is_as_recorded(record, guid, bytes.len() as u64) {
                    true => self.file(record, &mut &*bytes),
                    false => Ok(()),
                }
            }
            Outcome::Large { size, guid } if self.is_as_recorded(record, guid, size) => {
                match self.mailbox.messages.open(self.mailbox.at, record) {
                    Ok(mut file) => self.file(record, &mut file),
                    Err(error) => self.unread(record, &error),
                }
            }
            // Nobody takes messages early here.
            Outcome::Large { .. } | Outcome::Skipped | Outcome::Taken { .. } => Ok(()),
            Outcome::Failed(error) => self.unread(record, &error),
        }
    }
}

impl Upload<'_, '_> {
    fn file(
        &mut self,
        record: &RecordKey,
        bytes: &mut dyn std::io::Read,
    ) -> Result<(), SessionError> {
        // Larger ones were refused when the plan was made.
        let size = u32::try_from(record.size).unwrap_or(u32::MAX);
        let partition = self.mailbox.partition.clone();
        self.peer.message(&FileHead { partition, guid: record.guid, size }, bytes)?;
        self.staged.insert(self.mailbox.partition, record.guid);
        self.files += 1;
        self.bytes += record.size;
        if self.files >= FILES_MAX || self.bytes >= BYTES_MAX {
            self.end()?;
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), SessionError> {
        (self.files, self.bytes) = (0, 0);
        self.peer.end_messages()
    }

    /// Other bytes than the record says are not sent: Cyrus 3.6 dies of them.
    fn is_as_recorded(&mut self, record: &RecordKey, guid: Guid, size: u64) -> bool {
        let (kind, detail) = if guid != record.guid {
            let detail = format!("the record says {}, its bytes hash to {guid}", record.guid);
            (FindingKind::GuidMismatch, detail)
        } else if size != record.size {
            let detail = format!("the record says {} bytes, the file has {size}", record.size);
            (FindingKind::SizeMismatch, detail)
        } else {
            return true;
        };
        self.report(record, kind, &detail);
        false
    }

    fn unread(&mut self, record: &RecordKey, error: &std::io::Error) -> Result<(), SessionError> {
        match error.kind() {
            // It is told without its bytes.
            std::io::ErrorKind::NotFound if record.is_expunged() => {}
            std::io::ErrorKind::NotFound => {
                self.report(record, FindingKind::MessageMissing, "its file is not there");
            }
            _ => {
                let detail = format!("its file cannot be read: {error}");
                self.report(record, FindingKind::MessageUnreadable, &detail);
            }
        }
        Ok(())
    }

    fn report(&mut self, record: &RecordKey, kind: FindingKind, detail: &str) {
        let finding = Finding::new(kind, self.mailbox.name, detail).at_uid(record.uid.0);
        self.mailbox.monitor.finding(&finding);
        self.findings.push(finding);
    }
}

/// A record as messages are asked for.
pub fn key_of(record: &Record) -> RecordKey {
    RecordKey {
        uid: record.uid,
        guid: record.guid,
        system_flags: record.system_flags,
        size: record.size,
        internaldate: record.internaldate,
    }
}
