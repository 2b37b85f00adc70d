//! `cylinder watch` as a daemon: what it tells, whatever happens to the log and to itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use serde_json::Value;
use testkit::Rng;
use testkit::process::{Group, wait_until};
use testkit::skip::has_tool_or_skip;

use super::program::{CYLINDER, cylinder};
use super::sample::scratch;

/// How long a noise may take, on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(120);

const LOGS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../logwatch/tests/data");

/// A directory with a log, a state, and what was told.
#[derive(Clone, Copy)]
struct Stage<'a>(&'a Path);

impl Stage<'_> {
    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn log(&self) -> File {
        File::options().create(true).append(true).open(self.path("log")).expect("a log")
    }

    /// A daemon that follows `log`, and writes each noise to `told`.
    fn daemon(&self, more: &[&str]) -> Group {
        let stderr = File::options().create(true).append(true).open(self.path("told"));
        let mut command = Command::new(CYLINDER);
        command.arg("watch").arg("--state").arg(self.path("state"));
        command.arg("--log").arg(self.path("log")).args(more);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr.expect("a file"));
        Group::spawn_guarded(&mut command).expect("it starts")
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// What was said: the keys and names of noises, and the keys of those that were told.
    fn said(&self) -> (Vec<(String, String)>, BTreeSet<String>) {
        let text = self.text("state/noises.jsonl");
        let entries = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let (mut noises, mut told) = (Vec::new(), BTreeSet::new());
        for entry in entries {
            let key = entry["key"].as_str().expect("a key").to_owned();
            match entry["noise"]["name"].as_str() {
                Some(name) => noises.push((key, name.to_owned())),
                None => drop(told.insert(key)),
            }
        }
        (noises, told)
    }

    /// Waits until so many noises are told, and marked as told: in between, a kill would have
    /// them told again.
    #[track_caller]
    fn wait(&self, noises: usize) {
        assert!(wait_until(PATIENCE, || self.said().1.len() >= noises), "{}", self.text("told"));
    }

    /// How many lines were read, as far as that is kept.
    fn lines(&self) -> u64 {
        let state = self.path("state").display().to_string();
        let ran = cylinder(["watch", "--state", &state, "--list", "--json"]).expect(0);
        let list: Value = serde_json::from_slice(&ran.stdout).expect("one object");
        list["lines"].as_u64().expect("a number")
    }
}

/// What the clock on the wall shows.
fn now() -> DateTime {
    TimeZone::system().to_datetime(Timestamp::now())
}

/// Lines of November 2026, moved so that `Nov 11 00:10:00` is now, with stamps of RFC 3339.
fn moved(text: &str) -> String {
    let then: DateTime = "2026-11-11T00:10:00".parse().expect("a time");
    let shift = now().duration_since(then).as_secs();
    let line = |line: &str| {
        let (day, clock, rest) = (line[4..6].trim_start(), &line[7..15], &line[16..]);
        let time: DateTime = format!("2026-11-{day:0>2}T{clock}").parse().expect("a stamp");
        let time = time.checked_add(shift.seconds()).expect("a time");
        format!("{} {rest}\n", time.strftime("%Y-%m-%dT%H:%M:%S"))
    };
    text.lines().map(line).collect()
}

fn unpacked(name: &str) -> String {
    let packed = File::open(Path::new(LOGS).join(name)).expect("the log is there");
    let mut text = String::new();
    zstd::Decoder::new(packed).expect("zstd").read_to_string(&mut text).expect("UTF-8");
    text
}

/// Writes a trouble to the log of a daemon that knows what is everyday, and checks that it is told
/// once, by its name.
fn try_trouble(state: &Path, title: &str, lines: &str) -> Result<(), String> {
    let (_, name) = title.split_once(' ').expect("a name");
    let directory = scratch();
    let stage = Stage(directory.path());
    fs::create_dir(stage.path("state")).expect("made");
    fs::copy(state.join("state"), stage.path("state/state")).expect("copied");
    let mut log = stage.log();
    let mut daemon = stage.daemon(&[]);
    log.write_all(moved(lines).as_bytes()).expect("written");
    let came = wait_until(PATIENCE, || !stage.said().1.is_empty());
    // What this is about has nothing to do with it. When it is told, all before it has been.
    let marker = "Nov 11 00:10:40 mail9 cyrus/imap[1]: possible MITM attack\n";
    log.write_all(moved(marker).as_bytes()).expect("written");
    let ends = || stage.said().0.last().is_some_and(|(_, name)| name == "man-in-the-middle");
    let ended = came && wait_until(PATIENCE, ends);
    daemon.terminate(PATIENCE);
    let (noises, _) = stage.said();
    let names: Vec<&str> = noises.iter().map(|(_, name)| name.as_str()).collect();
    match ended && names == [name, "man-in-the-middle"] {
        true => Ok(()),
        false => Err(format!("{title}: {names:?}\n{}", stage.text("told"))),
    }
}

