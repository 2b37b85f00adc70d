//! What differs between two snapshots.

use engine::changes::{AccountChange, At, Change, Changes, MailboxChanges, Message, compare};
use model::{Guid, MboxName, SystemFlags, Uid, UidValidity};

use super::account::{Account, EPOCH, Mailbox, guid_of};
use super::archive::Archive;

/// An account with two folders of a few messages.
fn account() -> Account {
    let mut account = Account::new("glad");
    for (name, id) in [("user.glad", "id0"), ("user.glad.Work", "id1")] {
        let mut mailbox = Mailbox::new(name, id, 17);
        mailbox.flags = vec![Some(b"$Work".to_vec()), Some(b"Junk".to_vec())];
        for n in 1..=4 {
            mailbox.add(body(n).as_bytes(), EPOCH + n);
        }
        account.mailboxes.push(mailbox);
    }
    account.files.insert("sub".to_owned(), b"user.glad.Work\t\n".to_vec());
    account
}

fn body(n: i64) -> String {
    format!("Subject: {n}\r\n\r\nbody {n}\r\n")
}

fn message(uid: u32, n: i64) -> Message {
    Message { uid: Uid(uid), guid: Some(guid_of(body(n).as_bytes())) }
}

fn mailbox(name: &str, changes: Vec<Change>) -> MailboxChanges {
    MailboxChanges { name: MboxName::from(name), changes }
}

/// Compares a snapshot of one account with one of the other, of two chains and of one.
fn compared(before: &Account, after: &Account) -> Changes {
    let (mut one, mut other) = (Archive::default(), Archive::default());
    one.take(before);
    other.take(after);
    let of_two = {
        let chains = [one.chain(before).expect("a chain"), other.chain(after).expect("a chain")];
        let [before, after] =
            [0, 1].map(|at| At { snapshot: chains[at].at(1).expect("one"), chain: &chains[at] });
        compare(before, after).expect("whole snapshots")
    };
    one.is_lazy = true;
    one.take(after);
    let chain = one.chain(after).expect("a chain");
    let [before, after] = [0, 1].map(|at| At { snapshot: &chain.snapshots()[at], chain: &chain });
    let of_one = compare(before, after).expect("whole snapshots");
    assert_eq!(of_one, of_two);
    of_one
}

#[test]
fn nothing_differs_between_equal_snapshots() {
    let account = account();
    assert!(compared(&account, &account.clone()).is_empty());
}

#[test]
fn messages_come_and_go_as_clients_see_it() {
    let before = account();
    let mut after = before.clone();
    let inbox = &mut after.mailboxes[0];
    inbox.records.remove(0);
    inbox.records[0].system_flags = SystemFlags::EXPUNGED;
    inbox.records[1].system_flags = SystemFlags(SystemFlags::EXPUNGED.0 | SystemFlags::UNLINKED.0);
    inbox.add(body(9).as_bytes(), EPOCH);
    let changes = compared(&before, &after);
    let expected = vec![
        Change::Went(message(1, 1)),
        Change::Went(message(2, 2)),
        Change::Went(message(3, 3)),
        Change::Came(message(5, 9)),
    ];
    assert_eq!(changes.mailboxes, [mailbox("user.glad", expected)]);
    assert_eq!(changes.account, []);
}

#[test]
fn what_2_3_expunged_is_gone_although_it_is_kept() {
    let mut before = account();
    before.mailboxes.iter_mut().for_each(|mailbox| mailbox.version = 10);
    let mut after = before.clone();
    let record = after.mailboxes[1].records.remove(2);
    after.mailboxes[1].expunged.push(record);
    let changes = compared(&before, &after);
    let expected = vec![Change::Went(message(3, 3))];
    assert_eq!(changes.mailboxes, [mailbox("user.glad.Work", expected)]);
}

#[test]
fn flags_are_told_by_name_even_if_their_numbers_change() {
    let mut before = account();
    let records = &mut before.mailboxes[0].records;
    records[0].system_flags = SystemFlags::SEEN;
    records[0].user_flags.insert(0);
    records[1].user_flags.insert(1);
    records[2].system_flags = SystemFlags(SystemFlags::FLAGGED.0 | SystemFlags::NEEDS_CLEANUP.0);
    let mut after = before.clone();
    let inbox = &mut after.mailboxes[0];
    inbox.flags = vec![Some(b"Junk".to_vec()), None, Some(b"$Work".to_vec())];
    inbox.records[0].user_flags = Default::default();
    inbox.records[0].user_flags.insert(2);
    inbox.records[0].user_flags.insert(1);
    inbox.records[1].user_flags = Default::default();
    inbox.records[1].user_flags.insert(0);
    inbox.records[1].system_flags = SystemFlags(SystemFlags::SEEN.0 | SystemFlags::DRAFT.0);
    inbox.records[2].system_flags = SystemFlags::FLAGGED;
    let flags = |names: &[&str]| -> Vec<String> { names.iter().map(|n| n.to_string()).collect() };
    let expected = vec![
        Change::Flags {
            message: message(1, 1),
            before: flags(&["\\Seen", "$Work"]),
            after: flags(&["\\Seen", "$Work", "flag number 1"]),
        },
        Change::Flags {
            message: message(2, 2),
            before: flags(&["Junk"]),
            after: flags(&["\\Draft", "\\Seen", "Junk"]),
        },
    ];
    assert_eq!(compared(&before, &after).mailboxes, [mailbox("user.glad", expected)]);
}

