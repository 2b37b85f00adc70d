//! The segment that a new one continues.

use std::collections::{BTreeMap, BTreeSet};

use model::state::{AccountState, Digest, FileState, MailboxKey, MailboxState};
use model::{Finding, Guid, MboxName, Uid, UniqueId, Userid};
use segment::chain::Chain;
use segment::links::{self, Links};
use segment::manifest::{ManifestHead, Parent, StoredFile, StoredFinding, StoredMailbox};

use crate::archive::{ArchiveError, finding_of};
use crate::exceptions::{self, Exceptions};
use crate::held::Held;
use crate::records::{EXPUNGE, INDEX, Records, identity};
use crate::source::Described;

/// Memory that is taken before it is known to be needed: room for so many GUIDs, 20 MiB.
const MESSAGES_HINT_MAX: usize = 1 << 20;

/// The last segment of a chain, as something to compare with and to add to.
///
/// If it is a part, it stands for the snapshot before it, and for the messages that this part
/// and those in front of it hold in advance.
pub struct Base<'a> {
    chain: &'a dyn Held,
    sha256: Digest,
    chain_id: Digest,
    head: ManifestHead,
    mailboxes: BTreeMap<MailboxKey, StoredMailbox>,
}

impl<'a> Base<'a> {
    /// Reads the last manifest.
    ///
    /// # Errors
    /// What is wrong with the chain or the manifest: nothing may be based on what is not whole.
    pub fn new(chain: &'a Chain<'_>) -> Result<Self, ArchiveError> {
        let tip = chain.tip()?;
        let head = tip.head()?;
        let stored = head.mailboxes.iter().map(|mailbox| (key_of(mailbox), mailbox.clone()));
        Ok(Self {
            chain,
            sha256: tip.sha256(),
            chain_id: head.chain.unwrap_or_else(|| tip.sha256()),
            mailboxes: stored.collect(),
            head,
        })
    }

    /// Whose snapshots these are.
    pub fn userid(&self) -> Userid {
        Userid::new(self.head.userid.as_bytes())
    }

    /// The segment's number.
    pub fn seq(&self) -> u32 {
        self.head.seq
    }

    /// When it was taken, seconds since 1970.
    pub fn taken_at(&self) -> i64 {
        self.head.taken_at.unix
    }

    /// Whether these are the shared mailboxes of another server than the account's. Both are called
    /// the same, but neither server has a mailbox of the other's.
    ///
    /// Where some mailbox has no uniqueid (mailboxes.db up to 2.4), nobody can tell: then they are not.
    pub fn is_of_another_server(&self, account: &Described) -> bool {
        let there = self.head.mailboxes.iter().map(|mailbox| mailbox.uniqueid.as_bytes());
        let there: BTreeSet<&[u8]> = there.collect();
        let here = account.account.mailboxes.iter().map(|mailbox| mailbox.uniqueid.as_ref());
        let here = here.map(|id| id.map(UniqueId::as_bytes).unwrap_or_default());
        let here: BTreeSet<&[u8]> = here.collect();
        let known = |ids: &BTreeSet<&[u8]>| !ids.is_empty() && !ids.contains(&b"".as_slice());
        self.userid().is_shared() && known(&here) && known(&there) && here.is_disjoint(&there)
    }

    pub(crate) fn parent(&self) -> Parent {
        Parent { seq: self.head.seq, sha256: self.sha256 }
    }

    pub(crate) fn chain_id(&self) -> Digest {
        self.chain_id
    }

    /// What the snapshot says of the account, in the words of a description.
    pub(crate) fn describe(&self) -> AccountState {
        describe(&self.head)
    }

    pub(crate) fn links(&self) -> Links {
        Links::new(&self.head.links)
    }

    /// The manifest without its message table.
    pub(crate) fn head(&self) -> &ManifestHead {
        &self.head
    }

