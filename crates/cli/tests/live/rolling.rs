//! Whatever changes on a real master reaches a real replica while it is followed.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tempfile::TempDir;
use testkit::imap::Append;
use testkit::mail::{MailGenerator, Sizes};
use testkit::process::{Group, wait_until};
use testkit::{Cyrus, ImapClient, cyrus_or_skip};

use crate::program::{CYLINDER, PATIENCE, Ran, run};

/// How a master is followed, again and again, with the same state.
pub struct Rolling {
    pub group: Option<Group>,
    directory: TempDir,
    conf: PathBuf,
    to: SocketAddr,
    log: PathBuf,
}

impl Rolling {
    /// Follows the master with that configuration.
    pub fn start(conf: &Path, to: SocketAddr) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let password = directory.path().join("password");
        fs::write(&password, "any\n").expect("written");
        fs::set_permissions(&password, fs::Permissions::from_mode(0o600)).expect("it is ours");
        // As far as Cyrus has not made it yet, only a kill could make it appear too late.
        let log = conf.parent().expect("a directory").join("configdirectory/sync");
        let mut rolling = Self { group: None, directory, conf: conf.to_owned(), to, log };
        rolling.resume();
        rolling
    }

    pub fn command(&self) -> Command {
        let mut command = Command::new(CYLINDER);
        command.args(["replicate", "--rolling", "--to", &format!("csync://cyrus@{}", self.to)]);
        command.arg("-C").arg(&self.conf).arg("--state").arg(self.directory.path().join("state"));
        command.arg("--password-file").arg(self.password());
        command
    }

    /// Goes on after a kill.
    pub fn resume(&mut self) {
        let log = File::options().append(true).create(true).open(self.log_path());
        let mut command = self.command();
        command.arg("--status-file").arg(self.directory.path().join("status.json"));
        command.stderr(log.expect("a file"));
        self.group = Some(Group::spawn_guarded(&mut command).expect("it starts"));
    }

    /// Kills it, as `kill -9` does.
    pub fn kill(&mut self) {
        self.group = None;
    }

    /// Tells it to end, and returns its exit code.
    pub fn end(&mut self) -> Option<i32> {
        let mut group = self.group.take().expect("it runs");
        group.terminate(PATIENCE);
        group.leader().wait().expect("it ended").code()
    }

    /// The file of a password that any replica takes.
    pub fn password(&self) -> PathBuf {
        self.directory.path().join("password")
    }

    fn log_path(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    /// All that it has said.
    pub fn said(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    pub fn status(&self) -> Value {
        let text = fs::read(self.directory.path().join("status.json")).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Whether it has nothing to do any more, and nothing is left as it is.
    pub fn is_settled(&self) -> bool {
        let status = self.status();
        let has_log = ["log", "log-run"].iter().any(|name| self.log.join(name).exists());
        !has_log
            && status["backlog"]["left"] == 0
            && status["running"] == serde_json::json!([])
            && status["quarantine"] == serde_json::json!([])
    }

    /// Waits until that is so of what has happened by now.
    #[track_caller]
    pub fn settle(&self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later").as_secs();
        let is_news = || self.status()["updated_at"].as_u64() > Some(now + 1);
        let is_settled = wait_until(PATIENCE, || is_news() && self.is_settled());
        assert!(is_settled, "{:#}\n{}", self.status(), self.said());
    }

    /// Waits until what is left as it is satisfies a test.
    #[track_caller]
    pub fn await_quarantine(&self, what: impl Fn(&[Value]) -> bool) {
        let holds = || what(self.status()["quarantine"].as_array().map_or(&[], Vec::as_slice));
        assert!(wait_until(PATIENCE, holds), "{:#}\n{}", self.status(), self.said());
    }

    pub fn read_status(&self) -> Ran {
        run(self.command().arg("--status"))
    }
}

/// A master, and a replica of it.
struct Pair {
    master: Cyrus,
    replica: Cyrus,
}

impl Pair {
    fn start(test: &str, options: &[(&str, &str)]) -> Option<Self> {
        let builder = cyrus_or_skip(test)?.conversations(true).option("allowusermoves", "yes");
        let replica = builder.clone().start().expect("a replica");
        let builder =
            options.iter().fold(builder, |builder, (key, value)| builder.option(key, value));
        let master = builder.option("sync_log", "yes").start().expect("a master");
        master.create_user("glad").expect("a user");
        Some(Self { master, replica })
    }

    fn follow(&self) -> Rolling {
        Rolling::start(self.master.imapd_conf(), self.replica.sync_address())
    }

    #[track_caller]
    fn compare(&self, user: &str) {
        let differences = differences(&self.master, &self.replica, user);
        assert!(differences.is_empty(), "{user}: {differences:#?}");
    }

    /// How many messages the replica has in a folder.
    fn there(&self, user: &str, folder: &str) -> Option<u64> {
        let mut client = self.replica.imap_as(user).ok()?;
        client.status(folder, &["MESSAGES"]).ok()?.first().copied()
    }
}

/// What a user sees differently on a replica.
pub fn differences(master: &Cyrus, replica: &Cyrus, user: &str) -> Vec<String> {
    let mut views = [master, replica].map(|server| server.view(user).expect("a view"));
    for folder in views.iter_mut().flat_map(|view| view.folders.values_mut()) {
        // Each server's own log of itself.
        folder.annotations.retain(|entry, _| !entry.ends_with("/lastpop"));
    }
    views[0].differences(&views[1])
}

fn append(imap: &mut ImapClient, folder: &str, message: &[u8]) {
    imap.append(folder, Append { message, ..Append::default() }).expect("appended");
}

#[test]
fn whatever_changes_is_on_the_replica_a_moment_later() {
    let Some(pair) = Pair::start("whatever_changes_is_on_the_replica", &[]) else { return };
    let mut rolling = pair.follow();
    let mut imap = pair.master.imap_as("glad").expect("a client");
    let mut mail = MailGenerator::new(1, Sizes::Small);
    for folder in ["INBOX/two words", "INBOX/it's #1", "INBOX/Old", "INBOX/Gone"] {
        imap.create(folder).expect("created");
        append(&mut imap, folder, &mail.message());
    }
    imap.subscribe("INBOX/Old").expect("subscribed");
    imap.rename("INBOX/Old", "INBOX/New").expect("renamed");
    imap.delete("INBOX/Gone").expect("deleted");
    rolling.settle();
    pair.compare("glad");

    // From a delivered message to its being on the replica.
    let mut lmtp = pair.master.lmtp().expect("a client");
    let mut there = pair.replica.imap_as("glad").expect("a client");
    let mut took: Vec<Duration> = (1..=20_u64)
        .map(|number| {
            let begun = Instant::now();
            lmtp.deliver(&["glad"], &mail.message()).expect("delivered");
            let arrived = || there.status("INBOX", &["MESSAGES"]).expect("it is there") == [number];
            let arrived = wait_until(PATIENCE, arrived);
            assert!(arrived, "{number}: {:#}\n{}", rolling.status(), rolling.said());
            begun.elapsed()
        })
        .collect();
    took.sort();
    println!("delivered and replicated: median {:?}, longest {:?}", took[10], took[19]);

    // Users are created, renamed and deleted; of one of these, nothing but what is kept is left.
    let mut admin = pair.master.admin().expect("an admin");
    for user in ["bob", "carol"] {
        pair.master.create_user(user).expect("a user");
        lmtp.deliver(&[user], &mail.message()).expect("delivered");
    }
    rolling.settle();
    assert_eq!(pair.there("carol", "INBOX"), Some(1));
    admin.rename("user/bob", "user/robert").expect("renamed");
    admin.set_acl("user/carol", "cyrus", "lrswipkxtecda").expect("granted");
    admin.delete("user/carol").expect("deleted");
    rolling.settle();
    pair.compare("robert");
    assert_eq!((pair.there("bob", "INBOX"), pair.there("carol", "INBOX")), (None, None));
    let kept = pair.replica.admin().expect("an admin").list_attributes("DELETED/user/carol*");
    assert_eq!(kept.expect("listed").len(), 1);

    // A folder is given to somebody else: it does not leave the replica in between.
    admin.set_acl("user/glad/New", "cyrus", "lrswipkxtecda").expect("granted");
    admin.rename("user/glad/New", "user/robert/New").expect("renamed");
    rolling.settle();
    pair.compare("glad");
    pair.compare("robert");

    let status = rolling.read_status().expect(0);
    assert!(String::from_utf8_lossy(&status.stdout).contains("left as it is: 0"), "{status:?}");
    assert_eq!(rolling.end(), Some(0));
    let said = rolling.said();
    assert!(!said.contains("left as it is"), "{said}");
    rolling.read_status().expect(1);
}

#[test]
fn one_damaged_mailbox_stops_no_other_and_is_told_once_and_heals() {
    let Some(pair) = Pair::start("one_damaged_mailbox_stops_no_other", &[]) else { return };
    let mut imap = pair.master.imap_as("glad").expect("a client");
    imap.create("INBOX/a").expect("created");
    imap.create("INBOX/b").expect("created");
    let mut mail = MailGenerator::new(2, Sizes::Small);
    append(&mut imap, "INBOX/a", &mail.message());
    let lost = pair.master.mailbox_directory("user/glad/a").expect("a directory").join("1.");
    let hidden = lost.with_file_name("hidden");
    fs::rename(&lost, &hidden).expect("it is ours");
    let mut rolling = pair.follow();
    rolling.await_quarantine(|ill| {
        ill.iter().any(|ill| ill["mailbox"] == "user.glad.a" && ill["code"] == "damaged")
    });
    // It is tried again, and the others go on meanwhile.
    let is_told = || rolling.said().contains("user.glad.a is left as it is: ");
    assert!(wait_until(PATIENCE, is_told), "{}", rolling.said());
    append(&mut imap, "INBOX/b", &mail.message());
    append(&mut imap, "INBOX/a", &mail.message());
    assert!(wait_until(PATIENCE, || pair.there("glad", "INBOX/b") == Some(1)));
    let status = rolling.read_status().expect(3);
    assert!(String::from_utf8_lossy(&status.stdout).contains("  user.glad.a: damaged"));
    // A daemon that is started anew knows it still.
    assert_eq!(rolling.end(), Some(0));
    rolling.resume();
    rolling.await_quarantine(|ill| ill.len() == 1);
    fs::rename(&hidden, &lost).expect("it is ours");
    rolling.settle();
    pair.compare("glad");
    let told = rolling.said().matches("user.glad.a is left as it is").count();
    assert!((1..=2).contains(&told), "once by each daemon: {}", rolling.said());
    assert_eq!(rolling.end(), Some(0));
}

/// With `delete_mode: immediate`, nothing is kept. Mailboxes that are deleted like that leave the
/// replica; a whole account leaves it by consent.
#[test]
fn a_whole_account_leaves_the_replica_by_consent_alone() {
    let Some(pair) =
        Pair::start("a_whole_account_leaves_the_replica", &[("delete_mode", "immediate")])
    else {
        return;
    };
    let mut rolling = pair.follow();
    let mut imap = pair.master.imap_as("glad").expect("a client");
    imap.create("INBOX/a").expect("created");
    append(&mut imap, "INBOX/a", &MailGenerator::new(3, Sizes::Small).message());
    append(&mut imap, "INBOX", &MailGenerator::new(4, Sizes::Small).message());
    rolling.settle();
    imap.delete("INBOX/a").expect("deleted");
    rolling.settle();
    assert_eq!((pair.there("glad", "INBOX/a"), pair.there("glad", "INBOX")), (None, Some(1)));
    let mut admin = pair.master.admin().expect("an admin");
    admin.set_acl("user/glad", "cyrus", "lrswipkxtecda").expect("granted");
    admin.delete("user/glad").expect("deleted");
    rolling.await_quarantine(|ill| {
        ill.len() == 1 && ill[0]["account"] == "glad" && ill[0]["code"] == "brake"
    });
    assert_eq!(pair.there("glad", "INBOX"), Some(1));
    let mut consent = Command::new(CYLINDER);
    consent.args(["replicate", "--user", "glad", "--accept-removals", "--to"]);
    consent.arg(format!("csync://cyrus@{}", pair.replica.sync_address()));
    consent.arg("-C").arg(pair.master.imapd_conf());
    consent.arg("--password-file").arg(rolling.directory.path().join("password"));
    run(&mut consent).expect(0);
    assert_eq!(pair.there("glad", "INBOX"), None);
    rolling.settle();
    assert_eq!(rolling.end(), Some(0));
}

/// Two that follow one channel would take each other's log away.
#[test]
fn beside_a_sync_client_on_the_same_channel_nothing_is_done() {
    let Some(pair) = Pair::start("beside_a_sync_client_on_the_same_channel", &[]) else { return };
    let to = pair.replica.sync_address().to_string();
    let mut client = pair.master.tool_command("sync_client");
    client.args(["-S", &to, "-R"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut client = Group::spawn_guarded(&mut client).expect("it starts");
    let mut rolling = pair.follow();
    let mut group = rolling.group.take().expect("it was started");
    assert!(wait_until(PATIENCE, || !group.is_running()), "{}", rolling.said());
    let expected = format!("sync_client (process {}) follows this channel", client.leader().id());
    assert!(rolling.said().contains(&expected), "{}", rolling.said());
    client.kill();
    rolling.resume();
    append(
        &mut pair.master.imap_as("glad").expect("a client"),
        "INBOX",
        &MailGenerator::new(5, Sizes::Small).message(),
    );
    rolling.settle();
    assert_eq!(pair.there("glad", "INBOX"), Some(1));
    assert_eq!(rolling.end(), Some(0));
}
