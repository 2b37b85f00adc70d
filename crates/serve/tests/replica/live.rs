//! A real master of Cyrus 3.6 replicates to us; then a real Cyrus serves what it replicated.

use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use model::{Uid, Userid};
use spool::replica::Replica;
use spool::{Options, Server};
use tempfile::TempDir;
use testkit::imap::Append;
use testkit::mail::{MailGenerator, Sizes};
use testkit::{Cyrus, CyrusBuilder, ImapClient, ImapView, cyrus_or_skip};

use crate::driver::listen;

struct Pair {
    master: Cyrus,
    address: SocketAddr,
    replica: Arc<Replica>,
    top: TempDir,
    builder: CyrusBuilder,
}

impl Pair {
    fn start(test: &str) -> Option<Self> {
        let builder = cyrus_or_skip(test)?.conversations(true);
        let builder = builder.option("sync_authname", "cyrus").option("sync_password", "any");
        let builder = builder.option("sync_log", "yes").option("allowusermoves", "yes");
        let master = builder.clone().start().expect("a master");
        let mut top = tempfile::Builder::new();
        top.prefix("cylinder-replica-").permissions(Permissions::from_mode(0o755));
        let top = top.tempdir().expect("a temporary directory");
        let replica = Arc::new(Replica::open(&top.path().join("replica")).expect("a replica"));
        let address = listen(Arc::clone(&replica));
        Some(Self { master, address, replica, top, builder })
    }

    fn sync(&self, user: &str) {
        let server = self.address.to_string();
        let output = self.master.tool("sync_client", &["-v", "-v", "-S", &server, "-u", user]);
        let output = output.unwrap_or_else(|error| panic!("{error:?}"));
        println!("{}{}", output.stdout, output.stderr);
    }

    /// Works off what the master has noted since the last time.
    fn sync_log(&self) {
        let server = self.address.to_string();
        let arguments = ["-v", "-v", "-S", &server, "-R", "-1"];
        let output = self.master.tool("sync_client", &arguments);
        let output = output.unwrap_or_else(|error| panic!("{error:?}"));
        println!("{}{}", output.stdout, output.stderr);
    }

    /// What a Cyrus shows of the replica. The replica is not served any more.
    fn promoted(self, user: &str) -> (ImapView, ImapView) {
        let tree = self.top.path().join("replica");
        self.replica.lock().flush().expect("written down");
        let copy = self.top.path().join("copy");
        let mut cp = std::process::Command::new("/bin/cp");
        assert!(cp.arg("-a").arg(&tree).arg(&copy).status().expect("cp runs").success());
        let promoted = builder_on(&self.builder, &tree, &copy).start().expect("a promoted replica");
        (self.master.view(user).expect("the master's"), promoted.view(user).expect("the replica's"))
    }
}

fn builder_on(builder: &CyrusBuilder, tree: &Path, copy: &Path) -> CyrusBuilder {
    let text = fs::read_to_string(tree.join("imapd.conf")).expect("an imapd.conf");
    let text = text.replace(&*tree.to_string_lossy(), &copy.to_string_lossy());
    builder.clone().conf(&text)
}

fn assert_same(mut master: ImapView, mut replica: ImapView) {
    for view in [&mut master, &mut replica] {
        // Each server's own log of itself.
        for folder in view.folders.values_mut() {
            folder.annotations.retain(|entry, _| !entry.ends_with("/lastpop"));
        }
    }
    assert_eq!(
        master.folders.keys().collect::<Vec<_>>(),
        replica.folders.keys().collect::<Vec<_>>()
    );
    for (name, folder) in &master.folders {
        assert_eq!(folder, &replica.folders[name], "{name}");
    }
    assert_eq!(master, replica);
}

#[test]
fn a_master_replicates_and_a_cyrus_serves_what_it_replicated() {
    let Some(pair) = Pair::start("a_master_replicates") else { return };
    pair.master.create_user("glad").expect("a user");
    let mut imap = pair.master.imap_as("glad").expect("a client");
    for folder in ["INBOX/Sent", "INBOX/Old", "INBOX/Gone"] {
        imap.create(folder).expect("created");
    }
    let mut mail = MailGenerator::new(4, Sizes::Small).messages(12);
    mail.push(b"Subject: no body\r\n\r\n".to_vec());
    for (at, message) in mail.iter().enumerate() {
        let flags: &[&str] = if at % 3 == 0 { &["\\Seen", "$Label1"] } else { &[] };
        let append = Append { message, flags, internaldate: Some(1_700_000_000 + at as i64) };
        imap.append("INBOX", append).expect("appended");
    }
    imap.select("INBOX").expect("selected");
    imap.copy("1:5", "INBOX/Sent").expect("copied");
    imap.subscribe("INBOX/Sent").expect("subscribed");
    pair.sync("glad");
    pair.sync("glad");

    imap.store("2", "+FLAGS", &["\\Flagged", "Work"]).expect("stored");
    imap.store("3:4", "+FLAGS", &["\\Deleted"]).expect("stored");
    imap.expunge().expect("expunged");
    imap.rename("INBOX/Old", "INBOX/New").expect("renamed");
    imap.delete("INBOX/Gone").expect("deleted");
    imap.copy("6:8", "INBOX/New").expect("copied");
    imap.unsubscribe("INBOX/Sent").expect("unsubscribed");
    imap.subscribe("INBOX/New").expect("subscribed");
    imap.set_metadata("INBOX/New", "/shared/comment", Some("mine")).expect("annotated");
    pair.master.admin().expect("an admin").set_quota("user/glad", "STORAGE 100000").expect("set");
    pair.sync("glad");
    pair.sync("glad");
    let (master, replica) = pair.promoted("glad");
    assert_same(master, replica);
}

