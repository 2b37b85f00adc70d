//! One segment of a chain: at hand, or opened once something of it is needed.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use model::Guid;
use model::state::Digest;

use crate::manifest::{Located, Manifest, ManifestHead, Rows, TakenAt, Totals};
use crate::reader::{ReadError, SegmentRef};

/// Whoever looks up no more messages than this does not wait for the whole table.
const FEW: usize = 16;

/// What is known of a segment before it is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its number.
    pub seq: u32,
    /// SHA-256 of its manifest.
    pub sha256: Digest,
    /// When it was taken, seconds since 1970.
    pub taken_at: i64,
    /// Whether it is a part, and no snapshot.
    pub part: bool,
}

/// Gives the segments of a [lazy](super::Chain::lazy) chain. Shared by several threads.
pub trait Opener: Sync {
    /// Opens a segment. A chain asks for each at most once, unless that failed.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from being read. That it is the one that was asked for, the chain checks.
    fn open(&self, link: &Link) -> Result<SegmentRef<'_>, ReadError>;
}

/// A snapshot within a chain, or a part.
pub struct Snapshot<'a> {
    seq: u32,
    sha256: Digest,
    taken_at: i64,
    part: bool,
    place: Place<'a>,
    facts: OnceLock<Facts>,
    /// Whether the head is going to be asked for again.
    keeps_head: bool,
    /// The manifest without its table, once it was read and if it is kept.
    head: OnceLock<Box<ManifestHead>>,
    /// The rows of its message table, once they are needed: a run that finds nothing new does
    /// without them.
    rows: OnceLock<Rows>,
    /// How often a message was looked up without them.
    lookups: AtomicUsize,
    /// Held by whoever opens the segment or reads the rows: it is not done twice.
    turn: Mutex<()>,
}

/// Where a segment is.
enum Place<'a> {
    Here(SegmentRef<'a>),
    Elsewhere {
        account: String,
        opener: &'a dyn Opener,
        opened: OnceLock<SegmentRef<'a>>,
        /// The segment before it, if there is one.
        parent: Option<Digest>,
    },
}

/// The little of a manifest that is always kept.
struct Facts {
    taken_at: TakenAt,
    totals: Totals,
    findings: u64,
}

impl Facts {
    fn of(head: &ManifestHead) -> Self {
        Self {
            taken_at: head.taken_at.clone(),
            totals: head.totals.clone(),
            findings: head.findings.len() as u64,
        }
    }
}

impl<'a> Snapshot<'a> {
    /// A segment that is at hand, and what its manifest says.
    pub(super) fn here(segment: SegmentRef<'a>, head: ManifestHead) -> Self {
        Self {
            seq: segment.seq(),
            sha256: segment.manifest_sha256(),
            taken_at: head.taken_at.unix,
            part: head.part,
            place: Place::Here(segment),
            facts: OnceLock::from(Facts::of(&head)),
            keeps_head: true,
            head: OnceLock::from(Box::new(head)),
            rows: OnceLock::new(),
            lookups: AtomicUsize::new(0),
            turn: Mutex::default(),
        }
    }

    /// A segment that is yet to be opened, and continues `parent`.
    pub(super) fn elsewhere(
        account: &str,
        link: &Link,
        parent: Option<Digest>,
        opener: &'a dyn Opener,
    ) -> Self {
        let account = account.to_owned();
        Self {
            seq: link.seq,
            sha256: link.sha256,
            taken_at: link.taken_at,
            part: link.part,
            place: Place::Elsewhere { account, opener, opened: OnceLock::new(), parent },
            facts: OnceLock::new(),
            keeps_head: false,
            head: OnceLock::new(),
            rows: OnceLock::new(),
            lookups: AtomicUsize::new(0),
            turn: Mutex::default(),
        }
    }

    /// Its number.
    pub fn seq(&self) -> u32 {
        self.seq
    }

    /// SHA-256 of its manifest: what a child names as its parent.
    pub fn sha256(&self) -> Digest {
        self.sha256
    }

    /// Whether it only holds messages in advance, and is no snapshot.
    pub fn is_part(&self) -> bool {
        self.part
    }

    /// The instant that it shows, seconds since 1970. The same as text is in its [head](Self::head).
    pub fn taken_at_unix(&self) -> i64 {
        self.taken_at
    }

    /// The sums of its manifest.
    ///
    /// # Errors
    ///
    /// Those of [`head`](Self::head), the first time.
    pub fn totals(&self) -> Result<&Totals, ReadError> {
        Ok(&self.facts()?.totals)
    }

    /// How many findings its manifest has.
    ///
    /// # Errors
    ///
    /// Those of [`head`](Self::head), the first time.
    pub fn findings(&self) -> Result<u64, ReadError> {
        Ok(self.facts()?.findings)
    }

