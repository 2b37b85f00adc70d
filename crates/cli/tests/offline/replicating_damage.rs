//! A master that is damaged, in every way there is: what is damaged is told and held back, all else
//! reaches the replica, and nothing of the replica goes.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use testkit::damage::{self, Checksum};
use testkit::mail::{MailGenerator, Sizes};
use testkit::spool_builder::{EPOCH, Era, NewMessage, Spool, SpoolBuilder, SpoolOptions};

use super::replicating::{Site, document};
use super::sample::belongs_to_us;

/// Messages of each of the three mailboxes, with UIDs from 1 on.
const MESSAGES: usize = 6;

/// A master: glad with INBOX and two folders. `Sent` is the one that gets damaged.
struct Master {
    spool: Spool,
    sent: PathBuf,
}

impl Master {
    fn new(root: &Path) -> Self {
        let mut builder =
            SpoolBuilder::create(root, SpoolOptions::new(Era::V3_6)).expect("a spool");
        let mut sent = PathBuf::new();
        for (seed, name) in (1..).zip(["user.glad", "user.glad.Old", "user.glad.Sent"]) {
            let mut mailbox = builder.mailbox(name).expect("a mailbox");
            for body in MailGenerator::new(seed, Sizes::About(700)).messages(MESSAGES) {
                let message =
                    NewMessage { bytes: &body, internaldate: EPOCH, ..NewMessage::default() };
                mailbox.add(&message).expect("a message");
            }
            sent = mailbox.directory().to_owned();
            builder.finish_mailbox(mailbox).expect("a mailbox");
        }
        builder.subscribe("glad", "user.glad.Sent");
        builder.limit("glad", 100_000);
        let spool = builder.finish().expect("a spool");
        belongs_to_us(&spool.imapd_conf);
        Self { spool, sent }
    }

    fn index(&self) -> PathBuf {
        self.sent.join("cyrus.index")
    }

    fn message(&self) -> PathBuf {
        damage::message_path(&self.sent, 3)
    }
}

/// A copy of all of a directory, by the side of it.
fn copy(from: &Path, to: &Path) {
    let mut command = Command::new("cp");
    let copied = command.arg("-a").arg(from).arg(to).status().expect("there is cp");
    assert!(copied.success());
}

