//! `cylinder replicate --rolling` without a Cyrus: a spool whose sync log is written by hand, and
//! `cylinder serve`.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::fs::{FlockOperation, fcntl_lock};
use serde_json::Value;
use tempfile::TempDir;
use testkit::damage::{self, Checksum};
use testkit::process::{Group, wait_until};
use testkit::spool_builder::Spool;

use super::program::{CYLINDER, Ran, run};
use super::sample::{scratch, spool};
use super::serving::{LIMIT, Server, add_user, users};

/// A spool with a sync log, and a replica that is served.
struct Site {
    directory: TempDir,
    master: Spool,
    server: Option<Server>,
    to: String,
}

impl Site {
    fn start() -> Self {
        let directory = scratch();
        users(directory.path());
        let master = spool(&directory.path().join("master"), 5);
        let mut conf = fs::read_to_string(&master.imapd_conf).expect("a configuration");
        conf.push_str("sync_log: yes\nsync_log_channels: \"\" far\n");
        fs::write(&master.imapd_conf, conf).expect("written");
        fs::create_dir_all(master.config_directory.join("sync/far")).expect("made");
        let mut site = Self { directory, master, server: None, to: String::new() };
        let address = site.serve("127.0.0.1:0");
        site.to = format!("csync://repl@{address}");
        site.password("secret");
        site
    }

    fn serve(&mut self, listen: &str) -> String {
        let mut command = Command::new(CYLINDER);
        command.args(["serve", "--listen", listen, "--users"]).arg(self.path("users"));
        command.arg("--spool").arg(self.path("replica"));
        let mut server = Server::start(&mut command);
        let address = server.address().to_string();
        self.server = Some(server);
        address
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn password(&self, password: &str) {
        fs::write(self.path("password"), password).expect("written");
        let owner_only = fs::Permissions::from_mode(0o600);
        fs::set_permissions(self.path("password"), owner_only).expect("it is ours");
    }

    fn log(&self, name: &str) -> PathBuf {
        self.master.config_directory.join("sync").join(name)
    }

    /// Writes a log, all of which is there at once.
    fn hand_in(&self, text: &str) {
        fs::write(self.log("new"), text).expect("written");
        fs::rename(self.log("new"), self.log("log")).expect("it is ours");
    }

    fn command(&self, more: &[&str]) -> Command {
        let mut command = Command::new(CYLINDER);
        command.args(["replicate", "--rolling", "--to", &self.to, "--jobs", "2"]).args(more);
        command.arg("-C").arg(&self.master.imapd_conf).arg("--state").arg(self.path("state"));
        command.arg("--password-file").arg(self.path("password"));
        command
    }

    fn once(&self, more: &[&str]) -> Ran {
        run(self.command(&["--once"]).args(more))
    }

    fn status(&self, more: &[&str]) -> Value {
        let ran = run(self.command(&["--status", "--json"]).args(more));
        serde_json::from_slice(&ran.stdout).unwrap_or_default()
    }

    /// What is left of the log, here and there.
    fn left(&self) -> Vec<String> {
        let mut left = Vec::new();
        let mut pending = vec![self.path("state"), self.log("")];
        while let Some(directory) = pending.pop() {
            for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                if entry.path().is_dir() {
                    pending.push(entry.path());
                } else if name.starts_with("chunk-") || name.starts_with("log") {
                    left.push(name);
                }
            }
        }
        left
    }
}

