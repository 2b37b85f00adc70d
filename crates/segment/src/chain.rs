//! The segments of one account in their order: a chain.
//!
//! A full snapshot begins a chain, every other one names its parent by hash. A chain is usable as
//! far as it has no gap, and says what is wrong behind that: never is a snapshot put together
//! from segments that do not belong together, and never does damage to a late one take away an
//! early one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use model::Guid;
use model::state::Digest;

use crate::manifest::{
    Located, Manifest, ManifestHead, MessageTable, Parent, StoredFile, TakenAt, Totals,
};
use crate::reader::{ReadError, SegmentRef};

/// Why a chain, or a snapshot of it, is not to be had.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ChainError {
    /// The archives hold nothing of this account.
    #[error("there is no snapshot of {account}")]
    NoAccount {
        /// The account's component.
        account: String,
    },
    /// The chain ends before this number.
    #[error("there is no snapshot {seq} of {account}, the last one is {last}")]
    NoSnapshot {
        /// The account's component.
        account: String,
        /// The number asked for.
        seq: u32,
        /// The chain's last number.
        last: u32,
    },
    /// The chain begins after this time.
    #[error("the first snapshot of {account} was taken at {first}, after the time asked for")]
    NothingYet {
        /// The account's component.
        account: String,
        /// When the first one was taken.
        first: String,
    },
    /// A segment is not there.
    #[error("snapshot {missing} of {account} is missing, and {next} is based on it")]
    Hole {
        /// The account's component.
        account: String,
        /// The number that is not there.
        missing: u32,
        /// The lowest number behind it that is there.
        next: u32,
    },
    /// A segment that continues another one than the one there is.
    #[error("snapshot {seq} of {account} continues {wanted}, which is not here{}", instead(found))]
    ForeignParent {
        /// The account's component.
        account: String,
        /// The segment's number.
        seq: u32,
        /// SHA-256 of the manifest that it continues, or that its chain begins with.
        wanted: Digest,
        /// SHA-256 of the one that is in its place.
        found: Option<Digest>,
    },
    /// Two segments continue the same one.
    #[error("there are two snapshots {seq} of {account}: {one} and {other}")]
    Fork {
        /// The account's component.
        account: String,
        /// Their number.
        seq: u32,
        /// SHA-256 of the manifest of one.
        one: Digest,
        /// SHA-256 of the manifest of the other.
        other: Digest,
    },
    /// A manifest cannot be read.
    #[error("the manifest of snapshot {seq} of {account} cannot be read")]
    Manifest {
        /// The account's component.
        account: String,
        /// The segment's number.
        seq: u32,
        /// Why not.
        source: Arc<ReadError>,
    },
}

fn instead(found: &Option<Digest>) -> String {
    found.map(|found| format!("; {found} is in its place")).unwrap_or_default()
}

/// The accounts that these segments are of, each once, sorted.
pub fn accounts<'s>(segments: &'s [SegmentRef<'_>]) -> Vec<&'s str> {
    let mut accounts: Vec<&str> = segments.iter().map(SegmentRef::account).collect();
    accounts.sort_unstable();
    accounts.dedup();
    accounts
}

/// All chains of an account, given by its component; the one with the newest snapshot last.
///
/// The segments may come from any number of archives and in any order. The same one twice is no
/// harm.
///
/// # Errors
///
/// Only if there is no segment of the account at all, or none with a readable manifest. What is
/// wrong with a chain, [its methods](Chain) say.
pub fn chains<'a>(
    segments: &[SegmentRef<'a>],
    account: &str,
) -> Result<Vec<Chain<'a>>, ChainError> {
    let mut members: BTreeMap<Digest, Vec<Member<'a>>> = BTreeMap::new();
    let mut lost: BTreeMap<Digest, ChainError> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for segment in segments.iter().filter(|segment| segment.account() == account) {
        if seen.contains(&segment.manifest_sha256()) {
            continue;
        }
        match Member::read(segment) {
            Ok(member) => {
                seen.insert(segment.manifest_sha256());
                members.entry(member.chain).or_default().push(member);
            }
            Err(source) => {
                let (account, seq) = (account.to_owned(), segment.seq());
                let error = ChainError::Manifest { account, seq, source: Arc::new(source) };
                lost.insert(segment.manifest_sha256(), error);
            }
        }
    }
    // Another copy of the same segment may be whole.
    lost.retain(|sha256, _| !seen.contains(sha256));
    let unreadable: BTreeMap<u32, ChainError> = lost
        .into_values()
        .filter_map(|error| match error {
            ChainError::Manifest { seq, .. } => Some((seq, error)),
            _ => None,
        })
        .collect();
    if members.is_empty() {
        let none = || ChainError::NoAccount { account: account.to_owned() };
        return Err(unreadable.into_values().next().unwrap_or_else(none));
    }
    let firsts: Vec<Digest> = members
        .values()
        .filter_map(|members| members.iter().find(|member| member.snapshot.seq() == 1))
        .map(|member| member.snapshot.sha256())
        .collect();
    let mut chains: Vec<Chain<'a>> = Vec::with_capacity(members.len());
    for (_, members) in members {
        let order = Order { account, firsts: &firsts, unreadable: &unreadable };
        chains.push(order.build(members));
    }
    // The clock only decides between chains, and the longer one where it cannot.
    chains.sort_by_key(|chain| (chain.newest_time(), chain.snapshots.len()));
    Ok(chains)
}

