//! What can still be made of a cyrus.index that does not fit its sums.

use std::collections::HashMap;

use model::{Record, crc};

use super::layout::{self, LAYOUTS, Layout};
use super::view::{CrcState, crc_state};

/// What changed in bytes that had one wrong bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlippedBit {
    /// The byte, counted from the first of the header or record.
    pub byte: usize,
    /// The bit in it, 0 being the lowest.
    pub bit: u8,
}

/// Puts back the one bit of a header, or of a record, that keeps it from fitting its CRC.
///
/// The CRC is certain about that: on so few bytes, any two sets of up to two wrong bits differ in it
/// (Koopman, "32-bit cyclic redundancy codes for Internet applications", DSN 2002: Hamming distance 5 up
/// to 2,974 bits for the polynomial of IEEE 802.3).
#[derive(Clone, Debug)]
pub struct Corrector {
    length: usize,
    /// By what the CRC differs if that bit of what it covers is wrong.
    bits: HashMap<u32, FlippedBit>,
}

impl Corrector {
    /// For records of that version; `None` if it has no CRCs.
    pub fn of_records(minor_version: u32) -> Option<Self> {
        let layout = layout::layout(minor_version).filter(|layout| layout.has_crc)?;
        Some(Self::of_length(layout.record_size))
    }

    /// For headers of that version. The version itself must be right.
    pub fn of_headers(minor_version: u32) -> Option<Self> {
        let layout = layout::layout(minor_version).filter(|layout| layout.has_crc)?;
        Some(Self::of_length(layout.header_size))
    }

    fn of_length(length: usize) -> Self {
        let mut covered = vec![0; length.saturating_sub(SUM)];
        let none = crc::crc32(&covered);
        let mut bits = HashMap::with_capacity(8 * covered.len());
        for byte in 0..covered.len() {
            for bit in 0..8 {
                covered[byte] = 1 << bit;
                bits.insert(crc::crc32(&covered) ^ none, FlippedBit { byte, bit });
            }
            covered[byte] = 0;
        }
        Self { length, bits }
    }

    /// Puts the bit back; `None`, and nothing is changed, if there is none that is it. More bytes may follow.
    pub fn correct(&self, raw: &mut [u8]) -> Option<FlippedBit> {
        let (covered, sum) = raw.get_mut(..self.length)?.split_last_chunk_mut::<SUM>()?;
        let (stored, found) = (u32::from_be_bytes(*sum), crc::crc32(covered));
        let difference = stored ^ found;
        if difference.count_ones() == 1 {
            // The sum lies behind all it covers, its highest byte first.
            *sum = found.to_be_bytes();
            let place = difference.trailing_zeros();
            let byte = covered.len() + SUM - 1 - place as usize / 8;
            return Some(FlippedBit { byte, bit: (place % 8) as u8 });
        }
        let flipped = *self.bits.get(&difference)?;
        covered[flipped.byte] ^= 1 << flipped.bit;
        Some(flipped)
    }
}

/// Up to this length, files that differ by one bit differ in their CRC from each other, and from those with up to
/// three wrong bits (Hamming distance 4 up to 91,607 bits).
const FILE_MAX: usize = 91_607 / 8;

/// Puts back the one bit of a small file that keeps it from fitting the CRC that an index has of it: that of
/// cyrus.header. `None`, and nothing is changed, if there is none that is it.
pub fn correct_file(bytes: &mut [u8], sum: u32) -> Option<FlippedBit> {
    if bytes.len() > FILE_MAX || crc::crc32(bytes) == sum {
        return None;
    }
    let corrector = Corrector::of_length(bytes.len() + SUM);
    let flipped = *corrector.bits.get(&(crc::crc32(bytes) ^ sum))?;
    bytes[flipped.byte] ^= 1 << flipped.bit;
    Some(flipped)
}

/// Bytes of a CRC.
const SUM: usize = 4;

/// Records that were found in a file whose header tells nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Salvaged {
    /// The version whose layout they have.
    pub minor_version: u32,
    /// Those that fit their CRC, or do so once one bit is put back, in the order of the file.
    pub records: Vec<Record>,
}

/// Looks for records behind a header that cannot be read: those that fit their CRC in the places that some
/// version has them. Several versions have records in the same places; `likely`, the version of other
/// mailboxes of the server, decides between these. `None` if there are none: versions up to 10 have no
/// CRCs to tell a record by.
pub fn salvage(bytes: &[u8], likely: Option<u32>) -> Option<Salvaged> {
    let layouts = LAYOUTS.iter().filter(|layout| layout.has_crc);
    let counted = layouts.map(|layout| {
        let is_likely = likely == Some(layout.minor);
        (places(bytes, layout).count(), is_likely, layout.minor <= USUAL, layout)
    });
    let (count, .., layout) = counted.max_by_key(|(count, is_likely, is_usual, layout)| {
        (*count, *is_likely, *is_usual, layout.minor)
    })?;
    (count > 0).then(|| Salvaged { minor_version: layout.minor, records: records(bytes, layout) })
}

