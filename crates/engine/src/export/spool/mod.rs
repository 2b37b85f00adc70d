//! Export as a Cyrus server's directories: `conf/`, `spool/<partition>/`, and an `imapd.conf`
//! that names them, so that a Cyrus started on it serves the account.
//!
//! Metadata files are written back byte for byte. Two things cannot stay as they were: a record
//! that says that its file is on an archive partition, since the tree has none; and records of
//! cyrus.expunge that are in cyrus.index too, since a newer Cyrus would take the live message
//! away with them.

mod conf;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cyrus_format::expunge;
use cyrus_format::header::MailboxHeader;
use cyrus_format::index::{Index, RecordKey, patch_record, sizes, write_index};
use cyrus_format::mboxlist::{MailboxEntry, MailboxType, MboxList, MboxListEra};
use cyrus_format::names::NameRules;
use cyrus_format::paths::{DirHash, PathRules};
use model::{Guid, MboxName, Record, SystemFlags, UidValidity, UniqueId};

use super::{Body, ExportError, Exporter, Files, FolderInfo, Taker, Tree};
use crate::known::first_bytes;
use crate::records::Records;
use crate::source::{SourceAccount, SourceMailbox};

/// How mailboxes are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// As they were.
    Source,
    /// By uniqueid (3.6+).
    Uuid,
    /// By name.
    Name,
}

/// How the tree is to look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpoolOptions {
    /// The layout of mailboxes.
    pub layout: Layout,
    /// Where the tree is, for the paths in its imapd.conf.
    pub root: PathBuf,
}

/// What a tree is to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    All,
    Metadata,
}

/// Writes one account.
pub(super) struct Spool<'a> {
    tree: &'a mut dyn Tree,
    account: &'a SourceAccount,
    content: Content,
    root: PathBuf,
    rules: PathRules,
    /// The form of the mailboxes.db that is written.
    era: MboxListEra,
    /// Of each mailbox.
    entries: Vec<MailboxEntry>,
    dirs: Vec<PathBuf>,
    /// That of the mailbox at hand, where several threads can make files in it.
    files: Option<Arc<dyn Files>>,
    at: usize,
    taken_at: i64,
    /// Where each message that may come again is written first, and with which date.
    written: HashMap<Guid, Written>,
    /// The [first bytes](first_bytes) of their GUIDs; `None` where not all GUIDs are known.
    repeated: Option<Vec<u64>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Written {
    mailbox: usize,
    uid: u32,
    mtime: i64,
}

impl<'a> Spool<'a> {
    /// Decides where everything goes; nothing is written yet.
    pub fn new(
        tree: &'a mut dyn Tree,
        account: &'a SourceAccount,
        options: &SpoolOptions,
        content: Content,
        taken_at: i64,
    ) -> Result<Self, ExportError> {
        let virtdomains = account.mailboxes.iter().any(|m| m.name.as_bytes().contains(&b'!'));
        let names = NameRules { virtdomains, ..NameRules::v3() };
        let rules = PathRules { names, hashimapspool: false, dirhash: DirHash::Simple };
        let list = conf::stored_list(account, &rules.names);
        let era = match (options.layout, list.era) {
            (Layout::Uuid, _) => MboxListEra::ById,
            (_, era) => era,
        };
        let mut spool = Self {
            tree,
            account,
            content,
            root: options.root.clone(),
            rules,
            era,
            entries: Vec::new(),
            dirs: Vec::new(),
            files: None,
            at: 0,
            taken_at,
            written: HashMap::new(),
            repeated: repeated(account),
        };
        for mailbox in &account.mailboxes {
            let mut entry = entry_of(mailbox, &list);
            entry.mbtype.legacy_dirs = match options.layout {
                Layout::Source => entry.mbtype.legacy_dirs,
                Layout::Uuid => false,
                Layout::Name => true,
            };
            spool.dirs.push(spool.dir_of(&entry)?);
            spool.entries.push(entry);
        }
        Ok(spool)
    }

    /// Writes the configuration directory, now that the mailboxes are there.
    pub fn finish(self) -> Result<(), ExportError> {
        conf::write(self)
    }

    fn path_of(&self, mailbox: usize, uid: u32) -> PathBuf {
        self.dirs[mailbox].join(file_name(uid))
    }

