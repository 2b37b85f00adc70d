//! A stored snapshot as a source, and what archives hold.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::{Mutex, MutexGuard, PoisonError};

use cyrus_format::EncodeError;
use cyrus_format::index::RecordKey;
use model::{Finding, FindingKind, Guid, MboxName, Uid, UniqueId, Userid};
use segment::chain::{Chain, ChainError, Snapshot};
use segment::manifest::{Located, ManifestHead, StoredFinding, StoredMailbox};
use segment::reader::{MessageReader, ReadError, SegmentRef};

use crate::base::read_exceptions;
use crate::exceptions::{self, Exceptions};
use crate::held::Held;
use crate::ports::MessageSource;
use crate::records::Records;
use crate::selection::Selection;
use crate::source::{SourceAccount, SourceFile, SourceMailbox};

/// Why a stored snapshot is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// Its segments do not fit together.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// Something in a segment cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The list of messages with other contents is not one.
    #[error("the list of exceptional messages of {mailbox} cannot be understood")]
    Exceptions {
        /// The mailbox's internal name.
        mailbox: String,
    },
    /// The list of envelopes is not one.
    #[error("the list of envelopes of {account} {seq} cannot be understood")]
    Catalog {
        /// The account's component.
        account: String,
        /// The segment's number.
        seq: u32,
    },
    /// An index cannot be had with some of its records alone.
    #[error("cannot take single messages out of {what}")]
    Cut {
        /// The file, and the mailbox's internal name.
        what: String,
        /// Why not.
        source: EncodeError,
    },
}

/// The messages of a stored snapshot.
pub struct StoredMessages<'a> {
    chain: &'a dyn Held,
    seq: u32,
    contents: Vec<Exceptions>,
    /// Of messages whose first copy is damaged, how many copies to pass over.
    passed: Mutex<BTreeMap<Guid, usize>>,
}

/// Reads a stored snapshot back: all metadata into memory, messages when asked for.
///
/// Of a mailbox from which single messages are wanted, the index lists those alone; where none of
/// them is, there is no such mailbox.
///
/// # Errors
/// Metadata that cannot be read; a damaged message is told when it is read.
pub fn stored<'a>(
    chain: &'a Chain<'_>,
    snapshot: &Snapshot<'_>,
    selection: &Selection,
) -> Result<(SourceAccount, StoredMessages<'a>, ManifestHead), ArchiveError> {
    let head = snapshot.head()?;
    let userid = head.userid.as_bytes();
    let mut mailboxes = Vec::new();
    for mailbox in &head.mailboxes {
        if selection.takes_mailbox(mailbox.name.as_bytes(), userid) {
            mailboxes.extend(selection.cut(stored_mailbox(chain, mailbox)?, userid)?);
        }
    }
    let mut files = Vec::new();
    for file in &head.account_files {
        let bytes = chain.file(file)?;
        let mtime = head.taken_at.unix;
        files.push(SourceFile { name: file.name.clone(), mtime, bytes });
    }
    let contents = mailboxes.iter().map(|mailbox| mailbox.contents.clone()).collect();
    let account = SourceAccount {
        userid: Userid::new(head.userid.as_bytes()),
        cyrus: head.cyrus.era.clone(),
        mailboxes,
        files,
        findings: Vec::new(),
    };
    let (seq, passed) = (snapshot.seq(), Mutex::default());
    Ok((account, StoredMessages { chain, seq, contents, passed }, head))
}

fn stored_mailbox(chain: &dyn Held, stored: &StoredMailbox) -> Result<SourceMailbox, ArchiveError> {
    let mut files = BTreeMap::new();
    for file in stored.files.iter().filter(|file| file.name != exceptions::FILE) {
        files.insert(file.name.clone(), chain.file(file)?);
    }
    Ok(SourceMailbox {
        name: MboxName::new(stored.name.as_bytes()),
        uniqueid: Some(UniqueId::new(stored.uniqueid.as_bytes())).filter(|id| !id.is_empty()),
        partition: stored.partition.as_bytes().to_vec(),
        mbtype: stored.mbtype.clone(),
        deleted: stored.deleted,
        files,
        contents: read_exceptions(chain, stored)?,
        findings: Vec::new(),
    })
}

impl StoredMessages<'_> {
    fn guid(&self, mailbox: usize, record: &RecordKey) -> Option<Guid> {
        self.contents.get(mailbox)?.stored(record.uid, record.guid)
    }

    fn reader(&self, mailbox: usize, record: &RecordKey) -> io::Result<(MessageReader<'_>, Guid)> {
        let guid = self.guid(mailbox, record).ok_or(io::ErrorKind::NotFound)?;
        let found = self.located(&guid).map_err(io::Error::other)?;
        let (segment, located) = found.ok_or(io::ErrorKind::NotFound)?;
        Ok((segment.message_reader(&guid, located).map_err(io::Error::other)?, guid))
    }

    fn passed(&self) -> MutexGuard<'_, BTreeMap<Guid, usize>> {
        self.passed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the copy is that is to be used.
    fn located(&self, guid: &Guid) -> Result<Option<(SegmentRef<'_>, Located)>, ReadError> {
        let passed = self.passed().get(guid).copied().unwrap_or(0);
        self.chain.find(guid, self.seq, passed)
    }
}

