//! Objects by name: the few things that a vault asks of its storage, without `async`.

use std::error::Error as _;
use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::TryStreamExt;
use object_store::client::{HttpError, HttpErrorKind};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt, PutPayload};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Mutex;
use url::Url;

use crate::cache::Cache;
use crate::directory::{Directory, Ground};
use crate::error::{Result, VaultError};
use crate::stage::{Stage, Staged};

/// Threads that drive requests. They wait most of the time.
const DRIVERS: usize = 2;

/// The bytes of one part of a large upload, at least: S3 wants 5 MiB, and takes 10,000 parts.
const UPLOAD_PART: u64 = 8 << 20;
const UPLOAD_PARTS_MAX: u64 = 9_000;

/// How often a request is asked whose answer breaks off, and what is waited in between, each time
/// as much more.
const BREAKS: u32 = 6;
const BREAK_WAIT: Duration = Duration::from_millis(100);

type Upload = Arc<Mutex<Box<dyn MultipartUpload>>>;

/// Something that is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Its last component.
    pub name: String,
    /// Bytes.
    pub size: u64,
}

/// A place for objects. Cheap to clone; used by many threads at once.
///
/// Requests are driven by threads that start with the store. So whoever lends his identity to
/// another user later, as a backup does to read a spool, still writes as himself.
#[derive(Clone)]
pub struct Store {
    objects: Arc<dyn ObjectStore>,
    /// What all names begin with.
    root: Path,
    /// For people.
    place: Arc<str>,
    /// What tells it from stores elsewhere that have the same place.
    endpoint: Arc<str>,
    ground: Ground,
    cache: Option<Arc<Cache>>,
    runtime: Arc<Runtime>,
}

impl Store {
    /// Opens a directory, or what a URL names: `s3://bucket/prefix`, with credentials and endpoint
    /// from `AWS_...` variables.
    ///
    /// # Errors
    ///
    /// Those of [`open_with`](Self::open_with).
    pub fn open(location: &str) -> Result<Self> {
        let settings = std::env::vars_os().filter_map(|(name, value)| {
            let name = name.into_string().ok().filter(|name| name.starts_with("AWS_"))?;
            Some((name, value.into_string().ok()?))
        });
        Self::open_with(location, settings)
    }

