//! mailboxes.db as it was read once, and what of it belongs to whom.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use cyrus_format::FormatError;
use cyrus_format::db;
use cyrus_format::dlist::Dlist;
use cyrus_format::imapd_conf::ImapdConf;
use cyrus_format::mboxlist::{MailboxEntry, MboxList, MboxListEra};
use cyrus_format::names::{NameEra, NameRules};
use cyrus_format::paths::PathRules;
use model::{MboxName, UniqueId, Userid};

use crate::entries::Entries;
use crate::era::Evidence;
use crate::identities;

/// Between the components of a dbname, and behind its domain (`imap/mboxlist.c`, Cyrus 3.6).
const DB_SEPARATOR: u8 = 0x1f;
const DB_DOMAIN_SEPARATOR: u8 = 0x1d;

/// Length of a uniqueid up to 2.5.
const OLD_ID_LENGTH: usize = 16;

/// All mailboxes of the server.
#[derive(Debug)]
pub(crate) struct Catalog {
    pub list: MboxList,
    /// Which releases' reading of names applies.
    pub names: NameEra,
    /// The records as they are stored.
    pub raw: Entries,
    /// Whose mailboxes are where in the list, shared ones included. Only those with data count.
    accounts: BTreeMap<Userid, Vec<usize>>,
    /// Made when it is first asked for.
    shared_ids: OnceLock<BTreeMap<UniqueId, Vec<MboxName>>>,
}

impl Catalog {
    /// Reads the bytes of mailboxes.db. Which releases' reading of names applies is found out
    /// unless it is given.
    pub fn parse(
        bytes: &[u8],
        conf: &ImapdConf,
        names: Option<NameEra>,
    ) -> Result<Self, FormatError> {
        let db = db::read(bytes)?;
        let pairs = db.entries.iter().map(|(key, value)| (key.as_ref(), value.as_ref()));
        // Only the names since 3.6 depend on the rules.
        let list = MboxList::parse(pairs, &conf.name_rules(NameEra::V3));
        let names = names.unwrap_or_else(|| name_era(&list));
        let rules = conf.name_rules(names);
        let mut accounts: BTreeMap<Userid, Vec<usize>> = BTreeMap::new();
        for (at, entry) in list.entries.iter().enumerate().filter(|(_, e)| e.mbtype.has_data()) {
            let owner = owner(&entry.name, &rules).unwrap_or_else(Userid::shared);
            accounts.entry(owner).or_default().push(at);
        }
        let shared_ids = OnceLock::new();
        Ok(Self { raw: Entries::new(&db), list, names, accounts, shared_ids })
    }

    /// The ids that more than one mailbox has, with the names of those.
    pub fn shared_ids(&self) -> &BTreeMap<UniqueId, Vec<MboxName>> {
        self.shared_ids.get_or_init(|| identities::shared_ids(&self.list.entries))
    }

    /// What tells the release.
    pub fn evidence(&self, newest_index: Option<u32>, lock_dir: bool) -> Evidence {
        let has_createdmodseq = self.list.entries.iter().any(|entry| entry.createdmodseq.is_some());
        Evidence { list: self.list.era, has_createdmodseq, newest_index, lock_dir }
    }

    /// Everybody who has a mailbox, deleted ones included; and the account of shared ones.
    pub fn accounts(&self) -> impl Iterator<Item = &Userid> {
        self.accounts.keys()
    }

    /// An account's mailboxes that have data, by name.
    pub fn of_account(&self, userid: &Userid) -> Vec<&MailboxEntry> {
        let places = self.accounts.get(userid).map(Vec::as_slice).unwrap_or_default();
        places.iter().filter_map(|at| self.list.entries.get(*at)).collect()
    }

    /// The account's records that could not be understood, and why.
    pub fn unreadable_of(&self, userid: &Userid, owned: &Owned) -> Vec<(MboxName, &str)> {
        let own = self.of_account(userid);
        let ids = own.iter().filter_map(|entry| entry.uniqueid.as_ref()).map(UniqueId::as_bytes);
        let ids: BTreeSet<&[u8]> = ids.filter(|_| self.list.era == MboxListEra::ById).collect();
        let unreadable = self.list.unreadable.iter();
        let owned = unreadable.filter(|(key, _)| {
            owned.has_key(self.list.era, key)
                || key.strip_prefix(b"I").is_some_and(|id| ids.contains(id))
        });
        owned.map(|(key, why)| (MboxName::new(key.as_slice()), why.as_str())).collect()
    }

