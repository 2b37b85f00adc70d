//! The sync log, from Cyrus' directory to what is to be done: taken over, kept in chunks until nobody needs
//! them any more, and read.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;

use cyrus_format::names::NameRules;
use cyrus_format::sync_log::Work;
use engine::rolling::{ChunkId, Effects, IllAccount, Moment, Schedule};
use spool::sync_log::{Claim, SyncLog, Taken, Waiting};

use super::clock::{Now, millis_of};
use super::others;
use super::store::{Chunk, Cut, Store};
use crate::args::ReplicateArgs;
use crate::error::{CliError, Exit};

/// How often it is looked for a `sync_client` on the same channel, in milliseconds.
const OTHERS_EVERY: i64 = 5_000;

/// A log whose last writer has not ended is looked at again after so long, in milliseconds: most have
/// within one, and who is waited for longer need not be asked as often.
const BUSY_EVERY: [i64; 2] = [1, 10];

/// The last writer may take so long to write his line and to sync it, in milliseconds, before anybody
/// hears of it.
const BUSY_MAX: i64 = 60_000;

/// The list of what is ill is written no more often than that, in milliseconds; chunks wait for it.
const KEEP_EVERY: i64 = 1_000;

/// A log of a channel, and what was taken of it.
pub struct Intake<'i> {
    args: &'i ReplicateArgs,
    store: &'i mut Store,
    log: SyncLog,
    claim: Option<Claim>,
    others_at: Moment,
    /// Since when the last writer of a log has not ended, and whether somebody else had renamed that.
    busy: Option<(Moment, bool)>,
    /// The log is not looked at before.
    not_before: Moment,
    /// What Cyrus had written when it was looked at first is taken.
    is_taken: bool,
    /// Chunks that are not read yet.
    waiting: VecDeque<Chunk>,
    /// Those that are, until nobody needs them.
    read: BTreeMap<ChunkId, Chunk>,
    /// Nobody needs these; they go once what is ill is kept.
    unneeded: Vec<ChunkId>,
    ill_is_kept: bool,
    ill_kept_at: Option<Moment>,
}

impl<'i> Intake<'i> {
    /// Of this log, with what is left in the store.
    pub fn new(
        args: &'i ReplicateArgs,
        store: &'i mut Store,
        log: SyncLog,
    ) -> Result<Self, CliError> {
        let waiting = store.chunks()?;
        Ok(Self {
            args,
            store,
            log,
            claim: None,
            // Nobody was there when it was begun.
            others_at: Now::read().plus(OTHERS_EVERY),
            busy: None,
            not_before: Moment::default(),
            is_taken: false,
            waiting,
            read: BTreeMap::new(),
            unneeded: Vec::new(),
            ill_is_kept: true,
            ill_kept_at: None,
        })
    }

    /// What was ill when somebody worked here last.
    pub fn ill(&self, now: Now) -> Result<Vec<IllAccount>, CliError> {
        self.store.ill(now)
    }

    /// Where Cyrus writes.
    pub fn directory(&self) -> &Path {
        self.log.directory()
    }

    /// Sees to it that nobody else reads the channel, as soon as Cyrus has made its directory.
    ///
    /// # Errors
    /// If somebody does; then this one has to end.
    pub fn keep_others_out(&mut self, now: Now) -> Result<(), CliError> {
        if now.is_past(self.others_at) {
            self.others_at = now.plus(OTHERS_EVERY);
            self.refuse_others()?;
        }
        if self.claim.is_some() || !self.log.directory().is_dir() {
            return Ok(());
        }
        self.claim = self.log.claim().map_err(crate::spool_error::explain)?;
        match self.claim {
            Some(_) => Ok(()),
            None => Err(CliError::plain("another process follows this channel of the sync log")
                .hint("cylinder replicate --rolling works once for each channel, whatever --state says")
                .exit(Exit::TryAgain)),
        }
    }

    fn refuse_others(&self) -> Result<(), CliError> {
        others::refuse(&self.args.server.config, self.args.rolling.channel.as_deref())
    }

