//! Messages found by their envelopes, through all snapshots.

use engine::catalog::read;
use engine::find::{Found, Guids, Query, Search, State};
use model::{Guid, SystemFlags, Timestamp};
use segment::chain::Chain;

use super::account::{Account, EPOCH, Mailbox, guid_of};
use super::archive::{Archive, Noting};

fn body(from: &str, subject: &str) -> String {
    format!(
        "From: {from}\r\nTo: glad@x\r\nSubject: {subject}\r\nMessage-ID: <{subject}@x>\r\n\r\n."
    )
}

fn guid(subject: &str) -> Guid {
    guid_of(body("iris", subject).as_bytes())
}

fn add(mailbox: &mut Mailbox, subject: &str) {
    mailbox.add(body("iris", subject).as_bytes(), EPOCH);
}

fn account(subjects: &[&str]) -> Account {
    let mut account = Account::new("glad");
    for (name, id) in [("user.glad", "id0"), ("user.glad.Work", "id1")] {
        account.mailboxes.push(Mailbox::new(name, id, 17));
    }
    subjects.iter().for_each(|subject| add(&mut account.mailboxes[0], subject));
    account
}

fn vault() -> Archive {
    Archive { has_catalogs: true, is_lazy: true, ..Archive::default() }
}

fn subject(text: &str) -> Query {
    Query { subject: Some(text.to_owned()), ..Query::default() }
}

/// Feeds a search with all segments of a chain; snapshots are numbered from 1 on, without parts.
/// Gives the messages that are visible in each, too.
fn feed(search: &mut Search<'_>, chain: &Chain<'_>) -> Vec<Guids> {
    let mut visible = Vec::new();
    for segment in chain.snapshots() {
        search.catalogue(read(chain, segment).expect("a catalogue"));
        if !segment.is_part() {
            let number = u32::try_from(visible.len()).expect("few") + 1;
            let errors = search.snapshot(number, chain, &segment.head().expect("a manifest"));
            assert!(errors.is_empty(), "{errors:?}");
            visible.push(search.visible());
        }
    }
    visible
}

fn found(archive: &Archive, query: Query) -> Found {
    found_in(archive, query, None)
}

fn found_in(archive: &Archive, query: Query, mailbox: Option<&str>) -> Found {
    let chain = archive.chain(&Account::new("glad")).expect("a chain");
    let wanted = |name: &[u8]| mailbox.is_none_or(|wanted| name == wanted.as_bytes());
    let mut search = Search::new(query, &wanted);
    feed(&mut search, &chain);
    search.finish(None)
}

/// Where a message was: mailbox, UID, state, first and last snapshot.
fn places(found: &Found, guid: &Guid) -> Vec<(String, u32, State, u32, u32)> {
    let places = found.places(guid);
    places.map(|p| (p.mailbox.to_string(), p.uid.0, p.state, p.first, p.last)).collect()
}

fn place(
    mailbox: &str,
    uid: u32,
    state: State,
    from: u32,
    to: u32,
) -> (String, u32, State, u32, u32) {
    (mailbox.to_owned(), uid, state, from, to)
}

