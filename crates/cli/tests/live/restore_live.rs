//! Mail is given back to a real Cyrus that runs, while its owner is connected; the judge is what he sees.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use model::Guid;
use serde_json::{Value, json};
use testkit::imap::{Append, FolderView, ImapView};
use testkit::process::{Group, wait_until};
use testkit::served::{NAME, Served};
use testkit::{cyrus_or_skip, process};

use crate::program::{CYLINDER, PATIENCE, Snapshot, list};
use crate::restore_scene::{Scene, delete_sent, document, expunge};
use crate::restored::scratch;
use crate::watcher::{Told, Watcher, news_since};

#[test]
fn a_folder_comes_back_into_a_tree_of_its_own() {
    let Some(scene) = Scene::start("a_folder_comes_back_into_a_tree") else { return };
    let taken = scene.view();
    expunge(&scene, "INBOX/Sent", "2:4");
    let before = scene.view();
    let mut watchers = ["INBOX", "INBOX/Sent"].map(|folder| Watcher::of(&scene.cyrus, folder));
    let arguments = ["--mailbox", "INBOX.Sent"];
    let report = scene.restore(&arguments);
    assert_eq!(report["done"]["messages"], 8, "{report:#}");
    for watcher in &mut watchers {
        assert_eq!(watcher.look(), Told::default(), "{}", watcher.folder);
    }
    let after = scene.view();
    let made: BTreeSet<&String> =
        after.folders.keys().filter(|name| !before.folders.contains_key(*name)).collect();
    assert_eq!(made.len(), 3, "{made:?}");
    let name = made.last().expect("a folder");
    assert!(name.starts_with("INBOX/Restored/20") && name.ends_with("/Sent"), "{name}");
    let (was, is) = (&taken.folders["INBOX/Sent"], &after.folders[*name]);
    assert_ne!(was.uid_validity, is.uid_validity);
    assert_ne!(was.mailbox_id, is.mailbox_id);
    assert_eq!(is.purposes, BTreeSet::new());
    assert_eq!(was.annotations["/private/comment"], is.annotations["/private/comment"]);
    assert_eq!(is.acl, before.folders["INBOX"].acl);
    assert_eq!(was.messages.len(), is.messages.len());
    for (uid, was) in &was.messages {
        let is = &is.messages[uid];
        assert_eq!((&was.flags, &was.internaldate), (&is.flags, &is.internaldate), "{uid}");
        assert_eq!((was.guid, &was.annotations), (is.guid, &is.annotations), "{uid}");
    }
    scene.assert_once_and_undone(&arguments, &before);
}

