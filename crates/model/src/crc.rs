//! The two sync CRCs of a mailbox, and the CRC-32 that both are made of.
//!
//! A Cyrus master and its replica compare mailboxes by two numbers. Each is an XOR of one CRC-32
//! per thing covered: its order does not matter, and a change is followed by XORing the old part
//! out and the new part in (`imap/mailbox.c`: crc_basic, crc_annot, crc_virtannot; Cyrus 2.4 to
//! 3.13). Expunged records are covered by neither.

use crate::ids::Uid;
use crate::record::{Record, SystemFlags, Timestamp, UserFlags};

/// What the basic CRC of an empty mailbox is.
pub const BASIC_START: u32 = 0;

/// What the annotation CRC of an empty mailbox is since Cyrus 3.2.
///
/// A mailbox that came from 3.0 keeps the old start, [`ANNOT_START_OLD`], until `reconstruct`
/// computes it anew, so whoever checks a CRC has to accept both.
pub const ANNOT_START: u32 = 12_345_678;

/// What the annotation CRC of an empty mailbox is in Cyrus 2.5 and 3.0.
pub const ANNOT_START_OLD: u32 = 0;

/// An annotation that Cyrus answers from the record itself.
struct Virtual {
    entry: &'static [u8],
    /// The index version that made it part of the record.
    since: u32,
    /// Its value, if the record has one.
    value: fn(&Record, ThridText) -> Option<Text>,
}

const VIRTUAL: [Virtual; 5] = [
    Virtual {
        entry: b"/vendor/cmu/cyrus-imapd/thrid",
        since: 13,
        value: |record, thrid| Text::of_thrid(record.cid, thrid),
    },
    Virtual {
        entry: b"/vendor/cmu/cyrus-imapd/savedate",
        since: 15,
        value: |record, _| Text::of_number(record.savedate.secs.unsigned_abs()),
    },
    Virtual {
        entry: b"/vendor/cmu/cyrus-imapd/createdmodseq",
        since: 16,
        value: |record, _| Text::of_number(record.createdmodseq.0),
    },
    Virtual {
        entry: b"/vendor/cmu/cyrus-imapd/basethrid",
        since: 20,
        value: |record, thrid| Text::of_thrid(record.basecid, thrid),
    },
    Virtual {
        entry: b"/vendor/cmu/cyrus-imapd/internaldate.nsec",
        since: 20,
        value: |record, _| Text::of_number(u64::from(record.internaldate.nanos)),
    },
];

/// CRC-32 as in zlib and IEEE 802.3: of `123456789` it is cbf43926.
pub fn crc32(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

/// The CRCs of the flag names of one mailbox, so that each name is folded and hashed once and not
/// once for every message that bears the flag.
#[derive(Clone, Debug)]
pub struct FlagCrcs {
    system: [(SystemFlags, u32); 5],
    user: [u32; UserFlags::MAX],
}

impl FlagCrcs {
    /// Takes the names of the mailbox's user flags as its header lists them; a slot without a name
    /// counts for nothing, whatever the records say, and so does any slot past the 128th.
    pub fn new<'a>(names: impl IntoIterator<Item = Option<&'a [u8]>>) -> Self {
        let system = [
            (SystemFlags::DELETED, crc32(b"\\deleted")),
            (SystemFlags::ANSWERED, crc32(b"\\answered")),
            (SystemFlags::FLAGGED, crc32(b"\\flagged")),
            (SystemFlags::DRAFT, crc32(b"\\draft")),
            (SystemFlags::SEEN, crc32(b"\\seen")),
        ];
        let mut user = [0; UserFlags::MAX];
        for (crc, name) in user.iter_mut().zip(names) {
            *crc = name.map_or(0, |name| crc32(&name.to_ascii_lowercase()));
        }
        Self { system, user }
    }

    /// The CRC of a message's flags.
    pub fn of(&self, system: SystemFlags, user: UserFlags) -> u32 {
        let mut crc = 0;
        for (flag, part) in self.system {
            if system.contains(flag) {
                crc ^= part;
            }
        }
        for (parts, word) in self.user.chunks_exact(32).zip(user.0) {
            let mut left = word;
            while left != 0 {
                crc ^= parts[left.trailing_zeros() as usize];
                left &= left - 1;
            }
        }
        crc
    }
}

