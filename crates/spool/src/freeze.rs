//! Reading an account at one instant.
//!
//! The order is Cyrus' own: user lock, name locks, index locks, databases last. User and index
//! locks are held while metadata is copied, and no longer; the name locks stay.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use cyrus_format::mboxlist::MailboxEntry;
use model::{Finding, MboxName, UniqueId, Userid};

use crate::account_files::AccountFile;
use crate::attempt::{Attempt, user_locks};
use crate::catalog::Owned;
use crate::era::Era;
use crate::error::{Result, SpoolError};
use crate::files::{self, Place};
use crate::lock::{Ledger, LockReport, OrNone, Wanted};
use crate::mailbox::FrozenMailbox;
use crate::prepare::Prepared;
use crate::server::Server;
use crate::unused::{LockUse, Taken};

/// For locks that are not waited for.
const AT_ONCE: Duration = Duration::ZERO;

/// How often an account is read anew because its mailboxes changed meanwhile. Only servers
/// before 3.2 let that happen.
const MAX_ATTEMPTS: u32 = 5;

/// An account at one instant: all metadata in memory, all message files held in place.
#[derive(Debug)]
pub struct Frozen {
    /// Whose.
    pub userid: Userid,
    /// Whose locks were taken. What they promise is asked of the [`Era`].
    pub era: Era,
    /// Its mailboxes, deleted but kept ones included, by name.
    pub mailboxes: Vec<FrozenMailbox>,
    /// Subscriptions, seen state, quota and so on.
    pub account_files: Vec<AccountFile>,
    /// Mailboxes whose names here were deleted, but which others have now: renaming one leaves the same
    /// trace as deleting it.
    pub moved: BTreeSet<UniqueId>,
    /// What is wrong with the account as a whole.
    pub findings: Vec<Finding>,
    /// Every lock taken, in the order in which it was obtained.
    pub locks: Vec<LockReport>,
}

/// How much of an account is read.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Only<'a> {
    /// All of it.
    All,
    /// These mailboxes.
    Mailboxes(&'a BTreeSet<MboxName>),
    /// None of its mailboxes, and there need not be any.
    Traces,
}

impl Only<'_> {
    /// Whether there is such an account, as far as its mailboxes tell.
    pub fn is_there(self, entries: &[&MailboxEntry]) -> bool {
        matches!(self, Only::Traces) || !entries.is_empty()
    }

    /// Those of its mailboxes that are wanted.
    pub fn of(self, mut entries: Vec<&MailboxEntry>) -> Vec<&MailboxEntry> {
        match self {
            Only::All => {}
            Only::Mailboxes(names) => entries.retain(|entry| names.contains(&entry.name)),
            Only::Traces => entries.clear(),
        }
        entries
    }
}

impl Server {
    /// Reads all metadata of an account and keeps its message files from being removed.
    ///
    /// # Errors
    ///
    /// [`SpoolError::NoSuchAccount`]; [`SpoolError::LockTimeout`]; [`SpoolError::KeepsChanging`];
    /// and what the system says where it concerns the whole account. Damage to single mailboxes
    /// is a finding on them.
    pub fn freeze(&self, userid: &Userid) -> Result<Frozen> {
        self.freeze_some(userid, Only::All)
    }

    /// The same with these mailboxes alone, as far as they exist: what the account has beside them costs
    /// nothing, and nobody who works with it waits. The files of the account are all there.
    ///
    /// # Errors
    ///
    /// As [`Server::freeze`] has them.
    pub fn freeze_mailboxes(&self, userid: &Userid, names: &BTreeSet<MboxName>) -> Result<Frozen> {
        self.freeze_some(userid, Only::Mailboxes(names))
    }

    /// What is left of an account that has no mailboxes any more: its records in mailboxes.db, which may
    /// tell that they were deleted.
    ///
    /// # Errors
    ///
    /// As [`Server::freeze`] has them, but for [`SpoolError::NoSuchAccount`].
    pub fn freeze_traces(&self, userid: &Userid) -> Result<Frozen> {
        self.freeze_some(userid, Only::Traces)
    }

    fn freeze_some(&self, userid: &Userid, only: Only<'_>) -> Result<Frozen> {
        let deadline = Instant::now() + self.lock_timeout;
        let mut lock_use = LockUse::default();
        let mut waits = Vec::new();
        let mut changed = 0;
        while changed < MAX_ATTEMPTS {
            let era = self.era();
            let waits_at_once = !era.has_record_locks_only();
            let (owned, prepared) = self.prepare(userid, only, &era, &mut lock_use)?;
            let attempt = Attempt {
                server: self,
                userid,
                only,
                owned: &owned,
                era,
                ledger: Ledger::new(if waits_at_once { self.lock_timeout } else { AT_ONCE }),
                taken: Taken::default(),
                lock_use: &mut lock_use,
                keep_open: false,
            };
            match attempt.freeze(prepared) {
                Ok(Some(mut frozen)) => {
                    frozen.locks.splice(0..0, waits);
                    return Ok(frozen);
                }
                Ok(None) => changed += 1,
                Err(error @ SpoolError::LockTimeout { .. }) if !waits_at_once => {
                    waits.extend(wait_alone(error, deadline)?);
                }
                Err(error) => return Err(error),
            }
        }
        Err(SpoolError::KeepsChanging { userid: userid.clone(), attempts: MAX_ATTEMPTS })
    }

    /// Makes sure that there is such an account before any lock is asked for: one that does not
    /// exist must not leave lock files behind. Then does what needs no lock.
    fn prepare(
        &self,
        userid: &Userid,
        only: Only<'_>,
        era: &Era,
        lock_use: &mut LockUse,
    ) -> Result<(Owned, Prepared)> {
        let mut ledger = Ledger::new(self.lock_timeout);
        let catalog = self.load_catalog(&mut ledger)?.value;
        let entries = catalog.of_account(userid);
        let owned = Owned::by(userid, &self.rules).filter(|_| only.is_there(&entries));
        let owned = owned.ok_or_else(|| self.no_such_account(userid, &catalog))?;
        let entries = only.of(entries);
        // If it cannot be read, that is found out again when it counts.
        drop(self.load_annotations(&mut ledger));
        for file in user_locks(self, userid, era)? {
            lock_use.opened(&self.locks.open(&file)?);
        }
        Ok((owned, Prepared::new(self, era, &entries, lock_use)))
    }
}

/// Waits for a lock that was refused, with no other lock in hand, and gives it back at once.
///
/// 2.3 has no lock for a whole account, so its mailboxes are locked one by one. To wait for one
/// while holding the others would stop whoever works with those, and in the worst case be stopped
/// by them.
fn wait_alone(refused: SpoolError, deadline: Instant) -> Result<Vec<LockReport>> {
    let left = deadline.saturating_duration_since(Instant::now());
    let SpoolError::LockTimeout { file: path, kind, mailbox, .. } = &refused else {
        return Err(refused);
    };
    if left.is_zero() {
        return Err(refused);
    }
    let place = Place::absolute(path);
    // If it is gone, there is nothing left to wait for.
    let opened = files::open(place).or_none().map_err(|error| place.error("open", error))?;
    let Some(file) = opened else { return Ok(Vec::new()) };
    let mut ledger = Ledger::new(left);
    let held = ledger.lock(file, path, Wanted { kind: *kind, mailbox: mailbox.as_ref() })?;
    drop(held);
    Ok(ledger.into_reports())
}
