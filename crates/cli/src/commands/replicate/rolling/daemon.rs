//! The daemon: hears what was done, takes what has come, and hands out what is next.
//!
//! All that is known is known to this one thread. Workers get orders and give reports; neither of them
//! nor anything that goes wrong with the replica, an account or a disk ends it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cyrus_format::names::NameRules;
use cyrus_format::sync_log::Malformed;
use engine::rolling::{Effects, Ended, Link, Loss, Moment, Place, Reach, Schedule, Scope, Task};
use model::Userid;
use spool::sync_log::SyncLog;

use super::super::{Sending, Url};
use super::bulletin::{self, Bulletin};
use super::clock::Now;
use super::hands::Hands;
use super::intake::Intake;
use super::status::Status;
use super::store::Store;
use super::talk::{self, Talk};
use super::wake::Wake;
use super::worker::{Order, Report};
use crate::args::ReplicateArgs;
use crate::error::{CliError, Exit};
use crate::signals::Signals;

/// So many entries are known at the same time; the rest stays on the disk.
const ENTRIES_MAX: u64 = 20_000;

/// After this machine has failed, its disk for example, nothing is taken for so long. In milliseconds.
const PAUSE: i64 = 2_000;

struct Daemon<'d> {
    args: &'d ReplicateArgs,
    sending: Arc<Sending>,
    intake: Intake<'d>,
    schedule: Schedule,
    link: Link,
    hands: Hands,
    running: BTreeMap<Userid, Moment>,
    talk: Talk,
    bulletin: Bulletin<'d>,
    replica: String,
    counts: Counts,
    /// Why this machine failed last, so that it is said once.
    trouble: Option<String>,
    not_before: Moment,
    is_stopping: bool,
    /// Why it ends, if nobody wants it to.
    ended_by: Option<CliError>,
}

#[derive(Default)]
struct Counts {
    messages: u64,
    malformed: u64,
    of_server: u64,
    /// Mailboxes of a kind that the replica cannot keep, as far as they were seen.
    left_out: BTreeMap<Userid, u64>,
}

/// What the daemon waits for if nothing happens.
#[derive(Clone, Copy, Debug, Default)]
struct Awaited {
    /// An account that cannot be tried yet.
    account: Option<Moment>,
    /// Another try to reach the replica.
    link: Option<Moment>,
    /// Another look at the log.
    log: Option<Moment>,
    is_up: bool,
    is_stopping: bool,
    /// Somebody can send.
    has_free: bool,
    /// Somebody can try to connect.
    has_idle: bool,
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
    let hands = Hands::start(args.jobs.into(), &sending, &wake).map_err(failed)?;
    let mut daemon = Daemon::new(args, sending, store, log, hands)?;
    daemon.talk.notify("READY=1");
    loop {
        daemon.step();
        wake.watch(daemon.intake.directory());
        if let Some(exit) = daemon.end()? {
            return Ok(exit);
        }
        let now = Now::read();
        let waited = wake.wait(signals, daemon.takes_logs(now), daemon.limit(now));
        if !waited.map_err(|error| CliError::failed("cannot wait", error))? {
            continue;
        }
        signals.forget();
        if daemon.is_stopping {
            // Whatever is under way is continued by the next one.
            return Ok(Exit::Done);
        }
        daemon.stop("ending, when the accounts in hand are done");
    }
}

impl<'d> Daemon<'d> {
    fn new(
        args: &'d ReplicateArgs,
        sending: Arc<Sending>,
        store: &'d mut Store,
        log: SyncLog,
        hands: Hands,
    ) -> Result<Self, CliError> {
        let now = Now::read();
        let (own, abandoned) = (store.status(), store.abandoned());
        let intake = Intake::new(args, store, log)?;
        let mut schedule = Schedule::default();
        schedule.restore(&intake.ill(now)?, now.moment);
        let daemon = Self {
            args,
            sending,
            intake,
            schedule,
            link: Link::default(),
            hands,
            running: BTreeMap::new(),
            talk: Talk::new(args.talk),
            bulletin: Bulletin::new(&args.rolling, own),
            replica: Url::parse(&args.to).map_or_else(String::new, |url| url.place()),
            counts: Counts::default(),
            trouble: None,
            not_before: Moment::default(),
            is_stopping: false,
            ended_by: None,
        };
        for directory in abandoned {
            let directory = directory.display();
            daemon.talk.say(&format!(
                "nobody works off what {directory} holds of this channel; if that was this replica under \
                 another name, let cylinder replicate --all run once, and remove it"
            ));
        }
        Ok(daemon)
    }

