//! Accounts are replicated to the plainest replica there is.

use std::collections::{BTreeMap, BTreeSet};

use csync::record::Record as Told;
use csync::reply::No;
use cyrus_format::db::flat;
use cyrus_format::dlist::Dlist;
use cyrus_format::mboxlist::{MailboxEntry, MailboxType};
use cyrus_format::names::NameRules;
use engine::ports::Silent;
use engine::replicate::compare::DifferenceKind;
use engine::replicate::{Options, Outcome, Problem, Trouble, replicate};
use model::{MboxName, Modseq, SystemFlags, Timestamp, Uid, UidValidity, UniqueId};
use proptest::prelude::*;

use super::account::{Account, EPOCH, Mailbox, guid_of};
use super::replica::MemoryReplica;

/// A master: an account that changes in time.
#[derive(Clone, Debug)]
pub struct Master {
    pub account: Account,
    /// When each entry of the list changed.
    pub foldermodseqs: BTreeMap<String, u64>,
    /// Names of mailboxes that were deleted, and their ids.
    pub tombstones: BTreeMap<String, String>,
    /// Names of levels between mailboxes, and their ids.
    levels: BTreeMap<String, String>,
    /// Those tombstones whose mailboxes have gone to somebody else.
    pub went_away: BTreeSet<String>,
    pub subscriptions: BTreeSet<String>,
    modseq: u64,
    ids: u32,
}

/// The four folders that come and go; INBOX stays.
const NAMES: [&str; 4] = ["user.glad.a", "user.glad.a.b", "user.glad.c", "user.glad.d"];

impl Master {
    pub fn new() -> Self {
        let mut master = Self::of("glad");
        master.create("user.glad");
        master
    }

    /// One without a mailbox.
    pub fn of(userid: &str) -> Self {
        Self {
            account: Account::new(userid),
            foldermodseqs: BTreeMap::new(),
            tombstones: BTreeMap::new(),
            levels: BTreeMap::new(),
            went_away: BTreeSet::new(),
            subscriptions: BTreeSet::new(),
            modseq: 1,
            ids: 0,
        }
    }

    pub fn next(&mut self) -> u64 {
        self.modseq += 1;
        self.modseq
    }

    pub fn at(&self, name: &str) -> Option<usize> {
        self.account.mailboxes.iter().position(|mailbox| mailbox.name == name)
    }

    pub fn create(&mut self, name: &str) {
        if self.at(name).is_some() {
            return;
        }
        self.ids += 1;
        let modseq = self.next();
        let mut mailbox = Mailbox::new(name, &format!("id{}", self.ids), 17);
        mailbox.highestmodseq = modseq;
        mailbox.uidvalidity += self.ids;
        self.account.mailboxes.push(mailbox);
        self.foldermodseqs.insert(name.to_owned(), modseq);
        self.tombstones.remove(name);
    }

    pub fn delete(&mut self, name: &str) {
        let Some(at) = self.at(name) else { return };
        let mailbox = self.account.mailboxes.remove(at);
        self.tombstones.insert(name.to_owned(), mailbox.id.expect("an id"));
        let modseq = self.next();
        self.foldermodseqs.insert(name.to_owned(), modseq);
    }

    pub fn rename(&mut self, from: &str, to: &str) {
        if let (Some(at), None) = (self.at(from), self.at(to)) {
            self.account.mailboxes[at].name = to.to_owned();
            let modseq = self.next();
            self.foldermodseqs.insert(to.to_owned(), modseq);
            self.tombstones.remove(to);
        }
    }

    pub fn swap(&mut self, one: &str, other: &str) {
        self.rename(one, "user.glad.between");
        self.rename(other, one);
        self.rename("user.glad.between", other);
    }

    pub fn append(&mut self, name: &str, body: u8) {
        let modseq = self.next();
        if let Some(at) = self.at(name) {
            let record = self.account.mailboxes[at].add(&[b'm', body], EPOCH);
            (record.modseq, record.cid) = (Modseq(modseq), u64::from(body) << 50);
            record.savedate = Timestamp::from_secs(EPOCH + 5);
        }
    }

