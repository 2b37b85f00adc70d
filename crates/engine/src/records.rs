//! The records of a mailbox: those of cyrus.index, and of cyrus.expunge where 2.3 left one.

use std::collections::BTreeMap;

use cyrus_format::FormatError;
use cyrus_format::header::{MailboxHeader, file_crc};
use cyrus_format::index::{Index, IndexHeader, IndexProblem, RecordKey};
use model::{Finding, FindingKind, Guid, MboxName, Record, SystemFlags, Uid};

/// The files that hold records.
pub(crate) const INDEX: &str = "cyrus.index";
pub(crate) const EXPUNGE: &str = "cyrus.expunge";

/// What a manifest says of a mailbox besides its files; zero where it cannot be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    pub index_version: Option<u32>,
    pub uidvalidity: u32,
    pub announced: u64,
    pub exists: u64,
    pub expunged: u64,
    pub last_uid: u32,
    pub highestmodseq: u64,
    /// No message above this UID has a link; only known once they were written.
    pub linked_to: u32,
}

/// The records of one mailbox, in ascending order of their UIDs.
#[derive(Default)]
pub(crate) struct Records<'a> {
    index: Option<Index<'a>>,
    expunge: Option<Index<'a>>,
    /// The file that could not be read at all, and why.
    unreadable: Vec<(&'static str, FormatError)>,
    /// Where to look for each record, unless the index is in order and all there is: then
    /// nothing needs to be kept.
    order: Option<Vec<Place>>,
    /// UIDs in both files.
    overlaps: Vec<Uid>,
}

#[derive(Clone, Copy)]
struct Place {
    uid: Uid,
    expunged: bool,
    at: usize,
}

/// A mailbox that is damaged all over is told by its first findings; the rest is a number.
const FINDINGS_MAX: usize = 1000;

impl<'a> Records<'a> {
    /// Reads what can be read of a mailbox's metadata files.
    pub fn read(files: &'a BTreeMap<String, Vec<u8>>) -> Self {
        let mut records = Self::default();
        records.index = records.open(INDEX, files);
        records.expunge = records.open(EXPUNGE, files);
        if records.expunge.is_some() || !records.index.as_ref().is_none_or(in_order) {
            records.sort();
        }
        records
    }

