//! A disk that is full in the middle of something: it is said in one line, nothing is lost, and
//! when there is room again all goes on.

use std::fs;
use std::process::Command;

use testkit::disk::SmallDisk;
use testkit::mail::{MailGenerator, Sizes};
use testkit::s3::S3Server;
use testkit::spool_builder::{EPOCH, Era, NewMessage, Spool, SpoolBuilder, SpoolOptions};

use crate::program::{CYLINDER, Ran, cylinder, run};
use crate::sample::{belongs_to_us, files};
use crate::vaults::{Scene, backup_arguments};

/// A page: what a disk in memory gives at a time.
const PAGE: u64 = 4096;

/// Until it must have been enough, in pages.
const PAGES_MAX: u64 = 40;

/// A spool whose mail takes pages, not bytes: glad has so many messages in INBOX.
fn spool(scene: &Scene, messages: usize, bytes: usize) -> Spool {
    let root = scene.path("spool");
    drop(fs::remove_dir_all(&root));
    let mut builder = SpoolBuilder::create(&root, SpoolOptions::new(Era::V3_6)).expect("a spool");
    let mut inbox = builder.mailbox("user.glad").expect("a mailbox");
    for bytes in MailGenerator::new(3, Sizes::About(bytes)).messages(messages) {
        let message = NewMessage { bytes: &bytes, internaldate: EPOCH, ..NewMessage::default() };
        inbox.add(&message).expect("a message");
    }
    builder.finish_mailbox(inbox).expect("a mailbox");
    let spool = builder.finish().expect("a spool");
    belongs_to_us(&spool.imapd_conf);
    spool
}

/// Of the messages of most tests, in bytes.
const SIZE: usize = 20_000;

fn back_up(scene: &Scene, messages: usize) -> Ran {
    let spool = spool(scene, messages, SIZE);
    cylinder(backup_arguments(&spool, &scene.vault(), &["glad"]))
}

/// How many messages that snapshot gives.
fn restored(scene: &Scene, at: &str) -> usize {
    let out = scene.path("out");
    drop(fs::remove_dir_all(&out));
    let to = format!("maildir:{}", out.display());
    scene.glad("restore", &["--at", at, "--to", &to]).expect(0);
    files(&out).iter().filter(|path| path.to_string_lossy().contains(".cylinder,S=")).count()
}

/// Objects only: nothing half is left in the directory.
#[track_caller]
fn assert_no_litter(scene: &Scene) {
    let left = scene.objects();
    assert!(left.keys().all(|name| !name.contains('#')), "{:?}", left.keys());
}

#[track_caller]
fn assert_says_full(ran: &Ran) {
    let said = format!("{}{}", ran.text(), ran.stderr);
    assert!(said.contains("No space left on device"), "{said}");
}

#[test]
fn a_backup_that_finds_the_disk_full_loses_nothing_and_is_made_up_for() {
    let scene = Scene::new();
    let test = "a_backup_that_finds_the_disk_full";
    let Some(disk) = SmallDisk::or_skip(test, &scene.path("vault"), 1024) else { return };
    back_up(&scene, 5).expect(0);
    let spool = spool(&scene, 9, SIZE);
    let arguments = backup_arguments(&spool, &scene.vault(), &["glad"]);
    let mut failed = 0;
    for pages in 0.. {
        assert!(pages < PAGES_MAX, "there is never room enough");
        disk.fill_but(pages * PAGE).expect("full");
        let ran = cylinder(&arguments);
        if ran.code == 0 {
            break;
        }
        failed += 1;
        let ran = ran.expect(1);
        assert_says_full(&ran);
        assert_eq!(ran.document()["failed"], 1);
        assert!(ran.text().contains("what was stored before is not touched"), "{}", ran.text());
        assert_no_litter(&scene);
        assert_eq!(scene.numbers(), [1], "with {pages} pages");
        assert_eq!(restored(&scene, "1"), 5);
    }
    assert!(failed > 1, "it was hardly ever full");
    assert_eq!(restored(&scene, "2"), 9);
    disk.free().expect("room");
    cylinder(["verify", "--vault", &scene.vault(), "--read-data"]).expect(0);
    back_up(&scene, 4).expect(0);
    assert_eq!(scene.numbers(), [1, 2, 3]);
}

#[test]
fn a_first_backup_that_finds_the_disk_full_is_said_and_made_up_for() {
    let scene = Scene::new();
    let test = "a_first_backup_that_finds_the_disk_full";
    let Some(disk) = SmallDisk::or_skip(test, &scene.path("disk"), 1024) else { return };
    let vault = scene.path("disk/vault").display().to_string();
    let spool = spool(&scene, 5, SIZE);
    for pages in 0.. {
        assert!(pages < PAGES_MAX, "there is never room enough");
        disk.fill_but(pages * PAGE).expect("full");
        let ran = cylinder(backup_arguments(&spool, &vault, &["glad"]));
        if ran.code == 0 {
            break;
        }
        assert_says_full(&ran.expect(1));
    }
    cylinder(["verify", "--vault", &vault]).expect(1);
    disk.free().expect("room");
    cylinder(["verify", "--vault", &vault, "--read-data"]).expect(0);
}

