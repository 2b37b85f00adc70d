//! Snapshots are given back to the plainest server there is, which may change meanwhile, or go away.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use csync::meta::Quota;
use csync::record::Record;
use cyrus_format::db::flat;
use cyrus_format::seen::{Seen as Seen23, UidSet};
use engine::ports::{Peer, Silent};
use engine::restore::journal::{Entry, Journal};
use engine::restore::plan::Brake;
use engine::restore::undo::{self, Why, undo};
use engine::restore::wanted::{Messages, Wish};
use engine::restore::{Options, Outcome, Placement, RestoreError, Trouble, restore};
use model::{MboxName, Modseq, SystemFlags, Timestamp, Uid, UidValidity, Userid};
use peer::SessionError;
use proptest::prelude::*;

use super::account::{Account, EPOCH, Mailbox, guid_of};
use super::replica::{Held, MemoryReplica};
use super::trouble::{Busy, Mortal};

const NAMES: [&str; 3] = ["user.glad", "user.glad.a", "user.glad.a.b"];

/// Notes in memory.
#[derive(Clone, Debug, Default)]
pub struct Notes(pub Vec<Entry>);

impl Journal for Notes {
    fn note(&mut self, entry: &Entry) -> io::Result<()> {
        self.0.push(entry.clone());
        Ok(())
    }
}

/// An account with three mailboxes of four messages each; of the last two, one is there twice.
pub fn account() -> Account {
    let mut account = Account::new("glad");
    for (at, name) in NAMES.iter().enumerate() {
        let mut mailbox = Mailbox::new(name, &format!("id{at}"), 17);
        for body in [0, 1, 2, 2] {
            mailbox.add(&[at as u8, body], EPOCH + i64::from(body));
        }
        mailbox.records[1].system_flags = SystemFlags::SEEN;
        mailbox.records[1].user_flags.insert(0);
        mailbox.flags = vec![Some(b"Work".to_vec())];
        account.mailboxes.push(mailbox);
    }
    account
}

pub fn in_place() -> Options {
    Options {
        placement: Placement::InPlace,
        flags_only: false,
        accept_mismatch: false,
        partition: None,
        now: Timestamp::from_secs(1_800_000_000),
        workers: 1,
        dry_run: false,
    }
}

pub fn into_tree() -> Options {
    let tops = ["user.glad.Restored.day", "user.glad.Restored.day-1"].map(MboxName::from);
    let placement = Placement::Tree { snapshot: b"1".to_vec(), tops: tops.to_vec() };
    Options { placement, ..in_place() }
}

pub fn attempt(
    account: &Account,
    peer: &mut dyn Peer,
    notes: &mut Notes,
    options: &Options,
) -> Result<Outcome, RestoreError> {
    let (source, messages) = account.source();
    let wish = Wish::of(&source, Messages::Seen);
    restore(&wish, &messages, peer, notes, options, &Silent)
}

/// Restores; nothing may be wrong.
#[track_caller]
pub fn give(account: &Account, server: &mut dyn Peer, options: &Options) -> (Outcome, Notes) {
    let mut notes = Notes::default();
    let outcome = attempt(account, server, &mut notes, options).expect("it goes on");
    assert_eq!((&outcome.problems, &outcome.findings), (&vec![], &vec![]));
    (outcome, notes)
}

pub fn take_back(notes: &Notes, peer: &mut dyn Peer) -> Result<undo::Outcome, SessionError> {
    let options = undo::Options { now: Timestamp::from_secs(1_800_000_001), dry_run: false };
    undo(&Userid::from("glad"), &notes.0, peer, options)
}

/// A server with all of the account, as if it had been there ever since.
pub fn server(account: &Account) -> MemoryReplica {
    let mut server = MemoryReplica::default();
    give(account, &mut server, &in_place());
    for mailbox in &account.mailboxes {
        let held = server.mailboxes.get_mut(&MboxName::from(mailbox.name.as_str()));
        let contents = held.and_then(|held| held.told.contents.as_mut()).expect("it is there");
        contents.uidvalidity = UidValidity(mailbox.uidvalidity);
    }
    server.log.clear();
    server
}

