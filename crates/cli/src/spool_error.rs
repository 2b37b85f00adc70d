//! Errors of a live spool, with what to try.

use std::io;

use spool::SpoolError;

use crate::error::{CliError, Exit};

/// Attaches the hint that fits.
pub fn explain(error: SpoolError) -> CliError {
    let exit = match &error {
        SpoolError::LockTimeout { .. }
        | SpoolError::KeepsBeingReplaced { .. }
        | SpoolError::KeepsChanging { .. }
        | SpoolError::LogTakenAway { .. } => Exit::TryAgain,
        _ => Exit::Failed,
    };
    let hint = hint(&error);
    let explained = CliError::failed("cannot read the server", error).exit(exit);
    match hint {
        Some(hint) => explained.hint(hint),
        None => explained,
    }
}

fn hint(error: &SpoolError) -> Option<String> {
    Some(match error {
        SpoolError::LockTimeout { mailbox, .. } => match mailbox {
            Some(mailbox) => {
                format!("{mailbox} is busy; try again, or wait longer with --lock-wait")
            }
            None => "the account is busy; try again, or wait longer with --lock-wait".to_owned(),
        },
        SpoolError::KeepsBeingReplaced { .. } | SpoolError::KeepsChanging { .. } => {
            "try again when the server is less busy".to_owned()
        }
        SpoolError::NoSuchAccount { userid, .. } if userid.is_shared() => {
            "every mailbox of this server is some user's".to_owned()
        }
        SpoolError::NoSuchAccount { near, .. } => match near.as_slice() {
            [] => "accounts are those that have an INBOX in mailboxes.db".to_owned(),
            near => {
                let near: Vec<String> = near.iter().map(ToString::to_string).collect();
                format!("did you mean {}?", near.join(" or "))
            }
        },
        SpoolError::LogTakenAway { .. } => {
            "a sync_client that follows the same channel has to be stopped".to_owned()
        }
        SpoolError::NoUserLock { .. } => {
            "an account is named as its user logs in, without slashes".to_owned()
        }
        SpoolError::UnknownUser { .. } => {
            "cyrus_user in imapd.conf names the user that Cyrus runs as".to_owned()
        }
        SpoolError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
            "check the path; -C names the server's imapd.conf".to_owned()
        }
        SpoolError::Credentials { .. } | SpoolError::Io { .. } => {
            "run it as root or as the user that Cyrus runs as".to_owned()
        }
        SpoolError::Conf { .. } => "-C names the server's imapd.conf".to_owned(),
        SpoolError::UnknownRelease { .. } => {
            "--cyrus-version takes a release like 2.4 or 3.6".to_owned()
        }
        SpoolError::NoMailboxList { .. } => {
            "check configdirectory and mboxlist_db_path in imapd.conf".to_owned()
        }
        SpoolError::NoPartition { .. } => {
            "check the partition- options in imapd.conf, and whether it is mounted".to_owned()
        }
        SpoolError::Database { .. } => "check the file with cyr_dbtool".to_owned(),
    })
}
