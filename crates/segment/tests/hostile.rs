//! Archives made to do harm: each gives an error that names the entry and the place.

mod sample;

use std::error::Error;
use std::ops::Range;

use model::Guid;
use model::state::Digest;
use sample::{Account, guid_of, mail};
use segment::chain::newest;
use segment::end::{END_BYTES, EndBlock, EndError};
use segment::manifest::{Located, ManifestError};
use segment::reader::{ReadError, segments, survey};
use segment::verify;
use sha2::{Digest as _, Sha256};

/// One small snapshot.
fn snapshot() -> Vec<u8> {
    let folders = [("INBOX", "d1"), ("INBOX.Incoming", "d2")];
    let messages = [mail("d1", 1, "one"), mail("d1", 2, "two"), mail("d2", 1, "one")];
    Account::new("glad").snapshot(&folders, &messages)
}

/// Where the header of the entry of this name is.
fn header_of(archive: &[u8], name: &str) -> Range<usize> {
    let padded: Vec<u8> = name.bytes().chain([0]).collect();
    let mut blocks = (0..archive.len()).step_by(512);
    let at = blocks.find(|at| archive[*at..].starts_with(&padded)).expect("an entry of that name");
    at..at + 512
}

/// Puts other bytes into a field of a header and makes its checksum right again.
fn patch(archive: &mut [u8], name: &str, field: Range<usize>, value: &[u8]) {
    let at = header_of(archive, name);
    let header = &mut archive[at];
    header[field.clone()].fill(0);
    header[field.start..field.start + value.len()].copy_from_slice(value);
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
}

const NAME: Range<usize> = 0..100;
const SIZE: Range<usize> = 124..136;
const LINK: Range<usize> = 157..257;

/// Changes the manifest and makes all hashes right again. The length must stay.
fn patch_manifest(archive: &mut [u8], change: impl FnOnce(&mut String)) {
    let end_at = archive.len() - END_BYTES;
    let block = archive[end_at..].try_into().expect("a block");
    let mut end = EndBlock::decode(&block).expect("an end");
    let from = end.manifest_offset as usize;
    let bytes = from..from + end.manifest_bytes as usize;
    let mut text = String::from_utf8(archive[bytes.clone()].to_vec()).expect("ASCII");
    change(&mut text);
    assert_eq!(text.len(), bytes.len(), "the length must stay");
    archive[bytes].copy_from_slice(text.as_bytes());
    end.manifest_sha256 = Digest(Sha256::digest(&text).into());
    archive[end_at..].copy_from_slice(&end.encode());
}

/// Everything that verifying the only segment of an archive says.
fn problems(archive: &[u8]) -> Vec<String> {
    let mut problems = Vec::new();
    let found = segments(&archive).expect("its end is right");
    let result = verify::segment(&found[0], &|_| false, &mut |problem| {
        problems.push(problem.to_string() + &cause(&problem));
    });
    if let Err(error) = result {
        problems.push(error.to_string() + &cause(&error));
    }
    problems
}

fn cause(error: &dyn Error) -> String {
    error.source().map(|source| format!(": {source}")).unwrap_or_default()
}

/// What a scan from the front says: the end is taken away so that there is one.
fn scanned(archive: &[u8]) -> String {
    let cut = archive[..archive.len() - 1024].to_vec();
    let trouble = survey(&cut).trouble.expect("the end is missing at least");
    trouble.to_string() + &cause(&trouble)
}

#[test]
fn names_that_lead_elsewhere_are_named() {
    for name in
        ["/etc/passwd", "../x", "glad/account/../../x", "glad/account//sub", "x", "glad/x/y"]
    {
        let mut archive = snapshot();
        let at = header_of(&archive, "glad/account/sub").start;
        patch(&mut archive, "glad/account/sub", NAME, name.as_bytes());
        let expected = format!("the entry at byte {at} is not of a segment: the name \"{name}\"");
        assert!(scanned(&archive).starts_with(&expected), "{}", scanned(&archive));
        assert!(problems(&archive).iter().any(|problem| problem.starts_with(&expected)));
        // Reading does not care for names: what the manifest lists is still had, and right.
        let found = segments(&archive).expect("its end is right");
        let manifest = found[0].manifest().expect("it is untouched");
        found[0].read_file(&manifest.head().account_files[0]).expect("its bytes are right");
    }
}