pub fn held<'s>(server: &'s mut MemoryReplica, name: &str) -> &'s mut Held {
    server.mailboxes.get_mut(&MboxName::from(name)).expect("it is there")
}

pub fn next_modseq(server: &mut MemoryReplica, name: &str) -> Modseq {
    let held = held(server, name);
    held.told.highestmodseq.0 += 1;
    held.told.highestmodseq
}

pub fn change(server: &mut MemoryReplica, name: &str, uid: u32, flags: SystemFlags) {
    if !server.mailboxes.contains_key(&MboxName::from(name)) {
        return;
    }
    let modseq = next_modseq(server, name);
    if let Some(record) = held(server, name).records.get_mut(&Uid(uid))
        && !record.is_expunged()
    {
        (record.system_flags.0, record.modseq) = (record.system_flags.0 | flags.0, modseq);
    }
}

pub fn deliver(server: &mut MemoryReplica, name: &str, body: &[u8]) {
    if !server.mailboxes.contains_key(&MboxName::from(name)) {
        return;
    }
    let modseq = next_modseq(server, name);
    let held = held(server, name);
    let contents = held.told.contents.as_mut().expect("contents");
    contents.last_uid.0 += 1;
    let uid = contents.last_uid;
    let (guid, size) = (guid_of(body), body.len() as u32);
    held.records.insert(uid, Record { uid, modseq, guid, size, ..Record::default() });
}

/// What clients see: of each mailbox its identity, and of each message what it is and its flags.
pub type Seen = BTreeMap<String, (String, BTreeMap<u32, (String, u32, Vec<Vec<u8>>)>)>;

pub fn seen(server: &MemoryReplica) -> Seen {
    let view = |held: &Held| {
        let alive = held.records.values().filter(|record| !record.is_expunged());
        let messages = alive.map(|record| {
            let flags = (record.guid.to_string(), record.system_flags.0, record.user_flags.clone());
            (record.uid.0, flags)
        });
        (held.told.uniqueid.to_string(), messages.collect())
    };
    let mailboxes = server.mailboxes.iter();
    mailboxes.map(|(name, held)| (name.to_string(), view(held))).collect()
}

/// Nothing that was there has changed, and what came has numbers that were never given out.
#[track_caller]
fn assert_lawful(before: &MemoryReplica, after: &MemoryReplica) {
    for (name, was) in &before.mailboxes {
        let is = &after.mailboxes[name];
        let last = was.told.contents.as_ref().expect("contents").last_uid;
        assert_eq!(was.told.uniqueid, is.told.uniqueid);
        for (uid, record) in &is.records {
            match was.records.get(uid) {
                Some(known) => assert_eq!(known, record),
                None => assert!(*uid > last, "{name}: {uid} was given out before"),
            }
        }
        assert!(was.records.keys().all(|uid| is.records.contains_key(uid)), "{name}");
        let uidvalidity = |held: &Held| held.told.contents.as_ref().map(|it| it.uidvalidity);
        assert_eq!(uidvalidity(was), uidvalidity(is));
        let had: BTreeSet<_> = alive(was).map(|record| record.guid).collect();
        let came = alive(is).filter(|record| record.uid > last);
        assert!(came.clone().all(|record| !had.contains(&record.guid)), "{name}: a second copy");
    }
}

pub fn alive(held: &Held) -> impl Iterator<Item = &Record> + Clone {
    held.records.values().filter(|record| !record.is_expunged())
}

/// Something that happens on the server.
#[derive(Clone, Debug)]
enum Event {
    Expunge(usize, u32),
    Forget(usize, u32),
    Deliver(usize, u8),
    Flag(usize, u32),
    Delete(usize),
    MakeAnew(usize),
}