#[test]
fn envelopes_are_matched_as_people_read_them() {
    let mut account = Account::new("glad");
    let mut inbox = Mailbox::new("user.glad", "id0", 17);
    let bodies = [
        body("=?iso-8859-1?Q?J=F6rg?= <joerg@example.com>", "plain"),
        body("iris@example.com", "=?UTF-8?B?w5xiZXI=?= =?UTF-8?Q?_alles?="),
        body("iris@example.com", "Invoice\r\n  No. 7"),
        "no header\r\n\r\n".to_owned(),
        body("iris@example.com", "=?broken?x?y"),
    ];
    for body in &bodies {
        inbox.add(body.as_bytes(), EPOCH);
    }
    inbox.add(b"From: J\xf6rg\r\nSubject: raw \xfcber\r\n\r\n", EPOCH);
    account.mailboxes.push(inbox);
    let mut archive = vault();
    archive.take(&account);
    let uids = |query: Query| -> Vec<u32> {
        let found = found(&archive, query);
        let mut uids: Vec<u32> =
            found.guids().flat_map(|guid| found.places(guid).map(|place| place.uid.0)).collect();
        uids.sort_unstable();
        uids
    };
    let from = |text: &str| Query { from: Some(text.to_owned()), ..Query::default() };
    assert_eq!(uids(from("J\u{d6}RG")), [1, 6]);
    assert_eq!(uids(from("joerg@EXAMPLE")), [1]);
    assert_eq!(uids(subject("\u{fc}ber")), [2, 6]);
    assert_eq!(uids(subject("\u{fc}ber  alles")), [2]);
    assert_eq!(uids(subject("invoice no. 7")), [3]);
    assert_eq!(uids(subject("=?broken?")), [5]);
    assert_eq!(uids(Query { to: Some("glad".to_owned()), ..Query::default() }), [1, 2, 3, 5]);
    assert_eq!(uids(Query { from: Some("iris".to_owned()), ..subject("7") }), [3]);
    let id = |text: &str| Query { message_id: Some(text.to_owned()), ..Query::default() };
    assert_eq!(uids(id("<plain@x>")), [1]);
    assert_eq!(uids(Query::default()), [1, 2, 3, 4, 5, 6]);
    assert_eq!(uids(subject("nothing of it")), [0; 0]);
}

#[test]
fn a_message_is_followed_through_copies_renames_and_its_end() {
    let mut account = account(&["one", "two"]);
    let mut archive = vault();
    archive.take(&account);
    archive.take(&account);
    add(&mut account.mailboxes[1], "one");
    archive.take(&account);
    account.mailboxes[1].name = "user.glad.Old".to_owned();
    account.mailboxes[0].records[0].system_flags = SystemFlags::EXPUNGED;
    archive.take(&account);
    archive.take(&account);
    account.mailboxes[0].records.remove(0);
    account.mailboxes[1].name = "DELETED.user.glad.Old.6B0450F1".to_owned();
    archive.take(&account);
    account.mailboxes.remove(1);
    archive.take(&account);
    let found = found(&archive, subject("one"));
    assert_eq!(found.len(), 1);
    assert_eq!(
        places(&found, &guid("one")),
        [
            place("user.glad", 1, State::Visible, 1, 3),
            place("user.glad.Old", 1, State::Visible, 3, 5),
            place("user.glad", 1, State::Expunged, 4, 5),
            place("DELETED.user.glad.Old.6B0450F1", 1, State::Deleted, 6, 6),
        ]
    );
}

#[test]
fn what_was_stored_in_advance_and_what_was_expunged_at_once_is_found() {
    let mut account = account(&["one", "two", "three"]);
    account.mailboxes[0].records[1].system_flags = SystemFlags::EXPUNGED;
    let mut archive = vault();
    archive.part(&account, 1).expect("a part");
    archive.part(&account, 1).expect("a part");
    archive.take(&account);
    let found = found(&archive, Query::default());
    assert_eq!(found.len(), 3);
    let first = place("user.glad", 1, State::Visible, 1, 1);
    assert_eq!(places(&found, &guid("one")), [first]);
    let expunged = place("user.glad", 2, State::Expunged, 1, 1);
    assert_eq!(places(&found, &guid("two")), [expunged]);
}

#[test]
fn what_2_3_keeps_apart_and_what_is_not_what_its_record_says_is_found() {
    let mut account = account(&["one", "two", "three", "four"]);
    let inbox = &mut account.mailboxes[0];
    inbox.version = 10;
    inbox.records[0].guid = Guid::ZERO;
    inbox.records[1].guid = Guid([9; 20]);
    inbox.bodies.remove(&3);
    let kept = inbox.records.remove(3);
    inbox.expunged.push(kept);
    let mut archive = vault();
    archive.take(&account);
    let found = found(&archive, Query::default());
    let subjects = ["one", "two", "four"];
    assert_eq!(found.len(), 3, "there is nothing of the third");
    assert!(subjects.iter().all(|subject| found.position(&guid(subject)).is_some()));
    let kept = place("user.glad", 4, State::Expunged, 1, 1);
    assert_eq!(places(&found, &guid("four")), [kept]);
}

