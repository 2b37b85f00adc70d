//! The daemon: follows logs, and tells of noises as they come.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
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
use crate::watching::store::{Kept, Store, key, parse_key};
use crate::watching::{self, show};

/// How often logs are looked at.
const GLANCE: Duration = Duration::from_millis(200);

/// How often what is known is kept. After a kill, as much is read again.
const KEEP: Duration = Duration::from_secs(10);

/// So long a noise waits for its cause at the most, whatever the clock of the log shows.
const WAIT: Duration = Duration::from_millis(1200);

/// How often whoever could not be told is tried again, and a file for Nagios is made anew.
const AGAIN: Duration = Duration::from_secs(60);

/// Noises that are kept for those who could not be told.
const UNHEARD_MAX: usize = 64;

/// Pieces of logs that are read between two looks at the noises.
const PIECES: usize = 16;

/// The daemon at work.
struct Daemon<'a> {
    store: &'a Store,
    notify: Vec<Notify>,
    watcher: Watcher,
    reader: LineReader,
    followers: Vec<Followed>,
    journal: Option<Journal>,
    /// What was written down before a kill, and whether it was told: then it is not told again.
    said: BTreeMap<String, bool>,
    /// Since when a noise waits for its cause.
    waiting: Option<Instant>,
    /// What some way could not tell; its place among all ways.
    unheard: VecDeque<(usize, Noise)>,
    tried_at: Instant,
    kept_at: Instant,
    digest_day: i64,
    /// What goes on, as far as it was told, and when.
    status: Option<(Vec<NoiseId>, Option<String>, Instant)>,
}

/// A log, and why it cannot be read.
struct Followed {
    follower: Follower,
    path: PathBuf,
    trouble: Option<String>,
}

