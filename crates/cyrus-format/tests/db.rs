//! Databases: known bytes, and what is written is what is read.

use std::collections::BTreeMap;

use cyrus_format::db::{self, Db, DbFormat, flat, twoskip};
use cyrus_format::{EncodeError, FormatError};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

fn pairs(db: &Db<'_>) -> Pairs {
    db.entries.iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<_> = hex.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]).expect("two digits")).collect()
}

#[track_caller]
fn check_clean(file: &[u8], format: DbFormat, expected: &[(Vec<u8>, Vec<u8>)]) {
    let db = db::read(file).expect("it is whole");
    assert_eq!((db.format, db.recovered.as_deref()), (format, None));
    assert_eq!(pairs(&db), expected);
}

#[test]
fn an_empty_twoskip_file_is_the_one_that_cyrus_writes() {
    let file = twoskip::write_fresh::<&str, &str>(&[]).expect("nothing to object to");
    assert_eq!(file.len(), 336);
    assert_eq!(crc32fast::hash(&file), 0xc03f_2be3);
    check_clean(&file, DbFormat::Twoskip, &[]);
}

#[test]
fn one_record_and_its_commit_have_known_bytes() {
    let file = twoskip::write_fresh(&[("a", "b")]).expect("in order");
    // The first record of ours has level 1.
    let record = "2b01000100000001 0000000000000000 0000000000000000";
    assert!(file[336..].starts_with(&bytes(record)));
    let commit = "2400000000000000 0000000000000150 5dc51c1a00000000";
    assert!(file.ends_with(&bytes(commit)));
    check_clean(&file, DbFormat::Twoskip, &[(b"a".to_vec(), b"b".to_vec())]);
}

#[test]
fn twoskip_keys_must_ascend() {
    for keys in [&["b", "a"][..], &["a", "a"], &[""]] {
        let entries: Vec<_> = keys.iter().map(|key| (*key, "")).collect();
        let result = twoskip::write_fresh(&entries);
        assert!(matches!(result, Err(EncodeError::Range { .. })), "{keys:?}: {result:?}");
    }
}

#[test]
fn flat_lines_are_sorted_as_cyrus_searches_them() {
    let entries = [("user.ab", ""), ("user.a-b", "1"), ("user.a.b", "2"), ("user.a", "")];
    let file = flat::write(&entries).expect("no key twice");
    assert_eq!(file, b"user.a\t\nuser.a.b\t2\nuser.a-b\t1\nuser.ab\t\n");
    let db = db::read(&file).expect("it is whole");
    assert_eq!(db.get(b"user.a.b"), Some(&b"2"[..]));
    assert_eq!(db.get(b"user.a"), Some(&b""[..]));
    assert_eq!(db.get(b"user"), None);
}

#[test]
fn other_databases_are_refused_by_name() {
    let mut twom = b"\xa1\x02\x8b\x0dtwomfile\0\0\0\0".to_vec();
    twom.resize(96, 0);
    twom[32] = 1;
    assert_eq!(
        db::read(&twom),
        Err(FormatError::TooNew { what: "twom database", version: 1, newest: 0 })
    );
    let mut berkeley = vec![0; 512];
    berkeley[12..16].copy_from_slice(&[0x62, 0x31, 0x05, 0x00]);
    for file in [berkeley, b"SQLite format 3\0 and more".to_vec()] {
        assert!(matches!(db::read(&file), Err(FormatError::Foreign { .. })));
    }
}

fn any_entries() -> impl Strategy<Value = BTreeMap<Vec<u8>, Vec<u8>>> {
    btree_map(vec(any::<u8>(), 1..40), vec(any::<u8>(), 0..200), 0..60)
}

proptest! {
    #[test]
    fn twoskip_reads_what_it_writes(entries in any_entries()) {
        let entries: Pairs = entries.into_iter().collect();
        let file = twoskip::write_fresh(&entries).expect("in order");
        check_clean(&file, DbFormat::Twoskip, &entries);
    }

    #[test]
    fn flat_reads_what_it_writes(entries in any_entries()) {
        let entries: Pairs = entries.into_iter().collect();
        let file = flat::write(&entries).expect("no key twice");
        check_clean(&file, DbFormat::Flat, &entries);
    }
}
