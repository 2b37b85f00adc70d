//! A real master and its replica both get mail of their own: that is shown, both variants are kept, and
//! both sides are brought together, which both then show over IMAP and over csync.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use model::Guid;
use serde_json::{Value, json};
use testkit::imap::{Append, MessageView};
use testkit::kills::mailboxes;
use testkit::mail::{MailGenerator, Sizes};
use testkit::process::Group;
use testkit::served::{NAME, Served};
use testkit::{Cyrus, ImapClient};

use crate::program::{CYLINDER, PATIENCE};
use crate::replicate::{Pair, document, fill};
use crate::restored::scratch;

/// A pair with three messages that both have; then each side gets mail of its own.
struct Split {
    pair: Pair,
    mail: Vec<Vec<u8>>,
}

impl Split {
    fn start(test: &str, seed: u64) -> Option<Self> {
        let pair = Pair::start(test)?;
        let mail = MailGenerator::new(seed, Sizes::Small).messages(9);
        let mut here = pair.glad();
        here.create("INBOX/a").expect("created");
        fill(&mut here, "INBOX", &mail[..3]);
        fill(&mut here, "INBOX/a", &mail[8..]);
        pair.sync_and_compare();
        Some(Self { pair, mail })
    }

    fn there(&self) -> ImapClient {
        self.pair.replica.imap_as("glad").expect("a client")
    }

    /// One message more on the master, two more on the replica.
    fn deliver(&self) {
        fill(&mut self.pair.glad(), "INBOX", &self.mail[3..4]);
        fill(&mut self.there(), "INBOX", &self.mail[4..6]);
    }

    fn master(&self) -> String {
        format!("csync://cyrus@{}", self.pair.master.sync_address())
    }

    /// Brings both together; returns what is said of the account.
    #[track_caller]
    fn resolve(&self, how: &str) -> Value {
        let arguments = ["--user", "glad", "--resolve", how, "--master", &self.master()];
        let report = document(&self.pair.run(&arguments).expect(0));
        println!("{report:#}");
        let account = report["accounts"][0].clone();
        assert_eq!(account["problems"], json!([]), "{account:#}");
        account
    }

    /// Both sides show the same, over IMAP and over csync, and nothing is left to be done.
    #[track_caller]
    fn assert_same(&self) {
        self.pair.compare();
        let told = [&self.pair.master, &self.pair.replica]
            .map(|server| mailboxes(server.sync_address(), "glad").expect("it tells"));
        assert_eq!(told[0], told[1]);
        let again = document(&self.pair.run(&["--user", "glad"]).expect(0));
        assert_eq!(again["unchanged"], 1, "{again:#}");
        for server in [&self.pair.master, &self.pair.replica] {
            assert_eq!(staged(server), 0);
        }
    }
}

/// Files below `sync.` of the partition.
fn staged(server: &Cyrus) -> usize {
    let Ok(processes) = fs::read_dir(server.spool().join("sync.")) else { return 0 };
    let files = processes.flatten().filter_map(|process| fs::read_dir(process.path()).ok());
    files.map(Iterator::count).sum()
}

fn inbox(server: &Cyrus) -> BTreeMap<u32, MessageView> {
    server.view("glad").expect("a view").folders["INBOX"].messages.clone()
}

fn guids(server: &Cyrus) -> Vec<Guid> {
    let mut guids: Vec<Guid> = inbox(server).values().map(|message| message.guid).collect();
    guids.sort();
    guids
}

fn guids_of(mail: &[Vec<u8>]) -> Vec<Guid> {
    let mut guids: Vec<Guid> = mail.iter().map(|body| testkit::imap::guid_of(body)).collect();
    guids.sort();
    guids
}

