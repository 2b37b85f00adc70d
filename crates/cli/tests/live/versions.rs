//! Every version of cyrus.index that a server of today may still have, and spools of servers that
//! nobody runs any more.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use model::{Guid, SystemFlags};
use segment::chain::{self, Chain};
use segment::reader;
use testkit::imap::{Append, guid_of};
use testkit::mail::{MailGenerator, Sizes};
use testkit::spool_builder::{EPOCH, Era, NewMessage, Spool, SpoolBuilder, SpoolOptions};
use testkit::{Cyrus, cyrus_or_skip};

use crate::old_spool::prepare;
use crate::program::{Snapshot, list, restore};
use crate::restored::{Seen, create_user, scratch, serve};

/// What `reconstruct -V` of Cyrus 3.6.1 can write.
const VERSIONS: [u32; 11] = [6, 7, 8, 9, 10, 12, 13, 14, 15, 16, 17];

#[test]
fn a_mailbox_of_every_index_version_comes_back() {
    let Some(builder) = cyrus_or_skip("a_mailbox_of_every_index_version") else { return };
    let cyrus = builder.clone().start().expect("Cyrus starts");
    fill_versions(&cyrus);
    let want = Seen::of(&cyrus, "glad");
    let scratch = scratch();
    let (full, more) = (scratch.path().join("full.tar"), scratch.path().join("more.tar"));
    Snapshot::full(cyrus.imapd_conf(), "glad").take(&full);
    let versions = index_versions(&full);
    assert_eq!(versions, VERSIONS.into(), "INBOX is of the newest");
    check_restored(&builder, &[&full], &scratch.path().join("first"), &want);

    // And once more, after a change in each.
    let mut client = cyrus.imap_as("glad").expect("a client");
    for version in VERSIONS {
        client.select(&format!("INBOX/v{version}")).expect("a mailbox");
        client.store("2", "+FLAGS", &["\\Flagged", "Second"]).expect("flags");
        client.copy("1", "INBOX").expect("a copy");
    }
    let want = Seen::of(&cyrus, "glad");
    Snapshot { since: &[&full], ..Snapshot::full(cyrus.imapd_conf(), "glad") }.take(&more);
    check_restored(&builder, &[&full, &more], &scratch.path().join("second"), &want);
}

/// A folder of each version. Nothing in them is seen, as `reconstruct` refuses to write version
/// 10 then, and what is expunged stays in the index.
fn fill_versions(cyrus: &Cyrus) {
    create_user(cyrus, "glad");
    let mut client = cyrus.imap_as("glad").expect("a client");
    for version in VERSIONS {
        let folder = format!("INBOX/v{version}");
        client.create(&folder).expect("a folder");
        let messages = MailGenerator::new(version.into(), Sizes::Small).messages(5);
        for (number, message) in (0..).zip(&messages) {
            let flags: &[&str] = if number % 2 == 0 { &["\\Flagged", "Junk"] } else { &["Work"] };
            let internaldate = Some(1_500_000_000 + number);
            client.append(&folder, Append { message, flags, internaldate }).expect("an append");
        }
        client.select(&folder).expect("a mailbox");
        client.store("4", "+FLAGS", &["\\Deleted"]).expect("a flag");
        client.expunge().expect("an expunge");
        client.unselect().expect("closed");
        let name = format!("user/glad/v{version}");
        cyrus.tool("reconstruct", &["-V", &version.to_string(), &name]).expect("another version");
    }
}

/// The versions that `list` tells of.
fn index_versions(archive: &Path) -> BTreeSet<u32> {
    let listed = list(&[archive]);
    let mailboxes = listed[0]["mailboxes"].as_array().expect("mailboxes").iter();
    let versions = mailboxes.map(|mailbox| mailbox["index_version"].as_u64().expect("a version"));
    versions.map(|version| u32::try_from(version).expect("small")).collect()
}

fn check_restored(builder: &testkit::CyrusBuilder, from: &[&Path], tree: &Path, want: &Seen) {
    restore("glad", from, &format!("dir:{}", tree.display()), &[]);
    let restored = serve(builder, tree);
    assert_eq!(want.differences(&Seen::of(&restored, "glad")), Vec::<String>::new());
}

/// A built mailbox: what was put in, live and expunged.
#[derive(Default)]
struct Put {
    live: Vec<Vec<u8>>,
    expunged: Vec<Vec<u8>>,
}

