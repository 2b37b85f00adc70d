//! A replica of a real Cyrus is brought up to date, and what both show over IMAP is compared.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use serde_json::Value;
use testkit::imap::Append;
use testkit::mail::{MailGenerator, Sizes};
use testkit::{Cyrus, ImapClient, cyrus_or_skip, process};

use crate::program::{CYLINDER, PATIENCE, Ran, cylinder};

/// A master with a user, and a replica, both of Cyrus 3.6.
pub struct Pair {
    pub master: Cyrus,
    pub replica: Cyrus,
}

impl Pair {
    pub fn start(test: &str) -> Option<Self> {
        Self::with(test, &[])
    }

    pub fn with(test: &str, options: &[(&str, &str)]) -> Option<Self> {
        let builder = cyrus_or_skip(test)?.conversations(true).option("allowusermoves", "yes");
        let builder =
            options.iter().fold(builder, |builder, (key, value)| builder.option(key, value));
        let master = builder.clone().start().expect("a master");
        let replica = builder.start().expect("a replica");
        master.create_user("glad").expect("a user");
        Some(Self { master, replica })
    }

    pub fn glad(&self) -> ImapClient {
        self.master.imap_as("glad").expect("a client")
    }

    pub fn run(&self, arguments: &[&str]) -> Ran {
        self.run_to(self.replica.sync_address(), arguments)
    }