#[test]
fn a_split_brain_is_shown_and_kept_before_anything_is_changed() {
    let Some(split) = Split::start("a_split_brain_is_shown_and_kept", 60) else { return };
    split.deliver();
    let directory = scratch();
    let kept = directory.path().join("kept");
    let before = [inbox(&split.pair.master), inbox(&split.pair.replica)];
    let kept_there = kept.display().to_string();
    let arguments = ["--user", "glad", "--dry-run", "--export", &kept_there];
    let report = document(&split.pair.run(&arguments).expect(3));
    println!("{report:#}");
    let problem = &report["accounts"][0]["problems"][0];
    assert_eq!((&problem["mailbox"], &problem["code"]), (&json!("user.glad"), &json!("diverged")));
    let [other, alone] = &problem["differences"].as_array().expect("differences")[..] else {
        panic!("{problem:#}")
    };
    let [here, there, more] =
        [3, 4, 5].map(|at| testkit::imap::guid_of(&split.mail[at]).to_string());
    assert_eq!((&other["uid"], &other["code"]), (&json!(4), &json!("other-message")));
    assert_eq!(
        (&other["master"]["guid"], &other["replica"]["guid"]),
        (&json!(here), &json!(there))
    );
    assert_eq!(other["master"]["size"], split.mail[3].len());
    assert_eq!(other["master"]["internaldate"], "2023-11-14T22:13:20Z");
    assert_eq!(other["master"]["flags"], json!(["\\Seen", "$Label1"]));
    assert_eq!((&alone["uid"], &alone["side"]), (&json!(5), &json!("replica")));
    assert_eq!((&alone["master"], &alone["replica"]["guid"]), (&Value::Null, &json!(more)));
    assert_eq!([inbox(&split.pair.master), inbox(&split.pair.replica)], before);

    let run = PathBuf::from(report["export"].as_str().expect("a path"));
    assert!(run.starts_with(&kept), "{}", run.display());
    let mailbox = run.join("glad/user.glad");
    let read = |name: &str| fs::read(mailbox.join(name)).expect("it is there");
    assert_eq!(read("master/4.eml"), split.mail[3]);
    assert_eq!(read("replica/4.eml"), split.mail[4]);
    assert_eq!(read("replica/5.eml"), split.mail[5]);
    for (side, count, alone) in [("master", 4, 1), ("replica", 5, 2)] {
        let lines = String::from_utf8(read(&format!("{side}.jsonl"))).expect("text");
        let uids = lines
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).expect("a document")["uid"].as_u64());
        assert_eq!(uids.collect::<Vec<_>>(), (1..=count).map(Some).collect::<Vec<_>>(), "{side}");
        assert_eq!(fs::read_dir(mailbox.join(side)).expect("a directory").count(), alone);
    }
    assert_eq!(fs::read_dir(run.join("glad")).expect("a directory").count(), 1);

    // Where nothing is in conflict, nothing is left behind.
    let arguments = ["--mailbox", "user/glad/a", "--export", &kept_there];
    let report = document(&split.pair.run(&arguments).expect(0));
    assert_eq!(report["export"], Value::Null);
    assert_eq!(fs::read_dir(&kept).expect("a directory").count(), 1);
}

