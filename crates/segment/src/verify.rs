//! Looks at every byte of a segment: whether it is what its manifest says, and nothing else.

use std::collections::BTreeMap;

use model::Guid;
use model::state::Digest;
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use crate::bytes::{padding, printable};
use crate::entry::{Entry, NewEntry, Random, Scan};
use crate::manifest::{Manifest, StoredFile};
use crate::names::{EntryName, Part};
use crate::reader::{LastWhole, ReadError, SegmentRef, check_entry};

/// How much of a content is read at a time.
const PIECE: usize = 256 << 10;

/// What a segment turned out to hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages whose bytes have the SHA-1 that is their GUID.
    pub messages: u64,
    /// Bytes of them.
    pub message_bytes: u64,
    /// Metadata files whose bytes have their SHA-256.
    pub files: u64,
    /// Hard links to messages that the chain holds.
    pub hard_links: u64,
    /// Messages that were begun and given up; nothing refers to them.
    pub abandoned: u64,
}

/// Reads the whole segment and holds it against its manifest.
///
/// `held_before` says whether an earlier segment of the chain holds a message; `problem` is told
/// everything that is wrong.
///
/// # Errors
///
/// Only what makes it impossible to go on: no usable manifest, or a run of entries that cannot be
/// followed.
pub fn segment(
    segment: &SegmentRef<'_>,
    held_before: &dyn Fn(&Guid) -> bool,
    problem: &mut dyn FnMut(ReadError),
) -> Result<Counts, ReadError> {
    let manifest = segment.manifest()?;
    let (start, end) = (segment.start(), segment.start() + segment.bytes());
    let mut check = Check {
        segment,
        manifest: &manifest,
        scan: Scan::new(Random::new(segment.archive(), start, end), start),
        held_before,
        problem,
        files: BTreeMap::new(),
        met: vec![false; manifest.table().len()],
        buffer: vec![0; PIECE],
        counts: Counts::default(),
    };
    check.list_files();
    loop {
        let entry = check.scan.next_entry().map_err(broken)?;
        match entry {
            Some(entry) => check.entry(&entry)?,
            None => break,
        }
    }
    check.missing();
    Ok(check.counts)
}

fn broken(source: crate::entry::ScanError) -> ReadError {
    ReadError::Broken { last: LastWhole(None), source }
}

struct Check<'c, 'a> {
    segment: &'c SegmentRef<'a>,
    manifest: &'c Manifest,
    scan: Scan<Random<'a>>,
    held_before: &'c dyn Fn(&Guid) -> bool,
    problem: &'c mut dyn FnMut(ReadError),
    /// The files that should be here and were not met yet, by offset.
    files: BTreeMap<u64, StoredFile>,
    /// Which rows of the message table were met.
    met: Vec<bool>,
    buffer: Vec<u8>,
    counts: Counts,
}

impl Check<'_, '_> {
    /// Notes the files that the manifest says are in its own segment, by where they begin.
    fn list_files(&mut self) {
        let head = self.manifest.head();
        let of_mailboxes = head.mailboxes.iter().flat_map(|mailbox| &mailbox.files);
        for file in of_mailboxes.chain(&head.account_files).chain(&head.catalog) {
            if file.seq != head.seq {
                continue;
            }
            let other = self.files.insert(file.offset, file.clone());
            if other.is_some_and(|o| (o.size, o.sha256) != (file.size, file.sha256)) {
                let at = self.segment.start().saturating_add(file.offset);
                self.report(format!("file {}", file.name), at, "another one is at its place");
            }
        }
    }

    fn entry(&mut self, entry: &Entry) -> Result<(), ReadError> {
        if let Some(detail) = self.unlike_ours(entry)? {
            self.report(printable(&entry.name), entry.at, detail);
        }
        let name = match check_entry(entry) {
            Ok(name) => name,
            Err(error) => {
                (self.problem)(error);
                return Ok(());
            }
        };
        let end = self.segment.end_block();
        let offset = entry.content - self.segment.start();
        let is_last = offset + entry.size == end.segment_bytes;
        let wrong = match name.part {
            _ if name.account != self.segment.account() => Some("it is of another account"),
            Part::Message(guid) => return self.message(entry, guid, offset),
            Part::MailboxFile { .. } | Part::AccountFile(_) => return self.file(entry, offset),
            Part::MailboxMessage { .. } => self.hard_link(entry),
            Part::Folder(link) => self.folder(entry, link),
            Part::MailboxDir(_) => None,
            Part::Manifest(seq) if seq == end.seq && offset == end.manifest_offset => None,
            Part::End(seq) if seq == end.seq && is_last => None,
            Part::Manifest(_) | Part::End(_) => Some("it is not where the segment has it"),
        };
        if let Some(detail) = wrong {
            self.report(printable(&entry.name), entry.content, detail);
        }
        Ok(())
    }

