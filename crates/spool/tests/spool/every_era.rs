//! Accounts of spools as every release leaves them.

use std::fs;
use std::io::Read;
use std::path::Path;

use model::{Uid, Userid};
use spool::{FrozenMailbox, Options, Server};
use tempfile::TempDir;
use testkit::spool_builder::{EPOCH, Era, NewMessage, Spool, SpoolBuilder, SpoolOptions};

const MESSAGE: &[u8] = b"From: a@example.com\r\nSubject: x\r\n\r\nbody\r\n";

const MAILBOXES: [&str; 4] =
    ["DELETED.user.glad.Old.537182AB", "user.glad", "user.glad.Sent", "user.glad.Sent.2^0"];

/// Nobody's.
const SHARED: [&str; 2] = ["DELETED.shared.old.537182AB", "shared.news"];

/// Three accounts, two mailboxes nobody owns, two messages each.
fn build(options: SpoolOptions) -> (TempDir, Spool) {
    let dir = tempfile::tempdir().unwrap();
    let mut builder = SpoolBuilder::create(dir.path(), options).unwrap();
    for name in MAILBOXES.into_iter().chain(SHARED).chain(["user.gladys", "user.iris"]) {
        let mut mailbox = builder.mailbox(name).unwrap();
        for at in 0..2 {
            let message =
                NewMessage { bytes: MESSAGE, internaldate: EPOCH + at, ..Default::default() };
            mailbox.add(&message).unwrap();
        }
        builder.finish_mailbox(mailbox).unwrap();
    }
    builder.subscribe("glad", "user.glad.Sent");
    builder.limit("glad", 1000);
    (dir, builder.finish().unwrap())
}

fn options(era: Era) -> impl Iterator<Item = SpoolOptions> {
    let plain = SpoolOptions::new(era);
    let flat_mailbox_list = era <= Era::V2_4;
    [
        plain,
        SpoolOptions { hashimapspool: true, flat_mailbox_list, ..plain },
        SpoolOptions { metapartition: true, ..plain },
    ]
    .into_iter()
}

#[test]
fn all_files_of_an_account_are_found_and_its_messages_opened() {
    for options in Era::ALL.into_iter().flat_map(options) {
        let (_dir, spool) = build(options);
        let server = Server::open(&spool.imapd_conf, &Options::default()).unwrap();
        let frozen = server.freeze(&Userid::from("glad")).unwrap();
        assert_eq!(frozen.findings, [], "{options:?}");
        let names: Vec<String> =
            frozen.mailboxes.iter().map(|mailbox| mailbox.entry.name.to_string()).collect();
        assert_eq!(names, MAILBOXES, "{options:?}");
        for mailbox in &frozen.mailboxes {
            check_mailbox(mailbox, &spool, options);
        }
        let files: Vec<&str> = frozen.account_files.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(files, ["quota/user.glad", "mailboxes", "sub"], "{options:?}");
        let accounts = ["%shared", "glad", "gladys", "iris"].map(Userid::from);
        assert_eq!(server.accounts().unwrap(), accounts);
    }
}

#[test]
fn mailboxes_that_nobody_owns_are_an_account_too() {
    for options in Era::ALL.into_iter().flat_map(options) {
        let (_dir, spool) = build(options);
        let server = Server::open(&spool.imapd_conf, &Options::default()).unwrap();
        let frozen = server.freeze(&Userid::shared()).unwrap();
        assert_eq!(frozen.findings, [], "{options:?}");
        let names: Vec<String> =
            frozen.mailboxes.iter().map(|mailbox| mailbox.entry.name.to_string()).collect();
        assert_eq!(names, SHARED, "{options:?}");
        for mailbox in &frozen.mailboxes {
            check_mailbox(mailbox, &spool, options);
        }
        let files: Vec<&str> = frozen.account_files.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(files, ["mailboxes"], "{options:?}");
    }
}

fn check_mailbox(mailbox: &FrozenMailbox, spool: &Spool, options: SpoolOptions) {
    assert_eq!(mailbox.findings, [], "{options:?}");
    let dir = find_dir(spool, mailbox);
    let read = |file: &str| fs::read(dir.join(file)).ok();
    assert_eq!(mailbox.header, read("cyrus.header"), "{options:?}");
    assert_eq!(mailbox.index, read("cyrus.index"));
    assert_eq!(mailbox.expunge, read("cyrus.expunge"));
    assert_eq!(mailbox.annotations, None);
    assert!(mailbox.header.is_some() && mailbox.index.is_some());
    assert_eq!(mailbox.list_messages().unwrap(), [Uid(1), Uid(2)]);
    let mut bytes = Vec::new();
    mailbox.open_message(Uid(2), false).unwrap().read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, MESSAGE);
    let missing = mailbox.open_message(Uid(3), true).unwrap_err();
    assert_eq!(missing.kind(), std::io::ErrorKind::NotFound);
}

/// Where the mailbox's metadata lies, found without knowing how directories are named.
fn find_dir(spool: &Spool, mailbox: &FrozenMailbox) -> std::path::PathBuf {
    fn search(dir: &Path, header: &[u8]) -> Option<std::path::PathBuf> {
        if fs::read(dir.join("cyrus.header")).is_ok_and(|bytes| bytes == header) {
            return Some(dir.to_owned());
        }
        let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.is_dir()).find_map(|path| search(&path, header))
    }
    let root = spool.metapartition.as_ref().unwrap_or(&spool.partition);
    search(root, mailbox.header.as_deref().expect("a header")).expect("it is somewhere")
}
