//! Saying a plan to a replica.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use csync::command::{Apply, Expunge, SieveName, SieveScript, Subscription};
use csync::mailbox::Mailbox;
use csync::record;
use csync::reply::No;
use model::state::MailboxKey;
use model::{Finding, Guid, MboxName, Modseq, Partition, Record, Timestamp, Uid};
use peer::SessionError;

use super::local::{Local, LocalMailbox, Opened};
use super::plan::{Plan, Send, Step};
use super::remote::Remote;
use super::upload::{Sender, Staged};
use super::{Options, Problem, Trouble};
use crate::ports::{MessageSource, Monitor, Peer};

/// New messages of one APPLY MAILBOX: what is answered with OK need not be sent again.
pub const BATCH_MESSAGES: usize = 8192;

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Mailboxes that were created or brought up to date.
    pub mailboxes: u64,
    /// Mailboxes that were renamed.
    pub renamed: u64,
    /// Mailboxes that were removed.
    pub removed: u64,
    /// Messages that the replica did not have in their mailbox.
    pub messages: u64,
    /// Other steps.
    pub others: u64,
    /// Mailboxes that both sides had changed, and that were brought together.
    pub merged: u64,
    /// Messages that this server did not have in their mailbox.
    pub brought: u64,
}

impl Done {
    /// Adds up.
    pub fn add(&mut self, other: &Self) {
        self.mailboxes += other.mailboxes;
        self.renamed += other.renamed;
        self.removed += other.removed;
        self.messages += other.messages;
        self.others += other.others;
        self.merged += other.merged;
        self.brought += other.brought;
    }
}

/// One plan being applied.
pub struct Run<'r, 'a> {
    local: &'r Local<'a>,
    remote: &'r Remote,
    messages: &'r dyn MessageSource,
    peer: &'r mut dyn Peer,
    options: &'r Options,
    monitor: &'r dyn Monitor,
    staged: Staged,
    /// The replica was not as it had said.
    is_outdated: bool,
    /// Mailboxes whose records have to be compared.
    pub doubtful: BTreeSet<MailboxKey>,
    /// What was done so far.
    pub done: Done,
    /// What did not go.
    pub problems: Vec<Problem>,
}

/// A mailbox that is being sent.
struct Parcel<'p, 'a> {
    send: &'p Send,
    mailbox: &'p LocalMailbox<'a>,
    opened: Opened<'a>,
    partition: Partition,
}

impl<'r, 'a> Run<'r, 'a> {
    /// One that begins.
    pub fn new(
        local: &'r Local<'a>,
        remote: &'r Remote,
        messages: &'r dyn MessageSource,
        peer: &'r mut dyn Peer,
        options: &'r Options,
        monitor: &'r dyn Monitor,
    ) -> Self {
        Self {
            local,
            remote,
            messages,
            peer,
            options,
            monitor,
            staged: Staged::default(),
            is_outdated: false,
            doubtful: BTreeSet::new(),
            done: Done::default(),
            problems: Vec::new(),
        }
    }

    /// Does all steps. Returns whether the replica has to be looked at anew: it was changed
    /// meanwhile, or things were renamed of which more is to be known.
    ///
    /// # Errors
    /// If the session cannot go on.
    pub fn apply(&mut self, plan: &Plan) -> Result<bool, SessionError> {
        let parcels = self.parcels(plan);
        let expected = parcels.iter().flatten().map(|parcel| parcel.send.counts.new).sum();
        self.monitor.expect(expected);
        self.let_go(&parcels);
        let mut reserved = false;
        for (step, parcel) in plan.steps.iter().zip(&parcels) {
            let Some(parcel) = parcel else {
                self.step(step)?;
                continue;
            };
            if !std::mem::replace(&mut reserved, true) {
                self.reserve(&parcels, plan)?;
            }
            let sent = self.parcel(parcel);
            if let Err(SessionError::Refused { no: No::SyncChecksum | No::SyncChanged, .. }) = sent
            {
                self.is_outdated = true;
                self.doubtful.insert(parcel.send.key.clone());
            }
            if sent.is_ok() {
                self.messages.release(parcel.mailbox.at);
            }
            self.judge(&parcel.send.told.mboxname, sent)?;
        }
        if !self.staged.is_empty() {
            self.peer.restart()?;
        }
        Ok(self.is_outdated)
    }

