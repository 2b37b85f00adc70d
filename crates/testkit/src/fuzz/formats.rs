//! The formats of Cyrus.

use std::collections::BTreeSet;

use cyrus_format::cache;
use cyrus_format::db::{self, Db, flat, twoskip};
use cyrus_format::dlist::Dlist;
use cyrus_format::expunge;
use cyrus_format::header::MailboxHeader;
use cyrus_format::imapd_conf::ImapdConf;
use cyrus_format::index::{Corrector, Index, salvage, write_index};
use cyrus_format::mboxlist::MboxList;
use cyrus_format::names::{NameEra, NameRules};
use model::Uid;

/// What is read is written as something that reads the same.
pub(super) fn dlist(bytes: &[u8]) {
    let Ok((value, used)) = Dlist::parse(bytes) else { return };
    assert!(used <= bytes.len());
    let written = value.to_vec();
    assert_eq!(Dlist::parse_exact(&written).as_ref(), Ok(&value), "{written:?}");
}

/// Likewise.
pub(super) fn header(bytes: &[u8]) {
    let Ok(header) = MailboxHeader::parse(bytes) else { return };
    header.flag_crcs();
    if let Ok(written) = header.write() {
        assert_eq!(MailboxHeader::parse(&written).as_ref(), Ok(&header));
    }
}

/// Every way to look at an index agrees with the others, and the records survive being written.
pub(super) fn index(bytes: &[u8]) {
    salvaged(bytes);
    let Ok(index) = Index::parse(bytes) else { return };
    assert!(index.len() <= bytes.len() / 60, "more records than there is room for");
    assert!(index.len() as u64 <= u64::from(index.announced()));
    let records: Vec<_> = index.records().collect();
    assert_eq!(records.len(), index.len());
    for (at, (record, key)) in records.iter().zip(index.keys()).enumerate() {
        assert_eq!(index.record(at).as_ref(), Some(record));
        assert_eq!((key.uid, key.guid), (record.uid, record.guid));
        assert!(index.raw(at).is_some() && index.record_crc(at).is_some());
    }
    assert!(index.raw(records.len()).is_none());
    assert!(index.records_in_tail().count() <= index.whole_records_in_tail());
    index.position(Uid(u32::MAX));
    index.problems();
    if let Ok(written) = write_index(index.header(), &records) {
        let again = Index::parse(&written).expect("what was written is an index");
        assert!(again.records().eq(records), "the records have changed");
    }
}

/// What is found without the header are records, and a bit that is put back leaves nothing to put back.
fn salvaged(bytes: &[u8]) {
    for likely in [None, Some(12), Some(20)] {
        let Some(found) = salvage(bytes, likely) else { continue };
        assert!(found.records.len() <= bytes.len() / 96, "more records than there is room for");
        assert!(found.records.iter().all(|record| record.uid.0 > 0));
    }
    let mut bytes = bytes.to_vec();
    for version in [10, 12, 17, 20, u32::MAX] {
        let both = [Corrector::of_records(version), Corrector::of_headers(version)];
        for corrector in both.into_iter().flatten() {
            if corrector.correct(&mut bytes).is_some() {
                assert_eq!(corrector.correct(&mut bytes), None);
            }
        }
    }
}

/// Two files, one behind the other; the first two bytes say where the second one begins.
pub(super) fn expunge(bytes: &[u8]) {
    let Some((first, rest)) = bytes.split_first_chunk() else { return };
    let at = usize::from(u16::from_be_bytes(*first)).min(rest.len());
    let (index, expunged) = rest.split_at(at);
    let (Ok(index), Ok(expunged)) = (Index::parse(index), expunge::parse(expunged)) else {
        return;
    };
    let merged = expunge::merge(&index, &expunged);
    assert!(merged.records.len() <= index.len() + expunged.len());
    assert!(merged.records.is_sorted_by_key(|record| record.uid));
    let live = index.records().map(|record| record.uid);
    let merged_uids: BTreeSet<_> = merged.records.iter().map(|record| record.uid).collect();
    assert!(live.into_iter().all(|uid| merged_uids.contains(&uid)), "a live message is lost");
}

