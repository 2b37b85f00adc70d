//! `cylinder reconstruct` and a real Cyrus, which serves what was reconstructed, and whose own `reconstruct`
//! has nothing to say of it.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use testkit::imap::{Append, ImapView};
use testkit::{Cyrus, cyrus_or_skip};

use crate::account::Rich;
use crate::program::cylinder;
use crate::restored::reconstruct as reconstruct_of_cyrus;

/// A server, what clients saw there, and what the directory of its INBOX held.
struct Scene {
    cyrus: Cyrus,
    inbox: PathBuf,
    seen: ImapView,
}

impl Scene {
    fn new(test: &str) -> Option<Self> {
        let mut cyrus = cyrus_or_skip(test)?.start().expect("Cyrus starts");
        Rich::named("glad").fill(&cyrus);
        let inbox = cyrus.mailbox_directory("user/glad").expect("a directory");
        let seen = cyrus.view("glad").expect("an account");
        cyrus.stop();
        Some(Self { cyrus, inbox, seen })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.inbox.join(name)
    }

    /// What it tells, and does.
    #[track_caller]
    fn reconstruct(&self, more: &[&str]) -> Value {
        let conf = self.cyrus.imapd_conf().display().to_string();
        let arguments = ["reconstruct", "-C", &conf, "glad", "--json", "--apply"];
        let ran = cylinder(arguments.iter().chain(more));
        serde_json::from_slice(&ran.expect(0).stdout).expect("a JSON document")
    }

    /// What clients see then. Neither an audit nor Cyrus itself may find anything to do.
    #[track_caller]
    fn served(&mut self) -> ImapView {
        self.cyrus.start().expect("Cyrus starts");
        let seen = self.cyrus.view("glad").expect("an account");
        let conf = self.cyrus.imapd_conf().display().to_string();
        cylinder(["audit", "-C", &conf, "glad", "--full"]).expect(0);
        let said = reconstruct_of_cyrus(&self.cyrus, "user/glad");
        let wrong = |line: &String| {
            ["mismatch", "updating", "not found", "wiping", "adding", "future", "Wrong"]
                .iter()
                .any(|word| line.contains(word))
        };
        let wrong: Vec<&String> = said.iter().filter(|line| wrong(line)).collect();
        assert_eq!(wrong, [] as [&String; 0], "{said:#?}");
        seen
    }
}

/// The reasons that were told, each once, sorted.
fn reasons(told: &Value) -> Vec<String> {
    let all = told["told"].as_array().expect("a list").iter();
    let mut all: Vec<String> =
        all.map(|t| t["why"].as_str().unwrap_or("left").to_owned()).collect();
    all.sort();
    all.dedup();
    all
}

#[test]
fn what_cyrus_has_written_is_whole() {
    let Some(mut scene) = Scene::new("what_cyrus_has_written_is_whole") else { return };
    for more in [&[][..], &["-G"]] {
        let told = scene.reconstruct(more);
        assert_eq!(told["changes"], 0, "{told:#}");
    }
    let served = scene.served();
    assert_eq!(scene.seen.differences(&served), Vec::<String>::new());
}

#[test]
fn a_lost_index_header_and_flipped_bits_cost_nothing() {
    let Some(mut scene) = Scene::new("a_lost_index_header_and_flipped_bits") else { return };
    let index = scene.file("cyrus.index");
    let good = fs::read(&index).expect("an index");
    let mut bad = good.clone();
    // A bit of the header, and one of a record of each message.
    bad[29] ^= 8;
    let records = (bad.len() - 160) / 112;
    for at in 0..records {
        bad[160 + at * 112 + at % 112] ^= 1 << (at % 8);
    }
    fs::write(&index, bad).expect("damage");
    let told = scene.reconstruct(&[]);
    assert_eq!(reasons(&told), ["bit-put-back"], "{told:#}");
    assert_eq!(fs::read(&index).expect("an index"), good);

    let mut bad = good;
    bad[..160].fill(0);
    fs::write(&index, bad).expect("damage");
    scene.reconstruct(&[]);
    let served = scene.served();
    let [was, is] = [&scene.seen, &served].map(|view| &view.folders["INBOX"]);
    assert_eq!(was.messages, is.messages, "flags, dates and all");
    assert_eq!((was.uid_validity, &was.mailbox_id), (is.uid_validity, &is.mailbox_id));
    assert_eq!(scene.seen.quotas, served.quotas);
}

