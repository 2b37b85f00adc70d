//! `cylinder heal`: damaged messages get their bytes back, from whichever place has them.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use testkit::damage::{self, Checksum};
use testkit::imap::guid_of;
use testkit::process;
use testkit::skip::{Need, skip};
use testkit::spool_builder::{EPOCH, Era, SpoolBuilder, SpoolOptions};

use super::comparing::{Everywhere, LIMIT, file_of, flip};
use super::program::{CYLINDER, Ran, cylinder};
use super::sample::{belongs_to_us, spool};

impl Everywhere {
    fn heal(&self, from: &str, more: &[&str]) -> Ran {
        let journal = self.journal();
        let [conf, password] = [&self.conf, &self.password].map(|path| path.display().to_string());
        let mut arguments = vec!["heal", "-C", &conf, "--from", from, "--password-file", &password];
        arguments.extend(["--journal", &journal]);
        cylinder(arguments.iter().chain(more))
    }

    fn journal(&self) -> String {
        self.password.with_file_name("state/healed.jsonl").display().to_string()
    }

    fn audit(&self) -> Ran {
        let conf = self.conf.display().to_string();
        cylinder(["audit", "-C", &conf, "--full", "--all"])
    }
}

#[test]
fn bytes_come_back_from_any_place_that_has_them() {
    let everywhere = Everywhere::new();
    let [_, server, vault, archive] = everywhere.places();
    let file = file_of(&everywhere.partition, 5);
    // Neither in Sent nor of iris.
    let good = fs::read(&file).expect("it is there");
    let arrived = EPOCH + 4;
    for (at, from) in [&server, &vault, &archive].into_iter().enumerate() {
        flip(&file);
        let bad = fs::read(&file).expect("it is there");
        let would = everywhere.heal(from, &["glad", "--dry-run", "--json"]).expect(0).document();
        assert_eq!(would["messages"][0]["outcome"], "healed", "{would:#}");
        assert_eq!(fs::read(&file).expect("it is there"), bad, "nothing is changed");
        let healed = everywhere.heal(from, &["glad", "--json"]).expect(0).document();
        assert_eq!((&healed["healed"], &healed["left"]), (&json!(1), &json!(0)), "{healed:#}");
        assert_eq!(healed["messages"][0]["nature"], "flipped-bit", "{healed:#}");
        assert_eq!(fs::read(&file).expect("it is there"), good);
        assert_eq!(fs::metadata(&file).expect("it is there").mtime(), arrived);
        assert_eq!(staged(&everywhere.partition), 0);
        everywhere.audit().expect(0);
        let again = everywhere.heal(from, &["--all", "--json"]).expect(0).document();
        assert_eq!(again["healed"], 0, "{again:#}");
        let listed = cylinder(["heal", "--list", "--json", "--journal", &everywhere.journal()]);
        let listed = listed.expect(0).document();
        assert_eq!(listed.as_array().map(Vec::len), Some(at + 1), "{listed:#}");
        let last = &listed[at];
        assert_eq!((&last["uid"], &last["from"]), (&json!(5), &json!(from)), "{listed:#}");
    }
    let text = cylinder(["heal", "--list", "--journal", &everywhere.journal()]).expect(0).text();
    assert!(text.lines().count() == 3 && text.contains("user.glad uid 5: "), "{text}");
}

#[test]
fn what_is_cut_short_through_a_hard_link_and_what_is_gone_come_back() {
    let everywhere = Everywhere::new();
    let [_, server, ..] = everywhere.places();
    // INBOX and Sent have this file both.
    let cut = file_of(&everywhere.partition, 1);
    let good = fs::read(&cut).expect("it is there");
    OpenOptions::new().write(true).open(&cut).expect("ours").set_len(100).expect("it is cut");
    let gone = file_of(&everywhere.partition, 4);
    let lost = fs::read(&gone).expect("it is there");
    fs::remove_file(&gone).expect("it is ours");
    let healed = everywhere.heal(&server, &["glad", "--json"]).expect(0).document();
    let messages = healed["messages"].as_array().expect("messages");
    let natures: Vec<&Value> = messages.iter().map(|message| &message["nature"]).collect();
    assert_eq!(natures, ["missing", "truncated", "truncated"], "{healed:#}");
    assert_eq!(fs::read(&cut).expect("it is there"), good);
    assert_eq!(fs::read(&gone).expect("it is there"), lost);
    everywhere.audit().expect(0);
}

