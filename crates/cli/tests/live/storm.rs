//! Snapshots while clients do everything at once and the server cleans up behind them.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use testkit::process::Group;
use testkit::storm::{Storm, StormPlan};
use testkit::{Cyrus, CyrusBuilder, cyrus_or_skip};

use crate::chain_check::{self, Checked};
use crate::program::{Snapshot, restore};
use crate::restored::{Seen, check_reconstructed, create_user, scratch, serve};

/// After that many snapshots a new chain begins.
const CHAIN: usize = 25;

/// After that many the server cleans up, while the next one is taken.
const CLEANING: usize = 5;

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

    let storm = Storm::start(&StormPlan::new(cyrus.imap_address(), &["glad"], 2009));
    let (start, before) = (Instant::now(), storm.progress());
    while run.taken < count {
        run.take_chain(count);
    }
    let (elapsed, after) = (start.elapsed(), storm.progress());
    let report = storm.stop().expect("no client fails");
    println!(
        "{count} snapshots in {elapsed:?} while clients did {} things: {:?}; longest lock {} us; \
         {report:?}",
        after - before,
        run.checked,
        run.longest_us,
    );
    assert!(after - before > count as u64, "that was no storm: {report:?}");
    assert_eq!(run.checked.snapshots, count);
    assert!(run.checked.records > count, "{:?}", run.checked);
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

    /// A full snapshot and incremental ones behind it, all in one file; then checks them.
    fn take_chain(&mut self, count: usize) {
        let archive = self.path("chain.tar");
        let _ = fs::remove_file(&archive);
        for number in 0..CHAIN.min(count - self.taken) {
            let cleaning = (self.taken % CLEANING == CLEANING - 1).then(|| self.start_cleaning());
            self.take(&archive, number > 0);
            if let Some(mut cleaning) = cleaning {
                let status = cleaning.leader().wait().expect("it ends");
                assert!(status.success(), "cyr_expire: {status}");
            }
        }
        let checked = chain_check::check(&archive, "glad");
        self.checked.snapshots += checked.snapshots;
        self.checked.records += checked.records;
        self.checked.messages += checked.messages;
        self.checked.links += checked.links;
    }

    /// Takes a snapshot and appends it to the archive.
    fn take(&mut self, archive: &Path, incremental: bool) {
        let one = self.path("one.tar");
        let since: &[&Path] = if incremental { &[archive] } else { &[] };
        let conf = self.cyrus.imapd_conf();
        let report = Snapshot { since, ..Snapshot::full(conf, "glad") }.take(&one);
        for lock in report["locks"].as_array().expect("locks") {
            // A name lock is held until the messages are read, and no other.
            let held = lock["held_us"].as_u64();
            assert_eq!(held.is_none(), lock["kind"] == "name", "{lock}");
            self.longest_us = self.longest_us.max(held.unwrap_or(0));
        }
        let mut file = OpenOptions::new().create(true).append(true).open(archive).expect("a file");
        file.write_all(&fs::read(&one).expect("a snapshot")).expect("appended");
        self.taken += 1;
    }

    /// Lets the server remove what is expunged or deleted, at once.
    fn start_cleaning(&self) -> Group {
        let mut command = self.cyrus.tool_command("cyr_expire");
        command.args(["-E", "1", "-X", "0", "-D", "0"]);
        Group::spawn(&mut command).expect("cyr_expire starts")
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
