//! Killed at every call that changes a directory: nothing that was there is lost, nothing half is
//! seen, the next run goes on, and a prune leaves no trace of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use testkit::skip::{Need, skip};
use testkit::spool_builder::{EPOCH, Era, NewMessage, Spool, SpoolBuilder, SpoolOptions};
use testkit::{Rng, process};

use crate::program::{CYLINDER, cylinder, run};
use crate::sample::{belongs_to_us, check_maildir, files, sample};
use crate::vaults::{SENT, Scene, backup_arguments};

const STRACE: &str = "/usr/bin/strace";

/// Each thread counts its own calls. The one that drives requests writes to wake others, and would
/// always be the first to be killed if those writes counted with the rest.
const CALLS: &[&str] = &["fsync", "mkdir", "rename", "link", "linkat", "unlink", "rmdir", "write"];

/// The same of whoever writes below a directory that it holds open.
const CALLS_BELOW: &[&str] = &["mkdirat", "linkat", "symlinkat", "fdatasync", "fsync", "write"];

const PATIENCE: Duration = Duration::from_secs(120);

/// More calls than any thread of these runs makes.
const CALLS_MAX: usize = 200;

/// Runs the program, killing it when one of its threads makes its nth such call. Whether it ran
/// to its end.
fn survives(call: &str, nth: usize, arguments: &[String]) -> bool {
    let mut command = Command::new(STRACE);
    let inject = format!("inject={call}:signal=KILL:when={nth}");
    command.args(["-f", "-qq", "-o", "/dev/null", "-e"]).arg(format!("trace={call}"));
    command.args(["-e", &inject, CYLINDER]).args(arguments);
    let output = process::run(&mut command, b"", PATIENCE).expect("strace runs");
    output.status.success()
}

/// Puts the vault back as it was, and takes away what was restored.
fn reset(scene: &Scene, from: &Path) {
    let vault = scene.path("vault");
    drop(fs::remove_dir_all(&vault));
    drop(fs::remove_dir_all(scene.path("killed")));
    run(Command::new("/bin/cp").arg("-a").arg(from).arg(&vault)).expect(0);
}

/// Kills a command at its first call, its second, and so on, each time on the same vault; `check`
/// looks at what each kill left.
fn at_every_call(test: &str, scene: &Scene, arguments: &[String], check: impl FnMut(usize)) {
    at_each_of(CALLS, test, scene, arguments, check);
}

/// The same at calls of some kinds, one kind after the other.
fn at_each_of(
    kinds: &[&str],
    test: &str,
    scene: &Scene,
    arguments: &[String],
    mut check: impl FnMut(usize),
) {
    if !Path::new(STRACE).exists() {
        return skip(test, Need::Tools, STRACE);
    }
    let before = scene.path("before");
    run(Command::new("/bin/cp").arg("-a").arg(scene.path("vault")).arg(&before)).expect(0);
    let mut kills = 0;
    // strace counts each kind of call by itself: of several, only the most frequent would ever be hit.
    for call in kinds {
        for nth in 1.. {
            assert!(nth < CALLS_MAX, "it is killed for ever");
            reset(scene, &before);
            if survives(call, nth, arguments) {
                break;
            }
            kills += 1;
            check(nth);
        }
    }
    assert!(kills > 4, "it was hardly ever killed");
}

/// Nothing is left but what has the names of a vault's objects.
fn assert_tidy(scene: &Scene, nth: usize) {
    let prune = ["prune", "--vault", &scene.vault(), "--keep-last", "9", "--grace", "0"];
    // The first writes down what is to go, the second deletes it, the third the note of it.
    for _ in 0..3 {
        cylinder(prune).expect(0);
    }
    let tidy = |name: &String| name.ends_with(".snapshot.tar.zst") || name.contains("-hidden-");
    let objects = scene.objects();
    assert!(objects.keys().all(tidy), "kill {nth} left {:?}", objects.keys());
    let verified = cylinder(["verify", "--vault", &scene.vault(), "--read-data"]);
    verified.expect(0);
}

