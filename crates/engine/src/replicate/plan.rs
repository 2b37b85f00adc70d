//! What has to be said to a replica so that it has what is here.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use csync::command::Rename;
use csync::mailbox::{Mailbox, Since};
use csync::meta::{Quota, Seen};
use model::diff::{self, diff};
use model::state::MailboxKey;
use model::{MboxName, Modseq, Uid, UniqueId};

use super::brake::{Amounts, Brake, of_removals};
use super::compare::{Bounds, Comparison, compare};
use super::local::{Local, LocalMailbox, Opened};
use super::remote::Remote;
use super::renames::{Move, order};
use super::split::Merge;
use super::state::{self, describe};
use super::{Options, Problem, Trouble};
use crate::folder::is_deleted;

/// The steps, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// What is to be done.
    pub steps: Vec<Step>,
    /// What is left as it is, and why.
    pub problems: Vec<Problem>,
    /// Why all of it needs consent.
    pub brakes: Vec<Brake>,
    /// Mailboxes whose records have to be asked for before the plan can be relied on.
    pub unclear: BTreeSet<MailboxKey>,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Delete a mailbox.
    Remove {
        /// Its name on the replica.
        name: MboxName,
        /// Whether it never had a message.
        is_empty: bool,
    },
    /// Rename a mailbox.
    Rename(Rename),
    /// Create a name without data, between mailboxes.
    Level(Box<Mailbox>),
    /// Create a mailbox without its messages, which are damaged here: without an INBOX, Cyrus takes
    /// nothing else of a user.
    Hollow(Box<Mailbox>),
    /// Bring together a mailbox that both sides have changed.
    Merge(Box<Merge>),
    /// Create a mailbox, or bring it up to date.
    Send(Box<Send>),
    /// Set limits.
    SetQuota(Quota),
    /// Remove a quota root.
    RemoveQuota(MboxName),
    /// Subscribe.
    Subscribe(MboxName),
    /// End a subscription.
    Unsubscribe(MboxName),
    /// Store a sieve script, by the name of its file.
    PutScript(Vec<u8>),
    /// Remove one.
    RemoveScript(Vec<u8>),
    /// Let a script run, by the name of its bytecode, or none.
    ActivateScript(Option<Vec<u8>>),
    /// Replace what was read in a mailbox.
    SetSeen(Seen),
}

/// What is to be sent of a mailbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Send {
    /// Which.
    pub key: MailboxKey,
    /// All that is told of it but its records. The counters are as high as the replica's.
    pub told: Mailbox,
    /// Whether the replica has it not yet.
    pub is_new: bool,
    /// What differs: `messages`, `attributes`, `annotations`; nothing of a new one.
    pub parts: Vec<String>,
    /// The highest UID that the replica has given out, and its modseq.
    pub have: (Uid, Modseq),
    /// Messages that are told, where counters do not choose them: all that changed since `have`.
    pub chosen: Option<BTreeSet<Uid>>,
    /// Messages of the replica that are expunged by themselves, as no record tells of them any more.
    pub expunge: Vec<Uid>,
    /// How much it is.
    pub counts: Counts,
}

/// How many messages a step is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// The replica does not have them.
    pub new: u64,
    /// It has them, with other flags.
    pub changed: u64,
    /// It has them, and shall not.
    pub expunged: u64,
}

