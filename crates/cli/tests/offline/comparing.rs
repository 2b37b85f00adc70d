//! `cylinder compare` between every pair of places.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use testkit::process;

use super::program::{CYLINDER, Ran, cylinder};
use super::replicating::Site;
use super::sample::spool;
use super::vaults::backup_arguments;

pub const LIMIT: std::time::Duration = std::time::Duration::from_secs(120);

/// One account of five messages at every kind of place, all of them alike.
pub struct Everywhere {
    pub site: Site,
    pub conf: PathBuf,
    pub partition: PathBuf,
    pub password: PathBuf,
}

impl Everywhere {
    pub fn new() -> Self {
        let site = Site::start();
        let master = spool(&site.root(), 5);
        site.send(&master.imapd_conf, &["--all"]).expect(0);
        let password = site.root().with_file_name("password");
        fs::write(&password, "secret\n").expect("written");
        fs::set_permissions(&password, fs::Permissions::from_mode(0o600)).expect("it is ours");
        let vault = site.root().with_file_name("vault").display().to_string();
        cylinder(backup_arguments(&master, &vault, &["glad"])).expect(0);
        let archive = site.root().with_file_name("glad.tar").display().to_string();
        let conf = master.imapd_conf.display().to_string();
        cylinder(["snapshot", "glad", "-C", &conf, "-o", &archive]).expect(0);
        Self { site, conf: master.imapd_conf, partition: master.partition, password }
    }

    /// The places, as they are typed.
    pub fn places(&self) -> [String; 4] {
        let beside = |name: &str| self.site.root().with_file_name(name).display().to_string();
        [
            format!("spool:{}", self.conf.display()),
            format!("csync://repl@{}", self.site.address()),
            format!("vault:{}", beside("vault")),
            beside("glad.tar"),
        ]
    }

    fn compare(&self, a: &str, b: &str, more: &[&str]) -> Ran {
        let mut command = Command::new(CYLINDER);
        command.args(["compare", a, b, "--settle", "0", "--password-file"]).arg(&self.password);
        let output = process::run(command.args(more), b"", LIMIT).expect("it ends");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!stderr.contains("panicked"), "{stderr}");
        Ran { code: output.status.code().expect("no signal"), stdout: output.stdout, stderr }
    }

    fn document(&self, a: &str, b: &str, more: &[&str], code: i32) -> Value {
        self.compare(a, b, &[more, &["--json"]].concat()).expect(code).document()
    }
}

#[test]
fn what_is_the_same_is_the_same_between_any_two_places() {
    let everywhere = Everywhere::new();
    let places = everywhere.places();
    for a in &places {
        for b in &places {
            for depth in ["--quick", "--records", "--full"] {
                let found = everywhere.document(a, b, &["glad", depth], 0);
                let account = &found["accounts"][0];
                assert_eq!(account["verdict"], "equal", "{a} {b} {depth}: {found:#}");
                assert_eq!(account["mailboxes"], 2, "{a} {b} {depth}: {found:#}");
                let messages = if depth == "--quick" { 0 } else { 7 };
                assert_eq!(account["messages"], messages, "{a} {b} {depth}: {found:#}");
            }
        }
    }
}

#[test]
fn what_one_side_alone_has_is_named_with_what_mends_it() {
    let everywhere = Everywhere::new();
    let [here, there, vault, _] = everywhere.places();
    spool(&everywhere.site.root(), 6);
    // Checksums tell that something is different, and records tell what.
    let found = everywhere.document(&here, &there, &["glad"], 4);
    let codes: Vec<&Value> = codes(&found["accounts"][0]);
    assert!(
        codes.contains(&&json!("last_uid")) && codes.contains(&&json!("sync_crc")),
        "{found:#}"
    );
    for (a, b, side) in [(&here, &there, "a"), (&there, &here, "b"), (&here, &vault, "a")] {
        let found = everywhere.document(a, b, &["glad", "--records"], 4);
        let account = &found["accounts"][0];
        let alone: Vec<&Value> = differences(account)
            .iter()
            .filter(|difference| difference["code"] == "message-only")
            .collect();
        assert_eq!(alone.len(), 1, "{found:#}");
        assert_eq!((&alone[0]["uid"], &alone[0]["side"]), (&json!(6), &json!(side)), "{found:#}");
    }
    let text = everywhere.compare(&here, &there, &["glad"]).expect(4).text();
    let mend = format!(
        "to mend it: cylinder replicate -C {} --to {there} --user glad",
        everywhere.conf.display()
    );
    assert!(text.starts_with("glad: differs\n") && text.contains(&mend), "{text}");
    assert!(text.ends_with("1 account: 0 equal, 1 differ, 0 cannot be told, 0 failed\n"), "{text}");
    // The snapshot is as old as the replica.
    let found = everywhere.document(&vault, &there, &["glad", "--full", "--at", "1"], 0);
    assert_eq!(found["equal"], 1, "{found:#}");
}

