//! Indexes written here: what is written reads back, and whatever is broken is noticed.

use cyrus_format::index::{
    CrcState, Index, IndexHeader, IndexProblem, NEWEST, patch_header, patch_record, sizes,
    versions, write_index,
};
use cyrus_format::{EncodeError, FormatError};
use model::{
    FindingKind, Guid, Modseq, Record, SystemFlags, Timestamp, Uid, UidValidity, UserFlags,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

fn any_time(version: u32) -> BoxedStrategy<Timestamp> {
    if version < 20 {
        any::<u32>().prop_map(|secs| Timestamp::from_secs(i64::from(secs))).boxed()
    } else {
        any::<u64>()
            .prop_map(|nanos| Timestamp {
                secs: (nanos / 1_000_000_000) as i64,
                nanos: (nanos % 1_000_000_000) as u32,
            })
            .boxed()
    }
}

prop_compose! {
    /// A record that uses every bit that the version has.
    fn any_record(version: u32)(
        uid in any::<u32>(),
        times in vec(any_time(version), 5),
        size in any::<u64>(),
        words in any::<[u32; 8]>(),
        guid in any::<[u8; 20]>(),
        wide in any::<[u64; 5]>(),
        cache_version in any::<u16>(),
    ) -> Record {
        let from = |first| version >= first;
        let time = |at: usize, first| if from(first) { times[at] } else { Timestamp::default() };
        let number = |at: usize, first| if from(first) { wide[at] } else { 0 };
        Record {
            uid: Uid(uid),
            internaldate: times[0],
            sentdate: times[1],
            gmtime: time(2, 12),
            last_updated: times[3],
            savedate: time(4, 15),
            size: if from(20) { size } else { size >> 32 },
            header_size: words[0],
            content_lines: if from(15) { 0 } else { words[1] },
            system_flags: SystemFlags(words[2]),
            user_flags: UserFlags([words[3], words[4], words[5], words[6]]),
            guid: if from(10) { Guid(guid) } else { Guid::ZERO },
            modseq: Modseq(number(0, 8)),
            createdmodseq: Modseq(number(1, 16)),
            cid: number(2, 13),
            basecid: number(3, 20),
            cache_offset: wide[4] >> 16,
            cache_version,
            cache_crc: if from(12) { words[7] } else { 0 },
        }
    }
}

prop_compose! {
    /// A header that uses every bit that the version has.
    fn any_header(version: u32)(
        words in any::<[u32; 16]>(),
        wide in any::<[u64; 7]>(),
        times in vec(any_time(version), 7),
    ) -> IndexHeader {
        let from = |first| version >= first;
        let word = |at: usize, first| if from(first) { words[at] } else { 0 };
        let number = |at: usize, first| if from(first) { wide[at] } else { 0 };
        let time = |at: usize, first| if from(first) { times[at] } else { Timestamp::default() };
        let highestmodseq = Modseq(number(1, 8).max(1));
        let last_repack_time = time(3, 12);
        let (start_offset, record_size) = sizes(version).expect("a known version");
        IndexHeader {
            generation: words[0],
            format: words[1],
            minor_version: version,
            start_offset: start_offset as u32,
            record_size: record_size as u32,
            num_records: 0,
            last_appenddate: times[0],
            last_uid: Uid(words[2]),
            quota_mailbox_used: wide[0],
            pop3_last_login: times[1],
            uidvalidity: UidValidity(words[3]),
            deleted: words[4],
            answered: words[5],
            flagged: words[6],
            options: cyrus_format::index::MailboxOptions(words[7]),
            leaked_cache: words[8],
            highestmodseq,
            deletedmodseq: if from(12) { Modseq(wide[2]) } else { highestmodseq },
            exists: word(9, 12),
            first_expunged: time(2, 12),
            last_repack_time,
            header_file_crc: word(10, 12),
            sync_crc_basic: word(11, 12),
            recentuid: Uid(word(12, 12)),
            recenttime: time(4, 12),
            pop3_show_after: time(5, 13),
            quota_annot_used: if from(20) { wide[3] } else { u64::from(word(13, 13)) },
            sync_crc_annot: word(14, 13),
            unseen: word(15, 14),
            createdmodseq: Modseq(number(4, 16)),
            changes_epoch: if from(17) { times[6] } else { last_repack_time },
            quota_deleted_used: number(5, 18),
            quota_expunged_used: number(6, 18),
        }
    }
}

fn any_version() -> impl Strategy<Value = u32> {
    select(versions().collect::<Vec<_>>())
}

prop_compose! {
    fn any_index()(version in any_version())(
        header in any_header(version),
        records in vec(any_record(version), 0..6),
    ) -> (IndexHeader, Vec<Record>) {
        let num_records = records.len() as u32;
        // Before 12, all records are live ones.
        let exists = if header.minor_version < 12 { num_records } else { header.exists };
        (IndexHeader { num_records, exists, ..header }, records)
    }
}

proptest! {
    #[test]
    fn what_is_written_reads_back((header, records) in any_index()) {
        let bytes = write_index(&header, &records).expect("every number fits");
        let index = Index::parse(&bytes).expect("just written");
        prop_assert_eq!(index.header(), &header);
        prop_assert_eq!(index.records().collect::<Vec<_>>(), records);
        let order = |problem: &IndexProblem| matches!(problem, IndexProblem::RecordOrder { .. });
        prop_assert!(index.problems().iter().all(order));
    }

    #[test]
    fn a_file_cut_anywhere_still_gives_every_whole_record((header, records) in any_index()) {
        let bytes = write_index(&header, &records).expect("every number fits");
        let (header_size, record_size) = sizes(header.minor_version).expect("known");
        for cut in 0..bytes.len() {
            match Index::parse(&bytes[..cut]) {
                Err(FormatError::Damaged { .. }) => prop_assert!(cut < header_size),
                Err(error) => prop_assert!(false, "{}", error),
                Ok(index) => {
                    prop_assert!(cut >= header_size);
                    let present = (cut - header_size) / record_size;
                    prop_assert_eq!(index.len(), present);
                    prop_assert_eq!(index.records().collect::<Vec<_>>(), &records[..present]);
                    let announced = header.num_records;
                    let truncated = IndexProblem::Truncated { announced, present };
                    prop_assert!(index.problems().contains(&truncated));
                }
            }
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(
        minor in 0..30_u32,
        mut bytes in vec(any::<u8>(), 0..600),
    ) {
        if let Some(place) = bytes.get_mut(8..12) {
            place.copy_from_slice(&minor.to_be_bytes());
        }
        if let Ok(index) = Index::parse(&bytes) {
            prop_assert!(index.len() <= bytes.len() / 60);
            prop_assert_eq!(index.records().count(), index.len());
            prop_assert_eq!(index.raw(index.len()), None);
            prop_assert_eq!(index.raw(usize::MAX), None);
            prop_assert!(index.records_in_tail().count() <= index.whole_records_in_tail());
            prop_assert!(index.position(Uid(7)).is_none_or(|at| at < index.len()));
            index.problems();
        }
    }

    #[test]
    fn a_patched_record_is_the_record_written_anew(
        (header, records) in any_index(),
        flags in any::<u32>(),
        modseq in any::<u64>(),
    ) {
        let version = header.minor_version;
        let edit = |record: &mut Record| {
            record.system_flags = SystemFlags(flags);
            if version >= 8 {
                record.modseq = Modseq(modseq);
            }
        };
        let mut patched = write_index(&header, &records).expect("every number fits");
        let (header_size, record_size) = sizes(version).expect("known");
        for raw in patched[header_size..].chunks_exact_mut(record_size) {
            patch_record(version, raw, edit).expect("every number fits");
        }
        patch_header(version, &mut patched, |header| header.last_uid = Uid(modseq as u32))
            .expect("every number fits");
        let mut records = records;
        records.iter_mut().for_each(edit);
        let header = IndexHeader { last_uid: Uid(modseq as u32), ..header };
        prop_assert_eq!(Ok(patched), write_index(&header, &records));
    }
}

/// Three records of a version, none of whose fields is zero.
fn three(version: u32) -> Vec<u8> {
    let header = IndexHeader::fresh(version).expect("a known version");
    let records: Vec<Record> = (1..=3)
        .map(|n| Record {
            uid: Uid(n),
            size: u64::from(n) * 1000,
            guid: Guid([n as u8; 20]),
            modseq: Modseq(u64::from(n)),
            internaldate: Timestamp::from_secs(1_700_000_000),
            ..Record::default()
        })
        .collect();
    write_index(&header, &records).expect("small numbers")
}

#[test]
fn a_flipped_bit_in_a_record_is_caught_by_its_crc() {
    for version in versions().filter(|version| *version >= 12) {
        let mut bytes = three(version);
        let (header_size, record_size) = sizes(version).expect("known");
        for bit in 0..record_size * 8 {
            let at = header_size + record_size + bit / 8;
            bytes[at] ^= 1 << (bit % 8);
            let index = Index::parse(&bytes).expect("the header is untouched");
            let states: Vec<_> = (0..3).map(|i| index.record_crc(i)).collect();
            let (good, bad) = (Some(CrcState::Good), Some(CrcState::Bad));
            assert_eq!(states, [good, bad, good], "version {version} bit {bit}");
            let uid = index.record(1).expect("still there").uid;
            assert!(index.problems().contains(&IndexProblem::RecordCrc { i: 1, uid }));
            bytes[at] ^= 1 << (bit % 8);
        }
    }
}

#[test]
fn a_flipped_bit_in_the_header_is_caught_by_its_crc() {
    for version in versions().filter(|version| *version >= 12) {
        let mut bytes = three(version);
        let (header_size, _) = sizes(version).expect("known");
        for bit in (0..header_size * 8).filter(|bit| !(64..96).contains(bit)) {
            bytes[bit / 8] ^= 1 << (bit % 8);
            let index = Index::parse(&bytes).expect("the version is untouched");
            assert_eq!(index.header_crc(), CrcState::Bad, "version {version} bit {bit}");
            assert!(index.problems().contains(&IndexProblem::HeaderCrc));
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        // The version itself: never taken for a good file of another version.
        for bit in 64..96 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            let crc = Index::parse(&bytes).map(|index| index.header_crc());
            assert_ne!(crc, Ok(CrcState::Good), "version {version} bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

#[test]
fn records_behind_the_announced_ones_are_a_tail() {
    for version in versions() {
        let whole = three(version);
        let (_, record_size) = sizes(version).expect("known");
        let mut bytes = [&whole[..], &whole[whole.len() - record_size..], b"rest"].concat();
        let index = Index::parse(&bytes).expect("whole");
        assert_eq!((index.len(), index.whole_records_in_tail()), (3, 1));
        assert_eq!(index.tail().len(), record_size + 4);
        let tail = IndexProblem::Tail { bytes: record_size + 4, whole_records: 1 };
        assert_eq!(index.problems(), [tail]);
        let confirmed: Vec<Uid> = index.records_in_tail().map(|record| record.uid).collect();
        assert_eq!(confirmed, if version < 12 { vec![] } else { vec![Uid(3)] });
        // A record that is not whole in itself is not offered.
        bytes[whole.len()] ^= 1;
        let index = Index::parse(&bytes).expect("whole");
        assert_eq!(index.records_in_tail().count(), 0);
    }
}

#[test]
fn a_header_that_names_other_sizes_is_a_problem_and_not_followed() {
    for version in versions() {
        let mut bytes = three(version);
        bytes[12..20].copy_from_slice(&[0, 0, 0, 255, 255, 255, 255, 255]);
        let index = Index::parse(&bytes).expect("the version says enough");
        let uids: Vec<u32> = index.records().map(|record| record.uid.0).collect();
        assert_eq!(uids, [1, 2, 3]);
        let sizes = IndexProblem::Sizes {
            minor_version: version,
            start_offset: 255,
            record_size: u32::MAX,
        };
        assert!(index.problems().contains(&sizes));
        let finding = sizes.finding("user.glad");
        assert_eq!((finding.kind, finding.uid), (FindingKind::IndexSizes, None));
    }
}

#[test]
fn uids_that_do_not_ascend_are_a_problem() {
    let header = IndexHeader::fresh(17).expect("a known version");
    let record = |uid| Record { uid: Uid(uid), ..Record::default() };
    let records = [record(0), record(5), record(5), record(3), record(6)];
    let bytes = write_index(&header, &records).expect("small numbers");
    let index = Index::parse(&bytes).expect("just written");
    let order =
        |i, uid, previous| IndexProblem::RecordOrder { i, uid: Uid(uid), previous: Uid(previous) };
    assert_eq!(index.problems(), [order(0, 0, 0), order(2, 5, 5), order(3, 3, 5)]);
    let finding = index.problems()[1].finding("user.glad");
    assert_eq!(
        finding.to_string(),
        "record-order: user.glad uid 5: record 2 has UID 5 and comes after UID 5"
    );
}

#[test]
fn a_future_version_is_too_new_and_nonsense_is_foreign() {
    for minor in 0..600_u32 {
        let mut bytes = three(17);
        bytes[8..12].copy_from_slice(&minor.to_be_bytes());
        let parsed = Index::parse(&bytes);
        if versions().any(|version| version == minor) {
            assert!(parsed.is_ok(), "{minor}");
        } else if minor > NEWEST && minor < 256 {
            let too_new =
                FormatError::TooNew { what: "cyrus.index", version: minor, newest: NEWEST };
            assert_eq!(parsed.err(), Some(too_new));
        } else {
            assert!(matches!(parsed, Err(FormatError::Foreign { .. })), "{minor}: {parsed:?}");
        }
    }
    assert!(matches!(Index::parse(&[]), Err(FormatError::Damaged { .. })));
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let write = |version, record: Record| {
        let header = IndexHeader::fresh(version).expect("a known version");
        write_index(&header, &[record]).map(|_| ())
    };
    let at = Timestamp::from_secs;
    let big = u64::from(u32::MAX) + 1;
    for (version, record, expected) in [
        (17, Record { size: big, ..Record::default() }, Some("size")),
        (20, Record { size: big, ..Record::default() }, None),
        (17, Record { internaldate: at(-1), ..Record::default() }, Some("internaldate")),
        (17, Record { savedate: at(1 << 32), ..Record::default() }, Some("savedate")),
        (20, Record { savedate: at(1 << 32), ..Record::default() }, None),
        (20, Record { savedate: at(-1), ..Record::default() }, Some("savedate")),
        (20, Record { savedate: at(i64::MAX), ..Record::default() }, Some("savedate")),
        (14, Record { savedate: at(-1), ..Record::default() }, None),
        (17, Record { cache_offset: 1 << 48, ..Record::default() }, Some("cache_offset")),
        (17, Record { cache_offset: (1 << 48) - 1, ..Record::default() }, None),
    ] {
        let field = match write(version, record) {
            Ok(()) => None,
            Err(EncodeError::Range { what: "cyrus.index", field, .. }) => Some(field),
            Err(error) => panic!("{error}"),
        };
        assert_eq!(field, expected, "version {version}");
    }
    let unknown = Err(EncodeError::Version { what: "cyrus.index", version: 11 });
    assert_eq!(IndexHeader::fresh(11), unknown.clone());
    let header = IndexHeader { minor_version: 11, ..IndexHeader::default() };
    assert_eq!(write_index(&header, &[]).map(|_| IndexHeader::default()), unknown);
}

#[test]
fn a_patch_that_fails_leaves_the_bytes_alone() {
    let before = three(17);
    let mut bytes = before.clone();
    let raw = &mut bytes[160..272];
    let refused = patch_record(17, raw, |record| {
        record.uid = Uid(99);
        record.size = u64::MAX;
    });
    assert!(matches!(refused, Err(EncodeError::Range { field: "size", .. })), "{refused:?}");
    let short = patch_record(17, &mut bytes[160..200], |record| record.uid = Uid(99));
    assert!(matches!(short, Err(EncodeError::Range { field: "record", .. })), "{short:?}");
    let short = patch_header(17, &mut bytes[..100], |header| header.exists = 7);
    assert!(matches!(short, Err(EncodeError::Range { field: "header", .. })), "{short:?}");
    assert_eq!(bytes, before);
}

#[test]
fn a_patch_keeps_what_no_field_covers() {
    let mut bytes = three(8);
    let raw = &mut bytes[92..172];
    raw[60..72].copy_from_slice(b"replica's id");
    patch_record(8, raw, |record| record.modseq = Modseq(77)).expect("it fits");
    assert_eq!(&raw[60..72], b"replica's id");
    assert_eq!(Index::parse(&bytes).expect("whole").record(0).map(|r| r.modseq), Some(Modseq(77)));
}
