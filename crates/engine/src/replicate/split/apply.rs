//! Telling both sides what each of them lacks: first the replica, then the master.
//!
//! In between, the replica has all of it, and has given out more UIDs than the master: no later run takes
//! that for a replica that is only behind.

use std::collections::{BTreeMap, BTreeSet};

use csync::framer::FileHead;
use csync::mailbox::Mailbox;
use csync::record::Record as Told;
use csync::reply::No;
use model::{Finding, Guid, Modseq, Partition, Record, Uid};
use peer::SessionError;

use super::Master;
use super::fetched::fetched;
use super::merge::Merge;
use super::variants::{Side, fetch_of, lost_there};
use crate::ports::{MessageSource, Monitor, Peer};
use crate::replicate::local::{Local, LocalMailbox, Opened};
use crate::replicate::remote::{Remote, prepared};
use crate::replicate::upload::{BYTES_MAX, FILES_MAX, Sender, Staged};
use crate::replicate::{Options, Problem, ReplicateError, Trouble};

/// One account whose sides are brought together.
pub(in crate::replicate) struct Run<'r, 'a> {
    local: &'r Local<'a>,
    remote: &'r Remote,
    /// What the master tells of itself.
    own: Remote,
    messages: &'r dyn MessageSource,
    options: &'r Options,
    monitor: &'r dyn Monitor,
    master: &'r mut dyn Peer,
    replica: &'r mut dyn Peer,
    staged_here: Staged,
    staged_there: Staged,
    modseq: Modseq,
    /// Mailboxes that were brought together.
    pub merged: u64,
    /// Messages that the master did not have, and messages that the replica did not have.
    pub new: (u64, u64),
    /// What is known of the master, or of the replica, does not hold any more.
    pub is_stale: bool,
    /// What did not go.
    pub problems: Vec<Problem>,
}

/// Why a mailbox is not brought together.
enum Failure {
    /// The run cannot go on.
    Fatal(ReplicateError),
    /// A side does not take it.
    Refused(Side, SessionError),
    /// Messages of a side are not to be had.
    Damaged(Trouble),
    /// The master is not as it was read.
    Changed,
}

/// What is known of a mailbox on both sides.
#[derive(Clone, Copy)]
struct Sides<'s, 'a> {
    merge: &'s Merge,
    mailbox: &'s LocalMailbox<'a>,
    opened: &'s Opened<'a>,
    own: &'s Mailbox,
    there: &'s Mailbox,
}

impl<'r, 'a> Run<'r, 'a> {
    /// Asks the master.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn begin(
        (local, remote): (&'r Local<'a>, &'r Remote),
        messages: &'r dyn MessageSource,
        (master, replica): (&'r mut dyn Master, &'r mut dyn Peer),
        options: &'r Options,
        monitor: &'r dyn Monitor,
    ) -> Result<Self, ReplicateError> {
        let master = master.peer().map_err(ReplicateError::Master)?;
        let own = match local.userid.is_shared() {
            true => Remote::of_shared(local, master),
            false => Remote::of_user(local.userid, master),
        };
        let own = own.map_err(ReplicateError::Master)?;
        let modseq = own.highest().max(remote.highest());
        Ok(Self {
            local,
            remote,
            own,
            messages,
            options,
            monitor,
            master,
            replica,
            staged_here: Staged::default(),
            staged_there: Staged::default(),
            modseq,
            merged: 0,
            new: (0, 0),
            is_stale: false,
            problems: Vec::new(),
        })
    }

    /// Brings a mailbox together.
    ///
    /// # Errors
    /// If the run cannot go on.
    pub fn merge(&mut self, merge: &Merge) -> Result<(), ReplicateError> {
        let trouble = match self.attempt(merge) {
            Ok(()) => {
                self.is_stale = true;
                self.merged += 1;
                self.new.0 += merge.new.0;
                self.new.1 += merge.new.1;
                return Ok(());
            }
            Err(Failure::Fatal(error)) => return Err(error),
            Err(Failure::Damaged(trouble)) => trouble,
            Err(Failure::Refused(side, error)) => {
                self.is_stale |= is_outdated(&error);
                let whose = match side {
                    Side::Master => "the master",
                    Side::Replica => "the replica",
                };
                Trouble::Refused(format!("{whose} does not take it: {error}"))
            }
            Err(Failure::Changed) => {
                self.is_stale = true;
                let why = "the server that --master names has it otherwise: it has changed meanwhile, or \
                           is another server";
                Trouble::Refused(why.to_owned())
            }
        };
        self.problems.push(Problem::new(&merge.name, trouble));
        Ok(())
    }

