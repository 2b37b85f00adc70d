//! A master and a replica that both go their own way, and are brought together again.

use std::collections::{BTreeMap, BTreeSet};

use csync::record::Record;
use csync::stored;
use cyrus_format::names::NameRules;
use engine::ports::{Peer, Silent};
use engine::replicate::plan::Step;
use engine::replicate::split::{Beside, Keep, Master as Itself, Resolve};
use engine::replicate::{Options, Outcome, ReplicateError, Replication, Told};
use model::{Guid, MboxName, Modseq, SystemFlags, Timestamp, Uid};
use peer::SessionError;
use proptest::prelude::*;

use super::account::{EPOCH, Mailbox, guid_of};
use super::replica::{Held, MemoryReplica};
use super::replicate::{Master, options};
use super::trouble::Mortal;

pub const INBOX: &str = "user.glad";

/// Two servers, both with all that happened to them, and the time.
#[derive(Clone, Debug, Default)]
pub struct Brains {
    pub master: MemoryReplica,
    pub replica: MemoryReplica,
    /// The highest modseq of what the master has cleaned up.
    pub deletedmodseq: u64,
    now: i64,
    bodies: u32,
}

/// This server itself, in memory.
pub struct Own<'m>(pub &'m mut dyn Peer);

impl Itself for Own<'_> {
    fn peer(&mut self) -> Result<&mut dyn Peer, SessionError> {
        Ok(&mut *self.0)
    }
}

/// The flag that users set, by its number here and its name there.
const WORK: &[u8] = b"Work";

impl Brains {
    /// Both with an empty INBOX.
    pub fn new() -> Self {
        let mut brains = Self::default();
        let mut master = Master::of("glad");
        master.create(INBOX);
        master.sync(&mut brains.master);
        master.sync(&mut brains.replica);
        brains
    }

    fn server(&mut self, is_master: bool) -> &mut MemoryReplica {
        if is_master { &mut self.master } else { &mut self.replica }
    }

    /// A message of its own comes to one of them; its number among all messages.
    pub fn deliver(&mut self, is_master: bool) -> u32 {
        self.bodies += 1;
        let body = self.bodies;
        self.deliver_body(is_master, format!("message {body}").as_bytes());
        body
    }

    /// The same message comes to both.
    pub fn deliver_to_both(&mut self) {
        self.bodies += 1;
        let body = format!("message {}", self.bodies);
        self.deliver_body(true, body.as_bytes());
        self.deliver_body(false, body.as_bytes());
    }

    /// Some time passes, never twice the same: CRCs of changes that are alike cancel each other out.
    fn tick(&mut self) {
        self.now += 1 + self.now * 7919 % 1013;
    }

    pub fn deliver_body(&mut self, is_master: bool, body: &[u8]) {
        self.tick();
        let now = Timestamp::from_secs(EPOCH + self.now);
        let server = self.server(is_master);
        server.bodies.insert(guid_of(body), body.to_vec());
        let held = inbox(server);
        held.told.highestmodseq.0 += 1;
        let contents = held.told.contents.as_mut().expect("contents");
        contents.last_uid.0 += 1;
        let record = model::Record {
            uid: contents.last_uid,
            guid: guid_of(body),
            size: body.len() as u64,
            internaldate: now,
            last_updated: now,
            savedate: now,
            modseq: held.told.highestmodseq,
            createdmodseq: held.told.highestmodseq,
            cid: u64::from(body[body.len() - 1]) << 50,
            ..model::Record::default()
        };
        held.records.insert(record.uid, stored::record(&record, &[], &[]));
    }

    /// The nth message that is there gets a flag, or is expunged.
    pub fn change(&mut self, is_master: bool, nth: usize, flag: SystemFlags) -> Option<Guid> {
        self.tick();
        let now = Timestamp::from_secs(EPOCH + self.now);
        let held = inbox(self.server(is_master));
        let alive = held.records.values_mut().filter(|record| !record.is_expunged());
        let record = alive.into_iter().nth(nth)?;
        held.told.highestmodseq.0 += 1;
        record.system_flags.0 |= flag.0;
        if flag != SystemFlags::EXPUNGED {
            record.user_flags = vec![WORK.to_vec()];
        }
        (record.modseq, record.last_updated) = (held.told.highestmodseq, now);
        Some(record.guid)
    }

