//! What differs between two snapshots of an account, as clients would have noticed it.
//!
//! Mailboxes are the same if their identity is, whatever their names are, and messages if mailbox
//! and UID are. Only messages that clients see count: an expunged one is gone, whether or not its
//! file is kept.

use std::collections::{BTreeMap, BTreeSet};

use cyrus_format::header::MailboxHeader;
use cyrus_format::names::NameRules;
use cyrus_format::subs::Subscriptions;
use model::diff::{RecordStep, Step, diff, diff_records};
use model::state::MailboxKey;
use model::{Guid, MboxName, Uid, UidValidity};
use segment::chain::{Chain, Snapshot};
use segment::manifest::{ManifestHead, StoredMailbox};

use crate::archive::ArchiveError;
use crate::base::{describe, key_of, read_exceptions};
use crate::exceptions::Exceptions;
use crate::held::Held;
use crate::records::{EXPUNGE, INDEX, identity};
use crate::view::View;

const HEADER: &str = "cyrus.header";

/// The subscriptions among an account's files.
const SUBSCRIPTIONS: &str = "sub";

/// Its mailboxes' records in mailboxes.db, among the same. What they say that clients notice, the
/// mailboxes say themselves.
const MAILBOXES: &str = "mailboxes";

/// A snapshot, and the chain that holds it.
#[derive(Clone, Copy)]
pub struct At<'s, 'a> {
    /// Which.
    pub snapshot: &'s Snapshot<'a>,
    /// Its chain.
    pub chain: &'s Chain<'a>,
}

/// What differs between two snapshots.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Mailboxes of which something differs, by name.
    pub mailboxes: Vec<MailboxChanges>,
    /// What differs outside of mailboxes.
    pub account: Vec<AccountChange>,
}

impl Changes {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.mailboxes.is_empty() && self.account.is_empty()
    }
}

/// What differs of a mailbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailboxChanges {
    /// Its name in internal form: in the later snapshot, if it is in that.
    pub name: MboxName,
    /// What differs: of the mailbox first, then of messages by UID.
    pub changes: Vec<Change>,
}

/// One thing that differs of a mailbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The mailbox came, with all that it holds.
    MailboxCame,
    /// The mailbox went, with all that it held.
    MailboxWent,
    /// It had another name.
    Renamed {
        /// In internal form.
        from: MboxName,
    },
    /// All its messages got new UIDs, so that none can be told to be the same. Messages are not
    /// compared.
    UidValidity {
        /// In the earlier snapshot.
        before: UidValidity,
        /// In the later one.
        after: UidValidity,
    },
    /// Its index was damaged in one of the snapshots. Messages are not compared.
    Unreadable,
    /// Somebody's rights changed.
    Acl {
        /// Whose.
        identifier: Vec<u8>,
        /// Letters in the earlier snapshot; `None` if he had no entry.
        before: Option<Vec<u8>>,
        /// In the later one.
        after: Option<Vec<u8>>,
    },
    /// A message came.
    Came(Message),
    /// A message went: expunged, moved, or with its mailbox.
    Went(Message),
    /// A UID stands for another message: damage or repair.
    Replaced {
        /// The earlier one.
        before: Message,
        /// The later one.
        after: Message,
    },
    /// A message got or lost flags.
    Flags {
        /// The message.
        message: Message,
        /// Its flags in the earlier snapshot: system flags as `\Seen`, then user flags by name.
        before: Vec<String>,
        /// In the later one.
        after: Vec<String>,
    },
}

/// A message of a mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its number there.
    pub uid: Uid,
    /// The GUID of the bytes that are stored of it; `None` if there are none.
    pub guid: Option<Guid>,
}

/// One thing that differs outside of mailboxes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccountChange {
    /// A subscription came.
    Subscribed(MboxName),
    /// A subscription went.
    Unsubscribed(MboxName),
    /// A file of the account came, by its name in a snapshot: `seen`, `quota/user.glad`.
    FileCame(String),
    /// One went.
    FileWent(String),
    /// What one holds differs.
    FileChanged(String),
}

