//! The segments of one account in their order: a chain.
//!
//! A full segment begins a chain, every other one names its parent by hash. A chain is usable as
//! far as it has no gap, and says what is wrong behind that: never is a snapshot put together
//! from segments that do not belong together, and never does damage to a late one take away an
//! early one.
//!
//! Where names tell which segments continue which, as in a vault, a chain is [lazy](Chain::lazy):
//! a segment is opened when something of it is needed.

mod error;
mod order;
mod snapshot;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::Guid;
use model::state::Digest;

pub use self::error::ChainError;
use self::order::{Member, Order};
pub use self::snapshot::{Link, Opener, Snapshot};
use crate::manifest::{Located, StoredFile};
use crate::reader::{ReadError, SegmentRef};

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
    let all = members.values().flatten();
    let firsts: Vec<(u32, Digest)> = all
        .filter(|member| member.parent.is_none())
        .map(|member| (member.snapshot.seq(), member.snapshot.sha256()))
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

/// The segments of one account from a full one on, as far as they follow each other.
pub struct Chain<'a> {
    account: String,
    snapshots: Vec<Snapshot<'a>>,
    /// When the snapshots behind the trouble were taken, at the earliest; seconds since 1970.
    behind: Vec<i64>,
    trouble: Option<ChainError>,
}

impl<'a> Chain<'a> {
    /// A chain that is known without having been read: segments that continue each other, oldest
    /// first. Each is opened when something of it is needed, and only then held against its link.
    pub fn lazy(account: &str, links: Vec<Link>, opener: &'a dyn Opener) -> Self {
        let mut chain = Self::empty(account);
        for link in links {
            chain.add(&link, opener);
        }
        chain.keep_heads();
        chain
    }

    /// Adds the segment that continues the last one. What was read of the others stays known.
    pub fn push(&mut self, link: &Link, opener: &'a dyn Opener) {
        self.add(link, opener);
        self.keep_heads();
    }

    fn empty(account: &str) -> Self {
        let account = account.to_owned();
        Self { account, snapshots: Vec::new(), behind: Vec::new(), trouble: None }
    }

    fn add(&mut self, link: &Link, opener: &'a dyn Opener) {
        let parent = self.snapshots.last().map(Snapshot::sha256);
        self.snapshots.push(Snapshot::elsewhere(&self.account, link, parent, opener));
    }

    /// The tip is what a run continues and the newest snapshot what a restore reads, so their
    /// heads are kept; all heads would not fit.
    fn keep_heads(&mut self) {
        let tip = self.snapshots.len().checked_sub(1);
        let newest = self.snapshots.iter().rposition(|snapshot| !snapshot.is_part());
        for (at, snapshot) in self.snapshots.iter_mut().enumerate() {
            snapshot.keep_head(Some(at) == tip || Some(at) == newest);
        }
    }

    /// The account's component.
    pub fn account(&self) -> &str {
        &self.account
    }

    /// All that can be had, by number, [parts](Snapshot::is_part) included.
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

    /// The last segment, a snapshot or a part: what the next one continues.
    ///
    /// # Errors
    ///
    /// What is wrong with the chain, rather than an older segment in place of the last.
    pub fn tip(&self) -> Result<&Snapshot<'a>, ChainError> {
        match (&self.trouble, self.snapshots.last()) {
            (None, Some(last)) => Ok(last),
            (Some(trouble), _) => Err(trouble.clone()),
            (None, None) => Err(ChainError::NoAccount { account: self.account.clone() }),
        }
    }

    /// The newest snapshot.
    ///
    /// # Errors
    ///
    /// What is wrong with the chain, rather than an older snapshot in place of the newest.
    pub fn newest(&self) -> Result<&Snapshot<'a>, ChainError> {
        self.tip()?;
        let none = || ChainError::NoAccount { account: self.account.clone() };
        self.newest_first().next().ok_or_else(none)
    }

    /// The snapshot of this number.
    ///
    /// # Errors
    ///
    /// What is wrong with the chain, if that may be why it is not there.
    pub fn at(&self, seq: u32) -> Result<&Snapshot<'a>, ChainError> {
        let found = self.find(seq).filter(|snapshot| !snapshot.is_part());
        found.ok_or_else(|| {
            let last = self.snapshots.last().map_or(0, Snapshot::seq);
            let newest = self.newest_first().next().map_or(0, Snapshot::seq);
            let account = self.account.clone();
            let none = ChainError::NoSnapshot { account, seq, last: newest };
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
        let found = self.newest_first().find(|snapshot| snapshot.taken_at_unix() <= unix);
        found.ok_or_else(|| {
            let account = self.account.clone();
            match self.newest_first().last() {
                Some(first) => ChainError::NothingYet { account, first: first.taken_at_text() },
                None => self.trouble.clone().unwrap_or(ChainError::NoAccount { account }),
            }
        })
    }

    /// The snapshots, without parts.
    fn newest_first(&self) -> impl Iterator<Item = &Snapshot<'a>> {
        self.snapshots.iter().rev().filter(|snapshot| !snapshot.is_part())
    }

    /// The segment of this number.
    fn find(&self, seq: u32) -> Option<&Snapshot<'a>> {
        self.snapshots.iter().find(|snapshot| snapshot.seq() == seq)
    }

    /// Where the bytes of a message are, as of snapshot `upto`: in its segment or one before it.
    ///
    /// # Errors
    ///
    /// Those of [`Snapshot::find`] and [`Snapshot::segment`].
    pub fn find_message(
        &self,
        guid: &Guid,
        upto: u32,
    ) -> Result<Option<(&SegmentRef<'a>, Located)>, ReadError> {
        self.find_copy(guid, upto, 0)
    }

    /// The same, passing over so many segments that hold it, too.
    ///
    /// # Errors
    ///
    /// Likewise.
    pub fn find_copy(
        &self,
        guid: &Guid,
        upto: u32,
        passed: usize,
    ) -> Result<Option<(&SegmentRef<'a>, Located)>, ReadError> {
        let mut left = passed;
        for snapshot in self.snapshots.iter().take_while(|snapshot| snapshot.seq() <= upto) {
            match (snapshot.find(guid)?, left) {
                (None, _) => {}
                (Some(located), 0) => return Ok(Some((snapshot.segment()?, located))),
                (Some(_), _) => left -= 1,
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
            let Some(located) = snapshot.find(guid)? else { continue };
            match snapshot.segment()?.message(guid, located) {
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
    /// If the chain has no such segment, and those of [`SegmentRef::read_file`] and
    /// [`Snapshot::segment`].
    pub fn file(&self, file: &StoredFile) -> Result<Vec<u8>, ReadError> {
        match self.find(file.seq) {
            Some(snapshot) => snapshot.segment()?.read_file(file),
            None => Err(ReadError::OutOfBounds {
                what: format!("file {}", file.name),
                segment: format!("{} {}", self.account, file.seq),
                offset: file.offset,
                size: file.size,
            }),
        }
    }

    fn newest_time(&self) -> Option<i64> {
        let last = self.snapshots.last().map(Snapshot::taken_at_unix);
        self.behind.iter().copied().chain(last).max()
    }
}
