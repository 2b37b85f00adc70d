//! Forgetting: by rules, by erasure, and never under a hold.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::program::{Ran, cylinder};
use crate::vaults::{SENT, Scene};

/// A vault with snapshots of 3, 4, 5 and so on messages.
fn grown(snapshots: usize) -> Scene {
    let scene = Scene::new();
    for n in 0..snapshots {
        scene.backup(3 + n).expect(0);
    }
    scene
}

fn prune(scene: &Scene, more: &[&str]) -> Ran {
    cylinder([&["prune", "--vault", &scene.vault(), "--json"][..], more].concat())
}

#[test]
fn forgotten_snapshots_are_hidden_as_long_as_others_need_them() {
    let scene = grown(4);
    let before = scene.objects();
    let planned = prune(&scene, &["--keep-last", "2", "--dry-run"]).expect(0).document();
    assert_eq!(scene.objects(), before, "a dry run changes nothing");
    let done = prune(&scene, &["--keep-last", "2"]).expect(0).document();
    assert_eq!(planned["accounts"], done["accounts"], "the plan shown is the plan run");
    assert_eq!(scene.numbers(), [3, 4]);
    let segments = |scene: &Scene| scene.objects().keys().filter(|n| n.ends_with(".zst")).count();
    assert_eq!(segments(&scene), 4, "none of the messages is garbage");
    assert_eq!(scene.restored("3"), 5 + SENT);
    scene.glad("restore", &["--at", "1", "--to", "maildir:/nowhere"]).expect(1);
    // The next backup goes on, and the next prune has nothing to do.
    scene.backup(9).expect(0);
    assert_eq!(scene.numbers(), [3, 4, 5]);
    let again = prune(&scene, &["--keep-last", "3"]).expect(0).document();
    assert_eq!(again["accounts"][0]["hide"], serde_json::json!([]), "{again}");
}

#[test]
fn garbage_is_reclaimed_by_writing_anew_and_deleted_after_a_day() {
    let scene = grown(4);
    let old: Vec<String> = scene.objects().into_keys().collect();
    // Messages 4 to 6 are no more.
    scene.backup(3).expect(0);
    let report = prune(&scene, &["--keep-last", "1"]).expect(0).document();
    assert_eq!(report["accounts"][0]["rewrite"], true, "{report}");
    assert_eq!(scene.numbers(), [5]);
    let now: Vec<String> = scene.objects().into_keys().collect();
    assert!(old.iter().all(|name| now.contains(name)), "a reader may still be at them");
    prune(&scene, &["--keep-last", "1"]).expect(0);
    assert!(old.iter().all(|name| scene.objects().contains_key(name)));
    prune(&scene, &["--keep-last", "1", "--grace", "0"]).expect(0);
    prune(&scene, &["--keep-last", "1", "--grace", "0"]).expect(0);
    let left = scene.objects();
    assert!(old.iter().all(|name| !left.contains_key(name)), "{left:?}");
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!(scene.restored("5"), 3 + SENT);
    cylinder(["verify", "--vault", &scene.vault(), "--read-data"]).expect(0);
    // And it goes on from there.
    scene.backup(9).expect(0);
    assert_eq!(scene.numbers(), [5, 6]);
    assert_eq!(scene.restored("6"), 9 + SENT);
}

#[test]
fn a_hold_keeps_everything_until_it_is_released() {
    let scene = grown(3);
    cylinder(["prune", "--vault", &scene.vault(), "--hold", "glad"]).expect(0);
    let before = scene.objects();
    let report = prune(&scene, &["--keep-last", "1"]).expect(0).document();
    assert_eq!(report["accounts"][0]["hold"], true, "{report}");
    let erase = ["prune", "--vault", &scene.vault(), "--forget", "glad", "--accept-removals"];
    let ran = cylinder(erase).expect(1);
    assert!(ran.error().contains("legal hold"), "{}", ran.stderr);
    assert_eq!(scene.objects(), before);
    assert_eq!(scene.history()["hold"], true);
    cylinder(["prune", "--vault", &scene.vault(), "--release", "glad"]).expect(0);
    prune(&scene, &["--keep-last", "1"]).expect(0);
    assert_eq!(scene.numbers(), [3]);
}

