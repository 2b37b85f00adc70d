//! Damage of every kind: it is noticed, it takes away no more than it hit, and nothing panics.

mod sample;

use sample::{Account, guid_of, mail};
use segment::chain::newest;
use segment::manifest::ManifestHead;
use segment::reader::{ReadError, SegmentRef, segments, survey};
use segment::verify;

const BODIES: [&str; 4] = ["one", "two", "three", "four"];

/// Three snapshots of one account and one of another between them.
fn archive() -> Vec<u8> {
    let mut glad = Account::new("glad");
    let folders = [("INBOX", "d1"), ("INBOX.Incoming", "d2")];
    let mut archive = glad.snapshot(&folders, &[mail("d1", 1, "one"), mail("d2", 1, "two")]);
    archive.extend(Account::new("iris").snapshot(&[("INBOX", "e1")], &[mail("e1", 7, "else")]));
    archive.extend(glad.snapshot(&[("INBOX.New", "d2")], &[mail("d2", 2, "three")]));
    archive.extend(glad.snapshot(&[("INBOX", "d1")], &[mail("d1", 2, "four")]));
    archive
}

/// Where each segment begins and ends, whose it is, and its manifest.
fn bounds(archive: &[u8]) -> Vec<(u64, u64, ManifestHead)> {
    let found = segments(&archive).expect("an archive in order");
    let bounds = found.iter().map(|segment| {
        let head = segment.manifest().expect("a manifest").head().clone();
        (segment.start(), segment.start() + segment.bytes(), head)
    });
    bounds.collect()
}

