//! What can be done for an account before anything of it is locked.
//!
//! Everybody who works with the account waits while its locks are held, so nothing may be done
//! then that could have been done before. Metadata is read twice: first without a lock, which
//! brings it from the disk into memory and tells how much there is, and then what counts, which
//! is no more than a copy within memory. For the same reason missing lock files are made here.

use std::collections::BTreeMap;

use cyrus_format::mboxlist::MailboxEntry;
use model::MboxName;

use crate::copy::{Files, may_have_expunge};
use crate::era::Era;
use crate::files;
use crate::placement;
use crate::server::Server;
use crate::unused::LockUse;

/// Memory for the metadata of mailboxes.
#[derive(Debug, Default)]
pub(crate) struct Prepared(BTreeMap<MboxName, Room>);

/// Memory for the metadata of one mailbox.
#[derive(Debug, Default)]
pub(crate) struct Room {
    pub header: Vec<u8>,
    pub index: Vec<u8>,
}

impl Prepared {
    /// Prepares for these mailboxes. Whatever fails is found out again when it counts.
    pub fn new(
        server: &Server,
        era: &Era,
        entries: &[&MailboxEntry],
        lock_use: &mut LockUse,
    ) -> Self {
        let prepare = |entry: &&MailboxEntry| {
            let eras = era.candidates();
            let locks = placement::name_locks(entry, server.list_era, eras, &server.rules);
            for lock in locks.unwrap_or_default() {
                if let Ok(file) = server.locks.open(&lock) {
                    lock_use.opened(&file);
                }
            }
            Some((entry.name.clone(), read_once(server, entry)?))
        };
        Self(entries.iter().filter_map(prepare).collect())
    }

    /// The memory for a mailbox; empty if it was not prepared for.
    pub fn take(&mut self, name: &MboxName) -> Room {
        self.0.remove(name).unwrap_or_default()
    }
}

fn read_once(server: &Server, entry: &MailboxEntry) -> Option<Room> {
    let partition = server.partitions.get(entry.partition.as_deref()?)?.ok()?;
    let dir = placement::directory(entry, server.list_era, &server.rules).ok()?;
    let names = Files::named(|file| dir.join(file));
    let places = names.placed(partition);
    let read = |place| files::copy(place, Vec::new()).map(|copied| copied.bytes);
    let room = Room {
        header: read(places.header).unwrap_or_default(),
        index: read(places.index).unwrap_or_default(),
    };
    // Most mailboxes have none; to know that takes a look into the directory.
    let _ = read(places.annotations);
    if may_have_expunge(&room.index) {
        let _ = read(places.expunge);
    }
    Some(room)
}
