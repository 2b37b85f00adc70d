//! Snapshots of an account in memory, one after the other.

use std::collections::BTreeMap;
use std::io;
use std::sync::Mutex;

use engine::base::Base;
use engine::ports::Silent;
use engine::snapshot::parts::{Limit, PartSummary, missing, part};
use engine::snapshot::{Options, Summary, snapshot};
use model::Guid;
use segment::ReadAt;
use segment::chain::{Chain, Link, Opener, newest};
use segment::entry::{Entry, Kind, Scan, Sequential};
use segment::names::{EntryName, Part};
use segment::reader::{ReadError, SegmentRef, segments};

use super::account::{Account, EPOCH, MemoryMessages};

/// The segments of one chain.
#[derive(Default)]
pub struct Archive {
    pub segments: Vec<Vec<u8>>,
    /// Whether segments are opened only when something of them is needed.
    pub is_lazy: bool,
    /// Whether catalogues are made.
    pub has_catalogs: bool,
}

/// One snapshot, and what it had to ask for.
pub struct Taken {
    pub summary: Summary,
    pub messages: MemoryMessages,
}

impl Archive {
    /// Takes the next snapshot.
    pub fn take(&mut self, account: &Account) -> Taken {
        let (source, messages) = account.source();
        let options = self.options();
        let (segment, summary) = {
            let chain = self.chain(account);
            let base = chain.as_ref().map(|chain| Base::new(chain).expect("a base"));
            snapshot(source, &messages, base.as_ref(), Vec::new(), &options, &Silent)
                .expect("a snapshot")
        };
        assert_eq!(messages.count_held(), 0, "cleanup waits for nothing");
        self.segments.push(segment);
        Taken { summary, messages }
    }

    /// Stores at least so many bytes of messages in advance, if there are so many.
    pub fn part(&mut self, account: &Account, bytes: u64) -> Option<PartSummary> {
        self.part_within(account, &Limit { bytes, messages: u64::MAX })
    }

    /// The same, with a limit on the number of messages, too.
    pub fn part_within(&mut self, account: &Account, limit: &Limit) -> Option<PartSummary> {
        let (source, messages) = account.source();
        let options = self.options();
        let mut is_begun = false;
        let out = || {
            is_begun = true;
            Vec::new()
        };
        let part = {
            let chain = self.chain(account);
            let base = chain.as_ref().map(|chain| Base::new(chain).expect("a base"));
            part(&source.into(), &messages, base.as_ref(), out, limit, &options, &Silent)
                .expect("a part, or none")
        };
        assert_eq!(messages.count_held(), account.mailboxes.len(), "the snapshot wants them");
        assert_eq!(is_begun, part.is_some());
        let (segment, summary) = part?;
        assert_eq!(segment.len() as u64, summary.segment_bytes);
        self.segments.push(segment);
        Some(summary)
    }

    /// How much a snapshot would store now.
    pub fn missing(&self, account: &Account) -> u64 {
        let chain = self.chain(account);
        let base = chain.as_ref().map(|chain| Base::new(chain).expect("a base"));
        missing(&account.source().0.into(), base.as_ref()).expect("a chain that can be read")
    }

    /// The chain so far, if there is one.
    pub fn chain(&self, account: &Account) -> Option<Chain<'_>> {
        if self.segments.is_empty() {
            return None;
        }
        Some(match self.is_lazy {
            true => Chain::lazy("glad", self.links(), self),
            false => chain_of(&self.all_segments(), account),
        })
    }

    /// What names would say of the segments.
    pub fn links(&self) -> Vec<Link> {
        let links = self.all_segments().into_iter().map(|segment| {
            let head = segment.head().expect("a manifest");
            let (sha256, taken_at) = (segment.manifest_sha256(), head.taken_at.unix);
            Link { seq: head.seq, sha256, taken_at, part: head.part }
        });
        links.collect()
    }

    fn options(&self) -> Options {
        let seq = i64::try_from(self.segments.len()).expect("few segments") + 1;
        Options { catalog: self.has_catalogs, ..options(seq) }
    }

    /// All segments, each from an archive of its own.
    pub fn all_segments(&self) -> Vec<SegmentRef<'_>> {
        self.segments.iter().flat_map(|segment| found(segment)).collect()
    }

    /// One archive.
    pub fn concatenated(&self) -> Vec<u8> {
        self.segments.concat()
    }
}

impl Opener for Archive {
    fn open(&self, link: &Link) -> Result<SegmentRef<'_>, ReadError> {
        let gone = || ReadError::Read { at: 0, source: io::ErrorKind::NotFound.into() };
        let mut segments = self.all_segments().into_iter();
        segments.find(|segment| segment.seq() == link.seq).ok_or_else(gone)
    }
}

