//! What `cylinder audit` reports of a message that is not what its record says.

use std::fs;
use std::os::unix::fs::MetadataExt;

use serde_json::{Value, json};
use testkit::damage::{self, Checksum};
use testkit::imap::guid_of;

use super::auditing_damage::{Scene, audit, findings, named};

fn places(places: &[(&str, u32)]) -> Value {
    places.iter().map(|(mailbox, uid)| json!({ "mailbox": mailbox, "uid": uid })).collect()
}

#[test]
fn a_message_that_is_missing_is_told_with_the_copies_that_are_left() {
    let scene = Scene::new();
    damage::remove_message(&scene.inbox, 1).expect("damage");
    damage::remove_message(&scene.inbox, 5).expect("damage");
    let found = scene.check(&[("message-missing", Some(1)), ("message-missing", Some(5))]);
    let custody = &found[0]["custody"];
    assert_eq!((&custody["nature"], &custody["found"]), (&"missing".into(), &Value::Null));
    assert_eq!(custody["recorded"]["guid"], guid_of(&scene.mail[0]).to_string());
    assert_eq!(custody["good_copies"], places(&[("user.glad.Sent", 1)]));
    assert_eq!(found[1]["custody"]["good_copies"], places(&[]));
    let said = audit(&scene.conf, &["glad"]).expect(4).text();
    assert!(said.contains("finding: message-missing: user.glad uid 1: its file is not there\n"));
    assert!(said.contains("  good copy user.glad.Sent uid 1\n"), "{said}");
    assert!(said.contains("  good copy none in this spool\n"), "{said}");
    assert!(said.contains("  to do: "), "{said}");
    assert!(said.contains("1 account, 2 mailboxes, 8 messages, by their sizes: 2 findings"));
}

#[test]
fn one_flipped_bit_is_named_and_a_good_copy_is_found_in_another_account() {
    let scene = Scene::new();
    let mut bytes = scene.mail[2].clone();
    bytes[300] ^= 0x20;
    fs::write(scene.message(3), &bytes).expect("damage");
    let found = scene.check_read(&[(3, "flipped-bit")]);
    assert_eq!(found[0]["what"], "bit 5 of byte 300 is flipped");
    assert_eq!(found[0]["good_copies"], places(&[("user.iris", 3)]));
    assert_eq!(found[0]["difference"], json!({ "first": 300, "bytes": 1, "bits": 1 }));
    assert_eq!(found[0]["found"]["guid"], guid_of(&bytes).to_string());
    // Its size is right, and nothing else of it is read.
    assert_eq!(scene.document(&["glad", "--quick"], 0)["findings"], 0);
}

#[test]
fn a_truncation_through_a_hard_link_is_told_of_every_name() {
    let scene = Scene::new();
    damage::truncate(&scene.message(1), 200).expect("damage");
    let found = scene.check_read(&[(1, "truncated")]);
    assert_eq!(found.len(), 2, "{found:#?}");
    assert_eq!(found[0]["shared_by"], places(&[("user.glad.Sent", 1)]));
    assert_eq!(found[1]["shared_by"], places(&[("user.glad", 1)]));
    assert_eq!(found[1]["nature"], "truncated");
    let inode = fs::metadata(scene.message(1)).expect("there").ino();
    for custody in &found {
        assert_eq!(
            (&custody["found"]["inode"], &custody["found"]["links"]),
            (&inode.into(), &2.into())
        );
        assert_eq!(custody["good_copies"], places(&[("user.iris", 1)]));
        assert_eq!(custody["difference"]["first"], scene.mail[0].len() - 200);
    }
    let quick = findings(&scene.document(&["glad", "--quick"], 4));
    assert_eq!(
        quick.iter().map(named).collect::<Vec<_>>(),
        [("guid-mismatch".to_owned(), Some(1)), ("guid-mismatch".to_owned(), Some(1)),]
    );
}