    /// Flags the nth message, or expunges it.
    pub fn change(&mut self, name: &str, nth: usize, flags: SystemFlags) {
        let modseq = self.next();
        let Some(at) = self.at(name) else { return };
        let records = self.account.mailboxes[at].records.iter_mut();
        let mut alive = records.filter(|record| !record.is_expunged());
        if let Some(record) = alive.nth(nth) {
            record.system_flags.0 |= flags.0;
            record.user_flags.insert(0);
            record.modseq = Modseq(modseq);
            self.account.mailboxes[at].flags = vec![Some(b"Work".to_vec())];
        }
    }

    /// Removes all traces of what was expunged.
    fn clean(&mut self, name: &str) {
        let Some(at) = self.at(name) else { return };
        let mailbox = &mut self.account.mailboxes[at];
        let gone = mailbox.records.iter().filter(|record| record.is_expunged());
        let gone = gone.map(|record| record.modseq.0).max().unwrap_or(0);
        mailbox.deletedmodseq = mailbox.deletedmodseq.max(gone);
        mailbox.highestmodseq = mailbox.highestmodseq.max(gone);
        mailbox.records.retain(|record| !record.is_expunged());
    }

    pub fn account(&self) -> Account {
        let mut account = self.account.clone();
        let entries = account.mailboxes.iter().map(|mailbox| MailboxEntry {
            name: mailbox.name.as_str().into(),
            uniqueid: mailbox.id.as_deref().map(UniqueId::from),
            partition: Some(b"default".to_vec()),
            acl: mailbox.acl.clone(),
            uidvalidity: Some(UidValidity(mailbox.uidvalidity)),
            foldermodseq: self.foldermodseqs.get(&mailbox.name).copied().map(Modseq),
            ..MailboxEntry::default()
        });
        let tombstone = MailboxType { deleted: true, ..MailboxType::default() };
        let level = MailboxType { intermediate: true, ..MailboxType::default() };
        let names = self.tombstones.iter().map(|named| (named, tombstone));
        let names = names.chain(self.levels.iter().map(|named| (named, level)));
        let names = names.map(|((name, id), mbtype)| MailboxEntry {
            name: name.as_str().into(),
            uniqueid: Some(id.as_str().into()),
            mbtype,
            foldermodseq: self.foldermodseqs.get(name).copied().map(Modseq),
            ..MailboxEntry::default()
        });
        let records = entries
            .chain(names)
            .flat_map(|entry| entry.to_by_id(&NameRules::v3()).expect("records"));
        let mut records: BTreeMap<Vec<u8>, Vec<u8>> = records.collect();
        // A mailbox that is gone keeps the record of its id, as Cyrus has it.
        let gone = self.tombstones.iter().filter(|(name, _)| !self.went_away.contains(*name));
        for (name, id) in gone {
            let dbname = NameRules::v3().to_dbname(&name.as_str().into()).expect("a name");
            let fields = [(b"T", Dlist::bytes(b"d")), (b"N", Dlist::Bytes(dbname))];
            let fields = fields.map(|(key, value)| (key.to_vec(), value));
            records.insert([b"I", id.as_bytes()].concat(), Dlist::Kv(fields.into()).to_vec());
        }
        let records: Vec<_> = records.into_iter().collect();
        account.files.insert("mailboxes".to_owned(), flat::write(&records).expect("a dump"));
        let lines = self.subscriptions.iter().map(|name| (name.as_bytes().to_vec(), Vec::new()));
        let lines: Vec<(Vec<u8>, Vec<u8>)> = lines.collect();
        account.files.insert("sub".to_owned(), flat::write(&lines).expect("a database"));
        account
    }

    pub fn sync(&self, replica: &mut MemoryReplica) -> Outcome {
        self.sync_with(replica, &options())
    }

    pub fn sync_with(&self, replica: &mut MemoryReplica, options: &Options) -> Outcome {
        let (source, messages) = self.account().source();
        replicate(&source, &NameRules::v3(), &messages, replica, options, &Silent)
            .expect("the session goes on")
    }