#[test]
fn a_prune_that_finds_the_disk_full_keeps_everything_and_is_made_up_for() {
    let scene = Scene::new();
    let test = "a_prune_that_finds_the_disk_full";
    let Some(disk) = SmallDisk::or_skip(test, &scene.path("vault"), 1024) else { return };
    for messages in [5, 8, 4, 9, 3] {
        back_up(&scene, messages).expect(0);
    }
    let prune = ["prune", "--vault", &scene.vault(), "--keep-last", "1", "--max-garbage", "0"];
    let mut failed = 0;
    for pages in 0.. {
        assert!(pages < PAGES_MAX, "there is never room enough");
        disk.fill_but(pages * PAGE).expect("full");
        let ran = cylinder(prune);
        if ran.code == 0 {
            break;
        }
        failed += 1;
        let ran = ran.expect(1);
        assert_says_full(&ran);
        assert!(ran.error().contains("glad was not pruned"), "{}", ran.stderr);
        assert_no_litter(&scene);
        assert_eq!(restored(&scene, "5"), 3, "with {pages} pages");
    }
    assert!(failed > 1, "it was hardly ever full");
    assert_eq!(scene.numbers(), [5]);
    disk.free().expect("room");
    for _ in 0..3 {
        cylinder([&prune[..], &["--grace", "0"]].concat()).expect(0);
    }
    let left = scene.objects();
    assert_eq!(left.len(), 1, "{:?}", left.keys());
    assert_eq!(restored(&scene, "5"), 3);
    cylinder(["verify", "--vault", &scene.vault(), "--read-data"]).expect(0);
}

#[test]
fn what_was_dropped_is_deleted_from_a_full_disk() {
    let scene = Scene::new();
    let test = "what_was_dropped_is_deleted_from_a_full_disk";
    let Some(disk) = SmallDisk::or_skip(test, &scene.path("vault"), 1024) else { return };
    for messages in [5, 8, 4] {
        back_up(&scene, messages).expect(0);
    }
    let rules = ["prune", "--vault", &scene.vault(), "--keep-last", "1", "--max-garbage", "0"];
    cylinder(rules).expect(0);
    disk.fill_but(0).expect("full");
    for _ in 0..2 {
        cylinder([&rules[..], &["--grace", "0"]].concat()).expect(0);
    }
    let left = scene.objects();
    assert_eq!(left.len(), 1, "{:?}", left.keys());
    // A backup has the room that this gave.
    back_up(&scene, 9).expect(0);
    assert_eq!(restored(&scene, "4"), 9);
}

/// A directory takes a large segment as it is made: what did not fit has no name, and is gone.
#[test]
fn a_large_backup_that_finds_the_disk_full_leaves_nothing_of_itself() {
    let scene = Scene::new();
    let test = "a_large_backup_that_finds_the_disk_full";
    let Some(disk) = SmallDisk::or_skip(test, &scene.path("vault"), 32_768) else { return };
    back_up(&scene, 1).expect(0);
    let spool = spool(&scene, 8, 2 << 20);
    let arguments = backup_arguments(&spool, &scene.vault(), &["glad"]);
    disk.fill_but(500 * PAGE).expect("full");
    let ran = cylinder(&arguments).expect(1);
    assert_says_full(&ran);
    assert_no_litter(&scene);
    assert_eq!(scene.numbers(), [1]);
    disk.free().expect("room");
    cylinder(&arguments).expect(0);
    assert_eq!(restored(&scene, "2"), 8);
}

/// For an object store, what is larger than 16 MiB is kept in a temporary file until its name is known.
#[test]
fn no_room_for_temporary_files_is_said_and_where_to_find_some() {
    let scene = Scene::new();
    let test = "no_room_for_temporary_files";
    let Some(_disk) = SmallDisk::or_skip(test, &scene.path("tmp"), 1024) else { return };
    let server = S3Server::start().expect("a server");
    let spool = spool(&scene, 40, 2 << 20);
    let mut command = Command::new(CYLINDER);
    command.args(backup_arguments(&spool, &server.url("mail"), &["glad"]));
    command.envs(server.settings()).env("CYLINDER_CACHE_DIR", "");
    let ran = run(command.env("TMPDIR", scene.path("tmp"))).expect(1);
    assert_says_full(&ran);
    assert!(ran.text().contains("TMPDIR"), "{}", ran.text());
    assert_eq!(fs::read_dir(scene.path("tmp")).expect("a directory").count(), 0);
    run(command.env_remove("TMPDIR")).expect(0);
}
