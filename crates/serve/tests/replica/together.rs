//! Sessions that are about different accounts work at the same time, and what they do is what each would
//! have done alone.

use std::sync::Arc;
use std::thread;

use spool::replica::{Concern, Replica};
use testkit::leftovers::{self, Leftovers};

use crate::faults::{Master, OK, guid, mailbox, message, record};
use crate::recorded::replica;

const ACCOUNTS: usize = 4;
const ROUNDS: u32 = 9;
const HERE: &str = "PARTITION default";

#[test]
fn who_is_busy_with_one_account_holds_up_nobody_else() {
    let (_top, replica) = replica();
    let busy = replica.claim([Concern::Account(Some("a".into()))]);
    let mut master = Master::of(&replica);
    let text = "A: b\r\n\r\nbody\r\n";
    for command in [
        message("default", guid(text), text),
        mailbox("user.b", "idb", HERE, 1, &record(1, text)),
        mailbox("user.b", "idb", HERE, 1, ""),
        "APPLY SEEN %(USERID b UNIQUEID x LASTREAD 1 LASTUID 1 LASTCHANGE 1 SEENUIDS 1)".into(),
        "APPLY SUB %(USERID b MBOXNAME user.b)".into(),
        "APPLY EXPUNGE %(MBOXNAME user.b UNIQUEID idb UID (1))".into(),
    ] {
        assert_eq!(master.ask(&command), OK, "{command}");
    }
    assert!(master.ask("GET USER b").ends_with(OK));
    assert!(master.ask("GET UNIQUEIDS (idb)").ends_with(OK));
    assert_eq!(master.ask("RESTART"), "OK Restarting\r\n");
    drop(busy);
}

/// Everything that an account goes through, some of which needs all of the replica.
fn live(replica: &Arc<Replica>, account: usize) {
    let mut master = Master::of(replica);
    let (name, id) = (format!("user.u{account}"), format!("id{account}"));
    for round in 1..=ROUNDS {
        let mut done = |command: String| assert_eq!(master.ask(&command), OK, "{command}");
        // The second one is everybody's.
        let texts = [
            format!("A: {account} {round}\r\n\r\nbody\r\n"),
            format!("A: {round}\r\n\r\nbody\r\n"),
        ];
        let mut records = Vec::new();
        for (uid, text) in (round * 2..).zip(&texts) {
            done(message("default", guid(text), text));
            records.push(record(uid, text));
        }
        let last = round as usize * 2 + 1;
        done(mailbox(&name, &id, HERE, last, &records.join(" ")));
        let (folder, folder_id) = (format!("{name}.f{round}"), format!("{id}f{round}"));
        done(mailbox(&folder, &folder_id, HERE, last, &records.join(" ")));
        let seen = "LASTREAD 1 LASTUID 1 LASTCHANGE 1 SEENUIDS 1";
        done(format!("APPLY SEEN %(USERID u{account} UNIQUEID x{round} {seen})"));
        done(format!("APPLY SUB %(USERID u{account} MBOXNAME {folder})"));
        match round % 3 {
            0 => done(format!("APPLY UNMAILBOX {folder}")),
            1 => done(format!(
                "APPLY RENAME %(OLDMBOXNAME {folder} NEWMBOXNAME {name}.g{round} {HERE})"
            )),
            _ => done(format!("APPLY QUOTA %(ROOT {name} STORAGE {round}000 MODSEQ {round})")),
        }
        done(format!("APPLY EXPUNGE %(MBOXNAME {name} UNIQUEID {id} UID ({last}))"));
        assert_eq!(master.ask("RESTART"), "OK Restarting\r\n");
    }
}

fn told(replica: &Arc<Replica>) -> Vec<String> {
    let mut master = Master::of(replica);
    let mut told = Vec::new();
    for account in 0..ACCOUNTS {
        told.push(master.ask(format!("GET USER u{account}")));
        told.push(master.ask(format!("GET FULLMAILBOX user.u{account}")));
        assert!(told.iter().all(|answer| answer.ends_with(OK)), "{told:#?}");
    }
    told
}

#[test]
fn what_accounts_do_at_the_same_time_is_there_afterwards() {
    let (top, replica) = replica();
    let root = top.path().join("replica");
    thread::scope(|scope| {
        for account in 0..ACCOUNTS {
            let replica = &replica;
            scope.spawn(move || live(replica, account));
        }
    });
    let before = told(&replica);
    drop(replica);
    assert_eq!(leftovers::below(&root).expect("readable"), Leftovers::default());
    let again = Arc::new(Replica::open(&root).expect("it opens"));
    assert!(again.lock().damaged().is_empty());
    assert_eq!(told(&again), before);
}

#[test]
fn of_two_who_make_mailboxes_of_one_identity_one_is_refused() {
    for _ in 0..8 {
        let (_top, replica) = replica();
        let make = &|name: &str| Master::of(&replica).ask(mailbox(name, "same", HERE, 0, ""));
        let mut answers = thread::scope(|scope| {
            let threads = ["user.a", "user.b"].map(|name| scope.spawn(move || make(name)));
            threads.map(|thread| thread.join().expect("no panic"))
        });
        answers.sort();
        assert!(answers[0].starts_with("NO IMAP_MAILBOX_MOVED"), "{answers:?}");
        assert_eq!(answers[1], OK);
    }
}