#[test]
fn a_message_whose_file_was_missing_is_found_from_when_it_is_stored() {
    let mut account = account(&["one", "two"]);
    let lost = account.mailboxes[0].bodies.remove(&2).expect("the second");
    let mut archive = vault();
    archive.take(&account);
    account.mailboxes[0].bodies.insert(2, lost);
    archive.take(&account);
    // Its index is the same in both.
    let found = found(&archive, Query::default());
    assert_eq!(places(&found, &guid("one")), [place("user.glad", 1, State::Visible, 1, 2)]);
    assert_eq!(places(&found, &guid("two")), [place("user.glad", 2, State::Visible, 2, 2)]);
}

#[test]
fn a_mailbox_that_is_wanted_chooses_messages_and_all_their_places_are_told() {
    let mut account = account(&["one", "two"]);
    let mut archive = vault();
    archive.take(&account);
    add(&mut account.mailboxes[1], "one");
    account.mailboxes[0].records.remove(0);
    archive.take(&account);
    let in_work = found_in(&archive, Query::default(), Some("user.glad.Work"));
    assert_eq!(in_work.guids().collect::<Vec<_>>(), [&guid("one")]);
    assert_eq!(
        places(&in_work, &guid("one")),
        [
            place("user.glad", 1, State::Visible, 1, 1),
            place("user.glad.Work", 1, State::Visible, 2, 2)
        ]
    );
    // A name counts as long as a mailbox has it.
    account.mailboxes[1].name = "user.glad.Later".to_owned();
    archive.take(&account);
    add(&mut account.mailboxes[1], "three");
    archive.take(&account);
    for (name, count) in
        [("user.glad", 2), ("user.glad.Work", 1), ("user.glad.Later", 2), ("user.x", 0)]
    {
        assert_eq!(found_in(&archive, Query::default(), Some(name)).len(), count, "{name}");
    }
    assert_eq!(found_in(&archive, subject("three"), Some("user.glad.Work")).len(), 0);
}

#[test]
fn what_vanished_was_seen_and_is_in_no_mailbox_any_more() {
    let mut account = account(&["stays", "moves", "goes", "was expunged", "is expunged", "folder"]);
    let inbox = &mut account.mailboxes[0];
    inbox.records[3].system_flags = SystemFlags::EXPUNGED;
    let moved = inbox.records.pop().expect("the last");
    let body_of_it = inbox.bodies[&moved.uid.0].clone();
    account.mailboxes[1].add(&body_of_it, EPOCH);
    let mut archive = vault();
    archive.take(&account);
    add(&mut account.mailboxes[0], "comes and goes");
    archive.take(&account);
    let inbox = &mut account.mailboxes[0];
    inbox.records.retain(|record| ![2, 3, 7].contains(&record.uid.0));
    inbox.records[2].system_flags = SystemFlags::EXPUNGED;
    account.mailboxes[1].name = "DELETED.user.glad.Work.6B0450F1".to_owned();
    account.mailboxes.push(Mailbox::new("user.glad.New", "id2", 17));
    add(&mut account.mailboxes[2], "moves");
    archive.take(&account);
    let chain = archive.chain(&account).expect("a chain");
    let mut search = Search::new(Query::default(), &|_| true);
    let visible = feed(&mut search, &chain);
    let newest = chain.newest().expect("a snapshot");
    let (again, errors) = search.visible_in(&chain, &newest.head().expect("a manifest"));
    assert_eq!((&again, errors.len()), (&visible[2], 0));
    let vanished = search.finish(Some(&visible[2]));
    let mut expected = ["goes", "is expunged", "folder", "comes and goes"].map(guid);
    expected.sort_unstable();
    assert_eq!(vanished.guids().copied().collect::<Vec<_>>(), expected);
    let mut search = Search::new(subject("goes"), &|_| true);
    let visible = feed(&mut search, &chain);
    assert_eq!(search.finish(Some(&visible[2])).len(), 2);
    assert!(visible[0].contains(&guid("goes")) && !visible[2].contains(&guid("goes")));
}

#[test]
fn a_mailbox_that_came_back_is_followed_on() {
    let mut account = account(&["one"]);
    let mut archive = vault();
    archive.take(&account);
    let inbox = account.mailboxes.remove(0);
    archive.take(&account);
    account.mailboxes.push(inbox);
    account.mailboxes[1].uidvalidity += 1;
    account.mailboxes[1].records[0].internaldate = Timestamp::from_secs(EPOCH + 1);
    archive.take(&account);
    let one = found(&archive, subject("one"));
    assert_eq!(places(&one, &guid("one")), [place("user.glad", 1, State::Visible, 1, 3)]);
}

