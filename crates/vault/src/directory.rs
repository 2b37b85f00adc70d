//! A directory as a store: what the storage engine does not do for it.

use std::collections::BTreeSet;
use std::error::Error;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use object_store::path::Path as ObjectPath;
use object_store::{ListResult, Result};
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;

use crate::sweep;

/// How often a directory may vanish under somebody who is about to write to it.
const RACES: usize = 20;

/// What a store stands on: a directory, or something that needs none of this.
///
/// Everything here is done by the threads of the storage engine, as the user that they run as.
#[derive(Clone, Debug, Default)]
pub struct Ground(Option<Arc<Directory>>);

impl From<Directory> for Ground {
    fn from(directory: Directory) -> Self {
        Self(Some(Arc::new(directory)))
    }
}

impl Ground {
    /// Whether there is a directory.
    pub fn is_directory(&self) -> bool {
        self.0.is_some()
    }

    /// Does what makes a file, again if its directory was removed in that moment, as a directory
    /// is with its last object.
    pub async fn make<T, F>(&self, make: impl Fn() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let races = if self.is_directory() { RACES } else { 1 };
        for _ in 1..races {
            match make().await {
                Err(error) if is_missing(&error) => {}
                made => return made,
            }
        }
        make().await
    }

    /// A file in the directory that has no name.
    pub async fn unnamed(&self) -> Result<File> {
        let made = self.run(|directory| directory.unnamed().map(Some)).await?;
        made.ok_or_else(|| failed(io::ErrorKind::Unsupported.into()))
    }

    /// Makes that file durable and gives it the name of an object. `false` if there is such an object
    /// already, or if files cannot be named here: then it must be copied.
    pub async fn adopt(&self, file: Arc<File>, object: String) -> Result<bool> {
        self.run(move |directory| directory.adopt(&file, &object)).await
    }

    /// Makes a new object durable.
    pub async fn settle_new(&self, object: String) -> Result<()> {
        self.run(move |directory| directory.settle_new(&object)).await
    }

    /// Makes it durable that an object is gone.
    pub async fn settle_gone(&self, object: String) -> Result<()> {
        self.run(move |directory| directory.settle_gone(&object)).await
    }

    /// Makes sure that a listing lacks nothing: the engine leaves out, in silence, whatever it
    /// cannot look at.
    pub async fn vouch(&self, prefix: &ObjectPath, listed: &ListResult) -> Result<()> {
        if !self.is_directory() {
            return Ok(());
        }
        let objects = listed.objects.iter().map(|meta| &meta.location);
        let names = objects.chain(&listed.common_prefixes).filter_map(ObjectPath::filename);
        let names: BTreeSet<OsString> = names.map(OsString::from).collect();
        let prefix = prefix.to_string();
        self.run(move |directory| directory.vouch(&prefix, &names)).await
    }

    /// Removes what interrupted writers left behind, if it was last written to before that time.
    pub async fn sweep(&self, before: SystemTime) -> Result<Vec<PathBuf>> {
        self.run(move |directory| sweep::sweep(&directory.path, before)).await
    }

    async fn run<T: Default + Send + 'static>(
        &self,
        work: impl FnOnce(&Directory) -> io::Result<T> + Send + 'static,
    ) -> Result<T> {
        let Some(directory) = self.0.clone() else { return Ok(T::default()) };
        tokio::task::spawn_blocking(move || work(&directory)).await?.map_err(failed)
    }
}

fn failed(error: io::Error) -> object_store::Error {
    object_store::Error::Generic { store: "directory", source: error.into() }
}

/// The directory that a store lies in.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    /// Keeps its file system mounted. The engine goes by names alone, and would go on beneath an
    /// empty mount point.
    handle: File,
}

impl Directory {
    /// Opens a directory; refuses whatever else has that name.
    pub fn open(path: &Path) -> io::Result<Self> {
        // A file would do for the engine until something is looked for beneath it.
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let handle = File::from(rustix::fs::open(path, flags, Mode::empty())?);
        Ok(Self { path: path.canonicalize()?, handle })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn unnamed(&self) -> io::Result<File> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        // What any file would get: the umask takes away what is too much.
        Ok(rustix::fs::openat(&self.handle, ".", flags, Mode::from_raw_mode(0o666))?.into())
    }

    fn adopt(&self, file: &File, object: &str) -> io::Result<bool> {
        file.sync_all()?;
        let path = self.path.join(object);
        let unnamed = format!("/proc/self/fd/{}", file.as_raw_fd());
        for _ in 0..RACES {
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            match rustix::fs::linkat(CWD, &*unnamed, CWD, &path, AtFlags::SYMLINK_FOLLOW) {
                Ok(()) => return Ok(true),
                // Its directory was removed in that moment, as a directory is with its last object.
                Err(Errno::NOENT) => {}
                Err(_) => return Ok(false),
            }
        }
        Ok(false)
    }

