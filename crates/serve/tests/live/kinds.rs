//! All that is more than mail in a user's own folders.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

use model::{Uid, Userid};
use testkit::Cyrus;
use testkit::mail::{MailGenerator, Sizes};

use crate::pair::{Pair, append};
use crate::server::LIMIT;

#[test]
fn shared_mailboxes_quotas_annotations_and_what_was_seen_are_replicated() {
    let Some(pair) = Pair::start("shared_mailboxes_quotas_annotations") else { return };
    let mut admin = pair.master.admin().expect("an admin");
    for user in ["glad", "bob"] {
        pair.master.create_user(user).expect("a user");
    }
    let mail = MailGenerator::new(9, Sizes::Small).messages(6);
    for name in ["shared", "shared/info", "shared/other"] {
        admin.create(name).expect("created");
        for user in ["glad", "bob", "cyrus"] {
            admin.set_acl(name, user, "lrswipten").expect("granted");
        }
        append(&mut admin, name, &mail[0]);
        append(&mut admin, name, &mail[1]);
    }
    let resources = "STORAGE 100000 MESSAGE 5000 X-ANNOTATION-STORAGE 4000 X-NUM-FOLDERS 30";
    admin.set_quota("user/glad", resources).expect("set");
    admin.set_quota("shared", "MESSAGE 70").expect("set");
    admin.set_metadata("", "/shared/comment", Some("of the server")).expect("annotated");
    pair.sync(&["-m", "shared", "shared/info"]);
    pair.sync(&["-A"]);
    pair.sync_log();

    let mut glad = pair.client("glad");
    glad.create_for("INBOX/Sent", "\\Sent").expect("created");
    append(&mut glad, "INBOX", &mail[2]);
    append(&mut glad, "INBOX", &mail[4]);
    append(&mut glad, "INBOX/Sent", &mail[3]);
    glad.set_metadata("INBOX/Sent", "/private/comment", Some("mine")).expect("annotated");
    glad.set_metadata("INBOX", "/shared/comment", Some("ours \u{e4}\"\\")).expect("annotated");
    glad.select("INBOX").expect("selected");
    glad.annotate("1", "/comment", "value.priv", "private").expect("annotated");
    glad.annotate("1", "/altsubject", "value.shared", "shared").expect("annotated");
    glad.annotate("2", "/comment", "value.shared", "of what goes").expect("annotated");
    glad.store("2", "+FLAGS", &["\\Deleted"]).expect("stored");
    glad.expunge().expect("expunged");
    for name in ["shared", "shared/info"] {
        glad.select(name).expect("selected");
        glad.store("1", "+FLAGS", &["\\Seen"]).expect("stored");
        glad.annotate("2", "/comment", "value.priv", "of glad").expect("annotated");
    }
    glad.subscribe("shared/info").expect("subscribed");
    glad.unselect().expect("closed");
    pair.sync_log();
    admin.set_quota("user/glad", "MESSAGE 6000").expect("set");
    glad.set_metadata("INBOX/Sent", "/private/comment", None).expect("removed");
    admin.set_metadata("", "/shared/comment", Some("another")).expect("annotated");
    admin.rename("shared/other", "shared/moved").expect("renamed");
    pair.sync_log();
    pair.sync(&["-A"]);
    pair.assert_in_sync("glad");
    check_snapshot_of_shared(&pair);
    let promoted = pair.promote();
    for user in ["glad", "bob"] {
        promoted.assert_same(user);
    }
    promoted.assert_same_mailboxes(&["shared", "shared.info", "shared.moved"]);
}

/// A snapshot of the replica has the shared mailboxes, and finds the locks in use.
fn check_snapshot_of_shared(pair: &Pair) {
    pair.replica.lock().flush().expect("written down");
    let conf = pair.tree().join("imapd.conf");
    let server = spool::Server::open(&conf, &spool::Options::default()).expect("a spool");
    let frozen = server.freeze(&Userid::shared()).expect("an account");
    assert_eq!(frozen.findings, []);
    let names: Vec<_> = frozen.mailboxes.iter().map(|mailbox| &mailbox.entry.name).collect();
    assert_eq!(names, [&"shared".into(), &"shared.info".into(), &"shared.moved".into()]);
    for mailbox in &frozen.mailboxes {
        assert_eq!(mailbox.list_messages().expect("a directory"), [Uid(1), Uid(2)]);
        assert!(mailbox.index.is_some() && mailbox.findings.is_empty(), "{:?}", mailbox.findings);
    }
    assert!(pair.tree().join("conf/lock/*U*.lock").exists());
}

#[test]
fn archived_messages_are_messages_like_others() {
    let archive = |builder: testkit::CyrusBuilder| builder.archive();
    let Some(pair) = Pair::start_with("archived_messages_are_messages", archive) else { return };
    pair.master.create_user("glad").expect("a user");
    let mut imap = pair.client("glad");
    for message in MailGenerator::new(10, Sizes::Small).messages(5) {
        append(&mut imap, "INBOX", &message);
    }
    pair.master.tool("cyr_expire", &["-A", "0d", "-E", "3"]).expect("archived");
    append(&mut imap, "INBOX", b"Subject: not archived\r\n\r\nbody\r\n");
    pair.sync(&["-u", "glad"]);
    imap.select("INBOX").expect("selected");
    imap.store("2", "+FLAGS", &["\\Flagged"]).expect("stored");
    pair.sync(&["-u", "glad"]);
    pair.assert_in_sync("glad");
    pair.promote().assert_same("glad");
}

