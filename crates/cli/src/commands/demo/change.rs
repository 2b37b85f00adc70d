//! What a Cyrus server would do meanwhile: deliver a message, set a flag.
//!
//! The demo's server does not run, so nobody else looks at these files.

use std::fs;
use std::path::{Path, PathBuf};

use cyrus_format::db;
use cyrus_format::header::MailboxHeader;
use cyrus_format::index::{Index, IndexHeader, Tally, write_index};
use cyrus_format::mboxlist::MboxList;
use cyrus_format::names::NameRules;
use model::crc::ThridText;
use model::{Guid, Modseq, Record, SystemFlags, Timestamp, Uid, Userid};
use sha1::{Digest, Sha1};

use crate::error::CliError;
use crate::when;

/// Where a folder of glad's lies below the server's directory.
pub fn mailbox_dir(server: &Path, folder: &str) -> Result<PathBuf, CliError> {
    let rules = NameRules::v3();
    let bytes =
        fs::read(server.join("conf/mailboxes.db")).map_err(|error| failed(folder, error))?;
    let db = db::read(&bytes).map_err(|error| failed(folder, error))?;
    let list =
        MboxList::parse(db.entries.iter().map(|(key, value)| (&key[..], &value[..])), &rules);
    let glad = Userid::from("glad");
    let name = folder.replacen("INBOX", "user.glad", 1);
    let found =
        list.of_account(&glad, &rules).find(|entry| entry.name.as_bytes() == name.as_bytes());
    let id = found.and_then(|entry| entry.uniqueid.clone());
    let id = id.ok_or_else(|| CliError::plain(format!("the demo's server has no {folder}")))?;
    let id = id.to_string();
    let mut letters = id.chars();
    let (first, second) = (letters.next().unwrap_or('0'), letters.next().unwrap_or('0'));
    let below_partition = format!("uuid/{first}/{second}/{id}");
    // As unpacked, or as restored: the latter has a directory for each partition.
    let plain = Path::new("spool").join(&below_partition);
    if server.join(&plain).is_dir() {
        return Ok(plain);
    }
    Ok(Path::new("spool/default").join(below_partition))
}

/// Appends a message to a folder; returns its UID.
pub fn deliver(server: &Path, folder: &str, message: &[u8]) -> Result<u32, CliError> {
    let dir = server.join(mailbox_dir(server, folder)?);
    let now = Timestamp::from_secs(when::now());
    let mut delivered = Uid(0);
    edit(&dir, folder, |header, records| {
        header.last_uid = Uid(header.last_uid.0 + 1);
        header.highestmodseq = Modseq(header.highestmodseq.0 + 1);
        header.last_appenddate = now;
        delivered = header.last_uid;
        let body = message.windows(4).position(|w| w == b"\r\n\r\n").map_or(0, |at| at + 4);
        records.push(Record {
            uid: header.last_uid,
            internaldate: now,
            sentdate: now,
            gmtime: now,
            last_updated: now,
            savedate: now,
            size: message.len() as u64,
            header_size: u32::try_from(body).unwrap_or_default(),
            guid: Guid(Sha1::digest(message).into()),
            modseq: header.highestmodseq,
            createdmodseq: header.highestmodseq,
            ..Record::default()
        });
    })?;
    fs::write(dir.join(format!("{delivered}.")), message).map_err(|error| failed(folder, error))?;
    Ok(delivered.0)
}

/// Flags a message.
pub fn flag(server: &Path, folder: &str, uid: u32) -> Result<(), CliError> {
    let dir = server.join(mailbox_dir(server, folder)?);
    edit(&dir, folder, |header, records| {
        header.highestmodseq = Modseq(header.highestmodseq.0 + 1);
        for record in records.iter_mut().filter(|record| record.uid == Uid(uid)) {
            record.system_flags.0 |= SystemFlags::FLAGGED.0;
            record.modseq = header.highestmodseq;
        }
    })
}

/// Rewrites a mailbox's index with all its sums.
fn edit(
    dir: &Path,
    folder: &str,
    change: impl FnOnce(&mut IndexHeader, &mut Vec<Record>),
) -> Result<(), CliError> {
    let path = dir.join("cyrus.index");
    let bytes = fs::read(&path).map_err(|error| failed(folder, error))?;
    let index = Index::parse(&bytes).map_err(|error| failed(folder, error))?;
    let header_file = fs::read(dir.join("cyrus.header")).map_err(|error| failed(folder, error))?;
    let flags = MailboxHeader::parse(&header_file).map_err(|error| failed(folder, error))?;
    let mut header = index.header().clone();
    let mut records: Vec<Record> = index.records().collect();
    let flags = flags.flag_crcs();
    let tally = |records: &[Record]| {
        Tally::of(records.iter().cloned(), header.minor_version, &flags, ThridText::default())
    };
    // What stays when the records' own share is taken away comes from cyrus.annotations.
    let annotations = header.sync_crc_annot ^ tally(&records).virtual_annots;
    let mut changed = header.clone();
    change(&mut changed, &mut records);
    tally(&records).apply(&mut changed, annotations);
    header = changed;
    let written = write_index(&header, &records).map_err(|error| failed(folder, error))?;
    fs::write(&path, written).map_err(|error| failed(folder, error))
}

fn failed(folder: &str, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> CliError {
    CliError::failed(format!("cannot change {folder} of the demo's server"), error)
}