/// What breaks, and what is said of it.
type Case = (&'static str, fn(&Master) -> io::Result<()>);

/// All that breaks one mailbox.
const CASES: [Case; 19] = [
    ("message-missing", |master| damage::remove_message(&master.sent, 3)),
    ("guid-mismatch", |master| damage::change_message(&master.sent, 3)),
    ("guid-mismatch", |master| damage::shorten_message(&master.sent, 3, 9)),
    ("message-unreadable", |master| {
        fs::remove_file(master.message())?;
        fs::create_dir(master.message())
    }),
    ("mailbox-missing", |master| damage::remove_mailbox(&master.sent)),
    ("header-unreadable", |master| damage::remove_header(&master.sent)),
    ("header-unreadable", |master| fs::write(master.sent.join("cyrus.header"), b"")),
    ("header-crc", |master| damage::lengthen(&master.sent.join("cyrus.header"), b"\n")),
    ("index-unreadable", |master| fs::remove_file(master.index())),
    ("index-unreadable", |master| fs::write(master.index(), b"an index")),
    ("index-header-crc", |master| damage::break_index_header(&master.index())),
    // A lie about UIDVALIDITY, which must not stop the account.
    ("index-header-crc", |master| {
        damage::edit_header(&master.index(), Checksum::Stale, |header| header[47] ^= 1)
    }),
    ("index-truncated", |master| damage::truncate(&master.index(), 150)),
    ("index-truncated", |master| damage::lie_about_records(&master.index(), 1_000_000)),
    ("index-tail", |master| damage::lie_about_records(&master.index(), 4)),
    ("index-too-new", |master| damage::claim_version(&master.index(), 99)),
    ("record-crc", |master| damage::break_record(&master.index(), 4)),
    ("record-order", |master| {
        damage::edit_record(&master.index(), 5, Checksum::Fixed, |record| record[..4].fill(0))
    }),
    ("metadata-unreadable", |master| fs::create_dir(master.sent.join("cyrus.annotations"))),
];

#[test]
fn one_damaged_mailbox_is_told_once_and_holds_back_no_other() {
    for (code, break_it) in CASES {
        let site = Site::start();
        let master = Master::new(&site.root());
        let whole = site.root().with_file_name("whole");
        copy(&master.sent, &whole);
        break_it(&master).expect("damage");
        let report = document(&site.send(&master.spool.imapd_conf, &["--all"]).expect(3));
        let account = &report["accounts"][0];
        let problems = account["problems"].as_array().expect("problems");
        assert_eq!(problems.len(), 1, "{code}: {account:#}");
        assert_eq!(
            (&problems[0]["mailbox"], &problems[0]["findings"][0]["code"]),
            (&json!("user.glad.Sent"), &json!(code)),
            "{account:#}",
        );
        assert_eq!(account["done"]["mailboxes"], 2, "{code}: {account:#}");
        // As long as it is damaged, it is told again, and all else is settled.
        let again = document(&site.send(&master.spool.imapd_conf, &["--all"]).expect(3));
        assert_eq!((&again["problems"], &again["done"]["messages"]), (&json!(1), &json!(0)));
        let _ = fs::remove_dir_all(&master.sent);
        copy(&whole, &master.sent);
        let mended = document(&site.send(&master.spool.imapd_conf, &["--all"]).expect(0));
        assert_eq!(mended["done"]["messages"], MESSAGES, "{code}: {mended:#}");
        let settled = document(&site.send(&master.spool.imapd_conf, &["--all"]).expect(0));
        assert_eq!(settled["unchanged"], 1, "{code}: {settled:#}");
        assert_eq!(site.end(&["glad"]), [(3, 3 * MESSAGES as u64)]);
    }
}

#[test]
fn what_a_crash_leaves_behind_is_no_damage() {
    let cases: [fn(&Master) -> io::Result<()>; 2] = [
        |master| damage::lengthen(&master.index(), &[7; 300]),
        |master| damage::add_orphan(&master.sent, 99, b"nobody's"),
    ];
    for break_it in cases {
        let site = Site::start();
        let master = Master::new(&site.root());
        break_it(&master).expect("damage");
        site.send(&master.spool.imapd_conf, &["--all"]).expect(0);
        assert_eq!(site.end(&["glad"]), [(3, 3 * MESSAGES as u64)]);
    }
}

/// The mailbox is changed, so that it is looked into, and then damaged.
#[test]
fn a_mailbox_that_is_damaged_later_stays_as_it_is_there() {
    for (code, break_it) in CASES {
        let site = Site::start();
        let master = Master::new(&site.root());
        site.send(&master.spool.imapd_conf, &["--all"]).expect(0);
        damage::edit_header(&master.index(), Checksum::Fixed, |header| header[75] ^= 64)
            .expect("a change");
        break_it(&master).expect("damage");
        let ran = site.send(&master.spool.imapd_conf, &["--all"]);
        let report = document(&ran);
        let steps = report["accounts"][0]["plan"].as_array().expect("a plan");
        let expunged = steps.iter().filter_map(Value::as_str);
        let expunged =
            expunged.filter(|step| step.contains("remove") || !step.contains("0 expunged"));
        assert_eq!(expunged.count(), 0, "{code}: {report:#}");
        assert!(matches!(ran.code, 0 | 3), "{code}: {report:#}");
        assert_eq!(site.end(&["glad"]), [(3, 3 * MESSAGES as u64)], "{code}");
    }
}

/// Finds a file of a spool.
type Find = fn(&Spool) -> PathBuf;

#[test]
fn files_of_the_account_that_cannot_be_read_cost_the_replica_nothing() {
    let cases: [(&str, Find); 3] = [
        ("sub", |spool| file_with(spool, "/sub.db")),
        ("quota", |spool| file_with(spool, "/quota/")),
        ("annotations", |spool| spool.config_directory.join("annotations.db")),
    ];
    for (place, path) in cases {
        let site = Site::start();
        let master = Master::new(&site.root());
        site.send(&master.spool.imapd_conf, &["--all"]).expect(0);
        fs::write(path(&master.spool), b"no database").expect("it is ours");
        let report = document(&site.send(&master.spool.imapd_conf, &["--all"]).expect(3));
        let account = &report["accounts"][0];
        assert_eq!(account["plan"], json!([]), "{place}: {account:#}");
        assert_eq!(account["problems"][0]["code"], "damaged", "{place}: {account:#}");
        assert_eq!(site.end(&["glad"]), [(3, 3 * MESSAGES as u64)]);
    }
}

/// The file with that in its path.
fn file_with(spool: &Spool, part: &str) -> PathBuf {
    let files = super::sample::files(&spool.config_directory);
    let found = files.into_iter().find(|path| path.to_string_lossy().contains(part));
    found.expect("there is one")
}
