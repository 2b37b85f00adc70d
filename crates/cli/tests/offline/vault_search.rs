//! What a vault tells of the past: differences between snapshots, and messages that are found.

use std::fs;
use std::path::Path;

use model::SystemFlags;
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::spool_builder::{EPOCH, Era, NewMessage, SpoolBuilder, SpoolOptions};

use super::program::{Ran, cylinder};
use super::sample::{belongs_to_us, files, scratch};

/// A message: its subject, its flags, and whether it is expunged.
type Mail = (&'static str, SystemFlags, bool);

/// A message that nobody has looked at.
fn new(subject: &'static str) -> Mail {
    (subject, SystemFlags::default(), false)
}

fn expunged((subject, flags, _): Mail) -> Mail {
    (subject, flags, true)
}

fn body(subject: &str) -> String {
    format!(
        "From: =?utf-8?q?J=C3=B6rg?= <joerg@example.com>\r\nTo: glad@example.com\r\n\
         Date: Tue, 13 May 2014 16:53:20 +0000\r\nSubject: {subject}\r\n\
         Message-ID: <{}@example.com>\r\n\r\nbody\r\n",
        subject.len()
    )
}

fn guid(subject: &str) -> String {
    testkit::imap::guid_of(body(subject).as_bytes()).to_string()
}

/// A vault of glad.
struct Vault {
    scratch: TempDir,
}

impl Vault {
    fn new() -> Self {
        Self { scratch: scratch() }
    }

    fn path(&self) -> String {
        self.scratch.path().join("vault").display().to_string()
    }

    /// Backs glad up as he is with these mailboxes. The second and so on are the same mailboxes
    /// each time, whatever they are called.
    fn back_up(&self, mailboxes: &[(&str, &[Mail])]) {
        let root = self.scratch.path().join("spool");
        let conf = build(&root, mailboxes);
        cylinder(["backup", "--vault", &self.path(), "-C", &conf, "glad"]).expect(0);
    }

    fn run(&self, command: &str, arguments: &[&str]) -> Ran {
        let vault = self.path();
        let begin = [command, "--vault", &vault, "glad"];
        cylinder(begin.iter().chain(arguments))
    }

    /// The subjects of what is found, in order.
    #[track_caller]
    fn found(&self, arguments: &[&str]) -> Vec<String> {
        let found = self.run("find", &[arguments, &["--json"]].concat()).expect(0).document();
        let messages = found["messages"].as_array().expect("a list").iter();
        messages.map(|message| message["subject"].as_str().unwrap_or("?").to_owned()).collect()
    }
}

fn build(root: &Path, mailboxes: &[(&str, &[Mail])]) -> String {
    if root.exists() {
        fs::remove_dir_all(root).expect("a directory");
    }
    let mut builder = SpoolBuilder::create(root, SpoolOptions::new(Era::V3_6)).expect("a spool");
    for (name, messages) in mailboxes {
        let mut mailbox = builder.mailbox(name).expect("a mailbox");
        for (subject, system_flags, is_expunged) in *messages {
            let bytes = body(subject);
            let message = NewMessage {
                bytes: bytes.as_bytes(),
                internaldate: EPOCH,
                system_flags: *system_flags,
                user_flags: if *subject == "one" { &["$Label"] } else { &[] },
                expunged: is_expunged.then_some(EPOCH + 1),
            };
            mailbox.add(&message).expect("a message");
        }
        builder.finish_mailbox(mailbox).expect("a mailbox");
    }
    let spool = builder.finish().expect("a spool");
    belongs_to_us(&spool.imapd_conf);
    spool.imapd_conf.display().to_string()
}

/// Three snapshots: a message is expunged, one moves to another mailbox, and that is renamed.
fn three_snapshots() -> Vault {
    let vault = Vault::new();
    let [one, two, three] = [new("one"), new("two"), new("=?utf-8?b?ZHJlacOf?=")];
    vault.back_up(&[("user.glad", &[one, two, three]), ("user.glad.Work", &[])]);
    let seen = ("one", SystemFlags::SEEN, false);
    let inbox = [seen, expunged(two), expunged(three), new("four")];
    vault.back_up(&[("user.glad", &inbox), ("user.glad.Work", &[three])]);
    let inbox = [seen, expunged(two), expunged(three), expunged(new("four"))];
    vault.back_up(&[("user.glad", &inbox), ("user.glad.Old", &[three])]);
    vault
}

/// What differs of a mailbox, without GUIDs.
fn changes<'d>(document: &'d Value, mailbox: &str) -> Vec<&'d Value> {
    let mailboxes = document["mailboxes"].as_array().expect("a list");
    let found = mailboxes.iter().filter(|found| found["mailbox"] == mailbox);
    found.flat_map(|found| found["changes"].as_array().expect("a list")).collect()
}

