//! Indexes that a real Cyrus 3.6.1 wrote, against what its own tools print about them.

use cyrus_format::header::{HeaderForm, MailboxHeader, file_crc};
use cyrus_format::index::{CrcState, Index, Tally, write_index};
use model::crc::{self, ThridText};
use model::{MboxName, Record, SystemFlags, Timestamp, UserFlags};

use super::samples::{REAL, Sample, real};

/// The text between `label` and the next blank or closing parenthesis.
fn word<'a>(text: &'a str, label: &str) -> Option<&'a str> {
    let rest = text.split_once(label)?.1.trim_start_matches([' ', '(']);
    rest.split([' ', '\n', ')']).next()
}

fn number(text: &str, label: &str) -> u64 {
    let digits = word(text, label).unwrap_or_else(|| panic!("{label} in {text}"));
    digits.parse().unwrap_or_else(|_| panic!("{label} {digits} is no number"))
}

fn hex(text: &str, label: &str) -> u64 {
    let digits = word(text, label).unwrap_or_else(|| panic!("{label} in {text}"));
    u64::from_str_radix(digits, 16).unwrap_or_else(|_| panic!("{label} {digits} is not hex"))
}

fn seconds(text: &str, label: &str) -> Timestamp {
    Timestamp::from_secs(i64::try_from(number(text, label)).expect("a time of our days"))
}

/// What mbexamine prints about each live message.
fn blocks(sample: &Sample) -> Vec<&str> {
    sample.mbexamine.split("000001> ").skip(1).collect()
}

#[test]
fn no_real_file_has_a_problem() {
    for version in REAL {
        let sample = real(version);
        let index = Index::parse(&sample.index).expect("Cyrus wrote it");
        assert_eq!(index.problems(), [], "version {version}");
        let crc = if version < 12 { CrcState::None } else { CrcState::Good };
        assert_eq!((index.minor_version(), index.header_crc()), (version, crc));
        for i in 0..index.len() {
            assert_eq!(index.record_crc(i), Some(crc), "version {version} record {i}");
        }
        assert_eq!((index.len(), index.announced(), index.tail().len()), (6, 6, 0));
    }
}

#[test]
fn headers_say_what_mbexamine_says() {
    for version in REAL {
        let sample = real(version);
        let text = sample.mbexamine.as_str();
        let index = Index::parse(&sample.index).expect("Cyrus wrote it");
        let header = index.header();
        assert_eq!(u64::from(header.generation), number(text, "Generation Number:"));
        assert_eq!(u64::from(header.minor_version), number(text, "Minor Version:"));
        assert_eq!(u64::from(header.start_offset), number(text, "Header Size:"));
        assert_eq!(u64::from(header.record_size), number(text, "Record Size:"));
        assert_eq!(u64::from(header.exists), number(text, "Number of Messages:"));
        assert_eq!(header.quota_mailbox_used, number(text, "Mailbox Size:"));
        assert_eq!(header.quota_annot_used, number(text, "Annotations Size:"));
        assert_eq!(header.last_appenddate, seconds(text, "Last Append Date:"));
        assert_eq!(u64::from(header.uidvalidity.0), number(text, "UIDValidity:"));
        assert_eq!(u64::from(header.last_uid.0), number(text, "Last UID:"));
        assert_eq!(u64::from(header.deleted), number(text, "Deleted:"));
        assert_eq!(u64::from(header.answered), number(text, "Answered:"));
        assert_eq!(u64::from(header.flagged), number(text, "Flagged:"));
        assert_eq!(header.pop3_last_login, seconds(text, "Last POP3 Login:"));
        assert_eq!(header.highestmodseq.0, number(text, "Highest Mod Sequence:"));
    }
}

#[test]
fn live_records_say_what_mbexamine_says() {
    for version in REAL {
        let sample = real(version);
        let index = Index::parse(&sample.index).expect("Cyrus wrote it");
        let live: Vec<Record> = index.records().filter(|record| !record.is_expunged()).collect();
        let blocks = blocks(&sample);
        assert_eq!(live.len(), 5, "version {version}");
        assert_eq!(live.len(), blocks.len(), "version {version}");
        for (record, text) in live.iter().zip(blocks) {
            check_record(record, version, text);
        }
    }
}

fn check_record(record: &Record, version: u32, text: &str) {
    assert_eq!(u64::from(record.uid.0), number(text, "UID:"));
    assert_eq!(record.internaldate, seconds(text, "INT_DATE:"));
    assert_eq!(record.sentdate, seconds(text, "SENTDATE:"));
    assert_eq!(record.savedate, seconds(text, "SAVEDATE:"));
    assert_eq!(record.size, number(text, " SIZE:"));
    assert_eq!(u64::from(record.header_size), number(text, "HDRSIZE:"));
    assert_eq!(record.last_updated, seconds(text, "LASTUPD :"));
    assert_eq!(u64::from(record.system_flags.0), hex(text, "SYSFLAGS:"));
    assert_eq!(u64::from(record.cache_version), number(text, "CACHEVER:"));
    assert_eq!(Some(user_flags(text)), Some(record.user_flags));
    if version >= 7 {
        assert_eq!(word(text, "GUID:"), Some(record.guid.to_string().as_str()));
    }
    if version >= 8 {
        assert_eq!(record.modseq.0, number(text, "MODSEQ:"));
    }
    if version >= 13 {
        assert_eq!(record.cid, hex(text, "THRID:"));
    }
}

/// mbexamine prints the highest word first.
fn user_flags(text: &str) -> UserFlags {
    let line = text.split_once("USERFLAGS: ").expect("each block has it").1;
    let words = line.lines().next().unwrap_or_default().split(' ').rev();
    let mut flags = UserFlags::default();
    for (slot, digits) in flags.0.iter_mut().zip(words) {
        *slot = u32::from_str_radix(digits, 16).expect("hex");
    }
    flags
}

