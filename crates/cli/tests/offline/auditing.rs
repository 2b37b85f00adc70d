//! `cylinder audit` where all is well, and what it remembers.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use testkit::locks::{LockMode, LockProcess};
use testkit::mail::{MailGenerator, Sizes};
use testkit::process::{Group, wait_until};
use testkit::spool_builder::{EPOCH, Era, Filling, NewMessage, SpoolBuilder, SpoolOptions, fill};

use super::auditing_damage::{Scene, audit, document};
use super::program::CYLINDER;
use super::sample::{belongs_to_us, scratch};

/// A small server of two accounts that a real Cyrus 3.6.1 has filled.
const SPOOL: &[u8] = include_bytes!("../../demo/spool.tar.zst");

const LIMIT: Duration = Duration::from_secs(60);

fn unpack(place: &Path) -> PathBuf {
    let spool = zstd::Decoder::new(SPOOL).expect("compressed");
    tar::Archive::new(spool).unpack(place).expect("unpacked");
    let root = place.display();
    let conf = format!(
        "configdirectory: {root}/conf\npartition-default: {root}/spool\n\
         defaultpartition: default\nunixhierarchysep: yes\n"
    );
    let path = place.join("imapd.conf");
    fs::write(&path, conf).expect("written");
    belongs_to_us(&path);
    path
}

#[test]
fn a_spool_of_a_real_server_is_whole() {
    let scratch = scratch();
    let conf = unpack(&scratch.path().join("server"));
    for depth in ["--quick", "--full"] {
        let found = document(&conf, &["--all", depth], 0);
        assert_eq!(found["findings"], 0, "{found:#}");
        assert_eq!(found["accounts"].as_array().map(Vec::len), Some(2));
        assert_eq!((&found["mailboxes"], &found["messages"]), (&7.into(), &268.into()));
        assert_eq!(found["bytes_read"].as_u64() > Some(100_000), depth == "--full", "{found:#}");
    }
    let said = audit(&conf, &["glad", "iris", "--full"]).expect(0).text();
    assert!(said.starts_with("2 accounts, 7 mailboxes, 268 messages ("), "{said}");
    assert!(said.contains(" read): whole; longest lock "), "{said}");
}

#[test]
fn a_spool_of_any_release_that_is_in_order_is_whole() {
    for era in Era::ALL {
        for metapartition in [false, true] {
            let scene =
                Scene::with(SpoolOptions { metapartition, cache: true, ..SpoolOptions::new(era) });
            for depth in ["--quick", "--full"] {
                let found = scene.document(&["--all", depth], 0);
                assert_eq!(found["findings"], 0, "{era:?}: {found:#}");
                assert_eq!(found["lapsed"], 0, "{era:?}: {found:#}");
            }
        }
    }
    let unknown = SpoolOptions { guids: false, ..SpoolOptions::new(Era::V2_3) };
    let scene = Scene::with(unknown);
    let found = scene.document(&["--all", "--full"], 0);
    assert_eq!(found["unknown_guids"], found["messages"]);
    let said = audit(&scene.conf, &["--all", "--full"]).expect(0).text();
    assert!(said.contains("; 11 of unknown GUID: whole"), "{said}");
}

#[test]
fn an_account_that_is_not_there_is_one_line() {
    let scene = Scene::new();
    let ran = audit(&scene.conf, &["glda"]).expect(1);
    let errors: Vec<&str> =
        ran.stderr.lines().filter(|line| line.starts_with("cylinder: ")).collect();
    assert_eq!(errors.len(), 1, "{}", ran.stderr);
    assert!(errors[0].contains("glda was not looked at"), "{}", ran.stderr);
    assert!(ran.hints("did you mean glad?"), "{}", ran.stderr);
    let both = scene.document(&["glda", "glad"], 1);
    assert_eq!((&both["failed"], &both["findings"]), (&1.into(), &0.into()));
}

#[test]
fn an_account_that_is_busy_is_to_be_tried_again() {
    let test = "an_account_that_is_busy_is_to_be_tried_again";
    let Some(mut holder) = LockProcess::start_or_skip(test) else { return };
    let scene = Scene::new();
    // Makes the lock files.
    audit(&scene.conf, &["glad"]).expect(0);
    let locks = scene.path("spool/conf/lock");
    let is_held = holder.try_lock(&locks.join("*U*glad.lock"), LockMode::Exclusive);
    assert!(is_held.expect("it can be locked"));
    let busy = scene.document(&["--all", "--lock-wait", "0.1"], 75);
    assert_eq!((&busy["failed"], &busy["findings"]), (&1.into(), &0.into()), "{busy:#}");
}