    /// All traces of what was expunged go.
    pub fn clean(&mut self, is_master: bool) {
        let held = inbox(self.server(is_master));
        let gone = held.records.values().filter(|record| record.is_expunged());
        let gone = gone.map(|record| record.modseq.0).max().unwrap_or(0);
        held.records.retain(|_, record| !record.is_expunged());
        if is_master {
            self.deletedmodseq = self.deletedmodseq.max(gone);
        }
    }

    /// The master as its spool would be.
    pub fn spool(&self) -> Master {
        let mut spool = Master::of("glad");
        for (name, held) in &self.master.mailboxes {
            let mailbox = stored_mailbox(held, self.deletedmodseq, &self.master.bodies);
            spool.account.mailboxes.push(mailbox);
            let changed = held.told.foldermodseq.unwrap_or_default().0;
            spool.foldermodseqs.insert(name.to_string(), changed);
        }
        spool
    }

    /// Replicates once, with what is given beside.
    pub fn pass(
        spool: &Master,
        replica: &mut dyn Peer,
        beside: Beside<'_>,
        options: &Options,
    ) -> Result<Outcome, ReplicateError> {
        let (source, messages) = spool.account().source();
        let told = Told::ask(&source.userid, replica, options)?;
        let rules = NameRules::v3();
        let replication = Replication::begin(&source, &rules, told, options)?;
        match replication.settled() {
            Some(outcome) => Ok(outcome),
            None => replication.run(&messages, replica, beside, &Silent),
        }
    }

    /// Brings both together, looking at the master anew whenever it was changed.
    pub fn resolve(&mut self, mode: Resolve) -> Outcome {
        let options = resolving(mode);
        let mut rounds = 0;
        loop {
            let spool = self.spool();
            let mut own = Own(&mut self.master);
            let beside = Beside { master: Some(&mut own), keep: None };
            let outcome = Self::pass(&spool, &mut self.replica, beside, &options);
            let outcome = outcome.expect("the session goes on");
            rounds += 1;
            assert!(rounds < 10, "{outcome:?}");
            if !outcome.is_stale {
                return outcome;
            }
        }
    }

    /// The same, but one of the two is gone after so many commands.
    pub fn resolve_until(&mut self, mode: Resolve, is_master: bool, left: usize, is_done: bool) {
        let options = resolving(mode);
        loop {
            let spool = self.spool();
            let (master, replica) = (&mut self.master, &mut self.replica);
            let far = usize::MAX;
            let (left, far) = if is_master { (left, far) } else { (far, left) };
            let mut mortal = Mortal { server: master, left, is_done };
            let mut own = Own(&mut mortal);
            let beside = Beside { master: Some(&mut own), keep: None };
            let mut replica = Mortal { server: replica, left: far, is_done };
            match Self::pass(&spool, &mut replica, beside, &options) {
                Ok(outcome) if outcome.is_stale => {}
                _ => break,
            }
        }
        // What was on its way is forgotten with the connection.
        for server in [&mut self.master, &mut self.replica] {
            server.restart().expect("it goes on");
        }
    }

    /// Shows both variants, and changes nothing.
    pub fn show(&mut self, keep: &mut dyn Keep, options: &Options) -> Outcome {
        let beside = Beside { master: None, keep: Some(keep) };
        Self::pass(&self.spool(), &mut self.replica, beside, options).expect("the session goes on")
    }

    /// The same messages, with the same numbers and flags, on both sides.
    #[track_caller]
    pub fn assert_same(&self) {
        let (here, there) = (held(&self.master), held(&self.replica));
        assert_eq!(alive(here), alive(there));
        let last = |held: &Held| held.told.contents.as_ref().expect("contents").last_uid;
        // A replica that was alone with something that is gone by now has counted further.
        assert!(last(here) <= last(there));
        assert!(here.told.highestmodseq <= there.told.highestmodseq);
    }
}