    fn open(
        &mut self,
        file: &'static str,
        files: &'a BTreeMap<String, Vec<u8>>,
    ) -> Option<Index<'a>> {
        match Index::parse(files.get(file)?) {
            Ok(index) => Some(index),
            Err(error) => {
                self.unreadable.push((file, error));
                None
            }
        }
    }

    /// Checks every record, and the header against `cyrus.header`, as far as there is one.
    pub fn check(&self, name: &MboxName, header: Option<&[u8]>) -> Vec<Finding> {
        let unreadable = self.unreadable.iter().map(|(file, error)| unreadable(error, file, name));
        let mut findings: Vec<Finding> = unreadable.collect();
        if let Some(index) = &self.index {
            findings.extend(index.problems().iter().map(|problem| problem.finding(name)));
        }
        if let Some(expunge) = &self.expunge {
            // It is in the order of expunging.
            let problems = expunge.problems().into_iter();
            let real = problems.filter(|p| !matches!(p, IndexProblem::RecordOrder { .. }));
            findings.extend(real.map(|problem| problem.finding(format!("{name} {EXPUNGE}"))));
        }
        if let Some(error) = header.and_then(|header| MailboxHeader::parse(header).err()) {
            findings.push(Finding::new(FindingKind::HeaderUnreadable, name, error));
        }
        if let (Some(index), Some(header)) = (&self.index, header) {
            findings.extend(check_header_file(index.header(), header, name));
        }
        for uid in &self.overlaps {
            let detail = "it is in cyrus.index and in cyrus.expunge; taken as live";
            findings.push(Finding::new(FindingKind::ExpungeOverlap, name, detail).at_uid(uid.0));
        }
        if let Some(more) = findings.len().checked_sub(FINDINGS_MAX).filter(|more| *more > 0) {
            findings.truncate(FINDINGS_MAX);
            let detail = format!("{more} more findings about its records are not listed");
            findings.push(Finding::new(FindingKind::RecordCrc, name, detail));
        }
        findings
    }

    /// All records.
    pub fn iter(&self) -> impl Iterator<Item = RecordKey> + '_ {
        (0..self.len()).filter_map(|at| self.key(at))
    }

    /// The records whose messages should be there.
    pub fn linked(&self) -> impl Iterator<Item = RecordKey> + '_ {
        self.iter().filter(|record| !record.is_unlinked())
    }

    /// All of them, whole.
    pub fn wholes(&self) -> impl Iterator<Item = Record> + '_ {
        (0..self.len()).filter_map(|at| self.whole(at))
    }

    /// cyrus.index by itself, if it can be read.
    pub fn index(&self) -> Option<&Index<'a>> {
        self.index.as_ref()
    }

    /// The version of the index; 0 where there is none.
    pub fn version(&self) -> u32 {
        self.index.as_ref().map_or(0, Index::minor_version)
    }

    /// The highest UID that the mailbox had given out; `None` where no index says.
    pub fn last_uid(&self) -> Option<Uid> {
        let index = self.index.as_ref()?;
        let last = self.len().checked_sub(1).and_then(|last| self.key(last));
        Some(index.header().last_uid.max(last.map(|record| record.uid).unwrap_or_default()))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        match (&self.order, &self.index) {
            (Some(order), _) => order.len(),
            (None, Some(index)) => index.len(),
            (None, None) => 0,
        }
    }

    /// The whole record of a message.
    pub fn record(&self, uid: Uid) -> Option<Record> {
        let (mut from, mut to) = (0, self.len());
        while from < to {
            let middle = from + (to - from) / 2;
            match self.key(middle)?.uid.cmp(&uid) {
                std::cmp::Ordering::Less => from = middle + 1,
                std::cmp::Ordering::Greater => to = middle,
                std::cmp::Ordering::Equal => return self.whole(middle),
            }
        }
        None
    }

    /// What the manifest says of the mailbox.
    pub fn facts(&self) -> Facts {
        let expunged = self.linked().filter(RecordKey::is_expunged).count() as u64;
        let exists = self.linked().count() as u64 - expunged;
        // cyrus.expunge has messages also where the index is lost.
        let Some(index) = &self.index else { return Facts { expunged, ..Facts::default() } };
        let header = index.header();
        Facts {
            index_version: Some(header.minor_version),
            uidvalidity: header.uidvalidity.0,
            announced: header.num_records.into(),
            exists,
            expunged,
            last_uid: header.last_uid.0,
            highestmodseq: header.highestmodseq.0,
            linked_to: 0,
        }
    }

    fn key(&self, at: usize) -> Option<RecordKey> {
        let Some(order) = &self.order else { return self.index.as_ref()?.key(at) };
        let place = order.get(at)?;
        if place.expunged {
            let mut key = self.expunge.as_ref()?.key(place.at)?;
            // Its place says so; 2.3 has no flag for it.
            key.system_flags.0 |= SystemFlags::EXPUNGED.0;
            return Some(key);
        }
        self.index.as_ref()?.key(place.at)
    }

    fn whole(&self, at: usize) -> Option<Record> {
        let Some(order) = &self.order else { return self.index.as_ref()?.record(at) };
        let place = order.get(at)?;
        if place.expunged {
            let mut record = self.expunge.as_ref()?.record(place.at)?;
            record.system_flags.0 |= SystemFlags::EXPUNGED.0;
            return Some(record);
        }
        self.index.as_ref()?.record(place.at)
    }

    /// Puts the records of both files in order. Where a UID is in both, the index wins: the
    /// expunge was cut off before the record left it.
    fn sort(&mut self) {
        let places = |index: &Option<Index<'_>>, expunged| -> Vec<Place> {
            let keys = index.iter().flat_map(Index::keys).enumerate();
            keys.map(|(at, key)| Place { uid: key.uid, expunged, at }).collect()
        };
        let mut order = places(&self.index, false);
        order.extend(places(&self.expunge, true));
        // Stable, so that of equal UIDs the first record of the index stays first.
        order.sort_by_key(|place| place.uid);
        let overlaps = &mut self.overlaps;
        order.dedup_by(|next, first| {
            let same = next.uid == first.uid;
            if same && next.expunged && !first.expunged {
                overlaps.push(first.uid);
            }
            same
        });
        self.order = Some(order);
    }
}

/// What tells a record from another one of the same UID: its GUID, or where that is unknown, as
/// in Cyrus 2.3, size and date of the message.
pub(crate) fn identity(record: &RecordKey) -> Guid {
    if !record.guid.is_zero() {
        return record.guid;
    }
    let mut identity = Guid::ZERO;
    identity.0[4..12].copy_from_slice(&record.size.to_be_bytes());
    identity.0[12..].copy_from_slice(&record.internaldate.secs.to_be_bytes());
    identity
}

fn in_order(index: &Index<'_>) -> bool {
    index.keys().map(|key| key.uid).is_sorted_by(|a, b| a < b)
}

fn unreadable(error: &FormatError, file: &str, name: &MboxName) -> Finding {
    let kind = match error {
        FormatError::TooNew { .. } => FindingKind::IndexTooNew,
        _ => FindingKind::IndexUnreadable,
    };
    Finding::new(kind, name, format!("{file}: {error}"))
}

fn check_header_file(index: &IndexHeader, header: &[u8], name: &MboxName) -> Option<Finding> {
    let found = file_crc(header);
    // 0 means that the index was brought up from a version without this sum.
    if index.header_file_crc == 0 || index.header_file_crc == found {
        return None;
    }
    let detail = format!("its CRC is {found:08x}, the index says {:08x}", index.header_file_crc);
    Some(Finding::new(FindingKind::HeaderCrc, name, detail))
}
