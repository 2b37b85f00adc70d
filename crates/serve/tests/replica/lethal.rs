//! What kills, hangs or misleads Cyrus' own server 3.6.1: here each is answered, and the session goes on.

use crate::faults::{Master, OK, guid, mailbox, message, messages, record};
use crate::recorded::replica;

const HERE: &str = "PARTITION default";
const PARAMETERS: &str = "NO IMAP_PROTOCOL_BAD_PARAMETERS\r\n";
const PROTOCOL: &str = "NO IMAP_PROTOCOL_ERROR Protocol error\r\n";
const CHECKSUM: &str = "NO IMAP_SYNC_CHECKSUM Checksum Failure\r\n";
const MOVED: &str = "NO IMAP_MAILBOX_MOVED";
const NONEXISTENT: &str = "NO IMAP_MAILBOX_NONEXISTENT";
const PARSE: &str = "BAD IMAP_PROTOCOL_ERROR Failed to parse ";
const UNKNOWN: &str = "BAD IMAP_PROTOCOL_ERROR Unrecognized command";

/// A fault: what Cyrus does with it, what a master says, and how the answer begins.
type Fault = (&'static str, String, &'static str);

fn fault(cyrus: &'static str, said: impl Into<String>, answer: &'static str) -> Fault {
    (cyrus, said.into(), answer)
}

/// What is wrong as a line, whatever it is about.
fn lines() -> Vec<Fault> {
    let fetch = "GET FETCH %(MBOXNAME user.a PARTITION default UNIQUEID ida";
    vec![
        fault("SIGSEGV", "GET FULLMAILBOX %(MBOXNAME user.a)", "NO "),
        fault("takes the next line for the value", "GET USER", PARSE),
        fault("takes the next line for the value", "GET QUOTA ", PARSE),
        fault("takes the next line for the value", "APPLY FORCE", PARSE),
        fault("takes the next line for the value", "APPLY UNUSER", PARSE),
        fault("refuses it, too", "GET  USER a", "BAD "),
        fault("refuses it, too", "GET USER a ", PARSE),
        fault("refuses it, too", "S0 GET USER a", UNKNOWN),
        fault("refuses it, too", "FROB", UNKNOWN),
        fault("refuses it, too", "", "BAD "),
        fault("refuses it, too", "GET FROB a", PROTOCOL),
        fault("word too long, and its end", format!("GET USER {}", "a".repeat(5 << 20)), PARSE),
        fault("may die of it", "APPLY RENAME %(OLDMBOXNAME NIL NEWMBOXNAME NIL)", PARAMETERS),
        fault("may die of it", "APPLY SUB %(USERID NIL MBOXNAME NIL)", PARAMETERS),
        fault("may die of it", "APPLY SEEN %(USERID a UNIQUEID NIL)", PARAMETERS),
        fault("may die of it", "APPLY QUOTA %(ROOT NIL)", PARAMETERS),
        fault("may die of it", "APPLY ANNOTATION %(MBOXNAME user.a ENTRY NIL)", PARAMETERS),
        fault("says OK to it", "APPLY MAILBOX NIL", PARAMETERS),
        fault("refuses it, too", "APPLY MAILBOX %(MBOXNAME user.a)", PARAMETERS),
        fault("refuses it, too", "APPLY EXPUNGE %(MBOXNAME user.a UNIQUEID x UID (1))", MOVED),
        fault("refuses it, too", format!("{fetch} GUID {} UID 9)", guid("x")), NONEXISTENT),
        fault(
            "number too big, and its end",
            format!("{fetch} GUID {} UID 4294967296)", guid("x")),
            PARAMETERS,
        ),
        fault("refuses it, too", format!("{fetch} GUID x UID 1)"), PARAMETERS),
        fault(
            "logs it",
            "APPLY RENAME %(OLDMBOXNAME user.a NEWMBOXNAME user.a PARTITION NIL)",
            "NO Unknown error\r\n",
        ),
    ]
}

/// What is wrong with a mailbox that has one message, and the size and GUID of another one.
fn mailboxes() -> Vec<Fault> {
    let (one, two) = (record(1, "x"), record(2, "not sent"));
    // Another message of the same number, which was expunged where it was.
    let other = record(1, "y").replacen("FLAGS ()", "FLAGS (\\Expunged)", 1);
    let records = |last, records: &str| mailbox("user.a", "ida", HERE, last, records);
    let more = |more: &str| mailbox("user.a", "ida", &format!("{HERE} {more}"), 1, &one);
    let with = |old: &str, new: &str| records(1, &one).replacen(old, new, 1);
    let flags: String = (0..129).map(|n| format!("flag{n} ")).collect();
    let flags = format!("FLAGS ({})", flags.trim_end());
    vec![
        fault("SIGABRT", records(2, &format!("{one} {two}")), PROTOCOL),
        fault("SIGABRT", records(2, &format!("{two} {one}")), PROTOCOL),
        fault("SIGABRT", records(1, &format!("{one} {one}")), PROTOCOL),
        fault("an assertion", more("MBOXTYPE Q"), "NO IMAP_MAILBOX_NOTSUPPORTED"),
        fault("keeps the change", more("SYNC_CRC 1"), CHECKSUM),
        fault("keeps the change", more("SYNC_CRC_ANNOT 1"), CHECKSUM),
        fault("refuses it, too", more("SINCE_MODSEQ 1 SINCE_CRC 1"), "NO IMAP_SYNC_CHANGED"),
        fault(
            "number too big, and its end",
            with("UIDVALIDITY 5", "UIDVALIDITY 4294967296"),
            "NO ",
        ),
        fault("refuses it, too", with("UIDVALIDITY 5", "UIDVALIDITY -1"), PARAMETERS),
        fault("refuses it, too", with("UIDVALIDITY 5", "UIDVALIDITY 4"), CHECKSUM),
        fault("refuses it, too", with("HIGHESTMODSEQ 9", "HIGHESTMODSEQ 8"), CHECKSUM),
        fault("refuses it, too", with("LAST_UID 1", "LAST_UID 0"), CHECKSUM),
        fault("refuses it, too", with("(UID 1", "(UID x"), PROTOCOL),
        fault("refuses it, too", with("MODSEQ 7", "MODSEQ 6"), CHECKSUM),
        fault("refuses it, too", records(1, &other), CHECKSUM),
        fault("refuses it, too", with("SIZE 1", "SIZE"), PROTOCOL),
        fault("refuses it, too", with(" RECORD (", " RECORDS ("), PARAMETERS),
        fault("gives it another name", with("FLAGS ()", &flags), "NO Unknown error\r\n"),
        fault("refuses it, too", mailbox("user.a", "idb", HERE, 1, &one), MOVED),
        fault("refuses it, too", mailbox("user.b", "ida", HERE, 1, &one), MOVED),
    ]
}

