//! Whether the replica can be reached.

use super::{Moment, delay};

/// Between two tries to reach a replica that is away, in milliseconds: at first, and at most.
const SOFT: (i64, i64) = (500, 30_000);

/// Likewise where somebody has to do something about it: a wrong password that is tried again and again
/// fills logs, and locks accounts.
const HARD: (i64, i64) = (30_000, 1_200_000);

/// Why a replica was not reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// It will go by itself: the replica is away.
    Soft,
    /// It will not: password, certificate, configuration.
    Hard,
}

/// Whether the replica can be reached, and since when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Nobody has tried.
    Unknown,
    /// It can.
    Up {
        /// Since then.
        since: Moment,
    },
    /// It cannot.
    Down {
        /// Since then.
        since: Moment,
        /// How often it was tried.
        tries: u32,
        /// When it is tried again.
        next: Moment,
        /// Why.
        why: String,
    },
}

/// The way to the replica, for all connections alike.
#[derive(Clone, Debug)]
pub struct Link {
    reach: Reach,
    is_tried: bool,
}

impl Default for Link {
    fn default() -> Self {
        Self { reach: Reach::Unknown, is_tried: false }
    }
}

impl Link {
    /// How it is.
    pub fn reach(&self) -> &Reach {
        &self.reach
    }

    /// Whether accounts may be sent.
    pub fn is_up(&self) -> bool {
        matches!(self.reach, Reach::Up { .. })
    }

    /// Whether somebody should try to connect now; who asks is taken to do so, and has to say what
    /// came of it before anybody else may.
    pub fn begin(&mut self, now: Moment) -> bool {
        let wanted = match &self.reach {
            Reach::Unknown => true,
            Reach::Up { .. } => false,
            Reach::Down { next, .. } => *next <= now,
        };
        let begins = wanted && !self.is_tried;
        self.is_tried |= begins;
        begins
    }

    /// When to ask again, if nothing is heard until then.
    pub fn due(&self) -> Option<Moment> {
        match &self.reach {
            Reach::Down { next, .. } if !self.is_tried => Some(*next),
            _ => None,
        }
    }

    /// It was reached; whether that is news.
    pub fn reached(&mut self, now: Moment) -> bool {
        self.is_tried = false;
        let news = !self.is_up();
        if news {
            self.reach = Reach::Up { since: now };
        }
        news
    }

    /// It was not, or a connection is gone; whether that is news, or another reason than before.
    pub fn lost(&mut self, why: String, loss: Loss, now: Moment) -> bool {
        self.is_tried = false;
        let (first, most) = match loss {
            Loss::Soft => SOFT,
            Loss::Hard => HARD,
        };
        let (since, tries, news) = match &self.reach {
            Reach::Down { since, tries, why: before, .. } => (*since, tries + 1, *before != why),
            _ => (now, 1, true),
        };
        let next = now.plus(delay(tries, first, most));
        self.reach = Reach::Down { since, tries, next, why };
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_that_is_away_is_asked_less_and_less_often() {
        let mut link = Link::default();
        let (mut now, mut pauses) = (Moment(0), Vec::new());
        for _ in 0..9 {
            assert!(link.begin(now) && !link.begin(now), "one at a time");
            link.lost("no route".to_owned(), Loss::Soft, now);
            let due = link.due().expect("a time");
            assert!(!link.begin(Moment(due.0 - 1)));
            pauses.push(due.0 - now.0);
            now = due;
        }
        assert_eq!(pauses, [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000]);
        assert!(link.begin(now) && link.reached(now));
        assert_eq!(link.reach(), &Reach::Up { since: now });
        assert!(!link.reached(now) && !link.begin(now));
    }

    #[test]
    fn a_wrong_password_is_told_once_and_tried_slowly() {
        let mut link = Link::default();
        let told = [1, 2, 3].map(|at| link.lost("no".to_owned(), Loss::Hard, Moment(at)));
        assert_eq!(told, [true, false, false]);
        assert_eq!(link.due(), Some(Moment(3 + 120_000)));
        assert!(link.lost("another reason".to_owned(), Loss::Soft, Moment(4)));
    }
}