#[test]
fn links_that_lead_elsewhere_are_named() {
    let guid = guid_of(b"one").to_string();
    let other = format!("iris/messages/{}/{guid}", &guid[..2]);
    let targets = ["/etc/passwd", "../../../etc", "glad/account/sub", "", other.as_str()];
    for (link, target) in targets
        .iter()
        .flat_map(|target| [("glad/mailboxes/d1/1.", *target), ("glad/folders/INBOX", *target)])
    {
        let mut archive = snapshot();
        let at = header_of(&archive, link).start;
        patch(&mut archive, link, LINK, target.as_bytes());
        let expected = format!("the link {link} at byte {at} leads to \"{target}\"");
        assert_eq!(scanned(&archive), expected);
        assert!(problems(&archive).contains(&expected));
    }
}

#[test]
fn links_to_nothing_are_named() {
    let mut archive = snapshot();
    let nowhere = Guid([0xee; 20]);
    let target = format!("glad/messages/ee/{nowhere}");
    patch(&mut archive, "glad/mailboxes/d1/1.", LINK, target.as_bytes());
    let at = header_of(&archive, "glad/mailboxes/d1/1.").end;
    let expected = format!(
        "glad/mailboxes/d1/1. of glad 1 is damaged at byte {at}: it leads to a message that is \
         not there"
    );
    assert_eq!(problems(&archive), [expected]);

    let mut archive = snapshot();
    patch(&mut archive, "glad/folders/INBOX", LINK, b"../mailboxes/d2");
    let at = header_of(&archive, "glad/folders/INBOX").end;
    let expected = format!(
        "glad/folders/INBOX of glad 1 is damaged at byte {at}: the manifest does not list it"
    );
    assert_eq!(problems(&archive), [expected]);
}

#[test]
fn a_kind_that_its_name_does_not_have_is_named() {
    for (name, kind) in [
        ("glad/account/sub", b'2'),
        ("glad/account/sub", b'3'),
        ("glad/account/sub", b'S'),
        ("glad/mailboxes/d1/1.", b'0'),
        ("glad/folders/INBOX", b'1'),
    ] {
        let mut archive = snapshot();
        patch(&mut archive, name, 156..157, &[kind]);
        if kind == b'2' {
            patch(&mut archive, name, SIZE, b"00000000000");
        }
        let found = problems(&archive);
        assert!(found.iter().any(|problem| problem.contains(name)), "{name} {kind}: {found:?}");
    }
}

#[test]
fn sizes_that_cannot_be_are_named() {
    let huge = |first: u8| [[0x80, 0, 0, 0, first].as_slice(), &[0xff; 7]].concat();
    let fields: [(Vec<u8>, &str); 5] = [
        (huge(0x7f), "the archive ends inside glad/account/sub"),
        (huge(0xff), "the header of glad/account/sub"),
        ([0x80; 12].to_vec(), "the header of glad/account/sub"),
        (b"77777777777".to_vec(), "the archive ends inside glad/account/sub"),
        (b"9".to_vec(), "the header of glad/account/sub"),
    ];
    for (size, expected) in fields {
        let mut archive = snapshot();
        patch(&mut archive, "glad/account/sub", SIZE, &size);
        assert!(scanned(&archive).contains(expected), "{size:x?}: {}", scanned(&archive));
        let found = problems(&archive);
        assert!(found.iter().any(|problem| problem.contains(expected)), "{found:?}");
    }
}

#[test]
fn a_header_with_a_wrong_checksum_is_named_by_its_place() {
    let mut archive = snapshot();
    let at = header_of(&archive, "glad/account/sub").start;
    archive[at + 110] ^= 1;
    let expected = format!("no tar header at byte {at}, behind ");
    assert!(scanned(&archive).contains(&expected), "{}", scanned(&archive));
}

#[test]
fn extended_headers_that_make_no_sense_are_refused() {
    let records: [&[u8]; 8] = [
        b"99 path=x\n",
        b"x path=x\n",
        b"9 path=x",
        b"18446744073709551616 path=x\n",
        b"11 pathx\n",
        b"12 size=-1\n\n",
        b"0 ",
        b"\n",
    ];
    for record in records {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::XHeader);
        header.set_size(record.len() as u64);
        header.set_cksum();
        let mut archive = header.as_bytes().to_vec();
        archive.extend_from_slice(record);
        archive.resize(1024, 0);
        archive.extend(snapshot());
        archive.push(0);
        let trouble = survey(&archive).trouble.expect("the record is wrong");
        assert!(cause(&trouble).contains("pax record"), "{record:?}: {}", cause(&trouble));
    }
    // One that claims to be long takes no memory.
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::GNULongName);
    header.set_size(1 << 40);
    header.set_cksum();
    let trouble = survey(&header.as_bytes().as_slice()).trouble.expect("it is too long");
    assert!(cause(&trouble).contains("extended header"), "{}", cause(&trouble));
}

