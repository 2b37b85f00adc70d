//! Mail given back in forms that other programs read.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Command;

use testkit::imap::{MessageView, guid_of};
use testkit::skip::has_tool_or_skip;
use testkit::{Cyrus, CyrusBuilder, ImapView, cyrus_or_skip};

use crate::account::Rich;
use crate::program::{Snapshot, list, restore, run};
use crate::restored::{Seen, scratch, serve};

const PYTHON: &str = "/usr/bin/python3";

/// Prints how many messages a mailbox file has, and how many have been seen.
const COUNT_MBOX: &str = "
import mailbox, sys
box = mailbox.mbox(sys.argv[1], create=False)
print(len(box), sum('R' in message.get_flags() for message in box))
";

/// Prints the names and the flags of all messages of a maildir.
const LIST_MAILDIR: &str = "
import mailbox, sys
box = mailbox.Maildir(sys.argv[1], create=False)
for folder in [None] + sorted(box.list_folders()):
    messages = box if folder is None else box.get_folder(folder)
    for key, message in messages.iteritems():
        print(folder or '', key, ''.join(c for c in message.get_flags() if c.isupper()), sep='\\t')
";

/// A server with a rich account, and a snapshot of it.
fn scene(builder: &CyrusBuilder, archive: &Path) -> (Cyrus, ImapView) {
    let cyrus = builder.clone().start().expect("Cyrus starts");
    Rich::named("glad").fill(&cyrus);
    Snapshot::full(cyrus.imapd_conf(), "glad").take(archive);
    let mut view = cyrus.view("glad").expect("a view");
    view.folders.retain(|name, _| name.starts_with("INBOX"));
    (cyrus, view)
}

fn python<A: AsRef<OsStr>>(program: &str, argument: A) -> String {
    let mut command = Command::new(PYTHON);
    let ran = run(command.args(["-I", "-c", program]).arg(argument)).expect(0);
    String::from_utf8(ran.stdout).expect("text")
}

#[test]
fn a_maildir_has_every_message_with_its_flags_and_its_very_bytes() {
    let test = "a_maildir_has_every_message";
    let Some(builder) = cyrus_or_skip(test) else { return };
    if !has_tool_or_skip(test, PYTHON) {
        return;
    }
    let scratch = scratch();
    let (archive, maildir) = (scratch.path().join("glad.tar"), scratch.path().join("maildir"));
    let (_cyrus, view) = scene(&builder, &archive);
    restore("glad", &[&archive], &format!("maildir:{}", maildir.display()), &[]);

    let mut found: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    for line in python(LIST_MAILDIR, &maildir).lines() {
        let [folder, key, flags] = line.split('\t').collect::<Vec<_>>()[..] else {
            panic!("{line}");
        };
        found.entry(folder.to_owned()).or_default().push((key.to_owned(), flags.to_owned()));
    }
    for (name, folder) in &view.folders {
        let want: Vec<String> = folder.messages.values().map(letters).collect();
        let below = name.strip_prefix("INBOX").expect("one's own");
        // Dots between levels, as Maildir++ has them; a dot in a name is Cyrus' circumflex.
        let below = below.trim_start_matches('/').replace('.', "^").replace('/', ".");
        let below = match below.as_str() {
            "" => String::new(),
            below => segment::names::escape(below.as_bytes()),
        };
        let mut have = found.remove(&below).unwrap_or_default();
        have.sort_by_key(|(key, _)| uid_of(key));
        assert_eq!(have.iter().map(|(_, flags)| flags.clone()).collect::<Vec<_>>(), want, "{name}");
    }
    found.retain(|folder, _| !folder.starts_with("DELETED"));
    assert_eq!(found, BTreeMap::new(), "folders that nobody asked for");
    let files = check_bytes(&maildir);
    assert!(files >= view.message_count(), "{files}");
    let keywords = fs::read_to_string(maildir.join("dovecot-keywords")).expect("user flags");
    assert!(keywords.contains("$Forwarded") && keywords.contains("Junk"), "{keywords}");
}

/// The letters that a maildir has for system flags.
fn letters(message: &MessageView) -> String {
    let flags = [
        ("\\Draft", 'D'),
        ("\\Flagged", 'F'),
        ("\\Answered", 'R'),
        ("\\Seen", 'S'),
        ("\\Deleted", 'T'),
    ];
    flags
        .iter()
        .filter(|(flag, _)| message.flags.contains(*flag))
        .map(|(_, letter)| letter)
        .collect()
}

/// The UID in a file name like `1500000000.U12G<guid>.cylinder,S=…`.
fn uid_of(key: &str) -> u32 {
    let (_, rest) = key.split_once(".U").expect("a UID");
    rest.split('G').next().and_then(|uid| uid.parse().ok()).expect("a number")
}

