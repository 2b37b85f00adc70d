//! A user whose mail is given back while he is connected.

use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::imap::{Append, ImapView};
use testkit::mail::{MailGenerator, Sizes};
use testkit::{Cyrus, ImapClient, cyrus_or_skip, process};

use crate::program::{CYLINDER, PATIENCE, Ran, Snapshot};
use crate::restored::{reconstruct, scratch};

/// A server with a user who has mail, and a snapshot of him.
pub struct Scene {
    pub cyrus: Cyrus,
    pub directory: TempDir,
}

impl Scene {
    pub fn start(test: &str) -> Option<Self> {
        Self::with(test, &[])
    }

    pub fn with(test: &str, options: &[(&str, &str)]) -> Option<Self> {
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

    pub fn archive(&self) -> PathBuf {
        self.directory.path().join("glad.tar")
    }

    pub fn snapshot(&self) {
        Snapshot::full(self.cyrus.imapd_conf(), "glad").take(&self.archive());
    }

    pub fn glad(&self) -> ImapClient {
        self.cyrus.imap_as("glad").expect("a client")
    }

    pub fn view(&self) -> ImapView {
        self.cyrus.view("glad").expect("a view")
    }

    pub fn undo_file(&self) -> PathBuf {
        self.directory.path().join("undo")
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(CYLINDER);
        command.args(["restore", "glad", "--json", "--to"]);
        command.arg(format!("csync://cyrus@{}", self.cyrus.sync_address())).args(arguments);
        command
    }

    pub fn run(&self, command: &mut Command) -> Ran {
        let output = process::run(command, b"any\n", PATIENCE).expect("it ends");
        Ran {
            code: output.status.code().expect("no signal ends it"),
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    pub fn attempt(&self, arguments: &[&str]) -> Ran {
        self.run(self.command(arguments).arg("--from").arg(self.archive()))
    }

    /// Restores, with an undo file; nothing may be wrong. Returns the report.
    #[track_caller]
    pub fn restore(&self, arguments: &[&str]) -> Value {
        let undo = self.undo_file();
        let mut command = self.command(arguments);
        let ran = self.run(command.arg("--from").arg(self.archive()).arg("--undo").arg(undo));
        assert_eq!(ran.code, 0, "{} {}", String::from_utf8_lossy(&ran.stdout), ran.stderr);
        document(&ran)
    }

    #[track_caller]
    pub fn undo(&self, code: i32) -> Value {
        let mut command = self.command(&[]);
        let ran = self.run(command.arg("--undo-from").arg(self.undo_file()));
        let report = document(&ran);
        assert_eq!(ran.code, code, "{report:#}");
        report
    }

    /// The same restore once more changes nothing, and nor does undoing more than once, which brings
    /// back `before`.
    #[track_caller]
    pub fn assert_once_and_undone(&self, arguments: &[&str], before: &ImapView) {
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
    pub fn assert_back(&self, before: &ImapView) {
        let mut views = [before.clone(), self.view()];
        for folder in views.iter_mut().flat_map(|view| view.folders.values_mut()) {
            (folder.uid_next, folder.highest_modseq) = (0, 0);
            folder.messages.values_mut().for_each(|message| message.modseq = 0);
            folder.annotations.retain(|entry, _| !entry.ends_with("/synccrcs"));
        }
        assert_eq!(views[0].differences(&views[1]), Vec::<String>::new());
        self.assert_sound();
    }

    /// Cyrus' own tools find nothing wrong.
    #[track_caller]
    pub fn assert_sound(&self) {
        // It names each mailbox that it looks at, and says what it repairs behind the name.
        let mut said = reconstruct(&self.cyrus, "user/glad");
        said.retain(|line| line.contains(' '));
        assert_eq!(said, Vec::<String>::new());
        let quota = self.cyrus.tool("quota", &["-f", "user/glad"]).expect("it runs");
        let said = format!("{}{}", quota.stdout, quota.stderr);
        assert!(!said.contains(" now "), "{said}");
    }
}

#[track_caller]
pub fn document(ran: &Ran) -> Value {
    serde_json::from_slice(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
}

/// Expunges messages, and forgets them for good.
pub fn expunge(scene: &Scene, folder: &str, uids: &str) {
    let mut imap = scene.glad();
    imap.select(folder).expect("selected");
    imap.store(uids, "+FLAGS", &["\\Deleted"]).expect("stored");
    imap.uid_expunge(uids).expect("expunged");
}

/// Cyrus deletes no folder that is for something.
pub fn delete_sent(imap: &mut ImapClient) {
    imap.set_metadata("INBOX/Sent", "/private/specialuse", None).expect("set");
    imap.delete("INBOX/Sent").expect("deleted");
}