    /// The mailboxes that the snapshot lists.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &MailboxKey> {
        self.mailboxes.keys()
    }

    /// About how many messages its mailboxes have: a hint that is never larger than a damaged
    /// manifest may cost.
    pub(crate) fn messages(&self) -> usize {
        usize::try_from(self.head.totals.messages).unwrap_or(usize::MAX).min(MESSAGES_HINT_MAX)
    }

    /// Adds the messages that the chain holds in advance.
    pub(crate) fn add_parts(&self, guids: &mut Vec<Guid>) -> Result<(), ArchiveError> {
        Ok(self.chain.add_parts(guids)?)
    }

    /// The messages of a mailbox whose bytes are others than their records say.
    pub(crate) fn exceptions(&self, key: &MailboxKey) -> Result<Exceptions, ArchiveError> {
        let stored = self.mailboxes.get(key);
        stored.map_or(Ok(Exceptions::default()), |stored| read_exceptions(self.chain, stored))
    }

    pub(crate) fn stored_mailbox(&self, key: &MailboxKey) -> Option<&StoredMailbox> {
        self.mailboxes.get(key)
    }

    pub(crate) fn mailbox_file(&self, key: &MailboxKey, name: &str) -> Option<&StoredFile> {
        self.mailboxes.get(key)?.files.iter().find(|file| file.name == name)
    }

    pub(crate) fn account_file(&self, name: &str) -> Option<&StoredFile> {
        self.head.account_files.iter().find(|file| file.name == name)
    }

    /// Which messages the chain has of a mailbox.
    pub(crate) fn mailbox(&self, key: &MailboxKey) -> Result<HadMailbox, ArchiveError> {
        let Some(stored) = self.mailboxes.get(key) else { return Ok(HadMailbox::default()) };
        let mut files = BTreeMap::new();
        for file in &stored.files {
            if matches!(file.name.as_str(), INDEX | EXPUNGE) {
                files.insert(file.name.clone(), self.chain.file(file)?);
            }
        }
        let records = Records::read(&files);
        Ok(HadMailbox {
            linked: records.linked().map(|record| (record.uid, identity(&record))).collect(),
            exceptions: read_exceptions(self.chain, stored)?,
            linked_to: stored.linked_to,
        })
    }

    /// Mailboxes of which messages were not to be had.
    pub(crate) fn mailboxes_with_missing(&self) -> Result<Vec<MailboxKey>, ArchiveError> {
        let mut keys = Vec::new();
        for (key, mailbox) in &self.mailboxes {
            if read_exceptions(self.chain, mailbox)?.any_missing() {
                keys.push(key.clone());
            }
        }
        Ok(keys)
    }

    /// Whether the snapshot has this very finding.
    pub(crate) fn tells(&self, finding: &Finding) -> bool {
        let is_it = |stored: &StoredFinding| {
            stored.code == finding.kind.code()
                && stored.place == finding.place
                && stored.uid == finding.uid
                && stored.detail == finding.detail
        };
        self.head.findings.iter().any(is_it)
    }

    /// The findings that the snapshot has about this mailbox.
    pub(crate) fn findings_of(&self, name: &MboxName) -> impl Iterator<Item = Finding> + '_ {
        let place = name.to_string();
        let stored = self.head.findings.iter().filter(move |stored| stored.place == place);
        stored.filter_map(finding_of)
    }
}

/// What the chain has of a mailbox.
#[derive(Default)]
pub(crate) struct HadMailbox {
    /// The [identities](identity) of the records whose messages the chain was to have, by UID.
    pub linked: Vec<(Uid, Guid)>,
    /// Messages whose bytes are others than their records say.
    pub exceptions: Exceptions,
    /// No message above this UID has a link in the mailbox's directory.
    pub linked_to: u32,
}

/// The list of exceptions that is stored with a mailbox.
pub(crate) fn read_exceptions(
    chain: &dyn Held,
    mailbox: &StoredMailbox,
) -> Result<Exceptions, ArchiveError> {
    let Some(file) = mailbox.files.iter().find(|file| file.name == exceptions::FILE) else {
        return Ok(Exceptions::default());
    };
    let bytes = chain.file(file)?;
    Exceptions::parse(&bytes)
        .ok_or_else(|| ArchiveError::Exceptions { mailbox: mailbox.name.to_string() })
}

/// What a snapshot says of its account, in the words of a description.
pub(crate) fn describe(head: &ManifestHead) -> AccountState {
    let states = |files: &[StoredFile]| -> BTreeMap<String, FileState> {
        let listed = files.iter().filter(|file| file.name != exceptions::FILE);
        listed.map(|f| (f.name.clone(), FileState { size: f.size, digest: f.sha256 })).collect()
    };
    let mailboxes = head.mailboxes.iter().map(|mailbox| {
        let name = MboxName::new(mailbox.name.as_bytes());
        (key_of(mailbox), MailboxState { name, files: states(&mailbox.files) })
    });
    AccountState {
        userid: Userid::new(head.userid.as_bytes()),
        mailboxes: mailboxes.collect(),
        files: states(&head.account_files),
    }
}

/// A mailbox's identity is its directory's name without the number that tells it from an earlier
/// directory of the same mailbox.
pub(crate) fn key_of(mailbox: &StoredMailbox) -> MailboxKey {
    let name = links::split(&mailbox.dir).map_or(mailbox.dir.as_str(), |(name, _)| name);
    MailboxKey(name.as_bytes().to_vec())
}