#[test]
fn both_sides_are_brought_together_and_no_message_is_lost() {
    let Some(split) = Split::start("both_sides_are_brought_together", 61) else { return };
    split.deliver();
    let refused = split.pair.run(&["--user", "glad", "--resolve", "renumber"]).expect(2);
    assert!(refused.stderr.contains("--master"), "{}", refused.stderr);

    let dry = ["--user", "glad", "--resolve", "renumber", "--dry-run"];
    let dry = document(&split.pair.run(&dry).expect(0));
    let plan = json!(["merge user.glad: 2 to the master, 1 to the replica, 2 with new UIDs"]);
    assert_eq!(dry["accounts"][0]["plan"], plan, "{dry:#}");
    assert_eq!((guids(&split.pair.master).len(), guids(&split.pair.replica).len()), (4, 5));

    let account = split.resolve("renumber");
    assert_eq!(account["plan"], plan, "{account:#}");
    assert_eq!((&account["done"]["merged"], &account["done"]["brought"]), (&json!(1), &json!(2)));
    assert_eq!(guids(&split.pair.master), guids_of(&split.mail[..6]));
    split.assert_same();
    // 4 meant two messages, and means none any more.
    let uids: Vec<u32> = inbox(&split.pair.master).into_keys().collect();
    assert_eq!(uids, [1, 2, 3, 5, 6, 7]);

    // Life goes on, and both go their own way once more. What is large goes in pieces.
    let large = [&b"Subject: large\r\n\r\n"[..], &b"0123456789abcde\r\n".repeat(400_000)].concat();
    let mail = [&split.mail[..8], &[large]].concat();
    fill(&mut split.there(), "INBOX", &[&mail[6..7], &mail[8..]].concat());
    fill(&mut split.pair.glad(), "INBOX", &mail[7..8]);
    split.resolve("renumber");
    assert_eq!(guids(&split.pair.replica), guids_of(&mail));
    split.assert_same();
    for server in [&split.pair.master, &split.pair.replica] {
        let audit = server.tool("ctl_conversationsdb", &["-A", "-v", "glad"]).expect("it runs");
        assert!(audit.stdout.ends_with("glad is OK\n"), "{audit:?}");
        let checked = server.tool("reconstruct", &["-n", "-r", "user/glad"]).expect("it runs");
        assert_eq!(checked.stdout, "user/glad\nuser/glad/a\n", "{checked:?}");
    }
}

/// The same in words, of which each line says which mailbox it is about.
#[test]
fn people_are_told_record_by_record() {
    let Some(split) = Split::start("people_are_told_record_by_record", 69) else { return };
    split.deliver();
    let say = |code: i32, more: &[&str]| {
        let mut command = Command::new(CYLINDER);
        command.args(["replicate", "--user", "glad", "-C"]).arg(split.pair.master.imapd_conf());
        command.arg("--to").arg(format!("csync://cyrus@{}", split.pair.replica.sync_address()));
        let output = testkit::process::run(command.args(more), b"any\n", PATIENCE);
        let output = output.expect("it ends");
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8(said).expect("text");
        println!("{said}");
        assert_eq!(output.status.code(), Some(code), "{said}");
        said
    };
    let [here, there, more] = [3, 4, 5].map(|at| testkit::imap::guid_of(&split.mail[at]));
    let [here_size, there_size] = [3, 4].map(|at| split.mail[at].len());
    let lines = [
        "user.glad: uid 4: two messages".to_owned(),
        format!(
            "user.glad: uid 4: here: {here}, 2023-11-14T22:13:20Z, {here_size} bytes, (\\Seen $Label1)"
        ),
        format!(
            "user.glad: uid 4: on the replica: {there}, 2023-11-14T22:13:20Z, {there_size} bytes, \
             (\\Seen $Label1)"
        ),
        "user.glad: uid 5: only the replica has it".to_owned(),
        format!("user.glad: uid 5: on the replica: {more}, "),
    ];
    let said = say(3, &["--dry-run"]);
    assert!(lines.iter().all(|line| said.contains(line.as_str())), "{lines:#?}");
    let master = split.master();
    let said = say(0, &["--dry-run", "--resolve", "renumber"]);
    assert!(lines.iter().all(|line| said.contains(line.as_str())), "{lines:#?}");
    assert!(said.contains("user.glad: uid 4 here becomes ") && said.contains("merge user.glad: "));
    let said = say(0, &["--resolve", "renumber", "--master", &master]);
    assert!(said.contains("1 brought together, 2 new here"), "{said}");
    split.assert_same();
}

/// A server that is not the one whose spool is read has it otherwise.
#[test]
fn another_server_is_not_taken_for_the_master() {
    let Some(split) = Split::start("another_server_is_not_taken_for_the_master", 67) else {
        return;
    };
    split.deliver();
    let before = [inbox(&split.pair.master), inbox(&split.pair.replica)];
    let replica = format!("csync://cyrus@{}", split.pair.replica.sync_address());
    let arguments = ["--user", "glad", "--resolve", "renumber", "--master", &replica];
    let report = document(&split.pair.run(&arguments).expect(3));
    let problem = &report["accounts"][0]["problems"][0];
    assert!(problem["detail"].as_str().expect("a text").contains("--master"), "{report:#}");
    assert_eq!([inbox(&split.pair.master), inbox(&split.pair.replica)], before);
    let nobody =
        ["--user", "glad", "--resolve", "renumber", "--master", "csync://cyrus@127.0.0.1:1"];
    let report = document(&split.pair.run(&nobody).expect(1));
    let error = report["accounts"][0]["error"].to_string();
    assert!(error.contains("127.0.0.1:1") && error.contains("run it again"), "{error}");
    assert_eq!([inbox(&split.pair.master), inbox(&split.pair.replica)], before);
}

