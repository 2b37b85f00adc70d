//! Whether what a chain of snapshots holds fits together, judged from its bytes alone.

use std::collections::BTreeMap;
use std::path::Path;

use cyrus_format::header::MailboxHeader;
use cyrus_format::index::{Index, Tally};
use cyrus_format::quota::{Quota, Resource};
use model::crc::ThridText;
use segment::chain::{self, Chain, Snapshot};
use segment::manifest::{ManifestHead, StoredFile};
use segment::reader;
use segment::verify;

/// What was looked at, so that a test can tell that it was not nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Snapshots.
    pub snapshots: usize,
    /// Records whose bytes were found.
    pub records: usize,
    /// Distinct messages whose bytes have the right hash.
    pub messages: u64,
    /// Links to messages.
    pub links: u64,
}

/// Checks every snapshot of an archive that holds one chain of one account:
///
/// - every byte is what a manifest says, and has the hash that it should have;
/// - every record of every index that is not unlinked has its bytes in the chain;
/// - every index counts what it holds, down to the sync CRC, and belongs to its header;
/// - the quota counts what the indexes hold, which it only does if all were copied at one instant.
///
/// # Panics
///
/// If anything is otherwise.
pub fn check(archive: &Path, account: &str) -> Checked {
    let bytes = std::fs::read(archive).expect("a readable archive");
    let segments = reader::segments(&bytes).expect("nothing but segments");
    let chain = chain::newest(&segments, account).expect("a chain");
    assert_eq!(chain.snapshots().len(), segments.len(), "one chain");
    let mut checked = Checked::default();
    for (number, segment) in segments.iter().enumerate() {
        let before = u32::try_from(number).expect("few");
        let held = |guid: &_| chain.find_message(guid, before).expect("tables").is_some();
        let counts = verify::segment(segment, &held, &mut |error| panic!("{segment}: {error}"));
        let counts = counts.expect("a segment that can be followed");
        assert_eq!(counts.abandoned, 0, "{segment}");
        checked.messages += counts.messages;
        checked.links += counts.hard_links;
    }
    for snapshot in chain.snapshots() {
        checked.records += check_snapshot(&chain, snapshot);
        checked.snapshots += 1;
    }
    checked
}

/// Use of the quota root, counted over mailboxes.
#[derive(Debug, Default, PartialEq, Eq)]
struct Use {
    bytes: u64,
    messages: u64,
}

fn check_snapshot(chain: &Chain<'_>, snapshot: &Snapshot<'_>) -> usize {
    let (head, _) = snapshot.manifest().expect("a manifest").into_parts();
    assert_eq!(head.findings, [], "snapshot {}", head.seq);
    let mut records = 0;
    let mut used = Use::default();
    for mailbox in &head.mailboxes {
        let place = format!("{} in snapshot {}", mailbox.name, head.seq);
        let files = files_of(chain, &mailbox.files);
        let header = MailboxHeader::parse(&files["cyrus.header"]).expect("a header");
        let index = Index::parse(&files["cyrus.index"]).expect("an index");
        let flags = header.flag_crcs();
        let version = index.minor_version();
        let tally = Tally::of(index.records(), version, &flags, ThridText::default());
        assert_eq!(tally.differences(index.header()), [], "{place}");
        for record in index.records().filter(|record| !record.is_unlinked()) {
            let (uid, guid) = (record.uid, record.guid);
            let found = chain.find_message(&guid, head.seq).expect("tables");
            let (_, located) = found.unwrap_or_else(|| panic!("{place}: {uid} has no bytes"));
            assert_eq!(located.size, record.size, "{place}: {uid}");
            records += 1;
        }
        if header.quotaroot.is_some() {
            used.bytes += tally.quota_mailbox_used;
            used.messages += u64::from(tally.exists);
        }
    }
    assert_eq!(used, stored_use(chain, &head), "snapshot {}", head.seq);
    records
}

fn files_of(chain: &Chain<'_>, files: &[StoredFile]) -> BTreeMap<String, Vec<u8>> {
    let read = |file: &StoredFile| (file.name.clone(), chain.file(file).expect("a whole file"));
    files.iter().map(read).collect()
}

fn stored_use(chain: &Chain<'_>, head: &ManifestHead) -> Use {
    let file = head.account_files.iter().find(|file| file.name.starts_with("quota/"));
    let Some(file) = file else { return Use::default() };
    let bytes = chain.file(file).expect("a whole file");
    let quota = Quota::parse(&bytes).expect("a quota");
    let used = |resource| u64::try_from(quota.usage(resource).used).expect("not below nothing");
    Use { bytes: used(Resource::Storage), messages: used(Resource::Messages) }
}
