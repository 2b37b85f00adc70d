//! Every kind of store that a vault may lie in.

use std::cell::RefCell;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use object_store::ObjectStore;
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use tempfile::TempDir;
use testkit::faults::{Faults, Faulty};
use testkit::garage::Garage;
use testkit::s3::S3Server;
use vault::Store;

/// Where in the bucket the store is: beside it are others.
pub const PREFIX: &str = "backup/mail";

/// A store, and what is behind it.
pub enum Place {
    Memory(InMemory),
    Directory(TempDir),
    Bucket(S3Server),
}

impl Place {
    /// One of each kind, empty.
    pub fn all() -> [Self; 3] {
        let directory = tempfile::tempdir().expect("a directory");
        let server = S3Server::start().expect("a server");
        [Self::Memory(InMemory::new()), Self::Directory(directory), Self::Bucket(server)]
    }

    /// Opens it, as often as one likes, as the program does where the program can.
    pub fn store(&self) -> Store {
        match self {
            Self::Memory(objects) => over(objects.clone()),
            Self::Directory(directory) => {
                let path = directory.path().to_str().expect("a path of text");
                Store::open_with(path, []).expect("a directory")
            }
            Self::Bucket(server) => {
                Store::open_with(&server.url(PREFIX), server.settings()).expect("a bucket")
            }
        }
    }

    /// Opens it behind something that fails on demand.
    pub fn faulty(&self) -> (Store, Faults) {
        let objects: Arc<dyn ObjectStore> = match self {
            Self::Memory(objects) => Arc::new(objects.clone()),
            Self::Directory(directory) => {
                let objects = LocalFileSystem::new_with_prefix(directory.path());
                let objects = objects.expect("a directory");
                Arc::new(objects.with_fsync(true).with_automatic_cleanup(true))
            }
            Self::Bucket(server) => Arc::new(bucket(server)),
        };
        let root = match self {
            Self::Bucket(_) => Path::from(PREFIX),
            _ => Path::default(),
        };
        let faulty = Faulty::new(objects);
        let faults = faulty.faults();
        (Store::over(Arc::new(faulty), root, "faulty").expect("threads"), faults)
    }

    /// What was begun and is neither stored nor tidied up: no listing shows it.
    pub fn remains(&self) -> usize {
        match self {
            Self::Memory(_) => 0,
            Self::Directory(directory) => {
                let files = files(directory.path());
                files.iter().filter(|file| file.to_string_lossy().contains('#')).count()
            }
            Self::Bucket(server) => server.unfinished_uploads(),
        }
    }
}

/// Does the same in every kind of store. The one in which it fails is the last one named.
pub fn everywhere(test: impl Fn(&Store)) {
    for place in Place::all() {
        let store = place.store();
        eprintln!("in {}", store.place());
        test(&store);
        assert_eq!(place.remains(), 0, "something is left over in {}", store.place());
    }
    GARAGE.with_borrow_mut(|garage| {
        let garage = garage.get_or_insert_with(|| (Garage::if_wanted(), 0));
        let (Some(cluster), times) = garage else { return };
        *times += 1;
        let (node, prefix) = (*times % 3, format!("{PREFIX}/{times}"));
        let store = Store::open_with(&cluster.url(&prefix), cluster.settings(node));
        let store = store.expect("a bucket");
        eprintln!("in {} of Garage", store.place());
        test(&store);
    });
}

thread_local! {
    /// Three servers for all that one test does, and how often they were used. They end with the
    /// test's thread.
    static GARAGE: RefCell<Option<(Option<Garage>, usize)>> = const { RefCell::new(None) };
}

pub fn over(objects: impl ObjectStore) -> Store {
    Store::over(Arc::new(objects), Path::default(), "memory").expect("threads")
}

fn bucket(server: &S3Server) -> impl ObjectStore {
    let mut builder = AmazonS3Builder::new().with_url(server.url(""));
    for (name, value) in server.settings() {
        let key = name.to_ascii_lowercase().parse().expect("a known setting");
        builder = builder.with_config(key, value);
    }
    builder.build().expect("a bucket")
}

/// All files beneath a directory.
pub fn files(directory: &FilePath) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found
}

/// Bytes that are different everywhere, and the same every time.
pub fn bytes(len: usize, seed: u64) -> Bytes {
    let mut rng = testkit::Rng::new(seed);
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        bytes.extend_from_slice(&rng.next_u64().to_le_bytes());
    }
    bytes.truncate(len);
    bytes.into()
}