#[test]
fn spools_of_2_3_are_saved_with_all_that_is_live_and_all_that_is_expunged() {
    let Some(builder) = cyrus_or_skip("spools_of_2_3_are_saved") else { return };
    let without_guids = SpoolOptions { guids: false, ..SpoolOptions::new(Era::V2_3) };
    let hashed = SpoolOptions { hashimapspool: true, ..SpoolOptions::new(Era::V2_3) };
    let apart = SpoolOptions { metapartition: true, ..SpoolOptions::new(Era::V2_3) };
    let flat = SpoolOptions { flat_mailbox_list: true, ..SpoolOptions::new(Era::V2_3) };
    let oldest = SpoolOptions::new(Era::V2_3_9);
    for options in [oldest, SpoolOptions::new(Era::V2_3), without_guids, hashed, apart, flat] {
        let scratch = scratch();
        let (spool, put) = build(&scratch.path().join("old"), options);
        prepare(&builder, &spool);
        let archive = scratch.path().join("fred.tar");
        Snapshot::full(&spool.imapd_conf, "fred.smith").take(&archive);
        check_archive(&archive, options, &put);
        check_maildir(&archive, &scratch.path().join("maildir"), &put);
    }
}

/// Two mailboxes with live and expunged messages, some of them the same.
fn build(root: &Path, options: SpoolOptions) -> (Spool, Put) {
    let mut spool = SpoolBuilder::create(root, options).expect("a spool");
    let mut mail = MailGenerator::new(7, Sizes::Small);
    let mut put = Put::default();
    for (name, count) in [("user.fred^smith", 20), ("user.fred^smith.Sent", 9)] {
        let mut mailbox = spool.mailbox(name).expect("a mailbox");
        for number in 0..count {
            let bytes = mail.message();
            let expunged = (number % 3 == 1).then_some(EPOCH + number);
            let system_flags = SystemFlags::SEEN;
            let internaldate = EPOCH + number;
            let user_flags: &[&str] = &["$Forwarded"];
            let message =
                NewMessage { bytes: &bytes, internaldate, system_flags, user_flags, expunged };
            mailbox.add(&message).expect("a message");
            if expunged.is_some() { put.expunged.push(bytes) } else { put.live.push(bytes) }
        }
        spool.finish_mailbox(mailbox).expect("a mailbox");
    }
    spool.subscribe("fred.smith", "user.fred^smith.Sent");
    spool.limit("fred.smith", 1_000);
    (spool.finish().expect("a spool"), put)
}

/// Every message, whatever its record knows of it, is in the archive, and counted.
fn check_archive(archive: &Path, options: SpoolOptions, put: &Put) {
    let listed = list(&[archive]);
    let sum = |what: &str| -> u64 {
        let mailboxes = listed[0]["mailboxes"].as_array().expect("mailboxes").iter();
        mailboxes.map(|mailbox| mailbox[what].as_u64().expect("a number")).sum()
    };
    assert_eq!(sum("exists"), put.live.len() as u64, "{options:?}");
    assert_eq!(sum("expunged"), put.expunged.len() as u64, "{options:?}");
    let version = u64::from(options.era.index_version());
    assert_eq!(listed[0]["mailboxes"][0]["index_version"], version);
    let bytes = fs::read(archive).expect("an archive");
    let segments = reader::segments(&bytes).expect("whole");
    let chain = chain::newest(&segments, "fred.smith").expect("a chain");
    for message in put.live.iter().chain(&put.expunged) {
        assert_eq!(stored(&chain, &guid_of(message)).as_ref(), Some(message), "{options:?}");
    }
}

fn stored(chain: &Chain<'_>, guid: &Guid) -> Option<Vec<u8>> {
    chain.message(guid, 1).expect("a readable archive")
}

/// What clients of that old server saw comes back, and nothing else.
fn check_maildir(archive: &Path, maildir: &Path, put: &Put) {
    restore("fred.smith", &[archive], &format!("maildir:{}", maildir.display()), &[]);
    let mut found = BTreeSet::new();
    for folder in [maildir.join("cur"), maildir.join(".Sent/cur")] {
        for entry in fs::read_dir(folder).expect("a maildir") {
            found.insert(guid_of(&fs::read(entry.expect("an entry").path()).expect("a message")));
        }
    }
    let want: BTreeSet<Guid> = put.live.iter().map(|message| guid_of(message)).collect();
    assert_eq!(found, want);
}
