//! The daemon: takes the log over, hands out what is to be done, and keeps what is not done yet.
//!
//! All that is known is known to this one thread. Workers get orders and give reports; neither of them
//! nor anything that goes wrong with the replica, an account or a disk ends it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use cyrus_format::sync_log::{Malformed, Work};
use engine::rolling::{ChunkId, Effects, Ended, Link, Loss, Moment, Reach, Schedule, Task};
use model::Userid;
use spool::sync_log::{Claim, SyncLog, Waiting};

use super::super::{Sending, Url};
use super::others;
use super::status::{self, Pace, Status};
use super::store::{Chunk, Store, millis};
use super::talk::Talk;
use super::wake::Wake;
use super::worker::{Order, Report, Worker};
use crate::args::ReplicateArgs;
use crate::error::{CliError, Exit};
use crate::signals::Signals;

/// So many entries are known at the same time; the rest stays on the disk.
const ENTRIES_MAX: u64 = 20_000;

/// How often how it is doing is written down.
const STATUS_EVERY: i64 = 1_000;

/// A connection that has nothing to do is closed after so long, but for one, over which the replica is
/// asked whether it is still there. In milliseconds.
const IDLE: i64 = 60_000;

/// After this machine has failed, its disk for example, nothing is taken for so long. In milliseconds.
const PAUSE: i64 = 2_000;

/// A connection that the replica does not want, while it has others, is tried again after so long.
const BENCH: i64 = 10_000;

/// Milliseconds since 1970 that never go back.
struct Clock {
    begun: Instant,
    at: i64,
}

/// A worker as the daemon knows it.
struct Hand {
    orders: Sender<Order>,
    thread: JoinHandle<()>,
    is_busy: bool,
    is_connected: bool,
    /// Since when it has nothing to do.
    idle_since: Moment,
    /// Not to be sent anything before.
    benched_until: Moment,
}

struct Daemon<'d> {
    args: &'d ReplicateArgs,
    sending: Arc<Sending>,
    store: &'d mut Store,
    log: SyncLog,
    claim: Option<Claim>,
    clock: Clock,
    schedule: Schedule,
    link: Link,
    hands: Vec<Hand>,
    reports: Receiver<Report>,
    /// Chunks that are not read yet.
    waiting: VecDeque<Chunk>,
    /// Those that are, until nobody needs them.
    read: BTreeMap<ChunkId, Chunk>,
    /// Nobody needs these; they go once what is ill is kept.
    unneeded: Vec<ChunkId>,
    ill_is_kept: bool,
    running: BTreeMap<Userid, Moment>,
    talk: Talk,
    pace: Pace,
    replica: String,
    counts: Counts,
    /// Why this machine failed last, so that it is said once.
    trouble: Option<String>,
    /// Why nobody hears how it is doing.
    status_trouble: Option<String>,
    not_before: Moment,
    status_at: Moment,
    has_taken: bool,
    is_stopping: bool,
}

#[derive(Default)]
struct Counts {
    messages: u64,
    malformed: u64,
    left_out: u64,
    of_server: u64,
}

/// Runs until a signal comes, or with `--once` until there is nothing to do.
pub fn run(
    args: &ReplicateArgs,
    sending: Arc<Sending>,
    store: &mut Store,
    log: SyncLog,
    signals: &Signals,
) -> Result<Exit, CliError> {
    let failed = |error| CliError::failed("cannot start", error);
    let mut wake = Wake::new().map_err(failed)?;
    let (sender, reports) = channel();
    let hands: Result<Vec<Hand>, _> = (0..usize::from(args.jobs))
        .map(|number| Hand::start(number, &sending, &sender, &wake))
        .collect();
    let mut daemon = Daemon::new(args, sending, store, log, hands.map_err(failed)?, reports)?;
    daemon.talk.notify("READY=1");
    loop {
        daemon.step()?;
        wake.watch(daemon.log.directory());
        if let Some(exit) = daemon.end()? {
            return Ok(exit);
        }
        let limit = daemon.limit();
        let waited = wake.wait(signals, daemon.takes_logs(), limit);
        if !waited.map_err(|error| CliError::failed("cannot wait", error))? {
            continue;
        }
        signals.forget();
        if daemon.is_stopping {
            // Whatever is under way is continued by the next one.
            return Ok(Exit::Done);
        }
        daemon.is_stopping = true;
        daemon.talk.notify("STOPPING=1");
        daemon.talk.say("ending, when the accounts in hand are done");
    }
}