#[test]
fn messages_come_back_to_where_they_were() {
    let Some(scene) = Scene::start("messages_come_back_to_where_they_were") else { return };
    let taken = scene.view();
    expunge(&scene, "INBOX/Sent", "2:4");
    expunge(&scene, "INBOX/a/b", "7:8");
    // Of some, the server has forgotten all; of others, it still has the files.
    scene.cyrus.tool("cyr_expire", &["-X", "0", "-E", "0", "-D", "0"]).expect("it cleans up");
    expunge(&scene, "INBOX/Sent", "6");
    let message = b"Subject: new\r\n\r\nnew\r\n";
    let append = Append { message, ..Append::default() };
    scene.glad().append("INBOX/Sent", append).expect("appended");
    let before = scene.view();
    let folders = ["INBOX", "INBOX/Sent", "INBOX/a/b"];
    let mut watchers = folders.map(|folder| Watcher::of(&scene.cyrus, folder));

    let dry = document(&scene.attempt(&["--in-place", "--dry-run"]).expect(0));
    assert_eq!(scene.view(), before);
    let report = scene.restore(&["--in-place"]);
    assert_eq!(report["plan"], dry["plan"]);
    let [inbox, sent, below] = &mut watchers;
    assert_eq!(inbox.look(), Told::default());
    let told = sent.look();
    assert_eq!(
        (&told.gone[..], &told.came[..], told.flags.len()),
        (&[][..], &[10, 11, 12, 13][..], 0)
    );
    assert_eq!(below.look().came, [9, 10]);
    let after = scene.view();
    for (folder, pairs) in [
        ("INBOX/Sent", &[(2, 10), (3, 11), (4, 12), (6, 13)][..]),
        ("INBOX/a/b", &[(7, 9), (8, 10)]),
    ] {
        let step =
            report["plan"].as_array().expect("steps").iter().find(|step| {
                step["new_uids"].as_array().is_some_and(|uids| uids.len() == pairs.len())
            });
        assert_eq!(step.expect("a step")["new_uids"], json!(pairs));
        let (was, is) = (&taken.folders[folder], &after.folders[folder]);
        assert_eq!((was.uid_validity, &was.mailbox_id), (is.uid_validity, &is.mailbox_id));
        for (from, to) in pairs {
            let (was, is) = (&was.messages[from], &is.messages[to]);
            assert_eq!((&was.flags, &was.internaldate), (&is.flags, &is.internaldate));
            assert_eq!((was.guid, &was.annotations), (is.guid, &is.annotations));
            assert!(is.modseq > before.folders[folder].highest_modseq);
        }
        for (uid, was) in &before.folders[folder].messages {
            assert_eq!(was, &is.messages[uid], "{folder} {uid}");
        }
    }
    // Who comes back later, and asks for what is new alone, is told the same.
    let news =
        |view: &ImapView| news_since(&scene.cyrus, "INBOX/Sent", &view.folders["INBOX/Sent"]);
    assert_eq!(news(&before), (vec![10, 11, 12, 13], String::new()));
    assert_eq!(news(&after), (vec![], String::new()));
    scene.assert_once_and_undone(&["--in-place"], &before);
    assert_eq!(news(&after), (vec![], "10:13".to_owned()));
    let told = watchers[1].look();
    assert_eq!((&told.gone[..], &told.came[..]), (&[10, 11, 12, 13][..], &[][..]));
}

#[test]
fn who_waits_for_news_is_told() {
    let test = "who_waits_for_news_is_told";
    let Some(scene) = Scene::with(test, &[("imapidlepoll", "1")]) else { return };
    expunge(&scene, "INBOX/Sent", "2:4");
    let mut imap = scene.glad();
    assert_eq!(imap.select("INBOX/Sent").expect("selected").exists, 5);
    imap.idle().expect("it waits");
    scene.restore(&["--in-place"]);
    let news = imap.idle_until(" EXISTS").expect("it is told");
    assert!(news.contains(&"* 8 EXISTS".to_owned()), "{news:?}");
    assert!(!news.iter().any(|line| line.ends_with(" EXPUNGE")), "{news:?}");
    assert_eq!(imap.search("ALL").expect("found"), [1, 5, 6, 7, 8, 9, 10, 11]);
}

/// What becomes of deleted folders.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Deletion {
    /// They are kept for a while.
    Delayed,
    /// That is over.
    Expired,
    /// They are gone at once.
    Immediate,
}