fn event() -> impl Strategy<Value = Event> {
    let folder = || 0..NAMES.len();
    let uid = || 1..8u32;
    prop_oneof![
        5 => (folder(), uid()).prop_map(|(folder, uid)| Event::Expunge(folder, uid)),
        2 => (folder(), uid()).prop_map(|(folder, uid)| Event::Forget(folder, uid)),
        3 => (folder(), 0..5u8).prop_map(|(folder, body)| Event::Deliver(folder, body)),
        2 => (folder(), uid()).prop_map(|(folder, uid)| Event::Flag(folder, uid)),
        1 => (1..NAMES.len()).prop_map(Event::Delete),
        1 => (1..NAMES.len()).prop_map(Event::MakeAnew),
    ]
}

fn happen(server: &mut MemoryReplica, event: &Event) {
    match *event {
        Event::Expunge(folder, uid) => change(server, NAMES[folder], uid, SystemFlags::EXPUNGED),
        Event::Forget(folder, uid) => {
            if let Some(held) = server.mailboxes.get_mut(&MboxName::from(NAMES[folder])) {
                held.records.retain(|known, record| known.0 != uid || !record.is_expunged());
            }
        }
        Event::Deliver(folder, body) => deliver(server, NAMES[folder], &[folder as u8, body]),
        Event::Flag(folder, uid) => change(server, NAMES[folder], uid, SystemFlags::FLAGGED),
        Event::Delete(folder) => {
            server.mailboxes.remove(&MboxName::from(NAMES[folder]));
        }
        Event::MakeAnew(folder) => {
            let name = MboxName::from(NAMES[folder]);
            if let Some(mut held) = server.mailboxes.remove(&name) {
                held.told.uniqueid = format!("anew{folder}").as_str().into();
                held.records.clear();
                let contents = held.told.contents.as_mut().expect("contents");
                (contents.uidvalidity.0, contents.last_uid) = (1_790_000_000, Uid(0));
                server.mailboxes.insert(name, held);
            }
        }
    }
}

proptest! {
    #[test]
    fn whatever_happened_all_mail_is_there_again_and_can_be_taken_back(
        events in prop::collection::vec(event(), 0..25),
    ) {
        let account = account();
        let mut server = server(&account);
        events.iter().for_each(|event| happen(&mut server, event));
        let before = server.clone();
        let options = Options { accept_mismatch: true, ..in_place() };
        let (_, notes) = give(&account, &mut server, &options);
        assert_lawful(&before, &server);
        for mailbox in &account.mailboxes {
            let held = &server.mailboxes[&MboxName::from(mailbox.name.as_str())];
            let there: BTreeSet<_> = alive(held).map(|record| record.guid).collect();
            prop_assert!(mailbox.records.iter().all(|record| there.contains(&record.guid)));
        }
        server.log.clear();
        let (again, none) = give(&account, &mut server, &options);
        prop_assert!(again.plan.steps.is_empty(), "{:?}", again.plan);
        prop_assert_eq!((none.0, server.applied()), (vec![], 0));
        let undone = take_back(&notes, &mut server).expect("it goes on");
        prop_assert_eq!((undone.plan.left, undone.problems), (vec![], vec![]));
        prop_assert_eq!(seen(&server), seen(&before));
        let again = take_back(&notes, &mut server).expect("it goes on");
        prop_assert!(again.plan.steps.is_empty(), "{:?}", again.plan);
    }

    #[test]
    fn whenever_the_connection_breaks_both_ways_lead_on(
        events in prop::collection::vec(event(), 0..25),
        commands in 0..12usize,
        is_done: bool,
        tree: bool,
        undone_first: bool,
    ) {
        let account = account();
        let mut server = server(&account);
        events.iter().for_each(|event| happen(&mut server, event));
        let before = server.clone();
        let options = if tree { into_tree() } else { in_place() };
        let options = Options { accept_mismatch: true, ..options };
        let mut notes = Notes::default();
        let mut mortal = Mortal { server: &mut server, left: commands, is_done };
        let died = attempt(&account, &mut mortal, &mut notes, &options).is_err();
        // Of a session that has ended, the server keeps nothing.
        server.restart().expect("it goes on");
        if undone_first {
            let undone = take_back(&notes, &mut server).expect("it goes on");
            prop_assert_eq!(undone.plan.left, vec![]);
            prop_assert_eq!(seen(&server), seen(&before), "{} {:?}", died, notes);
        }
        let outcome = attempt(&account, &mut server, &mut notes, &options).expect("it goes on");
        prop_assert_eq!(&outcome.problems, &vec![]);
        let mut whole = before.clone();
        give(&account, &mut whole, &options);
        let messages = |server: &MemoryReplica| -> Vec<BTreeSet<String>> {
            let guids = |(_, messages): (_, BTreeMap<_, (String, _, _)>)| {
                messages.into_values().map(|(guid, _, _)| guid).collect()
            };
            seen(server).into_values().map(guids).collect()
        };
        prop_assert_eq!(messages(&server), messages(&whole));
        take_back(&notes, &mut server).expect("it goes on");
        prop_assert_eq!(seen(&server), seen(&before));
    }
}

