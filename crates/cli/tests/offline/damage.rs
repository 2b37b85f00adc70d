//! Spools that are damaged in every way there is: each damage is told, in the snapshot too, and
//! everything else is saved and comes back.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;
use testkit::damage::{self, Checksum};
use testkit::imap::guid_of;
use testkit::mail::{MailGenerator, Sizes};
use testkit::skip::{Need, skip};
use testkit::spool_builder::{EPOCH, Era, NewMessage, Spool, SpoolBuilder, SpoolOptions};

use super::program::{Ran, cylinder};
use super::sample::{belongs_to_us, files, is_root, scratch};

/// Messages of INBOX, with UIDs from 1 on; a folder has copies of the first two.
const INBOX: usize = 6;
const ALL: usize = INBOX + 2;

/// A spool that is about to be damaged.
struct Victim {
    scratch: TempDir,
    spool: Spool,
    inbox: PathBuf,
    sent: PathBuf,
    mail: Vec<Vec<u8>>,
}

impl Victim {
    fn new(era: Era) -> Self {
        Self::with(SpoolOptions::new(era))
    }

    fn with(options: SpoolOptions) -> Self {
        let scratch = scratch();
        let root = scratch.path().join("spool");
        let mut builder = SpoolBuilder::create(&root, options).expect("a spool");
        let mail = MailGenerator::new(3, Sizes::About(700)).messages(INBOX);
        let mut inbox = builder.mailbox("user.glad").expect("a mailbox");
        let mut sent = builder.mailbox("user.glad.Sent").expect("a mailbox");
        for (body, date) in mail.iter().zip(EPOCH..) {
            let message = NewMessage { bytes: body, internaldate: date, ..NewMessage::default() };
            inbox.add(&message).expect("a message");
            if date < EPOCH + 2 {
                sent.add(&message).expect("a message");
            }
        }
        let paths = [&inbox, &sent].map(|mailbox| mailbox.directory().to_owned());
        builder.finish_mailbox(inbox).expect("a mailbox");
        builder.finish_mailbox(sent).expect("a mailbox");
        builder.subscribe("glad", "user.glad.Sent");
        let spool = builder.finish().expect("a spool");
        belongs_to_us(&spool.imapd_conf);
        let [inbox, sent] = paths;
        Self { scratch, spool, inbox, sent, mail }
    }

