//! A directory as the engine's port.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine::export::{Files, Tree};
use spool::tree::{DirTree, TreeDir};

/// A tree of files on this machine.
pub struct Directory {
    tree: DirTree,
    /// The directories that were asked for: in a spool, one for each mailbox, in their order.
    pub dirs: Vec<PathBuf>,
}

impl Directory {
    /// Writes into this tree.
    pub fn new(tree: DirTree) -> Self {
        Self { tree, dirs: Vec::new() }
    }

    /// Makes everything durable.
    pub fn sync(&self) -> io::Result<()> {
        self.tree.sync()
    }
}

impl Tree for Directory {
    fn dir(&mut self, path: &Path) -> io::Result<()> {
        self.dirs.push(path.to_owned());
        self.tree.dir(path)
    }

    fn file(&mut self, path: &Path, mtime: i64, bytes: &[u8]) -> io::Result<()> {
        self.tree.file(path, mtime, bytes)
    }

    fn copy(&mut self, path: &Path, mtime: i64, bytes: &mut dyn Read) -> io::Result<()> {
        self.tree.copy(path, mtime, bytes)
    }

    fn append(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.tree.append(path, bytes)
    }

    fn link(&mut self, existing: &Path, path: &Path) -> io::Result<()> {
        self.tree.link(existing, path)
    }

    fn symlink(&mut self, target: &Path, path: &Path) -> io::Result<()> {
        self.tree.symlink(target, path)
    }

    fn files(&mut self, dir: &Path) -> io::Result<Option<Arc<dyn Files>>> {
        Ok(Some(Arc::new(Folder(self.tree.files(dir)?))))
    }
}

/// A directory of it.
struct Folder(TreeDir);

impl Files for Folder {
    fn file(&self, name: &str, mtime: i64, bytes: &[u8]) -> io::Result<()> {
        self.0.file(name.as_ref(), mtime, bytes)
    }
}
