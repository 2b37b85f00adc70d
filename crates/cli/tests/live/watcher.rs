//! Somebody who has a mailbox open, and to whom nothing may be told that is not lawful.

use std::collections::BTreeMap;

use testkit::imap::FolderView;
use testkit::{Cyrus, ImapClient};

/// The owner, with a mailbox open, who is told what happens to it.
pub struct Watcher {
    imap: ImapClient,
    /// The UIDs that he knows, by their places.
    uids: Vec<u32>,
    uid_validity: u64,
    /// Its name.
    pub folder: String,
}

/// What he was told.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// UIDs of messages that are gone.
    pub gone: Vec<u32>,
    /// UIDs of messages that came.
    pub came: Vec<u32>,
    /// The flags of messages that he was told anew.
    pub flags: BTreeMap<u32, String>,
}

impl Watcher {
    pub fn of(cyrus: &Cyrus, folder: &str) -> Self {
        let mut imap = cyrus.imap_as("glad").expect("a client");
        imap.command("ENABLE CONDSTORE").expect("enabled");
        let uid_validity = imap.select(folder).expect("selected").uid_validity;
        let uids = imap.search("ALL").expect("found");
        Self { imap, uids, uid_validity, folder: folder.to_owned() }
    }

    /// Asks for news. Whatever is not lawful panics.
    pub fn look(&mut self) -> Told {
        let mut told = Told::default();
        let mut exists = self.uids.len();
        for raw in self.imap.command("NOOP").expect("it is answered") {
            let line = String::from_utf8_lossy(&raw).trim_end().to_owned();
            let words: Vec<&str> = line.splitn(4, ' ').collect();
            match words[..] {
                ["*", place, "EXPUNGE"] => {
                    let place: usize = place.parse().expect("a number");
                    told.gone.push(self.uids.remove(place - 1));
                    exists -= 1;
                }
                ["*", number, "EXISTS"] => {
                    let number: usize = number.parse().expect("a number");
                    assert!(number >= exists, "messages are gone without EXPUNGE: {line}");
                    exists = number;
                }
                ["*", place, "FETCH", what] => {
                    let place: usize = place.parse().expect("a number");
                    // Of those that are new, he has to ask.
                    if let Some(uid) = self.uids.get(place - 1) {
                        told.flags.insert(*uid, what.to_owned());
                    }
                }
                ["*", _, "RECENT"] => {}
                // What flags there are now, and how far the counter is.
                ["*", "FLAGS", ..] => {}
                ["*", "OK", "[PERMANENTFLAGS" | "[HIGHESTMODSEQ", ..] => {}
                _ => panic!("what is {line:?}?"),
            }
        }
        let now = self.imap.search("ALL").expect("found");
        assert_eq!(now.len(), exists);
        assert_eq!(now[..self.uids.len()], self.uids, "UIDs of known messages stay");
        let last = self.uids.last().copied().unwrap_or(0);
        told.came = now[self.uids.len()..].to_vec();
        assert!(told.came.iter().all(|uid| *uid > last), "{now:?}");
        self.uids = now;
        let selected = self.imap.select(&self.folder).expect("selected");
        assert_eq!(selected.uid_validity, self.uid_validity);
        told
    }
}

/// What a client is told that comes back, and knows a mailbox as it was at that modseq (RFC 7162): the
/// UIDs of messages that came or changed, and the set of those that are gone.
pub fn news_since(cyrus: &Cyrus, folder: &str, then: &FolderView) -> (Vec<u32>, String) {
    let mut imap = cyrus.imap_as("glad").expect("a client");
    imap.command("ENABLE QRESYNC").expect("enabled");
    let (uid_validity, modseq) = (then.uid_validity, then.highest_modseq);
    let select = format!("SELECT \"{folder}\" (QRESYNC ({uid_validity} {modseq}))");
    let (mut changed, mut gone) = (Vec::new(), String::new());
    for raw in imap.command(&select).expect("selected") {
        let line = String::from_utf8_lossy(&raw).trim_end().to_owned();
        if let Some(set) = line.strip_prefix("* VANISHED (EARLIER) ") {
            gone = set.to_owned();
        } else if line.contains(" FETCH (") {
            let uid = line.split_once("UID ").expect("a UID").1;
            let digits: String = uid.chars().take_while(char::is_ascii_digit).collect();
            changed.push(digits.parse().expect("a number"));
        }
    }
    (changed, gone)
}
