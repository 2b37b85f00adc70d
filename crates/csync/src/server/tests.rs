use super::*;
use crate::mailbox::Mailbox;

const GREETING: &str = "* OK r Cyrus sync server 1\r\n";

fn banner() -> Banner {
    Banner { starttls: true, deflate: true, ..Banner::new("r", "1") }
}

/// A server that nobody has logged in to, and what it says from now on.
fn stranger() -> (Server, Vec<u8>) {
    (Server::start(banner(), Limits::default(), &mut Vec::new()), Vec::new())
}

/// One that an administrator uses.
fn admin() -> (Server, Vec<u8>) {
    (Server::start_trusted(banner(), Limits::default(), &mut Vec::new()), Vec::new())
}

/// All actions until something has to be done, and what is said.
fn feed<'i>(server: &mut Server, mut input: &'i [u8]) -> (Vec<Action<'i>>, String) {
    let (mut actions, mut out) = (Vec::new(), Vec::new());
    while let Some(action) = server.next(&mut input, &mut out).expect("a good stream") {
        actions.push(action);
    }
    (actions, String::from_utf8(out).expect("text"))
}

fn said(server: &mut Server, input: &str) -> String {
    let (actions, said) = feed(server, input.as_bytes());
    assert_eq!(actions, [], "{input:?}");
    said
}

#[test]
fn who_is_trusted_gets_only_the_greeting() {
    let mut out = Vec::new();
    Server::start_trusted(banner(), Limits::default(), &mut out);
    assert_eq!(out, GREETING.as_bytes());
    Server::start(banner(), Limits::default(), &mut out);
    let full = format!(
        "{GREETING}* SASL PLAIN\r\n* STARTTLS\r\n* COMPRESS DEFLATE\r\n* SIEVE-MAILBOX\r\n{GREETING}"
    );
    assert_eq!(out, full.as_bytes());
}

#[test]
fn nobody_gets_anything_done_before_he_has_logged_in() {
    let (mut server, _) = stranger();
    let text = "APPLY MAILBOX %(RECORD (%(UID 1)))\r\nGET USER x\r\nRESTORE MAILBOX %()\r\n";
    assert_eq!(said(&mut server, text), "NO Please authenticate first\r\n".repeat(3));
    let file =
        "APPLY MESSAGE (%{p da39a3ee5e6b4b0d3255bfef95601890afd80709 6}\r\nNOOP\r\n)\r\nNOOP\r\n";
    let want = "NO Please authenticate first\r\nOK Noop completed\r\n";
    assert_eq!(said(&mut server, file), want);
}

#[test]
fn logging_in_takes_as_many_turns_as_it_needs() {
    let (mut server, mut out) = stranger();
    let (actions, _) = feed(&mut server, b"AUTHENTICATE scram-sha-1 =\r\n");
    let initial = Some(SaslData::default());
    assert_eq!(actions, [Action::Authenticate { mechanism: "SCRAM-SHA-1".into(), initial }]);
    server.challenge(SaslData::new(b"c".as_slice()), &mut out);
    let mut input = &b"YWI=\r\n\r\nGET USER x\r\n"[..];
    for response in [b"ab".as_slice(), b""] {
        let action = server.next(&mut input, &mut out).expect("a good stream");
        assert_eq!(action, Some(Action::Response(SaslData::new(response))));
        assert_eq!(server.next(&mut input, &mut out), Ok(None), "the caller has to judge it");
        if response == b"ab" {
            server.challenge(SaslData::default(), &mut out);
        }
    }
    server.logged_in(Rights::Admin, "tls protection", &mut out);
    assert_eq!(out, b"+ Yw==\r\n+ \r\nOK Success (tls protection)\r\n");
    let action = server.next(&mut input, &mut out);
    assert_eq!(action, Ok(Some(Action::Get(Get::User("x".into())))));
}

#[test]
fn a_login_that_is_broken_off_can_be_tried_again() {
    for (response, answer) in [
        ("*", "BAD Client canceled authentication\r\n"),
        ("!", "NO bad protocol / cancel\r\n"),
        ("GET USER x", "NO bad protocol / cancel\r\n"),
    ] {
        let (mut server, mut out) = stranger();
        feed(&mut server, b"AUTHENTICATE PLAIN\r\n");
        server.challenge(SaslData::default(), &mut out);
        let text = format!("{response}\r\nAUTHENTICATE PLAIN\r\n");
        let (actions, said) = feed(&mut server, text.as_bytes());
        assert!(matches!(actions[..], [Action::Cancelled, Action::Authenticate { .. }]));
        assert_eq!(said, answer);
        out.clear();
        server.login_failed("authentication failure", &mut out);
        assert_eq!(out, b"NO authentication failure\r\n");
    }
}

#[test]
fn who_is_no_administrator_may_not_even_leave() {
    let (mut server, mut out) = stranger();
    feed(&mut server, b"AUTHENTICATE PLAIN AA==\r\n");
    server.logged_in(Rights::Nobody, "no protection", &mut out);
    let text = "NOOP\r\nEXIT\r\nGET USER x\r\nCOMPRESS DEFLATE\r\nfoo\r\nAPPLY MESSAGE (x)\r\n";
    assert_eq!(said(&mut server, text), "NO Permission denied\r\n".repeat(6));
}

