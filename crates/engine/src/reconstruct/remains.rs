//! What is left of the index of a mailbox: what its sums vouch for, and what they do not.

use std::collections::BTreeMap;

use cyrus_format::index::{
    Corrector, CrcState, Index, IndexHeader, IndexProblem, Salvaged, salvage, sizes,
};
use model::{Record, Timestamp, Uid};

use super::change::{self, Field, Value, Why};
use super::tell::Tell;

/// How far a record is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// Its CRC vouches for it, or it is of a version without any.
    Whole,
    /// Its CRC does not.
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
    /// Its header, and whether its CRC vouches for it.
    pub header: Option<(IndexHeader, Trust)>,
    /// Its records, in the order of the file.
    pub traces: Vec<Trace>,
    /// Whole records behind those that are counted.
    pub tail: BTreeMap<Uid, Record>,
    /// Whether there were records that are gone now: then a file without one is no stray.
    pub has_lost: bool,
}

impl Remains {
    /// Looks at the bytes of cyrus.index. `likely` is the version of other mailboxes.
    pub fn of(bytes: Option<&[u8]>, likely: Option<u32>, tell: &mut Tell<'_>) -> Self {
        let Some(bytes) = bytes else { return Self { has_lost: true, ..Self::default() } };
        let mut bytes = bytes.to_vec();
        let Some(version) = Index::parse(&bytes).ok().map(|index| index.minor_version()) else {
            return Self::salvaged(&bytes, likely);
        };
        let header = header(version, &mut bytes, tell);
        put_back_bits(version, &mut bytes, tell);
        let Ok(index) = Index::parse(&bytes) else { return Self::salvaged(&bytes, likely) };
        for problem in index.problems_of_header() {
            if let IndexProblem::Tail { bytes, .. } = problem {
                let field = Field::new("bytes_behind", Value::text(bytes), Value::Nothing);
                tell.change(None, Why::Tail, vec![field]);
            }
        }
        let states = (0..index.len()).map(|at| index.record_crc(at));
        let traces = index.records().zip(states).map(|(record, state)| {
            let is_bad = state == Some(CrcState::Bad);
            Trace { record, trust: if is_bad { Trust::Doubtful } else { Trust::Whole } }
        });
        let traces: Vec<Trace> = traces.collect();
        let has_lost = (traces.len() as u64) < u64::from(index.announced())
            || traces.iter().any(|trace| trace.trust == Trust::Doubtful);
        let tail = index.records_in_tail().filter(|record| record.uid.0 > 0);
        let tail = tail.map(|record| (record.uid, record)).collect();
        Self { version: Some(version), header: Some(header), traces, tail, has_lost }
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

    /// The highest UID that any record has whose CRC vouches for it.
    pub fn highest_uid(&self) -> Uid {
        let whole = self.traces.iter().filter(|trace| trace.trust == Trust::Whole);
        whole.map(|trace| trace.record.uid).max().unwrap_or_default()
    }
}

/// The header, with the one bit put back that was wrong, if it was one.
fn header(version: u32, bytes: &mut [u8], tell: &mut Tell<'_>) -> (IndexHeader, Trust) {
    let read =
        |bytes: &[u8]| Index::parse(bytes).ok().map(|i| (i.header().clone(), i.header_crc()));
    let Some((old, state)) = read(bytes) else { return (IndexHeader::default(), Trust::Doubtful) };
    if state != CrcState::Bad {
        return (old, Trust::Whole);
    }
    let before = bytes.to_vec();
    if Corrector::of_headers(version).is_some_and(|c| c.correct(bytes).is_some())
        && let Some((new, CrcState::Good)) = read(bytes)
        && new.minor_version == version
    {
        tell.change(None, Why::BitPutBack, or_sum(change::of_headers(&old, &new)));
        return (new, Trust::Whole);
    }
    bytes.copy_from_slice(&before);
    (old, Trust::Doubtful)
}

/// Puts back the one bit of each record that keeps it from fitting its CRC.
fn put_back_bits(version: u32, bytes: &mut [u8], tell: &mut Tell<'_>) {
    let Ok(index) = Index::parse(bytes) else { return };
    let Some((header_size, _)) = sizes(version) else { return };
    let Some(corrector) = Corrector::of_records(version) else { return };
    let stride = index.record_format().size();
    let bad = (0..index.len()).filter(|at| index.record_crc(*at) == Some(CrcState::Bad));
    let bad: Vec<(usize, Record)> = bad.filter_map(|at| Some((at, index.record(at)?))).collect();
    for (at, old) in bad {
        let from = header_size + at * stride;
        let Some(raw) = bytes.get_mut(from..from + stride) else { continue };
        if corrector.correct(raw).is_none() {
            continue;
        }
        let new = Index::parse(bytes).ok().and_then(|index| index.record(at)).unwrap_or_default();
        let fields = or_sum(change::of_records(&old, &new));
        tell.change(Some(new.uid), Why::BitPutBack, fields);
    }
}

/// If nothing that is read differs, the bit was one of the CRC itself, or of what nobody reads.
fn or_sum(fields: Vec<Field>) -> Vec<Field> {
    match fields.is_empty() {
        true => vec![Field::new("crc", Value::text("wrong"), Value::text("right"))],
        false => fields,
    }
}

/// Whether a moment may be one at which mail arrived, for times that no sum vouches for: from the first
/// release of Cyrus (1994) to a day from `now`.
pub(super) fn is_plausible(time: Timestamp, now: Timestamp) -> bool {
    const FIRST: i64 = 757_382_400;
    const DAY: i64 = 86_400;
    (FIRST..=now.secs.saturating_add(DAY)).contains(&time.secs)
}
