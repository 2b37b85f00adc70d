//! An account as a replica tells it.

use std::collections::{BTreeMap, BTreeSet};

use csync::command::Get;
use csync::mailbox::{Mailbox, Records, Since};
use csync::meta::{Quota, Seen, SieveFile};
use csync::record::Record;
use csync::reply::No;
use csync::untagged::Untagged;
use model::state::MailboxKey;
use model::{MboxName, Modseq, Uid, UniqueId, Userid};
use peer::SessionError;

use super::local::Local;
use crate::ports::Peer;

/// Names or ids of one question; Cyrus 3.2 asks for as many.
const ASKED_MAX: usize = 1000;

/// So many records more than there are here may be told of a mailbox; the rest is what a replica that is
/// out of its mind, or hostile, would fill the memory with.
const RECORDS_MORE: u64 = 1 << 20;

/// So many may be told of a mailbox of which nothing is here to compare.
pub(crate) const RECORDS_MAX: u64 = 1 << 23;

/// What a replica has.
#[derive(Clone, Debug, Default)]
pub struct Remote {
    /// Mailboxes with data.
    pub mailboxes: BTreeMap<MailboxKey, Mailbox>,
    /// Names of levels between them.
    pub levels: BTreeSet<MboxName>,
    /// The records of those mailboxes that needed a closer look.
    pub records: BTreeMap<MailboxKey, Vec<Record>>,
    /// Quota roots.
    pub quotas: BTreeMap<MboxName, Quota>,
    /// What was read elsewhere.
    pub seen: BTreeMap<UniqueId, Seen>,
    /// Subscriptions.
    pub subscriptions: BTreeSet<MboxName>,
    /// Sieve scripts and their bytecode.
    pub scripts: BTreeMap<Vec<u8>, SieveFile>,
}

impl Remote {
    /// Asks for all of a user's account, as far as it has his name.
    ///
    /// # Errors
    /// If the replica does not tell.
    pub fn of_user(userid: &Userid, peer: &mut dyn Peer) -> Result<Self, SessionError> {
        let mut remote = Self::default();
        peer.ask(&Get::User(userid.clone())).map(|told| remote.take(told))?;
        Ok(remote)
    }

    /// Asks for the mailboxes of these names only.
    ///
    /// # Errors
    /// If the replica does not tell.
    pub fn of_mailboxes(
        names: &BTreeSet<MboxName>,
        local: &Local<'_>,
        peer: &mut dyn Peer,
    ) -> Result<Self, SessionError> {
        Self::default().with_names(names, peer)?.with_others(local, peer)
    }

    /// Asks for the mailboxes of these names as well.
    ///
    /// # Errors
    /// If the replica does not tell.
    pub fn with_names(
        mut self,
        names: &BTreeSet<MboxName>,
        peer: &mut dyn Peer,
    ) -> Result<Self, SessionError> {
        let names: Vec<MboxName> = names.iter().cloned().collect();
        for names in names.chunks(ASKED_MAX) {
            peer.ask(&Get::Mailboxes(names.to_vec())).map(|told| self.take(told))?;
        }
        Ok(self)
    }

    /// Asks for all of the shared mailboxes. No command tells which there are, so it is asked for
    /// every name that is or was here: what the replica alone has does not show.
    ///
    /// # Errors
    /// If the replica does not tell.
    pub fn of_shared(local: &Local<'_>, peer: &mut dyn Peer) -> Result<Self, SessionError> {
        let names = local.mailboxes.values().map(|mailbox| &mailbox.told.mboxname);
        let names = names.chain(local.names.keys()).cloned().collect();
        let mut remote = Self::of_mailboxes(&names, local, peer)?;
        let contents = remote.mailboxes.values().filter_map(|there| there.contents.as_ref());
        let named = contents.filter_map(|contents| contents.quotaroot.as_ref());
        let named = named.filter(|root| local.owns(root));
        let roots: BTreeSet<MboxName> = named.chain(local.quotas.keys()).cloned().collect();
        for root in roots {
            peer.ask(&Get::Quota(root)).map(|told| remote.take(told))?;
        }
        Ok(remote)
    }

    /// The mailboxes that were expected and did not come.
    pub fn lacks<'l>(&self, local: &'l Local<'_>) -> impl Iterator<Item = &'l MailboxKey> {
        local.mailboxes.keys().filter(|key| !self.mailboxes.contains_key(*key))
    }

    /// Asks for mailboxes that were expected and did not come: they may have other names, or be
    /// somebody else's. Replicas before 3.2 cannot tell.
    ///
    /// # Errors
    /// If the replica does not tell.
    pub fn with_others(self, local: &Local<'_>, peer: &mut dyn Peer) -> Result<Self, SessionError> {
        let ids = self.lacks(local).map(|key| UniqueId::new(key.0.as_slice())).collect();
        self.with_ids(ids, peer)
    }

