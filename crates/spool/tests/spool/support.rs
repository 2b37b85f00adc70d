//! A spool built by hand, file by file: the reader must not depend on how a builder sees things.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use cyrus_format::db;
use model::Userid;
use spool::{Frozen, FrozenMailbox, Options, Result, Server};
use tempfile::TempDir;

/// Directories `conf`, `spool` and `lock`, an imapd.conf, and a flat mailboxes.db.
pub struct Hand {
    dir: TempDir,
    conf: String,
    list: String,
}

impl Hand {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().display();
        let conf = format!("configdirectory: {root}/conf\npartition-default: {root}/spool\n");
        for name in ["conf", "spool"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        Self { dir, conf, list: String::new() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A line of imapd.conf; `@` stands for the directory of all this.
    pub fn option(&mut self, name: &str, value: &str) -> &mut Self {
        let value = value.replace('@', &self.dir.path().display().to_string());
        self.conf.push_str(&format!("{name}: {value}\n"));
        self
    }

    /// A record of mailboxes.db.
    pub fn record(&mut self, key: &str, value: &str) -> &mut Self {
        self.list.push_str(&format!("{key}\t{value}\n"));
        self
    }

    /// Both records of a mailbox of 3.6 and later; `/` stands for the separator of a dbname.
    pub fn by_id(&mut self, dbname: &str, id: &str, letters: &str) -> &mut Self {
        let dbname = dbname.replace('/', "\x1f");
        let rest = "P default V 1 M 1 A %()";
        self.record(&format!("N{dbname}"), &format!("%(T {letters} I {id} {rest})"));
        self.record(&format!("I{id}"), &format!("%(T {letters} N {dbname} {rest})"))
    }

    /// A file with its directories.
    pub fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> &Self {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
        self
    }

    /// Header and index of a mailbox in this directory, each saying where it lies.
    pub fn metadata(&self, dir: &str) -> &Self {
        self.file(&format!("{dir}/cyrus.header"), format!("header in {dir}"));
        self.file(&format!("{dir}/cyrus.index"), format!("index in {dir}"))
    }

    /// A cyrus.header with a quota root.
    pub fn header(&self, dir: &str, root: &str) -> &Self {
        let mut header = cyrus_format::header::MAGIC.to_vec();
        header.extend_from_slice(format!("{root}\t0123456789abcdef\n\n\n").as_bytes());
        self.file(&format!("{dir}/cyrus.header"), header)
    }

    /// imapd.conf and mailboxes.db, as far as they were told.
    pub fn write(&self) -> &Self {
        self.file("imapd.conf", &self.conf).file("conf/mailboxes.db", &self.list)
    }

    pub fn open(&self) -> Result<Server> {
        self.open_with(&Options::default())
    }

    pub fn open_with(&self, options: &Options) -> Result<Server> {
        self.write();
        Server::open(&self.path("imapd.conf"), options)
    }

    pub fn freeze(&self, userid: &str) -> Frozen {
        self.open().unwrap().freeze(&Userid::from(userid)).unwrap()
    }
}

/// The mailbox of that internal name.
#[track_caller]
pub fn mailbox<'a>(frozen: &'a Frozen, name: &str) -> &'a FrozenMailbox {
    let found =
        frozen.mailboxes.iter().find(|mailbox| mailbox.entry.name.as_bytes() == name.as_bytes());
    found.unwrap_or_else(|| panic!("{name} is not among {:?}", names(frozen)))
}

pub fn names(frozen: &Frozen) -> Vec<String> {
    frozen.mailboxes.iter().map(|mailbox| mailbox.entry.name.to_string()).collect()
}

/// What a metadata file says, for comparison.
pub fn text(bytes: &Option<Vec<u8>>) -> &str {
    bytes.as_deref().map_or("absent", |bytes| std::str::from_utf8(bytes).unwrap())
}

/// Keys and values of a dump among the account's files.
pub fn dump(frozen: &Frozen, name: &str) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let file = frozen.account_files.iter().find(|file| file.name == name).expect("it is there");
    let db = db::read(&file.bytes).unwrap();
    assert_eq!(db.recovered, None);
    db.entries.into_iter().map(|(key, value)| (key.into_owned(), value.into_owned())).collect()
}

/// The account's files but for the records of mailboxes.db, and what they say.
pub fn files_proper(frozen: &Frozen) -> Vec<(&str, &str)> {
    let files = frozen.account_files.iter().filter(|file| file.name != "mailboxes");
    files.map(|file| (file.name.as_str(), std::str::from_utf8(&file.bytes).unwrap())).collect()
}

/// Codes and places of findings.
pub fn findings(findings: &[model::Finding]) -> Vec<(&'static str, &str)> {
    findings.iter().map(|finding| (finding.kind.code(), finding.place.as_str())).collect()
}

/// An empty directory.
pub fn make_dir(path: &Path) {
    fs::create_dir_all(path).unwrap();
}