#[test]
fn diff_tells_what_differs_by_mailbox() {
    let vault = three_snapshots();
    let ran = vault.run("diff", &["1", "2"]).expect(0);
    let text = ran.text();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("glad: 1 of 20") && lines[0].contains(" to 2 of 20"), "{text}");
    let drei = guid("=?utf-8?b?ZHJlacOf?=");
    assert_eq!(
        lines[1..8],
        [
            "INBOX".to_owned(),
            format!("  flags      1  {}  $Label -> \\Seen $Label", guid("one")),
            format!("  went       2  {}", guid("two")),
            format!("  went       3  {drei}"),
            format!("  came       4  {}", guid("four")),
            "INBOX.Work".to_owned(),
            format!("  came       1  {drei}"),
        ]
    );
    let document = vault.run("diff", &["2", "--json"]).expect(0).document();
    assert_eq!((&document["before"]["seq"], &document["after"]["seq"]), (&json!(2), &json!(3)));
    let went = json!({ "change": "went", "uid": 4, "guid": guid("four") });
    assert_eq!(changes(&document, "INBOX"), [&went]);
    let renamed = json!({ "change": "renamed", "from": "INBOX.Work" });
    assert_eq!(changes(&document, "INBOX.Old"), [&renamed]);
}

#[test]
fn diff_of_equal_snapshots_says_so() {
    let vault = three_snapshots();
    let text = vault.run("diff", &["3"]).expect(0).text();
    assert!(text.ends_with("\nnothing differs\n"), "{text}");
    let document = vault.run("diff", &["1", "1", "--json"]).expect(0).document();
    assert_eq!((&document["mailboxes"], &document["outside"]), (&json!([]), &json!([])));
}

#[test]
fn what_is_no_snapshot_is_refused() {
    let vault = three_snapshots();
    for (command, arguments) in [
        ("diff", ["tuesday", "2"].as_slice()),
        ("diff", &["1", "tuesday"]),
        ("find", &["--since", "tuesday"]),
        ("find", &["--vanished-between", "1", "tuesday"]),
    ] {
        let ran = vault.run(command, arguments).expect(2);
        assert!(ran.error().contains("\"tuesday\" is neither"), "{}", ran.error());
        assert!(ran.hints("2026-11-23T19:00:00Z"), "{}", ran.stderr);
    }
    let ran = vault.run("diff", &["4"]).expect(1);
    assert!(ran.hints("there are some from 1 to 3"), "{}", ran.stderr);
    let ran = vault.run("find", &["--since", "4"]).expect(1);
    assert!(ran.hints("the newest is 3 of 20"), "{}", ran.stderr);
    let ran = vault.run("find", &["--vanished-between", "2", "1"]).expect(2);
    assert!(ran.error().contains("T1"), "{}", ran.error());
}

#[test]
fn find_follows_a_message_through_all_snapshots() {
    let vault = three_snapshots();
    let ran = vault.run("find", &["--subject", "DREI\u{df}"]).expect(0);
    let text = ran.text();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines[..4],
        [
            format!("{}  Tue, 13 May 2014 16:53:20 +0000", guid("=?utf-8?b?ZHJlacOf?=")).as_str(),
            "  From: J\u{f6}rg <joerg@example.com>",
            "  To: glad@example.com",
            "  Subject: drei\u{df}",
        ]
    );
    let places: Vec<String> = lines[4..7].iter().map(|line| without_times(line)).collect();
    assert_eq!(
        places,
        ["  INBOX 3: 1", "  INBOX.Old 1: 2 to 3", "  INBOX 3: 2 to 3, expunged"],
        "{text}"
    );
    assert_eq!(lines[7], "  still there");
    let show = format!("cylinder show --vault {} glad --guid GUID", vault.path());
    assert_eq!(lines[8..], [format!("to get one: {show}")]);
    let shown = vault.run("show", &["--guid", &guid("four")]).expect(0);
    assert_eq!(shown.text(), body("four"));
}

