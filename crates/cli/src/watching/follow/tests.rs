//! Logs as they grow and are rotated, without a daemon.

use std::io::Write;
use std::thread;

use tempfile::TempDir;
use testkit::skip::has_tool_or_skip;

use super::*;

/// A log, who writes it, who follows it, and what he was given.
struct Stage {
    dir: TempDir,
    follower: Follower,
    written: u32,
    given: Vec<String>,
}

impl Stage {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let follower = Follower::new(&dir.path().join("log"));
        Self { dir, follower, written: 0, given: Vec::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn open(&self, name: &str) -> File {
        File::options().create(true).append(true).open(self.path(name)).expect("a log")
    }

    /// Writes so many lines, each a number.
    fn write(&mut self, file: &mut File, lines: u32) {
        for _ in 0..lines {
            self.written += 1;
            file.write_all(format!("line {}\n", self.written).as_bytes()).expect("written");
        }
    }

    fn read(&mut self) {
        let given = &mut self.given;
        let mut take = |line: &[u8]| given.push(String::from_utf8_lossy(line).into_owned());
        while self.follower.read(&mut take).expect("readable") {}
    }

    /// Goes on as after a kill: with the place alone.
    fn restart(&mut self) {
        let place = self.follower.place();
        let place = Place::from_json(&place.json()).expect("a place");
        self.resume(&place);
    }

    fn resume(&mut self, place: &Place) {
        let given = &mut self.given;
        let mut take = |line: &[u8]| given.push(String::from_utf8_lossy(line).into_owned());
        self.follower = Follower::resume(place, &mut take).expect("readable");
    }

    #[track_caller]
    fn assert_each_once(&mut self) {
        self.read();
        let all: Vec<String> = (1..=self.written).map(|n| format!("line {n}")).collect();
        assert_eq!(self.given, all);
    }
}

#[test]
fn a_log_that_is_renamed_is_read_to_its_end() {
    let mut stage = Stage::new();
    let mut old = stage.open("log");
    stage.write(&mut old, 10);
    stage.read();
    fs::rename(stage.path("log"), stage.path("log.1")).expect("renamed");
    stage.write(&mut old, 10);
    stage.read();
    let mut new = stage.open("log");
    stage.read();
    // Its writer has not heard of it yet.
    stage.write(&mut old, 10);
    stage.read();
    stage.write(&mut new, 10);
    stage.assert_each_once();
}

#[test]
fn a_log_that_is_copied_and_cut_is_read_to_its_end() {
    let mut stage = Stage::new();
    let mut log = stage.open("log");
    stage.write(&mut log, 10);
    stage.read();
    stage.write(&mut log, 10);
    fs::copy(stage.path("log"), stage.path("log.1")).expect("copied");
    log.set_len(0).expect("cut");
    // More than there was before, so that its length does not tell.
    stage.write(&mut log, 100);
    stage.assert_each_once();
    log.set_len(0).expect("cut");
    stage.read();
    stage.write(&mut log, 3);
    stage.assert_each_once();
}

#[test]
fn what_was_rotated_while_nobody_watched_is_read_too() {
    let mut stage = Stage::new();
    let mut log = stage.open("log");
    stage.write(&mut log, 10);
    stage.read();
    let place = stage.follower.place();
    stage.write(&mut log, 10);
    let packed = zstd::encode_all(File::open(stage.path("log")).expect("it"), 1).expect("zstd");
    fs::write(stage.path("log.2.zst"), packed).expect("written");
    fs::remove_file(stage.path("log")).expect("removed");
    let mut next = stage.open("log.1");
    stage.write(&mut next, 10);
    let mut newest = stage.open("log");
    stage.write(&mut newest, 10);
    stage.resume(&place);
    stage.assert_each_once();
}

#[test]
fn files_of_one_moment_are_in_the_order_of_their_numbers() {
    let stage = Stage::new();
    let made = SystemTime::UNIX_EPOCH;
    for name in ["log.1", "log.10.gz", "log.2.zst", "log", "log-20261101", "log-20261102"] {
        stage.open(name).set_modified(made).expect("dated");
    }
    let found = siblings(&stage.path("log")).expect("readable");
    let names: Vec<_> = found.iter().filter_map(|(path, _)| path.file_name()?.to_str()).collect();
    assert_eq!(names, ["log.10.gz", "log.2.zst", "log.1", "log-20261101", "log-20261102"]);
}

#[test]
fn a_log_that_was_empty_is_known_by_the_time() {
    for exists in [false, true] {
        let mut stage = Stage::new();
        // What was before is not read.
        let old = stage.open("log.1");
        (&old).write_all(b"old\n").expect("written");
        old.set_modified(SystemTime::now() - std::time::Duration::from_secs(60)).expect("dated");
        if exists {
            drop(stage.open("log"));
            stage.read();
        }
        let place = stage.follower.place();
        fs::rename(stage.path("log.1"), stage.path("log.3")).expect("renamed");
        for name in ["log.2", "log.1", "log"] {
            let mut log = stage.open(name);
            stage.write(&mut log, 10);
        }
        // As a daemon that goes on, and as one that was killed.
        stage.read();
        let again = std::mem::take(&mut stage.given);
        stage.resume(&place);
        stage.assert_each_once();
        assert_eq!(again, stage.given);
    }
}

#[test]
fn a_link_to_a_log_leads_to_what_it_was() {
    let mut stage = Stage::new();
    fs::create_dir(stage.path("far")).expect("made");
    std::os::unix::fs::symlink(stage.path("far/log"), stage.path("log")).expect("linked");
    let mut log = stage.open("far/log");
    stage.write(&mut log, 10);
    stage.read();
    stage.write(&mut log, 10);
    fs::rename(stage.path("far/log"), stage.path("far/log.1")).expect("renamed");
    let mut log = stage.open("far/log");
    stage.write(&mut log, 10);
    stage.restart();
    stage.assert_each_once();
}

#[test]
fn only_what_a_log_was_is_looked_into() {
    let known = |name: &str, other: &str| rotation(name.as_bytes(), other.as_bytes());
    for (other, number) in [
        ("mail.log.1", 1),
        ("mail.log.12.gz", 12),
        ("mail.log-20261130", 0),
        ("mail.log-20261130-1764460800.xz", 0),
        ("mail.log.2026-11-30T00:00:00.bz2", 0),
        ("mail-20261130.log", 0),
        ("mail.3.log.zst", 3),
        ("mail.log.old", 0),
    ] {
        assert_eq!(known("mail.log", other), Some(number), "{other}");
    }
    for other in ["mail.log", "mail.log.gz", "mail.log.bak", "mail.log.1.tmp", "mail", "mail.err"] {
        assert_eq!(known("mail.log", other), None, "{other}");
    }
    assert_eq!(known("mail", "mail.err"), None);
    assert_eq!(known("mail", "mail-20261130.xz"), Some(0));
    assert_eq!(known("mail", "mail.log.1"), None);
}

#[test]
fn what_other_programs_compressed_is_read_by_them() {
    for program in ["gzip", "xz", "bzip2"] {
        if !has_tool_or_skip("what_other_programs_compressed", &format!("/usr/bin/{program}")) {
            continue;
        }
        let mut stage = Stage::new();
        let mut log = stage.open("log");
        stage.write(&mut log, 10);
        stage.read();
        let place = stage.follower.place();
        stage.write(&mut log, 10);
        fs::rename(stage.path("log"), stage.path("log.1")).expect("renamed");
        let packed = std::process::Command::new(program).arg(stage.path("log.1")).status();
        assert!(packed.is_ok_and(|status| status.success()), "{program}");
        stage.resume(&place);
        stage.assert_each_once();
        // Nothing is left of it but what was kept.
        stage.restart();
        let mut log = stage.open("log");
        stage.write(&mut log, 10);
        stage.assert_each_once();
    }
}

#[test]
fn a_log_of_another_name_is_left_alone() {
    let mut stage = Stage::new();
    let mut log = stage.open("log");
    stage.write(&mut log, 10);
    stage.read();
    fs::rename(stage.path("log"), stage.path("log.1")).expect("renamed");
    fs::write(stage.path("log.err"), "an error\n").expect("written");
    let mut log = stage.open("log");
    stage.write(&mut log, 10);
    stage.restart();
    stage.assert_each_once();
}

#[test]
fn a_kill_at_any_byte_costs_no_line() {
    let mut stage = Stage::new();
    let mut log = stage.open("log");
    stage.write(&mut log, 3);
    stage.read();
    for byte in b"line 4\nline 5\n" {
        log.write_all(&[*byte]).expect("written");
        stage.read();
        stage.restart();
    }
    stage.written = 5;
    stage.assert_each_once();
}

#[test]
fn a_line_without_an_end_costs_no_memory() {
    let mut stage = Stage::new();
    let mut log = stage.open("log");
    for _ in 0..40 {
        log.write_all(&vec![b'x'; PIECE]).expect("written");
        stage.read();
    }
    let now = stage.follower.now.as_ref().expect("a file");
    assert!(now.rest.capacity() <= 4 * LINE_BYTES_MAX, "{}", now.rest.capacity());
    log.write_all(b"\nnext\n").expect("written");
    stage.read();
    let lengths: Vec<usize> = stage.given.iter().map(String::len).collect();
    assert_eq!(lengths, [LINE_BYTES_MAX, 4]);
}

/// Lines that are written while the log is rotated, and after how many of them it is.
const LOAD: u64 = 400_000;
const ROTATION: u64 = 10_000;

/// Writes numbers as fast as it can, and rotates the log in each way in turn.
fn write_and_rotate(directory: &Path) {
    let path = directory.join("log");
    let open = || File::options().create(true).append(true).open(&path).expect("a log");
    let mut log = open();
    for number in 1..=LOAD {
        log.write_all(format!("{number}\n").as_bytes()).expect("written");
        if !number.is_multiple_of(ROTATION) {
            continue;
        }
        let rotation = number / ROTATION;
        let old = directory.join(format!("log-{rotation:04}"));
        match rotation % 3 {
            0 => {
                fs::copy(&path, &old).expect("copied");
                log.set_len(0).expect("cut");
            }
            1 => {
                fs::rename(&path, &old).expect("renamed");
                log = open();
            }
            _ => {
                fs::rename(&path, &old).expect("renamed");
                log = open();
                // As gzip and zstd do it: beside the old one, which goes when all is written.
                let file = File::open(&old).expect("it is there");
                let modified = file.metadata().and_then(|found| found.modified()).expect("dated");
                let packed = File::create(directory.join(format!("log-{rotation:04}.zst")));
                let packed = packed.expect("a file");
                zstd::stream::copy_encode(file, &packed, 1).expect("compressed");
                packed.set_modified(modified).expect("dated");
                fs::remove_file(&old).expect("removed");
            }
        }
    }
}

#[test]
fn under_load_each_line_is_read_once_however_it_is_rotated_and_who_is_killed() {
    let mut stage = Stage::new();
    let mut log = stage.open("log");
    log.write_all(b"0\n").expect("written");
    stage.read();
    let mut kept = (stage.follower.place(), stage.given.len());
    let directory = stage.dir.path().to_owned();
    let writer = thread::spawn(move || write_and_rotate(&directory));
    let (mut pieces, mut kills) = (0_u64, 0);
    loop {
        let is_last = writer.is_finished();
        let mut is_read = false;
        while !is_read {
            let given = &mut stage.given;
            let mut take = |line: &[u8]| given.push(String::from_utf8_lossy(line).into_owned());
            is_read = !stage.follower.read(&mut take).expect("readable");
            pieces += 1;
            match pieces % 17 {
                0..=2 => kept = (stage.follower.place(), stage.given.len()),
                // What was given since is known to nobody, and read again.
                16 if kills < 100 => {
                    kills += 1;
                    stage.given.truncate(kept.1);
                    stage.resume(&kept.0);
                    is_read = false;
                }
                _ => {}
            }
        }
        if is_last {
            break;
        }
    }
    writer.join().expect("it has written");
    let mut numbers: Vec<u64> =
        stage.given.iter().map(|line| line.parse().expect("a whole line")).collect();
    numbers.sort_unstable();
    let wrong = (0..=LOAD).zip(&numbers).find(|(expected, number)| expected != *number);
    assert_eq!((wrong, numbers.len() as u64), (None, LOAD + 1), "{kills} kills");
    assert!(kills > 10, "{kills} kills, {pieces} pieces");
}

#[test]
fn old_logs_are_not_kept_open_for_ever() {
    let mut stage = Stage::new();
    let mut log = stage.open("log");
    for rotation in 0..10 {
        stage.write(&mut log, 10);
        stage.read();
        fs::copy(stage.path("log"), stage.path(&format!("log-{rotation}"))).expect("copied");
        log.set_len(0).expect("cut");
        stage.read();
    }
    assert!(stage.follower.before.len() <= BEFORE_MAX, "{}", stage.follower.before.len());
    stage.assert_each_once();
}