impl Hand {
    fn start(
        number: usize,
        sending: &Arc<Sending>,
        reports: &Sender<Report>,
        wake: &Wake,
    ) -> std::io::Result<Self> {
        let (orders, receiver) = channel();
        let worker = Worker {
            number,
            sending: Arc::clone(sending),
            orders: receiver,
            reports: reports.clone(),
            waker: wake.waker(),
        };
        let thread =
            thread::Builder::new().name(format!("replica-{number}")).spawn(|| worker.run())?;
        Ok(Self {
            orders,
            thread,
            is_busy: false,
            is_connected: false,
            idle_since: Moment::default(),
            benched_until: Moment::default(),
        })
    }

    fn order(&mut self, order: Order) {
        // A worker ends only after the daemon.
        self.is_busy = self.orders.send(order).is_ok();
    }

    fn is_free(&self, now: Moment) -> bool {
        !self.is_busy && self.benched_until <= now
    }
}

impl<'d> Daemon<'d> {
    fn new(
        args: &'d ReplicateArgs,
        sending: Arc<Sending>,
        store: &'d mut Store,
        log: SyncLog,
        hands: Vec<Hand>,
        reports: Receiver<Report>,
    ) -> Result<Self, CliError> {
        let clock = Clock { begun: Instant::now(), at: millis(SystemTime::now()) };
        let mut schedule = Schedule::default();
        schedule.restore(&store.ill()?, clock.now());
        let waiting = store.chunks()?;
        let replica = Url::parse(&args.to).map_or_else(String::new, |url| url.place());
        Ok(Self {
            args,
            sending,
            store,
            log,
            claim: None,
            clock,
            schedule,
            link: Link::default(),
            hands,
            reports,
            waiting,
            read: BTreeMap::new(),
            unneeded: Vec::new(),
            ill_is_kept: true,
            running: BTreeMap::new(),
            talk: Talk::new(args.talk),
            pace: Pace::default(),
            replica,
            counts: Counts::default(),
            trouble: None,
            status_trouble: None,
            not_before: Moment::default(),
            status_at: Moment::default(),
            has_taken: false,
            is_stopping: false,
        })
    }

    /// One round: hears what was done, takes what has come, hands out what is next.
    fn step(&mut self) -> Result<(), CliError> {
        while let Ok(report) = self.reports.try_recv() {
            self.hear(report);
        }
        let now = self.clock.now();
        self.tidy(now);
        if !self.is_stopping {
            self.claim()?;
            self.take(now);
            self.hand_out(now);
        }
        self.care_for_connections(now);
        if now.0 >= self.status_at.0 + STATUS_EVERY {
            self.status_at = now;
            self.tell_status(now, if self.is_stopping { "stopping" } else { "running" });
        }
        Ok(())
    }