fn folders_come_back(test: &str, deletion: Deletion) {
    let mode = if deletion == Deletion::Immediate { "immediate" } else { "delayed" };
    let Some(scene) = Scene::with(test, &[("delete_mode", mode)]) else { return };
    let taken = scene.view();
    let mut imap = scene.glad();
    imap.delete("INBOX/a/b").expect("deleted");
    delete_sent(&mut imap);
    expunge(&scene, "INBOX", "1:6");
    if deletion == Deletion::Expired {
        scene.cyrus.tool("cyr_expire", &["-X", "0", "-E", "0", "-D", "0"]).expect("it cleans up");
    }
    let before = scene.view();
    let mut watcher = Watcher::of(&scene.cyrus, "INBOX");
    let report = scene.restore(&["--in-place"]);
    assert_eq!(report["done"]["messages"], 22, "{report:#}");
    assert_eq!(watcher.look().came, [7, 8, 9, 10, 11, 12]);
    let after = scene.view();
    for folder in ["INBOX/Sent", "INBOX/a/b"] {
        let (was, is) = (&taken.folders[folder], &after.folders[folder]);
        assert!(is.uid_validity > was.uid_validity, "{folder}");
        // Cyrus 3.6 remembers the identity of what was kept, even when it is gone.
        let is_same = was.mailbox_id == is.mailbox_id;
        assert_eq!(is_same, deletion == Deletion::Immediate, "{folder}");
        assert_eq!((&was.purposes, &was.acl), (&is.purposes, &is.acl), "{folder}");
        let uids = |folder: &FolderView| -> Vec<(u32, Guid)> {
            folder.messages.iter().map(|(uid, message)| (*uid, message.guid)).collect()
        };
        assert_eq!(uids(was), uids(is), "{folder}");
    }
    scene.assert_once_and_undone(&["--in-place"], &before);
    // What was made and removed can be made again.
    scene.restore(&["--in-place"]);
    assert_eq!(scene.view().message_count(), taken.message_count());
    scene.assert_once_and_undone(&["--in-place"], &before);
}

#[test]
fn folders_come_back_that_were_deleted_and_kept() {
    folders_come_back("folders_come_back_that_were_deleted_and_kept", Deletion::Delayed);
}

#[test]
fn folders_come_back_that_were_deleted_and_kept_for_long_enough() {
    folders_come_back("folders_come_back_that_were_deleted_and_kept_for", Deletion::Expired);
}

#[test]
fn folders_come_back_that_were_deleted_at_once() {
    folders_come_back("folders_come_back_that_were_deleted_at_once", Deletion::Immediate);
}

#[test]
fn a_user_who_was_deleted_comes_back() {
    let Some(scene) = Scene::start("a_user_who_was_deleted_comes_back") else { return };
    let taken = scene.view();
    let mut admin = scene.cyrus.admin().expect("an admin");
    admin.set_acl("user/glad", "cyrus", "lrswipkxtecda").expect("granted");
    admin.delete("user/glad").expect("deleted");
    let ran = scene.attempt(&[]).expect(1);
    assert!(ran.stderr.contains("has no mailbox user.glad"), "{}", ran.stderr);
    let report = scene.restore(&["--in-place"]);
    assert_eq!(report["done"]["mailboxes_created"], taken.folders.len() as u64, "{report:#}");
    let after = scene.view();
    assert_eq!(after.message_count(), taken.message_count());
    assert_eq!(after.subscriptions, taken.folders.keys().cloned().collect());
    let append = Append { message: b"Subject: new\r\n\r\n", ..Append::default() };
    assert_eq!(scene.glad().append("INBOX", append).expect("it takes mail again"), 7);
    let again = scene.restore(&["--in-place"]);
    assert_eq!(again["plan"], json!([]), "{again:#}");
    scene.assert_sound();
    // His INBOX is in use by now.
    let undone = scene.undo(3);
    assert_eq!(undone["left"][0]["code"], "holds-others", "{undone:#}");
    assert_eq!(scene.view().message_count(), 1);
}

#[test]
fn one_message_comes_back_by_its_hash() {
    let Some(scene) = Scene::start("one_message_comes_back_by_its_hash") else { return };
    let taken = scene.view();
    expunge(&scene, "INBOX/Sent", "1:8");
    let before = scene.view();
    let guid = taken.folders["INBOX/Sent"].messages[&4].guid.to_string();
    let mut watcher = Watcher::of(&scene.cyrus, "INBOX/Sent");
    let report = scene.restore(&["--guid", &guid, "--in-place"]);
    assert_eq!(report["plan"][0]["new_uids"], json!([[4, 9]]), "{report:#}");
    assert_eq!(watcher.look().came, [9]);
    scene.assert_once_and_undone(&["--guid", &guid, "--in-place"], &before);
    let arguments = ["--guid", &guid, "--into", "INBOX/Found/v1.0"];
    scene.restore(&arguments);
    let after = scene.view();
    let found = &after.folders["INBOX/Found/v1.0/Sent"];
    assert_eq!(found.messages.keys().collect::<Vec<_>>(), [&4]);
    scene.assert_once_and_undone(&arguments, &before);
}

