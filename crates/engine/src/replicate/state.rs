//! Both sides in the words that [`model::diff`] compares: a fingerprint for each thing that can be
//! changed by itself.

use std::collections::BTreeMap;

use csync::mailbox::{Contents, Mailbox};
use csync::meta::{Quota, Seen};
use model::state::{AccountState, FileState, MailboxKey, MailboxState};
use segment::names::escape;

use super::local::{Local, Unknown};
use super::remote::Remote;
use crate::source::fingerprint;

/// What an account's parts other than mailboxes are called; a name follows, escaped.
pub const SUBSCRIPTION: &str = "subscription/";
pub const SEEN: &str = "seen/";
pub const QUOTA: &str = "quota/";
pub const SCRIPT: &str = "script/";
pub const ACTIVE_SCRIPT: &str = "script";

/// Describes both sides. What one of them does not tell is no difference.
pub fn describe(local: &Local<'_>, remote: &Remote) -> (AccountState, AccountState) {
    let mut want = AccountState::empty(local.userid.clone());
    let mut have = AccountState::empty(local.userid.clone());
    for (key, mailbox) in &remote.mailboxes {
        let other = local.mailboxes.get(key).map(|local| &local.told).unwrap_or(mailbox);
        have.mailboxes.insert(key.clone(), described(mailbox, other, local.unknown));
    }
    for (key, mailbox) in &local.mailboxes {
        let other = remote.mailboxes.get(key);
        let state = match (mailbox.is_usable, have.mailboxes.get(key)) {
            (true, _) => described(&mailbox.told, other.unwrap_or(&mailbox.told), local.unknown),
            // It is left alone, whatever the replica has.
            (false, Some(same)) => same.clone(),
            (false, None) => continue,
        };
        want.mailboxes.insert(key.clone(), state);
    }
    for entry in local.names.values().filter(|entry| entry.mbtype.intermediate) {
        let is_there = remote.levels.contains(&entry.name) || remote.named(&entry.name).is_some();
        let key = entry.uniqueid.as_ref().map(|id| MailboxKey(id.as_bytes().to_vec()));
        if let Some(key) = key.filter(|key| !is_there && !remote.mailboxes.contains_key(key)) {
            let state = MailboxState { name: entry.name.clone(), files: BTreeMap::new() };
            want.mailboxes.entry(key).or_insert(state);
        }
    }
    have.files = files_of_remote(local, remote);
    want.files = files_of_local(local, &have.files);
    (want, have)
}

fn described(mailbox: &Mailbox, other: &Mailbox, unknown: Unknown) -> MailboxState {
    let name = mailbox.mboxname.clone();
    let (Some(own), Some(others)) = (&mailbox.contents, &other.contents) else {
        return MailboxState { name, files: BTreeMap::new() };
    };
    let folder = match (mailbox.foldermodseq, other.foldermodseq) {
        (Some(own), Some(other)) if other.0 != 0 => own.0,
        _ => 0,
    };
    let kind = String::from_utf8_lossy(&mailbox.mboxtype);
    let attributes =
        format!("{kind} {} {folder} {:?} {:?}", own.uidvalidity, own.acl, sorted(&own.options),);
    let known = own.annotations.iter().filter(|_| !unknown.annotations);
    let mut annotations: Vec<String> =
        known.map(|note| format!("{:?} {:?} {:?}", note.entry, note.userid, note.value)).collect();
    annotations.sort();
    let parts = [
        ("messages", format!("{} {}", mailbox.highestmodseq, messages(own, others))),
        ("attributes", attributes),
        ("annotations", annotations.join("\n")),
    ];
    let files = parts.map(|(part, text)| (part.to_owned(), fingerprint(text.as_bytes())));
    MailboxState { name, files: files.into() }
}

fn sorted(letters: &[u8]) -> Vec<u8> {
    let mut letters = letters.to_vec();
    letters.sort_unstable();
    letters
}

