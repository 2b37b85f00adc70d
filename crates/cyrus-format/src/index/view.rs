//! Looking at a cyrus.index without copying it.

use std::slice::ChunksExact;

use model::{Guid, Record, SystemFlags, Timestamp, Uid, crc};

use super::header::IndexHeader;
use super::layout::{self, Layout};
use super::problem::IndexProblem;
use super::{NEWEST, WHAT};
use crate::bytes::Reader;
use crate::error::FormatError;

/// Versions above this are not from a future Cyrus but from a file that is no index.
const PLAUSIBLE: u32 = 255;

/// Bytes up to and with the number of records, which all versions have in common.
const COMMON: usize = 24;

/// What a CRC says about the bytes that it covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrcState {
    /// It fits.
    Good,
    /// It does not fit.
    Bad,
    /// There is none: versions up to 10 have no CRCs.
    None,
}

/// What a snapshot has to know of every message, read without the rest of the record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordKey {
    /// The message's number in its mailbox.
    pub uid: Uid,
    /// SHA-1 of the message file, zero where unknown.
    pub guid: Guid,
    /// System and internal flags.
    pub system_flags: SystemFlags,
    /// Bytes of the message file.
    pub size: u64,
    /// When it arrived here.
    pub internaldate: Timestamp,
}

impl RecordKey {
    /// Whether the message no longer shows to clients.
    pub fn is_expunged(&self) -> bool {
        self.system_flags.contains(SystemFlags::EXPUNGED)
    }

    /// Whether its file has been removed.
    pub fn is_unlinked(&self) -> bool {
        self.system_flags.contains(SystemFlags::UNLINKED)
    }

    /// Whether its file lies on the archive partition.
    pub fn is_archived(&self) -> bool {
        self.system_flags.contains(SystemFlags::ARCHIVED)
    }
}

/// A view of the bytes of a cyrus.index, or of a cyrus.expunge.
///
/// The view is lenient: whatever can be located can be read. What is wrong with the file is told by
/// [`Index::problems`].
#[derive(Clone, Debug)]
pub struct Index<'a> {
    layout: &'static Layout,
    header: IndexHeader,
    header_crc: CrcState,
    stride: usize,
    records: &'a [u8],
    tail: &'a [u8],
}

/// How records follow each other in a file, for whoever reads it piece by piece.
#[derive(Clone, Copy, Debug)]
pub struct RecordFormat {
    layout: &'static Layout,
    stride: usize,
}

impl RecordFormat {
    /// Bytes from one record to the next.
    pub fn size(&self) -> usize {
        self.stride
    }

    /// Where in the file record `i` is, the first being 0.
    pub fn offset(&self, i: usize) -> u64 {
        (self.layout.header_size as u64)
            .saturating_add((i as u64).saturating_mul(self.stride as u64))
    }

    /// The record of which these are the bytes; `None` if there are too few.
    pub fn read(&self, raw: &[u8]) -> Option<Record> {
        raw.get(..self.stride).map(self.layout.load_record)
    }

    /// Whether the record of which these are the bytes fits its CRC.
    pub fn crc(&self, raw: &[u8]) -> CrcState {
        record_crc(self.layout, raw)
    }

    /// Whether the file is laid out as [`super::write_record`] would have it.
    pub fn is_written(&self) -> bool {
        self.stride == self.layout.record_size
    }
}

