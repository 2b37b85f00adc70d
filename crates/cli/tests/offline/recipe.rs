//! The recipe of 2009 as docs/reconstruct.md has it: what a replica has wrong is found, mended, and every
//! user replicated again.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use testkit::damage::{self, Checksum};

use super::auditing_damage::{findings, named};
use super::comparing::{Everywhere, flip};
use super::program::{Ran, cylinder};
use super::replicating::document;
use super::sample::files;

/// The directory of glad's INBOX: the one with five messages.
fn inbox(replica: &Path) -> PathBuf {
    let all = files(&replica.join("spool"));
    let fifth = all.iter().find(|path| path.file_name() == Some(OsStr::new("5.")));
    fifth.and_then(|path| path.parent()).expect("a mailbox").to_owned()
}

fn on(replica: &Path, verb: &str, more: &[&str]) -> Ran {
    let conf = replica.join("imapd.conf").display().to_string();
    cylinder([verb, "-C", &conf].iter().chain(more))
}

fn harm(replica: &Path) {
    let inbox = inbox(replica);
    flip(&inbox.join("5."));
    let index = inbox.join("cyrus.index");
    damage::edit_record(&index, 1, Checksum::Stale, |record| record[35] ^= 0x10).expect("damage");
    damage::edit_record(&index, 3, Checksum::Stale, |record| record.fill(0xee)).expect("damage");
    damage::edit_header(&index, Checksum::Stale, |header| header[36..56].fill(0x77))
        .expect("damage");
    fs::remove_file(inbox.join("cyrus.header")).expect("damage");
}

#[test]
fn a_replica_that_is_damaged_all_over_becomes_its_master_again() {
    let everywhere = Everywhere::new();
    let Everywhere { site, conf, password, .. } = everywhere;
    let master = format!("spool:{}", conf.display());
    let journal = password.with_file_name("healed.jsonl").display().to_string();
    let site = site.pause(|replica| {
        harm(replica);
        let told = on(replica, "audit", &["--all", "--full", "--json"]).expect(4).document();
        let found: Vec<String> = findings(&told).iter().map(|found| named(found).0).collect();
        for code in ["guid-mismatch", "record-crc", "index-header-crc", "header-unreadable"] {
            assert!(found.iter().any(|told| told == code), "{code}: {told:#}");
        }
        on(replica, "reconstruct", &["--all", "--apply"]).expect(0);
        on(replica, "heal", &["--all", "--from", &master, "--journal", &journal]).expect(0);
        on(replica, "reconstruct", &["-G", "--all", "--apply"]).expect(0);
        on(replica, "audit", &["--all", "--full"]).expect(0);
    });
    site.send(&conf, &["--all"]).expect(0);
    let there = format!("csync://repl@{}", site.address());
    let password = password.display().to_string();
    let compare = ["compare", &master, &there, "--all", "--full", "--password-file", &password];
    cylinder(compare).expect(0);
    let again = document(&site.send(&conf, &["--all"]).expect(0));
    assert_eq!(again["unchanged"], 2, "{again:#}");
}
