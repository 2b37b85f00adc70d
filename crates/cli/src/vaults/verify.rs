//! Verifying one account of a vault: what is damaged, and which messages of which snapshots that
//! concerns.

use std::collections::{BTreeMap, BTreeSet};

use engine::archive::{ArchiveError, Placed, placed};
use model::Guid;
use model::state::Digest;
use segment::chain::Snapshot;
use segment::manifest::{Located, TableRow};
use segment::reader::ReadError;
use segment::verify;
use vault::{Account, Entry, History, Lineage, SegmentKind, VaultError};

use crate::error::chain_of;

/// What is wrong with an object.
#[derive(Debug)]
pub struct Damage {
    /// The object, without the account's path.
    pub object: String,
    /// What is wrong with it.
    pub detail: String,
    /// The message that cannot be had from it, if it is about one.
    pub guid: Option<Guid>,
}

/// What damage means: a message of a snapshot that cannot be given back.
#[derive(Debug, PartialEq, Eq)]
pub struct Affected {
    /// The snapshot's number.
    pub seq: u32,
    /// Where the message is in it; `None` if all of the snapshot, or its metadata, is lost.
    pub message: Option<Placed>,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Report {
    /// Objects that are not what they should be.
    pub damage: Vec<Damage>,
    /// What that means.
    pub affected: Vec<Affected>,
    /// Segments that were looked at.
    pub segments: u64,
    /// Messages that were read and compared with their GUID.
    pub messages: u64,
    /// Bytes of them.
    pub bytes: u64,
}

impl Report {
    /// Whether all is well.
    pub fn is_clean(&self) -> bool {
        self.damage.is_empty() && self.affected.is_empty()
    }

    fn damaged(&mut self, object: impl ToString, detail: impl ToString, guid: Option<Guid>) {
        let (object, detail) = (object.to_string(), detail.to_string());
        self.damage.push(Damage { object, detail, guid });
    }
}

/// How much to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Names, ends, manifests.
    Structure,
    /// This many per cent of the messages as well. Which ones depends on the number of the day, so
    /// that all are read in turn.
    Sample {
        /// 1 to 99.
        percent: u8,
        /// Days since 1970.
        day: i64,
    },
    /// Every byte.
    All,
}

/// Verifies all that can be restored, and what the next backup continues.
pub fn account(account: &Account, history: &History, depth: Depth) -> Result<Report, VaultError> {
    let mut verifier = Verifier::new(account);
    for name in &history.strange {
        verifier.report.damaged(name, "it has none of the names that a vault's objects have", None);
    }
    let mut lost: BTreeSet<Digest> = BTreeSet::new();
    let mut bad: BTreeMap<Digest, BTreeSet<Guid>> = BTreeMap::new();
    let mut live: Vec<&Entry> = history.live().collect();
    // What a segment continues comes before it.
    live.sort_by_key(|entry| entry.name.seq);
    for entry in live {
        let lineage = history.lineage(&entry.name.own);
        if let Some(missing) = lineage.torn {
            let detail = format!("it continues {missing}, which is not there");
            verifier.report.damaged(&entry.name, detail, None);
            if entry.name.kind == SegmentKind::Snapshot {
                verifier.report.affected.push(Affected { seq: entry.name.seq, message: None });
            }
            continue;
        }
        match verifier.segment(&lineage, depth) {
            Ok(guids) if guids.is_empty() => {}
            Ok(guids) => drop(bad.insert(entry.name.own, guids)),
            Err(error) => {
                verifier.report.damaged(&entry.name, chain_of(&error), None);
                lost.insert(entry.name.own);
            }
        }
    }
    let mut report = verifier.report;
    if !lost.is_empty() || !bad.is_empty() {
        for entry in history.snapshots() {
            report.affected.extend(affected(account, history, entry, &lost, &bad));
        }
    }
    report.damage.sort_by(|one, next| one.object.cmp(&next.object));
    report.affected.sort_by_key(|affected| affected.seq);
    Ok(report)
}

/// Reads every byte of a lineage.
///
/// # Errors
///
/// What makes it impossible to go on; everything else is in the report.
pub fn lineage(account: &Account, lineage: &Lineage) -> Result<Report, ReadError> {
    let mut verifier = Verifier::new(account);
    for upto in 1..=lineage.entries.len() {
        let begun = Lineage { entries: lineage.entries[..upto].to_vec(), torn: None };
        verifier.segment(&begun, Depth::All)?;
    }
    Ok(verifier.report)
}

/// Verifies segments, each after those that it continues, and opens each once.
struct Verifier<'a> {
    account: &'a Account,
    /// The messages that each segment holds, sorted: 20 bytes each.
    tables: BTreeMap<Digest, Vec<Guid>>,
    report: Report,
}

impl<'a> Verifier<'a> {
    fn new(account: &'a Account) -> Self {
        Self { account, tables: BTreeMap::new(), report: Report::default() }
    }

