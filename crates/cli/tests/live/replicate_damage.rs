//! What is damaged, lost or exchanged on a running master, and what a real replica has of it.

use std::fs;
use std::io;
use std::path::Path;

use serde_json::json;
use testkit::damage;
use testkit::mail::{MailGenerator, Sizes};

use crate::program::Ran;
use crate::replicate::{Pair, document, fill};

/// What breaks a mailbox, by its directory.
type Damage = fn(&Path) -> io::Result<()>;

const CASES: [(&str, Damage); 5] = [
    ("message-missing", |mailbox| damage::remove_message(mailbox, 2)),
    ("header-unreadable", damage::remove_header),
    ("index-unreadable", |mailbox| fs::remove_file(mailbox.join("cyrus.index"))),
    ("record-crc", |mailbox| damage::break_record(&mailbox.join("cyrus.index"), 1)),
    ("mailbox-missing", damage::remove_mailbox),
];

/// Without an INBOX, Cyrus takes nothing of a user.
#[test]
fn an_inbox_that_is_damaged_from_the_start_holds_back_nothing_else() {
    let Some(pair) = Pair::start("an_inbox_that_is_damaged_from_the_start") else { return };
    let mail = MailGenerator::new(40, Sizes::Small).messages(4);
    for (number, (code, break_it)) in CASES.into_iter().enumerate() {
        let user = format!("user{number}");
        pair.master.create_user(&user).expect("a user");
        let mut imap = pair.master.imap_as(&user).expect("a client");
        imap.create("INBOX/a").expect("created");
        fill(&mut imap, "INBOX", &mail);
        fill(&mut imap, "INBOX/a", &mail);
        imap.logout().expect("it ends");
        let inbox = pair.master.mailbox_directory(&format!("user/{user}")).expect("a directory");
        let whole = inbox.with_extension("whole");
        copy(&inbox, &whole);
        break_it(&inbox).expect("damage");
        let report = document(&pair.run(&["--user", &user]).expect(3));
        let account = &report["accounts"][0];
        println!("{account:#}");
        assert_eq!(account["problems"].as_array().map(Vec::len), Some(1), "{code}: {account:#}");
        assert_eq!(account["problems"][0]["findings"][0]["code"], code, "{account:#}");
        let mut there = pair.replica.imap_as(&user).expect("a client");
        assert_eq!(there.status("INBOX/a", &["MESSAGES"]).expect("it is there"), [4], "{code}");
        let _ = fs::remove_dir_all(&inbox);
        fs::rename(&whole, &inbox).expect("it is ours");
        pair.run(&["--user", &user]).expect(0);
        let views = [&pair.master, &pair.replica].map(|server| server.view(&user).expect("a view"));
        assert_eq!(views[0].differences(&views[1]), Vec::<String>::new(), "{code}");
        let again = document(&pair.run(&["--user", &user]).expect(0));
        assert_eq!(again["unchanged"], 1, "{code}: {again:#}");
    }
}

fn copy(from: &Path, to: &Path) {
    let copied = std::process::Command::new("cp").arg("-a").args([from, to]).status();
    assert!(copied.expect("there is cp").success());
}

#[test]
fn two_users_who_have_swapped_their_names_lose_nothing_without_consent() {
    let Some(pair) = Pair::start("two_users_who_have_swapped_their_names") else { return };
    pair.master.create_user("iris").expect("a user");
    for (user, seed) in [("glad", 41), ("iris", 42)] {
        let mut imap = pair.master.imap_as(user).expect("a client");
        imap.create("INBOX/a").expect("created");
        imap.subscribe("INBOX/a").expect("subscribed");
        let mail = MailGenerator::new(seed, Sizes::Small).messages(3);
        fill(&mut imap, "INBOX", &mail[..2]);
        fill(&mut imap, "INBOX/a", &mail[2..]);
        imap.logout().expect("it ends");
    }
    pair.run(&["--all"]).expect(0);
    let before = ["glad", "iris"].map(|user| pair.replica.view(user).expect("a view"));
    let mut admin = pair.master.admin().expect("an admin");
    for (from, to) in [("glad", "carol"), ("iris", "glad"), ("carol", "iris")] {
        admin.rename(&format!("user/{from}"), &format!("user/{to}")).expect("renamed");
    }
    let report = document(&pair.run(&["--all"]).expect(1));
    println!("{report:#}");
    for account in report["accounts"].as_array().expect("accounts") {
        let brake = account["brakes"][0].as_str().expect("a brake");
        assert!(brake.contains("is another mailbox on the replica"), "{account:#}");
        assert_eq!(account["done"], json!(null), "{account:#}");
    }
    for (user, before) in ["glad", "iris"].into_iter().zip(&before) {
        let after = pair.replica.view(user).expect("a view");
        assert_eq!(before.differences(&after), Vec::<String>::new(), "{user}");
    }
    // With consent, it may take one run more: what is in the way of one is the other's.
    let consent = || pair.run(&["--all", "--jobs", "1", "--accept-removals"]);
    let Ran { code, .. } = consent();
    if code != 0 {
        consent().expect(0);
    }
    for user in ["glad", "iris"] {
        let views = [&pair.master, &pair.replica].map(|server| server.view(user).expect("a view"));
        assert_eq!(views[0].differences(&views[1]), Vec::<String>::new(), "{user}");
    }
}

/// The partition is empty, not mounted, and at last there is no list of mailboxes either.
#[test]
fn what_is_lost_here_stays_on_a_real_replica() {
    let Some(mut pair) = Pair::start("what_is_lost_here_stays") else { return };
    let mut imap = pair.glad();
    imap.create("INBOX/a").expect("created");
    let mail = MailGenerator::new(43, Sizes::Small).messages(4);
    fill(&mut imap, "INBOX", &mail[..2]);
    fill(&mut imap, "INBOX/a", &mail[2..]);
    imap.logout().expect("it ends");
    pair.run(&["--all"]).expect(0);
    let before = pair.replica.view("glad").expect("a view");
    pair.master.stop();
    let partition = pair.master.spool().to_owned();
    let aside = partition.with_extension("aside");
    fs::rename(&partition, &aside).expect("it is ours");

    let unmounted = pair.run(&["--all"]).expect(1);
    assert!(unmounted.stderr.contains("partition"), "{}", unmounted.stderr);
    fs::create_dir(&partition).expect("it is ours");
    let report = document(&pair.run(&["--all", "--accept-removals"]).expect(3));
    println!("{report:#}");
    let problems = report["accounts"][0]["problems"].as_array().expect("problems");
    assert!(problems.iter().all(|problem| problem["findings"][0]["code"] == "mailbox-missing"));
    assert_eq!((problems.len(), &report["accounts"][0]["plan"]), (2, &json!([])), "{report:#}");
    let list = pair.master.config_directory().join("mailboxes.db");
    let hidden = list.with_extension("hidden");
    fs::rename(&list, &hidden).expect("it is ours");
    pair.run(&["--all", "--accept-removals"]).expect(1);

    let after = pair.replica.view("glad").expect("a view");
    assert_eq!(before.differences(&after), Vec::<String>::new());
    fs::rename(&hidden, &list).expect("it is ours");
    fs::remove_dir(&partition).expect("it is empty");
    fs::rename(&aside, &partition).expect("it is ours");
    let again = document(&pair.run(&["--all"]).expect(0));
    assert_eq!(again["unchanged"], 1, "{again:#}");
}
