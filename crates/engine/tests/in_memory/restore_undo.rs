//! What was given back is taken back, and nothing else.

use std::io;

use engine::ports::Silent;
use engine::restore::journal::{Deed, Entry, Journal};
use engine::restore::undo::Why;
use engine::restore::wanted::{Messages, Wish};
use engine::restore::{Options, RestoreError, restore};
use model::{Guid, MboxName, Modseq, SystemFlags, Uid};

use super::account::{Account, EPOCH, Mailbox};
use super::replica::MemoryReplica;
use super::restore::{
    Notes, account, alive, attempt, change, deliver, give, held, in_place, into_tree, seen, server,
    take_back,
};
use super::trouble::{Busy, Mortal};

/// A server may do what it was told after whoever said it has gone, and said it once more.
#[test]
fn whichever_of_two_notes_was_carried_out_is_undone() {
    let account = account();
    let mut server = server(&account);
    change(&mut server, "user.glad", 1, SystemFlags::EXPUNGED);
    let before = seen(&server);
    let (_, mut notes) = give(&account, &mut server, &in_place());
    let [Entry { deed: Deed::Add { modseq, .. }, .. }] = &mut notes.0.clone()[..] else {
        panic!("{notes:?}")
    };
    let mut again = notes.0[0].clone();
    if let Deed::Add { modseq: noted, .. } = &mut again.deed {
        noted.0 = modseq.0 + 1;
    }
    notes.0.push(again);
    let undone = take_back(&notes, &mut server).expect("it goes on");
    assert_eq!(undone.plan.left, []);
    assert_eq!(seen(&server), before);
    // A message of the same content that somebody else added later is not.
    give(&account, &mut server, &in_place());
    let last = held(&mut server, "user.glad").records.last_entry().expect("it is there").into_mut();
    let came = last.annotations.iter_mut().find(|note| note.entry.ends_with(b"createdmodseq"));
    came.expect("it is told").value = b"900".to_vec();
    let mut notes = notes.clone();
    if let Deed::Add { messages, .. } = &mut notes.0[0].deed {
        messages[0].0 = last.uid;
    }
    let undone = take_back(&notes, &mut server).expect("it goes on");
    assert_eq!(undone.done.messages, 0);
}

#[test]
fn flags_alone_are_set_and_put_back() {
    let account = account();
    let mut server = server(&account);
    change(&mut server, "user.glad", 1, SystemFlags::SEEN);
    change(&mut server, "user.glad", 4, SystemFlags::EXPUNGED);
    change(&mut server, "user.glad.a", 2, SystemFlags::FLAGGED);
    // A message that was moved to another number is known by its content.
    let inbox = held(&mut server, "user.glad");
    let mut moved = inbox.records.remove(&Uid(2)).expect("it is there");
    (moved.uid, moved.system_flags, moved.user_flags) =
        (Uid(5), SystemFlags(0), vec![b"x".to_vec()]);
    inbox.records.insert(Uid(5), moved);
    inbox.told.contents.as_mut().expect("contents").last_uid = Uid(5);
    let before = server.clone();
    let options = Options { flags_only: true, ..in_place() };
    let (outcome, notes) = give(&account, &mut server, &options);
    assert_eq!((outcome.done.flags, outcome.done.messages), (3, 0));
    let (again, _) = give(&account, &mut server, &options);
    assert!(again.plan.steps.is_empty(), "{:?}", again.plan);
    let record = &held(&mut server, "user.glad").records[&Uid(5)];
    assert_eq!(
        (record.system_flags, &record.user_flags),
        (SystemFlags::SEEN, &vec![b"Work".to_vec()])
    );
    // One is changed again, which is then the owner's will.
    change(&mut server, "user.glad.a", 2, SystemFlags::ANSWERED);
    let undone = take_back(&notes, &mut server).expect("it goes on");
    let left: Vec<_> = undone.plan.left.iter().map(|left| (left.uid, left.why)).collect();
    assert_eq!(left, [(Some(Uid(2)), Why::ChangedSince)]);
    let (now, then) = (seen(&server), seen(&before));
    assert_eq!(now["user.glad"], then["user.glad"]);
}

