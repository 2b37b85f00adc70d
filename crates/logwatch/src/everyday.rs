//! What is everyday: how often a template comes, at which hour of which kind of day.

use crate::time::{DAY, HOUR, Time, is_weekend};

/// An hour of a working day, or of a weekend.
const SLOTS: usize = 48;

/// How much of the newest day goes into what is usual.
const NEWEST: f32 = 0.3;

/// Hours of silence that are counted one by one; a longer one tells no more.
const IDLE_HOURS_MAX: i64 = 14 * 24;

/// So many times the usual are a noise, and so many lines more: few lines are nobody's storm.
const FAR: f32 = 4.0;
const FEW: f32 = 30.0;

/// Whoever has not come on so many days is not missed.
const DAYS_TO_BE_MISSED: u16 = 3;

/// What comes less often than this is not missed: it is not of every day.
const GAP_MAX: i64 = 27 * HOUR;

/// What comes once a day does so in no more hours of the day than this, also when summer begins.
const SAME_HOURS_MAX: usize = 3;

/// The habits of one template.
#[derive(Clone, Debug, PartialEq)]
pub struct Habit {
    /// How often it came.
    pub count: u64,
    /// When it came first.
    pub first: Time,
    /// When it came last.
    pub last: Time,
    /// On how many days it came.
    pub days: u16,
    /// The longest time without it, of late, in seconds.
    pub gap: i64,
    /// In how many hours it came, but for the first.
    pub(crate) visits: u32,
    /// Lines an hour, for each slot; negative where that is not known yet.
    pub(crate) usual: [f32; SLOTS],
    /// The most lines of an hour and of a minute, of late.
    pub(crate) peak_hour: f32,
    pub(crate) peak_minute: f32,
    /// The hour and the minute at hand, and how many lines they have so far.
    pub(crate) hour: (i64, u32),
    pub(crate) minute: (i64, u32),
    limit_hour: u32,
    limit_minute: u32,
}

/// How a line compares with what is usual.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// It is usual, or too few to tell.
    Usual,
    /// It is the first that is far beyond what is usual in a minute, or an hour.
    Beyond {
        /// So many have come.
        count: u32,
        /// In so many seconds, a minute or an hour.
        within: u32,
        /// At most so many are usual.
        usual: u32,
    },
}

impl Habit {
    /// Of a template that comes for the first time, which is still to be counted.
    pub fn new(now: Time) -> Self {
        let mut habit = Self {
            count: 0,
            first: now,
            last: now,
            days: 0,
            gap: 0,
            visits: 0,
            usual: [-1.0; SLOTS],
            peak_hour: 0.0,
            peak_minute: 0.0,
            hour: (now.hour(), 0),
            minute: (now.minute(), 0),
            limit_hour: 0,
            limit_minute: 0,
        };
        habit.set_limits();
        habit
    }

    /// Counts a line; when it `learns`, no pace is too much. Time does not go back here: a clock that
    /// does is taken to stand still.
    #[inline]
    pub fn see(&mut self, now: Time, learns: bool) -> Pace {
        let now = now.max(self.last);
        if now.minute() != self.minute.0 {
            self.turn_minute(now);
        }
        if self.count == 0 || now.day() != self.last.day() {
            self.days = self.days.saturating_add(1);
        }
        self.gap = self.gap.max(now.since(self.last));
        self.last = now;
        self.count += 1;
        self.minute.1 = self.minute.1.saturating_add(1);
        self.hour.1 = self.hour.1.saturating_add(1);
        if learns {
            // At once: it may be kept before the minute is over.
            self.peak_minute = self.peak_minute.max(self.minute.1 as f32);
            self.peak_hour = self.peak_hour.max(self.hour.1 as f32);
            (self.limit_minute, self.limit_hour) = (u32::MAX, u32::MAX);
        }
        if self.minute.1 == self.limit_minute {
            let usual = self.peak_minute.ceil() as u32;
            return Pace::Beyond { count: self.minute.1, within: 60, usual };
        }
        if self.hour.1 == self.limit_hour {
            let usual = self.expected().unwrap_or_default().ceil() as u32;
            return Pace::Beyond { count: self.hour.1, within: 3600, usual };
        }
        Pace::Usual
    }