/// Mail goes on coming to both while they are brought together.
#[test]
fn no_message_is_lost_that_comes_meanwhile() {
    let Some(split) = Split::start("no_message_is_lost_that_comes_meanwhile", 70) else { return };
    let mail = MailGenerator::new(80, Sizes::Small).messages(80);
    let (first, second) = mail.split_at(40);
    thread::scope(|scope| {
        for (imap, mail) in [(split.pair.glad(), first), (split.there(), second)] {
            let mut imap = imap;
            scope.spawn(move || fill(&mut imap, "INBOX", mail));
        }
        for how in ["renumber", "master", "replica"] {
            let master = split.master();
            let arguments = ["--user", "glad", "--resolve", how, "--master", &master];
            let ran = split.pair.run(&arguments);
            // It may have changed each time; nothing else may be wrong.
            assert!([0, 3].contains(&ran.code), "{}", ran.stderr);
        }
    });
    split.resolve("renumber");
    assert_eq!(guids(&split.pair.master), guids_of(&[&split.mail[..3], &mail].concat()));
    split.assert_same();
}

/// Mailboxes that nobody owns, and one of two that a user has.
#[test]
fn shared_and_single_mailboxes_are_brought_together_too() {
    let Some(split) = Split::start("shared_and_single_mailboxes", 68) else { return };
    let mut admin = split.pair.master.admin().expect("an admin");
    admin.create("shared").expect("created");
    admin.set_acl("shared", "glad", "lrswipkxte").expect("granted");
    split.pair.run(&["--all"]).expect(0);
    split.deliver();
    for (imap, message) in [(split.pair.glad(), &split.mail[6]), (split.there(), &split.mail[7])] {
        let (mut imap, append) = (imap, Append { message, ..Append::default() });
        imap.append("shared", append).expect("appended");
    }
    let master = split.master();
    let resolve = ["--resolve", "master", "--master", &master];
    let arguments = |which: &[&'static str]| {
        [which, &resolve[..]].concat().into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    for which in [&["--user", "%shared"][..], &["--mailbox", "user/glad"]] {
        let arguments = arguments(which);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let report = document(&split.pair.run(&arguments).expect(0));
        assert_eq!(report["done"]["merged"], 1, "{report:#}");
    }
    let shared = |server: &Cyrus| {
        let view = server.view("glad").expect("a view");
        let messages = view.folders["shared"].messages.iter();
        messages.map(|(uid, message)| (*uid, message.guid)).collect::<Vec<_>>()
    };
    assert_eq!(shared(&split.pair.master), shared(&split.pair.replica));
    assert_eq!(shared(&split.pair.master).len(), 2);
    split.assert_same();
}

/// The same message, flagged otherwise on each side, and another, expunged on the replica.
#[test]
fn a_side_can_be_preferred() {
    for (how, flags, is_kept) in [
        ("renumber", &["\\Flagged"][..], false),
        ("master", &["\\Answered"], true),
        ("replica", &["\\Flagged"], false),
    ] {
        let Some(split) = Split::start("a_side_can_be_preferred", 62) else { return };
        let (mut here, mut there) = (split.pair.glad(), split.there());
        for (imap, flag) in [(&mut here, "\\Answered"), (&mut there, "\\Flagged")] {
            imap.select("INBOX").expect("selected");
            imap.store("2", "FLAGS", &[flag]).expect("stored");
        }
        there.store("3", "+FLAGS", &["\\Deleted"]).expect("stored");
        there.expunge().expect("expunged");
        // It has changed that more than once, and so later.
        there.store("2", "FLAGS", &["\\Draft"]).expect("stored");
        there.store("2", "FLAGS", &["\\Flagged"]).expect("stored");
        split.deliver();
        split.resolve(how);
        let found = inbox(&split.pair.master);
        assert_eq!(found[&2].flags.iter().collect::<Vec<_>>(), flags, "{how}");
        let lost = testkit::imap::guid_of(&split.mail[2]);
        assert_eq!(found.values().any(|message| message.guid == lost), is_kept, "{how}");
        assert_eq!(found.len(), if is_kept { 6 } else { 5 }, "{how}");
        split.assert_same();
    }
}

#[test]
fn a_client_that_is_connected_to_the_master_sees_it() {
    let Some(split) = Split::start("a_client_that_is_connected", 63) else { return };
    let mut imap = split.pair.glad();
    imap.select("INBOX").expect("selected");
    split.deliver();
    imap.command("NOOP").expect("it answers");
    split.resolve("renumber");
    imap.command("NOOP").expect("it answers");
    assert_eq!(imap.search("ALL").expect("found"), [1, 2, 3, 5, 6, 7]);
    let bodies: Vec<Vec<u8>> =
        [5, 6, 7].map(|uid| imap.body(uid).expect("it answers").expect("a body")).into();
    assert_eq!(guids_of(&bodies), guids_of(&split.mail[3..6]));
    imap.store("6", "+FLAGS", &["\\Flagged"]).expect("stored");
    imap.logout().expect("it ends");
    split.pair.sync_and_compare();
}

/// The master's mail goes to `cylinder serve`, and so does that of a former replica that went its own way.
#[test]
fn it_is_the_same_with_a_replica_of_ours() {
    let Some(split) = Split::start("it_is_the_same_with_a_replica_of_ours", 64) else { return };
    let served = Served::start(Path::new(CYLINDER)).expect("a replica");
    let to = format!("csync://{NAME}@{}", served.address());
    let send = |from: &Cyrus, code: i32, arguments: &[&str]| {
        let mut command = Command::new(CYLINDER);
        command.args(["replicate", "--json", "--user", "glad", "--to", &to, "-C"]);
        command.arg(from.imapd_conf()).args(arguments);
        let output = testkit::process::run(&mut command, b"any\n", PATIENCE).expect("it ends");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{said}");
        serde_json::from_slice::<Value>(&output.stdout).expect("a document")
    };
    send(&split.pair.master, 0, &[]);
    split.deliver();
    send(&split.pair.replica, 0, &[]);
    let shown = send(&split.pair.master, 3, &["--dry-run"]);
    let differences = &shown["accounts"][0]["problems"][0]["differences"];
    assert_eq!(differences.as_array().map(Vec::len), Some(2), "{shown:#}");
    let report =
        send(&split.pair.master, 0, &["--resolve", "renumber", "--master", &split.master()]);
    assert_eq!(report["done"]["brought"], 2, "{report:#}");
    assert_eq!(guids(&split.pair.master), guids_of(&split.mail[..6]));
    assert_eq!(send(&split.pair.master, 0, &[])["unchanged"], 1);
    let told = [split.pair.master.sync_address(), served.address()]
        .map(|address| mailboxes(address, "glad").expect("it tells"));
    assert_eq!(told[0], told[1]);
}

/// When a line between the program and a server is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Instant {
    /// Before the server hears the words.
    Before,
    /// When it has heard the line that they begin.
    Behind,
}