/// A snapshot of the replica has the shared mailboxes, and finds the locks in use.
fn check_shared(pair: &Pair) {
    pair.replica.lock().flush().expect("written down");
    let conf = pair.top.path().join("replica/imapd.conf");
    let server = Server::open(&conf, &Options::default()).expect("a spool");
    let frozen = server.freeze(&Userid::shared()).expect("an account");
    assert_eq!(frozen.findings, []);
    let names: Vec<_> = frozen.mailboxes.iter().map(|mailbox| &mailbox.entry.name).collect();
    assert_eq!(names, [&"shared.info".into()]);
    let info = &frozen.mailboxes[0];
    assert_eq!(info.list_messages().expect("a directory"), [Uid(1), Uid(2)]);
    assert!(info.index.is_some() && info.findings.is_empty(), "{:?}", info.findings);
    assert!(pair.top.path().join("replica/conf/lock/*U*.lock").exists());
}

#[test]
fn a_log_is_worked_off_until_both_are_the_same() {
    let Some(pair) = Pair::start("a_log_is_worked_off") else { return };
    for user in ["glad", "bob", "carol"] {
        pair.master.create_user(user).expect("a user");
    }
    let mut admin = pair.master.admin().expect("an admin");
    admin.create("shared/info").expect("created");
    admin.set_acl("shared/info", "glad", "lrswipte").expect("granted");
    let mail = MailGenerator::new(5, Sizes::Small).messages(20);
    let append = |imap: &mut ImapClient, folder: &str, message: &[u8]| {
        let append = Append { message, flags: &[], internaldate: None };
        imap.append(folder, append).expect("appended");
    };
    admin.set_acl("shared/info", "cyrus", "lrswipte").expect("granted");
    append(&mut admin, "shared/info", &mail[0]);
    append(&mut admin, "shared/info", &mail[1]);
    for user in ["glad", "bob", "carol"] {
        let mut imap = pair.master.imap_as(user).expect("a client");
        for folder in ["INBOX/a", "INBOX/a/b", "INBOX/c.d"] {
            imap.create(folder).expect("created");
        }
        mail.iter().for_each(|message| append(&mut imap, "INBOX/a/b", message));
        append(&mut imap, "INBOX", &mail[3]);
    }
    pair.sync_log();

    let mut glad = pair.master.imap_as("glad").expect("a client");
    glad.select("shared/info").expect("selected");
    glad.store("1", "+FLAGS", &["\\Seen"]).expect("stored");
    glad.unselect().expect("closed");
    glad.select("INBOX/a/b").expect("selected");
    glad.annotate("3", "/comment", "value.priv", "mine").expect("annotated");
    glad.annotate("4", "/comment", "value.shared", "ours").expect("annotated");
    glad.move_to("5:9", "INBOX/c.d").expect("moved");
    glad.rename("INBOX/a", "INBOX/z").expect("renamed");
    glad.create("INBOX/a").expect("created");
    append(&mut glad, "INBOX/a", &mail[4]);
    glad.delete("INBOX/z/b").expect("deleted");
    pair.sync_log();
    admin.rename("user/bob", "user/rob").expect("renamed");
    admin.set_acl("user/carol", "cyrus", "lrswipkxtecda").expect("granted");
    admin.delete("user/carol").expect("deleted");
    append(&mut glad, "INBOX/a", &mail[5]);
    pair.sync_log();

    let state = pair.replica.lock();
    assert!(state.mailboxes_of(&"bob".into()).is_empty());
    assert_eq!(state.mailboxes_of(&"rob".into()).len(), 4);
    let carol = state.mailboxes_of(&"carol".into());
    assert!(carol.iter().all(|entry| entry.name.as_bytes().starts_with(b"DELETED.")));
    drop(state);
    check_shared(&pair);
    let (master, replica) = pair.promoted("glad");
    assert!(master.folders.contains_key("shared/info"), "{:?}", master.folders.keys());
    assert_same(master, replica);
}
