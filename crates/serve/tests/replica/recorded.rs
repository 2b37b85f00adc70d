//! Sessions of a real master with a real replica, with ours in its place.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use csync::banner::Banner;
use csync::framer::{Event, Framer, Limits, Stream};
use cyrus_format::header::MailboxHeader;
use cyrus_format::index::{Index, Tally};
use model::crc::ThridText;
use spool::replica::Replica;
use spool::{Options, Server};

use crate::driver::answers;
use crate::recording::{Connection, recordings};

/// Each answer of a replica, as text.
fn split(replica: &[u8]) -> Vec<String> {
    let mut framer = Framer::new(Stream::Replies, Limits::default());
    let (mut input, mut begin, mut split) = (replica, 0, Vec::new());
    while let Some(event) = framer.next(&mut input).expect("a good stream") {
        if let Event::Line(line) = event
            && !line.starts_with(b"* ")
        {
            let end = replica.len() - input.len();
            split.push(String::from_utf8_lossy(&replica[begin..end]).into_owned());
            begin = end;
        }
    }
    split
}

/// The last connection of a recording; one before it may only ask whether this is an IMAP server.
pub fn connection(name: &str) -> Connection {
    let mut recordings = recordings(name);
    let last = recordings.remove(0).1.pop().expect("a connection");
    assert!(!last.is_imap());
    last
}

pub fn replica() -> (tempfile::TempDir, Arc<Replica>) {
    // Cyrus' user has to be able to look into it.
    let mut top = tempfile::Builder::new();
    let top = top.permissions(Permissions::from_mode(0o755)).tempdir();
    let top = top.expect("a temporary directory");
    let replica = Replica::open(&top.path().join("replica")).expect("a new replica");
    (top, Arc::new(replica))
}

/// What a replica answers to the master of a recording.
pub fn answers_of(replica: &Arc<Replica>, name: &str) -> Vec<u8> {
    answers(replica, banner(), &connection(name).master)
}

pub fn banner() -> Banner {
    Banner { deflate: true, ..Banner::new("r.example.com", "3.6.1-Debian-3.6.1-4+deb12u5") }
}

#[test]
fn a_first_synchronisation_is_taken_and_told_back() {
    let recorded = connection("real-initial-user");
    let (top, replica) = replica();
    let ours = answers(&replica, banner(), &recorded.master);
    assert_eq!(split(&ours), split(&recorded.replica));

    let ask = b"AUTHENTICATE PLAIN AA==\r\nAPPLY CAPABILITIES (SIEVE-MAILBOX)\r\n\
                GET USER alice\r\nGET FULLMAILBOX user.alice\r\nEXIT\r\n";
    let told = split(&answers(&replica, banner(), ask));
    drop(replica);
    let again = Arc::new(Replica::open(&top.path().join("replica")).expect("opened anew"));
    assert!(again.lock().damaged().is_empty());
    assert_eq!(split(&answers(&again, banner(), ask)), told, "it is the same after it was opened");
    // What the master said of a mailbox is what it is told.
    let said = String::from_utf8_lossy(&recorded.master).into_owned();
    let apply = said.split("APPLY MAILBOX ").nth(1).expect("the first mailbox");
    let apply = apply.split("\r\nAPPLY").next().expect("its end").replace("{12+}", "{12}");
    assert!(told[3].contains(&apply), "{apply}\n{}", told[3]);
}

#[test]
fn a_replica_that_is_served_can_be_read_like_any_spool() {
    let recorded = connection("real-initial-user");
    let (top, replica) = replica();
    answers(&replica, banner(), &recorded.master);
    let conf = top.path().join("replica/imapd.conf");
    let server = Server::open(&conf, &Options::default()).expect("a spool");
    let _acting = server.act_as_cyrus().expect("the user whose files they are");
    let frozen = server.freeze(&"alice".into()).expect("the account");
    let said = String::from_utf8_lossy(&recorded.master).into_owned();
    for mailbox in &frozen.mailboxes {
        assert!(mailbox.findings.is_empty(), "{:?}", mailbox.findings);
        let index = mailbox.index.as_deref().expect("an index");
        let index = Index::parse(index).expect("an index");
        assert_eq!(index.problems(), []);
        let header = MailboxHeader::parse(mailbox.header.as_deref().expect("a header"));
        let header = header.expect("a header");
        let tally = Tally::of(index.records(), 17, &header.flag_crcs(), ThridText::Short);
        assert_eq!(tally.differences(index.header()), []);
        let crc = format!("MBOXNAME {} SYNC_CRC {} ", header.name.expect("a name"), {
            index.header().sync_crc_basic
        });
        assert!(said.contains(&crc), "{crc}");
    }
    let names: Vec<String> = frozen.mailboxes.iter().map(|m| m.entry.name.to_string()).collect();
    assert_eq!(names, ["user.alice", "user.alice.Drafts", "user.alice.Sent", "user.alice.Trash"]);
    assert!(frozen.account_files.iter().any(|file| file.name == "sub"));
    assert!(frozen.findings.is_empty(), "{:?}", frozen.findings);
}