    fn index(&self) -> PathBuf {
        self.inbox.join("cyrus.index")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// Takes a snapshot into a file of this name.
    fn snapshot(&self, name: &str, since: Option<&str>) -> Ran {
        let mut arguments: Vec<OsString> = vec!["snapshot".into(), "glad".into(), "-C".into()];
        arguments.push(self.spool.imapd_conf.clone().into());
        if let Some(since) = since {
            arguments.extend(["--since".into(), self.path(since).into()]);
        }
        arguments.extend(["-o".into(), self.path(name).into()]);
        cylinder(arguments)
    }

    /// What `list --json` says of the last snapshot in a file.
    fn listed(&self, name: &str) -> Value {
        let list = ["list".into(), "--json".into(), self.path(name).into_os_string()];
        let document = cylinder(list).expect(0).document();
        document["snapshots"].as_array().and_then(|all| all.last()).expect("a snapshot").clone()
    }

    /// Restores as a maildir: the bytes of each message, by folder and UID.
    fn restored(&self, archives: &[&str]) -> BTreeMap<(String, u32), Vec<u8>> {
        let to = self.path("maildir");
        let _ = fs::remove_dir_all(&to);
        let mut arguments: Vec<OsString> = vec!["restore".into(), "glad".into(), "--to".into()];
        arguments.push(format!("maildir:{}", to.display()).into());
        for archive in archives {
            arguments.extend(["--from".into(), self.path(archive).into()]);
        }
        let ran = cylinder(arguments);
        assert!(matches!(ran.code, 0 | 3), "{}", ran.stderr);
        let mut messages = BTreeMap::new();
        for path in files(&to) {
            let relative = path.strip_prefix(&to).expect("below it").to_string_lossy().into_owned();
            let Some((folder, name)) = relative.split_once("cur/") else { continue };
            let uid = name.split_once(".U").and_then(|(_, rest)| rest.split_once('G'));
            let uid = uid.expect("a UID").0.parse().expect("a number");
            messages.insert((folder.to_owned(), uid), fs::read(&path).expect("a message"));
        }
        messages
    }

    /// Takes a snapshot, whose findings must be exactly these, and restores: INBOX must have these
    /// UIDs with their bytes, and the folder its two.
    #[track_caller]
    fn check(&self, findings: &[(&str, Option<u32>)], inbox: &[u32]) {
        let ran = self.snapshot("full.tar", None);
        assert_eq!(ran.code, if findings.is_empty() { 0 } else { 3 }, "{}", ran.stderr);
        let listed = self.listed("full.tar");
        assert_eq!(findings_of(&listed), expected(findings), "{}", ran.stderr);
        for (code, _) in findings {
            assert!(ran.stderr.contains(&format!("finding: {code}: ")), "{}", ran.stderr);
        }
        let restored = self.restored(&["full.tar"]);
        let found = |folder: &str| -> Vec<u32> {
            let keys = restored.keys().filter(|(found, _)| found == folder);
            keys.map(|(_, uid)| *uid).collect()
        };
        assert_eq!(found(""), inbox);
        assert_eq!(found(".Sent/"), [1, 2]);
        for ((folder, uid), bytes) in &restored {
            let body = &self.mail[*uid as usize - 1];
            assert_eq!(bytes, body, "{uid} of {folder}");
        }
        // Nothing changes, and nothing is forgotten.
        let ran = self.snapshot("next.tar", Some("full.tar"));
        assert_eq!(ran.code, if findings.is_empty() { 0 } else { 3 }, "{}", ran.stderr);
        assert_eq!(findings_of(&self.listed("next.tar")), expected(findings));
        assert_eq!(self.restored(&["full.tar", "next.tar"]), restored);
    }
}

fn findings_of(snapshot: &Value) -> Vec<(String, Option<u64>)> {
    let findings = snapshot["findings"].as_array().expect("findings");
    let mut found: Vec<_> = findings
        .iter()
        .map(|finding| {
            (finding["code"].as_str().unwrap_or_default().to_owned(), finding["uid"].as_u64())
        })
        .collect();
    found.sort();
    found
}

fn expected(findings: &[(&str, Option<u32>)]) -> Vec<(String, Option<u64>)> {
    let mut expected: Vec<_> =
        findings.iter().map(|(code, uid)| ((*code).to_owned(), uid.map(u64::from))).collect();
    expected.sort();
    expected
}

const WHOLE: [u32; INBOX] = [1, 2, 3, 4, 5, 6];

#[test]
fn a_spool_of_any_release_that_is_in_order_has_no_findings() {
    for era in Era::ALL {
        let victim = Victim::new(era);
        victim.check(&[], &WHOLE);
    }
}

#[test]
fn a_message_that_is_missing_is_told_and_found_again() {
    for era in [Era::V2_3, Era::V2_4, Era::V3_6] {
        let victim = Victim::new(era);
        let body = fs::read(damage::message_path(&victim.inbox, 3)).expect("a message");
        damage::remove_message(&victim.inbox, 3).expect("damage");
        victim.check(&[("message-missing", Some(3))], &[1, 2, 4, 5, 6]);
        fs::write(damage::message_path(&victim.inbox, 3), body).expect("repair");
        victim.snapshot("again.tar", Some("full.tar")).expect(0);
        assert_eq!(victim.restored(&["full.tar", "again.tar"]).len(), ALL);
    }
}

#[test]
fn a_message_with_other_bytes_is_saved_under_its_own_hash() {
    type Damage = fn(&Path, u32) -> std::io::Result<()>;
    let damages: [Damage; 2] = [
        |path, uid| damage::change_message(path, uid),
        |path, uid| damage::shorten_message(path, uid, 9),
    ];
    for damage in damages {
        let victim = Victim::new(Era::V3_6);
        damage(&victim.inbox, 3).expect("damage");
        let ran = victim.snapshot("full.tar", None).expect(3);
        assert!(ran.stderr.contains("guid-mismatch"), "{}", ran.stderr);
        let findings = expected(&[("guid-mismatch", Some(3))]);
        assert_eq!(findings_of(&victim.listed("full.tar")), findings);
        let bytes = fs::read(damage::message_path(&victim.inbox, 3)).expect("a message");
        let detail = victim.listed("full.tar")["findings"][0]["detail"].to_string();
        assert!(detail.contains(&guid_of(&bytes).to_string()), "{detail}");
        assert!(detail.contains(&guid_of(&victim.mail[2]).to_string()), "{detail}");
        let restored = victim.restored(&["full.tar"]);
        assert_eq!(restored[&(String::new(), 3)], bytes);
        assert_eq!(restored.len(), ALL);
    }
}

#[test]
fn records_that_are_wrong_are_told_one_by_one() {
    let fixed = Victim::new(Era::V3_6);
    damage::zero_guid(&fixed.index(), 1, Checksum::Fixed).expect("damage");
    // 2.3 may not know a GUID: nothing is wrong with that.
    fixed.check(&[], &WHOLE);

    let stale = Victim::new(Era::V3_6);
    damage::zero_guid(&stale.index(), 1, Checksum::Stale).expect("damage");
    stale.check(&[("record-crc", Some(2))], &WHOLE);

    let broken = Victim::new(Era::V3_6);
    damage::break_record(&broken.index(), 4).expect("damage");
    broken.check(&[("record-crc", Some(5))], &WHOLE);

    let disorder = Victim::new(Era::V3_6);
    damage::edit_record(&disorder.index(), 5, Checksum::Fixed, |record| {
        record[..4].copy_from_slice(&2_u32.to_be_bytes());
    })
    .expect("damage");
    disorder.check(&[("orphan-file", Some(6)), ("record-order", Some(2))], &[1, 2, 3, 4, 5]);
}

#[test]
fn an_index_that_is_cut_or_lies_gives_what_it_has() {
    let header = Victim::new(Era::V3_6);
    damage::break_index_header(&header.index()).expect("damage");
    header.check(&[("index-header-crc", None)], &WHOLE);

    let cut = Victim::new(Era::V3_6);
    damage::truncate(&cut.index(), 150).expect("damage");
    let orphans = [("orphan-file", Some(5)), ("orphan-file", Some(6))];
    cut.check(&[&[("index-truncated", None)], &orphans[..]].concat(), &[1, 2, 3, 4]);

    let more = Victim::new(Era::V3_6);
    damage::lie_about_records(&more.index(), 1_000_000).expect("damage");
    more.check(&[("index-truncated", None)], &WHOLE);

    let fewer = Victim::new(Era::V3_6);
    damage::lie_about_records(&fewer.index(), 4).expect("damage");
    fewer.check(&[&[("index-tail", None)], &orphans[..]].concat(), &[1, 2, 3, 4]);

    let longer = Victim::new(Era::V3_6);
    damage::lengthen(&longer.index(), &[7; 300]).expect("damage");
    longer.check(&[("index-tail", None)], &WHOLE);

    let all_orphans: Vec<(&str, Option<u32>)> =
        WHOLE.iter().map(|uid| ("orphan-file", Some(*uid))).collect();
    let new = Victim::new(Era::V3_6);
    damage::claim_version(&new.index(), 99).expect("damage");
    new.check(&[&[("index-too-new", None)], &all_orphans[..]].concat(), &[]);

    for left in [0, 3, 20, 127] {
        let short = Victim::new(Era::V3_6);
        fs::File::options()
            .write(true)
            .open(short.index())
            .and_then(|file| file.set_len(left))
            .expect("damage");
        short.check(&[&[("index-unreadable", None)], &all_orphans[..]].concat(), &[]);
    }
    let gone = Victim::new(Era::V3_6);
    fs::remove_file(gone.index()).expect("damage");
    gone.check(&[&[("index-unreadable", None)], &all_orphans[..]].concat(), &[]);
}

#[test]
fn files_without_records_and_headers_that_are_wrong_are_told() {
    let orphan = Victim::new(Era::V3_6);
    damage::add_orphan(&orphan.inbox, 99, b"nobody's").expect("damage");
    // It may be about to be delivered, as long as the index does not know of its UID.
    orphan.check(&[], &WHOLE);
    damage::edit_header(&orphan.index(), Checksum::Fixed, |header| {
        header[28..32].copy_from_slice(&99_u32.to_be_bytes());
    })
    .expect("damage");
    orphan.check(&[("orphan-file", Some(99))], &WHOLE);

    let header = Victim::new(Era::V3_6);
    damage::remove_header(&header.inbox).expect("damage");
    header.check(&[("header-unreadable", None)], &WHOLE);

    let flipped = Victim::new(Era::V3_6);
    damage::flip(&flipped.inbox.join("cyrus.header"), 100).expect("damage");
    let ran = flipped.snapshot("full.tar", None).expect(3);
    assert!(ran.stderr.contains("header-crc"), "{}", ran.stderr);
    assert_eq!(flipped.restored(&["full.tar"]).len(), ALL);
}

#[test]
fn a_mailbox_without_its_directory_does_not_stop_the_others() {
    for era in [Era::V2_3, Era::V3_4, Era::V3_6] {
        let victim = Victim::new(era);
        damage::remove_mailbox(&victim.sent).expect("damage");
        let ran = victim.snapshot("full.tar", None).expect(3);
        assert!(ran.stderr.contains("mailbox-missing: user.glad.Sent"), "{}", ran.stderr);
        assert_eq!(victim.restored(&["full.tar"]).len(), INBOX);
        assert_eq!(victim.listed("full.tar")["mailboxes"].as_array().map(Vec::len), Some(2));
    }
}

#[test]
fn a_message_cut_off_from_its_expunge_is_live() {
    let victim = Victim::new(Era::V2_3);
    fs::copy(victim.index(), victim.inbox.join("cyrus.expunge")).expect("damage");
    let overlaps: Vec<(&str, Option<u32>)> =
        WHOLE.iter().map(|uid| ("expunge-overlap", Some(*uid))).collect();
    victim.check(&overlaps, &WHOLE);
}

#[test]
fn what_is_no_file_is_neither_followed_nor_waited_for() {
    let victim = Victim::new(Era::V3_6);
    let [pipe, directory, link] = [3, 4, 5].map(|uid| damage::message_path(&victim.inbox, uid));
    for path in [&pipe, &directory, &link] {
        fs::remove_file(path).expect("damage");
    }
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("it runs").success());
    fs::create_dir(&directory).expect("damage");
    let secret = victim.path("secret");
    fs::write(&secret, "not for the archive").expect("a file");
    symlink(&secret, &link).expect("damage");
    victim.snapshot("full.tar", None).expect(3);
    let found = findings_of(&victim.listed("full.tar"));
    let uids: Vec<Option<u64>> = found.iter().map(|(_, uid)| *uid).collect();
    assert_eq!(uids, [Some(3), Some(4), Some(5)], "{found:?}");
    let codes: Vec<&str> = found.iter().map(|(code, _)| code.as_str()).collect();
    assert_eq!(codes, ["message-unreadable", "message-unreadable", "message-unreadable"]);
    let restored = victim.restored(&["full.tar"]);
    assert_eq!(restored.len(), ALL - 3);
    let archive = fs::read(victim.path("full.tar")).expect("it");
    assert!(!archive.windows(19).any(|window| window == b"not for the archive"));
}

