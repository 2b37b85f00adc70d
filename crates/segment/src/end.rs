//! The last 512 bytes of a segment: where everything else is.

use model::state::Digest;

use crate::bytes::{BLOCK, padded, parse_decimal, parse_lower_hex};
use crate::manifest::{ROW, ROWS_END};
use crate::names;

/// The version of the segment format that this program writes, and the newest that it reads.
pub const FORMAT: u32 = 1;

/// Bytes of the block.
pub const END_BYTES: usize = BLOCK as usize;

/// The block and the tar header before it.
pub(crate) const END_ENTRY_BYTES: u64 = 2 * BLOCK;

const MAGIC: &str = "cylinder segment end ";

/// Where the checksum's line begins: the last line, `crc32 ` and eight digits.
const CRC_AT: usize = END_BYTES - 15;

/// What the block says. All offsets count from the segment's first byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndBlock {
    /// Which snapshot of the chain this is; 1 is a full one.
    pub seq: u32,
    /// Bytes of the whole segment, this block included.
    pub segment_bytes: u64,
    /// Where the manifest begins.
    pub manifest_offset: u64,
    /// Bytes of the manifest.
    pub manifest_bytes: u64,
    /// SHA-256 of them.
    pub manifest_sha256: Digest,
    /// Where the first row of the message table begins; it is within the manifest.
    pub rows_offset: u64,
    /// How many rows it has.
    pub rows: u64,
    /// The [account's component](crate::names::account).
    pub account: String,
}

/// What is wrong with an end block.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndError {
    /// It does not begin as one.
    #[error("is no end of a segment")]
    Foreign,
    /// It belongs to a later version of the format.
    #[error("is of format {version}; this program reads up to format {FORMAT}")]
    TooNew {
        /// Which.
        version: u32,
    },
    /// Its checksum or its form is wrong.
    #[error("is damaged: {0}")]
    Damaged(&'static str),
}

impl EndBlock {
    /// The block: lines at fixed positions, blanks, and a CRC-32 of all that precedes it.
    pub fn encode(&self) -> [u8; END_BYTES] {
        let mut text = format!(
            "{MAGIC}{FORMAT}\n\
             seq {:08}\n\
             segment-bytes {:020}\n\
             manifest-offset {:020}\n\
             manifest-bytes {:020}\n\
             manifest-sha256 {}\n\
             rows-offset {:020}\n\
             rows {:020}\n\
             account {}\n",
            self.seq,
            self.segment_bytes,
            self.manifest_offset,
            self.manifest_bytes,
            self.manifest_sha256,
            self.rows_offset,
            self.rows,
            self.account,
        )
        .into_bytes();
        text.resize(CRC_AT - 1, b' ');
        text.push(b'\n');
        let crc = crc32fast::hash(&text);
        text.extend_from_slice(format!("crc32 {crc:08x}\n").as_bytes());
        let mut block = [0; END_BYTES];
        block.copy_from_slice(&text);
        block
    }

    /// Reads a block.
    ///
    /// # Errors
    ///
    /// A later version is told from damage, and damage from something else altogether. Numbers
    /// that contradict each other are damage as well.
    pub fn decode(block: &[u8; END_BYTES]) -> Result<Self, EndError> {
        let line = block.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let version = line.strip_prefix(MAGIC.as_bytes()).ok_or(EndError::Foreign)?;
        let version = parse_decimal(version).and_then(|version| u32::try_from(version).ok());
        let version = version.ok_or(EndError::Damaged("its version is no number"))?;
        let (text, crc) = block.split_at(CRC_AT);
        let crc = crc.strip_prefix(b"crc32 ").and_then(|crc| crc.strip_suffix(b"\n"));
        if crc.and_then(parse_lower_hex) != Some(u64::from(crc32fast::hash(text))) {
            return Err(EndError::Damaged("its checksum does not match"));
        }
        if version > FORMAT {
            return Err(EndError::TooNew { version });
        }
        let end = Self::parse(text).ok_or(EndError::Damaged("a line of it makes no sense"))?;
        if end.encode() != *block {
            return Err(EndError::Damaged("it is not written as this program does it"));
        }
        end.check().ok_or(EndError::Damaged("its numbers contradict each other"))?;
        Ok(end)
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let mut lines = str::from_utf8(text).ok()?.lines().skip(1);
        let mut value = |key: &str| lines.next()?.strip_prefix(key)?.strip_prefix(' ');
        Some(Self {
            seq: u32::try_from(parse_decimal(value("seq")?.as_bytes())?).ok()?,
            segment_bytes: parse_decimal(value("segment-bytes")?.as_bytes())?,
            manifest_offset: parse_decimal(value("manifest-offset")?.as_bytes())?,
            manifest_bytes: parse_decimal(value("manifest-bytes")?.as_bytes())?,
            manifest_sha256: Digest::from_hex(value("manifest-sha256")?)?,
            rows_offset: parse_decimal(value("rows-offset")?.as_bytes())?,
            rows: parse_decimal(value("rows")?.as_bytes())?,
            account: value("account")?.to_owned(),
        })
    }

