//! Mailboxes that no user owns: in every command like an account, whatever release wrote them.

use std::fs;
use std::path::Path;

use model::Userid;
use serde_json::{Value, json};
use spool::{Options, Server};
use testkit::spool_builder::{EPOCH, Era, NewMessage, Spool, SpoolBuilder, SpoolOptions};

use crate::program::{Ran, cylinder};
use crate::sample::{belongs_to_us, files};
use crate::vaults::{Scene, backup_arguments};

/// Those of every spool here; the one of a domain, last.
const SHARED: [&str; 4] =
    ["DELETED.shared.old.537182AB", "shared.box", "shared.box.sub", "other.test!shared.box"];

fn body(mailbox: &str, message: usize) -> Vec<u8> {
    format!("Subject: {message} in {mailbox}\r\n\r\nline\r\n").into_bytes()
}

/// A user, and shared mailboxes of so many messages each. Servers of another seed have others.
fn spool(scene: &Scene, options: SpoolOptions, messages: usize) -> Spool {
    let root = scene.path("spool");
    drop(fs::remove_dir_all(&root));
    let mut builder = SpoolBuilder::create(&root, options).expect("a spool");
    for (at, name) in SHARED.into_iter().chain(["user.glad"]).enumerate() {
        let id = format!("{:08x}{at:08x}", options.seed);
        let mut mailbox = builder.mailbox_again(name, id, 7).expect("a mailbox");
        for message in 0..messages {
            let bytes = body(name, message);
            let new =
                NewMessage { bytes: &bytes, internaldate: EPOCH + 60, ..NewMessage::default() };
            mailbox.add(&new).expect("a message");
        }
        builder.finish_mailbox(mailbox).expect("a mailbox");
    }
    let spool = builder.finish().expect("a spool");
    let conf = fs::read_to_string(&spool.imapd_conf).expect("imapd.conf");
    fs::write(&spool.imapd_conf, conf + "virtdomains: userid\n").expect("imapd.conf");
    belongs_to_us(&spool.imapd_conf);
    spool
}

/// A command about the shared mailboxes in the vault.
fn about(scene: &Scene, verb: &str, more: &[&str]) -> Ran {
    cylinder([&[verb, "--vault", &scene.vault(), "%shared"][..], more].concat())
}

fn back_up(scene: &Scene, spool: &Spool, more: &[&str]) -> Ran {
    let mut arguments = backup_arguments(spool, &scene.vault(), &["--all"]);
    arguments.extend(more.iter().map(|option| (*option).to_owned()));
    cylinder(&arguments)
}

fn names(list: &Value, field: &str) -> Vec<String> {
    let list = list.as_array().expect("a list").iter();
    list.map(|one| one[field].as_str().expect("a name").to_owned()).collect()
}

/// Where the messages of a restored directory are, without their file names.
fn folders(out: &Path) -> Vec<String> {
    let dirs = files(out).into_iter().filter(|path| path.to_string_lossy().contains(",S="));
    let dirs = dirs.map(|path| path.parent().expect("a directory").to_owned());
    let mut dirs: Vec<String> = dirs
        .map(|dir| dir.strip_prefix(out).expect("below").to_string_lossy().into_owned())
        .collect();
    dirs.dedup();
    dirs
}

#[test]
fn shared_mailboxes_of_every_release_are_kept_found_and_given_back() {
    for era in Era::ALL {
        let scene = Scene::new();
        let options = SpoolOptions::new(era);
        for messages in [1, 2] {
            let spool = spool(&scene, options, messages);
            let report = back_up(&scene, &spool, &[]).expect(0).document();
            assert_eq!(names(&report["accounts"], "account"), ["%shared", "glad"], "{era:?}");
            assert_eq!(report["stored"], 2, "{report:#}");
        }
        let report = back_up(&scene, &spool(&scene, options, 2), &[]).expect(0).document();
        assert_eq!(report["unchanged"], 2, "{era:?}: {report:#}");
        check_searches(&scene);
        check_restores(&scene);
        check_care(&scene);
    }
}

