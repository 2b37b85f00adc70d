//! Which snapshots should be there, said as plainly as possible.

use std::collections::BTreeSet;
use std::fmt;
use std::rc::Rc;

use model::state::Digest;
use vault::policy::Rules;
use vault::{Entry, History};

use super::copy::Copy;

/// A snapshot that was not forgotten, and a copy of what it must give.
#[derive(Clone, PartialEq, Eq)]
pub struct Kept {
    pub seq: u32,
    pub taken_at: i64,
    pub own: Digest,
    pub copy: Rc<Copy>,
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}, {}", self.seq, self.taken_at, &self.own.to_string()[..8])
    }
}

impl Kept {
    pub fn new(entry: &Entry, copy: Copy) -> Self {
        let name = &entry.name;
        Self { seq: name.seq, taken_at: name.taken_at, own: name.own, copy: Rc::new(copy) }
    }

    /// Whether it is the same moment of the account: a prune that writes it anew changes neither.
    pub fn is_same(&self, other: &Self) -> bool {
        self.taken_at == other.taken_at && self.copy == other.copy
    }
}

/// Without the copies that an interrupted prune left beside what the next backup continues.
pub fn counted(history: &History, shown: &[Kept]) -> Vec<Kept> {
    let tip = history.tip().map(|tip| history.lineage(&tip.name.own)).unwrap_or_default();
    let in_line: BTreeSet<Digest> = tip.entries.iter().map(|entry| entry.name.own).collect();
    let mut counted = shown.to_vec();
    counted.retain(|kept| {
        let is_copy = |other: &Kept| in_line.contains(&other.own) && other.is_same(kept);
        in_line.contains(&kept.own) || !shown.iter().any(is_copy)
    });
    counted
}

/// Those that a rule keeps: the newest of each of the newest periods.
pub fn by_rules(snapshots: &[Kept], rules: &Rules) -> Vec<Kept> {
    let mut stays = vec![false; snapshots.len()];
    let (hour, day) = (3_600, 86_400);
    // 1970 began on a Thursday.
    let periods =
        [(rules.hourly, hour, 0), (rules.daily, day, 0), (rules.weekly, 7 * day, 3 * day)];
    for (limit, length, shift) in periods {
        let (mut left, mut last) = (limit, None);
        for (at, kept) in snapshots.iter().enumerate().rev() {
            let this = Some((kept.taken_at + shift).div_euclid(length));
            if left > 0 && last != this {
                (stays[at], last, left) = (true, this, left - 1);
            }
        }
    }
    let newest = snapshots.len().saturating_sub(rules.last.max(1) as usize);
    stays[newest..].fill(true);
    let kept = snapshots.iter().zip(stays).filter(|(_, stays)| *stays);
    kept.map(|(kept, _)| kept.clone()).collect()
}