#[test]
fn a_log_is_worked_off_whatever_is_in_it() {
    let site = Site::start();
    // What a dead client left, and what came since: junk, zeros, a name with all that names can have,
    // an account that nobody has, and a line that was torn.
    fs::write(site.log("log-run"), "MAILBOX user.iris\n").expect("written");
    let mut log = b"\xff\xfe\x00junk\nNONSENSE x\nMAILBOX\n\0\0\0MAILBOX user.glad\n".to_vec();
    log.extend(b"MAILBOX \"user.glad.q\\\"uo (te\\{\\}\\\\\"\nUSER nobody\nANNOTATION \"\"\n\n");
    log.extend(b"MAILBOX user.glad\n".repeat(1000));
    log.extend(b"APPEND user.glad.Se");
    fs::write(site.log("log"), log).expect("written");
    let ran = site.once(&[]).expect(0);
    assert!(ran.stderr.contains("a line of the sync log is passed over"), "{}", ran.stderr);
    assert_eq!(site.left(), Vec::<String>::new());
    let status = site.status(&[]);
    assert_eq!((&status["state"], &status["messages"]), (&"ended".into(), &10.into()));
    assert_eq!(status["malformed_lines"], 4);
    // There is nothing to be done twice.
    site.once(&[]).expect(0);
    assert_eq!(site.status(&[])["messages"], 0);
}

#[test]
fn a_channel_has_a_log_of_its_own() {
    let site = Site::start();
    fs::write(site.log("log"), "MAILBOX user.iris\n").expect("written");
    fs::write(site.log("far/log"), "MAILBOX user.glad\n").expect("written");
    site.once(&["--channel", "far"]).expect(0);
    assert_eq!(site.left(), ["log"]);
    assert_eq!(site.status(&["--channel", "far"])["messages"], 5);
    let ran = site.once(&["--channel", "near"]).expect(1);
    assert!(ran.stderr.contains("no such channel: \"near\""), "{}", ran.stderr);
}

#[test]
fn a_replica_that_is_away_is_waited_for_and_the_log_stays() {
    let mut site = Site::start();
    let address = site.to.trim_start_matches("csync://repl@").to_owned();
    assert_eq!(site.server.take().expect("a server").end(), Some(0));
    fs::write(site.log("log"), "USER glad\n").expect("written");
    let ran = site.once(&[]).expect(1);
    assert!(ran.stderr.contains("cannot reach"), "{}", ran.stderr);
    let mut command = site.command(&[]);
    command.arg("--metrics").arg(site.path("metrics")).stderr(Stdio::null());
    let mut daemon = Group::spawn_guarded(&mut command).expect("it starts");
    let pid = daemon.leader().id();
    let is_away = || {
        let status = site.status(&[]);
        status["pid"] == pid && status["unreachable_because"].is_string()
    };
    assert!(wait_until(LIMIT, is_away));
    assert_eq!(site.left(), ["log"]);
    let again = site.once(&[]).expect(75);
    let who = format!("process {pid} replicates this channel");
    assert!(again.stderr.contains(&who), "{}", again.stderr);
    site.serve(&address);
    assert!(wait_until(LIMIT, || site.left().is_empty() && site.status(&[])["messages"] == 7));
    run(&mut site.command(&["--status"])).expect(0);
    daemon.terminate(LIMIT);
    assert_eq!(daemon.leader().wait().expect("it ended").code(), Some(0));
    let metrics = fs::read_to_string(site.path("metrics")).expect("metrics");
    assert!(metrics.contains("cylinder_rolling_messages_total{replica=\"127.0.0.1:"), "{metrics}");
    run(&mut site.command(&["--status"])).expect(1);
}

/// The first connection goes on when the password is changed; a second one is not let in, and that is not
/// to be taken for the replica being away.
#[test]
fn a_second_connection_that_is_not_let_in_holds_nobody_up() {
    let site = Site::start();
    let mut daemon =
        Group::spawn_guarded(site.command(&[]).stderr(Stdio::null())).expect("it starts");
    site.hand_in("MAILBOX user.iris\n");
    let has_sent = |messages: u64| {
        let status = site.status(&[]);
        status["messages"] == messages && status["backlog"]["left"] == 0
    };
    assert!(wait_until(LIMIT, || has_sent(3)), "{:#}", site.status(&[]));
    assert_eq!(add_user(&site.path("users"), "repl", "changed\n"), (0, String::new()));
    // Two accounts, and only one of two connections.
    site.hand_in("MAILBOX user.iris\nUSER glad\n");
    assert!(wait_until(LIMIT, || has_sent(10)), "{:#}", site.status(&[]));
    let status = site.status(&[]);
    assert_eq!((&status["reachable"], &status["connections"]), (&true.into(), &1.into()));
    assert_eq!(site.left(), Vec::<String>::new());
    daemon.terminate(LIMIT);
    assert_eq!(daemon.leader().wait().expect("it ended").code(), Some(0));
}

