//! What is left of the index of a mailbox: what its sums vouch for, and what they do not.

use std::borrow::Cow;
use std::collections::BTreeMap;

use cyrus_format::FormatError;
use cyrus_format::index::{
    Corrector, CrcState, Index, IndexHeader, IndexProblem, Salvaged, salvage, sizes, versions,
};
use model::{Record, Timestamp, Uid};

use super::change::{self, Field, Value, Why};
use super::tell::Tell;

/// Where the version stands in the header of every index.
const VERSION: std::ops::Range<usize> = 8..12;

/// How far a record is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// Its CRC vouches for it; where there is none, nothing speaks against it.
    Whole,
    /// Its CRC does not, or it cannot be as it is.
    Doubtful,
}

/// A record that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trace {
    pub record: Record,
    pub trust: Trust,
}

/// What is left of an index.
#[derive(Debug, Default)]
pub(super) struct Remains {
    /// Its version; `None` if nothing tells.
    pub version: Option<u32>,
    /// Its header, and how far it is believed.
    pub header: Option<(IndexHeader, Trust)>,
    /// Its records, in the order of the file.
    pub traces: Vec<Trace>,
    /// Whole records behind those that a header counts that is believed.
    pub tail: BTreeMap<Uid, Record>,
    /// Whether there were records that are gone now: then a file without one is no stray.
    pub has_lost: bool,
}

impl Remains {
    /// Looks at the bytes of cyrus.index. `likely` is the version of other mailboxes.
    ///
    /// # Errors
    /// If it is of a version that nobody knows yet.
    pub fn of(
        bytes: Option<&[u8]>,
        likely: Option<u32>,
        tell: &mut Tell<'_>,
    ) -> Result<Self, FormatError> {
        let Some(bytes) = bytes else { return Ok(Self { has_lost: true, ..Self::default() }) };
        // Most are whole, and need no copy.
        let mut bytes = Cow::Borrowed(bytes);
        put_back_header(&mut bytes, tell);
        let (version, header) = match Index::parse(&bytes) {
            Ok(index) => (index.minor_version(), believed(&index)),
            Err(error @ FormatError::TooNew { .. }) => return Err(error),
            Err(_) => return Ok(Self::salvaged(&bytes, likely)),
        };
        put_back_records(version, header.1, &mut bytes, tell);
        let Ok(index) = Index::parse(&bytes) else { return Ok(Self::salvaged(&bytes, likely)) };
        if header.1 == Trust::Doubtful && has_sums(version) {
            return Ok(Self::all(&bytes, &index, header));
        }
        for problem in index.problems_of_header() {
            if let IndexProblem::Tail { bytes, .. } = problem {
                let field = Field::new("bytes_behind", Value::text(bytes), Value::Nothing);
                tell.change(None, Why::Tail, vec![field]);
            }
        }
        let traces = traces(&index);
        let has_lost = (traces.len() as u64) < u64::from(index.announced())
            || traces.iter().any(|trace| trace.trust == Trust::Doubtful);
        let tail = index.records_in_tail().filter(|record| record.uid.0 > 0);
        let tail = tail.map(|record| (record.uid, record)).collect();
        Ok(Self { version: Some(version), header: Some(header), traces, tail, has_lost })
    }

    /// All that is there behind a header whose count is not believed. What it counts, or what fits, is a record.
    fn all(bytes: &[u8], index: &Index<'_>, header: (IndexHeader, Trust)) -> Self {
        let format = index.record_format();
        let behind = usize::try_from(format.offset(0)).ok().and_then(|from| bytes.get(from..));
        let behind = behind.unwrap_or_default();
        let slots = behind.chunks_exact(format.size());
        let traces = slots.enumerate().filter_map(|(at, raw)| {
            let record = format.read(raw)?;
            let is_whole = format.crc(raw) == CrcState::Good;
            let is_counted = at < index.len();
            let trust = if is_whole { Trust::Whole } else { Trust::Doubtful };
            (is_whole || is_counted).then_some(Trace { record, trust })
        });
        let traces = traces.collect();
        let version = Some(index.minor_version());
        Self { version, header: Some(header), traces, has_lost: true, ..Self::default() }
    }

    /// What can be found behind a header that cannot be read.
    fn salvaged(bytes: &[u8], likely: Option<u32>) -> Self {
        let Some(Salvaged { minor_version, records }) = salvage(bytes, likely) else {
            return Self { has_lost: true, ..Self::default() };
        };
        let whole = |record| Trace { record, trust: Trust::Whole };
        Self {
            version: Some(minor_version),
            traces: records.into_iter().map(whole).collect(),
            has_lost: true,
            ..Self::default()
        }
    }
}

fn has_sums(version: u32) -> bool {
    Corrector::of_records(version).is_some()
}

