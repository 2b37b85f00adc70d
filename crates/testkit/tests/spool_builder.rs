//! Built spools are what they claim to be: Cyrus serves those of its own and of older releases.

use std::path::Path;
use std::time::Instant;

use model::SystemFlags;
use testkit::mail::{MailGenerator, Sizes};
use testkit::spool_builder::{EPOCH, Era, Filling, NewMessage, Spool, SpoolBuilder, SpoolOptions};
use testkit::{Cyrus, CyrusBuilder, cyrus_or_skip};

const INBOX: &str = "user.fred^smith";

/// Two mailboxes of one account, with flags, a copy, a gap and an expunged message.
fn build(root: &Path, options: SpoolOptions) -> Spool {
    let mut spool = SpoolBuilder::create(root, options).expect("a spool");
    let mut mail = MailGenerator::new(1, Sizes::Small);
    let mut inbox = spool.mailbox(INBOX).expect("a mailbox");
    let mut stored = Vec::new();
    for number in 0..6_u32 {
        let bytes = mail.message();
        let message = NewMessage {
            bytes: &bytes,
            internaldate: EPOCH + i64::from(number),
            system_flags: if number % 2 == 0 { SystemFlags::SEEN } else { SystemFlags::FLAGGED },
            user_flags: if number < 2 { &["$Forwarded", "Junk"] } else { &["Junk"] },
            expunged: (number == 4).then_some(EPOCH + 1_000),
        };
        if number == 3 {
            inbox.skip(10);
        }
        stored.push((inbox.add(&message).expect("a message"), bytes));
    }
    spool.finish_mailbox(inbox).expect("a mailbox");
    let mut sent = spool.mailbox(&format!("{INBOX}.Sent")).expect("a mailbox");
    let (original, bytes) = &stored[1];
    let copy = NewMessage { bytes, internaldate: EPOCH, ..NewMessage::default() };
    sent.link(original, &copy).expect("a copy");
    spool.finish_mailbox(sent).expect("a mailbox");
    spool.subscribe("fred.smith", &format!("{INBOX}.Sent"));
    spool.limit("fred.smith", 100_000);
    spool.finish().expect("a spool")
}

fn open(builder: &CyrusBuilder, spool: &Spool) -> Cyrus {
    let mut builder = builder
        .clone()
        .directory("configdirectory", &spool.config_directory)
        .directory("partition-default", &spool.partition)
        .hashimapspool(spool.options.hashimapspool)
        .give_to_cyrus();
    if let Some(path) = &spool.metapartition {
        builder = builder
            .option("metapartition_files", "header index cache expunge")
            .directory("metapartition-default", path);
    }
    if spool.options.flat_mailbox_list {
        builder = builder.option("mboxlist_db", "flat");
    }
    builder.start().expect("Cyrus opens the spool")
}

fn check_served(cyrus: &Cyrus, era: Era) {
    let view = cyrus.view("fred.smith").expect("a view");
    let names: Vec<_> = view.folders.keys().map(String::as_str).collect();
    assert_eq!(names, ["INBOX", "INBOX/Sent"], "{era:?}");
    let inbox = &view.folders["INBOX"];
    let uids: Vec<u32> = inbox.messages.keys().copied().collect();
    assert_eq!(uids, [1, 2, 3, 14, 16], "{era:?}");
    assert_eq!(inbox.uid_next, 17, "{era:?}");
    let mut mail = MailGenerator::new(1, Sizes::Small);
    for (uid, bytes) in [1, 2, 3, 14, 15, 16].into_iter().zip(mail.messages(6)) {
        let Some(message) = inbox.messages.get(&uid) else { continue };
        assert_eq!(message.guid, testkit::imap::guid_of(&bytes), "{era:?} {uid}");
        assert_eq!(message.size, bytes.len() as u64, "{era:?} {uid}");
    }
    let flags: Vec<_> = inbox.messages[&1].flags.iter().map(String::as_str).collect();
    assert_eq!(flags, ["$Forwarded", "Junk", "\\Seen"], "{era:?}");
    let flags: Vec<_> = inbox.messages[&14].flags.iter().map(String::as_str).collect();
    assert_eq!(flags, ["Junk", "\\Flagged"], "{era:?}");
    assert_eq!(inbox.messages[&1].internaldate, "13-May-2014 16:53:20 +0000", "{era:?}");
    assert_eq!(view.folders["INBOX/Sent"].messages[&1].guid, inbox.messages[&2].guid, "{era:?}");
    assert!(view.subscriptions.contains("INBOX/Sent"), "{era:?}: {:?}", view.subscriptions);
    let quota = view.quotas.values().next().expect("a quota");
    assert_eq!(quota["STORAGE"].1, Some(100_000), "{era:?}");
}