#[test]
fn each_trouble_is_told_once_by_its_name() {
    let directory = scratch();
    let everyday = directory.path().join("everyday");
    fs::write(&everyday, moved(&unpacked("everyday.zst"))).expect("written");
    let state = directory.path().join("state");
    let arguments = ["watch", "--state", &state.display().to_string(), "--learn"];
    cylinder(arguments.into_iter().chain([everyday.to_str().expect("UTF-8")])).expect(0);
    let injected = fs::read_to_string(Path::new(LOGS).join("injected.log")).expect("it is there");
    let troubles = unpacked("incidents.zst") + &injected;
    let troubles: Vec<(&str, &str)> =
        troubles.split("# ").skip(1).filter_map(|trouble| trouble.split_once('\n')).collect();
    assert!(troubles.len() >= 30, "{}", troubles.len());
    // Each waits for a second or two; there is no need to do so one after the other.
    let wrong: Vec<String> = thread::scope(|scope| {
        let some = troubles.chunks(4).map(|some| {
            let state = &state;
            scope.spawn(move || {
                let outcomes = some.iter().map(|(title, lines)| try_trouble(state, title, lines));
                outcomes.filter_map(Result::err).collect::<Vec<_>>()
            })
        });
        let threads: Vec<_> = some.collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("it ends")).collect()
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Messages that always matter, none of which explains another.
const MESSAGES: [&str; 10] = [
    "DBERROR: x",
    "LOSTQUOTA: x",
    "SYNCERROR: x",
    "uniqueid clash with x",
    "user.x not in mailbox list",
    "read header failed: x",
    "assertion failed: x",
    "software bug: x",
    "user.x is over quota",
    "Error in x: bailing out!",
];

/// Lines between one of them and the next, and in a file.
const SOME: u64 = 40_000;
const FILE: u64 = 7_000;

/// Writes lines as fast as it can, a trouble among them now and then, and rotates the log in each
/// way in turn.
fn write_and_rotate(stage: Stage<'_>, written: &AtomicU64) {
    let start = now().checked_sub(1.hour()).expect("a time");
    let mut log = stage.log();
    for number in 1..=SOME * MESSAGES.len() as u64 {
        let trouble = number / SOME;
        let time = start.checked_add((60 * trouble as i64).seconds()).expect("a time");
        let stamp = time.strftime("%Y-%m-%dT%H:%M:%S");
        let line = match number % SOME {
            0 => {
                let message = MESSAGES[trouble as usize - 1];
                format!("{stamp} h cyrus/imap[{trouble}]: {message}\n")
            }
            _ => format!("{stamp} h cyrus/lmtp[99]: Delivered: message {number}\n"),
        };
        log.write_all(line.as_bytes()).expect("written");
        written.store(number, Ordering::Relaxed);
        if number % FILE == 0 {
            log = rotate(stage, log, number / FILE);
        }
    }
}

fn rotate(stage: Stage<'_>, mut log: File, rotation: u64) -> File {
    let old = stage.path(&format!("log-{rotation:04}"));
    let path = stage.path("log");
    match rotation % 4 {
        0 => {
            fs::copy(&path, &old).expect("copied");
            log.set_len(0).expect("cut");
            return log;
        }
        1 => fs::rename(&path, &old).expect("renamed"),
        2 => {
            fs::rename(&path, &old).expect("renamed");
            // As gzip and zstd do it: beside the old one, which goes when all is written.
            let file = File::open(&old).expect("it is there");
            let modified = file.metadata().and_then(|found| found.modified()).expect("dated");
            let packed = File::create(old.with_extension("zst")).expect("a file");
            zstd::stream::copy_encode(file, &packed, 1).expect("compressed");
            packed.set_modified(modified).expect("dated");
            fs::remove_file(&old).expect("removed");
        }
        // So soon again that nobody has seen what was in between.
        _ => {
            fs::rename(&path, &old).expect("renamed");
            log = stage.log();
            log.write_all(format!("in between {rotation}\n").as_bytes()).expect("written");
            fs::rename(&path, stage.path(&format!("log-{rotation:04}-1"))).expect("renamed");
        }
    }
    stage.log()
}

#[test]
fn under_load_each_line_is_counted_once_however_the_log_is_rotated_and_who_is_killed() {
    let directory = scratch();
    let stage = Stage(directory.path());
    drop(stage.log());
    let written = Arc::new(AtomicU64::new(0));
    let total = SOME * MESSAGES.len() as u64;
    let mut rng = Rng::new(7);
    let mut kills: Vec<u64> = (0..12).map(|_| rng.below(total)).collect();
    kills.sort_unstable();
    // How often a kill may have a noise told a second time: it came before it was marked as told.
    let mut doubts: BTreeMap<String, usize> = BTreeMap::new();
    let mut daemon = stage.daemon(&[]);
    // From here on it has begun, and nothing is lost.
    assert!(wait_until(PATIENCE, || stage.path("state/state").exists()));
    thread::scope(|scope| {
        println!("to be killed at {kills:?}");
        scope.spawn(|| write_and_rotate(stage, &written));
        for kill in &kills {
            assert!(wait_until(PATIENCE, || written.load(Ordering::Relaxed) >= *kill));
            daemon.kill();
            let (noises, told) = stage.said();
            for (key, name) in noises.into_iter().filter(|(key, _)| !told.contains(key)) {
                println!("killed while {name} was told");
                *doubts.entry(key).or_default() += 1;
            }
            daemon = stage.daemon(&[]);
        }
    });
    stage.wait(MESSAGES.len());
    daemon.terminate(PATIENCE);
    // What is emptied while nobody watches was read before.
    let log = stage.log();
    log.set_len(0).expect("cut");
    stage
        .log()
        .write_all(b"2000-01-01T00:00:00 h cyrus/imap[1]: possible MITM attack\n")
        .expect("written");
    let mut daemon = stage.daemon(&[]);
    stage.wait(MESSAGES.len() + 1);
    daemon.terminate(PATIENCE);
    let doubled = (1..=total / FILE).filter(|rotation| rotation % 4 == 3).count() as u64;
    assert_eq!(stage.lines(), total + doubled + 1);
    let (noises, _) = stage.said();
    let keys: BTreeSet<&String> = noises.iter().map(|(key, _)| key).collect();
    assert_eq!((keys.len(), noises.len()), (MESSAGES.len() + 1, MESSAGES.len() + 1));
    for (key, name) in &noises {
        let times = stage.text("told").matches(&format!(" {name}: h imap[")).count();
        let most = 1 + doubts.get(key).copied().unwrap_or_default();
        assert!((1..=most).contains(&times), "{name}: {times} times\n{}", stage.text("told"));
    }
}

#[test]
fn a_daemon_that_is_killed_loses_nothing_and_repeats_nothing() {
    let directory = scratch();
    let stage = Stage(directory.path());
    let mut log = stage.log();
    for (round, name) in ["a", "b", "c", "d"].into_iter().enumerate() {
        // A mailbox that has not been heard of, each time a noise of its own.
        let line = format!("IOERROR: read header failed: mailbox=<user.{name}>");
        writeln!(log, "2026-11-09T0{round}:00:00 h cyrus/imap[{round}]: {line}").expect("written");
        let mut daemon = stage.daemon(&[]);
        stage.wait(round + 1);
        assert!(stage.text("told").contains(&line), "{}", stage.text("told"));
        if round % 2 == 0 { daemon.kill() } else { daemon.terminate(PATIENCE) }
    }
    let mut daemon = stage.daemon(&[]);
    // When a later line is told, all before it have been read.
    writeln!(log, "2026-11-09T09:00:00 h cyrus/imap[9]: LOSTQUOTA: x").expect("written");
    stage.wait(5);
    daemon.terminate(PATIENCE);
    for name in ["a", "b", "c", "d"] {
        let times = stage.text("told").matches(&format!("mailbox=<user.{name}>")).count();
        assert_eq!(times, 1, "{}", stage.text("told"));
    }
}

/// Takes one request, answers it, and returns it.
fn take_request(listener: &TcpListener) -> String {
    let (mut stream, _) = listener.accept().expect("somebody calls");
    stream.set_read_timeout(Some(PATIENCE)).expect("a limit");
    let mut request = String::new();
    let mut piece = [0; 4096];
    loop {
        let length = stream.read(&mut piece).expect("a request");
        request.push_str(&String::from_utf8_lossy(&piece[..length]));
        if length == 0 || request.ends_with('}') {
            break;
        }
    }
    stream.write_all(b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n").expect("answered");
    request
}

#[test]
fn a_noise_goes_to_a_command_a_webhook_and_nagios() {
    if !has_tool_or_skip("a_noise_goes_to", "/usr/bin/curl") {
        return;
    }
    let directory = scratch();
    let stage = Stage(directory.path());
    let program = stage.path("tell");
    fs::write(
        &program,
        "#!/bin/sh\ncat > \"${0%/*}/heard\"\necho \"$CYLINDER_NOISE\" > \"${0%/*}/name\"\n",
    )
    .expect("written");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("a program");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let caller = thread::spawn(move || take_request(&listener));
    let command = format!("command:{}", program.display());
    let webhook = format!("webhook:http://127.0.0.1:{port}/a\"b");
    let nagios = format!("nagios:{}", stage.path("nagios").display());
    let ways = ["--notify", &command, "--notify", &webhook, "--notify", &nagios];
    let mut log = stage.log();
    let mut daemon = stage.daemon(&ways);
    assert!(wait_until(PATIENCE, || stage.text("nagios").starts_with("0 OK")));
    writeln!(log, "2026-11-09T09:00:00 h cyrus/imap[9]: LOSTQUOTA: \"a\\b\" \u{7}")
        .expect("written");
    stage.wait(1);
    assert!(wait_until(PATIENCE, || stage.text("nagios").starts_with("2 CRITICAL: 1 open; ")));
    daemon.terminate(PATIENCE);
    assert_eq!(stage.text("name"), "quota-lost\n");
    let heard: Value = serde_json::from_str(&stage.text("heard")).expect("one object");
    assert_eq!(heard["line"], "LOSTQUOTA: \"a\\b\" \u{7}");
    let request = caller.join().expect("it was called");
    let (_, body) = request.split_once("\r\n\r\n").expect("a body");
    let posted: Value = serde_json::from_str(body).expect("one object");
    assert_eq!((&posted["line"], &posted["id"]), (&heard["line"], &heard["id"]));
    assert!(posted["text"].as_str().expect("a text").contains("next: quota -f"));
}

#[test]
fn hostile_lines_hide_no_trouble() {
    let directory = scratch();
    let stage = Stage(directory.path());
    let mut log = stage.log();
    let mut daemon = stage.daemon(&[]);
    let head = b"2026-11-09T09:00:00 h cyrus/imap[9]: ";
    for hostile in [
        &b"\x1b]0;x\x07\x1b[2J\xff\xfe\x00 \xc2\x9b DBERROR"[..],
        &vec![b'a'; 10 << 20],
        &b"(a+)+$ [[:x:] \\1 %n %s ".repeat(9000),
        &vec![0; 100_000],
        b"\r\r\r",
    ] {
        log.write_all(&[head, hostile, b"\n", hostile, b"\n"].concat()).expect("written");
    }
    writeln!(log, "2026-11-09T09:01:00 h cyrus/imap[8]: LOSTQUOTA: x").expect("written");
    assert!(wait_until(PATIENCE, || stage.text("told").contains("quota-lost")));
    daemon.terminate(PATIENCE);
    let told = stage.text("told");
    assert!(told.contains("database-error"), "{told}");
    assert!(told.chars().all(|ch| ch == '\n' || !ch.is_control()), "{told:?}");
    assert_eq!(stage.lines(), 11);
}

#[test]
fn a_log_that_may_not_be_read_is_said_and_tried_again() {
    let directory = scratch();
    let stage = Stage(directory.path());
    // Nobody may read a directory as a log, also not root.
    fs::create_dir(stage.path("log")).expect("made");
    let nagios = format!("nagios:{}", stage.path("nagios").display());
    let mut daemon = stage.daemon(&["--notify", &nagios, "--notify", "stderr"]);
    assert!(wait_until(PATIENCE, || stage.text("nagios").starts_with("2 CRITICAL: cannot read ")));
    fs::remove_dir(stage.path("log")).expect("removed");
    writeln!(stage.log(), "2026-11-09T09:00:00 h cyrus/imap[9]: LOSTQUOTA: x").expect("written");
    stage.wait(1);
    daemon.terminate(PATIENCE);
    assert_eq!(stage.text("told").matches("cannot read").count(), 1, "{}", stage.text("told"));
}
