//! Chains: in order, as far as they go, and nothing that does not belong.

mod sample;

use sample::{Account, guid_of, mail, taken_at};
use segment::chain::{ChainError, accounts, chains, newest};
use segment::reader::{SegmentRef, segments};

/// Five snapshots of one account, each as a file of its own.
fn five() -> Vec<Vec<u8>> {
    let mut glad = Account::new("glad");
    let bodies = ["one", "two", "three", "four", "five"];
    let snapshots = (1..).zip(bodies);
    snapshots
        .map(|(uid, body)| glad.snapshot(&[("INBOX", "d1")], &[mail("d1", uid, body)]))
        .collect()
}

/// The segments of all these files.
fn all(files: &[Vec<u8>]) -> Vec<SegmentRef<'_>> {
    files.iter().flat_map(|file| segments(file).expect("a whole file")).collect()
}

/// Changes a letter of the manifest's first line.
fn damage_manifest(segment: &mut [u8]) {
    let at = segment.windows(7).position(|w| w == b"program").expect("the field");
    segment[at] = b'P';
}

#[test]
fn segments_in_any_order_and_twice_make_one_chain() {
    let mut files = five();
    files.push(files[2].clone());
    files.reverse();
    let iris = Account::new("iris").snapshot(&[], &[mail("e1", 1, "else")]);
    files.push(iris);
    let segments = all(&files);
    assert_eq!(accounts(&segments), ["glad", "iris"]);
    let chain = newest(&segments, "glad").expect("a chain");
    assert_eq!(chain.account(), "glad");
    assert!(chain.trouble().is_none());
    let seqs: Vec<u32> = chain.snapshots().iter().map(|snapshot| snapshot.seq()).collect();
    assert_eq!(seqs, [1, 2, 3, 4, 5]);
    assert_eq!(chain.newest().expect("the fifth").seq(), 5);
    assert_eq!(chain.at(3).expect("the third").taken_at_unix(), taken_at(3));
    assert!(matches!(chain.at(6), Err(ChainError::NoSnapshot { seq: 6, last: 5, .. })));
    assert!(matches!(newest(&segments, "fred"), Err(ChainError::NoAccount { .. })));
}

#[test]
fn a_snapshot_is_found_by_time() {
    let files = five();
    let chain = newest(&all(&files), "glad").expect("a chain");
    for (time, seq) in [(0, 1), (1, 1), (3599, 1), (3600, 2), (1_000_000, 5)] {
        assert_eq!(chain.at_time(taken_at(1) + time).expect("a snapshot").seq(), seq, "{time}");
    }
    assert!(matches!(chain.at_time(taken_at(1) - 1), Err(ChainError::NothingYet { .. })));
}

#[test]
fn messages_and_files_come_from_where_they_were_stored() {
    let files = five();
    let segments = all(&files);
    let chain = newest(&segments, "glad").expect("a chain");
    let four = guid_of(b"four");
    assert!(chain.find_message(&four, 3).expect("tables").is_none());
    let (segment, located) =
        chain.find_message(&four, 5).expect("tables").expect("it is in the fourth");
    assert_eq!((segment.seq(), located.size), (4, 4));
    assert_eq!(chain.message(&four, 5).expect("its bytes"), Some(b"four".to_vec()));
    assert_eq!(chain.message(&guid_of(b"six"), 5).expect("no damage"), None);

    let newest = chain.newest().expect("the fifth").manifest().expect("its manifest");
    let index = &newest.head().mailboxes[0].files[0];
    assert!(chain.file(index).expect("its bytes").starts_with(b"index of d1"));
    let mut elsewhere = index.clone();
    elsewhere.seq = 9;
    chain.file(&elsewhere).expect_err("there is no ninth segment");
}

#[test]
fn a_hole_is_named_and_what_lies_before_it_stays() {
    let mut files = five();
    files.remove(2);
    let segments = all(&files);
    let chain = newest(&segments, "glad").expect("a chain");
    let error = chain.newest().err().expect("the third is missing");
    assert!(matches!(error, ChainError::Hole { missing: 3, next: 4, .. }), "{error}");
    assert_eq!(error.to_string(), "snapshot 3 of glad is missing, and 4 is based on it");
    assert!(matches!(chain.at(5), Err(ChainError::Hole { .. })));
    assert_eq!(chain.at(2).expect("the second").seq(), 2);
    assert!(matches!(chain.at_time(taken_at(5)), Err(ChainError::Hole { .. })));
    assert_eq!(chain.at_time(taken_at(3)).expect("the second").seq(), 2);

    let late = chains(&segments[1..], "glad").expect("there are some");
    assert_eq!(late.len(), 1);
    assert!(late[0].snapshots().is_empty());
    assert!(matches!(late[0].newest(), Err(ChainError::Hole { missing: 1, next: 2, .. })));
}

