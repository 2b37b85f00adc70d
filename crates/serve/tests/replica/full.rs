//! A disk that is full in the middle of a command: NO with a reason, nothing of it to be seen, and all
//! goes on when there is room again.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use spool::replica::Replica;
use testkit::disk::SmallDisk;
use testkit::leftovers::{self, Leftovers};
use testkit::mail::{MailGenerator, Sizes};

use crate::faults::{Master, OK, guid, mailbox, message, record};

/// A page: what a disk in memory gives at a time.
const PAGE: u64 = 4096;
/// Until it must have been enough, in pages.
const PAGES_MAX: u64 = 200;
const KIB: u32 = 4096;

/// Commands that each need room, and what undoes them all.
fn commands(text: &str) -> Vec<String> {
    let here = "PARTITION default";
    let first = record(1, "first");
    vec![
        message("default", guid(text), text),
        mailbox("user.a", "ida", here, 2, &format!("{first} {}", record(2, text))),
        mailbox("user.a.new", "idnew", here, 1, &record(1, text)),
        "APPLY SUB %(USERID a MBOXNAME user.a.new)".to_owned(),
        "APPLY ANNOTATION %(MBOXNAME \"\" ENTRY /comment USERID \"\" VALUE server)".to_owned(),
        "APPLY ANNOTATION %(MBOXNAME user.a ENTRY /comment USERID \"\" VALUE mine)".to_owned(),
        "APPLY QUOTA %(ROOT user.a STORAGE 500 MODSEQ 99)".to_owned(),
        "APPLY RENAME %(OLDMBOXNAME user.a.new NEWMBOXNAME user.a.old PARTITION default)"
            .to_owned(),
        "APPLY SIEVE %(USERID a FILENAME a.script LAST_UPDATE 1 CONTENT keep;)".to_owned(),
    ]
}

fn told(master: &mut Master) -> String {
    let questions = ["", ".new", ".old"].map(|name| format!("GET FULLMAILBOX user.a{name}"));
    let questions = questions.iter().map(String::as_str);
    let more = ["GET USER a", "GET ANNOTATION \"\"", "GET ANNOTATION user.a", "GET QUOTA user.a"];
    questions.chain(more).map(|question| master.ask(question)).collect()
}

#[test]
fn a_full_disk_is_said_and_changes_nothing() {
    let top = tempfile::Builder::new().permissions(Permissions::from_mode(0o755)).tempdir();
    let top = top.expect("a directory");
    let test = "a_full_disk_is_said";
    let Some(disk) = SmallDisk::or_skip(test, &top.path().join("disk"), KIB) else { return };
    let root = top.path().join("disk/replica");
    let replica = Arc::new(Replica::open(&root).expect("a replica"));
    let mut master = Master::of(&replica);
    assert_eq!(master.ask(message("default", guid("first"), "first")), OK);
    let first = mailbox("user.a", "ida", "PARTITION default", 1, &record(1, "first"));
    assert_eq!(master.ask(&first), OK);
    let text = MailGenerator::new(3, Sizes::About(20_000)).message();
    let text = String::from_utf8(text).expect("ASCII");
    let mut refused = 0;
    for command in commands(&text) {
        let before = told(&mut master);
        for pages in 0.. {
            assert!(pages < PAGES_MAX, "there is never room enough for {command:.60}");
            disk.fill_but(pages * PAGE).expect("full");
            let answer = master.ask(&command);
            if answer == OK {
                break;
            }
            refused += 1;
            assert!(answer.starts_with("NO "), "{answer}");
            assert_eq!(told(&mut master), before, "{command:.60} with {pages} pages");
            let left = leftovers::below(&root).expect("readable");
            assert_eq!(left, Leftovers::default(), "{command:.60} with {pages} pages");
        }
        disk.free().expect("room");
    }
    assert!(refused > 9, "the disk was hardly ever full: {refused}");
    let whole = told(&mut master);
    drop((master, replica));
    let again = Arc::new(Replica::open(&root).expect("it opens again"));
    assert!(again.lock().damaged().is_empty());
    assert_eq!(told(&mut Master::of(&again)), whole);
    drop(again);
    assert_eq!(leftovers::below(&root).expect("readable"), Leftovers::default());
}