#[test]
fn a_message_written_over_through_a_hard_link_is_told_with_the_one_that_did_it() {
    let scene = Scene::new();
    // As 2.3 did it: what waited for message 6 was a link of message 2, left there by a process of the
    // same number, and was opened for writing.
    fs::write(scene.message(2), &scene.mail[5]).expect("damage");
    fs::remove_file(scene.message(6)).expect("damage");
    fs::hard_link(scene.message(2), scene.message(6)).expect("damage");
    let found = scene.check_read(&[(2, "overwritten-through-link")]);
    assert_eq!(found.len(), 2, "{found:#?}");
    for custody in &found {
        assert_eq!(custody["bytes_of"], places(&[("user.glad", 6)]));
        assert_eq!(custody["good_copies"], places(&[("user.iris", 2)]));
    }
    assert_eq!(found[0]["shared_by"], places(&[("user.glad", 6), ("user.glad.Sent", 2)]));
    let said = audit(&scene.conf, &["--all", "--full"]).expect(4).text();
    assert!(said.contains("another message was written over it through a hard link"), "{said}");
}

#[test]
fn swapped_files_are_told_with_each_other_as_good_copies() {
    let scene = Scene::new();
    let (four, five) = (scene.message(4), scene.message(5));
    fs::rename(&four, scene.path("held")).expect("damage");
    fs::rename(&five, &four).expect("damage");
    fs::rename(scene.path("held"), &five).expect("damage");
    let found = scene.check_read(&[(4, "swapped"), (5, "swapped")]);
    assert_eq!(found[0]["bytes_of"], places(&[("user.glad", 5)]));
    assert_eq!(found[0]["good_copies"], places(&[("user.glad", 5)]));
    assert_eq!(found[1]["good_copies"], places(&[("user.glad", 4)]));
}

#[test]
fn a_record_with_the_guid_of_another_is_told_from_a_damaged_message() {
    let scene = Scene::new();
    let guid = guid_of(&scene.mail[4]);
    damage::edit_record(&scene.index(), 3, Checksum::Fixed, |record| {
        record[60..80].copy_from_slice(&guid.0);
    })
    .expect("damage");
    let found = scene.check_read(&[(4, "wrong-record")]);
    assert_eq!(found[0]["recorded"]["guid"], guid.to_string());
    assert_eq!(found[0]["found"]["guid"], guid_of(&scene.mail[3]).to_string());
    let all = findings(&scene.document(&["glad", "--full"], 4));
    assert_eq!(named(&all[0]).0, "sync-crc", "{all:#?}");
}

#[test]
fn line_ends_additions_and_holes_are_told_for_what_they_are() {
    type Damage = fn(&[u8]) -> Vec<u8>;
    let damages: [(&str, Damage); 5] = [
        ("line-ends-lf", |bytes| bytes.iter().copied().filter(|byte| *byte != b'\r').collect()),
        ("grown", |bytes| [bytes, b"and more\r\n"].concat()),
        ("zero-filled", |bytes| [&bytes[..400], &vec![0; bytes.len() - 400]].concat()),
        ("truncated", |bytes| bytes[..bytes.len() - 1].to_vec()),
        ("changed", |bytes| bytes.iter().map(|byte| byte ^ 1).collect()),
    ];
    for (nature, damage) in damages {
        let scene = Scene::new();
        fs::write(scene.message(3), damage(&scene.mail[2])).expect("damage");
        let found = scene.check_read(&[(3, nature)]);
        assert_eq!(found[0]["good_copies"], places(&[("user.iris", 3)]), "{nature}");
    }
    // The other way round: somebody has stored a message with bare LF, and it was "repaired".
    let scene = Scene::new();
    let bare: Vec<u8> = scene.mail[3].iter().copied().filter(|byte| *byte != b'\r').collect();
    damage::edit_record(&scene.index(), 3, Checksum::Fixed, |record| {
        record[60..80].copy_from_slice(&guid_of(&bare).0);
    })
    .expect("damage");
    scene.check_read(&[(4, "line-ends-crlf")]);
}

#[test]
fn a_record_with_a_wrong_size_has_good_bytes() {
    let scene = Scene::new();
    damage::edit_record(&scene.index(), 3, Checksum::Fixed, |record| record[12..16].fill(0x11))
        .expect("damage");
    let expected = [("index-counters", None), ("size-mismatch", Some(4))];
    let found = scene.check(&expected);
    let custody = found.iter().find(|found| !found["custody"].is_null()).expect("a report");
    assert_eq!(custody["custody"]["nature"], "wrong-size");
}
