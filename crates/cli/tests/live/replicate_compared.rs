//! What the real `sync_client` gets wrong, and what `cylinder replicate` does in its place: each row of
//! docs/replicate-compared.md that is about one run, both programs side by side.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::json;
use testkit::Cyrus;
use testkit::fake::{FakeReplica, Then};
use testkit::imap::Append;
use testkit::mail::{MailGenerator, Sizes};
use testkit::process::{self, Group, wait_until};
use testkit::served::Served;

use crate::program::{CYLINDER, PATIENCE};
use crate::replicate::{Pair, document, fill, steps};

/// How long a program that is to have given up is watched. The real one waits for 15 seconds first.
const A_WHILE: Duration = Duration::from_secs(3);

fn sync_client(master: &Cyrus, to: SocketAddr, arguments: &[&str]) -> Command {
    let mut command = master.tool_command("sync_client");
    command.args(["-S", &to.to_string()]).args(arguments);
    command
}

/// Runs it to its end.
fn run(mut command: Command) -> Output {
    process::run(&mut command, b"", PATIENCE).expect("it ends")
}

/// The options that the real client logs in with.
const LOGIN: [(&str, &str); 2] = [("sync_authname", "cyrus"), ("sync_password", "any")];

#[test]
fn two_folders_that_swap_their_names() {
    let Some(pair) = Pair::with("two_folders_that_swap_their_names", &LOGIN) else { return };
    let mut imap = pair.glad();
    for (seed, folder) in [(50, "INBOX/one"), (51, "INBOX/two")] {
        imap.create(folder).expect("created");
        fill(&mut imap, folder, &MailGenerator::new(seed, Sizes::Small).messages(2));
    }
    pair.sync_and_compare();
    for (from, to) in [("one", "x"), ("two", "one"), ("x", "two")] {
        imap.rename(&format!("INBOX/{from}"), &format!("INBOX/{to}")).expect("renamed");
    }
    let before = pair.replica.view("glad").expect("a view");
    for _ in 0..2 {
        let theirs = run(sync_client(&pair.master, pair.replica.sync_address(), &["-u", "glad"]));
        println!("sync_client: {theirs:?}");
        assert_eq!(theirs.status.code(), Some(1));
        let after = pair.replica.view("glad").expect("a view");
        assert_eq!(before.differences(&after), Vec::<String>::new(), "it gets nowhere");
    }
    let ours = pair.sync_and_compare();
    assert_eq!(ours["done"]["renamed"], 3, "{ours:#}");
    assert_eq!(ours["done"]["messages"], 0, "{ours:#}");
}

#[test]
fn a_wrong_password() {
    let options = [("sync_authname", "cyrus"), ("sync_password", "wrong")];
    let Some(pair) = Pair::with("a_wrong_password", &options) else { return };
    let served = Served::start(Path::new(CYLINDER)).expect("a replica");
    let mut theirs = sync_client(&pair.master, served.address(), &["-u", "glad"]);
    theirs.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut theirs = Group::spawn_guarded(&mut theirs).expect("it starts");
    let is_refused = || served.log().contains("login as cyrus failed");
    assert!(wait_until(PATIENCE, is_refused), "{}", served.log());
    println!("cylinder serve: {}", served.log());
    let ended = wait_until(A_WHILE, || !theirs.is_running());
    assert!(!ended, "it tries for ever");
    theirs.kill();
    let mut ours = Command::new(CYLINDER);
    ours.args(["replicate", "--json", "--user", "glad", "-C"]).arg(pair.master.imapd_conf());
    ours.args(["--to", &format!("csync://cyrus@{}", served.address())]);
    let ours = process::run(&mut ours, b"wrong\n", PATIENCE).expect("it ends");
    println!("cylinder: {ours:?}");
    assert_eq!(ours.status.code(), Some(1));
    let said = String::from_utf8_lossy(&ours.stdout).into_owned();
    assert!(said.contains("log in as cyrus") && said.contains("check the user and the password"));
}