    /// The ids of mailboxes that the account's tombstones name, and that others have by now.
    pub fn moved_from(&self, owned: &Owned) -> BTreeSet<UniqueId> {
        let entries = || self.list.entries.iter();
        let is_owned = |entry: &&MailboxEntry| owned.has_name(entry.name.as_bytes());
        let tombstones = entries().filter(|entry| entry.mbtype.deleted).filter(is_owned);
        let ids: BTreeSet<&UniqueId> =
            tombstones.filter_map(|entry| entry.uniqueid.as_ref()).collect();
        if ids.is_empty() {
            return BTreeSet::new();
        }
        let others = entries().filter(|entry| entry.mbtype.has_data() && !is_owned(entry));
        let others = others.filter_map(|entry| entry.uniqueid.as_ref());
        others.filter(|id| !id.is_empty() && ids.contains(id)).cloned().collect()
    }

    /// The account's records as they are stored, tombstones and levels without data included.
    pub fn records_of(&self, owned: &Owned) -> Vec<(&[u8], &[u8])> {
        let mut records: Vec<(&[u8], &[u8])> = Vec::new();
        for prefix in owned.prefixes(self.list.era) {
            let found = self.raw.starting_with(&prefix);
            records.extend(found.filter(|(key, _)| owned.has_key(self.list.era, key)));
        }
        if self.list.era == MboxListEra::ById {
            let ids: Vec<Vec<u8>> = records.iter().filter_map(|(_, v)| field(v, b"I")).collect();
            for id in ids {
                let key = [b"I", id.as_slice()].concat();
                // A tombstone's id may belong to a mailbox that lives elsewhere now.
                if let Some((key, value)) = self.raw.get(&key)
                    && field(value, b"N").is_some_and(|name| owned.has_dbname(&name))
                {
                    records.push((key, value));
                }
            }
        }
        records.sort_unstable();
        records.dedup();
        records
    }

    /// The mailboxes that were created last, or some from all over the list where nothing tells:
    /// their indexes are the best witnesses of the release.
    pub fn witnesses(&self, count: usize) -> Vec<&MailboxEntry> {
        let mut live: Vec<&MailboxEntry> =
            self.list.entries.iter().filter(|entry| entry.mbtype.has_data()).collect();
        if self.list.era == MboxListEra::Text {
            let step = live.len().div_ceil(count.max(1)).max(1);
            return live.into_iter().step_by(step).collect();
        }
        // A UIDVALIDITY is the time of creation.
        live.sort_by_key(|entry| std::cmp::Reverse(entry.uidvalidity));
        live.truncate(count);
        live
    }
}

/// Which names and keys are one account's.
#[derive(Debug)]
pub(crate) enum Owned {
    /// A user's: what these names are, and what is below them.
    ByUser {
        /// The INBOX, and what the names of deleted mailboxes start with, in both forms.
        internal: [Vec<u8>; 2],
        dbname: Option<[Vec<u8>; 2]>,
    },
    /// Nobody's: what no user can own.
    ByNobody {
        /// What the names of deleted mailboxes start with.
        deletedprefix: Vec<u8>,
    },
}

impl Owned {
    /// `None` for a userid that cannot have a mailbox.
    pub fn by(userid: &Userid, rules: &PathRules) -> Option<Self> {
        let rules = &rules.names;
        let Some(user) = userid.user() else {
            return Some(Self::ByNobody { deletedprefix: rules.deletedprefix.clone() });
        };
        let inbox = rules.inbox_of(user).ok()?;
        let dbname = rules.to_dbname(&inbox).ok();
        let deleted = |name: &[u8], domain_ends: u8, separator: u8| {
            let (domain, local) = split_domain(name, domain_ends);
            [domain, &rules.deletedprefix, &[separator], local].concat()
        };
        Some(Self::ByUser {
            internal: [inbox.as_bytes().to_vec(), deleted(inbox.as_bytes(), b'!', b'.')],
            dbname: dbname.map(|name| {
                let deleted = deleted(&name, DB_DOMAIN_SEPARATOR, DB_SEPARATOR);
                [name, deleted]
            }),
        })
    }

    /// Whether it is the internal name of a mailbox of the account.
    pub fn has_name(&self, name: &[u8]) -> bool {
        match self {
            Self::ByUser { internal, .. } => {
                internal.iter().any(|top| is_at_or_below(name, top, b'.'))
            }
            Self::ByNobody { deletedprefix } => !is_a_users(name, b'!', b'.', deletedprefix),
        }
    }

