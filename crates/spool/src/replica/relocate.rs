//! Moving a mailbox to another partition, which may be a file system of its own.

use std::path::Path;

use cyrus_format::mboxlist::MailboxEntry;
use model::Partition;

use super::batch::{Batch, NewMessage, Step};
use super::contents::{ANNOTATIONS, HEADER, INDEX, STATE};
use super::disk::{Disk, io_error, parent};
use super::error::{ReplicaError, Result};
use super::{State, list, mailbox_dir, message};

impl State {
    /// Moves the files of a mailbox. Whoever calls this keeps readers away from it.
    pub(super) fn move_to(
        &mut self,
        entry: &mut MailboxEntry,
        partition: &Partition,
    ) -> Result<()> {
        let id = entry.uniqueid.clone().unwrap_or_default();
        let (from, to) = (list::dir_of(entry)?, mailbox_dir(partition, &id)?);
        self.add_partition(partition)?;
        let disk = &self.files.disk;
        disk.make_durable_dir(parent(&to))?;
        let mut batch = Batch::new(disk);
        if disk.are_together(&from, parent(&to))? {
            batch.then(Step::Rename { from, to });
        } else {
            self.copy(entry, &from, &to, &mut batch)?;
            batch.then(Step::RemoveTree(from));
        }
        batch.commit()?;
        entry.partition = Some(partition.as_bytes().to_vec());
        self.list.insert(entry.clone());
        self.unwritten += 1;
        Ok(())
    }

    /// Adds a copy of all files of a mailbox to a batch. All messages have to be whole, since what they
    /// are copied from goes.
    fn copy(
        &self,
        entry: &MailboxEntry,
        from: &Path,
        to: &Path,
        batch: &mut Batch<'_>,
    ) -> Result<()> {
        let mut messages = Vec::new();
        for record in &self.files.records(entry)? {
            let record = record?;
            if record.is_unlinked() {
                continue;
            }
            let found = self.files.message(entry, record.uid, record.guid)?;
            let message = found.and_then(|(_, message)| message);
            let damaged = || ReplicaError::OtherBytes { guid: record.guid };
            let message = message.ok_or_else(damaged)?.into();
            messages.push(NewMessage { uid: record.uid, message, arrived: record.internaldate });
        }
        batch.link(to, messages);
        for name in [HEADER, INDEX, ANNOTATIONS, STATE] {
            copy_file(&self.files.disk, &from.join(name), &to.join(name), batch)?;
        }
        Ok(())
    }
}

/// Adds a copy of a file to a batch, if it is there.
fn copy_file(disk: &Disk, from: &Path, to: &Path, batch: &mut Batch<'_>) -> Result<()> {
    let Some(file) = disk.open_file(from)? else { return Ok(()) };
    // The mailbox's own directory is made with the batch.
    let made = disk.unnamed(parent(parent(to)))?;
    message::copy(&file, &made.file).map_err(io_error("copy", from))?;
    batch.put_file(to.to_owned(), made);
    Ok(())
}
