//! An account's history when storage fails, or whoever writes is killed.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::Write;
use std::thread;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::FutureExt;
use model::Userid;
use model::state::Digest;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use testkit::faults::{Call, Cut};
use vault::{Account, Note, Result, SegmentKind, SegmentName, Stage, Store, Vault, What};

use crate::places::{Place, bytes};

/// More than is kept in memory: it goes in three parts.
const LARGE: usize = (16 << 20) + 12_345;

/// Beginning, parts and end.
const LARGE_MUTATIONS: u64 = 5;

fn segment(seq: u32, kind: SegmentKind) -> SegmentName {
    let digest = |seq: u32| Digest([u8::try_from(seq).expect("a small number"); 32]);
    let parent = (seq > 1).then(|| digest(seq - 1));
    SegmentName { seq, taken_at: 1_800_000_000, own: digest(seq), parent, kind }
}

fn note(what: What, names: &[SegmentName]) -> Note {
    Note::new(what, 1_800_000_000, "host", "test", names.iter().map(ToString::to_string).collect())
}

fn account(store: Store) -> Account {
    let vault = Vault::open_or_create(store).expect("a vault");
    vault.account(&Userid::from("glad"))
}

/// The same without a request: what fails next is what the test is about.
fn account_of(vault: &Vault) -> Account {
    vault.account(&Userid::from("glad"))
}

/// Something that a backup or a prune does.
enum Step {
    Segment(SegmentName, Bytes),
    Note(Note),
    Delete(String),
}

impl Step {
    fn take(&self, account: &Account) -> Result<()> {
        match self {
            Self::Segment(name, content) => {
                let mut stage = Stage::new();
                stage.write_all(content).expect("staged");
                let entry = account.put_segment(name, stage.finish())?;
                assert_eq!((&entry.name, entry.size), (name, content.len() as u64));
                Ok(())
            }
            Self::Note(note) => account.put_note(note),
            Self::Delete(name) => account.delete(name),
        }
    }

    fn imagine(&self, objects: &mut BTreeMap<String, Bytes>) {
        match self {
            Self::Segment(name, content) => {
                objects.insert(name.to_string(), content.clone());
            }
            Self::Note(note) => {
                let (name, bytes) = note.encode().expect("a note");
                objects.insert(name.to_string(), bytes.into());
            }
            Self::Delete(name) => {
                objects.remove(name);
            }
        }
    }
}

/// A backup with a large part, and a prune that drops what was there before it.
fn life() -> Vec<Step> {
    let old = segment(1, SegmentKind::Snapshot);
    vec![
        Step::Segment(old.clone(), bytes(1_000, 1)),
        Step::Segment(segment(2, SegmentKind::Part), bytes(LARGE, 2)),
        Step::Segment(segment(3, SegmentKind::Snapshot), bytes(70_000, 3)),
        Step::Note(note(What::Dropped, std::slice::from_ref(&old))),
        Step::Delete(old.to_string()),
        Step::Note(note(What::Verified, &[segment(3, SegmentKind::Snapshot)])),
    ]
}

/// What is there after that many steps.
fn imagine(steps: &[Step]) -> BTreeMap<String, Bytes> {
    let mut objects = BTreeMap::new();
    for step in steps {
        step.imagine(&mut objects);
    }
    objects
}

/// What is there, by name; and the history must be one, and of nothing else.
fn look(place: &Place) -> BTreeMap<String, Bytes> {
    let store = place.store();
    let listed = store.list("accounts/glad").expect("a listing");
    let objects: BTreeMap<String, Bytes> = listed
        .into_iter()
        .map(|object| {
            let bytes = store.read_all(&format!("accounts/glad/{}", object.name)).expect("read");
            assert_eq!(bytes.len() as u64, object.size);
            (object.name, bytes)
        })
        .collect();
    let history = account(store).history().expect("a history");
    assert!(history.strange.is_empty(), "{:?}", history.strange);
    assert_eq!(history.segments().count() + history.notes.len(), objects.len());
    objects
}

