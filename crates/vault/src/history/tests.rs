use std::convert::Infallible;

use super::*;

const NONE: u8 = 0;

/// A segment with an identity and a parent made of one byte each.
fn segment(seq: u32, own: u8, parent: u8) -> SegmentName {
    SegmentName {
        seq,
        taken_at: 1_000_000 + i64::from(seq),
        own: Digest([own; 32]),
        parent: (parent != NONE).then_some(Digest([parent; 32])),
        kind: SegmentKind::Snapshot,
    }
}

fn part(seq: u32, own: u8, parent: u8) -> SegmentName {
    SegmentName { kind: SegmentKind::Part, ..segment(seq, own, parent) }
}

fn note(what: What, names: &[SegmentName]) -> Note {
    Note::new(what, 2_000_000, "host", "test", names.iter().map(ToString::to_string).collect())
}

fn history(segments: &[SegmentName], notes: &[Note]) -> History {
    let objects = segments.iter().map(|name| Object { name: name.to_string(), size: 1 });
    let mut objects: Vec<Object> = objects.collect();
    let mut texts = BTreeMap::new();
    for note in notes {
        let (name, bytes) = note.encode().expect("a note");
        objects.push(Object { name: name.to_string(), size: bytes.len() as u64 });
        texts.insert(name, note.clone());
    }
    let read = |_: &str, name: &NoteName| Ok::<_, Infallible>(texts[name].clone());
    let Ok(history) = History::new(&objects, read);
    history
}

fn numbers(entries: &[&Entry]) -> Vec<u8> {
    entries.iter().map(|entry| entry.name.own.0[0]).collect()
}

#[test]
fn a_line_has_one_head_and_shows_its_snapshots() {
    let found = history(&[segment(1, 11, NONE), part(2, 12, 11), segment(3, 13, 12)], &[]);
    assert_eq!(numbers(&found.heads()), [13]);
    assert_eq!(numbers(&found.snapshots()), [11, 13], "a part is none");
    assert_eq!(found.next_seq(), 4);
    let lineage = found.lineage(&Digest([13; 32]));
    assert_eq!(numbers(&lineage.entries.iter().collect::<Vec<_>>()), [11, 12, 13]);
    assert_eq!(lineage.torn, None);
}

#[test]
fn a_snapshot_has_the_parts_right_before_it() {
    let first = [part(1, 11, NONE), part(2, 12, 11), segment(3, 13, 12)];
    let later = [part(4, 14, 13), segment(5, 15, 14), segment(6, 16, 15), part(7, 17, 16)];
    let found = history(&[&first[..], &later].concat(), &[]);
    let parts = |at: usize| numbers(&found.parts_of(&found.snapshots()[at].name));
    assert_eq!([parts(0), parts(1), parts(2)], [vec![12, 11], vec![14], vec![]]);
    // Nothing lawful makes a ring.
    let ring = history(&[part(1, 11, 12), part(1, 12, 11), segment(2, 13, 12)], &[]);
    assert_eq!(numbers(&ring.parts_of(&segment(2, 13, 12))), [12]);
}

#[test]
fn a_fork_is_seen_and_joined_by_a_note() {
    let segments = [segment(1, 11, NONE), segment(2, 12, 11), segment(2, 13, 11)];
    let forked = history(&segments, &[]);
    assert_eq!(numbers(&forked.heads()), [12, 13]);
    assert_eq!(forked.tip().map(|tip| tip.name.own), Some(Digest([13; 32])));
    assert_eq!(numbers(&forked.snapshots()), [11, 12, 13], "both are shown");

    let mut joined = segments.to_vec();
    joined.push(segment(3, 14, 13));
    let joined = history(&joined, &[note(What::Joined, &[segments[1].clone()])]);
    assert_eq!(numbers(&joined.heads()), [14]);
    assert_eq!(numbers(&joined.snapshots()), [11, 12, 13, 14]);
}

#[test]
fn what_is_dropped_is_neither_shown_nor_continued() {
    let old = [segment(1, 11, NONE), segment(2, 12, 11), segment(3, 13, 12)];
    let mut all = old.to_vec();
    all.extend([segment(2, 22, NONE), segment(3, 23, 22)]);
    let found = history(&all, &[note(What::Dropped, &old)]);
    assert_eq!(numbers(&found.snapshots()), [22, 23]);
    assert_eq!(numbers(&found.heads()), [23]);
    assert_eq!(found.segments().count(), 5);
}

#[test]
fn who_did_not_know_of_the_drop_is_still_heard() {
    let old = [segment(1, 11, NONE), segment(2, 12, 11)];
    let new = segment(2, 22, NONE);
    let late = segment(3, 13, 12);
    let all = [old[0].clone(), old[1].clone(), new, late];
    let found = history(&all, &[note(What::Dropped, &old)]);
    assert_eq!(numbers(&found.heads()), [22, 13]);
    assert_eq!(numbers(&found.snapshots()), [22, 13], "its lineage is still there");
    // Once that is deleted, it is torn, and the other head goes on.
    let found = history(&all[2..], &[]);
    assert_eq!(numbers(&found.snapshots()), [22]);
    assert_eq!(found.tip().map(|tip| tip.name.own), Some(Digest([22; 32])));
    assert_eq!(found.lineage(&Digest([13; 32])).torn, Some(Digest([12; 32])));
}

#[test]
fn hidden_snapshots_are_continued_and_not_shown() {
    let all = [segment(1, 11, NONE), segment(2, 12, 11)];
    let found = history(&all, &[note(What::Hidden, &all[..1])]);
    assert_eq!(numbers(&found.snapshots()), [12]);
    assert_eq!(found.lineage(&Digest([12; 32])).entries.len(), 2);
    assert_eq!(found.newest().map(|entry| entry.name.seq), Some(2));
}

#[test]
fn a_ring_of_parents_is_a_tear_and_not_an_endless_loop() {
    let found = history(&[segment(1, 11, 12), segment(2, 12, 11)], &[]);
    assert!(found.lineage(&Digest([12; 32])).torn.is_some());
    assert_eq!(numbers(&found.snapshots()), [0; 0]);
    assert!(found.tip().is_none());
}

#[test]
fn strange_names_are_kept_apart() {
    let objects = [Object { name: "README".to_owned(), size: 3 }];
    let none = |_: &str, _: &NoteName| -> Result<Note, Infallible> { unreachable!() };
    let Ok(found) = History::new(&objects, none);
    assert_eq!(found.strange, ["README"]);
    assert!(found.is_empty() && found.tip().is_none() && found.next_seq() == 1);
}
