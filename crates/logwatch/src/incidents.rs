//! One noise for one trouble, and a count for the rest.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::noise::{Cause, Noise, NoiseId};
use crate::time::{HOUR, Time};

/// So long the same trouble is still the same, in seconds since it came last.
const FOLD: i64 = HOUR;

/// So long a noise waits for a better name: the cause may be told after its consequences. Stamps have
/// whole seconds, so that it is at least one.
const HOLD: i64 = 2;

/// So long what one process says belongs together.
const TOGETHER: i64 = 10;

/// No more than this many noises in [`RATE_SPAN`].
const RATE_MAX: usize = 30;
const RATE_SPAN: i64 = 600;

/// Incidents of one name that are told one by one; further ones are counted with the last.
const SAME_NAME_MAX: usize = 5;

/// Incidents that are kept at the same time.
const INCIDENTS_MAX: usize = 256;

/// Closed and silent incidents that the digest tells.
const DIGEST_MAX: usize = 256;

/// Noises that are accepted at the same time.
const ACCEPTED_MAX: usize = 1024;

/// Trouble that goes on.
#[derive(Clone, Debug, PartialEq)]
pub struct Incident {
    /// What is said of it.
    pub noise: Noise,
    /// From when on it waits for a better name.
    pub(crate) since: Time,
    /// When it came last, itself or what is put down to it.
    pub last: Time,
    /// Who said it last.
    pub by: Speaker,
    /// Whether it has been told.
    pub is_told: bool,
}

/// A process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Speaker {
    host: Vec<u8>,
    process: Vec<u8>,
    pid: Option<u32>,
}

impl Speaker {
    /// Who said what made a noise.
    pub fn of(noise: &Noise) -> Self {
        let Noise { host, process, pid, .. } = noise;
        Self { host: host.clone(), process: process.clone(), pid: *pid }
    }
}

/// A line of the digest.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// The noise, or what would have been one.
    pub noise: Noise,
    /// Whether it was told when it came.
    pub is_told: bool,
}

/// All trouble that goes on, and what was accepted.
#[derive(Clone, Debug, Default)]
pub struct Incidents {
    pub(crate) open: Vec<Incident>,
    pub(crate) digest: VecDeque<Summary>,
    pub(crate) accepted: BTreeMap<NoiseId, Time>,
    /// When the last noises were told.
    pub(crate) told: VecDeque<Time>,
    /// What was told by a run that could not keep that any more.
    pub(crate) told_before: BTreeSet<(NoiseId, Time)>,
}

impl Incidents {
    /// Takes note of something that is not everyday.
    pub fn raise(&mut self, noise: Noise, now: Time) {
        if self.accepted.get(&noise.id).is_some_and(|until| now < *until) {
            return;
        }
        if let Some(known) = self.open.iter_mut().find(|known| known.noise.id == noise.id) {
            known.noise.count += 1;
            known.last = now;
            known.by = Speaker::of(&noise);
            return;
        }
        if let Some(at) = self.open.iter().position(|known| known.explains(&noise, now)) {
            return self.join(at, noise, now);
        }
        let name = noise.cause.name();
        let mut alike = self.open.iter_mut().filter(|known| known.noise.cause.name() == name);
        if let Some(known) = alike.nth(SAME_NAME_MAX - 1) {
            return known.join(noise, now);
        }
        if self.open.len() >= INCIDENTS_MAX {
            self.close_oldest();
        }
        let is_told = self.told_before.contains(&(noise.id, noise.time));
        let by = Speaker::of(&noise);
        self.open.push(Incident { by, noise, since: now, last: now, is_told });
    }

