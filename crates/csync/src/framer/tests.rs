use proptest::prelude::*;

use super::*;

/// An event that keeps what it shows; all bytes of a file are one.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Line(String),
    File(FileHead),
    Bytes(Vec<u8>),
    FileEnd,
    Records(String),
    Record(String),
    Data(String),
    Refused(String),
    Fatal(Fatal),
}

fn text(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

fn data(data: Data<'_>) -> String {
    let words = [data.tag, data.verb, data.name, data.value];
    words
        .iter()
        .filter(|word| !word.is_empty())
        .map(|word| text(word))
        .collect::<Vec<_>>()
        .join(" ")
}

/// Feeds the pieces one after the other.
fn read<'a>(framer: &mut Framer, pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Seen> {
    let mut seen = Vec::new();
    for mut input in pieces {
        loop {
            let event = match framer.next(&mut input) {
                Ok(None) => break,
                Ok(Some(event)) => event,
                Err(fatal) => {
                    seen.push(Seen::Fatal(fatal));
                    return seen;
                }
            };
            let event = match event {
                Event::Line(line) => Seen::Line(text(line)),
                Event::File(head) => Seen::File(head),
                Event::FileBytes(bytes) => {
                    assert!(!bytes.is_empty());
                    if let Some(Seen::Bytes(before)) = seen.last_mut() {
                        before.extend_from_slice(bytes);
                        continue;
                    }
                    Seen::Bytes(bytes.to_vec())
                }
                Event::FileEnd => Seen::FileEnd,
                Event::Records(head) => Seen::Records(data(head)),
                Event::Record(record) => Seen::Record(text(record)),
                Event::Data(whole) => Seen::Data(data(whole)),
                Event::Refused(refused) => {
                    let Refused { tag, verb, name, reason } = refused;
                    let place = data(Data { tag: &tag, verb: &verb, name: &name, value: b"" });
                    Seen::Refused(format!("{place}: {reason}"))
                }
            };
            seen.push(event);
        }
    }
    seen
}

fn read_all(stream: Stream, limits: Limits, bytes: &[u8]) -> Vec<Seen> {
    read(&mut Framer::new(stream, limits), [bytes])
}

fn commands(bytes: impl AsRef<[u8]>) -> Vec<Seen> {
    read_all(Stream::Commands, Limits::default(), bytes.as_ref())
}

fn line(text: &str) -> Seen {
    Seen::Line(text.to_owned())
}

fn whole(text: &str) -> Seen {
    Seen::Data(text.to_owned())
}

fn refused(text: &str) -> Seen {
    Seen::Refused(text.to_owned())
}

fn file(partition: &str, size: u32) -> Seen {
    let guid = Guid::from_hex(EMPTY.as_bytes()).expect("a GUID");
    Seen::File(FileHead { partition: Partition::from(partition), guid, size })
}

const EMPTY: &str = "da39a3ee5e6b4b0d3255bfef95601890afd80709";

