//! What Cyrus' server dies of or leaves something behind for, and what is not as it should be on
//! disk.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use model::Guid;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sha1::{Digest, Sha1};
use spool::replica::{Replica, ReplicaError};
use testkit::disk::SmallDisk;
use testkit::leftovers::{self, Leftovers};

use crate::driver::Conversation;
use crate::recorded::{banner, connection, replica};

/// A session that has logged in.
pub struct Master {
    conversation: Conversation,
}

impl Master {
    pub fn of(replica: &Arc<Replica>) -> Self {
        let mut out = Vec::new();
        let mut conversation = Conversation::begin(replica, banner(), &mut out);
        conversation.hear(b"AUTHENTICATE PLAIN AA==\r\n", &mut out);
        Self { conversation }
    }

    /// What a command is answered with.
    pub fn ask(&mut self, command: impl AsRef<[u8]>) -> String {
        let mut out = Vec::new();
        self.conversation.hear(&[command.as_ref(), b"\r\n"].concat(), &mut out);
        String::from_utf8_lossy(&out).into_owned()
    }
}

pub fn guid(text: &str) -> Guid {
    Guid(Sha1::digest(text).into())
}

pub fn message(partition: &str, announced: Guid, text: &str) -> String {
    format!("APPLY MESSAGE (%{{{partition} {announced} {}}}\r\n{text})", text.len())
}

pub fn record(uid: u32, text: &str) -> String {
    format!(
        "%(UID {uid} MODSEQ 7 LAST_UPDATED 8 FLAGS () INTERNALDATE 9 SIZE {} GUID {})",
        text.len(),
        guid(text)
    )
}

pub fn mailbox(name: &str, id: &str, more: &str, last_uid: usize, records: &str) -> String {
    format!(
        "APPLY MAILBOX %(UNIQUEID {id} MBOXNAME {name} LAST_UID {last_uid} HIGHESTMODSEQ 9 \
         RECENTUID 0 RECENTTIME 0 LAST_APPENDDATE 0 POP3_LAST_LOGIN 0 UIDVALIDITY 5 \
         ACL \"a\tlrs\t\" OPTIONS P {more} RECORD ({records}))"
    )
}

pub const OK: &str = "OK success\r\n";

/// The names of all message files and of whatever is staged.
pub fn messages(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root).expect("a directory") {
        let path = entry.expect("an entry").path();
        let name = path.to_string_lossy().into_owned();
        match path.is_dir() {
            true => found.extend(messages(&path)),
            false if name.ends_with('.') || name.contains("/stage.") => found.push(name),
            false => {}
        }
    }
    found.sort();
    found
}

#[test]
fn what_kills_cyrus_is_refused_and_changes_nothing() {
    let (top, replica) = replica();
    let mut master = Master::of(&replica);
    let here = "PARTITION default";
    let good = mailbox("user.a", "ida", here, 0, "");
    assert_eq!(master.ask(&good), OK);
    let before = master.ask("GET USER a");
    let not_sent = mailbox("user.a", "ida", here, 1, &record(1, "x"));
    assert_eq!(master.ask(&not_sent), "NO IMAP_PROTOCOL_ERROR Protocol error\r\n");
    assert_eq!(
        master.ask(message("default", guid("other"), "x")),
        "NO IMAP_PROTOCOL_ERROR Protocol error\r\n"
    );
    assert_eq!(master.ask(&not_sent), "NO IMAP_PROTOCOL_ERROR Protocol error\r\n");
    assert_eq!(master.ask(message("default", guid("x"), "x")), OK);
    let disorder = format!("{} {}", record(2, "x"), record(1, "x"));
    let disorder = mailbox("user.a", "ida", here, 2, &disorder);
    assert_eq!(master.ask(disorder), "NO IMAP_PROTOCOL_ERROR Protocol error\r\n");
    let parameters = "NO IMAP_PROTOCOL_BAD_PARAMETERS\r\n";
    for partition in ["../x", "a/b", "\"\"", ".", "sp.ool"] {
        assert_eq!(master.ask(message(partition, guid("x"), "x")), parameters, "{partition}");
        let elsewhere = format!("PARTITION {partition}");
        assert_eq!(master.ask(mailbox("user.b", "idb", &elsewhere, 0, "")), parameters);
    }
    for id in ["../../etc", "a", "..", "a/b", "\"\""] {
        assert_eq!(master.ask(mailbox("user.b", id, here, 0, "")), parameters, "{id}");
    }
    for name in ["user..b", "\"\"", "user.b.", "a!b!c"] {
        assert_eq!(master.ask(mailbox(name, "idb", here, 0, "")), parameters, "{name}");
        let renamed = format!("APPLY RENAME %(OLDMBOXNAME user.a NEWMBOXNAME {name} {here})");
        assert_eq!(master.ask(renamed), parameters, "{name}");
    }
    let typed = mailbox("user.b", "idb", "PARTITION default MBOXTYPE Q", 0, "");
    assert!(master.ask(typed).starts_with("NO IMAP_MAILBOX_NOTSUPPORTED"));
    for (userid, file) in [("../a", "x.script"), ("a", "../x.script"), ("a", "..")] {
        let script =
            format!("APPLY SIEVE %(USERID {userid} FILENAME {file} LAST_UPDATE 1 CONTENT keep;)");
        assert!(master.ask(script).starts_with("NO "), "{userid} {file}");
    }
    assert_eq!(master.ask("GET USER a"), before);
    drop(master);
    assert_eq!(messages(top.path()), Vec::<String>::new());
}