#[test]
fn a_mailbox_that_somebody_uses_is_not_removed() {
    let account = account();
    let mut server = server(&account);
    let (_, notes) = give(&account, &mut server, &into_tree());
    deliver(&mut server, "user.glad.Restored.day.a.b", b"mine");
    change(&mut server, "user.glad.Restored.day.a.b", 1, SystemFlags::FLAGGED);
    let undone = take_back(&notes, &mut server).expect("it goes on");
    let left: Vec<_> =
        undone.plan.left.iter().map(|left| (left.mailbox.to_string(), left.why)).collect();
    assert_eq!(left, [("user.glad.Restored.day.a.b".to_owned(), Why::HoldsOthers(1))]);
    let restored = server.mailboxes.keys().map(ToString::to_string);
    let restored: Vec<String> = restored.filter(|name| name.contains("Restored")).collect();
    assert_eq!(restored, ["user.glad.Restored.day.a.b"]);
    assert_eq!(alive(held(&mut server, "user.glad.Restored.day.a.b")).count(), 1);
}

/// Notes that cannot be kept.
struct Full;

impl Journal for Full {
    fn note(&mut self, _entry: &Entry) -> io::Result<()> {
        Err(io::ErrorKind::StorageFull.into())
    }
}

#[test]
fn what_cannot_be_noted_is_not_done() {
    let account = account();
    let mut server = server(&account);
    change(&mut server, "user.glad", 1, SystemFlags::EXPUNGED);
    let before = seen(&server);
    let (source, messages) = account.source();
    let wish = Wish::of(&source, Messages::Seen);
    let outcome = restore(&wish, &messages, &mut server, &mut Full, &in_place(), &Silent);
    assert!(matches!(outcome, Err(RestoreError::Journal(_))), "{outcome:?}");
    assert_eq!(seen(&server), before);
}

fn flags_only() -> Options {
    Options { flags_only: true, ..in_place() }
}

/// It is noted, and the server is gone before it hears of it, at its last command.
fn note_alone(
    account: &Account,
    server: &mut MemoryReplica,
    options: &Options,
    commands: usize,
) -> Notes {
    let (mut notes, before) = (Notes::default(), seen(server));
    let mut mortal = Mortal { server, left: commands, is_done: false };
    attempt(account, &mut mortal, &mut notes, options).expect_err("it is gone");
    assert!(!notes.0.is_empty());
    assert_eq!(seen(server), before, "{notes:?}");
    notes
}

#[test]
fn flags_that_were_changed_before_they_were_set_at_last_come_back_as_they_were_then() {
    let account = account();
    let mut server = server(&account);
    change(&mut server, "user.glad", 1, SystemFlags::SEEN);
    let first = note_alone(&account, &mut server, &flags_only(), 1);
    // Its owner does something in between: that is what was there before the flags were set.
    change(&mut server, "user.glad", 1, SystemFlags::FLAGGED);
    let before = seen(&server);
    let (_, second) = give(&account, &mut server, &flags_only());
    assert_ne!(seen(&server), before);
    let notes = Notes([first.0, second.0].concat());
    let undone = take_back(&notes, &mut server).expect("it goes on");
    assert_eq!((undone.done.flags, undone.plan.left), (1, vec![]));
    assert_eq!(seen(&server), before);
}

#[test]
fn flags_that_were_set_one_after_the_other_come_back_as_they_were_at_first() {
    let mut account = account();
    let mut server = server(&account);
    change(&mut server, "user.glad", 1, SystemFlags::SEEN);
    let before = seen(&server);
    let mut notes = Notes::default();
    for flags in [SystemFlags(0), SystemFlags::ANSWERED] {
        account.mailboxes[0].records[0].system_flags = flags;
        attempt(&account, &mut server, &mut notes, &flags_only()).expect("it goes on");
    }
    assert_eq!(notes.0.len(), 2);
    take_back(&notes, &mut server).expect("it goes on");
    assert_eq!(seen(&server), before);
}

