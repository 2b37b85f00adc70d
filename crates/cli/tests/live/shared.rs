//! Mailboxes that no user owns, on a running Cyrus: kept, and given back as they were.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::thread;

use tempfile::TempDir;
use testkit::imap::Append;
use testkit::locks::{LockMode, LockProcess};
use testkit::mail::{MailGenerator, Sizes};
use testkit::process::wait_until;
use testkit::storm::{Storm, StormPlan};
use testkit::{Cyrus, CyrusBuilder, ImapView, cyrus_or_skip};

use crate::chain_check;
use crate::program::{PATIENCE, Ran, Snapshot, cylinder, list, restore};
use crate::restored::{reconstruct, scratch, serve};
use crate::waiting::{A_WHILE, Running, until_waited_for};

/// What the admin may do, so that he sees and deletes what there is.
const ALL_RIGHTS: &str = "lrswipkxtecdan";

/// How many snapshots are taken of shared mailboxes that are in use.
const SNAPSHOTS: usize = 20;

/// How much clients do between two snapshots, at least.
const BETWEEN: u64 = 10;

/// A server with shared mailboxes, in a domain or in none.
struct Scene {
    /// Of servers on restored trees.
    plain: CyrusBuilder,
    cyrus: Cyrus,
    /// Behind the names of its mailboxes.
    domain: &'static str,
    scratch: TempDir,
}

impl Scene {
    fn new(plain: &CyrusBuilder, configured: CyrusBuilder, domain: &'static str) -> Self {
        let cyrus = configured.start().expect("Cyrus starts");
        let scene = Self { plain: plain.clone(), cyrus, domain, scratch: scratch() };
        scene.fill();
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    fn name(&self, mailbox: &str) -> String {
        format!("{mailbox}{}", self.domain)
    }

    fn user(&self) -> String {
        self.name("glad")
    }

    /// Shared mailboxes of two hierarchies; users deliver, flag and copy there.
    /// None is annotated: that kills imapd 3.6.1 where no user owns the mailbox.
    fn fill(&self) {
        self.cyrus.create_user(&self.user()).expect("a user");
        let mut admin = self.cyrus.admin().expect("the admin");
        for mailbox in
            ["shared", "shared/box", "shared/box/sub", "shared/old", "lists", "lists/a.b"]
        {
            let name = self.name(mailbox);
            admin.create(&name).expect("a mailbox");
            admin.set_acl(&name, "cyrus", ALL_RIGHTS).expect("rights");
            admin.set_acl(&name, "anyone", "lrswipte").expect("rights");
        }
        admin.set_quota(&self.name("shared"), "STORAGE 10000 MESSAGE 100").expect("a quota");
        for (mailbox, seed) in
            [("shared/box", 1), ("shared/box/sub", 2), ("shared/old", 3), ("lists/a.b", 4)]
        {
            self.deliver(mailbox, seed, 4);
        }
        let mut client = self.cyrus.imap_as(&self.user()).expect("a client");
        client.select("shared/box").expect("a shared mailbox");
        client.store("1:2", "+FLAGS", &["\\Flagged", "Later"]).expect("flags");
        client.copy("3", "lists/a.b").expect("a copy");
        client.store("4", "+FLAGS", &["\\Deleted"]).expect("a flag");
        client.expunge().expect("an expunge");
        admin.delete(&self.name("shared/old")).expect("a deletion");
    }

    fn deliver(&self, mailbox: &str, seed: u64, messages: usize) {
        let mut client = self.cyrus.imap_as(&self.user()).expect("a client");
        for message in MailGenerator::new(seed, Sizes::Small).messages(messages) {
            let append = Append {
                message: &message,
                flags: &["\\Answered"],
                internaldate: Some(1_500_000_000),
            };
            client.append(mailbox, append).expect("an append");
        }
    }

    /// A bit of everything, for a second snapshot: also a rename into the other hierarchy.
    fn change(&self) {
        let mut admin = self.cyrus.admin().expect("the admin");
        admin.rename(&self.name("shared/box/sub"), &self.name("lists/sub")).expect("a new name");
        admin.set_acl(&self.name("lists/a.b"), "anyone", "lr").expect("rights");
        admin.create(&self.name("shared/old")).expect("the same name once more");
        self.deliver("shared/old", 5, 2);
        self.deliver("shared/box", 6, 2);
        let mut client = self.cyrus.imap_as(&self.user()).expect("a client");
        client.select("shared/box").expect("a shared mailbox");
        client.store("1", "-FLAGS", &["Later"]).expect("flags");
        client.move_to("2", "lists/sub").expect("a move");
    }

    fn seen(&self) -> Seen {
        Seen::of(&self.cyrus, self.domain)
    }
}

/// All that can be seen of shared mailboxes from outside.
struct Seen {
    /// As the admin sees them, deleted ones included.
    view: ImapView,
    /// What `unexpunge` lists of one of them.
    expunged: String,
}

impl Seen {
    fn of(cyrus: &Cyrus, domain: &str) -> Self {
        let mut admin = cyrus.admin().expect("the admin");
        let mut view = ImapView::default();
        for pattern in ["shared*", "lists*", "DELETED/*"] {
            let some = ImapView::of_mailboxes(&mut admin, pattern).expect("the admin's view");
            view.folders.extend(some.folders);
            view.quotas.extend(some.quotas);
        }
        let mailbox = format!("shared/box{domain}");
        let expunged = cyrus.tool("unexpunge", &["-l", &mailbox]).expect("unexpunge lists").stdout;
        Self { view, expunged }
    }