impl Plan {
    /// Whether nothing is to be done.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |name: &[u8]| MboxName::new(name).to_string();
        match self {
            Step::Remove { name, .. } => write!(f, "remove {name}"),
            Step::Rename(rename) => write!(f, "rename {} to {}", rename.old, rename.new),
            Step::Level(mailbox) => write!(f, "create the level {}", mailbox.mboxname),
            Step::Hollow(mailbox) => write!(f, "create {} without messages", mailbox.mboxname),
            Step::Merge(merge) => merge.fmt(f),
            Step::Send(send) => send.fmt(f),
            Step::SetQuota(quota) => write!(f, "set the quota of {}", quota.root),
            Step::RemoveQuota(root) => write!(f, "remove the quota of {root}"),
            Step::Subscribe(name) => write!(f, "subscribe to {name}"),
            Step::Unsubscribe(name) => write!(f, "unsubscribe from {name}"),
            Step::PutScript(file) => write!(f, "store {}", name(file)),
            Step::RemoveScript(file) => write!(f, "remove {}", name(file)),
            Step::ActivateScript(Some(file)) => write!(f, "activate {}", name(file)),
            Step::ActivateScript(None) => write!(f, "let no script run"),
            Step::SetSeen(seen) => write!(f, "set what was read in {}", seen.uniqueid),
        }
    }
}

impl fmt::Display for Send {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.is_new { "create" } else { "update" };
        let Counts { new, changed, expunged } = self.counts;
        write!(f, "{what} {}: {new} new", self.told.mboxname)?;
        if !self.is_new {
            write!(f, ", {changed} changed, {expunged} expunged")?;
        }
        let others = self.parts.iter().filter(|part| *part != "messages");
        for part in others {
            write!(f, ", {part}")?;
        }
        Ok(())
    }
}

impl Send {
    /// Whether a message is told.
    pub fn tells(&self, uid: Uid, modseq: Modseq) -> bool {
        match &self.chosen {
            Some(chosen) => chosen.contains(&uid),
            None => self.is_new_message(uid) || modseq > self.have.1,
        }
    }

    /// Whether the replica cannot have it yet.
    pub fn is_new_message(&self, uid: Uid) -> bool {
        uid > self.have.0
    }
}

/// Compares both sides and says what has to be done.
pub fn plan(local: &Local<'_>, remote: &Remote, options: &Options) -> Plan {
    let (want, have) = describe(local, remote);
    let mut planner = Planner { local, remote, options, plan: Plan::default() };
    planner.plan.problems.clone_from(&local.problems);
    planner.names();
    let mut moves = Vec::new();
    let (mut creates, mut updates) = (BTreeSet::new(), BTreeMap::new());
    let (mut put, mut dropped) = (BTreeSet::new(), BTreeSet::new());
    for step in diff(&want, &have).steps {
        match step {
            diff::Step::Create { mailbox, name } => {
                creates.insert((name, mailbox));
            }
            diff::Step::Rename { mailbox, from, to } => {
                // Its entry changes with its name.
                updates.entry(mailbox.clone()).or_default();
                moves.push(Move { key: mailbox, from, to });
            }
            diff::Step::Update { mailbox, files, dropped } => {
                updates.insert(mailbox, [files, dropped].concat());
            }
            diff::Step::Remove { .. } => {}
            diff::Step::PutFile(name) => {
                put.insert(name);
            }
            diff::Step::RemoveFile(name) => {
                dropped.insert(name);
            }
        }
    }
    let last = planner.removals();
    let blocked = planner.renames(moves);
    planner.hollow_inbox();
    for (name, key) in creates {
        planner.create(&name, &key);
    }
    for (key, parts) in updates.into_iter().filter(|(key, _)| !blocked.contains(key)) {
        planner.update(&key, parts);
    }
    planner.files(&put, &dropped);
    planner.plan.steps.extend(last);
    let amounts = planner.amounts();
    let mut plan = planner.plan;
    plan.brakes.extend(of_removals(&plan, amounts));
    plan
}

struct Planner<'p, 'a> {
    local: &'p Local<'a>,
    remote: &'p Remote,
    options: &'p Options,
    plan: Plan,
}

impl Planner<'_, '_> {
    fn problem(&mut self, mailbox: &MboxName, trouble: Trouble) {
        self.plan.problems.push(Problem::new(mailbox, trouble));
    }