/// The newest chain of an account: the one that a snapshot continues and a restore reads, unless
/// told otherwise.
///
/// # Errors
///
/// Those of [`chains`].
pub fn newest<'a>(segments: &[SegmentRef<'a>], account: &str) -> Result<Chain<'a>, ChainError> {
    let none = || ChainError::NoAccount { account: account.to_owned() };
    chains(segments, account)?.pop().ok_or_else(none)
}

/// One segment that belongs to a chain.
struct Member<'a> {
    chain: Digest,
    parent: Option<Parent>,
    snapshot: Snapshot<'a>,
}

impl<'a> Member<'a> {
    fn read(segment: &SegmentRef<'a>) -> Result<Self, ReadError> {
        let head = segment.head()?;
        let chain = head.chain.unwrap_or_else(|| segment.manifest_sha256());
        let parent = head.parent.clone();
        let snapshot = Snapshot {
            segment: segment.clone(),
            taken_at: head.taken_at.clone(),
            totals: head.totals.clone(),
            findings: head.findings.len() as u64,
            head: Some(Box::new(head)),
            rows: OnceLock::new(),
        };
        Ok(Self { chain, parent, snapshot })
    }
}

/// Puts the members of one chain in order.
struct Order<'o> {
    account: &'o str,
    /// The first segments of all chains of the account.
    firsts: &'o [Digest],
    /// Segments that may be of any chain, by number.
    unreadable: &'o BTreeMap<u32, ChainError>,
}

impl Order<'_> {
    /// The chain, as far as its members fit.
    fn build<'a>(&self, mut members: Vec<Member<'a>>) -> Chain<'a> {
        members.sort_by_key(|member| member.snapshot.seq());
        let account = self.account.to_owned();
        let mut chain = Chain { account, snapshots: Vec::new(), behind: Vec::new(), trouble: None };
        let mut members = members.into_iter().peekable();
        while let Some(member) = members.next() {
            if chain.trouble.is_none() {
                let other = members.peek().map(|other| &other.snapshot);
                chain.trouble = self.check(&chain.snapshots, &member, other);
            }
            if chain.trouble.is_some() {
                chain.behind.push(member.snapshot.taken_at.unix);
            } else {
                // The newest is the one that is asked for next; all of them would not fit.
                if let Some(before) = chain.snapshots.last_mut() {
                    before.head = None;
                }
                chain.snapshots.push(member.snapshot);
            }
        }
        self.look_behind(&mut chain);
        chain
    }

    /// Nobody knows which chain an unreadable segment is of. Where it may be a newer snapshot than
    /// all that are readable, none of those is called the newest.
    fn look_behind(&self, chain: &mut Chain<'_>) {
        let Some(last) = chain.snapshots.last() else { return };
        let mut newer = self.unreadable.iter().filter(|(seq, _)| **seq == 1 || **seq > last.seq());
        if let (None, Some((_, cause))) = (&chain.trouble, newer.next()) {
            chain.trouble = Some(cause.clone());
            chain.behind.push(last.taken_at.unix);
        }
    }

    /// What is wrong if this member comes next and `other` after it.
    fn check(
        &self,
        before: &[Snapshot<'_>],
        member: &Member<'_>,
        other: Option<&Snapshot<'_>>,
    ) -> Option<ChainError> {
        let account = self.account.to_owned();
        let (seq, own) = (member.snapshot.seq(), member.snapshot.sha256());
        let last = before.last();
        let missing = last.map_or(1, |last| last.seq() + 1);
        if seq > missing {
            if let Some(cause) = self.unreadable.get(&missing) {
                return Some(cause.clone());
            }
            let found = self.firsts.first().copied().filter(|_| missing == 1);
            return Some(match found {
                Some(_) => ChainError::ForeignParent { account, seq, wanted: member.chain, found },
                None => ChainError::Hole { account, missing, next: seq },
            });
        }
        if let Some(other) = other.filter(|other| other.seq() == seq) {
            return Some(ChainError::Fork { account, seq, one: own, other: other.sha256() });
        }
        let found = last.map(Snapshot::sha256);
        let wanted = match (&member.parent, last) {
            (None, None) => member.chain,
            (Some(parent), _) => parent.sha256,
            (None, Some(_)) => member.chain,
        };
        let fits = match (&member.parent, last) {
            (None, None) => member.chain == own,
            (Some(parent), Some(last)) => {
                parent.seq == last.seq() && parent.sha256 == last.sha256()
            }
            _ => false,
        };
        (!fits).then_some(ChainError::ForeignParent { account, seq, wanted, found })
    }
}