fn take_all(steps: &[Step], account: &Account) -> (usize, Option<vault::VaultError>) {
    for (done, step) in steps.iter().enumerate() {
        if let Err(error) = step.take(account) {
            return (done, Some(error));
        }
    }
    (steps.len(), None)
}

#[test]
fn whoever_is_killed_leaves_what_he_was_told_is_there_and_never_half_of_the_rest() {
    let steps = life();
    let mutations = steps.len() as u64 - 1 + LARGE_MUTATIONS;
    for n in 1..=mutations {
        for cut in [Cut::Before(n), Cut::After(n)] {
            for place in Place::all() {
                Vault::open_or_create(place.store()).expect("a vault");
                let (store, faults) = place.faulty();
                let vault = Vault::open(store).expect("the vault");
                faults.cut(cut);
                let (done, error) = take_all(&steps, &account_of(&vault));
                assert!(error.is_some() && faults.is_cut(), "{cut:?} did not come");
                drop(vault);

                let found = look(&place);
                let (before, after) = (imagine(&steps[..done]), imagine(&steps[..=done]));
                assert!(found == before || found == after, "{cut:?} left {:?}", found.keys());

                let (done, error) = take_all(&steps, &account(place.store()));
                assert!(error.is_none(), "{cut:?}, then step {done}: {error:?}");
                assert!(look(&place) == imagine(&steps), "{cut:?}: the second run ends elsewhere");
                if matches!(place, Place::Directory(_)) {
                    let store = place.store();
                    store.sweep(SystemTime::UNIX_EPOCH).expect("swept");
                    let remains = place.remains();
                    let tomorrow = SystemTime::now() + Duration::from_secs(86_400);
                    assert_eq!(store.sweep(tomorrow).expect("swept").len(), remains);
                    assert_eq!(place.remains(), 0, "{cut:?}");
                }
            }
        }
    }
}

#[test]
fn a_life_without_faults_is_as_long_as_thought() {
    for place in Place::all() {
        let (store, faults) = place.faulty();
        let account = account(store);
        faults.heal();
        let (done, error) = take_all(&life(), &account);
        assert!(error.is_none(), "step {done}: {error:?}");
        assert_eq!(faults.mutations(), life().len() as u64 - 1 + LARGE_MUTATIONS);
        assert!(look(&place) == imagine(&life()));
    }
}

#[test]
fn a_request_that_fails_is_named_and_leaves_nothing_behind() {
    let steps = life();
    for n in 1..=LARGE_MUTATIONS + 1 {
        for place in Place::all() {
            Vault::open_or_create(place.store()).expect("a vault");
            let (store, faults) = place.faulty();
            let vault = Vault::open(store).expect("the vault");
            let account = account_of(&vault);
            steps[0].take(&account).expect("stored");
            // The nth request of the large one, its abort excepted.
            faults.fail_mutation_every(n);
            let result = steps[1].take(&account);
            assert_eq!(result.is_err(), n <= LARGE_MUTATIONS, "request {n}");
            if let Err(error) = result {
                let name = segment(2, SegmentKind::Part);
                assert_eq!(error.to_string(), format!("cannot store faulty/accounts/glad/{name}"));
                let why = error.source().map(ToString::to_string).unwrap_or_default();
                assert!(why.contains("was made to fail"), "{why}");
                assert_eq!(place.remains(), 0, "request {n} of {}", place.store().place());
                assert!(look(&place) == imagine(&steps[..1]), "half of it is there");
            }
            faults.heal();
            steps[1].take(&account).expect("stored this time");
            assert!(look(&place) == imagine(&steps[..2]));
        }
    }
}