    /// The same, to another replica.
    pub fn run_to(&self, to: SocketAddr, arguments: &[&str]) -> Ran {
        let mut command = Command::new(CYLINDER);
        command.args(["replicate", "--json", "-C"]).arg(self.master.imapd_conf());
        command.arg("--to").arg(format!("csync://cyrus@{to}"));
        command.args(arguments);
        let output = process::run(&mut command, b"any\n", PATIENCE).expect("it ends");
        Ran {
            code: output.status.code().expect("no signal ends it"),
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Replicates the user; nothing may be wrong. Returns what is said of the account.
    #[track_caller]
    pub fn sync(&self) -> Value {
        let account = self.account(0);
        assert_eq!(account["problems"], serde_json::json!([]), "{account:#}");
        account
    }

    #[track_caller]
    pub fn account(&self, code: i32) -> Value {
        let report = document(&self.run(&["--user", "glad"]).expect(code));
        println!("{report:#}");
        report["accounts"][0].clone()
    }

    /// Replicates until both are the same, which a second run has to find.
    #[track_caller]
    pub fn sync_and_compare(&self) -> Value {
        let account = self.sync();
        self.compare();
        let again = self.sync();
        assert_eq!(again["plan"], serde_json::json!([]), "{again:#}");
        account
    }

    #[track_caller]
    pub fn compare(&self) {
        let mut views =
            [&self.master, &self.replica].map(|server| server.view("glad").expect("a view"));
        for view in &mut views {
            for folder in view.folders.values_mut() {
                // Each server's own log of itself.
                folder.annotations.retain(|entry, _| !entry.ends_with("/lastpop"));
            }
        }
        let differences = views[0].differences(&views[1]);
        assert!(differences.is_empty(), "{differences:#?}");
    }
}

#[track_caller]
pub fn document(ran: &Ran) -> Value {
    serde_json::from_slice(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
}

pub fn steps(account: &Value) -> Vec<&str> {
    account["plan"].as_array().expect("a plan").iter().filter_map(Value::as_str).collect()
}

pub fn fill(imap: &mut ImapClient, folder: &str, mail: &[Vec<u8>]) {
    for (at, message) in mail.iter().enumerate() {
        let flags: &[&str] = if at % 3 == 0 { &["\\Seen", "$Label1"] } else { &[] };
        let append = Append { message, flags, internaldate: Some(1_700_000_000 + at as i64) };
        imap.append(folder, append).expect("appended");
    }
}

#[test]
fn all_that_changes_reaches_a_real_replica() {
    let Some(pair) = Pair::start("all_that_changes_reaches_a_real_replica") else { return };
    let mut imap = pair.glad();
    for folder in ["INBOX/Sent", "INBOX/Old", "INBOX/Gone", "INBOX/a/b/c"] {
        imap.create(folder).expect("created");
    }
    let mut mail = MailGenerator::new(4, Sizes::Small).messages(20);
    mail.push(b"Subject: no body\r\n\r\n".to_vec());
    fill(&mut imap, "INBOX", &mail);
    imap.select("INBOX").expect("selected");
    imap.copy("1:5", "INBOX/Sent").expect("copied");
    imap.annotate("3", "/comment", "value.priv", "mine").expect("annotated");
    imap.annotate("4", "/comment", "value.shared", "ours").expect("annotated");
    imap.subscribe("INBOX/Sent").expect("subscribed");
    pair.sync_and_compare();

    imap.store("2", "+FLAGS", &["\\Flagged", "Work"]).expect("stored");
    imap.store("3:4", "+FLAGS", &["\\Deleted"]).expect("stored");
    imap.expunge().expect("expunged");
    imap.rename("INBOX/Old", "INBOX/New").expect("renamed");
    imap.delete("INBOX/Gone").expect("deleted");
    imap.copy("6:8", "INBOX/New").expect("copied");
    imap.unsubscribe("INBOX/Sent").expect("unsubscribed");
    imap.subscribe("INBOX/New").expect("subscribed");
    imap.set_metadata("INBOX/New", "/shared/comment", Some("mine")).expect("annotated");
    let mut admin = pair.master.admin().expect("an admin");
    admin.set_quota("user/glad", "STORAGE 100000").expect("set");
    admin.set_acl("user/glad/Sent", "bob", "lrs").expect("granted");
    pair.sync_and_compare();

    // Two folders swap their names, and three go round in a circle: the real client never ends.
    for (from, to) in [("New", "x"), ("Sent", "New"), ("x", "Sent")] {
        imap.rename(&format!("INBOX/{from}"), &format!("INBOX/{to}")).expect("renamed");
    }
    let account = pair.sync_and_compare();
    assert!(steps(&account).iter().any(|step| step.contains(".cylinder-")), "{account:#}");
}

#[test]
fn a_dry_run_says_the_plan_and_sends_nothing() {
    let Some(pair) = Pair::start("a_dry_run_says_the_plan") else { return };
    fill(&mut pair.glad(), "INBOX", &MailGenerator::new(5, Sizes::Small).messages(3));
    let dry = document(&pair.run(&["--user", "glad", "--dry-run"]).expect(0));
    assert_eq!(steps(&dry["accounts"][0]), ["create user.glad: 3 new"]);
    assert!(pair.replica.imap_as("glad").expect("a client").select("INBOX").is_err());
    let account = pair.sync();
    assert_eq!(account["plan"], dry["accounts"][0]["plan"]);
    pair.compare();
}

#[test]
fn one_account_that_is_missing_stops_no_other() {
    let Some(pair) = Pair::start("one_account_that_is_missing") else { return };
    let report = document(&pair.run(&["--user", "bob", "glad", "--jobs", "1"]).expect(1));
    let accounts = report["accounts"].as_array().expect("accounts");
    assert!(accounts[0]["error"]["error"].as_str().expect("an error").contains("bob was not"));
    assert_eq!(accounts[1]["done"]["mailboxes"], 1, "{report:#}");
    pair.compare();
}

#[test]
fn a_password_file_that_others_can_read_is_refused() {
    let Some(pair) = Pair::start("a_password_file_that_others_can_read") else { return };
    let path = pair.master.root().join("password");
    fs::write(&path, "any\n").expect("written");
    let to = format!("csync://cyrus@{}", pair.replica.sync_address());
    let conf = pair.master.imapd_conf().display().to_string();
    let file = path.display().to_string();
    let arguments =
        ["replicate", "-C", &conf, "--to", &to, "--user", "glad", "--password-file", &file];
    let ran = cylinder(arguments).expect(1);
    assert!(ran.stderr.contains("chmod 600"), "{}", ran.stderr);
    let owner_only = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(&path, owner_only).expect("it is ours");
    cylinder(arguments).expect(0);
    pair.compare();
}

/// What was expunged and cleaned up before the replica heard of it has left no record.
#[test]
fn what_was_cleaned_up_meanwhile_goes_from_the_replica_too() {
    let Some(pair) = Pair::start("what_was_cleaned_up_meanwhile") else { return };
    let mut imap = pair.glad();
    fill(&mut imap, "INBOX", &MailGenerator::new(6, Sizes::Small).messages(9));
    pair.sync_and_compare();
    imap.select("INBOX").expect("selected");
    imap.store("3:5", "+FLAGS", &["\\Deleted"]).expect("stored");
    imap.store("7", "+FLAGS", &["\\Flagged"]).expect("stored");
    imap.expunge().expect("expunged");
    imap.unselect().expect("closed");
    pair.master.tool("cyr_expire", &["-X", "0", "-E", "0", "-D", "0"]).expect("it cleans up");
    let account = pair.sync_and_compare();
    assert_eq!(steps(&account), ["update user.glad: 0 new, 1 changed, 3 expunged"]);
}

#[test]
fn a_mailbox_that_is_deleted_at_once_leaves_the_replica() {
    let Some(pair) =
        Pair::with("a_mailbox_that_is_deleted_at_once", &[("delete_mode", "immediate")])
    else {
        return;
    };
    let mut imap = pair.glad();
    for folder in ["INBOX/a", "INBOX/a/b", "INBOX/c"] {
        imap.create(folder).expect("created");
        fill(&mut imap, folder, &MailGenerator::new(7, Sizes::Small).messages(2));
    }
    pair.sync_and_compare();
    imap.delete("INBOX/c").expect("deleted");
    let account = pair.sync_and_compare();
    assert_eq!(steps(&account), ["remove user.glad.c"]);
    // One that is made anew is another one: nothing says that the old one may go.
    imap.delete("INBOX/a/b").expect("deleted");
    imap.create("INBOX/a/b").expect("created");
    fill(&mut imap, "INBOX/a/b", &MailGenerator::new(8, Sizes::Small).messages(1));
    let account = pair.account(1);
    let brake = account["brakes"][0].as_str().expect("a brake");
    assert!(brake.starts_with("user.glad.a.b is another mailbox on the replica"), "{brake}");
    let mut there = pair.replica.imap_as("glad").expect("a client");
    assert_eq!(there.status("INBOX/a/b", &["MESSAGES"]).expect("it is there"), [2]);
    pair.run(&["--user", "glad", "--accept-removals"]).expect(0);
    pair.compare();
}

#[test]
fn what_both_sides_have_changed_is_shown_and_stays() {
    let Some(pair) = Pair::start("what_both_sides_have_changed") else { return };
    let mail = MailGenerator::new(9, Sizes::Small).messages(6);
    let mut here = pair.glad();
    here.create("INBOX/a").expect("created");
    fill(&mut here, "INBOX", &mail[..2]);
    pair.sync_and_compare();
    let mut there = pair.replica.imap_as("glad").expect("a client");
    fill(&mut there, "INBOX", &mail[2..4]);
    fill(&mut here, "INBOX", &mail[4..5]);
    fill(&mut here, "INBOX/a", &mail[5..]);
    let before = pair.replica.view("glad").expect("a view").folders["INBOX"].clone();
    let account = pair.account(3);
    let problem = &account["problems"][0];
    assert_eq!((&problem["mailbox"], &problem["code"]), (&"user.glad".into(), &"diverged".into()));
    let differences = problem["differences"].as_array().expect("differences");
    assert_eq!(differences.len(), 2, "{problem:#}");
    let after = pair.replica.view("glad").expect("a view");
    assert_eq!(after.folders["INBOX"], before);
    assert_eq!(after.folders["INBOX/a"].messages.len(), 1, "the others go on");
}

#[test]
fn a_renamed_user_is_renamed_on_the_replica() {
    let Some(pair) = Pair::start("a_renamed_user_is_renamed") else { return };
    let mut imap = pair.glad();
    imap.create("INBOX/a").expect("created");
    fill(&mut imap, "INBOX/a", &MailGenerator::new(10, Sizes::Small).messages(3));
    imap.subscribe("INBOX/a").expect("subscribed");
    imap.logout().expect("it ends");
    pair.sync_and_compare();
    let mut admin = pair.master.admin().expect("an admin");
    admin.rename("user/glad", "user/iris").expect("renamed");
    let report = document(&pair.run(&["--user", "iris"]).expect(0));
    assert_eq!(report["done"]["renamed"], 2, "{report:#}");
    let views = [&pair.master, &pair.replica].map(|server| server.view("iris").expect("a view"));
    let differences = views[0].differences(&views[1]);
    assert!(differences.is_empty(), "{differences:#?}");
    let again = document(&pair.run(&["--user", "iris"]).expect(0));
    assert_eq!(again["unchanged"], 1, "{again:#}");
}

#[test]
fn a_message_that_is_lost_holds_back_its_mailbox_until_it_is_back() {
    let Some(pair) = Pair::start("a_message_that_is_lost_holds_back") else { return };
    let mail = MailGenerator::new(11, Sizes::Small).messages(4);
    let mut imap = pair.glad();
    imap.create("INBOX/a").expect("created");
    fill(&mut imap, "INBOX", &mail[..3]);
    fill(&mut imap, "INBOX/a", &mail[3..]);
    let lost = pair.master.mailbox_directory("user/glad").expect("a directory").join("2.");
    let hidden = lost.with_file_name("hidden");
    fs::rename(&lost, &hidden).expect("it is ours");
    let account = pair.account(3);
    assert_eq!(account["problems"][0]["findings"][0]["code"], "message-missing", "{account:#}");
    assert_eq!(account["done"]["mailboxes"], 1);
    fs::rename(&hidden, &lost).expect("it is ours");
    pair.sync_and_compare();
}

#[test]
fn many_accounts_go_at_the_same_time() {
    let Some(pair) = Pair::start("many_accounts_go_at_the_same_time") else { return };
    let mail = MailGenerator::new(12, Sizes::Small).messages(5);
    for user in ["iris", "bob", "carol", "dan"] {
        pair.master.create_user(user).expect("a user");
        fill(&mut pair.master.imap_as(user).expect("a client"), "INBOX", &mail);
    }
    let first = document(&pair.run(&["--all", "--jobs", "3"]).expect(0));
    assert_eq!(first["done"]["messages"], 20, "{first:#}");
    let again = document(&pair.run(&["--all"]).expect(0));
    assert_eq!((&again["unchanged"], &again["problems"]), (&5.into(), &0.into()), "{again:#}");
    for user in ["iris", "bob", "carol", "dan"] {
        let views = [&pair.master, &pair.replica].map(|server| server.view(user).expect("a view"));
        assert_eq!(views[0].differences(&views[1]), Vec::<String>::new(), "{user}");
    }
}