/// A snapshot within a chain.
pub struct Snapshot<'a> {
    segment: SegmentRef<'a>,
    taken_at: TakenAt,
    totals: Totals,
    findings: u64,
    /// The manifest without its table, while this is the chain's newest.
    head: Option<Box<ManifestHead>>,
    /// The rows of its message table, once they are needed: a run that finds nothing new does
    /// without them.
    rows: OnceLock<Vec<u8>>,
}

impl<'a> Snapshot<'a> {
    /// Its number; 1 is the full one.
    pub fn seq(&self) -> u32 {
        self.segment.seq()
    }

    /// The instant that it shows.
    pub fn taken_at(&self) -> &TakenAt {
        &self.taken_at
    }

    /// The sums of its manifest.
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// How many findings its manifest has.
    pub fn findings(&self) -> u64 {
        self.findings
    }

    /// SHA-256 of its manifest: what a child names as its parent.
    pub fn sha256(&self) -> Digest {
        self.segment.manifest_sha256()
    }

    /// The segment.
    pub fn segment(&self) -> &SegmentRef<'a> {
        &self.segment
    }

    /// The messages that this snapshot was the first to hold.
    ///
    /// # Errors
    ///
    /// Those of [`SegmentRef::rows`], the first time.
    pub fn table(&self) -> Result<MessageTable<'_>, ReadError> {
        if let Some(rows) = self.rows.get() {
            return Ok(MessageTable::unchecked(rows));
        }
        let rows = self.segment.rows()?;
        Ok(MessageTable::unchecked(self.rows.get_or_init(|| rows)))
    }

    /// The manifest without its message table.
    ///
    /// # Errors
    ///
    /// Those of [`SegmentRef::head`].
    pub fn head(&self) -> Result<ManifestHead, ReadError> {
        match &self.head {
            Some(head) => Ok(ManifestHead::clone(head)),
            None => self.segment.head(),
        }
    }

    /// Reads the whole manifest.
    ///
    /// # Errors
    ///
    /// Those of [`SegmentRef::manifest`].
    pub fn manifest(&self) -> Result<Manifest, ReadError> {
        self.segment.manifest()
    }
}

/// The snapshots of one account from a full one on, as far as they follow each other.
pub struct Chain<'a> {
    account: String,
    snapshots: Vec<Snapshot<'a>>,
    /// When the snapshots behind the trouble were taken, at the earliest; seconds since 1970.
    behind: Vec<i64>,
    trouble: Option<ChainError>,
}

impl<'a> Chain<'a> {
    /// The account's component.
    pub fn account(&self) -> &str {
        &self.account
    }

    /// The snapshots that can be had, by number.
    pub fn snapshots(&self) -> &[Snapshot<'a>] {
        &self.snapshots
    }

    /// What keeps those behind them from being had, if there are any.
    pub fn trouble(&self) -> Option<&ChainError> {
        self.trouble.as_ref()
    }