    #[track_caller]
    fn assert_same(&self, found: &Seen) {
        assert_eq!(self.view.differences(&found.view), Vec::<String>::new());
        assert_eq!(self.expunged, found.expunged);
    }
}

/// A full snapshot and an incremental one, restored together onto another Cyrus.
fn check(plain: &CyrusBuilder, configured: CyrusBuilder, domain: &'static str) {
    let scene = Scene::new(plain, configured, domain);
    let (full, more, tree) = (scene.path("full.tar"), scene.path("more.tar"), scene.path("tree"));
    let snapshot = Snapshot::full(scene.cyrus.imapd_conf(), "%shared");
    snapshot.take(&full);
    scene.change();
    let want = scene.seen();
    assert!(want.view.folders.keys().any(|name| name.starts_with("DELETED/shared/old/")));
    assert!(want.view.folders.contains_key(&scene.name("lists/sub")), "{:?}", want.view.folders);
    assert!(want.view.quotas.contains_key(&scene.name("shared")), "{:?}", want.view.quotas);
    assert!(!want.expunged.is_empty());
    let report = Snapshot { since: &[&full], ..snapshot }.take(&more);
    assert_eq!(report["mailboxes_renamed"], 1, "{report:#}");
    assert_eq!(report["messages_new"], 4, "what was renamed and moved is stored already");
    let listed = list(&[&full, &more]);
    assert_eq!((listed.len(), &listed[1]["account"]), (2, &"%shared".into()));

    restore("%shared", &[&full, &more], &format!("dir:{}", tree.display()), &[]);
    let restored = serve(&scene.plain, &tree);
    want.assert_same(&Seen::of(&restored, domain));
    for top in ["shared", "lists"] {
        let top = scene.name(top);
        assert_eq!(reconstruct(&scene.cyrus, &top), reconstruct(&restored, &top), "{top}");
    }
    let picked = scene.path("picked");
    let to = format!("maildir:{}", picked.display());
    let pick = match domain.strip_prefix('@') {
        Some(domain) => format!("{domain}!lists.sub"),
        None => "lists/sub".to_owned(),
    };
    let report = restore("%shared", &[&full, &more], &to, &["--mailbox", &pick]);
    assert_eq!(report["messages"], 5, "{report:#}");
}

#[test]
fn shared_mailboxes_come_back() {
    let Some(builder) = cyrus_or_skip("shared_mailboxes_come_back") else { return };
    check(&builder, builder.clone(), "");
}

#[test]
fn shared_mailboxes_in_directories_named_like_them_come_back() {
    let Some(builder) = cyrus_or_skip("shared_mailboxes_in_directories_named") else { return };
    check(&builder, builder.clone().legacy_dirs(true).hashimapspool(true), "");
}

#[test]
fn shared_mailboxes_of_another_domain_come_back() {
    let Some(builder) = cyrus_or_skip("shared_mailboxes_of_another_domain") else { return };
    check(&builder, builder.clone().virtdomains("userid").conversations(true), "@other.test");
}

fn vault(scene: &Scene, verb: &str, more: &[&str]) -> Ran {
    let vault = scene.path("vault").display().to_string();
    cylinder([&[verb, "--vault", &vault][..], more].concat())
}

#[test]
fn a_backup_of_all_accounts_has_the_shared_mailboxes_at_each_moment() {
    let Some(builder) = cyrus_or_skip("a_backup_of_all_accounts_has") else { return };
    let scene = Scene::new(&builder, builder.clone(), "");
    let conf = scene.cyrus.imapd_conf().display().to_string();
    let mut seen = Vec::new();
    for _ in 0..2 {
        let report = vault(&scene, "backup", &["-C", &conf, "--all", "--json"]).expect(0);
        let report: serde_json::Value =
            serde_json::from_slice(&report.stdout).expect("a JSON document");
        assert_eq!(report["accounts"][0]["account"], "%shared", "{report:#}");
        seen.push(scene.seen());
        if seen.len() == 1 {
            scene.change();
        }
    }
    for (at, want) in ["1", "2"].iter().zip(&seen) {
        let tree = scene.path(&format!("tree{at}"));
        let to = format!("dir:{}", tree.display());
        vault(&scene, "restore", &["%shared", "--at", at, "--to", &to]).expect(0);
        want.assert_same(&Seen::of(&serve(&scene.plain, &tree), ""));
    }
    let drill = scene.path("drill").display().to_string();
    vault(&scene, "verify", &["--drill", &drill]).expect(0);
    vault(&scene, "verify", &["--read-data", "%shared"]).expect(0);
}

#[test]
fn snapshots_of_shared_mailboxes_in_a_storm_are_each_consistent() {
    let Some(builder) = cyrus_or_skip("snapshots_of_shared_mailboxes_in_a_storm") else { return };
    let cyrus = builder.clone().start().expect("Cyrus starts");
    for user in ["glad", "iris"] {
        cyrus.create_user(user).expect("a user");
    }
    let mut admin = cyrus.admin().expect("the admin");
    admin.create("shared").expect("a mailbox");
    for who in ["cyrus", "glad", "iris"] {
        admin.set_acl("shared", who, ALL_RIGHTS).expect("rights");
    }
    let scratch = scratch();
    let (archive, one) = (scratch.path().join("chain.tar"), scratch.path().join("one.tar"));
    let snapshot = Snapshot::full(cyrus.imapd_conf(), "%shared");
    let plan = StormPlan {
        top: "shared".to_owned(),
        ..StormPlan::new(cyrus.imap_address(), &["glad", "iris"], 2011)
    };
    let storm = Storm::start(&plan);
    for number in 0..SNAPSHOTS {
        let enough = storm.progress() + BETWEEN;
        assert!(wait_until(PATIENCE, || storm.progress() >= enough), "clients don't get on");
        match number {
            0 => drop(snapshot.take(&archive)),
            _ => append_to(&archive, &one, Snapshot { since: &[&archive], ..snapshot }),
        }
    }
    let report = storm.stop().expect("no client fails");
    assert!(["append", "rename", "delete"].iter().all(|did| report.done.contains_key(did)));
    append_to(&archive, &one, Snapshot { since: &[&archive], ..snapshot });
    let checked = chain_check::check(&archive, "%shared");
    assert_eq!(checked.snapshots, SNAPSHOTS + 1);

    let want = ImapView::of_mailboxes(&mut admin, "shared*").expect("the admin's view");
    let tree = scratch.path().join("tree");
    restore("%shared", &[&archive], &format!("dir:{}", tree.display()), &[]);
    let restored = serve(&builder, &tree);
    let mut admin = restored.admin().expect("the admin");
    let found = ImapView::of_mailboxes(&mut admin, "shared*").expect("the admin's view");
    assert_eq!(want.differences(&found), Vec::<String>::new());
}

/// Takes a snapshot and puts it behind an archive.
fn append_to(archive: &Path, one: &Path, snapshot: Snapshot<'_>) {
    snapshot.take(one);
    let both = [archive, one].map(|path| fs::read(path).expect("readable")).concat();
    fs::write(archive, both).expect("written");
}

#[test]
fn while_shared_mailboxes_are_read_none_is_made_and_mail_comes_all_the_same() {
    let test = "while_shared_mailboxes_are_read";
    let Some(builder) = cyrus_or_skip(test) else { return };
    let Some(mut holder) = LockProcess::start_or_skip(test) else { return };
    let scene = Scene::new(&builder, builder.clone(), "");
    let conf = scene.cyrus.config_directory();
    // Quotas are copied behind all mailboxes: whoever holds one stops the snapshot right there.
    let (quota, user_lock) = (conf.join("quota/s/shared"), conf.join("lock/*U*.lock"));
    assert!(holder.try_lock(&quota, LockMode::Exclusive).expect("an answer"));
    let snapshot = Snapshot::full(scene.cyrus.imapd_conf(), "%shared");
    let mut command = std::process::Command::new(crate::program::CYLINDER);
    command.args(snapshot.arguments()).args(["--lock-wait", "600"]);
    command.arg("-o").arg(scene.path("full.tar"));
    let running = Running::start(&mut command);
    until_waited_for(&quota);

    let mut admin = scene.cyrus.admin().expect("the admin");
    let (sender, made) = channel();
    let creation = thread::spawn(move || {
        let outcome = admin.create("shared/new");
        sender.send(()).expect("the test listens");
        outcome
    });
    until_waited_for(&user_lock);
    made.recv_timeout(A_WHILE).expect_err("the creation waits");
    scene.deliver("lists/a.b", 7, 1);

    holder.unlock(&quota).expect("an answer");
    creation.join().expect("no panic").expect("a mailbox");
    let report = running.end().expect(0).report();
    let locks = report["locks"].as_array().expect("locks");
    let held = locks.iter().find(|lock| lock["kind"] == "user").expect("a user lock");
    assert_eq!(held["file"], user_lock.display().to_string());
    assert_eq!(report["mailboxes"], 6, "the new one is not in it: {report:#}");
}

#[test]
fn cyrus_makes_no_user_of_that_name() {
    let Some(builder) = cyrus_or_skip("cyrus_makes_no_user_of_that_name") else { return };
    let cyrus = builder.start().expect("Cyrus starts");
    let mut admin = cyrus.admin().expect("the admin");
    let error = admin.create("user/%shared").expect_err("no such name");
    assert!(error.is_refusal(), "{error:?}");
    admin.create("user/shared").expect("a name without the sign");
}
