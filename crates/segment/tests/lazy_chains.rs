//! Chains of which only the names are known: opened late, once, and held against the names.

mod sample;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Barrier, Mutex};
use std::thread;

use model::state::Digest;
use sample::{Account, guid_of, mail, taken_at};
use segment::chain::{Chain, ChainError, Link, Opener};
use segment::reader::{ReadError, SegmentRef, only_segment, segments};

/// Segments, each in a file of its own, which notes what was opened.
struct Files {
    files: BTreeMap<u32, Vec<u8>>,
    opened: Mutex<Vec<u32>>,
}

impl Opener for Files {
    fn open(&self, link: &Link) -> Result<SegmentRef<'_>, ReadError> {
        self.opened.lock().expect("no thread panicked").push(link.seq);
        // Whoever else wants it has all the time to come in.
        (0..10_000).for_each(|_| thread::yield_now());
        let gone = || ReadError::Read { at: 0, source: io::ErrorKind::NotFound.into() };
        only_segment(self.files.get(&link.seq).ok_or_else(gone)?)
    }
}

impl Files {
    fn opened(&self) -> Vec<u32> {
        self.opened.lock().expect("no thread panicked").clone()
    }
}

/// A part, two snapshots, another part; and what names would say of them.
fn lineage() -> (Files, Vec<Link>) {
    let mut glad = Account::new("glad");
    let mut files = BTreeMap::new();
    let mut links = Vec::new();
    for seq in [2, 3, 5, 6] {
        glad.skip_to(seq);
        let body = format!("body {seq}");
        let part = matches!(seq, 2 | 6);
        let segment = match part {
            true => glad.part(&[&body]),
            false => glad.snapshot(&[("INBOX", "d1")], &[mail("d1", seq, &body)]),
        };
        let sha256 = glad.last().manifest_sha256;
        links.push(Link { seq, sha256, taken_at: taken_at(seq), part });
        files.insert(seq, segment);
    }
    (Files { files, opened: Mutex::default() }, links)
}

#[test]
fn names_tell_the_history_without_anything_being_opened() {
    let (files, links) = lineage();
    let chain = Chain::lazy("glad", links.clone(), &files);
    assert_eq!(chain.account(), "glad");
    assert!(chain.trouble().is_none());
    let told: Vec<Link> = chain
        .snapshots()
        .iter()
        .map(|snapshot| Link {
            seq: snapshot.seq(),
            sha256: snapshot.sha256(),
            taken_at: snapshot.taken_at_unix(),
            part: snapshot.is_part(),
        })
        .collect();
    assert_eq!(told, links);
    assert_eq!(chain.newest().expect("a snapshot").seq(), 5);
    assert_eq!(chain.tip().expect("a part").seq(), 6);
    assert_eq!(chain.at(3).expect("a snapshot").seq(), 3);
    assert!(matches!(chain.at(2), Err(ChainError::NoSnapshot { seq: 2, last: 5, .. })));
    assert_eq!(chain.at_time(taken_at(4)).expect("a snapshot").seq(), 3);
    assert!(matches!(chain.at_time(taken_at(2)), Err(ChainError::NothingYet { .. })));
    assert_eq!(chain.id(), Some(links[0].sha256));
    assert!(files.opened().is_empty());

    let nothing = Chain::lazy("glad", Vec::new(), &files);
    assert!(matches!(nothing.newest(), Err(ChainError::NoAccount { .. })));
    assert!(matches!(nothing.tip(), Err(ChainError::NoAccount { .. })));
}

#[test]
fn a_segment_is_opened_when_it_is_needed_and_once() {
    let (files, links) = lineage();
    let chain = Chain::lazy("glad", links, &files);
    let newest = chain.newest().expect("a snapshot");
    let head = newest.head().expect("its manifest");
    assert_eq!((head.seq, head.taken_at.unix), (5, taken_at(5)));
    assert_eq!(newest.totals().expect("its sums").messages_new, 1);
    assert_eq!(newest.findings().expect("their number"), 0);
    assert_eq!(newest.head().expect("its manifest"), head);
    assert_eq!(files.opened(), [5]);
    let index = &head.mailboxes[0].files[0];
    assert!(chain.file(index).expect("its bytes").starts_with(b"index of d1"));
    assert_eq!(files.opened(), [5]);
    let first = guid_of(b"body 2");
    assert_eq!(chain.message(&first, 6).expect("no damage"), Some(b"body 2".to_vec()));
    assert_eq!(files.opened(), [5, 2]);
    let start = Barrier::new(4);
    let look = || {
        start.wait();
        assert!(chain.find_message(&guid_of(b"none"), 6).expect("tables").is_none());
    };
    thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(look))));
    assert_eq!(files.opened(), [5, 2, 3, 6]);
}