    /// The segment.
    ///
    /// # Errors
    ///
    /// In a lazy chain, those of its [`Opener`], the first time, and if it is another segment
    /// than the link says.
    pub fn segment(&self) -> Result<&SegmentRef<'a>, ReadError> {
        let (account, opener, opened) = match &self.place {
            Place::Here(segment) => return Ok(segment),
            Place::Elsewhere { account, opener, opened, .. } => (account, opener, opened),
        };
        if let Some(segment) = opened.get() {
            return Ok(segment);
        }
        let _turn = self.turn();
        if let Some(segment) = opened.get() {
            return Ok(segment);
        }
        let link =
            Link { seq: self.seq, sha256: self.sha256, taken_at: self.taken_at, part: self.part };
        let segment = opener.open(&link)?;
        let found = (segment.account(), segment.seq(), segment.manifest_sha256());
        if found != (account, self.seq, self.sha256) {
            let detail = "it is another segment than its name says";
            return Err(self.unlike_its_link("the end block", detail));
        }
        Ok(opened.get_or_init(|| segment))
    }

    /// The messages that this segment holds.
    ///
    /// # Errors
    ///
    /// Those of [`SegmentRef::rows`] and [`segment`](Self::segment), the first time.
    pub fn table(&self) -> Result<&Rows, ReadError> {
        if let Some(rows) = self.rows.get() {
            return Ok(rows);
        }
        let segment = self.segment()?;
        let _turn = self.turn();
        if let Some(rows) = self.rows.get() {
            return Ok(rows);
        }
        let rows = segment.rows()?;
        Ok(self.rows.get_or_init(|| rows))
    }

    /// Where the bytes of a message are in this segment, if it holds them.
    ///
    /// # Errors
    ///
    /// Those of [`table`](Self::table).
    pub fn find(&self, guid: &Guid) -> Result<Option<Located>, ReadError> {
        if self.rows.get().is_none() && self.lookups.fetch_add(1, Ordering::Relaxed) < FEW {
            return self.segment()?.find(guid);
        }
        Ok(self.table()?.find(guid))
    }

    /// The manifest without its message table. That of a chain's newest snapshot and of its tip
    /// is read once only.
    ///
    /// # Errors
    ///
    /// Those of [`SegmentRef::head`] and [`segment`](Self::segment), and in a lazy chain if it is
    /// no part where the link says so, or continues another segment than the one before it.
    pub fn head(&self) -> Result<ManifestHead, ReadError> {
        if let Some(head) = self.head.get() {
            return Ok(ManifestHead::clone(head));
        }
        let head = self.segment()?.head()?;
        if let Place::Elsewhere { parent, .. } = &self.place {
            let continues = head.parent.as_ref().map(|parent| parent.sha256);
            if head.part != self.part {
                let detail = "it is of another kind than its name says";
                return Err(self.unlike_its_link("the manifest", detail));
            }
            if parent.is_some() && continues != *parent {
                let detail = "it continues another segment";
                return Err(self.unlike_its_link("the manifest", detail));
            }
        }
        self.facts.get_or_init(|| Facts::of(&head));
        if self.keeps_head {
            self.head.get_or_init(|| Box::new(head.clone()));
        }
        Ok(head)
    }

    /// Reads the whole manifest.
    ///
    /// # Errors
    ///
    /// Those of [`SegmentRef::manifest`] and [`segment`](Self::segment).
    pub fn manifest(&self) -> Result<Manifest, ReadError> {
        self.segment()?.manifest()
    }

    /// The instant as text, as far as it is known without reading anything.
    pub(super) fn taken_at_text(&self) -> String {
        let known = self.facts.get().map(|facts| facts.taken_at.text.clone());
        known.unwrap_or_else(|| format!("{} seconds since 1970", self.taken_at))
    }

    /// Keeps the head from now on, or forgets it.
    pub(super) fn keep_head(&mut self, keep: bool) {
        self.keeps_head = keep;
        if !keep {
            self.head.take();
        }
    }

    fn facts(&self) -> Result<&Facts, ReadError> {
        if let Some(facts) = self.facts.get() {
            return Ok(facts);
        }
        let head = self.head()?;
        Ok(self.facts.get_or_init(|| Facts::of(&head)))
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unlike_its_link(&self, what: &str, detail: &'static str) -> ReadError {
        let account = match &self.place {
            Place::Here(segment) => segment.account(),
            Place::Elsewhere { account, .. } => account,
        };
        let segment = format!("{account} {}", self.seq);
        ReadError::Damaged { what: what.to_owned(), segment, at: 0, detail }
    }
}