/// Three snapshots whose numbers ascend, but not by one.
fn with_gaps() -> Vec<Vec<u8>> {
    let mut glad = Account::new("glad");
    let mut files = Vec::new();
    for (uid, seq) in (1..).zip([3, 7, 8]) {
        glad.skip_to(seq);
        files.push(glad.snapshot(&[("INBOX", "d1")], &[mail("d1", uid, &format!("body {seq}"))]));
    }
    files
}

#[test]
fn numbers_ascend_and_not_by_one() {
    let mut files = with_gaps();
    let segments = all(&files);
    let chain = newest(&segments, "glad").expect("a chain");
    let seqs: Vec<u32> = chain.snapshots().iter().map(|snapshot| snapshot.seq()).collect();
    assert_eq!(seqs, [3, 7, 8]);
    assert_eq!(chain.newest().expect("the last").seq(), 8);
    assert_eq!(chain.at(7).expect("the second").seq(), 7);
    for seq in [1, 4, 9] {
        assert!(matches!(chain.at(seq), Err(ChainError::NoSnapshot { last: 8, .. })), "{seq}");
    }
    for body in ["body 3", "body 7", "body 8"] {
        let bytes = chain.message(&guid_of(body.as_bytes()), 8).expect("no damage");
        assert_eq!(bytes, Some(body.as_bytes().to_vec()));
    }

    let late = newest(&segments[1..], "glad").expect("a chain");
    assert!(matches!(late.newest(), Err(ChainError::Hole { missing: 3, next: 7, .. })));
    damage_manifest(&mut files[1]);
    let segments = all(&files);
    let chain = newest(&segments, "glad").expect("a chain");
    assert!(matches!(chain.newest(), Err(ChainError::Manifest { seq: 7, .. })));
    assert_eq!(chain.snapshots().len(), 1);
    files.remove(1);
    let segments = all(&files);
    let chain = newest(&segments, "glad").expect("a chain");
    assert!(matches!(chain.newest(), Err(ChainError::Hole { missing: 7, next: 8, .. })));
}

#[test]
fn a_part_is_continued_but_never_is_a_snapshot() {
    let mut glad = Account::new("glad");
    let files = [
        glad.part(&["one", "two"]),
        glad.part(&["three"]),
        glad.snapshot(&[("INBOX", "d1")], &[mail("d1", 1, "four")]),
        glad.part(&["five"]),
    ];
    let segments = all(&files);
    let chain = newest(&segments, "glad").expect("a chain");
    let parts: Vec<bool> = chain.snapshots().iter().map(|snapshot| snapshot.is_part()).collect();
    assert_eq!(parts, [true, true, false, true]);
    assert_eq!(chain.newest().expect("the third").seq(), 3);
    assert_eq!(chain.tip().expect("the fourth").seq(), 4);
    assert_eq!(chain.at_time(taken_at(9)).expect("the third").seq(), 3);
    assert!(matches!(chain.at_time(taken_at(2)), Err(ChainError::NothingYet { first, .. })
        if first == "hour 3"));
    for seq in [1, 2, 4] {
        assert!(matches!(chain.at(seq), Err(ChainError::NoSnapshot { last: 3, .. })), "{seq}");
    }
    for body in ["one", "three", "four", "five"] {
        let bytes = chain.message(&guid_of(body.as_bytes()), 4).expect("no damage");
        assert_eq!(bytes, Some(body.as_bytes().to_vec()));
    }
    let nothing_but_parts = newest(&segments[..2], "glad").expect("a chain");
    assert!(matches!(nothing_but_parts.newest(), Err(ChainError::NoAccount { .. })));
    assert_eq!(nothing_but_parts.tip().expect("the second").seq(), 2);
}

#[test]
fn a_foreign_parent_is_named() {
    let files = five();
    // Another chain of the same account: same numbers, other segments.
    let other = Account::new("glad").snapshot(&[("INBOX", "d1")], &[mail("d1", 1, "other")]);
    let mixed = [other.clone(), files[1].clone()];
    let segments = all(&mixed);
    let chains = chains(&segments, "glad").expect("two chains");
    assert_eq!(chains.len(), 2);
    let broken = chains.iter().find(|chain| chain.trouble().is_some()).expect("one is broken");
    let first = all(&files)[0].manifest_sha256();
    match broken.newest() {
        Err(ChainError::ForeignParent { seq: 2, wanted, found, .. }) => {
            assert_eq!(wanted, first);
            assert_eq!(found, Some(segments[0].manifest_sha256()));
        }
        _ => panic!("a foreign parent was expected"),
    }

    // Two whole chains: the newer one is the default, and both are there.
    let two = all(&files).into_iter().chain(segments.iter().take(1).cloned());
    let two: Vec<SegmentRef<'_>> = two.collect();
    assert_eq!(newest(&two, "glad").expect("a chain").snapshots().len(), 5);
    assert_eq!(segment::chain::chains(&two, "glad").expect("two").len(), 2);
}