    /// Sees to it that nobody else reads the channel, as soon as Cyrus has made its directory.
    fn claim(&mut self) -> Result<(), CliError> {
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

    /// Whether more can be taken. What cannot be sent stays where it is, so that a replica that is away
    /// for days costs no more than Cyrus' own log.
    fn takes_logs(&self) -> bool {
        self.claim.is_some()
            && !self.is_stopping
            && self.link.is_up()
            && self.waiting.is_empty()
            && self.schedule.left() < ENTRIES_MAX
            && self.not_before <= self.clock.now()
    }

    /// Reads chunks, and takes the log over when there are none: once, so that a log that is written to
    /// without end holds nothing up.
    fn take(&mut self, now: Moment) {
        let mut may_take_log = true;
        while self.link.is_up() && self.schedule.left() < ENTRIES_MAX && self.not_before <= now {
            let taken = match self.waiting.pop_front() {
                Some(chunk) => self.read(chunk, now),
                None if may_take_log && self.takes_logs() => {
                    may_take_log = false;
                    self.take_log()
                }
                None => return,
            };
            match taken {
                Ok(()) => self.trouble = None,
                Err(error) => self.fail(error, now),
            }
        }
    }

    fn read(&mut self, chunk: Chunk, now: Moment) -> Result<(), CliError> {
        let work = match self.store.read(&chunk, self.sending.server.name_rules()) {
            Ok(work) => work,
            Err(error) => {
                self.waiting.push_front(chunk);
                return Err(error);
            }
        };
        self.note(&work);
        let effects = self.schedule.add(chunk.id, chunk.since, &work, now);
        self.read.insert(chunk.id, chunk);
        self.effects(effects, now);
        Ok(())
    }

    /// Takes the log over, if there is any.
    fn take_log(&mut self) -> Result<(), CliError> {
        let taken = self.log.take().map_err(crate::spool_error::explain)?;
        let Some(log) = taken else { return Ok(()) };
        // One that was there at first was left by whoever died; one that appears is somebody's who lives.
        if log.was_left && self.has_taken {
            others::refuse(&self.args.server.config, self.args.rolling.channel.as_deref())?;
        }
        let chunks = self.store.take(log, self.sending.server.name_rules())?;
        self.has_taken = true;
        self.waiting.extend(chunks);
        Ok(())
    }

    /// Counts what is no entry; the first of each kind is told.
    fn note(&mut self, work: &Work) {
        let Malformed { lines, example } = &work.malformed;
        if let (0, Some((line, why))) = (self.counts.malformed, example) {
            let text: String = line.escape_ascii().take(200).map(char::from).collect();
            self.talk.say(&format!("a line of the sync log is passed over: {why}: {text}"));
        }
        if self.counts.of_server == 0 && work.of_server > 0 {
            self.talk.say("annotations of the server itself are not replicated");
        }
        self.counts.malformed += lines;
        self.counts.of_server += work.of_server;
    }

    /// Gives free workers something to do.
    fn hand_out(&mut self, now: Moment) {
        if !self.link.is_up() {
            let free = self.hands.iter().position(|hand| !hand.is_busy);
            if let Some(free) = free
                && self.link.begin(now)
            {
                self.hands[free].order(Order::Connect);
            }
            return;
        }
        loop {
            let free = |connected: bool| {
                self.hands
                    .iter()
                    .position(|hand| hand.is_free(now) && hand.is_connected == connected)
            };
            let Some(free) = free(true).or_else(|| free(false)) else { return };
            let Some(task) = self.schedule.next(now) else { return };
            self.running.insert(task.account.clone(), now);
            self.hands[free].order(Order::Send(task));
        }
    }

    /// Takes what a worker did.
    fn hear(&mut self, report: Report) {
        let now = self.clock.now();
        let Report { number, is_connected, reached, lost, ended, messages, left_out, .. } = report;
        if let Some(hand) = self.hands.get_mut(number) {
            (hand.is_busy, hand.is_connected, hand.idle_since) = (false, is_connected, now);
        }
        if reached && self.link.reached(now) {
            self.talk.say(&format!("connected to {}", self.replica));
        }
        if let Some((why, loss)) = lost {
            self.lose(number, why, loss, now);
        }
        self.counts.messages += messages;
        self.counts.left_out += left_out;
        if let Some((task, ended)) = ended {
            self.finish(&task, ended, now);
        }
    }

    fn lose(&mut self, number: usize, why: String, loss: Loss, now: Moment) {
        let others = self.hands.iter().enumerate();
        let has_another = others.filter(|(at, _)| *at != number).any(|(_, hand)| hand.is_connected);
        if has_another && loss == Loss::Soft {
            // The replica is there, and wants no more connections, or not this one.
            if let Some(hand) = self.hands.get_mut(number) {
                hand.benched_until = Moment(now.0 + BENCH);
            }
        } else if self.link.lost(why.clone(), loss, now) {
            let replica = &self.replica;
            let how = match loss {
                Loss::Soft => "it is waited for",
                Loss::Hard => "that is for you to mend; until then it is tried now and then",
            };
            self.talk.say(&format!("cannot reach {replica}: {why}; {how}"));
        }
    }

    fn finish(&mut self, task: &Task, ended: Ended, now: Moment) {
        self.running.remove(&task.account);
        let effects = self.schedule.finish(task, ended, now);
        self.effects(effects, now);
    }

    fn effects(&mut self, effects: Effects, now: Moment) {
        self.talk.told(&effects.told, now);
        self.ill_is_kept &= !effects.keep_ill;
        self.unneeded.extend(effects.forget);
    }

    /// Keeps what is ill, and only then forgets what is done.
    fn tidy(&mut self, now: Moment) {
        if self.not_before > now || self.ill_is_kept && self.unneeded.is_empty() {
            return;
        }
        let tidied = self.try_to_tidy();
        if let Err(error) = tidied {
            self.fail(error, now);
        }
    }

    fn try_to_tidy(&mut self) -> Result<(), CliError> {
        if !self.ill_is_kept {
            self.store.keep_ill(&self.schedule.ill())?;
            self.ill_is_kept = true;
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

    /// This machine has failed. It may be better in a while.
    fn fail(&mut self, error: CliError, now: Moment) {
        let text = error.line();
        if self.trouble.as_ref() != Some(&text) {
            self.talk.say(&format!("{text}; it is tried again"));
            self.trouble = Some(text);
        }
        self.not_before = Moment(now.0 + PAUSE);
    }

    /// Closes connections that have nothing to do, and asks over the last one.
    fn care_for_connections(&mut self, now: Moment) {
        let mut connected = self.hands.iter().filter(|hand| hand.is_connected).count();
        for hand in self.hands.iter_mut().filter(|hand| hand.is_connected && !hand.is_busy) {
            if now.0 - hand.idle_since.0 < IDLE {
                continue;
            }
            if connected > 1 {
                connected -= 1;
                hand.is_connected = false;
                hand.order(Order::Close);
            } else {
                hand.order(Order::Ask);
            }
        }
    }

    /// How long there is nothing to do unless something happens.
    fn limit(&self) -> Duration {
        let now = self.clock.now();
        let due = [self.schedule.due(), self.link.due(), Some(Moment(now.0 + STATUS_EVERY))];
        let first = due.into_iter().flatten().min().unwrap_or(now);
        let has_free = self.hands.iter().any(|hand| hand.is_free(now));
        let millis = if has_free { first.0 - now.0 } else { STATUS_EVERY };
        Duration::from_millis(u64::try_from(millis.clamp(1, STATUS_EVERY)).unwrap_or(1))
    }

    /// How it ends, if it does.
    fn end(&mut self) -> Result<Option<Exit>, CliError> {
        let now = self.clock.now();
        if self.is_stopping {
            if self.schedule.running() > 0 {
                return Ok(None);
            }
            self.close(now);
            return Ok(Some(Exit::Done));
        }
        if !self.args.rolling.once {
            return Ok(None);
        }
        if let Reach::Down { why, .. } = self.link.reach() {
            let left = self.schedule.left();
            let error = CliError::plain(format!("cannot reach {}: {why}", self.replica))
                .hint(format!("{left} entries of the log are kept, and what is still in it"));
            self.close(now);
            return Err(error);
        }
        if let Some(trouble) = &self.trouble {
            return Err(CliError::plain(trouble));
        }
        let is_done = self.link.is_up()
            && self.schedule.is_done()
            && self.waiting.is_empty()
            && self.unneeded.is_empty()
            && self.log_waits().is_none();
        if !is_done {
            return Ok(None);
        }
        self.close(now);
        let ill = self.schedule.ill();
        for thing in ill.iter().flat_map(|ill| ill.things.iter().map(move |thing| (ill, thing))) {
            let (ill, thing) = thing;
            let place = engine::rolling::Place {
                account: ill.account.clone(),
                mailbox: thing.complaint.mailbox.clone(),
            };
            let name = super::talk::name(&place);
            self.talk.say(&format!("{name} is left as it is: {}", thing.complaint.reason));
        }
        Ok(Some(if ill.is_empty() { Exit::Done } else { Exit::Findings }))
    }

    /// Takes leave of the replica, and says so.
    fn close(&mut self, now: Moment) {
        self.tidy(now);
        for Hand { orders, thread, is_busy, .. } in self.hands.drain(..) {
            drop(orders);
            // One that tries to connect may do so for a minute. The others have nothing to do but to
            // hang up; whether they panicked was told by the panic.
            if !is_busy {
                let _ = thread.join();
            }
        }
        self.tell_status(now, "ended");
        self.talk.clear();
    }

    fn log_waits(&self) -> Option<Waiting> {
        self.log.waiting().ok().flatten()
    }

    fn tell_status(&mut self, now: Moment, state: &'static str) {
        let log = self.log_waits();
        let waits = log.map(|log| Moment(millis(log.since)));
        let chunks = self.waiting.front().map(|chunk| chunk.since);
        let oldest = [self.schedule.oldest(), waits, chunks].into_iter().flatten().min();
        let unread: u64 = self.waiting.iter().map(|chunk| chunk.lines).sum();
        let status = Status {
            now,
            replica: &self.replica,
            channel: self.args.rolling.channel.as_deref(),
            state,
            reach: self.link.reach(),
            connections: self.hands.iter().filter(|hand| hand.is_connected).count(),
            jobs: usize::from(self.args.jobs),
            oldest,
            left: self.schedule.left() + unread,
            log_bytes: log.map_or(0, |log| log.bytes),
            chunks: self.waiting.len() + self.schedule.chunks(),
            done: self.schedule.done(),
            per_second: self.pace.per_second(now, self.schedule.done()),
            messages: self.counts.messages,
            malformed: self.counts.malformed,
            left_out: self.counts.left_out,
            running: self.running.keys().collect(),
            ill: self.schedule.ill(),
        };
        self.talk.show(&status.line());
        let document = format!("{:#}\n", status.document());
        let metrics = self.args.rolling.metrics.as_ref().map(|path| (path, status.metrics()));
        let own = self.store.status();
        let files = [(&own, document.clone())].into_iter();
        let files =
            files.chain(self.args.rolling.status_file.as_ref().map(|path| (path, document)));
        for (path, text) in files.chain(metrics) {
            if let Err(error) = status::replace(path, &text) {
                let error = CliError::failed(format!("cannot write {}", path.display()), error);
                if self.status_trouble.is_none() {
                    self.talk.say(&error.line());
                }
                self.status_trouble = Some(error.line());
                return;
            }
        }
        self.status_trouble = None;
    }
}

impl Clock {
    fn now(&self) -> Moment {
        let passed = i64::try_from(self.begun.elapsed().as_millis()).unwrap_or(i64::MAX);
        Moment(self.at.saturating_add(passed))
    }
}