#[test]
fn what_is_written_all_the_time_is_left_for_the_next_one_in_the_end() {
    let site = Site::start();
    let log = site.log("log");
    let is_over = AtomicBool::new(false);
    let write = || {
        let mut log = fs::OpenOptions::new().append(true).create(true).open(&log).expect("a log");
        log.write_all(b"MAILBOX user.iris\n").expect("written");
    };
    write();
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                write();
                thread::yield_now();
            }
        });
        let ran = site.once(&[]);
        is_over.store(true, Ordering::Relaxed);
        writer.join().expect("it did not panic");
        ran.expect(0);
    });
    assert_eq!(site.status(&[])["messages"], 3);
}

/// A writer that hangs in the middle of his line, as on a disk that answers no more.
#[test]
fn a_writer_that_does_not_end_keeps_nobody_from_asking() {
    let site = Site::start();
    site.hand_in("MAILBOX user.iris\n");
    let writer = fs::OpenOptions::new().append(true).open(site.log("log")).expect("a log");
    fcntl_lock(&writer, FlockOperation::NonBlockingLockExclusive).expect("it locks");
    let mut daemon =
        Group::spawn_guarded(site.command(&[]).stderr(Stdio::null())).expect("it starts");
    assert!(wait_until(LIMIT, || site.left() == ["log-run"]), "{:?}", site.left());
    let updated = || site.status(&[])["updated_at"].as_i64().unwrap_or_default();
    let begun = updated();
    // Half of the time for which it says nothing about the writer.
    assert!(wait_until(LIMIT / 2, || updated() > begun + 2), "{:#}", site.status(&[]));
    assert_eq!(site.left(), ["log-run"]);
    drop(writer);
    let is_sent = || site.status(&[])["messages"] == 3 && site.left().is_empty();
    assert!(wait_until(LIMIT, is_sent), "{:#}", site.status(&[]));
    daemon.terminate(LIMIT);
    assert_eq!(daemon.leader().wait().expect("it ended").code(), Some(0));
}

#[test]
fn what_was_left_for_a_replica_of_another_name_is_told() {
    let site = Site::start();
    let other = site.path("state/elsewhere/default");
    fs::create_dir_all(&other).expect("made");
    fs::write(other.join("chunk-0000000001-1700000000000"), "USER glad\n").expect("written");
    let ran = site.once(&[]).expect(0);
    let told = format!("nobody works off what {} holds", other.display());
    assert!(ran.stderr.contains(&told), "{}", ran.stderr);
}

#[test]
fn a_wrong_password_is_told_once_and_no_hot_loop() {
    let site = Site::start();
    fs::write(site.log("log"), "USER glad\n").expect("written");
    site.password("wrong");
    let output = fs::File::create(site.path("said")).expect("a file");
    let mut daemon = Group::spawn_guarded(site.command(&[]).stderr(output)).expect("it starts");
    let is_away = || site.status(&[])["unreachable_because"].is_string();
    assert!(wait_until(LIMIT, is_away));
    let status = site.status(&[]);
    let why = status["unreachable_because"].as_str().expect("a reason");
    assert!(why.contains("log in as repl"), "{status:#}");
    assert!(status["next_connect"].as_str() > status["updated"].as_str(), "{status:#}");
    daemon.terminate(LIMIT);
    let said = fs::read_to_string(site.path("said")).expect("a file");
    assert_eq!(said.matches("cannot reach").count(), 1, "{said}");
    assert_eq!(site.left(), ["log"]);
}

