//! Mailboxes that no user owns, replicated to a real Cyrus and to `cylinder serve`.

use std::path::Path;

use serde_json::Value;
use testkit::mail::{MailGenerator, Sizes};
use testkit::served::Served;
use testkit::{Cyrus, ImapView};

use crate::program::CYLINDER;
use crate::replicate::{Pair, document, fill, steps};

/// What the admin may do, so that he sees and changes what there is.
const ALL_RIGHTS: &str = "lrswipkxtecdan";

struct Scene {
    pair: Pair,
    served: Served,
}

impl Scene {
    /// Shared mailboxes of two hierarchies, one with a level that is no mailbox.
    fn start(test: &str, options: &[(&str, &str)]) -> Option<Self> {
        let pair = Pair::with(test, options)?;
        let served = Served::start(Path::new(CYLINDER)).expect("a replica");
        let scene = Self { pair, served };
        let names = ["shared", "shared/a", "shared/b", "shared/old", "lists/deep/er"];
        names.iter().for_each(|name| scene.create(name));
        let mut admin = scene.pair.master.admin().expect("an admin");
        admin.set_quota("shared", "STORAGE 10000 MESSAGE 100").expect("a quota");
        for (seed, name) in (20..).zip(["shared/a", "shared/b", "shared/old", "lists/deep/er"]) {
            scene.append(name, seed);
        }
        Some(scene)
    }

    fn create(&self, name: &str) {
        let mut admin = self.pair.master.admin().expect("an admin");
        admin.create(name).expect("created");
        admin.set_acl(name, "cyrus", ALL_RIGHTS).expect("granted");
        admin.set_acl(name, "anyone", "lrswipte").expect("granted");
    }

    fn append(&self, name: &str, seed: u64) {
        let mail = MailGenerator::new(seed, Sizes::Small).messages(4);
        fill(&mut self.pair.glad(), name, &mail);
    }

    /// Replicates to both; returns what is said of the account to the real one.
    #[track_caller]
    fn run(&self, arguments: &[&str]) -> Value {
        let ran = self.pair.run_to(self.served.address(), arguments).expect(0);
        println!("to cylinder serve: {:#}", document(&ran));
        let report = document(&self.pair.run(arguments).expect(0));
        println!("to sync_server: {report:#}");
        report
    }

    /// Replicates everything, which has to end in the same state everywhere.
    #[track_caller]
    fn sync(&self) -> Value {
        let report = self.run(&["--all"]);
        let again = self.run(&["--all"]);
        assert_eq!((&again["unchanged"], &again["problems"]), (&2.into(), &0.into()), "{again:#}");
        let [here, there] = [&self.pair.master, &self.pair.replica].map(shared);
        assert_eq!(here.differences(&there), Vec::<String>::new());
        self.pair.compare();
        report
    }
}

/// Shared mailboxes, as the admin sees them, deleted ones included.
fn shared(server: &Cyrus) -> ImapView {
    let mut admin = server.admin().expect("an admin");
    let mut view = ImapView::default();
    for pattern in ["shared*", "lists*", "DELETED/*"] {
        let some = ImapView::of_mailboxes(&mut admin, pattern).expect("the admin's view");
        view.folders.extend(some.folders);
        view.quotas.extend(some.quotas);
    }
    view
}

#[test]
fn shared_mailboxes_reach_both_replicas() {
    let Some(scene) = Scene::start("shared_mailboxes_reach_both_replicas", &[]) else { return };
    let report = scene.sync();
    assert_eq!(report["done"]["messages"], 16, "{report:#}");

    let mut imap = scene.pair.glad();
    imap.subscribe("shared/a").expect("subscribed");
    imap.select("shared/a").expect("selected");
    imap.store("1:2", "+FLAGS", &["\\Seen", "\\Flagged", "Later"]).expect("stored");
    imap.copy("3", "lists/deep/er").expect("copied");
    imap.store("4", "+FLAGS", &["\\Deleted"]).expect("stored");
    imap.expunge().expect("expunged");
    imap.unselect().expect("closed");
    let mut admin = scene.pair.master.admin().expect("an admin");
    admin.delete("shared/old").expect("deleted");
    admin.rename("lists/deep/er", "shared/er").expect("renamed");
    admin.set_quota("shared", "STORAGE 20000").expect("a quota");
    scene.sync();

    // The real client never gets this done.
    for (from, to) in [("shared/a", "shared/x"), ("shared/b", "shared/a"), ("shared/x", "shared/b")]
    {
        admin.rename(from, to).expect("renamed");
    }
    let report = scene.sync();
    let plan = steps(&report["accounts"][0]);
    assert!(plan.iter().any(|step| step.contains("-cylinder-")), "{report:#}");
    assert_eq!((&report["done"]["messages"], &report["done"]["removed"]), (&0.into(), &0.into()));
}

#[test]
fn a_mailbox_that_changes_hands_keeps_its_messages() {
    let Some(scene) = Scene::start("a_mailbox_that_changes_hands", &[]) else { return };
    let mut imap = scene.pair.glad();
    imap.create("INBOX/box").expect("created");
    scene.append("INBOX/box", 30);
    scene.sync();
    let mut admin = scene.pair.master.admin().expect("an admin");
    admin.set_acl("user/glad/box", "cyrus", ALL_RIGHTS).expect("granted");
    for (from, to) in [("user/glad/box", "shared/box"), ("shared/box", "user/glad/back")] {
        admin.rename(from, to).expect("renamed");
        // One after the other: %shared comes first.
        let report = scene.run(&["--all", "--jobs", "1"]);
        let done = &report["done"];
        assert_eq!((&done["renamed"], &done["messages"]), (&1.into(), &0.into()), "{report:#}");
        assert_eq!(done["removed"], 0, "{report:#}");
        scene.sync();
    }
}

#[test]
fn shared_mailboxes_that_are_deleted_at_once_leave_the_replica() {
    let options = [("delete_mode", "immediate")];
    let Some(scene) = Scene::start("shared_mailboxes_that_are_deleted_at_once", &options) else {
        return;
    };
    scene.sync();
    scene.pair.master.admin().expect("an admin").delete("shared/old").expect("deleted");
    let report = scene.sync();
    assert_eq!(steps(&report["accounts"][0]), ["remove shared.old"]);
}

#[test]
fn one_shared_mailbox_is_sent_alone() {
    let Some(scene) = Scene::start("one_shared_mailbox_is_sent_alone", &[]) else { return };
    scene.run(&["--user", "%shared"]);
    scene.append("shared/a", 31);
    scene.append("shared/b", 32);
    let report = scene.run(&["--mailbox", "shared/b"]);
    let plan = steps(&report["accounts"][0]);
    assert_eq!(plan, ["update shared.b: 4 new, 0 changed, 0 expunged"]);
    // What is above it is a level there as well, and is not made anew each time.
    let report = scene.run(&["--mailbox", "lists/deep/er"]);
    assert_eq!((&report["unchanged"], &report["problems"]), (&1.into(), &0.into()), "{report:#}");
    scene.sync();
}
