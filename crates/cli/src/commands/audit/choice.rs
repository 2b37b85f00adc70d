//! Which accounts an audit looks at: all of them, or those that were looked at longest ago.

use std::collections::BTreeMap;

use engine::audit::Depth;
use model::Userid;

const DAY: i64 = 86_400;

/// When accounts were audited last, seconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Last {
    /// In whatever depth.
    pub quick: Option<i64>,
    /// With all bytes.
    pub full: Option<i64>,
}

impl Last {
    /// In that depth, or a greater one.
    pub fn of(&self, depth: Depth) -> Option<i64> {
        match depth {
            Depth::Quick => self.quick.max(self.full),
            Depth::Full => self.full,
        }
    }
}

/// An audit of all accounts, or of a share of them, that has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begun {
    /// When, seconds since 1970.
    pub at: i64,
    /// How many accounts it was to look at.
    pub accounts: usize,
    /// Whether it came to its end.
    pub is_over: bool,
}

/// What earlier audits have left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// By account.
    pub last: BTreeMap<Userid, Last>,
    /// The last one of each depth.
    pub quick: Option<Begun>,
    /// Likewise.
    pub full: Option<Begun>,
}

impl History {
    /// The last audit of that depth.
    pub fn begun(&self, depth: Depth) -> Option<Begun> {
        match depth {
            Depth::Quick => self.quick,
            Depth::Full => self.full,
        }
    }
}

/// How many accounts are looked at at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// All of them.
    All,
    /// One of so many.
    Share(u32),
    /// As many as it takes to have seen all of them within so many seconds.
    Every(u64),
}

/// What is looked at this time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// These accounts.
    pub accounts: Vec<Userid>,
    /// How many there are besides.
    pub others: usize,
    /// When the audit began that is continued, if it is one that was stopped.
    pub resumed: Option<i64>,
    /// Whether these are all there are.
    pub is_whole_server: bool,
}

impl Chosen {
    /// These, whatever was looked at before.
    pub fn these(accounts: Vec<Userid>) -> Self {
        Self { accounts, others: 0, resumed: None, is_whole_server: false }
    }

    /// All accounts of a server.
    pub fn all(accounts: Vec<Userid>) -> Self {
        Self { is_whole_server: true, ..Self::these(accounts) }
    }
}

/// Chooses among all accounts of a server.
pub fn choose(
    mut accounts: Vec<Userid>,
    history: &History,
    depth: Depth,
    wanted: Wanted,
    now: i64,
) -> Chosen {
    let last = |userid: &Userid| history.last.get(userid).and_then(|last| last.of(depth));
    accounts.sort_by_cached_key(|userid| (last(userid), userid.clone()));
    let total = accounts.len();
    let begun = history.begun(depth);
    if let Some(begun) = begun.filter(|begun| !begun.is_over) {
        let is_done = |userid: &&Userid| last(userid) >= Some(begun.at);
        let done = accounts.iter().filter(is_done).count();
        let left = accounts.iter().filter(|userid| !is_done(userid)).cloned();
        let left: Vec<Userid> = left.take(begun.accounts.saturating_sub(done)).collect();
        if !left.is_empty() {
            let others = total - left.len();
            let (resumed, is_whole_server) = (Some(begun.at), others == 0);
            return Chosen { accounts: left, others, resumed, is_whole_server };
        }
    }
    let count = match wanted {
        Wanted::All => total,
        Wanted::Share(parts) => total.div_ceil(usize::try_from(parts).unwrap_or(1).max(1)),
        Wanted::Every(period) => pace(total, period, begun.map(|begun| now - begun.at)),
    };
    accounts.truncate(count);
    let others = total - accounts.len();
    Chosen { accounts, others, resumed: None, is_whole_server: others == 0 }
}

/// How many of `total` are to be looked at so that all are within `period` seconds, `since` seconds after
/// the last time. The first time, one day is assumed.
fn pace(total: usize, period: u64, since: Option<i64>) -> usize {
    let since = u64::try_from(since.unwrap_or(DAY)).unwrap_or(0).clamp(1, period.max(1));
    let product = (total as u128) * u128::from(since);
    usize::try_from(product.div_ceil(u128::from(period.max(1)))).unwrap_or(total).min(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn accounts(names: &[&str]) -> Vec<Userid> {
        names.iter().map(|name| Userid::from(*name)).collect()
    }

    fn history(last: &[(&str, i64)], full: Option<Begun>) -> History {
        let last = last
            .iter()
            .map(|(name, at)| (Userid::from(*name), Last { quick: None, full: Some(*at) }));
        History { last: last.collect(), quick: None, full }
    }

    fn begun(at: i64, accounts: usize, is_over: bool) -> Option<Begun> {
        Some(Begun { at, accounts, is_over })
    }

    fn chosen(history: &History, wanted: Wanted) -> Chosen {
        let all = accounts(&["a", "b", "c", "d", "e"]);
        choose(all, history, Depth::Full, wanted, NOW)
    }

    #[test]
    fn a_share_is_what_was_looked_at_longest_ago() {
        let history = history(&[("a", 5), ("b", 9), ("c", 7), ("d", 1)], begun(9, 2, true));
        let share = chosen(&history, Wanted::Share(2));
        assert_eq!(share.accounts, accounts(&["e", "d", "a"]));
        assert_eq!((share.others, share.resumed, share.is_whole_server), (2, None, false));
        let all = chosen(&history, Wanted::All);
        assert_eq!(all.accounts.len(), 5);
        assert!(all.is_whole_server);
    }

    #[test]
    fn an_audit_that_was_stopped_goes_on_where_it_stopped() {
        let stopped = begun(100, 3, false);
        let half = history(&[("a", 101), ("b", 100), ("c", 50), ("d", 60), ("e", 70)], stopped);
        for wanted in [Wanted::All, Wanted::Share(5)] {
            let rest = chosen(&half, wanted);
            assert_eq!((rest.accounts, rest.resumed), (accounts(&["c"]), Some(100)));
        }
        let quick = choose(accounts(&["a", "c"]), &half, Depth::Quick, Wanted::All, NOW);
        assert_eq!((quick.accounts.len(), quick.resumed), (2, None));
        let done = history(&[("a", 101), ("b", 100), ("c", 102)], stopped);
        let anew = chosen(&done, Wanted::All);
        assert_eq!((anew.accounts.len(), anew.resumed), (5, None));
    }

    #[test]
    fn a_full_audit_is_a_quick_one_too() {
        let last = Last { quick: Some(3), full: Some(7) };
        assert_eq!((last.of(Depth::Quick), last.of(Depth::Full)), (Some(7), Some(7)));
        let last = Last { quick: Some(9), full: Some(7) };
        assert_eq!((last.of(Depth::Quick), last.of(Depth::Full)), (Some(9), Some(7)));
    }

    #[test]
    fn all_are_seen_within_the_period_however_often_it_runs() {
        let month = 30 * DAY.unsigned_abs();
        assert_eq!(pace(300, month, None), 10);
        assert_eq!(pace(300, month, Some(DAY)), 10);
        assert_eq!(pace(300, month, Some(DAY / 2)), 5);
        assert_eq!(pace(300, month, Some(90 * DAY)), 300);
        assert_eq!((pace(7, month, Some(DAY)), pace(7, month, Some(-5))), (1, 1));
        assert_eq!((pace(0, month, None), pace(5, 0, None)), (0, 5));
    }
}
