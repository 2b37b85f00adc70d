//! An account that exists in memory only, with metadata files as Cyrus writes them.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use cyrus_format::header::{HeaderForm, MailboxHeader, file_crc};
use cyrus_format::index::{IndexHeader, RecordKey, Tally, write_index};
use engine::Exceptions;
use engine::export::{Expunged, Options};
use engine::ports::MessageSource;
use engine::source::{SourceAccount, SourceFile, SourceMailbox};
use model::crc::ThridText;
use model::{Guid, MboxName, Modseq, Record, SystemFlags, Timestamp, Uid, UidValidity, UniqueId};
use sha1::{Digest, Sha1};

/// 2014-05-13: from here on, every message arrives one second after the one before.
pub const EPOCH: i64 = 1_400_000_000;

/// An account as its spool would be.
#[derive(Clone, Debug, Default)]
pub struct Account {
    pub userid: String,
    pub mailboxes: Vec<Mailbox>,
    /// Subscriptions and so on, by their names in a snapshot.
    pub files: BTreeMap<String, Vec<u8>>,
}

/// One mailbox of it.
#[derive(Clone, Debug)]
pub struct Mailbox {
    pub name: String,
    pub id: Option<String>,
    /// The version of its index.
    pub version: u32,
    pub uidvalidity: u32,
    pub partition: String,
    pub flags: Vec<Option<Vec<u8>>>,
    /// Identifiers and rights.
    pub acl: Vec<(Vec<u8>, Vec<u8>)>,
    /// The records of cyrus.index.
    pub records: Vec<Record>,
    /// The records of cyrus.expunge, which there is if it has any.
    pub expunged: Vec<Record>,
    pub last_uid: u32,
    /// When anything changed last, if not with a record.
    pub highestmodseq: u64,
    /// The highest modseq of what is no longer there.
    pub deletedmodseq: u64,
    /// The message files, by UID.
    pub bodies: BTreeMap<u32, Vec<u8>>,
    pub annotations: Option<Vec<u8>>,
    /// Whether cyrus.header is there.
    pub has_header: bool,
    /// How many of the bytes of cyrus.index are there; `None` for all of them.
    pub index_cut: Option<usize>,
}

/// SHA-1, as a GUID.
pub fn guid_of(bytes: &[u8]) -> Guid {
    Guid(Sha1::digest(bytes).into())
}

impl Mailbox {
    /// An empty mailbox of Cyrus 3.6, or of 2.3 for a `version` below 12.
    pub fn new(name: &str, id: &str, version: u32) -> Self {
        Self {
            name: name.to_owned(),
            id: Some(id.to_owned()),
            version,
            uidvalidity: 1_400_000_000,
            partition: "default".to_owned(),
            flags: Vec::new(),
            acl: vec![(b"glad".to_vec(), b"lrswipkxtecdan".to_vec())],
            records: Vec::new(),
            expunged: Vec::new(),
            last_uid: 0,
            highestmodseq: 0,
            deletedmodseq: 0,
            bodies: BTreeMap::new(),
            annotations: None,
            has_header: true,
            index_cut: None,
        }
    }

    /// Adds a message under the next UID.
    pub fn add(&mut self, body: &[u8], internaldate: i64) -> &mut Record {
        self.last_uid += 1;
        self.bodies.insert(self.last_uid, body.to_vec());
        self.records.push(Record {
            uid: Uid(self.last_uid),
            guid: guid_of(body),
            size: body.len() as u64,
            internaldate: Timestamp::from_secs(internaldate),
            last_updated: Timestamp::from_secs(internaldate),
            modseq: Modseq(self.last_uid.into()),
            ..Record::default()
        });
        let last = self.records.len() - 1;
        &mut self.records[last]
    }

    /// The metadata files, by name.
    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        let header = self.header();
        let index = self.index(&self.records, file_crc(&header));
        let cut = self.index_cut.unwrap_or(index.len()).min(index.len());
        if cut > 0 {
            files.insert("cyrus.index".to_owned(), index[..cut].to_vec());
        }
        if self.has_header {
            files.insert("cyrus.header".to_owned(), header);
        }
        if !self.expunged.is_empty() {
            files.insert("cyrus.expunge".to_owned(), self.index(&self.expunged, 0));
        }
        if let Some(annotations) = &self.annotations {
            files.insert("cyrus.annotations".to_owned(), annotations.clone());
        }
        files
    }

    fn header(&self) -> Vec<u8> {
        let by_lines = self.version < 17;
        let header = MailboxHeader {
            form: if by_lines { HeaderForm::Lines } else { HeaderForm::Dlist },
            mbtype: if by_lines { Vec::new() } else { b"e".to_vec() },
            name: (!by_lines).then(|| MboxName::from(self.name.as_str())),
            uniqueid: self.id.as_deref().map(UniqueId::from),
            jmapid: None,
            quotaroot: Some(MboxName::from("user.glad")),
            acl: self.acl.clone(),
            user_flags: self.flags.clone(),
        };
        header.write().expect("a header")
    }

    fn index(&self, records: &[Record], header_file_crc: u32) -> Vec<u8> {
        let mut header = IndexHeader::fresh(self.version).expect("a version that there is");
        let flags = model::crc::FlagCrcs::new(self.flags.iter().map(Option::as_deref));
        let start = header.sync_crc_annot;
        Tally::of(records.iter().cloned(), self.version, &flags, ThridText::default())
            .apply(&mut header, start);
        header.last_uid = Uid(self.last_uid);
        header.highestmodseq = header.highestmodseq.max(Modseq(self.highestmodseq));
        header.deletedmodseq = header.deletedmodseq.max(Modseq(self.deletedmodseq));
        header.uidvalidity = UidValidity(self.uidvalidity);
        header.header_file_crc = header_file_crc;
        write_index(&header, records).expect("an index")
    }
}

