//! An archive of every format that was ever released is read, and the newest is still written
//! byte for byte.

mod sample;

use std::fs;
use std::path::Path;

use sample::{Account, guid_of, mail};
use segment::chain::newest;
use segment::end::FORMAT;
use segment::reader::segments;
use segment::verify;

/// What every archive in `tests/data` holds: two accounts, one of them twice.
fn write() -> Vec<u8> {
    let mut glad = Account::new("glad");
    let folders = [("INBOX", "4f6a1b2c3d4e5f60"), ("INBOX.&AOQ-rger", "4f6a1b2c3d4e5f61")];
    let [inbox, other] = [folders[0].1, folders[1].1];
    let first = [mail(inbox, 1, "one\r\n"), mail(inbox, 2, "two\r\n"), mail(other, 1, "one\r\n")];
    let mut archive = glad.snapshot(&folders, &first);
    archive.extend(
        Account::new("ann smith@example.org").snapshot(&[("INBOX", "x1")], &[mail("x1", 9, "")]),
    );
    let renamed = [("INBOX.Renamed", other)];
    archive.extend(glad.snapshot(&renamed, &[mail(other, 2, "three\r\n")]));
    archive
}

fn data(format: u32) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = path.join(format!("tests/data/format-{format}.tar"));
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn every_released_format_is_read() {
    for format in 1..=FORMAT {
        let archive = data(format);
        let found = segments(&archive).expect("whole");
        let glad = newest(&found, "glad").expect("a chain");
        assert_eq!(glad.newest().expect("the second").seq(), 2);
        for body in [b"one\r\n".as_slice(), b"two\r\n", b"three\r\n"] {
            let read = glad.message(&guid_of(body), 2).expect("no damage");
            assert_eq!(read.as_deref(), Some(body));
        }
        let head = glad.at(2).expect("the second").manifest().expect("a manifest");
        let mailboxes: Vec<String> =
            head.head().mailboxes.iter().map(|mailbox| mailbox.name.to_string()).collect();
        assert_eq!(mailboxes, ["INBOX", "INBOX.Renamed"]);
        let ann = newest(&found, "ann%20smith@example.org").expect("a chain");
        assert_eq!(ann.message(&guid_of(b""), 1).expect("no damage").as_deref(), Some(&b""[..]));
        for segment in &found {
            verify::segment(segment, &|_| true, &mut |problem| panic!("{problem}"))
                .expect("a sound segment");
        }
    }
}

#[test]
fn the_newest_format_is_written_byte_for_byte() {
    assert!(write() == data(FORMAT), "what is written has changed");
}