    /// Whether there are chunks to be read; the log is not taken before they are.
    pub fn has_chunks(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether the log can be taken.
    pub fn takes_logs(&self, now: Now) -> bool {
        self.wants_logs() && now.is_past(self.not_before)
    }

    /// When it can be, if it cannot be taken yet.
    pub fn due(&self) -> Option<Moment> {
        (self.wants_logs() && self.busy.is_some()).then_some(self.not_before)
    }

    /// With `--once`, what Cyrus writes while that is worked off is left for the next one.
    fn wants_logs(&self) -> bool {
        let is_enough = self.args.rolling.once && self.is_taken;
        self.claim.is_some() && self.waiting.is_empty() && !is_enough
    }

    /// Whether all is read that there was at first.
    pub fn is_read(&self) -> bool {
        // Without a directory there is no log.
        self.waiting.is_empty() && (self.is_taken || self.claim.is_none())
    }

    /// Whether all is forgotten that nobody needs.
    pub fn is_tidy(&self) -> bool {
        self.ill_is_kept && self.unneeded.is_empty()
    }

    /// Takes the log over, if there is any; what was left out of its chunks, and whether there may be more.
    ///
    /// # Errors
    /// What this machine says; with [`Exit::TryAgain`] if somebody else takes logs, too.
    pub fn take_log(&mut self, rules: &NameRules, now: Now) -> Result<(Cut, bool), CliError> {
        let log = match self.log.take().map_err(crate::spool_error::explain)? {
            Taken::Log(log) => log,
            Taken::Nothing => {
                (self.is_taken, self.busy) = (true, None);
                return Ok((Cut::default(), false));
            }
            Taken::Busy { path, was_left } => {
                let (since, _) = *self.busy.get_or_insert((now.moment, was_left));
                let waited = now.moment.0 - since.0;
                self.not_before = now.plus(waited.clamp(BUSY_EVERY[0], BUSY_EVERY[1]));
                if now.moment.0 - since.0 < BUSY_MAX {
                    return Ok((Cut::default(), false));
                }
                let path = path.display();
                return Err(CliError::plain(format!("somebody writes to {path} and does not end"))
                    .hint("a Cyrus process that hangs has to be ended"));
            }
        };
        let was_left = self.busy.take().map_or(log.was_left, |(_, was_left)| was_left);
        if was_left {
            // By one who has died, or by one who lives.
            self.refuse_others()?;
        }
        let mut cut = self.store.take(log, rules)?;
        self.is_taken |= !was_left;
        self.waiting.extend(std::mem::take(&mut cut.chunks));
        Ok((cut, was_left))
    }

    /// Reads the next chunk: its number, since when it is there, and what it is about.
    pub fn read_next(
        &mut self,
        rules: &NameRules,
        now: Now,
    ) -> Result<Option<(ChunkId, Moment, Work)>, CliError> {
        let Some(chunk) = self.waiting.front() else { return Ok(None) };
        let work = self.store.read(chunk, rules)?;
        let (id, since) = (chunk.id, now.moment_of(chunk.since));
        self.read.extend(self.waiting.pop_front().map(|chunk| (id, chunk)));
        Ok(Some((id, since, work)))
    }

    /// Takes what is to be kept, and what is to be forgotten.
    pub fn note(&mut self, effects: Effects) {
        self.ill_is_kept &= !effects.keep_ill;
        self.unneeded.extend(effects.forget);
    }

    /// Keeps what is ill, and only then forgets what is done: now and then, or at once.
    pub fn tidy(&mut self, schedule: &Schedule, now: Now, at_once: bool) -> Result<(), CliError> {
        if !self.ill_is_kept {
            let was_just_kept = self.ill_kept_at.is_some_and(|at| now.moment.0 - at.0 < KEEP_EVERY);
            if was_just_kept && !at_once {
                return Ok(());
            }
            self.store.keep_ill(&schedule.ill(), now)?;
            (self.ill_is_kept, self.ill_kept_at) = (true, Some(now.moment));
        }
        while let Some(id) = self.unneeded.last() {
            if let Some(chunk) = self.read.get(id) {
                self.store.forget(chunk)?;
            }
            self.read.remove(id);
            self.unneeded.pop();
        }
        Ok(())
    }

    /// What Cyrus has written since.
    pub fn log(&self) -> Option<Waiting> {
        self.log.waiting().ok().flatten()
    }

    /// Since when the oldest line is there that is not read.
    pub fn oldest(&self, now: Now) -> Option<Moment> {
        let log = self.log().map(|log| millis_of(log.since));
        let chunk = self.waiting.front().map(|chunk| chunk.since);
        log.into_iter().chain(chunk).min().map(|since| now.moment_of(since))
    }

    /// How many chunks are not read, and how many lines they have.
    pub fn unread(&self) -> (usize, u64) {
        (self.waiting.len(), self.waiting.iter().map(|chunk| chunk.lines).sum())
    }
}
