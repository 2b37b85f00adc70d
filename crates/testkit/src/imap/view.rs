//! Everything that a client can see of an account.

use std::collections::{BTreeMap, BTreeSet};

use model::Guid;
use sha1::{Digest, Sha1};

use super::client::is_response;
use super::wire::{self, Value};
use super::{ImapClient, ImapError, Selected};

/// What is fetched of every message. Annotations come along in the same answer.
const MESSAGE_ITEMS: &str = "FLAGS INTERNALDATE RFC822.SIZE MODSEQ SAVEDATE \
                             ANNOTATION (/* (value.priv value.shared)) BODY.PEEK[]";

/// Entries that tell when and where a server keeps a mailbox, not what is in it.
const VOLATILE_ENTRIES: [&str; 3] = [
    "/shared/vendor/cmu/cyrus-imapd/lastupdate",
    "/shared/vendor/cmu/cyrus-imapd/partition",
    "/shared/vendor/cmu/cyrus-imapd/server",
];

/// An account as the user who is logged in sees it, or a whole server as its admin does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImapView {
    /// The mailboxes by their names.
    pub folders: BTreeMap<String, FolderView>,
    /// The names subscribed to, whether they exist or not.
    pub subscriptions: BTreeSet<String>,
    /// The quotas by their roots.
    pub quotas: BTreeMap<String, QuotaView>,
}

/// One mailbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FolderView {
    /// MAILBOXID, made of the uniqueid since Cyrus 3.6.
    pub mailbox_id: String,
    /// UIDVALIDITY.
    pub uid_validity: u64,
    /// UIDNEXT.
    pub uid_next: u64,
    /// HIGHESTMODSEQ.
    pub highest_modseq: u64,
    /// The messages by their UIDs.
    pub messages: BTreeMap<u32, MessageView>,
    /// The attributes of LIST that say what it is for, as `\Sent`.
    pub purposes: BTreeSet<String>,
    /// Annotations that have a value, without those that say when and where it is kept.
    pub annotations: BTreeMap<String, String>,
    /// Rights by user; empty where the viewer may not see them.
    pub acl: BTreeMap<String, String>,
    /// The root of the quota that counts it.
    pub quota_root: Option<String>,
}

/// One message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MessageView {
    /// Flags without `\Recent`, which belongs to the session.
    pub flags: BTreeSet<String>,
    /// When it arrived, in the server's words.
    pub internaldate: String,
    /// When it was saved here, in the server's words; empty where the server does not know.
    pub savedate: String,
    /// RFC822.SIZE.
    pub size: u64,
    /// MODSEQ.
    pub modseq: u64,
    /// SHA-1 of the bytes served.
    pub guid: Guid,
    /// Number of the bytes served.
    pub served: u64,
    /// Annotations that have a value, as `/comment value.priv`.
    pub annotations: BTreeMap<String, String>,
}

/// Use and limit of each resource of one quota root; no limit where it is `None`.
pub type QuotaView = BTreeMap<String, (u64, Option<u64>)>;

/// The GUID of a message: SHA-1 of its bytes.
pub fn guid_of(message: &[u8]) -> Guid {
    Guid(Sha1::digest(message).into())
}

impl ImapView {
    /// Looks at everything that the user who is logged in can see, changing nothing. The mailbox
    /// that was selected is closed.
    pub fn of(client: &mut ImapClient) -> Result<Self, ImapError> {
        Self::of_mailboxes(client, "*")
    }

    /// Likewise, but only at the mailboxes whose names match, as `DELETED/*` for an admin.
    pub fn of_mailboxes(client: &mut ImapClient, pattern: &str) -> Result<Self, ImapError> {
        let mut view = Self::default();
        for (attributes, name) in client.list_attributes(pattern)? {
            if attributes.iter().any(|word| word == "\\Noselect" || word == "\\NonExistent") {
                continue;
            }
            let folder = view.folder(client, &name, attributes)?;
            view.folders.insert(name, folder);
        }
        view.subscriptions = client.subscriptions()?.into_iter().collect();
        Ok(view)
    }

    /// The number of messages in all folders.
    pub fn message_count(&self) -> usize {
        self.folders.values().map(|folder| folder.messages.len()).sum()
    }

    fn folder(
        &mut self,
        client: &mut ImapClient,
        name: &str,
        attributes: Vec<String>,
    ) -> Result<FolderView, ImapError> {
        let selected = client.examine(name)?;
        let mut folder = FolderView::of_selected(selected);
        folder.purposes = attributes.into_iter().filter(|word| !is_structural(word)).collect();
        if folder.uid_next > 1 {
            folder.messages = messages(client)?;
        }
        client.unselect()?;
        folder.annotations = annotations(client, name)?;
        folder.acl = acl(client, name)?;
        folder.quota_root = self.quota(client, name)?;
        Ok(folder)
    }

