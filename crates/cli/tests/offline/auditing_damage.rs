//! `cylinder audit` on spools that are damaged in every way there is: each damage is found, told for
//! what it is, with all that has to do with it, and nothing is changed.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use cyrus_format::db::{self, twoskip};
use cyrus_format::dlist::Dlist;
use cyrus_format::header::{MailboxHeader, file_crc};
use serde_json::Value;
use tempfile::TempDir;
use testkit::damage::{self, Checksum};
use testkit::imap::guid_of;
use testkit::mail::{MailGenerator, Sizes};
use testkit::skip::{Need, skip};
use testkit::spool_builder::{EPOCH, Era, NewMessage, SpoolBuilder, SpoolOptions};

use super::program::{Ran, cylinder};
use super::sample::{belongs_to_us, files, is_root, scratch};

/// Messages of INBOX, with UIDs from 1 on.
const INBOX: usize = 6;

/// Runs an audit.
pub fn audit(conf: &Path, more: &[&str]) -> Ran {
    let mut arguments: Vec<OsString> = vec!["audit".into(), "-C".into(), conf.into()];
    arguments.extend(more.iter().map(OsString::from));
    cylinder(arguments)
}

/// Runs one, and gives its JSON document.
#[track_caller]
pub fn document(conf: &Path, more: &[&str], code: i32) -> Value {
    audit(conf, &[more, &["--json"]].concat()).expect(code).document()
}

/// A spool of glad, whose Sent has links of the first two messages of INBOX, and of iris, who has
/// files of her own of the first three.
pub struct Scene {
    scratch: TempDir,
    pub conf: PathBuf,
    config: PathBuf,
    pub inbox: PathBuf,
    sent: PathBuf,
    pub metadata: PathBuf,
    pub mail: Vec<Vec<u8>>,
}

impl Scene {
    pub fn new() -> Self {
        Self::with(SpoolOptions { cache: true, ..SpoolOptions::new(Era::V3_6) })
    }