/// Compares two snapshots. Mailboxes of which no file differs are not read.
///
/// # Errors
///
/// Metadata that cannot be read.
pub fn compare(before: At<'_, '_>, after: At<'_, '_>) -> Result<Changes, ArchiveError> {
    let before = Side { head: before.snapshot.head()?, chain: before.chain };
    let after = Side { head: after.snapshot.head()?, chain: after.chain };
    let mut touched: BTreeMap<MailboxKey, Option<MboxName>> = BTreeMap::new();
    let mut account = Vec::new();
    let files: BTreeSet<&str> = before.head.account_files.iter().map(|f| f.name.as_str()).collect();
    for step in diff(&describe(&after.head), &describe(&before.head)).steps {
        match step {
            Step::Rename { mailbox, from, .. } => drop(touched.insert(mailbox, Some(from))),
            Step::Create { mailbox, .. }
            | Step::Update { mailbox, .. }
            | Step::Remove { mailbox, .. } => {
                touched.entry(mailbox).or_default();
            }
            Step::PutFile(name) | Step::RemoveFile(name) if name == SUBSCRIPTIONS => {
                subscriptions(&before, &after, &mut account)?;
            }
            Step::PutFile(name) | Step::RemoveFile(name) if name == MAILBOXES => {}
            Step::PutFile(name) if files.contains(name.as_str()) => {
                account.push(AccountChange::FileChanged(name));
            }
            Step::PutFile(name) => account.push(AccountChange::FileCame(name)),
            Step::RemoveFile(name) => account.push(AccountChange::FileWent(name)),
        }
    }
    let mut mailboxes = Vec::new();
    let (had, has) = (before.mailboxes(), after.mailboxes());
    for (key, renamed) in touched {
        let (had, has) = (had.get(&key).copied(), has.get(&key).copied());
        let Some(named) = has.or(had) else { continue };
        let mut changes = Vec::new();
        changes.extend(renamed.map(|from| Change::Renamed { from }));
        let before = Mailbox::read(before.chain, had)?;
        let after = Mailbox::read(after.chain, has)?;
        compare_mailbox(&before, &after, &mut changes);
        if !changes.is_empty() {
            let name = MboxName::new(named.name.as_bytes());
            mailboxes.push(MailboxChanges { name, changes });
        }
    }
    mailboxes.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Changes { mailboxes, account })
}

/// One of the two snapshots.
struct Side<'s> {
    head: ManifestHead,
    chain: &'s dyn Held,
}

impl Side<'_> {
    fn mailboxes(&self) -> BTreeMap<MailboxKey, &StoredMailbox> {
        self.head.mailboxes.iter().map(|mailbox| (key_of(mailbox), mailbox)).collect()
    }

    /// What the account is subscribed to; `None` where nobody can read it.
    fn subscriptions(&self) -> Result<Option<BTreeSet<MboxName>>, ArchiveError> {
        let stored = self.head.account_files.iter().find(|file| file.name == SUBSCRIPTIONS);
        let Some(stored) = stored else { return Ok(Some(BTreeSet::new())) };
        let bytes = self.chain.file(stored)?;
        let Ok(db) = cyrus_format::db::read(&bytes) else { return Ok(None) };
        let records = db.entries.iter().map(|(key, value)| (key.as_ref(), value.as_ref()));
        // Only names with a domain depend on the configuration, and mailboxes show which it was.
        let virtdomains = self.head.mailboxes.iter().any(|m| m.name.as_bytes().contains(&b'!'));
        let rules = NameRules { virtdomains, ..NameRules::v3() };
        let userid = model::Userid::new(self.head.userid.as_bytes());
        let subs = Subscriptions::parse(records, &userid, &rules).ok();
        Ok(subs.map(|subs| subs.mailboxes.into_iter().collect()))
    }
}

fn subscriptions(
    before: &Side<'_>,
    after: &Side<'_>,
    changes: &mut Vec<AccountChange>,
) -> Result<(), ArchiveError> {
    match (before.subscriptions()?, after.subscriptions()?) {
        (Some(had), Some(has)) => {
            changes.extend(has.difference(&had).cloned().map(AccountChange::Subscribed));
            changes.extend(had.difference(&has).cloned().map(AccountChange::Unsubscribed));
        }
        _ => changes.push(AccountChange::FileChanged(SUBSCRIPTIONS.to_owned())),
    }
    Ok(())
}

