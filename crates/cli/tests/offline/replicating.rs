//! `cylinder replicate` to `cylinder serve`, whole and through a line that breaks.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::process;

use super::program::{CYLINDER, Ran, cylinder};
use super::sample::{scratch, spool};
use super::serving::{Server, users};

const LIMIT: Duration = Duration::from_secs(120);

/// A replica that is served.
pub struct Site {
    directory: TempDir,
    server: Server,
    address: SocketAddr,
}

impl Site {
    pub fn start() -> Self {
        Self::in_directory(scratch())
    }

    /// Does something to the replica while nobody serves it.
    pub fn pause(self, action: impl FnOnce(&Path)) -> Self {
        assert_eq!(self.server.end(), Some(0));
        action(&self.directory.path().join("replica"));
        Self::in_directory(self.directory)
    }

    fn in_directory(directory: TempDir) -> Self {
        let users = users(directory.path());
        let mut command = Command::new(CYLINDER);
        command.args(["serve", "--listen", "127.0.0.1:0", "--users"]).arg(users);
        command.arg("--spool").arg(directory.path().join("replica"));
        let mut server = Server::start(&mut command);
        let address = server.address();
        Self { directory, server, address }
    }

    pub fn root(&self) -> PathBuf {
        self.directory.path().join("master")
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn send(&self, conf: &Path, arguments: &[&str]) -> Ran {
        send(self.address, conf, arguments)
    }

    /// What the replica has of accounts: messages by their mailbox. It is not served any more.
    pub fn end(self, accounts: &[&str]) -> Vec<(u64, u64)> {
        assert_eq!(self.server.end(), Some(0));
        let conf = self.directory.path().join("replica/imapd.conf");
        let count = |account: &&str| {
            let output = self.directory.path().join(format!("{account}.tar"));
            let arguments = ["snapshot".as_ref(), account.as_ref(), "--json".as_ref()];
            let places = ["-C".as_ref(), conf.as_os_str(), "-o".as_ref(), output.as_os_str()];
            let ran = cylinder(arguments.into_iter().chain(places)).expect(0);
            let report: Value = serde_json::from_str(&ran.stderr).expect("a document");
            (report["mailboxes"].as_u64().expect("n"), report["messages"].as_u64().expect("n"))
        };
        accounts.iter().map(count).collect()
    }
}

pub fn send(address: SocketAddr, conf: &Path, arguments: &[&str]) -> Ran {
    let mut command = Command::new(CYLINDER);
    command.args(["replicate", "--json", "--to", &format!("csync://repl@{address}")]);
    command.arg("-C").arg(conf).args(arguments);
    let output = process::run(&mut command, b"secret\n", LIMIT).expect("it ends");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!stderr.contains("panicked"), "{stderr}");
    Ran { code: output.status.code().expect("no signal"), stdout: output.stdout, stderr }
}

pub fn document(ran: &Ran) -> Value {
    serde_json::from_slice(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
}

#[test]
fn all_accounts_are_replicated_and_then_there_is_nothing_to_do() {
    let site = Site::start();
    let conf = spool(&site.root(), 5).imapd_conf;
    let first = document(&site.send(&conf, &["--all"]).expect(0));
    assert_eq!(first["done"]["messages"], 10, "{first:#}");
    let again = document(&site.send(&conf, &["--all"]).expect(0));
    assert_eq!((&again["unchanged"], &again["done"]["mailboxes"]), (&json!(2), &json!(0)));
    let conf = spool(&site.root(), 8).imapd_conf;
    let more = document(&site.send(&conf, &["--user", "glad"]).expect(0));
    assert_eq!(more["done"]["messages"], 3, "{more:#}");
    assert_eq!(site.end(&["glad", "iris"]), [(2, 10), (1, 3)]);
}

#[test]
fn what_is_lost_here_is_not_removed_there() {
    let site = Site::start();
    let master = spool(&site.root(), 5);
    site.send(&master.imapd_conf, &["--all"]).expect(0);
    // The partition is empty, as if it were not mounted.
    fs::remove_dir_all(&master.partition).expect("it is ours");
    fs::create_dir(&master.partition).expect("it is ours");
    let report = document(&site.send(&master.imapd_conf, &["--all"]).expect(3));
    let problems = report["accounts"][0]["problems"].as_array().expect("problems").len();
    assert_eq!((problems, &report["done"]["mailboxes"]), (2, &json!(0)), "{report:#}");
    fs::remove_dir(&master.partition).expect("it is ours");
    site.send(&master.imapd_conf, &["--all"]).expect(1);
    // And no list of mailboxes.
    fs::remove_file(master.config_directory.join("mailboxes.db")).expect("it is ours");
    site.send(&master.imapd_conf, &["--all"]).expect(1);
    assert_eq!(site.end(&["glad", "iris"]), [(2, 7), (1, 3)]);
}

/// A line to the replica that breaks after so many bytes from there, once.
fn brittle(to: SocketAddr, bytes: u64) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        let (mut master, _) = listener.accept().expect("a master");
        let mut replica = TcpStream::connect(to).expect("it listens");
        let mut up = (
            master.try_clone().expect("another descriptor"),
            replica.try_clone().expect("another descriptor"),
        );
        thread::spawn(move || {
            let _ = std::io::copy(&mut up.0, &mut up.1);
            let _ = up.1.shutdown(Shutdown::Both);
        });
        let mut left = bytes;
        let mut piece = [0; 64];
        while left > 0 {
            let room = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let Ok(read @ 1..) = replica.read(&mut piece[..room]) else { break };
            if master.write_all(&piece[..read]).is_err() {
                break;
            }
            left -= read as u64;
        }
        let _ = master.shutdown(Shutdown::Both);
        let _ = replica.shutdown(Shutdown::Both);
    });
    address
}

#[test]
fn a_line_that_breaks_anywhere_costs_nothing_but_another_run() {
    let site = Site::start();
    let conf = spool(&site.root(), 5).imapd_conf;
    let mut runs = 0;
    for bytes in (0..).step_by(37) {
        let ran = send(brittle(site.address, bytes), &conf, &["--user", "glad", "--jobs", "1"]);
        runs += 1;
        if ran.code == 0 {
            break;
        }
        let error = &document(&ran.expect(1))["accounts"][0]["error"];
        assert!(error["error"].as_str().expect("an error").starts_with("glad was not"), "{error}");
    }
    println!("{runs} runs");
    let again = document(&site.send(&conf, &["--user", "glad"]).expect(0));
    assert_eq!(again["unchanged"], 1, "{again:#}");
    assert_eq!(site.end(&["glad"]), [(2, 7)]);
}