    /// One round.
    fn step(&mut self) {
        let now = Now::read();
        while let Some(report) = self.hands.next_report(now) {
            self.hear(report, now);
        }
        self.tidy(now, false);
        if !self.is_stopping
            && let Err(error) = self.intake.keep_others_out(now)
        {
            self.give_up(error);
        }
        if !self.is_stopping {
            self.take(now);
        }
        if !self.is_stopping {
            self.hand_out(now);
        }
        self.hands.care(now);
        if self.bulletin.is_due(now) {
            self.tell_status(now, if self.is_stopping { "stopping" } else { "running" });
        }
    }

    /// Whether more can be taken. What cannot be sent stays where it is, so that a replica that is away
    /// for days costs no more than Cyrus' own log.
    fn takes_logs(&self, now: Now) -> bool {
        self.takes_chunks(now) && self.intake.takes_logs(now)
    }

    fn takes_chunks(&self, now: Now) -> bool {
        !self.is_stopping
            && self.link.is_up()
            && self.schedule.left() < ENTRIES_MAX
            && now.is_past(self.not_before)
    }

    /// Reads chunks, and takes the log over when there are none: once, so that a log that is written to
    /// without end holds nothing up.
    fn take(&mut self, now: Now) {
        let sending = Arc::clone(&self.sending);
        let rules = sending.server.name_rules();
        let mut may_take_log = true;
        while self.takes_chunks(now) {
            let taken = if self.intake.has_chunks() {
                self.read_next(rules, now)
            } else if may_take_log && self.intake.takes_logs(now) {
                self.take_log(rules, now).map(|may_be_more| may_take_log = may_be_more)
            } else {
                return;
            };
            match taken {
                Ok(()) => self.trouble = None,
                Err(error) if error.exit_code() == Exit::TryAgain => self.give_up(error),
                Err(error) => self.fail(error, now),
            }
        }
    }

    fn read_next(&mut self, rules: &NameRules, now: Now) -> Result<(), CliError> {
        if let Some((id, since, work)) = self.intake.read_next(rules, now)? {
            self.note(&work.malformed, work.of_server);
            let effects = self.schedule.add(id, since, &work, now.moment);
            self.effects(effects, now);
        }
        Ok(())
    }

    /// Takes the log over, if there is any; whether another one may be behind it.
    fn take_log(&mut self, rules: &NameRules, now: Now) -> Result<bool, CliError> {
        let (cut, may_be_more) = self.intake.take_log(rules, now)?;
        self.note(&cut.malformed, cut.of_server);
        Ok(may_be_more)
    }

    /// Counts what is no entry; the first of each kind is told.
    fn note(&mut self, malformed: &Malformed, of_server: u64) {
        let Malformed { lines, example } = malformed;
        if let (0, Some((line, why))) = (self.counts.malformed, example) {
            let text: String = line.escape_ascii().take(200).map(char::from).collect();
            self.talk.say(&format!("a line of the sync log is passed over: {why}: {text}"));
        }
        if self.counts.of_server == 0 && of_server > 0 {
            self.talk.say("annotations of the server itself are not replicated");
        }
        self.counts.malformed += lines;
        self.counts.of_server += of_server;
    }

    /// Gives free workers something to do.
    fn hand_out(&mut self, now: Now) {
        if !self.link.is_up() {
            if let Some(idle) = self.hands.idle()
                && self.link.begin(now.moment)
            {
                idle.order(Order::Connect);
            }
            return;
        }
        while let Some(free) = self.hands.free(now) {
            let Some(task) = self.schedule.next(now.moment) else { return };
            self.running.insert(task.account.clone(), now.moment);
            free.order(Order::Send(task));
        }
    }

    /// Takes what a worker did.
    fn hear(&mut self, report: Report, now: Now) {
        let Report { number, reached, lost, ended, messages, left_out, .. } = report;
        if reached && self.link.reached(now.moment) {
            self.talk.say(&format!("connected to {}", self.replica));
        }
        if let Some((why, loss)) = lost {
            self.lose(number, why, loss, now);
        }
        self.counts.messages += messages;
        if let Some((task, ended)) = ended {
            self.counts.leave_out(&task, &ended, left_out);
            self.running.remove(&task.account);
            let effects = self.schedule.finish(&task, ended, now.moment);
            self.effects(effects, now);
        }
    }