    /// Has both sides forget what they were sent in vain.
    ///
    /// # Errors
    /// If they do not answer.
    pub fn end(&mut self) -> Result<(), ReplicateError> {
        if !self.staged_here.is_empty() {
            self.master.restart().map_err(ReplicateError::Master)?;
        }
        if !self.staged_there.is_empty() {
            self.replica.restart()?;
        }
        Ok(())
    }

    fn attempt(&mut self, merge: &Merge) -> Result<(), Failure> {
        let (local, remote) = (self.local, self.remote);
        let mailbox = local.mailboxes.get(&merge.key).ok_or(Failure::Changed)?;
        let there = remote.mailboxes.get(&merge.key).ok_or(Failure::Changed)?;
        let own = self.own.mailboxes.get(&merge.key).cloned().ok_or(Failure::Changed)?;
        let opened = mailbox.open().map_err(Failure::Damaged)?;
        if !is_as_read(&own, &mailbox.told, &opened) {
            return Err(Failure::Changed);
        }
        let sides = Sides { merge, mailbox, opened: &opened, own: &own, there };
        self.bring_here(sides)?;
        self.bring_there(sides)?;
        self.modseq = Modseq(self.modseq.max(mailbox.told.highestmodseq).0 + 1);
        let last = last_uid(&own).max(last_uid(there));
        for (side, told, records) in
            [(Side::Replica, there, &merge.replica), (Side::Master, &own, &merge.master)]
        {
            let told = self.told(told, records, last, merge.rest == 0);
            let modseq = self.modseq;
            let numbered = |record: &Told| {
                let mut record = record.clone();
                if record.modseq == Modseq(0) {
                    record.modseq = modseq;
                    if merge.is_renumbered(record.uid) {
                        record.set_createdmodseq(modseq);
                    }
                }
                record
            };
            let told = self.peer(side).mailbox(&told, &mut records.iter().map(numbered));
            told.map_err(|error| failure(side, error))?;
        }
        Ok(())
    }

    fn peer(&mut self, side: Side) -> &mut dyn Peer {
        match side {
            Side::Master => &mut *self.master,
            Side::Replica => &mut *self.replica,
        }
    }

    /// A side's mailbox with other counters; all else of it stays as that side has it.
    fn told(&self, told: &Mailbox, records: &[Told], last: Uid, is_all: bool) -> Mailbox {
        let mut told = prepared(told);
        told.highestmodseq = self.modseq;
        if let Some(contents) = &mut told.contents {
            let highest = records.last().map(|record| record.uid).unwrap_or_default();
            contents.last_uid = contents.last_uid.max(highest);
            if is_all {
                contents.last_uid = contents.last_uid.max(last);
            }
        }
        told
    }

    /// Brings messages to the master that it does not have in the mailbox.
    fn bring_here(&mut self, sides: Sides<'_, '_>) -> Result<(), Failure> {
        let Sides { merge, own, there, .. } = sides;
        let partition = partition_of(own);
        let wanted = wanted(&merge.master, last_uid(own), &partition);
        let names = self.own.names_with_messages();
        let found = self.staged_here.reserve(&wanted, &names, self.master);
        found.map_err(|error| failure(Side::Master, error))?;
        let (mut findings, mut rest) = (Vec::new(), BTreeSet::new());
        let (mut files, mut bytes) = (0, 0);
        for record in new_of(&merge.master, last_uid(own)) {
            if self.staged_here.has(&partition, &record.guid) {
                continue;
            }
            let numbers = merge.numbers.get(&record.uid);
            let Some(uid) = numbers.and_then(|numbers| numbers.there) else {
                rest.extend(numbers.and_then(|numbers| numbers.here));
                continue;
            };
            let record = Told { uid, ..record.clone() };
            let head =
                FileHead { partition: partition.clone(), guid: record.guid, size: record.size };
            self.monitor.expect(1);
            let master = &mut *self.master;
            let brought =
                fetched(self.replica, &fetch_of(there, &record), record.size, &mut |message| {
                    master.message(&head, message)
                });
            match brought.map_err(|error| failure(Side::Replica, error))? {
                Some(sent) => sent.map_err(|error| failure(Side::Master, error))?,
                None => {
                    findings.push(lost_there(&merge.name, &record));
                    continue;
                }
            }
            self.staged_here.insert(&partition, record.guid);
            self.monitor.advance(1, record.size.into());
            (files, bytes) = (files + 1, bytes + u64::from(record.size));
            if files >= FILES_MAX || bytes >= BYTES_MAX {
                (files, bytes) = (0, 0);
                self.master.end_messages().map_err(|error| failure(Side::Master, error))?;
            }
        }
        self.master.end_messages().map_err(|error| failure(Side::Master, error))?;
        if !findings.is_empty() {
            return Err(Failure::Damaged(Trouble::DamagedThere(findings)));
        }
        self.send_own(Side::Master, sides, &rest, &partition)
    }