    /// Opens a directory, or what a URL names, with settings by the names of their `AWS_...`
    /// variables.
    ///
    /// # Errors
    ///
    /// [`VaultError::Location`] if there is no such directory or the URL makes no sense. Whether
    /// a bucket is there, only the first request tells.
    pub fn open_with(
        location: &str,
        settings: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self> {
        let wrong = |source| VaultError::Location { location: location.to_owned(), source };
        if let Some(path) = directory_of(location).map_err(wrong)? {
            let (objects, directory) = open_directory(&path).map_err(wrong)?;
            let store = Self::over(objects, Path::default(), location)?;
            return Ok(Self { ground: directory.into(), ..store });
        }
        let settings: Vec<(String, String)> = settings.into_iter().collect();
        let endpoint =
            settings.iter().filter(|(name, _)| name.to_ascii_lowercase().contains("endpoint"));
        let endpoint = endpoint.map(|(_, value)| value.as_str()).collect::<Vec<_>>().join(" ");
        let (objects, root) = open_url(location, settings).map_err(wrong)?;
        Ok(Self { endpoint: endpoint.into(), ..Self::over(objects, root, location)? })
    }

    /// Wraps a store that is open already.
    ///
    /// # Errors
    ///
    /// If no thread can be started.
    pub fn over(objects: Arc<dyn ObjectStore>, root: Path, place: &str) -> Result<Self> {
        let runtime = Builder::new_multi_thread().worker_threads(DRIVERS).enable_all().build();
        let runtime = Arc::new(runtime.map_err(VaultError::Engine)?);
        let (place, endpoint, ground) = (place.into(), "".into(), Ground::default());
        Ok(Self { objects, root, place, endpoint, ground, cache: None, runtime })
    }

    /// Keeps what is read of objects again and again in a directory of this machine. Not if the
    /// store is a directory itself, which is as near.
    #[must_use]
    pub fn with_cache(self, directory: &std::path::Path) -> Self {
        if self.is_near() {
            return self;
        }
        let store = format!("{}\n{}", self.place, self.endpoint);
        Self { cache: Some(Arc::new(Cache::new(directory, &store))), ..self }
    }

    /// Whether it is a directory, where every read is as cheap as another.
    pub fn is_near(&self) -> bool {
        self.ground.is_directory()
    }

    /// Where it is, for people.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// The objects directly in a directory, by name.
    pub fn list(&self, directory: &str) -> Result<Vec<Object>> {
        Ok(self.look(directory)?.0)
    }

    /// The directories in a directory, by name.
    pub fn directories(&self, directory: &str) -> Result<Vec<String>> {
        Ok(self.look(directory)?.1)
    }

    fn look(&self, directory: &str) -> Result<(Vec<Object>, Vec<String>)> {
        let prefix = self.path(directory)?;
        let (objects, ground) = (Arc::clone(&self.objects), self.ground.clone());
        let listed = self.ask_on("list", directory, move || {
            let (objects, ground, prefix) = (Arc::clone(&objects), ground.clone(), prefix.clone());
            async move {
                let listed = objects.list_with_delimiter(Some(&prefix)).await?;
                ground.vouch(&prefix, &listed).await?;
                Ok(listed)
            }
        })?;
        let last = |path: &Path| path.filename().unwrap_or_default().to_owned();
        let mut found: Vec<Object> = listed
            .objects
            .iter()
            .map(|meta| Object { name: last(&meta.location), size: meta.size })
            .collect();
        found.sort_by(|a, b| a.name.cmp(&b.name));
        self.keep_only(directory, &found);
        let mut directories: Vec<String> = listed.common_prefixes.iter().map(last).collect();
        directories.sort();
        Ok((found, directories))
    }

    /// Whether there is anything at all; the name of the first thing found.
    pub fn first(&self) -> Result<Option<String>> {
        let (objects, root) = (Arc::clone(&self.objects), self.root.clone());
        let first = self.ask_on("list", "", move || {
            let mut listed = objects.list(Some(&root));
            async move { listed.try_next().await }
        })?;
        Ok(first.map(|meta| meta.location.to_string()))
    }

    /// A range of an object.
    pub fn read(&self, object: &str, range: Range<u64>) -> Result<Bytes> {
        let path = self.path(object)?;
        let wanted = range.end.saturating_sub(range.start);
        if wanted == 0 {
            return Ok(Bytes::new());
        }
        let objects = Arc::clone(&self.objects);
        let bytes = self.ask_on("read", object, move || {
            let (objects, path, range) = (Arc::clone(&objects), path.clone(), range.clone());
            async move { objects.get_range(&path, range).await }
        })?;
        if bytes.len() as u64 == wanted {
            return Ok(bytes);
        }
        let (object, found) = (object.to_owned(), bytes.len() as u64);
        Err(VaultError::Short { object, wanted, found })
    }

    /// A whole object, which is known to be small.
    pub fn read_all(&self, object: &str) -> Result<Bytes> {
        let path = self.path(object)?;
        let objects = Arc::clone(&self.objects);
        self.ask_on("read", object, move || {
            let (objects, path) = (Arc::clone(&objects), path.clone());
            async move { objects.get(&path).await?.bytes().await }
        })
    }

    /// The same of an object that never changes: what was read before is not read again.
    pub(crate) fn read_once(&self, object: &str) -> Result<Bytes> {
        if let Some(kept) = self.kept(object) {
            return Ok(kept);
        }
        let bytes = self.read_all(object)?;
        self.keep(object, bytes.clone());
        Ok(bytes)
    }

    /// What was kept of an object.
    pub(crate) fn kept(&self, object: &str) -> Option<Bytes> {
        let object = object.to_owned();
        self.with_kept(move |cache| cache.get(&object))?
    }

    /// Keeps something of an object.
    pub(crate) fn keep(&self, object: &str, bytes: Bytes) {
        let object = object.to_owned();
        self.with_kept(move |cache| cache.put(&object, &bytes));
    }

    /// Forgets what was kept of objects that a listing does not show any more.
    fn keep_only(&self, directory: &str, listed: &[Object]) {
        if self.cache.is_none() {
            return;
        }
        let (directory, listed) = (directory.to_owned(), listed.to_vec());
        self.with_kept(move |cache| {
            cache.retain(&directory, listed.iter().map(|object| object.name.as_str()));
        });
    }

    /// What is kept belongs to whoever opened the store, whatever identity the calling thread has.
    fn with_kept<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Cache) -> T + Send + 'static,
    ) -> Option<T> {
        let cache = Arc::clone(self.cache.as_ref()?);
        let (sender, answer) = sync_channel(1);
        self.runtime.spawn(async move {
            // Whoever asked waits below.
            let _ = sender.send(work(&cache));
        });
        answer.recv().ok()
    }

    /// Stores an object; it is there, durably, when this returns.
    pub fn put(&self, object: &str, bytes: impl Into<Bytes>) -> Result<()> {
        let (path, payload) = (self.path(object)?, PutPayload::from(bytes.into()));
        let (objects, ground) = (Arc::clone(&self.objects), self.ground.clone());
        self.ask_on("store", object, move || {
            let (objects, ground) = (Arc::clone(&objects), ground.clone());
            let (path, payload) = (path.clone(), payload.clone());
            async move {
                ground.make(|| objects.put(&path, payload.clone())).await?;
                ground.settle_new(path.into()).await
            }
        })
    }

    /// Something that takes the bytes of an object to come. If the store is a directory, a large
    /// one is written to it once, and [`put_staged`](Self::put_staged) gives it its name.
    pub fn stage(&self) -> Stage {
        if !self.is_near() {
            return Stage::new();
        }
        let store = self.clone();
        Stage::at_home(move || {
            let ground = store.ground.clone();
            let made = store.ask("stage in", "", async move { ground.unnamed().await });
            made.map_err(io::Error::other)
        })
    }

    /// Stores what was staged.
    pub fn put_staged(&self, object: &str, staged: Staged) -> Result<()> {
        match staged {
            Staged::Memory(bytes) => self.put(object, bytes),
            Staged::File { file, size } => self.upload(object, &file, size),
            Staged::Home { file, size } => {
                let file = Arc::new(file);
                match self.adopt(object, &file)? {
                    true => Ok(()),
                    false => self.upload(object, &file, size),
                }
            }
        }
    }

    /// Gives a file of the store's directory the name of an object, and tells whether that can be.
    fn adopt(&self, object: &str, file: &Arc<File>) -> Result<bool> {
        let path = String::from(self.path(object)?);
        let (ground, file) = (self.ground.clone(), Arc::clone(file));
        self.ask("store", object, async move {
            let adopted = ground.adopt(file, path.clone()).await?;
            if adopted {
                ground.settle_new(path).await?;
            }
            Ok(adopted)
        })
    }

    /// Stores a large object in parts. It appears when all of them are there.
    fn upload(&self, object: &str, file: &File, size: u64) -> Result<()> {
        let path = self.path(object)?;
        let (objects, ground) = (Arc::clone(&self.objects), self.ground.clone());
        let begin = path.clone();
        let upload = self.ask("store", object, async move {
            ground.make(|| objects.put_multipart(&begin)).await
        })?;
        let upload = Arc::new(Mutex::new(upload));
        let sent = self.send_parts(object, &upload, file, size).and_then(|()| {
            let (upload, ground) = (Arc::clone(&upload), self.ground.clone());
            self.ask("store", object, async move {
                upload.lock().await.complete().await?;
                ground.settle_new(path.into()).await
            })
        });
        if sent.is_err() {
            // Best effort. What stays of an upload is invisible, and not free of charge.
            drop(self.ask("abort", object, async move { upload.lock().await.abort().await }));
        }
        sent
    }

    fn send_parts(&self, object: &str, upload: &Upload, file: &File, size: u64) -> Result<()> {
        let part = UPLOAD_PART.max(size.div_ceil(UPLOAD_PARTS_MAX));
        let mut at = 0;
        while at < size {
            let len = part.min(size - at);
            let payload = PutPayload::from(read_part(file, at, len).map_err(VaultError::Stage)?);
            let upload = Arc::clone(upload);
            self.ask("store", object, async move {
                let sent = upload.lock().await.put_part(payload);
                sent.await
            })?;
            at += len;
        }
        Ok(())
    }

    /// Removes an object. That it is not there is no error: somebody else may have been faster.
    pub fn delete(&self, object: &str) -> Result<()> {
        let path = self.path(object)?;
        let (objects, ground) = (Arc::clone(&self.objects), self.ground.clone());
        let deleted = self.ask_on("delete", object, move || {
            let (objects, ground, path) = (Arc::clone(&objects), ground.clone(), path.clone());
            async move {
                objects.delete(&path).await?;
                ground.settle_gone(path.into()).await
            }
        });
        match deleted {
            Err(error) if error.is_not_found() => Ok(()),
            done => done,
        }
    }

    /// Removes what interrupted writers left behind, if it was last written to before that time,
    /// and returns what that was.
    ///
    /// Of a bucket, nobody but its owner can: unfinished uploads are removed by a lifecycle rule.
    pub fn sweep(&self, before: SystemTime) -> Result<Vec<PathBuf>> {
        let ground = self.ground.clone();
        self.ask("sweep", "", async move { ground.sweep(before).await })
    }

    fn path(&self, object: &str) -> Result<Path> {
        let path = if self.root.as_ref().is_empty() {
            Path::parse(object)
        } else if object.is_empty() {
            Ok(self.root.clone())
        } else {
            Path::parse(format!("{}/{object}", self.root))
        };
        path.map_err(|error| VaultError::Location {
            location: object.to_owned(),
            source: error.into(),
        })
    }

    /// The same for a request that may be asked twice. The engine asks again by itself where a
    /// request failed, but not where its answer broke off, and never deletes twice.
    fn ask_on<T: Send + 'static, F>(
        &self,
        op: &'static str,
        object: &str,
        request: impl Fn() -> F + Send + Sync + 'static,
    ) -> Result<T>
    where
        F: Future<Output = object_store::Result<T>> + Send + 'static,
    {
        self.ask(op, object, async move {
            for number in 1..BREAKS {
                match request().await {
                    Err(error) if is_broken_off(&error) => {
                        tokio::time::sleep(BREAK_WAIT * number).await;
                    }
                    answer => return answer,
                }
            }
            request().await
        })
    }

    /// Has a request driven, and waits for its answer.
    fn ask<T: Send + 'static>(
        &self,
        op: &'static str,
        object: &str,
        request: impl Future<Output = object_store::Result<T>> + Send + 'static,
    ) -> Result<T> {
        let (sender, answer) = sync_channel(1);
        self.runtime.spawn(async move {
            // Whoever asked waits below.
            let _ = sender.send(request.await);
        });
        let gone = |_| VaultError::Engine(io::Error::other("a request was dropped"));
        let object = format!("{}/{object}", self.place.trim_end_matches('/'));
        let answer = answer.recv().map_err(gone)?;
        answer.map_err(|source| VaultError::of_store(op, object, source))
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("place", &self.place).finish_non_exhaustive()
    }
}

