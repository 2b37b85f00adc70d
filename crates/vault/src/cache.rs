//! What was read of a store, kept on this machine.
//!
//! Objects never change, so what was read of one stays true for as long as it is listed. Nothing
//! depends on what is kept: it may be removed at any time, is read anew where it is damaged, and
//! that it cannot be written is nobody's concern.

use std::fs::{self, DirBuilder};
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use model::state::Digest;
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;

/// SHA-256 of all before it ends each file.
const SUM: usize = 32;

/// A directory of this machine for one store.
#[derive(Debug)]
pub(crate) struct Cache {
    root: PathBuf,
}

impl Cache {
    /// For the store that these words tell from all others. Nothing is made yet.
    pub fn new(directory: &Path, store: &str) -> Self {
        Self { root: directory.join(name_of(store)) }
    }

    /// What was kept of an object.
    pub fn get(&self, object: &str) -> Option<Bytes> {
        let mut bytes = fs::read(self.file(object)).ok()?;
        let kept = bytes.len().checked_sub(SUM)?;
        let sum = bytes.split_off(kept);
        (Sha256::digest(&bytes).as_slice() == sum).then(|| bytes.into())
    }

    /// Keeps something of an object in place of what was kept before.
    pub fn put(&self, object: &str, bytes: &[u8]) {
        let file = self.file(object);
        // A disk without room is a reason to keep nothing.
        let _ = write(&file, bytes);
    }

    /// Forgets the objects of a directory that are not among these.
    pub fn retain<'a>(&self, directory: &str, names: impl Iterator<Item = &'a str>) {
        let directory = self.root.join(name_of(directory));
        let Ok(kept) = fs::read_dir(&directory) else { return };
        let there: std::collections::BTreeSet<String> = names.map(name_of).collect();
        for entry in kept.flatten() {
            if !entry.file_name().to_str().is_some_and(|name| there.contains(name)) {
                // Somebody else may have been faster.
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    fn file(&self, object: &str) -> PathBuf {
        let (directory, name) = object.rsplit_once('/').unwrap_or(("", object));
        self.root.join(name_of(directory)).join(name_of(name))
    }
}

/// A file's name that fits any file system, whatever it stands for.
fn name_of(text: &str) -> String {
    Digest(Sha256::digest(text.as_bytes()).into()).to_string()
}

/// Appears whole or not at all; what is left of a killed process goes with the next
/// [`retain`](Cache::retain).
fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let directory = path.parent().unwrap_or(path);
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let mut file = NamedTempFile::new_in(directory)?;
    file.write_all(bytes)?;
    file.write_all(&Sha256::digest(bytes))?;
    file.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(below: &Path) -> Vec<PathBuf> {
        let entries = fs::read_dir(below).into_iter().flatten().flatten().map(|e| e.path());
        entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
    }

    #[test]
    fn what_is_kept_comes_back_until_it_is_damaged_or_gone() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let cache = Cache::new(dir.path(), "s3://one");
        assert_eq!(cache.get("accounts/glad/x"), None);
        cache.put("accounts/glad/x", b"first");
        cache.put("accounts/glad/x", b"tail");
        cache.put("accounts/glad/y", b"");
        assert_eq!(cache.get("accounts/glad/x").as_deref(), Some(&b"tail"[..]));
        assert_eq!(cache.get("accounts/glad/y").as_deref(), Some(&b""[..]));
        assert_eq!(Cache::new(dir.path(), "s3://two").get("accounts/glad/x"), None);
        for file in files(dir.path()) {
            let mut bytes = fs::read(&file).expect("a file");
            bytes[0] ^= 1;
            fs::write(&file, bytes).expect("written");
        }
        assert_eq!(cache.get("accounts/glad/x"), None);
        assert_eq!(cache.get("accounts/glad/y"), None);
    }

    #[test]
    fn what_is_not_listed_is_forgotten() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let cache = Cache::new(dir.path(), "s3://one");
        for object in ["accounts/glad/x", "accounts/glad/y", "accounts/iris/x"] {
            cache.put(object, b"tail");
        }
        let killed = cache.file("accounts/glad/x").with_file_name(".tmp123");
        fs::write(&killed, b"half").expect("written");
        cache.retain("accounts/glad", ["y"].into_iter());
        assert_eq!(cache.get("accounts/glad/x"), None);
        assert!(cache.get("accounts/glad/y").is_some() && cache.get("accounts/iris/x").is_some());
        assert!(!killed.exists());
        cache.retain("accounts/nobody", [].into_iter());
    }

    #[test]
    fn a_place_that_cannot_be_written_keeps_nothing() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        fs::write(dir.path().join("file"), b"").expect("written");
        let cache = Cache::new(&dir.path().join("file"), "s3://one");
        cache.put("x", b"tail");
        assert_eq!(cache.get("x"), None);
    }
}
