//! Export as maildir and as mbox.

use engine::export::{ExportError, Form, Summary, export};
use engine::ports::Silent;
use model::{FindingKind, Guid, SystemFlags};

use super::account::{Account, EPOCH, Mailbox, guid_of, options};
use super::tree::MemoryTree;

fn given(account: &Account, form: &Form) -> (MemoryTree, Summary) {
    let mut tree = MemoryTree::default();
    let summary = try_given(account, form, &mut tree).expect("an export");
    (tree, summary)
}

fn try_given(
    account: &Account,
    form: &Form,
    tree: &mut MemoryTree,
) -> Result<Summary, ExportError> {
    let (source, messages) = account.source();
    export(&source, &messages, form, tree, &options(EPOCH), &Silent)
}

/// Folders of all sorts; one message with each system flag, one with user flags, one expunged.
fn account() -> Account {
    let mut account = Account::new("glad");
    let mut inbox = Mailbox::new("user.glad", "id0", 17);
    inbox.flags = vec![Some(b"$Forwarded".to_vec()), None, Some(b"Junk".to_vec())];
    let flags = [
        SystemFlags::SEEN,
        SystemFlags::ANSWERED,
        SystemFlags::FLAGGED,
        SystemFlags::DELETED,
        SystemFlags::DRAFT,
    ];
    for (n, flag) in (0..).zip(flags) {
        inbox.add(body(n).as_bytes(), EPOCH + n).system_flags = flag;
    }
    let marked = inbox.add(body(5).as_bytes(), EPOCH + 5);
    marked.system_flags = SystemFlags(flags.iter().map(|flag| flag.0).sum());
    // Number 1 has no name, number 9 neither.
    for number in [0, 1, 2, 9] {
        marked.user_flags.insert(number);
    }
    inbox.add(body(6).as_bytes(), EPOCH).system_flags = SystemFlags::EXPUNGED;
    let mut other = Mailbox::new("user.glad.Work.a b", "id1", 17);
    other.add(body(0).as_bytes(), EPOCH);
    account.mailboxes = vec![inbox, other, Mailbox::new("DELETED.user.glad.x.6B0450F1", "id2", 17)];
    account
}

fn body(n: i64) -> String {
    format!("Subject: {n}\r\n\r\nFrom here on\r\nbody {n}\r\n")
}

fn maildir_name(n: i64, uid: u32, flags: &str) -> String {
    let (guid, size) = (guid_of(body(n).as_bytes()), body(n).len());
    format!("{}.U{uid}G{guid}.cylinder,S={size}:2,{flags}", EPOCH + n)
}

#[test]
fn maildir_has_each_message_with_its_flags_and_its_very_bytes() {
    let (tree, summary) = given(&account(), &Form::Maildir);
    assert_eq!((summary.mailboxes, summary.messages), (3, 7));
    assert!(summary.findings.is_empty());
    for ((n, uid), flags) in (0..).zip(1..).zip(["S", "R", "F", "T", "D", "DFRSTac"]) {
        let path = format!("cur/{}", maildir_name(n, uid, flags));
        assert_eq!(tree.read(&path), body(n).as_bytes(), "{path}");
        assert_eq!(tree.mtime(&path), EPOCH + n);
    }
    let path = format!(".Work.a%20b/cur/{}", maildir_name(0, 1, ""));
    assert_eq!(tree.read(path), body(0).as_bytes());
    assert_eq!(tree.read("dovecot-keywords"), b"0 $Forwarded\n2 Junk\n");
    let others = ["dovecot-keywords", ".Work.a%20b/maildirfolder"];
    let messages = tree.names().iter().filter(|name| name.contains("cylinder,S=")).count();
    assert_eq!(messages, 7, "the expunged one stays out");
    assert!(others.iter().all(|name| tree.has(name)));
    for folder in ["", ".Work.a%20b/", ".DELETED.INBOX.x.6B0450F1/"] {
        for part in ["cur", "new", "tmp"] {
            assert!(tree.directories().contains(&format!("{folder}{part}")), "{folder}{part}");
        }
    }
}

#[test]
fn maildir_keeps_the_order_of_the_letters() {
    let mut account = Account::new("glad");
    let mut inbox = Mailbox::new("user.glad", "id0", 17);
    inbox.flags = (0..30).map(|n| Some(format!("flag{n}").into_bytes())).collect();
    let record = inbox.add(b"x", EPOCH);
    (0..30).for_each(|n| record.user_flags.insert(n));
    account.mailboxes.push(inbox);
    let (tree, _) = given(&account, &Form::Maildir);
    let names = tree.names();
    assert!(names[0].ends_with(":2,abcdefghijklmnopqrstuvwxyz"), "{names:?}");
    let keywords = String::from_utf8_lossy(tree.read("dovecot-keywords")).into_owned();
    assert_eq!(keywords.lines().count(), 26);
    assert_eq!(keywords.lines().last(), Some("25 flag25"));
}

