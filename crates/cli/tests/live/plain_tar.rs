//! Mail comes back even if this program is gone: with GNU tar and Cyrus' own tools.

use std::fs;
use std::os::unix::fs::lchown;
use std::path::{Path, PathBuf};
use std::process::Command;

use testkit::cyrus::CyrusUser;
use testkit::skip::has_tool_or_skip;
use testkit::{Cyrus, cyrus_or_skip};

use crate::account::Rich;
use crate::program::{Snapshot, run};
use crate::restored::{Seen, scratch};

const TAR: &str = "/bin/tar";

#[test]
fn tar_and_the_tools_of_cyrus_are_enough_to_get_mail_back() {
    let test = "tar_and_the_tools_of_cyrus";
    let Some(builder) = cyrus_or_skip(test) else { return };
    if !has_tool_or_skip(test, TAR) {
        return;
    }
    let cyrus = builder.clone().start().expect("Cyrus starts");
    let rich = Rich::named("glad");
    rich.fill(&cyrus);
    let scratch = scratch();
    let (full, more) = (scratch.path().join("full.tar"), scratch.path().join("more.tar"));
    let conf = cyrus.imapd_conf();
    Snapshot::full(conf, "glad").take(&full);
    rich.change(&cyrus);
    Snapshot { since: &[&full], ..Snapshot::full(conf, "glad") }.take(&more);
    let want = mail_of(&cyrus);

    let extracted = scratch.path().join("extracted");
    fs::create_dir(&extracted).expect("a directory");
    for archive in [&full, &more] {
        let said = run(Command::new(TAR).arg("xf").arg(archive).current_dir(&extracted)).expect(0);
        assert_eq!(said.stderr, "", "tar is not silent");
    }
    let mut empty = builder.prepare().expect("an empty Cyrus");
    move_in(&empty, &extracted.join("glad"));
    empty.start().expect("Cyrus starts");
    let said = empty.tool("reconstruct", &["-G", "-R", "-r", "user/glad"]).expect("it works");
    for line in said.stdout.lines().filter(|line| !line.starts_with("user/glad")) {
        assert!(line.contains(" rewrote cache for "), "{line}");
    }
    assert_eq!(want.differences(&mail_of(&empty)), Vec::<String>::new());
}

/// Puts everything where Cyrus looks for it, as an operator would: mailbox directories, the
/// account's entries in the databases, and its own files.
fn move_in(cyrus: &Cyrus, account: &Path) {
    let inbox = fs::read_link(account.join("folders/INBOX")).expect("a link to a mailbox");
    let inbox = inbox.file_name().expect("an id").to_str().expect("plain").to_owned();
    for entry in fs::read_dir(account.join("mailboxes")).expect("mailboxes") {
        let from = entry.expect("an entry").path();
        let id = from.file_name().expect("an id").to_str().expect("plain");
        rename(&from, &cyrus.spool().join(by_id(id)));
    }
    let (files, conf) = (account.join("account"), cyrus.config_directory());
    rename(&files.join("sub"), &conf.join("user").join(by_id(&inbox)).join("sub.db"));
    rename(&files.join("quota/user.glad"), &conf.join("quota/g/user.glad"));
    for database in ["mailboxes", "annotations"] {
        rename(&files.join(database), &conf.join(format!("{database}.flat")));
    }
    give(cyrus.spool(), cyrus.user());
    give(conf, cyrus.user());
    for database in ["mailboxes", "annotations"] {
        let path = |form: &str| format!("{}/{database}.{form}", conf.display());
        let converted = cyrus.tool("cvt_cyrusdb", &[&path("flat"), "flat", &path("db"), "twoskip"]);
        converted.expect("a database");
    }
}

fn by_id(id: &str) -> PathBuf {
    ["uuid", &id[..1], &id[1..2], id].iter().collect()
}

fn rename(from: &Path, to: &Path) {
    fs::create_dir_all(to.parent().expect("one above")).expect("directories");
    fs::rename(from, to).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
}

/// Makes a directory and all below it belong to Cyrus.
fn give(path: &Path, user: CyrusUser) {
    lchown(path, Some(user.uid), Some(user.gid)).expect("a new owner");
    if path.symlink_metadata().expect("it is there").is_dir() {
        for entry in fs::read_dir(path).expect("a directory") {
            give(&entry.expect("an entry").path(), user);
        }
    }
}

/// What the owner sees of his own mailboxes, without modseqs, which writing a cache changes.
fn mail_of(cyrus: &Cyrus) -> Seen {
    Seen::of(cyrus, "glad").without_modseqs()
}