#[test]
fn a_replica_that_is_not_there() {
    let Some(mut pair) = Pair::with("a_replica_that_is_not_there", &LOGIN) else { return };
    pair.replica.stop();
    let to = pair.replica.sync_address();
    let mut theirs = sync_client(&pair.master, to, &["-u", "glad"]);
    theirs.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut theirs = Group::spawn_guarded(&mut theirs).expect("it starts");
    let ended = wait_until(A_WHILE, || !theirs.is_running());
    println!("sync_client has ended: {ended}");
    assert!(!ended, "it tries for ever");
    theirs.kill();
    let ours = pair.run(&["--user", "glad"]).expect(1);
    let error = document(&ours)["accounts"][0]["error"].to_string();
    assert!(error.contains("connect"), "{error}");
    pair.replica.start().expect("it is back");
    pair.sync_and_compare();
}

/// Each of its attempts counts the master's modseq up, for nothing.
#[test]
fn a_checksum_that_is_refused_for_ever() {
    let Some(pair) = Pair::with("a_checksum_that_is_refused_for_ever", &LOGIN) else { return };
    let mut imap = pair.glad();
    fill(&mut imap, "INBOX", &MailGenerator::new(52, Sizes::Small).messages(2));
    imap.logout().expect("it ends");
    let refusal = b"NO IMAP_SYNC_CHECKSUM Checksum Failure\r\n";
    let fake = FakeReplica::new("APPLY MAILBOX", refusal, Then::GoOn);
    let to = fake.start().expect("a port");
    let theirs = run(sync_client(&pair.master, to, &["-u", "glad"]));
    println!("sync_client: {theirs:?}, APPLY MAILBOX {} times", fake.count("APPLY MAILBOX"));
    assert_eq!(theirs.status.code(), Some(1));
    let before = pair.master.view("glad").expect("a view");
    let tried = fake.count("APPLY MAILBOX");
    let ours = document(&pair.run_to(to, &["--user", "glad"]).expect(3));
    println!("cylinder: {ours:#}, APPLY MAILBOX {} times", fake.count("APPLY MAILBOX") - tried);
    assert_eq!(ours["accounts"][0]["problems"][0]["code"], "refused", "{ours:#}");
    assert!(fake.count("APPLY MAILBOX") - tried <= 3);
    let after = pair.master.view("glad").expect("a view");
    assert_eq!(before.differences(&after), Vec::<String>::new(), "the master is only read");
}

/// By a pass over its log, which is how it always goes there: `sync_client -R -1`.
#[test]
fn a_user_who_is_renamed() {
    let options = [LOGIN[0], LOGIN[1], ("sync_log", "yes")];
    let Some(pair) = Pair::with("a_user_who_is_renamed", &options) else { return };
    let mut imap = pair.glad();
    imap.create("INBOX/a").expect("created");
    imap.subscribe("INBOX/a").expect("subscribed");
    imap.logout().expect("it ends");
    pair.sync();
    pair.master.admin().expect("an admin").rename("user/glad", "user/iris").expect("renamed");
    let subscribed = |server: &Cyrus| {
        let mut imap = server.imap_as("iris").expect("a client");
        imap.subscriptions().expect("subscriptions")
    };
    let log = pair.master.config_directory().join("sync/log");
    println!("the log: {}", fs::read_to_string(&log).unwrap_or_default());
    let theirs = run(sync_client(&pair.master, pair.replica.sync_address(), &["-R", "-1"]));
    println!("sync_client: {theirs:?}");
    pair.replica.imap_as("iris").expect("a client").select("INBOX/a").expect("it is renamed");
    assert_eq!(subscribed(&pair.master), ["INBOX/a"]);
    println!("behind sync_client: {:?}", subscribed(&pair.replica));
    assert_eq!(subscribed(&pair.replica), Vec::<String>::new(), "they are lost");
    let ours = document(&pair.run(&["--user", "iris"]).expect(0));
    println!("cylinder: {ours:#}");
    assert_eq!(subscribed(&pair.replica), ["INBOX/a"]);

    // And the whole of it by us.
    pair.master.admin().expect("an admin").rename("user/iris", "user/glad").expect("renamed");
    pair.sync_and_compare();
    let mut imap = pair.replica.imap_as("glad").expect("a client");
    assert_eq!(imap.subscriptions().expect("subscriptions"), ["INBOX/a"]);
}