fn check_searches(scene: &Scene) {
    let history = about(scene, "history", &["--json"]).expect(0).document();
    assert_eq!(history["account"], "%shared");
    assert_eq!(history["snapshots"][1]["mailboxes"], 4);
    let all = cylinder(["history", "--vault", &scene.vault(), "--json"]).expect(0).document();
    let mut accounts = names(&all["accounts"], "account");
    accounts.sort();
    assert_eq!(accounts, ["%shared", "glad"]);
    let found = about(scene, "find", &["--subject", "1 in shared.box", "--json"]).expect(0);
    let found = found.document();
    let messages = found["messages"].as_array().expect("a list").iter();
    let mut places: Vec<String> =
        messages.flat_map(|message| names(&message["places"], "mailbox")).collect();
    places.sort();
    assert_eq!(places, ["shared.box", "shared.box.sub"], "{found:#}");
    for name in ["shared.box", "shared/box", "other.test!shared.box"] {
        let shown = about(scene, "show", &["--mailbox", name, "--uid", "2"]).expect(0);
        assert_eq!(shown.stdout, body(&name.replace('/', "."), 1), "{name}");
    }
    let diff = about(scene, "diff", &["1", "2", "--json"]).expect(0).document();
    assert!(names(&diff["mailboxes"], "mailbox").contains(&"shared.box".to_owned()), "{diff:#}");
}

fn check_restores(scene: &Scene) {
    let restore = |kind: &str, more: &[&str]| {
        let out = scene.path(kind);
        let to = format!("{kind}:{}", out.display());
        about(scene, "restore", &[&["--to", &to][..], more].concat()).expect(0);
        out
    };
    let picks = ["--mailbox", "shared/box", "--mailbox", "other.test!shared.box"];
    let folders_of = folders(&restore("maildir", &picks));
    assert_eq!(folders_of, [".other.test!shared.box/cur", ".shared.box/cur"]);
    let mboxes = files(&restore("mbox", &["--at", "1"]));
    let mboxes = mboxes.iter().map(|path| path.file_name().expect("a name").to_string_lossy());
    let mut expected = SHARED.map(|name| format!("{name}.mbox"));
    expected.sort();
    assert_eq!(mboxes.collect::<Vec<_>>(), expected);
    let tar = restore("tar", &[]).display().to_string();
    let listed = cylinder(["list", "--json", "--account", "%shared", &tar]).expect(0).document();
    assert_eq!(names(&listed["snapshots"], "account"), ["%shared"]);
    let tree = restore("dir", &[]);
    belongs_to_us(&tree.join("imapd.conf"));
    let server = Server::open(&tree.join("imapd.conf"), &Options::default()).expect("a server");
    assert_eq!(server.accounts().expect("a list"), [Userid::shared()]);
    let frozen = server.freeze(&Userid::shared()).expect("an account");
    assert_eq!(frozen.findings, []);
    let mut restored: Vec<String> =
        frozen.mailboxes.iter().map(|mailbox| mailbox.entry.name.to_string()).collect();
    restored.sort();
    let mut expected = SHARED;
    expected.sort_unstable();
    assert_eq!(restored, expected);
}

fn check_care(scene: &Scene) {
    cylinder(["verify", "--vault", &scene.vault(), "--read-data"]).expect(0);
    let place = scene.path("drill").display().to_string();
    about(scene, "verify", &["--drill", &place]).expect(0);
    about(scene, "prune", &["--keep-last", "1"]).expect(0);
    let history = about(scene, "history", &["--json"]).expect(0).document();
    assert_eq!(names(&history["snapshots"], "object").len(), 1);
    let forget = ["prune", "--vault", &scene.vault(), "--forget=%shared", "--accept-removals"];
    cylinder(forget).expect(0);
    about(scene, "history", &[]).expect(1);
    assert!(!scene.path("vault/accounts/%shared").exists());
    assert!(scene.path("vault/accounts/glad").exists());
}

