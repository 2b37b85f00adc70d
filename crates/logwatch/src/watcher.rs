//! All of it together: lines in, noises out.

use std::collections::HashSet;
use std::hash::BuildHasherDefault;

use crate::alarms::Alarm;
use crate::book::{Book, BookLimits, Found, Hashed, News, OVERFLOW, Template, TemplateIndex};
use crate::everyday::{Habit, Pace};
use crate::incidents::{Incident, Incidents, Summary};
use crate::line::Line;
use crate::mask::Hash;
use crate::noise::{Cause, LINE_BYTES_MAX, Noise, NoiseId};
use crate::recent::Recent;
use crate::time::{DAY, Time};

/// Users and mailboxes that are known to be there.
const SUBJECTS_MAX: usize = 65_536;

/// Failures of a template that are told for each user or mailbox: one that as many have is everyday.
const FIRST_FAILURES_MAX: u8 = 3;

/// On how many days a failure is to come before it is everyday.
const DAYS_TO_GET_USED_TO: u16 = 3;

/// So long after the first line nothing is strange: whoever has learned nothing finds everything new.
/// What always matters makes a noise all the same.
const YOUTH: i64 = DAY;

/// A stamp that is ahead of the line before by no more is believed.
const AHEAD_MAX: i64 = 400 * DAY;

pub(crate) type Set = HashSet<u64, BuildHasherDefault<Hashed>>;

/// What is done with lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// They are taken for everyday.
    Learn,
    /// They are compared with what is.
    Watch,
}

/// What is known of one template.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Known {
    pub habit: Habit,
    /// Whether it tells of something that did not work.
    pub is_failure: bool,
    /// Whether it was learned as everyday, or accepted as such by coming again and again.
    pub is_everyday: bool,
    /// How many users or mailboxes had it, as far as it matters.
    pub subjects: u8,
    /// Whether its silence has been told.
    pub is_missed: bool,
}

/// Knows what is everyday in one log, and tells what is not.
#[derive(Clone, Debug)]
pub struct Watcher {
    pub(crate) book: Book,
    pub(crate) known: Vec<Known>,
    /// Users and mailboxes that something was said of that is no failure.
    pub(crate) subjects: Set,
    /// Which failure which of them has had.
    pub(crate) failures: Set,
    pub(crate) incidents: Incidents,
    /// Noises that the clock of the log has made ripe, and that were not asked for yet.
    pub(crate) ripe: Vec<Noise>,
    recent: Recent,
    pub(crate) now: Time,
    pub(crate) lines: u64,
    /// When the first line was written.
    pub(crate) since: Option<Time>,
    /// No template is missed before.
    next_due: Time,
}

/// What is known of a line.
#[derive(Clone, Debug)]
pub struct Explanation<'a> {
    /// Its template; `None` if nothing like it has been seen.
    pub template: Option<&'a Template>,
    /// Whether it is that template but for some words.
    pub differs: bool,
    /// How often the template came, when, and how regularly.
    pub habit: Option<&'a Habit>,
    /// Why it always matters.
    pub alarm: Option<&'static Alarm>,
    /// Whether it tells of something that did not work.
    pub is_failure: bool,
}

impl Default for Watcher {
    fn default() -> Self {
        Self::new(BookLimits::default())
    }
}

impl Watcher {
    /// Knows nothing but the lines that always matter.
    pub fn new(limits: BookLimits) -> Self {
        let known = vec![Known::new(Time(0), false)];
        Self::with(Book::new(limits), known)
    }

    pub(crate) fn with(book: Book, known: Vec<Known>) -> Self {
        Self {
            book,
            known,
            subjects: Set::default(),
            failures: Set::default(),
            incidents: Incidents::default(),
            ripe: Vec::new(),
            recent: Recent::default(),
            now: Time(i64::MIN),
            lines: 0,
            since: None,
            next_due: Time(i64::MIN),
        }
    }

