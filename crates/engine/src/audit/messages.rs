//! The messages of a mailbox against their records: first what the system says of the files, then
//! their bytes.

use std::collections::{BTreeSet, HashMap};
use std::convert::Infallible;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

use cyrus_format::index::RecordKey;
use model::{Finding, FindingKind, Guid, Uid};
use spool::staging::Inode;
use spool::{FrozenMailbox, MessageStat};

use super::subject::Subject;
use super::{Depth, Name, Options};
use crate::fetch::{Action, Job, Outcome, Reading, Work, fetch};
use crate::ports::{MessageSource, Monitor, Pace};
use crate::records::Records;

/// What a look at the messages of a mailbox gave.
#[derive(Default)]
pub(super) struct Looked {
    /// Messages and files that are to be looked at again.
    pub suspects: BTreeSet<Uid>,
    /// Messages whose files should be there.
    pub messages: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// Messages whose GUID nobody knows.
    pub unknown: u64,
    /// Names of files that have others.
    pub names: Vec<Name>,
    /// That the directory cannot be listed.
    pub unlisted: Option<Finding>,
}

/// Looks at all of them. `hashed` has the files with several names that were read before.
pub(super) fn look(
    subject: &Subject,
    records: &Records<'_>,
    options: &Options<'_>,
    hashed: &mut HashMap<Inode, Guid>,
    monitor: &dyn Monitor,
) -> Looked {
    let stats = match subject.frozen.stat_messages() {
        Ok(stats) => stats,
        Err(error) => {
            let detail = format!("its directory cannot be listed: {error}");
            let unlisted = Finding::new(FindingKind::MessageUnreadable, &subject.name, detail);
            return Looked { unlisted: Some(unlisted), ..Looked::default() };
        }
    };
    let mut looked = compare(records, &stats);
    let names = stats.iter().filter(|stat| stat.links > 1 && stat.is_file);
    looked.names = names
        .map(|stat| Name { inode: stat.inode, links: stat.links, mailbox: 0, uid: stat.uid })
        .collect();
    monitor.expect(looked.messages);
    if options.depth == Depth::Quick {
        monitor.advance(looked.messages, 0);
        return looked;
    }
    let source = Source { mailbox: &subject.frozen, pace: options.pace };
    // Most are what they should be, and need not be handed over.
    let early = |job: &Job, found: Guid, bytes: &[u8]| {
        is_right(&job.record, found, bytes.len() as u64).then_some(Ok(()))
    };
    let early = Some(&early as &crate::fetch::Early<'_>);
    let reading = Reading { source: &source, mailbox: 0, workers: options.workers, early };
    let mut hashing = Hashing {
        records: records.linked(),
        stats: &stats,
        at: 0,
        looked: &mut looked,
        hashed,
        monitor,
    };
    match fetch(&reading, &mut hashing) {
        Ok(()) => {}
        Err(never) => match never {},
    }
    looked
}

/// Whether bytes are those of the record, as far as it knows.
pub(super) fn is_right(record: &RecordKey, found: Guid, size: u64) -> bool {
    (record.guid.is_zero() || record.guid == found) && record.size == size
}

/// Compares records with what the system says of the files.
fn compare(records: &Records<'_>, stats: &[MessageStat]) -> Looked {
    let mut looked = Looked::default();
    let mut stats = stats.iter().peekable();
    for record in records.iter() {
        while let Some(orphan) = stats.next_if(|stat| stat.uid < record.uid) {
            looked.suspects.insert(orphan.uid);
        }
        let stat = stats.next_if(|stat| stat.uid == record.uid);
        // Cleanup unlinks a file some time after its record says that it has.
        if record.is_unlinked() {
            continue;
        }
        looked.messages += 1;
        looked.unknown += u64::from(record.guid.is_zero());
        if !stat.is_some_and(|stat| stat.is_file && stat.size == record.size) {
            looked.suspects.insert(record.uid);
        }
    }
    // Above the last UID are messages that came since. Without an index, none is an orphan.
    let last = records.last_uid();
    let orphans = stats.map(|stat| stat.uid).filter(|uid| last.is_some_and(|last| *uid <= last));
    looked.suspects.extend(orphans);
    looked
}

/// Reads messages and compares them with their records.
struct Hashing<'h, R> {
    records: R,
    stats: &'h [MessageStat],
    /// Those before belong to messages that were given out.
    at: usize,
    looked: &'h mut Looked,
    hashed: &'h mut HashMap<Inode, Guid>,
    monitor: &'h dyn Monitor,
}

