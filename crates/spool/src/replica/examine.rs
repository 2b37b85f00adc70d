//! Whether a replica is whole: what a Cyrus that gets it would lack.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;

use cyrus_format::header::file_crc;
use cyrus_format::index::Index;
use cyrus_format::mboxlist::MailboxEntry;
use model::{Finding, FindingKind, MboxName, Record};
use rustix::fs::{self, AtFlags, FileType};
use rustix::io::Errno;

use super::contents::{HEADER, INDEX};
use super::error::{ReplicaError, Result};
use super::revision::Sums;
use super::{State, list};

/// How much of each message is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Whether its file is there, and how long it is.
    Sizes,
    /// All of its bytes.
    Bytes,
}

/// What was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Examined {
    /// Mailboxes.
    pub mailboxes: u64,
    /// Of these, the ones that hold sieve scripts.
    pub sieve_mailboxes: u64,
    /// Messages whose files should be there, expunged ones included.
    pub messages: u64,
    /// What they have together, in bytes.
    pub bytes: u64,
}

impl State {
    /// Compares each mailbox with its records, and those with their files. What is wrong is told, one
    /// by one.
    pub fn examine(&self, depth: Depth, tell: &mut dyn FnMut(Finding)) -> Examined {
        for error in &self.damaged {
            let (kind, place) = match error {
                ReplicaError::Vanished { mailbox, .. } => {
                    (FindingKind::MailboxMissing, mailbox.to_string())
                }
                _ => (FindingKind::MailboxDamaged, self.files.disk.path().display().to_string()),
            };
            tell(Finding::new(kind, place, error.explained()));
        }
        let mut examination = Examination { state: self, depth, tell, done: Examined::default() };
        for entry in self.list.entries().filter(|entry| entry.mbtype.has_data()) {
            if let Err(error) = examination.mailbox(entry) {
                let detail = error.explained();
                (examination.tell)(Finding::new(FindingKind::MailboxDamaged, &entry.name, detail));
            }
        }
        examination.accounts();
        examination.done
    }
}

struct Examination<'a> {
    state: &'a State,
    depth: Depth,
    tell: &'a mut dyn FnMut(Finding),
    done: Examined,
}

impl Examination<'_> {
    fn mailbox(&mut self, entry: &MailboxEntry) -> Result<()> {
        let (name, dir) = (&entry.name, list::dir_of(entry)?);
        self.done.mailboxes += 1;
        self.done.sieve_mailboxes += u64::from(entry.mbtype.kind == b'f');
        let contents = self.state.files.contents(entry)?;
        let bytes = self.state.files.disk.read(&dir.join(INDEX))?.unwrap_or_default();
        let index = Index::parse(&bytes).map_err(super::contents::damaged(&dir.join(INDEX)))?;
        for problem in index.problems() {
            (self.tell)(problem.finding(name));
        }
        let header = self.state.files.disk.read(&dir.join(HEADER))?.unwrap_or_default();
        if file_crc(&header) != contents.index.header_file_crc {
            let detail = "it is not the one that the index was written with";
            (self.tell)(Finding::new(FindingKind::HeaderCrc, name, detail));
        }
        let missing = || ReplicaError::NoSuchMailbox(name.clone());
        let opened = self.state.files.disk.dir(&dir)?.ok_or_else(missing)?;
        let (mut sums, flags) = (Sums::default(), contents.header.flag_crcs());
        for record in &self.state.files.records(entry)? {
            let record = record?;
            sums.add(&record, &flags, contents.notes_of(record.uid));
            if record.is_unlinked() {
                continue;
            }
            self.done.messages += 1;
            self.done.bytes += record.size;
            if let Some((kind, detail)) = self.message(entry, &opened, &record) {
                (self.tell)(Finding::new(kind, name, detail).at_uid(record.uid.0));
            }
        }
        if !sums.are_of(&contents.index) {
            let detail = "its header does not say what its records do";
            (self.tell)(Finding::new(FindingKind::IndexCounters, name, detail));
        }
        Ok(())
    }

    /// What is wrong with a message's file.
    fn message(
        &self,
        entry: &MailboxEntry,
        dir: &OwnedFd,
        record: &Record,
    ) -> Option<(FindingKind, String)> {
        use FindingKind::{GuidMismatch, MessageMissing, MessageUnreadable, SizeMismatch};
        let stat = match fs::statat(dir, format!("{}.", record.uid), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Some((MessageMissing, "its file is not there".to_owned())),
            Err(error) => return Some((MessageUnreadable, error.to_string())),
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Some((MessageUnreadable, "what has its name is no file".to_owned()));
        }
        if u64::try_from(stat.st_size) != Ok(record.size) {
            let sizes = format!("the record says {}, the file has {}", record.size, stat.st_size);
            return Some((SizeMismatch, format!("{sizes} bytes")));
        }
        if self.depth == Depth::Sizes {
            return None;
        }
        match self.state.files.message(entry, record.uid, record.guid) {
            Ok(Some((_, Some(_)))) => None,
            Ok(_) => Some((GuidMismatch, format!("its bytes are not those of {}", record.guid))),
            Err(error) => Some((MessageUnreadable, error.explained())),
        }
    }

    /// Looks at what belongs to accounts as wholes.
    fn accounts(&mut self) {
        let names = self.state.list.entries().map(|entry| &entry.name);
        let owners: BTreeSet<_> = names.filter_map(|name: &MboxName| list::owner(name)).collect();
        for owner in &owners {
            let home = self.state.home(owner);
            let read =
                [home.subscriptions().map(drop), home.seen().map(drop), home.scripts().map(drop)];
            for error in read.into_iter().filter_map(Result::err) {
                let detail = error.explained();
                (self.tell)(Finding::new(FindingKind::MetadataUnreadable, owner, detail));
            }
        }
    }
}
