//! Where each field lies, version by version: one row per field.
//!
//! A row says at which byte the field starts, how it is stored there, which field it is, and the
//! first and the last version that have it at this place. The last four bytes of a header or
//! record with a CRC are its CRC, which no row mentions. Bytes without a row are zero when written
//! and ignored when read.
//!
//! Sources: `imap/mailbox.h` and `imap/mailbox.c` of Cyrus 2.3.14, 2.4.22 and 3.6.1,
//! `imap/index_file.c` of 3.13.7.

use model::Record;

use super::field::{Again, High16, Low32, Nanos, Secs, Sha1, Stored, U16, U32, U64, Words};
use super::header::IndexHeader;
use super::view::RecordKey;
use crate::error::EncodeError;

/// One row of a table, for the tests of the tables.
#[cfg(test)]
#[derive(Clone, Debug)]
struct Row {
    at: usize,
    width: usize,
    field: &'static str,
    versions: std::ops::RangeInclusive<u32>,
}

/// A table turned into straight-line code. The version is a constant, so that only its own rows are
/// left when the code is compiled.
trait Table<T> {
    #[cfg(test)]
    const ROWS: &'static [Row];

    /// Reads the fields of one version; `raw` must be as long as its last row says.
    fn load<const VERSION: u32>(raw: &[u8], value: &mut T);

    /// Writes the fields of one version; `raw` must be as long as its last row says.
    fn store<const VERSION: u32>(value: &T, raw: &mut [u8]) -> Result<(), EncodeError>;
}

macro_rules! table {
    (
        $(#[$doc:meta])*
        $name:ident of $target:ty {
            $($at:literal $way:ident $field:ident $first:literal ..= $last:literal,)*
        }
    ) => {
        $(#[$doc])*
        struct $name;

        impl Table<$target> for $name {
            #[cfg(test)]
            const ROWS: &'static [Row] = &[$(Row {
                at: $at,
                width: $way::WIDTH,
                field: stringify!($field),
                versions: $first..=$last,
            },)*];

            #[inline(always)]
            fn load<const VERSION: u32>(raw: &[u8], value: &mut $target) {
                $(if ($first..=$last).contains(&VERSION) {
                    $way::load(&raw[$at..$at + $way::WIDTH], &mut value.$field);
                })*
            }

            fn store<const VERSION: u32>(
                value: &$target,
                raw: &mut [u8],
            ) -> Result<(), EncodeError> {
                $(if ($first..=$last).contains(&VERSION)
                    && !$way::store(&value.$field, &mut raw[$at..$at + $way::WIDTH])
                {
                    return Err(EncodeError::Range {
                        what: super::WHAT,
                        field: stringify!($field),
                        value: format!("{:?}", value.$field),
                    });
                })*
                Ok(())
            }
        }
    };
}

table! {
    /// The header up to version 18.
    HeaderTo18 of IndexHeader {
          0 U32   generation           6..=18,
          4 U32   format               6..=18,
          8 U32   minor_version        6..=18,
         12 U32   start_offset         6..=18,
         16 U32   record_size          6..=18,
         20 U32   num_records          6..=18,
         24 Secs  last_appenddate      6..=18,
         28 U32   last_uid             6..=18,
         32 U64   quota_mailbox_used   6..=18,
         40 Secs  pop3_last_login      6..=18,
         44 U32   uidvalidity          6..=18,
         48 U32   deleted              6..=18,
         52 U32   answered             6..=18,
         56 U32   flagged              6..=18,
         60 U32   options              6..=18,
         64 U32   leaked_cache         6..=18,
         68 U64   highestmodseq        8..=18,
         76 U64   deletedmodseq       12..=18,
         84 U32   exists              12..=18,
         88 Secs  first_expunged      12..=18,
         92 Secs  last_repack_time    12..=18,
         96 U32   header_file_crc     12..=18,
        100 U32   sync_crc_basic      12..=18,
        104 U32   recentuid           12..=18,
        108 Secs  recenttime          12..=18,
        112 Secs  pop3_show_after     13..=18,
        116 U32   quota_annot_used    13..=18,
        120 U32   sync_crc_annot      13..=18,
        124 U32   unseen              14..=18,
        128 U64   createdmodseq       16..=18,
        136 Secs  changes_epoch       17..=18,
        140 U64   quota_deleted_used  18..=18,
        148 U64   quota_expunged_used 18..=18,
    }
}

