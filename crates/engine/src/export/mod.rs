//! Export: an account's messages written as files, in one of several forms.
//!
//! It reads from the same kind of source as a snapshot does, so a stored snapshot and a live
//! account are given out by the same code.

mod maildir;
mod mbox;
mod spool;

use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use cyrus_format::header::MailboxHeader;
use cyrus_format::index::RecordKey;
use model::{Finding, FindingKind, Guid, Record};

pub use self::spool::{Layout, SpoolOptions};
use crate::fetch::{Action, Job, Outcome, Reading, Work, fetch, read_message};
use crate::folder::relative_name;
use crate::ports::{MessageSource, Monitor};
use crate::records::Records;
use crate::source::{SourceAccount, SourceMailbox};

/// Where exported files go. Paths are relative and made of safe components; nothing that exists
/// is ever replaced.
pub trait Tree {
    /// Makes a directory and those above it; one that exists is fine.
    fn dir(&mut self, path: &Path) -> io::Result<()>;

    /// Makes a file of these bytes; `mtime` in seconds since 1970.
    fn file(&mut self, path: &Path, mtime: i64, bytes: &[u8]) -> io::Result<()>;

    /// Makes a file of all that `bytes` gives.
    fn copy(&mut self, path: &Path, mtime: i64, bytes: &mut dyn Read) -> io::Result<()>;

    /// Adds to a file made before.
    fn append(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()>;

    /// Gives a file made before a second name.
    fn link(&mut self, existing: &Path, path: &Path) -> io::Result<()>;

    /// Makes a symbolic link.
    fn symlink(&mut self, target: &Path, path: &Path) -> io::Result<()>;

    /// A directory of this tree in which several threads at a time can make files; `None` where
    /// files are made one behind the other.
    fn files(&mut self, dir: &Path) -> io::Result<Option<Arc<dyn Files>>> {
        let _ = dir;
        Ok(None)
    }
}

/// A directory in which several threads at a time make files.
pub trait Files: Send + Sync {
    /// Makes a file of these bytes; `mtime` in seconds since 1970. Nothing that exists is replaced.
    fn file(&self, name: &str, mtime: i64, bytes: &[u8]) -> io::Result<()>;
}

/// The forms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// A Cyrus spool and configuration directory.
    Spool(SpoolOptions),
    /// The same without messages, and without an imapd.conf: nothing can be served from it.
    Metadata(SpoolOptions),
    /// Maildir++.
    Maildir,
    /// One mbox file a folder.
    Mbox,
}

/// How to export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// The instant of the snapshot, seconds since 1970: the date of files that have none.
    pub taken_at: i64,
    /// Threads that read messages ahead; at least one.
    pub workers: usize,
    /// What becomes of expunged messages whose files were kept.
    pub expunged: Expunged,
}

/// What becomes of messages that clients no longer see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expunged {
    /// Forms that can say that they are expunged have them, others do not.
    WhereMarked,
    /// Every form has them: they were asked for one by one.
    Wanted,
}

/// What was written.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Mailboxes.
    pub mailboxes: u64,
    /// Messages.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What could not be given back as it should.
    pub findings: Vec<Finding>,
}

/// Why an export ended early.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// A file could not be written.
    #[error("cannot write {what}")]
    Write {
        /// The message, mailbox or file.
        what: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The spool cannot be laid out as asked.
    #[error("cannot lay out {what}: {why}")]
    Layout {
        /// The mailbox or file.
        what: String,
        /// Why not.
        why: String,
    },
}

/// Writes all of `account` into `tree`.
pub fn export(
    account: &SourceAccount,
    messages: &dyn MessageSource,
    form: &Form,
    tree: &mut dyn Tree,
    options: &Options,
    monitor: &dyn Monitor,
) -> Result<Summary, ExportError> {
    let run = Run { account, messages, options, monitor, summary: Summary::default() };
    match form {
        Form::Spool(layout) | Form::Metadata(layout) => {
            let content = match form {
                Form::Metadata(_) => spool::Content::Metadata,
                _ => spool::Content::All,
            };
            let mut spool = spool::Spool::new(tree, account, layout, content, options.taken_at)?;
            let summary = run.mailboxes(&mut spool)?;
            spool.finish()?;
            Ok(summary)
        }
        Form::Maildir => run.mailboxes(&mut maildir::Maildir::new(tree)),
        Form::Mbox => run.mailboxes(&mut mbox::Mbox::new(tree)),
    }
}

/// One form of export.
trait Exporter {
    /// Whether messages that clients no longer see can be told from others.
    fn marks_expunged(&self) -> bool;

    /// Whether messages are wanted at all.
    fn wants_messages(&self) -> bool {
        true
    }