#[test]
fn what_is_added_behind_leaves_the_rest_open() {
    let (files, mut links) = lineage();
    let last = links.pop().expect("four");
    let mut chain = Chain::lazy("glad", links, &files);
    assert_eq!(chain.message(&guid_of(b"body 6"), 9).expect("no damage"), None);
    assert_eq!(files.opened(), [2, 3, 5]);
    chain.push(&last, &files);
    assert_eq!(chain.tip().expect("a part").head().expect("its manifest").seq, 6);
    assert!(chain.message(&guid_of(b"body 6"), 9).expect("no damage").is_some());
    assert_eq!(files.opened(), [2, 3, 5, 6]);
}

#[test]
fn what_is_not_as_its_name_says_is_refused() {
    let changes: [fn(&mut Link); 3] =
        [|link| link.sha256 = Digest([7; 32]), |link| link.part = true, |link| link.seq = 4];
    for (number, change) in (0..).zip(changes) {
        let (mut files, mut links) = lineage();
        let right = links[2].seq;
        change(&mut links[2]);
        let segment = files.files[&right].clone();
        files.files.insert(links[2].seq, segment);
        let chain = Chain::lazy("glad", links.clone(), &files);
        let error = chain.snapshots()[2].head().expect_err("another name");
        assert!(matches!(error, ReadError::Damaged { .. }), "{number}: {error}");
        chain.snapshots()[1].head().expect("it is right");
    }
    let (files, links) = lineage();
    let other = Chain::lazy("iris", links.clone(), &files);
    assert!(matches!(other.snapshots()[1].segment(), Err(ReadError::Damaged { .. })));
    // A segment that continues another one than the one before it.
    let gap = Chain::lazy("glad", vec![links[0].clone(), links[2].clone()], &files);
    let error = gap.snapshots()[1].head().expect_err("its parent is not there");
    assert_eq!(
        error.to_string(),
        "the manifest of glad 5 is damaged at byte 0: it continues another segment"
    );
    gap.snapshots()[0].head().expect("it is the first");
}

#[test]
fn what_could_not_be_opened_may_be_later() {
    let (mut files, links) = lineage();
    let whole = files.files.remove(&5).expect("a segment");
    let chain = Chain::lazy("glad", links.clone(), &files);
    let newest = chain.newest().expect("its name is there");
    assert!(matches!(newest.head(), Err(ReadError::Read { .. })));
    assert!(matches!(newest.table(), Err(ReadError::Read { .. })));
    assert_eq!(files.opened(), [5, 5]);
    files.files.insert(5, whole);
    let chain = Chain::lazy("glad", links, &files);
    chain.newest().expect("a snapshot").head().expect("its manifest");
}

#[test]
fn what_is_not_one_segment_alone_is_not_taken_for_one() {
    let (files, _) = lineage();
    let one = &files.files[&3];
    let found = segments(one).expect("whole");
    let only = only_segment(one).expect("whole");
    assert_eq!((only.start(), only.bytes()), (0, one.len() as u64));
    assert_eq!(only.manifest_sha256(), found[0].manifest_sha256());
    let two = [one.as_slice(), &files.files[&5]].concat();
    assert!(matches!(only_segment(&two), Err(ReadError::Stray { begins, .. })
        if begins == one.len() as u64));
    assert!(matches!(only_segment(&one[512..].to_vec()), Err(ReadError::Stray { .. })));
    assert!(matches!(only_segment(&one[..one.len() - 512].to_vec()), Err(ReadError::End { .. })));
    for nothing in [0, 511] {
        let nothing = vec![0; nothing];
        assert!(matches!(only_segment(&nothing), Err(ReadError::NoSegment { .. })));
    }
}