table! {
    /// The header of version 19, whose wide fields lie at multiples of eight.
    Header19 of IndexHeader {
          0 U32   generation          19..=19,
          4 U32   format              19..=19,
          8 U32   minor_version       19..=19,
         12 U32   start_offset        19..=19,
         16 U32   record_size         19..=19,
         20 U32   num_records         19..=19,
         24 Secs  last_appenddate     19..=19,
         28 U32   last_uid            19..=19,
         32 U64   quota_mailbox_used  19..=19,
         40 Secs  pop3_last_login     19..=19,
         44 U32   uidvalidity         19..=19,
         48 U32   deleted             19..=19,
         52 U32   answered            19..=19,
         56 U32   flagged             19..=19,
         60 U32   exists              19..=19,
         64 U32   options             19..=19,
         68 U32   leaked_cache        19..=19,
         72 U64   highestmodseq       19..=19,
         80 U64   deletedmodseq       19..=19,
         88 Secs  first_expunged      19..=19,
         92 Secs  last_repack_time    19..=19,
         96 U32   header_file_crc     19..=19,
        100 U32   sync_crc_basic      19..=19,
        104 U32   recentuid           19..=19,
        108 Secs  recenttime          19..=19,
        112 Secs  pop3_show_after     19..=19,
        116 U32   quota_annot_used    19..=19,
        120 U32   sync_crc_annot      19..=19,
        124 U32   unseen              19..=19,
        128 U64   createdmodseq       19..=19,
        136 U64   quota_deleted_used  19..=19,
        144 U64   quota_expunged_used 19..=19,
        152 Secs  changes_epoch       19..=19,
    }
}

table! {
    /// The header of version 20, whose times count nanoseconds.
    Header20 of IndexHeader {
          0 U32   generation          20..=20,
          4 U32   format              20..=20,
          8 U32   minor_version       20..=20,
         12 U32   start_offset        20..=20,
         16 U32   record_size         20..=20,
         20 U32   num_records         20..=20,
         24 Nanos last_appenddate     20..=20,
         32 U64   quota_mailbox_used  20..=20,
         40 Nanos pop3_last_login     20..=20,
         48 U32   deleted             20..=20,
         52 U32   answered            20..=20,
         56 U32   flagged             20..=20,
         60 U32   exists              20..=20,
         64 U32   options             20..=20,
         68 U32   leaked_cache        20..=20,
         72 U64   highestmodseq       20..=20,
         80 U64   deletedmodseq       20..=20,
         88 U32   last_uid            20..=20,
         92 U32   uidvalidity         20..=20,
         96 U32   header_file_crc     20..=20,
        100 U32   sync_crc_basic      20..=20,
        104 Nanos recenttime          20..=20,
        112 Nanos pop3_show_after     20..=20,
        120 U32   sync_crc_annot      20..=20,
        124 U32   unseen              20..=20,
        128 U64   createdmodseq       20..=20,
        136 U64   quota_deleted_used  20..=20,
        144 U64   quota_expunged_used 20..=20,
        152 U64   quota_annot_used    20..=20,
        160 Nanos changes_epoch       20..=20,
        168 Nanos first_expunged      20..=20,
        176 Nanos last_repack_time    20..=20,
        184 U32   recentuid           20..=20,
    }
}

table! {
    /// The record up to version 19. What lies at 60 in versions 7 to 9 is an id that replication
    /// once used and nearly always zero; it is not read.
    RecordTo19 of Record {
          0 U32   uid                  6..=19,
          4 Secs  internaldate         6..=19,
          8 Secs  sentdate             6..=19,
         12 U32   size                 6..=19,
         16 U32   header_size          6..=19,
         20 Again header_size          6..=10,
         20 Secs  gmtime              12..=19,
         24 Low32 cache_offset         6..=19,
         28 Secs  last_updated         6..=19,
         32 U32   system_flags         6..=19,
         36 Words user_flags           6..=19,
         52 U32   content_lines        6..=14,
         52 Secs  savedate            15..=19,
         56 High16 cache_offset       6..=19,
         58 U16   cache_version        6..=19,
         72 U64   modseq               8..=9,
         60 Sha1  guid                10..=19,
         80 U64   modseq              10..=19,
         88 U32   cache_crc           12..=12,
         88 U64   cid                 13..=19,
         96 U32   cache_crc           13..=15,
         96 U64   createdmodseq       16..=19,
        104 U32   cache_crc           16..=19,
    }
}

