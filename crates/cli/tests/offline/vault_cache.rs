//! What is kept on this machine of a vault that is far away.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use testkit::s3::S3Server;

use crate::program::{CYLINDER, Ran, run};
use crate::vaults::{Scene, backup_arguments};

/// A vault in a bucket with two snapshots of two accounts, and a directory for what is kept of it.
struct Far {
    server: S3Server,
    scene: Scene,
    vault: String,
    cache: PathBuf,
}

impl Far {
    fn new() -> Self {
        let server = S3Server::start().expect("a server");
        let scene = Scene::new();
        let (vault, cache) = (server.url("mail"), scene.path("cache"));
        let far = Self { server, scene, vault, cache };
        for messages in [40, 50] {
            far.back_up(messages);
        }
        far
    }

    fn back_up(&self, messages: usize) {
        let spool = self.scene.spool(messages);
        let arguments = backup_arguments(&spool, &self.vault, &["glad", "iris"]);
        self.run(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(CYLINDER);
        command.args(arguments).envs(self.server.settings());
        command.env("CYLINDER_CACHE_DIR", &self.cache);
        command
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        run(&mut self.command(arguments)).expect(0)
    }

    /// What a command says, and how many requests it took.
    fn counted(&self, arguments: &[&str]) -> (Vec<u8>, u64) {
        let before = self.server.requests();
        let ran = self.run(arguments);
        (ran.stdout, self.server.requests() - before)
    }

    fn show(&self) -> (Vec<u8>, u64) {
        self.counted(&["show", "--vault", &self.vault, "glad", "--mailbox", "INBOX", "--uid", "3"])
    }
}

fn files(below: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(below).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[test]
fn a_message_takes_three_requests_whoever_asked_before() {
    let far = Far::new();
    let (first, _) = far.show();
    let (again, requests) = far.show();
    assert_eq!(first, again);
    assert!(requests <= 3, "{requests} requests");
    assert!(first.starts_with(b"From") || first.windows(8).any(|word| word == b"Subject:"));
}

#[test]
fn an_account_without_anything_new_takes_one_request() {
    let far = Far::new();
    far.back_up(50);
    let before = far.server.requests();
    far.back_up(50);
    // The marker, and a listing of each account.
    assert_eq!(far.server.requests() - before, 3);
}

#[test]
fn nothing_depends_on_what_is_kept() {
    let far = Far::new();
    let (first, _) = far.show();
    assert!(!files(&far.cache).is_empty());
    for file in files(&far.cache) {
        fs::write(&file, b"something else").expect("written");
    }
    assert_eq!(far.show().0, first);
    assert_eq!(far.show().0, first);
    fs::remove_dir_all(&far.cache).expect("removed");
    fs::write(&far.cache, b"no directory").expect("written");
    assert_eq!(far.show().0, first);
}

#[test]
fn what_is_gone_is_not_remembered() {
    let far = Far::new();
    far.show();
    far.run(&["history", "--vault", &far.vault, "iris"]);
    far.run(&["prune", "--vault", &far.vault, "--forget", "glad", "--accept-removals"]);
    let ran = run(&mut far.command(&["history", "--vault", &far.vault, "glad"])).expect(1);
    assert!(ran.error().contains("holds nothing of glad"), "{}", ran.stderr);
    far.run(&["prune", "--vault", &far.vault, "--forget", "iris", "--accept-removals"]);
    far.server.remove("mail/cylinder-vault");
    let ran = run(&mut far.command(&["history", "--vault", &far.vault, "glad"])).expect(1);
    assert!(ran.error().contains("is not a vault"), "{}", ran.stderr);
}

#[test]
fn verify_believes_the_store_alone() {
    let far = Far::new();
    let verify = ["verify", "--vault", &far.vault, "--read-data"];
    let (_, without) = far.counted(&verify);
    far.show();
    let (_, with) = far.counted(&verify);
    // The second finds what the first noted.
    assert!(with >= without, "{with} requests with what was kept, {without} without");
}
