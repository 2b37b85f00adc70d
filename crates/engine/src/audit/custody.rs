//! The custody report of a message: what its record says, what its file has, what that is most likely
//! the result of, who else has to do with the file, and where good bytes are.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

use cyrus_format::index::RecordKey;
use model::{FindingKind, Guid, MboxName, Record, Timestamp, Uid};
use spool::staging::Inode;

use super::dissection::{Difference, Dissection, NulRun, difference, flipped_bit};
use super::subject::Subject;
use super::{Issue, Name, name_of};
use crate::ports::Pace;

/// Fewer NUL bytes in a row than that are no sign of a hole.
const NULS_MIN: u64 = 16;

/// Bytes of a message in which a flipped bit is looked for, which takes a second at most.
pub(super) const FLIPPED_MAX: u64 = 16 << 10;

/// Good copies that are looked for at most, and records that are tried for them.
const COPIES_MAX: usize = 4;
const TRIED_MAX: usize = 32;

/// A message, by its mailbox and UID.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The mailbox's internal name.
    pub mailbox: MboxName,
    /// The UID.
    pub uid: Uid,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} uid {}", self.mailbox, self.uid)
    }
}

/// What the record says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// SHA-1 of the bytes; zero where the record does not know it.
    pub guid: Guid,
    /// How many bytes.
    pub size: u64,
    /// When the message arrived.
    pub internaldate: Timestamp,
    /// When the record last changed.
    pub last_updated: Timestamp,
    /// Whether clients do not see it any more.
    pub expunged: bool,
    /// Whether its file is to be on the archive partition.
    pub archived: bool,
}

/// What the file has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// SHA-1 of the bytes.
    pub guid: Guid,
    /// How many bytes.
    pub size: u64,
    /// Which file it is.
    pub inode: Inode,
    /// How many names it has.
    pub links: u64,
    /// When its bytes last changed, as the file system says.
    pub modified: Timestamp,
    /// When anything of it last changed, its links included.
    pub changed: Timestamp,
}

/// What became of a message, as far as can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nature {
    /// There is no file.
    Missing,
    /// It can be proven: with CR LF at every line's end, these are the bytes of the GUID.
    LostCr,
    /// Likewise with LF alone.
    GainedCr,
    /// Likewise: the GUID is that of the front, so many bytes; something was added behind.
    Grown {
        /// How many bytes are good.
        good: u64,
    },
    /// Likewise: one bit is flipped.
    FlippedBit {
        /// The byte, from the start.
        at: u64,
        /// The bit, the lowest being 0.
        bit: u8,
    },
    /// The bytes are those of another message.
    Another {
        /// Whether that one's record has this very file: it was written over through a hard link.
        through_link: bool,
        /// Whether that one's file has the bytes of this message.
        swapped: bool,
    },
    /// The record has another message's GUID, or none that the bytes ever had: they fit its size.
    WrongRecord,
    /// There are holes in it.
    ZeroFilled(NulRun),
    /// Its end is missing.
    Truncated,
    /// The bytes are good, only the record's size is not that of them.
    WrongSize,
    /// Some other change.
    Changed,
}

impl Nature {
    /// The word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Nature::Missing => "missing",
            Nature::LostCr => "line-ends-lf",
            Nature::GainedCr => "line-ends-crlf",
            Nature::Grown { .. } => "grown",
            Nature::FlippedBit { .. } => "flipped-bit",
            Nature::Another { through_link: true, .. } => "overwritten-through-link",
            Nature::Another { swapped: true, .. } => "swapped",
            Nature::Another { .. } => "another-message",
            Nature::WrongRecord => "wrong-record",
            Nature::ZeroFilled(_) => "zero-filled",
            Nature::Truncated => "truncated",
            Nature::WrongSize => "wrong-size",
            Nature::Changed => "changed",
        }
    }
}

impl fmt::Display for Nature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Nature::Missing => write!(f, "its file is not there"),
            Nature::LostCr => write!(f, "line ends only: CR LF has become LF"),
            Nature::GainedCr => write!(f, "line ends only: LF has become CR LF"),
            Nature::Grown { good } => {
                write!(f, "the first {good} bytes are good, what follows is none of it")
            }
            Nature::FlippedBit { at, bit } => write!(f, "bit {bit} of byte {at} is flipped"),
            Nature::Another { through_link: true, .. } => {
                write!(f, "another message was written over it through a hard link")
            }
            Nature::Another { swapped: true, .. } => {
                write!(f, "its file and that of another message are swapped")
            }
            Nature::Another { .. } => write!(f, "the bytes are those of another message"),
            Nature::WrongRecord => {
                write!(f, "the record has another GUID; the bytes have the size that it says")
            }
            Nature::ZeroFilled(NulRun { from, bytes }) => {
                write!(f, "zero-filled: {bytes} NUL bytes from byte {from} on")
            }
            Nature::Truncated => write!(f, "truncated: its end is missing"),
            Nature::WrongSize => write!(f, "the bytes are good, the record's size is wrong"),
            Nature::Changed => write!(f, "changed, and nothing tells how"),
        }
    }
}