/// A line to a server that falls silent at the first command that begins with these words, and tells.
fn watched(to: SocketAddr, words: &'static [u8], instant: Instant) -> (SocketAddr, Receiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let (seen, is_seen) = channel();
    thread::spawn(move || {
        let Ok((client, _)) = listener.accept() else { return };
        let server = TcpStream::connect(to).expect("it listens");
        let (mut down, mut to_client) =
            (server.try_clone().expect("a descriptor"), client.try_clone().expect("a descriptor"));
        let back = thread::spawn(move || {
            let _ = std::io::copy(&mut down, &mut to_client);
        });
        pass_on(client, &server, words, instant, &seen);
        let _ = server.shutdown(Shutdown::Write);
        let _ = back.join();
    });
    (address, is_seen)
}

fn pass_on(
    mut client: TcpStream,
    mut server: &TcpStream,
    words: &[u8],
    instant: Instant,
    seen: &Sender<()>,
) {
    let mut piece = vec![0; 1 << 16];
    let (mut has_begun, mut has_told) = (false, false);
    while let Ok(read @ 1..) = client.read(&mut piece) {
        has_begun |= piece[..read].windows(words.len()).any(|window| window == words);
        if has_begun && instant == Instant::Before {
            let _ = seen.send(());
            return;
        }
        if server.write_all(&piece[..read]).is_err() {
            return;
        }
        if has_begun && !has_told && piece[..read].ends_with(b"\n") {
            has_told = true;
            let _ = seen.send(());
        }
    }
}

