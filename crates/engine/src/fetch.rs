//! Reads messages ahead on worker threads, hashes them, and hands them over in order.
//!
//! The order of a segment is fixed (a hard link stands behind what it links to), yet one thread
//! cannot open, read and hash as fast as a pipe takes the result. So the caller cuts the work
//! into batches, workers fill them in any order, and the caller takes them back in its own.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

use cyrus_format::index::RecordKey;
use model::Guid;
use sha1::{Digest, Sha1};

use crate::ports::MessageSource;

/// A batch ends at this many messages or bytes, whichever comes first: large enough that the
/// hand-over costs nothing, small enough that all batches under way stay within a few MiB.
const BATCH_MESSAGES_MAX: usize = 128;
const BATCH_BYTES_MAX: u64 = 1 << 20;

/// A batch that holds this much keeps no further message, whatever the records' sizes promised.
const BATCH_BYTES_HELD_MAX: usize = 8 << 20;

/// Messages above this size are not kept in memory: they are hashed first, and read a second
/// time when they are written. Message files never change, so both readings see the same bytes.
pub(crate) const WHOLE_BYTES_MAX: u64 = 4 << 20;

/// One message of the run, in the order in which it is to be handed over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Job {
    /// What its record says.
    pub record: RecordKey,
    /// What to do.
    pub action: Action,
}

/// What is to be done with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Read and hash it.
    Read,
    /// Its bytes are known; it only keeps its place in the order.
    Link,
    /// It is stored already, under this hash.
    Carry(Guid),
}

/// What reading one message gave.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It was not to be read.
    Skipped,
    /// Its bytes, as a range of the batch's buffer, and their SHA-1.
    Whole { start: usize, end: usize, guid: Guid },
    /// Its size and SHA-1; too large to be held.
    Large { size: u64, guid: Guid },
    /// Somebody [took it early](Early): its size, and how that went.
    Taken { size: u64, taken: io::Result<()> },
    /// It could not be read.
    Failed(io::Error),
}

/// Takes messages on the threads that have read them, in any order: a job, what its bytes hash to,
/// and the bytes. `None` leaves a message for its turn.
pub(crate) type Early<'e> = dyn Fn(&Job, Guid, &[u8]) -> Option<io::Result<()>> + Sync + 'e;

/// Where messages are read, and by whom.
#[derive(Clone, Copy)]
pub(crate) struct Reading<'s> {
    pub source: &'s dyn MessageSource,
    pub mailbox: usize,
    /// Threads; at least one.
    pub workers: usize,
    pub early: Option<&'s Early<'s>>,
}

/// Gives out the jobs of one mailbox and takes what became of them, in the same order.
pub(crate) trait Work {
    /// What can go wrong; it ends the run.
    type Error;

    /// The next job; `None` when there are no more.
    fn next(&mut self) -> Result<Option<Job>, Self::Error>;

    /// What became of a job. `bytes` is the buffer that a [`Outcome::Whole`] points into.
    fn done(&mut self, job: &Job, outcome: Outcome, bytes: &[u8]) -> Result<(), Self::Error>;
}

/// Does all of the work.
pub(crate) fn fetch<K: Work>(reading: &Reading<'_>, work: &mut K) -> Result<(), K::Error> {
    let workers = reading.workers;
    let first = next_batch(work)?;
    let second = next_batch(work)?;
    if second.is_empty() {
        // A mailbox of one batch is not worth a thread.
        return take(work, fill(reading, first, Vec::new())).map(drop);
    }
    let (sender, queue) = sync_channel::<Task>(2 * workers);
    let queue = Mutex::new(queue);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| work_off(reading, &queue));
        }
        // Dropped at the end of this closure, on errors too: that is what ends the workers.
        let sender = sender;
        let mut waiting = VecDeque::from([first, second]);
        let mut under_way: VecDeque<Receiver<Batch>> = VecDeque::new();
        // Memory that is used again need not be fetched from the kernel page by page.
        let mut spare: Vec<Vec<u8>> = Vec::new();
        loop {
            while under_way.len() < 2 * workers {
                let jobs = match waiting.pop_front() {
                    Some(jobs) => jobs,
                    None => next_batch(work)?,
                };
                if jobs.is_empty() {
                    break;
                }
                let (reply, batch) = sync_channel(1);
                let buffer = spare.pop().unwrap_or_default();
                if sender.send(Task { jobs, buffer, reply }).is_err() {
                    break;
                }
                under_way.push_back(batch);
            }
            let Some(batch) = under_way.pop_front() else { return Ok(()) };
            match batch.recv() {
                Ok(batch) => spare.push(take(work, batch)?),
                // Only a worker that panicked drops its reply; the scope passes the panic on.
                Err(_) => return Ok(()),
            }
        }
    })
}

fn next_batch<K: Work>(work: &mut K) -> Result<Vec<Job>, K::Error> {
    let mut batch = Vec::new();
    let mut bytes = 0u64;
    while batch.len() < BATCH_MESSAGES_MAX && bytes < BATCH_BYTES_MAX {
        let Some(job) = work.next()? else { break };
        if job.action == Action::Read {
            bytes = bytes.saturating_add(job.record.size.min(WHOLE_BYTES_MAX));
        }
        batch.push(job);
    }
    Ok(batch)
}