#[test]
fn a_history_is_whole_or_an_error() {
    let notes = 5;
    for place in Place::all() {
        let full = account(place.store());
        for seq in 1..4 {
            let step = Step::Segment(segment(seq, SegmentKind::Snapshot), bytes(100, 1));
            step.take(&full).expect("stored");
        }
        for n in 1..=notes {
            full.put_note(&note(What::Verified, &[segment(n, SegmentKind::Part)])).expect("stored");
        }
        let want = full.history().expect("a history");
        let (store, faults) = place.faulty();
        let vault = Vault::open(store).expect("the vault");
        for n in 1..=u64::from(notes) + 3 {
            faults.fail_read_every(n);
            match account_of(&vault).history() {
                Ok(history) => {
                    assert!(n > u64::from(notes) + 1, "the failure of request {n} was not seen");
                    assert_eq!(history.notes, want.notes);
                    assert_eq!(history.snapshots(), want.snapshots());
                }
                Err(error) => {
                    let op = if n == 1 { "cannot list" } else { "cannot read" };
                    assert!(error.to_string().starts_with(op), "request {n}: {error}");
                    assert!(error.to_string().contains("faulty/accounts/glad"), "{error}");
                }
            }
        }
    }
}

#[test]
fn who_lists_while_somebody_prunes_is_not_hurt() {
    for place in Place::all() {
        let Place::Memory(objects) = &place else { continue };
        let writer = account(place.store());
        let (old, new) = (segment(1, SegmentKind::Snapshot), segment(3, SegmentKind::Snapshot));
        for name in [&old, &new] {
            Step::Segment(name.clone(), bytes(10, 1)).take(&writer).expect("stored");
        }
        let dropped = note(What::Dropped, std::slice::from_ref(&old));
        writer.put_note(&dropped).expect("stored");

        // Between the listing and the reading of the note, both are deleted.
        let (store, faults) = place.faulty();
        let vault = Vault::open(store).expect("the vault");
        let (name, _) = dropped.encode().expect("a note");
        let gone = [writer.path(&old.to_string()), writer.path(&name.to_string())];
        let objects = objects.clone();
        faults.behind_the_next(Call::List, move || {
            for path in gone {
                let path = Path::parse(path).expect("a path");
                objects.delete(&path).now_or_never().expect("at once").expect("deleted");
            }
        });
        let history = account_of(&vault).history().expect("a history");
        assert_eq!(faults.count(Call::List), 2, "it was listed again");
        assert!(history.notes.is_empty());
        let left: Vec<_> = history.segments().map(|entry| entry.name.clone()).collect();
        assert_eq!(left, [new], "what the note named is not taken for live");
    }
}

#[test]
fn a_note_that_is_damaged_stops_everything() {
    for place in Place::all() {
        let account = account(place.store());
        let note = note(What::Dropped, &[segment(1, SegmentKind::Snapshot)]);
        account.put_note(&note).expect("stored");
        let (name, mut bytes) = note.encode().expect("a note");
        bytes[20] ^= 1;
        let path = account.path(&name.to_string());
        place.store().put(&path, bytes).expect("stored");
        let error = account.history().expect_err("nobody knows what was dropped");
        assert!(error.to_string().contains(&path), "{error}");
    }
}

#[test]
fn two_machines_lose_nothing_of_each_other() {
    for place in Place::all() {
        Vault::open_or_create(place.store()).expect("a vault");
        let (place, seqs) = (&place, 2..10);
        thread::scope(|scope| {
            for machine in 0..2u8 {
                let seqs = seqs.clone();
                scope.spawn(move || {
                    let (store, faults) = place.faulty();
                    faults.delay(Duration::from_millis(1));
                    let account = account(store);
                    for seq in seqs {
                        let own =
                            Digest([100 * (machine + 1) + u8::try_from(seq).expect("small"); 32]);
                        let name = SegmentName { own, ..segment(seq, SegmentKind::Snapshot) };
                        Step::Segment(name.clone(), bytes(500, 1)).take(&account).expect("stored");
                        account.put_note(&note(What::Joined, &[name])).expect("stored");
                        let history = account.history().expect("a history");
                        assert!(history.segment(&own).is_some(), "not in the next listing");
                    }
                });
            }
        });
        let history = account(place.store()).history().expect("a history");
        assert_eq!((history.segments().count(), history.notes.len()), (16, 16));
        assert_eq!(history.next_seq(), 10);
    }
}
