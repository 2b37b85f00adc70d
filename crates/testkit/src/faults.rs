//! A store that counts what is asked of it, and fails when it is told to.
//!
//! [`Faulty`] stands in front of any store. [`Faults`] is its remote control: a test keeps it while
//! the code under test has the store.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult,
    RenameOptions, Result, UploadPart,
};

/// What is asked of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Call {
    /// An object at once.
    Put,
    /// An object in parts: its beginning.
    Begin,
    /// One of its parts.
    Part,
    /// Its end, with which it appears.
    Complete,
    /// Its end, with which nothing appears.
    Abort,
    /// The removal of one object.
    Delete,
    /// A copy, or a new name.
    Copy,
    /// An object, or ranges of it.
    Get,
    /// Names.
    List,
}

impl Call {
    /// Whether it changes what is stored.
    pub fn is_mutation(self) -> bool {
        !matches!(self, Self::Get | Self::List)
    }
}

/// When everything ends, as with a process that is killed: a number of mutations from now, the
/// next one being the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// That one does nothing any more.
    Before(u64),
    /// That one takes effect, but nobody hears of it.
    After(u64),
}

/// Something to be done to the store below while nobody looks.
type Prank = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct State {
    counts: BTreeMap<Call, u64>,
    mutations: u64,
    reads: u64,
    cut: Option<Cut>,
    dead: bool,
    fail_read_every: Option<u64>,
    fail_mutation_every: Option<u64>,
    delay: Option<Duration>,
    prank: Option<(Call, Prank)>,
}

/// The remote control of a [`Faulty`] store. Clones control the same one.
#[derive(Clone, Default)]
pub struct Faults {
    state: Arc<Mutex<State>>,
}

impl Faults {
    /// How often this was asked.
    pub fn count(&self, call: Call) -> u64 {
        self.state().counts.get(&call).copied().unwrap_or_default()
    }

    /// How many mutations were asked since the store was made or a cut was set.
    pub fn mutations(&self) -> u64 {
        self.state().mutations
    }

    /// Ends everything at a mutation: that one and all calls behind it fail, reading ones too.
    pub fn cut(&self, cut: Cut) {
        let mut state = self.state();
        state.cut = Some(cut);
        state.mutations = 0;
    }

    /// Whether the cut has come.
    pub fn is_cut(&self) -> bool {
        self.state().dead
    }

    /// Fails every `n`th reading call from now on, in a way that is worth another try. 0 is never.
    pub fn fail_read_every(&self, n: u64) {
        let mut state = self.state();
        state.fail_read_every = (n > 0).then_some(n);
        state.reads = 0;
    }

    /// Fails every `n`th mutation from now on, before it takes effect, in a way that is worth
    /// another try. 0 is never.
    pub fn fail_mutation_every(&self, n: u64) {
        let mut state = self.state();
        state.fail_mutation_every = (n > 0).then_some(n);
        state.mutations = 0;
    }

    /// Answers every call this much later.
    pub fn delay(&self, by: Duration) {
        self.state().delay = (!by.is_zero()).then_some(by);
    }

    /// Does something as soon as the next call of this kind has its answer, and before anybody
    /// gets it.
    pub fn behind_the_next(&self, call: Call, prank: impl FnOnce() + Send + 'static) {
        self.state().prank = Some((call, Box::new(prank)));
    }

