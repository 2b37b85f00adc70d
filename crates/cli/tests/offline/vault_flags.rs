//! Flags alone: what is restored where messages are there and only their flags were lost.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use model::SystemFlags;
use serde_json::{Value, json};
use testkit::damage;
use testkit::spool_builder::{EPOCH, Era, NewMessage, SpoolBuilder, SpoolOptions};

use crate::program::{cylinder, run};
use crate::sample::{belongs_to_us, files, sample};
use crate::vaults::{Scene, backup_arguments};

/// The flags of the messages of INBOX.
const FLAGS: [(SystemFlags, &[&str]); 3] =
    [(SystemFlags::SEEN, &["$Forwarded", "Later"]), (SystemFlags(0), &[]), (SystemFlags(2), &[])];

/// A vault of glad, as a release of that era left him. The last message of INBOX is expunged, and
/// there are a folder and a deleted one.
fn scene(era: Era) -> Scene {
    let scene = Scene::new();
    let root = scene.path("spool");
    let mut builder = SpoolBuilder::create(&root, SpoolOptions::new(era)).expect("a spool");
    for name in ["user.glad", "user.glad.a^b", "DELETED.user.glad.x.6B0450F1"] {
        let mut mailbox = builder.mailbox(name).expect("a mailbox");
        for (n, (system_flags, user_flags)) in FLAGS.into_iter().enumerate() {
            let bytes = format!("Subject: {name} {n}\r\n\r\n{}", "x".repeat(5000));
            let message = NewMessage {
                bytes: bytes.as_bytes(),
                internaldate: EPOCH + 60,
                system_flags,
                user_flags,
                expunged: (n == 2 && name != "user.glad.a^b").then_some(EPOCH + 99),
            };
            mailbox.add(&message).expect("a message");
        }
        builder.finish_mailbox(mailbox).expect("a mailbox");
    }
    builder.subscribe("glad", "user.glad.a^b");
    let spool = builder.finish().expect("a spool");
    belongs_to_us(&spool.imapd_conf);
    cylinder(backup_arguments(&spool, &scene.vault(), &["glad"])).expect(0);
    scene
}

/// The lines about messages, and those about what was seen elsewhere.
fn lines(path: &Path) -> (Vec<Value>, Vec<Value>) {
    let text = fs::read_to_string(path.join("flags.jsonl")).expect("the list of flags");
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    lines.partition(|line| line.get("uid").is_some())
}

fn flags(lines: &[Value], mailbox: &str) -> BTreeMap<u64, Value> {
    let of_mailbox = lines.iter().filter(|line| line["mailbox"] == mailbox);
    of_mailbox.map(|line| (line["uid"].as_u64().expect("one"), line["flags"].clone())).collect()
}

/// Also where `\Seen` is not in the index, but in the seen state.
#[test]
fn each_visible_message_has_a_line_with_its_flags_and_no_file() {
    for era in [Era::V3_6, Era::V2_3, Era::V2_4] {
        let scene = scene(era);
        let out = scene.path("out");
        let to = format!("dir:{}", out.display());
        let ran = scene.glad("restore", &["--flags-only", "--to", &to, "--json"]).expect(0);
        let report = ran.report();
        assert_eq!((&report["messages"], &report["bytes"]), (&5.into(), &0.into()), "{report}");
        let (messages, seen) = lines(&out);
        assert_eq!(seen.is_empty(), era != Era::V2_3, "{era:?}: {seen:?}");
        let first = json!(["\\Seen", "$Forwarded", "Later"]);
        let want = BTreeMap::from([(1, first), (2, json!([]))]);
        assert_eq!(flags(&messages, "INBOX"), want, "{era:?}");
        assert_eq!(flags(&messages, "INBOX.a^b").len(), 3);
        assert_eq!(messages.len(), 5, "deleted mailboxes are left out: {messages:?}");
        let one = &messages[0];
        assert_eq!(one["internaldate"], "2014-05-13T16:54:20Z");
        assert!(one["uidvalidity"].as_u64() > Some(0) && one["modseq"].is_u64(), "{one}");
        assert_eq!(one["guid"].as_str().map(str::len), Some(40), "{one}");
        let names: Vec<String> = files(&out)
            .iter()
            .map(|path| path.file_name().expect("a name").to_string_lossy().into_owned())
            .collect();
        assert!(names.iter().any(|name| name == "cyrus.index"), "{names:?}");
        assert!(names.iter().any(|name| name.contains("sub")), "{names:?}");
        assert!(!names.iter().any(|name| name.ends_with('.')), "{names:?}");
        assert!(!out.join("imapd.conf").exists(), "nothing can be served from it");
    }
}

