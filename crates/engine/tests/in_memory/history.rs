//! The property of snapshots: a full one and any number of incrementals give the account back as
//! it was at each of them, wherever the segments lie, and as it is after a plain extraction.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};

use engine::archive::{StoredMessages, stored};
use engine::ports::MessageSource;
use engine::selection::Selection;
use engine::source::{SourceAccount, SourceMailbox};
use model::Guid;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestCaseError};
use segment::chain::Chain;
use segment::compress::{Compression, SeekableZstd, Writer};
use segment::manifest::ManifestHead;

use super::account::{Account, guid_of, linked};
use super::archive::{Archive, chain_of, extract, found};
use super::changes::{Change, Life, change};

/// Incrementals behind the full snapshot.
const INCREMENTALS: usize = 30;

proptest! {
    #![proptest_config(Config {
        cases: 64,
        rng_seed: RngSeed::Fixed(2009),
        failure_persistence: None,
        ..Config::default()
    })]

    #[test]
    fn every_snapshot_is_the_account_as_it_was(
        days in prop::collection::vec(prop::collection::vec(change(), 0..6), INCREMENTALS + 1)
    ) {
        let days = days.into_iter().map(|changes| Day { changes, ..Day::default() });
        check(Archive::default(), &days.collect::<Vec<_>>())?;
    }

    #[test]
    fn messages_that_were_stored_in_advance_change_nothing(
        days in prop::collection::vec(day(), INCREMENTALS + 1), has_catalogs: bool
    ) {
        check(Archive { is_lazy: true, has_catalogs, ..Archive::default() }, &days)?;
    }
}

/// What happens from one snapshot to the next.
#[derive(Clone, Debug, Default)]
struct Day {
    changes: Vec<Change>,
    /// Runs that store messages in advance and are stopped: each after how many of the changes,
    /// how many parts it gets done, and of how many bytes.
    stopped: Vec<(usize, u8, u16)>,
}

fn day() -> impl Strategy<Value = Day> {
    let stopped = prop::collection::vec((0..8_usize, 1..4_u8, 0..3000_u16), 0..3);
    (prop::collection::vec(change(), 0..8), stopped)
        .prop_map(|(changes, stopped)| Day { changes, stopped })
}

impl Day {
    fn live(&self, life: &mut Life, archive: &mut Archive) {
        for at in 0..=self.changes.len() {
            for (_, parts, limit) in self.stopped.iter().filter(|stopped| stopped.0 == at) {
                for _ in 0..*parts {
                    let missing = archive.missing(&life.account);
                    let Some(part) = archive.part(&life.account, (*limit).into()) else { break };
                    assert!(part.messages > 0, "a part without messages");
                    assert!(archive.missing(&life.account) < missing, "it stored what was there");
                }
            }
            if let Some(change) = self.changes.get(at) {
                life.live(change);
            }
        }
    }
}

fn check(mut archive: Archive, days: &[Day]) -> Result<(), TestCaseError> {
    let mut life = Life::new();
    let mut copies = Vec::new();
    for day in days {
        day.live(&mut life, &mut archive);
        archive.take(&life.account);
        copies.push(life.account.clone());
    }
    let whole = archive.concatenated();
    let mut shuffled = archive.all_segments();
    shuffled.reverse();
    let middle = shuffled.len() / 3;
    shuffled.rotate_left(middle);
    let compressed = SeekableZstd::open(compress(&whole)).expect("a seek table");
    let account = &life.account;
    for chain in [
        chain_of(&found(&whole), account),
        chain_of(&shuffled, account),
        chain_of(&found(&compressed), account),
        Chain::lazy("glad", archive.links(), &archive),
    ] {
        check_chain(&chain, &copies)?;
    }
    check_extracted(&whole, &archive, account)
}

fn compress(archive: &[u8]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), Compression::Zstd, 0);
    writer.write_all(archive).expect("a Vec takes all");
    writer.finish().expect("a Vec takes all")
}

/// Every snapshot of the chain against the copy that was kept of the account; and nothing is
/// stored that the snapshot before it gives, or a part since.
fn check_chain(chain: &Chain<'_>, copies: &[Account]) -> Result<(), TestCaseError> {
    let mut copies = copies.iter();
    let mut before = Saved::default();
    for segment in chain.snapshots() {
        for row in segment.table().expect("its rows").iter() {
            let is_new = before.contents.insert(row.guid);
            prop_assert!(is_new, "{} is stored once more in {}", row.guid, segment.seq());
        }
        if segment.is_part() {
            continue;
        }
        let copy = copies.next().expect("a copy for each snapshot");
        let snapshot = chain.at(segment.seq()).expect("a snapshot");
        let (account, messages, head) =
            stored(chain, snapshot, &Selection::all()).expect("an account");
        let (source, _) = copy.source();
        check_account(&account, &source)?;
        before = check_messages(&messages, &head, copy, &source, &before)?;
    }
    prop_assert_eq!(copies.len(), 0);
    Ok(())
}

