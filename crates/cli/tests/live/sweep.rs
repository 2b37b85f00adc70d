//! What killed servers of a real Cyrus leave behind is found and removed, and what lives is not
//! touched.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use testkit::kills::{Campaign, Signal, Victim, left_by, signal_all};
use testkit::process::{Group, wait_until};
use testkit::storm::{Storm, StormPlan};
use testkit::{Cyrus, CyrusBuilder, cyrus_or_skip};

use crate::program::{Ran, cylinder};

const LIMIT: Duration = Duration::from_secs(60);

/// How often a replica is killed.
const KILLS: u64 = 8;

/// A master that writes down what is to be replicated, and may log in to any other.
fn start(builder: CyrusBuilder) -> Cyrus {
    let options = [("sync_authname", "cyrus"), ("sync_password", "cyrus"), ("sync_log", "yes")];
    let builder = options.iter().fold(builder, |builder, (key, value)| builder.option(key, value));
    builder.start().expect("a server")
}

fn sweep(server: &Cyrus, more: &[&str]) -> Ran {
    let conf = server.imapd_conf().display().to_string();
    cylinder([&["sweep", "-C", &conf, "--json"][..], more].concat())
}

fn document(ran: &Ran) -> Value {
    serde_json::from_slice(&ran.stdout).expect("a JSON document")
}

#[test]
fn what_killed_sync_servers_left_is_swept_and_replication_goes_on() {
    let test = "what_killed_sync_servers_left_is_swept";
    let (Some(first), Some(second)) = (cyrus_or_skip(test), cyrus_or_skip(test)) else { return };
    let (master, mut replica) = (start(first), start(second));
    let mut campaign = Campaign::begin(&master, 5).expect("a user");
    campaign.change().expect("a change");
    assert!(campaign.converges(&replica).expect("both can be asked"));
    for number in 0..KILLS {
        campaign.change().expect("a change");
        campaign.strike(&mut replica).expect("it comes up again");
        let held = stage(&mut replica, &format!("message {number}"));
        // To be told to end, as at every restart, is enough.
        let signal = if number % 2 == 1 { Signal::TERM } else { Signal::KILL };
        assert!(signal_all(&replica, "sync_server", signal).expect("they end"));
        drop(held);
    }
    // One that lives, and holds what it was given.
    let held = stage(&mut replica, "another message");
    let left = left_by(&replica).expect("a spool");
    assert!(left.staged > 2 * KILLS, "{left:?}");

    let too_new = document(&sweep(&replica, &["--apply"]).expect(0));
    assert_eq!((&too_new["gone"]["files"], left_by(&replica).expect("a spool")), (&0.into(), left));
    let found = document(&sweep(&replica, &["--older-than", "0", "--messages"]).expect(0));
    assert_eq!(found["all"]["files"], left.staged, "{found:#}");
    assert_eq!(found["gone"]["files"], left.staged - 2, "two are held: {found:#}");
    assert!(found["gone"]["linked"].as_u64() >= Some(KILLS), "{found:#}");
    assert_eq!(left_by(&replica).expect("a spool"), left, "nothing was to be changed");
    // A file that has other names is that message.
    for file in found["groups"].as_array().expect("groups").iter().flat_map(files_of) {
        let messages = file["messages"].as_array().expect("names");
        let waiting = file["links"].as_u64() == Some(1);
        assert!(waiting == messages.is_empty(), "{file}");
    }

    let swept = document(&sweep(&replica, &["--older-than", "0", "--apply"]).expect(0));
    let removed = swept["groups"].as_array().expect("groups").iter();
    let removed: u64 = removed.filter_map(|group| group["removed"].as_u64()).sum();
    assert_eq!(removed, left.staged - 2, "{swept:#}");
    let now = left_by(&replica).expect("a spool");
    assert_eq!(now.staged, 2);
    assert!(held.path.exists(), "what lives was touched");
    drop(held);
    assert!(campaign.converges(&replica).expect("both can be asked"));
    let last = document(&sweep(&replica, &["--older-than", "0", "--apply"]).expect(0));
    assert_eq!(last["cut_short"], Value::Array(vec![]));
    let now = left_by(&replica).expect("a spool");
    assert_eq!((now.staged, now.extra_links, now.missing), (0, 0, 0));
}

fn files_of(group: &Value) -> &Vec<Value> {
    group["files"].as_array().expect("files")
}

/// A connection that has staged a message, and reserved one.
struct Held {
    _stream: TcpStream,
    path: PathBuf,
}

fn stage(replica: &mut Cyrus, bytes: &str) -> Held {
    // A master whose servers are killed one after the other starts no more of them until it is told to
    // read its configuration again, and then drops whoever waits.
    let mut greeted = None;
    let is_greeted = wait_until(LIMIT, || {
        greeted = greeting(replica.sync_address()).ok();
        greeted.is_some() || replica.resume().is_err()
    });
    assert!(is_greeted, "it takes no connection");
    let mut stream = greeted.expect("a connection");
    say(&mut stream, b"AUTHENTICATE PLAIN AGN5cnVzAGN5cnVz\r\n", b"OK");
    let inbox = replica.mailbox_directory("user/glad").expect("a mailbox");
    let mut there =
        fs::read_dir(inbox).expect("a directory").map(|entry| entry.expect("one").path());
    let is_message = |path: &PathBuf| path.extension().is_some_and(|rest| rest.is_empty());
    let message = fs::read(there.find(is_message).expect("a message")).expect("read");
    let reserved = testkit::imap::guid_of(&message);
    let reserve =
        format!("APPLY RESERVE %(PARTITION default MBOXNAME (user.glad) GUID ({reserved}))\r\n");
    say(&mut stream, reserve.as_bytes(), b"OK");
    let guid = testkit::imap::guid_of(bytes.as_bytes()).to_string();
    let size = bytes.len();
    let command = format!("APPLY MESSAGE (%{{default {guid} {size}}}\r\n{bytes})\r\n");
    say(&mut stream, command.as_bytes(), b"OK");
    let areas = fs::read_dir(replica.spool().join("sync.")).expect("a directory");
    let mut paths = areas.map(|area| area.expect("an entry").path().join(&guid));
    let path = paths.find(|path| path.exists()).expect("it waits there");
    Held { _stream: stream, path }
}

