//! Parts: what they take in advance, and what that saves.

use engine::archive::finding_of;
use engine::base::Base;
use engine::ports::Silent;
use engine::snapshot::parts::Limit;
use engine::snapshot::snapshot;
use model::{FindingKind, Guid, SystemFlags};
use segment::verify;

use super::account::{Account, EPOCH, Mailbox, guid_of};
use super::archive::{Archive, Noting, chain_of, count, extract, options, stored_messages};

/// Two folders of forty messages each, half of them the same.
fn account() -> Account {
    let mut account = Account::new("glad");
    for (n, name) in (0..).zip(["user.glad", "user.glad.Work"]) {
        let mut mailbox = Mailbox::new(name, &format!("id{n}"), 17);
        for message in 20 * n..20 * n + 40 {
            mailbox.add(body(message).as_bytes(), EPOCH + message);
        }
        account.mailboxes.push(mailbox);
    }
    account.files.insert("sub".to_owned(), b"INBOX.Work\t\n".to_vec());
    account
}

fn body(n: i64) -> String {
    format!("Subject: {n}\r\n\r\n{}", "line\r\n".repeat(160))
}

/// Whether every byte of every segment is as it should be.
fn is_sound(archive: &Archive) {
    let segments = archive.all_segments();
    let chain = chain_of(&segments, &Account::new("glad"));
    for segment in &segments {
        let held =
            |guid: &Guid| chain.find_message(guid, segment.seq() - 1).expect("tables").is_some();
        verify::segment(segment, &held, &mut |problem| panic!("{problem}")).expect("sound");
    }
}

#[test]
fn what_was_stored_in_advance_is_not_stored_again() {
    let account = account();
    let all: u64 = (0..60).map(|n| body(n).len() as u64).sum();
    let mut archive = Archive::default();
    let mut bytes = 0;
    for seq in 1.. {
        assert_eq!(archive.missing(&account), all - bytes);
        let Some(part) = archive.part(&account, 10_000) else { break };
        assert_eq!(part.seq, seq);
        assert!((10_000..12_000).contains(&part.bytes), "{part:?}");
        assert!(part.segment_bytes > part.bytes);
        assert_eq!(count(&archive.segments[seq as usize - 1]).messages as u64, part.messages);
        bytes += part.bytes;
    }
    assert!(archive.segments.len() > 4);
    assert!(all - bytes < 10_000);
    let taken = archive.take(&account);
    assert_eq!(taken.summary.totals.bytes_new, all - bytes);
    assert_eq!(taken.summary.totals.messages, 80);
    assert_eq!(taken.summary.links, 80);
    assert_eq!(archive.missing(&account), 0);
    assert!(archive.part(&account, 1).is_none());
    let whole = archive.concatenated();
    assert!(stored_messages(&whole).values().all(|times| *times == 1));
    assert_eq!(stored_messages(&whole).len(), 60);
    let files = extract(&whole);
    for (dir, n) in [("id0", 0), ("id1", 20)] {
        let path = format!("glad/mailboxes/{dir}/40.");
        assert_eq!(files[path.as_bytes()], body(n + 39).into_bytes());
    }
    is_sound(&archive);
}

#[test]
fn a_part_of_tiny_messages_is_not_larger_than_what_is_remembered_of_them() {
    let account = account();
    let mut archive = Archive::default();
    let limit = Limit { bytes: u64::MAX, messages: 25 };
    for _ in 0..2 {
        let part = archive.part_within(&account, &limit).expect("so many are missing");
        assert_eq!(part.messages, 25);
    }
    assert!(archive.part_within(&account, &limit).is_none(), "ten are left");
    assert_eq!(archive.take(&account).summary.totals.messages_new, 10);
    is_sound(&archive);
}

#[test]
fn a_part_holds_messages_and_nothing_else_and_describes_what_its_parent_does() {
    let mut account = account();
    let mut archive = Archive::default();
    archive.part(&account, 1).expect("a part");
    let lost = account.mailboxes[0].bodies.remove(&40);
    archive.take(&account);
    for n in 100..110 {
        account.mailboxes[1].add(body(n).as_bytes(), EPOCH + n);
    }
    account.mailboxes[0].name = "user.glad.Renamed".to_owned();
    account.files.clear();
    archive.part(&account, 2500).expect("a part");
    let segments = archive.all_segments();
    let heads: Vec<_> = segments.iter().map(|s| s.head().expect("a manifest")).collect();
    let [first, snapshot, part] = heads.as_slice() else { panic!("{} segments", heads.len()) };
    assert!(lost.is_some() && first.part && !snapshot.part && part.part);
    assert!(first.mailboxes.is_empty() && first.links.is_empty() && first.findings.is_empty());
    assert!(first.account_files.is_empty());
    assert_eq!(part.mailboxes, snapshot.mailboxes);
    assert_eq!(part.links, snapshot.links);
    assert_eq!(part.account_files, snapshot.account_files);
    assert_eq!(part.findings, snapshot.findings);
    assert_eq!(finding_of(&part.findings[0]).expect("one").kind, FindingKind::MessageMissing);
    assert_eq!(part.totals.mailboxes, 2);
    assert_eq!(part.totals.messages_new, 3);
    for (at, messages) in [(0, 1), (2, 3)] {
        let counts = count(&archive.segments[at]);
        assert_eq!((counts.messages, counts.hard_links, counts.metadata), (messages, 0, 0));
        assert_eq!((counts.symlinks, counts.directories, counts.account_files), (0, 0, 0));
    }
    let parent = part.parent.as_ref().expect("the snapshot");
    assert_eq!((parent.seq, parent.sha256), (2, segments[1].manifest_sha256()));
    assert_eq!(part.chain, Some(segments[0].manifest_sha256()));
    is_sound(&archive);
}