#[test]
fn an_erased_account_leaves_nothing_and_only_if_that_is_meant() {
    let scene = grown(3);
    scene.backup(8).expect(0);
    let erase = ["prune", "--vault", &scene.vault(), "--forget", "glad"];
    let ran = cylinder(erase).expect(1);
    assert!(ran.error().contains("for ever") && ran.hints("--accept-removals"), "{}", ran.stderr);
    assert_eq!(scene.numbers().len(), 4);
    cylinder([&erase[..], &["--accept-removals"]].concat()).expect(0);
    assert_eq!(scene.objects().len(), 0);
    assert!(!scene.path("vault/accounts/glad").exists());
    let ran = scene.glad("history", &[]).expect(1);
    assert!(ran.error().contains("holds nothing of glad"), "{}", ran.stderr);
    // It may come again, and then begins anew.
    scene.backup(8).expect(0);
    assert_eq!(scene.numbers(), [1]);
}

#[test]
fn a_rule_that_would_forget_nearly_everything_stops() {
    let scene = grown(12);
    let ran = cylinder(["prune", "--vault", &scene.vault(), "--keep-last", "1"]).expect(1);
    assert!(ran.error().contains("11 of 12 snapshots"), "{}", ran.stderr);
    assert_eq!(scene.numbers().len(), 12);
    let rules = ["prune", "--vault", &scene.vault(), "--keep-last", "1", "--accept-removals"];
    cylinder(rules).expect(0);
    assert_eq!(scene.numbers(), [12]);
    let ran = cylinder(["prune", "--vault", &scene.vault()]).expect(2);
    assert!(ran.error().contains("no rule"), "{}", ran.stderr);
}

#[test]
fn what_nobody_understands_is_left_alone() {
    let scene = grown(2);
    let foreign = scene.path("vault/accounts/glad/README");
    fs::write(&foreign, "mine").expect("a file");
    prune(&scene, &["--keep-last", "1", "--grace", "0", "--max-garbage", "0"]).expect(0);
    assert!(foreign.exists());
    let report = cylinder(["verify", "--vault", &scene.vault(), "--json"]).expect(3).document();
    assert_eq!(report["accounts"][0]["damage"][0]["object"], "README", "{report}");
}

/// One machine backs up, another prunes as hard as it can, a third restores.
#[test]
fn backups_prunes_and_restores_at_the_same_time_lose_nothing() {
    let scene = grown(2);
    let over = AtomicBool::new(false);
    let rounds = thread::scope(|scope| {
        let pruning = scope.spawn(|| {
            let mut rounds = 0;
            while !over.load(Ordering::Relaxed) {
                prune(&scene, &["--keep-last", "2", "--max-garbage", "0"]).expect(0);
                rounds += 1;
            }
            rounds
        });
        let reading = scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let ran = scene.glad("show", &["--mailbox", "INBOX", "--uid", "1"]).expect(0);
                assert!(!ran.stdout.is_empty());
            }
        });
        // Fewer and more messages by turns, so that there is garbage all the time.
        let stop = Stop(&over);
        for messages in [9, 4, 8, 3, 7, 4, 9, 3, 6, 5] {
            let report = scene.backup(messages).expect(0).document();
            assert_eq!(report["failed"], 0, "{report}");
        }
        drop(stop);
        reading.join().expect("no panic");
        pruning.join().expect("no panic")
    });
    assert!(rounds > 0);
    // One of the prunes may have written anew what a backup had just continued; the next joins them.
    scene.backup(5).expect(0);
    let newest = scene.numbers().pop().expect("a snapshot").to_string();
    assert_eq!(scene.restored(&newest), 5 + SENT);
    cylinder(["verify", "--vault", &scene.vault(), "--read-data"]).expect(0);
}

/// Ends the other threads, also if this one panics.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