fn records(bytes: &[u8], layout: &'static Layout) -> Vec<Record> {
    let behind = bytes.get(layout.header_size..).unwrap_or_default();
    let corrector = Corrector::of_length(layout.record_size);
    let found = behind.chunks_exact(layout.record_size).filter_map(|raw| {
        let mut raw = raw.to_vec();
        if crc_state(layout, &raw) != CrcState::Good {
            corrector.correct(&mut raw)?;
        }
        Some((layout.load_record)(&raw)).filter(|record| record.uid.0 > 0)
    });
    found.collect()
}

/// What Cyrus 3.2 to 3.6 write by default (`imap/mailbox.h`); later versions share its places.
const USUAL: u32 = 17;

/// The bytes of each record that is whole, wherever that version has records.
fn places<'b>(bytes: &'b [u8], layout: &'static Layout) -> impl Iterator<Item = &'b [u8]> {
    let behind = bytes.get(layout.header_size..).unwrap_or_default();
    let raw = behind.chunks_exact(layout.record_size);
    raw.filter(|raw| crc_state(layout, raw) == CrcState::Good)
        .filter(|raw| (layout.load_key)(raw).uid.0 > 0)
}

#[cfg(test)]
mod tests {
    use model::{Guid, Modseq, SystemFlags, Timestamp, Uid};

    use super::*;
    use crate::index::{Index, IndexHeader, sizes, versions, write_index};

    fn records() -> Vec<Record> {
        let record = |uid: u32| Record {
            uid: Uid(uid),
            size: 1000 + u64::from(uid),
            guid: Guid([uid as u8; 20]),
            system_flags: SystemFlags::SEEN,
            modseq: Modseq(7),
            internaldate: Timestamp::from_secs(1_600_000_000),
            ..Record::default()
        };
        [1, 2, 5, 9].map(record).to_vec()
    }

    fn with_crc() -> impl Iterator<Item = (u32, Vec<u8>)> {
        versions().filter(|version| *version >= 12).map(|version| {
            let header = IndexHeader::fresh(version).expect("a version");
            (version, write_index(&header, &records()).expect("an index"))
        })
    }

    #[test]
    fn any_one_bit_is_put_back() {
        for (version, good) in with_crc() {
            let (header_size, record_size) = sizes(version).expect("a version");
            let headers = Corrector::of_headers(version).expect("it has sums");
            let records = Corrector::of_records(version).expect("it has sums");
            let mut bad = good.clone();
            for byte in 0..header_size {
                let bit = (byte % 8) as u8;
                bad[byte] ^= 1 << bit;
                let found = headers.correct(&mut bad);
                assert_eq!(found, Some(FlippedBit { byte, bit }), "version {version}");
                let raw = &mut bad[header_size..];
                raw[byte.min(record_size - 1)] ^= 1 << bit;
                let (byte, found) = (byte.min(record_size - 1), records.correct(raw));
                assert_eq!(found, Some(FlippedBit { byte, bit }), "version {version}");
                assert_eq!(bad, good);
            }
        }
    }

    #[test]
    fn what_is_whole_and_what_is_worse_stays() {
        for (version, good) in with_crc() {
            let (header_size, _) = sizes(version).expect("a version");
            let records = Corrector::of_records(version).expect("it has sums");
            let mut bytes = good.clone();
            assert_eq!(records.correct(&mut bytes[header_size..]), None);
            for other in [4, 17, 60, 90] {
                bytes[header_size] ^= 1;
                bytes[header_size + other] ^= 0x10;
                let before = bytes.clone();
                assert_eq!(records.correct(&mut bytes[header_size..]), None);
                assert_eq!(bytes, before);
                bytes = good.clone();
            }
            assert_eq!(records.correct(&mut bytes[header_size..header_size + 8]), None);
        }
        assert!(Corrector::of_records(10).is_none(), "it has no sum");
    }

    #[test]
    fn records_are_found_behind_a_header_that_is_gone() {
        for (version, good) in with_crc() {
            let (header_size, record_size) = sizes(version).expect("a version");
            let read = |bytes: &[u8]| Index::parse(bytes).expect("an index").records().collect();
            let mut wanted: Vec<Record> = read(&good);
            let mut bad = good.clone();
            bad[..header_size].fill(0);
            let found = salvage(&bad, Some(version)).expect("records");
            assert_eq!((found.minor_version, &found.records), (version, &wanted));
            bad[header_size + record_size] ^= 1;
            assert_eq!(salvage(&bad, Some(version)).expect("records").records, wanted);
            bad[header_size + record_size + 9] ^= 1;
            wanted.remove(1);
            assert_eq!(salvage(&bad, Some(version)).expect("records").records, wanted);
            assert_eq!(salvage(&bad[..header_size], Some(version)), None);
        }
    }

    #[test]
    fn without_a_hint_the_usual_version_is_taken() {
        let (_, mut bytes) = with_crc().find(|(version, _)| *version == 16).expect("a version");
        bytes[..16].fill(0xff);
        assert_eq!(salvage(&bytes, None).expect("records").minor_version, USUAL);
        assert_eq!(salvage(&bytes, Some(20)).expect("records").minor_version, USUAL);
        assert_eq!(salvage(b"", None), None);
        assert_eq!(salvage(&[0; 4096], None), None, "zeros are no records");
    }
}