/// What is wrong with messages that are sent.
fn files() -> Vec<Fault> {
    let whole = message("default", guid("y"), "y");
    let broken = format!("{} garbage", whole.trim_end_matches(')'));
    vec![
        fault("SIGABRT, once it is used", message("default", guid("y"), "z"), PROTOCOL),
        fault("an assertion", message("../y", guid("y"), "y"), PARAMETERS),
        fault("an assertion", message("\"\"", guid("y"), "y"), PARAMETERS),
        fault("leaves a file", format!("{broken} \"\\"), PARSE),
        fault("leaves a file", whole.replace(&guid("y").to_string(), "y"), "BAD "),
    ]
}

#[test]
fn each_of_them_is_answered_and_changes_nothing() {
    let (top, replica) = replica();
    let mut master = Master::of(&replica);
    assert_eq!(master.ask(message("default", guid("x"), "x")), OK);
    assert_eq!(master.ask(mailbox("user.a", "ida", HERE, 1, &record(1, "x"))), OK);
    let ask = ["GET USER a", "GET FULLMAILBOX user.a", "GET USER b"];
    let before = ask.map(|ask| master.ask(ask));
    let there = messages(top.path());
    let mut wrong = Vec::new();
    for (cyrus, said, expected) in [lines(), mailboxes(), files()].concat() {
        let answer = master.ask(&said);
        let is_one = answer.starts_with(expected) && answer.matches("\r\n").count() == 1;
        let goes_on = master.ask("NOOP") == "OK Noop completed\r\n";
        let is_same = ask.map(|ask| master.ask(ask)) == before && messages(top.path()) == there;
        if !is_one || !goes_on || !is_same {
            let said: String = said.chars().take(300).collect();
            wrong.push((said, cyrus, answer, is_one, goes_on, is_same));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn what_cyrus_dies_of_and_we_understand_is_done() {
    let (top, replica) = replica();
    let mut master = Master::of(&replica);
    // SIGSEGV: a literal that is not announced with a plus.
    assert_eq!(master.ask("GET USER {1}\r\na"), OK);
    // An assertion: a partition that nobody has set up.
    assert_eq!(master.ask(message("other", guid("x"), "x")), OK);
    // A message that is no list is left behind.
    let scalar = format!("APPLY MESSAGE %{{default {} 1}}\r\ny", guid("y"));
    assert!(master.ask(scalar).starts_with("OK "));
    assert_eq!(master.ask("RESTART"), "OK Restarting\r\n");
    assert_eq!(messages(top.path()), Vec::<String>::new());
    // Messages of another partition than the mailbox's are not found.
    assert_eq!(master.ask(message("other", guid("x"), "x")), OK);
    assert_eq!(master.ask(mailbox("user.a", "ida", HERE, 1, &record(1, "x"))), OK);
    // Expunged before it was ever sent.
    let gone = record(2, "gone").replace("FLAGS ()", "FLAGS (\\Expunged)");
    assert_eq!(master.ask(mailbox("user.a", "ida", HERE, 2, &gone)), OK);
    assert_eq!(messages(top.path()).len(), 1);
    assert_eq!(master.ask("APPLY UNUSER \"\""), OK);
    assert_eq!(messages(top.path()).len(), 1);
}

#[test]
fn force_is_over_with_its_session() {
    let (_top, replica) = replica();
    let mut master = Master::of(&replica);
    let now = mailbox("user.a", "ida", HERE, 0, "");
    let earlier = now.replace("HIGHESTMODSEQ 9", "HIGHESTMODSEQ 8");
    assert_eq!(master.ask(&now), OK);
    assert_eq!(master.ask(&earlier), CHECKSUM);
    assert_eq!(master.ask("APPLY FORCE %()"), OK);
    assert_eq!(master.ask(&earlier), OK);
    assert_eq!(master.ask("EXIT"), "OK Finished\r\n");
    let earliest = now.replace("HIGHESTMODSEQ 9", "HIGHESTMODSEQ 7");
    assert_eq!(Master::of(&replica).ask(&earliest), CHECKSUM);
}
