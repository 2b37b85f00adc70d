//! Both variants of a mailbox, kept before anything is changed.

use std::collections::HashSet;
use std::io::{self, Read};

use csync::command::Fetch;
use csync::mailbox::Mailbox;
use csync::record::Record as Told;
use model::state::MailboxKey;
use model::{Finding, FindingKind, Guid, MboxName};

use super::fetched::fetched;
use crate::ports::{MessageSource, Peer};
use crate::replicate::local::{Local, LocalMailbox};
use crate::replicate::remote::Remote;
use crate::replicate::upload::key_of;
use crate::replicate::{Problem, ReplicateError, Trouble};

/// One of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// This server.
    Master,
    /// The other one.
    Replica,
}

/// Keeps both variants of mailboxes: all records of both, and the messages that one side alone has.
pub trait Keep {
    /// Begins a mailbox, unless it was kept before; whether it does.
    ///
    /// # Errors
    /// If it cannot be kept.
    fn begin(&mut self, mailbox: &MboxName) -> io::Result<bool>;

    /// Keeps what a side knows of a message; UIDs ascend.
    ///
    /// # Errors
    /// If it cannot be kept.
    fn record(&mut self, side: Side, record: &Told) -> io::Result<()>;

    /// Keeps the bytes of a message that the other side does not have.
    ///
    /// # Errors
    /// If they cannot be kept, or read.
    fn message(&mut self, side: Side, record: &Told, bytes: &mut dyn Read) -> io::Result<()>;

    /// Makes all of the mailbox durable.
    ///
    /// # Errors
    /// If it cannot be.
    fn end(&mut self) -> io::Result<()>;
}

/// Whose variants are kept, and by whom.
pub(in crate::replicate) struct Variants<'v, 'a> {
    pub local: &'v Local<'a>,
    pub remote: &'v Remote,
    pub messages: &'v dyn MessageSource,
    pub peer: &'v mut dyn Peer,
    pub keep: &'v mut dyn Keep,
}

impl Variants<'_, '_> {
    /// Keeps both variants of a mailbox. Messages that could not be kept are a problem, and the others are
    /// kept.
    ///
    /// # Errors
    /// If the run cannot go on.
    pub fn keep(&mut self, key: &MailboxKey) -> Result<Option<Problem>, ReplicateError> {
        let (local, remote) = (self.local, self.remote);
        let (Some(mailbox), Some(told)) = (local.mailboxes.get(key), remote.mailboxes.get(key))
        else {
            return Ok(None);
        };
        let name = &mailbox.told.mboxname;
        if !self.keep.begin(name).map_err(ReplicateError::Keep)? {
            return Ok(None);
        }
        let opened = match mailbox.open() {
            Ok(opened) => opened,
            Err(trouble) => return Ok(Some(Problem::new(name, trouble))),
        };
        let there = remote.records.get(key).map(Vec::as_slice).unwrap_or_default();
        let known_there = guids(there.iter());
        let (mut known_here, mut findings) = (HashSet::new(), Vec::new());
        for record in opened.stored() {
            let own = opened.tell(&record);
            self.keep.record(Side::Master, &own).map_err(ReplicateError::Keep)?;
            if own.is_expunged() {
                continue;
            }
            known_here.insert(own.guid);
            if !known_there.contains(&own.guid) {
                match self.messages.open(mailbox.at, &key_of(&record)) {
                    Ok(mut bytes) => {
                        let kept = self.keep.message(Side::Master, &own, &mut bytes);
                        kept.map_err(ReplicateError::Keep)?;
                    }
                    Err(error) => findings.push(lost(name, &own, &error.to_string())),
                }
            }
        }
        if !findings.is_empty() {
            let problem = Problem::new(name, Trouble::Damaged(findings));
            return self.keep.end().map(|()| Some(problem)).map_err(ReplicateError::Keep);
        }
        for other in there {
            self.keep.record(Side::Replica, other).map_err(ReplicateError::Keep)?;
            if !other.is_expunged() && !known_here.contains(&other.guid) {
                self.replicas(mailbox, told, other, &mut findings)?;
            }
        }
        self.keep.end().map_err(ReplicateError::Keep)?;
        let is_damaged = !findings.is_empty();
        Ok(is_damaged.then(|| Problem::new(name, Trouble::DamagedThere(findings))))
    }

    fn replicas(
        &mut self,
        mailbox: &LocalMailbox<'_>,
        told: &Mailbox,
        other: &Told,
        findings: &mut Vec<Finding>,
    ) -> Result<(), ReplicateError> {
        let keep = &mut *self.keep;
        let kept = fetched(self.peer, &fetch_of(told, other), other.size, &mut |bytes| {
            keep.message(Side::Replica, other, bytes)
        })?;
        match kept {
            Some(kept) => kept.map_err(ReplicateError::Keep),
            None => {
                findings.push(lost_there(&mailbox.told.mboxname, other));
                Ok(())
            }
        }
    }
}

fn guids<'r>(records: impl Iterator<Item = &'r Told>) -> HashSet<Guid> {
    records.filter(|record| !record.is_expunged()).map(|record| record.guid).collect()
}

/// How a message of a mailbox is asked for.
pub(super) fn fetch_of(told: &Mailbox, record: &Told) -> Fetch {
    let contents = told.contents.as_ref();
    Fetch {
        mboxname: told.mboxname.clone(),
        partition: contents.and_then(|contents| contents.partition.clone()).unwrap_or_default(),
        uniqueid: told.uniqueid.clone(),
        guid: record.guid,
        uid: record.uid,
    }
}

fn lost(mailbox: &MboxName, record: &Told, why: &str) -> Finding {
    let detail = format!("its file cannot be read: {why}");
    Finding::new(FindingKind::MessageUnreadable, mailbox, detail).at_uid(record.uid.0)
}

/// What is wrong with a message that the replica has, and not as it should be.
pub(super) fn lost_there(mailbox: &MboxName, record: &Told) -> Finding {
    let detail = format!("the replica does not have the bytes of {}", record.guid);
    Finding::new(FindingKind::MessageMissing, mailbox, detail).at_uid(record.uid.0)
}