/// A connection whose server is ready.
fn greeting(address: SocketAddr) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(LIMIT))?;
    ask(&mut stream, b"", b"* OK")?;
    Ok(stream)
}

fn say(stream: &mut TcpStream, words: &[u8], expected: &[u8]) {
    ask(stream, words, expected).expect("an answer");
}

/// Says something, and reads until a line begins with what is expected.
fn ask(stream: &mut TcpStream, words: &[u8], expected: &[u8]) -> io::Result<()> {
    stream.write_all(words)?;
    let mut answer = Vec::new();
    let is_there = |answer: &[u8]| {
        answer.ends_with(b"\n")
            && answer.split(|byte| *byte == b'\n').any(|line| line.starts_with(expected))
    };
    while !is_there(&answer) {
        let mut byte = [0];
        if stream.read(&mut byte)? == 0 {
            return Err(io::Error::other(String::from_utf8_lossy(&answer).into_owned()));
        }
        answer.extend(byte);
    }
    Ok(())
}

#[test]
fn what_killed_imapds_left_is_swept() {
    let Some(builder) = cyrus_or_skip("what_killed_imapds_left_is_swept") else { return };
    let server = start(builder);
    server.create_user("glad").expect("a user");
    let mut stream = greeting(server.imap_address()).expect("a server");
    say(&mut stream, b"1 LOGIN glad glad\r\n", b"1 OK");
    say(&mut stream, b"2 APPEND INBOX {100000}\r\n", b"+");
    stream.write_all(&[b'x'; 20_000]).expect("sent");
    let area = server.spool().join("stage.");
    let waits = || fs::read_dir(&area).is_ok_and(|mut entries| entries.next().is_some());
    assert!(wait_until(LIMIT, waits), "nothing waits");
    let alive = document(&sweep(&server, &["--older-than", "0", "--apply"]).expect(0));
    assert_eq!(alive["groups"][0]["state"], "alive", "{alive:#}");
    assert_eq!(alive["groups"][0]["process"]["command"], "imapd", "{alive:#}");
    assert!(waits());
    signal_all(&server, "imapd", Signal::KILL).expect("they end");
    let gone = document(&sweep(&server, &["--older-than", "0", "--apply"]).expect(0));
    assert_eq!(gone["groups"][0]["state"], "gone", "{gone:#}");
    assert_eq!((&gone["groups"][0]["removed"], waits()), (&1.into(), false));
}

#[test]
fn sweeping_all_the_time_disturbs_no_replication() {
    let test = "sweeping_all_the_time_disturbs_no_replication";
    let (Some(first), Some(second)) = (cyrus_or_skip(test), cyrus_or_skip(test)) else { return };
    let (master, replica) = (start(first), start(second));
    let users = ["glad", "bob"];
    for user in users {
        master.create_user(user).expect("a user");
    }
    let mut rolling = master.tool_command("sync_client");
    rolling.args(["-S", &replica.sync_address().to_string(), "-R", "-d", "1"]);
    rolling.stdout(Stdio::null()).stderr(Stdio::null());
    let mut rolling = Group::spawn_guarded(&mut rolling).expect("it starts");
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let sweeper = scope.spawn(|| {
            let mut sweeps = 0;
            while !is_over.load(Ordering::Relaxed) {
                for server in [&master, &replica] {
                    let ran = sweep(server, &["--older-than", "0", "--apply"]).expect(0);
                    let document = document(&ran);
                    let mut states = document["groups"].as_array().expect("groups").iter();
                    assert!(states.all(|group| group["left"] == serde_json::json!([])));
                    sweeps += 1;
                }
            }
            sweeps
        });
        let mut plan = StormPlan::new(master.imap_address(), &users, 17);
        plan.operations = Some(60);
        Storm::start(&plan).wait().expect("the clients are well");
        let log = master.config_directory().join("sync");
        let is_done = || ["log", "log-run"].iter().all(|name| !log.join(name).exists());
        let ended = wait_until(LIMIT * 5, || is_done() || !rolling.is_running());
        is_over.store(true, Ordering::Relaxed);
        assert!(sweeper.join().expect("it sweeps") > 10);
        assert!(ended, "it goes on and on");
    });
    rolling.terminate(LIMIT);
    for user in users {
        let mut client = master.tool_command("sync_client");
        client.args(["-S", &replica.sync_address().to_string(), "-u", user]);
        let output = client.output().expect("it runs");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{told}");
        assert_eq!(master.view(user).expect("a view"), replica.view(user).expect("a view"));
    }
    let left = left_by(&replica).expect("a spool");
    assert_eq!((left.missing, left.damaged), (0, 0));
    assert!(Path::new(replica.spool()).exists() && replica.address() == replica.sync_address());
}
