use proptest::prelude::*;

use super::*;

fn text(value: &Dlist) -> String {
    String::from_utf8(value.to_vec()).expect("the test's values are text")
}

#[test]
fn a_header_line_of_cyrus_reads_and_writes_the_same() {
    let line = "%(T e N user.glad I c1fkpvrdaax34z2hoxb6fgjh Q user.glad \
                A %(glad lrswipkxtecdan cyrus lrswipkxtecda) U ($Forwarded NIL NonJunk))";
    let value = Dlist::parse_exact(line.as_bytes()).expect("Cyrus wrote it");
    assert_eq!(value.get(b"N").and_then(Dlist::as_bytes), Some(b"user.glad".as_slice()));
    let rights = value.get(b"A").and_then(|acl| acl.get(b"cyrus")).and_then(Dlist::as_bytes);
    assert_eq!(rights, Some(b"lrswipkxtecda".as_slice()));
    let flags = value.get(b"U").and_then(Dlist::items).expect("a list");
    assert_eq!(flags, [Dlist::bytes("$Forwarded"), Dlist::Nil, Dlist::bytes("NonJunk")]);
    assert_eq!(value.get(b"X"), None);
    assert_eq!(text(&value), line);
}

#[test]
fn strings_take_the_form_that_cyrus_gives_them() {
    let long_atom = "a".repeat(1023);
    let too_long = "a".repeat(1024);
    for (string, written) in [
        ("plain", "plain"),
        ("user\x1fglad", "user\x1fglad"),
        ("other.com\x1duser", "\"other.com\x1duser\""),
        ("NIL", "\"NIL\""),
        ("nil", "nil"),
        ("", "\"\""),
        ("two words", "\"two words\""),
        ("a*b", "\"a*b\""),
        ("(a)", "\"(a)\""),
        ("{a", "\"{a\""),
        ("a\x7f", "\"a\x7f\""),
        ("say \"hi\"", "{8}\r\nsay \"hi\""),
        ("100%", "{4}\r\n100%"),
        ("\\Seen", "{5}\r\n\\Seen"),
        ("a\nb", "{3}\r\na\nb"),
        ("ä", "{2}\r\nä"),
        ("\0", "{1}\r\n\0"),
        (long_atom.as_str(), long_atom.as_str()),
        (too_long.as_str(), format!("{{1024}}\r\n{too_long}").as_str()),
    ] {
        let value = Dlist::bytes(string);
        assert_eq!(text(&value), written, "{string:?}");
        assert_eq!(Dlist::parse_exact(written.as_bytes()), Ok(value), "{string:?}");
    }
}

#[test]
fn readers_take_more_than_writers_give() {
    let value = Dlist::parse_exact(b"( a  {2+}\r\nb) \"c\\\"\\\\\" \\Seen d% )").expect("readable");
    let strings: [&[u8]; 5] = [b"a", b"b)", b"c\"\\", b"\\Seen", b"d%"];
    assert_eq!(value, Dlist::List(strings.into_iter().map(Dlist::bytes).collect()));
}

#[test]
fn empty_lists_and_nil_are_three_different_things() {
    let values = [("()", Dlist::List(vec![])), ("%()", Dlist::Kv(vec![])), ("NIL", Dlist::Nil)];
    for (written, value) in values {
        assert_eq!(Dlist::parse_exact(written.as_bytes()).as_ref(), Ok(&value));
        assert_eq!(text(&value), written);
    }
}

#[test]
fn numbers_are_decimal_and_must_fit() {
    assert_eq!(text(&Dlist::num(u64::MAX)), "18446744073709551615");
    assert_eq!(Dlist::num(u64::MAX).as_num(), Some(u64::MAX));
    for none in ["", "18446744073709551616", "-1", "1x", "+1", " 1"] {
        assert_eq!(Dlist::bytes(none).as_num(), None, "{none:?}");
    }
    assert_eq!(Dlist::Nil.as_num(), None);
}

#[test]
fn parse_says_where_the_value_ends() {
    assert_eq!(Dlist::parse(b"%(a b)\nmore").map(|(_, used)| used), Ok(6));
    let error = Dlist::parse_exact(b"(a) b").expect_err("something follows");
    assert_eq!(error.to_string(), "dlist: damaged at byte 3: 2 bytes behind the value");
}

#[test]
fn broken_text_is_damage() {
    for broken in [
        "",
        " ",
        ")",
        "(",
        "(a",
        "(a\"b\")",
        "%a",
        "%",
        "%(",
        "%(a",
        "%(a)",
        "%(a b",
        "%(NIL b)",
        "%(a(b))",
        "\"a",
        "\"a\\",
        "{",
        "{}\r\n",
        "{1}\r\n",
        "{1}\na",
        "{1]\r\na",
        "{-1}\r\n",
        "{99999999999999999999999}\r\na",
        "{18446744073709551615}\r\na",
        "%{part guid 1}\r\na",
    ] {
        let parsed = Dlist::parse(broken.as_bytes());
        assert!(matches!(parsed, Err(FormatError::Damaged { .. })), "{broken:?}: {parsed:?}");
    }
}

#[test]
fn deep_nesting_is_refused_before_the_stack_notices() {
    let nested = |depth| ["(".repeat(depth), ")".repeat(depth)].concat().into_bytes();
    assert!(Dlist::parse_exact(&nested(MAX_DEPTH)).is_ok());
    assert!(Dlist::parse_exact(&nested(MAX_DEPTH + 1)).is_err());
    assert!(Dlist::parse_exact(&nested(1_000_000)).is_err());
    assert!(Dlist::parse_exact("%(a ".repeat(1_000_000).as_bytes()).is_err());
}

fn any_dlist() -> impl Strategy<Value = Dlist> {
    let leaf = prop_oneof![
        Just(Dlist::Nil),
        any::<u64>().prop_map(Dlist::num),
        "[ -~]{0,12}".prop_map(Dlist::bytes),
        prop::collection::vec(any::<u8>(), 0..12).prop_map(Dlist::Bytes),
    ];
    let key = prop::collection::vec(any::<u8>(), 0..6);
    leaf.prop_recursive(4, 32, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Dlist::List),
            prop::collection::vec((key.clone(), inner), 0..6).prop_map(Dlist::Kv),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_written_reads_back(value in any_dlist()) {
        let written = value.to_vec();
        prop_assert_eq!(Dlist::parse_exact(&written), Ok(value));
    }

    #[test]
    fn no_prefix_of_a_list_is_a_list(value in any_dlist()) {
        let written = Dlist::List(vec![value]).to_vec();
        for cut in 0..written.len() {
            prop_assert!(Dlist::parse(&written[..cut]).is_err());
        }
    }

    #[test]
    fn any_bytes_at_all_are_an_error_or_a_value(noise in "[ ()%{}0-9+\r\n\"\\\\aN]{0,40}") {
        if let Ok((value, used)) = Dlist::parse(noise.as_bytes()) {
            prop_assert!(used <= noise.len());
            prop_assert_eq!(Dlist::parse_exact(&value.to_vec()), Ok(value));
        }
    }
}