#[test]
fn a_run_that_is_killed_is_finished_by_the_next_one() {
    let Some(split) = Split::start("a_run_that_is_killed_is_finished", 65) else { return };
    let mut mail = split.mail[..3].to_vec();
    let (apply, message) = (&b"APPLY MAILBOX"[..], &b"APPLY MESSAGE"[..]);
    let mut seed = 70;
    for is_master in [true, false] {
        for words in [message, apply] {
            for instant in [Instant::Before, Instant::Behind] {
                seed += 1;
                let more = MailGenerator::new(seed, Sizes::Small).messages(3);
                fill(&mut split.pair.glad(), "INBOX", &more[..1]);
                fill(&mut split.there(), "INBOX", &more[1..]);
                mail.extend(more);
                killed(&split.pair, is_master, words, instant);
                // Who does not know of it changes nothing.
                split.pair.run(&["--user", "glad"]);
                split.resolve("renumber");
                let what = String::from_utf8_lossy(words);
                assert_eq!(
                    guids(&split.pair.master),
                    guids_of(&mail),
                    "{is_master} {what} {instant:?}"
                );
                split.assert_same();
            }
        }
    }
}

/// Kills the program at that instant.
fn killed(pair: &Pair, is_master: bool, words: &'static [u8], instant: Instant) {
    let addresses = [pair.replica.sync_address(), pair.master.sync_address()];
    let (line, is_seen) = watched(addresses[usize::from(is_master)], words, instant);
    let [to, master] = match is_master {
        true => [addresses[0], line],
        false => [line, addresses[1]],
    };
    let mut command = Command::new(CYLINDER);
    command.args(["replicate", "--user", "glad", "--resolve", "renumber", "-C"]);
    command.arg(pair.master.imapd_conf()).arg("--to").arg(format!("csync://cyrus@{to}"));
    command.arg("--master").arg(format!("csync://cyrus@{master}"));
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut group = Group::spawn_guarded(&mut command).expect("it starts");
    let stdin = group.leader().stdin.take();
    stdin.expect("a pipe").write_all(b"any\n").expect("it reads");
    is_seen.recv_timeout(PATIENCE).expect("it gets there");
    group.kill();
}

#[test]
fn a_message_that_a_side_already_has_elsewhere_is_not_sent() {
    let Some(split) = Split::start("a_message_that_a_side_already_has", 66) else { return };
    // The same mail came to both, in another order.
    let append = |message| Append { message, ..Append::default() };
    let (mut here, mut there) = (split.pair.glad(), split.there());
    for (imap, order) in [(&mut here, [3, 4]), (&mut there, [4, 3])] {
        for at in order {
            imap.append("INBOX", append(&split.mail[at])).expect("appended");
        }
    }
    let account = split.resolve("renumber");
    assert_eq!(account["merges"][0]["differences"].as_array().map(Vec::len), Some(2));
    assert_eq!(guids(&split.pair.master), guids_of(&split.mail[..5]), "none is doubled");
    split.assert_same();
}
