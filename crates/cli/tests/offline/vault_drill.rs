//! Drills: what is restored is compared with what plain tools make of the same objects, and each
//! kind of damage that either way can have is said.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use model::SystemFlags;
use segment::compress::{Compression, Decoder, Writer};
use serde_json::Value;
use testkit::damage;
use testkit::spool_builder::{EPOCH, Era, NewMessage, SpoolBuilder, SpoolOptions};

use crate::program::{Ran, cylinder};
use crate::sample::{belongs_to_us, files, sample};
use crate::vaults::{SENT, Scene, backup_arguments};

fn drill(scene: &Scene, more: &[&str]) -> Ran {
    let (vault, place) = (scene.vault(), scene.path("drill").display().to_string());
    cylinder([&["verify", "--vault", &vault, "--drill", &place], more].concat())
}

/// What a drill says of glad, which must not be that all is well, with its differences as text.
#[track_caller]
fn differences(scene: &Scene) -> (Value, String) {
    let ran = drill(scene, &["--json", "glad"]).expect(3);
    let document = ran.document()["accounts"][0].clone();
    assert_eq!(document["clean"], false);
    let list = document["differences"].as_array().expect("a list");
    assert!(!list.is_empty(), "{document}");
    let texts: Vec<String> = list.iter().map(ToString::to_string).collect();
    (document.clone(), texts.join("\n"))
}

pub fn segment(scene: &Scene, seq: u32) -> PathBuf {
    let prefix = format!("{seq:08}-");
    let objects = scene.objects();
    let found = objects.into_iter().find(|(name, _)| name.starts_with(&prefix));
    found.expect("a segment").1
}

/// Changes what a segment holds, and compresses it anew, so that nothing but its own sums tells.
pub fn tamper(path: &Path, change: impl Fn(&mut Vec<u8>)) {
    let stored = fs::read(path).expect("a segment");
    let mut content = Vec::new();
    let mut decoder = Decoder::new(stored.as_slice(), Compression::Zstd).expect("a decoder");
    decoder.read_to_end(&mut content).expect("it is whole");
    let before = content.clone();
    change(&mut content);
    assert_ne!(content, before, "nothing was changed");
    let mut writer = Writer::new(Vec::new(), Compression::Zstd, 1);
    writer.write_all(&content).expect("a Vec takes all");
    fs::write(path, writer.finish().expect("a Vec takes all")).expect("a segment");
}

/// Where some bytes are in others.
pub fn position(content: &[u8], part: &[u8]) -> usize {
    content.windows(part.len()).position(|window| window == part).expect("it is there")
}

/// The body of the message that INBOX got last.
fn last_body(scene: &Scene) -> (Vec<u8>, String) {
    let body = scene.glad("show", &["--mailbox", "INBOX", "--uid", "9"]).expect(0).stdout;
    let guid = testkit::imap::guid_of(&body).to_string();
    (body, guid)
}

#[test]
fn a_good_vault_comes_back_and_nothing_is_left_lying_about() {
    let scene = Scene::grown();
    let report = drill(&scene, &["--json"]).expect(0).document();
    let glad = &report["accounts"][0];
    assert_eq!((&glad["clean"], &glad["seq"]), (&true.into(), &3.into()), "{glad}");
    assert_eq!(glad["messages_compared"], 9 + SENT, "{glad}");
    assert_eq!(glad["segments"], 3, "{glad}");
    assert!(glad["files_compared"].as_u64() > Some(4), "{glad}");
    assert_eq!(report["accounts"][1]["messages_compared"], 3, "{report}");
    assert!(!scene.path("drill").exists());
    let noted = &scene.history()["verified"];
    assert_eq!((&noted["how"], &noted["findings"]), (&"drill".into(), &0.into()), "{noted}");
    // One that was there stays; one that is full is not used.
    fs::create_dir(scene.path("drill")).expect("a directory");
    let text = drill(&scene, &["glad"]).expect(0);
    assert!(text.stderr.contains("glad: snapshot 3 comes back; 11 messages"), "{}", text.stderr);
    assert!(files(&scene.path("drill")).is_empty() && scene.path("drill").exists());
    fs::write(scene.path("drill/mine"), "x").expect("a file");
    let ran = drill(&scene, &[]).expect(1);
    assert!(ran.hints("an empty one"), "{}", ran.stderr);
}

/// A drill and a verification that reads all messages are both remembered.
#[test]
fn a_drill_is_noted_beside_other_verifications() {
    let scene = Scene::grown();
    let notes = || scene.objects().keys().filter(|name| name.contains("-verified-")).count();
    drill(&scene, &[]).expect(0);
    cylinder(["verify", "--vault", &scene.vault(), "--read-data", "glad"]).expect(0);
    assert_eq!(notes(), 2);
    drill(&scene, &[]).expect(0);
    cylinder(["verify", "--vault", &scene.vault(), "--read-data", "glad"]).expect(0);
    assert_eq!(notes(), 2, "each is written in place of the last of its kind");
    cylinder(["verify", "--vault", &scene.vault(), "glad"]).expect(0);
    assert_eq!(notes(), 3, "what says less takes the place of nothing");
}