/// The real client fetches it, and leaves a file behind for each message that it ever fetches.
#[test]
fn a_message_that_the_replica_alone_has() {
    let Some(pair) = Pair::with("a_message_that_the_replica_alone_has", &LOGIN) else { return };
    let mail = MailGenerator::new(53, Sizes::Small).messages(3);
    fill(&mut pair.glad(), "INBOX", &mail[..1]);
    pair.sync_and_compare();
    let mut there = pair.replica.imap_as("glad").expect("a client");
    let append = |message| Append { message, ..Append::default() };
    there.append("INBOX", append(&mail[1])).expect("appended");
    there.append("INBOX", append(&mail[2])).expect("appended");

    let before = pair.master.view("glad").expect("a view");
    let ours = pair.account(3);
    assert_eq!(ours["plan"], json!([]), "{ours:#}");
    assert_eq!(ours["problems"][0]["code"], "diverged", "{ours:#}");
    assert_eq!(ours["problems"][0]["differences"].as_array().map(Vec::len), Some(2), "{ours:#}");
    assert!(steps(&ours).is_empty());
    let after = pair.master.view("glad").expect("a view");
    assert_eq!(before.differences(&after), Vec::<String>::new(), "the master is only read");
    assert_eq!(staged(&pair.master), 0);

    let theirs = run(sync_client(&pair.master, pair.replica.sync_address(), &["-u", "glad"]));
    println!("sync_client: {theirs:?}; it leaves {} files", staged(&pair.master));
    assert!(theirs.status.success());
    assert_eq!(staged(&pair.master), 2);
}

/// Files below `sync.` of the partition.
fn staged(server: &Cyrus) -> usize {
    let Ok(processes) = fs::read_dir(server.spool().join("sync.")) else { return 0 };
    let files = processes.flatten().filter_map(|process| fs::read_dir(process.path()).ok());
    files.map(Iterator::count).sum()
}

/// By the same rules; what differs is what is said beforehand, and what is left behind.
#[test]
fn both_sides_have_got_mail_of_their_own() {
    let Some(pair) = Pair::with("both_sides_have_got_mail_of_their_own", &LOGIN) else { return };
    let mail = MailGenerator::new(54, Sizes::Small).messages(9);
    fill(&mut pair.glad(), "INBOX", &mail[..1]);
    pair.sync_and_compare();
    let deliver = |here: &[Vec<u8>], there: &[Vec<u8>]| {
        fill(&mut pair.glad(), "INBOX", here);
        fill(&mut pair.replica.imap_as("glad").expect("a client"), "INBOX", there);
    };
    let master = format!("csync://cyrus@{}", pair.master.sync_address());
    let has = |count: usize| {
        let views =
            [&pair.master, &pair.replica].map(|server| server.view("glad").expect("a view"));
        assert_eq!(views.map(|view| view.folders["INBOX"].messages.len()), [count; 2]);
    };

    deliver(&mail[1..2], &mail[2..4]);
    let shown = pair.account(3);
    println!("cylinder: {shown:#}");
    let resolve = ["--user", "glad", "--resolve", "renumber", "--master", &master];
    let ours = document(&pair.run(&resolve).expect(0));
    println!("cylinder: {ours:#}");
    has(4);
    pair.compare();
    assert_eq!(staged(&pair.master), 0);

    deliver(&mail[4..5], &mail[5..7]);
    let theirs = run(sync_client(&pair.master, pair.replica.sync_address(), &["-v", "-u", "glad"]));
    println!("sync_client: {theirs:?}; it leaves {} files", staged(&pair.master));
    assert!(theirs.status.success());
    has(7);
    assert_eq!(staged(&pair.master), 2);
}
