//! Locks, in both directions: what others hold makes a snapshot wait, what a snapshot holds makes
//! Cyrus wait, and neither for longer than it must.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use testkit::imap::{Append, ImapError, guid_of};
use testkit::locks::{LockMode, LockProcess};
use testkit::mail::{MailGenerator, Sizes};
use testkit::{Cyrus, ImapClient, cyrus_or_skip};

use crate::account::Rich;
use crate::old_spool::build_2_3;
use crate::program::{CYLINDER, PATIENCE, Snapshot, restore};
use crate::restored::{create_user, scratch, serve};
use crate::waiting::{A_WHILE, Running, until_waited_for};

/// A file that Cyrus locks, and what a snapshot's report calls it.
struct Lock {
    kind: &'static str,
    path: PathBuf,
    mailbox: Option<&'static str>,
}

/// The files that are locked while the account of `glad` is read, in no order.
fn locks_of_glad(cyrus: &Cyrus) -> Vec<Lock> {
    let conf = cyrus.config_directory();
    let home = cyrus.mailbox_directory("user/glad").expect("a path");
    let home = conf.join("user").join(home.strip_prefix(cyrus.spool()).expect("below the spool"));
    let mut locks = vec![Lock { kind: "user", path: user_lock(cyrus), mailbox: None }];
    for mailbox in ["user/glad", "user/glad/Sent"] {
        let internal = if mailbox == "user/glad" { "user.glad" } else { "user.glad.Sent" };
        let mailbox_lock = |kind, path| Lock { kind, path, mailbox: Some(internal) };
        let index = cyrus.mailbox_directory(mailbox).expect("a path").join("cyrus.index");
        locks.push(mailbox_lock("name", name_lock(cyrus, mailbox)));
        locks.push(mailbox_lock("index", index));
    }
    let databases = [
        conf.join("mailboxes.db"),
        conf.join("annotations.db"),
        conf.join("quota/g/user.glad"),
        home.join("sub.db"),
        home.join("seen.db"),
    ];
    locks.extend(databases.map(|path| Lock { kind: "db", path, mailbox: None }));
    locks
}

fn user_lock(cyrus: &Cyrus) -> PathBuf {
    cyrus.config_directory().join("lock/*U*glad.lock")
}

fn name_lock(cyrus: &Cyrus, mailbox: &str) -> PathBuf {
    let directory = cyrus.mailbox_directory(mailbox).expect("a path");
    let id = directory.file_name().expect("an id").to_str().expect("plain").to_owned();
    cyrus.config_directory().join("lock").join(format!("{id}.lock"))
}

/// The program with these arguments more.
fn command(snapshot: &Snapshot<'_>, more: &[&str]) -> Command {
    let mut command = Command::new(CYLINDER);
    command.args(snapshot.arguments()).args(more);
    command
}

#[test]
fn a_snapshot_waits_for_every_lock_that_somebody_holds_and_then_says_who() {
    let test = "a_snapshot_waits_for_every_lock";
    let Some(builder) = cyrus_or_skip(test) else { return };
    let Some(mut holder) = LockProcess::start_or_skip(test) else { return };
    let cyrus = builder.start().expect("Cyrus starts");
    Rich::named("glad").fill(&cyrus);
    let snapshot = Snapshot::full(cyrus.imapd_conf(), "glad");
    for lock in locks_of_glad(&cyrus) {
        let (path, shown) = (&lock.path, lock.path.display().to_string());
        assert!(path.exists(), "{shown} was never used");
        assert!(holder.try_lock(path, LockMode::Exclusive).expect("an answer"), "{shown}");
        let impatient = Running::start(&mut command(&snapshot, &["--lock-wait", "0.1"])).end();
        assert_eq!(impatient.code, 75, "{shown}: {}", impatient.stderr);
        assert!(impatient.stdout.is_empty(), "{shown}: something was written");
        let error = impatient.report();
        let said = error.to_string();
        let pid = format!("process {} (python3)", holder.pid());
        assert!(said.contains(&shown) && said.contains(&pid), "{error:#}");
        let hint = error["hints"][0].as_str().expect("a hint");
        assert!(lock.mailbox.is_none_or(|mailbox| hint.contains(mailbox)), "{error:#}");

        let mut patient = Running::start(&mut command(&snapshot, &["--lock-wait", "100"]));
        until_waited_for(path);
        assert!(patient.is_running());
        holder.unlock(path).expect("an answer");
        let patient = patient.end().expect(0);
        let report = patient.report();
        let taken = report["locks"].as_array().expect("locks").iter();
        let found: Vec<_> = taken.filter(|taken| taken["file"] == shown).collect();
        assert!(found.iter().any(|taken| taken["kind"] == lock.kind), "{shown}: {report:#}");
    }
}

