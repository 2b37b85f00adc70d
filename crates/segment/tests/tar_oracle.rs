//! The `tar` crate reads what is written here, and what it writes is read here.

mod sample;

use std::io::Read;

use sample::{ARRIVED, Account, guid_of, mail};
use segment::entry::{Kind, Random, Scan, Sequential, Tape};
use segment::names;
use segment::writer::SegmentWriter;

/// An entry as any program should see it.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    name: String,
    link: String,
    kind: char,
    mtime: u64,
    content: Vec<u8>,
}

fn seen_by_oracle(archive: &[u8]) -> Vec<Seen> {
    let mut archive = tar::Archive::new(archive);
    let entries = archive.entries().expect("a tar");
    let seen = entries.map(|entry| {
        let mut entry = entry.expect("an entry");
        let header = entry.header();
        assert_eq!(header.uid().expect("a uid"), 0);
        assert_eq!(header.gid().expect("a gid"), 0);
        assert_eq!(header.username().expect("ASCII"), Some("cyrus"));
        assert_eq!(header.groupname().expect("ASCII"), Some("mail"));
        let kind = match header.entry_type() {
            tar::EntryType::Regular => 'f',
            tar::EntryType::Link => 'h',
            tar::EntryType::Symlink => 's',
            tar::EntryType::Directory => 'd',
            other => panic!("{other:?}"),
        };
        let mode = match kind {
            'd' => 0o700,
            's' => 0o777,
            _ => 0o600,
        };
        assert_eq!(header.mode().expect("a mode"), mode);
        let mtime = header.mtime().expect("a time");
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("ASCII");
        let name = text(&entry.path_bytes());
        let link = entry.link_name_bytes().map(|link| text(&link)).unwrap_or_default();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).expect("its content");
        Seen { name, link, kind, mtime, content }
    });
    seen.collect()
}

fn seen_by_scan<T: Tape>(tape: T) -> Vec<Seen> {
    let mut scan = Scan::new(tape, 0);
    let mut seen = Vec::new();
    while let Some(entry) = scan.next_entry().expect("an archive in order") {
        let mut content = Vec::new();
        let mut piece = [0; 100];
        loop {
            match scan.read_content(&mut piece).expect("its content") {
                0 => break,
                read => content.extend_from_slice(&piece[..read]),
            }
        }
        assert_eq!(content.len() as u64, entry.size);
        let kind = match entry.kind {
            Kind::File => 'f',
            Kind::HardLink => 'h',
            Kind::Symlink => 's',
            Kind::Directory => 'd',
            Kind::Other(flag) => panic!("{flag}"),
        };
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("ASCII");
        let (name, link) = (text(entry.name), text(entry.link));
        let mtime = u64::try_from(entry.mtime).expect("after 1970");
        seen.push(Seen { name, link, kind, mtime, content });
    }
    seen
}

#[test]
fn both_see_the_same_in_a_segment() {
    // Every length of name from short over what a prefix takes to what needs pax.
    for length in [1, 40, 60, 61, 80, 99, 100, 101, 155, 156, 199, 200, 250] {
        let name = "n".repeat(length);
        let mut account = Account::new(&name);
        let dir = names::escape(name.as_bytes());
        let folders = [("INBOX", dir.as_str()), (name.as_str(), "d2")];
        let mut archive =
            account.snapshot(&folders, &[mail(&dir, 1, "one"), mail("d2", 4_294_967_295, "two")]);
        archive.extend(account.snapshot(&[], &[]));
        let oracle = seen_by_oracle(&archive);
        assert_eq!(seen_by_scan(Random::new(&archive, 0, u64::MAX)), oracle, "{length}");
        assert_eq!(seen_by_scan(Sequential(archive.as_slice())), oracle, "{length}");

        let account = dir.as_str();
        let guid = guid_of(b"one");
        let message = format!("{account}/messages/{}/{guid}", &guid.to_string()[..2]);
        let link = format!("{account}/mailboxes/{dir}/1.");
        let linked = oracle.iter().find(|seen| seen.name == link).expect("the hard link");
        assert_eq!((linked.kind, linked.link.as_str()), ('h', message.as_str()));
        assert_eq!(linked.mtime, ARRIVED as u64);
        let folder = oracle.iter().find(|seen| seen.kind == 's').expect("the symlink");
        assert_eq!(folder.link, format!("../mailboxes/{dir}"));
    }
}

#[test]
fn archives_of_other_programs_are_read() {
    let long = format!("{}/{}", "d".repeat(120), "n".repeat(120));
    let mut builder = tar::Builder::new(Vec::new());
    for mut header in [tar::Header::new_gnu(), tar::Header::new_ustar()] {
        header.set_size(5);
        header.set_mode(0o644);
        header.set_mtime(77);
        header.set_cksum();
        builder.append_data(&mut header, "short", b"hello".as_slice()).expect("memory takes it");
    }
    let mut header = tar::Header::new_gnu();
    header.set_size(0);
    header.set_mode(0o644);
    header.set_mtime(77);
    header.set_entry_type(tar::EntryType::Symlink);
    builder.append_link(&mut header, &long, &long).expect("memory takes it");
    // With its end marker, and another archive behind it.
    let closed = builder.into_inner().expect("memory takes it");
    let twice = [closed.clone(), closed].concat();
    let seen = seen_by_scan(Random::new(&twice, 0, u64::MAX));
    assert_eq!(seen.len(), 6);
    assert_eq!(seen[1].content, b"hello");
    assert_eq!((&seen[5].name, &seen[5].link), (&long, &long));
}

#[test]
fn a_message_past_eight_gibibytes_has_its_size() {
    /// Keeps the first block and counts the rest.
    struct Head(Vec<u8>, u64);
    impl std::io::Write for Head {
        fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
            let room = 512 - self.0.len().min(512);
            self.0.extend_from_slice(&buf[..buf.len().min(room)]);
            self.1 += buf.len() as u64;
            Ok(buf.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let size = (1u64 << 33) + 3;
    let mut writer = SegmentWriter::new(Head(Vec::new(), 0), "glad", 1, 0).expect("a writer");
    let guid = guid_of(b"not really");
    let mut body = writer.message_begin(&guid, size, 0).expect("a header");
    let piece = vec![0; 64 << 20];
    let mut left = size;
    while left > 0 {
        let len = left.min(piece.len() as u64);
        body.write(&piece[..len as usize]).expect("a piece");
        left -= len;
    }
    body.abandon().expect("the padding");
    let dir = writer.mailbox_dir("d1");
    dir.expect("the writer is sound after an abandoned message");
    assert_eq!(writer.bytes(), 512 + size.next_multiple_of(512) + 512);
    let head = segment::manifest::ManifestHead { userid: "glad".into(), ..Default::default() };
    let (Head(first, written), _) = writer.finish(head, &[]).expect("a segment");
    assert!(written > size);
    let header = tar::Header::from_byte_slice(&first);
    assert_eq!(header.entry_size().expect("a size"), size);
}
