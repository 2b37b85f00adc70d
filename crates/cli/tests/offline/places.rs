//! Where results go: files that are there already, that cannot be, or that do not fit.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use testkit::skip::{Need, has_tool_or_skip, skip};

use super::program::{CYLINDER, Ran, cylinder, run};
use super::sample::{MESSAGES, check_maildir, files, is_root, sample, scratch, spool, write};

fn snapshot(conf: &Path, options: &[&str]) -> Ran {
    let mut arguments: Vec<OsString> = vec!["snapshot".into(), "glad".into(), "-C".into()];
    arguments.push(conf.into());
    arguments.extend(options.iter().map(OsString::from));
    cylinder(arguments)
}

fn restore(archive: &Path, to: &str) -> Ran {
    let arguments = ["restore", "glad", "--to", to, "--from"].map(OsString::from).into_iter();
    cylinder(arguments.chain([archive.as_os_str().to_owned()]))
}

#[test]
fn a_snapshot_goes_to_a_file_and_to_standard_output_alike() {
    let scratch = scratch();
    let conf = spool(&scratch.path().join("spool"), 5).imapd_conf;
    let path = scratch.path().join("glad.tar");
    let to_file = snapshot(&conf, &["-o", &path.display().to_string()]).expect(0);
    assert!(to_file.stdout.is_empty());
    let to_stdout = snapshot(&conf, &[]).expect(0);
    // Only the time and the locks in the manifest can differ.
    assert_eq!(
        to_stdout.stdout.len().div_ceil(4096),
        fs::read(&path).expect("it").len().div_ceil(4096)
    );
    for how in ["gzip", "zstd"] {
        let ran = snapshot(&conf, &["--compress", how]).expect(0);
        let packed = write(&scratch, how, &ran.stdout);
        let to = scratch.path().join(format!("{how}.maildir"));
        restore(&packed, &format!("maildir:{}", to.display())).expect(0);
        assert_eq!(check_maildir(&to), 7);
    }
    let permissions = fs::metadata(&path).expect("it").permissions();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&permissions) & 0o777, 0o600);
}

#[test]
fn what_cannot_be_written_is_told_and_leaves_nothing() {
    let scratch = scratch();
    let conf = spool(&scratch.path().join("spool"), 5).imapd_conf;
    let file = write(&scratch, "file", b"x");
    for path in [
        scratch.path().join("missing/glad.tar"),
        file.join("glad.tar"),
        scratch.path().to_owned(),
        PathBuf::from("/proc/glad.tar"),
        PathBuf::from("/"),
        PathBuf::from(".."),
    ] {
        let shown = path.display().to_string();
        let ran = snapshot(&conf, &["-o", &shown]).expect(1);
        assert!(ran.error().starts_with(&format!("cannot write {shown}: ")), "{}", ran.error());
        assert!(ran.hints("must exist and be writable"), "{}", ran.stderr);
    }
    assert_eq!(files(scratch.path()).iter().filter(|path| path.ends_with("glad.tar")).count(), 0);
}

#[test]
fn a_snapshot_never_replaces_what_it_continues() {
    let scratch = scratch();
    let conf = spool(&scratch.path().join("spool"), MESSAGES[1]).imapd_conf;
    let path = write(&scratch, "glad.tar", &sample().glad[0]);
    let link = scratch.path().join("link.tar");
    fs::hard_link(&path, &link).expect("a link");
    for output in [&path, &link, &scratch.path().join("spool/../glad.tar")] {
        let (since, output) = (path.display().to_string(), output.display().to_string());
        let ran = snapshot(&conf, &["--since", &since, "-o", &output]).expect(2);
        assert!(ran.error().contains("which it continues"), "{}", ran.error());
    }
    assert_eq!(fs::read(&path).expect("still there"), sample().glad[0]);
    // Another file is replaced, as by any program with -o, but only when the new one is whole.
    let (since, other) = (path.display().to_string(), write(&scratch, "other", b"x"));
    let shown = other.display().to_string();
    snapshot(&conf, &["--since", "/nonexistent", "-o", &shown]).expect(1);
    assert_eq!(fs::read(&other).expect("still there"), b"x");
    snapshot(&conf, &["--since", &since, "-o", &shown]).expect(0);
    assert!(fs::read(&other).expect("still there").len() > 1000);
}