    /// Whose names these are is judged before anything else.
    fn names(&mut self) {
        let (local, remote) = (self.local, self.remote);
        let has = |name: &MboxName| local.mailboxes.values().any(|own| own.told.mboxname == *name);
        let inbox = local.inbox.as_ref().filter(|_| self.options.mailboxes.is_none());
        let there = inbox.filter(|inbox| !has(inbox)).and_then(|inbox| remote.named(inbox));
        // What was deleted but kept is only renamed.
        if there.is_some_and(|(key, _)| !local.mailboxes.contains_key(key)) {
            self.plan.brakes.push(Brake::WholeAccount);
        }
        for (key, mailbox) in &local.mailboxes {
            let name = &mailbox.told.mboxname;
            if let Some((other, there)) = remote.named(name)
                && !local.mailboxes.contains_key(other)
                && !is_empty(there)
            {
                self.plan.brakes.push(Brake::OtherIdentity {
                    mailbox: name.clone(),
                    here: UniqueId::new(key.0.as_slice()),
                    there: there.uniqueid.clone(),
                });
            }
            let there = remote.mailboxes.get(key).filter(|there| !is_empty(there));
            let uidvalidity = |told: &Mailbox| Some(told.contents.as_ref()?.uidvalidity);
            if let (Some(here), Some(other)) =
                (uidvalidity(&mailbox.told), there.and_then(uidvalidity))
                && here != other
                && there.is_some_and(|there| there.mboxname == *name)
            {
                let mailbox = name.clone();
                self.plan.brakes.push(Brake::OtherUidValidity { mailbox, here, there: other });
            }
        }
    }

    /// Removes what is in the way at once; the rest is returned, to be done at the end.
    fn removals(&mut self) -> Vec<Step> {
        let (local, remote) = (self.local, self.remote);
        let wanted: BTreeMap<&MboxName, &MailboxKey> =
            local.mailboxes.iter().map(|(key, own)| (&own.told.mboxname, key)).collect();
        let mut last = Vec::new();
        // Of the levels above single mailboxes, it was only asked what they are there.
        let asked = self.options.mailboxes.as_ref();
        let is_asked = |name: &MboxName| asked.is_none_or(|names| names.contains(name));
        let there = remote.mailboxes.iter().filter(|(_, there)| is_asked(&there.mboxname));
        for (key, there) in there {
            if local.mailboxes.contains_key(key) {
                continue;
            }
            let name = there.mboxname.clone();
            let in_the_way = wanted.get(&name);
            let is_elsewhere = self.options.moved.contains(&there.uniqueid);
            let is_gone = local.names.get(&name).is_some_and(|entry| {
                let is_it = |id: &UniqueId| id.is_empty() || *id == there.uniqueid;
                let same = entry.uniqueid.as_ref().is_none_or(is_it);
                same && !is_elsewhere && (entry.mbtype.deleted || entry.mbtype.intermediate)
            });
            let step = Step::Remove { name: name.clone(), is_empty: is_empty(there) };
            match (in_the_way, is_gone || self.options.accept_removals) {
                // A new mailbox takes the place of an empty one by itself.
                (Some(key), _) if is_empty(there) && !remote.mailboxes.contains_key(*key) => {}
                // Of an empty one, nothing can be lost; of another, the brake says so.
                (Some(_), _) => self.plan.steps.push(step),
                (None, true) => last.push(step),
                (None, false) if is_elsewhere => self.problem(&name, Trouble::Elsewhere),
                (None, false) => self.problem(&name, Trouble::ReplicaOnly),
            }
        }
        // Children before their parents.
        last.reverse();
        last
    }

