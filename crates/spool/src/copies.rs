//! Where in a spool other messages of the same bytes may be.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use cyrus_format::index::{Index, RecordKey};
use cyrus_format::mboxlist::MailboxEntry;
use model::{Guid, MboxName, Uid};

use crate::catalog::Catalog;
use crate::error::Result;
use crate::files;
use crate::lock::Ledger;
use crate::mailbox::{INDEX, Notes};
use crate::placement::{self, Placement};
use crate::server::Server;

/// A record of a GUID that is looked for.
#[derive(Debug)]
pub struct Candidate {
    /// Its mailbox.
    pub mailbox: MboxName,
    /// What it says.
    pub record: RecordKey,
    /// The file of its message, whose bytes nobody has compared with the GUID yet.
    pub file: File,
}

impl Server {
    /// Tells of every record in the spool that has one of these GUIDs, and whose file can be opened.
    /// Reads every index that there is, without a lock: what is told is a place to look at.
    ///
    /// # Errors
    ///
    /// What keeps mailboxes.db from being read.
    pub fn find_guids(
        &self,
        wanted: &BTreeSet<Guid>,
        tell: &mut dyn FnMut(Candidate),
    ) -> Result<()> {
        let catalog = self.load_catalog(&mut Ledger::new(self.lock_timeout))?.value;
        for entry in catalog.list.entries.iter().filter(|entry| entry.mbtype.has_data()) {
            // A mailbox that cannot be read has no good copies to offer.
            let _ = self.find_in(entry, wanted, tell);
        }
        Ok(())
    }

    /// Opens the file of a message, without a lock: it may be gone.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::NotFound`] if there is no such mailbox or file; else what the system says.
    pub fn open_message(&self, mailbox: &MboxName, uid: Uid) -> io::Result<File> {
        let catalog = self.load_catalog(&mut Ledger::new(self.lock_timeout));
        let catalog = catalog.map_err(io::Error::other)?.value;
        self.place_of(&catalog, mailbox)?.open_message(uid, false)
    }

    /// The directories that mailboxes with data have, on data and archive partitions, as whole paths.
    ///
    /// # Errors
    ///
    /// What keeps mailboxes.db from being read.
    pub fn mailbox_dirs(&self) -> Result<BTreeSet<PathBuf>> {
        let catalog = self.load_catalog(&mut Ledger::new(self.lock_timeout))?.value;
        let mut dirs = BTreeSet::new();
        for entry in catalog.list.entries.iter().filter(|entry| entry.mbtype.has_data()) {
            let name = entry.partition.as_deref().unwrap_or_default();
            let Some(Ok(partition)) = self.partitions.get(name) else { continue };
            let Ok(dir) = placement::directory(entry, self.list_era, &self.rules) else { continue };
            for root in [Some(&partition.data), partition.archive.as_ref()].into_iter().flatten() {
                dirs.insert(root.mail_file(&dir).path());
            }
        }
        Ok(dirs)
    }

    /// Where the mailbox of that name is.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::NotFound`] if there is none, or if its partition is not there.
    pub(crate) fn place_of(&self, catalog: &Catalog, name: &MboxName) -> io::Result<Placement> {
        let entry = catalog.list.get(name).filter(|entry| entry.mbtype.has_data());
        let placed = self.placed(entry.ok_or(io::ErrorKind::NotFound)?)?;
        placed.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Where a mailbox is; `None` if its partition is not there.
    pub(crate) fn placed(&self, entry: &MailboxEntry) -> io::Result<Option<Placement>> {
        let name = entry.partition.as_deref().unwrap_or_default();
        let Some(Ok(partition)) = self.partitions.get(name) else { return Ok(None) };
        let dir = placement::directory(entry, self.list_era, &self.rules);
        let dir = dir.map_err(io::Error::other)?;
        let mut notes = Notes { mailbox: &entry.name, findings: &mut Vec::new() };
        let placed = Placement::open(Arc::clone(partition), dir, true, &mut notes);
        placed.map(Some).map_err(io::Error::other)
    }

    fn find_in(
        &self,
        entry: &MailboxEntry,
        wanted: &BTreeSet<Guid>,
        tell: &mut dyn FnMut(Candidate),
    ) -> io::Result<()> {
        let Some(place) = self.placed(entry)? else { return Ok(()) };
        let (partition, name) = (place.partition(), place.name_of(INDEX));
        let index = files::copy(partition.index.mail_file(&name), Vec::new())?.bytes;
        let index = Index::parse(&index).map_err(io::Error::other)?;
        let found = index.keys().filter(|key| wanted.contains(&key.guid));
        for record in found.filter(|record| !record.is_unlinked()) {
            if let Ok(file) = place.open_message(record.uid, record.is_archived()) {
                tell(Candidate { mailbox: entry.name.clone(), record, file });
            }
        }
        Ok(())
    }
}
