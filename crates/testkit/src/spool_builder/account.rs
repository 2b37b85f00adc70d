//! The files of one account: subscriptions, seen state, quota.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::mailbox::Finished;
use super::mailbox_list::ListedMailbox;
use super::names::{Name, directory_of_id, quota_file, user_file};
use super::{BuildError, EPOCH, Spool, make_directory, skiplist, write};

/// What is counted and collected while the mailboxes are built.
#[derive(Debug, Default)]
pub(super) struct Account {
    pub subscriptions: BTreeSet<String>,
    pub storage_limit: Option<u64>,
    messages: u64,
    bytes: u64,
    folders: u64,
    seen: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Account {
    /// Counts a mailbox for the quota, and keeps what the owner has seen.
    pub fn count(&mut self, mailbox: &Finished) {
        self.messages += mailbox.live;
        self.bytes += mailbox.bytes;
        self.folders += 1;
        if !mailbox.seen.is_empty() {
            let last = mailbox.last_uid;
            let value = format!("1 {EPOCH} {last} {EPOCH} {}", ranges(&mailbox.seen));
            let key = mailbox.listed.uniqueid.clone().into_bytes();
            self.seen.insert(key, value.into_bytes());
        }
    }

    pub fn write(
        &self,
        spool: &Spool,
        userid: &str,
        mailboxes: &BTreeMap<String, ListedMailbox>,
    ) -> Result<(), BuildError> {
        let inbox = inbox(userid);
        let id = mailboxes.get(&inbox).map(|mailbox| mailbox.uniqueid.as_str());
        if !self.subscriptions.is_empty() {
            write_below(self.file(spool, userid, id, "sub"), &self.subscriptions(spool, &inbox))?;
        }
        if !self.seen.is_empty() {
            let bytes = skiplist::write(&self.seen, EPOCH as u32);
            write_below(self.file(spool, userid, id, "seen"), &bytes)?;
        }
        if self.folders > 0 {
            let path = quota_file(&spool.config_directory, &inbox);
            write_below(path, self.quota(spool).as_bytes())?;
        }
        Ok(())
    }

    fn file(&self, spool: &Spool, userid: &str, id: Option<&str>, suffix: &str) -> PathBuf {
        match id {
            Some(id) if spool.options.era.by_uniqueid() => {
                let user = spool.config_directory.join("user");
                user.join(directory_of_id(id)).join(format!("{suffix}.db"))
            }
            _ => user_file(&spool.config_directory, userid, suffix),
        }
    }

    fn subscriptions(&self, spool: &Spool, inbox: &str) -> Vec<u8> {
        let mut entries = BTreeMap::new();
        if spool.options.era.by_uniqueid() {
            entries.insert(b"\x1fVER\x1f".to_vec(), b"2".to_vec());
        }
        for name in &self.subscriptions {
            let key = match name.strip_prefix(inbox) {
                _ if !spool.options.era.by_uniqueid() => name.clone(),
                Some(rest) => format!("NINBOX{}", Name::of(rest).database_name()),
                None => format!("N{}", Name::of(name).database_name()),
            };
            entries.insert(key.into_bytes(), Vec::new());
        }
        flat(&entries)
    }

    fn quota(&self, spool: &Spool) -> String {
        use super::Era;
        match (spool.options.era, self.storage_limit) {
            (Era::V2_3_9 | Era::V2_3 | Era::V2_4, limit) => {
                let limit = limit.map_or_else(|| "-1".to_owned(), |limit| limit.to_string());
                format!("{}\n{limit}\n", self.bytes)
            }
            (Era::V2_5, limit) => {
                let limit = limit.map_or_else(|| "-1".to_owned(), |limit| limit.to_string());
                format!("{} {limit} M {} -1\n", self.bytes, self.messages)
            }
            (_, limit) => {
                let limit = limit.map_or_else(String::new, |limit| format!(" {limit}"));
                let (bytes, messages, folders) = (self.bytes, self.messages, self.folders);
                format!("%(S ({bytes}{limit}) M ({messages}) AS (0) NF ({folders}) MODSEQ 1)\n")
            }
        }
    }
}

/// A flat file: a line an entry, in the order that Cyrus searches in.
pub(super) fn flat(entries: &BTreeMap<Vec<u8>, Vec<u8>>) -> Vec<u8> {
    let mut sorted: Vec<_> = entries.iter().collect();
    sorted.sort_by_key(|(key, _)| key.iter().map(|byte| collation(*byte)).collect::<Vec<u8>>());
    let mut file = Vec::new();
    for (key, value) in sorted {
        file.extend_from_slice(key);
        file.push(b'\t');
        file.extend_from_slice(value);
        file.push(b'\n');
    }
    file
}

/// A mailbox comes right before those below it, whatever other bytes its name goes on with.
fn collation(byte: u8) -> u8 {
    match byte {
        b'.' => 2,
        1..=8 => byte + 2,
        b'\t' | b'\n' => 1,
        other => other,
    }
}

fn inbox(userid: &str) -> String {
    let (local, domain) = userid.split_once('@').map_or((userid, None), |(l, d)| (l, Some(d)));
    let local = format!("user.{}", local.replace('.', "^"));
    domain.map_or_else(|| local.clone(), |domain| format!("{domain}!{local}"))
}

/// Ascending numbers as a set: `1:4,7`.
fn ranges(numbers: &[u32]) -> String {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for number in numbers {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == *number => *last = *number,
            _ => runs.push((*number, *number)),
        }
    }
    let texts: Vec<String> = runs
        .into_iter()
        .map(
            |(first, last)| {
                if first == last { first.to_string() } else { format!("{first}:{last}") }
            },
        )
        .collect();
    texts.join(",")
}

fn write_below(path: PathBuf, bytes: &[u8]) -> Result<(), BuildError> {
    if let Some(parent) = path.parent() {
        make_directory(parent)?;
    }
    write(&path, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_written_as_ranges() {
        assert_eq!(ranges(&[]), "");
        assert_eq!(ranges(&[1, 2, 3, 7, 9, 10]), "1:3,7,9:10");
    }

    #[test]
    fn flat_files_are_sorted_as_cyrus_searches() {
        let keys = ["user.a", "user.a-b", "user.a.b", "user.a b"];
        let entries = keys.map(|key| (key.as_bytes().to_vec(), Vec::new())).into();
        assert_eq!(flat(&entries), b"user.a\t\nuser.a.b\t\nuser.a b\t\nuser.a-b\t\n");
    }
}
