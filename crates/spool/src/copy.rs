//! Copying a mailbox's metadata under its locks.

use model::FindingKind;

use crate::era::Era;
use crate::error::Result;
use crate::files::{self, Place};
use crate::lock::{Held, Ledger, LockKind, OrNone, Wanted};
use crate::mailbox::{ANNOTATIONS, EXPUNGE, FrozenMailbox, HEADER, INDEX, Notes, index_version};

/// An index of a lower version may have a cyrus.expunge beside it.
const FIRST_WITHOUT_EXPUNGE: u32 = 12;

/// Fills in the files of a mailbox. Returns when its index was last changed, nanoseconds since
/// 1970.
pub(crate) fn metadata(
    mailbox: &mut FrozenMailbox,
    era: &Era,
    ledger: &mut Ledger,
) -> Result<Option<i128>> {
    if mailbox.place.as_ref().is_none_or(|place| !place.may_have_metadata()) {
        return Ok(None);
    }
    if era.has_record_locks_only() {
        under_record_locks(mailbox, ledger)
    } else {
        under_index_lock(mailbox, ledger)
    }
}

/// 2.4 and later: the lock on the index covers the other files too.
fn under_index_lock(mailbox: &mut FrozenMailbox, ledger: &mut Ledger) -> Result<Option<i128>> {
    let Some(place) = &mailbox.place else { return Ok(None) };
    let mut notes = Notes { mailbox: &mailbox.entry.name, findings: &mut mailbox.findings };
    // Everything that can be prepared is, before the lock.
    let [header, index, expunge, annotations] =
        [HEADER, INDEX, EXPUNGE, ANNOTATIONS].map(|file| place.name_of(file));
    let header = place.partition.header.mail_file(&header);
    let index = place.partition.index.mail_file(&index);
    let expunge = place.partition.expunge.mail_file(&expunge);
    let annotations = place.partition.annotations.mail_file(&annotations);

    let locked = lock_and_copy(index, LockKind::Index, &notes, ledger);
    let locked = notes.required(FindingKind::IndexUnreadable, INDEX, locked)?;
    mailbox.header = notes.required(FindingKind::HeaderUnreadable, HEADER, copy(header))?;
    mailbox.annotations = notes.optional(FindingKind::MetadataUnreadable, copy(annotations))?;
    let Some((bytes, changed, held)) = locked else { return Ok(None) };
    if index_version(&bytes).is_some_and(|version| version < FIRST_WITHOUT_EXPUNGE) {
        mailbox.expunge = notes.optional(FindingKind::MetadataUnreadable, copy(expunge))?;
    }
    ledger.release(held);
    mailbox.index = Some(bytes);
    Ok(Some(changed))
}

/// 2.3: a lock on each file, in the order of `mailbox_lock_header` and so on, all of them kept.
fn under_record_locks(mailbox: &mut FrozenMailbox, ledger: &mut Ledger) -> Result<Option<i128>> {
    let Some(place) = &mailbox.place else { return Ok(None) };
    let mut notes = Notes { mailbox: &mailbox.entry.name, findings: &mut mailbox.findings };
    let mut keep = |(bytes, changed, held): (Vec<u8>, i128, Held)| {
        mailbox.locks.push(held);
        (bytes, changed)
    };

    let name = place.name_of(HEADER);
    let header =
        lock_and_copy(place.partition.header.mail_file(&name), LockKind::Header, &notes, ledger);
    let header = notes.required(FindingKind::HeaderUnreadable, HEADER, header)?;
    mailbox.header = header.map(|copied| keep(copied).0);

    let name = place.name_of(INDEX);
    let index =
        lock_and_copy(place.partition.index.mail_file(&name), LockKind::Index, &notes, ledger);
    let index = notes.required(FindingKind::IndexUnreadable, INDEX, index)?.map(&mut keep);
    let changed = index.as_ref().map(|(_, changed)| *changed);
    mailbox.index = index.map(|(bytes, _)| bytes);

    let name = place.name_of(EXPUNGE);
    let expunge =
        lock_and_copy(place.partition.expunge.mail_file(&name), LockKind::Expunge, &notes, ledger);
    let expunge = notes.optional(FindingKind::MetadataUnreadable, expunge)?;
    mailbox.expunge = expunge.map(|copied| keep(copied).0);
    Ok(changed)
}

/// The file's bytes, when it was modified, and its lock.
fn lock_and_copy(
    place: Place<'_>,
    kind: LockKind,
    notes: &Notes<'_>,
    ledger: &mut Ledger,
) -> Result<Option<(Vec<u8>, i128, Held)>> {
    let wanted = Wanted { kind, mailbox: Some(notes.mailbox) };
    let Some(locked) = ledger.lock_data_file(place, wanted)? else { return Ok(None) };
    let changed = files::mtime(&locked.stat);
    let (bytes, held) = locked.read(place)?;
    Ok(Some((bytes, changed, held)))
}

/// A file that another one's lock covers.
fn copy(place: Place<'_>) -> Result<Option<Vec<u8>>> {
    let copied = files::copy(place).or_none().map_err(|error| place.error("read", error))?;
    Ok(copied.map(|copied| copied.bytes))
}
