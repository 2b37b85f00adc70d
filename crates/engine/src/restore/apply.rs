//! Saying a plan to a server that goes on meanwhile.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use csync::command::{Apply, Subscription};
use csync::mailbox::{Mailbox, Since};
use csync::record::Record as Told;
use csync::reply::No;
use model::{Finding, Guid, MboxName, Modseq, Partition, Record, Uid};
use peer::SessionError;

use super::journal::{Deed, Entry, Flagged, Journal};
use super::plan::{Back, Plan, Step, key_of};
use super::wanted::{Moment, Wanted, Wish};
use super::{Options, Past, Problem, RestoreError, Trouble, is_outdated};
use crate::ports::{MessageSource, Monitor, Peer};
use crate::replicate::apply::BATCH_MESSAGES;
use crate::replicate::remote::{Remote, prepared};
use crate::replicate::upload::{Sender, Staged};

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Mailboxes that were made.
    pub created: u64,
    /// Mailboxes that were there, and to which something was restored.
    pub updated: u64,
    /// Messages that came back.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Messages that got other flags.
    pub flags: u64,
}

/// A restore under way.
pub struct Run<'r, 'a> {
    wish: &'r Wish<'a>,
    messages: &'r dyn MessageSource,
    /// The server.
    pub peer: &'r mut dyn Peer,
    journal: &'r mut dyn Journal,
    options: &'r Options,
    monitor: &'r dyn Monitor,
    staged: Staged,
    modseq: Modseq,
    subscribed: BTreeSet<MboxName>,
    /// What is not tried again.
    pub past: Past,
    /// What was done so far.
    pub done: Done,
    /// What is wrong with messages.
    pub findings: Vec<Finding>,
    /// What did not go.
    pub problems: Vec<Problem>,
}

impl<'r, 'a> Run<'r, 'a> {
    /// One that begins.
    pub fn new(
        wish: &'r Wish<'a>,
        messages: &'r dyn MessageSource,
        peer: &'r mut dyn Peer,
        journal: &'r mut dyn Journal,
        options: &'r Options,
        monitor: &'r dyn Monitor,
    ) -> Self {
        Self {
            wish,
            messages,
            peer,
            journal,
            options,
            monitor,
            staged: Staged::default(),
            modseq: Modseq(0),
            subscribed: BTreeSet::new(),
            past: Past::default(),
            done: Done::default(),
            findings: Vec::new(),
            problems: Vec::new(),
        }
    }

    /// Does all steps, as far as the server is as it was when they were planned.
    ///
    /// # Errors
    /// If the run cannot go on.
    pub fn apply(&mut self, remote: &Remote, plan: &Plan) -> Result<(), RestoreError> {
        self.modseq = self.modseq.max(remote.highest());
        self.subscribed.extend(remote.subscriptions.iter().cloned());
        self.monitor.expect(plan.steps.iter().map(|step| step.back.len() as u64).sum());
        self.reserve(remote, plan)?;
        for step in &plan.steps {
            let error = match self.step(step) {
                Err(RestoreError::Peer(error)) if error.session_goes_on() => error,
                other => {
                    other?;
                    continue;
                }
            };
            if step.is_new && matches!(error, SessionError::Refused { no: No::MailboxMoved, .. }) {
                self.past.spent.insert(step.told.uniqueid.clone());
            }
            if !is_outdated(&error) {
                let trouble = Trouble::Refused(error.to_string());
                self.problems.push(Problem::new(&step.told.mboxname, trouble));
                self.past.given_up.insert(key_of(&step.told.uniqueid));
            }
        }
        Ok(())
    }