    /// The replica has the mailboxes, and in each the messages, that are here.
    pub fn assert_same(&self, replica: &MemoryReplica) {
        let names: Vec<String> = replica.mailboxes.keys().map(ToString::to_string).collect();
        let mut expected: Vec<String> =
            self.account.mailboxes.iter().map(|mailbox| mailbox.name.clone()).collect();
        expected.sort();
        assert_eq!(names, expected);
        for mailbox in &self.account.mailboxes {
            let held = &replica.mailboxes[&MboxName::from(mailbox.name.as_str())];
            assert_eq!(Some(held.told.uniqueid.to_string()), mailbox.id);
            let contents = held.told.contents.as_ref().expect("contents");
            assert_eq!(contents.uidvalidity.0, mailbox.uidvalidity);
            assert_eq!(contents.last_uid.0, mailbox.last_uid, "{}", mailbox.name);
            let here = mailbox.records.iter().filter(|record| !record.is_expunged());
            let here: Vec<_> = here
                .map(|r| (r.uid, r.guid, r.modseq, r.system_flags, r.user_flags.contains(0)))
                .collect();
            let there = held.records.values().filter(|record| !record.is_expunged());
            let there: Vec<_> = there
                .map(|r| (r.uid, r.guid, r.modseq, r.system_flags, !r.user_flags.is_empty()))
                .collect();
            assert_eq!(there, here, "{}", mailbox.name);
        }
        let subscribed: BTreeSet<String> =
            replica.subscriptions.iter().map(ToString::to_string).collect();
        assert_eq!(subscribed, self.subscriptions);
    }
}

pub fn options() -> Options {
    Options {
        mailboxes: None,
        accept_removals: false,
        removals_max: 50,
        moved: BTreeSet::new(),
        kinds_left_out: Vec::new(),
        partition: None,
        resolve: None,
        closely: false,
        workers: 1,
        dry_run: false,
    }
}

/// Something that happens to an account.
#[derive(Clone, Debug)]
enum Event {
    Create(usize),
    Delete(usize),
    Rename(usize, usize),
    Swap(usize, usize),
    Append(usize, u8),
    Flag(usize, usize),
    Expunge(usize, usize),
    Clean(usize),
    Subscribe(usize),
    Unsubscribe(usize),
    Sync,
}

fn event() -> impl Strategy<Value = Event> {
    let folder = || 0..NAMES.len() + 1;
    prop_oneof![
        2 => folder().prop_map(Event::Create),
        1 => (1..=NAMES.len()).prop_map(Event::Delete),
        2 => (1..=NAMES.len(), 1..=NAMES.len()).prop_map(|(a, b)| Event::Rename(a, b)),
        2 => (1..=NAMES.len(), 1..=NAMES.len()).prop_map(|(a, b)| Event::Swap(a, b)),
        6 => (folder(), 0..6u8).prop_map(|(folder, body)| Event::Append(folder, body)),
        3 => (folder(), 0..5usize).prop_map(|(folder, nth)| Event::Flag(folder, nth)),
        3 => (folder(), 0..5usize).prop_map(|(folder, nth)| Event::Expunge(folder, nth)),
        1 => folder().prop_map(Event::Clean),
        1 => folder().prop_map(Event::Subscribe),
        1 => folder().prop_map(Event::Unsubscribe),
        2 => Just(Event::Sync),
    ]
}

fn name(folder: usize) -> &'static str {
    folder.checked_sub(1).map_or("user.glad", |at| NAMES[at])
}

fn happen(master: &mut Master, event: &Event) {
    match *event {
        Event::Create(folder) => master.create(name(folder)),
        Event::Delete(folder) => master.delete(name(folder)),
        Event::Rename(from, to) => master.rename(name(from), name(to)),
        Event::Swap(one, other) => master.swap(name(one), name(other)),
        Event::Append(folder, body) => master.append(name(folder), body),
        Event::Flag(folder, nth) => master.change(name(folder), nth, SystemFlags::FLAGGED),
        Event::Expunge(folder, nth) => master.change(name(folder), nth, SystemFlags::EXPUNGED),
        Event::Clean(folder) => master.clean(name(folder)),
        Event::Subscribe(folder) => {
            master.subscriptions.insert(name(folder).to_owned());
        }
        Event::Unsubscribe(folder) => {
            master.subscriptions.remove(name(folder));
        }
        Event::Sync => {}
    }
}

