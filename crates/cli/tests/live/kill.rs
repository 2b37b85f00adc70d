//! A snapshot that is killed leaves nothing behind: no file, no lock, no trouble for the next.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Instant;

use testkit::imap::Append;
use testkit::locks::{LockMode, LockProcess};
use testkit::mail::{MailGenerator, Sizes};
use testkit::skip::has_tool_or_skip;
use testkit::{Cyrus, ImapClient, cyrus_or_skip};

use crate::chain_check;
use crate::program::{CYLINDER, Snapshot};
use crate::restored::{create_user, scratch};
use crate::waiting::Running;

/// At how many moments.
const KILLS: u32 = 30;

const STRACE: &str = "/usr/bin/strace";

/// A server, and a directory with a snapshot in it that the next one continues.
struct Scene {
    cyrus: Cyrus,
    client: ImapClient,
    probe: LockProcess,
    directory: tempfile::TempDir,
}

impl Scene {
    fn new(test: &str) -> Option<Self> {
        let builder = cyrus_or_skip(test)?;
        let probe = LockProcess::start_or_skip(test)?;
        let cyrus = builder.start().expect("Cyrus starts");
        create_user(&cyrus, "glad");
        let mut client = cyrus.imap_as("glad").expect("a client");
        client.create("INBOX/Sent").expect("a folder");
        for folder in ["INBOX", "INBOX/Sent"] {
            let messages = MailGenerator::new(1, Sizes::About(20_000)).messages(150);
            let appends: Vec<_> =
                messages.iter().map(|message| Append { message, ..Append::default() }).collect();
            client.append_all(folder, &appends).expect("appends");
        }
        client.select("INBOX").expect("INBOX");
        Some(Self { cyrus, client, probe, directory: scratch() })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The names in the directory, sorted.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.directory.path()).expect("a directory");
        let mut names: Vec<String> = entries
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    fn snapshot(&self) -> Snapshot<'_> {
        Snapshot::full(self.cyrus.imapd_conf(), "glad")
    }

    /// Nobody holds a lock any more, and clients can work.
    fn assert_free(&mut self) {
        let locks = self.cyrus.config_directory().join("lock");
        for entry in fs::read_dir(&locks).expect("a lock directory") {
            let path = entry.expect("an entry").path();
            if path.extension().is_some_and(|extension| extension == "lock") {
                let blocked = self.probe.would_block(&path, LockMode::Exclusive);
                assert!(!blocked.expect("an answer"), "{} is locked", path.display());
            }
        }
        self.client.store("1:5", "+FLAGS", &["Work"]).expect("a client can work");
        self.client.store("1:5", "-FLAGS", &["Work"]).expect("a client can work");
    }
}

#[test]
fn a_snapshot_killed_at_any_moment_leaves_nothing_behind() {
    let Some(mut scene) = Scene::new("a_snapshot_killed_at_any_moment") else { return };
    let output = scene.path("glad.tar");
    let start = Instant::now();
    scene.snapshot().take(&output);
    let whole_run = start.elapsed();
    fs::remove_file(&output).expect("gone");

    let mut finished = 0;
    for kill in 1..=KILLS {
        let mut command = Command::new(CYLINDER);
        let command = command.args(scene.snapshot().arguments()).arg("-o").arg(&output);
        let running = Running::start(command);
        // The moments are spread over the time that a run took; when they come is no matter.
        thread::sleep(whole_run * kill / KILLS);
        running.kill();
        match scene.names().as_slice() {
            [] => {}
            [name] if name == "glad.tar" => {
                chain_check::check(&output, "glad");
                fs::remove_file(&output).expect("gone");
                finished += 1;
            }
            other => panic!("killed after {kill}/{KILLS} of a run, it left {other:?}"),
        }
        scene.assert_free();
    }
    println!("a run takes {whole_run:?}; {finished} of {KILLS} were over before they were killed");
    assert!(finished < KILLS, "none was killed");
    scene.snapshot().take(&output);
    chain_check::check(&output, "glad");
}

#[test]
fn a_snapshot_killed_while_it_gets_its_name_leaves_a_whole_one_or_none() {
    let test = "a_snapshot_killed_while_it_gets_its_name";
    let Some(mut scene) = Scene::new(test) else { return };
    if !has_tool_or_skip(test, STRACE) {
        return;
    }
    let (output, full) = (scene.path("glad.tar"), scene.path("full.tar"));
    scene.snapshot().take(&full);
    for call in ["fsync", "linkat", "renameat", "renameat2", "rename"] {
        kill_at(call, &scene, &output);
        match scene.names().as_slice() {
            [name] if name == "full.tar" => {}
            [_, name] if name == "glad.tar" => {
                chain_check::check(&output, "glad");
                fs::remove_file(&output).expect("gone");
            }
            other => panic!("killed at {call}, it left {other:?}"),
        }
        scene.assert_free();
    }
}

#[test]
fn a_snapshot_killed_while_it_replaces_another_leaves_one_of_them() {
    let test = "a_snapshot_killed_while_it_replaces_another";
    let Some(mut scene) = Scene::new(test) else { return };
    if !has_tool_or_skip(test, STRACE) {
        return;
    }
    let output = scene.path("glad.tar");
    for call in ["fsync", "linkat", "renameat", "renameat2", "rename"] {
        scene.snapshot().take(&output);
        kill_at(call, &scene, &output);
        chain_check::check(&output, "glad");
        scene.assert_free();
        scene.snapshot().take(&output);
        chain_check::check(&output, "glad");
    }
}

/// Runs a snapshot that is killed when it begins such a call for the first time, if it does.
fn kill_at(call: &str, scene: &Scene, output: &Path) {
    let mut command = Command::new(STRACE);
    command.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}")]);
    command.args(["-e", &format!("inject={call}:signal=SIGKILL:when=1")]).arg("--").arg(CYLINDER);
    command.args(scene.snapshot().arguments()).arg("-o").arg(output);
    let ran = Running::start(&mut command).end();
    assert!([-1, 0, 137].contains(&ran.code), "{}", ran.stderr);
}