#[test]
fn what_cannot_be_stored_in_advance_is_left_to_the_snapshot() {
    let mut account = account();
    account.mailboxes.truncate(1);
    let inbox = &mut account.mailboxes[0];
    let size = body(0).len() as u64;
    for record in &mut inbox.records[..10] {
        record.guid = Guid::ZERO;
    }
    for record in &mut inbox.records[10..20] {
        record.guid = guid_of(&record.uid.0.to_be_bytes());
    }
    for uid in 21..=30 {
        inbox.bodies.remove(&uid);
    }
    let mut archive = Archive::default();
    assert!(archive.missing(&account) > 39 * size, "nobody knows yet that it is less");
    let part = archive.part(&account, 11 * size).expect("ten messages");
    assert_eq!(part.messages, 10, "the last ten are as they should be");
    assert!(archive.part(&account, 11 * size).is_none(), "nothing else is to be had");
    let taken = archive.take(&account);
    assert_eq!(taken.summary.totals.messages_new, 20);
    assert_eq!(taken.summary.totals.messages, 30);
    let count = |kind| taken.summary.findings.iter().filter(|f| f.kind == kind).count();
    assert_eq!(count(FindingKind::GuidMismatch), 10);
    assert_eq!(count(FindingKind::MessageMissing), 10);
    is_sound(&archive);
}

#[test]
fn a_large_message_is_a_part_of_its_own() {
    let mut account = Account::new("glad");
    let mut inbox = Mailbox::new("user.glad", "id0", 17);
    let large: Vec<u8> = (0..5_000_000_u32).map(|n| (n / 7).to_le_bytes()[0]).collect();
    inbox.add(b"small", EPOCH);
    inbox.add(&large, EPOCH);
    account.mailboxes.push(inbox);
    let mut archive = Archive::default();
    let part = archive.part(&account, 1_000_000).expect("a part");
    assert_eq!((part.messages, part.bytes), (2, 5_000_005));
    let taken = archive.take(&account);
    assert_eq!((taken.summary.totals.messages_new, taken.summary.links), (0, 2));
    assert_eq!(taken.messages.opened(), []);
}

#[test]
fn numbers_and_times_are_the_callers_to_say() {
    let account = account();
    let (source, messages) = account.source();
    let given = super::archive::options(1);
    let given = engine::snapshot::Options { seq: Some(41), rewritten_at: Some(EPOCH), ..given };
    let (segment, summary) =
        snapshot(source, &messages, None, Vec::new(), &given, &Silent).expect("a snapshot");
    let mut archive = Archive { segments: vec![segment], ..Archive::default() };
    assert_eq!(summary.seq, 41);
    archive.take(&account);
    let segments = archive.all_segments();
    assert_eq!(segments[0].manifest_sha256(), summary.manifest_sha256);
    let heads: Vec<_> = segments.iter().map(|s| s.head().expect("a manifest")).collect();
    assert_eq!((heads[0].seq, heads[1].seq), (41, 42));
    assert_eq!((heads[0].rewritten_at, heads[1].rewritten_at), (Some(EPOCH), None));
    is_sound(&archive);
}

#[test]
fn an_incremental_opens_what_holds_the_changed_indexes_and_nothing_else() {
    let mut account = account();
    account.mailboxes.push(Mailbox::new("user.glad.Gone", "id2", 17));
    account.mailboxes[2].add(b"moved", EPOCH);
    let mut archive = Archive::default();
    archive.take(&account);
    for n in 200..204 {
        account.mailboxes[1].add(body(n).as_bytes(), EPOCH + n);
        archive.take(&account);
    }
    let opened = |account: &Account| {
        let noting = Noting::new(&archive);
        let chain = noting.chain();
        let base = Base::new(&chain).expect("a base");
        let (source, messages) = account.source();
        let (_, summary) =
            snapshot(source, &messages, Some(&base), Vec::new(), &options(6), &Silent)
                .expect("a snapshot");
        (noting.opened(), summary.totals.messages_new)
    };
    assert_eq!(opened(&account), (vec![5], 0));
    let mut flagged = account.clone();
    flagged.mailboxes[0].records[0].system_flags = SystemFlags::FLAGGED;
    assert_eq!(opened(&flagged), (vec![5, 1], 0));
    // INBOX was stored with the first snapshot, the other one with the last.
    let mut delivered = account.clone();
    delivered.mailboxes[1].add(b"new", EPOCH);
    delivered.mailboxes[1].add(body(3).as_bytes(), EPOCH);
    delivered.mailboxes[1].add(b"moved", EPOCH);
    assert_eq!(opened(&delivered), (vec![5], 1), "what is in INBOX is known");
    delivered.mailboxes.remove(2);
    assert_eq!(opened(&delivered), (vec![5, 1], 1), "the index of what is gone still tells");
}

#[test]
fn a_message_that_no_mailbox_of_the_parent_had_may_be_stored_again() {
    let mut account = account();
    let mut archive = Archive::default();
    archive.take(&account);
    let inbox = account.mailboxes.remove(0);
    archive.take(&account);
    account.mailboxes.insert(0, inbox);
    let taken = archive.take(&account);
    assert_eq!(taken.summary.totals.messages_new, 20, "twenty were in the other mailbox too");
    extract(&archive.concatenated());
    is_sound(&archive);
}