    /// The steps' mailboxes, opened again: what they were planned with was not kept.
    fn parcels<'p>(&self, plan: &'p Plan) -> Vec<Option<Parcel<'p, 'a>>>
    where
        'r: 'p,
    {
        let local = self.local;
        let parcel = |step: &'p Step| {
            let Step::Send(send) = step else { return None };
            let mailbox = local.mailboxes.get(&send.key)?;
            let partition = self.partition(send);
            Some(Parcel { send, mailbox, opened: mailbox.open().ok()?, partition })
        };
        plan.steps.iter().map(parcel).collect()
    }

    /// Gives back what keeps messages in place that nobody is going to read.
    fn let_go(&self, parcels: &[Option<Parcel<'_, '_>>]) {
        let mut needed = BTreeSet::new();
        for parcel in parcels.iter().flatten() {
            needed.insert(parcel.mailbox.at);
            self.messages.pass(parcel.mailbox.at, parcel.send.have.0);
        }
        let others = self.local.mailboxes.values().map(|mailbox| mailbox.at);
        others.filter(|at| !needed.contains(at)).for_each(|at| self.messages.release(at));
    }

    /// Where a mailbox lies on the replica, or is to lie.
    fn partition(&self, send: &Send) -> Partition {
        let there = self.remote.mailboxes.get(&send.key).and_then(|there| there.contents.as_ref());
        let there = there.and_then(|contents| contents.partition.clone());
        let own = send.told.contents.as_ref().and_then(|contents| contents.partition.clone());
        there.or_else(|| self.options.partition.clone()).or(own).unwrap_or_default()
    }

    /// Has the replica look for all messages that it does not have where they belong, but perhaps
    /// elsewhere.
    fn reserve(
        &mut self,
        parcels: &[Option<Parcel<'_, '_>>],
        plan: &Plan,
    ) -> Result<(), SessionError> {
        let names = names_now(self.remote, plan);
        if names.is_empty() {
            return Ok(());
        }
        let mut wanted: BTreeMap<Partition, Vec<Guid>> = BTreeMap::new();
        for parcel in parcels.iter().flatten() {
            let guids = wanted.entry(parcel.partition.clone()).or_default();
            let new =
                parcel.opened.stored().filter(|record| parcel.send.is_new_message(record.uid));
            guids.extend(new.filter(|record| !record.is_unlinked()).map(|record| record.guid));
        }
        for guids in wanted.values_mut() {
            let mut seen = HashSet::new();
            guids.retain(|guid| seen.insert(*guid));
        }
        wanted.retain(|_, guids| !guids.is_empty());
        self.staged.reserve(&wanted, &names, self.peer)
    }

    /// Sends messages, those first that clients see: an expunged one may have the same GUID and have lost its
    /// bytes. It is then told without them, as Cyrus does, which writes NIL for a file that is not what is
    /// announced (`imap/dlist.c`, printfile, 3.6), and holds nothing back.
    fn send(&mut self, sender: Sender<'_>, batch: &[Record]) -> Result<Vec<Finding>, SessionError> {
        if !batch.iter().any(Record::is_expunged) {
            return self.staged.send(sender, batch, self.peer);
        }
        let (gone, seen): (Vec<Record>, Vec<Record>) =
            batch.iter().cloned().partition(Record::is_expunged);
        let findings = self.staged.send(sender, &seen, self.peer)?;
        if findings.is_empty() {
            self.staged.send(sender, &gone, self.peer)?;
        }
        Ok(findings)
    }

    /// Sends a mailbox, in several pieces if it is large.
    fn parcel(&mut self, parcel: &Parcel<'_, '_>) -> Result<(), SessionError> {
        let send = parcel.send;
        let new: Vec<Record> =
            parcel.opened.stored().filter(|record| send.is_new_message(record.uid)).collect();
        let mut batches = new.chunks(BATCH_MESSAGES).peekable();
        while let Some(batch) = batches.next() {
            let sender = Sender {
                at: parcel.mailbox.at,
                name: &send.told.mboxname,
                partition: &parcel.partition,
                messages: self.messages,
                monitor: self.monitor,
                workers: self.options.workers,
            };
            let findings = self.send(sender, batch)?;
            if !findings.is_empty() {
                self.damaged(&send.told.mboxname, findings);
                // Cyrus takes no mailbox of a user who has no INBOX.
                if send.is_new && batch.first() == new.first() {
                    let (told, _) = part_of(parcel, self.remote, &[]);
                    self.peer.mailbox(&told, &mut std::iter::empty())?;
                }
                return Ok(());
            }
            if batches.peek().is_some() {
                let (told, highest) = part_of(parcel, self.remote, batch);
                let mut records = batch.iter().map(|record| {
                    let mut told = parcel.opened.tell(record);
                    told.modseq = told.modseq.min(highest);
                    told
                });
                self.peer.mailbox(&told, &mut records)?;
            }
        }
        if !send.expunge.is_empty() {
            self.peer.apply(&Apply::Expunge(Expunge {
                mboxname: send.told.mboxname.clone(),
                uniqueid: send.told.uniqueid.clone(),
                uids: send.expunge.clone(),
            }))?;
        }
        let mut told = send.told.clone();
        if let Some(contents) = &mut told.contents {
            contents.partition = Some(parcel.partition.clone());
            if new.len() > BATCH_MESSAGES || !send.expunge.is_empty() {
                // The first pieces have changed it.
                contents.since = None;
            }
        }
        let stored = parcel.opened.stored();
        let mut records: Box<dyn Iterator<Item = record::Record> + '_> = Box::new(
            stored
                .filter(|record| send.tells(record.uid, record.modseq))
                .map(|record| parcel.opened.tell(&record)),
        );
        self.peer.mailbox(&told, &mut records)?;
        self.done.mailboxes += 1;
        self.done.messages += send.counts.new;
        Ok(())
    }

    fn damaged(&mut self, mailbox: &MboxName, findings: Vec<Finding>) {
        self.problems.push(Problem::new(mailbox, Trouble::Damaged(findings)));
    }

    /// What is refused of one mailbox is a problem of that mailbox.
    fn judge(
        &mut self,
        mailbox: &MboxName,
        result: Result<(), SessionError>,
    ) -> Result<(), SessionError> {
        let error = match result {
            Ok(()) => return Ok(()),
            Err(error) if error.session_goes_on() => error,
            Err(error) => return Err(error),
        };
        self.problems.push(Problem::new(mailbox, Trouble::Refused(error.to_string())));
        Ok(())
    }

    /// Does a step that is one command.
    fn step(&mut self, step: &Step) -> Result<(), SessionError> {
        let (place, command) = match self.command(step) {
            Some(command) => command,
            None => return Ok(()),
        };
        let result = match &command {
            Command::Entry(mailbox) => self.peer.mailbox(mailbox, &mut std::iter::empty()),
            Command::Apply(apply) => self.peer.apply(apply).map(drop),
        };
        let result = match (step, result) {
            // Somebody was faster.
            (
                Step::Remove { .. },
                Err(SessionError::Refused { no: No::MailboxNonexistent, .. }),
            ) => Ok(()),
            (_, result) => result,
        };
        if result.is_ok() {
            match step {
                Step::Remove { .. } => self.done.removed += 1,
                Step::Rename(_) => self.done.renamed += 1,
                _ => self.done.others += 1,
            }
        }
        if let Step::Rename(rename) = step
            && !self.local.owns(&rename.old)
            && self.local.owns(&rename.new)
        {
            // What else it had under its old name shows only now.
            self.is_outdated = true;
        }
        self.judge(&place, result)
    }

    fn command(&self, step: &Step) -> Option<(MboxName, Command)> {
        let userid = self.local.userid.clone();
        let account = || self.local.inbox.clone().unwrap_or_default();
        let script =
            |filename: &[u8]| SieveName { userid: userid.clone(), filename: filename.to_vec() };
        let subscription =
            |name: &MboxName| Subscription { userid: userid.clone(), mboxname: name.clone() };
        let (place, apply) = match step {
            // Mailboxes in conflict have been seen to before.
            Step::Send(_) | Step::Merge(_) => return None,
            Step::Level(mailbox) | Step::Hollow(mailbox) => {
                return Some((mailbox.mboxname.clone(), Command::Entry(mailbox.clone())));
            }
            Step::Remove { name, .. } => (name.clone(), Apply::UnMailbox(name.clone())),
            Step::Rename(rename) => (rename.old.clone(), Apply::Rename(rename.clone())),
            Step::SetQuota(quota) => (quota.root.clone(), Apply::Quota(quota.clone())),
            Step::RemoveQuota(root) => (root.clone(), Apply::UnQuota(root.clone())),
            Step::Subscribe(name) => (name.clone(), Apply::Sub(subscription(name))),
            Step::Unsubscribe(name) => (name.clone(), Apply::UnSub(subscription(name))),
            Step::SetSeen(seen) => {
                (account(), Apply::Seen { userid: userid.clone(), seen: seen.clone() })
            }
            Step::PutScript(filename) => {
                let (_, content) = self.local.scripts.as_ref()?.texts.get(filename)?;
                let script = SieveScript {
                    userid: userid.clone(),
                    filename: filename.clone(),
                    last_update: Timestamp::default(),
                    content: content.to_vec(),
                };
                (account(), Apply::Sieve(script))
            }
            Step::RemoveScript(filename) => (account(), Apply::UnSieve(script(filename))),
            Step::ActivateScript(Some(bytecode)) => {
                (account(), Apply::ActivateSieve(script(bytecode)))
            }
            Step::ActivateScript(None) => (account(), Apply::UnactivateSieve(userid.clone())),
        };
        Some((place, Command::Apply(Box::new(apply))))
    }
}