proptest! {
    #[test]
    fn whatever_happens_here_is_so_there(events in prop::collection::vec(event(), 1..40)) {
        let (mut master, mut replica) = (Master::new(), MemoryReplica::default());
        for event in events.iter().chain([&Event::Sync]) {
            happen(&mut master, event);
            if !matches!(event, Event::Sync) {
                continue;
            }
            let outcome = master.sync_with(&mut replica, &Options { accept_removals: true, ..options() });
            prop_assert_eq!(&outcome.problems, &vec![], "{:?}", outcome.plan);
            master.assert_same(&replica);
            replica.log.clear();
            let again = master.sync(&mut replica);
            prop_assert!(again.plan.is_empty(), "{:?}", again.plan);
            prop_assert_eq!(&replica.log, &vec!["GET USER".to_owned()]);
        }
    }
}

/// A master and its replica with two messages in INBOX and one in `a`.
pub fn pair() -> (Master, MemoryReplica) {
    let (mut master, mut replica) = (Master::new(), MemoryReplica::default());
    master.create("user.glad.a");
    for (folder, body) in [("user.glad", 1), ("user.glad", 2), ("user.glad.a", 3)] {
        master.append(folder, body);
    }
    assert_eq!(master.sync(&mut replica).problems, []);
    master.assert_same(&replica);
    replica.log.clear();
    (master, replica)
}

pub fn inbox(replica: &mut MemoryReplica) -> &mut super::replica::Held {
    replica.mailboxes.get_mut(&MboxName::from("user.glad")).expect("an INBOX")
}

fn told(uid: u32, body: u8, modseq: u64) -> Told {
    let bytes = [b'm', body];
    Told {
        uid: Uid(uid),
        guid: guid_of(&bytes),
        size: 2,
        modseq: Modseq(modseq),
        ..Told::default()
    }
}

#[test]
fn what_the_replica_alone_has_is_shown_and_nothing_is_changed() {
    let (mut master, mut replica) = pair();
    master.append("user.glad", 4);
    let held = inbox(&mut replica);
    // The third message is another one over there, and there is a fourth.
    held.records.insert(Uid(3), told(3, 5, 900));
    held.records.insert(Uid(4), told(4, 6, 901));
    held.told.highestmodseq = Modseq(901);
    held.told.contents.as_mut().expect("contents").last_uid = Uid(4);
    let before = replica.mailboxes.clone();
    let outcome = master.sync(&mut replica);
    let [problem] = &outcome.problems[..] else { panic!("{:?}", outcome.problems) };
    let Trouble::Diverged(differences) = &problem.trouble else { panic!("{problem:?}") };
    let kinds: Vec<_> = differences.iter().map(|difference| difference.kind).collect();
    assert_eq!(kinds, [DifferenceKind::Others, DifferenceKind::OnlyThere]);
    let guids = differences.iter().map(|difference| {
        let guid = |record: &Option<Box<Told>>| record.as_ref().map(|record| record.guid);
        (guid(&difference.here), guid(&difference.there))
    });
    let guids: Vec<_> = guids.collect();
    let [here, there, other] = [4, 5, 6].map(|body| Some(guid_of(&[b'm', body])));
    assert_eq!(guids, [(here, there), (None, other)]);
    assert_eq!(replica.applied(), 0, "{:?}", replica.log);
    assert_eq!(format!("{before:?}"), format!("{:?}", replica.mailboxes));
}

#[test]
fn counters_that_are_ahead_are_no_difference() {
    let (mut master, mut replica) = pair();
    inbox(&mut replica).told.highestmodseq = Modseq(900);
    assert_eq!(master.sync(&mut replica).problems, []);
    master.append("user.glad", 4);
    master.change("user.glad", 0, SystemFlags::FLAGGED);
    assert_eq!(master.sync(&mut replica).problems, []);
    master.assert_same(&replica);
    assert_eq!(inbox(&mut replica).told.highestmodseq, Modseq(900));
}

#[test]
fn a_mailbox_that_nothing_says_was_removed_stays() {
    let (mut master, mut replica) = pair();
    let at = master.at("user.glad.a").expect("it is there");
    master.account.mailboxes.remove(at);
    let outcome = master.sync(&mut replica);
    assert_eq!(outcome.problems.len(), 1);
    assert_eq!(outcome.problems[0].trouble, Trouble::ReplicaOnly);
    assert_eq!(replica.applied(), 0);
    master.sync_with(&mut replica, &Options { accept_removals: true, ..options() });
    master.assert_same(&replica);
}

