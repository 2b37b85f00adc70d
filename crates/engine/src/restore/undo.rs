//! Taking a restore back: of what its journal says, whatever is still as it was left is removed, and
//! nothing else is touched.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use csync::command::{Apply, Get, Subscription};
use csync::mailbox::Mailbox;
use csync::record::Record as Told;
use csync::reply::No;
use csync::untagged::Untagged;
use model::state::MailboxKey;
use model::{Guid, MboxName, Modseq, SystemFlags, Timestamp, Uid, UniqueId, Userid};
use peer::SessionError;

use super::journal::{Deed, Entry, Flagged, Flags};
use super::place::is_gone;
use super::plan::key_of;
use super::{Problem, ROUNDS_MAX, Trouble, is_outdated};
use crate::ports::Peer;
use crate::replicate::remote::{RECORDS_MAX, Remote, prepared};

/// How to undo.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The time.
    pub now: Timestamp,
    /// Only make the plan.
    pub dry_run: bool,
}

/// What was or is to be undone.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The plan that was made first.
    pub plan: Plan,
    /// What was done, all in all.
    pub done: Done,
    /// What did not go.
    pub problems: Vec<Problem>,
}

/// How much was undone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Messages that were expunged, or removed with their mailbox.
    pub messages: u64,
    /// Messages that got their former flags.
    pub flags: u64,
    /// Mailboxes that were removed.
    pub mailboxes: u64,
}

/// What is to be undone, and what is not.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// The steps, in order.
    pub steps: Vec<Step>,
    /// What is left alone.
    pub left: Vec<Left>,
    unclear: BTreeSet<MailboxKey>,
}

/// One thing to undo.
#[derive(Clone, Debug)]
pub enum Step {
    /// Change messages of a mailbox.
    Change {
        /// The mailbox.
        told: Mailbox,
        /// Messages that go.
        expunge: Vec<Told>,
        /// Messages that get other flags.
        flags: Vec<(Told, Flags)>,
    },
    /// Remove a mailbox.
    Remove {
        /// The mailbox.
        told: Mailbox,
        /// How many messages go with it.
        messages: u64,
    },
    /// End a subscription.
    Unsubscribe(MboxName),
}

/// Something that is left alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// The mailbox.
    pub mailbox: MboxName,
    /// The message, if it is one.
    pub uid: Option<Uid>,
    /// Why.
    pub why: Why,
}

/// Why something is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Its flags were changed since.
    ChangedSince,
    /// The mailbox was renamed since: somebody has a use for it.
    Renamed,
    /// The mailbox holds so many messages that were not restored.
    HoldsOthers(u64),
}

/// Undoes what these entries say, over a connection that may be used for others.
///
/// # Errors
/// If the server does not do what it should.
pub fn undo(
    userid: &Userid,
    entries: &[Entry],
    peer: &mut dyn Peer,
    options: Options,
) -> Result<Outcome, SessionError> {
    let ledger = Ledger::of(entries);
    let mut outcome = Outcome::default();
    let mut given_up = BTreeSet::new();
    for round in 0..=ROUNDS_MAX {
        let (remote, mut plan) = look(userid, &ledger, peer)?;
        plan.steps.retain(|step| !given_up.contains(step.place()));
        if round == 0 {
            outcome.plan = plan.clone();
        }
        if options.dry_run || plan.steps.is_empty() {
            break;
        }
        if round == ROUNDS_MAX {
            let left = plan.steps.iter().map(|step| Problem::new(step.place(), Trouble::Busy));
            outcome.problems.extend(left);
            break;
        }
        let mut modseq = remote.highest();
        let mut stays = BTreeSet::new();
        for step in &plan.steps {
            if stays.contains(step.place()) {
                continue;
            }
            modseq = Modseq(modseq.0 + 1);
            let error = match run(step, userid, peer, modseq, options.now, &mut outcome.done) {
                Err(error) if error.session_goes_on() => error,
                other => {
                    other?;
                    continue;
                }
            };
            // As long as it is there, its owner is subscribed to it.
            stays.insert(step.place().clone());
            if !is_outdated(&error) {
                let trouble = Trouble::Refused(error.to_string());
                outcome.problems.push(Problem::new(step.place(), trouble));
                given_up.insert(step.place().clone());
            }
        }
    }
    Ok(outcome)
}

fn look(
    userid: &Userid,
    ledger: &Ledger,
    peer: &mut dyn Peer,
) -> Result<(Remote, Plan), SessionError> {
    let mut remote =
        Remote::of_user(userid, peer)?.with_ids(ledger.names.keys().cloned().collect(), peer)?;
    loop {
        let plan = ledger.plan(&remote);
        if plan.unclear.is_empty() {
            return Ok((remote, plan));
        }
        for key in &plan.unclear {
            remote.ask_for_records(key, RECORDS_MAX, peer)?;
        }
    }
}

