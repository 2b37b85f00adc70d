//! `cylinder reconstruct` when it is killed, when somebody is at work, and when all is damaged at once.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use testkit::damage::{self, Checksum};
use testkit::skip::{Need, skip};
use testkit::{Rng, process};

use super::auditing_damage::{Scene, findings, named};
use super::healing::holder;
use super::program::{CYLINDER, run};
use super::reconstructing::reconstruct;
use super::sample::files;

const STRACE: &str = "/usr/bin/strace";
const PATIENCE: Duration = Duration::from_secs(120);

/// Calls that change a directory, or a file, one by one: strace counts each kind by itself.
const CALLS: [&str; 8] =
    ["renameat", "renameat2", "fsync", "unlinkat", "fchmod", "mkdirat", "write", "openat"];

/// More calls than a run makes.
const CALLS_MAX: usize = 3000;

/// A number that no message has.
const FAR: u32 = 4_000_000_000;

/// Rounds of the storm.
const ROUNDS: u64 = 200;

/// What messages there are, by their bytes.
fn mail(scene: &Scene) -> Vec<Vec<u8>> {
    let all = files(&scene.path("spool/spool")).into_iter();
    let messages = all.filter(|path| path.to_string_lossy().ends_with('.'));
    let mut mail: Vec<Vec<u8>> = messages.map(|path| fs::read(path).expect("read")).collect();
    mail.sort();
    mail
}

/// Runs it, killed at the nth of such calls. Whether it ran to its end.
fn survives(calls: &str, nth: usize, conf: &Path) -> bool {
    let mut command = Command::new(STRACE);
    let inject = format!("inject={calls}:signal=KILL:when={nth}");
    command.args(["-f", "-qq", "-o", "/dev/null", "-e"]).arg(format!("trace={calls}"));
    command.args(["-e", &inject, CYLINDER, "reconstruct", "glad", "--apply", "-C"]).arg(conf);
    let output = process::run(&mut command, b"", PATIENCE).expect("strace runs");
    output.status.success()
}

#[test]
fn killed_at_any_call_it_goes_on_from_there() {
    if !Path::new(STRACE).exists() {
        return skip("killed_at_any_call_it_goes_on_from_there", Need::Tools, STRACE);
    }
    let scene = Scene::new();
    damage::edit_header(&scene.index(), Checksum::Fixed, |header| {
        header[28..32].copy_from_slice(&20_u32.to_be_bytes());
    })
    .expect("damage");
    for uid in [10, 11, 30] {
        let text = format!("Subject: {uid}\r\n\r\nstray\r\n");
        damage::add_orphan(&scene.inbox, uid, text.as_bytes()).expect("damage");
    }
    damage::remove_header(&scene.metadata).expect("damage");
    let wanted = mail(&scene);
    let (spool, before) = (scene.path("spool"), scene.path("before"));
    run(Command::new("/bin/cp").arg("-a").arg(&spool).arg(&before)).expect(0);
    let mut kills = 0;
    for calls in CALLS {
        for nth in (1..).step_by(if calls == "openat" { 7 } else { 1 }) {
            assert!(nth < CALLS_MAX, "it is killed for ever");
            fs::remove_dir_all(&spool).expect("it is ours");
            run(Command::new("/bin/cp").arg("-a").arg(&before).arg(&spool)).expect(0);
            if survives(calls, nth, &scene.conf) {
                break;
            }
            kills += 1;
            assert_eq!(mail(&scene), wanted, "{calls} {nth}: no message is lost");
            reconstruct(&scene.conf, &["glad", "--apply"]).expect(0);
            assert_eq!(mail(&scene), wanted, "{calls} {nth}: nor does one come twice");
            reconstruct(&scene.conf, &["glad", "-G"]).expect(0);
            let found = findings(&scene.document(&["glad", "--full"], 0));
            assert_eq!(found, [] as [Value; 0], "{calls} {nth}");
            let is_half = |path: &PathBuf| path.to_string_lossy().ends_with(".cylinder.NEW");
            let strange = files(&spool).into_iter().filter(is_half);
            assert_eq!(strange.collect::<Vec<_>>(), [] as [PathBuf; 0]);
        }
    }
    assert!(kills > 20, "it was hardly ever killed");
}

