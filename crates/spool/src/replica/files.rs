//! The files of mailboxes. Whoever has claimed an account reads them without holding the list.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use cyrus_format::mboxlist::MailboxEntry;
use model::{Guid, Uid};

use super::contents::{Contents, Summary};
use super::disk::Disk;
use super::error::{ReplicaError, Result};
use super::list::{self, dir_of};
use super::message::{self, Message};
use super::records::Told;

/// What lies on the disk of a replica.
#[derive(Clone, Debug)]
pub struct Files {
    pub(super) disk: Arc<Disk>,
    pub(super) told: Arc<Told>,
}

impl Files {
    pub(super) fn of(disk: Disk) -> Self {
        Self { disk: Arc::new(disk), told: Arc::default() }
    }

    /// A mailbox, but for its records.
    ///
    /// # Errors
    /// [`ReplicaError::NoSuchMailbox`] if it has none, and whatever its files are wrong with.
    pub fn contents(&self, entry: &MailboxEntry) -> Result<Contents> {
        let owner = list::owner(&entry.name);
        Contents::load(&self.disk, &dir_of(entry)?, owner.as_ref())?
            .ok_or_else(|| ReplicaError::NoSuchMailbox(entry.name.clone()))
    }

    /// The counters of a mailbox.
    ///
    /// # Errors
    /// As for [`Files::contents`].
    pub fn summary(&self, entry: &MailboxEntry) -> Result<Summary> {
        Summary::load(&self.disk, &dir_of(entry)?)?
            .ok_or_else(|| ReplicaError::NoSuchMailbox(entry.name.clone()))
    }

    /// A message of a mailbox and its open file. `None` if the file is not there; without a message
    /// if its bytes are not those of the GUID.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn message(
        &self,
        entry: &MailboxEntry,
        uid: Uid,
        guid: Guid,
    ) -> Result<Option<(File, Option<Message>)>> {
        let path: PathBuf = dir_of(entry)?.join(format!("{uid}."));
        let Some(file) = self.disk.open_file(&path)? else { return Ok(None) };
        let message = message::check(&file, guid, &path)?;
        Ok(Some((file, message)))
    }
}
