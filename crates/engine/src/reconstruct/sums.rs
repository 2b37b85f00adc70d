//! The header of an index: what its records come to.

use cyrus_format::header::MailboxHeader;
use cyrus_format::index::{Index, IndexHeader, Tally, patch_header, write_index};
use cyrus_format::mboxlist::MailboxEntry;
use cyrus_format::{EncodeError, annotations::Note};
use model::crc::ThridText;
use model::{Modseq, Record, Timestamp, Uid, UidValidity, Userid};

use super::remains::is_plausible;
use crate::audit::{FIRST_WITH_ANNOTS, sum_of_notes, sum_style};

/// The first version whose servers write conversations in sixteen digits (3.13).
const FIRST_WITH_PADDED: u32 = 20;

/// How much further than its records a header that no sum vouches for may be, to be believed.
const FURTHER_MAX: u32 = 1 << 20;

/// The options that an operator sets (`imap/mailbox.h`, 3.6). The others, that a mailbox is to be removed above
/// all, are not believed without a sum.
const KNOWN_OPTIONS: u32 = 0x1f;

/// How many numbers are passed over where nobody knows which were given out.
const GAP: u32 = 1000;

/// A header for a mailbox that has none.
pub(super) struct Fresh<'f> {
    pub version: u32,
    pub entry: &'f MailboxEntry,
    /// What cyrus.cache says, if there is one.
    pub generation: u32,
    pub now: Timestamp,
}

impl Fresh<'_> {
    /// The header, without what the records tell.
    pub fn header(&self, records: &[Record], last_uid: Uid) -> Result<IndexHeader, EncodeError> {
        let now = u32::try_from(self.now.secs).unwrap_or(u32::MAX).max(1);
        let arrived = records.iter().map(|record| record.internaldate).max();
        let mut header = IndexHeader::fresh(self.version)?;
        header.generation = self.generation;
        header.uidvalidity =
            self.entry.uidvalidity.filter(|old| old.0 > 0).unwrap_or(UidValidity(now));
        // Messages that were expunged had numbers, too, and UIDVALIDITY stays.
        header.last_uid = Uid(last_uid.0.saturating_add(GAP));
        header.recentuid = last_uid;
        header.recenttime = self.now;
        header.last_appenddate = arrived.unwrap_or_default();
        header.last_repack_time = self.now;
        header.changes_epoch = self.now;
        header.createdmodseq = self.entry.createdmodseq.unwrap_or_default();
        // As mailboxes are made (`imap/mailbox.c`: mailbox_create).
        header.options = cyrus_format::index::MailboxOptions::POP3_NEW_UIDL;
        Ok(header)
    }
}

/// What can be true of a header that no sum vouches for.
pub(super) fn as_far_as_plausible(
    header: &mut IndexHeader,
    entry: &MailboxEntry,
    highest: (Uid, Modseq),
    now: Timestamp,
) {
    if let Some(listed) = entry.uidvalidity.filter(|listed| listed.0 > 0) {
        header.uidvalidity = listed;
    }
    let (uid, modseq) = highest;
    header.last_uid = plausible_last_uid(header, uid);
    header.options.0 &= KNOWN_OPTIONS;
    let most = modseq.0.saturating_add(FURTHER_MAX.into());
    if !(modseq.0..=most).contains(&header.highestmodseq.0) {
        header.highestmodseq = modseq;
    }
    header.deletedmodseq = header.deletedmodseq.min(header.highestmodseq);
    header.createdmodseq = header.createdmodseq.min(header.highestmodseq);
    header.recentuid = header.recentuid.min(header.last_uid);
    let times = [
        &mut header.last_appenddate,
        &mut header.pop3_last_login,
        &mut header.first_expunged,
        &mut header.last_repack_time,
        &mut header.recenttime,
        &mut header.pop3_show_after,
        &mut header.changes_epoch,
    ];
    for time in times {
        if !is_plausible(*time, now) {
            *time = Timestamp::default();
        }
    }
}