#[test]
fn it_does_nothing_while_somebody_is_at_work() {
    let scene = Scene::new();
    damage::break_record(&scene.index(), 2).expect("damage");
    let before = fs::read(scene.index()).expect("an index");
    let mut worker = holder(&scene.index());
    for more in [&["glad", "--apply"][..], &["--all"]] {
        let refused = reconstruct(&scene.conf, more).expect(1);
        assert!(refused.stderr.contains("somebody is at work in this spool"), "{}", refused.stderr);
    }
    drop(worker.stdin.take());
    worker.wait().expect("it ends");
    assert_eq!(fs::read(scene.index()).expect("an index"), before);
    reconstruct(&scene.conf, &["glad", "--apply"]).expect(0);
}

/// Damages whatever it may be.
fn harm(rng: &mut Rng, scene: &Scene) {
    let names = ["cyrus.index", "cyrus.index", "cyrus.index", "cyrus.header", "cyrus.cache"];
    for _ in 0..=rng.below(3) {
        let path = scene.metadata.join(names[rng.below(5) as usize]);
        let Ok(mut bytes) = fs::read(&path) else { continue };
        let length = bytes.len() as u64;
        if length == 0 {
            continue;
        }
        let at = rng.below(length) as usize;
        match rng.below(8) {
            0 => bytes.truncate(at),
            1 => bytes.extend_from_slice(&[0x5a; 150]),
            2 => bytes.iter_mut().skip(at).take(64).for_each(|byte| *byte = 0),
            3 => bytes.iter_mut().skip(at).take(130).for_each(|byte| *byte ^= rng.below(256) as u8),
            4 => drop(bytes.drain(at..(at + 7).min(bytes.len()))),
            5 => bytes[at] = 0xff,
            _ => bytes[at] ^= 1 << rng.below(8),
        }
        fs::write(&path, bytes).expect("damage");
    }
    let uid = 1 + rng.below(6) as u32;
    match rng.below(8) {
        0 => drop(fs::remove_file(scene.message(uid))),
        1 => damage::add_orphan(&scene.inbox, uid + 3, b"Subject: x\r\n\r\nother\r\n")
            .expect("damage"),
        2 => damage::add_orphan(&scene.inbox, FAR, b"Subject: y\r\n\r\nfar\r\n").expect("damage"),
        3 => fs::write(scene.message(uid), b"").expect("damage"),
        _ => {}
    }
}

#[test]
fn whatever_is_damaged_a_second_run_has_nothing_to_do() {
    for seed in 0..ROUNDS {
        let scene = Scene::new();
        let mut rng = Rng::new(seed);
        harm(&mut rng, &scene);
        let guids = if seed % 3 == 0 { &["-G"][..] } else { &[] };
        let wanted = mail(&scene);
        let run = |more: &[&str]| {
            let ran = reconstruct(&scene.conf, &[&["glad", "--json"], guids, more].concat());
            assert!(ran.code == 0 || ran.code == 4, "seed {seed}: {}", ran.stderr);
            ran.document()
        };
        let looked = run(&[]);
        let done = run(&["--apply"]);
        assert_eq!(done["changes"], looked["changes"], "seed {seed}");
        assert_eq!(mail(&scene), wanted, "seed {seed}: no message is touched");
        let again = run(&[]);
        assert_eq!(again["changes"], 0, "seed {seed}: {looked:#}\n{again:#}");
        assert_eq!(again["left"], done["left"], "seed {seed}: {looked:#}\n{again:#}");
        // An audit does not know of what is above the last UID, since it may be about to be delivered.
        let codes = |told: &Value| -> BTreeSet<(String, Option<u64>)> {
            let told = told["told"].as_array().expect("a list").iter();
            let left = told.filter(|told| told["told"] == "left").map(named);
            left.filter(|(_, uid)| *uid != Some(FAR.into())).collect()
        };
        let code = if codes(&again).is_empty() { 0 } else { 4 };
        let mut depth = vec!["glad"];
        depth.extend(guids.first().map(|_| "--full"));
        let found = findings(&scene.document(&depth, code));
        let found: BTreeSet<_> = found.iter().map(named).collect();
        assert_eq!(found, codes(&again), "seed {seed}: {looked:#}");
    }
}