#[test]
fn a_snapshot_of_2_3_waits_for_header_index_and_expunge_of_each_mailbox() {
    let test = "a_snapshot_of_2_3_waits";
    let Some(builder) = cyrus_or_skip(test) else { return };
    let Some(mut holder) = LockProcess::start_or_skip(test) else { return };
    let scratch = scratch();
    let (conf, mailboxes) = build_2_3(&builder, scratch.path());
    let snapshot = Snapshot::full(&conf, "glad");
    for (mailbox, name) in mailboxes.iter().zip(["user.glad", "user.glad.Sent"]) {
        for file in ["cyrus.header", "cyrus.index", "cyrus.expunge"] {
            let path = mailbox.join(file);
            assert!(holder.try_lock(&path, LockMode::Exclusive).expect("an answer"));
            let impatient = Running::start(&mut command(&snapshot, &["--lock-wait", "0.1"])).end();
            assert_eq!(impatient.code, 75, "{file}: {}", impatient.stderr);
            let said = impatient.report().to_string();
            let pid = format!("process {} (python3)", holder.pid());
            let shown = path.display().to_string();
            assert!([&shown, &pid, name].iter().all(|words| said.contains(*words)), "{said}");

            let patient = Running::start(&mut command(&snapshot, &["--lock-wait", "100"]));
            until_waited_for(&path);
            holder.unlock(&path).expect("an answer");
            patient.end().expect(0);
        }
    }
}

#[test]
fn a_shared_lock_of_somebody_else_is_nothing_to_wait_for() {
    let test = "a_shared_lock_of_somebody_else";
    let Some(builder) = cyrus_or_skip(test) else { return };
    let Some(mut holder) = LockProcess::start_or_skip(test) else { return };
    let cyrus = builder.start().expect("Cyrus starts");
    Rich::named("glad").fill(&cyrus);
    for lock in locks_of_glad(&cyrus) {
        assert!(holder.try_lock(&lock.path, LockMode::Shared).expect("an answer"));
    }
    let snapshot = Snapshot::full(cyrus.imapd_conf(), "glad");
    Running::start(&mut command(&snapshot, &["--lock-wait", "0"])).end().expect(0);
}

#[test]
fn writers_wait_while_metadata_is_copied_and_not_longer_and_readers_do_not() {
    let test = "writers_wait_while_metadata_is_copied";
    let Some(builder) = cyrus_or_skip(test) else { return };
    let Some(mut holder) = LockProcess::start_or_skip(test) else { return };
    let cyrus = builder.start().expect("Cyrus starts");
    Rich::named("glad").fill(&cyrus);
    let mut writer = cyrus.imap_as("glad").expect("a client");
    let mut reader = cyrus.imap_as("glad").expect("a client");
    let mut neighbour = cyrus.imap_as("iris").expect("a client");
    writer.select("INBOX").expect("INBOX");
    writer.store("1", "+FLAGS", &["Before"]).expect("nobody holds anything yet");

    // Quotas are copied after all mailboxes, under the user lock: whoever holds one stops it right
    // there.
    let locks = locks_of_glad(&cyrus);
    let last = locks.iter().find(|lock| lock.path.ends_with("user.glad")).expect("listed");
    assert!(holder.try_lock(&last.path, LockMode::Exclusive).expect("an answer"));
    let snapshot = Snapshot::full(cyrus.imapd_conf(), "glad");
    let mut running = Running::start(&mut command(&snapshot, &[]));
    until_waited_for(&last.path);

    let (sender, finished) = channel();
    let stopped = thread::spawn(move || {
        let outcome = writer.store("1", "+FLAGS", &["During"]);
        sender.send(()).expect("the test listens");
        (writer, outcome)
    });
    until_waited_for(&user_lock(&cyrus));
    finished.recv_timeout(A_WHILE).expect_err("the writer waits");
    reader.examine("INBOX").expect("a reader is not stopped");
    neighbour.select("INBOX").expect("nor is somebody else");

    holder.unlock(&last.path).expect("an answer");
    // The snapshot is stopped again, by a full pipe: it still reads messages.
    running.read_first();
    finished.recv_timeout(PATIENCE).expect("the writer goes on");
    let (mut writer, outcome) = stopped.join().expect("no panic");
    outcome.expect("a flag");
    writer.store("1", "+FLAGS", &["After"]).expect("and nobody is stopped any more");
    assert!(running.is_running(), "the account is too small for this test");
    let ran = running.end().expect(0);
    let report = ran.report();
    let user = report["locks"].as_array().expect("locks").iter().find(|l| l["kind"] == "user");
    let held = user.expect("a user lock")["held_us"].as_u64().expect("it was given back");
    let waited = Duration::from_micros(held);
    assert!(waited >= A_WHILE, "the report hides that a writer waited: {waited:?}");
}

