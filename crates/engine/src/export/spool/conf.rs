//! The configuration directory of an exported spool.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use cyrus_format::db::{flat, twoskip};
use cyrus_format::mboxlist::{DbRecord, MailboxEntry, MboxList, MboxListEra};
use cyrus_format::names::NameRules;
use cyrus_format::sieve::{self, SieveFile};
use model::MboxName;

use super::{Content, Spool, inbox_id};
use crate::export::ExportError;
use crate::source::{SourceAccount, SourceFile};

/// The token that stands for the mailbox's owner in annotations of 3.6 and later.
const OWNER: &[u8] = b"[.OwNeR.]";

type Records = Vec<DbRecord>;

/// The account's entries of mailboxes.db, as the snapshot has them.
pub(super) fn stored_list(account: &SourceAccount, rules: &NameRules) -> MboxList {
    let dump = account.files.iter().find(|file| file.name == "mailboxes");
    let records = dump.map(records_of).unwrap_or_default();
    MboxList::parse(records.iter().map(|(key, value)| (&key[..], &value[..])), rules)
}

/// The records of a dump.
fn records_of(dump: &SourceFile) -> Records {
    let Ok(read) = flat::read(&dump.bytes) else { return Records::new() };
    let entries = read.entries.into_iter();
    entries.map(|(key, value)| (key.into_owned(), value.into_owned())).collect()
}

/// Writes everything of the account that is not in its mailboxes.
pub(super) fn write(mut spool: Spool<'_>) -> Result<(), ExportError> {
    let account = spool.account;
    write_list(&mut spool)?;
    let mut sieve_active = None;
    for file in &account.files {
        match file.name.as_str() {
            "mailboxes" => {}
            "annotations" => write_annotations(&mut spool, file)?,
            "sieve.active" => sieve_active = Some(file),
            _ => {
                if let Some(path) = path_of(&spool, &file.name)? {
                    put(&mut spool, &path, file.mtime, &file.bytes)?;
                }
            }
        }
    }
    if let Some(active) = sieve_active {
        link_active_script(&mut spool, active)?;
    }
    if spool.content == Content::Metadata {
        return Ok(());
    }
    let text = imapd_conf(&spool);
    put(&mut spool, Path::new("imapd.conf"), account_time(&account.files), text.as_bytes())
}

fn write_list(spool: &mut Spool<'_>) -> Result<(), ExportError> {
    let mut records = Records::new();
    for entry in &spool.entries {
        match spool.era {
            MboxListEra::ById => {
                let both = entry.to_by_id(&spool.rules.names);
                records.extend(both.map_err(|error| layout(&entry.name.to_string(), error))?);
            }
            MboxListEra::Dlist => records.push(entry.to_dlist()),
            MboxListEra::Text => records.push(entry.to_text()),
        }
    }
    write_database(spool, Path::new("conf/mailboxes.db"), records)
}

/// Annotations of mailboxes stand under their names up to 3.4, under their ids since.
fn write_annotations(spool: &mut Spool<'_>, dump: &SourceFile) -> Result<(), ExportError> {
    let by_name: BTreeMap<&MboxName, &MailboxEntry> =
        spool.entries.iter().map(|entry| (&entry.name, entry)).collect();
    let by_id = spool.era == MboxListEra::ById;
    let userid = spool.account.userid.as_bytes();
    let mut records = Records::new();
    for (key, value) in records_of(dump) {
        let parts: Vec<&[u8]> = key.split(|byte| *byte == 0).collect();
        let new_id = match parts.as_slice() {
            [mailbox, ..] if by_id => {
                by_name.get(&MboxName::new(*mailbox)).and_then(|entry| entry.uniqueid.as_ref())
            }
            _ => None,
        };
        match (new_id, parts.as_slice()) {
            (Some(id), [_, entry, user]) => {
                let user = if *user == userid { OWNER } else { user };
                records.push(([id.as_bytes(), entry, user].join(&0), value));
            }
            _ => records.push((key, value)),
        }
    }
    write_database(spool, Path::new("conf/annotations.db"), records)
}

/// Writes a database in the format that the era's Cyrus expects by default; for 2.x, whose
/// default this program does not write, in the one that imapd.conf then names.
fn write_database(
    spool: &mut Spool<'_>,
    path: &Path,
    mut records: Records,
) -> Result<(), ExportError> {
    records.sort();
    records.dedup_by(|next, first| next.0 == first.0);
    let bytes = match spool.era {
        MboxListEra::Text => flat::write(&records),
        MboxListEra::Dlist | MboxListEra::ById => twoskip::write_fresh(&records),
    };
    let bytes = bytes.map_err(|error| layout(&path.display().to_string(), error))?;
    let mtime = spool.taken_at;
    put(spool, path, mtime, &bytes)
}

