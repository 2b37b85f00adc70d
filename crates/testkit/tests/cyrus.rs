//! The harness itself: a Cyrus starts, is filled, seen, stopped, and leaves nothing behind.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use testkit::imap::Append;
use testkit::mail::{MailGenerator, Sizes};
use testkit::{Cyrus, CyrusBuilder, ImapView, cyrus_or_skip};

/// An account with a bit of everything that a client can do.
fn fill(cyrus: &Cyrus, user: &str) {
    cyrus.create_user(user).expect("a user");
    let root = format!("user/{user}");
    let mut admin = cyrus.admin().expect("the admin");
    admin.set_quota(&root, "STORAGE 100000 MESSAGE 5000").expect("a quota");
    let mut mail = MailGenerator::new(1, Sizes::Small);
    let mut client = cyrus.imap_as(user).expect("a client");
    client.create_for("INBOX/Sent", "\\Sent").expect("a folder with a purpose");
    client.create("INBOX/R&AOk-ports").expect("a folder");
    client.subscribe("INBOX/Sent").expect("a subscription");
    client.set_acl("INBOX/Sent", "fred", "lrs").expect("rights");
    client.set_metadata("INBOX/Sent", "/private/comment", Some("mine")).expect("an annotation");
    client.set_metadata("INBOX/Sent", "/shared/comment", Some("ours, \"é\"")).expect("another");
    for number in 0..10 {
        let message = mail.message();
        let flags: &[&str] = if number % 2 == 0 { &["\\Seen", "$Forwarded"] } else { &[] };
        let internaldate = Some(1_500_000_000 + number);
        let uid = client
            .append("INBOX", Append { message: &message, flags, internaldate })
            .expect("an append");
        assert_eq!(i64::from(uid), number + 1);
    }
    client.select("INBOX").expect("INBOX");
    assert_eq!(client.copy("2:4", "INBOX/Sent").expect("a copy"), [1, 2, 3]);
    client.store("3,5", "+FLAGS", &["\\Deleted"]).expect("flags");
    client.uid_expunge("3").expect("an expunge");
    client.annotate("1", "/comment", "value.priv", "read \"it\"").expect("an annotation");
    client.logout().expect("a good-bye");
}

fn assert_filled(view: &ImapView) {
    let names: Vec<_> = view.folders.keys().map(String::as_str).collect();
    assert_eq!(names, ["INBOX", "INBOX/R&AOk-ports", "INBOX/Sent"]);
    let inbox = &view.folders["INBOX"];
    assert_eq!(inbox.messages.keys().copied().collect::<Vec<_>>(), [1, 2, 4, 5, 6, 7, 8, 9, 10]);
    assert_eq!(inbox.uid_next, 11);
    let first = &inbox.messages[&1];
    assert_eq!(first.flags.iter().collect::<Vec<_>>(), ["$Forwarded", "\\Seen"]);
    assert_eq!(first.internaldate, "14-Jul-2017 02:40:00 +0000");
    assert_eq!(first.annotations["/comment value.priv"], "read \"it\"");
    assert_eq!(first.size, first.served);
    let sent = &view.folders["INBOX/Sent"];
    assert_eq!(sent.messages[&2].guid, {
        let mut mail = MailGenerator::new(1, Sizes::Small);
        let third = mail.messages(3).remove(2);
        testkit::imap::guid_of(&third)
    });
    assert_eq!(sent.acl["fred"], "lrs");
    assert_eq!(sent.annotations["/private/comment"], "mine");
    assert_eq!(sent.annotations["/shared/comment"], "ours, \"é\"");
    assert!(sent.purposes.contains("\\Sent"));
    assert!(view.subscriptions.contains("INBOX/Sent"));
    let quota = &view.quotas[sent.quota_root.as_deref().expect("a quota root")];
    assert_eq!(quota["MESSAGE"], (12, Some(5000)));
}

fn start(builder: CyrusBuilder) -> Cyrus {
    builder
        .start()
        .unwrap_or_else(|error| panic!("{error}: {:?}", std::error::Error::source(&error)))
}

#[test]
fn a_filled_account_shows_all_that_was_put_there_and_survives_a_restart() {
    let Some(builder) = cyrus_or_skip("a_filled_account") else { return };
    let mut cyrus = start(builder);
    fill(&cyrus, "glad");
    let before = cyrus.view("glad").expect("a view");
    assert_filled(&before);
    cyrus.stop();
    cyrus.start().expect("a second start");
    let after = cyrus.view("glad").expect("a view");
    assert_eq!(before.differences(&after), Vec::<String>::new());

    let root = cyrus.root().to_owned();
    drop(cyrus);
    assert!(!root.exists(), "{} is left behind", root.display());
}

