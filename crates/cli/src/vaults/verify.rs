//! Verifying one account of a vault: what is damaged, and which messages of which snapshots that
//! concerns.

use std::collections::{BTreeMap, BTreeSet};

use engine::archive::{ArchiveError, Placed, placed};
use model::Guid;
use model::state::Digest;
use segment::chain::Chain;
use segment::reader::ReadError;
use segment::verify;
use vault::{Account, Entry, History, SegmentKind, VaultError};

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
    let mut report = Report::default();
    for name in &history.strange {
        report.damaged(name, "it has none of the names that a vault's objects have", None);
    }
    let mut lost: BTreeSet<Digest> = BTreeSet::new();
    let mut bad: BTreeMap<Digest, BTreeSet<Guid>> = BTreeMap::new();
    for entry in history.live() {
        if let Some(missing) = history.lineage(&entry.name.own).torn {
            let detail = format!("it continues {missing}, which is not there");
            report.damaged(&entry.name, detail, None);
            if entry.name.kind == SegmentKind::Snapshot {
                report.affected.push(Affected { seq: entry.name.seq, message: None });
            }
            continue;
        }
        report.segments += 1;
        match segment(account, history, entry, depth, &mut report) {
            Ok(guids) if guids.is_empty() => {}
            Ok(guids) => drop(bad.insert(entry.name.own, guids)),
            Err(error) => {
                report.damaged(&entry.name, chain_of(&error), None);
                lost.insert(entry.name.own);
            }
        }
    }
    if !lost.is_empty() || !bad.is_empty() {
        for entry in history.snapshots() {
            report.affected.extend(affected(account, history, entry, &lost, &bad));
        }
    }
    report.damage.sort_by(|one, next| one.object.cmp(&next.object));
    report.affected.sort_by_key(|affected| affected.seq);
    Ok(report)
}

/// Verifies one segment; gives the messages that cannot be had from it.
fn segment(
    account: &Account,
    history: &History,
    entry: &Entry,
    depth: Depth,
    report: &mut Report,
) -> Result<BTreeSet<Guid>, ReadError> {
    let opened = account.open(&history.lineage(&entry.name.own));
    let chain = opened.chain();
    let Some(snapshot) = chain.snapshots().last() else { return Ok(BTreeSet::new()) };
    let head = snapshot.head()?;
    let parent = head.parent.as_ref().map(|parent| parent.sha256);
    if parent != entry.name.parent {
        report.damaged(&entry.name, "its manifest names another parent than its name", None);
    }
    if head.taken_at.unix != entry.name.taken_at {
        report.damaged(&entry.name, "its manifest names another time than its name", None);
    }
    let mut bad = BTreeSet::new();
    match depth {
        Depth::Structure => {}
        Depth::Sample { percent, day } => {
            let segment = snapshot.segment()?;
            for row in snapshot.table()?.iter().filter(|row| is_due(&row.guid, percent, day)) {
                report.messages += 1;
                report.bytes += row.size;
                let located = segment::manifest::Located { offset: row.offset, size: row.size };
                if let Err(error) = segment.message(&row.guid, located) {
                    report.damaged(&entry.name, chain_of(&error), Some(row.guid));
                    bad.insert(row.guid);
                }
            }
        }
        Depth::All => read_all(&chain, entry, report, &mut bad)?,
    }
    Ok(bad)
}

fn read_all(
    chain: &Chain<'_>,
    entry: &Entry,
    report: &mut Report,
    bad: &mut BTreeSet<Guid>,
) -> Result<(), ReadError> {
    let Some(snapshot) = chain.snapshots().last() else { return Ok(()) };
    let segment = snapshot.segment()?;
    let before =
        |guid: &Guid| chain.find_message(guid, snapshot.seq()).is_ok_and(|found| found.is_some());
    let mut problems = Vec::new();
    let counts = verify::segment(segment, &before, &mut |problem| problems.push(problem));
    for problem in &problems {
        report.damaged(&entry.name, chain_of(problem), None);
    }
    let is_broken = counts.is_err() || !problems.is_empty();
    match &counts {
        Ok(counts) => {
            report.messages += counts.messages;
            report.bytes += counts.message_bytes;
        }
        Err(error) => report.damaged(&entry.name, chain_of(error), None),
    }
    if is_broken {
        // Which messages that costs is only known by trying each.
        for row in snapshot.table()?.iter() {
            let located = segment::manifest::Located { offset: row.offset, size: row.size };
            if segment.message(&row.guid, located).is_err() {
                bad.insert(row.guid);
            }
        }
    }
    Ok(())
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

/// An error with all its reasons, in one line.
fn chain_of(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
