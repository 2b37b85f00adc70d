//! Names: safe whatever goes in, and had back exactly.

use model::{Guid, Uid, Userid};
use proptest::prelude::*;
use segment::names::{
    COMPONENT_MAX, EntryName, Part, Unescaped, account, account_path, check_account, escape,
    parse_folder_target, quote, unescape, unquote,
};

#[test]
fn names_are_written_as_the_format_page_says() {
    for (name, escaped) in [
        ("glad", "glad"),
        ("fred.smith", "fred.smith"),
        ("ann@other.com", "ann@other.com"),
        ("INBOX.Incoming", "INBOX.Incoming"),
        ("INBOX.&AOQ-rger^1", "INBOX.&AOQ-rger^1"),
        ("a+b=c,d#e$f!g_h-i", "a+b=c,d#e$f!g_h-i"),
        ("", "%"),
        (".", "%2E"),
        ("..", "%2E."),
        (".hidden", "%2Ehidden"),
        ("-rf", "%2Drf"),
        ("a~2", "a%7E2"),
        ("50%", "50%25"),
        ("a/b", "a%2Fb"),
        ("a b", "a%20b"),
        ("a\0b", "a%00b"),
        ("\u{e4}", "%C3%A4"),
        ("*?[]{}'\"\\|<>();`:", "%2A%3F%5B%5D%7B%7D%27%22%5C%7C%3C%3E%28%29%3B%60%3A"),
    ] {
        assert_eq!(escape(name.as_bytes()), escaped);
        let name = name.as_bytes().to_vec();
        assert_eq!(unescape(escaped), Ok(Unescaped::Whole(name)), "{escaped}");
    }
}

#[test]
fn a_name_that_is_too_long_keeps_its_beginning_and_gets_a_hash() {
    let plain = escape(&[b'x'; 201]);
    assert_eq!(plain.len(), COMPONENT_MAX);
    assert!(plain.starts_with(&"x".repeat(182)), "{plain}");
    // SHA-256 of 201 times x, as sha256sum gives it.
    assert_eq!(&plain[182..], "%~84a0678c90937f5d");
    assert_eq!(unescape(&plain), Ok(Unescaped::Shortened));
    // One byte less is whole.
    assert_eq!(escape(&[b'x'; 200]), "x".repeat(200));
    // A %XX is never cut in two.
    for lead in 0..3 {
        let name = [vec![b'x'; lead], vec![0xe4; 100]].concat();
        let escaped = escape(&name);
        assert!(escaped.len() <= COMPONENT_MAX);
        assert_eq!(unescape(&escaped), Ok(Unescaped::Shortened), "{escaped}");
    }
}

#[test]
fn the_account_of_shared_mailboxes_has_a_component_that_no_name_has() {
    assert_eq!(account(Userid::shared().as_bytes()), "%shared");
    assert_eq!(check_account("%shared"), Ok(()));
    assert!(unescape("%shared").is_err(), "some name is escaped like that");
    for other in ["%Shared", "%shared2", "%sharedx", "%", "%25shared", "%2"] {
        assert_eq!(check_account(other).is_ok(), unescape(other).is_ok(), "{other}");
    }
    let entry = EntryName { account: "%shared", part: Part::Folder("shared.box") };
    assert_eq!(EntryName::parse(b"%shared/folders/shared.box"), Ok(entry));
    for wrong in ["glad/folders/%shared", "glad/mailboxes/%shared/", "glad/account/%shared"] {
        assert!(EntryName::parse(wrong.as_bytes()).is_err(), "{wrong}");
    }
}

