use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::names::NameRules;

fn mailbox(name: &str) -> MboxName {
    MboxName::from(name)
}

fn work(log: &[u8]) -> Work {
    let rules = NameRules::v3();
    let mut backlog = Backlog::new(&rules);
    backlog.feed(log);
    backlog.finish()
}

/// Every kind of line, as Cyrus 3.6.1 writes it.
#[test]
fn every_word_is_read_and_written() {
    let (glad, x) = (|| Userid::from("glad"), || mailbox("user.glad.x"));
    for (line, entry) in [
        ("APPEND user.glad.x", Entry::Append(x())),
        ("MAILBOX user.glad.x", Entry::Mailbox(x())),
        ("DOUBLEMAILBOX user.glad user.glad.x", Entry::DoubleMailbox(mailbox("user.glad"), x())),
        (
            "RENAME user.glad.x DELETED.user.glad.x.6B045DF8",
            Entry::Rename(x(), mailbox("DELETED.user.glad.x.6B045DF8")),
        ),
        ("UNMAILBOX user.glad.x", Entry::UnMailbox(x())),
        ("USER glad", Entry::User(glad())),
        ("UNUSER glad", Entry::UnUser(glad())),
        ("META glad", Entry::Meta(glad())),
        ("SIEVE glad", Entry::Sieve(glad())),
        ("SUB glad user.glad.x", Entry::Sub(glad(), x())),
        ("UNSUB glad user.glad.x", Entry::UnSub(glad(), x())),
        ("SEEN glad 1dvnugiprx4ukmrlik777bk9", {
            Entry::Seen(glad(), UniqueId::from("1dvnugiprx4ukmrlik777bk9"))
        }),
        ("QUOTA user.glad", Entry::Quota(mailbox("user.glad"))),
        ("ANNOTATION user.glad.x", Entry::Annotation(x())),
        ("ANNOTATION \"\"", Entry::Annotation(mailbox(""))),
        ("MAILBOX \"user.glad.two words\"", Entry::Mailbox(mailbox("user.glad.two words"))),
        (
            r#"MAILBOX "user.glad.\"q\\ \{3\}(a)""#,
            Entry::Mailbox(mailbox(r#"user.glad."q\ {3}(a)"#)),
        ),
    ] {
        assert_eq!(Entry::parse(line.as_bytes()), Ok(Some(entry.clone())), "{line}");
        assert_eq!(String::from_utf8_lossy(&entry.line()), format!("{line}\n"));
    }
    let lower = Entry::parse(b"mailbox user.glad.x\r");
    assert_eq!(lower, Ok(Some(Entry::Mailbox(x()))));
}

#[test]
fn what_no_master_writes_is_refused() {
    for (line, why) in [
        (&b"MAILBOX"[..], BadLine::Word),
        (b"NONSENSE user.glad", BadLine::Word),
        (b"\xff\x01\x02 x", BadLine::Word),
        (b"MAILBOX ", BadLine::Names),
        (b"MAILBOX \"\"", BadLine::Names),
        (b"MAILBOX user.glad garbage", BadLine::Names),
        (b"RENAME user.glad", BadLine::Names),
        (b"RENAME user.glad  user.x", BadLine::Names),
        (b"USER glad x y", BadLine::Names),
        (b"MAILBOX \"user.glad", BadLine::Quoting),
        (b"MAILBOX \"user.glad\\", BadLine::Quoting),
        (b"MAILBOX \"user.glad\"x", BadLine::Names),
        (b"MAILBOX user.gl\0ad", BadLine::Quoting),
        (b"MAILBOX {4}", BadLine::Quoting),
        (b"MAILBOX user.(glad", BadLine::Quoting),
    ] {
        assert_eq!(Entry::parse(line), Err(why), "{}", line.escape_ascii());
    }
    for blank in [&b""[..], b"  ", b"\r"] {
        assert_eq!(Entry::parse(blank), Ok(None));
    }
    let long = [b"MAILBOX ".as_slice(), &[b'x'; LINE_BYTES_MAX]].concat();
    assert_eq!(Entry::parse(&long), Err(BadLine::TooLong));
}

#[test]
fn lines_become_accounts_and_their_mailboxes() {
    let log = b"MAILBOX user.glad\nMAILBOX user.glad.x\nAPPEND user.glad\nMAILBOX user.glad\n\
        DOUBLEMAILBOX user.iris.a user.bob.b\nMAILBOX shared.box\nANNOTATION \"\"\n\n\
        RENAME user.carol DELETED.user.carol.6B045DF8\nMAILBOX user.carol\nSEEN dan 0123\n\
        QUOTA user.eve\nnonsense\n";
    let names = |names: &[&str]| Scope::Mailboxes(names.iter().map(|name| mailbox(name)).collect());
    let expected = [
        ("%shared", names(&["shared.box"])),
        ("bob", names(&["user.bob.b"])),
        ("carol", Scope::Whole),
        ("dan", Scope::Whole),
        ("eve", Scope::Whole),
        ("glad", names(&["user.glad", "user.glad.x"])),
        ("iris", names(&["user.iris.a"])),
    ];
    let work = work(log);
    let expected = expected.map(|(user, scope)| (Userid::from(user), scope));
    assert_eq!(work.accounts, BTreeMap::from(expected));
    assert_eq!((work.lines, work.of_server, work.malformed.lines), (13, 1, 1));
    assert_eq!(work.malformed.example, Some((b"nonsense".to_vec(), BadLine::Word)));
}

#[test]
fn a_torn_last_line_counts_for_all_of_its_account() {
    for torn in [
        &b"MAILBOX user.glad.Se"[..],
        b"MAILBOX user.glad",
        b"MAILBOX \"user.glad.two wo",
        b"RENAME user.glad.a user.glad.",
        b"RENAME user.glad.a",
        b"RENAME user.glad.a ",
        b"RENAME user.glad.a \"user",
        b"UNUSER glad",
        b"SUB glad ",
    ] {
        let work = work(&[b"MAILBOX user.iris\n", torn].concat());
        let name = torn.escape_ascii();
        assert_eq!(work.accounts.get(&"glad".into()), Some(&Scope::Whole), "{name}");
        assert!(matches!(work.accounts[&"iris".into()], Scope::Mailboxes(_)), "{name}");
        assert_eq!((work.lines, work.malformed.lines), (2, 1), "{name}");
    }
    assert_eq!(work(b"MAILB").accounts, BTreeMap::new());
}

/// A writer that died in the middle of his line, and the next one, who has begun behind it.
#[test]
fn a_torn_line_does_not_take_the_next_one_along() {
    let whole = |users: &[&str]| -> Vec<(Userid, Scope)> {
        users.iter().map(|user| (Userid::from(*user), Scope::Whole)).collect()
    };
    let one = |name: &str| Scope::Mailboxes([mailbox(name)].into());
    let iris = || (Userid::from("iris"), one("user.iris"));
    for (log, torn, good, malformed) in [
        (&b"MAILBOX user.gladMAILBOX user.iris\n"[..], &["glad"][..], vec![iris()], 1),
        (b"MAILBOX user.glad\0\0MAILBOX user.iris\n", &["glad"], vec![iris()], 1),
        (b"MAILMAILBOX user.iris\n", &[], vec![iris()], 1),
        (b"MAILBOX \"user.glad.two wMAILBOX user.iris\n", &["glad"], vec![iris()], 1),
        (b"RENAME user.glad.a MAILBOX user.iris\n", &["glad"], vec![iris()], 1),
        (b"UNMAILBOX user.gladUNUSER iris\n", &["glad"], whole(&["iris"]), 1),
        (b"SUB glad user.gladDOUBLEMAILBOX user.iris user.iris\n", &["glad"], vec![iris()], 1),
        (b"USER gladUSER bobMAILBOX user.iris\n", &["bob", "glad"], vec![iris()], 1),
        // It could be a line.
        (
            b"DOUBLEMAILBOX user.gladUSER iris\n",
            &["glad", "iris"],
            vec![("gladUSER".into(), one("user.gladUSER"))],
            0,
        ),
        // Nobody has ended the last one either.
        (b"MAILBOX user.gladMAILBOX user.iris", &["glad"], whole(&["iris"]), 1),
    ] {
        let mut found = work(&[b"MAILBOX user.zoe\n", log].concat());
        let name = log.escape_ascii();
        assert_eq!(found.accounts.remove(&"zoe".into()), Some(one("user.zoe")), "{name}");
        found.accounts.remove(&Userid::shared());
        let expected: BTreeMap<Userid, Scope> = whole(torn).into_iter().chain(good).collect();
        for (user, scope) in &expected {
            assert_eq!(found.accounts.get(user), Some(scope), "{name}: {user}");
        }
        assert_eq!(
            (found.accounts.len(), found.malformed.lines),
            (expected.len(), malformed),
            "{name}"
        );
    }
}

#[test]
fn a_hole_of_zeros_is_as_long_as_it_is() {
    let rules = NameRules::v3();
    for front in [&b""[..], b"USER glad"] {
        let mut backlog = Backlog::new(&rules);
        backlog.feed(front);
        (0..16).for_each(|_| backlog.feed(&[0; 4096]));
        backlog.feed(b"MAILBOX user.iris\n");
        let accounts: Vec<String> =
            backlog.finish().accounts.keys().map(ToString::to_string).collect();
        let expected: &[&str] = if front.is_empty() { &["iris"] } else { &["glad", "iris"] };
        assert_eq!(accounts, expected);
    }
}

#[test]
fn junk_costs_neither_memory_nor_the_lines_around_it() {
    let rules = NameRules::v3();
    let mut backlog = Backlog::new(&rules);
    backlog.feed(b"MAILBOX user.glad\n\0\0\0\0MAILBOX user.iris\n");
    for _ in 0..64 {
        backlog.feed(&[0xfe; 4096]);
    }
    backlog.feed(b"\nMAILBOX user.bob\n");
    let work = backlog.finish();
    let accounts: Vec<String> = work.accounts.keys().map(ToString::to_string).collect();
    assert_eq!(accounts, ["bob", "glad", "iris"]);
    let (example, why) = work.malformed.example.expect("an example");
    assert_eq!((work.malformed.lines, example.len(), why), (1, LINE_BYTES_MAX, BadLine::TooLong));
}

fn any_name() -> impl Strategy<Value = String> {
    "(user|DELETED\\.user|shared)\\.[a-c]{1,2}(\\.[ a-z\"\\\\(){}^]{1,6}){0,2}"
}

fn any_entry() -> impl Strategy<Value = Entry> {
    let user = || "[a-c]{1,2}".prop_map(|user| Userid::from(user.as_str()));
    let name = || any_name().prop_map(|name| MboxName::from(name.as_str()));
    prop_oneof![
        4 => name().prop_map(Entry::Mailbox),
        2 => name().prop_map(Entry::Append),
        1 => (name(), name()).prop_map(|(a, b)| Entry::DoubleMailbox(a, b)),
        1 => (name(), name()).prop_map(|(a, b)| Entry::Rename(a, b)),
        1 => name().prop_map(Entry::UnMailbox),
        1 => user().prop_map(Entry::User),
        1 => user().prop_map(Entry::UnUser),
        1 => user().prop_map(Entry::Meta),
        1 => (user(), name()).prop_map(|(user, name)| Entry::Sub(user, name)),
        1 => name().prop_map(Entry::Quota),
        1 => name().prop_map(Entry::Annotation),
    ]
}

/// What is to be looked at, entry by entry, each as if it were the only one.
fn naive(entries: &[Entry], rules: &NameRules) -> BTreeMap<Userid, Scope> {
    let owner = |name: &MboxName| rules.owner(name).unwrap_or_else(Userid::shared);
    let mut whole = BTreeSet::new();
    let mut mailboxes: BTreeMap<Userid, BTreeSet<MboxName>> = BTreeMap::new();
    for entry in entries {
        let names = match entry {
            Entry::Append(a) | Entry::Mailbox(a) | Entry::Annotation(a) => vec![a],
            Entry::DoubleMailbox(a, b) => vec![a, b],
            other => {
                whole.extend(other.accounts(rules));
                continue;
            }
        };
        for name in names {
            mailboxes.entry(owner(name)).or_default().insert(name.clone());
        }
    }
    let mailboxes = mailboxes.into_iter().map(|(user, names)| (user, Scope::Mailboxes(names)));
    let mut all: BTreeMap<Userid, Scope> = mailboxes.collect();
    all.extend(whole.into_iter().map(|user| (user, Scope::Whole)));
    all
}

proptest! {
    #[test]
    fn an_entry_survives_its_line(entry in any_entry()) {
        let line = entry.line();
        let (end, line) = line.split_last().expect("a line end");
        prop_assert_eq!(*end, b'\n');
        prop_assert_eq!(Entry::parse(line), Ok(Some(entry)));
    }

    #[test]
    fn a_backlog_is_what_its_entries_are_one_by_one(
        entries in proptest::collection::vec(any_entry(), 0..60),
        pieces in proptest::collection::vec(1..40usize, 1..20),
    ) {
        let rules = NameRules::v3();
        let log: Vec<u8> = entries.iter().flat_map(Entry::line).collect();
        let mut backlog = Backlog::new(&rules);
        let (mut rest, mut pieces) = (log.as_slice(), pieces.iter().cycle());
        while !rest.is_empty() {
            let length = pieces.next().map_or(1, |length| (*length).min(rest.len()));
            backlog.feed(&rest[..length]);
            rest = &rest[length..];
        }
        let found = backlog.finish();
        prop_assert_eq!(found.lines, entries.len() as u64);
        prop_assert_eq!(found.malformed.lines, 0);
        prop_assert_eq!(&found.accounts, &naive(&entries, &rules));
        // What is written down of it says the same.
        let kept: Vec<u8> = found.entries().flat_map(|entry| entry.line()).collect();
        prop_assert_eq!(work(&kept).accounts, found.accounts);
    }
}

#[test]
fn what_is_kept_of_zeros_does_not_depend_on_pieces() {
    let rules = NameRules::v3();
    let log = b"USE\x01\0\0 glad\nMAILBOX user.glad\n";
    let mut whole = Backlog::new(&rules);
    whole.feed(log);
    let mut pieces = Backlog::new(&rules);
    log.chunks(5).for_each(|piece| pieces.feed(piece));
    let work = whole.finish();
    assert_eq!(work.malformed.lines, 1);
    assert_eq!(pieces.finish(), work);
}