#[test]
fn tls_begins_once_and_before_the_login() {
    let (mut server, mut out) = stranger();
    let (actions, answer) = feed(&mut server, b"STARTTLS\r\nNOOP\r\n");
    assert_eq!(
        (actions, answer.as_str()),
        (vec![Action::StartTls], "OK Begin TLS negotiation now\r\n")
    );
    server.tls_started(vec!["PLAIN".to_owned()], &mut out);
    assert_eq!(out, format!("* SASL PLAIN\r\n* SIEVE-MAILBOX\r\n{GREETING}").as_bytes());
    let again = said(&mut server, "STARTTLS\r\nCOMPRESS DEFLATE\r\n");
    let want =
        "BAD Already did a successful Starttls\r\nNO Unknown compression algorithm: DEFLATE\r\n";
    assert_eq!(again, want);

    let (mut server, _) = admin();
    let late = said(&mut server, "STARTTLS\r\nAUTHENTICATE PLAIN\r\n");
    let want = "BAD Can't Starttls after authentication\r\nBAD Already authenticated\r\n";
    assert_eq!(late, want);
    let plain = Banner { starttls: false, ..banner() };
    let mut server = Server::start(plain, Limits::default(), &mut Vec::new());
    let answer = said(&mut server, "STARTTLS\r\n");
    assert_eq!(answer, "BAD IMAP_PROTOCOL_ERROR Unrecognized command\r\n");
}

#[test]
fn nothing_is_read_until_what_has_to_begin_has_begun() {
    let begun = [("STARTTLS\r\n", stranger()), ("COMPRESS deflate\r\n", admin())];
    for (command, (mut server, mut out)) in begun {
        let text = format!("{command}EXIT\r\n");
        let mut input = text.as_bytes();
        assert!(matches!(server.next(&mut input, &mut out), Ok(Some(_))));
        assert_eq!(server.next(&mut input, &mut out), Ok(None));
        assert_eq!(input, b"EXIT\r\n");
    }
    let (mut server, _) = stranger();
    assert_eq!(said(&mut server, "COMPRESS DEFLATE\r\n"), "NO Please authenticate first\r\n");
    let (mut server, _) = admin();
    feed(&mut server, b"COMPRESS DEFLATE\r\n");
    server.deflate_started();
    let again = said(&mut server, "COMPRESS DEFLATE\r\nCOMPRESS\r\nCOMPRESS A B\r\n");
    let want = "NO Compression already active: DEFLATE\r\n\
                BAD Missing required argument to Compress\r\n\
                BAD Unexpected extra arguments to Compress\r\n";
    assert_eq!(again, want);
}

#[test]
fn one_command_is_done_before_the_next_is_read() {
    let (mut server, mut out) = admin();
    let mut input = &b"GET USER a\r\nAPPLY UNUSER b\r\nRESTART\r\nEXIT\r\nNOOP\r\n"[..];
    let mut next = |server: &mut Server, out: &mut Vec<u8>| {
        let action = server.next(&mut input, out).expect("a good stream");
        assert_eq!(server.next(&mut input, out), Ok(None));
        action.expect("something to do")
    };
    assert_eq!(next(&mut server, &mut out), Action::Get(Get::User("a".into())));
    server.done(&mut out);
    server.done(&mut out);
    assert_eq!(next(&mut server, &mut out), Action::Apply(Apply::UnUser("b".into())));
    server.refuse(&No::MailboxLocked, &mut out);
    assert_eq!(next(&mut server, &mut out), Action::Restart);
    assert!(!server.is_idle());
    server.done(&mut out);
    assert_eq!(next(&mut server, &mut out), Action::Close);
    let want: &[u8] = b"OK success\r\nNO IMAP_MAILBOX_LOCKED Mailbox locked\r\n\
                        OK Restarting\r\nOK Finished\r\n";
    assert_eq!(out, want);
    assert!(server.is_idle());
}

#[test]
fn pieces_of_a_command_that_is_refused_are_given_up() {
    let guid = "da39a3ee5e6b4b0d3255bfef95601890afd80709";
    for (text, reply) in [
        (
            format!("APPLY MESSAGE (%{{p {guid} 1}}\r\nx %x)\r\n"),
            "BAD IMAP_PROTOCOL_ERROR Failed to parse APPLY line\r\n",
        ),
        (
            "APPLY MAILBOX %(UNIQUEID x RECORD (%(UID 1) %(UID 2)))\r\n".to_owned(),
            "NO IMAP_PROTOCOL_BAD_PARAMETERS\r\n",
        ),
        (
            format!("APPLY MAILBOX {}\r\n", mailbox("", "(%(UID 1) %(UID 2))")),
            "NO IMAP_PROTOCOL_ERROR Protocol error\r\n",
        ),
        (
            format!("APPLY MAILBOX {}\r\n", mailbox("MBOXTYPE f ", "()")),
            "NO IMAP_PROTOCOL_BAD_PARAMETERS\r\n",
        ),
        ("RESTORE MAILBOX %(RECORD (x))\r\n".to_owned(), "NO IMAP_PROTOCOL_BAD_PARAMETERS\r\n"),
    ] {
        let (mut server, _) = admin();
        let (actions, answer) = feed(&mut server, text.as_bytes());
        assert_eq!(actions.last(), Some(&Action::Abandon), "{text}");
        assert!(!actions.iter().any(|action| matches!(action, Action::Apply(_))));
        assert_eq!(answer, reply, "{text}");
        assert!(server.is_idle());
        let (actions, _) = feed(&mut server, b"APPLY MAILBOX %(UNIQUEID x)\r\nRESTART\r\n");
        assert_eq!(actions, [Action::Restart], "nothing is left over of {text}");
    }
}