#[test]
fn another_cyrus_opens_the_directories_of_the_first() {
    let Some(builder) = cyrus_or_skip("another_cyrus_opens") else { return };
    let builder = builder.legacy_dirs(true).metapartition().hashimapspool(true);
    let mut first = start(builder.clone());
    fill(&first, "fred.smith");
    let before = first.view("fred.smith").expect("a view");
    first.crash();
    let second = start(builder.directories_of(&first).give_to_cyrus());
    let after = second.view("fred.smith").expect("a view");
    assert_eq!(before.differences(&after), Vec::<String>::new());
    let directory = second.mailbox_directory("user/fred.smith").expect("a path");
    assert_eq!(directory, first.spool().join("f/user/fred^smith"));
}

#[test]
fn mail_is_delivered_to_several_users_of_several_domains() {
    let Some(builder) = cyrus_or_skip("mail_is_delivered") else { return };
    let cyrus = start(builder.virtdomains("userid").conversations(true).archive());
    for user in ["glad", "ann@other.test"] {
        cyrus.create_user(user).expect("a user");
    }
    let mut lmtp = cyrus.lmtp().expect("LMTP");
    let message = b"Subject: x\r\n\r\n.dot\r\n";
    lmtp.deliver(&["glad", "ann@other.test"], message).expect("a delivery");
    lmtp.deliver(&["nobody"], message).expect_err("there is no such user");
    for user in ["glad", "ann@other.test"] {
        let mut client = cyrus.imap_as(user).expect("a client");
        client.select("INBOX").expect("INBOX");
        assert_eq!(client.search("ALL").expect("a search"), [1], "{user}");
        let body = client.body(1).expect("a body").expect("a message");
        assert!(body.ends_with(b"\r\n\r\n.dot\r\n"), "{}", String::from_utf8_lossy(&body));
        assert_eq!(client.body(2).expect("no failure"), None);
    }
    cyrus.tool("cyr_expire", &["-E", "1", "-A", "0"]).expect("messages are archived");
    let data = cyrus.mailbox_directory("user/glad").expect("a path");
    let below = data.strip_prefix(cyrus.spool()).expect("it lies on the partition");
    let archive = cyrus.directory("archivepartition-default").expect("an archive partition");
    assert!(archive.join(below).join("1.").exists(), "nothing in {}", archive.display());
    assert!(!data.join("1.").exists(), "still in {}", data.display());
}

#[test]
fn the_replication_server_greets() {
    let Some(builder) = cyrus_or_skip("the_replication_server_greets") else { return };
    let cyrus = start(builder);
    let stream = TcpStream::connect(cyrus.sync_address()).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
    let mut greeting = BufReader::new(stream).lines();
    let ok =
        greeting.find_map(|line| line.expect("a line").strip_prefix("* OK ").map(String::from));
    assert!(ok.is_some_and(|ok| ok.contains("Cyrus sync server")), "no greeting");
}

#[test]
fn tools_run_as_cyrus_and_failing_ones_are_errors() {
    let Some(builder) = cyrus_or_skip("tools_run_as_cyrus") else { return };
    let cyrus = start(builder.legacy_dirs(true));
    cyrus.create_user("glad").expect("a user");
    cyrus.tool("reconstruct", &["-V", "12", "user/glad"]).expect("an old index");
    let index = cyrus.mailbox_directory("user/glad").expect("a path").join("cyrus.index");
    let bytes = fs::read(&index).expect("an index");
    assert_eq!(bytes[8..12], 12_u32.to_be_bytes());
    let list = cyrus.tool("ctl_mboxlist", &["-d"]).expect("a dump").stdout;
    assert!(list.contains("user.glad"), "{list}");
    let missing = PathBuf::from("/nonexistent.db");
    cyrus
        .tool("cyr_dbtool", &[&missing.display().to_string(), "twoskip", "show"])
        .expect_err("there is no such file");
}

#[test]
fn a_view_of_five_thousand_messages_is_fast() {
    let Some(builder) = cyrus_or_skip("a_view_of_five_thousand") else { return };
    let cyrus = start(builder);
    cyrus.create_user("glad").expect("a user");
    let messages = MailGenerator::new(5, Sizes::Small).messages(5_000);
    let appends: Vec<_> =
        messages.iter().map(|message| Append { message, ..Append::default() }).collect();
    let mut client = cyrus.imap_as("glad").expect("a client");
    let start = Instant::now();
    for batch in appends.chunks(1_000) {
        client.append_all("INBOX", batch).expect("appends");
    }
    let appended = start.elapsed();
    let start = Instant::now();
    let view = ImapView::of(&mut client).expect("a view");
    println!("appended in {appended:?}, viewed in {:?}", start.elapsed());
    assert_eq!(view.message_count(), 5_000);
    let inbox = &view.folders["INBOX"];
    for (uid, message) in (1..).zip(&messages) {
        assert_eq!(inbox.messages[&uid].guid, testkit::imap::guid_of(message));
    }
}