    fn quota(&mut self, client: &mut ImapClient, name: &str) -> Result<Option<String>, ImapError> {
        let mut root = None;
        for raw in client.command(&format!("GETQUOTAROOT {}", quoted(name)))? {
            let values = wire::parse(&raw);
            if is_response(&values, b"QUOTAROOT") {
                root = values.get(3).and_then(Value::text);
            } else if is_response(&values, b"QUOTA")
                && let [_, _, name, resources] = values.as_slice()
            {
                let name = name.text().unwrap_or_default();
                self.quotas.insert(name, quota_view(resources.items()));
            }
        }
        Ok(root)
    }
}

impl FolderView {
    fn of_selected(selected: Selected) -> Self {
        Self {
            mailbox_id: selected.mailbox_id,
            uid_validity: selected.uid_validity,
            uid_next: selected.uid_next,
            highest_modseq: selected.highest_modseq,
            ..Self::default()
        }
    }
}

/// Attributes that follow from what other folders and subscriptions there are.
fn is_structural(attribute: &str) -> bool {
    ["\\HasChildren", "\\HasNoChildren", "\\Subscribed", "\\Marked", "\\Unmarked"]
        .contains(&attribute)
}

fn messages(client: &mut ImapClient) -> Result<BTreeMap<u32, MessageView>, ImapError> {
    let mut messages = BTreeMap::new();
    client.fetch("1:*", MESSAGE_ITEMS, &mut |fetched| {
        let list = |item| fetched.get(item).map(Value::items).unwrap_or_default();
        let flags = list("FLAGS").iter().filter_map(Value::text);
        let bytes = fetched.get("BODY[]").and_then(Value::bytes).unwrap_or_default();
        let message = MessageView {
            flags: flags.filter(|flag| flag != "\\Recent").collect(),
            internaldate: fetched.text("INTERNALDATE"),
            savedate: fetched.text("SAVEDATE"),
            size: fetched.number("RFC822.SIZE"),
            modseq: list("MODSEQ").first().and_then(Value::number).unwrap_or(0),
            guid: guid_of(bytes),
            served: bytes.len() as u64,
            annotations: message_annotations(list("ANNOTATION")),
        };
        messages.insert(fetched.uid(), message);
    })?;
    Ok(messages)
}

/// `entry (attribute value …) entry (…) …`, without what is NIL.
fn message_annotations(items: &[Value<'_>]) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for entry in items.chunks_exact(2) {
        let name = entry[0].text().unwrap_or_default();
        for attribute in entry[1].items().chunks_exact(2) {
            if let (Some(which), Some(value)) = (attribute[0].text(), attribute[1].text()) {
                found.insert(format!("{name} {which}"), value);
            }
        }
    }
    found
}

fn annotations(client: &mut ImapClient, name: &str) -> Result<BTreeMap<String, String>, ImapError> {
    let command = format!("GETMETADATA (DEPTH infinity) {} (/private /shared)", quoted(name));
    let mut found = BTreeMap::new();
    for raw in client.command(&command)? {
        let values = wire::parse(&raw);
        if !is_response(&values, b"METADATA") {
            continue;
        }
        for pair in values.get(3).map(Value::items).unwrap_or_default().chunks_exact(2) {
            if let (Some(entry), Some(value)) = (pair[0].text(), pair[1].text())
                && !VOLATILE_ENTRIES.contains(&entry.as_str())
            {
                found.insert(entry, value);
            }
        }
    }
    Ok(found)
}

fn acl(client: &mut ImapClient, name: &str) -> Result<BTreeMap<String, String>, ImapError> {
    let answer = match client.command(&format!("GETACL {}", quoted(name))) {
        Err(error) if error.is_refusal() => return Ok(BTreeMap::new()),
        other => other?,
    };
    let mut rights = BTreeMap::new();
    for raw in &answer {
        let values = wire::parse(raw);
        if is_response(&values, b"ACL") {
            for pair in values.get(3..).unwrap_or_default().chunks_exact(2) {
                let user = pair[0].text().unwrap_or_default();
                rights.insert(user, pair[1].text().unwrap_or_default());
            }
        }
    }
    Ok(rights)
}

fn quota_view(resources: &[Value<'_>]) -> QuotaView {
    let mut quota = QuotaView::new();
    for triple in resources.chunks_exact(3) {
        let name = triple[0].text().unwrap_or_default();
        quota.insert(name, (triple[1].number().unwrap_or(0), triple[2].number()));
    }
    quota
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""))
}