    /// Whether several messages may have these bytes.
    fn may_repeat(&self, guid: &Guid) -> bool {
        let repeated = self.repeated.as_ref();
        repeated.is_none_or(|repeated| repeated.binary_search(&first_bytes(guid)).is_ok())
    }

    /// A file that a message may share. Like Cyrus' single instance store: one inode within a
    /// partition. The date is the inode's, so messages with different ones stay apart.
    fn same(&self, guid: Guid, mtime: i64) -> Option<Written> {
        let partition = |at: usize| self.entries[at].partition.as_deref();
        let first = self.written.get(&guid).copied();
        first.filter(|first| first.mtime == mtime && partition(first.mailbox) == partition(self.at))
    }

    fn dir_of(&self, entry: &MailboxEntry) -> Result<PathBuf, ExportError> {
        let fail = |why: String| ExportError::Layout { what: entry.name.to_string(), why };
        let partition = entry.partition.clone().unwrap_or_else(|| b"default".to_vec());
        // What imapd.conf can say behind `partition-`; it names a directory here as well.
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if partition.is_empty() || !partition.iter().all(plain) {
            return Err(fail("its partition has no name that imapd.conf can hold".to_owned()));
        }
        let by_id = self.era == MboxListEra::ById && !entry.mbtype.legacy_dirs;
        let dir = match (&entry.uniqueid, by_id) {
            (Some(id), true) => self.rules.mailbox_dir_by_id(id),
            (None, true) => return Err(fail("it has no uniqueid; try --layout name".to_owned())),
            (_, false) => self.rules.mailbox_dir_by_name(&entry.name),
        };
        let dir = dir.map_err(|error| fail(error.to_string()))?;
        Ok(Path::new("spool").join(std::ffi::OsString::from_vec(partition)).join(dir))
    }
}

/// What mailboxes.db said, or else what the mailbox itself says.
fn entry_of(mailbox: &SourceMailbox, list: &MboxList) -> MailboxEntry {
    if let Some(entry) = list.get(&mailbox.name) {
        let uniqueid = mailbox.uniqueid.clone().or_else(|| entry.uniqueid.clone());
        return MailboxEntry { uniqueid, ..entry.clone() };
    }
    let header = mailbox.files.get("cyrus.header");
    let header = header.and_then(|bytes| MailboxHeader::parse(bytes).ok()).unwrap_or_default();
    let index = mailbox.files.get("cyrus.index").and_then(|bytes| Index::parse(bytes).ok());
    MailboxEntry {
        name: mailbox.name.clone(),
        uniqueid: mailbox.uniqueid.clone().or(header.uniqueid),
        mbtype: MailboxType::from_letters(mailbox.mbtype.as_bytes()),
        partition: Some(mailbox.partition.clone()).filter(|partition| !partition.is_empty()),
        acl: header.acl,
        uidvalidity: index.map(|index| UidValidity(index.header().uidvalidity.0)),
        ..MailboxEntry::default()
    }
}

