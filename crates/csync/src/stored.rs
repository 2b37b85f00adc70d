//! What Cyrus stores, in the words of the protocol.

use cyrus_format::annotations::Note;
use cyrus_format::index::{IndexHeader, MailboxOptions};
use cyrus_format::mboxlist::MailboxEntry;
use model::{Modseq, Partition, SystemFlags, Userid};

use crate::mailbox::{Contents, Mailbox, Records};
use crate::record::{Annotation, Record, VIRTUAL};

/// The letters of OPTIONS (`imap/sync_support.c`, sync_encode_options).
pub const OPTIONS: [(u8, MailboxOptions); 4] = [
    (b'P', MailboxOptions::POP3_NEW_UIDL),
    (b'S', MailboxOptions::SHARED_SEEN),
    (b'D', MailboxOptions::DUPLICATE_DELIVER),
    (b'A', MailboxOptions::HAS_ALARMS),
];

/// The system flags that travel. All others are the business of the one who stores them.
pub const TOLD_FLAGS: u32 = SystemFlags::ANSWERED.0
    | SystemFlags::FLAGGED.0
    | SystemFlags::DELETED.0
    | SystemFlags::DRAFT.0
    | SystemFlags::SEEN.0
    | SystemFlags::EXPUNGED.0;

/// A mailbox without records, as far as its entry in mailboxes.db and its index tell of it: quota
/// root, annotations and the modseqs of databases are still to be filled in.
pub fn mailbox(entry: &MailboxEntry, index: &IndexHeader) -> Mailbox {
    let letters = OPTIONS.iter().filter(|(_, option)| index.options.contains(*option));
    let acl = entry.acl.iter().map(|(who, rights)| [who, &b"\t"[..], rights, b"\t"].concat());
    let contents = Contents {
        sync_crc: Some(index.sync_crc_basic),
        sync_crc_annot: Some(index.sync_crc_annot),
        last_uid: index.last_uid,
        recentuid: index.recentuid,
        recenttime: index.recenttime,
        last_appenddate: index.last_appenddate,
        pop3_last_login: index.pop3_last_login,
        pop3_show_after: Some(index.pop3_show_after),
        uidvalidity: index.uidvalidity,
        partition: entry.partition.clone().map(Partition::new),
        acl: acl.collect::<Vec<_>>().concat(),
        options: letters.map(|(letter, _)| *letter).collect(),
        records: Records::Omitted,
        ..Contents::default()
    };
    Mailbox {
        highestmodseq: index.highestmodseq,
        createdmodseq: Some(index.createdmodseq).filter(|modseq| modseq.0 != 0),
        contents: Some(contents),
        ..name(entry)
    }
}

/// What alone is told of a name without messages: a tombstone or a level between others.
pub fn name(entry: &MailboxEntry) -> Mailbox {
    let letters = entry.mbtype.to_string().into_bytes();
    Mailbox {
        uniqueid: entry.uniqueid.clone().unwrap_or_default(),
        mboxname: entry.name.clone(),
        // Plain mail has no letter.
        mboxtype: if letters == b"e" { Vec::new() } else { letters },
        highestmodseq: entry.foldermodseq.unwrap_or_default(),
        createdmodseq: entry.createdmodseq,
        foldermodseq: entry.foldermodseq,
        contents: None,
    }
}

/// A message. `flags` are the names of the mailbox's user flags, and `notes` those annotations that
/// are not part of the record.
pub fn record(record: &model::Record, flags: &[Option<Vec<u8>>], notes: &[Note]) -> Record {
    let mut annotations: Vec<Annotation> = notes.iter().map(annotation).collect();
    annotations.extend(virtual_annotations(record));
    let user_flags = record.user_flags.iter();
    Record {
        uid: record.uid,
        modseq: record.modseq,
        last_updated: record.last_updated,
        system_flags: SystemFlags(record.system_flags.0 & TOLD_FLAGS),
        user_flags: user_flags.filter_map(|slot| flags.get(slot).cloned().flatten()).collect(),
        internaldate: record.internaldate,
        size: u32::try_from(record.size).unwrap_or(u32::MAX),
        guid: record.guid,
        annotations,
    }
}

/// An annotation of a message or of a mailbox.
pub fn annotation(note: &Note) -> Annotation {
    let Note { entry, userid, value, modseq } = note.clone();
    Annotation { entry, userid, modseq, value }
}

/// The annotations that are part of the record, those that say something.
fn virtual_annotations(record: &model::Record) -> impl Iterator<Item = Annotation> + use<> {
    let savedate = record.savedate.secs.unsigned_abs();
    let nanos = u64::from(record.internaldate.nanos);
    let told = [
        ("thrid", record.cid, format!("{:016x}", record.cid)),
        ("savedate", savedate, savedate.to_string()),
        ("createdmodseq", record.createdmodseq.0, record.createdmodseq.to_string()),
        ("basethrid", record.basecid, format!("{:016x}", record.basecid)),
        ("internaldate.nsec", nanos, nanos.to_string()),
    ];
    let told = told.into_iter().filter(|(_, number, _)| *number != 0);
    told.map(|(name, _, text)| Annotation {
        entry: [VIRTUAL, name.as_bytes()].concat(),
        userid: Userid::default(),
        modseq: Modseq(0),
        value: text.into_bytes(),
    })
}
