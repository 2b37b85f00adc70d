//! Mail is given back to a real Cyrus that runs, while its owner is connected; the judge is what he sees.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::imap::{Append, ImapView};
use testkit::mail::{MailGenerator, Sizes};
use testkit::{Cyrus, ImapClient, cyrus_or_skip, process};

use crate::program::{CYLINDER, PATIENCE, Ran, Snapshot};
use crate::restored::scratch;

/// A server with a user who has mail, and a snapshot of him.
struct Scene {
    cyrus: Cyrus,
    directory: TempDir,
}

impl Scene {
    fn start(test: &str) -> Option<Self> {
        Self::with(test, &[])
    }

    fn with(test: &str, options: &[(&str, &str)]) -> Option<Self> {
        let builder = cyrus_or_skip(test)?.conversations(true);
        let builder =
            options.iter().fold(builder, |builder, (key, value)| builder.option(key, value));
        let cyrus = builder.start().expect("Cyrus starts");
        cyrus.create_user("glad").expect("a user");
        let scene = Self { cyrus, directory: scratch() };
        scene.fill();
        scene.snapshot();
        Some(scene)
    }

    /// Six messages in INBOX, and eight in each of two folders, all of them different.
    fn fill(&self) {
        let mut imap = self.glad();
        let mail = MailGenerator::new(21, Sizes::Small).messages(22);
        imap.create_for("INBOX/Sent", "\\Sent").expect("created");
        imap.create("INBOX/a/b").expect("created");
        for (folder, mail) in
            [("INBOX", &mail[..6]), ("INBOX/Sent", &mail[6..14]), ("INBOX/a/b", &mail[14..])]
        {
            for (at, message) in mail.iter().enumerate() {
                let flags: &[&str] = if at % 3 == 0 { &["\\Seen", "$Label1"] } else { &[] };
                let internaldate = Some(1_700_000_000 + at as i64);
                imap.append(folder, Append { message, flags, internaldate }).expect("appended");
            }
        }
        imap.select("INBOX/Sent").expect("selected");
        imap.annotate("3", "/comment", "value.priv", "mine").expect("annotated");
        imap.set_metadata("INBOX/Sent", "/private/comment", Some("what I said")).expect("set");
        imap.subscribe("INBOX/Sent").expect("subscribed");
    }

    fn archive(&self) -> PathBuf {
        self.directory.path().join("glad.tar")
    }

    fn snapshot(&self) {
        Snapshot::full(self.cyrus.imapd_conf(), "glad").take(&self.archive());
    }

    fn glad(&self) -> ImapClient {
        self.cyrus.imap_as("glad").expect("a client")
    }

    fn view(&self) -> ImapView {
        self.cyrus.view("glad").expect("a view")
    }

    fn undo_file(&self) -> PathBuf {
        self.directory.path().join("undo")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(CYLINDER);
        command.args(["restore", "glad", "--json", "--to"]);
        command.arg(format!("csync://cyrus@{}", self.cyrus.sync_address())).args(arguments);
        command
    }

