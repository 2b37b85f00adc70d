//! A small spool, and the archives that the program makes of it.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use ::spool::{Options, Server};
use engine::base::Base;
use engine::live::live;
use engine::ports::Silent;
use engine::snapshot;
use model::Userid;
use segment::chain;
use segment::reader::segments;
use tempfile::TempDir;
use testkit::mail::{MailGenerator, Sizes};
use testkit::spool_builder::{EPOCH, Era, NewMessage, Spool, SpoolBuilder, SpoolOptions};

/// How many messages glad's INBOX has at each snapshot.
pub const MESSAGES: [usize; 3] = [5, 8, 9];

/// Archives of one segment each.
pub struct Sample {
    /// Three snapshots of glad, each based on the one before.
    pub glad: [Vec<u8>; 3],
    /// One of iris.
    pub iris: Vec<u8>,
    /// The first of another chain of glad.
    pub other: Vec<u8>,
    /// Another third one, also based on the second.
    pub fork: Vec<u8>,
    /// Every message that there is, by its SHA-1.
    pub mail: BTreeMap<String, Vec<u8>>,
}

/// When a snapshot was taken, by its number: noon of the first days of 2026.
pub fn taken_at(seq: u32) -> i64 {
    1_767_268_800 + 86_400 * (i64::from(seq) - 1)
}

/// The sample, made once.
pub fn sample() -> &'static Sample {
    static SAMPLE: OnceLock<Sample> = OnceLock::new();
    SAMPLE.get_or_init(|| {
        let scratch = scratch();
        let take = |account: &str, messages: usize, since: &[&Vec<u8>]| {
            let root = scratch.path().join(format!("{messages}"));
            take(&spool(&root, messages), account, since)
        };
        let first = take("glad", MESSAGES[0], &[]);
        let second = take("glad", MESSAGES[1], &[&first]);
        let third = take("glad", MESSAGES[2], &[&first, &second]);
        let fork = take("glad", MESSAGES[2] + 1, &[&first, &second]);
        let other = take("glad", MESSAGES[2] + 2, &[]);
        let iris = take("iris", MESSAGES[0], &[]);
        let mail = mail(MESSAGES[2] + 2).into_iter();
        let mail = mail.map(|body| (testkit::imap::guid_of(&body).to_string(), body));
        Sample { glad: [first, second, third], iris, other, fork, mail: mail.collect() }
    })
}

/// Takes a snapshot as the program does, but at a time of its own.
fn take(spool: &Spool, account: &str, since: &[&Vec<u8>]) -> Vec<u8> {
    let userid = Userid::from(account);
    let segments: Vec<_> =
        since.iter().flat_map(|archive| segments(*archive).expect("segments")).collect();
    let chain = (!since.is_empty()).then(|| chain::newest(&segments, account).expect("a chain"));
    let base = chain.as_ref().map(|chain| Base::new(chain).expect("a base"));
    let server = Server::open(&spool.imapd_conf, &Options::default()).expect("a server");
    let (source, messages) = live(server.freeze(&userid).expect("an account"));
    let seq = u32::try_from(since.len()).expect("few") + 1;
    let options = snapshot::Options {
        taken_at: taken_at(seq),
        taken_at_text: format!("2026-01-{seq:02}T12:00:00Z"),
        program: "cylinder test".to_owned(),
        workers: 1,
        seq: None,
        rewritten_at: None,
        catalog: false,
    };
    let taken = snapshot::snapshot(source, &messages, base.as_ref(), Vec::new(), &options, &Silent);
    let (segment, summary) = taken.expect("a snapshot");
    assert!(summary.findings.is_empty(), "{:?}", summary.findings);
    segment
}

/// The same messages each time, so that a spool with more of them continues one with less.
fn mail(count: usize) -> Vec<Vec<u8>> {
    MailGenerator::new(7, Sizes::About(900)).messages(count)
}

/// A spool of glad, who has that many messages in INBOX and copies of two in a folder, and of
/// iris, who has three. Whoever runs the tests owns it.
pub fn spool(root: &Path, messages: usize) -> Spool {
    if root.exists() {
        fs::remove_dir_all(root).expect("a directory");
    }
    let mut builder = SpoolBuilder::create(root, SpoolOptions::new(Era::V3_6)).expect("a spool");
    let mail = mail(messages);
    let mut inbox = builder.mailbox("user.glad").expect("a mailbox");
    let mut stored = Vec::new();
    for (body, date) in mail.iter().zip(EPOCH..) {
        let message = NewMessage { bytes: body, internaldate: date, ..NewMessage::default() };
        stored.push(inbox.add(&message).expect("a message"));
    }
    builder.finish_mailbox(inbox).expect("a mailbox");
    let mut sent = builder.mailbox("user.glad.Sent").expect("a mailbox");
    for (original, body) in stored.iter().zip(&mail).take(2) {
        let message = NewMessage { bytes: body, internaldate: EPOCH, ..NewMessage::default() };
        sent.link(original, &message).expect("a copy");
    }
    builder.finish_mailbox(sent).expect("a mailbox");
    let mut other = builder.mailbox("user.iris").expect("a mailbox");
    for body in &mail[..3] {
        let message = NewMessage { bytes: body, internaldate: EPOCH, ..NewMessage::default() };
        other.add(&message).expect("a message");
    }
    builder.finish_mailbox(other).expect("a mailbox");
    builder.subscribe("glad", "user.glad.Sent");
    let spool = builder.finish().expect("a spool");
    belongs_to_us(&spool.imapd_conf);
    spool
}

/// Has the program act as root, where it is run by root, so that it can read what root made.
pub fn belongs_to_us(imapd_conf: &Path) {
    if is_root() {
        let mut conf = fs::OpenOptions::new().append(true).open(imapd_conf).expect("imapd.conf");
        conf.write_all(b"cyrus_user: root\n").expect("imapd.conf");
    }
}

/// Whether root runs the tests.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A temporary directory.
pub fn scratch() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

/// Writes a file into a directory and says where it is.
pub fn write(scratch: &TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = scratch.path().join(name);
    fs::write(&path, bytes).expect("a file");
    path
}

/// All files below a directory, by their paths.
pub fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(directory) else { return found };
    for entry in entries {
        let path = entry.expect("an entry").path();
        if path.symlink_metadata().expect("there").is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// How many messages a maildir has. Each must be one of the sample's, with its very bytes.
#[track_caller]
pub fn check_maildir(maildir: &Path) -> usize {
    let mut count = 0;
    for path in files(maildir) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Some((_, rest)) = name.split_once(".cylinder,S=").map(|(front, back)| (back, front))
        else {
            continue;
        };
        let guid = &rest[rest.len() - 40..];
        let expected = sample().mail.get(guid);
        let bytes = fs::read(&path).expect("a message");
        assert_eq!(Some(&bytes), expected, "{} is wrong", path.display());
        count += 1;
    }
    count
}