/// Reads everything that can be had of an archive and compares it with the truth.
fn nothing_wrong_is_given(segments: &[SegmentRef<'_>], truth: &[(u64, u64, ManifestHead)]) {
    for segment in segments {
        if let Ok(manifest) = segment.manifest() {
            let (_, _, head) = truth
                .iter()
                .find(|(_, _, head)| {
                    (&*head.account, head.seq) == (segment.account(), segment.seq())
                })
                .expect("a segment that was written");
            assert_eq!(manifest.head(), head);
        }
    }
    let Ok(chain) = newest(segments, "glad") else { return };
    for body in BODIES {
        if let Ok(Some(bytes)) = chain.message(&guid_of(body.as_bytes()), u32::MAX) {
            assert_eq!(bytes, body.as_bytes());
        }
    }
    for snapshot in chain.snapshots() {
        let Ok(manifest) = snapshot.manifest() else { continue };
        for file in &manifest.head().mailboxes[0].files {
            if let Ok(bytes) = chain.file(file) {
                assert!(bytes.starts_with(b"index of d1 at "));
            }
        }
    }
}

#[test]
fn a_cut_archive_keeps_what_lies_before_the_cut() {
    let archive = archive();
    let truth = bounds(&archive);
    let blocks = (0..archive.len()).step_by(512);
    let odd = (0..archive.len()).step_by(101);
    for cut in blocks.chain(odd) {
        let part = archive[..cut].to_vec();
        let survey = survey(&part);
        let whole: Vec<u64> = truth.iter().filter(|t| t.1 <= cut as u64).map(|t| t.0).collect();
        let found: Vec<u64> = survey.segments.iter().map(SegmentRef::start).collect();
        assert_eq!(found, whole, "cut at {cut}");
        nothing_wrong_is_given(&survey.segments, &truth);
        let at_an_end = cut == 0 || truth.iter().any(|t| t.1 == cut as u64);
        assert_eq!(survey.trouble.is_none(), at_an_end, "cut at {cut}: {:?}", survey.trouble);
        if let Some(ReadError::Broken { last, .. } | ReadError::Unfinished { last, .. }) =
            survey.trouble
        {
            assert_eq!(last.0.is_some(), !whole.is_empty());
        }
    }
}

#[test]
fn the_error_of_a_cut_archive_names_the_entry_the_place_and_what_is_left() {
    let archive = archive();
    let third = bounds(&archive)[2].0;
    let body = archive.windows(5).position(|w| w == b"three").expect("the body");
    let part = archive[..body + 3].to_vec();
    let error = segments(&part).expect_err("it is cut");
    assert_eq!(error.to_string(), "the archive is not whole; the last whole snapshot is iris 1");
    let cause = std::error::Error::source(&error).expect("a cause").to_string();
    let guid = guid_of(b"three").to_string();
    let expected = format!(
        "the archive ends inside glad/messages/{}/{guid}, which begins at byte {}: 509 bytes are \
         missing at byte {}",
        &guid[..2],
        body - 512,
        body + 3
    );
    assert_eq!(cause, expected);

    let part = archive[..body + 512].to_vec();
    let error = segments(&part).expect_err("it is cut");
    let expected = format!(
        "the segment that begins at byte {third} has no end, its last entry is \
         glad/messages/{}/{guid}; the last whole snapshot is iris 1",
        &guid[..2]
    );
    assert_eq!(error.to_string(), expected);
}

#[test]
fn every_flipped_bit_is_noticed_and_none_is_believed() {
    // As little as there can be, because all of it is read for every bit.
    let mut archive = Account::new("iris").snapshot(&[], &[]);
    archive.extend(Account::new("glad").snapshot(&[("INBOX", "d1")], &[mail("d1", 1, "one")]));
    archive.extend(Account::new("fred").snapshot(&[], &[]));
    let truth = bounds(&archive);
    let mut damaged = archive.clone();
    let (from, to, _) = truth[1];
    for byte in from as usize..to as usize {
        // One bit of every byte, not always the same one.
        let bit = 1 << (byte * 5 % 8);
        damaged[byte] ^= bit;
        let survey = survey(&damaged);
        nothing_wrong_is_given(&survey.segments, &truth);
        let mut noticed = survey.trouble.is_some();
        for segment in survey.segments.iter().filter(|segment| segment.start() == from) {
            let result = verify::segment(segment, &|_| false, &mut |_| noticed = true);
            noticed |= result.is_err();
        }
        assert!(noticed, "byte {byte}");
        for neighbour in [truth[0].0, truth[2].0] {
            let there = survey.segments.iter().any(|segment| segment.start() == neighbour);
            assert!(there, "byte {byte} took away the segment at {neighbour}");
        }
        damaged[byte] ^= bit;
    }
}

#[test]
fn bytes_lost_in_the_middle_cost_the_segment_they_were_in() {
    let archive = archive();
    let truth = bounds(&archive);
    for (hit, at) in truth.iter().enumerate() {
        for (from, len) in [(at.0 + 512, 512), (at.0 + 700, 1), (at.1 - 1024, 1024), (at.0, 512)] {
            let (from, len) = (from as usize, len as usize);
            let mut damaged = archive.clone();
            damaged.drain(from..from + len);
            let survey = survey(&damaged);
            assert!(survey.trouble.is_some(), "{len} bytes lost at {from}");
            nothing_wrong_is_given(&survey.segments, &truth);
            let found: Vec<u64> = survey.segments.iter().map(SegmentRef::start).collect();
            let whole = truth.iter().enumerate().filter(|(n, _)| *n != hit);
            let whole: Vec<u64> =
                whole.map(|(n, t)| if n < hit { t.0 } else { t.0 - len as u64 }).collect();
            assert_eq!(found, whole, "{len} bytes lost at {from}");
        }
    }
}

#[test]
fn zeros_in_place_of_what_was_not_written_cost_the_last_segment_only() {
    let archive = archive();
    let truth = bounds(&archive);
    let last = truth[3].0 as usize;
    for cut in (last..archive.len()).step_by(128) {
        let mut zeroed = archive.clone();
        zeroed[cut..].fill(0);
        let survey = survey(&zeroed);
        assert_eq!(survey.segments.len(), 3, "zeros from {cut} on");
        assert_eq!(survey.trouble.is_none(), cut == last, "zeros from {cut} on");
        nothing_wrong_is_given(&survey.segments, &truth);
    }
}

#[test]
fn what_is_appended_behind_a_cut_is_found() {
    let mut glad = Account::new("glad");
    let first = glad.snapshot(&[("INBOX", "d1")], &[mail("d1", 1, "one")]);
    let second = glad.snapshot(&[("INBOX", "d1")], &[mail("d1", 2, &"two ".repeat(300))]);
    let iris = Account::new("iris").snapshot(&[("INBOX", "e1")], &[mail("e1", 1, "else")]);
    for cut in (1..second.len()).step_by(256).chain([3, 511, 700, second.len() - 1]) {
        let cut_off = [first.as_slice(), &second[..cut]].concat();
        for (more, seqs) in [
            (second.clone(), vec![("glad", 1), ("glad", 2)]),
            (iris.clone(), vec![("glad", 1), ("iris", 1)]),
            ([second.as_slice(), &iris].concat(), vec![("glad", 1), ("glad", 2), ("iris", 1)]),
        ] {
            let archive = [cut_off.as_slice(), &more].concat();
            let survey = survey(&archive);
            let found: Vec<(&str, u32)> =
                survey.segments.iter().map(|segment| (segment.account(), segment.seq())).collect();
            assert_eq!(found, seqs, "cut at {cut}");
            assert!(survey.trouble.is_some(), "cut at {cut}");
            for segment in &survey.segments {
                verify::segment(segment, &|_| true, &mut |problem| panic!("{problem}"))
                    .expect("a sound segment");
            }
        }
    }
}

#[test]
fn a_sound_segment_has_no_problems() {
    let archive = archive();
    let found = segments(&archive).expect("an archive in order");
    let chain = newest(&found, "glad").expect("a chain");
    let mut sum = verify::Counts::default();
    for snapshot in chain.snapshots() {
        let before =
            |guid: &_| chain.find_message(guid, snapshot.seq() - 1).expect("tables").is_some();
        let segment = snapshot.segment().expect("it is at hand");
        let counts = verify::segment(segment, &before, &mut |problem| {
            panic!("{problem}");
        });
        let counts = counts.expect("a sound segment");
        sum.messages += counts.messages;
        sum.hard_links += counts.hard_links;
        sum.files += counts.files;
    }
    // Two account files in each of three, and an index in each but two in the first.
    assert_eq!((sum.messages, sum.hard_links, sum.files), (4, 4, 6 + 4));
}