/// Where a file of the account belongs; `None` for one that only a later version knows.
fn path_of(spool: &Spool<'_>, name: &str) -> Result<Option<PathBuf>, ExportError> {
    let rules = &spool.rules;
    let userid = &spool.account.userid;
    let conf = Path::new("conf");
    let path = if let Some(root) = name.strip_prefix("quota/") {
        rules.quota_file(&MboxName::from(root)).map(|path| conf.join(path))
    } else if let Some(script) = name.strip_prefix("sieve/") {
        if !matches!(SieveFile::of(script.as_bytes()), SieveFile::Script(_)) {
            return Err(layout(name, "it is not named as a sieve script"));
        }
        return Ok(Some(sieve_dir(spool)?.join(script)));
    } else if let Some(domain) = name.strip_prefix("counters/") {
        rules.shared_file(Some(domain.as_bytes()), "counters").map(|path| conf.join(path))
    } else if matches!(name, "sub" | "seen" | "counters") {
        let path = match (by_id(spool), userid.user()) {
            (Some(id), _) => rules.user_file_by_id(&id, name),
            (None, Some(user)) => rules.user_file_by_name(user, name),
            (None, None) => rules.shared_file(None, name),
        };
        path.map(|path| conf.join(path))
    } else {
        return Ok(None);
    };
    Ok(Some(path.map_err(|error| layout(name, error))?))
}

fn by_id(spool: &Spool<'_>) -> Option<model::UniqueId> {
    inbox_id(spool).filter(|_| spool.era == MboxListEra::ById)
}

fn sieve_dir(spool: &Spool<'_>) -> Result<PathBuf, ExportError> {
    let dir = match by_id(spool) {
        Some(id) => spool.rules.sieve_dir_by_id(&id),
        None => spool.rules.sieve_dir_by_name(&spool.account.userid),
    };
    let dir = dir.map_err(|error| layout("the sieve scripts", error))?;
    Ok(Path::new("conf/sieve").join(dir))
}

fn link_active_script(spool: &mut Spool<'_>, active: &SourceFile) -> Result<(), ExportError> {
    let script = active.bytes.trim_ascii_end();
    let target = sieve::active_target(script).ok_or_else(|| {
        let shown = String::from_utf8_lossy(script);
        layout("the active sieve script", format!("\"{shown}\" is no script's name"))
    })?;
    let link = sieve_dir(spool)?.join(OsStr::from_bytes(sieve::ACTIVE_LINK));
    spool
        .tree
        .symlink(Path::new(OsStr::from_bytes(&target)), &link)
        .map_err(|source| ExportError::Write { what: link.display().to_string(), source })
}

fn imapd_conf(spool: &Spool<'_>) -> String {
    let root = spool.root.display();
    let mut text = format!(
        "# Made by cylinder: serves what was restored here.\n\
         configdirectory: {root}/conf\n\
         sievedir: {root}/conf/sieve\n\
         unixhierarchysep: yes\n\
         hashimapspool: no\n\
         fulldirhash: no\n"
    );
    let mut partitions: Vec<String> = spool
        .entries
        .iter()
        .map(|entry| entry.partition.as_deref().unwrap_or(b"default"))
        .map(|partition| String::from_utf8_lossy(partition).into_owned())
        .collect();
    partitions.sort();
    partitions.dedup();
    for partition in &partitions {
        text.push_str(&format!("partition-{partition}: {root}/spool/{partition}\n"));
    }
    if let Some(first) = partitions.first() {
        text.push_str(&format!("defaultpartition: {first}\n"));
    }
    if spool.rules.names.virtdomains {
        text.push_str("virtdomains: userid\n");
    }
    match spool.era {
        MboxListEra::Text => text.push_str("mboxlist_db: flat\nannotation_db: flat\n"),
        MboxListEra::Dlist | MboxListEra::ById => {}
    }
    if spool.era == MboxListEra::ById && spool.entries.iter().all(|e| e.mbtype.legacy_dirs) {
        text.push_str("mailbox_legacy_dirs: yes\n");
    }
    text
}

fn put(spool: &mut Spool<'_>, path: &Path, mtime: i64, bytes: &[u8]) -> Result<(), ExportError> {
    spool
        .tree
        .file(path, mtime, bytes)
        .map_err(|source| ExportError::Write { what: path.display().to_string(), source })
}

fn layout(what: &str, why: impl std::fmt::Display) -> ExportError {
    ExportError::Layout { what: what.to_owned(), why: why.to_string() }
}

fn account_time(files: &[SourceFile]) -> i64 {
    files.iter().map(|file| file.mtime).max().unwrap_or_default()
}
