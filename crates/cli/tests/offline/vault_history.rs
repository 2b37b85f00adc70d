//! What is told of many accounts at once: how old what a vault has of them is, and how a run over
//! all of them went.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use testkit::damage;
use testkit::spool_builder::{EPOCH, Era, NewMessage, Spool, SpoolBuilder, SpoolOptions};

use crate::program::{cylinder, run};
use crate::sample::{belongs_to_us, files};
use crate::vaults::{Scene, backup_arguments, objects_of};

/// A vault that a former release made of glad, and to which iris was added now.
fn scene() -> Scene {
    let scene = Scene::new();
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/vault-1");
    run(Command::new("/bin/cp").arg("-a").arg(kept).arg(scene.path("vault"))).expect(0);
    let spool = scene.spool(9);
    cylinder(backup_arguments(&spool, &scene.vault(), &["iris"])).expect(0);
    scene
}

fn accounts(scene: &Scene) -> Vec<Value> {
    let ran = cylinder(["history", "--vault", &scene.vault(), "--json"]).expect(0);
    ran.document()["accounts"].as_array().expect("a list").clone()
}

#[test]
fn all_accounts_are_listed_the_one_with_the_oldest_snapshot_first() {
    let scene = scene();
    cylinder(["verify", "--vault", &scene.vault(), "iris"]).expect(0);
    let listed = accounts(&scene);
    let names: Vec<&Value> = listed.iter().map(|account| &account["account"]).collect();
    assert_eq!(names, ["glad", "iris"]);
    let (glad, iris) = (&listed[0], &listed[1]);
    assert_eq!((&glad["snapshots"], &iris["snapshots"]), (&2.into(), &1.into()));
    assert!(glad["age_s"].as_i64() > iris["age_s"].as_i64(), "{listed:?}");
    assert_eq!((&glad["verified"], &iris["verified"]["how"]), (&Value::Null, &"structure".into()));
    let size = |path: &Path| fs::metadata(path).expect("there").len();
    let segments = objects_of(&scene.path("vault"), "iris").into_iter();
    let bytes: u64 =
        segments.filter(|(name, _)| name.ends_with(".zst")).map(|(_, path)| size(&path)).sum();
    assert_eq!(iris["bytes"], bytes);

    let drill = scene.path("drill").display().to_string();
    cylinder(["verify", "--vault", &scene.vault(), "--drill", &drill, "iris"]).expect(0);
    let text = cylinder(["history", "--vault", &scene.vault(), "--all"]).expect(0).text();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert!(lines[0].starts_with("glad ") && lines[0].contains("not verified"), "{text}");
    assert!(lines[0].contains("2 snapshots"), "{text}");
    assert!(lines[1].contains("1 snapshot ") && lines[1].contains(" ago"), "{text}");
}

#[test]
fn segments_are_not_opened_and_holds_and_heads_are_told() {
    let scene = scene();
    cylinder(["prune", "--vault", &scene.vault(), "--hold", "glad"]).expect(0);
    let before = accounts(&scene);
    assert_eq!((&before[0]["hold"], &before[1]["hold"]), (&true.into(), &false.into()));
    assert_eq!(before[0]["heads"], 1);
    for path in files(&scene.path("vault/accounts")) {
        if path.extension().is_some_and(|extension| extension == "zst") {
            let size = fs::metadata(&path).expect("there").len();
            fs::write(&path, vec![b'?'; usize::try_from(size).expect("small")]).expect("damage");
        }
    }
    let after = accounts(&scene);
    assert_eq!(after[0]["bytes"], before[0]["bytes"]);
    assert_eq!(after.len(), 2);
    scene.glad("history", &["--json"]).expect(1);
}

#[test]
fn an_account_that_cannot_be_read_is_named_and_the_others_are_listed() {
    let scene = scene();
    let objects = scene.objects();
    let note = objects.iter().find(|(name, _)| name.ends_with(".note.json")).expect("a note").1;
    damage::flip(note, 40).expect("damage");
    let ran = cylinder(["history", "--vault", &scene.vault(), "--all"]).expect(1);
    assert!(ran.error().contains("glad is left out"), "{}", ran.stderr);
    assert!(ran.text().starts_with("iris "), "{}", ran.text());
    cylinder(["history", "--vault", &scene.vault(), "--all", "glad"]).expect(2);
}

/// More than this is stored in advance, in a segment that is no snapshot (`docs/format-vault.md`, 2).
const PART_BYTES: usize = 256 << 20;