    fn vouch(&self, directory: &str, names: &BTreeSet<OsString>) -> io::Result<()> {
        for entry in sweep::entries(&self.path.join(directory))? {
            if names.contains(&entry.file_name()) {
                continue;
            }
            match entry.metadata() {
                // New, half of an object, or no object at all.
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The engine does not sync a directory that it takes for older than it is, because somebody
    /// else makes or removes it at the same time.
    fn settle_new(&self, object: &str) -> io::Result<()> {
        self.directories(object).try_for_each(|directory| sync(directory).map(drop))?;
        let (here, there) = (self.handle.metadata()?, self.path.metadata()?);
        match (here.dev(), here.ino()) == (there.dev(), there.ino()) {
            true => Ok(()),
            false => Err(io::Error::other("another directory has taken its place")),
        }
    }

    /// The engine syncs no deletion.
    fn settle_gone(&self, object: &str) -> io::Result<()> {
        for directory in self.directories(object) {
            if sync(directory)? {
                break;
            }
        }
        Ok(())
    }

    /// The directories that an object is in, the innermost first.
    fn directories(&self, object: &str) -> impl Iterator<Item = PathBuf> {
        let path = self.path.join(object);
        let depth = object.split('/').count();
        path.ancestors().skip(1).take(depth).map(Path::to_owned).collect::<Vec<_>>().into_iter()
    }
}

/// Syncs a directory, and tells whether there was one.
fn sync(directory: PathBuf) -> io::Result<bool> {
    match File::open(directory).and_then(|directory| directory.sync_all()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether something below says that there is no such file or directory.
fn is_missing(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let error_below = error.downcast_ref::<io::Error>();
        if error_below.is_some_and(|error| error.kind() == io::ErrorKind::NotFound) {
            return true;
        }
        next = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::fs;

    use futures_util::FutureExt;

    use super::*;

    fn failed(kind: io::ErrorKind) -> object_store::Error {
        object_store::Error::Generic { store: "test", source: io::Error::from(kind).into() }
    }

    #[test]
    fn a_race_that_is_lost_is_run_again_but_not_for_ever() {
        let root = tempfile::tempdir().expect("a directory");
        let directory = Ground::from(Directory::open(root.path()).expect("a directory"));
        let runs = Cell::new(0);
        let run = |ground: &Ground, lost: u32, kind: io::ErrorKind| {
            runs.set(0);
            let made = ground.make(async || {
                runs.set(runs.get() + 1);
                if runs.get() <= lost { Err(failed(kind)) } else { Ok(()) }
            });
            (made.now_or_never().expect("at once").is_ok(), runs.get())
        };
        let missing = io::ErrorKind::NotFound;
        assert_eq!(run(&directory, 0, missing), (true, 1));
        assert_eq!(run(&directory, 3, missing), (true, 4));
        assert_eq!(run(&directory, 1_000, missing), (false, 20));
        assert_eq!(run(&directory, 1, io::ErrorKind::StorageFull), (false, 1), "that is no race");
        assert_eq!(run(&Ground::default(), 1, missing), (false, 1), "elsewhere nothing races");
    }

    #[test]
    fn all_directories_of_an_object_are_synced() {
        let root = tempfile::tempdir().expect("a directory");
        let directory = Directory::open(root.path()).expect("a directory");
        let path = directory.path();
        let of = |object| directory.directories(object).collect::<Vec<_>>();
        assert_eq!(of("a/b/c"), [path.join("a/b"), path.join("a"), path.to_owned()]);
        assert_eq!(of("c"), [path]);
        directory.settle_new("a/b/c").expect("what is not there needs nothing");
        directory.settle_gone("a/b/c").expect("what is not there needs nothing");
    }

    #[test]
    fn a_directory_in_its_place_is_not_taken_for_it() {
        let root = tempfile::tempdir().expect("a directory");
        let (vault, other) = (root.path().join("vault"), root.path().join("other"));
        fs::create_dir(&vault).expect("made");
        let directory = Directory::open(&vault).expect("a directory");
        directory.settle_new("x").expect("the same");
        fs::rename(&vault, other).expect("renamed");
        directory.settle_new("x").expect_err("it is gone");
        fs::create_dir(&vault).expect("made");
        directory.settle_new("x").expect_err("it is another one");
    }
}
