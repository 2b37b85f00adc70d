//! A real master of Cyrus 3.6 at the other end, and a real replica behind.

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;

use serve::replica::Session;
use spool::replica::Replica;
use tempfile::TempDir;
use testkit::imap::{Append, ImapClient};
use testkit::mail::{MailGenerator, Sizes};
use testkit::process::{Group, wait_until};
use testkit::storm::{Storm, StormPlan};
use testkit::{Cyrus, cyrus_or_skip};

use crate::site::{LIMIT, Site, limits};

/// A master with a user, and a replica.
struct Pair {
    master: Cyrus,
    site: Site,
    _spool: TempDir,
}

impl Pair {
    fn start(test: &str, password: &str) -> Option<Self> {
        let builder = cyrus_or_skip(test)?;
        let builder = builder.option("sync_authname", "repl").option("sync_password", password);
        let spool = tempfile::tempdir().expect("a directory");
        let replica = Arc::new(Replica::open(&spool.path().join("replica")).expect("a replica"));
        let handlers = Box::new(move || Box::new(Session::new(replica.clone())) as _);
        let site = Site::of(limits(), handlers);
        let master = builder.start().expect("a master");
        master.create_user("glad").expect("a user");
        Some(Self { master, site, _spool: spool })
    }

    fn client(&self) -> ImapClient {
        self.master.imap_as("glad").expect("a client")
    }

    /// Has the master send all of the user, and returns what was logged meanwhile.
    fn sync(&self, to: &str) -> Vec<String> {
        let before = self.lines().len();
        let output = self.master.tool("sync_client", &["-v", "-v", "-S", to, "-u", "glad"]);
        if let Err(error) = output {
            panic!("{error}; {:#?}", &self.lines()[before..]);
        }
        let ended = |lines: &[String]| lines.iter().any(|line| line.contains("the master is done"));
        assert!(wait_until(LIMIT, || ended(&self.lines()[before..])), "{:#?}", self.lines());
        self.lines().split_off(before)
    }

    fn lines(&self) -> Vec<String> {
        self.site.log.lock().expect("no panic").clone()
    }

    /// The master finds nothing to send: all it asks is GET USER.
    fn assert_in_sync(&self, to: &str) {
        let lines = self.sync(to);
        let last = lines.last().expect("it was there");
        assert!(last.contains("the master is done; commands: 1"), "{lines:#?}");
    }

    fn fill(&self, messages: usize) {
        let mut imap = self.client();
        for message in MailGenerator::new(7, Sizes::Small).messages(messages) {
            let append = Append { message: &message, ..Append::default() };
            imap.append("INBOX", append).expect("appended");
        }
    }
}

fn name(address: SocketAddr) -> String {
    address.to_string()
}

#[test]
fn a_master_sends_all_that_changes() {
    let Some(pair) = Pair::start("a_master_sends_all_that_changes", "secret") else { return };
    let to = name(pair.site.plain);
    pair.fill(40);
    pair.sync(&to);
    pair.assert_in_sync(&to);

    let mut imap = pair.client();
    imap.create("INBOX/Old").expect("created");
    imap.create("INBOX/Gone").expect("created");
    imap.select("INBOX").expect("selected");
    imap.copy("1:9", "INBOX/Old").expect("copied");
    pair.sync(&to);
    pair.assert_in_sync(&to);

    imap.store("2:5", "+FLAGS", &["\\Seen", "Work"]).expect("stored");
    imap.store("7:8", "+FLAGS", &["\\Deleted"]).expect("stored");
    imap.expunge().expect("expunged");
    imap.rename("INBOX/Old", "INBOX/New").expect("renamed");
    imap.delete("INBOX/Gone").expect("deleted");
    imap.subscribe("INBOX/New").expect("subscribed");
    pair.sync(&to);
    pair.assert_in_sync(&to);
}

#[test]
fn a_master_uses_tls() {
    let Some(pair) = Pair::start("a_master_uses_tls", "secret") else { return };
    let to = format!("{}/tls", pair.site.tls);
    pair.fill(10);
    let lines = pair.sync(&to);
    assert!(lines.iter().any(|line| line.ends_with("repl: logged in, with TLS")), "{lines:#?}");
    pair.assert_in_sync(&to);
}

#[test]
fn a_master_with_a_wrong_password_is_blamed() {
    let Some(pair) = Pair::start("a_master_with_a_wrong_password", "wrong") else { return };
    let mut client = pair.master.tool_command("sync_client");
    client.args(["-S", &name(pair.site.plain), "-u", "glad"]);
    client.stdout(Stdio::null()).stderr(Stdio::null());
    // It tries for ever.
    let _client = Group::spawn_guarded(&mut client).expect("it starts");
    pair.site.logged("login as repl failed: no such user, or a wrong password");
}

#[test]
fn a_master_keeps_up_with_a_storm() {
    let Some(pair) = Pair::start("a_master_keeps_up_with_a_storm", "secret") else { return };
    let to = name(pair.site.plain);
    let mut plan = StormPlan::new(pair.master.imap_address(), &["glad"], 11);
    plan.operations = Some(60);
    let storm = Storm::start(&plan);
    let mut rounds = 0;
    while storm.progress() < 200 && rounds < 40 {
        // What changes under its hands may fail; the next one makes up for it.
        let _ = pair.master.tool("sync_client", &["-S", &to, "-u", "glad"]);
        rounds += 1;
    }
    println!("{rounds} rounds beside {:?}", storm.wait().expect("the clients are well").done);
    pair.sync(&to);
    pair.assert_in_sync(&to);
    let lines = pair.lines();
    for wrong in ["bug in this program", "this machine cannot", "in the middle of a command"] {
        assert!(!lines.iter().any(|line| line.contains(wrong)), "{wrong}: {lines:#?}");
    }
}
