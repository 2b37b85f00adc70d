//! A vault in a directory: what goes in comes out, also after a fork, a stop, and a prune.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;
use testkit::spool_builder::Spool;

use crate::program::{CYLINDER, Ran, cylinder, run};
use crate::sample::{check_maildir, files, scratch, spool};

/// A vault beside a spool whose INBOX of glad grows.
pub struct Scene {
    pub scratch: TempDir,
}

impl Scene {
    pub fn new() -> Self {
        Self { scratch: scratch() }
    }

    /// Three snapshots of glad, with 5, 8 and 9 messages in INBOX, and one of iris.
    pub fn grown() -> Self {
        let scene = Self::new();
        for messages in [5, 8, 9] {
            scene.backup(messages).expect(0);
        }
        let spool = scene.spool(9);
        cylinder(backup_arguments(&spool, &scene.vault(), &["iris"])).expect(0);
        scene
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    pub fn vault(&self) -> String {
        self.path("vault").display().to_string()
    }

    /// The spool, with that many messages in INBOX.
    pub fn spool(&self, messages: usize) -> Spool {
        spool(&self.path("spool"), messages)
    }

    /// Backs glad up, as of an INBOX with so many messages.
    pub fn backup(&self, messages: usize) -> Ran {
        let spool = self.spool(messages);
        cylinder(backup_arguments(&spool, &self.vault(), &["glad"]))
    }

    /// A command about glad in the vault.
    pub fn glad(&self, verb: &str, more: &[&str]) -> Ran {
        cylinder([&[verb, "--vault", &self.vault(), "glad"][..], more].concat())
    }

    /// How many messages come back into a maildir, at that snapshot.
    pub fn restored(&self, at: &str) -> usize {
        let out = self.path("out");
        if out.exists() {
            fs::remove_dir_all(&out).expect("a directory");
        }
        let to = format!("maildir:{}", out.display());
        self.glad("restore", &["--at", at, "--to", &to]).expect(0);
        check_maildir(&out)
    }

    pub fn history(&self) -> Value {
        self.glad("history", &["--json"]).expect(0).document()
    }

    /// The numbers of the snapshots.
    pub fn numbers(&self) -> Vec<u64> {
        let history = self.history();
        let snapshots = history["snapshots"].as_array().expect("a list");
        snapshots.iter().map(|snapshot| snapshot["seq"].as_u64().expect("a number")).collect()
    }

    /// The same, also where there is nothing left.
    pub fn numbers_or_none(&self) -> Vec<u64> {
        let ran = self.glad("history", &["--json"]);
        if ran.code == 0 { self.numbers() } else { Vec::new() }
    }

    /// The objects of glad, by name.
    pub fn objects(&self) -> BTreeMap<String, PathBuf> {
        objects(&self.path("vault"))
    }
}

/// The objects of glad in that vault, by name.
pub fn objects(vault: &Path) -> BTreeMap<String, PathBuf> {
    objects_of(vault, "glad")
}

/// The objects of an account in that vault, by name.
pub fn objects_of(vault: &Path, account: &str) -> BTreeMap<String, PathBuf> {
    let name = |path: &PathBuf| path.file_name().expect("a name").to_string_lossy().into_owned();
    files(&vault.join("accounts").join(account))
        .into_iter()
        .map(|path| (name(&path), path))
        .collect()
}

pub fn backup_arguments(spool: &Spool, vault: &str, accounts: &[&str]) -> Vec<String> {
    let conf = spool.imapd_conf.display().to_string();
    let mut arguments = vec!["backup".to_owned(), "-C".to_owned(), conf];
    arguments.extend(["--vault", vault, "--json"].map(str::to_owned));
    arguments.extend(accounts.iter().map(|account| (*account).to_owned()));
    arguments
}

/// The messages of the copies in Sent, which are restored beside those in INBOX.
pub const SENT: usize = 2;

#[test]
fn every_snapshot_comes_back_and_nothing_new_costs_no_object() {
    let scene = Scene::new();
    for (seq, messages) in [5, 8, 9].into_iter().enumerate() {
        let report = scene.backup(messages).expect(0).document();
        assert_eq!(report["accounts"][0]["snapshot"]["seq"], seq + 1, "{report}");
        assert_eq!(report["stored"], 1);
    }
    let before = scene.objects();
    assert_eq!(before.len(), 3);
    let report = scene.backup(9).expect(0).document();
    assert_eq!(report["accounts"][0]["unchanged_since"], 3, "{report}");
    assert_eq!(scene.objects(), before);
    assert_eq!(scene.numbers(), [1, 2, 3]);
    for (at, messages) in [("1", 5), ("2", 8), ("3", 9)] {
        assert_eq!(scene.restored(at), messages + SENT);
    }
    scene.glad("restore", &["--at", "4", "--to", "maildir:/nowhere"]).expect(1);
    let verified = cylinder(["verify", "--vault", &scene.vault(), "--read-data", "--json"]);
    let verified = verified.expect(0).document();
    assert_eq!(verified["accounts"][0]["messages_read"], 9, "{verified}");
    let noted = &scene.history()["verified"];
    assert_eq!((&noted["percent"], &noted["findings"]), (&100.into(), &0.into()), "{noted}");
    let text = scene.glad("history", &[]).expect(0).text();
    assert!(text.contains("100 % of the messages read: 0 findings"), "{text}");
}

#[test]
fn all_accounts_are_backed_up_and_a_bad_one_stops_none() {
    let scene = Scene::new();
    let spool = scene.spool(5);
    let mut arguments = backup_arguments(&spool, &scene.vault(), &["glad", "nobody", "iris"]);
    let ran = cylinder(&arguments).expect(1);
    let report = ran.document();
    assert_eq!((&report["stored"], &report["failed"]), (&2.into(), &1.into()), "{report}");
    assert!(report["accounts"][2]["error"]["error"].as_str().expect("text").contains("nobody"));
    arguments.truncate(arguments.len() - 3);
    arguments.push("--all".to_owned());
    let report = cylinder(&arguments).expect(0).document();
    assert_eq!((&report["stored"], &report["unchanged"]), (&0.into(), &2.into()), "{report}");
}

#[test]
fn an_account_that_is_not_there_is_never_said_to_be_whole() {
    let scene = Scene::new();
    scene.backup(5).expect(0);
    let vault = scene.vault();
    for arguments in [&["verify"][..], &["prune", "--keep-last", "1"], &["history"]] {
        let ran = cylinder([arguments, &["--vault", &vault, "glda"]].concat()).expect(1);
        assert!(
            ran.error().contains("holds nothing of glda") && ran.hints("glad"),
            "{arguments:?}"
        );
    }
    assert!(!scene.path("vault/accounts/glda").exists(), "a note of nothing was written");
}

#[test]
fn plain_tools_restore_the_newest_state() {
    let scene = Scene::new();
    scene.backup(5).expect(0);
    scene.backup(9).expect(0);
    let out = scene.path("plain");
    fs::create_dir(&out).expect("a directory");
    let script = "zstdcat \"$0\"/accounts/glad/*.tar.zst | tar x -C \"$1\"";
    let mut command = Command::new("/bin/sh");
    run(command.args(["-c", script]).arg(scene.vault()).arg(&out)).expect(0);
    let messages = files(&out.join("glad/messages"));
    assert_eq!(messages.len(), 9);
    let inbox = fs::read_link(out.join("glad/folders/INBOX")).expect("a link");
    let inbox = out.join("glad/folders").join(inbox);
    assert!((1..=9).all(|uid| inbox.join(format!("{uid}.")).exists()));
}

#[test]
fn a_message_is_shown_by_uid_and_by_guid_as_it_was() {
    let scene = Scene::new();
    scene.backup(5).expect(0);
    scene.backup(9).expect(0);
    let by_uid = scene.glad("show", &["--mailbox", "INBOX", "--uid", "9"]).expect(0).stdout;
    let guid = testkit::imap::guid_of(&by_uid).to_string();
    assert_eq!(scene.glad("show", &["--guid", &guid]).expect(0).stdout, by_uid);
    let ran = scene.glad("show", &["--guid", &guid, "--at", "1"]).expect(1);
    assert!(ran.error().contains("holds no message"), "{}", ran.stderr);
    let ran = scene.glad("show", &["--mailbox", "INBOX", "--uid", "9", "--at", "1"]).expect(1);
    assert!(ran.error().contains("has no message 9"), "{}", ran.stderr);
    let ran = scene.glad("show", &["--mailbox", "Inbux", "--uid", "9"]).expect(1);
    assert!(ran.hints("INBOX.Sent"), "{}", ran.stderr);
    scene.glad("show", &["--guid", "12"]).expect(2);
}

/// Two machines that back up the same account at the same time: each saw the vault without what
/// the other was about to put there.
#[test]
fn a_fork_is_shown_joined_and_nothing_of_it_is_lost() {
    let scene = Scene::new();
    scene.backup(5).expect(0);
    let other = scene.path("other");
    let mut copy = Command::new("/bin/cp");
    run(copy.arg("-a").arg(scene.path("vault")).arg(&other)).expect(0);
    scene.backup(8).expect(0);
    let elsewhere = scene.spool(9);
    let arguments = backup_arguments(&elsewhere, &other.display().to_string(), &["glad"]);
    cylinder(arguments).expect(0);
    for (name, path) in objects(&other) {
        fs::copy(path, scene.path("vault/accounts/glad").join(name)).expect("a copy");
    }
    assert_eq!(scene.numbers(), [1, 2, 2], "both are shown");
    assert_eq!(scene.history()["heads"].as_array().expect("a list").len(), 2);

    // Joined even if nothing has changed since.
    let report = scene.backup(9).expect(0).document();
    let joined = &report["accounts"][0]["snapshot"]["joined"];
    assert_eq!(joined.as_array().expect("a list").len(), 1, "{report}");
    assert_eq!(scene.numbers(), [1, 2, 2, 3]);
    assert_eq!(scene.history()["heads"].as_array().expect("a list").len(), 1);
    assert_eq!(scene.restored("3"), 9 + SENT);
    let report = scene.backup(9).expect(0).document();
    assert_eq!(report["unchanged"], 1, "{report}");
    cylinder(["verify", "--vault", &scene.vault(), "--read-data"]).expect(0);
}

#[test]
fn only_a_vault_is_taken_for_one() {
    let scene = Scene::new();
    let spool = scene.spool(5);
    let nothing = scene.path("nothing").display().to_string();
    let ran = cylinder(["history", "--vault", &nothing, "glad"]).expect(1);
    assert!(ran.error().contains("no place for a vault"), "{}", ran.stderr);
    let full = scene.path("full");
    fs::create_dir(&full).expect("a directory");
    let ran = cylinder(["history", "--vault", &full.display().to_string(), "glad"]).expect(1);
    assert!(ran.error().contains("is not a vault"), "{}", ran.stderr);
    fs::write(full.join("mine"), "x").expect("a file");
    let ran = cylinder(backup_arguments(&spool, &full.display().to_string(), &["glad"])).expect(1);
    assert!(ran.stderr.contains("something else than a vault"), "{}", ran.stderr);
    let deep = scene.path("a/b").display().to_string();
    let ran = cylinder(backup_arguments(&spool, &deep, &["glad"])).expect(1);
    assert!(ran.stderr.contains("parent directory"), "{}", ran.stderr);
    scene.backup(5).expect(0);
    fs::write(scene.path("vault/cylinder-vault"), "cylinder vault 2\n").expect("a marker");
    let ran = scene.glad("history", &[]).expect(1);
    assert!(ran.error().contains("newer kind"), "{}", ran.stderr);
    let ran = cylinder(["backup", "--vault", "gopher://x/y", CYLINDER]).expect(1);
    assert!(ran.error().contains("no place for a vault"), "{}", ran.stderr);
}

#[test]
fn nobody_else_may_read_a_vault() {
    use std::os::unix::fs::PermissionsExt;
    let scene = Scene::new();
    scene.backup(5).expect(0);
    for path in files(&scene.path("vault")) {
        let mode = fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o077, 0, "{} has mode {mode:o}", path.display());
    }
}

/// Written by the first release, as [`Scene`] does it: snapshots of 5, 8 and 9 messages, the first
/// of which was pruned before the third was taken. It is never made anew.
#[test]
fn the_vault_of_every_release_is_opened() {
    let scene = Scene::new();
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/vault-1");
    run(Command::new("/bin/cp").arg("-a").arg(kept).arg(scene.path("vault"))).expect(0);
    assert_eq!(scene.numbers(), [2, 3]);
    assert_eq!(scene.restored("2"), 8 + SENT);
    assert_eq!(scene.restored("3"), 9 + SENT);
    cylinder(["verify", "--vault", &scene.vault(), "--read-data"]).expect(0);
    scene.backup(5).expect(0);
    assert_eq!(scene.numbers(), [2, 3, 4]);
    assert_eq!(scene.restored("4"), 5 + SENT);
}