#[test]
fn a_fork_names_both_children() {
    let files = five();
    let mut twin = Account::new("glad");
    assert_eq!(twin.snapshot(&[("INBOX", "d1")], &[mail("d1", 1, "one")]), files[0]);
    let sibling = twin.snapshot(&[("INBOX", "d1")], &[mail("d1", 2, "another two")]);
    let mixed = [files[0].clone(), files[1].clone(), sibling, files[2].clone()];
    let segments = all(&mixed);
    let chain = newest(&segments, "glad").expect("a chain");
    match chain.newest() {
        Err(ChainError::Fork { seq: 2, one, other, .. }) => {
            let mut named = [one, other];
            let mut children = [segments[1].manifest_sha256(), segments[2].manifest_sha256()];
            named.sort();
            children.sort();
            assert_eq!(named, children);
        }
        _ => panic!("a fork was expected"),
    }
    assert_eq!(chain.at(1).expect("the common parent").seq(), 1);
}

#[test]
fn a_fork_is_one_whatever_the_numbers_of_its_branches() {
    let mut glad = Account::new("glad");
    let mut twin = Account::new("glad");
    let first = glad.snapshot(&[("INBOX", "d1")], &[mail("d1", 1, "one")]);
    assert_eq!(twin.snapshot(&[("INBOX", "d1")], &[mail("d1", 1, "one")]), first);
    let second = glad.snapshot(&[("INBOX", "d1")], &[mail("d1", 2, "two")]);
    let third = glad.snapshot(&[("INBOX", "d1")], &[mail("d1", 3, "three")]);
    twin.skip_to(5);
    let fifth = twin.snapshot(&[("INBOX", "d1")], &[mail("d1", 2, "another two")]);
    let files = [first, second, third, fifth];
    let segments = all(&files);
    let chain = newest(&segments, "glad").expect("a chain");
    let error = chain.newest().err().expect("there are two branches");
    let [one, other] = [&segments[1], &segments[3]].map(|segment| segment.manifest_sha256());
    assert_eq!(
        error.to_string(),
        format!("snapshots 2 and 5 of glad continue the same one: {one} and {other}")
    );
    assert_eq!(chain.snapshots().len(), 1, "what precedes it is there");
}

#[test]
fn a_damaged_manifest_is_told_from_a_hole() {
    let mut files = five();
    damage_manifest(&mut files[1]);
    let segments = all(&files);
    let chain = newest(&segments, "glad").expect("a chain");
    assert!(matches!(chain.newest(), Err(ChainError::Manifest { seq: 2, .. })));
    assert_eq!(chain.snapshots().len(), 1);
    // Nothing but damage.
    let error = newest(&segments[1..2], "glad").err().expect("nothing is readable");
    assert!(matches!(error, ChainError::Manifest { seq: 2, .. }));
}

#[test]
fn an_older_snapshot_never_stands_in_for_a_damaged_newest_one() {
    let mut files = five();
    let whole = files[4].clone();
    damage_manifest(&mut files[4]);
    let segments = all(&files);
    let chain = newest(&segments, "glad").expect("a chain");
    assert!(matches!(chain.newest(), Err(ChainError::Manifest { seq: 5, .. })));
    assert!(matches!(chain.at(5), Err(ChainError::Manifest { seq: 5, .. })));
    assert!(matches!(chain.at_time(taken_at(9)), Err(ChainError::Manifest { .. })));
    assert_eq!(chain.at(4).expect("the fourth").seq(), 4);
    assert_eq!(chain.at_time(taken_at(4) - 1).expect("the third").seq(), 3);

    let mut another = Account::new("glad").snapshot(&[], &[mail("x", 1, "another full one")]);
    damage_manifest(&mut another);
    let mut two_chains = files[..4].to_vec();
    two_chains.push(another);
    let segments = all(&two_chains);
    assert!(newest(&segments, "glad").expect("a chain").newest().is_err());

    // A copy of it that is whole is all that is needed, before it or behind it.
    for at in [0, files.len()] {
        let mut files = files.clone();
        files.insert(at, whole.clone());
        let segments = all(&files);
        let chain = newest(&segments, "glad").expect("a chain");
        assert_eq!(chain.newest().expect("the fifth").seq(), 5);
    }
}

#[test]
fn a_message_that_is_damaged_in_one_segment_is_taken_from_another() {
    let mut glad = Account::new("glad");
    let mut first = glad.snapshot(&[("INBOX", "d1")], &[mail("d1", 1, "twice")]);
    let second = glad.snapshot(&[("INBOX", "d1")], &[mail("d1", 2, "twice")]);
    let at = first.windows(5).position(|w| w == b"twice").expect("the body");
    first[at] ^= 1;
    let files = [first, second];
    let segments = all(&files);
    let chain = newest(&segments, "glad").expect("a chain");
    let guid = guid_of(b"twice");
    chain.message(&guid, 1).expect_err("only the damaged one");
    assert_eq!(chain.message(&guid, 2).expect("the other one"), Some(b"twice".to_vec()));
}