/// A line without " of 2026-01-01T12:00:00Z".
fn without_times(line: &str) -> String {
    let mut parts = line.split(" of 20");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |line, part| line + part.split_once('Z').map_or(part, |(_, rest)| rest))
}

#[test]
fn find_takes_every_filter() {
    let vault = three_snapshots();
    let all = ["one", "two", "drei\u{df}", "four"];
    assert_eq!(vault.found(&[]), all);
    assert_eq!(vault.found(&["--from", "j\u{d6}rg"]), all);
    assert_eq!(vault.found(&["--to", "glad@", "--message-id", "<4@"]), ["four"]);
    assert_eq!(vault.found(&["--subject", "o", "--mailbox", "INBOX"]), ["one", "two", "four"]);
    for mailbox in ["Work", "Old", "INBOX/Work", "user.glad.Old"] {
        assert_eq!(vault.found(&["--mailbox", mailbox]), ["drei\u{df}"], "{mailbox}");
    }
    assert_eq!(vault.found(&["--mailbox", "Work", "--since", "3"]), [""; 0]);
    assert_eq!(vault.found(&["--since", "2001-01-01"]), all);
    assert_eq!(vault.found(&["--vanished-between", "1", "3"]), ["two", "four"]);
    assert_eq!(vault.found(&["--vanished-between", "1", "2"]), ["two"]);
    assert_eq!(vault.found(&["--vanished-between", "2", "3"]), ["four"]);
    assert_eq!(vault.found(&["--vanished-between", "1", "3", "--subject", "four"]), ["four"]);
    let none = vault.run("find", &["--subject", "nothing like it"]).expect(0);
    assert_eq!(none.text(), "no such message in 3 snapshots of glad\n");
}

#[test]
fn find_tells_programs_the_same() {
    let vault = three_snapshots();
    let ran = vault.run("find", &["--json", "--vanished-between", "1", "2"]).expect(0);
    let document = ran.document();
    assert_eq!((&document["account"], &document["snapshots"]), (&json!("glad"), &json!(2)));
    let message = &document["messages"][0];
    for (name, value) in [
        ("guid", json!(guid("two"))),
        ("date", json!("Tue, 13 May 2014 16:53:20 +0000")),
        ("from", json!("J\u{f6}rg <joerg@example.com>")),
        ("to", json!("glad@example.com")),
        ("subject", json!("two")),
        ("message_id", json!("<3@example.com>")),
        ("in_newest", json!(false)),
    ] {
        assert_eq!(message[name], value, "{name}");
    }
    let places = message["places"].as_array().expect("a list");
    let told: Vec<_> = places
        .iter()
        .map(|place| {
            json!([
                place["mailbox"],
                place["uid"],
                place["state"],
                place["first"]["seq"],
                place["last"]["seq"]
            ])
        })
        .collect();
    assert_eq!(told, [json!(["INBOX", 2, "visible", 1, 1]), json!(["INBOX", 2, "expunged", 2, 2])]);
    assert!(places[0]["first"]["taken_at"].is_string());
}

#[test]
fn what_was_damaged_is_named_and_the_rest_is_found() {
    let vault = three_snapshots();
    let objects = files(&Path::new(&vault.path()).join("accounts/glad"));
    let second = objects.iter().find(|path| path.display().to_string().contains("/00000002-"));
    let second = second.expect("the second snapshot");
    let mut bytes = fs::read(second).expect("an object");
    bytes.iter_mut().for_each(|byte| *byte ^= 1);
    fs::write(second, bytes).expect("the object");
    let ran = vault.run("find", &[]).expect(1);
    assert!(ran.text().contains("Subject: one\n"), "{}", ran.text());
    assert!(ran.hints("cylinder verify"), "{}", ran.stderr);
    let ran = vault.run("find", &["--vanished-between", "1", "2"]).expect(1);
    assert!(ran.hints("name another one as T2"), "{}", ran.stderr);
    vault.run("diff", &["1", "2"]).expect(1);
}
