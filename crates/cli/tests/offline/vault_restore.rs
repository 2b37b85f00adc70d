//! Restores of some of an account: mailboxes and single messages, from vaults and archives.

use std::fs;
use std::path::{Path, PathBuf};

use cyrus_format::index::Index;
use testkit::imap::guid_of;
use testkit::spool_builder::{EPOCH, Era, NewMessage, SpoolBuilder, SpoolOptions};

use crate::program::{Ran, cylinder};
use crate::sample::{belongs_to_us, check_maildir, files, sample};
use crate::vault_drill::{position, segment, tamper};
use crate::vaults::{SENT, Scene, backup_arguments};

/// Snapshots of 5 and 9 messages in INBOX; the first two are in Sent, too.
fn grown() -> Scene {
    let scene = Scene::new();
    scene.backup(5).expect(0);
    scene.backup(9).expect(0);
    scene
}

/// The GUID of a message of INBOX.
fn guid(scene: &Scene, uid: u32) -> String {
    let uid = uid.to_string();
    let shown = scene.glad("show", &["--mailbox", "INBOX", "--uid", &uid]).expect(0);
    guid_of(&shown.stdout).to_string()
}

/// Restores into a new place; what came, and where it is.
fn restore(scene: &Scene, kind: &str, more: &[&str]) -> (Ran, PathBuf) {
    let out = scene.path(&format!("out-{}", files(scene.scratch.path()).len()));
    let to = format!("{kind}:{}", out.display());
    (scene.glad("restore", &[&["--to", &to], more].concat()), out)
}

/// The names of the messages in a restored spool, with their mailboxes' names.
fn messages(spool: &Path) -> Vec<String> {
    let name = |path: &PathBuf| path.file_name().expect("a name").to_string_lossy().into_owned();
    let mut names: Vec<String> = files(&spool.join("spool")).iter().map(name).collect();
    names.retain(|name| name.ends_with('.'));
    names.sort();
    names
}

#[test]
fn single_messages_come_back_wherever_they_are() {
    let scene = grown();
    let (first, last) = (guid(&scene, 1), guid(&scene, 9));
    for (picks, count) in [
        (vec!["--guid", &last], 1),
        (vec!["--guid", &first], 2),
        (vec!["--guid", &first, "--guid", &last], 3),
        (vec!["--guid", &first, "--mailbox", "Sent"], 1),
        (vec!["--guid", &first, "--mailbox", "INBOX", "--mailbox", "Sent"], 2),
    ] {
        let (ran, out) = restore(&scene, "maildir", &picks);
        ran.expect(0);
        assert_eq!(check_maildir(&out), count, "{picks:?}");
        let (ran, out) = restore(&scene, "mbox", &picks);
        ran.expect(0);
        let texts = files(&out).into_iter().map(|path| fs::read_to_string(path).expect("text"));
        let begun = texts.map(|text| text.matches("From MAILER-DAEMON").count());
        assert_eq!(begun.sum::<usize>(), count, "{picks:?}");
        let (ran, _) = restore(&scene, "maildir", &[picks.as_slice(), &["--dry-run"]].concat());
        let counted: usize = ran
            .expect(0)
            .text()
            .lines()
            .filter_map(|line| line.strip_suffix('s').unwrap_or(line).strip_suffix(" message"))
            .map(|line| line.rsplit(' ').next().expect("a word").parse::<usize>().expect("one"))
            .sum();
        assert_eq!(counted, count, "{picks:?}");
    }
}

#[test]
fn a_spool_of_single_messages_has_indexes_that_list_those_alone() {
    let scene = grown();
    let guid = guid(&scene, 2);
    let (ran, out) = restore(&scene, "dir", &["--guid", &guid, "--mailbox", "INBOX"]);
    ran.expect(0);
    assert_eq!(messages(&out), ["2."]);
    let indexes: Vec<PathBuf> =
        files(&out).into_iter().filter(|path| path.ends_with("cyrus.index")).collect();
    assert_eq!(indexes.len(), 1, "Sent was not asked for");
    let bytes = fs::read(&indexes[0]).expect("an index");
    let index = Index::parse(&bytes).expect("an index");
    assert!(index.problems().is_empty(), "{:?}", index.problems());
    let uids: Vec<u32> = index.keys().map(|key| key.uid.0).collect();
    assert_eq!((uids, index.header().exists), (vec![2], 1));
    assert_eq!(index.header().last_uid.0, 9, "no UID is given out again");

    let (ran, out) = restore(&scene, "tar", &["--guid", &guid]);
    ran.expect(0);
    let listed = cylinder(["list", "--json", &out.display().to_string()]).expect(0).document();
    let snapshot = &listed["snapshots"][0];
    assert_eq!((&snapshot["messages"], &snapshot["messages_new"]), (&2.into(), &1.into()));
}

