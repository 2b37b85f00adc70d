//! Audits of a real Cyrus: what it has written is whole, also while it writes.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::Value;
use testkit::process::wait_until;
use testkit::storm::{Storm, StormPlan};
use testkit::{Cyrus, CyrusBuilder, cyrus_or_skip};

use crate::account::Rich;
use crate::program::{PATIENCE, Ran, cylinder};
use crate::restored::create_user;

/// How many audits are to be done in a storm; `CYLINDER_AUDITS` asks for more.
fn audits() -> u64 {
    let asked = std::env::var("CYLINDER_AUDITS").ok();
    asked.map_or(25, |text| text.parse().expect("a number of audits"))
}

fn audit(cyrus: &Cyrus, more: &[&str]) -> Ran {
    let conf = cyrus.imapd_conf().display().to_string();
    cylinder([&["audit", "-C", &conf, "--json"][..], more].concat())
}

/// Audits all of a server, in which nothing may be wrong.
#[track_caller]
fn whole(cyrus: &Cyrus, depth: &str) -> Value {
    let ran = audit(cyrus, &["--all", depth]);
    let found: Value = serde_json::from_slice(&ran.stdout).expect("a JSON document");
    assert_eq!((ran.code, &found["findings"]), (0, &0.into()), "{found:#}\n{}", ran.stderr);
    found
}

/// Fills a server with a bit of everything, lets it clean up, and audits it each time.
fn check(builder: CyrusBuilder, user: &str) {
    let cyrus = builder.start().expect("Cyrus starts");
    let rich = Rich::named(user);
    rich.fill(&cyrus);
    let mut admin = cyrus.admin().expect("the admin");
    admin.create("shared").expect("a shared mailbox");
    admin.create("shared/box").expect("another");
    let found = whole(&cyrus, "--full");
    assert!(found["messages"].as_u64() > Some(20), "{found:#}");
    assert!(found["bytes_read"].as_u64() > Some(5 << 20), "{found:#}");
    assert_eq!(found["lapsed"], 0, "{found:#}");
    rich.change(&cyrus);
    whole(&cyrus, "--quick");
    cyrus.tool("cyr_expire", &["-E", "1", "-A", "0"]).expect("messages move to the archive");
    whole(&cyrus, "--full");
    cyrus.tool("cyr_expire", &["-E", "1", "-X", "0", "-D", "0"]).expect("a cleanup");
    whole(&cyrus, "--full");
}

#[test]
fn what_a_server_has_written_is_whole_however_it_is_laid_out() {
    let test = "what_a_server_has_written_is_whole";
    let Some(builder) = cyrus_or_skip(test) else { return };
    let variants: [(&str, fn(CyrusBuilder) -> CyrusBuilder); 7] = [
        ("plain", |builder| builder),
        ("directories by name, hashed", |builder| builder.legacy_dirs(true).hashimapspool(true)),
        ("conversations", |builder| builder.conversations(true)),
        ("a metapartition", |builder| builder.metapartition()),
        ("an archive", |builder| builder.archive()),
        ("a metapartition and an archive", |builder| builder.metapartition().archive()),
        ("expunged at once", |builder| {
            builder.option("expunge_mode", "immediate").option("delete_mode", "immediate")
        }),
    ];
    for (name, variant) in variants {
        println!("{name}");
        check(variant(builder.clone()), "glad");
    }
}

#[test]
fn users_of_domains_and_names_of_every_kind_are_whole() {
    let Some(builder) = cyrus_or_skip("users_of_domains_and_names_of_every_kind") else { return };
    check(builder.clone().virtdomains("userid"), "glad@other.test");
    check(builder.option("altnamespace", "yes").conversations(true).virtdomains("on"), "glad");
}