#[test]
fn flags_alone_come_back() {
    let Some(scene) = Scene::start("flags_alone_come_back") else { return };
    let taken = scene.view();
    let mut imap = scene.glad();
    imap.select("INBOX").expect("selected");
    imap.store("1:*", "+FLAGS", &["\\Seen"]).expect("stored");
    imap.store("4", "FLAGS", &["\\Flagged", "Other"]).expect("stored");
    expunge(&scene, "INBOX", "6");
    let before = scene.view();
    let mut watchers = ["INBOX", "INBOX/Sent"].map(|folder| Watcher::of(&scene.cyrus, folder));
    let report = scene.restore(&["--flags-only"]);
    assert_eq!(report["done"]["flags"], 4, "{report:#}");
    let told = watchers[0].look();
    assert_eq!((&told.gone[..], &told.came[..]), (&[][..], &[][..]));
    assert_eq!(told.flags.keys().collect::<Vec<_>>(), [&2, &3, &4, &5], "{told:?}");
    assert_eq!(watchers[1].look(), Told::default());
    let after = scene.view();
    for (uid, message) in &after.folders["INBOX"].messages {
        assert_eq!(message.flags, taken.folders["INBOX"].messages[uid].flags, "{uid}");
    }
    scene.assert_once_and_undone(&["--flags-only"], &before);
}

#[test]
fn a_quota_stops_it_before_anything_is_sent() {
    let Some(scene) = Scene::start("a_quota_stops_it_before") else { return };
    expunge(&scene, "INBOX", "1:3");
    let mut admin = scene.cyrus.admin().expect("an admin");
    admin.set_quota("user/glad", "MESSAGE 20").expect("set");
    let before = scene.view();
    let ran = scene.attempt(&["--in-place"]).expect(1);
    assert!(ran.stderr.contains("the quota of user.glad allows 20 messages"), "{}", ran.stderr);
    assert_eq!(scene.view(), before);
    admin.set_quota("user/glad", "MESSAGE 22 STORAGE 1000").expect("set");
    scene.restore(&["--in-place"]);
    assert_eq!(scene.view().message_count(), 22);
    scene.assert_sound();
}

#[test]
fn a_folder_that_was_made_anew_needs_consent() {
    let Some(scene) = Scene::start("a_folder_that_was_made_anew") else { return };
    let mut imap = scene.glad();
    delete_sent(&mut imap);
    imap.create("INBOX/Sent").expect("created");
    let append = Append { message: b"Subject: new\r\n\r\n", ..Append::default() };
    imap.append("INBOX/Sent", append).expect("appended");
    let before = scene.view();
    let ran = scene.attempt(&["--in-place", "--mailbox", "Sent"]).expect(1);
    assert!(ran.stderr.contains("user.glad.Sent is another mailbox there"), "{}", ran.stderr);
    assert_eq!(scene.view(), before);
    let arguments = ["--in-place", "--mailbox", "Sent", "--accept-mismatch"];
    let mut watcher = Watcher::of(&scene.cyrus, "INBOX/Sent");
    scene.restore(&arguments);
    // 2 to 8 were never given out in this one.
    assert_eq!(watcher.look().came, [2, 3, 4, 5, 6, 7, 8, 9]);
    scene.assert_once_and_undone(&arguments, &before);
}