#[test]
fn cyrus_serves_a_spool_of_any_release_it_can_read() {
    let Some(builder) = cyrus_or_skip("cyrus_serves_a_spool_of_any_release") else { return };
    for era in Era::ALL.into_iter().filter(|era| *era <= Era::V3_6) {
        let directory = tempfile::Builder::new()
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .tempdir()
            .expect("a temporary directory");
        let options = SpoolOptions {
            hashimapspool: era >= Era::V2_5,
            metapartition: era == Era::V3_2 || era == Era::V3_6,
            flat_mailbox_list: era == Era::V2_3,
            ..SpoolOptions::new(era)
        };
        let spool = build(directory.path(), options);
        let cyrus = open(&builder, &spool);
        check_served(&cyrus, era);
        let said = cyrus.tool("reconstruct", &["-n", "user/fred.smith"]).expect("reconstruct");
        for line in said.stdout.lines() {
            assert!(is_expected_of(era, line), "{era:?}: {line}");
        }
    }
}

/// What reconstruct rightly says about these spools: messages don't bear the date at which they
/// arrived, and old releases had no GUIDs, no sync CRCs, or another start for them.
fn is_expected_of(era: Era, line: &str) -> bool {
    let ends_with = |ends: &[&str]| ends.iter().any(|end| line.ends_with(end));
    let contains = |parts: &[&str]| parts.iter().any(|part| line.contains(part));
    line == "user/fred.smith"
        || ends_with(&["mismatch: sentdate", "mismatch: gmtime"])
        || (era <= Era::V3_0 && line.ends_with("updating sync_crc_annot 0 => 12345678"))
        || (era <= Era::V2_4 && contains(&["Wrong uidvalidity in mbentry"]))
        || (era <= Era::V2_3 && contains(&["updating sync_crc 0 =>"]))
        || (era == Era::V2_3_9 && line.ends_with("guid mismatch"))
}

#[test]
fn a_filling_has_as_many_files_as_it_should() {
    let root = if Path::new("/dev/shm").is_dir() { "/dev/shm" } else { "/tmp" };
    let directory = tempfile::tempdir_in(root).expect("a temporary directory");
    let start = Instant::now();
    let options = SpoolOptions { cache: true, ..SpoolOptions::new(Era::V3_6) };
    let mut spool = SpoolBuilder::create(directory.path(), options).expect("a spool");
    let filling = Filling { sizes: Sizes::About(500), ..Filling::small(5, 2_000) };
    let count = testkit::spool_builder::fill(&mut spool, &filling, &[]).expect("messages");
    let built = spool.finish().expect("a spool");
    println!("{count} messages in {:?}", start.elapsed());
    assert_eq!(count, 10_000);
    let files =
        |directory: &Path| -> usize { std::fs::read_dir(directory).expect("a directory").count() };
    let mailboxes: Vec<_> = walk(&built.partition)
        .into_iter()
        .filter(|path| path.join("cyrus.index").exists())
        .collect();
    assert_eq!(mailboxes.len(), 5);
    for mailbox in mailboxes {
        assert_eq!(files(&mailbox), 2_000 + 3);
    }
}

fn walk(directory: &Path) -> Vec<std::path::PathBuf> {
    let mut found = vec![directory.to_owned()];
    for entry in std::fs::read_dir(directory).expect("a directory") {
        let entry = entry.expect("an entry");
        if entry.file_type().expect("a type").is_dir() {
            found.extend(walk(&entry.path()));
        }
    }
    found
}
