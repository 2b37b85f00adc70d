//! Handing a replica over: from then on it is the spool of a Cyrus, and nobody's replica.

use std::path::Path;
use std::sync::PoisonError;

use super::batch::{Batch, Step};
use super::contents::STATE;
use super::error::Result;
use super::open::{LOCK, PROMOTED};
use super::{Replica, list};
use crate::tree::Owner;

impl Replica {
    /// Makes it the spool of a Cyrus: writes down all that is only in memory, gives everything to
    /// that owner, and removes what Cyrus has no use for. What [`State::damaged`] tells is given up.
    ///
    /// Removing is one batch. Once that counts, nothing opens this as a replica any more; whoever
    /// tries takes the steps that are left.
    ///
    /// # Errors
    /// Then it still is a replica, or [`Replica::open`] says that it is none any more.
    ///
    /// [`State::damaged`]: super::State::damaged
    pub fn promote(self, owner: Option<Owner>) -> Result<()> {
        let mut state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        state.list.forget_vanished();
        state.unwritten += 1;
        state.flush()?;
        if let Some(owner) = owner {
            state.disk.give_tree(Path::new(""), owner)?;
        }
        for path in ["conf", "spool"] {
            state.disk.sync_all(Path::new(path))?;
        }
        let mut batch = Batch::new(&state.disk);
        for (_, dir) in list::mailbox_dirs(&state.disk)? {
            batch.then(Step::Remove(dir.join(STATE)));
        }
        batch.then(Step::Rename { from: LOCK.into(), to: PROMOTED.into() });
        batch.commit()
    }
}
