//! The directories that a partition consists of, opened once and kept.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cyrus_format::imapd_conf::{ImapdConf, Meta};
use rustix::fs::CWD;

use crate::files::{self, Links, Place};

/// A directory that imapd.conf names.
#[derive(Debug)]
pub(crate) struct Root {
    path: PathBuf,
    fd: OwnedFd,
}

impl Root {
    /// A directory that is open.
    pub fn new(path: PathBuf, fd: OwnedFd) -> Self {
        Self { path, fd }
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// A file of a mailbox.
    pub fn mail_file<'a>(&'a self, name: &'a Path) -> Place<'a> {
        Place { dir: self.fd(), name, below: &self.path, links: Links::Refuse }
    }
}

/// Where the files of a partition's mailboxes are.
///
/// Below each root a mailbox has the same relative directory (`mboxname_metapath`,
/// `imap/mboxname.c`, Cyrus 3.6).
#[derive(Debug)]
pub(crate) struct Partition {
    pub data: Arc<Root>,
    pub header: Arc<Root>,
    pub index: Arc<Root>,
    pub expunge: Arc<Root>,
    pub annotations: Arc<Root>,
    /// Where caches are. They can be made anew, so one that cannot be opened stops nothing.
    pub cache: Option<Arc<Root>>,
    /// Where those of archived messages are.
    pub archive_cache: Option<Arc<Root>>,
    /// Where archived messages are, if that is elsewhere.
    pub archive: Option<Arc<Root>>,
}

impl Partition {
    /// One that has everything in one directory.
    pub fn plain(root: Root) -> Self {
        let root = Arc::new(root);
        let each = || Arc::clone(&root);
        Self {
            data: each(),
            header: each(),
            index: each(),
            expunge: each(),
            annotations: each(),
            cache: Some(each()),
            archive_cache: Some(each()),
            archive: None,
        }
    }
}

/// A directory that should be there and cannot be opened.
#[derive(Debug)]
pub(crate) struct MissingRoot {
    pub path: PathBuf,
    pub error: io::Error,
}

/// All partitions of imapd.conf by name, those without a directory included.
#[derive(Debug)]
pub(crate) struct Partitions(BTreeMap<String, Result<Arc<Partition>, MissingRoot>>);

impl Partitions {
    pub fn open(conf: &ImapdConf) -> Self {
        let mut roots = Roots::default();
        let open = |(name, data): (&str, &Path)| {
            (name.to_owned(), roots.partition(conf, name, data).map(Arc::new))
        };
        Self(conf.partitions().map(open).collect())
    }

    /// The partition that mailboxes.db calls so; `None` if imapd.conf does not know it.
    pub fn get(&self, name: &[u8]) -> Option<Result<&Arc<Partition>, &MissingRoot>> {
        let name = std::str::from_utf8(name).ok()?.to_ascii_lowercase();
        self.0.get(&name).map(Result::as_ref)
    }

    /// Those that cannot be used, by name.
    pub fn missing(&self) -> impl Iterator<Item = (&str, &MissingRoot)> {
        self.0.iter().filter_map(|(name, roots)| Some((name.as_str(), roots.as_ref().err()?)))
    }
}

/// Opens each directory once, however many purposes it serves.
#[derive(Default)]
struct Roots(BTreeMap<PathBuf, Arc<Root>>);

impl Roots {
    fn partition(
        &mut self,
        conf: &ImapdConf,
        name: &str,
        data: &Path,
    ) -> Result<Partition, MissingRoot> {
        let mut meta = |meta| self.open(conf.meta_root(meta, name.as_bytes()).unwrap_or(data));
        Ok(Partition {
            header: meta(Meta::Header)?,
            index: meta(Meta::Index)?,
            expunge: meta(Meta::Expunge)?,
            annotations: meta(Meta::Annotations)?,
            cache: meta(Meta::Cache).ok(),
            archive_cache: meta(Meta::ArchiveCache).ok(),
            data: self.open(data)?,
            archive: match conf.archivepartition(name.as_bytes()) {
                Some(archive) if archive != data => Some(self.open(archive)?),
                _ => None,
            },
        })
    }

    fn open(&mut self, path: &Path) -> Result<Arc<Root>, MissingRoot> {
        if let Some(root) = self.0.get(path) {
            return Ok(Arc::clone(root));
        }
        let fd = files::open_dir(CWD, path)
            .map_err(|errno| MissingRoot { path: path.to_owned(), error: errno.into() })?;
        let root = Arc::new(Root::new(path.to_owned(), fd));
        self.0.insert(path.to_owned(), Arc::clone(&root));
        Ok(root)
    }
}