impl MessageSource for StoredMessages<'_> {
    fn open(&self, mailbox: usize, record: &RecordKey) -> io::Result<Box<dyn Read + Send + '_>> {
        Ok(Box::new(self.reader(mailbox, record)?.0))
    }

    fn open_unchecked(
        &self,
        mailbox: usize,
        record: &RecordKey,
    ) -> io::Result<(Box<dyn Read + Send + '_>, Option<Guid>)> {
        let (reader, guid) = self.reader(mailbox, record)?;
        Ok((Box::new(reader.unchecked()), Some(guid)))
    }

    fn find_copy(&self, mailbox: usize, record: &RecordKey) -> bool {
        let Some(guid) = self.guid(mailbox, record) else { return false };
        let mut passed = self.passed();
        if passed.contains_key(&guid) {
            // Another thread has found it.
            return true;
        }
        for copy in 1.. {
            let Ok(Some((segment, located))) = self.chain.find(&guid, self.seq, copy) else {
                return false;
            };
            let reader = segment.message_reader(&guid, located).map_err(io::Error::other);
            if reader.and_then(|mut reader| io::copy(&mut reader, &mut io::sink())).is_ok() {
                passed.insert(guid, copy);
                return true;
            }
        }
        false
    }

    fn open_guid(&self, guid: &Guid) -> Option<io::Result<Box<dyn Read + Send + '_>>> {
        let found = self.located(guid).map_err(io::Error::other).transpose();
        let opened = found.unwrap_or_else(|| Err(io::ErrorKind::NotFound.into()));
        Some(opened.and_then(|(segment, located)| {
            let reader = segment.message_reader(guid, located).map_err(io::Error::other)?;
            Ok(Box::new(reader) as Box<dyn Read + Send + '_>)
        }))
    }

    fn place(&self, mailbox: usize, record: &RecordKey) -> String {
        let Some(guid) = self.guid(mailbox, record) else { return "nowhere".to_owned() };
        match self.located(&guid) {
            Ok(Some((segment, located))) => {
                let at = segment.start() + located.offset;
                format!("message {guid} of {segment} at byte {at}")
            }
            Ok(None) | Err(_) => format!("message {guid}, which the archive does not hold,"),
        }
    }

    fn list(&self, _mailbox: usize) -> io::Result<Vec<Uid>> {
        // Whatever is stored has a record.
        Ok(Vec::new())
    }

    fn index_now(&self, _mailbox: usize) -> io::Result<Option<Vec<u8>>> {
        Ok(None)
    }
}

/// What a UID stands for in a stored snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// There is no such mailbox.
    NoMailbox,
    /// The mailbox has no such message.
    NoMessage,
    /// It had one whose bytes were not to be had when the snapshot was taken.
    NotStored,
    /// The bytes of this GUID, which is not what the record says where the record was wrong.
    Message(Guid),
}

/// Looks a message up by its mailbox, the first that is `wanted`, and its UID.
///
/// # Errors
/// Metadata that cannot be read.
pub fn look_up(
    chain: &Chain<'_>,
    head: &ManifestHead,
    wanted: impl Fn(&StoredMailbox) -> bool,
    uid: Uid,
) -> Result<Found, ArchiveError> {
    let Some(mailbox) = head.mailboxes.iter().find(|mailbox| wanted(mailbox)) else {
        return Ok(Found::NoMailbox);
    };
    let mailbox = stored_mailbox(chain, mailbox)?;
    let Some(record) = Records::read(&mailbox.files).linked().find(|record| record.uid == uid)
    else {
        return Ok(Found::NoMessage);
    };
    let stored = mailbox.contents.stored(uid, record.guid);
    Ok(stored.map_or(Found::NotStored, Found::Message))
}

/// A message of a stored snapshot, by its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Its mailbox.
    pub mailbox: MboxName,
    /// Its UID there.
    pub uid: Uid,
    /// The GUID of the bytes that are stored for it.
    pub guid: Guid,
}

/// All messages that a stored snapshot has the bytes of.
///
/// # Errors
/// Metadata that cannot be read.
pub fn placed(chain: &Chain<'_>, snapshot: &Snapshot<'_>) -> Result<Vec<Placed>, ArchiveError> {
    let mut placed = Vec::new();
    for mailbox in &snapshot.head()?.mailboxes {
        let mailbox = stored_mailbox(chain, mailbox)?;
        let records = Records::read(&mailbox.files);
        for record in records.linked() {
            let Some(guid) = mailbox.contents.stored(record.uid, record.guid) else { continue };
            placed.push(Placed { mailbox: mailbox.name.clone(), uid: record.uid, guid });
        }
    }
    Ok(placed)
}

/// One segment of an archive, for a listing.
pub struct Listed<'a> {
    /// Where it is.
    pub segment: SegmentRef<'a>,
    /// What its manifest says.
    pub head: ManifestHead,
}

/// The finding that a manifest tells of; `None` for a kind that only a later version knows.
pub fn finding_of(stored: &StoredFinding) -> Option<Finding> {
    Some(Finding {
        kind: FindingKind::from_code(&stored.code)?,
        place: stored.place.clone(),
        uid: stored.uid,
        detail: stored.detail.clone(),
    })
}