    /// Counts on, and fails no more.
    pub fn heal(&self) {
        let mut state = self.state();
        let counts = std::mem::take(&mut state.counts);
        *state = State { counts, ..State::default() };
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a call, or does not, as was ordered.
    async fn run<T>(&self, call: Call, request: impl Future<Output = Result<T>>) -> Result<T> {
        let (verdict, delay) = (self.judge(call), self.state().delay);
        if let Some(delay) = delay {
            tokio::time::sleep(delay).await;
        }
        if verdict == Verdict::Refuse {
            return Err(failure(call));
        }
        let answer = request.await;
        let prank = self.state().prank.take_if(|(wanted, _)| *wanted == call);
        if let Some((_, prank)) = prank {
            prank();
        }
        if verdict == Verdict::Hush { Err(failure(call)) } else { answer }
    }

    fn judge(&self, call: Call) -> Verdict {
        let mut state = self.state();
        *state.counts.entry(call).or_default() += 1;
        if state.dead {
            return Verdict::Refuse;
        }
        let due = |every: Option<u64>, count: u64| every.is_some_and(|n| count.is_multiple_of(n));
        if !call.is_mutation() {
            state.reads += 1;
            let fails = due(state.fail_read_every, state.reads);
            return if fails { Verdict::Refuse } else { Verdict::Allow };
        }
        state.mutations += 1;
        let cut = match state.cut {
            Some(Cut::Before(at)) if at == state.mutations => Verdict::Refuse,
            Some(Cut::After(at)) if at == state.mutations => Verdict::Hush,
            _ if due(state.fail_mutation_every, state.mutations) => return Verdict::Refuse,
            _ => return Verdict::Allow,
        };
        state.dead = true;
        cut
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("Faults")
            .field("counts", &state.counts)
            .field("cut", &state.cut)
            .field("dead", &state.dead)
            .finish_non_exhaustive()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Allow,
    /// It does not happen, and that is said.
    Refuse,
    /// It happens, and is said not to.
    Hush,
}

fn failure(call: Call) -> Error {
    let source = io::Error::other(format!("{call:?} was made to fail"));
    Error::Generic { store: "Faulty", source: source.into() }
}

/// A store that obeys its [`Faults`].
#[derive(Debug)]
pub struct Faulty<S> {
    inner: Arc<S>,
    faults: Faults,
}

impl<S: ObjectStore> Faulty<S> {
    /// Stands in front of a store, and for now does nothing but count.
    pub fn new(inner: S) -> Self {
        Self { inner: Arc::new(inner), faults: Faults::default() }
    }

    /// The remote control.
    pub fn faults(&self) -> Faults {
        self.faults.clone()
    }
}

impl<S: ObjectStore> fmt::Display for Faulty<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Faulty({})", self.inner)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: ObjectStore> ObjectStore for Faulty<S> {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        self.faults.run(Call::Put, self.inner.put_opts(location, payload, opts)).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let begun = async {
            let inner = self.inner.put_multipart_opts(location, opts).await?;
            Ok(FaultyUpload { inner: Some(inner), faults: self.faults.clone() })
        };
        Ok(Box::new(self.faults.run(Call::Begin, begun).await?))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.faults.run(Call::Get, self.inner.get_opts(location, options)).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.faults.run(Call::Get, self.inner.get_ranges(location, ranges)).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let (inner, faults) = (Arc::clone(&self.inner), self.faults.clone());
        let delete = move |location: Path| {
            let (inner, faults) = (Arc::clone(&inner), faults.clone());
            async move {
                faults.run(Call::Delete, inner.delete(&location)).await?;
                Ok(location)
            }
        };
        locations.and_then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.names(self.inner.list(prefix))
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.names(self.inner.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.faults.run(Call::List, self.inner.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.faults.run(Call::Copy, self.inner.copy_opts(from, to, options)).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.faults.run(Call::Copy, self.inner.rename_opts(from, to, options)).await
    }
}

impl<S: ObjectStore> Faulty<S> {
    fn names(
        &self,
        listed: BoxStream<'static, Result<ObjectMeta>>,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let faults = self.faults.clone();
        let begun = async move { faults.run(Call::List, async { Ok(listed) }).await };
        futures_util::stream::once(begun).try_flatten().boxed()
    }
}

/// An upload in parts, each of which counts.
#[derive(Debug)]
struct FaultyUpload {
    inner: Option<Box<dyn MultipartUpload>>,
    faults: Faults,
}

impl FaultyUpload {
    fn inner(&mut self) -> Result<&mut Box<dyn MultipartUpload>> {
        self.inner.as_mut().ok_or_else(|| failure(Call::Part))
    }
}

#[async_trait]
impl MultipartUpload for FaultyUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let faults = self.faults.clone();
        let part = self.inner().map(|inner| inner.put_part(data));
        Box::pin(async move { faults.run(Call::Part, async { part?.await }).await })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let faults = self.faults.clone();
        faults.run(Call::Complete, async { self.inner()?.complete().await }).await
    }

    async fn abort(&mut self) -> Result<()> {
        let faults = self.faults.clone();
        faults.run(Call::Abort, async { self.inner()?.abort().await }).await
    }
}

impl Drop for FaultyUpload {
    fn drop(&mut self) {
        // Nobody tidies up after a process that was killed.
        if self.faults.is_cut() {
            std::mem::forget(self.inner.take());
        }
    }
}