    /// Puts a noise down to an incident. If it explains others that nobody has heard of yet, these are
    /// one with it, too.
    fn join(&mut self, at: usize, noise: Noise, now: Time) {
        let mut joined = self.open.swap_remove(at);
        let is_part =
            |other: &mut Incident| !joined.is_told && !other.is_told && other.explains(&noise, now);
        let parts: Vec<Incident> = self.open.extract_if(.., is_part).collect();
        joined.join(noise, now);
        for part in parts {
            joined.noise.related += part.noise.count + part.noise.related;
        }
        self.open.push(joined);
    }

    /// The noises that are to be made now, oldest first. Each is given once.
    pub fn ripe(&mut self, now: Time) -> Vec<Noise> {
        while self.told.front().is_some_and(|told| now.since(*told) > RATE_SPAN) {
            self.told.pop_front();
        }
        self.open.sort_by_key(|incident| incident.noise.time);
        let mut ripe = Vec::new();
        for incident in &mut self.open {
            if incident.is_told || now.since(incident.since) < HOLD {
                continue;
            }
            if self.told.len() > RATE_MAX {
                continue;
            }
            self.told.push_back(now);
            incident.is_told = true;
            ripe.push(match self.told.len() > RATE_MAX {
                true => too_many(&incident.noise),
                false => incident.noise.clone(),
            });
        }
        self.close(now);
        ripe
    }

    /// Whether any is still to be told.
    pub fn is_waiting(&self) -> bool {
        self.open.iter().any(|incident| !incident.is_told)
    }

    /// Lets none wait any longer.
    pub fn stop_waiting(&mut self) {
        for incident in &mut self.open {
            incident.since = Time(i64::MIN);
        }
    }

    /// What goes on now.
    pub fn open(&self) -> &[Incident] {
        &self.open
    }

    /// What has ended since the last digest, and forgets it.
    pub fn take_digest(&mut self) -> Vec<Summary> {
        self.digest.drain(..).collect()
    }

    /// Makes no noise of that until then; whether there was room for it.
    pub fn accept(&mut self, id: NoiseId, until: Time, now: Time) -> bool {
        self.accepted.retain(|_, until| now < *until);
        if self.accepted.len() >= ACCEPTED_MAX && !self.accepted.contains_key(&id) {
            return false;
        }
        self.open.retain(|incident| incident.noise.id != id);
        self.accepted.insert(id, until);
        true
    }

    /// What is accepted, and until when.
    pub fn accepted(&self) -> &BTreeMap<NoiseId, Time> {
        &self.accepted
    }

    fn close(&mut self, now: Time) {
        let (closed, open) = std::mem::take(&mut self.open)
            .into_iter()
            .partition(|known| now.since(known.last) > FOLD);
        self.open = open;
        let closed: Vec<Incident> = closed;
        closed.into_iter().for_each(|incident| self.remember(incident));
    }

    fn close_oldest(&mut self) {
        let oldest = (0..self.open.len()).min_by_key(|at| self.open[*at].last);
        if let Some(at) = oldest {
            let incident = self.open.swap_remove(at);
            self.remember(incident);
        }
    }

    fn remember(&mut self, incident: Incident) {
        if self.digest.len() >= DIGEST_MAX {
            self.digest.pop_front();
        }
        self.digest.push_back(Summary { noise: incident.noise, is_told: incident.is_told });
    }
}

impl Incident {
    /// Whether that noise is a part of this trouble.
    fn explains(&self, noise: &Noise, now: Time) -> bool {
        let (mine, other) = (&self.noise.cause, &noise.cause);
        let same_process = noise.pid.is_some() && self.by == Speaker::of(noise);
        let end_of_process = self.by.pid.is_some()
            && self.by.pid == ended(&noise.message)
            && self.by.host == noise.host;
        let same_kind = matches!(
            (mine, other),
            (Cause::Silence { .. }, Cause::Silence { .. })
                | (Cause::Rate { .. }, Cause::Rate { .. })
        );
        // A new template that comes by the hundred is no second trouble.
        let same_template = matches!(other, Cause::Rate { .. })
            && (&self.noise.process, &self.noise.pattern) == (&noise.process, &noise.pattern);
        let follows = matches!(mine, Cause::Alarm(_)) && other.may_follow();
        let is_caused = !self.is_told && mine.may_follow() && matches!(other, Cause::Alarm(_));
        let is_explained = mine.explains_all() || (!self.is_told && other.explains_all());
        let is_one =
            same_process || end_of_process || same_kind || follows || is_caused || is_explained;
        same_template || (is_one && now.since(self.last) <= TOGETHER)
    }