    /// Until when it is to come again, if it comes every day.
    pub fn due(&self) -> Option<Time> {
        let span = self.last.day() - self.first.day() + 1;
        // Four of five days are every day: there are holidays.
        let comes_daily = self.days >= DAYS_TO_BE_MISSED && i64::from(self.days) * 5 >= span * 4;
        let slack = match self.is_regular() {
            true => self.gap.clamp(HOUR, 6 * HOUR),
            false => self.gap.saturating_mul(2).max(HOUR),
        };
        (comes_daily && self.gap <= GAP_MAX).then(|| self.last.plus(self.gap + slack))
    }

    /// Whether it runs by the clock: its pauses are much the same and, if they are long, it comes at
    /// the same hours. What people do has long pauses among short ones, and a longer one is soon to
    /// come.
    fn is_regular(&self) -> bool {
        let usual = self.last.since(self.first) / i64::from(self.visits.max(1));
        let comes_at = |hour: &usize| {
            let slots = [self.usual[*hour], self.usual[hour + SLOTS / 2]];
            *hour == self.hour.0.rem_euclid(24) as usize || slots.iter().any(|lines| *lines > 0.05)
        };
        let same_hours = || (0..SLOTS / 2).filter(comes_at).count() <= SAME_HOURS_MAX;
        usual >= self.gap / 4 * 3 && (self.gap <= 6 * HOUR || same_hours())
    }

    fn turn_minute(&mut self, now: Time) {
        // A storm counts no more than what would have been too much.
        let most = self.minute.1.min(self.limit_minute) as f32;
        self.peak_minute = self.peak_minute.max(most);
        self.minute = (now.minute(), 0);
        if now.hour() != self.hour.0 {
            self.turn_hours(now.hour());
        }
        self.set_limits();
    }

    /// Takes stock of the hour at hand, and of those that have passed without a line.
    fn turn_hours(&mut self, hour: i64) {
        let (from, count) = self.hour;
        self.visits = self.visits.saturating_add(1);
        self.take_stock(from, count.min(self.limit_hour) as f32);
        let idle = from.saturating_add(1).max(hour.saturating_sub(IDLE_HOURS_MAX));
        for passed in idle..hour {
            self.take_stock(passed, 0.0);
        }
        let days = (hour.saturating_sub(from) as f32 / 24.0).min(60.0);
        let fade = |amount: f32| amount * (-0.02 * days).exp();
        self.peak_hour = fade(self.peak_hour.max(count.min(self.limit_hour) as f32));
        self.peak_minute = fade(self.peak_minute);
        self.gap = fade(self.gap as f32) as i64;
        self.hour = (hour, 0);
    }

    fn take_stock(&mut self, hour: i64, count: f32) {
        let slot = &mut self.usual[slot(hour)];
        *slot = if *slot < 0.0 { count } else { *slot + NEWEST * (count - *slot) };
    }

    /// The most that is to be expected of the hour at hand: what it usually has, or its neighbours,
    /// as people are not punctual. `None` if neither this hour of such a day nor that of the other
    /// kind of day is known.
    fn expected(&self) -> Option<f32> {
        let around = |kind: usize| {
            let usual = |step| self.usual[slot(self.hour.0.saturating_add(step)) % 24 + kind];
            (usual(0) >= 0.0).then(|| [-1, 1].map(usual).into_iter().fold(usual(0), f32::max))
        };
        let kind = if is_weekend(self.hour.0) { [24, 0] } else { [0, 24] };
        kind.into_iter().find_map(around)
    }

    pub(crate) fn set_limits(&mut self) {
        // The conversion ends at the largest number that there is.
        let hour = |usual: f32| ((FAR * usual).max(1.5 * self.peak_hour) + FEW) as u32;
        self.limit_hour = self.expected().map_or(u32::MAX, hour);
        self.limit_minute = (FAR * self.peak_minute + FEW) as u32;
    }
}