/// What was asked for by its GUID comes, also into forms that otherwise leave out what is expunged.
#[test]
fn an_expunged_message_comes_back_if_it_is_named() {
    let scene = Scene::new();
    let body = b"Subject: gone\r\n\r\nstill kept\r\n";
    let root = scene.path("spool");
    let mut builder = SpoolBuilder::create(&root, SpoolOptions::new(Era::V3_6)).expect("a spool");
    let mut inbox = builder.mailbox("user.glad").expect("a mailbox");
    for (bytes, expunged) in [(body.as_slice(), Some(EPOCH + 1)), (b"Subject: here\r\n\r\n", None)]
    {
        let message = NewMessage { bytes, internaldate: EPOCH, expunged, ..NewMessage::default() };
        inbox.add(&message).expect("a message");
    }
    builder.finish_mailbox(inbox).expect("a mailbox");
    let spool = builder.finish().expect("a spool");
    belongs_to_us(&spool.imapd_conf);
    cylinder(backup_arguments(&spool, &scene.vault(), &["glad"])).expect(0);
    let guid = guid_of(body).to_string();
    for kind in ["maildir", "dir"] {
        let (ran, out) = restore(&scene, kind, &["--guid", &guid]);
        ran.expect(0);
        let found = files(&out).into_iter().filter(|path| fs::read(path).expect("bytes") == body);
        assert_eq!(found.count(), 1, "{kind}");
    }
    let (ran, _) = restore(&scene, "maildir", &["--guid", &guid, "--dry-run"]);
    assert!(ran.expect(0).text().contains(" 1 message\n"));
    let (ran, out) = restore(&scene, "maildir", &[]);
    ran.expect(0);
    assert!(!files(&out).iter().any(|path| fs::read(path).expect("bytes") == body));
}

#[test]
fn a_message_that_is_not_there_is_an_error_with_a_hint() {
    let scene = grown();
    let (first, last) = (guid(&scene, 1), guid(&scene, 9));
    let (ran, out) = restore(&scene, "maildir", &["--guid", &first, "--guid", &last, "--at", "1"]);
    let ran = ran.expect(1);
    assert!(ran.error().contains(&format!("holds no message {last}")), "{}", ran.stderr);
    assert!(ran.error().starts_with("snapshot 1 of glad, taken 20"), "{}", ran.stderr);
    assert!(ran.hints("cylinder find") && !out.exists(), "{}", ran.stderr);
    let (ran, _) = restore(&scene, "maildir", &["--guid", &last, "--mailbox", "Sent"]);
    assert!(ran.expect(1).error().contains("in Sent"));
    let (ran, _) = restore(&scene, "maildir", &["--guid", &last[..39]]);
    assert!(ran.expect(2).error().contains("is no GUID"));
}

#[test]
fn archives_give_single_messages_as_vaults_do() {
    let scene = Scene::new();
    let archive = scene.path("glad.tar");
    fs::write(&archive, sample().glad.concat()).expect("an archive");
    let archive = archive.display().to_string();
    let vault = grown();
    let last = guid(&vault, 9);
    let out = scene.path("out");
    let to = format!("maildir:{}", out.display());
    let base = ["restore", "glad", "--from", &archive, "--to", &to, "--guid", &last];
    cylinder(base).expect(0);
    assert_eq!(check_maildir(&out), 1);
    let ran = cylinder([base.as_slice(), &["--at", "2"]].concat()).expect(1);
    assert!(ran.hints("cylinder list"), "{}", ran.stderr);
}

/// A message that was gone for one snapshot and came back is stored twice.
#[test]
fn of_two_copies_the_one_that_is_whole_is_taken() {
    let scene = Scene::new();
    for messages in [9, 5, 9] {
        scene.backup(messages).expect(0);
    }
    let body = scene.glad("show", &["--mailbox", "INBOX", "--uid", "9"]).expect(0).stdout;
    tamper(&segment(&scene, 1), |content| {
        let at = position(content, &body);
        content[at + 50] ^= 1;
    });
    assert_eq!(scene.restored("3"), 9 + SENT);
    let (ran, out) = restore(&scene, "maildir", &["--at", "1"]);
    assert!(ran.expect(3).stderr.contains("is damaged"));
    assert_eq!(check_maildir(&out), 8 + SENT);
    // Both copies of the same message.
    tamper(&segment(&scene, 3), |content| {
        let at = position(content, &body);
        content[at + 50] ^= 1;
    });
    let (ran, out) = restore(&scene, "maildir", &[]);
    ran.expect(3);
    assert_eq!(check_maildir(&out), 8 + SENT);
}
