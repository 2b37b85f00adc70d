//! Counting records into a header.

use cyrus_format::index::{Counter, Index, IndexHeader, Tally, versions, write_index};
use model::crc::{self, FlagCrcs, ThridText};
use model::{Modseq, Record, SystemFlags, Timestamp, Uid};

const NO_NAMES: [Option<&[u8]>; 0] = [];

fn record(uid: u32, flags: &[SystemFlags]) -> Record {
    Record {
        uid: Uid(uid),
        size: 1000 + u64::from(uid),
        system_flags: SystemFlags(flags.iter().fold(0, |bits, flag| bits | flag.0)),
        modseq: Modseq(u64::from(uid) * 10),
        last_updated: Timestamp::from_secs(i64::from(uid) * 100),
        ..Record::default()
    }
}

fn records() -> Vec<Record> {
    use SystemFlags as Flag;
    vec![
        record(1, &[]),
        record(2, &[Flag::SEEN, Flag::ANSWERED]),
        record(3, &[Flag::DELETED, Flag::FLAGGED]),
        record(4, &[Flag::SEEN, Flag::EXPUNGED, Flag::ANSWERED]),
        record(5, &[Flag::EXPUNGED]),
        record(6, &[Flag::EXPUNGED, Flag::UNLINKED, Flag::FLAGGED]),
    ]
}

fn tally(version: u32) -> Tally {
    Tally::of(records(), version, &FlagCrcs::new(NO_NAMES), ThridText::default())
}

#[test]
fn only_live_records_count() {
    let tally = tally(20);
    assert_eq!((tally.num_records, tally.exists, tally.unseen), (6, 3, 2));
    assert_eq!((tally.answered, tally.flagged, tally.deleted), (1, 1, 1));
    assert_eq!(tally.quota_mailbox_used, 1001 + 1002 + 1003);
    assert_eq!(tally.quota_deleted_used, 1003);
    assert_eq!(tally.quota_expunged_used, 1004 + 1005);
    assert_eq!((tally.highest_uid, tally.highest_modseq), (Uid(6), Modseq(60)));
    assert_eq!(tally.first_expunged, Some(Timestamp::from_secs(400)));
    let flags = FlagCrcs::new(NO_NAMES);
    let live = records().iter().take(3).fold(0, |crc, record| crc ^ crc::basic(record, &flags));
    assert_eq!(tally.sync_crc_basic, live);
}

#[test]
fn an_applied_tally_survives_writing_and_leaves_no_difference() {
    for version in versions() {
        let tally = tally(version);
        let mut header = IndexHeader::fresh(version).expect("a known version");
        assert!(!tally.differences(&header).is_empty());
        let start = header.sync_crc_annot;
        tally.apply(&mut header, start);
        assert_eq!(tally.differences(&header), [], "version {version}");
        let bytes = write_index(&header, &records()).expect("small numbers");
        let index = Index::parse(&bytes).expect("just written");
        assert_eq!(index.header(), &header, "version {version}");
        assert_eq!(index.header().last_uid, Uid(6));
    }
}

#[test]
fn what_changes_is_counted_as_if_all_were() {
    let flags = FlagCrcs::new(NO_NAMES);
    for version in versions() {
        let of =
            |records: &[Record]| Tally::of(records.to_vec(), version, &flags, ThridText::default());
        let header = |tally: Tally| {
            let mut header = IndexHeader::fresh(version).expect("a known version");
            let start = header.sync_crc_annot;
            tally.apply(&mut header, start);
            header
        };
        let before = records();
        let seen = Record { savedate: Timestamp::from_secs(9), ..record(1, &[SystemFlags::SEEN]) };
        let expunged = record(2, &[SystemFlags::SEEN, SystemFlags::EXPUNGED]);
        let new = [seen, expunged, record(7, &[SystemFlags::FLAGGED])];
        let after = [&new[..2], &before[2..], &new[2..]].concat();
        let mut changed = header(of(&before));
        of(&new).apply_change(&of(&before[..2]), &mut changed, 0);
        assert_eq!(changed, header(of(&after)), "version {version}");
    }
}

#[test]
fn marks_move_only_as_far_as_they_must() {
    let at = Timestamp::from_secs;
    let mut header = IndexHeader {
        last_uid: Uid(100),
        highestmodseq: Modseq(7),
        first_expunged: at(300),
        ..IndexHeader::fresh(17).expect("a known version")
    };
    tally(17).apply(&mut header, crc::ANNOT_START);
    assert_eq!((header.last_uid, header.highestmodseq), (Uid(100), Modseq(60)));
    assert_eq!(header.first_expunged, at(300));
    header.first_expunged = at(500);
    tally(17).apply(&mut header, crc::ANNOT_START);
    assert_eq!(header.first_expunged, at(400));
    assert_eq!(header.sync_crc_annot, crc::ANNOT_START);
}

#[test]
fn a_wrong_counter_is_named_with_both_numbers() {
    let mut header = IndexHeader::fresh(17).expect("a known version");
    tally(17).apply(&mut header, crc::ANNOT_START);
    header.unseen = 9;
    header.quota_mailbox_used = 5;
    let differences = tally(17).differences(&header);
    let quota = Counter { name: "quota_mailbox_used", stored: 5, counted: 3006 };
    assert_eq!(differences, [quota, Counter { name: "unseen", stored: 9, counted: 2 }]);
    // Version 12 has no such counter.
    header.minor_version = 12;
    assert_eq!(tally(12).differences(&header), [quota]);
}

#[test]
fn sizes_from_a_broken_file_do_not_overflow() {
    let huge = |uid| Record { size: u64::MAX, ..record(uid, &[SystemFlags::DELETED]) };
    let flags = FlagCrcs::new(NO_NAMES);
    let tally = Tally::of([huge(1), huge(2)], 20, &flags, ThridText::Padded);
    assert_eq!((tally.quota_mailbox_used, tally.quota_deleted_used), (u64::MAX, u64::MAX));
}
