//! `cylinder watch` as a program, on logs of a real Cyrus 3.6.1.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use testkit::process::{Group, wait_until};

use super::program::{CYLINDER, Ran, cylinder};
use super::sample::scratch;

/// How long a noise may take, on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(120);

const DISK_FULL: &str =
    "mail1 cyrus/imap[7]: IOERROR: writing message: syserror=<No space left on device>";

/// Two servers' lines of nine days, with a year: what a stamp without one means changes each year.
fn everyday() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../logwatch/tests/data/everyday.zst");
    let packed = File::open(path).expect("the log is there");
    let mut text = String::new();
    zstd::Decoder::new(packed).expect("zstd").read_to_string(&mut text).expect("UTF-8");
    let dated = text.lines().map(|line| {
        let (day, rest) = (line[4..6].trim_start(), &line[7..]);
        format!("2026-11-{day:0>2}T{rest}\n")
    });
    dated.collect()
}

fn watch(state: &Path, more: &[&str]) -> Ran {
    let mut arguments = vec!["watch".as_ref(), "--state".as_ref(), state.as_os_str()];
    arguments.extend(more.iter().map(std::ffi::OsStr::new));
    cylinder(arguments)
}

/// A state that has learned the first week, and the days behind it.
fn learned(directory: &Path) -> (PathBuf, String) {
    let log = everyday();
    let end = log.find("2026-11-09T").expect("a second Monday");
    let state = directory.join("state");
    let packed = zstd::encode_all(&log.as_bytes()[..end], 1).expect("zstd");
    fs::write(directory.join("old.log.zst"), packed).expect("written");
    let old = directory.join("old.log.zst").display().to_string();
    let ran = watch(&state, &["--learn", &old]).expect(0);
    assert!(ran.stderr.contains(" learned; "), "{}", ran.stderr);
    (state, log[end..].to_owned())
}

fn write(directory: &Path, name: &str, bytes: impl AsRef<[u8]>) -> String {
    let path = directory.join(name);
    fs::write(&path, bytes).expect("written");
    path.display().to_string()
}

#[test]
fn what_was_learned_makes_no_noise_and_a_full_disk_does() {
    let directory = scratch();
    let (state, rest) = learned(directory.path());
    let quiet = write(directory.path(), "quiet", &rest);
    let ran = watch(&state, &["--replay", &quiet]).expect(0);
    assert!(ran.stdout.is_empty(), "{}", ran.text());
    let loud =
        write(directory.path(), "loud", format!("2026-11-09T00:00:09 {DISK_FULL}\n").repeat(9));
    let ran = watch(&state, &["--replay", &loud, "--json"]).expect(3);
    let noise: Value = serde_json::from_slice(&ran.stdout).expect("one noise in one line");
    assert_eq!((&noise["name"], &noise["severity"]), (&"disk-full".into(), &"critical".into()));
    assert_eq!((&noise["count"], &noise["pid"]), (&9.into(), &7.into()));
    let id = noise["id"].as_str().expect("an id");
    watch(&state, &["--accept", id, "--for", "30d"]).expect(0);
    assert!(watch(&state, &["--list"]).expect(0).text().contains(id));
    // Accepted from now on, and what is replayed was before.
    let late = write(directory.path(), "late", format!("2026-11-09T00:00:09 {DISK_FULL}\n"));
    watch(&state, &["--replay", &late]).expect(0);
}

#[test]
fn a_line_is_explained() {
    let directory = scratch();
    let (state, _) = learned(directory.path());
    let login = "2026-11-09T10:00:00 mail1 cyrus/imap[1]: login: localhost [127.0.0.1] glad plaintext \
                 User logged in SESSIONID=<x-1>";
    let text = watch(&state, &["--explain", login]).expect(0).text();
    // The fixture has logins by more than one mechanism.
    assert!(text.contains("login: <name> [<n>] <user> <*> User logged in"), "{text}");
    let alarm = format!("2026-11-09T10:00:00 {DISK_FULL}");
    let text = watch(&state, &["--explain", &alarm]).expect(0).text();
    assert!(text.contains("always a noise: disk-full (critical)"), "{text}");
}

