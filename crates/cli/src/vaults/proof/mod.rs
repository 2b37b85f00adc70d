//! The property of a vault: whatever happens, in whatever order, every snapshot that was not to be
//! forgotten comes back bit for bit, and nothing else is shown.
//!
//! The judge keeps a full copy of the account for every snapshot, and knows no segment.

mod copy;
mod judge;
mod world;

use std::collections::BTreeSet;
use std::sync::Arc;

use engine::ports::Silent;
use engine::snapshot::parts::Limit;
use jiff::tz::TimeZone;
use model::Userid;
use object_store::memory::InMemory;
use object_store::path::Path;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};
use spool::Server;
use tempfile::TempDir;
use testkit::faults::{Cut, Faulty};
use vault::policy::Rules;
use vault::{Account, History, Note, SegmentKind, Store, Vault, What};

use super::backup::{Backup, Outcome};
use super::prune::{Options, Plan, PruneError, erase};
use super::verify::{self, Depth};
use copy::Copy;
use judge::{Kept, by_rules, counted};
use world::{Change, USERS, World, change};

/// How many lives are lived; `CYLINDER_VAULT_LIVES` asks for more.
const LIVES: u32 = 24;

/// What happens in one of them.
const STEPS: usize = 40;

/// 2027-01-15, in seconds since 1970.
const BEGINNING: i64 = 1_800_000_000;

/// One thing that happens, to the server or to the vault.
#[derive(Clone, Debug)]
enum Step {
    Live(usize, Vec<Change>),
    /// Perhaps killed at one of its writes.
    Backup {
        account: usize,
        part_bytes: u64,
        cut: Option<Cut>,
    },
    /// Two machines back up at the same time, each with something of its own to see.
    Fork {
        account: usize,
        here: Vec<Change>,
        there: Vec<Change>,
    },
    Prune {
        account: usize,
        rules: Rules,
        garbage: u64,
        grace: i64,
        accept_removals: bool,
        cut: Option<Cut>,
    },
    Verify(usize, Depth),
    Hold(usize),
    Release(usize),
    Forget(usize),
    /// Forwards, backwards, or not at all.
    Clock(i64),
}

fn step() -> impl Strategy<Value = Step> {
    let account = 0..USERS.len();
    let changes = || prop::collection::vec(change(), 0..6);
    let cut = prop_oneof![
        4 => Just(None),
        1 => (1..9_u64).prop_map(|n| Some(Cut::Before(n))),
        1 => (1..9_u64).prop_map(|n| Some(Cut::After(n))),
    ];
    let rules =
        (0..4_u32, 0..3_u32, 0..3_u32, 0..3_u32).prop_map(|(last, hourly, daily, weekly)| Rules {
            last,
            hourly,
            daily,
            weekly,
            ..Rules::default()
        });
    let limits = (prop_oneof![Just(0), Just(20), Just(100)], prop_oneof![Just(0), Just(86_400)]);
    let part_bytes = prop_oneof![2 => Just(u64::MAX), 1 => 200..20_000_u64];
    let depth = prop_oneof![
        Just(Depth::All),
        Just(Depth::Structure),
        (1..100_u8, 0..9_i64).prop_map(|(percent, day)| Depth::Sample { percent, day }),
    ];
    let jump = prop_oneof![
        3 => 1..7_200_i64, 2 => 40_000..200_000_i64, 1 => -200_000..0_i64, 1 => Just(0)
    ];
    prop_oneof![
        8 => (account.clone(), changes()).prop_map(|(account, changes)| Step::Live(account, changes)),
        8 => (account.clone(), part_bytes, cut.clone())
            .prop_map(|(account, part_bytes, cut)| Step::Backup { account, part_bytes, cut }),
        1 => (account.clone(), changes(), changes())
            .prop_map(|(account, here, there)| Step::Fork { account, here, there }),
        5 => (account.clone(), rules, limits, any::<bool>(), cut).prop_map(
            |(account, rules, (garbage, grace), accept_removals, cut)| Step::Prune {
                account, rules, garbage, grace, accept_removals, cut,
            }
        ),
        1 => (account.clone(), depth).prop_map(|(account, depth)| Step::Verify(account, depth)),
        1 => account.clone().prop_map(Step::Hold),
        2 => account.clone().prop_map(Step::Release),
        1 => account.prop_map(Step::Forget),
        4 => jump.prop_map(Step::Clock),
    ]
}