#[test]
fn a_renamed_user_keeps_his_mail_on_the_replica() {
    let (mut master, mut replica) = pair();
    for held in replica.mailboxes.values().cloned().collect::<Vec<_>>() {
        let old = held.told.mboxname.clone();
        let new = MboxName::from(old.to_string().replace("glad", "iris").as_str());
        let mut held = replica.mailboxes.remove(&old).expect("it is there");
        held.told.mboxname = new.clone();
        replica.mailboxes.insert(new, held);
    }
    master.append("user.glad", 9);
    let outcome = master.sync(&mut replica);
    assert_eq!(outcome.problems, []);
    assert_eq!(outcome.done.renamed, 2);
    master.assert_same(&replica);
}

#[test]
fn a_message_that_is_damaged_holds_back_its_own_mailbox_only() {
    let (mut master, mut replica) = pair();
    master.append("user.glad", 4);
    master.append("user.glad.a", 5);
    let at = master.at("user.glad").expect("it is there");
    master.account.mailboxes[at].bodies.insert(3, b"other bytes".to_vec());
    let outcome = master.sync(&mut replica);
    let [problem] = &outcome.problems[..] else { panic!("{:?}", outcome.problems) };
    assert!(matches!(problem.trouble, Trouble::Damaged(_)));
    assert_eq!(outcome.done.mailboxes, 1);
    master.account.mailboxes[at].bodies.insert(3, vec![b'm', 4]);
    assert_eq!(master.sync(&mut replica).problems, []);
    master.assert_same(&replica);
}

/// It may have been healed: then another one has its GUID.
#[test]
fn a_message_that_is_damaged_and_expunged_holds_back_nothing() {
    for damage in [Some(b"other bytes".to_vec()), None] {
        let (mut master, mut replica) = pair();
        for body in [4, 4, 5] {
            master.append("user.glad", body);
        }
        let at = master.at("user.glad").expect("it is there");
        for (nth, uid) in [(2, 3), (3, 5)] {
            master.change("user.glad", nth, SystemFlags::EXPUNGED);
            let bodies = &mut master.account.mailboxes[at].bodies;
            bodies.remove(&uid);
            bodies.extend(damage.clone().map(|bytes| (uid, bytes)));
        }
        let outcome = master.sync(&mut replica);
        assert_eq!(outcome.problems, []);
        master.assert_same(&replica);
        assert_eq!(replica.bodies[&guid_of(&[b'm', 4])], [b'm', 4]);
    }
}

#[test]
fn an_inbox_that_is_damaged_from_the_start_holds_back_no_other_mailbox() {
    let (mut master, mut replica) = (Master::new(), MemoryReplica::default());
    master.create("user.glad.a");
    for (folder, body) in [("user.glad", 1), ("user.glad", 2), ("user.glad.a", 3)] {
        master.append(folder, body);
    }
    let body = master.account.mailboxes[0].bodies.remove(&2).expect("a message");
    let outcome = master.sync(&mut replica);
    assert_eq!((outcome.problems.len(), outcome.done.mailboxes), (1, 1), "{outcome:?}");
    assert_eq!(inbox(&mut replica).records.len(), 0);
    master.account.mailboxes[0].bodies.insert(2, body);
    assert_eq!(master.sync(&mut replica).problems, []);
    master.assert_same(&replica);
}

#[test]
fn a_replica_that_says_no_is_looked_at_again() {
    let (mut master, mut replica) = pair();
    master.append("user.glad", 4);
    for no in [No::SyncChecksum, No::SyncChanged] {
        replica.refuse.insert("user.glad".into(), no);
        master.append("user.glad", 5);
        assert_eq!(master.sync(&mut replica).problems, []);
        master.assert_same(&replica);
    }
    replica.refuse.insert("user.glad".into(), No::MailboxLocked);
    master.append("user.glad", 6);
    master.append("user.glad.a", 6);
    let outcome = master.sync(&mut replica);
    assert!(matches!(outcome.problems[0].trouble, Trouble::Refused(_)), "{:?}", outcome.problems);
    assert_eq!(outcome.done.mailboxes, 1);
    assert_eq!(master.sync(&mut replica).problems, []);
    master.assert_same(&replica);
}

