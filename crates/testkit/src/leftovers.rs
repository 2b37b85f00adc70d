//! What a replica that was killed leaves on its disk.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::ops::AddAssign;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use cyrus_format::index::Index;

/// What is there without a purpose, or is not there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// Files in directories where messages wait: `sync.`, `stage.`, `sync./<pid>`.
    pub staged: u64,
    /// What they weigh, in bytes.
    pub staged_bytes: u64,
    /// Files that were to replace others: `NAME.NEW` and the like, and unfinished intents.
    pub unfinished: u64,
    /// Message files in mailboxes that no record names.
    pub unnamed: u64,
    /// Names that messages have beyond those of their records, wherever they are.
    pub extra_links: u64,
    /// Records without their files.
    pub missing: u64,
    /// Indexes that cannot be read, or have a problem.
    pub damaged: u64,
}

impl AddAssign for Leftovers {
    fn add_assign(&mut self, other: Self) {
        self.staged += other.staged;
        self.staged_bytes += other.staged_bytes;
        self.unfinished += other.unfinished;
        self.unnamed += other.unnamed;
        self.extra_links += other.extra_links;
        self.missing += other.missing;
        self.damaged += other.damaged;
    }
}

/// Looks through everything below a directory.
///
/// # Errors
///
/// If it cannot be read.
pub fn below(root: &Path) -> io::Result<Leftovers> {
    let mut search = Search::default();
    search.walk(root, false)?;
    let mut found = search.found;
    for (links, names) in search.links.values() {
        found.extra_links += links.saturating_sub(*names);
    }
    let unnamed = search.messages.difference(&search.named);
    found.unnamed = unnamed.count() as u64;
    Ok(found)
}

#[derive(Default)]
struct Search {
    found: Leftovers,
    /// By inode: how many links it has, and how many records name it.
    links: BTreeMap<u64, (u64, u64)>,
    named: BTreeSet<PathBuf>,
    messages: BTreeSet<PathBuf>,
}

impl Search {
    fn walk(&mut self, dir: &Path, is_staging: bool) -> io::Result<()> {
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            let stat = fs::symlink_metadata(&path)?;
            if stat.is_dir() {
                self.walk(&path, is_staging || ["sync.", "stage."].contains(&name.as_str()))?;
            } else if is_staging {
                self.found.staged += 1;
                self.found.staged_bytes += stat.len();
            } else if name.ends_with(".NEW") || name == "cylinder-intent" {
                self.found.unfinished += 1;
            } else if name == "cyrus.index" {
                self.index(&path)?;
            } else if name.strip_suffix('.').is_some_and(|uid| uid.parse::<u32>().is_ok()) {
                self.messages.insert(path);
            }
        }
        Ok(())
    }

    fn index(&mut self, path: &Path) -> io::Result<()> {
        let bytes = fs::read(path)?;
        let Ok(index) = Index::parse(&bytes) else {
            self.found.damaged += 1;
            return Ok(());
        };
        self.found.damaged += u64::from(!index.problems().is_empty());
        for key in index.keys().filter(|key| !key.is_unlinked()) {
            let message = path.with_file_name(format!("{}.", key.uid));
            match fs::metadata(&message) {
                Ok(stat) if stat.len() == key.size => {
                    self.links.entry(stat.ino()).or_insert((stat.nlink(), 0)).1 += 1;
                }
                _ => self.found.missing += 1,
            }
            self.named.insert(message);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nothing_names_is_found() {
        let top = tempfile::tempdir().expect("a directory");
        let mailbox = top.path().join("spool/default/uuid/a/b/ab");
        fs::create_dir_all(&mailbox).expect("a mailbox");
        fs::create_dir_all(top.path().join("spool/sync./7")).expect("a place to wait");
        fs::write(top.path().join("spool/sync./7/x"), "four").expect("staged");
        fs::write(mailbox.join("1."), "a message").expect("a message");
        fs::write(mailbox.join("cyrus.index.NEW"), "").expect("unfinished");
        fs::write(mailbox.join("cyrus.index"), "no index").expect("damaged");
        let found = below(top.path()).expect("readable");
        let expected = Leftovers {
            staged: 1,
            staged_bytes: 4,
            unfinished: 1,
            unnamed: 1,
            damaged: 1,
            ..Leftovers::default()
        };
        assert_eq!(found, expected);
    }
}