#[test]
fn a_backup_killed_at_any_call_is_there_or_not_and_the_next_one_goes_on() {
    let scene = Scene::new();
    scene.backup(5).expect(0);
    let spool = scene.spool(8);
    let arguments = backup_arguments(&spool, &scene.vault(), &["glad"]);
    let mut finished = 0;
    at_every_call("a_backup_killed_at_any_call", &scene, &arguments, |nth| {
        let numbers = scene.numbers();
        assert!(numbers == [1] || numbers == [1, 2], "kill {nth}: {numbers:?}");
        assert_eq!(scene.restored("1"), 5 + SENT);
        if numbers.len() == 2 {
            finished += 1;
            assert_eq!(scene.restored("2"), 8 + SENT);
        }
        let report = cylinder(&arguments).expect(0).document();
        assert_eq!(report["failed"], 0, "{report}");
        assert_eq!(scene.restored("2"), 8 + SENT);
        assert_tidy(&scene, nth);
    });
    assert!(finished > 0 || !Path::new(STRACE).exists(), "it was never killed after its last put");
}

#[test]
fn a_first_backup_killed_at_any_call_leaves_nothing_in_the_way() {
    let scene = Scene::new();
    let spool = scene.spool(5);
    let arguments = backup_arguments(&spool, &scene.vault(), &["glad"]);
    fs::create_dir(scene.path("vault")).expect("a directory");
    at_every_call("a_first_backup_killed_at_any_call", &scene, &arguments, |nth| {
        cylinder(&arguments).expect(0);
        assert_eq!(scene.restored("1"), 5 + SENT);
        assert_tidy(&scene, nth);
    });
}

/// A spool of one message that does not fit into memory, as far as a vault is concerned.
fn large_spool(scene: &Scene) -> Spool {
    let root = scene.path("large");
    let mut builder = SpoolBuilder::create(&root, SpoolOptions::new(Era::V3_6)).expect("a spool");
    let mut inbox = builder.mailbox("user.glad").expect("a mailbox");
    let mut bytes = b"Subject: a picture\r\n\r\n".to_vec();
    let mut random = Rng::new(11);
    // What is random does not compress, whatever it is written in.
    bytes.extend((0..3 << 20).map(|_| b'!' + (random.below(90) as u8)));
    let message = NewMessage { bytes: &bytes, internaldate: EPOCH, ..NewMessage::default() };
    inbox.add(&message).expect("a message");
    builder.finish_mailbox(inbox).expect("a mailbox");
    let spool = builder.finish().expect("a spool");
    belongs_to_us(&spool.imapd_conf);
    spool
}

#[test]
fn a_large_backup_killed_at_any_call_leaves_no_bytes_behind() {
    let scene = Scene::new();
    let spool = large_spool(&scene);
    let arguments = backup_arguments(&spool, &scene.vault(), &["glad"]);
    fs::create_dir(scene.path("vault")).expect("a directory");
    at_every_call("a_large_backup_killed_at_any_call", &scene, &arguments, |nth| {
        // Where it was killed before it had its name, it is gone with the process.
        let weigh = |path: &PathBuf| path.metadata().expect("a file").len();
        let large: Vec<PathBuf> = files(&scene.path("vault"));
        let large: Vec<&PathBuf> = large.iter().filter(|path| weigh(path) > 1 << 20).collect();
        assert!(large.len() <= 1, "kill {nth} left {large:?}");
        let whole = |path: &&PathBuf| path.to_string_lossy().ends_with(".snapshot.tar.zst");
        assert!(large.iter().all(whole), "kill {nth} left {large:?}");
        cylinder(&arguments).expect(0);
        assert_tidy(&scene, nth);
    });
}

#[test]
fn a_prune_killed_at_any_call_loses_nothing_that_is_kept() {
    let scene = Scene::new();
    for messages in [5, 8, 4] {
        scene.backup(messages).expect(0);
    }
    let rules = ["--keep-last", "1", "--max-garbage", "0", "--grace", "0"];
    let vault = scene.vault();
    let arguments = [&["prune", "--vault", &vault][..], &rules].concat();
    let arguments: Vec<String> = arguments.into_iter().map(str::to_owned).collect();
    at_every_call("a_prune_killed_at_any_call", &scene, &arguments, |nth| {
        assert_eq!(scene.restored("3"), 4 + SENT, "kill {nth}");
        for _ in 0..3 {
            cylinder(&arguments).expect(0);
        }
        assert_eq!(scene.numbers(), [3]);
        assert_eq!(scene.restored("3"), 4 + SENT);
        let left = scene.objects();
        assert_eq!(left.len(), 1, "kill {nth} left {:?}", left.keys());
    });
}