/// What was done to mailboxes, by their identities.
#[derive(Debug, Default)]
struct Ledger {
    names: BTreeMap<UniqueId, MboxName>,
    /// When each was to be made: likewise.
    created: BTreeMap<UniqueId, Vec<Option<Modseq>>>,
    /// What was to be added by each number: of what was said twice, nobody knows which was done.
    added: BTreeMap<UniqueId, BTreeMap<Uid, Vec<(Guid, Modseq)>>>,
    flagged: BTreeMap<UniqueId, BTreeMap<Uid, Flagged>>,
    subscribed: BTreeSet<MboxName>,
}

impl Ledger {
    fn of(entries: &[Entry]) -> Self {
        let mut ledger = Self::default();
        for Entry { mailbox, uniqueid, deed } in entries {
            ledger.names.insert(uniqueid.clone(), mailbox.clone());
            match deed {
                Deed::Create { modseq } => {
                    ledger.created.entry(uniqueid.clone()).or_default().push(*modseq);
                }
                Deed::Add { modseq, messages } => {
                    let added = ledger.added.entry(uniqueid.clone()).or_default();
                    for (uid, guid) in messages {
                        added.entry(*uid).or_default().push((*guid, *modseq));
                    }
                }
                Deed::Flag(messages) => {
                    let flagged = ledger.flagged.entry(uniqueid.clone()).or_default();
                    for message in messages {
                        let known = flagged.entry(message.uid).or_insert_with(|| message.clone());
                        // Of several times, the first knows what was before; unless it was refused,
                        // or the flags were changed since.
                        if known.guid != message.guid || known.after != message.before {
                            *known = message.clone();
                        }
                        known.after = message.after.clone();
                    }
                }
                Deed::Subscribe => {
                    ledger.subscribed.insert(mailbox.clone());
                }
            }
        }
        ledger
    }

    fn plan(&self, remote: &Remote) -> Plan {
        let mut plan = Plan::default();
        let mut empty: BTreeMap<&MboxName, Step> = BTreeMap::new();
        for (id, name) in &self.names {
            let Some(there) = remote.of_id(id).filter(|there| !is_gone(there)) else { continue };
            let is_created = self.has_created(there);
            if is_created && there.mboxname != *name {
                plan.leave(&there.mboxname, None, Why::Renamed);
                continue;
            }
            let Some(records) = remote.records.get(&key_of(id)) else {
                plan.unclear.insert(key_of(id));
                continue;
            };
            let (expunge, flags) = self.changes(id, &there.mboxname, records, &mut plan);
            let alive = records.iter().filter(|record| !record.is_expunged()).count();
            let others = (alive - expunge.len()) as u64;
            if is_created && others == 0 {
                let step = Step::Remove { told: there.clone(), messages: alive as u64 };
                empty.insert(&there.mboxname, step);
                continue;
            }
            if is_created {
                plan.leave(&there.mboxname, None, Why::HoldsOthers(others));
            }
            if !expunge.is_empty() || !flags.is_empty() {
                plan.steps.push(Step::Change { told: there.clone(), expunge, flags });
            }
        }
        let subscribed = self.subscribed.intersection(&remote.subscriptions);
        let is_to_go = |name: &&MboxName| empty.contains_key(*name) || remote.named(name).is_none();
        let unsubscribe: Vec<Step> =
            subscribed.filter(is_to_go).cloned().map(Step::Unsubscribe).collect();
        // Children before their parents. Of one whose children stay, a level remains.
        plan.steps.extend(empty.into_values().rev());
        // A mailbox may yet stay, and then so does this.
        plan.steps.extend(unsubscribe);
        plan
    }

    /// Whether it is a mailbox that was noted, and not one that somebody else made who has its name
    /// and identity.
    fn has_created(&self, there: &Mailbox) -> bool {
        let noted = self.created.get(&there.uniqueid).map(Vec::as_slice).unwrap_or_default();
        // Where the server tells when it was made, that is compared.
        let made = there.createdmodseq.filter(|made| *made != Modseq(0));
        noted.iter().any(|noted| match (noted, made) {
            (Some(noted), Some(made)) => *noted == made,
            _ => true,
        })
    }

