//! The new cyrus.index of a mailbox.

use std::io::Read;

use cyrus_format::cache;
use cyrus_format::header::{MailboxHeader, file_crc};
use cyrus_format::index::{Index, IndexHeader};
use model::{FindingKind, Modseq, Record, Timestamp, Uid, Userid};

use super::change::{self, Field, Value, Why};
use super::mailbox::INDEX;
use super::remains::{Remains, Trust};
use super::sums::{self, Fresh, Notes};
use super::tell::Tell;
use crate::audit::Subject;

/// The first version that says which cyrus.header it was written with.
const FIRST_WITH_HEADER_CRC: u32 = 12;

/// What an index is made of.
pub(super) struct Made<'m> {
    pub remains: &'m Remains,
    /// The header that was there, as far as it is believed.
    pub believed: Option<IndexHeader>,
    pub version: u32,
    /// The highest UID that was given out.
    pub last_uid: Uid,
    /// If records are gone that clients knew: the modseq by which they hear of it.
    pub gone: Option<Modseq>,
    pub records: &'m [Record],
    /// cyrus.header as it is to be.
    pub names: &'m MailboxHeader,
    /// Its bytes, if they are new.
    pub header_file: Option<&'m [u8]>,
}

/// Its bytes; what is different about its header is told.
pub(super) fn make(
    subject: &Subject,
    owner: Option<&Userid>,
    now: Timestamp,
    made: Made<'_>,
    tell: &mut Tell<'_>,
) -> Option<Vec<u8>> {
    let Made { remains, believed, version, last_uid, records, .. } = made;
    let is_fresh = believed.is_none();
    let is_whole = matches!(remains.header, Some((_, Trust::Whole)));
    let generation = generation(subject).unwrap_or_default();
    let fresh = Fresh { version, entry: &subject.frozen.entry, generation, now };
    let old = subject.files.get(INDEX).and_then(|bytes| Index::parse(bytes).ok());
    let before = old.as_ref().filter(|_| !remains.has_lost);
    let notes = Notes { bytes: subject.annotations(), owner, before };
    let header = believed.map_or_else(|| fresh.header(records, last_uid), Ok);
    let built = header.and_then(|mut header| {
        header.last_uid = header.last_uid.max(last_uid);
        if let Some(modseq) = made.gone {
            sums::forget_before(&mut header, modseq, now);
        }
        if !is_whole {
            header.quota_annot_used = sums::bytes_of_notes(notes.bytes, notes.owner);
        }
        // An index that was brought up from an old version has no sum of its header, and needs none.
        let has_sum = is_fresh || header.header_file_crc != 0;
        if let Some(file) = made.header_file.or(subject.header().filter(|_| has_sum)) {
            name_header(&mut header, file);
        }
        sums::index(header, records, made.names, &notes)
    });
    match built {
        Ok((header, bytes)) => {
            tell_header(remains, &header, tell);
            Some(bytes)
        }
        Err(error) => {
            tell.wrong(FindingKind::IndexUnreadable, error);
            None
        }
    }
}

/// The first word of cyrus.cache.
fn generation(subject: &Subject) -> Option<u32> {
    let file = subject.cache(false).ok()??;
    let mut head = Vec::new();
    file.take(4).read_to_end(&mut head).ok()?;
    cache::generation(&head).ok()
}

/// Says which cyrus.header an index is written with.
fn name_header(header: &mut IndexHeader, file: &[u8]) {
    if header.minor_version >= FIRST_WITH_HEADER_CRC {
        header.header_file_crc = file_crc(file);
    }
}

fn tell_header(remains: &Remains, new: &IndexHeader, tell: &mut Tell<'_>) {
    let (why, fields) = match &remains.header {
        Some((old, Trust::Whole)) => (Why::Counters, change::of_headers(old, new)),
        Some((old, Trust::Doubtful)) => {
            let mut fields = change::of_headers(old, new);
            fields.push(Field::new("crc", Value::text("wrong"), Value::text("right")));
            (Why::IndexHeaderBelieved, fields)
        }
        None => (Why::IndexRemade, change::of_headers(&IndexHeader::default(), new)),
    };
    if !fields.is_empty() {
        tell.change(None, why, fields);
    }
}