table! {
    /// The record of version 20, whose times count nanoseconds.
    Record20 of Record {
          0 U32   uid                 20..=20,
          4 Low32 cache_offset        20..=20,
          8 Nanos internaldate        20..=20,
         16 Nanos sentdate            20..=20,
         24 U64   size                20..=20,
         32 U32   header_size         20..=20,
         36 U32   system_flags        20..=20,
         40 Words user_flags          20..=20,
         56 High16 cache_offset       20..=20,
         58 U16   cache_version       20..=20,
         60 Sha1  guid                20..=20,
         80 U64   modseq              20..=20,
         88 U64   cid                 20..=20,
         96 U64   createdmodseq       20..=20,
        104 Nanos gmtime              20..=20,
        112 Nanos last_updated        20..=20,
        120 Nanos savedate            20..=20,
        128 U64   basecid             20..=20,
        136 U32   cache_crc           20..=20,
    }
}

table! {
    /// Those fields of the record that a snapshot asks of every message, up to version 19.
    KeyTo19 of RecordKey {
          0 U32   uid                  6..=19,
          4 Secs  internaldate         6..=19,
         12 U32   size                 6..=19,
         32 U32   system_flags         6..=19,
         60 Sha1  guid                10..=19,
    }
}

table! {
    /// The same fields in version 20.
    Key20 of RecordKey {
          0 U32   uid                 20..=20,
          8 Nanos internaldate        20..=20,
         24 U64   size                20..=20,
         36 U32   system_flags        20..=20,
         60 Sha1  guid                20..=20,
    }
}

/// One version of the index file.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) minor: u32,
    /// Bytes of the header, its CRC included.
    pub(super) header_size: usize,
    /// Bytes of a record, its CRC included.
    pub(super) record_size: usize,
    /// Whether header and records end in a CRC.
    pub(super) has_crc: bool,
    pub(super) load_header: fn(&[u8]) -> IndexHeader,
    pub(super) store_header: fn(&IndexHeader, &mut [u8]) -> Result<(), EncodeError>,
    pub(super) load_record: fn(&[u8]) -> Record,
    pub(super) store_record: fn(&Record, &mut [u8]) -> Result<(), EncodeError>,
    pub(super) load_key: fn(&[u8]) -> RecordKey,
    /// The tables that the functions above come from.
    #[cfg(test)]
    tables: [&'static [Row]; 3],
}

/// The layout of a version, if it is one that is known.
pub(super) fn layout(minor: u32) -> Option<&'static Layout> {
    LAYOUTS.iter().find(|layout| layout.minor == minor)
}

/// The layout of a version that somebody wants to write.
pub(super) fn known(minor: u32) -> Result<&'static Layout, EncodeError> {
    layout(minor).ok_or(EncodeError::Version { what: super::WHAT, version: minor })
}

/// Lists the versions. A slice shorter than the layout reads as the default value and is left
/// alone when written; callers cut slices to size.
macro_rules! versions {
    ($($minor:literal $header:ident $header_size:literal
       $record:ident $record_size:literal $key:ident $has_crc:literal;)*) => {
        /// Every version there is. 11 was never released; older ones than 6 nobody has any more.
        pub(super) static LAYOUTS: &[Layout] = &[$(Layout {
            minor: $minor,
            header_size: $header_size,
            record_size: $record_size,
            has_crc: $has_crc,
            load_header: |raw| {
                let mut header = IndexHeader::default();
                if let Some(raw) = raw.first_chunk::<$header_size>() {
                    $header::load::<$minor>(raw, &mut header);
                }
                header
            },
            store_header: |header, raw| match raw.first_chunk_mut::<$header_size>() {
                Some(raw) => $header::store::<$minor>(header, raw),
                None => Ok(()),
            },
            load_record: |raw| {
                let mut record = Record::default();
                if let Some(raw) = raw.first_chunk::<$record_size>() {
                    $record::load::<$minor>(raw, &mut record);
                }
                record
            },
            store_record: |record, raw| match raw.first_chunk_mut::<$record_size>() {
                Some(raw) => $record::store::<$minor>(record, raw),
                None => Ok(()),
            },
            load_key: |raw| {
                let mut key = RecordKey::default();
                if let Some(raw) = raw.first_chunk::<$record_size>() {
                    $key::load::<$minor>(raw, &mut key);
                }
                key
            },
            #[cfg(test)]
            tables: [$header::ROWS, $record::ROWS, $key::ROWS],
        },)*];
    };
}

