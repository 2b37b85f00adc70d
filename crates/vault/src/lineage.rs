//! A lineage, opened: segments are fetched when they are needed.

use std::io;
use std::sync::{Arc, OnceLock};

use segment::chain::{Chain, Link, Opener};
use segment::compress::{FrameCache, SeekableError, SeekableZstd};
use segment::reader::{self, ReadError, SegmentRef};

use crate::history::{Entry, Lineage};
use crate::keys::SegmentKind;
use crate::object::ObjectFile;
use crate::store::Store;
use crate::vault::Account;

impl Account {
    /// Opens a segment without what it continues: its manifest, its own files and messages.
    pub fn open_alone(&self, entry: &Entry) -> OpenLineage {
        self.open(&Lineage { entries: vec![entry.clone()], torn: None })
    }

    /// Whose segment it is, as the segment itself says; `None` if it cannot be read.
    pub(crate) fn recorded(&self, entry: &Entry) -> Option<String> {
        let opened = self.open_alone(entry);
        let segment = opened.segments.first()?.open().ok()?;
        Some(segment.account().to_owned())
    }

    /// Opens a lineage for reading: its segments are fetched when they are needed.
    pub fn open(&self, lineage: &Lineage) -> OpenLineage {
        let component = self.component().to_owned();
        let mut opened = OpenLineage { component, segments: Vec::new(), frames: Arc::default() };
        lineage.entries.iter().for_each(|entry| opened.push(self, entry));
        opened
    }
}

/// The segments of a lineage, opened when they are needed.
pub struct OpenLineage {
    component: String,
    segments: Vec<OpenSegment>,
    frames: Arc<FrameCache>,
}

struct OpenSegment {
    entry: Entry,
    path: String,
    store: Store,
    content: OnceLock<SeekableZstd<ObjectFile>>,
    frames: Arc<FrameCache>,
}

impl OpenLineage {
    /// Adds a segment that was just stored; what was opened of the others stays open.
    pub fn push(&mut self, account: &Account, entry: &Entry) {
        self.segments.push(OpenSegment {
            path: account.path(&entry.name.to_string()),
            store: account.store().clone(),
            entry: entry.clone(),
            content: OnceLock::new(),
            frames: Arc::clone(&self.frames),
        });
    }

    /// The lineage as a chain.
    pub fn chain(&self) -> Chain<'_> {
        let link = |segment: &OpenSegment| Link {
            seq: segment.entry.name.seq,
            sha256: segment.entry.name.own,
            taken_at: segment.entry.name.taken_at,
            part: segment.entry.name.kind == SegmentKind::Part,
        };
        Chain::lazy(&self.component, self.segments.iter().map(link).collect(), self)
    }
}

impl Opener for OpenLineage {
    fn open(&self, link: &Link) -> Result<SegmentRef<'_>, ReadError> {
        let found = self.segments.iter().find(|segment| segment.entry.name.own == link.sha256);
        let segment = found
            .ok_or_else(|| ReadError::Read { at: 0, source: io::ErrorKind::NotFound.into() })?;
        segment.open()
    }
}

impl OpenSegment {
    fn open(&self) -> Result<SegmentRef<'_>, ReadError> {
        let content = match self.content.get() {
            Some(content) => content,
            None => {
                let (store, path, size) = (&self.store, &self.path, self.entry.size);
                let object = ObjectFile::new(store.clone(), path.clone(), size);
                let opened = SeekableZstd::open_sharing(object, &self.frames).map_err(|error| {
                    let source = match error {
                        SeekableError::Read(source) => source,
                        none @ SeekableError::NoTable { .. } => {
                            io::Error::new(io::ErrorKind::InvalidData, none)
                        }
                    };
                    ReadError::Read { at: size, source }
                })?;
                self.content.get_or_init(|| opened)
            }
        };
        let segment = reader::only_segment(content)?;
        let manifest = segment.start() + segment.end_block().manifest_offset;
        let reached = content.file().reach(content.frame_of(manifest));
        reached.map_err(|source| ReadError::Read { at: manifest, source })?;
        Ok(segment)
    }
}