#[test]
fn a_server_that_goes_on_is_looked_at_anew() {
    let account = account();
    let mut server = server(&account);
    (1..=4).for_each(|uid| change(&mut server, "user.glad", uid, SystemFlags::EXPUNGED));
    let mut busy = Busy { server, left: 3, asked: None };
    let (outcome, notes) = give(&account, &mut busy, &in_place());
    let inbox = held(&mut busy.server, "user.glad");
    let there: Vec<_> = alive(inbox).map(|record| record.uid.0).collect();
    // Three were delivered, and of the four, two were the same.
    assert_eq!(there, [5, 6, 7, 8, 9, 10]);
    assert_eq!(outcome.done.messages, 3);
    let sent = busy.server.log.iter().filter(|command| *command == "APPLY MESSAGE").count();
    assert_eq!(sent, 1, "bytes are sent once: {:?}", busy.server.log);
    // What is noted twice is undone once.
    take_back(&notes, &mut busy.server).expect("it goes on");
    assert_eq!(alive(held(&mut busy.server, "user.glad")).count(), 3);
    // One that never rests is given up.
    let mut busy = Busy { server: busy.server, left: 100, asked: None };
    let outcome =
        attempt(&account, &mut busy, &mut Notes::default(), &in_place()).expect("it ends");
    assert_eq!(outcome.problems.iter().map(|it| &it.trouble).collect::<Vec<_>>(), [&Trouble::Busy]);
}

#[test]
fn a_number_that_was_never_given_out_is_kept() {
    let account = account();
    let mut server = server(&account);
    // The server itself was set back to before the last two messages.
    let inbox = held(&mut server, "user.glad");
    inbox.records.retain(|uid, _| uid.0 <= 2);
    inbox.told.contents.as_mut().expect("contents").last_uid = Uid(2);
    change(&mut server, "user.glad", 1, SystemFlags::EXPUNGED);
    let before = server.clone();
    let (outcome, _) = give(&account, &mut server, &in_place());
    assert_lawful(&before, &server);
    let [step] = &outcome.plan.steps[..] else { panic!("{:?}", outcome.plan) };
    let back: Vec<_> = step.back.iter().map(|back| (back.uid.0, back.to.0)).collect();
    assert_eq!(back, [(3, 3), (1, 4)]);
    assert_eq!(step.to_string(), "update user.glad: 2 come back, with new UIDs 1->4");
}

