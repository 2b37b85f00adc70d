//! A directory tree in memory, as strict as a file system and stricter about where paths lead.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use engine::export::Tree;

/// A tree.
#[derive(Debug, Default)]
pub struct MemoryTree {
    nodes: BTreeMap<PathBuf, Node>,
    files: Vec<(i64, Vec<u8>)>,
    /// How many names a file may have, where there is a limit.
    pub names_max: Option<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    Directory,
    /// A number that all names of one file share.
    File(usize),
    Symlink(PathBuf),
}

impl MemoryTree {
    /// What the file of this name holds.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub fn read(&self, path: impl AsRef<Path>) -> &[u8] {
        &self.files[self.number(path.as_ref())].1
    }

    /// The modification time of the file of this name.
    pub fn mtime(&self, path: impl AsRef<Path>) -> i64 {
        self.files[self.number(path.as_ref())].0
    }

    /// Whether both names are of one file.
    pub fn is_same(&self, one: impl AsRef<Path>, other: impl AsRef<Path>) -> bool {
        self.number(one.as_ref()) == self.number(other.as_ref())
    }

    /// Whether there is something of this name.
    pub fn has(&self, path: impl AsRef<Path>) -> bool {
        self.nodes.contains_key(path.as_ref())
    }

    /// What the symbolic link of this name points at, if it is one.
    pub fn link_of(&self, path: impl AsRef<Path>) -> Option<&Path> {
        match self.nodes.get(path.as_ref()) {
            Some(Node::Symlink(target)) => Some(target),
            _ => None,
        }
    }

    /// The names of all files and symbolic links, sorted.
    pub fn names(&self) -> Vec<String> {
        let named = self.nodes.iter().filter(|(_, node)| **node != Node::Directory);
        named.map(|(path, _)| path.display().to_string()).collect()
    }

    /// The names of all directories, sorted.
    pub fn directories(&self) -> Vec<String> {
        let named = self.nodes.iter().filter(|(_, node)| **node == Node::Directory);
        named.map(|(path, _)| path.display().to_string()).collect()
    }

    fn number(&self, path: &Path) -> usize {
        match self.nodes.get(path) {
            Some(Node::File(number)) => *number,
            other => panic!("{} is {other:?}", path.display()),
        }
    }

    fn add(&mut self, path: &Path, node: Node) -> io::Result<()> {
        assert!(
            path.components().all(|component| matches!(component, Component::Normal(_))),
            "{} leads out of the tree",
            path.display()
        );
        self.dir(path.parent().unwrap_or(Path::new("")))?;
        if self.nodes.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.nodes.insert(path.to_owned(), node);
        Ok(())
    }
}

impl Tree for MemoryTree {
    fn dir(&mut self, path: &Path) -> io::Result<()> {
        match self.nodes.get(path) {
            _ if path == Path::new("") => Ok(()),
            Some(Node::Directory) => Ok(()),
            Some(_) => Err(io::ErrorKind::NotADirectory.into()),
            None => self.add(path, Node::Directory),
        }
    }

    fn file(&mut self, path: &Path, mtime: i64, bytes: &[u8]) -> io::Result<()> {
        self.add(path, Node::File(self.files.len()))?;
        self.files.push((mtime, bytes.to_vec()));
        Ok(())
    }

    fn copy(&mut self, path: &Path, mtime: i64, bytes: &mut dyn Read) -> io::Result<()> {
        let mut whole = Vec::new();
        bytes.read_to_end(&mut whole)?;
        self.file(path, mtime, &whole)
    }

    fn append(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let number = self.number(path);
        self.files[number].1.extend_from_slice(bytes);
        Ok(())
    }

    fn link(&mut self, existing: &Path, path: &Path) -> io::Result<()> {
        if !self.has(existing) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let node = Node::File(self.number(existing));
        let names = self.nodes.values().filter(|known| **known == node).count();
        if self.names_max.is_some_and(|max| names >= max) {
            return Err(io::ErrorKind::TooManyLinks.into());
        }
        self.add(path, node)
    }

    fn symlink(&mut self, target: &Path, path: &Path) -> io::Result<()> {
        self.add(path, Node::Symlink(target.to_owned()))
    }
}