    /// Verifies the last segment of a lineage; gives the messages that cannot be had from it.
    fn segment(&mut self, lineage: &Lineage, depth: Depth) -> Result<BTreeSet<Guid>, ReadError> {
        let mut bad = BTreeSet::new();
        let Some((entry, before)) = lineage.entries.split_last() else { return Ok(bad) };
        let opened = self.account.open_alone(entry);
        let chain = opened.chain();
        let Some(snapshot) = chain.snapshots().last() else { return Ok(bad) };
        self.report.segments += 1;
        let head = snapshot.head()?;
        let parent = head.parent.as_ref().map(|parent| parent.sha256);
        if parent != entry.name.parent {
            let detail = "its manifest names another parent than its name";
            self.report.damaged(&entry.name, detail, None);
        }
        if head.taken_at.unix != entry.name.taken_at {
            let detail = "its manifest names another time than its name";
            self.report.damaged(&entry.name, detail, None);
        }
        match depth {
            Depth::Structure => {}
            Depth::Sample { percent, day } => {
                let due = |guid: &Guid| is_due(guid, percent, day);
                let rows = snapshot.table()?;
                for row in rows.iter().filter(|row| due(&row.guid)) {
                    self.report.messages += 1;
                    self.report.bytes += row.size;
                    if let Err(error) = message(snapshot, &row) {
                        self.report.damaged(&entry.name, chain_of(&error), Some(row.guid));
                        bad.insert(row.guid);
                    }
                }
            }
            Depth::All => self.read_all(snapshot, entry, before, &mut bad)?,
        }
        Ok(bad)
    }

    fn read_all(
        &mut self,
        snapshot: &Snapshot<'_>,
        entry: &Entry,
        before: &[Entry],
        bad: &mut BTreeSet<Guid>,
    ) -> Result<(), ReadError> {
        let held_before = |guid: &Guid| {
            let mut tables = before.iter().filter_map(|entry| self.tables.get(&entry.name.own));
            tables.any(|table| table.binary_search(guid).is_ok())
        };
        let mut problems = Vec::new();
        let report_problem = &mut |problem| problems.push(problem);
        let counts = verify::segment(snapshot.segment()?, &held_before, report_problem);
        for problem in &problems {
            self.report.damaged(&entry.name, chain_of(problem), None);
        }
        let is_broken = counts.is_err() || !problems.is_empty();
        match &counts {
            Ok(counts) => {
                self.report.messages += counts.messages;
                self.report.bytes += counts.message_bytes;
            }
            Err(error) => self.report.damaged(&entry.name, chain_of(error), None),
        }
        let rows = snapshot.table()?;
        if is_broken {
            // Which messages that costs is only known by trying each.
            bad.extend(
                rows.iter().filter(|row| message(snapshot, row).is_err()).map(|row| row.guid),
            );
        }
        // Rows ascend, unless they are damaged.
        let mut guids: Vec<Guid> = rows.iter().map(|row| row.guid).collect();
        guids.sort_unstable();
        self.tables.insert(entry.name.own, guids);
        Ok(())
    }
}

/// Reads a message and compares it with its GUID.
fn message(snapshot: &Snapshot<'_>, row: &TableRow) -> Result<(), ReadError> {
    let located = Located { offset: row.offset, size: row.size };
    snapshot.segment()?.message(&row.guid, located).map(drop)
}

/// Whether it is this message's turn.
fn is_due(guid: &Guid, percent: u8, day: i64) -> bool {
    let turn = i64::from(u16::from_be_bytes([guid.0[0], guid.0[1]]));
    (turn + day * i64::from(percent)).rem_euclid(100) < i64::from(percent)
}

/// What the loss of these segments and messages means for one snapshot.
fn affected(
    account: &Account,
    history: &History,
    entry: &Entry,
    lost: &BTreeSet<Digest>,
    bad: &BTreeMap<Digest, BTreeSet<Guid>>,
) -> Vec<Affected> {
    let lineage = history.lineage(&entry.name.own);
    let concerned = |own: &Digest| lost.contains(own) || bad.contains_key(own);
    if !lineage.entries.iter().any(|entry| concerned(&entry.name.own)) {
        return Vec::new();
    }
    let seq = entry.name.seq;
    let opened = account.open(&lineage);
    let chain = opened.chain();
    let whole = || vec![Affected { seq, message: None }];
    let Ok(snapshot) = chain.at(seq) else { return whole() };
    let Ok(messages) = placed(&chain, snapshot) else { return whole() };
    let is_lost = |guid: &Guid| -> Result<bool, ArchiveError> {
        // Some other segment may hold it, too.
        for candidate in chain.snapshots() {
            let own = candidate.sha256();
            let is_bad = bad.get(&own).is_some_and(|bad| bad.contains(guid));
            if lost.contains(&own) || is_bad {
                continue;
            }
            if candidate.table()?.find(guid).is_some() {
                return Ok(false);
            }
        }
        Ok(true)
    };
    let gone = messages.into_iter().filter(|placed| is_lost(&placed.guid).unwrap_or(true));
    gone.map(|placed| Affected { seq, message: Some(placed) }).collect()
}
