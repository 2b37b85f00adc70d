//! Copying a mailbox's metadata under its locks.

use std::path::PathBuf;

use model::FindingKind;

use crate::era::Era;
use crate::error::Result;
use crate::files::{self, Place};
use crate::lock::{Held, Ledger, LockKind, OrNone, Wanted};
use crate::mailbox::{FrozenMailbox, INDEX, Notes, index_version};
use crate::prepare::Room;
use crate::roots::Partition;

const HEADER: &str = "cyrus.header";
const EXPUNGE: &str = "cyrus.expunge";
const ANNOTATIONS: &str = "cyrus.annotations";

/// An index of a lower version may have a cyrus.expunge beside it.
const FIRST_WITHOUT_EXPUNGE: u32 = 12;

/// Something about each metadata file of a mailbox.
pub(crate) struct Files<T> {
    pub header: T,
    pub index: T,
    pub expunge: T,
    pub annotations: T,
}

impl Files<PathBuf> {
    /// Their paths, made from their names.
    pub fn named(path: impl Fn(&str) -> PathBuf) -> Self {
        Self {
            header: path(HEADER),
            index: path(INDEX),
            expunge: path(EXPUNGE),
            annotations: path(ANNOTATIONS),
        }
    }

    /// Each below its root.
    pub fn placed<'a>(&'a self, partition: &'a Partition) -> Files<Place<'a>> {
        Files {
            header: partition.header.mail_file(&self.header),
            index: partition.index.mail_file(&self.index),
            expunge: partition.expunge.mail_file(&self.expunge),
            annotations: partition.annotations.mail_file(&self.annotations),
        }
    }
}

/// Fills in the files of a mailbox. Returns when its index was last changed, nanoseconds since
/// 1970.
pub(crate) fn metadata(
    mailbox: &mut FrozenMailbox,
    era: &Era,
    room: Room,
    ledger: &mut Ledger,
) -> Result<Option<i128>> {
    let place = mailbox.place.as_ref().filter(|place| place.may_have_metadata());
    let Some(place) = place else { return Ok(None) };
    let names = Files::named(|file| place.name_of(file));
    let partition = place.partition();
    if era.has_record_locks_only() {
        under_record_locks(mailbox, &names.placed(&partition), room, ledger)
    } else {
        under_index_lock(mailbox, &names.placed(&partition), room, ledger)
    }
}

/// Whether there may be a cyrus.expunge beside an index.
pub(crate) fn may_have_expunge(index: &[u8]) -> bool {
    index_version(index).is_some_and(|version| version < FIRST_WITHOUT_EXPUNGE)
}

/// 2.4 and later: the lock on the index covers the other files too.
fn under_index_lock(
    mailbox: &mut FrozenMailbox,
    places: &Files<Place<'_>>,
    room: Room,
    ledger: &mut Ledger,
) -> Result<Option<i128>> {
    let mut notes = Notes { mailbox: &mailbox.entry.name, findings: &mut mailbox.findings };
    let locked = lock_and_copy(places.index, LockKind::Index, room.index, &notes, ledger);
    let locked = notes.required(FindingKind::IndexUnreadable, INDEX, locked)?;
    let header = copy(places.header, room.header);
    mailbox.header = notes.required(FindingKind::HeaderUnreadable, HEADER, header)?;
    let annotations = copy(places.annotations, Vec::new());
    mailbox.annotations = notes.optional(FindingKind::MetadataUnreadable, annotations)?;
    let Some((bytes, changed, held)) = locked else { return Ok(None) };
    if may_have_expunge(&bytes) {
        let expunge = copy(places.expunge, Vec::new());
        mailbox.expunge = notes.optional(FindingKind::MetadataUnreadable, expunge)?;
    }
    drop(held);
    mailbox.index = Some(bytes);
    Ok(Some(changed))
}

/// 2.3: a lock on each file, in the order in which an expunge takes them, all of them kept.
fn under_record_locks(
    mailbox: &mut FrozenMailbox,
    places: &Files<Place<'_>>,
    room: Room,
    ledger: &mut Ledger,
) -> Result<Option<i128>> {
    let mut notes = Notes { mailbox: &mailbox.entry.name, findings: &mut mailbox.findings };
    let mut keep = |(bytes, changed, held): (Vec<u8>, i128, Held)| {
        mailbox.locks.push(held);
        (bytes, changed)
    };
    let header = lock_and_copy(places.header, LockKind::Header, room.header, &notes, ledger);
    let header = notes.required(FindingKind::HeaderUnreadable, HEADER, header)?;
    mailbox.header = header.map(|copied| keep(copied).0);

    let index = lock_and_copy(places.index, LockKind::Index, room.index, &notes, ledger);
    let index = notes.required(FindingKind::IndexUnreadable, INDEX, index)?.map(&mut keep);
    let changed = index.as_ref().map(|(_, changed)| *changed);
    mailbox.index = index.map(|(bytes, _)| bytes);

    let expunge = lock_and_copy(places.expunge, LockKind::Expunge, Vec::new(), &notes, ledger);
    let expunge = notes.optional(FindingKind::MetadataUnreadable, expunge)?;
    mailbox.expunge = expunge.map(|copied| keep(copied).0);
    Ok(changed)
}

/// The file's bytes, when it was modified, and its lock.
fn lock_and_copy(
    place: Place<'_>,
    kind: LockKind,
    mut room: Vec<u8>,
    notes: &Notes<'_>,
    ledger: &mut Ledger,
) -> Result<Option<(Vec<u8>, i128, Held)>> {
    let wanted = Wanted { kind, mailbox: Some(notes.mailbox) };
    let locked = ledger.lock_data_file(place, wanted, |file| match std::mem::take(&mut room) {
        unprepared if unprepared.capacity() == 0 => files::room_for(file),
        prepared => Ok(prepared),
    })?;
    let Some(locked) = locked else { return Ok(None) };
    let changed = files::mtime(&locked.stat);
    let (bytes, held) = locked.read(place)?;
    Ok(Some((bytes, changed, held)))
}

/// A file that another one's lock covers.
fn copy(place: Place<'_>, room: Vec<u8>) -> Result<Option<Vec<u8>>> {
    let copied = files::copy(place, room).or_none().map_err(|error| place.error("read", error))?;
    Ok(copied.map(|copied| copied.bytes))
}
