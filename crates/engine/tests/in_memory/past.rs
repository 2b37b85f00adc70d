//! What is found and what differs, against the plainest way to tell it, for any history.

use std::collections::{BTreeMap, BTreeSet};

use engine::archive::stored;
use engine::catalog::read;
use engine::changes::{At, Change as Differs, compare};
use engine::find::{Query, Search, State};
use engine::selection::Selection;
use model::{Guid, SystemFlags};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestCaseError};
use segment::chain::{Chain, Snapshot};
use segment::links;

use super::account::{Account, linked};
use super::archive::Archive;
use super::changes::{Change, Life, change};

proptest! {
    #![proptest_config(Config {
        cases: 256,
        rng_seed: RngSeed::Fixed(2047),
        failure_persistence: None,
        ..Config::default()
    })]

    #[test]
    fn the_past_is_told_as_it_was(
        days in prop::collection::vec((prop::collection::vec(change(), 0..8), any::<bool>()), 2..14),
        subject: Option<u8>,
    ) {
        let archive = lived(&days);
        let chain = Chain::lazy("glad", archive.links(), &archive);
        let seen: Vec<Seen> = chain.snapshots().iter().filter(|s| !s.is_part())
            .map(|snapshot| seen(&chain, snapshot)).collect();
        check_found(&chain, &seen, subject)?;
        check_differences(&chain, &seen)?;
    }
}

/// An archive of days, before some of which messages are stored in advance.
fn lived(days: &[(Vec<Change>, bool)]) -> Archive {
    let mut archive = Archive { is_lazy: true, has_catalogs: true, ..Archive::default() };
    let mut life = Life::new();
    for (changes, in_advance) in days {
        changes.iter().for_each(|change| life.live(change));
        if *in_advance {
            archive.part(&life.account, 1);
        }
        archive.take(&life.account);
    }
    archive
}

/// What a mailbox shows.
struct Shown {
    name: String,
    uidvalidity: u32,
    is_readable: bool,
    /// The GUID of what is stored of each message, and how it is there.
    messages: BTreeMap<u32, (Option<Guid>, State)>,
}

/// What a snapshot shows of each mailbox, by identity.
type Seen = BTreeMap<String, Shown>;

fn seen(chain: &Chain<'_>, snapshot: &Snapshot<'_>) -> Seen {
    let (account, _, head) = stored(chain, snapshot, &Selection::all()).expect("a snapshot");
    let mut seen = Seen::new();
    for (mailbox, stored) in account.mailboxes.iter().zip(&head.mailboxes) {
        let message = |uid: u32, key: cyrus_format::index::RecordKey| {
            let guid = Some(key.guid).filter(|guid| !guid.is_zero());
            let state = match (key.system_flags.contains(SystemFlags::EXPUNGED), mailbox.deleted) {
                (true, _) => State::Expunged,
                (_, true) => State::Deleted,
                _ => State::Visible,
            };
            (uid, (mailbox.contents.get(key.uid).unwrap_or(guid), state))
        };
        let shown = Shown {
            name: mailbox.name.to_string(),
            uidvalidity: stored.uidvalidity,
            is_readable: stored.index_version.is_some(),
            messages: linked_with_expunged(&mailbox.files)
                .into_iter()
                .map(|(uid, key)| message(uid, key))
                .collect(),
        };
        let (identity, _) = links::split(&stored.dir).expect("a directory's name");
        seen.insert(identity.to_owned(), shown);
    }
    seen
}

/// The records of a mailbox; those of its cyrus.expunge are expunged, whatever their flags say.
fn linked_with_expunged(
    files: &BTreeMap<String, Vec<u8>>,
) -> BTreeMap<u32, cyrus_format::index::RecordKey> {
    let index = files.get("cyrus.index").map(|bytes| ("cyrus.index".to_owned(), bytes.clone()));
    let live = linked(&index.into_iter().collect());
    let mut all = linked(files);
    for (uid, key) in &mut all {
        if !live.contains_key(uid) {
            key.system_flags.0 |= SystemFlags::EXPUNGED.0;
        }
    }
    all
}

