//! Versions 18 to 20, made by hand out of the real sample of version 17.

use cyrus_format::index::{Index, IndexHeader, write_index};
use model::{Record, Timestamp};

use super::samples::{file, real};

fn source() -> (IndexHeader, Vec<Record>) {
    let sample = real(17);
    let index = Index::parse(&sample.index).expect("Cyrus wrote it");
    (index.header().clone(), index.records().collect())
}

/// The header as it looks in a later version.
fn header(version: u32, start_offset: u32, record_size: u32) -> IndexHeader {
    IndexHeader {
        minor_version: version,
        start_offset,
        record_size,
        quota_deleted_used: 220,
        quota_expunged_used: 245,
        ..source().0
    }
}

fn later(time: Timestamp, nanos: u32) -> Timestamp {
    Timestamp { nanos, ..time }
}

#[track_caller]
fn check(folder: &str, header: &IndexHeader, records: &[Record]) {
    let bytes = file(folder, "cyrus.index");
    let index = Index::parse(&bytes).expect("whole");
    assert_eq!(index.problems(), []);
    assert_eq!(index.header(), header);
    assert_eq!(index.records().collect::<Vec<_>>(), records);
    for (key, record) in index.keys().zip(records) {
        assert_eq!((key.uid, key.guid, key.size), (record.uid, record.guid, record.size));
        assert_eq!(key.system_flags, record.system_flags);
        assert_eq!(key.internaldate, record.internaldate);
    }
    if folder != "v19-144" {
        assert_eq!(write_index(header, records), Ok(bytes));
    }
}

#[test]
fn version_18_adds_two_sums() {
    check("v18", &header(18, 160, 112), &source().1);
}

#[test]
fn version_19_moves_the_header_around() {
    check("v19", &header(19, 160, 112), &source().1);
}

#[test]
fn version_19_with_the_record_size_of_20_is_read() {
    check("v19-144", &header(19, 160, 144), &source().1);
}

#[test]
fn version_20_counts_nanoseconds() {
    let mut header = header(20, 192, 144);
    header.last_appenddate.nanos = 9;
    let records: Vec<Record> = source()
        .1
        .into_iter()
        .map(|record| Record {
            internaldate: later(record.internaldate, 1),
            sentdate: later(record.sentdate, 2),
            gmtime: later(record.gmtime, 3),
            last_updated: later(record.last_updated, 4),
            savedate: later(record.savedate, 5),
            basecid: 0xba5e_0000_0000_0000 + u64::from(record.uid.0),
            ..record
        })
        .collect();
    check("v20", &header, &records);
}
