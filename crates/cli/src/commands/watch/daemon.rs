//! The daemon: follows logs, and tells of noises as they come.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use logwatch::line::LineReader;
use logwatch::noise::{Noise, NoiseId};
use logwatch::time::Time;
use logwatch::{Mode, Watcher};

use crate::args::WatchArgs;
use crate::error::{CliError, Exit};
use crate::render::{count, plain};
use crate::signals::{Notify as ServiceManager, Signals};
use crate::watching::follow::Follower;
use crate::watching::journal::Journal;
use crate::watching::notify::Notify;
use crate::watching::store::{Kept, Store, key};
use crate::watching::{self, show};

/// How often logs are looked at.
const GLANCE: Duration = Duration::from_millis(200);

/// How often what is known is kept. After a kill, as much is read again.
const KEEP: Duration = Duration::from_secs(10);

/// Pieces of logs that are read between two looks at the noises.
const PIECES: usize = 16;

/// The daemon at work.
struct Daemon<'a> {
    store: &'a Store,
    notify: Vec<Notify>,
    watcher: Watcher,
    reader: LineReader,
    followers: Vec<Follower>,
    journal: Option<Journal>,
    /// What was written down before a kill, and whether it was told: then it is not told again.
    said: BTreeMap<String, bool>,
    kept_at: Instant,
    digest_day: i64,
    /// What goes on, as far as it was told.
    status: Option<Vec<NoiseId>>,
}

/// Runs until a signal.
pub fn run(store: &Store, args: &WatchArgs) -> Result<Exit, CliError> {
    if args.log.is_empty() && args.journal.is_none() {
        return Err(CliError::usage("there is nothing to watch")
            .hint("name a log with --log FILE, or --journal, or use --learn, --replay, --explain or --list"));
    }
    let signals = Signals::block().map_err(|e| CliError::failed("cannot take signals", e))?;
    let _lock = store.lock()?;
    let mut daemon = Daemon::start(store, args)?;
    ServiceManager::from_env().say("READY=1");
    loop {
        let is_idle = daemon.step()?;
        let wait = if is_idle { GLANCE } else { Duration::ZERO };
        let ended = signals.wait(wait).map_err(|e| CliError::failed("cannot wait", e))?;
        if ended {
            daemon.keep()?;
            return Ok(Exit::Done);
        }
    }
}

impl<'a> Daemon<'a> {
    fn start(store: &'a Store, args: &WatchArgs) -> Result<Self, CliError> {
        let Kept { mut watcher, places, cursor } = store.load()?;
        let mut reader = LineReader::new(watching::now());
        let mut followers = Vec::new();
        for path in &args.log {
            let follower = match places.iter().find(|place| place.path == *path) {
                Some(place) => {
                    let mut take =
                        |line: &[u8]| watching::take(&mut watcher, &mut reader, line, Mode::Watch);
                    Follower::resume(place, &mut take).map_err(|error| unreadable(args, error))?
                }
                None => Follower::new(path),
            };
            followers.push(follower);
        }
        let journal = args.journal.as_ref().map(|matches| Journal::start(matches, cursor));
        let journal = journal.transpose().map_err(|error| {
            CliError::failed("cannot run journalctl", error)
                .hint("it comes with systemd; where there is no journal, use --log FILE")
        })?;
        let notify = match args.notify.is_empty() {
            true => vec![Notify::Stderr],
            false => args.notify.clone(),
        };
        let digest_day = watching::now().day();
        let said = store.said()?;
        let kept_at = Instant::now();
        let status = None;
        Ok(Self {
            store,
            notify,
            watcher,
            reader,
            followers,
            journal,
            said,
            kept_at,
            digest_day,
            status,
        })
    }