#[test]
fn the_expunged_record_says_what_unexpunge_says() {
    for version in REAL {
        let sample = real(version);
        let index = Index::parse(&sample.index).expect("Cyrus wrote it");
        let expunged: Vec<Record> = index.records().filter(Record::is_expunged).collect();
        let [record] = expunged.as_slice() else { panic!("version {version}: {expunged:?}") };
        assert!(!record.is_unlinked());
        assert!(record.system_flags.contains(SystemFlags::DELETED));
        let text = sample.unexpunge.as_str();
        assert_eq!(u64::from(record.uid.0), number(text, "UID:"));
        assert_eq!(record.size, number(text, "Size:"));
        assert!(text.contains("Recv: Tue Feb  6 12:00:05 2024"), "{text}");
        assert_eq!(record.internaldate, Timestamp::from_secs(1_707_220_805));
    }
}

#[test]
fn keys_are_the_same_fields_of_the_same_records() {
    for version in REAL {
        let sample = real(version);
        let index = Index::parse(&sample.index).expect("Cyrus wrote it");
        assert_eq!(index.keys().len(), index.records().len());
        for (i, (key, record)) in index.keys().zip(index.records()).enumerate() {
            assert_eq!((key.uid, key.guid), (record.uid, record.guid));
            assert_eq!((key.system_flags, key.size), (record.system_flags, record.size));
            assert_eq!(key.internaldate, record.internaldate);
            assert_eq!(index.position(record.uid), Some(i));
            assert_eq!((index.key(i), index.record(i)), (Some(key), Some(record)));
        }
    }
}

#[test]
fn counters_and_sync_crcs_come_out_as_cyrus_counted_them() {
    for version in REAL {
        let sample = real(version);
        let index = Index::parse(&sample.index).expect("Cyrus wrote it");
        let names = MailboxHeader::parse(&sample.header).expect("Cyrus wrote it");
        let tally = Tally::of(index.records(), version, &names.flag_crcs(), ThridText::default());
        assert_eq!(tally.exists, 5);
        // Before 12, Cyrus 2.3 keeps expunged records elsewhere, while 3.6 leaves them in place.
        assert_eq!(tally.differences(index.header()), [], "version {version}");
        assert_eq!(tally.highest_uid, index.header().last_uid);
    }
}

/// Versions up to 10 don't store it; `reconstruct -n` prints what it would be.
#[test]
fn the_basic_crc_of_old_versions_is_what_reconstruct_computes() {
    for (version, expected) in [
        (6, 3_399_213_947),
        (7, 3_399_213_947),
        (8, 2_841_643_144),
        (9, 3_801_428_261),
        (10, 187_451_125),
    ] {
        let sample = real(version);
        let index = Index::parse(&sample.index).expect("Cyrus wrote it");
        let names = MailboxHeader::parse(&sample.header).expect("Cyrus wrote it");
        let tally = Tally::of(index.records(), version, &names.flag_crcs(), ThridText::default());
        assert_eq!(tally.sync_crc_basic, expected, "version {version}");
    }
}

#[test]
fn the_annotation_crc_is_its_start_the_records_part_and_the_stored_ones() {
    for version in [16, 17] {
        let sample = real(version);
        let index = Index::parse(&sample.index).expect("Cyrus wrote it");
        let names = MailboxHeader::parse(&sample.header).expect("Cyrus wrote it");
        let tally = Tally::of(index.records(), version, &names.flag_crcs(), ThridText::default());
        let first = index.record(0).expect("there are six");
        let stored = crc::annotation(first.uid, b"/comment", b"", b"buy more");
        let mut header = index.header().clone();
        tally.apply(&mut header, crc::ANNOT_START ^ stored);
        assert_eq!(&header, index.header(), "version {version}");
    }
}

#[test]
fn the_index_knows_the_crc_of_the_header_file() {
    for version in REAL {
        let sample = real(version);
        let index = Index::parse(&sample.index).expect("Cyrus wrote it");
        let expected = if version < 12 { 0 } else { file_crc(&sample.header) };
        assert_eq!(index.header().header_file_crc, expected, "version {version}");
    }
}

#[test]
fn header_files_say_what_mbexamine_says_and_write_back_the_same() {
    for version in REAL {
        let sample = real(version);
        let header = MailboxHeader::parse(&sample.header).expect("Cyrus wrote it");
        assert_eq!(header.write().as_ref(), Ok(&sample.header));
        assert_eq!(header.form, HeaderForm::Dlist);
        let name = format!("user.glad.v{version}");
        assert_eq!(header.name, Some(MboxName::from(name.as_str())));
        let uniqueid = header.uniqueid.expect("every mailbox of 3.6 has one").to_string();
        assert_eq!(word(&sample.mbexamine, "Unique ID:"), Some(uniqueid.as_str()));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let flags: Vec<String> =
            header.user_flags.iter().flatten().map(|name| text(name)).collect();
        let acl: Vec<String> =
            header.acl.iter().flat_map(|(who, rights)| [text(who), text(rights)]).collect();
        for line in
            [format!("User Flags: {}\n", flags.join(" ")), format!("ACL: {}\n", acl.join("\t"))]
        {
            assert!(sample.mbexamine.contains(&line), "version {version}: {line}");
        }
    }
}

#[test]
fn indexes_write_back_the_same() {
    for version in REAL {
        let sample = real(version);
        let index = Index::parse(&sample.index).expect("Cyrus wrote it");
        let records: Vec<Record> = index.records().collect();
        let written = write_index(index.header(), &records);
        assert_eq!(written.as_ref(), Ok(&sample.index), "version {}", sample.version);
    }
}