/// A server whose accounts `u0`, `u1` and so on take a while to read.
fn large(accounts: usize) -> (TempDir, PathBuf) {
    let scratch = scratch();
    let options = SpoolOptions::new(Era::V3_6);
    let mut spool = SpoolBuilder::create(&scratch.path().join("spool"), options).expect("a spool");
    let sizes = Sizes::About(200_000);
    let filling = Filling { users: accounts, sizes, ..Filling::small(1, 2) };
    fill(&mut spool, &filling, &[]).expect("filled");
    let conf = spool.finish().expect("a spool").imapd_conf;
    belongs_to_us(&conf);
    (scratch, conf)
}

fn names(found: &Value) -> Vec<&str> {
    let accounts = found["accounts"].as_array().expect("accounts").iter();
    accounts.filter_map(|account| account["account"].as_str()).collect()
}

#[test]
fn a_share_of_all_accounts_is_another_one_each_time() {
    let (scratch, conf) = large(5);
    let state = scratch.path().join("state").display().to_string();
    let share = ["--all", "--state", &state, "--share", "1/2"];
    let first = document(&conf, &share, 0);
    assert_eq!((names(&first), &first["others"]), (vec!["u0", "u1", "u2"], &2.into()));
    let second = document(&conf, &share, 0);
    assert!(names(&second).contains(&"u3") && names(&second).contains(&"u4"), "{second:#}");
    let said = audit(&conf, &share).expect(0).text();
    assert!(said.contains("; 2 left for other times"), "{said}");
    // A full audit has dates of its own.
    let every = ["--all", "--state", &state, "--every", "5d", "--full"];
    assert_eq!(names(&document(&conf, &every, 0)), ["u0"]);
    assert_eq!(names(&document(&conf, &every, 0)), ["u1"]);
}

#[test]
fn an_audit_that_was_killed_goes_on_where_it_was() {
    let (scratch, conf) = large(8);
    let state = scratch.path().join("state");
    let journal = state.join("audits.jsonl");
    let done = || {
        let text = fs::read_to_string(&journal).unwrap_or_default();
        text.lines().filter(|line| line.contains("\"account\"")).count()
    };
    let mut slow = Command::new(CYLINDER);
    slow.args(["audit", "--all", "--full", "--rate", "1", "--jobs", "1", "--state"]).arg(&state);
    slow.arg("-C").arg(&conf).stdout(Stdio::null()).stderr(Stdio::null());
    let mut running = Group::spawn_guarded(&mut slow).expect("it starts");
    assert!(wait_until(LIMIT, || done() >= 2), "it does not get on");
    running.kill();
    let before = done();
    assert!(before < 8, "it was too fast to be killed");
    let state = state.display().to_string();
    let rest = document(&conf, &["--all", "--full", "--state", &state], 0);
    assert!(rest["resumed_from"].is_string(), "{rest:#}");
    assert_eq!(names(&rest).len(), 8 - before, "{rest:#}");
    let next = document(&conf, &["--all", "--full", "--state", &state], 0);
    assert_eq!((names(&next).len(), &next["resumed_from"]), (8, &Value::Null));
}

#[test]
fn two_audits_do_not_share_a_state() {
    let (scratch, conf) = large(1);
    let state = scratch.path().join("state");
    fs::create_dir(&state).expect("made");
    let lock = fs::File::create(state.join("lock")).expect("made");
    lock.lock().expect("locked");
    let state = state.display().to_string();
    let ran = audit(&conf, &["--all", "--state", &state]).expect(75);
    assert!(ran.error().starts_with("another audit uses "), "{}", ran.stderr);
}

#[test]
fn messages_of_any_size_are_read_at_the_rate_that_is_asked_for() {
    let scratch = scratch();
    let options = SpoolOptions::new(Era::V3_6);
    let mut spool = SpoolBuilder::create(&scratch.path().join("spool"), options).expect("a spool");
    let mut inbox = spool.mailbox("user.glad").expect("a mailbox");
    let path = inbox.directory().join("3.");
    // More than is kept in memory.
    for size in [0, 1, 5 << 20] {
        let bytes = match size {
            0 => Vec::new(),
            size => MailGenerator::new(size as u64, Sizes::About(size)).message(),
        };
        let message = NewMessage { bytes: &bytes, internaldate: EPOCH, ..NewMessage::default() };
        inbox.add(&message).expect("a message");
    }
    spool.finish_mailbox(inbox).expect("a mailbox");
    let conf = spool.finish().expect("a spool").imapd_conf;
    belongs_to_us(&conf);
    let found = document(&conf, &["glad", "--full", "--rate", "1000"], 0);
    assert!(found["bytes_read"].as_u64() >= Some(5 << 20), "{found:#}");
    testkit::damage::flip(&path, 1 << 20).expect("damage");
    let found = document(&conf, &["glad", "--full"], 4);
    let custody = &found["accounts"][0]["findings"][0]["custody"];
    assert_eq!((&custody["uid"], &custody["nature"]), (&3.into(), &"changed".into()));
}
