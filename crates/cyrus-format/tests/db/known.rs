//! Known bytes, and what is written is what is read.

use cyrus_format::db::{self, DbFormat, flat, skiplist, twoskip};
use cyrus_format::{EncodeError, FormatError};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use crate::batch::Pairs;
use crate::{check_clean, pairs};

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<_> = hex.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]).expect("two digits")).collect()
}

#[test]
fn an_empty_twoskip_file_is_the_one_that_cyrus_writes() {
    let file = twoskip::write_fresh::<&str, &str>(&[]).expect("nothing to object to");
    assert_eq!(file.len(), 336);
    assert_eq!(crc32fast::hash(&file), 0xc03f_2be3);
    check_clean(&file, DbFormat::Twoskip, &Pairs::new());
}

#[test]
fn one_record_and_its_commit_have_known_bytes() {
    let file = twoskip::write_fresh(&[("a", "b")]).expect("in order");
    assert_eq!(file[336..360], bytes("2b01000100000001 0000000000000000 0000000000000000"));
    assert_eq!(file[364..376], bytes("654a2280 6162000000000000"));
    let commit = "2400000000000000 0000000000000150 5dc51c1a00000000";
    assert!(file.ends_with(&bytes(commit)));
    check_clean(&file, DbFormat::Twoskip, &[(b"a".to_vec(), b"b".to_vec())].into());
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
fn lengths_beyond_16_bits_are_written_apart() {
    let sizes = [65_534, 65_535, 65_536, 70_000];
    let entries: Pairs = sizes.iter().map(|size| (vec![b'k'; *size], vec![b'v'; *size])).collect();
    let list: Vec<_> = entries.iter().collect();
    let file = twoskip::write_fresh(&list).expect("in order");
    check_clean(&file, DbFormat::Twoskip, &entries);
    assert_eq!(file[338..340], [0xff, 0xfe]);
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
fn flat_keys_come_once_and_are_not_empty() {
    for keys in [&["a", "b", "a"][..], &["b", ""]] {
        let entries: Vec<_> = keys.iter().map(|key| (*key, "")).collect();
        let result = flat::write(&entries);
        assert!(matches!(result, Err(EncodeError::Range { .. })), "{keys:?}: {result:?}");
    }
}

#[test]
fn what_breaks_lines_is_escaped() {
    let plain = b"\0\t\r\n\xff\x80.a";
    let escaped = b"\xff\x80\xff\x89\xff\x8d\xff\x8a\xff\xff\x80.a";
    assert_eq!(flat::escape(plain).as_ref(), escaped);
    assert_eq!(flat::unescape(escaped).as_ref(), plain);
}

#[test]
fn flat_files_of_2_4_are_not_escaped() {
    let file = b"user.m\xff\xfcller\tvalue\twith\ttabs\nuser.\xff\t\n";
    let entries = [
        (b"user.m\xff\xfcller".to_vec(), b"value\twith\ttabs".to_vec()),
        (b"user.\xff".to_vec(), Vec::new()),
    ];
    check_clean(file, DbFormat::Flat, &entries.into());
}

#[test]
fn odd_lines_are_read_and_told() {
    let db = db::read(b"b\t2\na\t1\na\t3\nno tab\nno end\t4").expect("something is left");
    let expected = [("a", "1"), ("b", "2"), ("no tab", "")];
    assert_eq!(pairs(&db), expected.map(|(key, value)| (key.into(), value.into())).into());
    let told = "lines without a tab, taken as keys: 1; \
                the last line, at byte 19, has no end and is left out; \
                entries that repeat a key: 1";
    assert_eq!(db.recovered.as_deref(), Some(told));
}

#[test]
fn an_empty_file_is_an_empty_database() {
    check_clean(b"", DbFormat::Flat, &Pairs::new());
}

#[test]
fn other_databases_are_refused_by_name() {
    let mut twom = b"\xa1\x02\x8b\x0dtwomfile\0\0\0\0".to_vec();
    assert!(matches!(db::read(&twom), Err(FormatError::TooNew { what: "twom database", .. })));
    twom.resize(96, 0);
    twom[32] = 1;
    let too_new = FormatError::TooNew { what: "twom database", version: 1, newest: 0 };
    assert_eq!(db::read(&twom), Err(too_new));

    for (order, name) in [([0x62, 0x31, 5, 0], "Berkeley"), ([0, 6, 0x15, 0x61], "Berkeley")] {
        let mut berkeley = vec![0; 512];
        berkeley[12..16].copy_from_slice(&order);
        let refused = db::read(&berkeley).expect_err("a foreign format");
        assert!(refused.to_string().contains(name), "{refused}");
    }
    let refused = db::read(b"SQLite format 3\0 and more").expect_err("a foreign format");
    assert!(refused.to_string().contains("SQLite"), "{refused}");
    let refused = db::read(b"text\nwith a \0").expect_err("no text at all");
    assert!(matches!(refused, FormatError::Damaged { offset: 12, .. }), "{refused}");
}

#[test]
fn newer_versions_are_not_called_damage() {
    let mut file = twoskip::write_fresh::<&str, &str>(&[]).expect("nothing to object to");
    file[23] = 2;
    let sum = crc32fast::hash(&file[..60]).to_be_bytes();
    file[60..64].copy_from_slice(&sum);
    assert_eq!(
        db::read(&file),
        Err(FormatError::TooNew { what: "twoskip", version: 2, newest: 1 })
    );
    let mut file = skiplist::MAGIC.to_vec();
    file.extend([0, 0, 0, 3]);
    file.resize(144, 0);
    assert_eq!(
        db::read(&file),
        Err(FormatError::TooNew { what: "skiplist", version: 3, newest: 1 })
    );
}

fn any_entries() -> impl Strategy<Value = Pairs> {
    btree_map(vec(any::<u8>(), 1..40), vec(any::<u8>(), 0..200), 0..60)
}

proptest! {
    #[test]
    fn twoskip_reads_what_it_writes(entries in any_entries()) {
        let list: Vec<_> = entries.iter().collect();
        let file = twoskip::write_fresh(&list).expect("in order");
        check_clean(&file, DbFormat::Twoskip, &entries);
    }

    #[test]
    fn flat_reads_what_it_writes(entries in any_entries()) {
        let list: Vec<_> = entries.iter().collect();
        let file = flat::write(&list).expect("no key twice");
        check_clean(&file, DbFormat::Flat, &entries);
    }

    #[test]
    fn any_bytes_behind_a_magic_are_no_reason_to_panic(
        magic in prop::sample::select(vec![twoskip::MAGIC, skiplist::MAGIC, b""]),
        rest in vec(any::<u8>(), 0..600),
    ) {
        let file = [magic, &rest].concat();
        if let Ok(db) = db::read(&file) {
            prop_assert!(db.entries.is_sorted_by(|(a, _), (b, _)| a < b));
        }
    }
}
