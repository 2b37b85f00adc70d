//! `cylinder heal` and a real Cyrus: not while it runs; and what was healed, it serves.

use std::fs;
use std::path::{Path, PathBuf};

use testkit::cyrus_or_skip;
use testkit::imap::Append;

use crate::program::cylinder;

const MAIL: &[u8] = b"Subject: whole\r\n\r\nall of it\r\n";

#[test]
fn a_cyrus_that_was_stopped_for_it_serves_what_was_healed() {
    let Some(builder) = cyrus_or_skip("a_cyrus_that_was_stopped_for_it") else { return };
    let mut cyrus = builder.start().expect("a server");
    cyrus.create_user("glad").expect("a user");
    let mut client = cyrus.imap_as("glad").expect("a client");
    let message = Append { message: MAIL, ..Append::default() };
    let uid = client.append("INBOX", message).expect("a message");
    client.logout().expect("it ends");
    let conf = cyrus.imapd_conf().display().to_string();
    let directory = tempfile::tempdir().expect("a directory");
    let beside = |name: &str| directory.path().join(name).display().to_string();
    let (archive, journal) = (beside("glad.tar"), beside("healed.jsonl"));
    cylinder(["snapshot", "glad", "-C", &conf, "-o", &archive]).expect(0);
    let file = file_of(Path::new(&conf).parent().expect("a directory"), MAIL);
    fs::write(&file, b"Subject: whole\r\n\r\n").expect("it can be damaged");
    let heal = ["heal", "glad", "-C", &conf, "--from", &archive, "--journal", &journal];
    let refused = cylinder(heal).expect(1);
    assert!(refused.stderr.contains("somebody is at work in this spool"), "{}", refused.stderr);
    cyrus.stop();
    cylinder(heal).expect(0);
    cyrus.start().expect("it starts again");
    let mut client = cyrus.imap_as("glad").expect("a client");
    client.select("INBOX").expect("it opens");
    assert_eq!(client.body(uid).expect("an answer").as_deref(), Some(MAIL));
    cylinder(["audit", "glad", "--full", "-C", &conf]).expect(0);
}

/// The file that holds a message.
fn file_of(root: &Path, message: &[u8]) -> PathBuf {
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).expect("a directory").flatten() {
            let (path, kind) = (entry.path(), entry.file_type().expect("a kind"));
            if kind.is_dir() {
                open.push(path);
            } else if kind.is_file() && fs::read(&path).is_ok_and(|bytes| bytes == message) {
                return path;
            }
        }
    }
    panic!("no file has it");
}