#[test]
fn a_server_with_dots_between_levels_is_whole() {
    let Some(builder) = cyrus_or_skip("a_server_with_dots_between_levels") else { return };
    let cyrus = builder.option("unixhierarchysep", "no").option("altnamespace", "yes");
    let cyrus = cyrus.start().expect("Cyrus starts");
    let mut admin = cyrus.admin().expect("the admin");
    admin.create("user.glad").expect("a user");
    admin.set_quota("user.glad", "STORAGE 100000").expect("a quota");
    let mut client = cyrus.imap_as("glad").expect("a client");
    for folder in ["Sent", "Sent.2020"] {
        client.create(folder).expect("a folder");
        let message = testkit::mail::MailGenerator::new(1, testkit::mail::Sizes::Small).message();
        let append = testkit::imap::Append { message: &message, ..Default::default() };
        client.append(folder, append).expect("an append");
    }
    assert_eq!(whole(&cyrus, "--full")["messages"], 2);
}

/// Audits all the time while clients do everything at once and the server cleans up behind them.
fn weather(builder: CyrusBuilder, depths: [&str; 2]) {
    let cyrus = builder.start().expect("Cyrus starts");
    for user in ["glad", "bob"] {
        create_user(&cyrus, user);
    }
    let storm = Storm::start(&StormPlan::new(cyrus.imap_address(), &["glad", "bob"], 2009));
    let over = AtomicBool::new(false);
    let mut lapsed = 0;
    let cleanups = thread::scope(|scope| {
        let cleaner = scope.spawn(|| {
            let mut cleanups = 0;
            while !over.load(Ordering::Relaxed) {
                cyrus.tool("cyr_expire", &["-E", "1", "-X", "0", "-D", "0"]).expect("a cleanup");
                cleanups += 1;
            }
            cleanups
        });
        let end = Raised(&over);
        for number in 0..audits() {
            let enough = storm.progress() + 20;
            assert!(wait_until(PATIENCE, || storm.progress() >= enough), "clients don't get on");
            let depth = depths[number as usize % 2];
            let found = whole(&cyrus, depth);
            lapsed += found["lapsed"].as_u64().expect("a number");
        }
        drop(end);
        cleaner.join().expect("no panic")
    });
    let report = storm.stop().expect("no client fails");
    println!("{} things done, {cleanups} cleanups, {lapsed} looks lapsed", report.total());
    assert!(cleanups > 2 && report.total() > audits(), "{report:?}");
    whole(&cyrus, "--full");
}

/// Raises a flag when it goes away.
struct Raised<'a>(&'a AtomicBool);

impl Drop for Raised<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn audits_in_a_storm_raise_no_false_alarm() {
    let Some(builder) = cyrus_or_skip("audits_in_a_storm_raise_no_false_alarm") else { return };
    weather(builder, ["--full", "--quick"]);
}

#[test]
fn nor_do_they_where_directories_move_with_their_names_and_conversations_are_kept() {
    let Some(builder) = cyrus_or_skip("nor_do_they_where_directories_move") else { return };
    weather(builder.legacy_dirs(true).conversations(true), ["--quick", "--full"]);
}

#[test]
fn a_message_that_is_damaged_under_a_running_server_is_reported_like_cyrus_does() {
    let Some(builder) = cyrus_or_skip("a_message_that_is_damaged_under_a_running") else { return };
    let cyrus = builder.start().expect("Cyrus starts");
    Rich::named("glad").fill(&cyrus);
    let inbox = cyrus.mailbox_directory("user/glad").expect("a directory");
    damage(&inbox.join("1."));
    let ran = audit(&cyrus, &["glad", "--full"]).expect(4);
    let found: Value = serde_json::from_slice(&ran.stdout).expect("a JSON document");
    let findings = found["accounts"][0]["findings"].as_array().expect("findings");
    assert_eq!(findings.len(), 1, "{found:#}");
    let custody = &findings[0]["custody"];
    let said = cyrus.tool("reconstruct", &["-n", "-G", "user/glad"]).expect("it works");
    let said = said.stdout + &said.stderr;
    assert!(said.contains("uid 1 guid mismatch"), "{said}");
    assert_eq!((&custody["uid"], &custody["nature"]), (&1.into(), &"flipped-bit".into()));
    // And of what was copied within the account, the copy is a good one only if it is another file.
    assert_eq!(custody["good_copies"], Value::Array(Vec::new()));
    assert!(custody["recorded"]["guid"] != custody["found"]["guid"]);
}

/// Flips a bit in place, as a disk does.
fn damage(path: &Path) {
    let mut bytes = fs::read(path).expect("a message");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    fs::write(path, bytes).expect("damage");
}