fn slot(hour: i64) -> usize {
    let of_day = hour.rem_euclid(DAY / HOUR) as usize;
    if is_weekend(hour) { of_day + SLOTS / 2 } else { of_day }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A template that has come every ten minutes for three weeks, a hundred times an hour at ten.
    fn busy() -> (Habit, Time) {
        let mut habit = Habit::new(Time(0));
        let mut now = Time(0);
        for hour in 0..21 * 24 {
            let lines = if hour % 24 == 10 { 100 } else { 6 };
            for line in 0..lines {
                now = Time(hour * HOUR + line * HOUR / lines);
                assert_eq!(habit.see(now, false), Pace::Usual, "hour {hour}");
            }
        }
        (habit, now)
    }

    /// So many lines, a second apart; the first that was too many.
    fn storm(habit: &mut Habit, from: Time, lines: i64) -> Option<Pace> {
        (0..lines).map(|line| habit.see(from.plus(line), false)).find(|pace| *pace != Pace::Usual)
    }

    #[test]
    fn a_storm_is_seen_and_a_busy_hour_is_not() {
        let (mut habit, _) = busy();
        let ten = Time((21 * 24 + 10) * HOUR);
        assert_eq!(storm(&mut habit.clone(), ten, 30), None);
        let burst = storm(&mut habit.clone(), ten, 200).expect("too much for a minute");
        assert!(matches!(burst, Pace::Beyond { within: 60, count: 30..50, .. }), "{burst:?}");
        // Slow enough for every minute, and too much for an hour.
        let slow = |habit: &mut Habit, hour: i64| {
            let start = Time((21 * 24 + hour) * HOUR);
            (0..360)
                .map(|line| habit.see(start.plus(line * 10), false))
                .find(|pace| *pace != Pace::Usual)
        };
        assert_eq!(slow(&mut habit.clone(), 10), None);
        let late = slow(&mut habit, 22).expect("too much at night");
        assert!(matches!(late, Pace::Beyond { within: 3600, .. }), "{late:?}");
    }

    #[test]
    fn a_storm_that_was_learned_is_none() {
        let is_usual_after = |learns| {
            let mut habit = Habit::new(Time(0));
            for _ in 0..1000 {
                habit.see(Time(0), learns);
            }
            // As after it was kept.
            habit.set_limits();
            (0..900).all(|_| habit.see(Time(DAY), false) == Pace::Usual)
        };
        assert!(is_usual_after(true) && !is_usual_after(false));
    }

    #[test]
    fn what_comes_every_day_is_missed() {
        let (habit, last) = busy();
        let due = habit.due().expect("it came every day");
        assert!((HOUR..2 * HOUR).contains(&due.since(last)), "{due:?}");
        let mut nightly = Habit::new(Time(0));
        for night in 0..4 {
            nightly.see(Time(night * DAY + 4 * HOUR), false);
        }
        let due = nightly.due().expect("it came every night");
        assert_eq!(due, Time(3 * DAY + 4 * HOUR + DAY + 6 * HOUR));
    }

    #[test]
    fn what_comes_at_any_time_is_given_time() {
        let mut habit = Habit::new(Time(0));
        for day in 0..7 {
            for hour in [1, 3 + day, 13 + day] {
                habit.see(Time(day * DAY + hour * HOUR), false);
            }
        }
        let due = habit.due().expect("it came every day");
        assert_eq!(due.since(habit.last), 3 * habit.gap);
    }

    #[test]
    fn once_a_day_is_by_the_clock_if_it_is_at_the_same_time() {
        let due_after = |hour: fn(i64) -> i64| {
            let mut habit = Habit::new(Time(0));
            for day in 0..7 {
                habit.see(Time(day * DAY + hour(day) * HOUR), false);
            }
            habit.due().map_or(0, |due| due.since(habit.last) / HOUR)
        };
        // Pauses fade a little with time.
        assert!((30..=25 + 6).contains(&due_after(|day| 4 + day % 2)));
        assert!((70..=3 * 26).contains(&due_after(|day| 3 + 2 * day)));
    }

    #[test]
    fn what_comes_now_and_then_is_not_missed() {
        let mut rare = Habit::new(Time(0));
        for week in 0..10 {
            rare.see(Time(week * 7 * DAY), false);
        }
        assert_eq!(rare.due(), None);
        let mut new = Habit::new(Time(0));
        new.see(Time(0), false);
        new.see(Time(DAY), false);
        assert_eq!(new.due(), None);
    }

    #[test]
    fn a_clock_that_jumps_breaks_nothing() {
        let mut habit = Habit::new(Time(0));
        for now in [0, i64::MAX, 5, i64::MIN, i64::MAX] {
            habit.see(Time(now), false);
        }
        assert_eq!(habit.last, Time(i64::MAX));
        habit.due();
    }
}