    /// What is not as the writer would have put it, around an entry's content.
    fn unlike_ours(&self, entry: &Entry) -> Result<Option<&'static str>, ReadError> {
        let Entry { name, kind, link, mtime, size, .. } = entry;
        let mut ours = Vec::new();
        NewEntry { name, kind: *kind, link, mtime: *mtime, size: *size }.encode(&mut ours);
        if entry.content - entry.at != ours.len() as u64 {
            return Ok(Some("its header is not as this program writes it"));
        }
        let archive = self.segment.archive();
        let read = |at, len: usize| {
            let mut bytes = vec![0; len];
            let read = archive.read_exact_at(at, &mut bytes);
            read.map(|()| bytes).map_err(|source| ReadError::Read { at, source })
        };
        if read(entry.at, ours.len())? != ours {
            return Ok(Some("its header is not as this program writes it"));
        }
        let (end, padding) = (entry.content.saturating_add(*size), padding(*size));
        if end.saturating_add(padding) > self.segment.start() + self.segment.bytes() {
            // The scan is about to say so.
            return Ok(None);
        }
        let behind = read(end, padding as usize)?;
        Ok(behind.iter().any(|byte| *byte != 0).then_some("what fills its last block is not zero"))
    }

    fn message(&mut self, entry: &Entry, guid: Guid, offset: u64) -> Result<(), ReadError> {
        let table = self.manifest.table();
        let row = table.position(&guid).filter(|_| {
            table.find(&guid).is_some_and(|row| row.offset == offset && row.size == entry.size)
        });
        let Some(row) = row else {
            self.counts.abandoned += 1;
            return Ok(());
        };
        self.met[row] = true;
        let mut hash = Sha1::new();
        self.read(|piece| hash.update(piece))?;
        if Guid(hash.finalize().into()) == guid {
            self.counts.messages += 1;
            self.counts.message_bytes += entry.size;
        } else {
            self.report(format!("message {guid}"), entry.content, "its SHA-1 is wrong");
        }
        Ok(())
    }

    fn file(&mut self, entry: &Entry, offset: u64) -> Result<(), ReadError> {
        let what = printable(&entry.name);
        let Some(file) = self.files.remove(&offset) else {
            self.report(what, entry.content, "the manifest does not list it");
            return Ok(());
        };
        let mut hash = Sha256::new();
        self.read(|piece| hash.update(piece))?;
        if file.size == entry.size && file.sha256 == Digest(hash.finalize().into()) {
            self.counts.files += 1;
        } else {
            self.report(what, entry.content, "it is not what the manifest lists");
        }
        Ok(())
    }

    /// What is wrong with a hard link, if anything: programs make one to a file that is there.
    fn hard_link(&mut self, entry: &Entry) -> Option<&'static str> {
        let Ok(EntryName { part: Part::Message(guid), .. }) = EntryName::parse(&entry.link) else {
            return Some("it leads to no message");
        };
        let position = self.manifest.table().position(&guid);
        if !position.is_some_and(|row| self.met[row]) && !(self.held_before)(&guid) {
            return Some("it leads to a message that is not there");
        }
        self.counts.hard_links += 1;
        None
    }

    fn folder(&self, entry: &Entry, link: &str) -> Option<&'static str> {
        let dir = crate::names::parse_folder_target(&entry.link);
        let mut listed = self.manifest.head().links.iter();
        let found = listed.any(|stored| stored.link == link && Some(stored.dir.as_str()) == dir);
        (!found).then_some("the manifest does not list it")
    }

    /// Reads the content of the present entry to its end.
    fn read(&mut self, mut take: impl FnMut(&[u8])) -> Result<(), ReadError> {
        loop {
            match self.scan.read_content(&mut self.buffer).map_err(broken)? {
                0 => return Ok(()),
                read => take(&self.buffer[..read]),
            }
        }
    }

    /// Reports what the manifest lists and no entry was.
    fn missing(&mut self) {
        let start = self.segment.start();
        let unmet = self.manifest.table().iter().zip(&self.met).filter(|(_, met)| !**met);
        let messages = unmet.map(|(row, _)| (format!("message {}", row.guid), row.offset));
        let files = self.files.values().map(|file| (format!("file {}", file.name), file.offset));
        let missing: Vec<(String, u64)> = messages.chain(files).collect();
        for (what, offset) in missing {
            self.report(what, start.saturating_add(offset), "there is no such entry");
        }
    }

    fn report(&mut self, what: String, at: u64, detail: &'static str) {
        let error = self.segment.damaged(what, at, detail);
        (self.problem)(error);
    }
}