/// All that is known of a message that is not what its record says.
#[derive(Clone, Debug)]
pub struct Custody {
    /// Which message.
    pub place: Place,
    /// Where its file is, or should be.
    pub path: PathBuf,
    /// What its record says.
    pub recorded: Recorded,
    /// What its file has; `None` if there is none that could be read.
    pub found: Option<Found>,
    /// What became of it.
    pub nature: Nature,
    /// Other messages of the account whose records have the GUID of the bytes that were found.
    pub found_as: Vec<Place>,
    /// Other messages of the account that share the file.
    pub links: Vec<Place>,
    /// Other names of the file on the partition, as far as they were looked for.
    pub other_names: Vec<PathBuf>,
    /// Messages whose files have the bytes that are missing here: they were read.
    pub copies: Vec<Place>,
    /// How it differs from the first of these.
    pub difference: Option<Difference>,
}

impl Recorded {
    /// From a record.
    pub(super) fn of(record: &Record) -> Self {
        Self {
            guid: record.guid,
            size: record.size,
            internaldate: record.internaldate,
            last_updated: record.last_updated,
            expunged: record.is_expunged(),
            archived: record.is_archived(),
        }
    }
}

/// What the bytes alone tell.
pub(super) fn nature_of(recorded: &Recorded, found: &Dissection, bytes: Option<&[u8]>) -> Nature {
    let is_wanted = |guid: Guid| guid == recorded.guid && !guid.is_zero();
    if is_wanted(found.guid) || recorded.guid.is_zero() && found.size == recorded.size {
        return Nature::WrongSize;
    }
    if is_wanted(found.with_cr) {
        return Nature::LostCr;
    }
    if is_wanted(found.without_cr) {
        return Nature::GainedCr;
    }
    if found.front.is_some_and(is_wanted) {
        return Nature::Grown { good: recorded.size };
    }
    if found.nul.bytes >= NULS_MIN {
        return Nature::ZeroFilled(found.nul);
    }
    if found.size < recorded.size {
        return Nature::Truncated;
    }
    let flipped = bytes.filter(|_| found.size == recorded.size && !recorded.guid.is_zero());
    match flipped.and_then(|bytes| flipped_bit(bytes, recorded.guid)) {
        Some((at, bit)) => Nature::FlippedBit { at, bit },
        None => Nature::Changed,
    }
}

/// Completes what the bytes alone don't tell: with the other records of the account, and with all names
/// of its files, which are sorted by file.
pub(super) fn complete(
    issues: &mut [Issue],
    subjects: &[Subject],
    names: &[Name],
    pace: &dyn Pace,
) {
    let custodies = || issues.iter().filter_map(|issue| issue.custody.as_deref());
    let wanted = custodies().flat_map(|custody| {
        let found = custody.found.map(|found| found.guid);
        [Some(custody.recorded.guid), found].into_iter().flatten()
    });
    let wanted: BTreeSet<Guid> = wanted.filter(|guid| !guid.is_zero()).collect();
    if wanted.is_empty() {
        return;
    }
    let guids: Vec<(Place, Guid, Option<Guid>)> = custodies()
        .map(|c| (c.place.clone(), c.recorded.guid, c.found.map(|found| found.guid)))
        .collect();
    let neighbours = Neighbours { subjects, names, records: records_of(subjects, &wanted), guids };
    for issue in issues {
        let Some(custody) = issue.custody.as_deref_mut() else { continue };
        neighbours.complete(custody, pace);
        issue.finding.detail = detail(custody);
    }
}

/// The detail of the finding that a custody report belongs to.
pub(super) fn detail(custody: &Custody) -> String {
    let Custody { recorded, found, nature, .. } = custody;
    let Some(found) = found else { return nature.to_string() };
    match nature {
        Nature::WrongSize => {
            format!("the record says {} bytes, the file has {}", recorded.size, found.size)
        }
        _ => format!(
            "the record says {} ({} bytes), its bytes hash to {} ({} bytes): {nature}",
            recorded.guid, recorded.size, found.guid, found.size
        ),
    }
}

/// The kind of the finding that a custody report belongs to.
pub(super) fn kind(nature: &Nature) -> FindingKind {
    match nature {
        Nature::Missing => FindingKind::MessageMissing,
        Nature::WrongSize => FindingKind::SizeMismatch,
        _ => FindingKind::GuidMismatch,
    }
}

/// Where records of some GUIDs are: the number of the mailbox, and the record.
type Where = BTreeMap<Guid, Vec<(usize, RecordKey)>>;

fn records_of(subjects: &[Subject], wanted: &BTreeSet<Guid>) -> Where {
    let mut records = Where::new();
    for (at, subject) in subjects.iter().enumerate() {
        for record in subject.records().linked().filter(|record| wanted.contains(&record.guid)) {
            records.entry(record.guid).or_default().push((at, record));
        }
    }
    records
}