/// What is known of a snapshot is told, whatever became of the parts before it.
#[test]
fn a_part_counts_for_its_snapshot_and_hides_nothing_of_it_when_it_is_damaged() {
    let scene = Scene::new();
    let mut bytes = b"Subject: large\r\n\r\n".to_vec();
    bytes.resize(PART_BYTES, b'x');
    let spool = only_iris(&scene.path("other"), &bytes);
    cylinder(backup_arguments(&spool, &scene.vault(), &["iris"])).expect(0);
    let history = |more: &[&str]| {
        cylinder([&["history", "--vault", &scene.vault(), "iris"][..], more].concat())
    };
    let whole = history(&["--json"]).expect(0).document()["snapshots"].clone();
    assert_eq!((whole.as_array().map(Vec::len), &whole[0]["parts"]), (Some(1), &1.into()));
    assert_eq!((&whole[0]["messages_new"], &whole[0]["damaged_parts"]), (&1.into(), &0.into()));

    let objects = objects_of(&scene.path("vault"), "iris").into_iter();
    let parts: Vec<(String, PathBuf)> =
        objects.filter(|(name, _)| name.ends_with(".part.tar.zst")).collect();
    let [(name, path)] = parts.as_slice() else { panic!("{parts:?}") };
    let size = fs::metadata(path).expect("there").len();
    fs::write(path, vec![b'?'; usize::try_from(size).expect("small")]).expect("damage");
    let ran = history(&["--json"]).expect(1);
    assert!(ran.stderr.contains(&format!("cannot read {name}")), "{}", ran.stderr);
    let mut expected = whole;
    expected[0]["messages_new"] = Value::Null;
    expected[0]["damaged_parts"] = 1.into();
    assert_eq!(ran.document()["snapshots"], expected);
    let text = history(&[]).expect(1).text();
    let told = "1 message in 1 mailbox, 0 new and those of 1 part damaged\n";
    assert!(text.contains(told), "{text}");
}

/// A server on which there is nobody but iris, who has one message.
fn only_iris(root: &Path, bytes: &[u8]) -> Spool {
    let mut builder = SpoolBuilder::create(root, SpoolOptions::new(Era::V3_6)).expect("a spool");
    let mut inbox = builder.mailbox("user.iris").expect("a mailbox");
    inbox
        .add(&NewMessage { bytes, internaldate: EPOCH, ..NewMessage::default() })
        .expect("a message");
    builder.finish_mailbox(inbox).expect("a mailbox");
    let spool = builder.finish().expect("a spool");
    belongs_to_us(&spool.imapd_conf);
    spool
}

#[test]
fn a_run_tells_how_old_the_oldest_of_what_failed_is() {
    let scene = scene();
    let spool = only_iris(&scene.path("other"), b"Subject: one\r\n\r\n");
    let arguments = |accounts: &[&str]| backup_arguments(&spool, &scene.vault(), accounts);
    let report = cylinder(arguments(&["glad", "iris"])).expect(1).document();
    assert_eq!((&report["stored"], &report["failed"]), (&1.into(), &1.into()), "{report}");
    assert_eq!((&report["messages_new"], &report["unchanged"]), (&1.into(), &0.into()), "{report}");
    let oldest = &report["oldest_of_failed"];
    assert_eq!(oldest["account"], "glad");
    let taken_at = accounts(&scene)[0]["newest"].clone();
    assert_eq!(oldest["last_snapshot"]["taken_at"], taken_at, "{report}");
    assert!(oldest["last_snapshot"]["age_s"].as_i64() > Some(0), "{report}");

    // Worse than an old one is none at all.
    let mut arguments = arguments(&["glad", "nobody"]);
    let report = cylinder(&arguments).expect(1).document();
    let oldest = &report["oldest_of_failed"];
    assert_eq!(
        (&oldest["account"], &oldest["last_snapshot"]["taken_at"]),
        (&"nobody".into(), &Value::Null)
    );
    assert_eq!(oldest["last_snapshot"]["is_known"], true);
    arguments.retain(|argument| argument != "--json");
    let text = cylinder(&arguments).expect(1).text();
    assert_eq!(
        text,
        "2 accounts: 0 stored, 0 unchanged, 2 failed; 0 new messages, 0 B written; nobody failed, \
         and has no snapshot\n"
    );
    arguments.truncate(arguments.len() - 1);
    let text = cylinder(&arguments).expect(1).text();
    assert!(text.contains("; glad failed, and its last snapshot is "), "{text}");
}