    /// A mailbox begins.
    fn begin(&mut self, folder: &FolderInfo<'_>) -> io::Result<()>;

    /// One of its messages.
    fn message(&mut self, record: &Record, guid: Guid, body: Body<'_>) -> io::Result<()>;

    /// What puts messages of this mailbox in their place as soon as they are read, if the form
    /// leaves it to no order.
    fn taker(&self) -> Option<Taker> {
        None
    }

    /// Whether a message can be given [again](Self::again).
    fn can_repeat(&self, _record: &RecordKey, _guid: Guid) -> bool {
        false
    }

    /// A message of these bytes is going to be given, or taken; it can be given again then.
    fn expect(&mut self, _record: &RecordKey, _guid: Guid) {}

    /// One whose bytes were given before; `false` if they are needed once more.
    fn again(&mut self, _record: &Record, _guid: Guid) -> io::Result<bool> {
        Ok(false)
    }

    /// The mailbox ends.
    fn end(&mut self) -> io::Result<()>;
}

/// Puts a message in its place.
type Taker = Box<dyn Fn(&RecordKey, &[u8]) -> io::Result<()> + Send + Sync>;

/// A mailbox as exporters see it.
struct FolderInfo<'a> {
    at: usize,
    account: &'a SourceAccount,
    mailbox: &'a SourceMailbox,
    flag_names: &'a [Option<Vec<u8>>],
    taken_at: i64,
}

impl FolderInfo<'_> {
    /// `INBOX`, `INBOX.Sent`; the whole name for what lies elsewhere.
    fn relative_name(&self) -> Vec<u8> {
        relative_name(self.mailbox.name.as_bytes(), self.account.userid.as_bytes())
    }
}

/// The bytes of one message.
enum Body<'a> {
    Whole(&'a [u8]),
    Large { size: u64, reader: &'a mut dyn Read },
}

impl Body<'_> {
    fn size(&self) -> u64 {
        match self {
            Body::Whole(bytes) => bytes.len() as u64,
            Body::Large { size, .. } => *size,
        }
    }

    fn write_to(self, tree: &mut dyn Tree, path: &Path, mtime: i64) -> io::Result<()> {
        match self {
            Body::Whole(bytes) => tree.file(path, mtime, bytes),
            Body::Large { reader, .. } => tree.copy(path, mtime, reader),
        }
    }

    fn read_to_end(self, out: &mut Vec<u8>) -> io::Result<()> {
        match self {
            Body::Whole(bytes) => out.extend_from_slice(bytes),
            Body::Large { reader, .. } => {
                reader.read_to_end(out)?;
            }
        }
        Ok(())
    }
}

/// What an export reads from and reports to.
struct Run<'a> {
    account: &'a SourceAccount,
    messages: &'a dyn MessageSource,
    options: &'a Options,
    monitor: &'a dyn Monitor,
    summary: Summary,
}

impl Run<'_> {
    fn mailboxes(mut self, exporter: &mut dyn Exporter) -> Result<Summary, ExportError> {
        for at in 0..self.account.mailboxes.len() {
            self.mailbox(at, exporter)?;
        }
        Ok(self.summary)
    }

    fn mailbox(&mut self, at: usize, exporter: &mut dyn Exporter) -> Result<(), ExportError> {
        let mailbox = &self.account.mailboxes[at];
        let records = Records::read(&mailbox.files);
        let header = mailbox.files.get("cyrus.header");
        let header = header.and_then(|bytes| MailboxHeader::parse(bytes).ok());
        let flag_names = header.map(|header| header.user_flags).unwrap_or_default();
        let write = |source| ExportError::Write { what: mailbox.name.to_string(), source };
        let folder = FolderInfo {
            at,
            account: self.account,
            mailbox,
            flag_names: &flag_names,
            taken_at: self.options.taken_at,
        };
        exporter.begin(&folder).map_err(write)?;
        let expunged = exporter.marks_expunged() || self.options.expunged == Expunged::Wanted;
        let wanted = |record: &RecordKey| expunged || !record.is_expunged();
        if exporter.wants_messages() {
            self.monitor.expect(records.linked().filter(wanted).count() as u64);
            let taker = exporter.taker();
            // What is damaged, or may be, is left to its turn.
            let early = |job: &Job, guid: Guid, bytes: &[u8]| {
                let is_right = mailbox.content_of(&job.record) == Some(guid);
                Some(taker.as_ref().filter(|_| is_right)?(&job.record, bytes))
            };
            let (source, workers) = (self.messages, self.options.workers);
            let reading = Reading { source, mailbox: at, workers, early: Some(&early) };
            let jobs = records.linked().filter(wanted);
            let mut folder = Folder { run: self, at, exporter, records: &records, jobs };
            fetch(&reading, &mut folder)?;
        }
        exporter.end().map_err(write)?;
        self.summary.mailboxes += 1;
        Ok(())
    }

    fn report(&mut self, finding: Finding) {
        self.monitor.finding(&finding);
        self.summary.findings.push(finding);
    }
}