impl Exporter for Spool<'_> {
    fn marks_expunged(&self) -> bool {
        true
    }

    fn wants_messages(&self) -> bool {
        self.content == Content::All
    }

    fn begin(&mut self, folder: &FolderInfo<'_>) -> io::Result<()> {
        self.at = folder.at;
        let dir = self.dirs[folder.at].clone();
        self.tree.dir(&dir)?;
        self.files = self.tree.files(&dir)?;
        for (name, bytes) in &folder.mailbox.files {
            let bytes = match name.as_str() {
                "cyrus.index" => without_archive(bytes),
                "cyrus.expunge" => match without_overlaps(bytes, &folder.mailbox.files) {
                    Some(bytes) => bytes,
                    None => continue,
                },
                _ => bytes.clone(),
            };
            self.tree.file(&dir.join(name), self.taken_at, &bytes)?;
        }
        Ok(())
    }

    fn message(&mut self, record: &Record, guid: Guid, body: Body<'_>) -> io::Result<()> {
        let mtime = record.internaldate.secs;
        let first = Written { mailbox: self.at, uid: record.uid.0, mtime };
        if self.may_repeat(&guid) && *self.written.entry(guid).or_insert(first) != first {
            if self.again(record, guid)? {
                return Ok(());
            }
            self.written.entry(guid).or_insert(first);
        }
        let path = self.path_of(self.at, record.uid.0);
        body.write_to(self.tree, &path, mtime)
    }

    fn taker(&self) -> Option<Taker> {
        let files = Arc::clone(self.files.as_ref()?);
        Some(Box::new(move |record, bytes| {
            files.file(&file_name(record.uid.0), record.internaldate.secs, bytes)
        }))
    }

    fn expect(&mut self, record: &RecordKey, guid: Guid) {
        if self.may_repeat(&guid) {
            let mtime = record.internaldate.secs;
            let first = Written { mailbox: self.at, uid: record.uid.0, mtime };
            self.written.entry(guid).or_insert(first);
        }
    }

    fn can_repeat(&self, record: &RecordKey, guid: Guid) -> bool {
        self.same(guid, record.internaldate.secs).is_some()
    }

    fn again(&mut self, record: &Record, guid: Guid) -> io::Result<bool> {
        let Some(first) = self.same(guid, record.internaldate.secs) else { return Ok(false) };
        let existing = self.path_of(first.mailbox, first.uid);
        let linked = self.tree.link(&existing, &self.path_of(self.at, record.uid.0));
        match linked.map_err(|error| (error.kind(), error)) {
            Ok(()) => Ok(true),
            // The file system allows a file only so many names: the next file begins. Or what was
            // expected was not to be had.
            Err((io::ErrorKind::TooManyLinks | io::ErrorKind::NotFound, _)) => {
                self.written.remove(&guid);
                Ok(false)
            }
            Err((_, error)) => Err(error),
        }
    }

    fn end(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The first bytes of the GUIDs that more than one message has: few, where all messages are many.
fn repeated(account: &SourceAccount) -> Option<Vec<u64>> {
    let mut all = Vec::new();
    for mailbox in &account.mailboxes {
        for record in Records::read(&mailbox.files).linked() {
            if mailbox.contents.get(record.uid) != Some(None) {
                all.push(first_bytes(&mailbox.content_of(&record)?));
            }
        }
    }
    all.sort_unstable();
    let twice = all.windows(2).filter(|pair| pair[0] == pair[1]);
    let mut repeated: Vec<u64> = twice.map(|pair| pair[0]).collect();
    repeated.dedup();
    Some(repeated)
}

/// As Cyrus names the file of a message.
fn file_name(uid: u32) -> String {
    format!("{uid}.")
}

/// The same index, in which no record claims that its file is on an archive partition.
fn without_archive(bytes: &[u8]) -> Vec<u8> {
    let mut patched = bytes.to_vec();
    let Ok(index) = Index::parse(bytes) else { return patched };
    let version = index.minor_version();
    let Some((header_size, _)) = sizes(version) else { return patched };
    // Not always the version's: see `Index::parse`.
    let record_size = index.raw(0).map_or(0, <[u8]>::len);
    for (at, _) in index.keys().enumerate().filter(|(_, key)| key.is_archived()) {
        let from = header_size + at * record_size;
        // Only a value that the version cannot hold is refused, and the record came from there.
        let _ = patch_record(version, &mut patched[from..from + record_size], |record| {
            record.system_flags.0 &= !SystemFlags::ARCHIVED.0;
        });
    }
    patched
}

/// The same cyrus.expunge without the records that cyrus.index has too; `None` if there are
/// such records and the version is none that can be written.
fn without_overlaps(bytes: &[u8], files: &BTreeMap<String, Vec<u8>>) -> Option<Vec<u8>> {
    let index = files.get("cyrus.index").and_then(|bytes| Index::parse(bytes).ok());
    let (Some(index), Ok(expunged)) = (index, expunge::parse(bytes)) else {
        return Some(bytes.to_vec());
    };
    if expunge::merge(&index, &expunged).overlaps.is_empty() {
        return Some(bytes.to_vec());
    }
    let live: std::collections::HashSet<_> = index.keys().map(|key| key.uid).collect();
    let kept: Vec<Record> =
        expunged.records().filter(|record| !live.contains(&record.uid)).collect();
    write_index(expunged.header(), &kept).ok()
}

/// The identity of the account's INBOX, by which its files are placed since 3.6.
fn inbox_id(spool: &Spool<'_>) -> Option<UniqueId> {
    let inbox: MboxName = spool.rules.names.inbox_of(&spool.account.userid).ok()?;
    let entry = spool.entries.iter().find(|entry| entry.name == inbox);
    entry.filter(|entry| !entry.mbtype.legacy_dirs)?.uniqueid.clone()
}
