//! cyrus.cache, as far as it is read.

use cyrus_format::FormatError;
use cyrus_format::cache::{CacheItem, CacheState, check, generation, record_at};
use cyrus_format::index::Index;
use model::Record;

use super::samples::{REAL, real};

#[test]
fn every_record_finds_its_cache_record() {
    for version in REAL {
        let sample = real(version);
        let index = Index::parse(&sample.index).expect("Cyrus wrote it");
        assert_eq!(generation(&sample.cache), Ok(index.header().generation));
        let expected = if version < 12 { CacheState::Unchecked } else { CacheState::Good };
        for record in index.records() {
            assert_eq!(check(&sample.cache, &record), Ok(expected), "version {version}");
        }
    }
}

#[test]
fn items_are_what_mbexamine_prints() {
    const LABELS: [(CacheItem, &str); 8] = [
        (CacheItem::Envelope, " Envel>"),
        (CacheItem::BodyStructure, " BdyStr>"),
        (CacheItem::Body, " Body>"),
        (CacheItem::From, " From>"),
        (CacheItem::To, " To>"),
        (CacheItem::Cc, " Cc>"),
        (CacheItem::Bcc, " Bcc>"),
        (CacheItem::Subject, " Subjct>"),
    ];
    for version in REAL {
        let sample = real(version);
        let index = Index::parse(&sample.index).expect("Cyrus wrote it");
        let blocks = sample.mbexamine.split("000001> ").skip(1);
        let live = index.records().filter(|record| !record.is_expunged());
        for (record, block) in live.zip(blocks) {
            let cached = record_at(&sample.cache, record.cache_offset).expect("Cyrus wrote it");
            for (item, label) in LABELS {
                let text = String::from_utf8_lossy(cached.item(item));
                let line = format!("{label}{{{}}}{text}", text.len());
                assert!(block.lines().any(|found| found == line), "{line} in {block}");
            }
            assert!(
                cached.item(CacheItem::Headers).starts_with(b"Content-Type: text/plain")
                    || cached.item(CacheItem::Headers).starts_with(b"References: ")
            );
        }
    }
}

/// Ten items, the n-th having n bytes.
fn cache() -> Vec<u8> {
    let mut file = 7_u32.to_be_bytes().to_vec();
    for length in 0..10_u32 {
        file.extend(length.to_be_bytes());
        file.extend((0..length.next_multiple_of(4)).map(|at| if at < length { b'x' } else { 0 }));
    }
    file
}

#[test]
fn items_are_padded_to_four_bytes() {
    let file = cache();
    let record = record_at(&file, 4).expect("whole");
    assert_eq!(record.raw(), &file[4..]);
    assert_eq!(record.item(CacheItem::Envelope), b"");
    assert_eq!(record.item(CacheItem::Headers), b"xxxx");
    assert_eq!(record.item(CacheItem::Subject), b"xxxxxxxxx");
}

#[test]
fn a_record_that_runs_out_of_the_file_is_damage() {
    let file = cache();
    for cut in 4..file.len() {
        let cut = record_at(&file[..cut], 4);
        assert!(matches!(cut, Err(FormatError::Damaged { .. })), "{cut:?}");
    }
    for offset in [0, 3, file.len() as u64 - 3, file.len() as u64, u64::from(u32::MAX), u64::MAX] {
        let found = record_at(&file, offset);
        assert!(matches!(found, Err(FormatError::Damaged { .. })), "{offset}: {found:?}");
    }
    let huge = [&[0, 0, 0, 1][..], &[0xff; 60]].concat();
    assert!(record_at(&huge, 4).is_err());
    assert!(generation(b"abc").is_err());
}

#[test]
fn a_changed_record_does_not_fit_its_crc() {
    let mut file = cache();
    let crc = record_at(&file, 4).expect("whole").crc();
    let record = Record { cache_offset: 4, cache_crc: crc, ..Record::default() };
    assert_eq!(check(&file, &record), Ok(CacheState::Good));
    assert_eq!(check(&file, &Record::default()), Ok(CacheState::Absent));
    *file.last_mut().expect("not empty") = 1;
    assert_eq!(check(&file, &record), Ok(CacheState::BadCrc));
}