/// What a record adds to the basic CRC: 0 if it is expunged.
pub fn basic(record: &Record, flags: &FlagCrcs) -> u32 {
    if record.is_expunged() {
        return 0;
    }
    let mut text = Text::default();
    text.decimal(u64::from(record.uid.0));
    text.put(b" ");
    text.decimal(record.modseq.0);
    text.put(b" ");
    text.seconds(record.last_updated);
    text.put(b" (");
    text.decimal(u64::from(flags.of(record.system_flags, record.user_flags)));
    text.put(b") ");
    text.seconds(record.internaldate);
    text.put(b" ");
    text.put(&record.guid.to_hex());
    crc32(text.as_bytes())
}

/// What one stored annotation of a message adds to the annotation CRC.
///
/// `userid` is empty for a shared one; for a private one it is the reader's name, with Cyrus'
/// token for "the owner" already replaced by the owner's. Annotations of a whole mailbox and those
/// that [`is_virtual`] don't count.
pub fn annotation(uid: Uid, entry: &[u8], userid: &[u8], value: &[u8]) -> u32 {
    let mut head = Text::default();
    head.decimal(u64::from(uid.0));
    let mut hasher = crc32fast::Hasher::new();
    for part in [head.as_bytes(), b" ", entry, b" ", userid, b" ", value] {
        hasher.update(part);
    }
    hasher.finalize()
}

/// How the conversation id is written in its virtual annotation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ThridText {
    /// Hex digits without leading zeros: Cyrus 2.5 to 3.12.
    #[default]
    Short,
    /// Always sixteen hex digits: Cyrus 3.13.
    Padded,
}

/// What a record adds to the annotation CRC by itself, in an index of version `minor_version`: its
/// virtual annotations. 0 if it is expunged.
pub fn virtual_annotations(record: &Record, minor_version: u32, thrid: ThridText) -> u32 {
    if record.is_expunged() {
        return 0;
    }
    VIRTUAL
        .iter()
        .filter(|known| minor_version >= known.since)
        .filter_map(|known| Some((known.entry, (known.value)(record, thrid)?)))
        .fold(0, |crc, (entry, value)| crc ^ annotation(record.uid, entry, b"", value.as_bytes()))
}

/// Whether an index of version `minor_version` keeps the annotation `entry` in its records, so that
/// a stored one of that name is to be skipped.
pub fn is_virtual(entry: &[u8], minor_version: u32) -> bool {
    VIRTUAL.iter().any(|known| known.entry == entry && minor_version >= known.since)
}

/// A short text on the stack: the longest one hashed here has 127 bytes. What does not fit is
/// dropped, so that there is nothing to fail.
struct Text {
    bytes: [u8; 160],
    length: usize,
}

impl Default for Text {
    fn default() -> Self {
        Self { bytes: [0; 160], length: 0 }
    }
}

impl Text {
    /// A number in decimal; nothing for 0.
    fn of_number(number: u64) -> Option<Self> {
        (number != 0).then(|| {
            let mut text = Self::default();
            text.decimal(number);
            text
        })
    }