#[test]
fn what_makes_no_sense_is_refused() {
    let directory = scratch();
    watch(directory.path(), &[]).expect(2);
    watch(directory.path(), &["--accept", "xyz"]).expect(2);
    watch(directory.path(), &["--list", "--log", "x"]).expect(2);
    watch(directory.path(), &["--replay", "/missing"]).expect(1);
    fs::write(directory.path().join("state"), b"[]\nno state").expect("written");
    let ran = watch(directory.path(), &["--list"]).expect(1);
    assert!(ran.hints("--learn"), "{}", ran.stderr);
}

#[test]
fn hostile_lines_move_no_cursor() {
    let directory = scratch();
    let mut log =
        b"2026-11-09T00:00:09 h cyrus/imap[1]: DBERROR \x1b[2J\x07\xff\xfe\x00 \xc2\x9b\n".to_vec();
    log.extend_from_slice(&vec![b'a'; 10 << 20]);
    log.extend_from_slice(&[b"\n\x00\xff\n", &b"(a+)+$ ".repeat(9000)[..]].concat());
    let log = write(directory.path(), "log", log);
    for more in [&[][..], &["--json"]] {
        let state = directory.path().join("state");
        let arguments = [&["--replay", log.as_str()], more].concat();
        let ran = watch(&state, &arguments).expect(3);
        let text = ran.text();
        assert!(text.contains("database-error"), "{text}");
        assert!(text.chars().all(|ch| ch == '\n' || !ch.is_control()), "{text:?}");
    }
}

/// A daemon that follows `log`, and writes each noise to `told`.
fn daemon(directory: &Path, told: &str) -> Group {
    let stderr = File::options().create(true).append(true).open(directory.join(told));
    let mut command = Command::new(CYLINDER);
    command.arg("watch").arg("--state").arg(directory.join("state"));
    command.arg("--log").arg(directory.join("log"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr.expect("a file"));
    Group::spawn_guarded(&mut command).expect("it starts")
}

#[test]
fn a_daemon_that_is_killed_loses_nothing_and_repeats_nothing() {
    let directory = scratch();
    let path = directory.path();
    let mut log = File::create(path.join("log")).expect("a log");
    let told = || fs::read_to_string(path.join("told")).unwrap_or_default();
    for round in 0..4 {
        // A mailbox that has not been heard of, each time a noise of its own.
        let name = ["a", "b", "c", "d"][round];
        let line = format!("IOERROR: read header failed: mailbox=<user.{name}>");
        let head = format!("2026-11-09T0{round}:00:00 h cyrus/imap[{round}]");
        writeln!(log, "{head}: {line}").expect("written");
        let mut daemon = daemon(path, "told");
        // Told, and marked as told: in between, a kill would have it told again.
        let marks = || {
            let said = fs::read_to_string(path.join("state/noises.jsonl")).unwrap_or_default();
            said.lines().filter(|line| !line.contains("\"noise\"")).count()
        };
        assert!(wait_until(PATIENCE, || marks() == round + 1), "{}", told());
        assert!(told().contains(&line), "{}", told());
        if round % 2 == 0 { daemon.kill() } else { daemon.terminate(PATIENCE) }
    }
    let mut daemon = daemon(path, "told");
    // When a later line is told, all before it have been read.
    writeln!(log, "2026-11-09T09:00:00 h cyrus/imap[9]: LOSTQUOTA: x").expect("written");
    assert!(wait_until(PATIENCE, || told().contains("LOSTQUOTA")), "{}", told());
    daemon.terminate(PATIENCE);
    for name in ["a", "b", "c", "d"] {
        let times = told().matches(&format!("mailbox=<user.{name}>")).count();
        assert_eq!(times, 1, "{}", told());
    }
}