impl Account {
    /// An account without anything.
    pub fn new(userid: &str) -> Self {
        Self { userid: userid.to_owned(), ..Self::default() }
    }

    /// As an operation takes it.
    pub fn source(&self) -> (SourceAccount, MemoryMessages) {
        let mailboxes = self.mailboxes.iter().map(|mailbox| SourceMailbox {
            name: MboxName::from(mailbox.name.as_str()),
            uniqueid: mailbox.id.as_deref().map(UniqueId::from),
            partition: mailbox.partition.clone().into_bytes(),
            mbtype: if mailbox.version < 17 { String::new() } else { "e".to_owned() },
            deleted: mailbox.name.starts_with("DELETED."),
            files: mailbox.files(),
            contents: Exceptions::default(),
            findings: Vec::new(),
        });
        let files = self.files.iter().map(|(name, bytes)| SourceFile {
            name: name.clone(),
            mtime: EPOCH,
            bytes: bytes.clone(),
        });
        let account = SourceAccount {
            userid: self.userid.as_str().into(),
            cyrus: "3.6 to 3.10".to_owned(),
            mailboxes: mailboxes.collect(),
            files: files.collect(),
            findings: Vec::new(),
        };
        let bodies: Vec<_> = self.mailboxes.iter().map(|mailbox| mailbox.bodies.clone()).collect();
        let held = bodies.iter().map(|_| AtomicBool::new(true)).collect();
        (account, MemoryMessages { bodies, held, opened: Mutex::default() })
    }
}

/// Message files in memory, which notes what was opened.
pub struct MemoryMessages {
    bodies: Vec<BTreeMap<u32, Vec<u8>>>,
    /// Which mailboxes may still be asked for.
    held: Vec<AtomicBool>,
    opened: Mutex<Vec<(usize, u32)>>,
}

impl MemoryMessages {
    /// Mailbox number and UID of every message that was asked for, sorted.
    pub fn opened(&self) -> Vec<(usize, u32)> {
        let mut opened = self.opened.lock().expect("no thread panicked").clone();
        opened.sort_unstable();
        opened
    }

    /// Whether a mailbox was not released.
    pub fn is_held(&self, mailbox: usize) -> bool {
        self.held[mailbox].load(Ordering::Relaxed)
    }

    /// How many were not.
    pub fn count_held(&self) -> usize {
        (0..self.held.len()).filter(|mailbox| self.is_held(*mailbox)).count()
    }
}

impl MessageSource for MemoryMessages {
    fn open(&self, mailbox: usize, record: &RecordKey) -> io::Result<Box<dyn Read + Send + '_>> {
        assert!(self.is_held(mailbox), "mailbox {mailbox} was released");
        self.opened.lock().expect("no thread panicked").push((mailbox, record.uid.0));
        let body = self.bodies[mailbox].get(&record.uid.0).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(body.as_slice()))
    }

    fn place(&self, mailbox: usize, record: &RecordKey) -> String {
        format!("message {} of mailbox {mailbox}", record.uid)
    }

    fn list(&self, mailbox: usize) -> io::Result<Vec<Uid>> {
        assert!(self.is_held(mailbox), "mailbox {mailbox} was released");
        Ok(self.bodies[mailbox].keys().map(|uid| Uid(*uid)).collect())
    }

    fn index_now(&self, _mailbox: usize) -> io::Result<Option<Vec<u8>>> {
        Ok(None)
    }

    fn release(&self, mailbox: usize) {
        self.held[mailbox].store(false, Ordering::Relaxed);
    }
}

/// The records whose messages a mailbox should have, by UID: those of its index, then those of
/// its cyrus.expunge that the index does not list. Read from the files, in the plainest way.
pub fn linked(files: &BTreeMap<String, Vec<u8>>) -> BTreeMap<u32, RecordKey> {
    let mut linked = BTreeMap::new();
    for name in ["cyrus.index", "cyrus.expunge"] {
        let Some(bytes) = files.get(name) else { continue };
        let Ok(index) = cyrus_format::index::Index::parse(bytes) else { continue };
        for key in index.keys() {
            linked.entry(key.uid.0).or_insert(key);
        }
    }
    linked.retain(|_, key| !key.system_flags.contains(SystemFlags::UNLINKED));
    linked
}

/// How everything is exported that clients see.
pub fn options(taken_at: i64) -> Options {
    Options { taken_at, workers: 2, expunged: Expunged::WhereMarked }
}