pub fn resolving(mode: Resolve) -> Options {
    Options { resolve: Some(mode), closely: true, ..options() }
}

pub fn inbox(server: &mut MemoryReplica) -> &mut Held {
    server.mailboxes.get_mut(&MboxName::from(INBOX)).expect("an INBOX")
}

pub fn held(server: &MemoryReplica) -> &Held {
    &server.mailboxes[&MboxName::from(INBOX)]
}

pub fn alive(held: &Held) -> Vec<&Record> {
    held.records.values().filter(|record| !record.is_expunged()).collect()
}

/// The messages that are there, by what they are, and how often.
pub fn counts(server: &MemoryReplica) -> BTreeMap<Guid, usize> {
    let mut counts = BTreeMap::new();
    alive(held(server)).iter().for_each(|record| *counts.entry(record.guid).or_default() += 1);
    counts
}

fn stored_mailbox(held: &Held, deletedmodseq: u64, bodies: &BTreeMap<Guid, Vec<u8>>) -> Mailbox {
    let told = &held.told;
    let contents = told.contents.as_ref().expect("contents");
    let mut mailbox = Mailbox::new(&told.mboxname.to_string(), &told.uniqueid.to_string(), 17);
    mailbox.uidvalidity = contents.uidvalidity.0;
    mailbox.last_uid = contents.last_uid.0;
    mailbox.highestmodseq = told.highestmodseq.0;
    mailbox.deletedmodseq = deletedmodseq;
    mailbox.flags = vec![Some(WORK.to_vec())];
    for record in held.records.values() {
        let mut stored = model::Record {
            uid: record.uid,
            guid: record.guid,
            size: record.size.into(),
            internaldate: record.internaldate,
            last_updated: record.last_updated,
            modseq: record.modseq,
            system_flags: record.system_flags,
            cid: record.thrid(),
            savedate: record.savedate().unwrap_or_default(),
            createdmodseq: record.createdmodseq(),
            ..model::Record::default()
        };
        if !record.user_flags.is_empty() {
            stored.user_flags.insert(0);
        }
        if let Some(body) = bodies.get(&record.guid) {
            mailbox.bodies.insert(record.uid.0, body.clone());
        }
        mailbox.records.push(stored);
    }
    mailbox
}

/// Something that happens to one of them, or to both.
#[derive(Clone, Debug)]
enum Event {
    Deliver(bool),
    DeliverToBoth,
    Flag(bool, usize),
    Expunge(bool, usize),
    Clean(bool),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => any::<bool>().prop_map(Event::Deliver),
        1 => Just(Event::DeliverToBoth),
        3 => (any::<bool>(), 0..8usize).prop_map(|(side, nth)| Event::Flag(side, nth)),
        3 => (any::<bool>(), 0..8usize).prop_map(|(side, nth)| Event::Expunge(side, nth)),
        1 => any::<bool>().prop_map(Event::Clean),
    ]
}

fn mode() -> impl Strategy<Value = Resolve> {
    prop_oneof![Just(Resolve::Renumber), Just(Resolve::Master), Just(Resolve::Replica)]
}

/// Lets all of it happen, first on the master alone, then on both. Returns what was expunged since by
/// somebody.
fn happen(brains: &mut Brains, common: &[Event], apart: &[Event]) -> BTreeSet<Guid> {
    let mut expunged = BTreeSet::new();
    let mut one = |brains: &mut Brains, event: &Event, is_common: bool| match *event {
        Event::Deliver(side) => drop(brains.deliver(side || is_common)),
        Event::DeliverToBoth if is_common => drop(brains.deliver(true)),
        Event::DeliverToBoth => brains.deliver_to_both(),
        Event::Flag(side, nth) => {
            brains.change(side || is_common, nth, SystemFlags::FLAGGED);
        }
        Event::Expunge(side, nth) => {
            expunged.extend(brains.change(side || is_common, nth, SystemFlags::EXPUNGED));
        }
        Event::Clean(side) => brains.clean(side || is_common),
    };
    for event in common {
        one(brains, event, true);
    }
    let outcome = brains.resolve(Resolve::Renumber);
    assert_eq!(outcome.problems, []);
    brains.assert_same();
    for event in apart {
        one(brains, event, false);
    }
    expunged
}

