//! Handing a replica over: from then on it is the spool of a Cyrus, and nobody's replica.

use std::path::Path;
use std::sync::PoisonError;

use cyrus_format::imapd_conf::ImapdConf;
use cyrus_format::names::NameEra;

use super::batch::{Batch, Step};
use super::contents::STATE;
use super::error::Result;
use super::open::{LOCK, PROMOTED};
use super::{Replica, list, quota, rules};
use crate::tree::Owner;

impl Replica {
    /// Makes it the spool of a Cyrus with this configuration, of which [`State::misplaced`] finds
    /// nothing: writes down all that is only in memory, gives everything to that owner, and removes
    /// what Cyrus has no use for. What [`State::damaged`] tells is given up.
    ///
    /// Removing is one batch. Once that counts, nothing opens this as a replica any more; whoever
    /// tries takes the steps that are left.
    ///
    /// # Errors
    /// Then it still is a replica, or [`Replica::open`] says that it is none any more.
    ///
    /// [`State::damaged`]: super::State::damaged
    /// [`State::misplaced`]: super::State::misplaced
    pub fn promote(self, conf: &ImapdConf, owner: Option<Owner>) -> Result<()> {
        let Self { files, state, .. } = self;
        // What is done when the disk is closed is done while it is locked.
        drop(files);
        let mut state = state.into_inner().unwrap_or_else(PoisonError::into_inner);
        state.list.forget_vanished();
        state.unwritten += 1;
        state.flush()?;
        if let Some(owner) = owner {
            state.files.disk.give_tree(Path::new(""), owner)?;
        }
        state.files.disk.sync_everything()?;
        let mut batch = Batch::new(&state.files.disk);
        for (_, dir) in list::mailbox_dirs(&state.files.disk)? {
            batch.then(Step::Remove(dir.join(STATE)));
        }
        // `fulldirhash` and `virtdomains` have their say in where these are.
        let theirs = conf.path_rules(NameEra::V3);
        for (root, quota) in &state.quotas {
            let (from, to) = (quota::path_of(root, &rules())?, quota::path_of(root, &theirs)?);
            if from != to {
                batch.put(to, quota::bytes_of(quota));
                batch.then(Step::Remove(from));
            }
        }
        batch.then(Step::Rename { from: LOCK.into(), to: PROMOTED.into() });
        batch.commit()
    }
}