impl<R> Hashing<'_, R> {
    /// The file of a message, if it has several names.
    fn linked(&self, uid: Uid) -> Option<&MessageStat> {
        let at = self.stats.binary_search_by_key(&uid, |stat| stat.uid).ok()?;
        self.stats.get(at).filter(|stat| stat.links > 1)
    }

    fn judge(&mut self, record: &RecordKey, found: Guid, size: u64) {
        self.looked.bytes += size;
        if !is_right(record, found, size) {
            self.looked.suspects.insert(record.uid);
        } else if let Some(inode) = self.linked(record.uid).map(|stat| stat.inode) {
            self.hashed.insert(inode, found);
        }
    }
}

impl<R: Iterator<Item = RecordKey>> Work for Hashing<'_, R> {
    type Error = Infallible;

    fn next(&mut self) -> Result<Option<Job>, Infallible> {
        for record in self.records.by_ref() {
            if self.looked.suspects.contains(&record.uid) {
                self.monitor.advance(1, 0);
                continue;
            }
            while self.stats.get(self.at).is_some_and(|stat| stat.uid < record.uid) {
                self.at += 1;
            }
            let stat = self.stats.get(self.at).filter(|stat| stat.uid == record.uid);
            let known = stat.filter(|stat| stat.links > 1);
            let known = known.and_then(|stat| self.hashed.get(&stat.inode));
            // A file that was read under another name need not be read again.
            if known.is_some_and(|known| is_right(&record, *known, record.size)) {
                self.monitor.advance(1, 0);
                continue;
            }
            return Ok(Some(Job { record, action: Action::Read }));
        }
        Ok(None)
    }

    fn done(&mut self, job: &Job, outcome: Outcome, _bytes: &[u8]) -> Result<(), Infallible> {
        let record = &job.record;
        let mut read = 0;
        match outcome {
            Outcome::Taken { size, .. } => {
                read = size;
                // What a record without a GUID has is not known by now, and nobody needs it.
                self.judge(record, record.guid, size);
            }
            Outcome::Whole { start, end, guid } => {
                read = (end - start) as u64;
                self.judge(record, guid, read);
            }
            Outcome::Large { size, guid } => {
                read = size;
                self.judge(record, guid, size);
            }
            Outcome::Failed(_) => drop(self.looked.suspects.insert(record.uid)),
            Outcome::Skipped => {}
        }
        self.monitor.advance(1, read);
        Ok(())
    }
}

/// The messages of one mailbox.
struct Source<'s> {
    mailbox: &'s FrozenMailbox,
    pace: &'s dyn Pace,
}

impl MessageSource for Source<'_> {
    fn open(&self, _mailbox: usize, record: &RecordKey) -> io::Result<Box<dyn Read + Send + '_>> {
        let file = self.mailbox.open_message(record.uid, record.is_archived())?;
        Ok(Box::new(Paced::new(file, self.pace)))
    }

    fn place(&self, _mailbox: usize, record: &RecordKey) -> String {
        self.mailbox.path_of(record.uid).display().to_string()
    }

    fn list(&self, _mailbox: usize) -> io::Result<Vec<Uid>> {
        self.mailbox.list_messages()
    }

    fn index_now(&self, _mailbox: usize) -> io::Result<Option<Vec<u8>>> {
        self.mailbox.reread_index()
    }
}

/// A file that is read from its start, as fast as it may be.
pub(crate) struct Paced<'p> {
    file: File,
    pace: &'p dyn Pace,
    // Others may read the same open file.
    at: u64,
}

impl<'p> Paced<'p> {
    pub fn new(file: File, pace: &'p dyn Pace) -> Self {
        Self { file, pace, at: 0 }
    }
}

impl Read for Paced<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read_at(buffer, self.at)?;
        self.at += n as u64;
        self.pace.read(n as u64);
        Ok(n)
    }
}
