//! A mailbox as a master says that it is: what becomes of its files, and of the list.

use std::collections::BTreeSet;
use std::ops::{Deref, DerefMut};
use std::path::PathBuf;
use std::sync::{PoisonError, RwLockReadGuard, RwLockWriteGuard};

use cyrus_format::mboxlist::{MailboxEntry, MailboxType};
use model::{MboxName, Partition, UniqueId};

use super::batch::{Batch, NewMessage, Step};
use super::claims::{Claimed, Concern};
use super::contents::{self, Contents, Place, Summary};
use super::error::Result;
use super::files::Files;
use super::hold::Held;
use super::revision::Recorded;
use super::{Replica, SHARE, State, list, mailbox_dir, rules};
use crate::lock::ofd;

/// A mailbox as it is to be.
#[derive(Debug)]
pub struct Update {
    /// Its partition. It must be the one that the mailbox has, if there is one.
    pub partition: Partition,
    /// What is there; `None` if it is a new mailbox.
    pub before: Option<Contents>,
    /// What is to be there. Its header has name and uniqueid.
    pub after: Contents,
    /// What becomes of its records.
    pub records: Recorded,
    /// The messages that become files with it.
    pub messages: Vec<NewMessage>,
    /// A mailbox of the same name that goes at the same time.
    pub replaces: Option<UniqueId>,
}

/// All of a replica. Nobody else works on it.
#[derive(Debug)]
pub struct Whole<'r> {
    state: RwLockWriteGuard<'r, State>,
    _claimed: Claimed<'r>,
}

impl Deref for Whole<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}

impl DerefMut for Whole<'_> {
    fn deref_mut(&mut self) -> &mut State {
        &mut self.state
    }
}

/// A part of a replica. Nobody else works on it; others may work on other parts.
#[derive(Debug)]
pub struct Claim<'r> {
    replica: &'r Replica,
    _claimed: Claimed<'r>,
}

impl Replica {
    /// Waits until nobody else works on it. Nobody does so who has claimed a part of it.
    pub fn lock(&self) -> Whole<'_> {
        let claimed = self.claims.whole();
        Whole { state: self.state_to_change(), _claimed: claimed }
    }

    /// Waits until nobody else works on these parts. Likewise.
    pub fn claim(&self, parts: impl IntoIterator<Item = Concern>) -> Claim<'_> {
        let parts: BTreeSet<Concern> = parts.into_iter().collect();
        Claim { replica: self, _claimed: self.claims.parts(parts) }
    }

    /// Writes down what is only in memory, as [`State::flush`]; others work on what they have claimed
    /// meanwhile, unless it has to be counted what quotas have in use.
    ///
    /// # Errors
    /// If that cannot be written.
    pub fn settle(&self) -> Result<()> {
        let claim = self.claim([Concern::Databases]);
        let state = claim.state();
        if !state.uncounted.is_empty() || !state.unassigned.is_empty() {
            drop(state);
            drop(claim);
            return self.lock().flush();
        }
        let written = state.unwritten;
        let mut batch = Batch::new(&self.files.disk);
        if written > 0 {
            state.put_databases(&mut batch)?;
        }
        drop(state);
        batch.commit()?;
        self.state_to_change().unwritten -= written;
        Ok(())
    }

    /// What lies on its disk.
    pub fn files(&self) -> &Files {
        &self.files
    }

    fn state_to_change(&self) -> RwLockWriteGuard<'_, State> {
        // A panic elsewhere leaves nothing half done that `Batch` does not know of.
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Claim<'_> {
    /// What is known of all accounts. Not to be held while anything is waited for.
    pub fn state(&self) -> RwLockReadGuard<'_, State> {
        self.replica.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a mailbox that is claimed, or brings it up to date: all of it or nothing, durably. Others
    /// work on other mailboxes meanwhile.
    ///
    /// # Errors
    /// Then nothing has changed, unless the disk failed in the middle.
    pub fn store(self, update: Update) -> Result<()> {
        let replica = self.replica;
        let is_known = self.state().partitions.contains(&update.partition);
        if !is_known {
            replica.state_to_change().add_partition(&update.partition)?;
        }
        let storing = Storing::begin(&self.state(), update)?;
        let stored = storing.write(&replica.files)?;
        let is_behind = replica.state_to_change().remember(stored);
        drop(self);
        if is_behind {
            // What cannot be written now is with the next change.
            let _ = replica.settle();
        }
        Ok(())
    }
}