/// The counted records.
fn traces(index: &Index<'_>) -> Vec<Trace> {
    let last_uid = index.header().last_uid;
    let mut before = Uid(0);
    let judged = index.records().enumerate().map(|(at, record)| {
        let is_good = match index.record_crc(at) {
            Some(CrcState::Good) => true,
            // Without a sum, it has to be what a record can be.
            Some(CrcState::None) => before < record.uid && record.uid <= last_uid,
            _ => false,
        };
        if is_good {
            before = before.max(record.uid);
        }
        Trace { record, trust: if is_good { Trust::Whole } else { Trust::Doubtful } }
    });
    judged.collect()
}

/// A header, and how far it is believed.
fn believed(index: &Index<'_>) -> (IndexHeader, Trust) {
    let header = index.header().clone();
    let trust = match index.header_crc() {
        CrcState::Good => Trust::Whole,
        CrcState::Bad => Trust::Doubtful,
        CrcState::None => {
            let sizes = sizes(header.minor_version).unwrap_or_default();
            let found = (header.start_offset as usize, header.record_size as usize);
            let highest = index.keys().map(|key| key.uid).max().unwrap_or_default();
            let is_sound = found == sizes && highest <= header.last_uid;
            if is_sound { Trust::Whole } else { Trust::Doubtful }
        }
    };
    (header, trust)
}

/// Puts the one bit of the header back that was wrong, if it was one; it may have been one of the version.
fn put_back_header(bytes: &mut Cow<'_, [u8]>, tell: &mut Tell<'_>) {
    let read = |bytes: &[u8]| {
        let index = Index::parse(bytes).ok()?;
        Some((index.header().clone(), index.header_crc()))
    };
    let old = read(bytes);
    if old.as_ref().is_some_and(|(_, state)| *state != CrcState::Bad) {
        return;
    }
    let own = old.as_ref().map(|(header, _)| header.minor_version);
    let others = versions().filter(|version| Some(*version) != own);
    for version in own.into_iter().chain(others) {
        let Some(corrector) = Corrector::of_headers(version) else { continue };
        let size = sizes(version).unwrap_or_default().0;
        let mut corrected = bytes.get(..size).unwrap_or_default().to_vec();
        if corrector.correct(&mut corrected).is_none() {
            continue;
        }
        let Some((new, CrcState::Good)) = read(&corrected) else { continue };
        if new.minor_version != version {
            continue;
        }
        let fields = match &old {
            Some((old, _)) => change::of_headers(old, &new),
            None => vec![Field::new("minor_version", version_of(bytes), Value::text(version))],
        };
        bytes.to_mut()[..size].copy_from_slice(&corrected);
        return tell.change(None, Why::BitPutBack, change::or_sum(fields));
    }
}

fn version_of(bytes: &[u8]) -> Value {
    let word = bytes.get(VERSION).and_then(|word| word.first_chunk());
    word.map_or(Value::Nothing, |word| Value::text(u32::from_be_bytes(*word)))
}

/// Puts back the one bit of each record that keeps it from fitting its CRC: of those that a header counts that is
/// believed, or else of all.
fn put_back_records(version: u32, trust: Trust, bytes: &mut Cow<'_, [u8]>, tell: &mut Tell<'_>) {
    let Ok(index) = Index::parse(bytes) else { return };
    let Some(corrector) = Corrector::of_records(version) else { return };
    let (format, counted) = (index.record_format(), index.len());
    let Some(from) = usize::try_from(format.offset(0)).ok() else { return };
    let places = match trust {
        Trust::Whole => counted,
        Trust::Doubtful => bytes.len().saturating_sub(from) / format.size(),
    };
    for at in 0..places {
        let place = from + at * format.size()..from + (at + 1) * format.size();
        let Some(raw) = bytes.get(place.clone()) else { return };
        if format.crc(raw) != CrcState::Bad {
            continue;
        }
        let mut corrected = raw.to_vec();
        let Some(_) = corrector.correct(&mut corrected) else { continue };
        let [old, new] = [raw, &corrected].map(|raw| format.read(raw).unwrap_or_default());
        bytes.to_mut()[place].copy_from_slice(&corrected);
        let fields = change::or_sum(change::of_records(&old, &new));
        tell.change(Some(new.uid), Why::BitPutBack, fields);
    }
}

/// Whether a moment may be one at which mail arrived, for times that no sum vouches for: from the first
/// release of Cyrus (1994) to a day from `now`.
pub(super) fn is_plausible(time: Timestamp, now: Timestamp) -> bool {
    const FIRST: i64 = 757_382_400;
    const DAY: i64 = 86_400;
    (FIRST..=now.secs.saturating_add(DAY)).contains(&time.secs)
}