/// Hands a batch over; what is left is its memory.
fn take<K: Work>(work: &mut K, batch: Batch) -> Result<Vec<u8>, K::Error> {
    for (job, outcome) in batch.results {
        work.done(&job, outcome, &batch.bytes)?;
    }
    Ok(batch.bytes)
}

/// A batch to be filled.
struct Task {
    jobs: Vec<Job>,
    buffer: Vec<u8>,
    reply: SyncSender<Batch>,
}

/// Some messages in order, and what reading them gave.
struct Batch {
    bytes: Vec<u8>,
    results: Vec<(Job, Outcome)>,
}

fn work_off(reading: &Reading<'_>, queue: &Mutex<Receiver<Task>>) {
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Task { jobs, buffer, reply }) = next else { return };
        // The taker may have given up on an error: then nobody wants this batch.
        if reply.send(fill(reading, jobs, buffer)).is_err() {
            return;
        }
    }
}

fn fill(reading: &Reading<'_>, jobs: Vec<Job>, mut bytes: Vec<u8>) -> Batch {
    bytes.clear();
    let mut batch = Batch { bytes, results: Vec::with_capacity(jobs.len()) };
    for job in jobs {
        let outcome = match job.action {
            Action::Read => read_job(reading, &job, &mut batch.bytes),
            Action::Link | Action::Carry(_) => Outcome::Skipped,
        };
        batch.results.push((job, outcome));
    }
    batch
}

fn read_job(reading: &Reading<'_>, job: &Job, bytes: &mut Vec<u8>) -> Outcome {
    let outcome = read_message(reading.source, reading.mailbox, &job.record, bytes)
        .unwrap_or_else(Outcome::Failed);
    let (Outcome::Whole { start, end, guid }, Some(early)) = (&outcome, reading.early) else {
        return outcome;
    };
    let Some(taken) = early(job, *guid, &bytes[*start..*end]) else { return outcome };
    let (start, size) = (*start, (end - start) as u64);
    // The next message has its place, while it is in the processor's cache.
    bytes.truncate(start);
    Outcome::Taken { size, taken }
}

/// Appends a message to `bytes` and hashes it; a large one is hashed and dropped again. What cannot
/// be read is looked for elsewhere.
pub(crate) fn read_message(
    source: &dyn MessageSource,
    mailbox: usize,
    record: &RecordKey,
    bytes: &mut Vec<u8>,
) -> io::Result<Outcome> {
    match read_copy(source, mailbox, record, bytes) {
        Err(error)
            if error.kind() != io::ErrorKind::NotFound && source.find_copy(mailbox, record) =>
        {
            read_copy(source, mailbox, record, bytes)
        }
        read => read,
    }
}

fn read_copy(
    source: &dyn MessageSource,
    mailbox: usize,
    record: &RecordKey,
    bytes: &mut Vec<u8>,
) -> io::Result<Outcome> {
    let start = bytes.len();
    let (file, wanted) = source.open_unchecked(mailbox, record)?;
    let outcome = read_hashed(file, record, wanted.unwrap_or(record.guid), bytes)?;
    let found = match &outcome {
        Outcome::Whole { guid, .. } | Outcome::Large { guid, .. } => Some(*guid),
        _ => None,
    };
    if wanted.is_none() || found == wanted {
        return Ok(outcome);
    }
    // Once more by the way that says what is wrong.
    bytes.truncate(start);
    read_hashed(source.open(mailbox, record)?, record, record.guid, bytes)
}

fn read_hashed(
    mut file: impl Read,
    record: &RecordKey,
    wanted: Guid,
    bytes: &mut Vec<u8>,
) -> io::Result<Outcome> {
    let start = bytes.len();
    let mut hash = Sha1::new();
    // Sizes in records can lie: once the batch is full, nothing more is kept.
    let limit = if start > BATCH_BYTES_HELD_MAX { 0 } else { WHOLE_BYTES_MAX as usize };
    let hint = usize::try_from(record.size).unwrap_or(usize::MAX).min(limit);
    let mut end = start;
    // One byte more than expected, so that a full read is seen to be at the end by the next.
    bytes.resize(start + hint + 1, 0);
    loop {
        match file.read(&mut bytes[end..]) {
            Ok(0) => break,
            Ok(n) => end += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                bytes.truncate(start);
                return Err(error);
            }
        }
        if end - start > limit {
            hash.update(&bytes[start..end]);
            bytes.truncate(start);
            return hash_rest(file, hash, (end - start) as u64);
        }
        // As long as the record says, and with the right hash: no need to ask what follows.
        if (end - start) as u64 == record.size {
            let guid = Guid(Sha1::digest(&bytes[start..end]).into());
            if guid == wanted {
                bytes.truncate(end);
                return Ok(Outcome::Whole { start, end, guid });
            }
        }
        if end == bytes.len() {
            bytes.resize(end + (end - start).clamp(64 << 10, 1 << 20), 0);
        }
    }
    bytes.truncate(end);
    hash.update(&bytes[start..]);
    Ok(Outcome::Whole { start, end, guid: Guid(hash.finalize().into()) })
}

fn hash_rest(mut file: impl Read, mut hash: Sha1, mut size: u64) -> io::Result<Outcome> {
    let mut chunk = vec![0; 256 << 10];
    loop {
        match file.read(&mut chunk) {
            Ok(0) => return Ok(Outcome::Large { size, guid: Guid(hash.finalize().into()) }),
            Ok(n) => {
                hash.update(&chunk[..n]);
                size += n as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