    /// The identity of the chain: SHA-256 of its first manifest.
    pub fn id(&self) -> Option<Digest> {
        self.snapshots.first().map(Snapshot::sha256)
    }

    /// The newest snapshot.
    ///
    /// # Errors
    ///
    /// What is wrong with the chain, rather than an older snapshot in place of the newest.
    pub fn newest(&self) -> Result<&Snapshot<'a>, ChainError> {
        match (&self.trouble, self.snapshots.last()) {
            (None, Some(last)) => Ok(last),
            (Some(trouble), _) => Err(trouble.clone()),
            (None, None) => Err(ChainError::NoAccount { account: self.account.clone() }),
        }
    }

    /// The snapshot of this number.
    ///
    /// # Errors
    ///
    /// What is wrong with the chain, if that may be why it is not there.
    pub fn at(&self, seq: u32) -> Result<&Snapshot<'a>, ChainError> {
        let found = self.snapshots.iter().find(|snapshot| snapshot.seq() == seq);
        found.ok_or_else(|| {
            let last = self.snapshots.last().map_or(0, Snapshot::seq);
            let none = ChainError::NoSnapshot { account: self.account.clone(), seq, last };
            self.trouble.clone().filter(|_| seq > last).unwrap_or(none)
        })
    }

    /// The newest snapshot that was taken at this time or before it, seconds since 1970.
    ///
    /// # Errors
    ///
    /// What is wrong with the chain, if a snapshot behind that would have been the one.
    pub fn at_time(&self, unix: i64) -> Result<&Snapshot<'a>, ChainError> {
        if let Some(trouble) = &self.trouble
            && self.behind.iter().any(|taken_at| *taken_at <= unix)
        {
            return Err(trouble.clone());
        }
        let mut newest_first = self.snapshots.iter().rev();
        newest_first.find(|snapshot| snapshot.taken_at.unix <= unix).ok_or_else(|| {
            let account = self.account.clone();
            match self.snapshots.first() {
                Some(first) => {
                    ChainError::NothingYet { account, first: first.taken_at.text.clone() }
                }
                None => self.trouble.clone().unwrap_or(ChainError::NoAccount { account }),
            }
        })
    }

    /// Where the bytes of a message are, as of snapshot `upto`: in its segment or one before it.
    ///
    /// # Errors
    ///
    /// Those of [`Snapshot::table`].
    pub fn find_message(
        &self,
        guid: &Guid,
        upto: u32,
    ) -> Result<Option<(&SegmentRef<'a>, Located)>, ReadError> {
        for snapshot in self.snapshots.iter().take_while(|snapshot| snapshot.seq() <= upto) {
            if let Some(located) = snapshot.table()?.find(guid) {
                return Ok(Some((&snapshot.segment, located)));
            }
        }
        Ok(None)
    }

    /// The bytes of a message, as of snapshot `upto`; `None` if the chain does not hold it.
    ///
    /// # Errors
    ///
    /// If it is damaged in every segment that holds it, or a table cannot be read.
    pub fn message(&self, guid: &Guid, upto: u32) -> Result<Option<Vec<u8>>, ReadError> {
        let mut first_error = None;
        for snapshot in self.snapshots.iter().take_while(|snapshot| snapshot.seq() <= upto) {
            let Some(located) = snapshot.table()?.find(guid) else { continue };
            match snapshot.segment.message(guid, located) {
                Ok(bytes) => return Ok(Some(bytes)),
                Err(error) => {
                    first_error.get_or_insert(error);
                }
            }
        }
        first_error.map_or(Ok(None), Err)
    }

    /// The bytes of a file that a manifest of this chain lists.
    ///
    /// # Errors
    ///
    /// If the chain has no such segment, and those of [`SegmentRef::read_file`].
    pub fn file(&self, file: &StoredFile) -> Result<Vec<u8>, ReadError> {
        match self.at(file.seq) {
            Ok(snapshot) => snapshot.segment.read_file(file),
            Err(_) => Err(ReadError::OutOfBounds {
                what: format!("file {}", file.name),
                segment: format!("{} {}", self.account, file.seq),
                offset: file.offset,
                size: file.size,
            }),
        }
    }

    fn newest_time(&self) -> Option<i64> {
        let last = self.snapshots.last().map(|snapshot| snapshot.taken_at.unix);
        self.behind.iter().copied().chain(last).max()
    }
}
