//! mailboxes.db of a built spool.

use std::collections::BTreeMap;

use cyrus_format::db::twoskip;
use cyrus_format::dlist::Dlist;

use super::names::Name;
use super::{BuildError, EPOCH, Era, Spool, skiplist};

/// What mailboxes.db says about a mailbox, besides its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ListedMailbox {
    pub uniqueid: String,
    pub uidvalidity: u32,
    pub acl: Vec<(String, String)>,
}

/// Writes mailboxes.db in the form and the format that are the release's default.
pub(super) fn write(
    spool: &Spool,
    mailboxes: &BTreeMap<String, ListedMailbox>,
) -> Result<(), BuildError> {
    let era = spool.options.era;
    let mut entries = BTreeMap::new();
    for (name, mailbox) in mailboxes {
        if era.by_uniqueid() {
            let database_name = Name::of(name).database_name();
            let by_name = by_name(mailbox).to_vec();
            let by_id = by_id(&database_name, mailbox).to_vec();
            entries.insert([b"N", database_name.as_bytes()].concat(), by_name);
            entries.insert([b"I", mailbox.uniqueid.as_bytes()].concat(), by_id);
        } else if era >= Era::V2_5 {
            entries.insert(name.as_bytes().to_vec(), named(era, mailbox).to_vec());
        } else {
            entries.insert(name.as_bytes().to_vec(), text(mailbox));
        }
    }
    let path = spool.config_directory.join("mailboxes.db");
    let bytes = if spool.options.flat_mailbox_list {
        super::account::flat(&entries)
    } else if era >= Era::V2_5 {
        let sorted: Vec<_> = entries.iter().collect();
        twoskip::write_fresh(&sorted).map_err(super::encode_error(&path))?
    } else {
        skiplist::write(&entries, EPOCH as u32)
    };
    super::write(&path, &bytes)
}

/// Up to 2.4: type bits, partition, ACL.
fn text(mailbox: &ListedMailbox) -> Vec<u8> {
    let mut text = String::from("0 default ");
    for (who, rights) in &mailbox.acl {
        text.push_str(&format!("{who}\t{rights}\t"));
    }
    text.into_bytes()
}

/// 2.5 to 3.4.
fn named(era: Era, mailbox: &ListedMailbox) -> Dlist {
    let mut pairs = vec![pair("A", acl(mailbox)), pair("I", string(&mailbox.uniqueid))];
    pairs.push(pair("P", string("default")));
    pairs.push(pair("V", Dlist::num(u64::from(mailbox.uidvalidity))));
    if era >= Era::V3_2 {
        pairs.push(pair("C", Dlist::num(1)));
    }
    if era >= Era::V3_0 {
        pairs.push(pair("F", Dlist::num(1)));
    }
    pairs.push(pair("M", Dlist::num(EPOCH as u64)));
    Dlist::Kv(pairs)
}

/// Since 3.6, under the name.
fn by_name(mailbox: &ListedMailbox) -> Dlist {
    let head = vec![pair("T", string("e")), pair("I", string(&mailbox.uniqueid))];
    Dlist::Kv([head, tail(mailbox)].concat())
}

/// Since 3.6, under the uniqueid.
fn by_id(database_name: &str, mailbox: &ListedMailbox) -> Dlist {
    let head = vec![pair("T", string("e")), pair("N", string(database_name))];
    Dlist::Kv([head, tail(mailbox)].concat())
}

fn tail(mailbox: &ListedMailbox) -> Vec<(Vec<u8>, Dlist)> {
    vec![
        pair("P", string("default")),
        pair("V", Dlist::num(u64::from(mailbox.uidvalidity))),
        pair("C", Dlist::num(1)),
        pair("F", Dlist::num(1)),
        pair("M", Dlist::num(EPOCH as u64)),
        pair("A", acl(mailbox)),
    ]
}

fn acl(mailbox: &ListedMailbox) -> Dlist {
    let rights = mailbox.acl.iter();
    Dlist::Kv(rights.map(|(who, rights)| pair(who, string(rights))).collect())
}

fn pair(key: &str, value: Dlist) -> (Vec<u8>, Dlist) {
    (key.as_bytes().to_vec(), value)
}

fn string(text: &str) -> Dlist {
    Dlist::bytes(text)
}
