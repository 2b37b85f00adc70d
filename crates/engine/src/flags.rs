//! Flags alone: what is to be set again where messages are all there and only their flags were
//! lost.

use std::collections::BTreeMap;

use cyrus_format::db;
use cyrus_format::header::MailboxHeader;
use cyrus_format::index::Index;
use cyrus_format::seen::Seen;
use model::{Finding, FindingKind, Guid, Modseq, Timestamp, Uid, UidValidity, UniqueId};

use crate::folder::relative_name;
use crate::records::INDEX;
use crate::source::{SourceAccount, SourceMailbox};
use crate::view::{SEEN, View};

/// The first index version that keeps the owner's `\Seen` in its records.
pub(crate) const SEEN_IN_INDEX: u32 = 12;

/// One mailbox, and the flags of its messages.
pub struct MailboxFlags<'a> {
    /// Its name within the account.
    pub name: Vec<u8>,
    /// Its identity.
    pub uniqueid: Option<UniqueId>,
    /// Which incarnation of its name it is: in another one, UIDs are others.
    pub uidvalidity: UidValidity,
    view: View<'a>,
    /// What its owner has seen, where the index does not say.
    seen: Option<Seen>,
}

/// The flags of one message that clients saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageFlags {
    /// The message.
    pub uid: Uid,
    /// What is stored of it.
    pub guid: Option<Guid>,
    /// When it arrived.
    pub internaldate: Timestamp,
    /// Its flags, system flags first.
    pub flags: Vec<String>,
    /// When they last changed, in the account's counting.
    pub modseq: Modseq,
}

/// What the account's owner has read in one mailbox, his own or another's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenIn {
    /// The mailbox's identity.
    pub uniqueid: UniqueId,
    /// Its name within the account, if it is one of the account's.
    pub name: Option<Vec<u8>>,
    /// What he has read.
    pub seen: Seen,
}

/// The mailboxes of an account in which clients saw messages: deleted ones are left out, and so are
/// those whose index cannot be read.
pub fn mailboxes(account: &SourceAccount) -> impl Iterator<Item = MailboxFlags<'_>> {
    let seen = seen(account);
    let there = account.mailboxes.iter().filter(|mailbox| !mailbox.deleted);
    there.filter_map(move |mailbox| MailboxFlags::new(account, mailbox, &seen))
}

/// A finding for each mailbox that is left out because its index cannot be read.
pub fn unreadable(account: &SourceAccount) -> Vec<Finding> {
    let there = account.mailboxes.iter().filter(|mailbox| !mailbox.deleted);
    let findings = there.filter_map(|mailbox| {
        let detail = match mailbox.files.get(INDEX).map(|bytes| Index::parse(bytes)) {
            Some(Ok(_)) => return None,
            Some(Err(error)) => format!("{INDEX}: {error}; no flags of it are restored"),
            None => format!("there is no {INDEX}; no flags of it are restored"),
        };
        Some(Finding::new(FindingKind::IndexUnreadable, &mailbox.name, detail))
    });
    findings.collect()
}

/// The seen state that is kept with the account; nothing where it cannot be read.
pub fn seen(account: &SourceAccount) -> Vec<SeenIn> {
    let file = account.files.iter().find(|file| file.name == "seen");
    let Some(Ok(read)) = file.map(|file| db::read(&file.bytes)) else { return Vec::new() };
    let name = |mailbox: &SourceMailbox| {
        let name = relative_name(mailbox.name.as_bytes(), account.userid.as_bytes());
        Some((id_of(mailbox, header_of(mailbox).as_ref())?, name))
    };
    let names: BTreeMap<UniqueId, Vec<u8>> = account.mailboxes.iter().filter_map(name).collect();
    let entries = read.entries.iter().filter_map(|(key, value)| {
        let uniqueid = UniqueId::new(key.as_ref());
        let name = names.get(&uniqueid).cloned();
        Some(SeenIn { name, seen: Seen::parse(value).ok()?, uniqueid })
    });
    entries.collect()
}

fn header_of(mailbox: &SourceMailbox) -> Option<MailboxHeader> {
    MailboxHeader::parse(mailbox.files.get("cyrus.header")?).ok()
}

/// Up to 2.4, nothing but cyrus.header says it.
fn id_of(mailbox: &SourceMailbox, header: Option<&MailboxHeader>) -> Option<UniqueId> {
    mailbox.uniqueid.clone().or_else(|| header?.uniqueid.clone())
}

impl<'a> MailboxFlags<'a> {
    fn new(account: &SourceAccount, mailbox: &'a SourceMailbox, seen: &[SeenIn]) -> Option<Self> {
        let index = Index::parse(mailbox.files.get(INDEX)?).ok()?;
        let header = header_of(mailbox);
        let uniqueid = id_of(mailbox, header.as_ref());
        let names = header.map(|header| header.user_flags);
        let of_mailbox = seen.iter().find(|seen| Some(&seen.uniqueid) == uniqueid.as_ref());
        Some(Self {
            name: relative_name(mailbox.name.as_bytes(), account.userid.as_bytes()),
            uniqueid,
            uidvalidity: index.header().uidvalidity,
            view: View::new(&mailbox.files, &mailbox.contents, names),
            seen: of_mailbox
                .filter(|_| index.minor_version() < SEEN_IN_INDEX)
                .map(|seen| seen.seen.clone()),
        })
    }

    /// Its messages, by UID.
    pub fn messages(&self) -> impl Iterator<Item = MessageFlags> + '_ {
        self.view.visible().map(|key| {
            // A flag whose name is not known cannot be set by anybody.
            let mut flags = self.view.flags(key.uid, |_| None);
            if self.seen.as_ref().is_some_and(|seen| seen.uids.contains(key.uid)) {
                flags.insert(0, SEEN.to_owned());
            }
            MessageFlags {
                uid: key.uid,
                guid: self.view.guid(key.uid),
                internaldate: key.internaldate,
                flags,
                modseq: self.view.record(key.uid).modseq,
            }
        })
    }
}