#[test]
fn mail_that_comes_meanwhile_is_not_touched() {
    let Some(scene) = Scene::start("mail_that_comes_meanwhile") else { return };
    expunge(&scene, "INBOX/Sent", "1:8");
    let mut watcher = Watcher::of(&scene.cyrus, "INBOX/Sent");
    let is_over = AtomicBool::new(false);
    let came = thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let mut imap = scene.glad();
            let mut came = Vec::new();
            while !is_over.load(Ordering::Relaxed) {
                let message = format!("Subject: {}\r\n\r\n", came.len());
                let message = message.as_bytes();
                let append = Append { message, ..Append::default() };
                came.push(imap.append("INBOX/Sent", append).expect("appended"));
                // So that there is a moment in between, too.
                imap.command("LIST \"\" *").expect("listed");
            }
            came
        });
        let report = scene.restore(&["--in-place"]);
        is_over.store(true, Ordering::Relaxed);
        assert_eq!(report["done"]["messages"], 8, "{report:#}");
        sender.join().expect("it sends")
    });
    let told = watcher.look();
    assert_eq!((told.gone.len(), told.came.len()), (0, came.len() + 8));
    assert!(came.iter().all(|uid| told.came.contains(uid)), "{came:?} {told:?}");
    let undone = scene.undo(0);
    assert_eq!(undone["done"]["messages"], 8, "{undone:#}");
    assert_eq!(
        scene.view().folders["INBOX/Sent"].messages.keys().collect::<Vec<_>>(),
        came.iter().collect::<Vec<_>>()
    );
    scene.assert_sound();
}

/// Whoever follows the log has to be told, unless the server is configured so.
#[test]
fn what_was_restored_is_in_the_sync_log_only_where_it_is_chained() {
    let test = "what_was_restored_is_in_the_sync_log";
    for chain in ["no", "yes"] {
        let options = [("sync_log", "yes"), ("sync_log_chain", chain)];
        let Some(scene) = Scene::with(test, &options) else { return };
        scene.restore(&["--mailbox", "INBOX.Sent"]);
        let log = fs::read_to_string(scene.cyrus.config_directory().join("sync/log"));
        let log = log.expect("a log");
        assert!(log.contains("APPEND user.glad.Sent"), "{log}");
        assert_eq!(log.contains("user.glad.Restored"), chain == "yes", "{log}");
    }
}

#[test]
fn every_kind_of_user_gets_his_mail_back() {
    let test = "every_kind_of_user_gets_his_mail_back";
    let Some(builder) = cyrus_or_skip(test) else { return };
    let cyrus = builder.virtdomains("userid").option("altnamespace", "yes").start();
    let cyrus = cyrus.expect("Cyrus starts");
    let directory = scratch();
    for user in ["fred.smith", "ann@other.test"] {
        cyrus.create_user(user).expect("a user");
        let mut imap = cyrus.imap_as(user).expect("a client");
        imap.create("v1.0/R&APw-ck").expect("created");
        let append = Append { message: b"Subject: a\r\n\r\n", ..Append::default() };
        imap.append("v1.0/R&APw-ck", append).expect("appended");
        let archive = directory.path().join(user);
        Snapshot::full(cyrus.imapd_conf(), user).take(&archive);
        let mut command = Command::new(CYLINDER);
        command.args(["restore", user, "--json", "--from"]).arg(&archive);
        command.args(["--to", &format!("csync://cyrus@{}", cyrus.sync_address())]);
        command.args(["--into", "Back.now"]);
        let output = process::run(&mut command, b"any\n", PATIENCE).expect("it ends");
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let folders = imap.list("*").expect("listed");
        let restored = "Back/now/v1.0/R&APw-ck".to_owned();
        assert!(folders.contains(&restored), "{folders:?}");
        assert_eq!(imap.status(&restored, &["MESSAGES"]).expect("it is there"), [1]);
        imap.append(&restored, append).expect("it is its owner's");
    }
}

/// Kills it at the moment when so many steps are noted, and tells whether it was still running.
fn kill_after(scene: &Scene, arguments: &[&str], lines: usize) -> bool {
    let mut command = scene.command(arguments);
    command.arg("--from").arg(scene.archive()).arg("--undo").arg(scene.undo_file());
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut group = Group::spawn(&mut command).expect("it starts");
    let mut stdin = group.leader().stdin.take().expect("a pipe");
    stdin.write_all(b"any\n").expect("it reads");
    drop(stdin);
    let noted = || fs::read(scene.undo_file()).unwrap_or_default();
    let has_noted = || noted().iter().filter(|byte| **byte == b'\n').count() >= lines;
    let mut was_running = true;
    wait_until(PATIENCE, || {
        was_running = group.is_running();
        has_noted() || !was_running
    });
    group.kill();
    was_running
}