    /// Plans renames; returns the mailboxes that cannot have theirs.
    fn renames(&mut self, moves: Vec<Move>) -> BTreeSet<MailboxKey> {
        let removed: BTreeSet<&MboxName> = self.plan.steps.iter().filter_map(removed).collect();
        let names = self.remote.mailboxes.values().map(|there| &there.mboxname);
        let taken = names.filter(|name| !removed.contains(name)).cloned().collect();
        let inbox = self.local.inbox.as_ref();
        let (ordered, blocked) = order(moves, taken, |step| match inbox {
            // An INBOX cannot go aside within its own account.
            Some(inbox) => (step.from != *inbox).then(|| aside(inbox, b".", &step.key)),
            None => Some(aside(&step.from, b"-", &step.key)),
        });
        for Move { key, from, to } in ordered {
            let contents =
                self.local.mailboxes.get(&key).and_then(|own| own.told.contents.as_ref());
            let there = self.remote.mailboxes.get(&key).and_then(|there| there.contents.as_ref());
            self.plan.steps.push(Step::Rename(Rename {
                old: from,
                new: to,
                partition: there.and_then(|there| there.partition.clone()),
                uidvalidity: contents.map(|contents| contents.uidvalidity),
            }));
        }
        for step in &blocked {
            self.problem(&step.from, Trouble::NameTaken(step.to.clone()));
        }
        blocked.into_iter().map(|step| step.key).collect()
    }

    /// An INBOX that is damaged as a whole, and that the replica does not have.
    fn hollow_inbox(&mut self) {
        let (local, remote) = (self.local, self.remote);
        let Some(name) = &local.inbox else { return };
        let mut own = local.mailboxes.iter().filter(|(_, own)| own.told.mboxname == *name);
        let Some((key, own)) = own.next() else { return };
        let is_there = remote.mailboxes.contains_key(key) || remote.named(name).is_some();
        if is_there || own.is_usable && own.open().is_ok() {
            return;
        }
        if let Some(mut mailbox) = own.hollow() {
            if let Some(contents) =
                mailbox.contents.as_mut().filter(|_| self.options.partition.is_some())
            {
                contents.partition.clone_from(&self.options.partition);
            }
            self.plan.steps.push(Step::Hollow(Box::new(mailbox)));
        }
    }

    fn create(&mut self, name: &MboxName, key: &MailboxKey) {
        let Some(mailbox) = self.local.mailboxes.get(key) else {
            if let Some(entry) = self.local.names.get(name) {
                let level = Box::new(csync::stored::name(entry));
                self.plan.steps.push(Step::Level(level));
            }
            return;
        };
        let opened = match mailbox.open() {
            Ok(opened) => opened,
            Err(trouble) => return self.problem(name, trouble),
        };
        let send = Send {
            key: key.clone(),
            told: mailbox.told.clone(),
            is_new: true,
            parts: Vec::new(),
            have: (Uid(0), Modseq(0)),
            chosen: None,
            expunge: Vec::new(),
            counts: Counts::default(),
        };
        self.send(send, &opened, None);
    }

    fn update(&mut self, key: &MailboxKey, parts: Vec<String>) {
        let (Some(mailbox), Some(there)) =
            (self.local.mailboxes.get(key), self.remote.mailboxes.get(key))
        else {
            return;
        };
        let (Some(own), Some(have)) = (&mailbox.told.contents, &there.contents) else { return };
        let opened = match mailbox.open() {
            Ok(opened) => opened,
            Err(trouble) => return self.problem(&mailbox.told.mboxname, trouble),
        };
        let mut send = Send {
            key: key.clone(),
            told: mailbox.told.clone(),
            is_new: false,
            parts,
            have: (have.last_uid, there.highestmodseq),
            chosen: None,
            expunge: Vec::new(),
            counts: Counts::default(),
        };
        if let Some(contents) =
            send.told.contents.as_mut().filter(|_| self.local.unknown.annotations)
        {
            contents.annotations.clone_from(&have.annotations);
        }
        if let Some(records) = self.remote.records.get(key) {
            let bounds = Bounds {
                last_uid: own.last_uid,
                deletedmodseq: mailbox.deletedmodseq,
                highestmodseq: mailbox.told.highestmodseq,
                remote_last_uid: have.last_uid,
                remote_highestmodseq: there.highestmodseq,
            };
            let comparison = compare(&opened, records, bounds);
            if !comparison.differences.is_empty() {
                return self.diverged(key, &opened, comparison, bounds);
            }
            let Comparison { tell, expunge, .. } = comparison;
            if tell.is_empty() && expunge.is_empty() && !leads_or_differs(mailbox, there, &send) {
                return;
            }
            (send.chosen, send.expunge) = (Some(tell), expunge);
            lead(&mut send, there);
        } else if needs_records(mailbox, there) || self.options.closely {
            self.plan.unclear.insert(key.clone());
            return;
        }
        let since = Since {
            modseq: there.highestmodseq,
            sync_crc: have.sync_crc.unwrap_or(0),
            sync_crc_annot: have.sync_crc_annot.unwrap_or(0),
        };
        // What was renamed has changed since it was described.
        let is_renamed = there.mboxname != mailbox.told.mboxname;
        let since = (send.chosen.is_none() && !is_renamed).then_some(since);
        self.send(send, &opened, since);
    }