#[test]
fn a_copy_in_the_spool_itself_is_enough() {
    let everywhere = Everywhere::new();
    let [.., archive] = everywhere.places();
    let shared = file_of(&everywhere.partition, 2);
    let good = fs::read(&shared).expect("it is there");
    fs::remove_file(&shared).expect("it is ours");
    let healed = everywhere.heal(&archive, &["glad", "--json"]).expect(0).document();
    let detail = healed["messages"][0]["detail"].as_str().expect("a text");
    assert!(detail.ends_with("of this spool"), "{healed:#}");
    assert_eq!(fs::read(&shared).expect("it is there"), good);
}

#[test]
fn what_nobody_has_is_not_touched() {
    let everywhere = Everywhere::new();
    let [_, server, vault, _] = everywhere.places();
    spool(&everywhere.site.root(), 6);
    let newest = file_of(&everywhere.partition, 6);
    flip(&newest);
    let bad = fs::read(&newest).expect("it is there");
    for from in [&server, &vault] {
        let left = everywhere.heal(from, &["glad", "--json"]).expect(4).document();
        assert_eq!(left["messages"][0]["outcome"], "no-copy", "{left:#}");
        assert_eq!(fs::read(&newest).expect("it is there"), bad);
    }
    let text = everywhere.heal(&server, &["glad"]).expect(4).text();
    assert!(text.ends_with(" looked at: 0 healed, 1 left as they were\n"), "{text}");
}

#[test]
fn a_copy_that_is_damaged_too_heals_nothing() {
    let everywhere = Everywhere::new();
    let file = file_of(&everywhere.partition, 5);
    let other = everywhere.password.with_file_name("other");
    let there = spool(&other, 5);
    flip(&file);
    let bad = fs::read(&file).expect("it is there");
    OpenOptions::new()
        .append(true)
        .open(file_of(&there.partition, 5))
        .and_then(|mut file| file.write_all(b"more"))
        .expect("it is ours");
    let from = format!("spool:{}", there.imapd_conf.display());
    let left = everywhere.heal(&from, &["glad", "--json"]).expect(4).document();
    assert_eq!(left["messages"][0]["outcome"], "no-copy", "{left:#}");
    assert_eq!(fs::read(&file).expect("it is there"), bad);
}

/// An archive of somebody else, who has none of this mail.
fn elsewhere(everywhere: &Everywhere) -> String {
    let root = everywhere.password.with_file_name("stranger");
    let mut builder = SpoolBuilder::create(&root, SpoolOptions::new(Era::V3_6)).expect("a spool");
    let mailbox = builder.mailbox("user.glad").expect("a mailbox");
    builder.finish_mailbox(mailbox).expect("a mailbox");
    let spool = builder.finish().expect("a spool");
    belongs_to_us(&spool.imapd_conf);
    format!("spool:{}", spool.imapd_conf.display())
}

#[test]
fn files_that_are_swapped_or_went_round_in_a_circle_are_all_there_afterwards() {
    let everywhere = Everywhere::new();
    let from = elsewhere(&everywhere);
    let files: Vec<_> = (3..=5).map(|uid| file_of(&everywhere.partition, uid)).collect();
    let good: Vec<Vec<u8>> = files.iter().map(|file| fs::read(file).expect("there")).collect();
    let held = everywhere.password.with_file_name("held");
    let check = |circle: &[usize]| {
        fs::rename(&files[circle[0]], &held).expect("damage");
        for pair in circle.windows(2) {
            fs::rename(&files[pair[1]], &files[pair[0]]).expect("damage");
        }
        fs::rename(&held, &files[circle[circle.len() - 1]]).expect("damage");
        everywhere.audit().expect(4);
        let would = everywhere.heal(&from, &["glad", "--json", "--dry-run"]).expect(0).document();
        assert_eq!(would["healed"], circle.len(), "{would:#}");
        let healed = everywhere.heal(&from, &["glad", "--json"]).expect(0).document();
        assert_eq!((&healed["healed"], &healed["left"]), (&json!(circle.len()), &json!(0)));
        let now: Vec<Vec<u8>> = files.iter().map(|file| fs::read(file).expect("there")).collect();
        assert!(now == good, "{circle:?}: each has its own");
        everywhere.audit().expect(0);
    };
    check(&[0, 1]);
    check(&[0, 1, 2]);
    check(&[2, 0, 1]);
    let listed = cylinder(["heal", "--list", "--json", "--journal", &everywhere.journal()]);
    let listed = listed.expect(0).document();
    assert_eq!(listed.as_array().map(Vec::len), Some(8), "each is noted: {listed:#}");
}