/// An archive that notes which of its segments are opened.
pub struct Noting<'a> {
    archive: &'a Archive,
    opened: Mutex<Vec<u32>>,
}

impl<'a> Noting<'a> {
    pub fn new(archive: &'a Archive) -> Self {
        Self { archive, opened: Mutex::default() }
    }

    /// Its segments as a chain, of which none is open yet.
    pub fn chain(&self) -> Chain<'_> {
        Chain::lazy("glad", self.archive.links(), self)
    }

    /// The numbers of those that were opened, in that order.
    pub fn opened(&self) -> Vec<u32> {
        self.opened.lock().expect("no thread panicked").clone()
    }
}

impl Opener for Noting<'_> {
    fn open(&self, link: &Link) -> Result<SegmentRef<'_>, ReadError> {
        self.opened.lock().expect("no thread panicked").push(link.seq);
        self.archive.open(link)
    }
}

/// The segments of an archive that is in order.
pub fn found(archive: &dyn ReadAt) -> Vec<SegmentRef<'_>> {
    segments(archive).expect("an archive in order")
}

/// The one chain that they make.
pub fn chain_of<'a>(segments: &[SegmentRef<'a>], account: &Account) -> Chain<'a> {
    let component = segment::names::escape(account.userid.as_bytes());
    newest(segments, &component).expect("a chain")
}

/// Every entry of an archive, with its content.
pub fn entries(archive: &[u8]) -> Vec<(Entry, Vec<u8>)> {
    let mut scan = Scan::new(Sequential(archive), 0);
    let mut entries = Vec::new();
    while let Some(entry) = scan.next_entry().expect("an entry") {
        let mut content = vec![0; usize::try_from(entry.size).expect("a size")];
        let mut read = 0;
        while read < content.len() {
            read += scan.read_content(&mut content[read..]).expect("its content");
        }
        entries.push((entry, content));
    }
    entries
}

/// How many entries of each sort a segment has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub messages: usize,
    pub hard_links: usize,
    pub symlinks: usize,
    pub directories: usize,
    /// Metadata files of mailboxes.
    pub metadata: usize,
    pub account_files: usize,
}

/// Counts everything but the manifest and the end.
pub fn count(segment: &[u8]) -> Counts {
    let mut counts = Counts::default();
    for (entry, _) in entries(segment) {
        let name = EntryName::parse(&entry.name).expect("a name");
        *match name.part {
            Part::Message(_) => &mut counts.messages,
            Part::MailboxMessage { .. } => &mut counts.hard_links,
            Part::Folder(_) => &mut counts.symlinks,
            Part::MailboxDir(_) => &mut counts.directories,
            Part::MailboxFile { .. } => &mut counts.metadata,
            Part::AccountFile(_) => &mut counts.account_files,
            Part::Manifest(_) | Part::End(_) => continue,
        } += 1;
    }
    counts
}

/// The files that a plain tar program leaves when it extracts an archive, links followed.
///
/// # Panics
///
/// If the archive has a link that some tar program would stop at: one whose name was there
/// already, or a hard link to nothing.
pub fn extract(archive: &[u8]) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut files: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    let mut symlinks: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    for (entry, content) in entries(archive) {
        let shown = String::from_utf8_lossy(&entry.name).into_owned();
        match entry.kind {
            Kind::File => {
                if let Ok(EntryName { part: Part::Message(guid), .. }) =
                    EntryName::parse(&entry.name)
                {
                    assert_eq!(super::account::guid_of(&content), guid, "{shown}");
                }
                files.insert(entry.name, content);
            }
            Kind::HardLink => {
                let target = files.get(&entry.link).expect("what a hard link points at").clone();
                assert!(files.insert(entry.name, target).is_none(), "{shown} is linked twice");
            }
            Kind::Symlink => {
                let twice = symlinks.insert(entry.name, entry.link).is_some();
                assert!(!twice, "{shown} is linked twice");
            }
            Kind::Directory => {}
            Kind::Other(flag) => panic!("{shown} is of kind {flag}"),
        }
    }
    files
}

/// How often each message's bytes are in an archive.
pub fn stored_messages(archive: &[u8]) -> BTreeMap<Guid, usize> {
    let mut stored = BTreeMap::new();
    for (entry, _) in entries(archive) {
        if let Ok(EntryName { part: Part::Message(guid), .. }) = EntryName::parse(&entry.name) {
            *stored.entry(guid).or_default() += 1;
        }
    }
    stored
}

/// How snapshot number `seq` is taken.
pub fn options(seq: i64) -> Options {
    Options {
        taken_at: EPOCH + 1_000_000 * seq,
        taken_at_text: format!("snapshot {seq}"),
        program: "test".to_owned(),
        workers: 2,
        seq: None,
        rewritten_at: None,
        catalog: false,
    }
}
