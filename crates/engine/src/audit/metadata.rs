//! What the metadata files of a mailbox say of each other.

use cyrus_format::FormatError;
use cyrus_format::annotations::Note;
use cyrus_format::header::MailboxHeader;
use cyrus_format::index::{Index, Tally};
use model::crc::{self, FlagCrcs, ThridText};
use model::{Finding, FindingKind, MboxName, UniqueId, Userid};

use super::cache;
use super::subject::Subject;
use crate::ports::Pace;
use crate::records::Records;

/// The first version of the index that has a sum of annotations.
pub(crate) const FIRST_WITH_ANNOTS: u32 = 13;

/// The first that has modseqs.
const FIRST_WITH_MODSEQS: u32 = 8;

/// Looks at all of them, and at the cache.
pub(super) fn check(
    subject: &Subject,
    records: &Records<'_>,
    owner: Option<&Userid>,
    pace: &dyn Pace,
) -> Vec<Finding> {
    let name = &subject.name;
    let mut findings = subject.findings.clone();
    findings.extend(records.check(name, subject.header()));
    let header = subject.header().and_then(|bytes| MailboxHeader::parse(bytes).ok());
    if let Some(header) = &header {
        findings.extend(identity(name, subject.uniqueid.as_ref(), header));
    }
    // Of an index that is broken, every sum is wrong.
    if let Some(index) = records.index().filter(|_| !findings.iter().any(is_of_index)) {
        let flags = header.filter(|_| !findings.iter().any(is_of_header));
        let sums = Sums { name, index, flags: flags.as_ref().map(MailboxHeader::flag_crcs) };
        findings.extend(sums.counters());
        findings.extend(sums.annotations(subject.annotations(), owner));
    }
    findings.extend(cache::check(subject, records, pace));
    findings
}

fn is_of_index(finding: &Finding) -> bool {
    use FindingKind::{
        IndexHeaderCrc, IndexSizes, IndexTooNew, IndexTruncated, IndexUnreadable, RecordCrc,
        RecordOrder,
    };
    let kinds = [
        IndexHeaderCrc,
        IndexSizes,
        IndexTooNew,
        IndexTruncated,
        IndexUnreadable,
        RecordCrc,
        RecordOrder,
    ];
    kinds.contains(&finding.kind)
}

fn is_of_header(finding: &Finding) -> bool {
    [FindingKind::HeaderCrc, FindingKind::HeaderUnreadable].contains(&finding.kind)
}

/// Compares the identity in cyrus.header with that in mailboxes.db.
fn identity(name: &MboxName, listed: Option<&UniqueId>, header: &MailboxHeader) -> Option<Finding> {
    let own = header.uniqueid.as_ref().filter(|id| !id.is_empty());
    match (listed, own) {
        (Some(listed), Some(own)) if listed != own => {
            let detail = format!("mailboxes.db has {listed}, cyrus.header {own}");
            Some(Finding::new(FindingKind::UniqueIdMismatch, name, detail))
        }
        (Some(listed), None) => {
            let detail = format!("cyrus.header has none; mailboxes.db has {listed}");
            Some(Finding::new(FindingKind::UniqueIdLost, name, detail))
        }
        (None, None) => {
            let detail = "neither cyrus.header nor mailboxes.db has one";
            Some(Finding::new(FindingKind::UniqueIdLost, name, detail))
        }
        // Up to 2.4 it is nowhere else; since then, its absence is told of mailboxes.db.
        _ => None,
    }
}

/// An index that is whole, and what the flags of its messages are called.
struct Sums<'s> {
    name: &'s MboxName,
    index: &'s Index<'s>,
    /// `None` if nobody knows.
    flags: Option<FlagCrcs>,
}