#[test]
fn users_of_domains_have_their_mail_and_quotas() {
    let domains = |builder: testkit::CyrusBuilder| builder.virtdomains("userid");
    let Some(pair) = Pair::start_with("users_of_domains_have_their_mail", domains) else { return };
    let users = ["glad", "ann@other.test"];
    let mut admin = pair.master.admin().expect("an admin");
    for user in users {
        pair.master.create_user(user).expect("a user");
        let mut imap = pair.client(user);
        imap.create("INBOX/a.b").expect("created");
        for message in MailGenerator::new(12, Sizes::Small).messages(3) {
            append(&mut imap, "INBOX/a.b", &message);
        }
        imap.subscribe("INBOX/a.b").expect("subscribed");
    }
    for root in ["user/glad", "user/ann@other.test"] {
        admin.set_quota(root, "STORAGE 100000 MESSAGE 50").expect("set");
    }
    pair.sync(&["-A"]);
    users.iter().for_each(|user| pair.assert_in_sync(user));
    let promoted = pair.promote();
    users.iter().for_each(|user| promoted.assert_same(user));
}

/// What JMAP notes of a message that sleeps until a certain time.
const SNOOZED: &str = "{\"until\":\"2040-01-01T00:00:00Z\"}";

#[test]
fn snoozed_messages_sleep_on() {
    let Some(pair) = Pair::start("snoozed_messages_sleep_on") else { return };
    pair.master.create_user("glad").expect("a user");
    let mut imap = pair.client("glad");
    for message in MailGenerator::new(14, Sizes::Small).messages(3) {
        append(&mut imap, "INBOX", &message);
    }
    imap.select("INBOX").expect("selected");
    let entry = "/vendor/cmu/cyrus-imapd/snoozed";
    imap.annotate("2", entry, "value.shared", SNOOZED).expect("annotated");
    imap.unselect().expect("closed");
    pair.sync(&["-u", "glad"]);
    pair.assert_in_sync("glad");
    let flags = |cyrus: &Cyrus| {
        let examined = cyrus.tool("mbexamine", &["user/glad"]).expect("examined");
        let flags = examined.stdout.lines().filter(|line| line.contains("INTERNALFLAGS"));
        flags.map(str::to_owned).collect::<Vec<_>>()
    };
    let of_master = flags(&pair.master);
    let promoted = pair.promote();
    promoted.assert_same("glad");
    assert!(of_master[1].contains("SNOOZED"), "{of_master:?}");
    assert_eq!(of_master, flags(&promoted.cyrus));
}

const FILTER: &str = "require [\"fileinto\"];\r\n\
    if header :contains \"subject\" \"file me\" { fileinto \"INBOX/Filed\"; }\r\n";

#[test]
fn sieve_scripts_are_replicated_and_run_once_the_replica_is_promoted() {
    let Some(pair) = Pair::start("sieve_scripts_are_replicated") else { return };
    pair.master.create_user("glad").expect("a user");
    pair.client("glad").create("INBOX/Filed").expect("created");
    let mut sieve = Sieve::log_in_glad(&pair.master);
    sieve.put("old", "keep;\r\n");
    sieve.put("filter", FILTER);
    sieve.ask("SETACTIVE \"old\"");
    pair.sync_log();
    pair.assert_in_sync("glad");
    sieve.ask("SETACTIVE \"filter\"");
    sieve.ask("DELETESCRIPT \"old\"");
    pair.sync_log();
    pair.assert_in_sync("glad");
    let promoted = pair.promote();
    promoted.assert_same("glad");
    let mut there = Sieve::log_in_glad(&promoted.cyrus);
    assert_eq!(there.ask("LISTSCRIPTS"), ["\"filter\" ACTIVE"]);
    let mut lmtp = promoted.cyrus.lmtp().expect("a client");
    let message = b"From: a@b.test\r\nSubject: file me\r\n\r\nbody\r\n";
    lmtp.deliver(&["glad"], message).expect("delivered");
    let mut imap = promoted.cyrus.imap_as("glad").expect("a client");
    assert_eq!(imap.status("INBOX/Filed", &["MESSAGES"]).expect("counted"), [1]);
}

/// A session of ManageSieve (RFC 5804).
struct Sieve {
    stream: BufReader<TcpStream>,
}

impl Sieve {
    fn log_in_glad(cyrus: &Cyrus) -> Self {
        let stream = TcpStream::connect_timeout(&cyrus.sieve_address(), LIMIT).expect("it listens");
        stream.set_read_timeout(Some(LIMIT)).expect("it can wait");
        let mut sieve = Self { stream: BufReader::new(stream) };
        sieve.answer();
        // glad, and any password
        sieve.ask("AUTHENTICATE \"PLAIN\" \"AGdsYWQAYW55\"");
        sieve
    }

    fn put(&mut self, name: &str, text: &str) {
        self.ask(&format!("PUTSCRIPT \"{name}\" {{{}+}}\r\n{text}", text.len()));
    }

    fn ask(&mut self, command: &str) -> Vec<String> {
        let stream = self.stream.get_mut();
        stream.write_all(format!("{command}\r\n").as_bytes()).expect("it listens");
        self.answer()
    }

    /// The lines before OK.
    fn answer(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            assert!(self.stream.read_line(&mut line).expect("it answers") > 0, "{lines:?}");
            match line.trim_end() {
                line if line.starts_with("OK") => return lines,
                line => {
                    assert!(!line.starts_with("NO") && !line.starts_with("BYE"), "{line}");
                    lines.push(line.to_owned());
                }
            }
        }
    }
}