#[test]
fn a_tree_is_found_again_whatever_became_of_it() {
    let account = account();
    let mut server = server(&account);
    let before = server.clone();
    let (outcome, notes) = give(&account, &mut server, &into_tree());
    assert_lawful(&before, &server);
    let made: Vec<String> = outcome.plan.steps.iter().map(ToString::to_string).collect();
    assert_eq!(
        made,
        [
            "create user.glad.Restored",
            "create user.glad.Restored.day",
            "create user.glad.Restored.day.INBOX: 4 come back",
            "create user.glad.Restored.day.a: 4 come back",
            "create user.glad.Restored.day.a.b: 4 come back",
        ]
    );
    let sent = server.log.iter().filter(|command| *command == "APPLY MESSAGE").count();
    assert_eq!(sent, 0, "all bytes are there: {:?}", server.log);
    // Its owner renames a folder, and throws another one away, which is kept for a while.
    for (from, to) in [
        ("user.glad.Restored.day.a.b", "user.glad.mine"),
        ("user.glad.Restored.day.a", "DELETED.user.glad.Restored.day.a.5F000000"),
    ] {
        let mut held = server.mailboxes.remove(&MboxName::from(from)).expect("it is there");
        held.told.mboxname = to.into();
        server.mailboxes.insert(to.into(), held);
    }
    let (again, _) = give(&account, &mut server, &into_tree());
    let made: Vec<String> = again.plan.steps.iter().map(ToString::to_string).collect();
    assert_eq!(made, ["create user.glad.Restored.day.a: 4 come back"]);
    let undone = take_back(&notes, &mut server).expect("it goes on");
    let left: Vec<_> = undone.plan.left.iter().map(|left| left.why).collect();
    assert_eq!(left, [Why::Renamed]);
    assert!(server.mailboxes.contains_key(&MboxName::from("user.glad.mine")));
}

#[test]
fn a_level_that_was_renamed_is_made_again_for_others() {
    let account = account();
    let mut server = server(&account);
    give(&account, &mut server, &into_tree());
    let all: Vec<MboxName> = server.mailboxes.keys().cloned().collect();
    for name in all {
        let new = MboxName::from(name.to_string().replace("Restored", "Kept").as_str());
        let mut held = server.mailboxes.remove(&name).expect("it is there");
        held.told.mboxname = new.clone();
        server.mailboxes.insert(new, held);
    }
    let mut later = account.clone();
    later.mailboxes.truncate(1);
    later.mailboxes[0].id = Some("other".to_owned());
    let (outcome, _) = give(&later, &mut server, &into_tree());
    let made: Vec<String> = outcome.plan.steps.iter().map(ToString::to_string).collect();
    assert_eq!(
        made,
        [
            "create user.glad.Restored",
            "create user.glad.Restored.day",
            "create user.glad.Restored.day.INBOX: 4 come back",
        ]
    );
}

/// Of a mailbox that it has removed for good, a Cyrus may remember the identity.
#[test]
fn an_identity_that_the_server_does_not_take_again_is_passed_over() {
    let account = account();
    let mut server = server(&account);
    let before = seen(&server);
    server.mailboxes.remove(&MboxName::from("user.glad.a.b"));
    server.tombs.insert("id2".into());
    let (outcome, notes) = give(&account, &mut server, &in_place());
    assert_eq!(outcome.done.messages, 4);
    let after = seen(&server);
    assert_ne!(after["user.glad.a.b"].0, "id2");
    assert_eq!(after["user.glad.a.b"].1, before["user.glad.a.b"].1);
    let (again, _) = give(&account, &mut server, &in_place());
    assert!(again.plan.steps.is_empty(), "{:?}", again.plan);
    take_back(&notes, &mut server).expect("it goes on");
    assert_eq!(seen(&server).len(), 2);
}