/// What both have to have in the end.
#[track_caller]
fn check(before: &Brains, after: &Brains, expunged: &BTreeSet<Guid>) {
    after.assert_same();
    let had: BTreeMap<Guid, usize> =
        counts(&before.master).into_iter().chain(counts(&before.replica)).collect();
    let has = counts(&after.master);
    for guid in had.keys() {
        assert!(has.contains_key(guid) || expunged.contains(guid), "{guid} is lost: {after:#?}");
    }
    for (guid, count) in &has {
        assert!(had.contains_key(guid), "{guid} comes from nowhere");
        assert_eq!(*count, 1, "{guid} is doubled");
    }
}

/// Messages of the replica that look in every respect like such as the master has cleaned up, if nothing
/// else shows that the replica has gone its own way.
fn undecidable(brains: &Brains) -> BTreeSet<Guid> {
    let mut shown = brains.clone();
    let dry = Options { dry_run: true, ..resolving(Resolve::Renumber) };
    let outcome = Brains::pass(&shown.spool(), &mut shown.replica, Beside::default(), &dry);
    let outcome = outcome.expect("the session goes on");
    if outcome.plan.steps.iter().any(|step| matches!(step, Step::Merge(_))) {
        return BTreeSet::new();
    }
    let known = &held(&brains.master).records;
    let last = held(&brains.master).told.contents.as_ref().expect("contents").last_uid;
    let there = alive(held(&brains.replica)).into_iter();
    let looks_old = there.filter(|record| {
        !known.contains_key(&record.uid)
            && record.uid <= last
            && record.modseq.0 <= brains.deletedmodseq
    });
    looks_old.map(|record| record.guid).collect()
}

proptest! {
    #[test]
    fn whatever_happened_on_both_sides_is_on_both_in_the_end(
        common in prop::collection::vec(event(), 0..12),
        apart in prop::collection::vec(event(), 1..20),
        mode in mode(),
    ) {
        let mut brains = Brains::new();
        let expunged = happen(&mut brains, &common, &apart);
        let before = brains.clone();
        let outcome = brains.resolve(mode);
        prop_assert_eq!(&outcome.problems, &vec![]);
        let unknown = undecidable(&before);
        check(&before, &brains, &expunged.union(&unknown).copied().collect());
        brains.replica.log.clear();
        brains.master.log.clear();
        let again = brains.resolve(mode);
        prop_assert!(again.plan.is_empty(), "{:?}", again.plan);
        prop_assert_eq!((brains.replica.applied(), brains.master.applied()), (0, 0));
    }

    #[test]
    fn a_run_that_is_cut_off_anywhere_is_finished_by_the_next_one(
        common in prop::collection::vec(event(), 0..8),
        apart in prop::collection::vec(event(), 1..12),
        modes in (mode(), mode()),
        is_master in any::<bool>(),
        left in 0..8usize,
        is_done in any::<bool>(),
    ) {
        let mut brains = Brains::new();
        let expunged = happen(&mut brains, &common, &apart);
        let before = brains.clone();
        brains.resolve_until(modes.0, is_master, left, is_done);
        // Whoever comes next may not know that there was anything to be resolved.
        let _ = Brains::pass(&brains.spool(), &mut brains.replica, Beside::default(), &options());
        let outcome = brains.resolve(modes.1);
        prop_assert_eq!(&outcome.problems, &vec![]);
        let unknown = undecidable(&before);
        check(&before, &brains, &expunged.union(&unknown).copied().collect());
    }
}

/// The numbers of messages that are there.
pub fn uids(server: &MemoryReplica) -> Vec<(Uid, Guid)> {
    alive(held(server)).iter().map(|record| (record.uid, record.guid)).collect()
}

pub fn guid(body: u32) -> Guid {
    guid_of(format!("message {body}").as_bytes())
}

/// When something changed last on a server.
pub fn highest(server: &MemoryReplica) -> Modseq {
    held(server).told.highestmodseq
}