#[test]
fn a_server_that_writes_no_log_cannot_be_followed() {
    let site = Site::start();
    let conf = fs::read_to_string(&site.master.imapd_conf).expect("a configuration");
    fs::write(&site.master.imapd_conf, conf.replace("sync_log: yes", "")).expect("written");
    let ran = site.once(&[]).expect(1);
    assert!(ran.stderr.contains("hint: set sync_log: yes in imapd.conf"), "{}", ran.stderr);
}

/// Of iris, one message of whose mailbox is wrong, or all of it.
#[test]
fn whatever_is_damaged_is_told_and_the_others_go_on_and_it_heals() {
    type Harm = fn(&Path) -> std::io::Result<()>;
    let harms: [(&str, Harm); 11] = [
        ("message removed", |mailbox| damage::remove_message(mailbox, 2)),
        ("message changed", |mailbox| damage::change_message(mailbox, 2)),
        ("message shortened", |mailbox| damage::shorten_message(mailbox, 2, 5)),
        ("header removed", damage::remove_header),
        ("mailbox removed", damage::remove_mailbox),
        ("no GUID", |mailbox| damage::zero_guid(&mailbox.join("cyrus.index"), 1, Checksum::Fixed)),
        ("record broken", |mailbox| damage::break_record(&mailbox.join("cyrus.index"), 1)),
        ("index header broken", |mailbox| damage::break_index_header(&mailbox.join("cyrus.index"))),
        ("too many records", |mailbox| damage::lie_about_records(&mailbox.join("cyrus.index"), 9)),
        ("index too new", |mailbox| damage::claim_version(&mailbox.join("cyrus.index"), 99)),
        ("index truncated", |mailbox| damage::truncate(&mailbox.join("cyrus.index"), 50)),
    ];
    for (name, harm) in harms {
        let site = Site::start();
        let mailbox = mailbox_of_iris(&site.master.partition);
        let whole = Directory::of(&mailbox);
        harm(&mailbox).expect("it is ours");
        fs::write(site.log("log"), "MAILBOX user.iris\nUSER glad\n").expect("written");
        let ran = site.once(&[]);
        println!("{name}: {}", ran.stderr);
        let ran = ran.expect(3);
        assert!(ran.stderr.contains("user.iris is left as it is: "), "{name}: {}", ran.stderr);
        let status = site.status(&[]);
        let ill = status["quarantine"].as_array().expect("a list");
        assert!(ill.len() == 1 && ill[0]["mailbox"] == "user.iris", "{name}: {status:#}");
        assert_eq!((&status["messages"], site.left().len()), (&7.into(), 0), "{name}");
        // It is tried again without any news, first in vain.
        site.once(&[]).expect(3);
        whole.put_back(&mailbox);
        site.once(&[]).expect(0);
        let status = site.status(&[]);
        assert_eq!(status["quarantine"], serde_json::json!([]), "{name}: {status:#}");
        assert_eq!(status["messages"], 3, "{name}: {status:#}");
    }
}

/// The files of a directory, in memory.
struct Directory(Vec<(PathBuf, Vec<u8>)>);

impl Directory {
    fn of(directory: &Path) -> Self {
        let entries = fs::read_dir(directory).expect("a directory");
        let paths = entries.map(|entry| entry.expect("an entry").path());
        Self(paths.map(|path| (path.clone(), fs::read(path).expect("a file"))).collect())
    }

    fn put_back(&self, directory: &Path) {
        fs::create_dir_all(directory).expect("made");
        for (path, bytes) in &self.0 {
            fs::write(path, bytes).expect("written");
        }
    }
}

/// The mailbox with three messages.
fn mailbox_of_iris(partition: &Path) -> PathBuf {
    let mut pending = vec![partition.to_owned()];
    while let Some(directory) = pending.pop() {
        if directory.join("3.").exists() && !directory.join("4.").exists() {
            return directory;
        }
        let entries = fs::read_dir(&directory).expect("a directory");
        let paths = entries.map(|entry| entry.expect("an entry").path());
        pending.extend(paths.filter(|path| path.is_dir()));
    }
    panic!("there is no such mailbox");
}