    /// Takes a line, and remembers what is to be said of it. Noises come from [`Watcher::noises`].
    #[inline]
    pub fn take(&mut self, line: &Line<'_>, mode: Mode) {
        self.lines += 1;
        self.turn(line.time, mode);
        let found = self.book.read(line.process, line.message);
        if found.news == News::Template {
            self.known.push(Known::new(self.now, found.is_failure));
        }
        let now = self.now;
        let is_young = self.since.is_none_or(|since| now.since(since) < YOUTH);
        let learns = mode == Mode::Learn || is_young;
        let known = &mut self.known[found.template.0 as usize];
        let pace = known.habit.see(now, learns);
        known.is_missed = false;
        known.is_everyday |= learns || known.habit.days >= DAYS_TO_GET_USED_TO;
        let is_first_failure = self.is_first_failure(&found);
        if mode == Mode::Watch
            && let Some(cause) = self.cause(&found, pace, is_first_failure)
            && (!is_young || cause.always_matters())
        {
            self.raise(cause, &found, line);
        }
        self.recent.push(line);
    }

    /// The noises that are to be made now. Time passes by this, too: what has not come is missed.
    pub fn noises(&mut self, now: Time) -> Vec<Noise> {
        self.now = self.now.max(now);
        self.miss();
        let mut noises = std::mem::take(&mut self.ripe);
        noises.extend(self.incidents.ripe(self.now));
        noises
    }

    /// Whether a noise waits for its cause to be told.
    pub fn is_waiting(&self) -> bool {
        self.incidents.is_waiting()
    }

    /// Lets no noise wait any longer, whatever the clock of the log shows.
    pub fn stop_waiting(&mut self) {
        self.incidents.stop_waiting();
    }

    /// These noises, each with its time, were told by a run that was killed before it could keep
    /// that: they are not told again, and nothing else gives them its name.
    pub fn were_told(&mut self, noises: impl IntoIterator<Item = (NoiseId, Time)>) {
        self.incidents.told_before = noises.into_iter().collect();
    }

    /// What time it is, as far as the lines and the caller tell.
    pub fn now(&self) -> Time {
        self.now
    }

    /// How many lines were taken.
    pub fn lines(&self) -> u64 {
        self.lines
    }

    /// When the first line was written; `None` if there was none yet, or none with a stamp.
    pub fn since(&self) -> Option<Time> {
        self.since
    }

    /// All templates, and their habits.
    pub fn templates(&self) -> impl Iterator<Item = (&Template, &Habit)> {
        self.book.templates().iter().zip(self.known.iter().map(|known| &known.habit)).skip(1)
    }

    /// The trouble that goes on.
    pub fn open(&self) -> &[Incident] {
        self.incidents.open()
    }

    /// What has ended since the last digest, and forgets it.
    pub fn take_digest(&mut self) -> Vec<Summary> {
        self.incidents.take_digest()
    }

    /// Makes no noise of that until then; `false` if too much is accepted already.
    pub fn accept(&mut self, id: NoiseId, until: Time) -> bool {
        self.incidents.accept(id, until, self.now)
    }

    /// What is accepted, and until when.
    pub fn accepted(&self) -> impl Iterator<Item = (NoiseId, Time)> {
        self.incidents.accepted().iter().map(|(id, until)| (*id, *until))
    }