    /// Takes it in; what is nearer to the cause gives the name, as long as none has been told.
    fn join(&mut self, noise: Noise, now: Time) {
        let related = self.noise.related + 1;
        self.by = Speaker::of(&noise);
        if !self.is_told && noise.cause.rank() < self.noise.cause.rank() {
            let time = self.noise.time;
            self.noise = Noise { time, ..noise };
        }
        self.noise.related = related;
        self.last = now;
    }
}

/// The process whose end master tells of: `process 7 exited` up to 2.4, and `process type:SERVICE ..
/// pid:7 exited` since (Cyrus: master/master.c, reap_child).
fn ended(message: &[u8]) -> Option<u32> {
    let rest = message.strip_prefix(b"process ")?;
    let number = match rest.strip_prefix(b"type:") {
        Some(rest) => &rest[rest.windows(5).position(|part| part == b" pid:")? + 5..],
        None => rest,
    };
    let digits = number.iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&number[..digits]).ok()?.parse().ok()
}

/// The last noise for a while.
fn too_many(noise: &Noise) -> Noise {
    Noise { cause: Cause::TooManyNoises, ..noise.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alarms;

    fn noise(id: u32, pid: u32, cause: Cause, time: i64) -> Noise {
        Noise {
            id: NoiseId(id),
            cause,
            time: Time(time),
            host: b"h".to_vec(),
            process: b"imap".to_vec(),
            pid: Some(pid),
            session: Vec::new(),
            message: Vec::new(),
            context: Vec::new(),
            pattern: Vec::new(),
            count: 1,
            related: 0,
        }
    }

    fn alarm(message: &str) -> Cause {
        Cause::Alarm(alarms::find(message.as_bytes()).expect("an alarm"))
    }

    fn names(noises: &[Noise]) -> Vec<&'static str> {
        noises.iter().map(|noise| noise.cause.name()).collect()
    }

    #[test]
    fn a_thousand_lines_are_one_noise_and_a_count() {
        let mut incidents = Incidents::default();
        for second in 0..1000 {
            incidents.raise(noise(1, 1, alarm("dberror"), second), Time(second));
        }
        assert_eq!(names(&incidents.ripe(Time(1001))), ["database-error"]);
        assert_eq!(incidents.open()[0].noise.count, 1000);
        assert!(incidents.ripe(Time(1002)).is_empty());
        // An hour after the last, it is over; then it is news again.
        assert!(incidents.ripe(Time(999 + FOLD + 1)).is_empty());
        assert_eq!(incidents.take_digest()[0].noise.count, 1000);
        incidents.raise(noise(1, 1, alarm("dberror"), 9000), Time(9000));
        assert_eq!(incidents.ripe(Time(9000 + HOLD)).len(), 1);
    }

    #[test]
    fn the_cause_gives_the_name_even_if_it_comes_last() {
        let mut incidents = Incidents::default();
        incidents.raise(noise(1, 1, Cause::NeverSeen, 0), Time(0));
        incidents.raise(noise(2, 1, alarm("fatal error"), 0), Time(0));
        incidents.raise(noise(3, 2, alarm("no space left on device"), 0), Time(0));
        incidents.raise(noise(4, 3, alarm("dberror"), 1), Time(1));
        assert!(incidents.ripe(Time(1)).is_empty());
        let told = incidents.ripe(Time(HOLD));
        assert_eq!(names(&told), ["disk-full"]);
        assert_eq!(told[0].related, 3);
    }

    #[test]
    fn troubles_that_have_nothing_in_common_are_two() {
        let mut incidents = Incidents::default();
        incidents.raise(noise(1, 1, alarm("dberror"), 0), Time(0));
        incidents.raise(noise(2, 2, alarm("uniqueid clash"), 0), Time(0));
        assert_eq!(names(&incidents.ripe(Time(HOLD))), ["database-error", "uniqueid-clash"]);
        incidents.raise(noise(3, 1, alarm("syncerror"), 30), Time(30));
        assert_eq!(names(&incidents.ripe(Time(30 + HOLD))), ["sync-error"]);
    }

    #[test]
    fn what_is_accepted_is_silent_until_it_is_not() {
        let mut incidents = Incidents::default();
        assert!(incidents.accept(NoiseId(1), Time(100), Time(0)));
        incidents.raise(noise(1, 1, alarm("dberror"), 50), Time(50));
        assert!(incidents.ripe(Time(60)).is_empty());
        incidents.raise(noise(1, 1, alarm("dberror"), 100), Time(100));
        assert_eq!(incidents.ripe(Time(100 + HOLD)).len(), 1);
    }

    #[test]
    fn the_end_of_a_process_is_part_of_its_trouble() {
        for message in
            ["process 7 exited, status 75", "process type:EVENT name:x pid:7 exited, status 1"]
        {
            let mut incidents = Incidents::default();
            incidents.raise(noise(1, 7, alarm("fatal error"), 0), Time(0));
            let message = message.as_bytes().to_vec();
            let end = Noise { message, ..noise(2, 1, alarm("exited, status 1"), 0) };
            incidents.raise(end, Time(0));
            assert_eq!(names(&incidents.ripe(Time(HOLD))), ["fatal"]);
        }
        assert_eq!(ended(b"process type:SERVICE pid:"), None);
    }

    #[test]
    fn whoever_is_in_a_hurry_hears_it_at_once() {
        let mut incidents = Incidents::default();
        incidents.raise(noise(1, 1, alarm("dberror"), 0), Time(0));
        assert!(incidents.is_waiting() && incidents.ripe(Time(0)).is_empty());
        incidents.stop_waiting();
        assert_eq!(names(&incidents.ripe(Time(0))), ["database-error"]);
        assert!(!incidents.is_waiting());
    }

    #[test]
    fn what_was_told_before_a_kill_keeps_its_name_and_is_not_told_again() {
        let mut incidents = Incidents::default();
        incidents.told_before.insert((NoiseId(1), Time(0)));
        incidents.raise(noise(1, 1, alarm("dberror"), 0), Time(0));
        // Had it not been told, this would have been its name.
        incidents.raise(noise(2, 2, alarm("no space left on device"), 0), Time(0));
        assert_eq!(names(&incidents.ripe(Time(HOLD))), ["disk-full"]);
        assert_eq!(incidents.open().len(), 2);
    }

    #[test]
    fn a_flood_of_noises_ends_with_one_that_says_so() {
        let mut incidents = Incidents::default();
        let mut told = Vec::new();
        let alarms: Vec<_> = alarms::ALARMS.iter().filter(|alarm| !alarm.is_cause).collect();
        for n in 0..10_000_u32 {
            let now = Time(i64::from(n) / 50 * 20);
            // Each has a name of its own, as far as there are names.
            let cause = Cause::Alarm(alarms[n as usize % alarms.len()]);
            incidents.raise(noise(n, n, cause, now.0), now);
            told.extend(incidents.ripe(now.plus(HOLD)));
        }
        assert!(told.iter().any(|noise| noise.cause == Cause::TooManyNoises));
        assert!(told.len() < 10 * (RATE_MAX + 1), "{}", told.len());
        assert!(incidents.open().len() <= INCIDENTS_MAX && incidents.digest.len() <= DIGEST_MAX);
    }
}