/// The rest of the account, as far as it has to do with damaged messages.
struct Neighbours<'n> {
    subjects: &'n [Subject],
    names: &'n [Name],
    records: Where,
    /// All damaged messages, with the GUIDs of their records and of their bytes.
    guids: Vec<(Place, Guid, Option<Guid>)>,
}

impl Neighbours<'_> {
    fn complete(&self, custody: &mut Custody, pace: &dyn Pace) {
        if let Some(found) = &custody.found {
            custody.links = self.links(found.inode, &custody.place);
            let same = self.others(found.guid, &custody.place);
            custody.found_as = same.iter().map(|(at, record)| self.place(*at, record)).collect();
            custody.nature = self.nature(custody, found);
        }
        if custody.nature != Nature::WrongSize {
            self.find_copies(custody, pace);
        }
    }

    fn place(&self, at: usize, record: &RecordKey) -> Place {
        Place { mailbox: name_of(self.subjects, at), uid: record.uid }
    }

    /// The records of a GUID, but for that of one message.
    fn others(&self, guid: Guid, but: &Place) -> Vec<(usize, RecordKey)> {
        let all = self.records.get(&guid).map(Vec::as_slice).unwrap_or_default();
        all.iter().filter(|(at, record)| self.place(*at, record) != *but).copied().collect()
    }

    fn links(&self, inode: Inode, but: &Place) -> Vec<Place> {
        let from = self.names.partition_point(|name| name.inode < inode);
        let same = self.names[from..].iter().take_while(|name| name.inode == inode);
        let places =
            same.map(|name| Place { mailbox: name_of(self.subjects, name.mailbox), uid: name.uid });
        places.filter(|place| place != but).collect()
    }

    /// What the rest of the account tells, where the bytes alone prove nothing.
    fn nature(&self, custody: &Custody, found: &Found) -> Nature {
        let is_proven = matches!(
            custody.nature,
            Nature::LostCr
                | Nature::GainedCr
                | Nature::Grown { .. }
                | Nature::FlippedBit { .. }
                | Nature::WrongSize
        );
        if is_proven || custody.recorded.guid.is_zero() {
            return custody.nature;
        }
        let swapped = self.guids.iter().any(|(_, recorded, bytes)| {
            *recorded == found.guid && *bytes == Some(custody.recorded.guid)
        });
        let through_link = custody.found_as.iter().any(|place| custody.links.contains(place));
        // Not all messages have other sizes; but of a message that was written over, most have.
        let has_size = found.size == custody.recorded.size;
        let others = self.others(custody.recorded.guid, &custody.place);
        let is_others = others.iter().any(|(_, record)| record.size != custody.recorded.size);
        if has_size && !swapped && (is_others || !custody.found_as.is_empty()) {
            return Nature::WrongRecord;
        }
        match custody.found_as.is_empty() {
            true => custody.nature,
            false => Nature::Another { through_link, swapped },
        }
    }

    /// Reads other files that may have the bytes.
    fn find_copies(&self, custody: &mut Custody, pace: &dyn Pace) {
        let wanted = custody.recorded.guid;
        if wanted.is_zero() || custody.nature == Nature::WrongRecord {
            return;
        }
        let recorded = self.others(wanted, &custody.place).into_iter();
        let recorded = recorded.map(|(at, record)| (at, record.uid, record.is_archived()));
        // Bytes that were found where they don't belong are good ones, too.
        let strays = self
            .guids
            .iter()
            .filter(|(place, _, bytes)| *bytes == Some(wanted) && *place != custody.place);
        let strays = strays.filter_map(|(place, _, _)| {
            let at = self.subjects.iter().position(|subject| subject.name == place.mailbox)?;
            Some((at, place.uid, false))
        });
        for (at, uid, archived) in recorded.chain(strays).take(TRIED_MAX) {
            let place = Place { mailbox: name_of(self.subjects, at), uid };
            if custody.copies.len() >= COPIES_MAX || custody.copies.contains(&place) {
                continue;
            }
            let open = || self.subjects[at].frozen.open_message(uid, archived);
            let read = open().and_then(|file| Dissection::of(file, custody.recorded.size, pace));
            if !read.is_ok_and(|read| read.guid == wanted) {
                continue;
            }
            if custody.copies.is_empty() && custody.found.is_some() {
                custody.difference = self
                    .open(&custody.place)
                    .zip(open().ok())
                    .and_then(|(bad, good)| difference(bad, good, pace).ok());
            }
            custody.copies.push(place);
        }
    }

    fn open(&self, place: &Place) -> Option<std::fs::File> {
        let subject = self.subjects.iter().find(|subject| subject.name == place.mailbox)?;
        subject.frozen.open_message(place.uid, false).ok()
    }
}
