//! Whether a message that looked wrong is: decided with its file in hand, opened while its mailbox was
//! held.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;

use model::{Finding, FindingKind, MboxName, Record, Timestamp, Uid};

use super::Issue;
use super::custody::{
    Custody, FLIPPED_MAX, Found, Nature, Place, Recorded, detail, kind, nature_of,
};
use super::dissection::Dissection;
use super::subject::Subject;
use crate::ports::Pace;
use crate::records::Records;

/// A message or file that looked wrong.
pub(super) struct Suspect {
    uid: Uid,
    path: PathBuf,
    /// What its record says now, if it has one.
    record: Option<Record>,
    file: io::Result<File>,
}

impl Suspect {
    /// Takes up a message of a mailbox that is held; `None` if nothing can be wrong with it any more.
    pub fn open(subject: &Subject, records: &Records<'_>, uid: Uid) -> Option<Self> {
        let record = records.record(uid);
        // Above the last UID are messages that came since. Without an index, none is an orphan.
        let is_new = records.last_uid().is_none_or(|last| uid > last);
        if record.as_ref().map_or(is_new, Record::is_unlinked) {
            return None;
        }
        let archived = record.as_ref().is_some_and(Record::is_archived);
        let file = subject.frozen.open_message(uid, archived);
        let is_missing = file.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
        if record.is_none() && is_missing {
            return None;
        }
        Some(Self { uid, path: subject.frozen.path_of(uid), record, file })
    }

    /// What is wrong with it, if anything is.
    pub fn judge(self, mailbox: &MboxName, pace: &dyn Pace) -> Option<Issue> {
        let finding = |kind, detail: &str| {
            Some(Issue::from(Finding::new(kind, mailbox, detail).at_uid(self.uid.0)))
        };
        let Some(record) = &self.record else {
            return finding(FindingKind::OrphanFile, "no record names it");
        };
        let unreadable = |error: &io::Error| {
            finding(FindingKind::MessageUnreadable, &format!("its file cannot be read: {error}"))
        };
        let file = match &self.file {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let recorded = Recorded::of(record);
                return Some(self.report(mailbox, recorded, None, Nature::Missing));
            }
            Err(error) => return unreadable(error),
        };
        let metadata = match file.metadata() {
            Ok(metadata) if metadata.is_file() => metadata,
            Ok(_) => {
                return finding(FindingKind::MessageUnreadable, "what has its name is no file");
            }
            Err(error) => return unreadable(&error),
        };
        let recorded = Recorded::of(record);
        let read = file.try_clone().and_then(|own| Dissection::of(own, record.size, pace));
        let read = match read {
            Ok(read) => read,
            Err(error) => return unreadable(&error),
        };
        let has_guid = recorded.guid.is_zero() || recorded.guid == read.guid;
        if has_guid && recorded.size == read.size {
            return None;
        }
        let bytes = bytes_of(file, &read);
        let nature = match recorded.guid.is_zero() {
            // Nobody knows the bytes.
            true => Nature::WrongSize,
            false => nature_of(&recorded, &read, bytes.as_deref()),
        };
        let found = found(&metadata, &read);
        Some(self.report(mailbox, recorded, Some(found), nature))
    }

    fn report(
        &self,
        mailbox: &MboxName,
        recorded: Recorded,
        found: Option<Found>,
        nature: Nature,
    ) -> Issue {
        let custody = Custody {
            place: Place { mailbox: mailbox.clone(), uid: self.uid },
            path: self.path.clone(),
            recorded,
            found,
            nature,
            found_as: Vec::new(),
            links: Vec::new(),
            other_names: Vec::new(),
            copies: Vec::new(),
            difference: None,
        };
        let finding = Finding::new(kind(&nature), mailbox, detail(&custody)).at_uid(self.uid.0);
        Issue { finding, custody: Some(Box::new(custody)) }
    }
}

/// The bytes of a short message, in which a flipped bit can be looked for.
fn bytes_of(file: &File, read: &Dissection) -> Option<Vec<u8>> {
    let size = usize::try_from(read.size).ok().filter(|_| read.size <= FLIPPED_MAX)?;
    let mut bytes = vec![0; size];
    file.read_exact_at(&mut bytes, 0).ok()?;
    Some(bytes)
}

fn found(metadata: &Metadata, read: &Dissection) -> Found {
    let time = |secs, nanos: i64| Timestamp { secs, nanos: u32::try_from(nanos).unwrap_or(0) };
    Found {
        guid: read.guid,
        size: read.size,
        inode: (metadata.dev(), metadata.ino()),
        links: metadata.nlink(),
        modified: time(metadata.mtime(), metadata.mtime_nsec()),
        changed: time(metadata.ctime(), metadata.ctime_nsec()),
    }
}