#[test]
fn metadata_that_is_no_file_is_told() {
    for name in ["cyrus.index", "cyrus.header"] {
        let victim = Victim::new(Era::V3_6);
        let path = victim.inbox.join(name);
        fs::remove_file(&path).expect("damage");
        fs::create_dir(&path).expect("damage");
        victim.snapshot("full.tar", None).expect(3);
        let found = findings_of(&victim.listed("full.tar"));
        assert!(found.iter().any(|(code, _)| code.ends_with("-unreadable")), "{name}: {found:?}");
        assert!(victim.restored(&["full.tar"]).len() >= 2, "{name}");
    }
}

#[test]
fn two_mailboxes_of_one_identity_are_both_saved() {
    let victim = Victim::new(Era::V3_4);
    for name in ["cyrus.header", "cyrus.index"] {
        fs::copy(victim.inbox.join(name), victim.sent.join(name)).expect("damage");
    }
    let path = victim.spool.config_directory.join("mailboxes.db");
    let database = fs::read(&path).expect("mailboxes.db");
    let database = cyrus_format::db::read(&database).expect("a database");
    let value = database.get(b"user.glad").expect("an entry").to_vec();
    let entries: Vec<(Vec<u8>, Vec<u8>)> =
        database.entries.iter().map(|(key, _)| (key.to_vec(), value.clone())).collect();
    let bytes = cyrus_format::db::twoskip::write_fresh(&entries).expect("a database");
    fs::write(&path, bytes).expect("damage");
    let ran = victim.snapshot("full.tar", None).expect(3);
    assert!(ran.stderr.contains("duplicate-uniqueid"), "{}", ran.stderr);
    let restored = victim.restored(&["full.tar"]);
    // The second index has the records of the first, so it has its messages too.
    assert_eq!(restored.len(), 2 * INBOX, "{:?}", restored.keys());
}

