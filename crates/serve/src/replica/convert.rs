//! Between the words of the protocol and those of the spool.

use csync::mailbox::{Contents as Told, Mailbox, Records};
use csync::record::{Annotation, Record as ToldRecord};
use csync::stored::{self, OPTIONS, TOLD_FLAGS};
use csync::untagged::Untagged;
use cyrus_format::header::MailboxHeader;
use cyrus_format::index::MailboxOptions;
use cyrus_format::mboxlist::MailboxEntry;
use model::crc::is_virtual;
use model::{MboxName, Modseq, Record, SystemFlags, UserFlags};
use spool::replica::{Contents, INDEX_VERSION, Note, Summary};

/// Letters as bits; those that are not told stay as they are.
pub fn options(letters: &[u8], old: MailboxOptions) -> MailboxOptions {
    OPTIONS.iter().fold(old, |bits, (letter, option)| match letters.contains(letter) {
        true => MailboxOptions(bits.0 | option.0),
        false => MailboxOptions(bits.0 & !option.0),
    })
}

/// `id TAB rights TAB ...` as pairs.
pub fn acl(text: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let text = text.strip_suffix(b"\t").unwrap_or(text);
    if text.is_empty() {
        return Vec::new();
    }
    let mut parts = text.split(|byte| *byte == b'\t').map(<[u8]>::to_vec);
    let mut pairs = Vec::new();
    while let Some(who) = parts.next() {
        pairs.push((who, parts.next().unwrap_or_default()));
    }
    pairs
}

/// Annotations as they are stored: without those that are part of the record, and without those
/// that say nothing.
pub fn notes(annotations: Vec<Annotation>) -> Vec<Note> {
    let real = annotations
        .into_iter()
        .filter(|note| !is_virtual(&note.entry, INDEX_VERSION) && !note.value.is_empty());
    let mut notes: Vec<Note> = real
        .map(|Annotation { entry, userid, modseq, value }| Note { entry, userid, value, modseq })
        .collect();
    notes.sort();
    notes
}

/// What JMAP notes of a message that is to come back later.
const SNOOZED: &[u8] = b"/vendor/cmu/cyrus-imapd/snoozed";

/// Says in the record, too, whether a message sleeps. Masters tell the note alone; Cyrus 3.6 looks at the
/// record when it is time.
pub fn repeat_snoozed(record: &mut Record, notes: &[Note]) {
    let snoozed = SystemFlags::SNOOZED.0;
    let sleeps = notes.iter().any(|note| note.entry == SNOOZED && note.userid.is_empty());
    record.system_flags.0 = record.system_flags.0 & !snoozed | if sleeps { snoozed } else { 0 };
}

/// Takes over what a master says of a message. `false` if there are too many flags.
#[must_use]
pub fn update_record(record: &mut Record, told: &ToldRecord, header: &mut MailboxHeader) -> bool {
    record.modseq = told.modseq;
    record.last_updated = told.last_updated;
    record.internaldate = told.internaldate;
    record.system_flags.0 = record.system_flags.0 & !TOLD_FLAGS | told.system_flags.0 & TOLD_FLAGS;
    record.user_flags = UserFlags::default();
    for flag in &told.user_flags {
        match slot(header, flag) {
            Some(slot) => record.user_flags.insert(slot),
            None => return false,
        }
    }
    record.cid = told.thrid();
    record.savedate = told.savedate().unwrap_or_default();
    record.createdmodseq = told.createdmodseq();
    true
}

/// The number of a user flag, which it gets if it has none; `None` if all are taken.
fn slot(header: &mut MailboxHeader, flag: &[u8]) -> Option<usize> {
    let is_it =
        |name: &Option<Vec<u8>>| name.as_ref().is_some_and(|name| name.eq_ignore_ascii_case(flag));
    if let Some(slot) = header.user_flags.iter().position(is_it) {
        return Some(slot);
    }
    let free = header.user_flags.iter().position(Option::is_none);
    let slot = free.unwrap_or(header.user_flags.len());
    if slot >= UserFlags::MAX {
        return None;
    }
    if slot == header.user_flags.len() {
        header.user_flags.push(None);
    }
    header.user_flags[slot] = Some(flag.to_vec());
    Some(slot)
}

/// A message as it is told.
pub fn told_record(record: &Record, contents: &Contents) -> ToldRecord {
    let notes = contents.notes.get(&record.uid).map(Vec::as_slice).unwrap_or_default();
    stored::record(record, &contents.header.user_flags, notes)
}

/// A mailbox as it is told, without its messages.
pub fn told_mailbox(
    entry: &MailboxEntry,
    summary: &Summary,
    quotaroot: Option<&MboxName>,
) -> Mailbox {
    let Summary { index, extra } = summary;
    let mut mailbox = stored::mailbox(entry, index);
    mailbox.foldermodseq = Some(extra.foldermodseq);
    if let Some(told) = &mut mailbox.contents {
        told.xconvmodseq = extra.xconvmodseq;
        told.raclmodseq = extra.raclmodseq;
        told.quotaroot = quotaroot.cloned();
        told.annotations = extra.notes.iter().map(stored::annotation).collect();
    }
    mailbox
}

/// A name without messages as it is told: Cyrus fills in zeros.
pub fn told_name(entry: &MailboxEntry) -> Untagged {
    let contents = Told {
        sync_crc: Some(0),
        pop3_show_after: Some(model::Timestamp::default()),
        uidvalidity: entry.uidvalidity.unwrap_or_default(),
        records: Records::Omitted,
        ..Told::default()
    };
    Untagged::Mailbox(Box::new(Mailbox {
        highestmodseq: Modseq(0),
        createdmodseq: Some(entry.createdmodseq.unwrap_or_default()),
        foldermodseq: Some(entry.foldermodseq.unwrap_or_default()),
        contents: Some(contents),
        ..stored::name(entry)
    }))
}