/// Without what differs on purpose: Cyrus keeps conversations, and we tell what the master said of
/// them, which by hand was nothing; OPTIONS have a default in Cyrus that a master does not change;
/// and a script is as old as its file. A missing parent is not made here, as its identity would not
/// be the master's.
fn comparable(answer: &str) -> String {
    let lines = answer.lines().filter(|line| !line.contains("MBOXNAME user.inter.x SYNC_CRC"));
    let words = lines.flat_map(|line| line.split(' ').chain(["\n"]));
    let mut kept = Vec::new();
    let mut is_skipped = false;
    for word in words {
        if is_skipped {
            is_skipped = false;
        } else if ["XCONVMODSEQ", "OPTIONS", "LAST_UPDATE"].contains(&word) {
            is_skipped = true;
        } else {
            kept.push(word);
        }
    }
    kept.join(" ")
}

/// Replays a recording on what `before` made and returns the answers that differ: recorded, ours.
pub fn differences(recorded: &Connection, before: &[u8]) -> Vec<(String, String)> {
    let (_top, replica) = replica();
    answers(&replica, banner(), before);
    let ours = split(&answers(&replica, banner(), &recorded.master));
    let recorded = split(&recorded.replica);
    assert_eq!(ours.len(), recorded.len());
    let pairs = recorded.into_iter().zip(ours);
    let pairs = pairs.map(|(recorded, ours)| (comparable(&recorded), comparable(&ours)));
    pairs.filter(|(recorded, ours)| recorded != ours).collect()
}

#[test]
fn annotations_of_the_server_are_answered_as_by_cyrus() {
    assert_eq!(differences(&connection("real-annotation-server"), b""), []);
}

#[test]
fn a_command_that_is_no_value_is_answered_as_by_cyrus() {
    assert_eq!(differences(&connection("hand-parse-error"), b""), []);
}

#[test]
fn messages_scripts_and_quotas_are_answered_as_by_cyrus() {
    let before = connection("real-initial-user").master;
    assert_eq!(differences(&connection("hand-get-fetch"), &before), []);
}

#[test]
fn names_without_messages_are_answered_as_by_cyrus() {
    let differences = differences(&connection("hand-intermediate"), b"");
    // What Cyrus forgets of a user that is deleted.
    let [(recorded, ours)] = differences.as_slice() else { panic!("{differences:#?}") };
    assert!(recorded.contains("MBOXNAME user.inter.a MBOXTYPE ei"), "{recorded}");
    assert_eq!(ours, "OK success \n");
}

#[test]
fn odd_forms_are_answered_as_by_cyrus() {
    let before = b"AUTHENTICATE PLAIN AA==\r\n\
        APPLY MAILBOX %(UNIQUEID biuyozefvq465s55qwnrtzmx MBOXNAME user.alice.Trash LAST_UID 0 \
        HIGHESTMODSEQ 5 RECENTUID 0 RECENTTIME 0 LAST_APPENDDATE 0 POP3_LAST_LOGIN 0 UIDVALIDITY \
        1795448479 PARTITION default ACL \"alice\tlrswipkxtecdan\tcyrus\tlrswipkxtecda\t\" OPTIONS \
        P CREATEDMODSEQ 5 FOLDERMODSEQ 5 RECORD ())\r\n\
        APPLY MAILBOX %(UNIQUEID someinbox MBOXNAME user.alice LAST_UID 0 HIGHESTMODSEQ 5 \
        RECENTUID 0 RECENTTIME 0 LAST_APPENDDATE 0 POP3_LAST_LOGIN 0 UIDVALIDITY 1 PARTITION \
        default ACL \"alice\tlrswipkxtecdan\t\" OPTIONS P RECORD ())\r\nEXIT\r\n";
    let differences = differences(&connection("hand-edge-forms"), before);
    // A script that does not compile is found out by whoever runs it.
    let [(recorded, ours)] = differences.as_slice() else { panic!("{differences:#?}") };
    assert_eq!((recorded.as_str(), ours.as_str()), ("NO Unknown error \n", "OK success \n"));
}
