//! A mailbox so large that its index is changed in place, and its records lie on disk on their way.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use cyrus_format::header::MailboxHeader;
use cyrus_format::index::{Index, Tally};
use model::crc::ThridText;
use model::{Modseq, SystemFlags, Uid};
use spool::replica::Replica;

use crate::faults::{Master, OK, guid, mailbox, message};
use crate::recorded::replica;

/// Enough for an index of more than 1 MiB.
const COUNT: u32 = 12_000;

const HERE: &str = "PARTITION default";

fn record(uid: u32, modseq: u32, flags: &str) -> String {
    format!(
        "%(UID {uid} MODSEQ {modseq} LAST_UPDATED 8 FLAGS ({flags}) INTERNALDATE 9 SIZE 1 GUID {})",
        guid("x")
    )
}

/// The index is as its records say, and returns it.
fn index(root: &std::path::Path) -> (Vec<u8>, u64) {
    let dir = root.join("spool/default/uuid/i/d/ida");
    let bytes = fs::read(dir.join("cyrus.index")).expect("an index");
    let inode = fs::metadata(dir.join("cyrus.index")).expect("an index").ino();
    let header = fs::read(dir.join("cyrus.header")).expect("a header");
    let header = MailboxHeader::parse(&header).expect("a header");
    let index = Index::parse(&bytes).expect("an index");
    assert_eq!(index.problems(), []);
    let tally = Tally::of(index.records(), 17, &header.flag_crcs(), ThridText::Short);
    assert_eq!(tally.differences(index.header()), []);
    (bytes, inode)
}

#[test]
fn a_large_index_is_changed_in_place_and_says_what_is_in_it() {
    let (top, replica) = replica();
    let root = top.path().join("replica");
    let mut master = Master::of(&replica);
    assert_eq!(master.ask(message("default", guid("x"), "x")), OK);
    let all: Vec<String> = (1..=COUNT).map(|uid| record(uid, 7, "")).collect();
    let count = COUNT as usize;
    assert_eq!(master.ask(mailbox("user.a", "ida", HERE, count, &all.join(" "))), OK);
    let (_, first) = index(&root);

    // Some flags, one of them new, and one message more.
    let some = [
        record(1, 8, "\\Seen"),
        record(6_000, 8, "\\Flagged $New"),
        record(COUNT, 8, "\\Deleted \\Expunged"),
        record(COUNT + 1, 8, "\\Answered"),
    ];
    assert_eq!(master.ask(mailbox("user.a", "ida", HERE, count + 1, &some.join(" "))), OK);
    let (bytes, second) = index(&root);
    assert_eq!(second, first, "it is the same file");
    let changed = Index::parse(&bytes).expect("an index");
    assert_eq!((changed.len(), changed.header().exists), (count + 1, COUNT));
    let of = |uid| changed.record(changed.position(Uid(uid)).expect("a place")).expect("a record");
    assert_eq!(of(1).system_flags, SystemFlags::SEEN);
    assert_eq!(of(6_000).user_flags.iter().count(), 1);
    assert!(of(COUNT).is_expunged());
    assert_eq!((of(2).modseq, of(COUNT + 1).modseq), (Modseq(7), Modseq(8)));
    let annotation = "APPLY ANNOTATION %(MBOXNAME user.a ENTRY /comment USERID \"\" VALUE x)";
    assert_eq!(master.ask(annotation), OK);
    let expunge = "APPLY EXPUNGE %(MBOXNAME user.a UNIQUEID ida UID (3 4))";
    assert_eq!(master.ask(expunge), OK);
    assert_eq!(index(&root).1, first);

    // Whoever is told the records meanwhile is told what was there.
    let entry = replica.lock().mailbox(&"user.a".into()).cloned().expect("a mailbox");
    let records = replica.files().records_to_tell(&entry).expect("records");
    let seen = mailbox("user.a", "ida", HERE, count + 1, &record(2, 9, "\\Seen"));
    assert_eq!(master.ask(&seen), OK);
    assert_ne!(index(&root).1, first);
    let told = records.iter().nth(1).expect("a record").expect("readable");
    assert_eq!(told.system_flags, SystemFlags::default());
    drop(records);

    let before = master.ask("GET FULLMAILBOX user.a");
    drop((master, replica));
    let again = Arc::new(Replica::open(&root).expect("it opens again"));
    assert!(again.lock().damaged().is_empty());
    assert_eq!(Master::of(&again).ask("GET FULLMAILBOX user.a"), before);
}

#[test]
fn a_wrong_crc_changes_nothing_of_a_large_mailbox() {
    let (top, replica) = replica();
    let root = top.path().join("replica");
    let mut master = Master::of(&replica);
    assert_eq!(master.ask(message("default", guid("x"), "x")), OK);
    let all: Vec<String> = (1..=COUNT).map(|uid| record(uid, 7, "")).collect();
    assert_eq!(master.ask(mailbox("user.a", "ida", HERE, COUNT as usize, &all.join(" "))), OK);
    let before = index(&root);
    let wrong = mailbox("user.a", "ida", "SYNC_CRC 1 PARTITION default", COUNT as usize, &{
        record(5, 8, "\\Seen")
    });
    assert_eq!(master.ask(wrong), "NO IMAP_SYNC_CHECKSUM Checksum Failure\r\n");
    assert_eq!(index(&root), before);
}