/// The last UID of a header that no sum vouches for, if it can be that.
pub(super) fn plausible_last_uid(header: &IndexHeader, highest: Uid) -> Uid {
    let most = highest.0.saturating_add(FURTHER_MAX);
    let is_plausible = (highest.0..=most).contains(&header.last_uid.0);
    if is_plausible { header.last_uid } else { highest }
}

/// Lets clients hear that there were records which are gone, once they ask what has changed.
pub(super) fn forget_before(header: &mut IndexHeader, modseq: Modseq, now: Timestamp) {
    header.deletedmodseq = header.deletedmodseq.max(modseq);
    header.highestmodseq = header.highestmodseq.max(modseq);
    header.changes_epoch = now;
}

/// The highest UID and modseq of these records.
pub(super) fn highest(records: &[Record]) -> (Uid, Modseq) {
    let uid = records.iter().map(|record| record.uid).max().unwrap_or_default();
    (uid, records.iter().map(|record| record.modseq).max().unwrap_or_default())
}

/// What annotations are summed up with.
pub(super) struct Notes<'n> {
    pub bytes: Option<&'n [u8]>,
    pub owner: Option<&'n Userid>,
    /// The index as it was, if it can be read and its header is whole.
    pub before: Option<&'n Index<'n>>,
}

/// Writes an index whose header says what its records come to.
///
/// # Errors
/// If a value has no room in that version.
pub(super) fn index(
    mut header: IndexHeader,
    records: &[Record],
    names: &MailboxHeader,
    notes: &Notes<'_>,
) -> Result<(IndexHeader, Vec<u8>), EncodeError> {
    let version = header.minor_version;
    let flags = names.flag_crcs();
    let stored = header.sync_crc_annot;
    let (start, thrid) = notes.style(&IndexHeader::fresh(version)?);
    let tally = Tally::of(records.iter().cloned(), version, &flags, thrid);
    tally.apply(&mut header, 0);
    let mut bytes = write_index(&header, records)?;
    if version < FIRST_WITH_ANNOTS {
        return Ok((reread(&bytes, header), bytes));
    }
    let sum = match (notes.bytes, Index::parse(&bytes)) {
        (Some(stored), Ok(written)) => sum_of_notes(&written, stored, notes.owner).ok(),
        _ => Some(0),
    };
    // Of annotations that cannot be read, what was said of them stays.
    header.sync_crc_annot = sum.map_or(stored, |sum| start ^ sum ^ tally.virtual_annots);
    patch_header(version, &mut bytes, |written| written.sync_crc_annot = header.sync_crc_annot)?;
    Ok((reread(&bytes, header), bytes))
}

/// The header as it is read.
fn reread(bytes: &[u8], written: IndexHeader) -> IndexHeader {
    Index::parse(bytes).map_or(written, |index| index.header().clone())
}

impl Notes<'_> {
    /// With what this server begins the sum, and how it writes conversations in it: as in the index that was
    /// there, or else as releases do that write such a version.
    fn style(&self, fresh: &IndexHeader) -> (u32, ThridText) {
        let is_padded = fresh.minor_version >= FIRST_WITH_PADDED;
        let text = if is_padded { ThridText::Padded } else { ThridText::Short };
        let known = self.before.and_then(|before| {
            let notes = self.bytes.map(|bytes| sum_of_notes(before, bytes, self.owner));
            sum_style(before, notes.and_then(Result::ok).unwrap_or(0))
        });
        known.unwrap_or((fresh.sync_crc_annot, text))
    }
}

/// The bytes that annotations take up.
pub(super) fn bytes_of_notes(bytes: Option<&[u8]>, owner: Option<&Userid>) -> u64 {
    let notes = bytes.and_then(|bytes| Note::of_messages(bytes, owner).ok()).unwrap_or_default();
    notes.values().flatten().map(|note| note.value.len() as u64).sum()
}