impl Sums<'_> {
    fn tally(&self, thrid: ThridText) -> Tally {
        let none = FlagCrcs::new([]);
        let flags = self.flags.as_ref().unwrap_or(&none);
        Tally::of(self.index.records(), self.index.minor_version(), flags, thrid)
    }

    fn counters(&self) -> Vec<Finding> {
        let (header, tally) = (self.index.header(), self.tally(ThridText::Short));
        let (sums, counters): (Vec<_>, Vec<_>) = tally
            .differences(header)
            .into_iter()
            .partition(|counter| counter.name == "sync_crc_basic");
        let mut wrong: Vec<String> = counters
            .iter()
            .map(|c| format!("{} is {}, the records come to {}", c.name, c.stored, c.counted))
            .collect();
        let mut at_least = |what: &str, stored: u64, highest: u64| {
            if highest > stored {
                wrong.push(format!("{what} is {stored}, a record has {highest}"));
            }
        };
        at_least("last_uid", header.last_uid.0.into(), tally.highest_uid.0.into());
        if self.index.minor_version() >= FIRST_WITH_MODSEQS {
            at_least("highestmodseq", header.highestmodseq.0, tally.highest_modseq.0);
        }
        let mut findings = Vec::new();
        if !wrong.is_empty() {
            findings.push(Finding::new(FindingKind::IndexCounters, self.name, wrong.join("; ")));
        }
        for sum in sums.iter().filter(|_| self.flags.is_some()) {
            let (stored, counted) = (sum.stored, sum.counted);
            let detail =
                format!("the basic one is {stored:08x}, the records come to {counted:08x}");
            findings.push(Finding::new(FindingKind::SyncCrc, self.name, detail));
        }
        findings
    }

    /// Looks at the sum of annotations, for every way in which Cyrus has added it up.
    fn annotations(&self, notes: Option<&[u8]>, owner: Option<&Userid>) -> Option<Finding> {
        let version = self.index.minor_version();
        if version < FIRST_WITH_ANNOTS {
            return None;
        }
        let notes = notes.map_or_else(|| Ok(0), |notes| sum_of_notes(self.index, notes, owner));
        let notes = match notes {
            Ok(sum) => sum,
            Err(error) => {
                let detail = format!("cyrus.annotations: {error}");
                return Some(Finding::new(FindingKind::MetadataUnreadable, self.name, detail));
            }
        };
        if sum_style(self.index, notes).is_some() {
            return None;
        }
        let stored = self.index.header().sync_crc_annot;
        let counted = crc::ANNOT_START ^ notes ^ self.tally(ThridText::Padded).virtual_annots;
        let detail = format!("that of annotations is {stored:08x}, they come to {counted:08x}");
        Some(Finding::new(FindingKind::SyncCrc, self.name, detail))
    }
}

/// With what the server of an index begins the sum of annotations, and how it writes conversations in it; `None` if no
/// way in which Cyrus has added it up comes to what the index says. `notes` is what stored annotations add.
pub(crate) fn sum_style(index: &Index<'_>, notes: u32) -> Option<(u32, ThridText)> {
    // The names of flags count for another sum.
    let none = FlagCrcs::new([]);
    let stored = index.header().sync_crc_annot;
    [ThridText::Short, ThridText::Padded].into_iter().find_map(|thrid| {
        let tally = Tally::of(index.records(), index.minor_version(), &none, thrid);
        let starts = [crc::ANNOT_START, crc::ANNOT_START_OLD];
        let start =
            starts.into_iter().find(|start| start ^ notes ^ tally.virtual_annots == stored)?;
        Some((start, thrid))
    })
}

/// What stored annotations add to the sum of an index: those of its live messages.
///
/// # Errors
/// If they cannot be read.
pub(crate) fn sum_of_notes(
    index: &Index<'_>,
    notes: &[u8],
    owner: Option<&Userid>,
) -> Result<u32, FormatError> {
    let version = index.minor_version();
    let mut sum = 0;
    for (uid, notes) in Note::of_messages(notes, owner)? {
        let record = index.position(uid).and_then(|at| index.key(at));
        if record.is_none_or(|record| record.is_expunged()) {
            continue;
        }
        for note in notes.iter().filter(|note| !crc::is_virtual(&note.entry, version)) {
            sum ^= crc::annotation(uid, &note.entry, note.userid.as_bytes(), &note.value);
        }
    }
    Ok(sum)
}