    fn lose(&mut self, number: usize, why: String, loss: Loss, now: Now) {
        if self.link.is_up() && self.hands.bench(number, loss, now) {
            return;
        }
        if self.link.lost(why.clone(), loss, now.moment) {
            let replica = &self.replica;
            let how = match loss {
                Loss::Soft => "it is waited for",
                Loss::Hard => "that is for you to mend; until then it is tried now and then",
            };
            self.talk.say(&format!("cannot reach {replica}: {why}; {how}"));
        }
    }

    fn effects(&mut self, effects: Effects, now: Now) {
        self.talk.told(&effects.told, now.moment);
        self.intake.note(effects);
    }

    fn tidy(&mut self, now: Now, at_once: bool) {
        if !now.is_past(self.not_before) && !at_once {
            return;
        }
        if let Err(error) = self.intake.tidy(&self.schedule, now, at_once) {
            self.fail(error, now);
        }
    }

    /// This machine has failed. It may be better in a while.
    fn fail(&mut self, error: CliError, now: Now) {
        let text = error.line();
        if self.trouble.as_ref() != Some(&text) {
            self.talk.say(&format!("{text}; it is tried again"));
            self.trouble = Some(text);
        }
        self.not_before = now.plus(PAUSE);
    }

    /// Begins nothing more.
    fn stop(&mut self, why: &str) {
        self.is_stopping = true;
        self.talk.notify("STOPPING=1");
        self.talk.say(why);
    }

    /// Somebody else follows the channel: the one who came later, or who does not ask, has it.
    fn give_up(&mut self, error: CliError) {
        self.stop(&format!("{}; ending", error.line()));
        self.ended_by = Some(error);
    }

    /// How long there is nothing to do unless something happens.
    fn limit(&self, now: Now) -> Duration {
        let awaited = Awaited {
            account: self.schedule.due(),
            link: self.link.due(),
            log: self.intake.due().filter(|_| self.takes_chunks(now)),
            is_up: self.link.is_up(),
            is_stopping: self.is_stopping,
            has_free: self.hands.has_free(now),
            has_idle: self.hands.has_idle(),
        };
        awaited.limit(now)
    }

    /// How it ends, if it does.
    fn end(&mut self) -> Result<Option<Exit>, CliError> {
        if self.is_stopping {
            if self.schedule.running() > 0 {
                return Ok(None);
            }
            self.close();
            return self.ended_by.take().map_or(Ok(Some(Exit::Done)), Err);
        }
        if !self.args.rolling.once {
            return Ok(None);
        }
        if let Reach::Down { why, .. } = self.link.reach() {
            let left = self.schedule.left();
            let error = CliError::plain(format!("cannot reach {}: {why}", self.replica))
                .hint(format!("{left} entries of the log are kept, and what is still in it"));
            self.close();
            return Err(error);
        }
        if let Some(trouble) = &self.trouble {
            return Err(CliError::plain(trouble));
        }
        let is_done = self.link.is_up() && self.schedule.is_done() && self.intake.is_read();
        if !is_done {
            return Ok(None);
        }
        self.close();
        if !self.intake.is_tidy() {
            // What is done is done again by the next one.
            return Err(CliError::plain(self.trouble.take().unwrap_or_default()));
        }
        let ill = self.schedule.ill();
        for ill in &ill {
            for thing in &ill.things {
                let mailbox = thing.complaint.mailbox.clone();
                let name = talk::name(&Place { account: ill.account.clone(), mailbox });
                self.talk.say(&format!("{name} is left as it is: {}", thing.complaint.reason));
            }
        }
        Ok(Some(if ill.is_empty() { Exit::Done } else { Exit::Findings }))
    }

    /// Keeps what is to be kept, takes leave of the replica, and says so.
    fn close(&mut self) {
        let now = Now::read();
        self.tidy(now, true);
        self.hands.close();
        self.tell_status(now, "ended");
        self.talk.clear();
    }