    /// Has the server forget what it was sent in vain.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn end(&mut self) -> Result<(), RestoreError> {
        if !self.staged.is_empty() {
            self.peer.restart()?;
        }
        Ok(())
    }

    /// Takes note of what is wrong with messages.
    pub fn report(&mut self, findings: Vec<Finding>) {
        findings.iter().for_each(|finding| self.monitor.finding(finding));
        self.findings.extend(findings);
    }

    /// Has the server look for messages that it has elsewhere: those are not sent.
    fn reserve(&mut self, remote: &Remote, plan: &Plan) -> Result<(), RestoreError> {
        let mut wanted: BTreeMap<Partition, Vec<Guid>> = BTreeMap::new();
        let mut seen = HashSet::new();
        for step in &plan.steps {
            let (Some(mailbox), Some(contents)) = (self.mailbox(step), &step.told.contents) else {
                continue;
            };
            let partition = contents.partition.clone().unwrap_or_default();
            for record in step.back.iter().filter_map(|back| mailbox.message(back.uid)) {
                let known = self.staged.has(&partition, &record.guid);
                if !known && seen.insert((partition.clone(), record.guid)) {
                    wanted.entry(partition.clone()).or_default().push(record.guid);
                }
            }
        }
        let names = remote.names_with_messages();
        if names.is_empty() {
            return Ok(());
        }
        Ok(self.staged.reserve(&wanted, &names, self.peer)?)
    }

    fn mailbox(&self, step: &Step) -> Option<&'r Wanted<'a>> {
        self.wish.mailboxes.get(step.wanted?)
    }

    /// Restores to one mailbox, in several pieces if there is much to restore.
    fn step(&mut self, step: &Step) -> Result<(), RestoreError> {
        let mut told = prepared(&step.told);
        for (at, piece) in pieces(step).into_iter().enumerate() {
            self.piece(step, &mut told, piece, at == 0)?;
        }
        match step.is_new {
            true => self.done.created += 1,
            false => self.done.updated += 1,
        }
        if step.is_new && self.subscribed.insert(told.mboxname.clone()) {
            self.subscribe(&told)?;
        }
        Ok(())
    }

    fn piece(
        &mut self,
        step: &Step,
        told: &mut Mailbox,
        piece: Piece<'_>,
        is_first: bool,
    ) -> Result<(), RestoreError> {
        let partition = told.contents.as_ref().and_then(|told| told.partition.clone());
        let partition = partition.unwrap_or_default();
        let back = self.send(step, piece.back, &partition)?;
        if back.is_empty() && piece.flags.is_empty() && !(step.is_new && is_first) {
            return Ok(());
        }
        self.modseq = Modseq(self.modseq.max(told.highestmodseq).0 + 1);
        let moment = Moment { modseq: self.modseq, now: self.options.now };
        if step.is_new && is_first {
            (told.createdmodseq, told.foldermodseq) = (Some(self.modseq), Some(self.modseq));
            self.note(told, Deed::Create { modseq: Some(self.modseq) })?;
        }
        told.highestmodseq = self.modseq;
        if let (Some(contents), Some((_, last))) = (&mut told.contents, back.last()) {
            contents.last_uid = *last;
            contents.last_appenddate = self.options.now;
            if step.is_new {
                // Nothing of it has just arrived.
                contents.recentuid = *last;
            }
        }
        if !piece.flags.is_empty() {
            let flagged = piece.flags.iter().map(|(_, flagged)| flagged.clone());
            self.note(told, Deed::Flag(flagged.collect()))?;
        }
        if !back.is_empty() {
            let messages = back.iter().map(|(record, to)| (*to, record.guid)).collect();
            self.note(told, Deed::Add { modseq: self.modseq, messages })?;
        }
        let flagged = piece.flags.iter().map(|(record, flagged)| {
            let mut record = record.clone();
            flagged.after.put(&mut record);
            (record.modseq, record.last_updated) = (moment.modseq, moment.now);
            record
        });
        let mailbox = self.mailbox(step);
        let added = back.iter().filter_map(|(record, to)| Some(mailbox?.tell(record, *to, moment)));
        let mut records: Box<dyn Iterator<Item = Told> + '_> = Box::new(flagged.chain(added));
        self.peer.mailbox(told, &mut records)?;
        self.done.messages += back.len() as u64;
        self.done.bytes += back.iter().map(|(record, _)| record.size).sum::<u64>();
        self.done.flags += piece.flags.len() as u64;
        if let Some(contents) = &mut told.contents {
            let modseq = told.highestmodseq;
            contents.since = Some(Since { modseq, ..Since::default() });
        }
        Ok(())
    }

    /// Sends the bytes of messages, and returns those messages that the server has then.
    fn send(
        &mut self,
        step: &Step,
        piece: &[Back],
        partition: &Partition,
    ) -> Result<Vec<(Record, Uid)>, RestoreError> {
        let Some(mailbox) = self.mailbox(step) else { return Ok(Vec::new()) };
        let with_records =
            piece.iter().filter_map(|Back { uid, to }| Some((mailbox.message(*uid)?, *to)));
        let (mut records, targets): (Vec<Record>, Vec<Uid>) = with_records.unzip();
        // The archive is read in its own order.
        let mut order: Vec<usize> = (0..records.len()).collect();
        order.sort_by_key(|at| records[*at].uid);
        let ordered: Vec<Record> = order.iter().map(|at| records[*at].clone()).collect();
        let sender = Sender {
            at: mailbox.at,
            name: mailbox.name,
            partition,
            messages: self.messages,
            monitor: self.monitor,
            workers: self.options.workers,
        };
        let findings = self.staged.send(sender, &ordered, self.peer)?;
        self.findings.extend(findings);
        let mut back: Vec<(Record, Uid)> = records.drain(..).zip(targets).collect();
        back.retain(|(record, _)| {
            let is_there = self.staged.has(partition, &record.guid);
            if !is_there {
                self.past.lost.insert((mailbox.at, record.uid));
            }
            is_there
        });
        Ok(back)
    }

    /// Shows a mailbox that was made in its owner's list.
    fn subscribe(&mut self, told: &Mailbox) -> Result<(), RestoreError> {
        self.note(told, Deed::Subscribe)?;
        let (userid, mboxname) = (self.wish.userid.clone(), told.mboxname.clone());
        let apply = Apply::Sub(Subscription { userid, mboxname });
        match self.peer.apply(&apply) {
            Err(error) if !error.session_goes_on() => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn note(&mut self, told: &Mailbox, deed: Deed) -> Result<(), RestoreError> {
        let (mailbox, uniqueid) = (told.mboxname.clone(), told.uniqueid.clone());
        self.journal.note(&Entry { mailbox, uniqueid, deed }).map_err(RestoreError::Journal)
    }
}

/// What is said of a mailbox at once, and noted before in a line or two.
#[derive(Clone, Copy, Debug, Default)]
struct Piece<'s> {
    flags: &'s [(Told, Flagged)],
    back: &'s [Back],
}

/// The pieces of a step; one without anything for a mailbox that is only made.
fn pieces(step: &Step) -> Vec<Piece<'_>> {
    let flags = step.flags.chunks(BATCH_MESSAGES).map(|flags| Piece { flags, back: &[] });
    let back = step.back.chunks(BATCH_MESSAGES).map(|back| Piece { flags: &[], back });
    let mut pieces: Vec<Piece<'_>> = flags.chain(back).collect();
    if pieces.is_empty() {
        pieces.push(Piece::default());
    }
    pieces
}
