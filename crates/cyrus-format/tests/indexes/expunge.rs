//! cyrus.expunge of Cyrus 2.3. No release that writes it is at hand, so all samples are made here.

use cyrus_format::FormatError;
use cyrus_format::expunge::{merge, parse};
use cyrus_format::index::{Index, IndexHeader, IndexProblem, versions, write_index};
use model::{Record, SystemFlags, Timestamp, Uid};

fn record(uid: u32, last_updated: i64) -> Record {
    Record { uid: Uid(uid), last_updated: Timestamp::from_secs(last_updated), ..Record::default() }
}

fn file(version: u32, records: &[Record]) -> Vec<u8> {
    let header = IndexHeader::fresh(version).expect("a known version");
    write_index(&header, records).expect("small numbers")
}

/// UIDs with their state, and the overlaps, of two files with these records.
fn merged(live: &[Record], expunged: &[Record]) -> (Vec<(u32, bool, i64)>, Vec<Uid>) {
    let (index, expunge) = (file(10, live), file(10, expunged));
    let index = Index::parse(&index).expect("just written");
    let merged = merge(&index, &parse(&expunge).expect("just written"));
    let states = merged.records.iter();
    let states = states.map(|r| (r.uid.0, r.is_expunged(), r.last_updated.secs));
    (states.collect(), merged.overlaps)
}

#[test]
fn expunged_messages_take_their_place_among_the_live_ones() {
    let live = [record(2, 1), record(5, 1)];
    let expunged = [record(9, 10), record(1, 20), record(4, 20)];
    let (states, overlaps) = merged(&live, &expunged);
    let expected = [(1, true, 20), (2, false, 1), (4, true, 20), (5, false, 1), (9, true, 10)];
    assert_eq!(states, expected);
    assert_eq!(overlaps, []);
}

#[test]
fn a_message_in_both_files_is_live_and_reported() {
    let live = [record(2, 1), record(3, 1), record(5, 1)];
    let expunged = [record(5, 9), record(3, 9), record(4, 9)];
    let (states, overlaps) = merged(&live, &expunged);
    let expected = [(2, false, 1), (3, false, 1), (4, true, 9), (5, false, 1)];
    assert_eq!(states, expected);
    assert_eq!(overlaps, [Uid(3), Uid(5)]);
}

#[test]
fn of_two_expunges_of_one_message_the_later_one_counts() {
    let (states, overlaps) = merged(&[record(1, 1)], &[record(3, 10), record(3, 20)]);
    assert_eq!(states, [(1, false, 1), (3, true, 20)]);
    assert_eq!(overlaps, []);
}

#[test]
fn an_empty_file_changes_nothing() {
    let (states, overlaps) = merged(&[record(1, 1)], &[]);
    assert_eq!((states, overlaps), (vec![(1, false, 1)], vec![]));
}

#[test]
fn every_version_has_it_and_its_order_is_no_news() {
    for version in versions().filter(|version| *version <= 10) {
        let bytes = file(version, &[record(7, 1), record(2, 2)]);
        let expunge = parse(&bytes).expect("just written");
        assert_eq!(expunge.records().map(|r| r.uid.0).collect::<Vec<_>>(), [7, 2]);
        let order = IndexProblem::RecordOrder { i: 1, uid: Uid(2), previous: Uid(7) };
        assert_eq!(expunge.problems(), [order]);
        let flags = expunge.record(0).expect("there are two").system_flags;
        assert_eq!(flags, SystemFlags::default());
    }
}

#[test]
fn errors_name_the_file() {
    let error = parse(b"short").expect_err("too short for a header");
    assert!(matches!(error, FormatError::Damaged { what: "cyrus.expunge", .. }), "{error}");
}