#[test]
fn a_message_whose_record_is_wrong_is_not_replaced_by_another() {
    let everywhere = Everywhere::new();
    let [_, server, ..] = everywhere.places();
    let file = file_of(&everywhere.partition, 4);
    let mail = fs::read(&file).expect("it is there");
    let other = guid_of(&fs::read(file_of(&everywhere.partition, 5)).expect("it is there"));
    let index = file.with_file_name("cyrus.index");
    damage::edit_record(&index, 3, Checksum::Fixed, |record| {
        record[60..80].copy_from_slice(&other.0)
    })
    .expect("damage");
    let told = everywhere.heal(&server, &["glad", "--json"]).expect(4).document();
    assert_eq!((&told["healed"], &told["messages"]), (&json!(0), &json!([])), "{told:#}");
    assert_eq!(fs::read(&file).expect("it is there"), mail);
    // The file is right, and the record gets its GUID back.
    let conf = everywhere.conf.display().to_string();
    cylinder(["reconstruct", "-C", &conf, "-G", "glad", "--apply"]).expect(0);
    everywhere.audit().expect(0);
    assert_eq!(fs::read(&file).expect("it is there"), mail);
}

#[test]
fn nothing_is_healed_while_somebody_is_at_work() {
    let everywhere = Everywhere::new();
    let [_, server, ..] = everywhere.places();
    let file = file_of(&everywhere.partition, 3);
    flip(&file);
    let bad = fs::read(&file).expect("it is there");
    let list = everywhere.conf.with_file_name("conf").join("mailboxes.db");
    let list = if list.exists() { list } else { file.with_file_name("cyrus.index") };
    let mut worker = holder(&list);
    let refused = everywhere.heal(&server, &["glad"]).expect(1);
    assert!(refused.error().contains("somebody is at work in this spool"), "{}", refused.stderr);
    // To look is harmless.
    everywhere.heal(&server, &["glad", "--dry-run"]).expect(0);
    drop(worker.stdin.take());
    worker.wait().expect("it ends");
    assert_eq!(fs::read(&file).expect("it is there"), bad);
    everywhere.heal(&server, &["glad"]).expect(0);
}

/// A server takes a good copy under a new number, while it runs.
#[test]
fn a_server_that_runs_is_healed_through_its_protocol() {
    let everywhere = Everywhere::new();
    let [master, server, vault, _] = everywhere.places();
    let replica = everywhere.site.root().with_file_name("replica");
    let conf = replica.join("imapd.conf").display().to_string();
    let file = file_of(&replica, 5);
    let good = fs::read(&file).expect("it is there");
    flip(&file);
    let heal = |from: &str, through: &str, more: &[&str]| {
        let [journal, password] = [everywhere.journal(), everywhere.password.display().to_string()];
        let mut arguments = vec!["heal", "glad", "-C", &conf, "--from", from, "--through", through];
        arguments.extend(["--password-file", &password, "--journal", &journal, "--json"]);
        cylinder(arguments.iter().chain(more))
    };
    // It is not its own source.
    let left = heal(&server, &server, &[]).expect(4).document();
    assert_eq!(left["messages"][0]["outcome"], "no-copy", "{left:#}");
    for from in [&master, &vault] {
        let would = heal(from, &server, &["--dry-run"]).expect(0).document();
        assert_eq!(would["messages"][0]["new_uid"], 6, "{would:#}");
    }
    let healed = heal(&vault, &server, &[]).expect(0).document();
    assert_eq!(healed["messages"][0]["outcome"], "replaced", "{healed:#}");
    assert_eq!(fs::read(file.with_file_name("6.")).expect("it is there"), good);
    let again = heal(&vault, &server, &[]).expect(0).document();
    assert_eq!(again["healed"], 0, "{again:#}");
    let text = cylinder(["heal", "--list", "--journal", &everywhere.journal()]).expect(0).text();
    assert!(
        text.contains("user.glad uid 5: ") && text.contains(" as uid 6 (flipped-bit)"),
        "{text}"
    );
}