#[test]
fn mbox_can_be_undone_to_the_very_lines() {
    let (tree, summary) = given(&account(), &Form::Mbox);
    assert_eq!((summary.mailboxes, summary.messages), (3, 7));
    assert_eq!(
        tree.names(),
        ["DELETED.INBOX.x.6B0450F1.mbox", "INBOX.Work.a%20b.mbox", "INBOX.mbox"]
    );
    let text = String::from_utf8_lossy(tree.read("INBOX.mbox")).into_owned();
    let messages = parse_mbox(&text);
    let fields: Vec<&str> = messages.iter().map(|(fields, _)| fields.as_str()).collect();
    assert_eq!(
        fields,
        [
            "Status: RO\n",
            "Status: O\nX-Status: A\n",
            "Status: O\nX-Status: F\n",
            "Status: O\nX-Status: D\n",
            "Status: O\nX-Status: T\n",
            "Status: RO\nX-Status: AFTD\nX-Keywords: $Forwarded Junk\n",
        ]
    );
    for (n, (_, message)) in (0..).zip(&messages) {
        assert_eq!(*message, body(n).replace("\r\n", "\n"));
    }
    assert!(text.starts_with("From MAILER-DAEMON Tue May 13 16:53:20 2014\n"), "{text}");
}

/// The fields that were added to each message, and what it is without them and the quoting.
fn parse_mbox(text: &str) -> Vec<(String, String)> {
    let mut messages: Vec<(String, String)> = Vec::new();
    for line in text.split_inclusive('\n') {
        if line.starts_with("From ") {
            messages.push(Default::default());
            continue;
        }
        let (fields, message) = messages.last_mut().expect("a separator");
        if ["Status: ", "X-Status: ", "X-Keywords: "].iter().any(|name| line.starts_with(name)) {
            fields.push_str(line);
        } else if line.trim_start_matches('>').starts_with("From ") {
            message.push_str(&line[1..]);
        } else {
            message.push_str(line);
        }
    }
    for (_, message) in &mut messages {
        // The blank line that ends each.
        assert_eq!(message.pop(), Some('\n'));
    }
    messages
}

#[test]
fn whatever_the_message_is_mbox_stays_one() {
    let mut account = Account::new("glad");
    let mut inbox = Mailbox::new("user.glad", "id0", 17);
    for body in
        ["", "\n", "no header end", "a: b\r\n\r\n", "x\r\n\r\n>>From y\r\nFrom z", "\r\r\n\r\n"]
    {
        inbox.add(body.as_bytes(), EPOCH);
    }
    account.mailboxes.push(inbox);
    let (tree, _) = given(&account, &Form::Mbox);
    let text = String::from_utf8_lossy(tree.read("INBOX.mbox")).into_owned();
    assert_eq!(text.lines().filter(|line| line.starts_with("From ")).count(), 6);
    assert_eq!(text.lines().filter(|line| line.starts_with("Status: ")).count(), 6);
    let messages = parse_mbox(&text);
    assert_eq!(messages[4].1, "x\n\n>>From y\nFrom z\n");
}

#[test]
fn a_large_message_is_not_held_in_memory_and_still_whole() {
    let mut account = Account::new("glad");
    let mut inbox = Mailbox::new("user.glad", "id0", 17);
    let large: Vec<u8> = (0..5_000_000_u32).map(|n| (n / 7).to_le_bytes()[0]).collect();
    inbox.add(&large, EPOCH);
    account.mailboxes.push(inbox);
    let (tree, summary) = given(&account, &Form::Maildir);
    assert_eq!(summary.bytes, large.len() as u64);
    let names = tree.names();
    assert!(names[0].contains(&format!("G{}.cylinder,S=5000000", guid_of(&large))), "{names:?}");
    assert!(tree.read(&names[0]) == large.as_slice(), "other bytes");
}

#[test]
fn no_wrong_byte_is_given() {
    let mut account = account();
    account.mailboxes[0].bodies.insert(2, b"somebody else's".to_vec());
    account.mailboxes[0].bodies.remove(&3);
    for form in [Form::Maildir, Form::Mbox] {
        let (tree, summary) = given(&account, &form);
        assert_eq!(summary.messages, 5);
        let found: Vec<_> =
            summary.findings.iter().map(|finding| (finding.kind, finding.uid)).collect();
        assert_eq!(
            found,
            [(FindingKind::ArchiveDamaged, Some(2)), (FindingKind::MessageMissing, Some(3))]
        );
        for name in tree.names() {
            let bytes = String::from_utf8_lossy(tree.read(&name)).into_owned();
            assert!(!bytes.contains("somebody"), "{name}");
        }
    }
}

#[test]
fn a_message_of_unknown_hash_is_given_under_its_own() {
    let mut account = Account::new("glad");
    let mut inbox = Mailbox::new("user.glad", "id0", 10);
    inbox.add(b"unknown", EPOCH).guid = Guid::ZERO;
    account.mailboxes.push(inbox);
    let (tree, summary) = given(&account, &Form::Maildir);
    assert!(summary.findings.is_empty());
    assert!(tree.names()[0].contains(&guid_of(b"unknown").to_string()));
}

#[test]
fn two_folders_that_would_be_one_are_refused() {
    let mut account = Account::new("glad");
    account.mailboxes.push(Mailbox::new("user.glad.a", "id0", 17));
    account.mailboxes.push(Mailbox::new("user.glad.a", "id1", 17));
    for form in [Form::Maildir, Form::Mbox] {
        let error = try_given(&account, &form, &mut MemoryTree::default()).expect_err("a clash");
        assert!(matches!(error, ExportError::Write { ref what, .. } if what == "user.glad.a"));
    }
}