/// What a step says.
enum Command {
    Entry(Box<Mailbox>),
    Apply(Box<Apply>),
}

/// The first part of a mailbox, which may be nothing but the mailbox itself: it has the highest UID of
/// that part, no modseq that what follows needs, and nothing yet that changes by itself. Also returns
/// that modseq.
fn part_of(parcel: &Parcel<'_, '_>, remote: &Remote, batch: &[Record]) -> (Mailbox, Modseq) {
    let there = remote.mailboxes.get(&parcel.send.key);
    let highest = parcel.send.have.1.max(Modseq(1));
    let mut told = parcel.send.told.clone();
    told.highestmodseq = highest;
    if let Some(contents) = &mut told.contents {
        let have = there.and_then(|there| there.contents.clone()).unwrap_or_default();
        contents.partition = Some(parcel.partition.clone());
        contents.last_uid = batch.last().map_or(Uid(0), |record| record.uid);
        contents.sync_crc = Some(0);
        contents.sync_crc_annot = None;
        contents.last_appenddate = Timestamp::default();
        contents.recentuid = have.recentuid;
        contents.recenttime = have.recenttime;
        contents.pop3_last_login = have.pop3_last_login;
        contents.since = None;
    }
    (told, highest)
}

/// The names of the replica's mailboxes that have messages, after all renames and removals in front.
fn names_now(remote: &Remote, plan: &Plan) -> Vec<MboxName> {
    let mut names = remote.names_with_messages();
    for step in &plan.steps {
        match step {
            Step::Rename(rename) => {
                if let Some(name) = names.iter_mut().find(|name| **name == rename.old) {
                    name.clone_from(&rename.new);
                }
            }
            Step::Remove { name, .. } => names.retain(|kept| kept != name),
            _ => {}
        }
    }
    names
}
