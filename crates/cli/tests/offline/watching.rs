//! `cylinder watch` as a program, on logs of a real Cyrus 3.6.1.

use std::fs::{self, File, Permissions};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
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
fn logs_of_several_servers_are_read_in_the_order_of_time() {
    let directory = scratch();
    let (_, rest) = learned(directory.path());
    let of = |day: &str| {
        let lines = rest.lines().filter(|line| line.starts_with(day));
        lines.partition::<Vec<&str>, _>(|line| line.contains(" mail1 "))
    };
    let mut paths = Vec::new();
    for day in ["2026-11-10T", "2026-11-09T"] {
        let (first, second) = of(day);
        assert!(!first.is_empty() && !second.is_empty());
        for (name, lines) in [("mail1", first), ("mail2", second)] {
            let text = lines.join("\n") + "\n";
            paths.push(write(directory.path(), &format!("{name}-{day}"), text));
        }
    }
    let state = directory.path().join("state");
    let replay = |paths: &[String]| {
        let arguments = ["--replay"].into_iter().chain(paths.iter().map(String::as_str));
        watch(&state, &arguments.collect::<Vec<_>>())
    };
    let ran = replay(&paths).expect(0);
    let lines = rest.lines().count();
    assert!(ran.stderr.starts_with(&format!("{lines} lines, 0 noises")), "{}", ran.stderr);
}

