//! All segments of an archive.

use super::{LastWhole, ReadError, SegmentRef};
use crate::bytes::{BLOCK, printable};
use crate::end::{END_BYTES, EndBlock, EndError};
use crate::entry::{Entry, Kind, Random, Scan, ScanError};
use crate::names::{self, EntryName, Part};
use crate::read_at::ReadAt;

/// How many blocks of zeros may stand behind a segment before the slow way is taken. Programs
/// that mark an archive's end fill it up to 20 blocks.
const ZERO_BLOCKS_MAX: u32 = 64;

/// What an archive holds.
#[derive(Debug)]
pub struct Survey<'a> {
    /// Its whole segments, in the order in which they lie there.
    pub segments: Vec<SegmentRef<'a>>,
    /// The first thing that is wrong with it.
    pub trouble: Option<ReadError>,
}

/// The segments of an archive that is wholly in order.
///
/// # Errors
///
/// The first thing that is wrong with it. [`survey`] gives what is whole nevertheless.
pub fn segments(archive: &dyn ReadAt) -> Result<Vec<SegmentRef<'_>>, ReadError> {
    let Survey { segments, trouble } = survey(archive);
    match trouble {
        Some(trouble) => Err(trouble),
        None => Ok(segments),
    }
}

/// The segment that an archive of one segment consists of, with a single read: nothing but the end
/// block is looked at. For those who know which one it must be and compare its
/// [identity](SegmentRef::manifest_sha256).
///
/// # Errors
///
/// If the archive does not end with a segment's end, or the segment does not fill it.
pub fn only_segment(archive: &dyn ReadAt) -> Result<SegmentRef<'_>, ReadError> {
    let len = archive.len();
    let none = || ReadError::NoSegment { from: 0, to: len };
    let at = len.checked_sub(BLOCK).ok_or_else(none)?;
    let mut block = [0; END_BYTES];
    archive.read_exact_at(at, &mut block).map_err(|source| ReadError::Read { at, source })?;
    let entry = || "the last block".to_owned();
    let end =
        EndBlock::decode(&block).map_err(|source| ReadError::End { entry: entry(), at, source })?;
    let begins = len.saturating_sub(end.segment_bytes);
    let segment = SegmentRef::new(archive, len, end).filter(|segment| segment.start() == 0);
    segment.ok_or_else(|| ReadError::Stray { entry: entry(), at, begins })
}

/// Finds all segments that are whole, whatever else is wrong.
pub fn survey(archive: &dyn ReadAt) -> Survey<'_> {
    let (behind, reached_the_start) = walk_back(archive);
    if reached_the_start {
        return Survey { segments: behind, trouble: None };
    }
    let (mut survey, lost) = scan_forward(archive);
    if lost {
        // What lies behind the place where the scan lost its way is known from the other side.
        // Otherwise that side has nothing to add but what a message holds: somebody may have put
        // a whole segment into one, and the archive may be cut just behind that.
        survey.segments.extend(behind);
        survey.segments.sort_by_key(SegmentRef::start);
        survey.segments.dedup_by_key(|segment| segment.start());
    }
    survey
}

/// From the end on, segment by segment. Also says whether nothing else is in the archive.
fn walk_back(archive: &dyn ReadAt) -> (Vec<SegmentRef<'_>>, bool) {
    let mut segments = Vec::new();
    let mut end = archive.len();
    let done = loop {
        end = before_zeros(archive, end);
        if end == 0 {
            break true;
        }
        let Some(segment) = segment_before(archive, end) else { break false };
        end = segment.start();
        segments.push(segment);
    };
    segments.reverse();
    (segments, done)
}

/// Where the blocks of zeros begin that end at `end`, if they are few; else `end`.
fn before_zeros(archive: &dyn ReadAt, end: u64) -> u64 {
    let mut block = [0; END_BYTES];
    let mut before = end;
    for _ in 0..ZERO_BLOCKS_MAX {
        let Some(at) = before.checked_sub(BLOCK) else { return before };
        let read = archive.read_exact_at(at, &mut block);
        if read.is_err() || block.iter().any(|byte| *byte != 0) {
            return before;
        }
        before = at;
    }
    before
}

/// The segment that ends at `end`, if there is no doubt about it.
fn segment_before(archive: &dyn ReadAt, end: u64) -> Option<SegmentRef<'_>> {
    let at = end.checked_sub(BLOCK)?;
    let mut block = [0; END_BYTES];
    archive.read_exact_at(at, &mut block).ok()?;
    let segment = SegmentRef::new(archive, end, EndBlock::decode(&block).ok()?)?;
    // A message may hold what looks like the end of a segment, but then its beginning is not
    // where this one says.
    let mut scan = Scan::new(Random::new(archive, segment.start(), end), segment.start());
    let first = scan.next_entry().ok()??;
    let name = EntryName::parse(&first.name).ok()?;
    (name.account == segment.account()).then_some(segment)
}