#[test]
fn a_message_that_was_to_have_a_number_hides_nothing_of_the_one_that_has_it() {
    let account = account();
    let mut server = server(&account);
    change(&mut server, "user.glad", 2, SystemFlags::FLAGGED);
    let before = seen(&server);
    let (_, mut notes) = give(&account, &mut server, &flags_only());
    let deed = Deed::Add { modseq: Modseq(999), messages: vec![(Uid(2), Guid([7; 20]))] };
    notes.0.insert(0, Entry { deed, ..notes.0[0].clone() });
    let undone = take_back(&notes, &mut server).expect("it goes on");
    assert_eq!((undone.done.messages, undone.done.flags), (0, 1));
    assert_eq!(seen(&server), before);
}

#[test]
fn an_empty_mailbox_that_somebody_else_has_made_stays() {
    let account = account();
    let mut server = server(&account);
    let name = MboxName::from("user.glad.a.b");
    let mut other = server.mailboxes.remove(&name).expect("it is there");
    let notes = note_alone(&account, &mut server, &in_place(), 2);
    assert!(matches!(notes.0[0].deed, Deed::Create { modseq: Some(_) }), "{notes:?}");
    // With its name and its identity, as whoever replicates does it.
    other.records.clear();
    other.told.contents.as_mut().expect("contents").last_uid = Uid(0);
    other.told.createdmodseq = Some(Modseq(4711));
    server.mailboxes.insert(name.clone(), other);
    let undone = take_back(&notes, &mut server).expect("it goes on");
    assert_eq!((undone.plan.steps.len(), undone.plan.left), (0, vec![]));
    // A server that does not tell when it was made is believed to have made it then, and so is a note.
    for (created, noted) in [(None, Some(Modseq(9))), (Some(Modseq(4711)), None)] {
        let mut server = server.clone();
        held(&mut server, "user.glad.a.b").told.createdmodseq = created;
        let mut notes = notes.clone();
        notes.0[0].deed = Deed::Create { modseq: noted };
        let undone = take_back(&notes, &mut server).expect("it goes on");
        assert_eq!(undone.done.mailboxes, 1, "{created:?} {noted:?}");
        assert!(!server.mailboxes.contains_key(&name));
    }
}

#[test]
fn who_keeps_a_mailbox_stays_subscribed_to_it() {
    let account = account();
    let mut server = server(&account);
    let subscribed = server.subscriptions.clone();
    let (_, notes) = give(&account, &mut server, &into_tree());
    let kept = MboxName::from("user.glad.Restored.day.a.b");
    assert!(server.subscriptions.contains(&kept));
    // Mail comes when it is just about to be removed.
    let mut busy = Busy { server, left: 0, asked: Some(kept.clone()) };
    let undone = take_back(&notes, &mut busy).expect("it goes on");
    assert_eq!((busy.asked, undone.problems), (None, vec![]));
    let server = busy.server;
    assert_eq!(server.mailboxes[&kept].records.len(), 5);
    let mut expected = subscribed;
    expected.insert(kept);
    assert_eq!(server.subscriptions, expected);
}

#[test]
fn many_flags_are_noted_and_set_in_pieces() {
    let mut account = Account::new("glad");
    account.mailboxes.push(Mailbox::new("user.glad", "id0", 17));
    (0..8200_u32).for_each(|n| {
        account.mailboxes[0].add(&n.to_be_bytes(), EPOCH);
    });
    let mut server = server(&account);
    let before = seen(&server);
    let records = &mut account.mailboxes[0].records;
    records.iter_mut().for_each(|record| record.system_flags = SystemFlags::SEEN);
    let (outcome, notes) = give(&account, &mut server, &flags_only());
    assert_eq!(outcome.done.flags, 8200);
    let flagged = |entry: &Entry| match &entry.deed {
        Deed::Flag(messages) => messages.len(),
        other => panic!("{other:?}"),
    };
    assert_eq!(notes.0.iter().map(flagged).collect::<Vec<_>>(), [8192, 8]);
    let said = server.log.iter().filter(|command| command.starts_with("APPLY MAILBOX")).count();
    assert_eq!(said, 2, "the second is bound to what the first has left");
    assert!(alive(held(&mut server, "user.glad")).all(|it| it.system_flags == SystemFlags::SEEN));
    let undone = take_back(&notes, &mut server).expect("it goes on");
    assert_eq!(undone.done.flags, 8200);
    assert_eq!(seen(&server), before);
}