fn config() -> Config {
    let asked = std::env::var("CYLINDER_VAULT_LIVES").ok();
    Config {
        cases: asked.map_or(LIVES, |asked| asked.parse().expect("a number of lives")),
        rng_seed: RngSeed::Fixed(2026),
        failure_persistence: None,
        max_shrink_iters: 300,
        ..Config::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn what_was_not_to_be_forgotten_comes_back_bit_for_bit(
        steps in prop::collection::vec(step(), STEPS)
    ) {
        let mut stage = Stage::new();
        for step in &steps {
            stage.take(step);
        }
        stage.end();
    }
}

#[test]
fn two_machines_that_back_up_in_one_second_make_no_copies_of_each_other() {
    let mut stage = Stage::new();
    stage.take(&Step::Backup { account: 0, part_bytes: u64::MAX, cut: None });
    let deliver = |text| vec![Change::Deliver { folder: 0, text, messages: 1 }];
    stage.take(&Step::Fork { account: 0, here: deliver(1), there: deliver(2) });
    let numbers: Vec<u32> = stage.kept[0].iter().map(|kept| kept.seq).collect();
    assert_eq!(numbers, [1, 2, 2]);
    let rules = Rules { last: 9, ..Rules::default() };
    stage.prune(0, &stage.options(rules), None);
    stage.end();
    assert_eq!(stage.kept[0].len(), 3);
}

#[test]
fn what_parts_hold_is_new_in_the_snapshot_behind_them() {
    let mut stage = Stage::new();
    stage.live(0, &[Change::Deliver { folder: 0, text: 1, messages: 9 }]);
    let server = stage.world.server(&stage.scratch.path().join("spool"));
    let outcome = stage.run(&server, 0, stage.store(&stage.objects), 1);
    let Some(Outcome::Stored(stored)) = outcome else { panic!("there is news") };
    let in_snapshot = stored.summary.totals.messages_new;
    assert!(stored.parts > 0 && in_snapshot < 9, "{} parts", stored.parts);
    assert_eq!(stored.messages, 9);
    let (_, history) = stage.look(0);
    assert_eq!(history.parts_of(&stored.entry.name).len() as u64, stored.parts);
}

/// A server, a vault, and what the vault should give.
struct Stage {
    world: World,
    scratch: TempDir,
    objects: InMemory,
    now: i64,
    latest: i64,
    kept: [Vec<Kept>; USERS.len()],
    held: [bool; USERS.len()],
}

impl Stage {
    fn new() -> Self {
        Self {
            world: World::new(),
            scratch: tempfile::tempdir().expect("a directory"),
            objects: InMemory::new(),
            now: BEGINNING,
            latest: BEGINNING,
            kept: Default::default(),
            held: [false; USERS.len()],
        }
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Live(account, changes) => self.live(*account, changes),
            Step::Backup { account, part_bytes, cut } => self.backup(*account, *part_bytes, *cut),
            Step::Fork { account, here, there } => self.fork(*account, here, there),
            Step::Prune { account, rules, garbage, grace, accept_removals, cut } => {
                let options = Options {
                    garbage: *garbage,
                    grace: *grace,
                    accept_removals: *accept_removals,
                    ..self.options(*rules)
                };
                self.prune(*account, &options, *cut);
            }
            Step::Verify(account, depth) => self.verify(*account, *depth),
            Step::Hold(account) => {
                let (one, history) = self.look(*account);
                if !history.is_empty() && !history.is_held() {
                    let note = Note::new(What::Hold, self.now, "host", "test", Vec::new());
                    one.put_note(&note).expect("stored");
                    self.held[*account] = true;
                }
            }
            Step::Release(account) => {
                let (one, history) = self.look(*account);
                for (name, _) in history.notes_of(What::Hold) {
                    one.delete(&name.to_string()).expect("deleted");
                }
                self.held[*account] = false;
            }
            Step::Forget(account) => self.forget(*account),
            Step::Clock(by) => {
                self.now += by;
                self.latest = self.latest.max(self.now);
            }
        }
    }

    fn live(&mut self, account: usize, changes: &[Change]) {
        for change in changes {
            self.world.live(account, change);
        }
    }

    fn store(&self, objects: &InMemory) -> Store {
        Store::over(Arc::new(objects.clone()), Path::default(), "memory").expect("a store")
    }

    fn look(&self, account: usize) -> (Account, History) {
        let vault = Vault::open_or_create(self.store(&self.objects)).expect("a vault");
        let one = vault.account(&Userid::from(USERS[account]));
        let history = one.history().expect("a history");
        assert!(history.strange.is_empty(), "{:?}", history.strange);
        (one, history)
    }

    /// The snapshots that are shown, in order, each with all that it gives.
    fn shown(&self, account: usize) -> Vec<Kept> {
        let (one, history) = self.look(account);
        let shown = history.snapshots().into_iter();
        shown.map(|entry| Kept::new(entry, Copy::restored(&one, &history, entry))).collect()
    }

    /// Backs up into a vault in that store: the new snapshot, if there is one; `None` if it was
    /// killed.
    fn back_up(&self, account: usize, store: Store, part_bytes: u64) -> Option<Option<Kept>> {
        let server = self.world.server(&self.scratch.path().join("spool"));
        let copy = Copy::live(&server, USERS[account]);
        match self.run(&server, account, store, part_bytes)? {
            Outcome::Stored(stored) => {
                assert!(stored.summary.findings.is_empty(), "{:?}", stored.summary.findings);
                Some(Some(Kept::new(&stored.entry, copy)))
            }
            Outcome::Unchanged(name) => {
                let mut kept = self.kept[account].iter();
                let before = kept.find(|kept| kept.own == name.own).expect("a snapshot");
                assert!(*before.copy == copy, "{name} is said to be unchanged");
                Some(None)
            }
        }
    }

    /// The same, as the command has it.
    fn run(
        &self,
        server: &Server,
        account: usize,
        store: Store,
        part_bytes: u64,
    ) -> Option<Outcome> {
        let vault = Vault::open_or_create(store).ok()?;
        let now = self.now;
        let clock = move || now;
        let backup = Backup {
            vault: &vault,
            server,
            host: "host",
            workers: 1,
            accepts_removals: false,
            part: Limit { bytes: part_bytes, messages: u64::MAX },
            clock: &clock,
        };
        backup.account(&Userid::from(USERS[account]), &Silent).ok()
    }

    fn backup(&mut self, account: usize, part_bytes: u64, cut: Option<Cut>) {
        let (_, before) = self.look(account);
        let Some(cut) = cut else {
            let stored = self.back_up(account, self.store(&self.objects), part_bytes);
            let stored = stored.expect("nothing is in its way");
            self.check_thrift(account, &before, stored.as_ref());
            let mut want = self.kept[account].clone();
            want.extend(stored);
            return self.settle(account, want);
        };
        let faulty = Faulty::new(self.objects.clone());
        let faults = faulty.faults();
        let store = Store::over(Arc::new(faulty), Path::default(), "memory").expect("a store");
        faults.cut(cut);
        let stored = self.back_up(account, store, part_bytes);
        assert_eq!(stored.is_none(), faults.is_cut(), "it failed by itself");
        let server = self.world.server(&self.scratch.path().join("spool"));
        let now = Copy::live(&server, USERS[account]);
        let shown = self.shown(account);
        for kept in &self.kept[account] {
            assert!(shown.contains(kept), "a killed backup lost snapshot {}", kept.seq);
        }
        let is_new = |kept: &&Kept| !self.kept[account].contains(kept);
        for new in shown.iter().filter(is_new) {
            assert!(*new.copy == now && new.taken_at == self.now, "{} is from nowhere", new.seq);
        }
        self.kept[account] = shown;
    }

    /// A snapshot of what has not changed is not stored.
    fn check_thrift(&self, account: usize, before: &History, stored: Option<&Kept>) {
        let (Some(stored), Some(newest)) = (stored, before.newest()) else { return };
        let tip = before.tip().map(|tip| tip.name.kind);
        if before.heads().len() == 1 && tip == Some(SegmentKind::Snapshot) {
            let mut kept = self.kept[account].iter();
            let last = kept.find(|kept| kept.own == newest.name.own).expect("a snapshot");
            assert!(last.copy != stored.copy, "snapshot {} says nothing new", stored.seq);
        }
    }

    fn fork(&mut self, account: usize, here: &[Change], there: &[Change]) {
        // Neither is ever the first to make the vault.
        let (_, _) = self.look(account);
        let other = self.objects.fork();
        self.live(account, here);
        let one = self.back_up(account, self.store(&self.objects), u64::MAX).expect("stored");
        self.live(account, there);
        let two = self.back_up(account, self.store(&other), u64::MAX).expect("stored");
        let (from, to) = (self.store(&other), self.store(&self.objects));
        let directory = format!("accounts/{}", USERS[account]);
        for object in from.list(&directory).expect("a listing") {
            let path = format!("{directory}/{}", object.name);
            to.put(&path, from.read_all(&path).expect("read")).expect("stored");
        }
        let mut want = self.kept[account].clone();
        want.extend(one);
        want.extend(two);
        self.settle(account, want);
    }

    /// Exactly these are shown, by number, and each gives what it should.
    fn settle(&mut self, account: usize, mut want: Vec<Kept>) {
        want.sort_by_key(|kept| (kept.seq, kept.taken_at, kept.own));
        // What two machines store alike at the same moment is one object.
        want.dedup_by_key(|kept| kept.own);
        let shown = self.shown(account);
        let numbers = |list: &[Kept]| -> Vec<(u32, i64)> {
            list.iter().map(|kept| (kept.seq, kept.taken_at)).collect()
        };
        assert_eq!(numbers(&shown), numbers(&want));
        assert!(shown == want, "a snapshot of {:?} is not what it was", numbers(&want));
        self.kept[account] = shown;
    }

    fn options(&self, rules: Rules) -> Options {
        Options {
            rules,
            zone: TimeZone::UTC,
            grace: 0,
            garbage: 0,
            accept_removals: true,
            now: self.now,
            host: "host".to_owned(),
            workers: 1,
        }
    }

    fn prune(&mut self, account: usize, options: &Options, cut: Option<Cut>) {
        let (one, history) = self.look(account);
        let before = self.shown(account);
        let counted = counted(&history, &before);
        let want = by_rules(&counted, &options.rules);
        let objects: BTreeSet<String> = names(&self.objects_of(account));
        let faulty = Faulty::new(self.objects.clone());
        let faults = faulty.faults();
        let store = Store::over(Arc::new(faulty), Path::default(), "memory").expect("a store");
        let vault = Vault::open_or_create(store).expect("a vault");
        if let Some(cut) = cut {
            faults.cut(cut);
        }
        let faulty = vault.account(&Userid::from(USERS[account]));
        let done = Plan::new(&one, &history, options)
            .and_then(|plan| plan.apply(&faulty, &history, options));
        let shown = self.shown(account);
        match done {
            Ok(()) => {
                assert!(!faults.is_cut() && !self.held[account]);
                let same = |(one, other): (&Kept, &Kept)| one.is_same(other);
                let all = shown.len() == want.len() && shown.iter().zip(&want).all(same);
                assert!(all, "kept are {shown:?} and not {want:?}");
            }
            Err(PruneError::Held) => {
                assert!(self.held[account]);
                assert_eq!(names(&self.objects_of(account)), objects);
            }
            Err(PruneError::Brake { .. } | PruneError::Future(_)) => {
                assert!(!options.accept_removals);
                assert_eq!(names(&self.objects_of(account)), objects);
            }
            Err(error) => {
                assert!(faults.is_cut(), "{error}");
                let is_there = |kept: &&Kept| shown.iter().any(|shown| shown.is_same(kept));
                let lost = want.iter().find(|kept| !is_there(kept));
                assert!(lost.is_none(), "a killed prune lost {lost:?}");
                let known = |shown: &Kept| before.iter().any(|kept| shown.is_same(kept));
                assert!(shown.iter().all(known), "a killed prune made something up");
            }
        }
        self.kept[account] = shown;
    }

    fn objects_of(&self, account: usize) -> Vec<vault::store::Object> {
        let directory = format!("accounts/{}", USERS[account]);
        self.store(&self.objects).list(&directory).expect("a listing")
    }

    fn verify(&self, account: usize, depth: Depth) {
        let (one, history) = self.look(account);
        let report = verify::account(&one, &history, depth).expect("a report");
        assert!(report.is_clean(), "{report:?}");
        let heads = history.heads().iter().map(|head| head.name.to_string()).collect();
        one.put_note(&Note::new(What::Verified, self.now, "host", "test", heads)).expect("stored");
    }

    fn forget(&mut self, account: usize) {
        let (one, history) = self.look(account);
        let objects = self.objects_of(account).len();
        match erase(&one, &history, &self.options(Rules::default())) {
            Ok(_) => {
                assert!(!self.held[account]);
                assert_eq!(self.objects_of(account).len(), 0);
                self.kept[account].clear();
            }
            Err(PruneError::Held) => {
                assert!(self.held[account]);
                assert_eq!(self.objects_of(account).len(), objects);
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// In the end nothing is lost, all is whole, and nothing lies about that nobody needs.
    fn end(&mut self) {
        self.now = self.latest + 1;
        for account in 0..USERS.len() {
            self.take(&Step::Release(account));
            // The second deletes what the first drops, the third the notes of it.
            for _ in 0..3 {
                let rules = Rules { last: 1_000, ..Rules::default() };
                let options = self.options(rules);
                self.prune(account, &options, None);
                self.now += 1;
            }
            self.verify(account, Depth::All);
            let (_, history) = self.look(account);
            let tip = history.tip();
            let needed: BTreeSet<_> = history
                .snapshots()
                .into_iter()
                .chain(tip)
                .flat_map(|entry| history.lineage(&entry.name.own).entries)
                .map(|entry| entry.name.own)
                .collect();
            let litter: Vec<_> =
                history.segments().filter(|entry| !needed.contains(&entry.name.own)).collect();
            assert!(litter.is_empty(), "{litter:?}");
            assert!(history.notes_of(What::Dropped).is_empty(), "{:?}", history.notes);
        }
    }
}

fn names(objects: &[vault::store::Object]) -> BTreeSet<String> {
    objects.iter().map(|object| object.name.clone()).collect()
}
