//! The writer refuses what would make a segment that is none.

mod sample;

use std::io::{self, Write};

use model::state::Digest;
use model::{Guid, Uid};
use sample::guid_of;
use segment::manifest::{ManifestHead, Parent, TableRow};
use segment::reader::segments;
use segment::writer::{SEQ_MAX, SegmentWriter, WriteError};

fn writer() -> SegmentWriter<Vec<u8>> {
    SegmentWriter::new(Vec::new(), "glad", 1, 0).expect("a writer")
}

fn head() -> ManifestHead {
    ManifestHead { userid: "glad".into(), ..ManifestHead::default() }
}

#[test]
fn accounts_and_numbers_that_cannot_be_are_refused() {
    for account in ["", "..", "a/b", "a b", "a~b", &"x".repeat(201)] {
        assert!(SegmentWriter::new(Vec::new(), account, 1, 0).is_err(), "{account}");
    }
    for seq in [0, SEQ_MAX + 1, u32::MAX] {
        assert!(SegmentWriter::new(Vec::new(), "glad", seq, 0).is_err(), "{seq}");
    }
    assert!(SegmentWriter::new(Vec::new(), "glad", SEQ_MAX, 0).is_ok());
}

#[test]
fn names_that_would_lead_elsewhere_are_refused_and_the_segment_goes_on() {
    let mut writer = writer();
    let guid = guid_of(b"one");
    for dir in ["", ".", "..", "a/b", "../../x", "a\0", "a~", "a~1"] {
        assert!(writer.mailbox_dir(dir).is_err(), "{dir}");
        assert!(writer.mailbox_file(dir, "cyrus.index", 0, b"").is_err(), "{dir}");
        assert!(writer.hard_link(dir, Uid(1), &guid, 0).is_err(), "{dir}");
        assert!(writer.folder("INBOX", dir).is_err(), "{dir}");
    }
    for file in ["", "..", "a/b", "1.", "4294967295."] {
        let result = writer.mailbox_file("d1", file, 0, b"");
        assert!(matches!(result, Err(WriteError::Misnamed { .. })), "{file}");
    }
    for link in ["", "..", "a/b", "a~1", "~2"] {
        let result = writer.folder(link, "d1");
        assert!(matches!(result, Err(WriteError::Misnamed { .. })), "{link}");
    }
    let zero = writer.hard_link("d1", Uid(0), &guid, 0);
    assert!(matches!(zero, Err(WriteError::Misnamed { .. })));
    assert_eq!(writer.bytes(), 0, "nothing was written for them");
    writer.account_file("../../etc/passwd", 0, b"harmless").expect("it is escaped");
    let (segment, _) = writer.finish(head(), &[]).expect("a segment");
    let found = segments(&segment).expect("whole");
    let manifest = found[0].manifest().expect("a manifest");
    assert_eq!(manifest.head().totals.messages_new, 0);
}

#[test]
fn a_body_of_another_length_is_an_error() {
    let guid = guid_of(b"hello");
    let mut short = writer();
    let mut body = short.message_begin(&guid, 5, 0).expect("a header");
    body.write(b"hell").expect("it fits");
    let result = body.finish();
    assert!(matches!(result, Err(WriteError::BodyLength { announced: 5, found: 4, .. })));
    assert!(matches!(short.mailbox_dir("d1"), Err(WriteError::GivenUp)));
    assert!(matches!(short.finish(head(), &[]), Err(WriteError::GivenUp)));

    let mut long = writer();
    let mut body = long.message_begin(&guid, 5, 0).expect("a header");
    body.write(b"hel").expect("it fits");
    let result = body.write(b"low");
    assert!(matches!(result, Err(WriteError::BodyLength { announced: 5, found: 6, .. })));
    body.write(b"lo").expect("the longer piece was not taken");
    let offset = body.finish().expect("as long as announced");
    let row = TableRow { guid, offset, size: 5 };
    let (segment, _) = long.finish(head(), &[row]).expect("a segment");
    let found = segments(&segment).expect("whole");
    let located = found[0].manifest().expect("a manifest").table().find(&guid).expect("its row");
    assert_eq!(found[0].message(&guid, located).expect("its bytes"), b"hello");

    let mut dropped = writer();
    drop(dropped.message_begin(&guid, 5, 0));
    assert!(matches!(dropped.message(&guid, 0, b"hello"), Err(WriteError::GivenUp)));
}