    /// Asks for the mailboxes of these identities, whose ever they are, unless they have come.
    ///
    /// # Errors
    /// If the replica does not tell.
    pub fn with_ids(
        mut self,
        mut ids: Vec<UniqueId>,
        peer: &mut dyn Peer,
    ) -> Result<Self, SessionError> {
        ids.retain(|id| self.of_id(id).is_none());
        for ids in ids.chunks(ASKED_MAX) {
            match peer.ask(&Get::UniqueIds(ids.to_vec())) {
                Ok(told) => self.take(told),
                Err(SessionError::Refused { no: No::ProtocolError, .. }) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(self)
    }

    /// Asks for the records of a mailbox that is here as well.
    ///
    /// # Errors
    /// If the replica does not tell.
    pub fn ask_to_compare(
        &mut self,
        key: &MailboxKey,
        local: &Local<'_>,
        peer: &mut dyn Peer,
    ) -> Result<(), SessionError> {
        let own = local.mailboxes.get(key).and_then(|own| own.told.contents.as_ref());
        let given_out = own.map_or(0, |own| own.last_uid.0);
        self.ask_for_records(key, RECORDS_MORE + u64::from(given_out), peer)
    }

    /// Asks for the records of a mailbox, which has no more than so many.
    ///
    /// # Errors
    /// If the replica does not tell.
    pub fn ask_for_records(
        &mut self,
        key: &MailboxKey,
        most: u64,
        peer: &mut dyn Peer,
    ) -> Result<(), SessionError> {
        let Some(mailbox) = self.mailboxes.get_mut(key) else { return Ok(()) };
        let mut records = Vec::new();
        let told =
            peer.ask_for_records(&mailbox.mboxname, most, &mut |record| records.push(record))?;
        if let Some(told) = told.filter(|told| told.uniqueid == mailbox.uniqueid) {
            *mailbox = told;
        }
        self.records.insert(key.clone(), records);
        Ok(())
    }

    /// The mailbox of this identity.
    pub fn of_id(&self, uniqueid: &UniqueId) -> Option<&Mailbox> {
        self.mailboxes.get(&MailboxKey(uniqueid.as_bytes().to_vec()))
    }

    /// The mailbox of this name.
    pub fn named(&self, name: &MboxName) -> Option<(&MailboxKey, &Mailbox)> {
        self.mailboxes.iter().find(|(_, mailbox)| mailbox.mboxname == *name)
    }

    /// The names of the mailboxes that have, or had, messages.
    pub fn names_with_messages(&self) -> Vec<MboxName> {
        let with_messages = self.mailboxes.values().filter(|there| {
            there.contents.as_ref().is_some_and(|contents| contents.last_uid != Uid(0))
        });
        with_messages.map(|there| there.mboxname.clone()).collect()
    }

    /// When anything of an account changed last, in its own counting.
    pub fn highest(&self) -> Modseq {
        let modseqs = self.mailboxes.values().flat_map(|there| {
            let contents = there.contents.as_ref();
            let conversations = contents.and_then(|contents| contents.xconvmodseq);
            let rights = contents.and_then(|contents| contents.raclmodseq);
            [Some(there.highestmodseq), there.foldermodseq, conversations, rights]
        });
        let quotas = self.quotas.values().map(|quota| quota.modseq);
        modseqs.chain(quotas).flatten().max().unwrap_or_default()
    }

    fn take(&mut self, told: Vec<Untagged>) {
        for told in told {
            match told {
                Untagged::Mailbox(mailbox) if mailbox.is_entry() => {
                    self.levels.insert(mailbox.mboxname);
                }
                Untagged::Mailbox(mailbox) => {
                    let key = MailboxKey(mailbox.uniqueid.as_bytes().to_vec());
                    self.mailboxes.insert(key, *mailbox);
                }
                Untagged::Quota(quota) => {
                    self.quotas.insert(quota.root.clone(), quota);
                }
                Untagged::Seen(seen) => {
                    self.seen.insert(seen.uniqueid.clone(), seen);
                }
                Untagged::Lsub(names) => self.subscriptions.extend(names),
                Untagged::Sieve(file) => {
                    self.scripts.insert(file.filename.clone(), file);
                }
                _ => {}
            }
        }
    }
}

/// A mailbox to be changed, if it is still as it was told.
pub fn prepared(told: &Mailbox) -> Mailbox {
    let mut prepared = told.clone();
    if let Some(contents) = &mut prepared.contents {
        // One that is still to be made has no modseq.
        contents.since = Some(told.highestmodseq).filter(|modseq| modseq.0 != 0).map(|modseq| {
            Since { modseq, sync_crc: contents.sync_crc.unwrap_or(0), sync_crc_annot: 0 }
        });
        // These count elsewhere, and are not to go back.
        (contents.xconvmodseq, contents.raclmodseq) = (None, None);
        (contents.sync_crc, contents.sync_crc_annot) = (None, None);
        contents.records = Records::Listed;
    }
    prepared
}