    /// Reads what has come, and tells what is to be told; whether all was read.
    fn step(&mut self) -> Result<bool, CliError> {
        self.reader.set_now(watching::now());
        let is_idle = self.read()?;
        // As long as old lines are read, only they tell what time it is.
        let now = if is_idle { watching::now() } else { self.watcher.now() };
        let noises = self.watcher.noises(now);
        if !noises.is_empty() {
            noises.iter().try_for_each(|noise| self.tell(noise))?;
            self.keep()?;
        }
        if self.kept_at.elapsed() > KEEP {
            self.keep()?;
        }
        self.tell_status();
        self.tell_digest(now);
        Ok(is_idle)
    }

    fn read(&mut self) -> Result<bool, CliError> {
        let Self { watcher, reader, followers, journal, .. } = self;
        let mut is_idle = true;
        for piece in 0..PIECES {
            let Some(journal) = journal else { break };
            let more = journal.read(&mut |line| watcher.take(line, Mode::Watch));
            if !more.map_err(|error| CliError::failed("cannot read the journal", error))? {
                break;
            }
            is_idle &= piece + 1 < PIECES;
        }
        let mut take = |line: &[u8]| watching::take(watcher, reader, line, Mode::Watch);
        for follower in followers {
            for piece in 0..PIECES {
                let more = follower.read(&mut take);
                if !more.map_err(|error| CliError::failed("cannot read a log", error))? {
                    break;
                }
                is_idle &= piece + 1 < PIECES;
            }
        }
        Ok(is_idle)
    }

    /// Writes a noise down, tells it, and writes down that it was told. A kill in between costs a
    /// second telling, and never the only one.
    fn tell(&mut self, noise: &Noise) -> Result<(), CliError> {
        let key = key(noise);
        match self.said.get(&key) {
            Some(true) => return Ok(()),
            Some(false) => {}
            None => self.store.note(noise)?,
        }
        for notify in &self.notify {
            if let Err(error) = notify.tell(noise) {
                complain(notify, &error);
            }
        }
        self.store.note_told(&key)
    }

    /// Keeps what is known, and hears what was accepted meanwhile.
    fn keep(&mut self) -> Result<(), CliError> {
        for (id, until) in self.store.accepted()? {
            self.watcher.accept(id, until);
        }
        let places: Vec<_> = self.followers.iter().map(Follower::place).collect();
        let cursor = self.journal.as_ref().and_then(Journal::cursor);
        self.store.save(&self.watcher, &places, cursor)?;
        self.kept_at = Instant::now();
        Ok(())
    }

    fn tell_status(&mut self) {
        let open: Vec<&Noise> = self.watcher.open().iter().map(|open| &open.noise).collect();
        let ids: Vec<NoiseId> = open.iter().map(|noise| noise.id).collect();
        if self.status.as_ref() == Some(&ids) {
            return;
        }
        for notify in &self.notify {
            if let Err(error) = notify.tell_status(&open) {
                complain(notify, &error);
            }
        }
        self.status = Some(ids);
    }

    /// Once a day, what went on.
    fn tell_digest(&mut self, now: Time) {
        if now.day() <= self.digest_day {
            return;
        }
        self.digest_day = now.day();
        let digest = self.watcher.take_digest();
        if digest.is_empty() {
            return;
        }
        let line = |summary: &logwatch::incidents::Summary| {
            let noise = &summary.noise;
            let times = count(noise.count + noise.related, "line");
            let heard = if summary.is_told { "" } else { ", not told" };
            format!("{}: {times}{heard}\n", show::headline(noise))
        };
        let text: String = digest.iter().map(line).collect();
        for notify in &self.notify {
            if let Err(error) = notify.tell_digest(&text) {
                complain(notify, &error);
            }
        }
    }
}

fn unreadable(args: &WatchArgs, error: io::Error) -> CliError {
    let logs: Vec<String> = args.log.iter().map(|path| path.display().to_string()).collect();
    CliError::failed(format!("cannot go on with {}", logs.join(", ")), error)
}

/// A way that does not work is no reason to be silent on the others.
fn complain(notify: &Notify, error: &io::Error) {
    let text = plain(&format!("cylinder: cannot tell by {notify}: {error}"));
    // Nobody is left to be told when standard error itself is gone.
    let _ = io::stderr().write_all(format!("{text}\n").as_bytes());
}