#[test]
fn more_messages_than_a_process_may_have_open_are_taken_and_forgotten() {
    // As many as most systems allow, and enough for other tests of this process.
    let limit = Rlimit { current: Some(1024), ..getrlimit(Resource::Nofile) };
    setrlimit(Resource::Nofile, limit).expect("fewer are allowed");
    let (top, replica) = replica();
    let mut master = Master::of(&replica);
    let texts: Vec<String> = (0..1500).map(|n| format!("A: {n}\r\n\r\nbody {n}\r\n")).collect();
    for text in &texts {
        assert_eq!(master.ask(message("default", guid(text), text)), OK);
    }
    assert!(!messages(top.path()).is_empty(), "some have to have names");
    assert_eq!(master.ask("RESTART"), "OK Restarting\r\n");
    assert_eq!(messages(top.path()), Vec::<String>::new());
    for text in &texts {
        assert_eq!(master.ask(message("default", guid(text), text)), OK);
    }
    let records: Vec<String> = (1..).zip(&texts).map(|(uid, text)| record(uid, text)).collect();
    let all = mailbox("user.a", "ida", "PARTITION default", texts.len(), &records.join(" "));
    assert_eq!(master.ask(all), OK);
    drop(master);
    let stored = messages(top.path());
    assert_eq!(stored.len(), texts.len());
    assert!(stored.iter().all(|path| !path.contains("/stage.")));
    let first = top.path().join("replica/spool/default/uuid/i/d/ida/1.");
    assert_eq!(fs::read_to_string(first).expect("a message"), texts[0]);
}

#[test]
fn a_replica_has_one_server_and_no_other_directory_is_one() {
    let (top, replica) = replica();
    let root = top.path().join("replica");
    assert!(matches!(Replica::open(&root), Err(ReplicaError::InUse { .. })));
    drop(replica);
    Replica::open(&root).expect("it is free now");
    let other = top.path().join("other");
    fs::create_dir_all(other.join("conf/user")).expect("a directory");
    assert!(matches!(Replica::open(&other), Err(ReplicaError::Foreign { .. })));
}

#[test]
fn a_damaged_mailbox_is_reported_and_comes_back_from_the_master() {
    let recorded = connection("real-initial-user").master;
    let (top, first) = replica();
    let root = top.path().join("replica");
    let mut out = Vec::new();
    Conversation::begin(&first, banner(), &mut out).hear(&recorded, &mut out);
    let whole = Master::of(&first).ask("GET FULLMAILBOX user.alice");
    drop(first);
    let dir = root.join("spool/default/uuid/9/5/95bcv62j2spfsrjtj6dls6rt");
    fs::remove_file(dir.join("cyrus.index")).expect("damaged");
    let again = Arc::new(Replica::open(&root).expect("it opens"));
    let damaged = again.lock().damaged().len();
    assert_eq!(damaged, 1);
    assert!(dir.join("1.").exists(), "nothing is removed that somebody may want");
    assert!(Master::of(&again).ask("GET FULLMAILBOX user.alice").starts_with("NO "));
    assert!(Master::of(&again).ask("GET FULLMAILBOX user.alice.Sent").ends_with(OK));
    Conversation::begin(&again, banner(), &mut out).hear(&recorded, &mut out);
    assert_eq!(Master::of(&again).ask("GET FULLMAILBOX user.alice"), whole);
    drop(again);
    assert!(Replica::open(&root).expect("it opens").lock().damaged().is_empty());
}