fn messages(own: &Contents, other: &Contents) -> String {
    // 0 is not to be compared.
    let crc = |own: Option<u32>, other: Option<u32>| match (own, other) {
        (Some(own), Some(other)) if other != 0 => own,
        _ => 0,
    };
    let pop3_show_after = own.pop3_show_after.filter(|_| other.pop3_show_after.is_some());
    format!(
        "{} {} {} {} {} {} {}",
        own.last_uid,
        own.recentuid,
        own.recenttime.secs,
        own.pop3_last_login.secs,
        pop3_show_after.unwrap_or_default().secs,
        crc(own.sync_crc, other.sync_crc),
        crc(own.sync_crc_annot, other.sync_crc_annot),
    )
}

fn files_of_remote(local: &Local<'_>, remote: &Remote) -> BTreeMap<String, FileState> {
    let mut files = BTreeMap::new();
    if local.subscriptions.is_some() {
        for name in &remote.subscriptions {
            files.insert(subscription(name.as_bytes()), fingerprint(b""));
        }
    }
    for seen in remote.seen.values() {
        files.insert(seen_name(seen), seen_state(seen));
    }
    for quota in remote.quotas.values().filter(|quota| local.owns(&quota.root)) {
        files.insert(quota_name(quota), quota_state(quota));
    }
    if local.scripts.is_some() {
        for file in remote.scripts.values() {
            match file.active {
                true => files.insert(ACTIVE_SCRIPT.to_owned(), fingerprint(&file.filename)),
                false => files.insert(script_name(&file.filename), fingerprint(&file.guid.0)),
            };
        }
    }
    files
}

fn files_of_local(
    local: &Local<'_>,
    have: &BTreeMap<String, FileState>,
) -> BTreeMap<String, FileState> {
    let mut files = BTreeMap::new();
    for name in local.subscriptions.iter().flatten() {
        files.insert(subscription(name.as_bytes()), fingerprint(b""));
    }
    // What was read somewhere is never forgotten.
    let had = have.iter().filter(|(name, _)| {
        name.starts_with(SEEN)
            || local.unknown.quotas && name.starts_with(QUOTA)
            || local.unknown.scripts && name.starts_with(ACTIVE_SCRIPT)
    });
    files.extend(had.map(|(name, state)| (name.clone(), *state)));
    for seen in local.seen.values() {
        files.insert(seen_name(seen), seen_state(seen));
    }
    for quota in local.quotas.values() {
        files.insert(quota_name(quota), quota_state(quota));
    }
    if let Some(scripts) = &local.scripts {
        for (name, (guid, _)) in &scripts.texts {
            files.insert(script_name(name), fingerprint(&guid.0));
        }
        if let Some(active) = &scripts.active {
            files.insert(ACTIVE_SCRIPT.to_owned(), fingerprint(&bytecode(active)));
        }
    }
    files
}

/// The name of a script's bytecode.
pub fn bytecode(script: &[u8]) -> Vec<u8> {
    [script.strip_suffix(b".script").unwrap_or(script), b".bc"].concat()
}

pub fn subscription(name: &[u8]) -> String {
    format!("{SUBSCRIPTION}{}", escape(name))
}

pub fn seen_name(seen: &Seen) -> String {
    format!("{SEEN}{}", escape(seen.uniqueid.as_bytes()))
}

pub fn quota_name(quota: &Quota) -> String {
    format!("{QUOTA}{}", escape(quota.root.as_bytes()))
}

pub fn script_name(file: &[u8]) -> String {
    format!("{SCRIPT}{}", escape(file))
}

fn seen_state(seen: &Seen) -> FileState {
    let state = &seen.state;
    let text = format!("{} {} {}", state.last_uid, state.last_change, state.uids.write());
    fingerprint(text.as_bytes())
}

fn quota_state(quota: &Quota) -> FileState {
    fingerprint(format!("{:?}", quota.limits).as_bytes())
}