#[test]
fn without_an_index_messages_keep_uids_dates_and_bytes() {
    let Some(mut scene) = Scene::new("without_an_index_messages_keep_uids") else { return };
    fs::remove_file(scene.file("cyrus.index")).expect("damage");
    fs::remove_file(scene.file("cyrus.cache")).expect("damage");
    let told = scene.reconstruct(&[]);
    assert!(reasons(&told).contains(&"index-remade".to_owned()), "{told:#}");
    let served = scene.served();
    let [was, is] = [&scene.seen, &served].map(|view| &view.folders["INBOX"]);
    assert_eq!(was.uid_validity, is.uid_validity);
    assert!(is.uid_next >= was.messages.keys().max().map_or(1, |uid| u64::from(uid + 1)));
    for (uid, message) in &was.messages {
        let now = is.messages.get(uid).expect("it is there");
        assert_eq!((message.guid, message.size), (now.guid, now.size));
        assert_eq!(message.internaldate, now.internaldate);
    }
}

#[test]
fn strays_are_served_and_flags_outlive_their_names() {
    let Some(mut scene) = Scene::new("strays_are_served_and_flags_outlive") else { return };
    let last = scene.seen.folders["INBOX"].uid_next + 40;
    let stray = b"Subject: stray\r\nDate: Tue, 03 Feb 2009 10:11:12 +0100\r\n\r\nfound\r\n";
    let path = scene.file(&format!("{last}."));
    fs::write(&path, stray).expect("a stray");
    copy_owner(&scene.file("cyrus.index"), &path);
    fs::remove_file(scene.file("cyrus.header")).expect("damage");
    let told = scene.reconstruct(&[]);
    let reasons = reasons(&told);
    for why in ["adopted", "counters", "header-remade"] {
        assert!(reasons.iter().any(|told| told == why), "{told:#}");
    }
    let served = scene.served();
    let [was, is] = [&scene.seen, &served].map(|view| &view.folders["INBOX"]);
    assert_eq!((&was.acl, &was.mailbox_id), (&is.acl, &is.mailbox_id));
    assert_eq!(was.quota_root, is.quota_root);
    for (uid, message) in &was.messages {
        let now = &is.messages[uid];
        let system = |flags: &std::collections::BTreeSet<String>| -> Vec<String> {
            flags.iter().filter(|flag| flag.starts_with('\\')).cloned().collect()
        };
        assert_eq!((message.guid, system(&message.flags)), (now.guid, system(&now.flags)));
        assert_eq!(message.flags.len(), now.flags.len(), "as many flags as before");
    }
    let mut client = scene.cyrus.imap_as("glad").expect("a client");
    client.select("INBOX").expect("it opens");
    let uid = u32::try_from(last).expect("a UID");
    assert_eq!(client.body(uid).expect("an answer").as_deref(), Some(&stray[..]));
    let found = client.search("SUBJECT stray SENTON 3-Feb-2009").expect("an answer");
    assert_eq!(found, [uid]);
    // And it goes on from there.
    let message = Append { message: b"Subject: next\r\n\r\nnext\r\n", ..Append::default() };
    assert_eq!(client.append("INBOX", message).expect("an append"), uid + 1);
}

#[test]
fn it_refuses_while_cyrus_runs() {
    let Some(builder) = cyrus_or_skip("it_refuses_while_cyrus_runs") else { return };
    let cyrus = builder.start().expect("Cyrus starts");
    cyrus.create_user("glad").expect("a user");
    let conf = cyrus.imapd_conf().display().to_string();
    let refused = cylinder(["reconstruct", "-C", &conf, "glad", "--apply"]).expect(1);
    assert!(refused.stderr.contains("somebody is at work in this spool"), "{}", refused.stderr);
}

/// Gives a file to whom another one belongs.
fn copy_owner(from: &Path, to: &Path) {
    use std::os::unix::fs::{MetadataExt, chown};
    let owner = fs::metadata(from).expect("there");
    chown(to, Some(owner.uid()), Some(owner.gid())).expect("given");
}