/// An account whose messages fill any pipe: `n` of them are large.
fn fill_large(cyrus: &Cyrus, n: usize) -> Vec<Vec<u8>> {
    create_user(cyrus, "glad");
    let mut client = cyrus.imap_as("glad").expect("a client");
    client.create("INBOX/Other").expect("a folder");
    let messages = MailGenerator::new(1, Sizes::About(200_000)).messages(n);
    for message in &messages {
        client.append("INBOX", Append { message, ..Append::default() }).expect("an append");
    }
    messages
}

#[test]
fn while_nobody_reads_the_archive_clients_and_cleanup_do_what_they_like() {
    let Some(builder) = cyrus_or_skip("while_nobody_reads_the_archive") else { return };
    let cyrus = builder.clone().start().expect("Cyrus starts");
    let messages = fill_large(&cyrus, 12);
    let inbox = cyrus.mailbox_directory("user/glad").expect("a path");
    let snapshot = Snapshot::full(cyrus.imapd_conf(), "glad");
    let mut running = Running::start(&mut command(&snapshot, &[]));
    // It writes, so all metadata is copied; nobody reads, so it gets no further.
    let first = running.read_first();

    let mut client = cyrus.imap_as("glad").expect("a client");
    everything(&mut client).expect("nothing stops a client");
    cyrus.tool("cyr_expire", &["-E", "1", "-X", "0"]).expect("a cleanup");
    let files = (1..=12).filter(|uid| inbox.join(format!("{uid}.")).exists()).count();
    assert_eq!(files, 9, "what was expunged and moved is cleaned up");
    client.append("INBOX", Append { message: b"\r\n", ..Append::default() }).expect("an append");

    assert!(running.is_running());
    let ran = running.end().expect(0);
    let report = ran.report();
    let names = report["locks"].as_array().expect("locks").iter().filter(|l| l["kind"] == "name");
    let held: Vec<_> = names.map(|lock| lock["held_us"].as_u64().expect("given back")).collect();
    assert_eq!(held.len(), 2, "{report}");
    let rest = ran.stdout;

    // What was expunged meanwhile is in the snapshot, and not expunged there.
    let scratch = scratch();
    let (archive, tree) = (scratch.path().join("glad.tar"), scratch.path().join("restored"));
    fs::write(&archive, [&first[..], &rest].concat()).expect("an archive");
    restore("glad", &[&archive], &format!("dir:{}", tree.display()), &[]);
    let view = serve(&builder, &tree).view("glad").expect("a view");
    let found: Vec<_> = view.folders["INBOX"].messages.values().map(|m| m.guid).collect();
    let want: Vec<_> = messages.iter().map(|message| guid_of(message)).collect();
    assert_eq!(found, want);
}

/// One of each kind of change.
fn everything(client: &mut ImapClient) -> Result<(), ImapError> {
    client.select("INBOX")?;
    client.append("INBOX", Append { message: b"Subject: new\r\n\r\n", ..Append::default() })?;
    client.store("11:12", "+FLAGS", &["\\Deleted", "New"])?;
    client.copy("1", "INBOX/Other")?;
    client.move_to("10", "INBOX/Other")?;
    client.expunge()?;
    client.create("INBOX/More")?;
    client.rename("INBOX/More", "INBOX/Less")?;
    client.set_acl("INBOX/Less", "fred", "lr")?;
    client.subscribe("INBOX/Less")?;
    client.delete("INBOX/Less")
}

#[test]
fn without_a_snapshot_cleanup_waits_for_nobody() {
    let Some(builder) = cyrus_or_skip("without_a_snapshot_cleanup") else { return };
    let cyrus = builder.start().expect("Cyrus starts");
    fill_large(&cyrus, 2);
    let inbox = cyrus.mailbox_directory("user/glad").expect("a path");
    let mut client = cyrus.imap_as("glad").expect("a client");
    client.select("INBOX").expect("INBOX");
    client.store("2", "+FLAGS", &["\\Deleted"]).expect("a flag");
    client.expunge().expect("an expunge");
    assert!(inbox.join("2.").exists());
    cyrus.tool("cyr_expire", &["-E", "1", "-X", "0"]).expect("a cleanup");
    assert!(!inbox.join("2.").exists());
}