#[test]
fn what_was_made_again_and_renamed_is_not_made_once_more() {
    let account = account();
    let mut server = server(&account);
    let former = MboxName::from("user.glad.a.b");
    server.mailboxes.remove(&former);
    server.tombs.insert("id2".into());
    give(&account, &mut server, &in_place());
    let mut made = server.mailboxes.remove(&former).expect("it was made again");
    assert_ne!(made.told.uniqueid, "id2".into());
    made.told.mboxname = "user.glad.mine".into();
    server.mailboxes.insert("user.glad.mine".into(), made);
    let (again, _) = give(&account, &mut server, &in_place());
    assert!(again.plan.steps.is_empty(), "{:?}", again.plan);
    // What is gone from it comes back to it.
    change(&mut server, "user.glad.mine", 1, SystemFlags::EXPUNGED);
    let (again, _) = give(&account, &mut server, &in_place());
    assert_eq!(again.plan.steps[0].told.mboxname, "user.glad.mine".into());
    assert!(!server.mailboxes.contains_key(&former));
}

#[test]
fn two_snapshots_of_one_day_get_two_trees() {
    let account = account();
    let mut server = server(&account);
    give(&account, &mut server, &into_tree());
    let tops = ["user.glad.Restored.day", "user.glad.Restored.day-2"].map(MboxName::from).to_vec();
    let second = Placement::Tree { snapshot: b"2".to_vec(), tops };
    let options = Options { placement: second, ..in_place() };
    let (outcome, _) = give(&account, &mut server, &options);
    assert_eq!(outcome.plan.steps[0].told.mboxname, "user.glad.Restored.day-2".into());
    let (again, _) = give(&account, &mut server, &options);
    assert!(again.plan.steps.is_empty(), "{:?}", again.plan);
}

#[test]
fn what_is_another_mailbox_needs_consent() {
    let account = account();
    let mut server = server(&account);
    happen(&mut server, &Event::MakeAnew(1));
    // As long as nothing was in it, nothing can be mixed up.
    let (dry, _) = give(&account, &mut server, &Options { dry_run: true, ..in_place() });
    assert_eq!(dry.plan.brakes, []);
    deliver(&mut server, "user.glad.a", b"new");
    change(&mut server, "user.glad", 1, SystemFlags::EXPUNGED);
    server.log.clear();
    let outcome =
        attempt(&account, &mut server, &mut Notes::default(), &in_place()).expect("it ends");
    let brakes = &outcome.plan.brakes[..];
    assert!(matches!(brakes, [Brake::OtherIdentity { .. }]), "{brakes:?}");
    assert!(outcome.is_stopped(&in_place()));
    assert_eq!(server.applied(), 0);
    let before = server.clone();
    give(&account, &mut server, &Options { accept_mismatch: true, ..in_place() });
    assert_lawful(&before, &server);
    assert_eq!(alive(held(&mut server, "user.glad.a")).count(), 4);
}

#[test]
fn a_quota_that_does_not_suffice_is_known_beforehand() {
    let account = account();
    let mut server = server(&account);
    change(&mut server, "user.glad", 1, SystemFlags::EXPUNGED);
    change(&mut server, "user.glad", 2, SystemFlags::EXPUNGED);
    let quota = |limit: u64| Quota {
        root: "user.glad".into(),
        limits: [None, Some(limit), None, None],
        modseq: None,
    };
    server.quotas.insert("user.glad".into(), quota(11));
    server.log.clear();
    let outcome =
        attempt(&account, &mut server, &mut Notes::default(), &in_place()).expect("it ends");
    let [shortage] = &outcome.plan.shortages[..] else { panic!("{:?}", outcome.plan) };
    assert_eq!((shortage.used, shortage.added, shortage.limit), (10, 2, 11));
    assert_eq!(server.applied(), 0);
    server.quotas.insert("user.glad".into(), quota(12));
    give(&account, &mut server, &in_place());
}

#[test]
fn a_message_that_is_damaged_stays_away_alone() {
    let mut account = account();
    let mut server = server(&account);
    (1..=3).for_each(|uid| change(&mut server, "user.glad", uid, SystemFlags::EXPUNGED));
    held(&mut server, "user.glad").records.clear();
    account.mailboxes[0].bodies.insert(2, b"??".to_vec());
    let mut notes = Notes::default();
    let outcome = attempt(&account, &mut server, &mut notes, &in_place()).expect("it goes on");
    assert_eq!(outcome.findings.iter().map(|it| it.uid).collect::<Vec<_>>(), [Some(2)]);
    assert_eq!((outcome.done.messages, &outcome.problems[..]), (2, &[][..]));
}