fn check_found(chain: &Chain<'_>, seen: &[Seen], subject: Option<u8>) -> Result<(), TestCaseError> {
    let subject = subject.map(|number| (number % 10).to_string());
    let query = Query { subject: subject.clone(), ..Query::default() };
    let mut search = Search::new(query, &|_| true);
    let mut matching = BTreeSet::new();
    let mut number = 0;
    for segment in chain.snapshots() {
        let envelopes = read(chain, segment).expect("a catalogue");
        search.catalogue(envelopes.iter().cloned());
        let of = |text: &str| subject.as_ref().is_none_or(|subject| text.contains(subject));
        let matches = envelopes.iter().filter(|e| of(&String::from_utf8_lossy(&e.subject)));
        matching.extend(matches.map(|envelope| envelope.guid));
        if !segment.is_part() {
            let errors = search.snapshot(number, chain, &segment.head().expect("a manifest"));
            prop_assert!(errors.is_empty(), "{:?}", errors);
            let now = &seen[number as usize];
            let shown = now.values().filter(|mailbox| mailbox.is_readable);
            let shown = shown.flat_map(|mailbox| mailbox.messages.values());
            let shown = shown.filter(|(_, state)| *state == State::Visible);
            let shown: BTreeSet<Guid> = shown.filter_map(|(guid, _)| *guid).collect();
            let visible = search.visible();
            for guid in &matching {
                prop_assert_eq!(visible.contains(guid), shown.contains(guid), "{}", guid);
            }
            number += 1;
        }
    }
    let found = search.finish(None);
    let mut told = Vec::new();
    for guid in found.guids() {
        let places = found.places(guid);
        told.extend(
            places.map(|p| (*guid, p.mailbox.to_string(), p.uid.0, p.state, p.first, p.last)),
        );
    }
    told.sort();
    prop_assert_eq!(told, places_of(seen, &matching));
    Ok(())
}

type Told = (Guid, String, u32, State, u32, u32);

/// A mailbox's identity, and a message there.
type Key<'s> = (&'s String, u32, Guid, State);

/// Where each message was, and from when to when.
fn places_of(seen: &[Seen], matching: &BTreeSet<Guid>) -> Vec<Told> {
    let mut spans: BTreeMap<Key<'_>, (&String, u32, u32)> = BTreeMap::new();
    for (number, mailboxes) in (0..).zip(seen) {
        for (identity, mailbox) in mailboxes.iter().filter(|(_, mailbox)| mailbox.is_readable) {
            for (uid, (guid, state)) in &mailbox.messages {
                let Some(guid) = guid.filter(|guid| matching.contains(guid)) else { continue };
                let span = spans.entry((identity, *uid, guid, *state));
                let span = span.or_insert((&mailbox.name, number, number));
                (span.0, span.2) = (&mailbox.name, number);
            }
        }
    }
    let spans = spans.into_iter();
    let mut told: Vec<Told> = spans
        .map(|((_, uid, guid, state), (name, first, last))| {
            (guid, name.clone(), uid, state, first, last)
        })
        .collect();
    told.sort();
    told
}

fn check_differences(chain: &Chain<'_>, seen: &[Seen]) -> Result<(), TestCaseError> {
    let snapshots: Vec<_> = chain.snapshots().iter().filter(|s| !s.is_part()).collect();
    for step in [1, 3] {
        for (at, pair) in snapshots.windows(step + 1).enumerate() {
            let at_of = |snapshot| At { snapshot, chain };
            let changes = compare(at_of(pair[0]), at_of(pair[step])).expect("whole snapshots");
            let mut told = BTreeMap::new();
            for mailbox in &changes.mailboxes {
                for change in &mailbox.changes {
                    let (name, uid, count) = match change {
                        Differs::Came(message) => (&mailbox.name, message.uid.0, 1),
                        Differs::Went(message) => (&mailbox.name, message.uid.0, -1),
                        _ => continue,
                    };
                    *told.entry((name.to_string(), uid)).or_insert(0) += count;
                }
            }
            told.retain(|_, count| *count != 0);
            prop_assert_eq!(told, moved(&seen[at], &seen[at + step]));
        }
    }
    Ok(())
}

/// The messages that came (1) and went (-1), by mailbox and UID. What left a mailbox and came to
/// another one of its name under the same UID is neither.
fn moved(before: &Seen, after: &Seen) -> BTreeMap<(String, u32), i32> {
    let mut moved = BTreeMap::new();
    let identities: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    for identity in identities {
        let (had, has) = (before.get(identity), after.get(identity));
        if let (Some(had), Some(has)) = (had, has)
            && (had.is_readable != has.is_readable || had.uidvalidity != has.uidvalidity)
        {
            continue;
        }
        let visible = |shown: Option<&Shown>| -> BTreeSet<u32> {
            let messages = shown.iter().flat_map(|shown| &shown.messages);
            let visible = messages.filter(|(_, (_, state))| *state != State::Expunged);
            visible.map(|(uid, _)| *uid).collect()
        };
        let (old, new) = (visible(had), visible(has));
        let Some(named) = has.or(had) else { continue };
        for uid in new.difference(&old) {
            *moved.entry((named.name.clone(), *uid)).or_insert(0) += 1;
        }
        for uid in old.difference(&new) {
            *moved.entry((named.name.clone(), *uid)).or_insert(0) -= 1;
        }
    }
    moved.retain(|_, count| *count != 0);
    moved
}

#[test]
fn an_account_that_is_empty_has_a_past_too() {
    let mut archive = Archive { is_lazy: true, has_catalogs: true, ..Archive::default() };
    archive.take(&Account::new("glad"));
    let chain = Chain::lazy("glad", archive.links(), &archive);
    check_found(&chain, &[Seen::new()], None).expect("nothing is found");
}