    /// A conversation id in hex; nothing for 0.
    fn of_thrid(id: u64, form: ThridText) -> Option<Self> {
        (id != 0).then(|| {
            let mut text = Self::default();
            text.put(
                match form {
                    ThridText::Short => format!("{id:x}"),
                    ThridText::Padded => format!("{id:016x}"),
                }
                .as_bytes(),
            );
            text
        })
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    fn put(&mut self, bytes: &[u8]) {
        for (place, byte) in self.bytes[self.length..].iter_mut().zip(bytes) {
            *place = *byte;
            self.length += 1;
        }
    }

    fn decimal(&mut self, mut number: u64) {
        let mut digits = [0_u8; 20];
        let mut start = digits.len();
        for place in digits.iter_mut().rev() {
            *place = b'0' + (number % 10) as u8;
            start -= 1;
            number /= 10;
            if number == 0 {
                break;
            }
        }
        self.put(&digits[start..]);
    }

    fn seconds(&mut self, time: Timestamp) {
        if time.secs < 0 {
            self.put(b"-");
        }
        self.decimal(time.secs.unsigned_abs());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Guid, Modseq};

    fn record() -> Record {
        Record {
            uid: Uid(1),
            modseq: Modseq(5),
            last_updated: Timestamp::from_secs(1_700_000_000),
            internaldate: Timestamp::from_secs(1_600_000_000),
            guid: Guid::from_hex(b"da39a3ee5e6b4b0d3255bfef95601890afd80709").expect("40 digits"),
            ..Record::default()
        }
    }

    fn flags(names: &[Option<&str>]) -> FlagCrcs {
        FlagCrcs::new(names.iter().map(|name| name.map(str::as_bytes)))
    }

    #[test]
    fn crc32_is_the_one_of_zlib() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn a_record_without_flags_has_the_crc_that_cyrus_gives_it() {
        assert_eq!(basic(&record(), &flags(&[])), 0x5d9a_cf09);
    }

    #[test]
    fn flags_count_by_name_whatever_their_slot_and_case() {
        for (slot, names) in [
            (0, &[Some("$Forwarded")][..]),
            (70, &[&[None; 70][..], &[Some("$FORWARDED")]].concat()),
        ] {
            let flags = flags(names);
            let mut record = record();
            record.system_flags = SystemFlags(SystemFlags::FLAGGED.0 | SystemFlags::SEEN.0);
            record.user_flags.insert(slot);
            assert_eq!(flags.of(record.system_flags, record.user_flags), 3_321_097_127);
            assert_eq!(basic(&record, &flags), 0xb73f_7aa5);
        }
    }

    #[test]
    fn a_flag_without_a_name_does_not_count() {
        let mut record = record();
        record.user_flags.insert(0);
        record.user_flags.insert(127);
        assert_eq!(basic(&record, &flags(&[None, Some("other")])), 0x5d9a_cf09);
    }

    #[test]
    fn internal_flags_and_nanoseconds_do_not_count_but_expunged_records_vanish() {
        let mut record = record();
        record.internaldate.nanos = 5;
        record.last_updated.nanos = 6;
        record.system_flags = SystemFlags::ARCHIVED;
        assert_eq!(basic(&record, &flags(&[])), 0x5d9a_cf09);
        record.system_flags = SystemFlags::EXPUNGED;
        record.cid = 1;
        assert_eq!(basic(&record, &flags(&[])), BASIC_START);
        assert_eq!(virtual_annotations(&record, 20, ThridText::Padded), 0);
    }

    #[test]
    fn the_largest_values_fit_the_text() {
        let record = Record {
            uid: Uid(u32::MAX),
            modseq: Modseq(u64::MAX),
            last_updated: Timestamp::from_secs(i64::MIN),
            internaldate: Timestamp::from_secs(i64::MAX),
            ..Record::default()
        };
        let text = format!(
            "4294967295 18446744073709551615 -9223372036854775808 (0) 9223372036854775807 {}",
            "0".repeat(40)
        );
        assert_eq!(basic(&record, &flags(&[])), crc32(text.as_bytes()));
    }

    #[test]
    fn a_stored_annotation_has_the_crc_that_cyrus_gives_it() {
        assert_eq!(annotation(Uid(1), b"/comment", b"", b"hi"), 0xd7b6_35ce);
        assert_ne!(annotation(Uid(1), b"/comment", b"glad", b"hi"), 0xd7b6_35ce);
    }

    #[test]
    fn virtual_annotations_come_with_the_versions_that_keep_them() {
        let plain = record();
        let thrid = Record { cid: 0x1122_3344_5566_7788, ..record() };
        let created = Record { createdmodseq: Modseq(5), ..record() };
        let saved = Record { savedate: Timestamp::from_secs(1_700_000_000), ..record() };
        for (record, since, crc) in [
            (plain, 0, 0),
            (thrid, 13, 0xdaa7_8a7b),
            (saved, 15, 0xaa8b_cccc),
            (created, 16, 0x8ba9_2b7e),
        ] {
            for version in 6..=20 {
                let expected = if version >= since { crc } else { 0 };
                let found = virtual_annotations(&record, version, ThridText::Short);
                assert_eq!(found, expected, "version {version}");
            }
        }
    }

    #[test]
    fn version_20_adds_the_base_thread_and_the_nanoseconds() {
        let mut record = Record { cid: 0xab, basecid: 0xcd, ..record() };
        record.internaldate.nanos = 7;
        let entry = |name| format!("/vendor/cmu/cyrus-imapd/{name}");
        let expected = annotation(Uid(1), entry("thrid").as_bytes(), b"", b"00000000000000ab")
            ^ annotation(Uid(1), entry("basethrid").as_bytes(), b"", b"00000000000000cd")
            ^ annotation(Uid(1), entry("internaldate.nsec").as_bytes(), b"", b"7");
        assert_eq!(virtual_annotations(&record, 20, ThridText::Padded), expected);
        let short = annotation(Uid(1), entry("thrid").as_bytes(), b"", b"ab");
        assert_eq!(virtual_annotations(&record, 19, ThridText::Short), short);
    }

    #[test]
    fn an_entry_is_virtual_from_its_version_on() {
        for known in &VIRTUAL {
            assert!(is_virtual(known.entry, known.since));
            assert!(!is_virtual(known.entry, known.since - 1));
        }
        assert!(!is_virtual(b"/comment", 20));
        assert!(!is_virtual(b"/vendor/cmu/cyrus-imapd/thridx", 20));
    }
}