#[test]
fn a_tar_of_flags_has_the_same_files() {
    let scene = scene(Era::V3_6);
    let (dir, tar, out) = (scene.path("dir"), scene.path("flags.tar"), scene.path("out"));
    for to in [format!("dir:{}", dir.display()), format!("tar:{}", tar.display())] {
        scene.glad("restore", &["--flags-only", "--to", &to]).expect(0);
    }
    fs::create_dir(&out).expect("a directory");
    let mut extract = Command::new("/bin/tar");
    run(extract.arg("xf").arg(&tar).arg("-C").arg(&out)).expect(0);
    let all = |root: &Path| -> BTreeMap<String, Vec<u8>> {
        let name = |path: &Path| path.strip_prefix(root).expect("below").display().to_string();
        files(root).iter().map(|path| (name(path), fs::read(path).expect("a file"))).collect()
    };
    assert!(all(&out).contains_key("flags.jsonl"));
    assert_eq!(all(&out), all(&dir));
    scene.glad("restore", &["--flags-only", "--to", &format!("tar:{}", tar.display())]).expect(1);
}

/// Proof that no message is read: none of them could be.
#[test]
fn damaged_messages_are_not_noticed() {
    let scene = Scene::new();
    let archive = scene.path("glad.tar");
    let mut bytes = sample().glad[0].clone();
    for body in sample().mail.values() {
        let at = bytes.windows(body.len()).position(|window| window == body.as_slice());
        at.into_iter().for_each(|at| bytes[at..at + body.len()].fill(b'?'));
    }
    fs::write(&archive, bytes).expect("an archive");
    let from = archive.display().to_string();
    let restore = |more: &[&str]| {
        let out = scene.path(&format!("out{}", more.len()));
        let to = format!("dir:{}", out.display());
        cylinder([&["restore", "glad", "--from", &from, "--to", &to], more].concat())
    };
    restore(&[]).expect(3);
    restore(&["--flags-only"]).expect(0);
    // What is read is checked.
    let index = scene.path("out1/spool");
    let index = files(&index).into_iter().find(|path| path.ends_with("cyrus.index"));
    let index = fs::read(index.expect("an index")).expect("an index");
    let bytes = fs::read(&archive).expect("an archive");
    let at = bytes.windows(index.len()).position(|window| window == index.as_slice());
    damage::flip(&archive, at.expect("it is stored as it is") + 200).expect("damage");
    restore(&["--flags-only", "--json"]).expect(1);
}

#[test]
fn flags_of_some_messages_can_be_chosen_and_forms_without_a_place_for_them_refuse() {
    let scene = scene(Era::V3_6);
    let shown = scene.glad("show", &["--mailbox", "INBOX", "--uid", "1"]).expect(0);
    let guid = testkit::imap::guid_of(&shown.stdout).to_string();
    for (n, (picks, count)) in
        [(["--guid", &guid], 1), (["--mailbox", "a^b"], 3)].into_iter().enumerate()
    {
        let out = scene.path(&n.to_string());
        let to = format!("dir:{}", out.display());
        let more = [&["--flags-only", "--to", &to][..], &picks].concat();
        let said = scene.glad("restore", &[&more[..], &["--dry-run"]].concat()).expect(0).text();
        assert!(said.starts_with("would restore the flags of snapshot 1 of glad"), "{said}");
        assert!(said.contains(&format!(" {count} message")) && !out.exists(), "{said}");
        scene.glad("restore", &more).expect(0);
        assert_eq!(lines(&out).0.len(), count);
    }
    for kind in ["maildir", "mbox"] {
        let to = format!("{kind}:{}", scene.path("no").display());
        let ran = scene.glad("restore", &["--flags-only", "--to", &to]).expect(2);
        assert!(ran.error().contains("flags only with messages"), "{}", ran.stderr);
        assert!(ran.hints("dir:PATH or tar:FILE"), "{}", ran.stderr);
    }
}

#[test]
fn a_mailbox_whose_flags_cannot_be_read_is_said_and_the_others_come() {
    let scene = Scene::new();
    let spool = scene.spool(3);
    let index = files(&spool.partition).into_iter().find(|path| {
        path.ends_with("cyrus.index") && fs::metadata(path).expect("there").len() < 450
    });
    fs::write(index.expect("that of Sent, which is short"), "no index").expect("damage");
    cylinder(backup_arguments(&spool, &scene.vault(), &["glad"])).expect(3);
    let out = scene.path("out");
    let to = format!("dir:{}", out.display());
    let ran = scene.glad("restore", &["--flags-only", "--to", &to]).expect(3);
    assert!(ran.stderr.contains("no flags of it are restored"), "{}", ran.stderr);
    assert_eq!(lines(&out).0.len(), 3);
}