#[test]
fn bytes_that_are_wrong_show_where_they_are_read() {
    let everywhere = Everywhere::new();
    let [here, there, vault, _] = everywhere.places();
    flip(&file_of(&everywhere.partition, 3));
    for other in [&there, &vault] {
        assert_eq!(everywhere.document(&here, other, &["glad", "--records"], 0)["equal"], 1);
        let found = everywhere.document(&here, other, &["glad", "--full"], 4);
        let account = &found["accounts"][0];
        let damaged = differences(account);
        assert_eq!(damaged.len(), 1, "{found:#}");
        let place = (&damaged[0]["code"], &damaged[0]["side"], &damaged[0]["uid"]);
        assert_eq!(place, (&json!("content"), &json!("a"), &json!(3)), "{found:#}");
        assert_ne!(damaged[0]["guid"], damaged[0]["found"], "{found:#}");
        let mend = account["mend"][0].as_str().expect("a command");
        assert!(mend.starts_with("cylinder heal -C ") && mend.ends_with(other.as_str()), "{mend}");
    }
    fs::remove_file(file_of(&everywhere.partition, 3)).expect("it is ours");
    let found = everywhere.document(&there, &here, &["glad", "--full"], 4);
    let damaged = &differences(&found["accounts"][0])[0];
    assert_eq!((&damaged["side"], &damaged["uid"]), (&json!("b"), &json!(3)), "{found:#}");
    assert!(damaged["why"].is_string(), "{found:#}");
}

#[test]
fn all_accounts_are_those_of_both_places() {
    let everywhere = Everywhere::new();
    let [here, there, vault, archive] = everywhere.places();
    let found = everywhere.document(&here, &there, &["--all"], 0);
    assert_eq!(found["equal"], 2, "{found:#}");
    // Of iris, the vault has nothing.
    for (a, b, side) in [(&here, &vault, "a"), (&archive, &here, "b")] {
        let found = everywhere.document(a, b, &["--all"], 4);
        assert_eq!((&found["equal"], &found["differ"]), (&json!(1), &json!(1)), "{found:#}");
        let iris = &differences(&found["accounts"][1])[0];
        assert_eq!((&iris["code"], &iris["side"]), (&json!("account-only"), &json!(side)));
    }
    let nobody = everywhere.compare(&there, &vault, &["nobody"]).expect(1);
    assert!(nobody.stderr.contains("no such account at either place"), "{}", nobody.stderr);
}

#[test]
fn what_cannot_be_compared_is_said() {
    let everywhere = Everywhere::new();
    let [here, there, ..] = everywhere.places();
    let all = everywhere.compare(&there, &there, &["--all"]).expect(2);
    assert!(all.error().contains("cannot list its accounts"), "{}", all.stderr);
    let at = everywhere.compare(&here, &there, &["glad", "--at", "1"]).expect(2);
    assert!(at.error().contains("neither place has any"), "{}", at.stderr);
    let nowhere = everywhere.compare(&here, "imap://x", &["glad"]).expect(2);
    assert!(nowhere.error().contains("imap://x is no place"), "{}", nowhere.stderr);
    let closed = everywhere.compare(&here, "csync://repl@127.0.0.1:1", &["glad"]).expect(1);
    assert!(closed.stderr.contains("127.0.0.1:1"), "{}", closed.stderr);
    // A damaged index is no difference.
    let index = file_of(&everywhere.partition, 3).with_file_name("cyrus.index");
    fs::write(&index, b"no index").expect("it is ours");
    let found = everywhere.document(&here, &there, &["glad"], 4);
    let account = &found["accounts"][0];
    assert_eq!(account["verdict"], "cannot-tell", "{found:#}");
    assert_eq!(account["unclear"][0]["side"], "a", "{found:#}");
}

fn differences(account: &Value) -> &Vec<Value> {
    account["differences"].as_array().expect("differences")
}

fn codes(account: &Value) -> Vec<&Value> {
    differences(account).iter().map(|difference| &difference["code"]).collect()
}

/// The file of a message in INBOX, which has more messages than any other mailbox.
pub fn file_of(partition: &Path, uid: u32) -> PathBuf {
    let mut found = None;
    let mut open = vec![partition.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).expect("a directory").flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
            } else if path.ends_with("5.") {
                found = Some(path.with_file_name(format!("{uid}.")));
            }
        }
    }
    found.expect("a mailbox of five messages")
}

/// Changes one bit.
pub fn flip(path: &Path) {
    let mut bytes = fs::read(path).expect("it is there");
    bytes[10] ^= 1;
    fs::write(path, bytes).expect("it is ours");
}