#[test]
fn names_that_lead_anywhere_harm_neither_snapshot_nor_restore() {
    for era in [Era::V3_4, Era::V3_6] {
        let victim = Victim::new(era);
        let names = damage::hostile_names();
        damage::add_mailboxes(&victim.spool.config_directory.join("mailboxes.db"), &names)
            .expect("damage");
        let ran = victim.snapshot("full.tar", None).expect(3);
        assert!(!ran.stderr.contains('\x1b'), "{}", ran.stderr);
        let found = findings_of(&victim.listed("full.tar"));
        let known = ["mailbox-missing", "entry-unreadable", "metadata-unreadable"];
        assert!(found.iter().all(|(code, _)| known.contains(&code.as_str())), "{found:?}");
        assert!(found.len() > 10, "{found:?}");
        assert_eq!(victim.restored(&["full.tar"]).len(), ALL);
        let list = cylinder([OsString::from("list"), victim.path("full.tar").into()]).expect(0);
        assert!(!list.text().contains(['\x1b', '\r', '\0']), "{}", list.text());
    }
}

#[test]
fn damaged_databases_are_told_or_refused() {
    let list = Victim::new(Era::V3_6);
    let path = list.spool.config_directory.join("mailboxes.db");
    let whole = fs::read(&path).expect("mailboxes.db");
    for bytes in [&b"garbage"[..], &whole[..40], &[0; 100]] {
        fs::write(&path, bytes).expect("damage");
        let ran = list.snapshot("full.tar", None);
        assert_eq!(ran.code, 1, "{}", ran.stderr);
        assert!(ran.stderr.contains("mailboxes.db"), "{}", ran.stderr);
        assert!(!list.path("full.tar").exists());
    }
    fs::remove_file(&path).expect("damage");
    assert!(list.snapshot("full.tar", None).expect(1).hints("mboxlist_db_path"));

    let annotations = Victim::new(Era::V3_6);
    fs::write(annotations.spool.config_directory.join("annotations.db"), b"garbage")
        .expect("damage");
    let ran = annotations.snapshot("full.tar", None).expect(3);
    assert!(ran.stderr.contains("metadata-unreadable"), "{}", ran.stderr);
    assert_eq!(annotations.restored(&["full.tar"]).len(), ALL);
}

#[test]
fn what_cyrus_may_not_read_is_told() {
    let test = "what_cyrus_may_not_read_is_told";
    if !is_root() {
        return skip(test, Need::Tools, "to be root");
    }
    // Root reads everything, so the program is to act as somebody else.
    let nobody = 65_534;
    let victim = Victim::new(Era::V3_6);
    let conf = fs::read_to_string(&victim.spool.imapd_conf).expect("imapd.conf");
    fs::write(&victim.spool.imapd_conf, conf.replace("cyrus_user: root", "cyrus_user: nobody"))
        .expect("imapd.conf");
    fs::set_permissions(victim.scratch.path(), Permissions::from_mode(0o755)).expect("permissions");
    give(&victim.path("spool"), nobody);
    damage::make_unreadable(&damage::message_path(&victim.inbox, 3)).expect("damage");
    victim.check(&[("message-unreadable", Some(3))], &[1, 2, 4, 5, 6]);
    damage::make_unreadable(&victim.sent.join("cyrus.header")).expect("damage");
    let ran = victim.snapshot("full.tar", None).expect(3);
    assert!(ran.stderr.contains("header-unreadable: user.glad.Sent"), "{}", ran.stderr);
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