#[test]
fn branches_of_a_history_make_one_span() {
    let mut account = account(&["one"]);
    let mut archive = vault();
    archive.take(&account);
    // Both continue the first: one sees the message go, the other one sees a second come.
    let mut other = Archive { segments: archive.segments.clone(), ..vault() };
    account.mailboxes[0].records[0].system_flags = SystemFlags::EXPUNGED;
    archive.take(&account);
    archive.take(&account);
    account.mailboxes[0].records[0].system_flags = SystemFlags::SEEN;
    add(&mut account.mailboxes[0], "two");
    other.take(&account);
    other.take(&account);
    let [chain, branch] = [&archive, &other].map(|one| one.chain(&account).expect("a chain"));
    let mut search = Search::new(Query::default(), &|_| true);
    for (chain, at, number) in
        [(&chain, 0, 1), (&chain, 1, 3), (&chain, 2, 5), (&branch, 1, 2), (&branch, 2, 4)]
    {
        let segment = &chain.snapshots()[at];
        search.catalogue(read(chain, segment).expect("a catalogue"));
        search.snapshot(number, chain, &segment.head().expect("a manifest"));
    }
    let found = search.finish(None);
    assert_eq!(
        places(&found, &guid("one")),
        [place("user.glad", 1, State::Visible, 1, 4), place("user.glad", 1, State::Expunged, 3, 5)]
    );
    assert_eq!(places(&found, &guid("two")), [place("user.glad", 2, State::Visible, 2, 4)]);
}

#[test]
fn an_index_that_has_not_changed_is_not_read_again() {
    let mut account = account(&["one", "two"]);
    let mut archive = vault();
    archive.take(&account);
    for n in 0..5 {
        add(&mut account.mailboxes[1], &n.to_string());
        archive.take(&account);
    }
    let noting = Noting::new(&archive);
    let chain = noting.chain();
    let mut search = Search::new(Query::default(), &|_| true);
    // From the second snapshot on: INBOX is in the first segment, and that is opened once.
    for number in [3, 4, 5] {
        let segment = &chain.snapshots()[number as usize - 1];
        search.snapshot(number, &chain, &segment.head().expect("a manifest"));
    }
    assert_eq!(noting.opened(), [3, 1, 4, 5]);
    let found = search.finish(None);
    assert_eq!(places(&found, &guid("one")), [place("user.glad", 1, State::Visible, 3, 5)]);
    assert_eq!(places(&found, &guid("3")), [place("user.glad.Work", 4, State::Visible, 5, 5)]);
}

#[test]
fn a_damaged_index_hides_its_mailbox_and_nothing_else() {
    let mut account = account(&["one"]);
    add(&mut account.mailboxes[1], "two");
    let mut archive = vault();
    archive.take(&account);
    add(&mut account.mailboxes[1], "three");
    account.mailboxes[1].partition = "elsewhere".to_owned();
    archive.take(&account);
    let index = account.mailboxes[1].files().remove("cyrus.index").expect("an index");
    let segment = archive.segments.last_mut().expect("the second");
    let at = segment.windows(index.len()).position(|w| w == index).expect("its copy");
    segment[at + 20] ^= 1;
    let chain = archive.chain(&account).expect("a chain");
    let mut search = Search::new(Query::default(), &|_| true);
    for number in [1, 2] {
        let segment = &chain.snapshots()[number as usize - 1];
        search.catalogue(read(&chain, segment).expect("a catalogue"));
        let errors = search.snapshot(number, &chain, &segment.head().expect("a manifest"));
        assert_eq!(errors.len(), number as usize - 1, "{errors:?}");
    }
    assert!(!search.visible().contains(&guid("two")));
    let found = search.finish(None);
    assert_eq!(places(&found, &guid("one")), [place("user.glad", 1, State::Visible, 1, 2)]);
    assert_eq!(places(&found, &guid("two")), [place("user.glad.Work", 1, State::Visible, 1, 1)]);
    assert!(found.position(&guid("three")).is_none());
}