#[test]
fn an_archive_of_shared_mailboxes_is_continued_listed_and_restored() {
    let scene = Scene::new();
    let (first, second) = (scene.path("1.tar"), scene.path("2.tar"));
    let [first, second] = [first, second].map(|path| path.display().to_string());
    for (messages, out, since) in [(1, &first, None), (2, &second, Some(&first))] {
        let spool = spool(&scene, SpoolOptions::new(Era::V3_6), messages);
        let conf = spool.imapd_conf.display().to_string();
        let mut arguments = vec!["snapshot", "%shared", "-C", &conf, "-o", out, "--json"];
        arguments.extend(since.iter().flat_map(|since| ["--since", since.as_str()]));
        let report = cylinder(arguments).expect(0).report();
        assert_eq!((&report["account"], &report["messages_new"]), (&json!("%shared"), &json!(4)));
    }
    let plain = std::process::Command::new("tar").args(["-tf", &second]).output().expect("tar");
    let plain = String::from_utf8_lossy(&plain.stdout).into_owned();
    assert!(plain.lines().count() > 4 && plain.lines().all(|line| line.starts_with("%shared/")));
    let listed = cylinder(["list", &first, &second]).expect(0).text();
    assert!(
        listed.contains("%shared") && listed.contains("    other.test!shared.box "),
        "{listed}"
    );
    let to = format!("maildir:{}", scene.path("out").display());
    let from = ["restore", "%shared", "--from", &first, "--from", &second, "--to", &to];
    cylinder([&from[..], &["--mailbox", "shared.box.sub"]].concat()).expect(0);
    assert_eq!(folders(&scene.path("out")), [".shared.box.sub/cur"]);
    assert_eq!(files(&scene.path("out/.shared.box.sub/cur")).len(), 2);
}

#[test]
fn shared_mailboxes_of_two_servers_do_not_get_mixed_up_in_a_vault() {
    let scene = Scene::new();
    let here = SpoolOptions::new(Era::V3_6);
    let there = SpoolOptions { seed: 2, ..here };
    back_up(&scene, &spool(&scene, here, 1), &[]).expect(0);
    let ran = back_up(&scene, &spool(&scene, there, 1), &[]).expect(1);
    let report = ran.document();
    assert_eq!((&report["failed"], &report["stored"]), (&json!(1), &json!(1)), "{report:#}");
    let error = report["accounts"][0].to_string();
    assert!(error.contains("another server") && error.contains("vault of its own"), "{error}");
    let history = || about(&scene, "history", &["--json"]).expect(0).document();
    assert_eq!(history()["snapshots"].as_array().map(Vec::len), Some(1));
    back_up(&scene, &spool(&scene, there, 1), &["--accept-removals"]).expect(0);
    assert_eq!(history()["snapshots"].as_array().map(Vec::len), Some(2));
}

/// Up to 2.4, mailboxes.db has no identities: an upgrade from there gives every mailbox a new one.
#[test]
fn a_server_that_was_upgraded_from_2_4_is_the_same_one() {
    let scene = Scene::new();
    back_up(&scene, &spool(&scene, SpoolOptions::new(Era::V2_4), 1), &[]).expect(0);
    back_up(&scene, &spool(&scene, SpoolOptions::new(Era::V3_4), 1), &[]).expect(0);
}

#[test]
fn who_forgets_the_sign_is_told() {
    let scene = Scene::new();
    let spool = spool(&scene, SpoolOptions::new(Era::V3_6), 1);
    let conf = spool.imapd_conf.display().to_string();
    let ran = cylinder(["snapshot", "shared", "-C", &conf]).expect(1);
    assert!(ran.hints("did you mean %shared?"), "{}", ran.stderr);
}
