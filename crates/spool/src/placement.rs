//! Where a mailbox's directory is, and what its lock is called.

use std::path::PathBuf;

use cyrus_format::locks::{LockEra, LockedMailbox};
use cyrus_format::mboxlist::{MailboxEntry, MboxListEra};
use cyrus_format::names::NameError;
use cyrus_format::paths::PathRules;
use model::UniqueId;

/// The mailbox's directory below each root of its partition.
pub(crate) fn directory(
    entry: &MailboxEntry,
    list: MboxListEra,
    rules: &PathRules,
) -> Result<PathBuf, NameError> {
    if is_by_name(entry, list) {
        return rules.mailbox_dir_by_name(&entry.name);
    }
    rules.mailbox_dir_by_id(entry.uniqueid.as_ref().unwrap_or(&UniqueId::default()))
}

/// The lock files of the mailbox, one for each way in which the releases in question name it.
pub(crate) fn name_locks(
    entry: &MailboxEntry,
    list: MboxListEra,
    eras: &[LockEra],
    rules: &PathRules,
) -> Result<Vec<PathBuf>, NameError> {
    let mailbox = LockedMailbox {
        name: &entry.name,
        uniqueid: entry.uniqueid.as_ref(),
        by_name: is_by_name(entry, list),
    };
    let mut files = Vec::new();
    for name in eras.iter().filter_map(|era| era.mailbox_lock(&mailbox)) {
        let file = rules.lock_file(&name)?;
        if !files.contains(&file) {
            files.push(file);
        }
    }
    Ok(files)
}

/// Whether its directory has its name: always up to 3.4; since 3.6 if it is of type `l`.
fn is_by_name(entry: &MailboxEntry, list: MboxListEra) -> bool {
    list != MboxListEra::ById || entry.mbtype.legacy_dirs
}