/// Killed at any call that changes the disk, it leaves the old bytes or the good ones, and nothing that a
/// sweep does not find.
#[test]
fn a_heal_that_is_killed_at_any_write_leaves_the_old_bytes_or_the_good_ones() {
    if !Path::new(STRACE).exists() {
        let test = "a_heal_that_is_killed_at_any_write";
        return skip(test, Need::Tools, STRACE);
    }
    let everywhere = Everywhere::new();
    let conf = everywhere.conf.display().to_string();
    let [.., vault, _] = everywhere.places();
    let files = [4, 5].map(|uid| file_of(&everywhere.partition, uid));
    let good = files.each_ref().map(|file| fs::read(file).expect("it is there"));
    let (mut healed, mut swept) = (0, 0);
    for calls in CALLS {
        for nth in 1.. {
            assert!(nth < CALLS_MAX, "it is killed for ever");
            files.iter().for_each(|file| flip(file));
            let bad = files.each_ref().map(|file| fs::read(file).expect("it is there"));
            let is_done = everywhere.survives(calls, nth, &vault);
            for (file, (good, bad)) in files.iter().zip(good.iter().zip(&bad)) {
                let found = fs::read(file).expect("it is there");
                assert!(found == *good || found == *bad, "{calls} {nth}: {}", file.display());
                healed += usize::from(found == *good && !is_done);
            }
            // What is left belongs to nobody, and a sweep knows that.
            let left = staged(&everywhere.partition);
            assert!(left < 2 && !(is_done && left > 0), "{calls} {nth}: {left}");
            swept += left;
            cylinder(["sweep", "-C", &conf, "--apply", "--older-than", "0s"]).expect(0);
            assert_eq!(staged(&everywhere.partition), 0, "{calls} {nth}");
            everywhere.heal(&vault, &["glad"]).expect(0);
            assert_eq!(files.each_ref().map(|file| fs::read(file).expect("it is there")), good);
            everywhere.audit().expect(0);
            if is_done {
                assert!(nth > 2, "{calls}: it was hardly ever killed");
                break;
            }
        }
    }
    assert!(healed > 0 && swept > 0, "{healed} {swept}");
}

const STRACE: &str = "/usr/bin/strace";

/// Calls that change a disk, one by one: strace counts each kind of each thread by itself, and of several
/// only the one would ever be hit that is made most often.
const CALLS: [&str; 8] =
    ["mkdirat", "unlinkat", "write", "utimensat", "fsync", "linkat", "renameat", "fdatasync"];

/// More calls than any heal here makes.
const CALLS_MAX: usize = 100;

impl Everywhere {
    /// Heals, and is killed at the nth such call. Whether it ran to its end.
    fn survives(&self, calls: &str, nth: usize, from: &str) -> bool {
        let mut command = Command::new(STRACE);
        let inject = format!("inject={calls}:signal=KILL:when={nth}");
        command.args(["-f", "-qq", "-o", "/dev/null", "-e"]).arg(format!("trace={calls}"));
        command.args(["-e", &inject, CYLINDER, "heal", "glad", "--from", from, "-C"]);
        command.arg(&self.conf).args(["--journal", &self.journal()]);
        process::run(&mut command, b"", LIMIT).expect("strace runs").status.success()
    }
}

/// How many files wait below a partition.
fn staged(partition: &Path) -> usize {
    fs::read_dir(partition.join("stage.")).map(Iterator::count).unwrap_or(0)
}

/// A process that has a file open to write to, until nothing more can come from its standard input.
pub fn holder(file: &Path) -> std::process::Child {
    let script = "exec 9>>\"$0\"; echo; read -r line";
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]).arg(file).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    let mut line = [0];
    let stdout = child.stdout.as_mut().expect("a pipe");
    std::io::Read::read_exact(stdout, &mut line).expect("it has opened the file");
    child
}