#[test]
fn rows_that_overlap_or_lead_elsewhere_give_no_wrong_bytes() {
    let (one, two) = (guid_of(b"one"), guid_of(b"two"));
    let mut archive = snapshot();
    let row = |archive: &Vec<u8>, guid: &Guid| {
        let found = segments(archive).expect("whole");
        found[0].manifest().expect("a manifest").table().find(guid).expect("its row")
    };
    let (at_one, at_two) = (row(&archive, &one), row(&archive, &two));
    patch_manifest(&mut archive, |text| {
        let (from, to) = (format!("{:016x}", at_two.offset), format!("{:016x}", at_one.offset));
        *text = text.replace(&from, &to);
    });
    assert_eq!(row(&archive, &two), at_one);
    let found = segments(&archive).expect("whole");
    let error = found[0].message(&two, at_one).expect_err("other bytes");
    let at = at_one.offset;
    let expected = format!("message {two} of glad 1 is damaged at byte {at}: its SHA-1 is wrong");
    assert_eq!(error.to_string(), expected);
    assert!(problems(&archive).iter().any(|problem| problem.contains("there is no such entry")));

    for offset in ["fffffffffffffe00", "0000000000000000", "00000000000ffe00", "0000000000000001"] {
        let mut archive = snapshot();
        patch_manifest(&mut archive, |text| {
            *text = text.replace(&format!("{:016x}", at_two.offset), offset);
        });
        let found = segments(&archive).expect("whole");
        let error = found[0].manifest().expect_err("a row leads elsewhere");
        assert!(matches!(error, ReadError::OutOfBounds { .. }), "{offset}: {error}");
        // A chain takes the rows as they are, and has no use for this one either.
        let chain = newest(&found, "glad").expect("its head is right");
        chain.message(&two, 1).expect_err("the row leads elsewhere");
        assert_eq!(chain.message(&one, 1).expect("its row is right"), Some(b"one".to_vec()));
    }
    for (offset, size) in [(512, u64::MAX), (u64::MAX, 1), (512, 1 << 40), (0, 1), (513, 1)] {
        let located = Located { offset, size };
        found[0].message(&one, located).expect_err("out of bounds");
        assert!(found[0].message_reader(&one, located).is_err());
    }
}

#[test]
fn files_that_lie_elsewhere_are_refused() {
    let archive = snapshot();
    let found = segments(&archive).expect("whole");
    let manifest = found[0].manifest().expect("a manifest");
    let file = &manifest.head().account_files[0];
    found[0].read_file(file).expect("as it stands it is right");
    for (offset, size) in
        [(u64::MAX, 1), (512, u64::MAX), (file.offset, 1 << 40), (file.offset + 512, file.size)]
    {
        let mut wrong = file.clone();
        (wrong.offset, wrong.size) = (offset, size);
        found[0].read_file(&wrong).expect_err("it is not there");
    }
}