#[test]
fn a_pipe_with_a_name_stays_one() {
    let scratch = scratch();
    if !has_tool_or_skip("a_pipe_with_a_name_stays_one", "/usr/bin/mkfifo") {
        return;
    }
    let conf = spool(&scratch.path().join("spool"), 5).imapd_conf;
    let pipe = scratch.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("it runs").success());
    let reader = Command::new("cat").arg(&pipe).stdout(Stdio::piped()).spawn().expect("cat");
    snapshot(&conf, &["-o", &pipe.display().to_string()]).expect(0);
    let output = reader.wait_with_output().expect("cat ends");
    assert!(fs::symlink_metadata(&pipe).expect("there").file_type().is_fifo());
    let archive = write(&scratch, "glad.tar", &output.stdout);
    let to = scratch.path().join("maildir");
    restore(&archive, &format!("maildir:{}", to.display())).expect(0);
    assert_eq!(check_maildir(&to), 7);
}

#[test]
fn an_archive_is_read_from_a_pipe() {
    let scratch = scratch();
    let archive = write(&scratch, "glad.tar", &sample().glad.concat());
    let to = scratch.path().join("maildir");
    let script = "cat \"$1\" | \"$0\" restore glad --from /dev/stdin --to \"maildir:$2\"";
    run(Command::new("/bin/sh").args(["-c", script, CYLINDER]).arg(&archive).arg(&to)).expect(0);
    assert_eq!(check_maildir(&to), MESSAGES[2] + 2);
}

#[test]
fn a_terminal_is_no_place_for_a_snapshot() {
    if !has_tool_or_skip("a_terminal_is_no_place_for_a_snapshot", "/usr/bin/script") {
        return;
    }
    let scratch = scratch();
    let conf = spool(&scratch.path().join("spool"), 5).imapd_conf;
    // script runs the command on a terminal of its own, and passes on how it ended.
    let line = format!("{CYLINDER} snapshot glad -C {}", conf.display());
    let ran = run(Command::new("script").args(["-qefc", &line, "/dev/null"]));
    assert_eq!(ran.code, 2, "{}", ran.text());
    assert!(ran.text().contains("a snapshot is not written to a terminal"), "{}", ran.text());
    assert!(ran.text().contains("hint: send it to a file with -o FILE"), "{}", ran.text());
}

#[test]
fn a_restore_replaces_nothing() {
    let scratch = scratch();
    let archive = write(&scratch, "glad.tar", &sample().glad[0]);
    let full = scratch.path().join("full");
    fs::create_dir(&full).expect("a directory");
    fs::write(full.join(".mine"), b"mine").expect("a file");
    for kind in ["dir", "maildir", "mbox"] {
        let ran = restore(&archive, &format!("{kind}:{}", full.display())).expect(1);
        assert!(ran.error().contains(&full.display().to_string()), "{}", ran.error());
        assert!(ran.hints("an empty one"), "{}", ran.stderr);
        let ran = restore(&archive, &format!("{kind}:{}", archive.display())).expect(1);
        assert!(ran.hints("does not exist yet"), "{}", ran.stderr);
        let missing = scratch.path().join("missing/there");
        restore(&archive, &format!("{kind}:{}", missing.display())).expect(1).error();
    }
    assert_eq!(files(&full), [full.join(".mine")]);
    for existing in [&archive, &full, Path::new("/dev/null")] {
        let ran = restore(&archive, &format!("tar:{}", existing.display())).expect(1);
        assert!(ran.error().contains("exists already"), "{}", ran.error());
    }
    assert_eq!(fs::read(&archive).expect("still there"), sample().glad[0]);
    // An empty directory, and a new one, are fine.
    let empty = scratch.path().join("empty");
    fs::create_dir(&empty).expect("a directory");
    restore(&archive, &format!("mbox:{}", empty.display())).expect(0);
    restore(&archive, &format!("dir:{}", scratch.path().join("new").display())).expect(0);
}

#[test]
fn a_tar_that_was_restored_is_a_full_snapshot() {
    let scratch = scratch();
    let archive = write(&scratch, "glad.tar", &sample().glad.concat());
    let ran = restore(&archive, "tar:-").expect(0);
    let full = write(&scratch, "full.tar", &ran.stdout);
    let to = scratch.path().join("maildir");
    restore(&full, &format!("maildir:{}", to.display())).expect(0);
    assert_eq!(check_maildir(&to), MESSAGES[2] + 2);
    let ran = cylinder([OsString::from("list"), "--json".into(), full.into()]).expect(0);
    let listed = ran.document();
    assert_eq!(listed["snapshots"][0]["full"], true);
    assert_eq!(listed["snapshots"][0]["messages_new"], MESSAGES[2]);
}

#[test]
fn a_dry_run_says_what_would_be_and_does_nothing() {
    let scratch = scratch();
    let archive = write(&scratch, "glad.tar", &sample().glad.concat());
    let to = scratch.path().join("maildir");
    let arguments = ["restore", "glad", "--dry-run", "--to"].map(OsString::from).into_iter();
    let target = format!("maildir:{}", to.display());
    let from = [target.into(), "--from".into(), archive.into_os_string()];
    let ran = cylinder(arguments.chain(from)).expect(0);
    assert!(ran.text().contains("would restore snapshot 3 of glad, taken 2026-01-03T12:00:00Z"));
    assert!(ran.text().contains("9 messages"), "{}", ran.text());
    assert!(!to.exists());
}