#[test]
fn what_escaping_never_makes_is_refused() {
    let long = "x".repeat(201);
    let cut = format!("{}%~0123456789abcdef", "x".repeat(182));
    assert_eq!(unescape(&cut), Ok(Unescaped::Shortened));
    for wrong in [
        "",
        ".",
        "..",
        ".a",
        "-a",
        "~",
        "a~",
        "%~",
        "a%~0123456789abcdef",
        "%41",
        "%2f",
        "%2",
        "%%",
        "a/b",
        "a b",
        "\u{e4}",
        "%7",
        "%GG",
        &long,
        &cut[3..],
        &cut[..199],
        &format!("{cut}0"),
        &cut.replace('f', "F"),
        &cut.replacen('x', "/", 1),
    ] {
        assert!(unescape(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn every_entry_has_its_place() {
    let guid = Guid::from_hex(b"da39a3ee5e6b4b0d3255bfef95601890afd80709").expect("40 digits");
    for (part, name) in [
        (Part::Message(guid), "glad/messages/da/da39a3ee5e6b4b0d3255bfef95601890afd80709"),
        (Part::MailboxDir("d1"), "glad/mailboxes/d1/"),
        (Part::MailboxDir("d1~2"), "glad/mailboxes/d1~2/"),
        (Part::MailboxFile { dir: "d1", file: "cyrus.index" }, "glad/mailboxes/d1/cyrus.index"),
        (Part::MailboxMessage { dir: "d1", uid: Uid(4294967295) }, "glad/mailboxes/d1/4294967295."),
        (Part::Folder("INBOX.a~2"), "glad/folders/INBOX.a~2"),
        (Part::AccountFile("sieve/x.script"), "glad/account/sieve/x.script"),
        (Part::Manifest(7), "glad/segments/00000007.json"),
        (Part::End(99_999_999), "glad/segments/99999999.end"),
    ] {
        let entry = EntryName { account: "glad", part };
        assert_eq!(entry.to_string(), name);
        assert_eq!(EntryName::parse(name.as_bytes()), Ok(entry));
    }
}

#[test]
fn names_of_no_segment_are_refused() {
    for wrong in [
        "",
        "/",
        "glad",
        "glad/",
        "/glad/account/sub",
        "../account/sub",
        "./glad/account/sub",
        "glad/../account/sub",
        "glad/account/",
        "glad/account/..",
        "glad/account/../sub",
        "glad/account/a//b",
        "glad/account/a/",
        "glad/account/a b",
        "glad/other/x",
        "//",
        "glad/messages/da/x",
        "glad/messages/da39a3ee5e6b4b0d3255bfef95601890afd80709",
        "glad/messages/ff/da39a3ee5e6b4b0d3255bfef95601890afd80709",
        "glad/messages/DA/DA39A3EE5E6B4B0D3255BFEF95601890AFD80709",
        "glad/mailboxes/",
        "glad/mailboxes//",
        "glad/mailboxes/../x",
        "glad/mailboxes/d1",
        "glad/mailboxes/d1/..",
        "glad/mailboxes/d1/a/b",
        "glad/folders/",
        "glad/folders/..",
        "glad/folders/a/b",
        "glad/folders/a~1",
        "glad/segments/1.json",
        "glad/segments/00000000.end",
        "glad/segments/00000001.tar",
        "glad/segments/000000001.end",
        "glad/segments/0000001a.end",
        "glad/account/a\0b",
        "glad\n/account/sub",
    ] {
        let error = EntryName::parse(wrong.as_bytes()).expect_err(wrong);
        assert!(error.to_string().is_ascii(), "{error}");
    }
    EntryName::parse(b"glad/account/\xff").expect_err("not ASCII");
    // Not a message's name, so a file's: leading zeros, zero, too large.
    for file in ["0.", "01.", "4294967296.", "1", "1.2"] {
        let name = format!("glad/mailboxes/d1/{file}");
        let parsed = EntryName::parse(name.as_bytes()).expect("a file's name");
        assert_eq!(parsed.part, Part::MailboxFile { dir: "d1", file });
    }
}

#[test]
fn a_folder_leads_to_a_mailbox_and_nowhere_else() {
    assert_eq!(parse_folder_target(b"../mailboxes/d1"), Some("d1"));
    for wrong in
        ["", "d1", "/etc/passwd", "../mailboxes/", "../mailboxes/..", "../mailboxes/a/b", "../../x"]
    {
        assert_eq!(parse_folder_target(wrong.as_bytes()), None, "{wrong}");
    }
}

#[test]
fn slashes_in_the_names_of_account_files_make_directories_and_nothing_else_does() {
    assert_eq!(account_path("sieve/My Script.script"), "sieve/My%20Script.script");
    assert_eq!(account_path("../../etc/passwd"), "%2E./%2E./etc/passwd");
    assert_eq!(account_path("/a//b"), "%/a/%/b");
}

/// Bytes of which many are of the kind that needs care.
fn nasty() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![any::<u8>(), proptest::sample::select(b"./%~-\0\\ 0aA2E".as_slice()),];
    proptest::collection::vec(byte, 0..260)
}

proptest! {
    #[test]
    fn components_are_safe_and_reversible(name in nasty(), other in nasty()) {
        let escaped = escape(&name);
        prop_assert!(!escaped.is_empty() && escaped.len() <= COMPONENT_MAX);
        prop_assert!(escaped.bytes().all(|b| b.is_ascii_graphic() && b != b'/' && b != b'\\'));
        prop_assert!(!escaped.starts_with(['.', '-', '~']));
        match unescape(&escaped) {
            Ok(Unescaped::Whole(back)) => prop_assert_eq!(&back, &name),
            Ok(Unescaped::Shortened) => prop_assert!(name.len() > 60),
            Err(error) => prop_assert!(false, "{}", error),
        }
        prop_assert_eq!(escape(&other) == escaped, other == name);
        prop_assert_eq!(account(&other) == account(&name), other == name);
        prop_assert_ne!(escaped.as_str(), Userid::SHARED);
    }

    #[test]
    fn a_component_stands_for_one_name(component in "[a-c.%~0-9A-F-]{0,12}") {
        if let Ok(Unescaped::Whole(name)) = unescape(&component) {
            prop_assert_eq!(escape(&name), component);
        }
    }

    #[test]
    fn quoted_text_is_printable_and_reversible(name in nasty(), text in "[ -~]{0,12}") {
        let quoted = quote(&name);
        prop_assert!(quoted.bytes().all(|b| (b' '..=b'~').contains(&b)));
        prop_assert_eq!(unquote(&quoted), Some(name));
        if let Some(bytes) = unquote(&text) {
            prop_assert_eq!(quote(&bytes), text);
        }
    }

    #[test]
    fn parsing_a_name_never_panics_and_writes_the_same(name in nasty()) {
        for name in [name.clone(), [b"glad/account/".as_slice(), &name].concat()] {
            if let Ok(entry) = EntryName::parse(&name) {
                prop_assert_eq!(entry.to_string().into_bytes(), name);
            }
        }
    }
}