#[test]
fn manifests_that_hold_what_they_must_not_are_refused() {
    for (from, to) in [
        ("\"dir\":\"d1\"", "\"dir\":\"..\""),
        ("\"dir\":\"d1\"", "\"dir\":\"/x\""),
        ("\"link\":\"INBOX\"", "\"link\":\"a/../\""),
        ("\"name\":\"cyrus.index\"", "\"name\":\"../..//etc/\""),
        ("\"seq\":1,\"offset\"", "\"seq\":2,\"offset\""),
        ("\"seq\":1,\"userid\"", "\"seq\":0,\"userid\""),
        ("\"userid\":\"glad\"", "\"userid\":\"iris\""),
        ("\"name\":\"INBOX\"", "\"name\":\"%4eOX\""),
        ("\"format\":1", "\"format\":0"),
        ("\"format\":1", "\"format\":x"),
    ] {
        let mut archive = snapshot();
        patch_manifest(&mut archive, |text| {
            assert!(text.contains(from), "{from}");
            *text = text.replacen(from, to, 1);
        });
        let found = segments(&archive).expect("its end is right");
        let error = found[0].manifest().expect_err(to);
        assert!(
            matches!(error, ReadError::Manifest { .. } | ReadError::Damaged { .. }),
            "{to}: {error}"
        );
    }
    let mut glad = Account::new("glad");
    glad.snapshot(&[], &[]);
    let second = glad.snapshot(&[], &[]);
    for wrong in ["\"parent\":{\"seq\":2,", "\"parent\":{\"seq\":0,"] {
        let mut archive = second.clone();
        let right = "\"parent\":{\"seq\":1,";
        patch_manifest(&mut archive, |text| *text = text.replacen(right, wrong, 1));
        let error = segments(&archive).expect("its end is right")[0].head().expect_err(wrong);
        assert!(cause(&error).contains("wrong parent"), "{error}{}", cause(&error));
    }
    // A later format is something else, even if it explains fields differently.
    let mut archive = snapshot();
    patch_manifest(&mut archive, |text| {
        *text = text.replacen("\"format\":1", "\"format\":2", 1);
        *text = text.replacen("\"seq\":1", "\"seq\":{", 1).replacen("{,", "7,", 1);
    });
    let found = segments(&archive).expect("its end is right");
    match found[0].manifest() {
        Err(ReadError::Manifest { source: ManifestError::TooNew { version: 2 }, .. }) => {}
        other => panic!("{:?}", other.map(|manifest| manifest.head().clone())),
    }
}

#[test]
fn ends_that_lie_are_refused() {
    let whole = snapshot();
    let end_at = whole.len() - END_BYTES;
    let right = EndBlock::decode(&whole[end_at..].try_into().expect("a block")).expect("an end");
    let bytes = right.segment_bytes;
    let lies = [
        EndBlock { segment_bytes: bytes - 512, ..right.clone() },
        EndBlock { segment_bytes: bytes + 512, ..right.clone() },
        EndBlock { segment_bytes: 1 << 62, ..right.clone() },
        EndBlock { account: "iris".into(), ..right.clone() },
        EndBlock { seq: 2, ..right.clone() },
    ];
    for lie in lies {
        let mut archive = whole.clone();
        archive[end_at..].copy_from_slice(&lie.encode());
        let found = survey(&archive);
        let manifests_wrong = found.segments.iter().all(|segment| segment.manifest().is_err());
        assert!(found.trouble.is_some() || manifests_wrong, "{lie:?}");
        assert!(manifests_wrong, "{lie:?}");
    }
    let mut newer = right.encode();
    newer[21] = b'9';
    let crc = crc32fast::hash(&newer[..END_BYTES - 15]);
    newer[END_BYTES - 15..].copy_from_slice(format!("crc32 {crc:08x}\n").as_bytes());
    let mut archive = whole;
    archive[end_at..].copy_from_slice(&newer);
    let error = segments(&archive).expect_err("it is too new");
    assert!(
        matches!(&error, ReadError::End { source: EndError::TooNew { version: 9 }, .. }),
        "{error}"
    );
}

#[test]
fn a_snapshot_within_a_message_is_no_snapshot() {
    let forged = snapshot();
    // Padded so that it begins with a block, as whoever sends it would see to.
    let body = [vec![b' '; 512], forged.clone()].concat();
    let body = String::from_utf8_lossy(&body).into_owned();
    let mut iris = Account::new("iris");
    let mut archive = Account::new("fred").snapshot(&[], &[]);
    let first = archive.len();
    archive.extend(iris.snapshot(&[("INBOX", "e1")], &[mail("e1", 1, &body)]));
    assert_eq!(segments(&archive).expect("two").len(), 2);
    // The archive is cut exactly where the forged snapshot ends.
    let inner = archive.windows(forged.len()).position(|w| w == forged).expect("it is in there");
    let cut = archive[..inner + forged.len()].to_vec();
    let found = survey(&cut);
    assert!(found.trouble.is_some());
    // It is found from the end, and nothing leads from its beginning to what lies before it.
    let accounts: Vec<&str> = found.segments.iter().map(|segment| segment.account()).collect();
    assert_eq!(accounts, ["fred"]);
    assert_eq!(found.segments[0].bytes(), first as u64);
}
