//! Snapshots while clients do everything at once and the server cleans up behind them.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use serde_json::Value;
use testkit::mail::Sizes;
use testkit::process::wait_until;
use testkit::storm::{Storm, StormPlan, StormReport};
use testkit::{Cyrus, CyrusBuilder, cyrus_or_skip};

use crate::chain_check::{self, Checked};
use crate::program::{CYLINDER, PATIENCE, Snapshot, restore};
use crate::restored::{Seen, check_reconstructed, create_user, scratch, serve};
use crate::waiting::Running;

/// After that many snapshots a new chain begins.
const CHAIN: usize = 25;

/// How much clients do between two snapshots, at least.
const BETWEEN: u64 = 10;

/// Large enough that some dozens of them fill any pipe.
const MESSAGE_BYTES: usize = 10_000;

/// How many snapshots; `CYLINDER_SNAPSHOTS` asks for more.
fn snapshots() -> usize {
    let asked = std::env::var("CYLINDER_SNAPSHOTS").ok();
    asked.map_or(200, |text| text.parse().expect("a number of snapshots"))
}

#[test]
fn two_hundred_snapshots_in_a_storm_are_each_consistent() {
    let Some(builder) = cyrus_or_skip("two_hundred_snapshots_in_a_storm") else { return };
    check(builder, snapshots());
}

#[test]
fn snapshots_in_a_storm_are_consistent_where_directories_move_with_their_names() {
    let Some(builder) = cyrus_or_skip("snapshots_in_a_storm_are_consistent") else { return };
    check(builder.legacy_dirs(true), snapshots() / 4);
}

fn check(builder: CyrusBuilder, count: usize) {
    let cyrus = builder.clone().start().expect("Cyrus starts");
    create_user(&cyrus, "glad");
    let scratch = scratch();
    let mut run = Run {
        cyrus: &cyrus,
        scratch: scratch.path(),
        taken: 0,
        checked: Checked::default(),
        longest_us: 0,
    };
    let start = Instant::now();
    let (cleanups, report) = run.weather(count);
    let elapsed = start.elapsed();
    let (checked, longest_us) = (run.checked, run.longest_us);
    println!(
        "{count} snapshots in {elapsed:?} while clients did {} things and {cleanups} cleanups ran: \
         {checked:?}; longest lock {longest_us} us; {report:?}",
        report.total(),
    );
    assert!(cleanups > 5, "nobody cleaned up");
    assert_eq!(checked.snapshots, count);
    assert!(checked.records > count, "{checked:?}");
    run.compare_restored(&builder);
}

struct Run<'a> {
    cyrus: &'a Cyrus,
    scratch: &'a Path,
    taken: usize,
    checked: Checked,
    longest_us: u64,
}

impl Run<'_> {
    fn path(&self, name: &str) -> PathBuf {
        self.scratch.join(name)
    }

    /// Takes all snapshots in one storm. Returns how often the server cleaned up meanwhile.
    fn weather(&mut self, count: usize) -> (usize, StormReport) {
        let sizes = Sizes::About(MESSAGE_BYTES);
        let plan =
            StormPlan { sizes, ..StormPlan::new(self.cyrus.imap_address(), &["glad"], 2009) };
        let storm = Storm::start(&plan);
        let (over, cyrus) = (AtomicBool::new(false), self.cyrus);
        let cleanups = thread::scope(|scope| {
            let cleaner = scope.spawn(|| clean_until(&over, cyrus));
            // Raised also if this panics: the scope waits for the cleaner.
            let end = Raised(&over);
            while self.taken < count {
                self.take_chain(count, &storm);
            }
            drop(end);
            cleaner.join().expect("no panic")
        });
        (cleanups, storm.stop().expect("no client fails"))
    }

    /// A full snapshot and incremental ones behind it, all in one file; then checks them.
    fn take_chain(&mut self, count: usize, storm: &Storm) {
        let archive = self.path("chain.tar");
        for number in 0..CHAIN.min(count - self.taken) {
            await_progress(storm);
            match number {
                0 => self.take_slowly(&archive, storm),
                _ => self.take_more(&archive),
            }
            self.taken += 1;
        }
        let checked = chain_check::check(&archive, "glad");
        self.checked.snapshots += checked.snapshots;
        self.checked.records += checked.records;
        self.checked.messages += checked.messages;
        self.checked.links += checked.links;
    }

    /// Takes a full snapshot that is stopped by a full pipe, so that messages are still being read
    /// while clients and cleanup go on.
    fn take_slowly(&mut self, archive: &Path, storm: &Storm) {
        let mut command = Command::new(CYLINDER);
        command.args(Snapshot::full(self.cyrus.imapd_conf(), "glad").arguments());
        let mut running = Running::start(&mut command);
        let first = running.read_first();
        // Cleanup waits for the messages that are not read yet, and clients of the account for
        // cleanup. But not until they are read: nobody reads on before the clients have got on.
        await_progress(storm);
        let ran = running.end().expect(0);
        self.note_locks(&ran.report());
        fs::write(archive, [&first[..], &ran.stdout].concat()).expect("a file");
    }

    /// Takes an incremental snapshot and appends it to the archive.
    fn take_more(&mut self, archive: &Path) {
        let one = self.path("one.tar");
        let conf = self.cyrus.imapd_conf();
        let report = Snapshot { since: &[archive], ..Snapshot::full(conf, "glad") }.take(&one);
        self.note_locks(&report);
        let mut file = OpenOptions::new().append(true).open(archive).expect("a file");
        file.write_all(&fs::read(&one).expect("a snapshot")).expect("appended");
    }

    /// All locks are given back, and say how long they were held.
    fn note_locks(&mut self, report: &Value) {
        for lock in report["locks"].as_array().expect("locks") {
            let held = lock["held_us"].as_u64();
            let held = held.unwrap_or_else(|| panic!("held for ever: {lock}"));
            // Name locks stop only cleanup.
            if lock["kind"] != "name" {
                self.longest_us = self.longest_us.max(held);
            }
        }
    }

    /// After the storm: a last snapshot, restored elsewhere, must show the same account.
    fn compare_restored(&self, builder: &CyrusBuilder) {
        let (archive, tree) = (self.path("last.tar"), self.path("restored"));
        Snapshot::full(self.cyrus.imapd_conf(), "glad").take(&archive);
        let want = Seen::of(self.cyrus, "glad");
        restore("glad", &[&archive], &format!("dir:{}", tree.display()), &[]);
        let restored = serve(builder, &tree);
        let differences = want.differences(&Seen::of(&restored, "glad"));
        assert_eq!(differences, Vec::<String>::new());
        check_reconstructed(self.cyrus, &restored, "glad");
    }
}

/// Waits until clients have done a bit more.
fn await_progress(storm: &Storm) {
    let enough = storm.progress() + BETWEEN;
    assert!(wait_until(PATIENCE, || storm.progress() >= enough), "clients don't get on");
}

/// Lets the server remove what is expunged or deleted, at once and all the time; returns how
/// often.
fn clean_until(over: &AtomicBool, cyrus: &Cyrus) -> usize {
    let mut cleanups = 0;
    while !over.load(Ordering::Relaxed) {
        cyrus.tool("cyr_expire", &["-E", "1", "-X", "0", "-D", "0"]).expect("a cleanup");
        cleanups += 1;
    }
    cleanups
}

/// Raises a flag when it goes away.
struct Raised<'a>(&'a AtomicBool);

impl Drop for Raised<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
