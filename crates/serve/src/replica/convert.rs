//! Between the words of the protocol and those of the spool.

use csync::mailbox::{Contents as Told, Mailbox, Records};
use csync::record::{Annotation, Record as ToldRecord};
use csync::untagged::Untagged;
use cyrus_format::header::MailboxHeader;
use cyrus_format::index::MailboxOptions;
use cyrus_format::mboxlist::MailboxEntry;
use model::crc::is_virtual;
use model::{MboxName, Modseq, Partition, Record, SystemFlags, UserFlags, Userid};
use spool::replica::{Contents, INDEX_VERSION, Note, Summary};

/// In front of annotations that are part of the record.
const VIRTUAL: &str = "/vendor/cmu/cyrus-imapd/";

/// The letters of OPTIONS (`imap/sync_support.c`, sync_encode_options).
const OPTIONS: [(u8, MailboxOptions); 4] = [
    (b'P', MailboxOptions::POP3_NEW_UIDL),
    (b'S', MailboxOptions::SHARED_SEEN),
    (b'D', MailboxOptions::DUPLICATE_DELIVER),
    (b'A', MailboxOptions::HAS_ALARMS),
];

/// The flags that masters tell.
const TOLD: u32 = SystemFlags::ANSWERED.0
    | SystemFlags::FLAGGED.0
    | SystemFlags::DELETED.0
    | SystemFlags::DRAFT.0
    | SystemFlags::SEEN.0
    | SystemFlags::EXPUNGED.0;

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

fn acl_text(pairs: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let parts = pairs.iter().map(|(who, rights)| [who, &b"\t"[..], rights, b"\t"].concat());
    parts.collect::<Vec<_>>().concat()
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

fn annotation(note: &Note) -> Annotation {
    let Note { entry, userid, value, modseq } = note.clone();
    Annotation { entry, userid, modseq, value }
}

/// Takes over what a master says of a message. `false` if there are too many flags.
#[must_use]
pub fn update_record(record: &mut Record, told: &ToldRecord, header: &mut MailboxHeader) -> bool {
    record.modseq = told.modseq;
    record.last_updated = told.last_updated;
    record.internaldate = told.internaldate;
    record.system_flags.0 = record.system_flags.0 & !TOLD | told.system_flags.0 & TOLD;
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
    let names = &contents.header.user_flags;
    let stored = contents.notes.get(&record.uid).into_iter().flatten();
    let mut annotations: Vec<Annotation> = stored.map(annotation).collect();
    let numbers = [
        ("thrid", record.cid, format!("{:016x}", record.cid)),
        ("savedate", record.savedate.secs.unsigned_abs(), record.savedate.secs.to_string()),
        ("createdmodseq", record.createdmodseq.0, record.createdmodseq.to_string()),
    ];
    for (name, _, text) in numbers.into_iter().filter(|(_, number, _)| *number != 0) {
        annotations.push(Annotation {
            entry: format!("{VIRTUAL}{name}").into_bytes(),
            userid: Userid::default(),
            modseq: Modseq(0),
            value: text.into_bytes(),
        });
    }
    ToldRecord {
        uid: record.uid,
        modseq: record.modseq,
        last_updated: record.last_updated,
        system_flags: SystemFlags(record.system_flags.0 & TOLD),
        user_flags: record
            .user_flags
            .iter()
            .filter_map(|slot| names.get(slot).cloned().flatten())
            .collect(),
        internaldate: record.internaldate,
        size: u32::try_from(record.size).unwrap_or(u32::MAX),
        guid: record.guid,
        annotations,
    }
}

/// A mailbox as it is told, without its messages.
pub fn told_mailbox(
    entry: &MailboxEntry,
    summary: &Summary,
    quotaroot: Option<&MboxName>,
) -> Mailbox {
    let Summary { index, extra } = summary;
    let letters = OPTIONS.iter().filter(|(_, option)| index.options.contains(*option));
    let contents = Told {
        sync_crc: Some(index.sync_crc_basic),
        sync_crc_annot: Some(index.sync_crc_annot),
        last_uid: index.last_uid,
        recentuid: index.recentuid,
        recenttime: index.recenttime,
        last_appenddate: index.last_appenddate,
        pop3_last_login: index.pop3_last_login,
        pop3_show_after: Some(index.pop3_show_after),
        xconvmodseq: extra.xconvmodseq,
        raclmodseq: extra.raclmodseq,
        uidvalidity: index.uidvalidity,
        partition: entry.partition.clone().map(Partition::new),
        acl: acl_text(&entry.acl),
        options: letters.map(|(letter, _)| *letter).collect(),
        quotaroot: quotaroot.cloned(),
        annotations: extra.notes.iter().map(annotation).collect(),
        since: None,
        records: Records::Omitted,
    };
    Mailbox {
        uniqueid: entry.uniqueid.clone().unwrap_or_default(),
        mboxname: entry.name.clone(),
        mboxtype: letters_of(entry),
        highestmodseq: index.highestmodseq,
        createdmodseq: Some(index.createdmodseq).filter(|modseq| modseq.0 != 0),
        foldermodseq: Some(extra.foldermodseq),
        contents: Some(contents),
    }
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
        uniqueid: entry.uniqueid.clone().unwrap_or_default(),
        mboxname: entry.name.clone(),
        mboxtype: letters_of(entry),
        highestmodseq: Modseq(0),
        createdmodseq: Some(entry.createdmodseq.unwrap_or_default()),
        foldermodseq: Some(entry.foldermodseq.unwrap_or_default()),
        contents: Some(contents),
    }))
}

/// MBOXTYPE: nothing for plain mail.
fn letters_of(entry: &MailboxEntry) -> Vec<u8> {
    let letters = entry.mbtype.to_string().into_bytes();
    if letters == b"e" { Vec::new() } else { letters }
}
