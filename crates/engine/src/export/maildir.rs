//! Export as Maildir++: INBOX at the top, every other folder as `.Name.Sub`.
//!
//! The bytes of each message stay what they are in Cyrus, CRLF included, so that their SHA-1 is
//! still the GUID; the GUID stands in the file name. System flags become the letters of the
//! maildir format, user flags the letters `a` to `z` listed in `dovecot-keywords`.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;

use model::{Guid, Record, SystemFlags};
use segment::names;

use super::{Body, Exporter, FolderInfo, Tree};

/// Writes one account.
pub(super) struct Maildir<'a> {
    tree: &'a mut dyn Tree,
    folder: PathBuf,
    flag_names: Vec<Option<Vec<u8>>>,
    keywords_used: BTreeSet<usize>,
    /// Escaping is injective, but a folder name can be over-long or end like another's escape.
    folders: BTreeSet<PathBuf>,
}

/// `dovecot-keywords` knows one letter a keyword.
const KEYWORDS_MAX: usize = 26;

impl<'a> Maildir<'a> {
    pub fn new(tree: &'a mut dyn Tree) -> Self {
        Self {
            tree,
            folder: PathBuf::new(),
            flag_names: Vec::new(),
            keywords_used: BTreeSet::new(),
            folders: BTreeSet::new(),
        }
    }
}

impl Exporter for Maildir<'_> {
    fn marks_expunged(&self) -> bool {
        false
    }

    fn begin(&mut self, folder: &FolderInfo<'_>) -> io::Result<()> {
        let name = folder.relative_name();
        self.folder = match name.as_slice() {
            b"INBOX" => PathBuf::new(),
            other => {
                let inner = other.strip_prefix(b"INBOX.").unwrap_or(other);
                PathBuf::from(format!(".{}", names::escape(inner)))
            }
        };
        if !self.folders.insert(self.folder.clone()) {
            return Err(io::Error::other("two folders have the same maildir name"));
        }
        self.flag_names = folder.flag_names.to_vec();
        self.keywords_used.clear();
        for part in ["cur", "new", "tmp"] {
            self.tree.dir(&self.folder.join(part))?;
        }
        if !self.folder.as_os_str().is_empty() {
            self.tree.file(&self.folder.join("maildirfolder"), folder.taken_at, b"")?;
        }
        Ok(())
    }

    fn message(&mut self, record: &Record, guid: Guid, body: Body<'_>) -> io::Result<()> {
        let name = file_name(record, guid, body.size());
        let flags = format!("{}{}", system_letters(record), self.keyword_letters(record));
        let path = self.folder.join("cur").join(format!("{name}:2,{flags}"));
        body.write_to(self.tree, &path, record.internaldate.secs)
    }

    fn end(&mut self) -> io::Result<()> {
        if self.keywords_used.is_empty() {
            return Ok(());
        }
        let mut list = Vec::new();
        for n in &self.keywords_used {
            let name = self.flag_names.get(*n).and_then(|name| name.as_deref()).unwrap_or_default();
            list.extend_from_slice(format!("{n} ").as_bytes());
            list.extend_from_slice(name);
            list.push(b'\n');
        }
        self.tree.file(&self.folder.join("dovecot-keywords"), 0, &list)
    }
}

impl Maildir<'_> {
    fn keyword_letters(&mut self, record: &Record) -> String {
        let mut letters = String::new();
        for n in record.user_flags.iter().filter(|n| *n < KEYWORDS_MAX) {
            if self.flag_names.get(n).is_some_and(Option::is_some) {
                self.keywords_used.insert(n);
                letters.extend(char::from_digit(n as u32 + 10, 36));
            }
        }
        letters
    }
}

/// Unique in its folder by the UID, found again by the GUID, sorted by date like other maildirs.
fn file_name(record: &Record, guid: Guid, size: u64) -> String {
    format!("{}.U{}G{guid}.cylinder,S={size}", record.internaldate.secs.max(0), record.uid)
}

/// The letters must stand in ASCII order.
fn system_letters(record: &Record) -> String {
    let letters = [
        ('D', SystemFlags::DRAFT),
        ('F', SystemFlags::FLAGGED),
        ('R', SystemFlags::ANSWERED),
        ('S', SystemFlags::SEEN),
        ('T', SystemFlags::DELETED),
    ];
    let set = letters.iter().filter(|(_, flag)| record.system_flags.contains(*flag));
    set.map(|(letter, _)| *letter).collect()
}