/// A mailbox of one of the snapshots.
#[derive(Default)]
struct Mailbox {
    files: BTreeMap<String, Vec<u8>>,
    contents: Exceptions,
    is_there: bool,
    /// `None` where the index cannot be read.
    uidvalidity: Option<UidValidity>,
}

impl Mailbox {
    fn read(chain: &dyn Held, stored: Option<&StoredMailbox>) -> Result<Self, ArchiveError> {
        let Some(stored) = stored else { return Ok(Self::default()) };
        let mut files = BTreeMap::new();
        for file in &stored.files {
            if [INDEX, EXPUNGE, HEADER].contains(&file.name.as_str()) {
                files.insert(file.name.clone(), chain.file(file)?);
            }
        }
        Ok(Self {
            files,
            contents: read_exceptions(chain, stored)?,
            is_there: true,
            uidvalidity: stored.index_version.map(|_| UidValidity(stored.uidvalidity)),
        })
    }

    fn header(&self) -> Option<MailboxHeader> {
        MailboxHeader::parse(self.files.get(HEADER)?).ok()
    }
}

fn compare_mailbox(before: &Mailbox, after: &Mailbox, changes: &mut Vec<Change>) {
    let headers = (before.header(), after.header());
    match (before.is_there, after.is_there) {
        (false, _) => changes.push(Change::MailboxCame),
        (_, false) => changes.push(Change::MailboxWent),
        (true, true) => match (before.uidvalidity, after.uidvalidity) {
            (None, None) => {}
            (Some(before), Some(after)) if before == after => {}
            (Some(before), Some(after)) => changes.push(Change::UidValidity { before, after }),
            _ => changes.push(Change::Unreadable),
        },
    }
    if let (Some(had), Some(has)) = &headers {
        compare_acls(&had.acl, &has.acl, changes);
    }
    let is_comparable = before.uidvalidity == after.uidvalidity;
    if !is_comparable && before.is_there && after.is_there {
        return;
    }
    let flag_names = |header: Option<MailboxHeader>| header.map(|header| header.user_flags);
    let before = View::new(&before.files, &before.contents, flag_names(headers.0));
    let after = View::new(&after.files, &after.contents, flag_names(headers.1));
    let had = before.visible().map(|record| (record.uid, identity(&record)));
    let steps = diff_records(after.visible(), had, |record| (record.uid, identity(record)));
    for step in steps {
        match step {
            RecordStep::Add(record) => changes.push(Change::Came(message(&after, record.uid))),
            RecordStep::Remove(uid) => changes.push(Change::Went(message(&before, uid))),
            RecordStep::Replace(record) => {
                let [before, after] = [&before, &after].map(|view| message(view, record.uid));
                changes.push(Change::Replaced { before, after });
            }
            RecordStep::Keep(record) => {
                let (had, has) = (flags(&before, record.uid), flags(&after, record.uid));
                if had != has {
                    let message = message(&after, record.uid);
                    changes.push(Change::Flags { message, before: had, after: has });
                }
            }
        }
    }
}

fn message(view: &View<'_>, uid: Uid) -> Message {
    Message { uid, guid: view.guid(uid) }
}

fn flags(view: &View<'_>, uid: Uid) -> Vec<String> {
    view.flags(uid, |number| Some(format!("flag number {number}")))
}

type Acl = [(Vec<u8>, Vec<u8>)];

fn compare_acls(before: &Acl, after: &Acl, changes: &mut Vec<Change>) {
    let [had, has] = [before, after].map(|acl| acl.iter().cloned().collect::<BTreeMap<_, _>>());
    let identifiers: BTreeSet<&Vec<u8>> = had.keys().chain(has.keys()).collect();
    for identifier in identifiers {
        let (before, after) = (had.get(identifier).cloned(), has.get(identifier).cloned());
        if before != after {
            changes.push(Change::Acl { identifier: identifier.clone(), before, after });
        }
    }
}
