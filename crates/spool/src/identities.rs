//! The identities of mailboxes, as mailboxes.db has them.

use std::collections::BTreeMap;

use cyrus_format::mboxlist::{MailboxEntry, MboxListEra};
use model::{Finding, FindingKind, MboxName, UniqueId, Userid};

use crate::catalog::Catalog;
use crate::error::Result;
use crate::lock::Ledger;
use crate::server::Server;

impl Server {
    /// An account's mailboxes with data, deleted ones included, as mailboxes.db has them now; none if
    /// there is no such account.
    ///
    /// # Errors
    ///
    /// What keeps mailboxes.db from being read.
    pub fn entries_of(&self, userid: &Userid) -> Result<Vec<MailboxEntry>> {
        let catalog = self.load_catalog(&mut Ledger::new(self.lock_timeout))?.value;
        Ok(catalog.of_account(userid).into_iter().cloned().collect())
    }

    /// What is wrong with the identities of an account's mailboxes, as far as mailboxes.db tells: those
    /// that are missing, or that others of the server have, too.
    ///
    /// # Errors
    ///
    /// What keeps mailboxes.db from being read.
    pub fn identity_findings(&self, userid: &Userid) -> Result<Vec<Finding>> {
        let catalog = self.load_catalog(&mut Ledger::new(self.lock_timeout))?.value;
        let entries = catalog.of_account(userid);
        let mut findings = Vec::new();
        for entry in entries {
            // Of two with one id, there is a record under it of one alone.
            findings.extend(duplicate(entry, &catalog).or_else(|| lost(entry, &catalog)));
        }
        Ok(findings)
    }
}

/// Whether an entry lacks its identity, or the record that is found by it.
fn lost(entry: &MailboxEntry, catalog: &Catalog) -> Option<Finding> {
    let lost = |detail: &str| {
        Some(Finding::new(FindingKind::UniqueIdLost, &entry.name, format!("mailboxes.db {detail}")))
    };
    // Entries that 2.4 wrote stay as they are until something about them changes; they have none.
    let knows_ids = catalog.list.era != MboxListEra::Text && entry.uidvalidity.is_some();
    match &entry.uniqueid {
        None => knows_ids.then(|| lost("has no id of it")).flatten(),
        Some(id) if id.is_empty() => lost("has an empty id of it"),
        Some(id) if catalog.list.unpaired.binary_search(&entry.name).is_ok() => {
            lost(&format!("has no record under its id {id}"))
        }
        Some(_) => None,
    }
}

fn duplicate(entry: &MailboxEntry, catalog: &Catalog) -> Option<Finding> {
    let id = entry.uniqueid.as_ref().filter(|id| !id.is_empty())?;
    let names = catalog.shared_ids().get(id)?;
    let others: Vec<String> =
        names.iter().filter(|name| **name != entry.name).map(ToString::to_string).collect();
    let detail = format!("{} has the id {id} too", others.join(", "));
    (!others.is_empty()).then(|| Finding::new(FindingKind::DuplicateUniqueId, &entry.name, detail))
}

/// The ids that more than one mailbox has.
pub(crate) fn shared_ids(entries: &[MailboxEntry]) -> BTreeMap<UniqueId, Vec<MboxName>> {
    let with_data = entries.iter().filter(|entry| entry.mbtype.has_data());
    let mut ids: Vec<(&UniqueId, &MboxName)> =
        with_data.filter_map(|entry| Some((entry.uniqueid.as_ref()?, &entry.name))).collect();
    ids.sort_unstable();
    let groups = ids.chunk_by(|a, b| a.0 == b.0).filter(|group| group.len() > 1);
    groups
        .filter_map(|group| {
            let (id, _) = group.first()?;
            Some(((*id).clone(), group.iter().map(|(_, name)| (*name).clone()).collect()))
        })
        .collect()
}