#[test]
fn a_renamed_mailbox_is_the_same_and_one_of_the_same_name_need_not_be() {
    let before = account();
    let mut after = before.clone();
    after.mailboxes[1].name = "user.glad.Old".to_owned();
    after.mailboxes[1].records.remove(3);
    let mut work = Mailbox::new("user.glad.Work", "id2", 17);
    work.add(body(1).as_bytes(), EPOCH);
    after.mailboxes.push(work);
    assert_eq!(
        compared(&before, &after).mailboxes,
        [
            mailbox(
                "user.glad.Old",
                vec![
                    Change::Renamed { from: "user.glad.Work".into() },
                    Change::Went(message(4, 4))
                ]
            ),
            mailbox("user.glad.Work", vec![Change::MailboxCame, Change::Came(message(1, 1))]),
        ]
    );
    let back = compared(&after, &before).mailboxes;
    let expected =
        vec![Change::Renamed { from: "user.glad.Old".into() }, Change::Came(message(4, 4))];
    assert!(back.contains(&mailbox("user.glad.Work", expected)), "{back:?}");
    let expected = vec![Change::MailboxWent, Change::Went(message(1, 1))];
    assert!(back.contains(&mailbox("user.glad.Work", expected)), "{back:?}");
}

#[test]
fn uids_that_start_over_are_not_compared() {
    let before = account();
    let mut after = before.clone();
    after.mailboxes[0].uidvalidity += 1;
    after.mailboxes[0].records.remove(0);
    after.mailboxes[0].acl.clear();
    let expected = vec![
        Change::UidValidity {
            before: UidValidity(1_400_000_000),
            after: UidValidity(1_400_000_001),
        },
        Change::Acl {
            identifier: b"glad".to_vec(),
            before: Some(b"lrswipkxtecdan".to_vec()),
            after: None,
        },
    ];
    assert_eq!(compared(&before, &after).mailboxes, [mailbox("user.glad", expected)]);
}

#[test]
fn a_damaged_index_takes_no_messages_away() {
    let before = account();
    let mut after = before.clone();
    after.mailboxes[0].index_cut = Some(50);
    let expected = [mailbox("user.glad", vec![Change::Unreadable])];
    assert_eq!(compared(&before, &after).mailboxes, expected);
    assert_eq!(compared(&after, &before).mailboxes, expected);
}

#[test]
fn rights_and_subscriptions_are_told_one_by_one() {
    let before = account();
    let mut after = before.clone();
    after.mailboxes[1].acl =
        vec![(b"glad".to_vec(), b"lr".to_vec()), (b"iris".to_vec(), b"lrs".to_vec())];
    after.files.insert("sub".to_owned(), b"user.glad\t\nuser.iris.X\t\n".to_vec());
    after.files.insert("quota/user.glad".to_owned(), b"1\n2\n".to_vec());
    let changes = compared(&before, &after);
    let expected = vec![
        Change::Acl {
            identifier: b"glad".to_vec(),
            before: Some(b"lrswipkxtecdan".to_vec()),
            after: Some(b"lr".to_vec()),
        },
        Change::Acl { identifier: b"iris".to_vec(), before: None, after: Some(b"lrs".to_vec()) },
    ];
    assert_eq!(changes.mailboxes, [mailbox("user.glad.Work", expected)]);
    assert_eq!(
        changes.account,
        [
            AccountChange::FileCame("quota/user.glad".to_owned()),
            AccountChange::Subscribed("user.glad".into()),
            AccountChange::Subscribed("user.iris.X".into()),
            AccountChange::Unsubscribed("user.glad.Work".into()),
        ]
    );
    let back = compared(&after, &before).account;
    assert!(back.contains(&AccountChange::FileWent("quota/user.glad".to_owned())), "{back:?}");
    let mut unreadable = before.clone();
    unreadable.files.insert("sub".to_owned(), b"SQLite format 3\0".to_vec());
    assert_eq!(
        compared(&before, &unreadable).account,
        [AccountChange::FileChanged("sub".to_owned())]
    );
}

#[test]
fn messages_are_told_by_the_bytes_that_are_stored() {
    let mut before = account();
    let mut after = before.clone();
    // Cyrus 2.3 with GUIDs off, a record with a wrong GUID, and a file that is missing.
    let inbox = &mut after.mailboxes[0];
    let (zero, wrong) = (body(5), body(6));
    inbox.add(zero.as_bytes(), EPOCH).guid = Guid::ZERO;
    inbox.add(wrong.as_bytes(), EPOCH).guid = Guid([7; 20]);
    inbox.add(body(7).as_bytes(), EPOCH);
    inbox.bodies.remove(&7);
    let expected = vec![
        Change::Came(message(5, 5)),
        Change::Came(message(6, 6)),
        Change::Came(Message { uid: Uid(7), guid: None }),
    ];
    assert_eq!(compared(&before, &after).mailboxes, [mailbox("user.glad", expected)]);
    before = after.clone();
    let record = &mut after.mailboxes[0].records[5];
    record.guid = guid_of(b"others");
    record.size = 6;
    after.mailboxes[0].bodies.insert(6, b"others".to_vec());
    let others = Message { uid: Uid(6), guid: Some(guid_of(b"others")) };
    let expected = vec![Change::Replaced { before: message(6, 6), after: others }];
    assert_eq!(compared(&before, &after).mailboxes, [mailbox("user.glad", expected)]);
}