impl State {
    /// The same for whoever has all of the replica.
    ///
    /// # Errors
    /// As for [`Claim::store`].
    pub(super) fn store(&mut self, update: Update) -> Result<()> {
        self.add_partition(&update.partition)?;
        let stored = Storing::begin(self, update)?.write(&self.files)?;
        if self.remember(stored) {
            self.follow();
        }
        Ok(())
    }

    /// Takes note of what is stored. Whether the list is to be written down now.
    fn remember(&mut self, stored: Stored) -> bool {
        let Stored { name, id, partition, after, replaces } = stored;
        if let Some(gone) = replaces {
            self.notes.remove(&gone);
        }
        let old = self.list.get(&name);
        let mut entry = MailboxEntry {
            name,
            uniqueid: Some(id.clone()),
            mbtype: MailboxType::from_letters(&after.header.mbtype),
            partition: Some(partition.as_bytes().to_vec()),
            acl: after.header.acl,
            history: old.map(|old| old.history.clone()).unwrap_or_default(),
            ..MailboxEntry::default()
        };
        let root = after.header.quotaroot.clone();
        let notes = after.extra.notes.clone();
        list::take_counters(&mut entry, &Summary { index: after.index, extra: after.extra });
        if old != Some(&entry) {
            self.unwritten += 1;
        }
        self.list.insert(entry);
        self.uncounted.extend(root);
        self.set_notes(id, notes);
        self.unwritten * SHARE >= self.list.len()
    }
}

/// A mailbox that is about to be stored.
struct Storing {
    update: Update,
    name: MboxName,
    id: UniqueId,
    dir: PathBuf,
    /// Where the mailbox is that it replaces.
    gone: Option<PathBuf>,
}

/// A mailbox that is on disk and not in the list yet.
struct Stored {
    name: MboxName,
    id: UniqueId,
    partition: Partition,
    after: Contents,
    replaces: Option<UniqueId>,
}

impl Storing {
    /// Finds out what only the list knows.
    fn begin(state: &State, mut update: Update) -> Result<Self> {
        let name = update.after.header.name.clone().unwrap_or_default();
        let id = update.after.header.uniqueid.clone().unwrap_or_default();
        rules().names.to_dbname(&name)?;
        update.after.header.quotaroot = state.quota_root_of(&name).cloned();
        let gone = update.replaces.as_ref().and_then(|id| state.list.by_id(id));
        let gone = gone.map(list::dir_of).transpose()?;
        let dir = mailbox_dir(&update.partition, &id)?;
        Ok(Self { update, name, id, dir, gone })
    }

    /// Writes it, durably.
    fn write(self, files: &Files) -> Result<Stored> {
        let Self { update, name, id, dir, gone } = self;
        let Update { partition, before, mut after, records, messages, replaces } = update;
        let disk = &files.disk;
        let mut batch = Batch::new(disk);
        batch.link(&dir, messages);
        let owner = list::owner(&name);
        let is_told = files.told.has(&dir.join(contents::INDEX));
        let place = Place { disk, dir: &dir, owner: owner.as_ref(), is_told };
        after.put(before.as_ref(), records, &place, &mut batch)?;
        gone.into_iter().for_each(|dir| batch.then(Step::RemoveTree(dir)));
        let mut held = Held::of_mailboxes(disk, [&name])?;
        held = held.and_mailbox(disk, &name, &id, ofd::Mode::Shared)?;
        if let Some(gone) = &replaces {
            held = held.and_mailbox(disk, &name, gone, ofd::Mode::Exclusive)?;
        }
        batch.commit()?;
        drop(held);
        Ok(Stored { name, id, partition, after, replaces })
    }
}
