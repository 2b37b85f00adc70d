//! Keeping others from reading an account while it changes: whoever takes a snapshot locks as Cyrus
//! does, and so do we.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;
use std::time::Duration;

use cyrus_format::locks::{LockEra, LockedMailbox};
use model::{MboxName, UniqueId, Userid};
use rustix::fs::{Mode, OFlags, openat};

use super::disk::{Disk, io_error, parent};
use super::error::{ReplicaError, Result};
use super::{list, rules};
use crate::lock::ofd;
use crate::lock::wait::{self, Failure};

/// How long a reader may be in the way.
const PATIENCE: Duration = Duration::from_secs(30);

/// The locks of accounts and mailboxes, held until this is dropped.
#[derive(Debug)]
pub(super) struct Held {
    files: Vec<File>,
}

impl Held {
    /// Locks the accounts that own these mailboxes, all in one order, as 3.4 and later do
    /// (`imap/mboxname.c`, mboxname_usernamespacelock). Mailboxes that nobody owns have one lock, the
    /// first of all, which 3.12 takes for every change of them, and others for fewer.
    pub fn of_mailboxes<'a>(
        disk: &Disk,
        names: impl IntoIterator<Item = &'a MboxName>,
    ) -> Result<Self> {
        let owners: BTreeSet<Option<Userid>> = names.into_iter().map(list::owner).collect();
        let mut files = Vec::new();
        for owner in &owners {
            for name in LockEra::user_lock_candidates(&rules().names, owner.as_ref())? {
                let path = Path::new("conf/lock").join(rules().lock_file(&name)?);
                files.push(lock(disk, &path, ofd::Mode::Exclusive)?);
            }
        }
        Ok(Self { files })
    }

    /// Adds the name lock of a mailbox. Whoever holds it shared stops its files from being removed.
    pub fn and_mailbox(
        mut self,
        disk: &Disk,
        name: &MboxName,
        id: &UniqueId,
        mode: ofd::Mode,
    ) -> Result<Self> {
        let mailbox = LockedMailbox { name, uniqueid: Some(id), by_name: false };
        if let Some(name) = LockEra::V36.mailbox_lock(&mailbox) {
            let path = Path::new("conf/lock").join(rules().lock_file(&name)?);
            self.files.push(lock(disk, &path, mode)?);
        }
        Ok(self)
    }
}

fn lock(disk: &Disk, path: &Path, mode: ofd::Mode) -> Result<File> {
    let dir = disk.make_passing_dir(parent(path))?;
    // Truncated as by Cyrus, so that readers can tell that the file is in use.
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let name = path.file_name().unwrap_or_default();
    let file = openat(&dir, name, flags, Mode::RUSR | Mode::WUSR)
        .map_err(|error| io_error("open", path)(error.into()))?;
    disk.own(&file).map_err(io_error("give away", path))?;
    match wait::lock(File::from(file), mode, PATIENCE) {
        Ok((file, _)) => Ok(file),
        Err(Failure::Io(source)) => Err(io_error("lock", path)(source)),
        Err(Failure::Timeout { .. }) => Err(ReplicaError::Locked { path: path.to_owned() }),
    }
}