    pub fn with(options: SpoolOptions) -> Self {
        let scratch = scratch();
        let root = scratch.path().join("spool");
        let mut builder = SpoolBuilder::create(&root, options).expect("a spool");
        let mail = MailGenerator::new(3, Sizes::About(700)).messages(INBOX);
        let [mut inbox, mut sent, mut iris] = ["user.glad", "user.glad.Sent", "user.iris"]
            .map(|name| builder.mailbox(name).expect("a mailbox"));
        for (number, body) in mail.iter().enumerate() {
            let internaldate = EPOCH + number as i64;
            let message = NewMessage { bytes: body, internaldate, ..NewMessage::default() };
            let stored = inbox.add(&message).expect("a message");
            if number < 2 {
                sent.link(&stored, &message).expect("a link");
            }
            if number < 3 {
                iris.add(&message).expect("a message");
            }
        }
        let paths = [&inbox, &sent].map(|mailbox| mailbox.directory().to_owned());
        let metadata = inbox.metadata_directory().to_owned();
        for mailbox in [inbox, sent, iris] {
            builder.finish_mailbox(mailbox).expect("a mailbox");
        }
        builder.subscribe("glad", "user.glad.Sent");
        builder.limit("glad", 1000);
        let spool = builder.finish().expect("a spool");
        belongs_to_us(&spool.imapd_conf);
        let [inbox, sent] = paths;
        let (conf, config) = (spool.imapd_conf, spool.config_directory);
        Self { scratch, conf, config, inbox, sent, metadata, mail }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    pub fn config(&self) -> &Path {
        &self.config
    }

    pub fn index(&self) -> PathBuf {
        self.metadata.join("cyrus.index")
    }

    pub fn message(&self, uid: u32) -> PathBuf {
        damage::message_path(&self.inbox, uid)
    }

    #[track_caller]
    pub fn document(&self, more: &[&str], code: i32) -> Value {
        document(&self.conf, more, code)
    }

    /// Everything on the disk but lock files: bytes, inodes and times.
    pub fn state(&self) -> BTreeMap<PathBuf, (Vec<u8>, u64, i64, i64)> {
        let all = files(&self.path("spool")).into_iter();
        let kept = all.filter(|path| !path.components().any(|part| part.as_os_str() == "lock"));
        let state = kept.map(|path| {
            let found = path.symlink_metadata().expect("there");
            let bytes = if found.is_file() { fs::read(&path).expect("read") } else { Vec::new() };
            (path, (bytes, found.ino(), found.mtime(), found.ctime_nsec()))
        });
        state.collect()
    }

    /// Audits glad in both depths: the findings must be these, and nothing may change.
    #[track_caller]
    pub fn check(&self, expected: &[(&str, Option<u32>)]) -> Vec<Value> {
        let before = self.state();
        let code = if expected.is_empty() { 0 } else { 4 };
        let full = findings(&self.document(&["glad", "--full"], code));
        let mut found: Vec<(String, Option<u64>)> = full.iter().map(named).collect();
        found.sort();
        let expected = expected.iter();
        let mut expected: Vec<(String, Option<u64>)> =
            expected.map(|(code, uid)| ((*code).to_owned(), uid.map(u64::from))).collect();
        expected.sort();
        assert_eq!(found, expected, "{full:#?}");
        let quick = self.document(&["glad"], code);
        let mut quick: Vec<(String, Option<u64>)> = findings(&quick).iter().map(named).collect();
        quick.sort();
        assert_eq!(quick, expected, "quick");
        assert!(self.state() == before, "an audit changes nothing");
        full
    }

    /// The same of a damage that only reading finds.
    #[track_caller]
    pub fn check_read(&self, expected: &[(u32, &str)]) -> Vec<Value> {
        let before = self.state();
        let full = findings(&self.document(&["--all", "--full"], 4));
        let custodies: Vec<Value> = full.iter().map(|found| found["custody"].clone()).collect();
        let custodies: Vec<Value> = custodies.into_iter().filter(|c| !c.is_null()).collect();
        let of_inbox = custodies.iter().filter(|custody| custody["mailbox"] == "user.glad");
        let natures: Vec<(u64, &str)> = of_inbox
            .map(|c| (c["uid"].as_u64().expect("a UID"), c["nature"].as_str().expect("a word")))
            .collect();
        let expected: Vec<(u64, &str)> =
            expected.iter().map(|(uid, nature)| (u64::from(*uid), *nature)).collect();
        assert_eq!(natures, expected, "{full:#?}");
        assert!(self.state() == before, "an audit changes nothing");
        custodies
    }
}

/// All findings of a document.
pub fn findings(document: &Value) -> Vec<Value> {
    let accounts = document["accounts"].as_array().expect("accounts").iter();
    let findings = accounts.flat_map(|account| account["findings"].as_array().expect("findings"));
    findings.chain(document["server_findings"].as_array().expect("findings")).cloned().collect()
}

/// The code of a finding, and its UID.
pub fn named(finding: &Value) -> (String, Option<u64>) {
    (finding["code"].as_str().expect("a code").to_owned(), finding["uid"].as_u64())
}

#[test]
fn every_damage_of_an_index_is_found() {
    type Damage = fn(&Path) -> std::io::Result<()>;
    type Found<'f> = &'f [(&'f str, Option<u32>)];
    let damages: [(Damage, Found<'_>); 10] = [
        (|index| damage::zero_guid(index, 1, Checksum::Fixed), &[("sync-crc", None)]),
        (|index| damage::zero_guid(index, 1, Checksum::Stale), &[("record-crc", Some(2))]),
        (|index| damage::break_record(index, 4), &[("record-crc", Some(5))]),
        (damage::break_index_header, &[("index-header-crc", None)]),
        (|index| damage::lie_about_records(index, 1_000_000), &[("index-truncated", None)]),
        (
            |index| damage::lie_about_records(index, 4),
            &[
                ("index-tail", None),
                ("index-counters", None),
                ("sync-crc", None),
                ("sync-crc", None),
                ("orphan-file", Some(5)),
                ("orphan-file", Some(6)),
            ],
        ),
        (
            |index| damage::truncate(index, 150),
            &[("index-truncated", None), ("orphan-file", Some(5)), ("orphan-file", Some(6))],
        ),
        (|index| damage::lengthen(index, &[7; 300]), &[("index-tail", None)]),
        (|index| damage::claim_version(index, 99), &[("index-too-new", None)]),
        (|index| fs::remove_file(index), &[("index-unreadable", None)]),
    ];
    for (damage, expected) in damages {
        let scene = Scene::new();
        damage(&scene.index()).expect("damage");
        scene.check(expected);
    }
    let disorder = Scene::new();
    damage::edit_record(&disorder.index(), 5, Checksum::Fixed, |record| {
        record[..4].copy_from_slice(&2_u32.to_be_bytes());
    })
    .expect("damage");
    disorder.check(&[("record-order", Some(2)), ("orphan-file", Some(6))]);
}

#[test]
fn counters_that_lie_consistently_are_found() {
    for (offset, code) in [
        (32, "index-counters"),
        (52, "index-counters"),
        (84, "index-counters"),
        (100, "sync-crc"),
        (120, "sync-crc"),
    ] {
        let scene = Scene::new();
        damage::edit_header(&scene.index(), Checksum::Fixed, |header| header[offset + 3] ^= 1)
            .expect("damage");
        let found = findings(&scene.document(&["glad"], 4));
        assert!(found.iter().any(|found| named(found).0 == code), "{offset}: {found:#?}");
    }
    let last = Scene::new();
    damage::edit_header(&last.index(), Checksum::Fixed, |header| {
        header[28..32].copy_from_slice(&3_u32.to_be_bytes());
    })
    .expect("damage");
    last.check(&[("index-counters", None)]);
}

#[test]
fn orphans_and_what_is_no_file_are_told() {
    let orphan = Scene::new();
    damage::add_orphan(&orphan.inbox, 99, b"nobody's").expect("damage");
    // It may be about to be delivered, as long as the index does not know of its UID.
    orphan.check(&[]);
    damage::edit_header(&orphan.index(), Checksum::Fixed, |header| {
        header[28..32].copy_from_slice(&99_u32.to_be_bytes());
    })
    .expect("damage");
    orphan.check(&[("orphan-file", Some(99))]);

    let strange = Scene::new();
    for uid in [3, 4] {
        fs::remove_file(strange.message(uid)).expect("damage");
    }
    fs::create_dir(strange.message(3)).expect("damage");
    symlink(strange.message(5), strange.message(4)).expect("damage");
    strange.check(&[("message-unreadable", Some(3)), ("message-unreadable", Some(4))]);
}

#[test]
fn headers_and_directories_that_are_gone_or_other_are_told() {
    let header = Scene::new();
    damage::remove_header(&header.metadata).expect("damage");
    header.check(&[("header-unreadable", None)]);

    let flipped = Scene::new();
    damage::flip(&flipped.metadata.join("cyrus.header"), 100).expect("damage");
    flipped.check(&[("header-unreadable", None), ("header-crc", None)]);

    let gone = Scene::new();
    damage::remove_mailbox(&gone.sent).expect("damage");
    gone.check(&[("mailbox-missing", None)]);

    for name in ["cyrus.index", "cyrus.header"] {
        let scene = Scene::new();
        let path = scene.metadata.join(name);
        fs::remove_file(&path).expect("damage");
        fs::create_dir(&path).expect("damage");
        let code = if name == "cyrus.index" { "index-unreadable" } else { "header-unreadable" };
        scene.check(&[(code, None)]);
    }
}

#[test]
fn a_cache_that_is_stale_cut_or_gone_is_told_once() {
    let cache = |scene: &Scene| scene.metadata.join("cyrus.cache");
    let stale = Scene::new();
    let bytes = fs::read(cache(&stale)).expect("a cache");
    // That of another generation has the same messages in other places.
    let other = [&2_u32.to_be_bytes()[..], &[0; 8], &bytes[4..]].concat();
    fs::write(cache(&stale), other).expect("damage");
    let found = stale.check(&[("cache-damaged", None)]);
    assert!(found[0]["detail"].as_str().is_some_and(|detail| detail.starts_with("6 of 6 ")));

    let cut = Scene::new();
    damage::truncate(&cache(&cut), 10).expect("damage");
    cut.check(&[("cache-damaged", Some(6))]);

    let gone = Scene::new();
    fs::remove_file(cache(&gone)).expect("damage");
    gone.check(&[("cache-damaged", None)]);

    let flipped = Scene::new();
    damage::flip(&cache(&flipped), 40).expect("damage");
    flipped.check(&[("cache-damaged", Some(1))]);

    // Up to 2.4, nobody can open the mailbox.
    let old = Scene::with(SpoolOptions { cache: true, ..SpoolOptions::new(Era::V2_4) });
    let mut bytes = fs::read(cache(&old)).expect("a cache");
    bytes[3] ^= 1;
    fs::write(cache(&old), bytes).expect("damage");
    let found = old.check(&[("cache-damaged", None)]);
    assert!(found[0]["detail"].as_str().is_some_and(|detail| detail.contains("generation")));
}

/// Writes a header with the sum that the index has of it.
fn put_header(scene: &Scene, change: impl FnOnce(&mut MailboxHeader)) {
    let path = scene.metadata.join("cyrus.header");
    let mut header = MailboxHeader::parse(&fs::read(&path).expect("read")).expect("a header");
    change(&mut header);
    let bytes = header.write().expect("a header");
    damage::edit_header(&scene.index(), Checksum::Fixed, |index| {
        index[96..100].copy_from_slice(&file_crc(&bytes).to_be_bytes());
    })
    .expect("damage");
    fs::write(&path, bytes).expect("damage");
}

/// Changes the records of mailboxes.db.
fn put_list(scene: &Scene, change: impl Fn(&[u8], &[u8]) -> Option<Vec<u8>>) {
    let path = scene.config.join("mailboxes.db");
    let bytes = fs::read(&path).expect("mailboxes.db");
    let list = db::read(&bytes).expect("a database");
    let records = list.entries.iter();
    let records: Vec<(Vec<u8>, Vec<u8>)> =
        records.filter_map(|(key, value)| Some((key.to_vec(), change(key, value)?))).collect();
    fs::write(&path, twoskip::write_fresh(&records).expect("a database")).expect("damage");
}

/// A record's value with another field.
fn with_field(value: &[u8], field: &[u8], new: Option<&[u8]>) -> Vec<u8> {
    let value = Dlist::parse_exact(value).expect("a record");
    let pairs = value.pairs().expect("pairs").iter();
    let pairs = pairs.filter_map(|(key, old)| match key == field {
        true => Some((key.clone(), Dlist::bytes(new?))),
        false => Some((key.clone(), old.clone())),
    });
    Dlist::Kv(pairs.collect()).to_vec()
}

#[test]
fn an_identity_that_is_lost_or_another_one_is_told() {
    let lost = Scene::new();
    put_header(&lost, |header| header.uniqueid = None);
    lost.check(&[("uniqueid-lost", None)]);

    let other = Scene::new();
    put_header(&other, |header| header.uniqueid = Some("another".into()));
    other.check(&[("uniqueid-mismatch", None)]);

    let unlisted = Scene::new();
    let id = unlisted.inbox.file_name().expect("an id").as_encoded_bytes().to_vec();
    put_list(&unlisted, |key, value| {
        (key != [b"I", id.as_slice()].concat()).then(|| value.to_vec())
    });
    unlisted.check(&[("uniqueid-lost", None)]);

    let nameless = Scene::with(SpoolOptions { cache: true, ..SpoolOptions::new(Era::V3_4) });
    put_list(&nameless, |key, value| {
        let is_inbox = key == b"user.glad";
        Some(if is_inbox { with_field(value, b"I", None) } else { value.to_vec() })
    });
    nameless.check(&[("uniqueid-lost", None)]);
}

#[test]
fn an_identity_of_two_mailboxes_is_told_of_both() {
    for era in [Era::V3_4, Era::V3_6] {
        let scene = Scene::with(SpoolOptions { cache: true, ..SpoolOptions::new(era) });
        let header = fs::read(scene.metadata.join("cyrus.header")).expect("read");
        let id = MailboxHeader::parse(&header).expect("a header").uniqueid.expect("an id");
        put_list(&scene, |key, value| {
            let is_sent = key.ends_with(b"glad.Sent") || key.ends_with(b"glad\x1fSent");
            let other = is_sent.then(|| with_field(value, b"I", Some(id.as_bytes())));
            Some(other.unwrap_or_else(|| value.to_vec()))
        });
        let found = findings(&scene.document(&["glad"], 4));
        let duplicates: Vec<&str> = found
            .iter()
            .filter(|found| found["code"] == "duplicate-uniqueid")
            .filter_map(|found| found["place"].as_str())
            .collect();
        assert_eq!(duplicates, ["user.glad", "user.glad.Sent"], "{era:?}: {found:#?}");
        assert!(
            found[0]["detail"].as_str().is_some_and(|d| d.contains("user.glad.Sent has the id"))
        );
    }
}

#[test]
fn a_quota_that_counts_something_else_is_told() {
    let scene = Scene::new();
    let path = files(&scene.config.join("quota"))
        .into_iter()
        .find(|path| path.ends_with("user.glad"))
        .expect("a quota");
    let text = fs::read_to_string(&path).expect("read");
    fs::write(&path, text.replace("M (8)", "M (7)")).expect("damage");
    let found = scene.check(&[("quota-usage", None)]);
    let said = (found[0]["place"].as_str(), found[0]["detail"].as_str());
    assert_eq!(said, (Some("user.glad"), Some("it says 7 messages, its mailboxes have 8")));
    fs::write(&path, "garbage").expect("damage");
    scene.check(&[("metadata-unreadable", None)]);
}

#[test]
fn names_that_no_record_has_are_told_when_all_accounts_were_looked_at() {
    // Above the highest number that Linux gives a process (PID_MAX_LIMIT).
    const DEAD: u32 = 4_194_305;
    let scene = Scene::new();
    let area = scene.path(&format!("spool/spool/sync./{DEAD}"));
    fs::create_dir_all(&area).expect("damage");
    let left = area.join(guid_of(&scene.mail[2]).to_string());
    fs::hard_link(scene.message(3), &left).expect("damage");
    fs::hard_link(scene.message(4), scene.path("elsewhere")).expect("damage");
    // An account by itself cannot tell: the names may be others'.
    scene.check(&[]);
    let found = findings(&scene.document(&["--all"], 4));
    let named: Vec<_> = found.iter().map(named).collect();
    let expected = [3, 4].map(|uid| ("links-unexplained".to_owned(), Some(uid)));
    assert_eq!(named, expected, "{found:#?}");
    let details: String = found.iter().filter_map(|found| found["detail"].as_str()).collect();
    assert!(details.contains(&left.display().to_string()), "{details}");
    assert!(details.contains("1 that no partition has"), "{details}");
    assert!(left.exists());
}

#[test]
fn damaged_databases_and_hostile_names_are_told_or_refused() {
    let scene = Scene::new();
    let path = scene.config.join("mailboxes.db");
    let whole = fs::read(&path).expect("mailboxes.db");
    fs::write(&path, &whole[..40]).expect("damage");
    assert!(audit(&scene.conf, &["--all"]).expect(1).error().contains("mailboxes.db"));
    // What makes no sense is not the same as nothing.
    fs::write(&path, b"garbage").expect("damage");
    let found = findings(&scene.document(&["--all"], 4));
    assert_eq!(
        found.iter().map(named).collect::<Vec<_>>(),
        [("metadata-unreadable".to_owned(), None)]
    );
    fs::write(&path, &whole).expect("repaired");
    fs::write(scene.config.join("annotations.db"), b"garbage").expect("damage");
    scene.check(&[("metadata-unreadable", None)]);

    for era in [Era::V3_4, Era::V3_6] {
        let scene = Scene::with(SpoolOptions { cache: true, ..SpoolOptions::new(era) });
        damage::add_mailboxes(&scene.config.join("mailboxes.db"), &damage::hostile_names())
            .expect("damage");
        let ran = audit(&scene.conf, &["glad", "--full"]).expect(4);
        assert!(!ran.text().contains('\x1b') && !ran.stderr.contains('\x1b'), "{}", ran.stderr);
        let found = findings(&scene.document(&["glad"], 4));
        let known = ["mailbox-missing", "entry-unreadable", "metadata-unreadable"];
        assert!(found.iter().all(|found| known.contains(&named(found).0.as_str())), "{found:#?}");
        assert!(found.len() > 10, "{found:#?}");
    }
}

#[test]
fn what_cyrus_may_not_read_is_told() {
    if !is_root() {
        return skip("what_cyrus_may_not_read_is_told", Need::Tools, "to be root");
    }
    let nobody = 65_534;
    let scene = Scene::new();
    let conf = fs::read_to_string(&scene.conf).expect("imapd.conf");
    fs::write(&scene.conf, conf.replace("cyrus_user: root", "cyrus_user: nobody"))
        .expect("written");
    fs::set_permissions(scene.scratch.path(), Permissions::from_mode(0o755)).expect("permissions");
    give(&scene.path("spool"), nobody);
    damage::make_unreadable(&scene.message(3)).expect("damage");
    let found = findings(&scene.document(&["glad", "--full"], 4));
    let found: Vec<_> = found.iter().map(named).collect();
    assert_eq!(found, [("message-unreadable".to_owned(), Some(3))]);
}

/// Gives a tree to a user and a group of the same number.
fn give(path: &Path, owner: u32) {
    chown(path, Some(owner), Some(owner)).expect("root may");
    if path.is_dir() {
        for entry in fs::read_dir(path).expect("a directory") {
            give(&entry.expect("an entry").path(), owner);
        }
    }
}
