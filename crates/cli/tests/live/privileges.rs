//! Who acts: started by root, the program touches the spool as Cyrus does, and its own files as
//! root.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use testkit::imap::Append;
use testkit::mail::{MailGenerator, Sizes};
use testkit::{Cyrus, cyrus_or_skip, damage};

use crate::account::Rich;
use crate::program::{CYLINDER, Snapshot, list, restore, run};
use crate::restored::{create_user, scratch, serve};

/// A user id that is neither root's nor Cyrus'.
const SOMEBODY: u32 = 65_534;

/// Everything below a directory.
fn below(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(below(&path));
        }
        found.push(path);
    }
    found.sort();
    found
}

#[test]
fn lock_files_that_root_makes_belong_to_cyrus() {
    let Some(builder) = cyrus_or_skip("lock_files_that_root_makes") else { return };
    for hashed in [false, true] {
        let mut cyrus = builder.clone().hashimapspool(hashed).start().expect("Cyrus starts");
        Rich::named("glad").fill(&cyrus);
        cyrus.stop();
        let locks = cyrus.config_directory().join("lock");
        fs::remove_dir_all(&locks).expect("a lock directory");
        let scratch = scratch();
        Snapshot::full(cyrus.imapd_conf(), "glad").take(&scratch.path().join("glad.tar"));
        let made = below(&locks);
        assert!(made.len() > 10, "{made:?}");
        for path in made.iter().chain([&locks]) {
            let stat = fs::metadata(path).expect("it is there");
            let owner = (stat.uid(), stat.gid());
            assert_eq!(owner, (cyrus.user().uid, cyrus.user().gid), "{}", path.display());
        }
        cyrus.start().expect("Cyrus starts");
        let mut client = cyrus.imap_as("glad").expect("a client");
        client.select("INBOX").expect("Cyrus opens its lock files");
        client.store("1", "+FLAGS", &["Work"]).expect("a flag");
    }
}

#[test]
fn nothing_in_the_spool_changes_but_lock_files() {
    let Some(builder) = cyrus_or_skip("nothing_in_the_spool_changes") else { return };
    let mut cyrus = builder.start().expect("Cyrus starts");
    Rich::named("glad").fill(&cyrus);
    cyrus.stop();
    let state = |cyrus: &Cyrus| -> Vec<_> {
        let files = [cyrus.spool(), cyrus.config_directory()].map(below).concat();
        let files = files.into_iter().filter(|path| !path.to_string_lossy().contains("/lock"));
        let stat = |path: PathBuf| {
            let stat = fs::symlink_metadata(&path).expect("it is there");
            let times = (stat.mtime(), stat.mtime_nsec(), stat.ctime(), stat.ctime_nsec());
            (path, stat.ino(), stat.size(), stat.uid(), stat.mode(), times)
        };
        files.map(stat).collect()
    };
    let before = state(&cyrus);
    assert!(before.len() > 50);
    let scratch = scratch();
    Snapshot::full(cyrus.imapd_conf(), "glad").take(&scratch.path().join("glad.tar"));
    assert_eq!(state(&cyrus), before);
}

#[test]
fn root_writes_and_reads_archives_where_only_root_may() {
    let Some(builder) = cyrus_or_skip("root_writes_and_reads_archives") else { return };
    let cyrus = builder.start().expect("Cyrus starts");
    Rich::named("glad").fill(&cyrus);
    let directory = tempfile::tempdir().expect("a directory of root alone");
    let (full, more) = (directory.path().join("full.tar"), directory.path().join("more.tar"));
    let snapshot = Snapshot::full(cyrus.imapd_conf(), "glad");
    snapshot.take(&full);
    Rich::named("glad").change(&cyrus);
    Snapshot { since: &[&full], ..snapshot }.take(&more);
    for path in [&full, &more] {
        let stat = fs::metadata(path).expect("it is there");
        assert_eq!((stat.uid(), stat.mode() & 0o7777), (0, 0o600), "{}", path.display());
    }
    assert_eq!(list(&[&full, &more]).len(), 2);
}

#[test]
fn an_unreadable_message_is_a_finding_and_all_else_is_saved_and_it_is_saved_later() {
    let Some(builder) = cyrus_or_skip("an_unreadable_message_is_a_finding") else { return };
    let cyrus = builder.clone().start().expect("Cyrus starts");
    create_user(&cyrus, "glad");
    let mut client = cyrus.imap_as("glad").expect("a client");
    for message in MailGenerator::new(1, Sizes::Small).messages(9) {
        let append = Append { message: &message, ..Append::default() };
        client.append("INBOX", append).expect("an append");
    }
    let want = cyrus.view("glad").expect("a view");
    let inbox = cyrus.mailbox_directory("user/glad").expect("a path");
    let path = damage::message_path(&inbox, 4);
    chown(&path, Some(0), Some(0)).expect("root's");
    damage::make_unreadable(&path).expect("a damage");

    let scratch = scratch();
    let (first, second) = (scratch.path().join("1.tar"), scratch.path().join("2.tar"));
    let snapshot = Snapshot::full(cyrus.imapd_conf(), "glad");
    let report = snapshot.attempt(&first).expect(3).report();
    let findings = report["findings"].as_array().expect("findings");
    assert_eq!(findings.len(), 1, "{report:#}");
    let finding = &findings[0];
    assert_eq!(finding["code"], "message-unreadable");
    assert_eq!((&finding["place"], &finding["uid"]), (&"user.glad".into(), &4.into()));
    assert_eq!(finding["blame"], "environment");
    assert_eq!(report["messages"], 8);
    assert_eq!(list(&[&first])[0]["findings"][0]["uid"], 4);

    chown(&path, Some(cyrus.user().uid), None).expect("Cyrus' again");
    fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("readable");
    let report = Snapshot { since: &[&first], ..snapshot }.take(&second);
    assert_eq!((&report["messages"], &report["messages_new"]), (&9.into(), &1.into()));
    let tree = scratch.path().join("restored");
    restore("glad", &[&first, &second], &format!("dir:{}", tree.display()), &[]);
    let view = serve(&builder, &tree).view("glad").expect("a view");
    assert_eq!(want.differences(&view), Vec::<String>::new());
}

#[test]
fn cyrus_himself_may_take_snapshots_and_nobody_else() {
    let Some(builder) = cyrus_or_skip("cyrus_himself_may_take") else { return };
    let mut cyrus = builder.start().expect("Cyrus starts");
    Rich::named("glad").fill(&cyrus);
    cyrus.stop();
    let locks = cyrus.config_directory().join("lock");
    fs::remove_dir_all(&locks).expect("a lock directory");
    let snapshot = |uid, gid| {
        let mut command = Command::new(CYLINDER);
        command.args(Snapshot::full(cyrus.imapd_conf(), "glad").arguments()).uid(uid).gid(gid);
        run(&mut command)
    };
    let stranger = snapshot(SOMEBODY, SOMEBODY).expect(1);
    assert!(stranger.stdout.is_empty(), "something was written");
    let hint = stranger.report()["hints"][0].as_str().expect("a hint").to_owned();
    assert!(hint.contains("root") && hint.contains("Cyrus"), "{hint}");
    assert!(!locks.exists(), "a stranger made lock files");
    let own = snapshot(cyrus.user().uid, cyrus.user().gid).expect(0);
    assert_eq!(own.report()["findings"], serde_json::json!([]));
    assert!(own.stdout.len() > 10_000);
}