/// Whether a connection broke in the middle of an answer.
fn is_broken_off(error: &object_store::Error) -> bool {
    let mut next = error.source();
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<HttpError>() {
            return error.kind() == HttpErrorKind::Interrupted;
        }
        next = error.source();
    }
    false
}

/// What a location turns into, and the place within it.
type Opened<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// The directory that a location names, if it names one.
fn directory_of(location: &str) -> Opened<Option<PathBuf>> {
    if !location.contains("://") {
        return Ok(Some(location.into()));
    }
    let url = Url::parse(location)?;
    if url.scheme() != "file" {
        return Ok(None);
    }
    // Left to itself, the engine would begin at the root, and sync nothing.
    let path = url.to_file_path().map_err(|()| "it names no file of this machine")?;
    Ok(Some(path))
}

fn open_directory(path: &std::path::Path) -> Opened<(Arc<dyn ObjectStore>, Directory)> {
    let directory = Directory::open(path)?;
    let objects = LocalFileSystem::new_with_prefix(directory.path())?;
    Ok((Arc::new(objects.with_fsync(true).with_automatic_cleanup(true)), directory))
}

fn open_url(
    location: &str,
    settings: impl IntoIterator<Item = (String, String)>,
) -> Opened<(Arc<dyn ObjectStore>, Path)> {
    let url = Url::parse(location)?;
    if url.scheme() == "memory" {
        return Err("what is in memory is gone with the process".into());
    }
    // Of two settings the later one counts. Without ours, the parts of a large segment would have
    // 30 seconds each, which a slow line cannot keep.
    let patience = [("timeout".to_owned(), "300 seconds".to_owned())];
    let settings = patience.into_iter().chain(settings);
    let settings = settings.map(|(name, value)| (name.to_ascii_lowercase(), value));
    let (objects, root) = object_store::parse_url_opts(&url, settings)?;
    Ok((Arc::from(objects), root))
}

fn read_part(file: &File, at: u64, len: u64) -> io::Result<Bytes> {
    use std::os::unix::fs::FileExt;
    let mut bytes = vec![0; usize::try_from(len).map_err(io::Error::other)?];
    file.read_exact_at(&mut bytes, at)?;
    Ok(bytes.into())
}