/// Runs until a signal.
pub fn run(store: &Store, args: &WatchArgs) -> Result<Exit, CliError> {
    if args.log.is_empty() && args.journal.is_none() {
        return Err(CliError::usage("there is nothing to watch")
            .hint("name a log with --log FILE, or --journal, or use --learn, --replay, --explain or --list"));
    }
    if let Some(path) = args.log.iter().find(|path| path.to_str().is_none()) {
        return Err(CliError::usage(format!("{} is not UTF-8", path.display()))
            .hint("how far it was read is kept under its name: make a link with another"));
    }
    let signals = Signals::block().map_err(|e| CliError::failed("cannot take signals", e))?;
    let _lock = store.lock()?;
    let mut daemon = Daemon::start(store, args)?;
    // Whoever is killed from now on knows where to go on.
    daemon.keep()?;
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
        let said = store.said()?;
        let told = said.iter().filter(|(_, is_told)| **is_told);
        watcher.were_told(told.filter_map(|(key, _)| parse_key(key)));
        let mut reader = LineReader::new(watching::now());
        let mut followers = Vec::new();
        for path in &args.log {
            // Whoever starts it elsewhere means the same log.
            let path = &std::path::absolute(path).map_err(|error| unreadable(path, error))?;
            let follower = match places.iter().find(|place| place.path == *path) {
                Some(place) => {
                    let mut take =
                        |line: &[u8]| watching::take(&mut watcher, &mut reader, line, Mode::Watch);
                    Follower::resume(place, &mut take).map_err(|error| unreadable(path, error))?
                }
                None => Follower::new(path),
            };
            if !path.exists() {
                say(&format!("{} is not there yet: it is waited for", path.display()));
            }
            followers.push(Followed { follower, path: path.clone(), trouble: None });
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
        Ok(Self {
            store,
            notify,
            watcher,
            reader,
            followers,
            journal,
            said,
            waiting: None,
            unheard: VecDeque::new(),
            tried_at: Instant::now(),
            kept_at: Instant::now(),
            digest_day: watching::now().day(),
            status: None,
        })
    }

    /// Reads what has come, and tells what is to be told; whether all was read.
    fn step(&mut self) -> Result<bool, CliError> {
        self.reader.set_now(watching::now());
        let is_idle = self.read()?;
        // As long as old lines are read, only they tell what time it is.
        let now = if is_idle { watching::now() } else { self.watcher.now() };
        if is_idle {
            self.wait_no_longer();
        }
        let noises = self.watcher.noises(now);
        if !noises.is_empty() {
            noises.iter().try_for_each(|noise| self.tell(noise))?;
            self.keep()?;
        }
        if self.kept_at.elapsed() > KEEP {
            self.keep()?;
        }
        self.tell_again();
        self.tell_status();
        self.tell_digest(now);
        Ok(is_idle)
    }

    /// The clock of the log may be wrong, or stand still.
    fn wait_no_longer(&mut self) {
        if !self.watcher.is_waiting() {
            self.waiting = None;
        } else if self.waiting.get_or_insert_with(Instant::now).elapsed() > WAIT {
            self.watcher.stop_waiting();
            self.waiting = None;
        }
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
        // In turn, so that logs of the same time are read at about the same time.
        let mut behind: Vec<&mut Followed> = followers.iter_mut().collect();
        for _ in 0..PIECES {
            behind =
                behind.into_iter().filter_map(|log| log.read(&mut take).then_some(log)).collect();
        }
        Ok(is_idle && behind.is_empty())
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
        for (way, notify) in self.notify.iter().enumerate() {
            if let Err(error) = notify.tell(noise) {
                complain(notify, &error);
                self.unheard.push_back((way, noise.clone()));
            }
        }
        while self.unheard.len() > UNHEARD_MAX {
            self.unheard.pop_front();
        }
        self.store.note_told(&key)
    }

    /// Tries once more to tell what could not be told, until that fails again.
    fn tell_again(&mut self) {
        if self.tried_at.elapsed() < AGAIN {
            return;
        }
        while let Some((way, noise)) = self.unheard.front() {
            if self.notify[*way].tell(noise).is_err() {
                break;
            }
            self.unheard.pop_front();
        }
        self.tried_at = Instant::now();
    }

    /// Keeps what is known, and hears what was accepted meanwhile.
    fn keep(&mut self) -> Result<(), CliError> {
        for (id, until) in self.store.accepted()? {
            self.watcher.accept(id, until);
        }
        let places: Vec<_> = self.followers.iter().map(|log| log.follower.place()).collect();
        let cursor = self.journal.as_ref().and_then(Journal::cursor);
        self.store.save(&self.watcher, &places, cursor)?;
        self.kept_at = Instant::now();
        Ok(())
    }

    /// When it has changed, and now and then, so that its age tells whether we are alive.
    fn tell_status(&mut self) {
        let open: Vec<&Noise> = self.watcher.open().iter().map(|open| &open.noise).collect();
        let ids: Vec<NoiseId> = open.iter().map(|noise| noise.id).collect();
        let trouble = self.followers.iter().find_map(|log| log.trouble.clone());
        if let Some((known, why, at)) = &self.status
            && (known, why) == (&ids, &trouble)
            && at.elapsed() < AGAIN
        {
            return;
        }
        for notify in &self.notify {
            if let Err(error) = notify.tell_status(&open, trouble.as_deref()) {
                complain(notify, &error);
            }
        }
        self.status = Some((ids, trouble, Instant::now()));
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

impl Followed {
    /// Gives the lines of one piece; whether there may be more.
    fn read(&mut self, take: &mut dyn FnMut(&[u8])) -> bool {
        match self.follower.read(take) {
            Ok(more) => {
                self.trouble = None;
                more
            }
            // Whoever rotates logs may give them to us a moment later.
            Err(error) => {
                let text = format!("cannot read {}: {error}", self.path.display());
                if self.trouble.as_ref() != Some(&text) {
                    say(&text);
                }
                self.trouble = Some(text);
                false
            }
        }
    }
}

fn unreadable(path: &Path, error: io::Error) -> CliError {
    CliError::failed(format!("cannot go on with {}", path.display()), error)
        .hint("the user that runs this must be allowed to read it, and what it was rotated to")
}

/// A way that does not work is no reason to be silent on the others.
fn complain(notify: &Notify, error: &io::Error) {
    say(&format!("cannot tell by {notify}: {error}"));
}

fn say(text: &str) {
    let text = plain(&format!("cylinder: {text}"));
    // Nobody is left to be told when standard error itself is gone.
    let _ = io::stderr().write_all(format!("{text}\n").as_bytes());
}
