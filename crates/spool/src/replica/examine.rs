//! A replica as it is looked at: what an audit takes for whole or not, and what only a replica has.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use cyrus_format::mboxlist::MailboxEntry;
use model::{Finding, FindingKind, MboxName};

use super::contents::{ANNOTATIONS, HEADER, INDEX};
use super::error::{ReplicaError, Result};
use super::{State, list};
use crate::error::SpoolError;
use crate::mailbox::{FrozenMailbox, Notes};
use crate::placement::Placement;
use crate::roots::{Partition, Root};

impl State {
    /// All mailboxes that have messages, by name.
    pub fn mailboxes(&self) -> impl Iterator<Item = &MailboxEntry> {
        self.list.entries().filter(|entry| entry.mbtype.has_data())
    }

    /// A mailbox with its metadata in memory, as a server's is when it is frozen. It takes no lock:
    /// nobody else has the replica while it is open, and whoever asks for this changes nothing.
    ///
    /// # Errors
    /// What the system says of its files.
    pub fn look_at(&self, entry: &MailboxEntry) -> Result<FrozenMailbox> {
        let (disk, dir) = (&self.files.disk, list::dir_of(entry)?);
        let missing = || ReplicaError::NoSuchMailbox(entry.name.clone());
        let root = disk.dir(Path::new(""))?.ok_or_else(missing)?;
        let partition = Arc::new(Partition::plain(Root::new(disk.path().to_owned(), root)));
        let mut mailbox = FrozenMailbox::new(entry.clone(), false);
        mailbox.header = disk.read(&dir.join(HEADER))?;
        mailbox.index = disk.read(&dir.join(INDEX))?;
        mailbox.annotations = disk.read(&dir.join(ANNOTATIONS))?;
        let mut notes = Notes { mailbox: &entry.name, findings: &mut mailbox.findings };
        mailbox.place = Some(Placement::open(partition, dir, true, &mut notes).map_err(io_of)?);
        Ok(mailbox)
    }

    /// What is wrong with the replica beside its mailboxes: directories that are none any more, and what
    /// belongs to accounts as wholes.
    pub fn damage(&self) -> Vec<Finding> {
        let mut findings: Vec<Finding> = self.damaged.iter().map(|e| self.damaged_dir(e)).collect();
        let names = self.list.entries().map(|entry| &entry.name);
        let owners: BTreeSet<_> = names.filter_map(|name: &MboxName| list::owner(name)).collect();
        for owner in &owners {
            let home = self.home(owner);
            let read =
                [home.subscriptions().map(drop), home.seen().map(drop), home.scripts().map(drop)];
            for error in read.into_iter().filter_map(Result::err) {
                let detail = error.explained();
                findings.push(Finding::new(FindingKind::MetadataUnreadable, owner, detail));
            }
        }
        findings
    }

    fn damaged_dir(&self, error: &ReplicaError) -> Finding {
        let (kind, place) = match error {
            ReplicaError::Vanished { mailbox, .. } => {
                (FindingKind::MailboxMissing, mailbox.to_string())
            }
            _ => (FindingKind::MailboxDamaged, self.files.disk.path().display().to_string()),
        };
        Finding::new(kind, place, error.explained())
    }
}

/// The same error, of a replica.
fn io_of(error: SpoolError) -> ReplicaError {
    match error {
        SpoolError::Io { op, path, source } => ReplicaError::Io { op, path, source },
        other => {
            let source = std::io::Error::other(other.to_string());
            ReplicaError::Io { op: "open", path: Path::new("").to_owned(), source }
        }
    }
}