    /// The messages of a mailbox that go, and those that get other flags.
    fn changes(
        &self,
        id: &UniqueId,
        name: &MboxName,
        records: &[Told],
        plan: &mut Plan,
    ) -> (Vec<Told>, Vec<(Told, Flags)>) {
        let (mut expunge, mut flags) = (Vec::new(), Vec::new());
        let (added, flagged) = (self.added.get(id), self.flagged.get(id));
        for record in records.iter().filter(|record| !record.is_expunged()) {
            if let Some(noted) = added.and_then(|added| added.get(&record.uid)) {
                // Where the server tells when a message came, that is compared, too.
                let came = Some(record.createdmodseq()).filter(|came| *came != Modseq(0));
                let is_it = |(guid, modseq): &(Guid, Modseq)| {
                    record.guid == *guid && came.is_none_or(|came| came == *modseq)
                };
                // Anything else was there first, and what is noted was refused.
                if noted.iter().any(is_it) {
                    expunge.push(record.clone());
                    continue;
                }
            }
            let Some(message) = flagged.and_then(|flagged| flagged.get(&record.uid)) else {
                continue;
            };
            let now = Flags::of(record);
            if record.guid != message.guid {
                continue;
            }
            if now == message.after && now != message.before {
                flags.push((record.clone(), message.before.clone()));
            } else if now != message.before {
                plan.leave(name, Some(record.uid), Why::ChangedSince);
            }
        }
        (expunge, flags)
    }
}

impl Plan {
    fn leave(&mut self, mailbox: &MboxName, uid: Option<Uid>, why: Why) {
        self.left.push(Left { mailbox: mailbox.clone(), uid, why });
    }
}

impl Step {
    /// The mailbox that it is about.
    pub fn place(&self) -> &MboxName {
        match self {
            Step::Change { told, .. } | Step::Remove { told, .. } => &told.mboxname,
            Step::Unsubscribe(name) => name,
        }
    }
}

fn run(
    step: &Step,
    userid: &Userid,
    peer: &mut dyn Peer,
    modseq: Modseq,
    now: Timestamp,
    done: &mut Done,
) -> Result<(), SessionError> {
    match step {
        Step::Change { told, expunge, flags } => {
            let mut told = prepared(told);
            told.highestmodseq = modseq;
            let expunged = expunge.iter().map(|record| {
                let mut record = record.clone();
                record.system_flags.0 |= SystemFlags::EXPUNGED.0 | SystemFlags::DELETED.0;
                record
            });
            let flagged = flags.iter().map(|(record, flags)| {
                let mut record = record.clone();
                flags.put(&mut record);
                record
            });
            let mut records: Vec<Told> = expunged.chain(flagged).collect();
            records.sort_by_key(|record| record.uid);
            for record in &mut records {
                (record.modseq, record.last_updated) = (modseq, now);
            }
            peer.mailbox(&told, &mut records.into_iter())?;
            done.messages += expunge.len() as u64;
            done.flags += flags.len() as u64;
        }
        Step::Remove { told, messages } => {
            // It is removed whatever is in it: so once more, right before.
            let name = told.mboxname.clone();
            let last = |told: &Mailbox| told.contents.as_ref().map(|contents| contents.last_uid);
            let is_same = |now: &Untagged| {
                let Untagged::Mailbox(now) = now else { return false };
                now.uniqueid == told.uniqueid
                    && now.highestmodseq == told.highestmodseq
                    && last(now) == last(told)
            };
            let asked = peer.ask(&Get::Mailboxes(vec![name.clone()]))?;
            if !asked.iter().any(is_same) {
                let command = format!("APPLY UNMAILBOX {name}");
                return Err(SessionError::Refused { command, no: No::SyncChanged });
            }
            peer.apply(&Apply::UnMailbox(name))?;
            done.mailboxes += 1;
            done.messages += messages;
        }
        Step::Unsubscribe(name) => {
            let (userid, mboxname) = (userid.clone(), name.clone());
            peer.apply(&Apply::UnSub(Subscription { userid, mboxname }))?;
        }
    }
    Ok(())
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Change { told, expunge, flags } => {
                write!(f, "update {}: {} go", told.mboxname, expunge.len())?;
                match flags.len() {
                    0 => Ok(()),
                    number => write!(f, ", former flags for {number}"),
                }
            }
            Step::Remove { told, messages } => {
                write!(f, "remove {}: {messages} go", told.mboxname)
            }
            Step::Unsubscribe(name) => write!(f, "unsubscribe from {name}"),
        }
    }
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.mailbox)?;
        if let Some(uid) = self.uid {
            write!(f, " {uid}")?;
        }
        write!(f, ": {}", self.why)
    }
}

impl Why {
    /// A stable word for programs.
    pub fn code(self) -> &'static str {
        match self {
            Why::ChangedSince => "changed-since",
            Why::Renamed => "renamed",
            Why::HoldsOthers(_) => "holds-others",
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::ChangedSince => write!(f, "its flags were changed since"),
            Why::Renamed => write!(f, "it was renamed since, and stays with all that is in it"),
            Why::HoldsOthers(number) => {
                write!(f, "it stays, for it holds messages that were not restored: {number}")
            }
        }
    }
}
