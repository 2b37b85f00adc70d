//! What is written is read again, and the `tar` crate agrees on every entry.

mod sample;

use std::io::Read;

use sample::{Account, guid_of, mail};
use segment::reader::{segments, survey};

/// Two snapshots of one account and one of another, one behind the other.
fn archive() -> Vec<u8> {
    let mut glad = Account::new("glad");
    let mut iris = Account::new("iris@example.org");
    let folders = [("INBOX", "d1"), ("INBOX.Incoming", "d2")];
    let first = [mail("d1", 1, "one"), mail("d1", 2, "two"), mail("d2", 1, "one")];
    let mut archive = glad.snapshot(&folders, &first);
    archive.extend(iris.snapshot(&[("INBOX", "e1")], &[mail("e1", 7, "seven")]));
    archive.extend(glad.snapshot(&[("INBOX.New", "d2")], &[mail("d2", 2, "three")]));
    archive
}

#[test]
fn segments_are_found_and_give_back_what_went_in() {
    let archive = archive();
    let found = segments(&archive).expect("an archive in order");
    let list: Vec<(&str, u32)> = found.iter().map(|s| (s.account(), s.seq())).collect();
    assert_eq!(list, [("glad", 1), ("iris@example.org", 1), ("glad", 2)]);

    let manifest = found[0].manifest().expect("a manifest");
    assert_eq!(manifest.table().len(), 2);
    assert_eq!(manifest.head().totals.messages_new, 2);
    for body in ["one", "two"] {
        let guid = guid_of(body.as_bytes());
        let located = manifest.table().find(&guid).expect("it is in the table");
        assert_eq!(found[0].find(&guid).expect("its row"), Some(located));
        assert_eq!(found[0].rows().expect("the rows").find(&guid), Some(located));
        assert_eq!(found[0].message(&guid, located).expect("its bytes"), body.as_bytes());
        let mut streamed = String::new();
        let mut reader = found[0].message_reader(&guid, located).expect("it is in bounds");
        reader.read_to_string(&mut streamed).expect("its bytes");
        assert_eq!(streamed, body);
    }
    assert_eq!(manifest.table().find(&guid_of(b"three")), None);
    assert_eq!(found[0].find(&guid_of(b"three")).expect("rows"), None);
    assert_eq!(found[0].rows().expect("the rows").find(&guid_of(b"three")), None);
    let rows = found[0].rows().expect("the rows");
    assert!(rows.iter().eq(manifest.table().iter()));
    let sieve = &manifest.head().account_files[1];
    assert_eq!(sieve.name, "sieve/My \u{e4}.script");
    assert_eq!(found[0].read_file(sieve).expect("its bytes"), b"keep;\n");

    let second = found[2].manifest().expect("a manifest");
    let parent = second.head().parent.as_ref().expect("a parent");
    assert_eq!(parent.sha256, found[0].manifest_sha256());
    let unchanged = &second.head().mailboxes[0].files[0];
    assert_eq!(unchanged.seq, 1);
    found[0].read_file(unchanged).expect("a file of the parent");
    found[2].read_file(unchanged).expect_err("it is not in this segment");
}

#[test]
fn a_forward_scan_finds_the_same() {
    let mut archive = archive();
    let whole: Vec<u64> = segments(&archive).expect("whole").iter().map(|s| s.start()).collect();
    // More zeros than the way from the end passes over.
    archive.resize(archive.len() + 512 * 100, 0);
    let survey = survey(&archive);
    assert!(survey.trouble.is_none(), "{:?}", survey.trouble);
    assert_eq!(survey.segments.iter().map(|s| s.start()).collect::<Vec<_>>(), whole);
}

#[test]
fn a_manifest_is_json_as_a_whole() {
    let archive = archive();
    for segment in segments(&archive).expect("an archive in order") {
        let end = segment.end_block();
        let at = (segment.start() + end.manifest_offset) as usize;
        let bytes = &archive[at..at + end.manifest_bytes as usize];
        let document: serde_json::Value = serde_json::from_slice(bytes).expect("JSON");
        let rows = document["messages"].as_array().expect("an array");
        assert_eq!(rows.len() as u64, end.rows);
        let manifest = segment.manifest().expect("a manifest");
        for (row, text) in manifest.table().iter().zip(rows) {
            let expected = format!("{} {:016x} {:012x}", row.guid, row.offset, row.size);
            assert_eq!(text.as_str(), Some(expected.as_str()));
        }
    }
}