#[test]
fn without_an_inbox_nothing_is_sent() {
    let account = account();
    let mut server = MemoryReplica::default();
    let error = attempt(&account, &mut server, &mut Notes::default(), &into_tree());
    assert!(matches!(error, Err(RestoreError::NoInbox(_))), "{error:?}");
    assert_eq!(server.applied(), 0);
}

/// Up to 2.3, what was read stands beside the mailbox, and what was expunged in a file of its own.
#[test]
fn a_snapshot_of_an_old_release_is_given_to_a_new_one() {
    let mut account = Account::new("glad");
    let mut mailbox = Mailbox::new("user.glad", "id0", 10);
    (0..4).for_each(|body| drop(mailbox.add(&[b'm', body], EPOCH).clone()));
    mailbox.expunged = vec![mailbox.records.remove(3)];
    account.mailboxes.push(mailbox);
    let state = Seen23 { uids: UidSet::from_uids([Uid(1), Uid(3)]), ..Seen23::default() };
    let seen = flat::write(&[(b"id0".to_vec(), state.write())]).expect("a database");
    account.files.insert("seen".to_owned(), seen);
    let mut server = MemoryReplica::default();
    give(&account, &mut server, &in_place());
    let inbox = held(&mut server, "user.glad");
    let flags: Vec<_> = inbox.records.values().map(|it| (it.uid.0, it.system_flags.0)).collect();
    let seen = SystemFlags::SEEN.0;
    assert_eq!(flags, [(1, seen), (2, 0), (3, seen)]);
    // What was expunged comes back to whoever asks for it.
    let (source, messages) = account.source();
    let wish = Wish::of(&source, Messages::Kept);
    let notes = &mut Notes::default();
    let outcome = restore(&wish, &messages, &mut server, notes, &in_place(), &Silent);
    assert_eq!(outcome.expect("it goes on").done.messages, 1);
    assert_eq!(alive(held(&mut server, "user.glad")).count(), 4);
}

#[test]
fn a_large_mailbox_comes_in_pieces_and_keeps_its_numbers() {
    let mut account = Account::new("glad");
    account.mailboxes.push(Mailbox::new("user.glad", "id0", 17));
    (0..8200_u32).for_each(|n| {
        account.mailboxes[0].add(&n.to_be_bytes(), EPOCH);
    });
    for options in [in_place(), into_tree()] {
        let mut server = MemoryReplica::default();
        if options.placement != Placement::InPlace {
            let mut empty = Account::new("glad");
            empty.mailboxes.push(Mailbox::new("user.glad", "id0", 17));
            give(&empty, &mut server, &in_place());
        }
        let before = seen(&server);
        let mut notes = Notes::default();
        // It hangs up on the first piece, which it keeps: of the tree, two levels and their
        // subscriptions come before.
        let left = if options.placement == Placement::InPlace { 1 } else { 5 };
        let mut mortal = Mortal { server: &mut server, left, is_done: true };
        attempt(&account, &mut mortal, &mut notes, &options).expect_err("it is gone");
        server.restart().expect("it goes on");
        let outcome = attempt(&account, &mut server, &mut notes, &options).expect("it goes on");
        assert_eq!(outcome.done.messages, 8, "{:?}", outcome.done);
        let held = server.mailboxes.values().max_by_key(|held| held.records.len());
        let uids: Vec<u32> = held.expect("a mailbox").records.keys().map(|uid| uid.0).collect();
        assert_eq!(uids, (1..=8200).collect::<Vec<u32>>());
        take_back(&notes, &mut server).expect("it goes on");
        assert_eq!(seen(&server), before);
    }
}