/// All but the messages: byte for byte.
fn check_account(account: &SourceAccount, copy: &SourceAccount) -> Result<(), TestCaseError> {
    prop_assert_eq!(&account.userid, &copy.userid);
    let files = |account: &SourceAccount| -> BTreeMap<String, Vec<u8>> {
        account.files.iter().map(|file| (file.name.clone(), file.bytes.clone())).collect()
    };
    prop_assert_eq!(files(account), files(copy));
    prop_assert_eq!(account.mailboxes.len(), copy.mailboxes.len());
    for (restored, original) in account.mailboxes.iter().zip(&copy.mailboxes) {
        let facts = |mailbox: &SourceMailbox| {
            let SourceMailbox { name, uniqueid, partition, mbtype, deleted, .. } = mailbox;
            (name.clone(), uniqueid.clone(), partition.clone(), mbtype.clone(), *deleted)
        };
        prop_assert_eq!(facts(restored), facts(original));
        prop_assert_eq!(&restored.files, &original.files, "of {}", original.name);
    }
    Ok(())
}

/// What a snapshot gave.
#[derive(Default)]
struct Saved {
    /// Its messages: their mailbox, UID, GUID, size and date.
    messages: BTreeSet<(Vec<u8>, u32, Guid, u64, i64)>,
    /// What their bytes hash to.
    contents: BTreeSet<Guid>,
}

/// Every message: the bytes of its file if there was one; and what a snapshot has once given, the
/// next one gives too, as long as there is a record.
fn check_messages(
    messages: &StoredMessages<'_>,
    head: &ManifestHead,
    copy: &Account,
    source: &SourceAccount,
    before: &Saved,
) -> Result<Saved, TestCaseError> {
    let mut saved = Saved::default();
    let mut missing = BTreeSet::new();
    let keys = source.keys().0;
    for (at, mailbox) in source.mailboxes.iter().enumerate() {
        for (uid, record) in linked(&mailbox.files) {
            let mut bytes = Vec::new();
            let read = messages.open(at, &record).and_then(|mut m| m.read_to_end(&mut bytes));
            let shown = format!("{uid} of {} in snapshot {}", mailbox.name, head.seq);
            let (size, date) = (record.size, record.internaldate.secs);
            if read.is_ok() {
                saved.contents.insert(guid_of(&bytes));
            }
            let saying = (keys[at].0.clone(), uid, record.guid, size, date);
            match (copy.mailboxes[at].bodies.get(&uid), read) {
                (Some(body), Ok(_)) => {
                    prop_assert_eq!(&bytes, body, "{}", shown);
                    saved.messages.insert(saying);
                }
                (None, Ok(_)) => {
                    let known = before.messages.contains(&saying) || guid_of(&bytes) == record.guid;
                    prop_assert!(known, "{}: bytes from nowhere", shown);
                    saved.messages.insert(saying);
                }
                (Some(_), Err(error)) => prop_assert!(false, "{}: {}", shown, error),
                (None, Err(error)) => {
                    prop_assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{}", shown);
                    prop_assert!(!before.messages.contains(&saying), "{} was saved before", shown);
                    missing.insert((mailbox.name.to_string(), uid));
                }
            }
        }
    }
    prop_assert_eq!(head.totals.messages, saved.messages.len() as u64, "in snapshot {}", head.seq);
    check_findings(head, &missing)?;
    Ok(saved)
}

/// What is missing is told, nothing else is called missing, and nothing is told twice.
fn check_findings(
    head: &ManifestHead,
    missing: &BTreeSet<(String, u32)>,
) -> Result<(), TestCaseError> {
    let told = head.findings.iter().filter(|finding| finding.code == "message-missing");
    let told: BTreeSet<_> =
        told.map(|finding| (finding.place.clone(), finding.uid.unwrap_or_default())).collect();
    prop_assert_eq!(&told, missing, "in snapshot {}", head.seq);
    let mut seen = BTreeSet::new();
    for finding in &head.findings {
        let key = (&finding.code, &finding.place, finding.uid, &finding.detail);
        prop_assert!(seen.insert(key), "snapshot {} tells twice of {:?}", head.seq, finding);
    }
    Ok(())
}

/// What a tar program makes of the whole archive holds the newest state.
fn check_extracted(
    whole: &[u8],
    archive: &Archive,
    account: &Account,
) -> Result<(), TestCaseError> {
    let files = extract(whole);
    let segments = archive.all_segments();
    let chain = chain_of(&segments, account);
    let newest = chain.newest().expect("a snapshot");
    let (stored, messages, head) = stored(&chain, newest, &Selection::all()).expect("an account");
    for (at, (mailbox, listed)) in stored.mailboxes.iter().zip(&head.mailboxes).enumerate() {
        let path = |file: &str| format!("glad/mailboxes/{}/{file}", listed.dir).into_bytes();
        for (name, bytes) in &mailbox.files {
            prop_assert_eq!(files.get(&path(name)), Some(bytes), "{} of {}", name, mailbox.name);
        }
        for (uid, record) in linked(&mailbox.files) {
            let mut bytes = Vec::new();
            let read = messages.open(at, &record).and_then(|mut m| m.read_to_end(&mut bytes));
            if read.is_ok() {
                let found = files.get(&path(&format!("{uid}.")));
                prop_assert_eq!(found, Some(&bytes), "{} of {}", uid, mailbox.name);
            }
        }
    }
    Ok(())
}