/// One mailbox on its way out.
struct Folder<'r, 'a, J> {
    run: &'r mut Run<'a>,
    at: usize,
    exporter: &'r mut dyn Exporter,
    records: &'r Records<'r>,
    jobs: J,
}

impl<J: Iterator<Item = RecordKey>> Work for Folder<'_, '_, J> {
    type Error = ExportError;

    fn next(&mut self) -> Result<Option<Job>, ExportError> {
        let Some(record) = self.jobs.next() else { return Ok(None) };
        let guid = self.run.account.mailboxes[self.at].content_of(&record);
        // A copy lies anywhere in an archive; to read it would cost more than all around it.
        let action = match guid.filter(|guid| self.exporter.can_repeat(&record, *guid)) {
            Some(guid) => Action::Carry(guid),
            None => Action::Read,
        };
        if let (Action::Read, Some(guid)) = (action, guid) {
            self.exporter.expect(&record, guid);
        }
        Ok(Some(Job { record, action }))
    }

    fn done(&mut self, job: &Job, outcome: Outcome, bytes: &[u8]) -> Result<(), ExportError> {
        let size = match outcome {
            Outcome::Skipped => self.repeat(job)?,
            outcome => self.take(job, outcome, bytes)?,
        };
        self.run.monitor.advance(1, size);
        Ok(())
    }
}

impl<J> Folder<'_, '_, J> {
    /// Hands on what was read, and says how much that was.
    fn take(&mut self, job: &Job, outcome: Outcome, bytes: &[u8]) -> Result<u64, ExportError> {
        match outcome {
            Outcome::Whole { start, end, guid } => {
                let body = &bytes[start..end];
                self.give(job, guid, body.len() as u64, Body::Whole(body))
            }
            Outcome::Large { size, guid } => self.read_large(job, guid, size),
            Outcome::Taken { size, taken } => {
                taken.map_err(|source| self.cannot_write(job, source))?;
                Ok(self.given(size))
            }
            Outcome::Failed(error) => Ok(self.unread(job, &error)),
            Outcome::Skipped => Ok(0),
        }
    }

    /// Counts a message that was handed on.
    fn given(&mut self, size: u64) -> u64 {
        self.run.summary.messages += 1;
        self.run.summary.bytes += size;
        size
    }

    /// Hands a message on, unless its bytes are not what the source says they are.
    fn give(
        &mut self,
        job: &Job,
        guid: Guid,
        size: u64,
        body: Body<'_>,
    ) -> Result<u64, ExportError> {
        let mailbox = &self.run.account.mailboxes[self.at];
        let expected = mailbox.content_of(&job.record);
        if expected.is_some_and(|expected| expected != guid) {
            let place = self.run.messages.place(self.at, &job.record);
            let detail = format!("{place} is damaged: its bytes hash to {guid}; not restored");
            let finding = Finding::new(FindingKind::ArchiveDamaged, &mailbox.name, detail);
            self.run.report(finding.at_uid(job.record.uid.0));
            return Ok(size);
        }
        let record = self.records.record(job.record.uid).unwrap_or_default();
        let given = self.exporter.message(&record, guid, body);
        given.map_err(|source| self.cannot_write(job, source))?;
        Ok(self.given(size))
    }

    fn read_large(&mut self, job: &Job, guid: Guid, size: u64) -> Result<u64, ExportError> {
        match self.run.messages.open(self.at, &job.record) {
            Ok(mut reader) => self.give(job, guid, size, Body::Large { size, reader: &mut reader }),
            Err(error) => Ok(self.unread(job, &error)),
        }
    }

    /// Hands on a message whose bytes were written before.
    fn repeat(&mut self, job: &Job) -> Result<u64, ExportError> {
        let Action::Carry(guid) = job.action else { return Ok(0) };
        let record = self.records.record(job.record.uid).unwrap_or_default();
        if self.exporter.again(&record, guid).map_err(|source| self.cannot_write(job, source))? {
            return Ok(self.given(job.record.size));
        }
        let mut bytes = Vec::new();
        let outcome = read_message(self.run.messages, self.at, &job.record, &mut bytes)
            .unwrap_or_else(Outcome::Failed);
        self.take(job, outcome, &bytes)
    }

    fn cannot_write(&self, job: &Job, source: io::Error) -> ExportError {
        let mailbox = &self.run.account.mailboxes[self.at].name;
        ExportError::Write { what: format!("message {} of {mailbox}", job.record.uid), source }
    }

    fn unread(&mut self, job: &Job, error: &io::Error) -> u64 {
        let name = &self.run.account.mailboxes[self.at].name;
        let finding = if error.kind() == io::ErrorKind::NotFound {
            Finding::new(FindingKind::MessageMissing, name, "the snapshot has no bytes of it")
        } else {
            let place = self.run.messages.place(self.at, &job.record);
            Finding::new(FindingKind::ArchiveDamaged, name, format!("{place}: {error}"))
        };
        self.run.report(finding.at_uid(job.record.uid.0));
        0
    }
}
