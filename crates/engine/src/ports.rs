//! What the operations need from outside, as few and plain as they can be.

use std::io::{self, Read};

use csync::command::{Apply, Fetch, Get};
use csync::framer::FileHead;
use csync::mailbox::Mailbox;
use csync::record::Record;
use csync::untagged::Untagged;
use cyrus_format::index::RecordKey;
use model::{Finding, Guid, MboxName, Uid};
use peer::SessionError;

use crate::source::LockHeld;

/// Gives the bytes of messages. Shared by several reading threads.
pub trait MessageSource: Sync {
    /// Opens the message of this record in the account's mailbox number `mailbox`.
    ///
    /// An error of kind [`NotFound`](io::ErrorKind::NotFound) means that its bytes are nowhere.
    fn open(&self, mailbox: usize, record: &RecordKey) -> io::Result<Box<dyn Read + Send + '_>>;

    /// The same for somebody who hashes the bytes anyway, with the hash that they must have where
    /// that is known: nothing else looks at whether they are right.
    fn open_unchecked(
        &self,
        mailbox: usize,
        record: &RecordKey,
    ) -> io::Result<(Box<dyn Read + Send + '_>, Option<Guid>)> {
        Ok((self.open(mailbox, record)?, None))
    }

    /// Looks for another copy of a message that could not be read to its end, one that is whole;
    /// [`open`](Self::open) gives it from then on. Whether there is one.
    fn find_copy(&self, mailbox: usize, record: &RecordKey) -> bool {
        let _ = (mailbox, record);
        false
    }

    /// Opens any message of this GUID, where messages are kept by it; `None` where they are not. Nobody has
    /// compared its bytes with the GUID.
    fn open_guid(&self, guid: &Guid) -> Option<io::Result<Box<dyn Read + Send + '_>>> {
        let _ = guid;
        None
    }

    /// Where the bytes of that message come from, for people.
    fn place(&self, mailbox: usize, record: &RecordKey) -> String;

    /// The UIDs of all message files in that mailbox's directories, in any order.
    fn list(&self, mailbox: usize) -> io::Result<Vec<Uid>>;

    /// The mailbox's index as it is now, where no lock holds cleanup back (any more): a message
    /// that is gone since is looked up there. `None` where the snapshot's own index is binding.
    fn index_now(&self, mailbox: usize) -> io::Result<Option<Vec<u8>>>;

    /// No message of that mailbox up to this UID will be asked for any more, or hardly any.
    fn pass(&self, mailbox: usize, uid: Uid) {
        let _ = (mailbox, uid);
    }

    /// Nothing of that mailbox will be asked for any more: whatever keeps its messages in place
    /// may go.
    fn release(&self, mailbox: usize) {
        let _ = mailbox;
    }

    /// The locks that were or are held for the account.
    fn locks(&self) -> Vec<LockHeld> {
        Vec::new()
    }
}

/// A replica that takes what a master says. After an error that concerns one command alone, the session
/// [goes on](SessionError::session_goes_on).
pub trait Peer: Send {
    /// Asks, and returns all that is told.
    ///
    /// # Errors
    /// If it is not answered.
    fn ask(&mut self, get: &Get) -> Result<Vec<Untagged>, SessionError>;

    /// Asks for a mailbox and its records; `None` if there is no such mailbox.
    ///
    /// # Errors
    /// If it is not answered, or with many more records than `most`.
    fn ask_for_records(
        &mut self,
        name: &MboxName,
        most: u64,
        take: &mut dyn FnMut(Record),
    ) -> Result<Option<Mailbox>, SessionError>;

    /// Asks for the bytes of a message, which nobody has compared with its GUID yet; `false` if they are
    /// not there.
    ///
    /// # Errors
    /// If it is not answered.
    fn fetch(&mut self, fetch: &Fetch, take: &mut dyn FnMut(&[u8])) -> Result<bool, SessionError>;

    /// Has something done, which is neither a mailbox nor messages.
    ///
    /// # Errors
    /// If it is not done.
    fn apply(&mut self, apply: &Apply) -> Result<Vec<Untagged>, SessionError>;

    /// Sends a mailbox with records.
    ///
    /// # Errors
    /// If it is not taken.
    fn mailbox(
        &mut self,
        mailbox: &Mailbox,
        records: &mut dyn Iterator<Item = Record>,
    ) -> Result<(), SessionError>;

    /// Sends a message, as one of several: the answer comes with [`Peer::end_messages`].
    ///
    /// # Errors
    /// If it cannot be sent.
    fn message(&mut self, head: &FileHead, bytes: &mut dyn Read) -> Result<(), SessionError>;

    /// Ends the messages, if there were any, and waits for the answer.
    ///
    /// # Errors
    /// If they are not taken.
    fn end_messages(&mut self) -> Result<(), SessionError>;

    /// Has messages forgotten that no mailbox refers to.
    ///
    /// # Errors
    /// If the replica does not answer.
    fn restart(&mut self) -> Result<(), SessionError>;
}

/// Watches an operation. Nothing that it does may change what the operation does.
pub trait Monitor: Sync {
    /// `messages` more are to be looked at.
    fn expect(&self, messages: u64) {
        let _ = messages;
    }

    /// `messages` of them are done; `bytes` of them had to be read.
    fn advance(&self, messages: u64, bytes: u64) {
        let _ = (messages, bytes);
    }

    /// Something is wrong, and the operation goes on.
    fn finding(&self, finding: &Finding) {
        let _ = finding;
    }
}

/// Says how fast may be read, so that others have room.
pub trait Pace: Sync {
    /// So many bytes were read; returns when the next may be.
    fn read(&self, bytes: u64) {
        let _ = bytes;
    }
}

/// As fast as can be.
pub struct Unhurried;

impl Pace for Unhurried {}

/// A monitor that looks away.
pub struct Silent;

impl Monitor for Silent {}