    /// A mailbox that both sides have changed.
    fn diverged(
        &mut self,
        key: &MailboxKey,
        opened: &Opened<'_>,
        comparison: Comparison,
        bounds: Bounds,
    ) {
        let (local, remote) = (self.local, self.remote);
        let (Some(mailbox), Some(records)) = (local.mailboxes.get(key), remote.records.get(key))
        else {
            return;
        };
        let name = &mailbox.told.mboxname;
        // What else is kept in mailboxes is known elsewhere by its number.
        let mode = self.options.resolve.filter(|_| mailbox.told.mboxtype.is_empty());
        let differences = comparison.differences.clone();
        let merge = mode.and_then(|mode| Merge::new(opened, records, bounds, comparison, mode));
        match merge {
            Some(merge) => {
                let merge = Merge { key: key.clone(), name: name.clone(), ..merge };
                self.plan.steps.push(Step::Merge(Box::new(merge)));
            }
            None => self.problem(name, Trouble::Diverged(differences)),
        }
    }

    fn send(&mut self, mut send: Send, opened: &Opened<'_>, since: Option<Since>) {
        let mut counts = Counts { expunged: send.expunge.len() as u64, ..Counts::default() };
        for record in opened.stored().filter(|record| send.tells(record.uid, record.modseq)) {
            match (send.is_new_message(record.uid), record.is_expunged()) {
                (true, _) => counts.new += 1,
                (false, true) => counts.expunged += 1,
                (false, false) => counts.changed += 1,
            }
        }
        send.counts = counts;
        if let Some(contents) = &mut send.told.contents {
            let (basic, annot) = opened.crcs;
            contents.sync_crc = Some(basic);
            contents.sync_crc_annot = Some(annot);
            contents.since = since;
            contents.records = csync::mailbox::Records::Listed;
        }
        self.plan.steps.push(Step::Send(Box::new(send)));
    }

    /// Subscriptions and so on.
    fn files(&mut self, put: &BTreeSet<String>, dropped: &BTreeSet<String>) {
        let (local, remote) = (self.local, self.remote);
        let steps = &mut self.plan.steps;
        let quotas = local.quotas.values().filter(|quota| put.contains(&state::quota_name(quota)));
        steps.extend(quotas.cloned().map(Step::SetQuota));
        let gone = remote.quotas.values().filter(|q| dropped.contains(&state::quota_name(q)));
        steps.extend(gone.map(|quota| Step::RemoveQuota(quota.root.clone())));
        let is_in = |set: &BTreeSet<String>, name: &MboxName| {
            set.contains(&state::subscription(name.as_bytes()))
        };
        let subscribed = local.subscriptions.iter().flatten().filter(|name| is_in(put, name));
        steps.extend(subscribed.cloned().map(Step::Subscribe));
        let ended = remote.subscriptions.iter().filter(|name| is_in(dropped, name));
        steps.extend(ended.cloned().map(Step::Unsubscribe));
        if let Some(scripts) = &local.scripts {
            let is_in =
                |set: &BTreeSet<String>, file: &[u8]| set.contains(&state::script_name(file));
            let texts = scripts.texts.keys().filter(|file| is_in(put, file));
            steps.extend(texts.cloned().map(Step::PutScript));
            if put.contains(state::ACTIVE_SCRIPT) {
                let active = scripts.active.as_ref().map(|script| state::bytecode(script));
                steps.push(Step::ActivateScript(active));
            }
            if dropped.contains(state::ACTIVE_SCRIPT) {
                steps.push(Step::ActivateScript(None));
            }
            let gone = remote.scripts.values().filter(|file| !file.active);
            let gone = gone.filter(|file| is_in(dropped, &file.filename));
            steps.extend(gone.map(|file| Step::RemoveScript(file.filename.clone())));
        }
        let seen = local.seen.values().filter(|seen| put.contains(&state::seen_name(seen)));
        steps.extend(seen.cloned().map(Step::SetSeen));
    }

