//! A running Cyrus backed up into a vault, and a Cyrus on what comes back.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use testkit::imap::Append;
use testkit::mail::Sizes;
use testkit::process::wait_until;
use testkit::storm::{Storm, StormPlan};
use testkit::{Cyrus, CyrusBuilder, cyrus_or_skip};

use crate::account::Rich;
use crate::program::{CYLINDER, PATIENCE, Ran, run};
use crate::restored::{Seen, create_user, scratch, serve};

/// How often the account is backed up while clients are at it.
const BACKUPS: usize = 20;

/// How much clients do between two backups, at least.
const BETWEEN: u64 = 20;

fn cylinder(arguments: &[&str]) -> Ran {
    run(std::process::Command::new(CYLINDER).args(arguments))
}

fn backup(cyrus: &Cyrus, vault: &Path, accounts: &[&str]) -> Ran {
    let (conf, vault) = (cyrus.imapd_conf().display().to_string(), vault.display().to_string());
    let options = ["backup", "-C", &conf, "--vault", &vault, "--json"];
    cylinder(&[&options[..], accounts].concat())
}

/// Restores into a new directory and looks at what a Cyrus there shows.
fn restored(
    plain: &CyrusBuilder,
    vault: &Path,
    tree: &Path,
    user: &str,
    at: &str,
) -> (Cyrus, Seen) {
    let (vault, to) = (vault.display().to_string(), format!("dir:{}", tree.display()));
    cylinder(&["restore", "--vault", &vault, user, "--at", at, "--to", &to]).expect(0);
    let cyrus = serve(plain, tree);
    let seen = Seen::of(&cyrus, user);
    (cyrus, seen)
}

#[test]
fn an_account_comes_back_as_it_was_at_each_backup() {
    let Some(builder) = cyrus_or_skip("an_account_comes_back_as_it_was") else { return };
    let cyrus = builder.clone().start().expect("Cyrus starts");
    Rich::named("glad").fill(&cyrus);
    let scratch = scratch();
    let vault = scratch.path().join("vault");
    let mut seen = Vec::new();
    for n in 0..3_u8 {
        backup(&cyrus, &vault, &["--all"]).expect(0);
        seen.push(Seen::of(&cyrus, "glad"));
        let mut client = cyrus.imap_as("glad").expect("a client");
        let message = format!("Subject: number {n}\r\n\r\n");
        let message = Append { message: message.as_bytes(), ..Append::default() };
        client.append("INBOX", message).expect("an append");
        client.select("INBOX").expect("INBOX");
        client.store("1", "+FLAGS", &["Later"]).expect("a flag");
        client.create(&format!("INBOX/New{n}")).expect("a folder");
    }
    for (n, want) in seen.iter().enumerate() {
        let (tree, at) = (scratch.path().join(format!("tree{n}")), (n + 1).to_string());
        let (_restored, found) = restored(&builder, &vault, &tree, "glad", &at);
        assert_eq!(want.differences(&found), Vec::<String>::new(), "backup {at}");
    }
    // The spool was read as Cyrus; the vault belongs to whoever runs the backup.
    let us = rustix::process::geteuid().as_raw();
    assert_eq!(fs::metadata(vault.join("cylinder-vault")).expect("a marker").uid(), us);
}

#[test]
fn backups_in_a_storm_are_whole_and_the_last_one_is_the_account() {
    let Some(builder) = cyrus_or_skip("backups_in_a_storm") else { return };
    let cyrus = builder.clone().start().expect("Cyrus starts");
    create_user(&cyrus, "glad");
    let scratch = scratch();
    let vault = scratch.path().join("vault");
    let plan = StormPlan {
        sizes: Sizes::About(5_000),
        ..StormPlan::new(cyrus.imap_address(), &["glad"], 2010)
    };
    let storm = Storm::start(&plan);
    for _ in 0..BACKUPS {
        let enough = storm.progress() + BETWEEN;
        assert!(wait_until(PATIENCE, || storm.progress() >= enough), "clients don't get on");
        backup(&cyrus, &vault, &["glad"]).expect(0);
    }
    storm.stop().expect("no client fails");
    backup(&cyrus, &vault, &["glad"]).expect(0);
    let vault_text = vault.display().to_string();
    cylinder(&["verify", "--vault", &vault_text, "--read-data"]).expect(0);
    let want = Seen::of(&cyrus, "glad");
    let last = cylinder(&["history", "--vault", &vault_text, "glad", "--json"]).expect(0);
    let last: serde_json::Value = serde_json::from_slice(&last.stdout).expect("a document");
    let last = last["snapshots"].as_array().expect("a list").len().to_string();
    let (_restored, found) =
        restored(&builder, &vault, &scratch.path().join("tree"), "glad", &last);
    assert_eq!(want.differences(&found), Vec::<String>::new());
}