    /// Brings messages to the replica that it does not have in the mailbox.
    fn bring_there(&mut self, sides: Sides<'_, '_>) -> Result<(), Failure> {
        let Sides { merge, there, .. } = sides;
        let partition = partition_of(there);
        let wanted = wanted(&merge.replica, last_uid(there), &partition);
        let names = self.remote.names_with_messages();
        let found = self.staged_there.reserve(&wanted, &names, self.replica);
        found.map_err(|error| failure(Side::Replica, error))?;
        let (mut findings, mut own) = (Vec::new(), BTreeSet::new());
        for record in new_of(&merge.replica, last_uid(there)) {
            if self.staged_there.has(&partition, &record.guid) {
                continue;
            }
            match merge.numbers.get(&record.uid).and_then(|numbers| numbers.here) {
                Some(uid) => drop(own.insert(uid)),
                None => findings.push(lost_there(&merge.name, record)),
            }
        }
        if !findings.is_empty() {
            return Err(Failure::Damaged(Trouble::DamagedThere(findings)));
        }
        self.send_own(Side::Replica, sides, &own, &partition)
    }

    /// Sends messages that are here.
    fn send_own(
        &mut self,
        side: Side,
        sides: Sides<'_, '_>,
        uids: &BTreeSet<Uid>,
        partition: &Partition,
    ) -> Result<(), Failure> {
        if uids.is_empty() {
            return Ok(());
        }
        let stored = sides.opened.stored();
        let records: Vec<Record> = stored.filter(|record| uids.contains(&record.uid)).collect();
        self.monitor.expect(records.len() as u64);
        let sender = Sender {
            at: sides.mailbox.at,
            name: &sides.merge.name,
            partition,
            messages: self.messages,
            monitor: self.monitor,
            workers: self.options.workers,
        };
        let sent = match side {
            Side::Master => self.staged_here.send(sender, &records, self.master),
            Side::Replica => self.staged_there.send(sender, &records, self.replica),
        };
        let findings: Vec<Finding> = sent.map_err(|error| failure(side, error))?;
        match findings.is_empty() {
            true => Ok(()),
            false => Err(Failure::Damaged(Trouble::Damaged(findings))),
        }
    }
}

fn failure(side: Side, error: SessionError) -> Failure {
    match (error.session_goes_on(), side) {
        (true, _) => Failure::Refused(side, error),
        (false, Side::Master) => Failure::Fatal(ReplicateError::Master(error)),
        (false, Side::Replica) => Failure::Fatal(ReplicateError::Peer(error)),
    }
}

/// Whether a side that says this is to be looked at anew.
fn is_outdated(error: &SessionError) -> bool {
    use No::{MailboxLocked, MailboxMoved, MailboxNonexistent, SyncChanged, SyncChecksum};
    let SessionError::Refused { no, .. } = error else { return false };
    matches!(no, MailboxLocked | MailboxMoved | MailboxNonexistent | SyncChanged | SyncChecksum)
}

/// Whether a mailbox is still as it was read.
fn is_as_read(own: &Mailbox, read: &Mailbox, opened: &Opened<'_>) -> bool {
    let (Some(now), Some(then)) = (&own.contents, &read.contents) else { return false };
    let crc = now.sync_crc.unwrap_or(0);
    own.highestmodseq == read.highestmodseq
        && own.mboxname == read.mboxname
        && (now.uidvalidity, now.last_uid) == (then.uidvalidity, then.last_uid)
        && (crc == 0 || crc == opened.crcs.0)
}

fn last_uid(told: &Mailbox) -> Uid {
    told.contents.as_ref().map(|contents| contents.last_uid).unwrap_or_default()
}

fn partition_of(told: &Mailbox) -> Partition {
    let contents = told.contents.as_ref();
    contents.and_then(|contents| contents.partition.clone()).unwrap_or_default()
}

fn new_of(records: &[Told], last: Uid) -> impl Iterator<Item = &Told> {
    records.iter().filter(move |record| record.uid > last && !record.is_expunged())
}

fn wanted(records: &[Told], last: Uid, partition: &Partition) -> BTreeMap<Partition, Vec<Guid>> {
    let guids: BTreeSet<Guid> = new_of(records, last).map(|record| record.guid).collect();
    let wanted = [(partition.clone(), guids.into_iter().collect::<Vec<_>>())];
    wanted.into_iter().filter(|(_, guids)| !guids.is_empty()).collect()
}