    /// Whether manifest, rows and the segment's end are where they must be.
    fn check(&self) -> Option<()> {
        names::check_account(&self.account).ok()?;
        let manifest_end = self.manifest_offset.checked_add(self.manifest_bytes)?;
        let rows_end = self.rows_offset.checked_add(self.rows.checked_mul(ROW as u64)?)?;
        let end_entry = self.manifest_offset.checked_add(padded(self.manifest_bytes)?)?;
        let room = self.segment_bytes.checked_sub(end_entry)?;
        let right = self.seq > 0
            && self.segment_bytes.is_multiple_of(BLOCK)
            && self.manifest_offset.is_multiple_of(BLOCK)
            && self.manifest_offset >= BLOCK
            && room >= END_ENTRY_BYTES
            && self.rows_offset > self.manifest_offset
            && rows_end.checked_add(ROWS_END.len() as u64)? == manifest_end;
        right.then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> EndBlock {
        EndBlock {
            seq: 3,
            segment_bytes: 8192,
            manifest_offset: 4096,
            manifest_bytes: 500,
            manifest_sha256: Digest([0xab; 32]),
            rows_offset: 4096 + 500 - 3 - 2 * ROW as u64,
            rows: 2,
            account: "glad".into(),
        }
    }

    #[test]
    fn the_block_is_what_the_format_page_shows() {
        let block = sample().encode();
        let text = str::from_utf8(&block).expect("ASCII");
        let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
        assert_eq!(
            lines,
            [
                "cylinder segment end 1",
                "seq 00000003",
                "segment-bytes 00000000000000008192",
                "manifest-offset 00000000000000004096",
                "manifest-bytes 00000000000000000500",
                "manifest-sha256 \
                 abababababababababababababababababababababababababababababababab",
                "rows-offset 00000000000000004445",
                "rows 00000000000000000002",
                "account glad",
                "",
                "crc32 09fd77fe",
            ]
        );
        assert_eq!(EndBlock::decode(&block), Ok(sample()));
    }

    #[test]
    fn the_longest_account_fits() {
        let end = EndBlock { account: names::escape(&[b'x'; 900]), ..sample() };
        assert_eq!(end.account.len(), names::COMPONENT_MAX);
        assert_eq!(EndBlock::decode(&end.encode()), Ok(end));
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let block = sample().encode();
        for bit in 0..block.len() * 8 {
            let mut damaged = block;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(EndBlock::decode(&damaged).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_later_format_is_not_called_damage() {
        let mut block = sample().encode();
        block[MAGIC.len()] = b'2';
        let crc = crc32fast::hash(&block[..CRC_AT]);
        block[CRC_AT..].copy_from_slice(format!("crc32 {crc:08x}\n").as_bytes());
        assert_eq!(EndBlock::decode(&block), Err(EndError::TooNew { version: 2 }));
    }

    #[test]
    fn numbers_that_contradict_each_other_are_refused() {
        let wrong = [
            EndBlock { seq: 0, ..sample() },
            EndBlock { segment_bytes: 8191, ..sample() },
            EndBlock { segment_bytes: 4096 + 512, ..sample() },
            EndBlock { segment_bytes: u64::MAX, ..sample() },
            EndBlock { manifest_offset: u64::MAX, ..sample() },
            EndBlock { manifest_bytes: u64::MAX, ..sample() },
            EndBlock { manifest_bytes: 501, ..sample() },
            EndBlock { rows: u64::MAX, ..sample() },
            EndBlock { rows: 3, ..sample() },
            EndBlock { rows_offset: 0, ..sample() },
            EndBlock { account: "..".into(), ..sample() },
            EndBlock { account: "a/b".into(), ..sample() },
        ];
        for end in wrong {
            let result = EndBlock::decode(&end.encode());
            assert!(matches!(result, Err(EndError::Damaged(_))), "{end:?}: {result:?}");
        }
    }
}