/// Between a promise and what is made of it, others may change the mailbox that has the message.
#[test]
fn a_promised_message_whose_name_is_another_ones_by_now_is_not_linked() {
    let (top, replica) = replica();
    let (mut one, mut other) = (Master::of(&replica), Master::of(&replica));
    let here = "PARTITION default";
    assert_eq!(one.ask(message("default", guid("first"), "first")), OK);
    assert_eq!(one.ask(mailbox("user.a", "ida", here, 1, &record(1, "first"))), OK);
    let promised = format!("APPLY RESERVE %({here} MBOXNAME (user.a) GUID ({}))", guid("first"));
    assert_eq!(other.ask(&promised), OK);
    assert_eq!(one.ask("APPLY UNMAILBOX user.a"), OK);
    assert_eq!(one.ask(message("default", guid("other"), "other")), OK);
    assert_eq!(one.ask(mailbox("user.a", "ida", here, 1, &record(1, "other"))), OK);
    let copy = mailbox("user.a.b", "idb", here, 1, &record(1, "first"));
    assert_eq!(other.ask(&copy), "NO IMAP_PROTOCOL_ERROR Protocol error\r\n");
    assert!(other.ask("GET FULLMAILBOX user.a.b").starts_with("NO "));
    // What is sent anew is taken.
    assert_eq!(other.ask("RESTART"), "OK Restarting\r\n");
    assert_eq!(other.ask(message("default", guid("first"), "first")), OK);
    assert_eq!(other.ask(&copy), OK);
    let stored = top.path().join("replica/spool/default/uuid/i/d/idb/1.");
    assert_eq!(fs::read_to_string(stored).expect("a message"), "first");
}

#[test]
fn a_partition_that_could_not_be_written_down_is_written_down_the_next_time() {
    let (top, replica) = replica();
    let mut master = Master::of(&replica);
    let conf = top.path().join("replica/imapd.conf");
    fs::remove_file(&conf).expect("it was written");
    fs::create_dir(&conf).expect("in the way");
    let elsewhere = mailbox("user.a", "ida", "PARTITION other", 0, "");
    assert!(master.ask(&elsewhere).starts_with("NO "));
    fs::remove_dir(&conf).expect("still empty");
    assert_eq!(master.ask(&elsewhere), OK);
    let text = fs::read_to_string(&conf).expect("a configuration");
    assert!(text.contains("\npartition-other: "), "{text}");
}

#[test]
fn a_mailbox_moves_to_a_partition_that_is_a_file_system_of_its_own() {
    let (top, replica) = replica();
    let mounted = top.path().join("replica/spool/other");
    let test = "a_mailbox_moves_to_a_partition";
    let Some(_disk) = SmallDisk::or_skip(test, &mounted, 4096) else { return };
    let mut master = Master::of(&replica);
    let texts: Vec<String> = (0..20).map(|n| format!("A: {n}\r\n\r\nbody\r\n")).collect();
    let mut records = Vec::new();
    for (uid, text) in (1..).zip(&texts) {
        assert_eq!(master.ask(message("default", guid(text), text)), OK);
        records.push(record(uid, text));
    }
    let here = "PARTITION default";
    assert_eq!(master.ask(mailbox("user.a", "ida", here, 20, &records.join(" "))), OK);
    let before = master.ask("GET FULLMAILBOX user.a");
    let to = |partition: &str| {
        format!("APPLY RENAME %(OLDMBOXNAME user.a NEWMBOXNAME user.a PARTITION {partition})")
    };
    // What cannot be read as a whole stays where it is.
    let first = top.path().join("replica/spool/default/uuid/i/d/ida/1.");
    fs::rename(&first, top.path().join("away")).expect("renamed");
    assert!(master.ask(to("other")).starts_with("NO "));
    assert_eq!(master.ask("GET FULLMAILBOX user.a"), before);
    fs::rename(top.path().join("away"), &first).expect("renamed");
    for partition in ["other", "default", "other"] {
        assert_eq!(master.ask(to(partition)), OK);
        assert_eq!(
            master.ask("GET FULLMAILBOX user.a"),
            before.replace("PARTITION default", &format!("PARTITION {partition}"))
        );
    }
    drop(master);
    let root = top.path().join("replica");
    assert_eq!(leftovers::below(&root).expect("readable"), Leftovers::default());
    drop(replica);
    let again = Arc::new(Replica::open(&root).expect("it opens again"));
    assert!(again.lock().damaged().is_empty());
    assert_eq!(messages(&root).len(), texts.len());
    assert!(messages(&root).iter().all(|path| path.contains("spool/other/")));
}