/// A file system of so many KiB, gone when dropped.
struct Small(PathBuf);

impl Small {
    fn mount(test: &str, at: &Path, kib: u64) -> Option<Self> {
        fs::create_dir(at).expect("a directory");
        let size = format!("size={kib}k");
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(at).output();
        if !is_root() || !mount.is_ok_and(|mount| mount.status.success()) {
            skip(test, Need::Tools, "the right to mount a tmpfs");
            return None;
        }
        Some(Self(at.to_owned()))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(&self.0).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("{} is still mounted", self.0.display());
        }
    }
}

#[test]
fn a_full_disk_is_told_and_leaves_no_file() {
    let scratch = scratch();
    let conf = spool(&scratch.path().join("spool"), 60).imapd_conf;
    let at = scratch.path().join("small");
    let test = "a_full_disk_is_told_and_leaves_no_file";
    let Some(_small) = Small::mount(test, &at, 12) else { return };
    for options in [[].as_slice(), &["--compress", "zstd", "--jobs", "1"]] {
        let path = at.join("glad.tar").display().to_string();
        let ran = snapshot(&conf, &[&["-o", path.as_str()], options].concat()).expect(1);
        assert!(ran.error().contains("No space left"), "{}", ran.error());
        assert_eq!(files(&at), Vec::<PathBuf>::new());
    }
    // What was there stays as it was.
    let old = at.join("glad.tar");
    fs::write(&old, b"old").expect("it fits");
    snapshot(&conf, &["-o", &old.display().to_string()]).expect(1);
    assert_eq!(fs::read(&old).expect("still there"), b"old");
    assert_eq!(files(&at), std::slice::from_ref(&old));
    fs::remove_file(old).expect("removed");

    let whole = snapshot(&conf, &[]).expect(0);
    let archive = write(&scratch, "whole.tar", &whole.stdout);
    for kind in ["dir", "maildir", "mbox"] {
        let to = at.join(kind);
        let ran = restore(&archive, &format!("{kind}:{}", to.display())).expect(1);
        assert!(ran.error().contains("No space left"), "{}", ran.error());
        assert!(ran.hints("make room"), "{}", ran.stderr);
        let _ = fs::remove_dir_all(to);
    }
    let ran = restore(&archive, &format!("tar:{}", at.join("t").display())).expect(1);
    assert!(ran.error().contains("No space left"), "{}", ran.error());
    assert_eq!(files(&at), Vec::<PathBuf>::new());
}

#[test]
fn a_reader_that_goes_away_makes_no_noise_and_no_success() {
    let scratch = scratch();
    let conf = spool(&scratch.path().join("spool"), 900).imapd_conf;
    let script =
        "{ \"$0\" snapshot glad -C \"$1\"; echo \"exit $?\" >&2; } | head -c 10 > /dev/null";
    let ran = run(Command::new("/bin/sh").args(["-c", script, CYLINDER]).arg(&conf));
    assert_eq!(ran.stderr, "exit 1\n");
}

#[test]
fn where_nobody_listens_nothing_panics() {
    let scratch = scratch();
    let archive = write(&scratch, "glad.tar", &sample().glad[0]);
    let built = spool(&scratch.path().join("spool"), 5);
    let mailbox = files(&built.partition).into_iter().find(|path| path.ends_with("5."));
    fs::remove_file(mailbox.expect("a message")).expect("removed");
    let closed = || {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        writer
    };
    let code = |command: &mut Command| command.status().expect("it runs").code();
    let cylinder = || Command::new(CYLINDER);
    let to = format!("maildir:{}", scratch.path().join("maildir").display());
    for arguments in [
        vec!["list"],
        vec!["list", "--json"],
        vec!["restore", "glad", "--dry-run", "--to", &to, "--from"],
    ] {
        let mut command = cylinder();
        command.args(arguments).arg(&archive).stdout(closed()).stderr(Stdio::null());
        assert_eq!(code(&mut command), Some(1));
    }
    for (options, expected) in [([].as_slice(), 3), (&["--json"], 3), (&["--since", "/x"], 1)] {
        let mut command = cylinder();
        command.args(["snapshot", "glad", "-C"]).arg(&built.imapd_conf).args(options);
        command.stdout(Stdio::null()).stderr(closed());
        assert_eq!(code(&mut command), Some(expected), "{options:?}");
    }
}