impl<'a> Index<'a> {
    /// Reads the header and finds the records.
    ///
    /// Sizes are those of the version, whatever the header says about them; a header that says
    /// something else is a problem to report, not a reason to give up. Only for version 19 are
    /// records of 144 bytes taken as such: a development version of Cyrus 3.13 wrote the fields of
    /// version 19 into the room of version 20.
    ///
    /// # Errors
    /// [`FormatError::TooNew`] for a version above [`NEWEST`], [`FormatError::Foreign`] for one
    /// that never was, [`FormatError::Damaged`] if the file ends within the header.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, FormatError> {
        Self::parse_as(WHAT, bytes)
    }

    /// The same for a file of another name.
    pub(crate) fn parse_as(what: &'static str, bytes: &'a [u8]) -> Result<Self, FormatError> {
        let mut reader = Reader::new(what, bytes);
        reader.clone().take(COMMON)?;
        reader.take(8)?;
        let layout = find_layout(what, reader.u32()?)?;
        let (raw_header, behind) = bytes.split_at_checked(layout.header_size).ok_or_else(|| {
            reader.damaged(format!(
                "{} bytes, while the header of version {} has {}",
                bytes.len(),
                layout.minor,
                layout.header_size
            ))
        })?;
        let header = IndexHeader::load(layout, raw_header);
        let stride = stride(layout, header.record_size);
        let announced = usize::try_from(header.num_records).unwrap_or(usize::MAX);
        let present = announced.min(behind.len() / stride);
        let (records, tail) = behind.split_at(present * stride);
        let header_crc = crc_state(layout, raw_header);
        Ok(Self { layout, header, header_crc, stride, records, tail })
    }

    /// The header.
    pub fn header(&self) -> &IndexHeader {
        &self.header
    }

    /// Whether the header fits its CRC.
    pub fn header_crc(&self) -> CrcState {
        self.header_crc
    }

    /// The version of the file.
    pub fn minor_version(&self) -> u32 {
        self.layout.minor
    }

    /// How records follow each other.
    pub fn record_format(&self) -> RecordFormat {
        RecordFormat { layout: self.layout, stride: self.stride }
    }

    /// How many records can be read: never more than announced.
    pub fn len(&self) -> usize {
        self.records.len() / self.stride
    }

    /// Whether no record can be read.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// How many records the header announces.
    pub fn announced(&self) -> u32 {
        self.header.num_records
    }

    /// What follows the last record that is announced and there. Cyrus writes records before the
    /// header that counts them, so after a crash these may be records that were never confirmed.
    pub fn tail(&self) -> &'a [u8] {
        self.tail
    }

    /// How many whole records the tail has room for.
    pub fn whole_records_in_tail(&self) -> usize {
        self.tail.len() / self.stride
    }

    /// Those records in the tail that fit their CRC; none in a version without CRCs.
    pub fn records_in_tail(&self) -> impl Iterator<Item = Record> + use<'a> {
        let layout = self.layout;
        let raw = self.tail.chunks_exact(self.stride);
        raw.filter(move |raw| record_crc(layout, raw) == CrcState::Good)
            .map(move |raw| (layout.load_record)(raw))
    }

    /// The bytes of record `i`, the first being 0.
    pub fn raw(&self, i: usize) -> Option<&'a [u8]> {
        let start = i.checked_mul(self.stride)?;
        self.records.get(start..start.checked_add(self.stride)?)
    }

    /// Record `i`.
    pub fn record(&self, i: usize) -> Option<Record> {
        self.raw(i).map(self.layout.load_record)
    }

    /// The few fields of record `i` that every snapshot needs.
    pub fn key(&self, i: usize) -> Option<RecordKey> {
        self.raw(i).map(self.layout.load_key)
    }

    /// Whether record `i` fits its CRC.
    pub fn record_crc(&self, i: usize) -> Option<CrcState> {
        self.raw(i).map(|raw| record_crc(self.layout, raw))
    }

    /// The bytes of every record, in the order of the file.
    pub fn raw_records(&self) -> ChunksExact<'a, u8> {
        self.records.chunks_exact(self.stride)
    }

    /// Every record, in the order of the file.
    pub fn records(&self) -> impl ExactSizeIterator<Item = Record> + use<'a> {
        self.raw_records().map(self.layout.load_record)
    }

    /// The few fields of every record that every snapshot needs, in the order of the file.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = RecordKey> + use<'a> {
        self.raw_records().map(self.layout.load_key)
    }

    /// Where the record of `uid` is, provided that the UIDs ascend.
    pub fn position(&self, uid: Uid) -> Option<usize> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.key(middle)?.uid.cmp(&uid) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Equal => return Some(middle),
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }

    /// Everything that is wrong with the file, in the order of its bytes. Reads every record.
    pub fn problems(&self) -> Vec<IndexProblem> {
        let mut problems = self.problems_of_header();
        let mut previous = Uid(0);
        for (i, raw) in self.raw_records().enumerate() {
            let uid = (self.layout.load_key)(raw).uid;
            if record_crc(self.layout, raw) == CrcState::Bad {
                problems.push(IndexProblem::RecordCrc { i, uid });
            }
            if uid <= previous {
                problems.push(IndexProblem::RecordOrder { i, uid, previous });
            }
            previous = previous.max(uid);
        }
        problems
    }

    /// What is wrong with the header and with the file's length. Reads no record.
    pub fn problems_of_header(&self) -> Vec<IndexProblem> {
        let mut problems = Vec::new();
        if self.header_crc == CrcState::Bad {
            problems.push(IndexProblem::HeaderCrc);
        }
        let IndexHeader { start_offset, record_size, .. } = self.header;
        let stored = (u64::from(start_offset), u64::from(record_size));
        if stored != (self.layout.header_size as u64, self.stride as u64) {
            let minor_version = self.layout.minor;
            problems.push(IndexProblem::Sizes { minor_version, start_offset, record_size });
        }
        let (announced, present) = (self.announced(), self.len());
        if (present as u64) < u64::from(announced) {
            problems.push(IndexProblem::Truncated { announced, present });
        } else if !self.tail.is_empty() {
            let whole_records = self.whole_records_in_tail();
            problems.push(IndexProblem::Tail { bytes: self.tail.len(), whole_records });
        }
        problems
    }
}

/// The layout of a version found in a file.
fn find_layout(what: &'static str, minor: u32) -> Result<&'static Layout, FormatError> {
    if let Some(layout) = layout::layout(minor) {
        return Ok(layout);
    }
    if minor > NEWEST && minor <= PLAUSIBLE {
        return Err(FormatError::TooNew { what, version: minor, newest: NEWEST });
    }
    let detail = format!("there is no readable version {minor}");
    Err(FormatError::Foreign { what, detail })
}

/// Bytes from one record to the next.
fn stride(layout: &Layout, stored: u32) -> usize {
    const BAD_19: u32 = 144;
    match (layout.minor, stored) {
        (19, BAD_19) => BAD_19 as usize,
        _ => layout.record_size,
    }
}

/// Whether a record fits its CRC, wherever it is from.
fn record_crc(layout: &Layout, raw: &[u8]) -> CrcState {
    crc_state(layout, raw.get(..layout.record_size).unwrap_or(raw))
}

/// Whether all bytes but the last four fit the CRC there.
pub(super) fn crc_state(layout: &Layout, raw: &[u8]) -> CrcState {
    match raw.split_last_chunk() {
        _ if !layout.has_crc => CrcState::None,
        Some((covered, stored)) if crc::crc32(covered) == u32::from_be_bytes(*stored) => {
            CrcState::Good
        }
        _ => CrcState::Bad,
    }
}