#[test]
fn killed_at_any_step_both_ways_lead_on() {
    let Some(scene) = Scene::start("killed_at_any_step") else { return };
    expunge(&scene, "INBOX", "1:6");
    scene.glad().delete("INBOX/a/b").expect("deleted");
    scene.cyrus.tool("cyr_expire", &["-X", "0", "-E", "0", "-D", "0"]).expect("it cleans up");
    let before = scene.view();
    let mut killed = 0;
    for arguments in [&["--in-place"][..], &[]] {
        for lines in 1..14 {
            killed += usize::from(kill_after(&scene, arguments, lines));
            if lines % 2 == 0 {
                // A server that was killed in the middle has what it answered, and perhaps more.
                scene.restore(arguments);
                assert!(scene.view().message_count() >= 22, "{arguments:?} {lines}");
            }
            scene.undo(0);
            scene.assert_back(&before);
            fs::remove_file(scene.undo_file()).expect("it was written");
        }
    }
    assert!(killed > 5, "{killed}");
}

#[test]
fn what_cylinder_serves_takes_it_as_well() {
    let Some(scene) = Scene::start("what_cylinder_serves_takes_it") else { return };
    let served = Served::start(Path::new(CYLINDER)).expect("a replica");
    let to = format!("csync://{NAME}@{}", served.address());
    let run = |command: &str, arguments: &[&str]| {
        let mut cylinder = Command::new(CYLINDER);
        cylinder.args([command, "--json", "--to", &to]).args(arguments);
        document(&scene.run(&mut cylinder).expect(0))
    };
    let conf = scene.cyrus.imapd_conf().display().to_string();
    let replicate = || run("replicate", &["-C", &conf, "--user", "glad"]);
    replicate();
    expunge(&scene, "INBOX/Sent", "2:4");
    scene.glad().delete("INBOX/a/b").expect("deleted");
    scene.cyrus.tool("cyr_expire", &["-X", "0", "-E", "0", "-D", "0"]).expect("it cleans up");
    replicate();
    let archive = scene.archive().display().to_string();
    let undo = scene.undo_file().display().to_string();
    // What clients would see of it, were it promoted.
    let exists = || -> Vec<(String, u64)> {
        let path = scene.directory.path().join("served.tar");
        Snapshot::full(&served.spool().join("imapd.conf"), "glad").take(&path);
        let mailboxes = list(&[&path])[0]["mailboxes"].clone();
        fs::remove_file(&path).expect("it was written");
        let mailboxes = mailboxes.as_array().expect("mailboxes").iter();
        let seen = |mailbox: &Value| {
            let name = mailbox["name"].as_str().expect("a name").to_owned();
            (name, mailbox["exists"].as_u64().expect("a number"))
        };
        mailboxes.map(seen).collect()
    };
    let before = exists();
    for arguments in [&["--in-place"][..], &[]] {
        let arguments = [arguments, &["glad", "--from", &archive, "--undo", &undo]].concat();
        let report = run("restore", &arguments);
        assert_eq!(report["problems"], json!([]), "{report:#}");
        let came = exists().iter().map(|(_, messages)| messages).sum::<u64>();
        assert_eq!(came, if arguments[0] == "--in-place" { 22 } else { 11 + 22 });
        assert_eq!(run("restore", &arguments)["plan"], json!([]));
        let undone = run("restore", &["glad", "--undo-from", &undo]);
        assert_eq!(undone["left"], json!([]), "{undone:#}");
        let again = run("restore", &["glad", "--undo-from", &undo]);
        assert_eq!(again["plan"], json!([]), "{again:#}");
        assert_eq!(exists(), before);
    }
}