fn mailbox(mboxtype: &str, records: &str) -> String {
    format!(
        "%(UNIQUEID x MBOXNAME user.a {mboxtype}LAST_UID 0 HIGHESTMODSEQ 1 RECENTUID 0 RECENTTIME 0 \
         LAST_APPENDDATE 0 POP3_LAST_LOGIN 0 UIDVALIDITY 5 PARTITION default ACL \"\" OPTIONS \"\" \
         RECORD {records})"
    )
}

#[test]
fn a_mailbox_is_known_before_its_records_if_they_come_last() {
    let (mut server, _) = admin();
    let text = format!("APPLY MAILBOX {}\r\n", mailbox("", "()"));
    let (actions, _) = feed(&mut server, text.as_bytes());
    let [Action::Records(Some(head)), Action::Apply(Apply::Mailbox(whole))] = &actions[..] else {
        panic!("{actions:?}");
    };
    assert_eq!(**head, Command::Apply(Apply::Mailbox(whole.clone())));

    let (mut server, _) = admin();
    let first = text.replace("%(UNIQUEID x ", "%(").replace("RECORD ()", "RECORD () UNIQUEID x");
    let (actions, _) = feed(&mut server, first.as_bytes());
    assert_eq!(actions, [Action::Records(None), Action::Apply(Apply::Mailbox(whole.clone()))]);
}

#[test]
fn a_tombstone_needs_little() {
    let (mut server, _) = admin();
    let text = b"APPLY MAILBOX %(UNIQUEID u MBOXNAME m MBOXTYPE d HIGHESTMODSEQ 7)\r\n";
    let mailbox = Mailbox {
        uniqueid: "u".into(),
        mboxname: "m".into(),
        mboxtype: b"d".to_vec(),
        highestmodseq: model::Modseq(7),
        ..Mailbox::default()
    };
    assert_eq!(feed(&mut server, text).0, [Action::Apply(Apply::Mailbox(Box::new(mailbox)))]);
}

#[test]
fn force_and_capabilities_are_the_session_s_own_business() {
    let (mut server, _) = admin();
    assert!(!server.is_forced() && !server.has_sieve_mailbox());
    let answer = said(&mut server, "APPLY CAPABILITIES (NOSUCH replication-archive)\r\n");
    assert_eq!(answer, "* ENABLED ()\r\nOK success\r\n");
    let answer = said(&mut server, "APPLY CAPABILITIES (x SIEVE-MAILBOX)\r\nAPPLY FORCE %()\r\n");
    assert_eq!(answer, "* ENABLED (SIEVE-MAILBOX)\r\nOK success\r\nOK success\r\n");
    assert!(server.is_forced() && server.has_sieve_mailbox());
    let text = format!("APPLY MAILBOX {}\r\n", mailbox("MBOXTYPE f ", "()"));
    assert!(matches!(feed(&mut server, text.as_bytes()).0[..], [_, Action::Apply(_)]));
}

#[test]
fn a_stream_that_cannot_be_followed_ends_with_a_reason() {
    let (mut server, mut out) = stranger();
    let mut input = &b"GET USER {4294967296+}\r\nNOOP\r\n"[..];
    assert_eq!(server.next(&mut input, &mut out), Err(Fatal::NumberTooBig));
    assert_eq!(out, b"* Fatal error: num too big\r\n");
    assert_eq!(server.next(&mut input, &mut out), Ok(None));
}

#[test]
fn an_operator_may_end_the_session() {
    let (mut server, mut out) = admin();
    server.shut_down(&mut out);
    assert_eq!(out, b"BYE shutting down\r\n");
    assert_eq!(server.next(&mut &b"NOOP\r\n"[..], &mut out), Ok(None));
}

#[test]
fn what_is_too_large_is_said_to_be() {
    let limits = Limits { string_bytes_max: 4, ..Limits::default() };
    let mut server = Server::start_trusted(banner(), limits, &mut Vec::new());
    let answer = said(&mut server, "GET USER {5+}\r\nalice\r\n");
    let want =
        "BAD IMAP_PROTOCOL_ERROR Failed to parse GET line: bytes of a string of more than 4\r\n";
    assert_eq!(answer, want);
}