#[test]
fn an_abandoned_body_is_no_message() {
    let (bad, good) = (guid_of(b"bad"), guid_of(b"good"));
    let mut writer = writer();
    let mut body = writer.message_begin(&bad, 20_000, 0).expect("a header");
    body.write(b"only so much was to be had").expect("it fits");
    body.abandon().expect("zeros");
    let offset = writer.message(&good, 0, b"good").expect("a message");
    let row = TableRow { guid: good, offset, size: 4 };
    let (segment, finished) = writer.finish(head(), &[row]).expect("a segment");
    assert_eq!(finished.head.totals.messages_new, 1);
    let found = segments(&segment).expect("whole");
    let counts =
        segment::verify::segment(&found[0], &|_| false, &mut |problem| panic!("{problem}"));
    let counts = counts.expect("sound");
    assert_eq!((counts.messages, counts.abandoned), (1, 1));
}

#[test]
fn a_table_that_is_not_what_was_written_is_refused() {
    let rows = |writer: &mut SegmentWriter<Vec<u8>>| {
        let mut rows: Vec<TableRow> = [b"one".as_slice(), b"two", b"three"]
            .map(|body| {
                let guid = guid_of(body);
                let offset = writer.message(&guid, 0, body).expect("a message");
                TableRow { guid, offset, size: body.len() as u64 }
            })
            .to_vec();
        rows.sort_by_key(|row| row.guid);
        rows
    };
    let changes: [fn(&mut Vec<TableRow>); 6] = [
        |rows| rows.swap(0, 1),
        |rows| rows.truncate(2),
        |rows| rows.push(rows[2]),
        |rows| rows.push(TableRow { guid: Guid([0xff; 20]), offset: 512, size: 1 }),
        |rows| rows[1].offset += 512,
        |rows| rows[1].size += 1,
    ];
    for change in changes {
        let mut writer = writer();
        let mut rows = rows(&mut writer);
        change(&mut rows);
        assert!(matches!(writer.finish(head(), &rows), Err(WriteError::Table(_))));
    }
    let mut writer = writer();
    let rows = rows(&mut writer);
    writer.finish(head(), &rows).expect("as they were");
}

#[test]
fn a_head_that_contradicts_the_segment_is_refused() {
    let parent = Parent { seq: 1, sha256: Digest([1; 32]) };
    let chain = Some(Digest([2; 32]));
    let child = ManifestHead { parent: Some(parent.clone()), chain, ..head() };
    for (seq, head) in [
        (1, ManifestHead { userid: "iris".into(), ..head() }),
        (1, child.clone()),
        (2, ManifestHead { parent: Some(Parent { seq: 2, ..parent.clone() }), ..child.clone() }),
        (2, ManifestHead { parent: Some(Parent { seq: 0, ..parent.clone() }), ..child.clone() }),
        (2, ManifestHead { chain: None, ..child.clone() }),
        (2, ManifestHead { parent: None, ..child.clone() }),
    ] {
        let writer = SegmentWriter::new(Vec::new(), "glad", seq, 0).expect("a writer");
        assert!(matches!(writer.finish(head, &[]), Err(WriteError::Head(_))), "{seq}");
    }
    for (seq, head) in [(2, child.clone()), (7, child), (1, head()), (7, head())] {
        let writer = SegmentWriter::new(Vec::new(), "glad", seq, 0).expect("a writer");
        writer.finish(head, &[]).expect("it fits");
    }
}

#[test]
fn a_sink_that_fails_at_any_byte_leaves_no_segment() {
    /// Takes so many bytes and no more.
    struct Short<'a>(&'a mut Vec<u8>, usize);
    impl Write for Short<'_> {
        fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
            let len = buf.len().min(self.1 - self.0.len());
            if len == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.0.extend_from_slice(&buf[..len]);
            Ok(len)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let write = |limit: usize| {
        let mut taken = Vec::new();
        let body = vec![b'x'; 3 << 20];
        let guid = guid_of(&body);
        let mut writer =
            SegmentWriter::new(Short(&mut taken, limit), "glad", 1, 0).expect("a writer");
        let result = writer.message(&guid, 0, &body).and_then(|offset| {
            let row = TableRow { guid, offset, size: body.len() as u64 };
            writer.finish(head(), &[row])
        });
        let written = result.map(|(_, finished)| finished.bytes as usize);
        (written, taken)
    };
    let whole = write(usize::MAX).0.expect("room for all");
    for limit in [0, 1, 511, 512, 1 << 20, 3 << 20, whole - 1024, whole - 512, whole - 1] {
        let (result, taken) = write(limit);
        assert!(matches!(result, Err(WriteError::Write { .. })), "{limit}");
        assert_eq!(taken.len(), limit);
        assert!(limit == 0 || segments(&taken).is_err(), "{limit}");
    }
    assert_eq!(write(whole).0.expect("just enough"), whole);
}