/// Where nobody knew the GUIDs, records are in two files, and messages are gone.
#[test]
fn accounts_of_every_era_come_back() {
    for era in Era::ALL {
        let scene = Scene::new();
        let options = SpoolOptions { guids: false, ..SpoolOptions::new(era) };
        let mut builder = SpoolBuilder::create(&scene.path("spool"), options).expect("a spool");
        let mut inbox = builder.mailbox("user.glad").expect("a mailbox");
        for n in 0..4 {
            let bytes = format!("Subject: {n}\r\n\r\n");
            let message = NewMessage {
                bytes: bytes.as_bytes(),
                internaldate: EPOCH,
                system_flags: SystemFlags::SEEN,
                expunged: (n == 2).then_some(EPOCH + 1),
                ..NewMessage::default()
            };
            inbox.add(&message).expect("a message");
        }
        builder.finish_mailbox(inbox).expect("a mailbox");
        builder.subscribe("glad", "user.glad");
        let spool = builder.finish().expect("a spool");
        belongs_to_us(&spool.imapd_conf);
        let message = files(&spool.partition).into_iter().find(|path| path.ends_with("2."));
        fs::remove_file(message.expect("a message")).expect("a message");
        cylinder(backup_arguments(&spool, &scene.vault(), &["glad"])).expect(3);
        let ran = drill(&scene, &["--json"]);
        let report = ran.document();
        assert_eq!(ran.code, 0, "{era:?}: {report:#}");
        assert_eq!(report["accounts"][0]["messages_compared"], 3, "{era:?}: {report}");
    }
}

#[test]
fn a_message_that_is_not_its_guid_is_named_with_mailbox_and_uid() {
    let scene = Scene::grown();
    let (body, guid) = last_body(&scene);
    tamper(&segment(&scene, 3), |content| {
        let at = position(content, &body);
        content[at + 100] ^= 1;
    });
    let (document, _) = differences(&scene);
    let list = document["differences"].as_array().expect("a list");
    assert!(list.iter().any(|one| one["guid"] == guid.as_str()), "{document}");
    let placed = |one: &&Value| one["mailbox"] == "user.glad" && one["uid"] == 9;
    assert!(list.iter().any(|one| placed(&one)), "{document}");
    assert_eq!(document["messages_compared"], 8 + SENT, "the others are whole: {document}");
    let kept = document["kept"].as_str().expect("a place");
    assert!(Path::new(kept).join("plain/glad/messages").is_dir());
    let noted = &scene.history()["verified"];
    assert!(noted["findings"].as_u64() > Some(0), "{noted}");
}

#[test]
fn a_flipped_byte_in_an_index_is_said() {
    let scene = Scene::grown();
    let index = files(&scene.path("spool")).into_iter().find(|path| {
        let is_index = path.ends_with("cyrus.index");
        is_index && fs::metadata(path).expect("there").len() > 1000
    });
    let index = fs::read(index.expect("that of INBOX")).expect("an index");
    tamper(&segment(&scene, 3), |content| {
        let at = position(content, &index);
        content[at + 200] ^= 1;
    });
    let (_, text) = differences(&scene);
    assert!(text.contains("cannot be restored") && text.contains("cyrus.index"), "{text}");
}

/// What only plain tools look at: the way of a restore does not go over links.
#[test]
fn a_link_to_another_message_is_noticed_although_a_restore_is_right() {
    let scene = Scene::grown();
    let (_, guid) = last_body(&scene);
    let other = sample().mail.keys().find(|other| **other != guid).expect("another message");
    tamper(&segment(&scene, 3), |content| {
        let target = format!("glad/messages/{}/{guid}", &guid[..2]);
        // The first is the message's own header, the second the link to it.
        let own = position(content, target.as_bytes());
        let at = own + 1 + position(&content[own + 1..], target.as_bytes());
        assert_eq!(at % 512, 157, "a link's target");
        let block = at - 157;
        let changed = format!("glad/messages/{}/{other}", &other[..2]);
        content[at..at + changed.len()].copy_from_slice(changed.as_bytes());
        content[block + 148..block + 156].fill(b' ');
        let sum: u32 = content[block..block + 512].iter().map(|byte| u32::from(*byte)).sum();
        content[block + 148..block + 156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    });
    assert_eq!(scene.restored("3"), 9 + SENT);
    let (document, text) = differences(&scene);
    assert!(text.contains("another message than its record names"), "{text}");
    assert_eq!(document["differences"].as_array().expect("a list").len(), 1, "{document}");
}

#[test]
fn a_missing_segment_is_said_and_so_is_one_that_cannot_be_decoded() {
    let scene = Scene::grown();
    let path = segment(&scene, 2);
    let whole = fs::read(&path).expect("a segment");
    fs::remove_file(&path).expect("a segment");
    let (document, text) = differences(&scene);
    assert!(text.contains("continues a segment that is not there"), "{text}");
    assert_eq!(document["seq"], 1, "what is whole is tried: {document}");
    fs::write(&path, whole).expect("a segment");

    let size = usize::try_from(fs::metadata(&path).expect("there").len()).expect("small");
    damage::flip(&path, size / 3).expect("damage");
    fs::remove_dir_all(scene.path("drill")).expect("a directory");
    let (_, text) = differences(&scene);
    assert!(text.contains("plain tools cannot unpack 00000002-"), "{text}");

    fs::remove_dir_all(scene.path("drill")).expect("a directory");
    cylinder(["verify", "--vault", &scene.vault(), "--drill", "x", "--read-data"]).expect(2);
    let ran = drill(&scene, &["iris"]).expect(0);
    assert!(ran.stderr.contains("iris: snapshot 1 comes back"), "{}", ran.stderr);
}