versions! {
//  header          record          key      CRC
     6 HeaderTo18  76 RecordTo19  60 KeyTo19 false;
     7 HeaderTo18  76 RecordTo19  72 KeyTo19 false;
     8 HeaderTo18  92 RecordTo19  80 KeyTo19 false;
     9 HeaderTo18  96 RecordTo19  80 KeyTo19 false;
    10 HeaderTo18  96 RecordTo19  88 KeyTo19 false;
    12 HeaderTo18 128 RecordTo19  96 KeyTo19 true;
    13 HeaderTo18 128 RecordTo19 104 KeyTo19 true;
    14 HeaderTo18 160 RecordTo19 104 KeyTo19 true;
    15 HeaderTo18 160 RecordTo19 104 KeyTo19 true;
    16 HeaderTo18 160 RecordTo19 112 KeyTo19 true;
    17 HeaderTo18 160 RecordTo19 112 KeyTo19 true;
    18 HeaderTo18 160 RecordTo19 112 KeyTo19 true;
    19 Header19   160 RecordTo19 112 KeyTo19 true;
    20 Header20   192 Record20   144 Key20   true;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows_of(rows: &'static [Row], minor: u32) -> Vec<Row> {
        rows.iter().filter(|row| row.versions.contains(&minor)).cloned().collect()
    }

    /// The rows of one version, in the order of the file, with all gaps between them.
    fn gaps(rows: &'static [Row], minor: u32, size: usize) -> Vec<(usize, usize)> {
        let mut rows = rows_of(rows, minor);
        rows.sort_by_key(|row| row.at);
        let mut gaps = Vec::new();
        let mut end = 0;
        for row in rows {
            assert!(row.at >= end, "version {minor}: {} overlaps", row.field);
            if row.at > end {
                gaps.push((end, row.at));
            }
            end = row.at + row.width;
        }
        assert!(end <= size, "version {minor}: {end} bytes in {size}");
        if end < size {
            gaps.push((end, size));
        }
        gaps
    }

    #[test]
    fn header_rows_fill_the_header_but_for_the_spare_bytes_and_the_crc() {
        let expected = [
            (6, vec![(68, 76)]),
            (7, vec![(68, 76)]),
            (8, vec![(76, 92)]),
            (9, vec![(76, 96)]),
            (10, vec![(76, 96)]),
            (12, vec![(112, 128)]),
            (13, vec![(124, 128)]),
            (14, vec![(128, 160)]),
            (15, vec![(128, 160)]),
            (16, vec![(136, 160)]),
            (17, vec![(140, 160)]),
            (18, vec![(156, 160)]),
            (19, vec![(156, 160)]),
            (20, vec![(188, 192)]),
        ];
        assert_eq!(LAYOUTS.len(), expected.len());
        for (layout, (minor, spare)) in LAYOUTS.iter().zip(expected) {
            assert_eq!(layout.minor, minor);
            assert_eq!(gaps(layout.tables[0], minor, layout.header_size), spare, "{minor}");
        }
    }

    #[test]
    fn record_rows_fill_the_record_but_for_the_crc_and_the_old_message_id() {
        for layout in LAYOUTS {
            let size = layout.record_size;
            let spare = match layout.minor {
                6 | 10 => vec![],
                7..=9 => vec![(60, 72)],
                _ => vec![(size - 4, size)],
            };
            let found = gaps(layout.tables[1], layout.minor, size);
            assert_eq!(found, spare, "version {}", layout.minor);
        }
    }

    #[test]
    fn keys_lie_where_the_same_fields_of_the_record_lie() {
        for layout in LAYOUTS {
            let record = rows_of(layout.tables[1], layout.minor);
            for key in rows_of(layout.tables[2], layout.minor) {
                let same = |row: &&Row| row.field == key.field && row.width == key.width;
                let twin = record.iter().find(same);
                assert_eq!(twin.map(|row| row.at), Some(key.at), "{} {key:?}", layout.minor);
            }
        }
    }
}
