//! Accounts of every name that a server may have: what goes in under a name comes out under it.

use std::fs;

use serde_json::Value;
use testkit::spool_builder::{EPOCH, Era, NewMessage, Spool, SpoolBuilder, SpoolOptions};

use crate::program::{Ran, cylinder};
use crate::sample::{belongs_to_us, files};
use crate::vaults::{Scene, backup_arguments};

/// As their users log in.
fn names() -> Vec<String> {
    let odd = [
        "fred.smith",
        ".hidden",
        "a b",
        "a%b",
        "%41",
        "%",
        "o'hara",
        "say \"hi\"",
        "back\\slash",
        "tab\there",
        "line\nbreak",
        "&AOQ-rger",
        "j\u{f6}rg",
        "\u{65e5}\u{672c}",
        "-dash",
        "~tilde",
        "$HOME",
        "a*?[b]",
        "#1",
        "cylinder-vault",
    ];
    let mut names: Vec<String> = odd.map(str::to_owned).to_vec();
    // Alike until behind where a directory's name is cut.
    names.extend(["1", "2"].map(|end| "#".repeat(100) + end));
    names.extend(["1", "2"].map(|end| "n".repeat(230) + end));
    names
}

/// One message each, which says whose it is.
fn spool(scene: &Scene, names: &[String], messages: usize) -> Spool {
    let root = scene.path("spool");
    drop(fs::remove_dir_all(&root));
    let mut builder = SpoolBuilder::create(&root, SpoolOptions::new(Era::V3_6)).expect("a spool");
    for (at, name) in names.iter().enumerate() {
        let internal = format!("user.{}", name.replace('.', "^"));
        let mut inbox = builder.mailbox(&internal).expect("a mailbox");
        for message in 0..messages {
            let bytes = body(at, message);
            let date = EPOCH + 60;
            let new = NewMessage { bytes: &bytes, internaldate: date, ..NewMessage::default() };
            inbox.add(&new).expect("a message");
        }
        builder.finish_mailbox(inbox).expect("a mailbox");
        builder.subscribe(name, &internal);
    }
    let spool = builder.finish().expect("a spool");
    belongs_to_us(&spool.imapd_conf);
    spool
}

fn body(account: usize, message: usize) -> Vec<u8> {
    format!("Subject: {message} of {account}\r\n\r\nline\r\n").into_bytes()
}

fn about(scene: &Scene, verb: &str, name: &str, more: &[&str]) -> Ran {
    let vault = scene.vault();
    cylinder([&[verb, "--vault", &vault][..], more, &["--", name]].concat())
}

fn list<'v>(document: &'v Value, field: &str) -> &'v [Value] {
    document[field].as_array().map_or(&[], Vec::as_slice)
}

/// The messages that a restore gives, in order.
fn restored(scene: &Scene, name: &str, at: &str) -> Vec<Vec<u8>> {
    let out = scene.path("out");
    drop(fs::remove_dir_all(&out));
    let to = format!("maildir:{}", out.display());
    about(scene, "restore", name, &["--at", at, "--to", &to]).expect(0);
    let is_message = |path: &std::path::PathBuf| path.to_string_lossy().contains(".cylinder,S=");
    let found = files(&out).into_iter().filter(is_message);
    let mut found: Vec<Vec<u8>> = found.map(|path| fs::read(path).expect("a message")).collect();
    found.sort();
    found
}

#[test]
fn an_account_of_any_name_is_kept_found_given_back_and_forgotten() {
    let (scene, names) = (Scene::new(), names());
    for messages in [1, 2] {
        let spool = spool(&scene, &names, messages);
        let mut arguments = backup_arguments(&spool, &scene.vault(), &[]);
        arguments.push("--all".to_owned());
        let report = cylinder(&arguments).expect(0).document();
        assert_eq!(report["stored"], names.len(), "{report:#}");
    }
    for (at, name) in names.iter().enumerate() {
        let history = about(&scene, "history", name, &["--json"]).expect(0).document();
        assert_eq!(history["account"], name.as_str());
        assert_eq!(list(&history, "snapshots").len(), 2, "{name:?}");
        let wanted = format!("1 of {at}");
        let found = about(&scene, "find", name, &["--subject", &wanted, "--json"]).expect(0);
        assert_eq!(list(&found.document(), "messages").len(), 1, "{name:?}");
        let uid = ["--mailbox", "INBOX", "--uid", "2"];
        assert_eq!(about(&scene, "show", name, &uid).expect(0).stdout, body(at, 1), "{name:?}");
        assert_eq!(restored(&scene, name, "1"), [body(at, 0)], "{name:?}");
        assert_eq!(restored(&scene, name, "2"), [body(at, 0), body(at, 1)], "{name:?}");
        let diff = cylinder(["diff", "--vault", &scene.vault(), "--", name, "1", "2"]);
        diff.expect(0);
    }
    let verified = cylinder(["verify", "--vault", &scene.vault(), "--read-data", "--json"]);
    assert_eq!(list(&verified.expect(0).document(), "accounts").len(), names.len());
    // Named, and as they are found.
    for name in &names {
        about(&scene, "prune", name, &["--keep-last", "1"]).expect(0);
    }
    let rules = ["--keep-last", "1", "--json"];
    let pruned = cylinder([&["prune", "--vault", &scene.vault()][..], &rules].concat());
    let pruned = pruned.expect(0).document();
    assert_eq!(list(&pruned, "accounts").len(), names.len());
    let kept = list(&pruned, "accounts").iter().map(|account| list(account, "snapshots").len());
    assert!(kept.eq(names.iter().map(|_| 1)), "{pruned:#}");

    let mut left = names.len();
    for name in &names {
        let forget = format!("--forget={name}");
        cylinder(["prune", "--vault", &scene.vault(), &forget, "--accept-removals"]).expect(0);
        about(&scene, "history", name, &[]).expect(1);
        left -= 1;
        let accounts = fs::read_dir(scene.path("vault/accounts")).map_or(0, Iterator::count);
        assert_eq!(accounts, left, "{name:?} took another one along, or stayed");
    }
}
