//! A full copy of an account: every byte of its metadata and of its messages.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read};

use cyrus_format::index::Index;
use engine::archive::stored;
use engine::live::live;
use engine::ports::MessageSource;
use engine::selection::Selection;
use engine::source::{SourceAccount, SourceMailbox};
use model::{SystemFlags, Userid};
use spool::Server;
use vault::{Account, Entry, History};

/// An account as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    userid: String,
    files: BTreeMap<String, Vec<u8>>,
    mailboxes: BTreeMap<String, Mailbox>,
}

/// A mailbox of it: what its entry said, its files, and its messages by UID.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mailbox {
    facts: (Option<String>, Vec<u8>, String, bool),
    files: BTreeMap<String, Vec<u8>>,
    messages: BTreeMap<u32, Vec<u8>>,
}

impl Copy {
    /// Of a server's account, without any vault.
    pub fn live(server: &Server, user: &str) -> Self {
        let frozen = server.freeze(&Userid::from(user)).expect("an account");
        let (account, messages) = live(frozen);
        Self::of(&account, &messages)
    }

    /// Of a snapshot.
    pub fn restored(account: &Account, history: &History, entry: &Entry) -> Self {
        let opened = account.open(&history.lineage(&entry.name.own));
        let chain = opened.chain();
        let snapshot = chain.at(entry.name.seq).expect("a snapshot");
        let (account, messages, _) =
            stored(&chain, snapshot, &Selection::all()).expect("an account");
        Self::of(&account, &messages)
    }

    fn of(account: &SourceAccount, messages: &dyn MessageSource) -> Self {
        let files = account.files.iter().map(|file| (file.name.clone(), file.bytes.clone()));
        let mailboxes = account.mailboxes.iter().enumerate();
        let mailboxes = mailboxes
            .map(|(at, mailbox)| (mailbox.name.to_string(), Mailbox::of(at, mailbox, messages)));
        Self {
            userid: account.userid.to_string(),
            files: files.collect(),
            mailboxes: mailboxes.collect(),
        }
    }
}

impl Mailbox {
    fn of(at: usize, mailbox: &SourceMailbox, messages: &dyn MessageSource) -> Self {
        let index = mailbox.files.get("cyrus.index").expect("an index");
        let mut found = BTreeMap::new();
        for key in Index::parse(index).expect("an index").keys() {
            if key.system_flags.contains(SystemFlags::UNLINKED) {
                continue;
            }
            let mut bytes = Vec::new();
            match messages.open(at, &key) {
                Ok(mut message) => drop(message.read_to_end(&mut bytes).expect("a message")),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
                    continue;
                }
            }
            found.insert(key.uid.0, bytes);
        }
        let id = mailbox.uniqueid.as_ref().map(ToString::to_string);
        Self {
            facts: (id, mailbox.partition.clone(), mailbox.mbtype.clone(), mailbox.deleted),
            files: mailbox.files.clone(),
            messages: found,
        }
    }
}