/// The first record, and one at an offset that the bytes themselves name.
pub(super) fn cache(bytes: &[u8]) {
    let Ok(generation) = cache::generation(bytes) else { return };
    for offset in [4, u64::from(generation), u64::from(generation) << 32] {
        if let Ok(record) = cache::record_at(bytes, offset) {
            assert!(record.raw().len() <= bytes.len());
            record.crc();
        }
    }
}

/// The entries of any database are sorted, and a file made of them has the same.
pub(super) fn database(bytes: &[u8]) {
    for bytes in [bytes.to_vec(), with_twoskip_checksums(bytes)] {
        let Ok(database) = db::read(&bytes) else { continue };
        check_entries(&database);
        if let Ok(written) = flat::write(&database.entries) {
            let again = flat::read(&written).expect("what was written is a flat file");
            assert_eq!(again.entries, database.entries);
        }
        if let Ok(written) = twoskip::write_fresh(&database.entries) {
            let again = db::read(&written).expect("what was written is a twoskip file");
            assert_eq!((again.entries, again.recovered), (database.entries, None));
        }
    }
}

fn check_entries(database: &Db<'_>) {
    let sorted = database.entries.is_sorted_by(|(a, _), (b, _)| a < b);
    assert!(sorted, "entries out of order, or twice");
    for (key, value) in &database.entries {
        assert_eq!(database.get(key), Some(value.as_ref()));
    }
}

/// A database as mailboxes.db, in the eyes of each era.
pub(super) fn mailbox_list(bytes: &[u8]) {
    let Ok(database) = db::read(bytes) else { return };
    for mut rules in [NameRules::v2(), NameRules::v3()] {
        rules.virtdomains = true;
        let entries = database.entries.iter();
        let list = MboxList::parse(entries.map(|(key, value)| (&**key, &**value)), &rules);
        assert!(list.entries.is_sorted_by(|a, b| a.name <= b.name));
        assert!(list.entries.len() + list.unreadable.len() <= database.entries.len());
        for account in list.accounts(&rules) {
            assert!(list.of_account(&account, &rules).count() <= list.entries.len());
        }
    }
}

/// imapd.conf that includes itself under whatever names it says.
pub(super) fn imapd_conf(bytes: &[u8]) {
    let Ok(conf) = ImapdConf::parse("imapd.conf", bytes, &mut |_| Ok(bytes.to_vec())) else {
        return;
    };
    for era in [NameEra::V2, NameEra::V3] {
        conf.path_rules(era);
    }
    for (name, _) in conf.partitions() {
        assert!(conf.partition(name.as_bytes()).is_some(), "partition {name} is lost");
    }
    conf.mboxlist_db_path();
    conf.sync_log_channels();
}

/// The same bytes with the checksums of a twoskip file made right, as far as its records can be
/// followed, so that changes get past them.
fn with_twoskip_checksums(bytes: &[u8]) -> Vec<u8> {
    let mut file = bytes.to_vec();
    if !file.starts_with(b"\xa1\x02\x8b\x0dtwoskip file") || file.len() < 64 {
        return file;
    }
    let sum = crc32fast::hash(&file[..60]).to_be_bytes();
    file[60..64].copy_from_slice(&sum);
    let mut at = 64;
    while let Some((head, tail)) = twoskip_record(&file, at) {
        let sum = crc32fast::hash(&file[at..head]).to_be_bytes();
        file[head..head + 4].copy_from_slice(&sum);
        let sum = crc32fast::hash(&file[head + 8..tail]).to_be_bytes();
        file[head + 4..head + 8].copy_from_slice(&sum);
        at = tail;
    }
    file
}

/// Where the checksums of the record at `at` are, and where it ends.
fn twoskip_record(file: &[u8], at: usize) -> Option<(usize, usize)> {
    let head = file.get(at..at.checked_add(8)?)?;
    let level = usize::from(head[1]);
    let key = usize::from(u16::from_be_bytes([head[2], head[3]]));
    let value = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
    if key == 0xffff || value == u32::MAX {
        return None;
    }
    let checksums = at + 8 + 8 * (level + 1);
    let content = key.checked_add(usize::try_from(value).ok()?)?.checked_next_multiple_of(8)?;
    let end = checksums.checked_add(8)?.checked_add(content)?;
    (end <= file.len()).then_some((checksums, end))
}
