//! Our files are Cyrus' own, but for the levels, which are random there.

use super::record::{Kind, Record};
use super::write::write_with_levels;
use super::{FILLER, FIRST_RECORD, HEADER_SIZE, read, write_fresh};

/// What Cyrus wrote in one transaction.
const REPACKED: &[u8] = include_bytes!("../../../tests/fixtures/db/fresh.twoskip");

/// All records in the order of the file.
fn records(file: &[u8]) -> Vec<Record<'_>> {
    let mut records = Vec::new();
    let mut offset = FIRST_RECORD;
    while let Some(rest) = file.get(usize::try_from(offset).expect("small")..) {
        if rest.starts_with(FILLER) {
            offset += 8;
        } else if let Ok(record) = Record::read(file, offset) {
            offset = record.end;
            records.push(record);
        } else {
            assert!(rest.is_empty(), "byte {offset}");
            break;
        }
    }
    records
}

#[test]
fn with_the_same_levels_the_bytes_are_the_same() {
    let db = read(REPACKED).expect("it is whole");
    let levels: Vec<_> = records(REPACKED)
        .iter()
        .filter(|record| record.kind == Kind::Live)
        .map(|record| u8::try_from(record.pointers.len() / 8 - 1).expect("at most 31"))
        .collect();
    assert_eq!(levels.len(), db.entries.len());
    let ours = write_with_levels(&db.entries, |number| levels[number]).expect("in order");
    assert_eq!(ours[HEADER_SIZE..], REPACKED[HEADER_SIZE..]);
}

#[test]
fn a_record_of_level_2_has_known_bytes() {
    let file = write_with_levels(&[("a", "b")], |_| 2).expect("in order");
    assert_eq!(file.len(), 408);
    let head = [0x2b, 2, 0, 1, 0, 0, 0, 1];
    assert_eq!(file[336..344], head);
    assert_eq!(file[344..368], [0; 24]);
    let sums = [0xd2, 0xf0, 0x2c, 0x1c, 0x65, 0x4a, 0x22, 0x80];
    assert_eq!(file[368..376], sums);
    assert_eq!(file[376..384], *b"ab\0\0\0\0\0\0");
    let commit = [0x24, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0x50, 0x5d, 0xc5, 0x1c, 0x1a];
    assert_eq!(file[384..404], commit);
    assert_eq!(file[404..], [0; 4]);
}

#[test]
fn half_of_the_records_are_on_each_higher_level() {
    let keys: Vec<_> = (0..1024).map(|number| (format!("{number:04}"), "")).collect();
    let file = write_fresh(&keys).expect("in order");
    let records = records(&file);
    for level in 1..=10 {
        let reached = records.iter().filter(|record| record.pointers.len() / 8 > level).count();
        assert_eq!(reached, 1024 >> (level - 1), "level {level}");
    }
}