#[test]
fn what_is_known_already_is_not_learned_again() {
    let directory = scratch();
    let (state, rest) = learned(directory.path());
    let ran =
        watch(&state, &["--learn", &directory.path().join("old.log.zst").display().to_string()]);
    assert!(ran.expect(1).hints("new --state"));
    let rest = write(directory.path(), "rest", rest);
    watch(&state, &["--learn", &rest]).expect(0);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let directory = scratch();
    watch(directory.path(), &[]).expect(2);
    watch(directory.path(), &["--accept", "xyz"]).expect(2);
    watch(directory.path(), &["--list", "--log", "x"]).expect(2);
    watch(directory.path(), &["--list", "--journal"]).expect(2);
    watch(directory.path(), &["--journal=--file=x"]).expect(2);
    watch(directory.path(), &["--replay", "/missing"]).expect(1);
    let name = std::ffi::OsStr::from_bytes(b"/x\xff");
    let state = directory.path().as_os_str();
    cylinder(["watch".as_ref(), "--state".as_ref(), state, "--log".as_ref(), name]).expect(2);
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

/// A journal that `journalctl` reads: a file of entries, whose cursors are the numbers of their lines.
struct Journal {
    directory: TempDir,
    entries: u32,
}

/// What is first in the PATH. It writes down whom to kill, and whether that one follows.
const JOURNALCTL: &str = r#"#!/bin/sh
home=${0%/*} after=0 follow=
for word; do
    case $word in
    --after-cursor=*) after=${word##*=} ;;
    --follow) follow=-f ;;
    esac
done
[ -e "$home/broken" ] && exit 1
echo "$$ after=$after $follow" >> "$home/runs"
exec tail -n "+$((after + 1))" $follow "$home/journal"
"#;

impl Journal {
    fn new() -> Self {
        let directory = scratch();
        let program = directory.path().join("journalctl");
        fs::write(&program, JOURNALCTL).expect("written");
        fs::set_permissions(&program, Permissions::from_mode(0o755)).expect("made a program");
        fs::write(directory.path().join("journal"), "").expect("written");
        Self { directory, entries: 0 }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn write(&self, text: &str) {
        let journal = File::options().append(true).open(self.path().join("journal"));
        journal.expect("it is there").write_all(text.as_bytes()).expect("written");
    }

    /// An entry an hour after the one before, by a process of its own.
    fn entry(&mut self, message: &Value) -> String {
        self.entries += 1;
        let entry = json!({
            "__CURSOR": self.entries.to_string(),
            "__REALTIME_TIMESTAMP": format!("{}000000", 1_794_182_400 + 3600 * self.entries),
            "SYSLOG_IDENTIFIER": "cyrus/imap",
            "_PID": (self.entries + 100).to_string(),
            "PRIORITY": "3",
            "MESSAGE": message,
        });
        format!("{entry}\n")
    }

    fn daemon(&self) -> Group {
        let stderr = File::options().create(true).append(true).open(self.path().join("told"));
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new(CYLINDER);
        command.env("PATH", format!("{}:{path}", self.path().display()));
        command.args(["watch", "--journal", "--state"]).arg(self.path().join("state"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr.expect("a file"));
        Group::spawn_guarded(&mut command).expect("it starts")
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path().join(name)).unwrap_or_default()
    }

    /// Waits until so many noises are told, and marked as told.
    #[track_caller]
    fn wait(&self, noises: usize) {
        let marks = || {
            let said = self.text("state/noises.jsonl");
            said.lines().filter(|line| !line.contains("\"noise\"")).count()
        };
        assert!(wait_until(PATIENCE, || marks() >= noises), "{}", self.text("told"));
    }

    /// Kills the `journalctl` that follows, once there is one.
    fn kill_journalctl(&self, before: usize) {
        let follows = || {
            let runs = self.text("runs");
            let mut runs = runs.lines().skip(before).filter(|run| run.ends_with("-f"));
            runs.next().and_then(|run| run.split(' ').next()).map(String::from)
        };
        assert!(wait_until(PATIENCE, || follows().is_some()), "{}", self.text("runs"));
        let pid = follows().and_then(|pid| pid.parse().ok()).and_then(Pid::from_raw);
        kill_process(pid.expect("a process id"), Signal::KILL).expect("killed");
    }
}

#[test]
fn the_journal_is_read_once_whoever_dies() {
    let mut journal = Journal::new();
    let message = |name: &str| json!(format!("IOERROR: read header failed: mailbox=<user.{name}>"));
    // Bytes that are no UTF-8 are a list; what is no entry is a line all the same.
    let bytes = [&b"IOERROR: read header failed: mailbox=<user.b> "[..], b"\xff\x1b[2J"].concat();
    let entries = [journal.entry(&message("a")), journal.entry(&json!(bytes))].concat();
    journal.write(&entries);
    let mut daemon = journal.daemon();
    journal.wait(2);
    // journalctl dies in the middle of an entry.
    let entry = journal.entry(&message("c"));
    let (half, rest) = entry.split_at(entry.len() / 2);
    journal.write(half);
    journal.kill_journalctl(0);
    journal.write(rest);
    journal.wait(3);
    daemon.kill();
    let entry = journal.entry(&message("d"));
    journal.write(&entry);
    let mut daemon = journal.daemon();
    journal.wait(4);
    daemon.terminate(PATIENCE);
    // After an orderly end, what came last is known.
    let mut daemon = journal.daemon();
    let entry = journal.entry(&message("e"));
    journal.write(&entry);
    journal.wait(5);
    daemon.terminate(PATIENCE);
    let told = journal.text("told");
    for name in ["a", "b", "c", "d", "e"] {
        assert_eq!(told.matches(&format!("<user.{name}>")).count(), 1, "{told}");
    }
    assert!(told.contains("imap[102]") && told.contains("journalctl has ended"), "{told}");
    assert!(told.chars().all(|ch| ch == '\n' || !ch.is_control()), "{told:?}");
    assert!(journal.text("runs").contains("after=4 \n"), "{}", journal.text("runs"));
}

#[test]
fn a_journalctl_that_fails_is_said_once_and_tried_again() {
    let mut journal = Journal::new();
    let entry = journal.entry(&json!("DBERROR: x"));
    journal.write(&entry);
    fs::write(journal.path().join("broken"), "").expect("written");
    let mut daemon = journal.daemon();
    assert!(wait_until(PATIENCE, || journal.text("told").contains("exit status: 1")));
    fs::remove_file(journal.path().join("broken")).expect("removed");
    journal.wait(1);
    daemon.terminate(PATIENCE);
    assert_eq!(journal.text("told").matches("journalctl has ended").count(), 1);
}

#[test]
fn entries_of_the_journal_in_a_file_are_read_too() {
    let mut journal = Journal::new();
    let lines = [journal.entry(&json!("DBERROR: x")), "{\"no\": \"entry\"}\n".to_owned()].concat();
    let file = write(journal.path(), "exported", lines);
    let state = journal.path().join("state");
    let ran = watch(&state, &["--replay", &file, "--json"]).expect(3);
    let noise: Value = serde_json::from_slice(&ran.stdout).expect("one noise in one line");
    assert_eq!((&noise["name"], &noise["pid"]), (&"database-error".into(), &101.into()));
    assert!(ran.stderr.starts_with("2 lines"), "{}", ran.stderr);
}