#[test]
fn an_erasure_killed_at_any_call_is_completed() {
    let scene = Scene::new();
    for messages in [5, 8] {
        scene.backup(messages).expect(0);
    }
    let arguments = ["prune", "--vault", &scene.vault(), "--forget", "glad", "--accept-removals"];
    let arguments: Vec<String> = arguments.into_iter().map(str::to_owned).collect();
    let rest = ["prune", "--vault", &scene.vault(), "--keep-last", "9"];
    at_every_call("an_erasure_killed_at_any_call", &scene, &arguments, |nth| {
        // Whatever is left of it looks whole, or is not shown; the next prune goes on if the note
        // was there.
        let is_note = |name: &String| name.contains("-erased-") && name.ends_with(".note.json");
        let was_noted = scene.objects().keys().any(is_note);
        let is_begun = scene.objects().len() < 2 || was_noted;
        for _ in 0..3 {
            cylinder(rest).expect(0);
        }
        if is_begun {
            let left = scene.objects();
            let is_half_written = |name: &String| name.contains('#');
            assert!(left.keys().all(is_half_written), "kill {nth} left {:?}", left.keys());
        } else {
            assert_eq!(scene.numbers(), [1, 2]);
        }
    });
}

/// The segments and notes of glad but those of verifications, with their bytes.
fn contents(scene: &Scene) -> BTreeMap<String, Vec<u8>> {
    let mut objects = scene.objects();
    objects.retain(|name, _| !name.contains("-verified-"));
    objects.into_iter().map(|(name, path)| (name, fs::read(path).expect("an object"))).collect()
}

#[test]
fn a_verification_killed_at_any_call_changes_nothing_but_its_note() {
    let scene = Scene::new();
    for messages in [5, 8] {
        scene.backup(messages).expect(0);
    }
    cylinder(["verify", "--vault", &scene.vault()]).expect(0);
    let before = contents(&scene);
    let arguments = ["verify", "--vault", &scene.vault(), "--read-data", "glad"];
    let arguments: Vec<String> = arguments.into_iter().map(str::to_owned).collect();
    at_every_call("a_verification_killed_at_any_call", &scene, &arguments, |nth| {
        assert_eq!(contents(&scene), before, "kill {nth}");
        assert!(!scene.history()["verified"].is_null(), "kill {nth} lost what was known");
        cylinder(&arguments).expect(0);
        let objects = scene.objects();
        let notes = objects.keys().filter(|name| name.ends_with(".note.json")).count();
        assert_eq!(notes, 1, "kill {nth} left {:?}", objects.keys());
        let verified = &scene.history()["verified"];
        assert_eq!((&verified["percent"], &verified["findings"]), (&100.into(), &0.into()));
    });
}

#[test]
fn a_restore_killed_at_any_call_is_not_taken_for_whole_and_leaves_the_vault_as_it_was() {
    let scene = Scene::new();
    for messages in [3, 4] {
        scene.backup(messages).expect(0);
    }
    let before = contents(&scene);
    let out = scene.path("killed");
    let to = format!("maildir:{}", out.display());
    let arguments = ["restore", "--vault", &scene.vault(), "--to", &to, "glad"];
    let arguments: Vec<String> = arguments.into_iter().map(str::to_owned).collect();
    let mut most = 0;
    at_each_of(CALLS_BELOW, "a_restore_killed_at_any_call", &scene, &arguments, |nth| {
        assert_eq!(contents(&scene), before, "kill {nth}");
        let left = files(&out);
        assert!(left.iter().all(|path| is_begun(path)), "kill {nth} left {left:?}");
        most = most.max(left.len());
        // What is there is neither written over nor gone on with.
        if fs::read_dir(&out).is_ok_and(|mut entries| entries.next().is_some()) {
            let ran = cylinder(&arguments).expect(1);
            assert!(ran.hints("empty"), "kill {nth}: {}", ran.stderr);
            fs::remove_dir_all(&out).expect("a directory");
        }
        cylinder(&arguments).expect(0);
        assert_eq!(check_maildir(&out), 4 + SENT, "kill {nth}");
    });
    assert!(most > 2 || !Path::new(STRACE).exists(), "it was never killed in the middle");
}

/// Whether a file is a message as far as it goes, or one of a maildir's own.
fn is_begun(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let Some((front, _)) = name.split_once(".cylinder,S=") else {
        return ["maildirfolder", "subscriptions"].contains(&name.as_ref());
    };
    let whole = &sample().mail[&front[front.len() - 40..]];
    whole.starts_with(&fs::read(path).expect("a message"))
}