    fn amounts(&self) -> Amounts {
        let shared = self.local.mailboxes.iter();
        let shared = shared.filter(|(key, _)| self.remote.mailboxes.contains_key(*key));
        let there = self.remote.mailboxes.values();
        let there =
            there.filter(|there| !is_empty(there) && !is_deleted(there.mboxname.as_bytes()));
        Amounts {
            mailboxes: there.count() as u64,
            messages: shared.map(|(_, mailbox)| mailbox.exists).sum(),
            share: self.options.removals_max,
        }
    }
}

/// A name that no client gives, below or beside another one.
fn aside(name: &MboxName, between: &[u8], key: &MailboxKey) -> MboxName {
    MboxName::new([name.as_bytes(), between, b"cylinder-", &key.0].concat())
}

fn removed(step: &Step) -> Option<&MboxName> {
    match step {
        Step::Remove { name, .. } => Some(name),
        _ => None,
    }
}

/// Whether it never had a message.
fn is_empty(there: &Mailbox) -> bool {
    there.contents.as_ref().is_none_or(|contents| contents.last_uid == Uid(0))
}

/// Whether counters do not tell what the replica lacks: it has been elsewhere, or what is gone here
/// has left no record.
fn needs_records(mailbox: &LocalMailbox<'_>, there: &Mailbox) -> bool {
    let (Some(own), Some(have)) = (&mailbox.told.contents, &there.contents) else { return false };
    let other = |own: Option<u32>, have: Option<u32>| {
        own != have && own.is_some_and(|crc| crc != 0) && have.is_some_and(|crc| crc != 0)
    };
    let same_counters = mailbox.told.highestmodseq == there.highestmodseq;
    have.last_uid > own.last_uid
        || there.highestmodseq > mailbox.told.highestmodseq
        || mailbox.deletedmodseq > there.highestmodseq
        || same_counters && other(own.sync_crc, have.sync_crc)
        || same_counters && other(own.sync_crc_annot, have.sync_crc_annot)
}

/// Whether there is anything to be sent beside messages: something of the mailbox itself differs, or
/// a counter of ours is ahead.
fn leads_or_differs(mailbox: &LocalMailbox<'_>, there: &Mailbox, send: &Send) -> bool {
    let (Some(own), Some(have)) = (&mailbox.told.contents, &there.contents) else { return false };
    let is_of_messages = |part: &String| part == "messages";
    !send.parts.iter().all(is_of_messages)
        || there.mboxname != mailbox.told.mboxname
        || own.last_uid > have.last_uid
        || mailbox.told.highestmodseq > there.highestmodseq
        || (own.recentuid, own.recenttime) != (have.recentuid, have.recenttime)
        || own.pop3_last_login != have.pop3_last_login
}

/// Counters of a replica never go back: where it is ahead without having anything of its own, it
/// stays there.
fn lead(send: &mut Send, there: &Mailbox) {
    send.told.highestmodseq = send.told.highestmodseq.max(there.highestmodseq);
    if let (Some(told), Some(have)) = (&mut send.told.contents, &there.contents) {
        told.last_uid = told.last_uid.max(have.last_uid);
    }
}