/// From the start on, entry by entry. Also says whether more may follow where this had to stop.
fn scan_forward(archive: &dyn ReadAt) -> (Survey<'_>, bool) {
    let mut found = Forward { segments: Vec::new(), trouble: None, begins: None, entry: None };
    let mut scan = Scan::new(Random::new(archive, 0, archive.len()), 0);
    let mut lost = false;
    loop {
        match scan.next_entry() {
            Ok(Some(entry)) => found.take(archive, &entry),
            Ok(None) => break,
            Err(source) => {
                let last = found.last_whole();
                lost = !matches!(source, ScanError::Cut { .. });
                found.trouble.get_or_insert(ReadError::Broken { last, source });
                found.begins = None;
                break;
            }
        }
    }
    if let (Some(begins), Some(entry)) = (found.begins, found.entry.take()) {
        let last = found.last_whole();
        found.trouble.get_or_insert(ReadError::Unfinished { begins, entry, last });
    }
    (Survey { segments: found.segments, trouble: found.trouble }, lost)
}

struct Forward<'a> {
    segments: Vec<SegmentRef<'a>>,
    trouble: Option<ReadError>,
    /// Where the first entry behind the last segment is.
    begins: Option<u64>,
    /// The entry that was taken last.
    entry: Option<String>,
}

impl<'a> Forward<'a> {
    fn take(&mut self, archive: &'a dyn ReadAt, entry: &Entry) {
        let begins = *self.begins.get_or_insert(entry.at);
        self.entry = Some(printable(&entry.name));
        match check_entry(entry) {
            Err(trouble) => {
                self.trouble.get_or_insert(trouble);
                self.begins = None;
            }
            Ok(EntryName { part: Part::End(_), .. }) => {
                if let Err(trouble) = self.take_end(archive, entry, begins) {
                    self.trouble.get_or_insert(trouble);
                }
                self.begins = None;
            }
            Ok(_) => {}
        }
    }

    /// Takes the end of a segment; the entries behind the last one begin at `begins`.
    fn take_end(
        &mut self,
        archive: &'a dyn ReadAt,
        entry: &Entry,
        begins: u64,
    ) -> Result<(), ReadError> {
        let segment = end_of_segment(archive, entry)?;
        let start = segment.start();
        if start != begins {
            // Entries of a segment that lost its end may precede it, and are no part of it.
            let end = start + segment.bytes();
            if start < begins || segment_before(archive, end).is_none() {
                let entry = printable(&entry.name);
                return Err(ReadError::Stray { entry, at: end - BLOCK, begins: start });
            }
            self.trouble.get_or_insert(ReadError::NoSegment { from: begins, to: start });
        }
        self.segments.push(segment);
        Ok(())
    }

    fn last_whole(&self) -> LastWhole {
        let last = self.segments.last();
        LastWhole(last.map(|segment| (segment.account().to_owned(), segment.seq())))
    }
}

/// The name of an entry, if it is one that a segment may hold and is what its name says.
pub(crate) fn check_entry(entry: &Entry) -> Result<EntryName<'_>, ReadError> {
    let foreign = |source| ReadError::Foreign { at: entry.at, source };
    let name = EntryName::parse(&entry.name).map_err(foreign)?;
    let kind = match name.part {
        Part::Folder(_) => Kind::Symlink,
        Part::MailboxMessage { .. } => Kind::HardLink,
        Part::MailboxDir(_) => Kind::Directory,
        _ => Kind::File,
    };
    if entry.kind != kind {
        return Err(foreign(names::wrong_kind(&entry.name)));
    }
    let target_is_right = match name.part {
        Part::Folder(_) => names::parse_folder_target(&entry.link).is_some(),
        Part::MailboxMessage { .. } => EntryName::parse(&entry.link).is_ok_and(|target| {
            target.account == name.account && matches!(target.part, Part::Message(_))
        }),
        _ => true,
    };
    if !target_is_right {
        return Err(ReadError::Target {
            entry: printable(&entry.name),
            at: entry.at,
            target: printable(&entry.link),
        });
    }
    Ok(name)
}

/// The segment that this entry ends.
fn end_of_segment<'a>(archive: &'a dyn ReadAt, entry: &Entry) -> Result<SegmentRef<'a>, ReadError> {
    let shown = || printable(&entry.name);
    let wrong = |source| ReadError::End { entry: shown(), at: entry.content, source };
    if entry.size != BLOCK {
        return Err(wrong(EndError::Foreign));
    }
    let at = entry.content;
    let mut block = [0; END_BYTES];
    archive.read_exact_at(at, &mut block).map_err(|source| ReadError::Read { at, source })?;
    let end = EndBlock::decode(&block).map_err(wrong)?;
    let mut name = Vec::new();
    EntryName { account: &end.account, part: Part::End(end.seq) }.write_to(&mut name);
    if name != entry.name {
        return Err(wrong(EndError::Damaged("it is not the one that its name says")));
    }
    let longer = EndError::Damaged("it speaks of more bytes than there are");
    SegmentRef::new(archive, at + BLOCK, end).ok_or_else(|| wrong(longer))
}