    fn run(&self, command: &mut Command) -> Ran {
        let output = process::run(command, b"any\n", PATIENCE).expect("it ends");
        Ran {
            code: output.status.code().expect("no signal ends it"),
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    fn attempt(&self, arguments: &[&str]) -> Ran {
        self.run(self.command(arguments).arg("--from").arg(self.archive()))
    }

    /// Restores, with an undo file; nothing may be wrong. Returns the report.
    #[track_caller]
    fn restore(&self, arguments: &[&str]) -> Value {
        let undo = self.undo_file();
        let mut command = self.command(arguments);
        let ran = self.run(command.arg("--from").arg(self.archive()).arg("--undo").arg(undo));
        let report = document(&ran.expect(0));
        assert_eq!(report["problems"], json!([]), "{report:#}");
        report
    }

    #[track_caller]
    fn undo(&self, code: i32) -> Value {
        document(&self.run(self.command(&[]).arg("--undo-from").arg(self.undo_file())).expect(code))
    }

    /// The same restore once more changes nothing, and nor does undoing more than once, which brings
    /// back `before`.
    #[track_caller]
    fn assert_once_and_undone(&self, arguments: &[&str], before: &ImapView) {
        let after = self.view();
        let again = self.restore(arguments);
        assert_eq!(again["plan"], json!([]), "{again:#}");
        assert_eq!(after.differences(&self.view()), Vec::<String>::new());
        self.assert_sound();
        let undone = self.undo(0);
        assert_eq!((&undone["left"], &undone["problems"]), (&json!([]), &json!([])), "{undone:#}");
        self.assert_back(before);
        let again = self.undo(0);
        assert_eq!(again["plan"], json!([]), "{again:#}");
        self.assert_back(before);
    }

    /// The account is as it was, but for numbers that only ever grow.
    #[track_caller]
    fn assert_back(&self, before: &ImapView) {
        let mut views = [before.clone(), self.view()];
        for folder in views.iter_mut().flat_map(|view| view.folders.values_mut()) {
            (folder.uid_next, folder.highest_modseq) = (0, 0);
            folder.messages.values_mut().for_each(|message| message.modseq = 0);
        }
        assert_eq!(views[0].differences(&views[1]), Vec::<String>::new());
        self.assert_sound();
    }

    /// Cyrus' own tools find nothing wrong.
    #[track_caller]
    fn assert_sound(&self) {
        let found = self.cyrus.tool("reconstruct", &["-n", "-r", "user/glad"]).expect("it runs");
        let said = format!("{}{}", found.stdout, found.stderr);
        let known = ["user/glad", ""];
        let odd: Vec<&str> = said
            .lines()
            .filter(|line| {
                !known.iter().any(|known| line == known || line.starts_with("user/glad"))
            })
            .collect();
        assert!(odd.is_empty(), "{said}");
        let quota = self.cyrus.tool("quota", &["-q", "-f", "user/glad"]).expect("it runs");
        let said = format!("{}{}", quota.stdout, quota.stderr);
        assert!(!said.contains(" now "), "{said}");
    }
}

#[track_caller]
fn document(ran: &Ran) -> Value {
    serde_json::from_slice(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
}

/// Expunges messages, and forgets them for good.
fn expunge(scene: &Scene, folder: &str, uids: &str) {
    let mut imap = scene.glad();
    imap.select(folder).expect("selected");
    imap.store(uids, "+FLAGS", &["\\Deleted"]).expect("stored");
    imap.uid_expunge(uids).expect("expunged");
}

/// The owner, with a mailbox open, who is told what happens to it.
struct Watcher {
    imap: ImapClient,
    /// The UIDs that he knows, by their places.
    uids: Vec<u32>,
    uid_validity: u64,
    folder: String,
}

/// What he was told.
#[derive(Debug, Default, PartialEq, Eq)]
struct Told {
    /// UIDs of messages that are gone.
    gone: Vec<u32>,
    /// UIDs of messages that came.
    came: Vec<u32>,
    /// The flags of messages that he was told anew.
    flags: BTreeMap<u32, String>,
}

impl Watcher {
    fn of(scene: &Scene, folder: &str) -> Self {
        let mut imap = scene.glad();
        imap.command("ENABLE CONDSTORE").expect("enabled");
        let uid_validity = imap.select(folder).expect("selected").uid_validity;
        let uids = imap.search("ALL").expect("found");
        Self { imap, uids, uid_validity, folder: folder.to_owned() }
    }

    /// Asks for news. Whatever is not lawful panics.
    fn look(&mut self) -> Told {
        let mut told = Told::default();
        let mut exists = self.uids.len();
        for raw in self.imap.command("NOOP").expect("it is answered") {
            let line = String::from_utf8_lossy(&raw).trim_end().to_owned();
            let words: Vec<&str> = line.splitn(4, ' ').collect();
            match words[..] {
                ["*", place, "EXPUNGE"] => {
                    let place: usize = place.parse().expect("a number");
                    told.gone.push(self.uids.remove(place - 1));
                    exists -= 1;
                }
                ["*", number, "EXISTS"] => {
                    let number: usize = number.parse().expect("a number");
                    assert!(number >= exists, "messages are gone without EXPUNGE: {line}");
                    exists = number;
                }
                ["*", place, "FETCH", what] => {
                    let place: usize = place.parse().expect("a number");
                    // Of those that are new, he has to ask.
                    if let Some(uid) = self.uids.get(place - 1) {
                        told.flags.insert(*uid, what.to_owned());
                    }
                }
                ["*", _, "RECENT"] => {}
                ["*", "OK", "[HIGHESTMODSEQ", ..] => {}
                _ => panic!("what is {line:?}?"),
            }
        }
        let now = self.imap.search("ALL").expect("found");
        assert_eq!(now.len(), exists);
        assert_eq!(now[..self.uids.len()], self.uids, "UIDs of known messages stay");
        let last = self.uids.last().copied().unwrap_or(0);
        told.came = now[self.uids.len()..].to_vec();
        assert!(told.came.iter().all(|uid| *uid > last), "{now:?}");
        self.uids = now;
        let selected = self.imap.select(&self.folder).expect("selected");
        assert_eq!(selected.uid_validity, self.uid_validity);
        told
    }
}

#[test]
fn a_folder_comes_back_into_a_tree_of_its_own() {
    let Some(scene) = Scene::start("a_folder_comes_back_into_a_tree") else { return };
    let taken = scene.view();
    expunge(&scene, "INBOX/Sent", "2:4");
    let before = scene.view();
    let mut watchers = ["INBOX", "INBOX/Sent"].map(|folder| Watcher::of(&scene, folder));
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