    fn tell_status(&mut self, now: Now, state: &'static str) {
        let (chunks, lines) = self.intake.unread();
        let done = self.schedule.done();
        let status = Status {
            now,
            replica: &self.replica,
            channel: self.args.rolling.channel.as_deref(),
            state,
            reach: self.link.reach(),
            connections: self.hands.connected(),
            jobs: usize::from(self.args.jobs),
            oldest: self.schedule.oldest().into_iter().chain(self.intake.oldest(now)).min(),
            left: self.schedule.left() + lines,
            log_bytes: self.intake.log().map_or(0, |log| log.bytes),
            chunks: chunks + self.schedule.chunks(),
            done,
            per_second: self.bulletin.pace(now, done),
            messages: self.counts.messages,
            malformed: self.counts.malformed,
            left_out: self.counts.left_out.values().sum(),
            running: self.running.keys().collect(),
            ill: self.schedule.ill(),
        };
        self.bulletin.tell(&status, &mut self.talk);
    }
}

impl Counts {
    /// Takes how many mailboxes of an account were left out. Who looked at some of them only has not seen
    /// the others.
    fn leave_out(&mut self, task: &Task, ended: &Ended, left_out: u64) {
        let Ended::Done(_) = ended else { return };
        let known = self.left_out.get(&task.account).copied().unwrap_or_default();
        let left_out = match task.scope {
            Scope::Whole => left_out,
            Scope::Mailboxes(_) => left_out.max(known),
        };
        match left_out {
            0 => self.left_out.remove(&task.account),
            _ => self.left_out.insert(task.account.clone(), left_out),
        };
    }
}

impl Awaited {
    /// How long that is at the most. What cannot be begun is not waited for: it may be due for long.
    fn limit(&self, now: Now) -> Duration {
        let account = self.account.filter(|_| self.is_up && self.has_free);
        let link = self.link.filter(|_| self.has_idle);
        let due = [account, link, self.log].into_iter().flatten().filter(|_| !self.is_stopping);
        let millis = due.map(|due| due.0 - now.moment.0).min().unwrap_or(bulletin::EVERY);
        Duration::from_millis(millis.clamp(1, bulletin::EVERY).unsigned_abs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Now = Now { moment: Moment(1_000_000), calendar: 1_800_000_000_000 };

    /// Each round costs a look at the clock, the log and the reports; a thousand of them in a second cost
    /// a processor.
    #[test]
    fn what_is_due_and_cannot_be_begun_makes_no_hot_loop() {
        let (long_ago, soon) = (Some(Moment(5)), Some(Moment(NOW.moment.0 + 250)));
        let idle = Awaited { is_up: true, has_free: true, has_idle: true, ..Awaited::default() };
        let limit = |awaited: Awaited| awaited.limit(NOW).as_millis();
        assert_eq!(limit(idle), 1000);
        assert_eq!(limit(Awaited { account: soon, ..idle }), 250);
        assert_eq!(limit(Awaited { account: long_ago, ..idle }), 1, "it can be begun");
        let due = Awaited { account: long_ago, ..idle };
        assert_eq!(limit(Awaited { has_free: false, ..due }), 1000);
        assert_eq!(limit(Awaited { is_stopping: true, ..due }), 1000);
        let down = Awaited { is_up: false, ..due };
        assert_eq!(limit(down), 1000, "somebody tries to connect");
        assert_eq!(limit(Awaited { link: soon, ..down }), 250);
        let down = Awaited { link: long_ago, ..down };
        assert_eq!(limit(Awaited { has_idle: false, ..down }), 1000);
        assert_eq!(limit(Awaited { is_stopping: true, ..down }), 1000);
        let log = Awaited { log: long_ago, ..idle };
        assert_eq!((limit(log), limit(Awaited { is_stopping: true, ..log })), (1, 1000));
    }

    #[test]
    fn a_mailbox_that_is_left_out_again_and_again_counts_once() {
        let mut counts = Counts::default();
        let whole = |user: &str| Task { account: user.into(), scope: Scope::Whole };
        let one = |user: &str| Task {
            account: user.into(),
            scope: Scope::Mailboxes([user.into()].into()),
        };
        let done = Ended::Done(Vec::new());
        for (task, ended, left_out, expected) in [
            (whole("a"), &done, 2, 2),
            (whole("a"), &done, 2, 2),
            (one("a"), &done, 1, 2),
            (one("b"), &done, 1, 3),
            (whole("a"), &Ended::NotReached, 0, 3),
            (whole("a"), &done, 0, 1),
        ] {
            counts.leave_out(&task, ended, left_out);
            assert_eq!(counts.left_out.values().sum::<u64>(), expected);
        }
    }
}
