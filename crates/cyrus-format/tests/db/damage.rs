//! Damaged files: as much as possible comes back, nothing comes back wrong, and it is told.

use std::collections::BTreeSet;

use cyrus_format::FormatError;
use cyrus_format::db::{self, Db};

use crate::batch::{Command, Pairs};
use crate::pairs;
use crate::samples::{
    FINISHED_SKIPLIST, FINISHED_TWOSKIP, HISTORY_TWOSKIP, REPACKED_SKIPLIST, REPACKED_TWOSKIP,
    all_commands, all_states, finished, history,
};

const HEADER: usize = 64;
/// Behind the list's head.
const FIRST_RECORD: usize = 336;

/// All entries that were in the samples at any time, be it within a transaction.
fn ever_written() -> BTreeSet<(Vec<u8>, Vec<u8>)> {
    let set = |command| match command {
        Command::Set(key, value) => Some((key, value)),
        _ => None,
    };
    all_commands().into_iter().filter_map(set).collect()
}

/// How many keys of `truth` are missing.
fn missing(db: &Db<'_>, truth: &Pairs) -> usize {
    truth.keys().filter(|key| db.get(key).is_none()).count()
}

/// Damages a file in every byte, in turn, and hands over what is read.
fn flip_every_byte(file: &[u8], check: impl Fn(usize, Result<Db<'_>, FormatError>)) {
    for at in 0..file.len() {
        let mut file = file.to_vec();
        file[at] ^= 1 << (at % 8);
        check(at, db::read(&file));
    }
}

#[test]
fn a_flipped_bit_in_twoskip_costs_at_most_one_entry_and_is_never_believed() {
    let ever_written = ever_written();
    for file in [HISTORY_TWOSKIP, FINISHED_TWOSKIP, REPACKED_TWOSKIP] {
        let truth = pairs(&db::read(file).expect("it is whole"));
        flip_every_byte(file, |at, result| {
            let db = match result {
                Ok(db) => db,
                Err(_) if at < 20 => return,
                Err(error) => panic!("byte {at}: {error}"),
            };
            let found = pairs(&db);
            let strange = found
                .iter()
                .find(|(key, value)| !ever_written.contains(&((*key).clone(), (*value).clone())));
            assert_eq!(strange, None, "byte {at}");
            assert!(missing(&db, &truth) <= 1, "byte {at}: {:?}", db.recovered);
            if db.recovered.is_none() {
                assert_eq!(found, truth, "byte {at}");
            }
        });
    }
}

#[test]
fn the_header_and_the_head_of_the_list_are_dispensable() {
    for (file, truth) in [(HISTORY_TWOSKIP, history()), (FINISHED_TWOSKIP, finished())] {
        for at in [21, 30, 39, 47, 55, 59, 60, HEADER, HEADER + 20, FIRST_RECORD - 8] {
            let mut file = file.to_vec();
            file[at] ^= 4;
            let db = db::read(&file).expect("all records are there");
            assert_eq!(pairs(&db), truth, "byte {at}");
            assert!(db.recovered.is_some_and(|told| told.contains("rebuilt")), "byte {at}");
        }
    }
}

#[test]
fn a_broken_list_is_rebuilt_with_its_deletions() {
    // The first record of the file is in the list, and first in its own right, so nothing is
    // reached by walking.
    let mut file = HISTORY_TWOSKIP.to_vec();
    file[HEADER + 16..HEADER + 24].fill(0xff);
    let db = db::read(&file).expect("all records are there");
    assert_eq!(pairs(&db), history());
    let told = db.recovered.expect("a broken list");
    assert!(!told.contains("unreadable") && !told.contains("repeated"), "{told}");
    assert!(told.starts_with("it should hold 20 entries; 20 were rebuilt from"), "{told}");
}

#[test]
fn twoskip_cut_anywhere_gives_what_was_in_it() {
    let ever_written = ever_written();
    for file in [HISTORY_TWOSKIP, REPACKED_TWOSKIP] {
        let mut all = 0;
        for length in 0..file.len() {
            let Ok(db) = db::read(&file[..length]) else {
                assert_eq!(all, 0, "{length} bytes give less than fewer did");
                continue;
            };
            assert!(db.recovered.is_some() || length == 0, "{length} bytes");
            let found = pairs(&db);
            assert!(found.into_iter().all(|pair| ever_written.contains(&pair)), "{length} bytes");
            all = db.entries.len();
        }
        assert!(all > 10, "{all} entries");
    }
}

#[test]
fn a_skiplist_cut_anywhere_is_in_an_earlier_state() {
    let states = all_states();
    let mut last = 0;
    for length in 0..FINISHED_SKIPLIST.len() {
        let Ok(db) = db::read(&FINISHED_SKIPLIST[..length]) else {
            assert!(length < 144, "{length} bytes");
            continue;
        };
        let found = pairs(&db);
        let state = states.iter().skip(last).position(|state| *state == found);
        last += state.unwrap_or_else(|| panic!("{length} bytes: no such state: {found:?}"));
    }
    assert_eq!(states[last], history(), "the last transaction is cut off");
}

#[test]
fn a_flipped_bit_in_a_skiplist_is_harmless() {
    for file in [FINISHED_SKIPLIST, REPACKED_SKIPLIST] {
        let truth = pairs(&db::read(file).expect("it is whole"));
        let mut unharmed = 0;
        flip_every_byte(file, |at, result| match result {
            Ok(db) => assert!(db.entries.len() <= all_commands().len(), "byte {at}"),
            Err(error) => assert!(at < 144, "byte {at}: {error}"),
        });
        // There are no checksums, but pointers, at least, do not matter.
        for at in (60..140).step_by(4) {
            let mut file = file.to_vec();
            file[at] ^= 0x40;
            unharmed += usize::from(pairs(&db::read(&file).expect("readable")) == truth);
        }
        assert_eq!(unharmed, 20);
    }
}

#[test]
fn a_deletion_in_a_skiplist_names_a_live_node() {
    let mut file = REPACKED_SKIPLIST.to_vec();
    let before = pairs(&db::read(&file).expect("it is whole"));
    for victim in [0_u32, 145, 144, 144] {
        file.extend(4_u32.to_be_bytes());
        file.extend(victim.to_be_bytes());
    }
    file.extend(255_u32.to_be_bytes());
    let db = db::read(&file).expect("nothing is damaged");
    assert_eq!(db.entries.len(), before.len() - 1);
    assert!(db.recovered.is_some_and(|told| told.contains("deletions of nothing: 3")));
}

#[test]
fn records_that_overlap_are_not_believed() {
    // Two records in the list, the first of which claims the second as part of its value.
    let whole = db::twoskip::write_fresh(&[("a", ""), ("b", "")]).expect("in order");
    let (first, second) = (FIRST_RECORD, FIRST_RECORD + 40);
    assert_eq!(whole[second], b'+');
    let mut file = whole.clone();
    let value = u32::try_from(file.len() - first - 40 + 8 - 1).expect("a small file");
    file[first + 4..first + 8].copy_from_slice(&value.to_be_bytes());
    let tail = crc32fast::hash(&file[first + 32..]).to_be_bytes();
    file[first + 28..first + 32].copy_from_slice(&tail);
    let head = crc32fast::hash(&file[first..first + 24]).to_be_bytes();
    file[first + 24..first + 28].copy_from_slice(&head);
    let db = db::read(&file).expect("something is left");
    let total: usize = db.entries.iter().map(|(key, value)| key.len() + value.len()).sum();
    assert!(total < file.len(), "{total} bytes of entries in a file of {}", file.len());
    assert!(db.recovered.is_some_and(|told| told.contains("overlap")));
}