/// Holds every message file of a maildir against the GUID in its name; returns their number.
fn check_bytes(directory: &Path) -> usize {
    let mut count = 0;
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if path.is_dir() {
            count += check_bytes(&path);
        } else if let Some((_, rest)) = name.split_once('G').filter(|_| name.contains(".U")) {
            let guid = guid_of(&fs::read(&path).expect("a message"));
            assert!(rest.starts_with(&guid.to_string()), "{name} has bytes of {guid}");
            count += 1;
        }
    }
    count
}

#[test]
fn mbox_files_have_every_message_and_what_was_seen() {
    let test = "mbox_files_have_every_message";
    let Some(builder) = cyrus_or_skip(test) else { return };
    if !has_tool_or_skip(test, PYTHON) {
        return;
    }
    let scratch = scratch();
    let (archive, mbox) = (scratch.path().join("glad.tar"), scratch.path().join("mbox"));
    let (cyrus, _) = scene(&builder, &archive);
    // A line that looks like the beginning of a message must not become one.
    let mut client = cyrus.imap_as("glad").expect("a client");
    let message =
        b"From: a@b\r\n\r\nFrom here\r\n>From there\r\n\r\nFrom x Thu Jan  1 00:00:00 1970\r\n";
    let append = testkit::imap::Append { message, ..Default::default() };
    client.append("INBOX/Sent", append).expect("an append");
    Snapshot::full(cyrus.imapd_conf(), "glad").take(&archive);
    let view = cyrus.view("glad").expect("a view");
    restore("glad", &[&archive], &format!("mbox:{}", mbox.display()), &[]);
    let own = view.folders.iter().filter(|(name, _)| name.starts_with("INBOX"));
    for (name, folder) in own {
        let internal = name.replace('.', "^").replace('/', ".");
        let file = mbox.join(format!("{}.mbox", segment::names::escape(internal.as_bytes())));
        let seen = folder.messages.values().filter(|message| message.flags.contains("\\Seen"));
        let want = format!("{} {}\n", folder.messages.len(), seen.count());
        assert_eq!(python(COUNT_MBOX, &file), want, "{name}");
    }
}

#[test]
fn a_restored_tar_is_a_full_snapshot_that_restores_like_the_chain() {
    let Some(builder) = cyrus_or_skip("a_restored_tar_is_a_full_snapshot") else { return };
    let scratch = scratch();
    let path = |name: &str| scratch.path().join(name);
    let (full, more, one) = (path("full.tar"), path("more.tar"), path("one.tar"));
    let (cyrus, _) = scene(&builder, &full);
    Rich::named("glad").change(&cyrus);
    let conf = cyrus.imapd_conf();
    Snapshot { since: &[&full], ..Snapshot::full(conf, "glad") }.take(&more);
    let want = Seen::of(&cyrus, "glad");
    restore("glad", &[&full, &more], &format!("tar:{}", one.display()), &[]);
    fs::remove_file(&full).expect("gone");
    fs::remove_file(&more).expect("gone");

    let listed = list(&[&one]);
    assert_eq!((listed.len(), &listed[0]["full"]), (1, &true.into()), "{listed:#?}");
    let tree = path("restored");
    restore("glad", &[&one], &format!("dir:{}", tree.display()), &[]);
    let restored = serve(&builder, &tree);
    assert_eq!(want.differences(&Seen::of(&restored, "glad")), Vec::<String>::new());
}

#[test]
fn compressed_archives_restore_like_plain_ones() {
    let Some(builder) = cyrus_or_skip("compressed_archives_restore") else { return };
    let scratch = scratch();
    let path = |name: &str| scratch.path().join(name);
    let cyrus = builder.clone().start().expect("Cyrus starts");
    let rich = Rich::named("glad");
    rich.fill(&cyrus);
    let conf = cyrus.imapd_conf();
    let take = |how: &str, since: &[&Path], output: &Path| {
        let mut command = Command::new(crate::program::CYLINDER);
        command.args(Snapshot { since, ..Snapshot::full(conf, "glad") }.arguments());
        run(command.args(["--compress", how, "-o"]).arg(output)).expect(0);
    };
    let (full, more, last) = (path("1.zst"), path("2.gz"), path("3.zst"));
    take("zstd", &[], &full);
    rich.change(&cyrus);
    take("gzip", &[&full], &more);
    let mut client = cyrus.imap_as("glad").expect("a client");
    client.select("INBOX").expect("INBOX");
    client.store("1:*", "+FLAGS", &["Third"]).expect("flags");
    take("zstd", &[&full, &more], &last);
    let want = Seen::of(&cyrus, "glad");
    let tree = path("restored");
    restore("glad", &[&full, &more, &last], &format!("dir:{}", tree.display()), &[]);
    let restored = serve(&builder, &tree);
    assert_eq!(want.differences(&Seen::of(&restored, "glad")), Vec::<String>::new());
}