    fn has_dbname(&self, name: &[u8]) -> bool {
        match self {
            Self::ByUser { dbname, .. } => {
                dbname.iter().flatten().any(|top| is_at_or_below(name, top, DB_SEPARATOR))
            }
            Self::ByNobody { deletedprefix } => {
                !is_a_users(name, DB_DOMAIN_SEPARATOR, DB_SEPARATOR, deletedprefix)
            }
        }
    }

    fn has_key(&self, era: MboxListEra, key: &[u8]) -> bool {
        match era {
            // Reverse ACLs and marks of work under way are no mailboxes.
            _ if key.starts_with(b"$") => false,
            MboxListEra::Text | MboxListEra::Dlist => self.has_name(key),
            MboxListEra::ById => key.strip_prefix(b"N").is_some_and(|name| self.has_dbname(name)),
        }
    }

    /// What the keys start with, and some others too.
    fn prefixes(&self, era: MboxListEra) -> Vec<Vec<u8>> {
        match (self, era) {
            (Self::ByUser { internal, .. }, MboxListEra::Text | MboxListEra::Dlist) => {
                internal.to_vec()
            }
            (Self::ByUser { dbname, .. }, MboxListEra::ById) => {
                dbname.iter().flatten().map(|name| [b"N", name.as_slice()].concat()).collect()
            }
            (Self::ByNobody { .. }, MboxListEra::Text | MboxListEra::Dlist) => vec![Vec::new()],
            (Self::ByNobody { .. }, MboxListEra::ById) => vec![b"N".to_vec()],
        }
    }
}

/// Whether a name is that of a user's mailbox, deleted or not. Asked of every record, so nothing is
/// taken apart for it.
fn is_a_users(name: &[u8], domain_ends: u8, separator: u8, deletedprefix: &[u8]) -> bool {
    let (_, local) = split_domain(name, domain_ends);
    let undeleted = below(local, deletedprefix, separator).unwrap_or(local);
    below(undeleted, b"user", separator).is_some()
}

fn below<'n>(name: &'n [u8], top: &[u8], separator: u8) -> Option<&'n [u8]> {
    name.strip_prefix(top)?.strip_prefix(&[separator])
}

/// A domain with what ends it, and the rest.
fn split_domain(name: &[u8], domain_ends: u8) -> (&[u8], &[u8]) {
    name.split_at(name.iter().position(|byte| *byte == domain_ends).map_or(0, |at| at + 1))
}

fn is_at_or_below(name: &[u8], top: &[u8], separator: u8) -> bool {
    name.strip_prefix(top).is_some_and(|rest| rest.first().is_none_or(|b| *b == separator))
}

/// Whose mailbox it is. A name that cannot be taken apart still has an owner if it starts like
/// one of his: then he hears of it.
fn owner(name: &MboxName, rules: &NameRules) -> Option<Userid> {
    if let Ok(parts) = rules.parts(name) {
        parts.user.as_ref()?;
        return rules.owner(name);
    }
    let (domain, local) = split_domain(name.as_bytes(), b'!');
    let mut components = local.split(|byte| *byte == b'.');
    if local.starts_with(&rules.deletedprefix) {
        components.next();
    }
    let user = components.next().filter(|first| *first == b"user").and(components.next())?;
    let inbox = [domain, b"user.", user].concat();
    rules.owner(&MboxName::new(inbox))
}

/// Only the newer releases write what only they know.
fn name_era(list: &MboxList) -> NameEra {
    let is_v3 = |entry: &MailboxEntry| {
        let id = entry.uniqueid.as_ref().map(UniqueId::as_bytes).unwrap_or_default();
        entry.foldermodseq.is_some()
            || entry.createdmodseq.is_some()
            || (!id.is_empty() && id.len() != OLD_ID_LENGTH)
    };
    match list.era {
        MboxListEra::Text => NameEra::V2,
        MboxListEra::ById => NameEra::V3,
        MboxListEra::Dlist if list.entries.iter().any(is_v3) => NameEra::V3,
        MboxListEra::Dlist => NameEra::V2,
    }
}

/// A field of a record's value.
fn field(value: &[u8], key: &[u8]) -> Option<Vec<u8>> {
    let value = Dlist::parse_exact(value).ok()?;
    value.get(key)?.as_bytes().map(<[u8]>::to_vec)
}