#[test]
fn a_large_mailbox_goes_in_pieces_that_stay() {
    let (mut master, mut replica) = (Master::new(), MemoryReplica::default());
    (0..8200_u32).for_each(|n| {
        let modseq = master.next();
        let record = master.account.mailboxes[0].add(format!("m{n}").as_bytes(), EPOCH);
        record.modseq = Modseq(modseq);
    });
    assert_eq!(master.sync(&mut replica).problems, []);
    master.assert_same(&replica);
    let pieces = replica.log.iter().filter(|command| command.starts_with("APPLY MAILBOX"));
    assert_eq!(pieces.count(), 2);
    replica.log.clear();
    assert!(master.sync(&mut replica).plan.is_empty());
}

#[test]
fn single_mailboxes_are_sent_and_nothing_else() {
    let (mut master, mut replica) = pair();
    master.append("user.glad", 4);
    master.append("user.glad.a", 5);
    master.subscriptions.insert("user.glad".to_owned());
    let mailboxes = Some([MboxName::from("user.glad.a")].into());
    let outcome = master.sync_with(&mut replica, &Options { mailboxes, ..options() });
    assert_eq!(outcome.problems, []);
    let sent: Vec<String> = outcome.plan.steps.iter().map(ToString::to_string).collect();
    assert_eq!(sent, ["update user.glad.a: 1 new, 0 changed, 0 expunged"]);
    assert_eq!(inbox(&mut replica).records.len(), 2);
}

#[test]
fn a_level_above_a_single_mailbox_is_made_once_and_replaces_no_mailbox() {
    let (mut master, mut replica) = pair();
    let b = Some([MboxName::from("user.glad.a.b")].into());
    let one = Options { mailboxes: b, ..options() };
    master.create("user.glad.a.b");
    master.append("user.glad.a.b", 7);
    // What is a level here by now is still a mailbox over there.
    master.delete("user.glad.a");
    let id = master.tombstones.remove("user.glad.a").expect("it was deleted");
    master.levels.insert("user.glad.a".to_owned(), id);
    let outcome = master.sync_with(&mut replica, &one);
    assert_eq!((&outcome.problems[..], &outcome.plan.brakes[..]), (&[][..], &[][..]));
    let sent: Vec<String> = outcome.plan.steps.iter().map(ToString::to_string).collect();
    assert_eq!(sent, ["create user.glad.a.b: 1 new"]);
    let a = replica.mailboxes.get(&MboxName::from("user.glad.a")).expect("it is left alone");
    assert_eq!(a.records.len(), 1);
    // One that is not there is made, and not made again.
    let (mut master, mut replica) = pair();
    master.create("user.glad.x.y");
    master.levels.insert("user.glad.x".to_owned(), "id90".to_owned());
    let one = Options { mailboxes: Some([MboxName::from("user.glad.x.y")].into()), ..options() };
    let outcome = master.sync_with(&mut replica, &one);
    let sent: Vec<String> = outcome.plan.steps.iter().map(ToString::to_string).collect();
    assert_eq!(sent, ["create the level user.glad.x", "create user.glad.x.y: 0 new"]);
    let again = master.sync_with(&mut replica, &one);
    assert!(again.plan.is_empty() && again.problems.is_empty(), "{again:?}");
}

/// A mailbox that was renamed into somebody else's account leaves the same trace as one that was deleted.
#[test]
fn what_somebody_else_has_by_now_is_not_removed() {
    let (mut master, mut replica) = pair();
    master.delete("user.glad.a");
    let id = UniqueId::from(master.tombstones["user.glad.a"].as_str());
    let options = Options { moved: [id].into(), ..options() };
    let outcome = master.sync_with(&mut replica, &options);
    assert!(matches!(outcome.problems[..], [Problem { trouble: Trouble::Elsewhere, .. }]));
    assert_eq!((outcome.done.removed, replica.applied()), (0, 0));
    assert_eq!(master.sync(&mut replica).done.removed, 1);
}