    /// What is known of a line, without taking it.
    pub fn explain(&self, line: &Line<'_>) -> Explanation<'_> {
        let found = self.book.look(line.process, line.message);
        let index = found.map(|found| found.template);
        Explanation {
            template: index.map(|index| self.book.template(index)),
            differs: found.is_some_and(|found| found.news == News::Words),
            habit: index.map(|index| &self.known[index.0 as usize].habit),
            alarm: crate::alarms::find(line.message),
            is_failure: crate::alarms::is_failure(line.message),
        }
    }

    /// Follows the clock of the log; when a minute has passed, looks at what has not come.
    #[inline]
    fn turn(&mut self, time: Option<Time>, mode: Mode) {
        let Some(time) = time else { return };
        if time <= self.now || (self.since.is_some() && time.since(self.now) > AHEAD_MAX) {
            return;
        }
        self.now = time;
        self.since.get_or_insert(time);
        if mode == Mode::Watch {
            self.miss();
            // Before the line is taken: what is told must not depend on when somebody asks.
            self.ripe.extend(self.incidents.ripe(time));
        }
    }

    /// Finds what comes every day and has not come.
    fn miss(&mut self) {
        if self.now < self.next_due {
            return;
        }
        self.next_due = self.now.plus(60);
        for index in 1..self.known.len() {
            let known = &mut self.known[index];
            let due = known.habit.due().filter(|due| *due < self.now);
            let Some(due) = due.filter(|_| !known.is_missed && !known.is_failure) else {
                continue;
            };
            known.is_missed = true;
            let last = known.habit.last;
            let template = TemplateIndex(index as u32);
            let cause = Cause::Silence { last };
            let Template { id, process, pattern, .. } = self.book.template(template);
            let noise = Noise {
                id: noise_id(&cause, *id),
                cause,
                // The same whenever somebody looks, also after a kill.
                time: due,
                host: Vec::new(),
                process: process.clone(),
                pid: None,
                session: Vec::new(),
                message: Vec::new(),
                context: Vec::new(),
                pattern: pattern.clone(),
                count: 1,
                related: 0,
            };
            self.incidents.raise(noise, self.now);
        }
    }

    /// Whether this failure is the first of its kind for a user or mailbox that is known to be
    /// there. Strangers fail all the time, and what many have is everyday.
    #[inline]
    fn is_first_failure(&mut self, found: &Found) -> bool {
        let Some(subject) = found.subject else { return false };
        if !found.is_failure {
            if self.subjects.len() < SUBJECTS_MAX {
                self.subjects.insert(subject);
            }
            return false;
        }
        let failure = Hash::new(subject).number(u64::from(found.template.0)).end();
        if !self.subjects.contains(&subject)
            || self.failures.len() >= SUBJECTS_MAX
            || !self.failures.insert(failure)
        {
            return false;
        }
        let known = &mut self.known[found.template.0 as usize];
        known.subjects = known.subjects.saturating_add(1);
        known.subjects <= FIRST_FAILURES_MAX
    }

    /// Why a line is not everyday.
    fn cause(&self, found: &Found, pace: Pace, is_first_failure: bool) -> Option<Cause> {
        if let Some(alarm) = found.alarm {
            return Some(Cause::Alarm(alarm));
        }
        let known = &self.known[found.template.0 as usize];
        match (found.news, pace) {
            (News::Overflow, _) if known.habit.count == 1 => Some(Cause::TooManyKinds),
            (News::Overflow, _) => None,
            (_, Pace::Beyond { count, within, usual }) => {
                Some(Cause::Rate { count, within, usual })
            }
            _ if found.is_failure && !known.is_everyday => Some(Cause::UnknownFailure),
            (News::Words, _) if found.is_failure => Some(Cause::UnknownFailure),
            (News::Template, _) => Some(Cause::NeverSeen),
            _ if is_first_failure => Some(Cause::FirstFailure),
            _ => None,
        }
    }

    fn raise(&mut self, cause: Cause, found: &Found, line: &Line<'_>) {
        let template = self.book.template(found.template);
        // What always matters is told for each user or mailbox, the rest for each template.
        let about = match cause {
            Cause::Alarm(_) => found.subject.map_or(0, |subject| (subject >> 32) as u32),
            Cause::TooManyKinds => OVERFLOW.0,
            _ => template.id,
        };
        let message = &line.message[..line.message.len().min(LINE_BYTES_MAX)];
        // Its own time, so that a line that is read a second time makes the same noise.
        let time = line.time.filter(|time| *time <= self.now).unwrap_or(self.now);
        let noise = Noise {
            id: noise_id(&cause, about),
            cause,
            time,
            host: line.host.to_vec(),
            process: line.process.to_vec(),
            pid: line.pid,
            session: line.session().unwrap_or_default().to_vec(),
            message: message.to_vec(),
            context: self.recent.before(line),
            pattern: template.pattern.clone(),
            count: 1,
            related: 0,
        };
        self.incidents.raise(noise, self.now);
    }
}

impl Known {
    pub fn new(now: Time, is_failure: bool) -> Self {
        let habit = Habit::new(now);
        Self { habit, is_failure, is_everyday: false, subjects: 0, is_missed: false }
    }
}

/// The same for the same cause of the same thing, in every run.
fn noise_id(cause: &Cause, about: u32) -> NoiseId {
    let hash = Hash::new(4).bytes(cause.name().as_bytes()).number(u64::from(about)).end();
    NoiseId((hash >> 32) as u32)
}