/// Everything that the grammar has, and much that it has not, one command behind the other.
fn samples() -> Vec<Vec<u8>> {
    let file = |head: &str| head.replace("GUID", EMPTY).into_bytes();
    let mut samples: Vec<Vec<u8>> = [
        "NOOP\r\n",
        "\n",
        "get user  {6+}\r\nali\r\n ce\r\nnoop\n",
        "GET USER \"a \\\" b\\\\\"\r\nGET USER NIL\r\n",
        "GET MAILBOXES ( a\t\"b\"\r\n (c{ %d)\n %(E () F {0}\n)  )\r\n",
        "APPLY MAILBOX %(A {3+}\r\n%({ RECORD (%(UID 1 X (\\Seen $a))\r\n%(UID 2 ) x) B RECORD)\r\n",
        "APPLY MAILBOX %(RECORD NIL RECORD (()) RECORD (x))\nAPPLY MAILBOX (RECORD (x))\n",
        "APPLY LOCAL_MAILBOX %(\"RECORD\" (x) A (%(RECORD (y))))\r\n",
        "* MAILBOX %(RECORD (\r\n",
        "GET USER \"abc\r\nNOOP\r\nGET USER x \r\nNOOP\r\nGET  USER x\r\nGET\r\nGET USER\r\n",
        "FOO bar {7+}\r\nNOOP\r\n\r x\r\nFOO {3}\r\nabc\r\n",
        "GET USER %x {4+}\r\n)\r\n( y\r\nNOOP\r\n",
        "GET USER (a))\r\nGET USER )\r\nGET USER {-1+}\r\nGET USER {1+\r\nNOOP\r\n",
        "GET USER {99999999999999999999}\r\nNOOP\r\n",
        "GET USER %{default x 3}\r\nabc\r\nNOOP\r\n",
        "NO\0OP\r\nGET USER a\0b\r\nGET USER \"a\0b\"\r\nGET USER a\x01b\r\nNOOP\r\n",
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .collect();
    samples.push(file(
        "APPLY MESSAGE (%{p GUID 5}\r\n)\0\r\n( %{\"q r\" \"GUID\" 0}\n NIL)\r\nNOOP\r\n",
    ));
    samples
        .push(file("APPLY MESSAGE %{p GUID 2}\n\"(\r\nAPPLY MESSAGE %(MESSAGE %{p GUID 1}\nx)\n"));
    samples.push(file("APPLY MESSAGE (%{p GUID 1}\r\nx %x %{p GUID 6}\r\nNOOP\r\n \r\nNOOP\r\n"));
    samples.push(file("APPLY MESSAGE (%{p GUID 1}\r\nx %{p nope 6}\r\nNOOP\r\n x)\r\nNOOP\r\n"));
    samples.push(file("APPLY SIEVE %(CONTENT %{p GUID 6}\r\nNOOP\r\n)\r\nNOOP\r\n"));
    samples.push(file("APPLY MESSAGE (%{p GUID 4294967296}\r\n"));
    samples.push(b"GET USER \xff\xfe{\xe9}\r\n".to_vec());
    samples
}

#[test]
fn lines_and_values_are_told_apart() {
    assert_eq!(
        commands("NOOP\r\nauthenticate PLAIN AHI=\n\r\nget  x\r\napply unuser  bob\r\n"),
        [
            line("NOOP"),
            line("authenticate PLAIN AHI="),
            line(""),
            refused("GET: two spaces behind the command"),
            whole("APPLY UNUSER bob"),
        ]
    );
    let imap =
        b"T1 AUTHENTICATE PLAIN\r\nS0 syncget user {5+}\r\nalice\r\nGET USER x\r\nS1 SYNCGET\r\n";
    assert_eq!(
        read_all(Stream::ImapCommands, Limits::default(), imap),
        [
            line("T1 AUTHENTICATE PLAIN"),
            whole("S0 SYNCGET USER {5}\r\nalice"),
            line("GET USER x"),
            refused("S1 SYNCGET: no value"),
        ]
    );
    let replies = b"* OK r \"(\r\n* SASL PLAIN\r\n* MISSING (a)\r\nOK (x\r\n* FATE (x\r\n+ \r\n";
    assert_eq!(
        read_all(Stream::Replies, Limits::default(), replies),
        [
            line("* OK r \"("),
            line("* SASL PLAIN"),
            whole("* MISSING (a)"),
            line("OK (x"),
            line("* FATE (x"),
            line("+ "),
        ]
    );
}

#[test]
fn values_come_in_one_form() {
    for (written, form) in [
        ("x", "x"),
        ("  \t x", "x"),
        ("\"a b\"", "\"a b\""),
        ("\"\\(\\\"\"", "\"\\(\\\"\""),
        ("{3+}\r\na\nb", "{3}\r\na\nb"),
        ("{0}\n", "{0}\r\n"),
        ("()", "()"),
        ("%(\r\n)", "%()"),
        ("( a\r\n\tb  (c)\n)", "(a b (c))"),
        ("(a(b)\"c\"{1}\r\nd%(e f))", "(a (b) \"c\" {1}\r\nd %(e f))"),
        ("(a}[],:/#*%\\b \\Seen)", "(a}[],:/#*%\\b \\Seen)"),
        ("NIL", "NIL"),
    ] {
        let seen = commands(format!("GET USER {written}\r\nNOOP\r\n"));
        assert_eq!(seen, [whole(&format!("GET USER {form}")), line("NOOP")], "{written:?}");
    }
}

#[test]
fn what_breaks_the_grammar_is_refused_and_the_next_command_is_not() {
    for wrong in [
        "GET USER",
        "GET USER ",
        "GET USER x ",
        "GET USER x y",
        "GET USER )",
        "GET USER (a))",
        "GET USER \"a",
        "GET USER %x",
        "GET USER % (a b)",
        "GET USER {x}",
        "GET USER {}",
        "GET USER {-5+}",
        "GET USER {5",
        "GET USER %{p g}",
        "GET USER %{p g x}",
        "GET USER a\x01b",
        "GET USER a\rb",
        "GET USER \0",
        "NO\0OP",
        "FOO {4+}\r\nNOOP",
        "FOO {4+}\r\nNOOP {5}\r\nNO\r\nP",
        "GET USER %x {4+}\r\nNOOP",
        "GET USER %x %{p g 4}\r\nNOOP",
        "APPLY SIEVE %(CONTENT %{p g 7}\r\nNOOP\r\n))",
    ] {
        let seen = commands(format!("{wrong}\r\nNOOP\r\n"));
        assert!(
            matches!(seen.as_slice(), [Seen::Refused(_), Seen::Line(_)]),
            "{wrong:?}: {seen:?}"
        );
    }
}

#[test]
fn files_pass_by_in_pieces() {
    let text =
        format!("APPLY MESSAGE (%{{p {EMPTY} 5}}\r\n)\0\r\n( %{{\"q\" {EMPTY} 0}}\n)\r\nNOOP\n");
    assert_eq!(
        commands(text),
        [
            file("p", 5),
            Seen::Bytes(b")\0\r\n(".to_vec()),
            Seen::FileEnd,
            file("q", 0),
            Seen::FileEnd,
            whole("APPLY MESSAGE (NIL NIL)"),
            line("NOOP"),
        ]
    );
}

#[test]
fn a_message_whose_guid_is_none_is_read_over() {
    let text =
        format!("APPLY MESSAGE (%{{p {EMPTY} 1}}\r\nx %{{p abc 6}}\r\nNOOP\r\n)\r\nNOOP\r\n");
    assert_eq!(
        commands(text),
        [
            file("p", 1),
            Seen::Bytes(b"x".to_vec()),
            Seen::FileEnd,
            refused("APPLY MESSAGE: a file whose GUID is none"),
            line("NOOP"),
        ]
    );
}

#[test]
fn records_come_one_by_one_whatever_surrounds_them() {
    let text = "APPLY MAILBOX %(A {9+}\r\nRECORD (x RECORD (%(UID 1 X (a\r\nb)) %(UID 2)) B 2)\r\n";
    let record = |text: &str| Seen::Record(text.to_owned());
    assert_eq!(
        commands(text),
        [
            Seen::Records("APPLY MAILBOX %(A {9}\r\nRECORD (x RECORD ())".to_owned()),
            record("%(UID 1 X (a b))"),
            record("%(UID 2)"),
            whole("APPLY MAILBOX %(A {9}\r\nRECORD (x RECORD () B 2)"),
        ]
    );
    // A key of another list, a value, or another command's field is none of them.
    for none in [
        "APPLY MAILBOX %(A (%(RECORD (x))))",
        "APPLY MAILBOX %(A RECORD (x) y)",
        "APPLY MAILBOX (RECORD (x))",
        "APPLY MAILBOX %(RECORD x)",
        "APPLY RESERVE %(RECORD (x))",
    ] {
        assert_eq!(commands(format!("{none}\r\n")), [whole(none)]);
    }
}

#[test]
fn what_is_too_large_is_refused_and_the_next_command_is_not() {
    let limits = Limits {
        line_bytes_max: 20,
        string_bytes_max: 10,
        value_bytes_max: 40,
        items_max: 8,
        depth_max: 3,
        file_bytes_max: 6,
    };
    let long = "a".repeat(11);
    for (command, reason) in [
        (format!("NOOP {}", "a".repeat(20)), "bytes of a line of more than 20"),
        (format!("GET USER {long}"), "bytes of a string of more than 10"),
        (format!("GET USER \"{long}\""), "bytes of a string of more than 10"),
        ("GET USER {11+}\r\nNOOP\r\nNOOPx".to_owned(), "bytes of a string of more than 10"),
        (format!("GET USER ({})", " aaaaaaaa".repeat(5)), "bytes of a value of more than 40"),
        ("GET USER (a a a a a a a a)".to_owned(), "items of more than 8"),
        ("GET USER ((((a))\r\n))".to_owned(), "levels of lists of more than 3"),
        (
            format!("APPLY MESSAGE (%{{p {EMPTY} 7}}\r\nNOOP\r\n))"),
            "bytes of a message of more than 6",
        ),
        ("APPLY SIEVE {4294967295+}".to_owned(), "never"),
    ] {
        let text = format!("{command}\r\nNOOP\r\n");
        let seen = read_all(Stream::Commands, limits, text.as_bytes());
        match seen.as_slice() {
            [] => assert_eq!(reason, "never"),
            [Seen::Refused(why), Seen::Line(next)] => {
                assert!(why.ends_with(reason), "{command:?}: {why}");
                assert_eq!(next, "NOOP", "{command:?}");
            }
            other => panic!("{command:?}: {other:?}"),
        }
    }
    // Each record has all of it for itself.
    let text = format!("APPLY MAILBOX %(RECORD ({}))\r\n", "%(A B) ".repeat(50));
    assert_eq!(read_all(Stream::Commands, limits, text.as_bytes()).len(), 52);
}

#[test]
fn what_is_refused_is_not_kept() {
    let mut framer = Framer::new(Stream::Commands, Limits::default());
    read(&mut framer, [&b"APPLY SIEVE %(CONTENT {4294967295+}\r\n"[..]]);
    for _ in 0..64 {
        assert_eq!(framer.next(&mut [b'x'; 1 << 16].as_slice()), Ok(None));
    }
    assert_eq!((framer.scan.value.capacity(), framer.scan.record.capacity()), (0, 0));
}

#[test]
fn a_size_that_nobody_will_reach_is_fatal_for_ever() {
    for size in ["4294967296", "9223372036854775808", "99999999999999999999999"] {
        for text in [
            format!("GET USER {{{size}+}}\r\nNOOP\r\n"),
            format!("APPLY MESSAGE (%{{p {EMPTY} {size}}}\r\nNOOP\r\n"),
            format!("FOO {{{size}+}}\r\nNOOP\r\n"),
            format!("GET USER %x {{{size}}}\r\nNOOP\r\n"),
        ] {
            let mut framer = Framer::new(Stream::Commands, Limits::default());
            let seen = read(&mut framer, [text.as_bytes()]);
            assert_eq!(seen, [Seen::Fatal(Fatal::NumberTooBig)], "{text:?}");
            assert_eq!(framer.next(&mut &b"NOOP\r\n"[..]), Err(Fatal::NumberTooBig));
        }
    }
}

#[test]
fn lists_may_nest_a_million_deep_and_only_be_refused() {
    let text =
        ["GET USER ".into(), "(".repeat(1 << 20), ")".repeat(1 << 20), "\r\nNOOP\r\n".into()];
    let seen = commands(text.concat());
    assert_eq!(seen, [refused("GET USER: levels of lists of more than 16"), line("NOOP")]);
}

#[test]
fn a_peer_that_has_not_logged_in_sends_no_values() {
    let mut framer = Framer::new(Stream::Commands, Limits::default());
    framer.refuse_data(Refuse::All);
    let text = format!("APPLY MESSAGE (%{{p {EMPTY} 6}}\r\nNOOP\r\n)\r\nGET USER %x\r\nNOOP\r\n");
    let seen = read(&mut framer, [text.as_bytes()]);
    let want = [
        refused("APPLY MESSAGE: no values are taken"),
        refused("GET USER: no values are taken"),
        line("NOOP"),
    ];
    assert_eq!(seen, want);
    framer.refuse_data(Refuse::Wrong);
    assert_eq!(read(&mut framer, [&b"GET USER x\r\n"[..]]), [whole("GET USER x")]);
}

#[test]
fn the_end_of_a_stream_is_in_good_order_between_two_commands() {
    let mut framer = Framer::new(Stream::Commands, Limits::default());
    for byte in b"GET USER (x)\r\n" {
        assert!(framer.is_between() == (*byte == b'G'), "before {byte}");
        read(&mut framer, [&[*byte][..]]);
    }
    assert!(framer.is_between());
}

#[test]
fn a_mailbox_of_many_records_takes_the_memory_of_one() {
    let mut framer = Framer::new(Stream::Commands, Limits::default());
    read(&mut framer, [&b"APPLY MAILBOX %(UNIQUEID x RECORD ("[..]]);
    let mut records = 0;
    for uid in 0..100_000 {
        let record = format!("%(UID {uid} FLAGS (\\Seen) ANNOTATIONS (%(VALUE {{2+}}\r\n()))) ");
        records += read(&mut framer, [record.as_bytes()]).len();
    }
    assert_eq!(records, 100_000);
    assert!(framer.scan.value.capacity() + framer.scan.record.capacity() < 1024);
    assert_eq!(
        read(&mut framer, [&b"))\r\n"[..]]),
        [whole("APPLY MAILBOX %(UNIQUEID x RECORD ())")]
    );
}

#[test]
fn every_way_to_cut_the_input_gives_the_same_events() {
    for sample in samples() {
        for stream in [Stream::Commands, Stream::ImapCommands, Stream::Replies] {
            let want = read_all(stream, Limits::default(), &sample);
            let mut framer = Framer::new(stream, Limits::default());
            assert_eq!(read(&mut framer, sample.chunks(1)), want, "{:?}", text(&sample));
            for at in 0..sample.len() {
                let mut framer = Framer::new(stream, Limits::default());
                let (one, two) = sample.split_at(at);
                assert_eq!(read(&mut framer, [one, two]), want, "{:?} at {at}", text(&sample));
            }
        }
    }
}

#[test]
fn an_input_cut_short_gives_what_it_holds_and_no_more() {
    for sample in samples() {
        let want = read_all(Stream::Commands, Limits::default(), &sample);
        for length in 0..sample.len() {
            assert_begins(&want, &read_all(Stream::Commands, Limits::default(), &sample[..length]));
        }
    }
}

/// Whether `have` is the beginning of `want`; its last file may lack bytes.
fn assert_begins(want: &[Seen], have: &[Seen]) {
    assert!(have.len() <= want.len(), "{have:?}");
    for (want, have) in want.iter().zip(have) {
        match (want, have) {
            (Seen::Bytes(want), Seen::Bytes(have)) => assert!(want.starts_with(have)),
            _ => assert_eq!(want, have),
        }
    }
}

proptest! {
    #[test]
    fn any_input_gives_the_same_events_however_it_is_cut(
        words in prop::collection::vec(prop::sample::select(WORDS), 0..40),
        cuts in prop::collection::vec(1_usize..9, 1..20),
        tight in any::<bool>(),
    ) {
        let limits = match tight {
            true => Limits {
                line_bytes_max: 30,
                string_bytes_max: 7,
                value_bytes_max: 24,
                items_max: 6,
                depth_max: 2,
                file_bytes_max: 5,
            },
            false => Limits::default(),
        };
        let input = words.concat().replace("GUID", EMPTY).into_bytes();
        for stream in [Stream::Commands, Stream::Replies] {
            let want = read_all(stream, limits, &input);
            let mut pieces = Vec::new();
            let (mut rest, mut cut) = (input.as_slice(), cuts.iter().cycle());
            while !rest.is_empty() {
                let length = rest.len().min(*cut.next().expect("a cycle"));
                let (piece, behind) = rest.split_at(length);
                pieces.push(piece);
                rest = behind;
            }
            let mut framer = Framer::new(stream, limits);
            prop_assert_eq!(read(&mut framer, pieces), want);
        }
    }
}

const WORDS: &[&str] = &[
    "GET USER ",
    "APPLY MAILBOX %(",
    "APPLY MESSAGE (",
    "* MAILBOX %(",
    "RECORD (",
    "RECORD",
    "%(",
    "(",
    ")",
    ")",
    " ",
    " ",
    "\r\n",
    "\n",
    "\r",
    "\"",
    "\\",
    "{3+}\r\n",
    "{0}\n",
    "{12}\r\n",
    "{x}",
    "%{p GUID 4}\r\n",
    "%{p GUID 0}\n",
    "%{p x 3}\r\n",
    "%",
    "abc",
    "abcdefgh",
    "NIL",
    "\0",
    "\u{e9}",
    "NOOP\r\n",
    "x {2+}\r\n",
];
