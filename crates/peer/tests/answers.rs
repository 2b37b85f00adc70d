//! What a replica can answer, and what a session makes of it.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use csync::client::ClientError;
use csync::command::{Command, Get};
use csync::reply::No;
use peer::{Account, Address, Limits, LinkError, Secrecy, Session, SessionError};

/// How long anything may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

const BANNER: &str = "* SASL PLAIN\r\n* OK r.example.com Cyrus sync server 3.6.1\r\n";
const WELCOME: &str = "OK Success (no protection)\r\n";

/// What the replica does with the next line.
#[derive(Clone, Copy, Debug)]
enum Then {
    Say(&'static str),
    /// Says that, and hangs up.
    Leave(&'static str),
    /// Says nothing, until the master hangs up.
    Wait,
}

/// A replica that says what it is told to, to one master. Gives what it was told itself.
fn replica(banner: &'static str, script: Vec<Then>) -> (SocketAddr, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let thread = thread::spawn(move || {
        let (mut socket, _) = listener.accept().expect("a master");
        socket.write_all(banner.as_bytes()).expect("it listens");
        let mut lines = BufReader::new(socket.try_clone().expect("another descriptor"));
        let mut heard = Vec::new();
        for then in script {
            let mut line = String::new();
            if lines.read_line(&mut line).expect("it can be read") == 0 {
                break;
            }
            heard.push(line.trim_end().to_owned());
            match then {
                Then::Say(text) => socket.write_all(text.as_bytes()).expect("it listens"),
                Then::Leave(text) => {
                    // Who has heard enough need not listen.
                    let _ = socket.write_all(text.as_bytes());
                    return heard;
                }
                Then::Wait => while lines.read_line(&mut line).is_ok_and(|read| read > 0) {},
            }
        }
        heard
    });
    (address, thread)
}

fn open(address: SocketAddr, silence: Duration) -> Result<Session, SessionError> {
    let secrecy = Secrecy::Required;
    let address = Address { host: address.ip().to_string(), port: address.port(), secrecy };
    let account = Account { name: "repl".to_owned(), password: b"secret".to_vec() };
    Session::open(&address, &account, None, Limits { login: LIMIT, silence }, true)
}

/// What comes of GET USER, and of another one.
fn ask(answers: &[Then]) -> [Result<(), SessionError>; 2] {
    let script = [&[Then::Say(WELCOME)], answers].concat();
    let (address, thread) = replica(BANNER, script);
    let mut session = open(address, LIMIT).expect("it lets us in");
    let get = Command::Get(Get::User("glad".into()));
    let results = [(); 2].map(|()| session.command(&get, &mut |_| {}));
    drop(session);
    let heard = thread.join().expect("it did not panic");
    assert_eq!(heard[0], "AUTHENTICATE PLAIN AHJlcGwAc2VjcmV0");
    results
}

#[test]
fn every_refusal_is_understood_and_the_session_goes_on() {
    for (text, expected) in [
        ("NO IMAP_INVALID_USER No Such User\r\n", No::InvalidUser),
        ("NO IMAP_MAILBOX_NONEXISTENT No Such Mailbox\r\n", No::MailboxNonexistent),
        ("NO IMAP_MAILBOX_LOCKED Mailbox locked\r\n", No::MailboxLocked),
        ("NO IMAP_MAILBOX_MOVED Mailbox exists\r\n", No::MailboxMoved),
        ("NO IMAP_MAILBOX_NOTSUPPORTED Operation\r\n", No::MailboxNotSupported),
        ("NO IMAP_SYNC_CHECKSUM Checksum Failure\r\n", No::SyncChecksum),
        ("NO IMAP_SYNC_CHANGED Changed since last sync\r\n", No::SyncChanged),
        ("NO IMAP_SYNC_BADSIEVE Sieve\r\n", No::SyncBadSieve),
        ("NO IMAP_PROTOCOL_ERROR Protocol error\r\n", No::ProtocolError),
        ("NO IMAP_PROTOCOL_BAD_PARAMETERS\r\n", No::BadParameters),
        ("NO Permission denied\r\n", No::PermissionDenied),
        ("NO Unknown error\r\n", No::Unknown),
        ("NO IMAP_AGAIN Try again\r\n", No::Other("IMAP_AGAIN Try again".to_owned())),
    ] {
        let [first, second] = ask(&[Then::Say(text), Then::Say("OK success\r\n")]);
        let error = first.expect_err("it was refused");
        assert!(error.session_goes_on());
        assert!(error.to_string().starts_with("GET USER is refused: "), "{error}");
        assert!(matches!(error, SessionError::Refused { no, .. } if no == expected), "{text}");
        second.expect("the session goes on");
    }
    let [first, second] = ask(&[Then::Say("BAD what?\r\n"), Then::Say("OK success\r\n")]);
    assert!(matches!(first, Err(SessionError::Bad { text, .. }) if text == "what?"));
    second.expect("the session goes on");
}

#[test]
fn what_ends_a_session_is_told_once_and_nothing_is_said_after_it() {
    let name = |error: &SessionError| match error {
        SessionError::Bye(text) => format!("bye {text}"),
        SessionError::Ended(command) => format!("ended {command}"),
        SessionError::Protocol(ClientError::PeerFailed(text)) => format!("failed {text}"),
        SessionError::Protocol(_) => "protocol".to_owned(),
        other => format!("{other:?}"),
    };
    for (then, expected) in [
        (Then::Leave("BYE shutting down\r\n"), "bye shutting down"),
        (Then::Leave(""), "ended GET USER"),
        (Then::Leave("* MAILBOX %(UNIQUEID x MBOX"), "ended GET USER"),
        (Then::Leave("* LSUB (a b)\r\n"), "ended GET USER"),
        (Then::Leave("* Fatal error: word too long\r\n"), "failed word too long"),
        (Then::Say("* FATE (a)\r\n"), "protocol"),
        (Then::Say("S0 OK success\r\n"), "protocol"),
        (Then::Say("+ \r\n"), "protocol"),
    ] {
        let [first, second] = ask(&[then]);
        assert_eq!(name(&first.expect_err("it ended")), expected, "{then:?}");
        assert!(matches!(second, Err(SessionError::Broken)), "{then:?}: {second:?}");
    }
}

#[test]
fn a_replica_that_does_not_let_us_in_says_why() {
    for (banner, script, expected) in [
        ("* SASL CRAM-MD5 SCRAM-SHA-1\r\n* OK r\r\n", vec![], "CRAM-MD5 SCRAM-SHA-1"),
        ("* OK r\r\n", vec![], "no login with PLAIN"),
        ("* STARTTLS\r\n* OK r\r\n", vec![], "no certificate authority"),
        (BANNER, vec![Then::Say("NO authentication failure\r\n")], "log in as repl"),
        (BANNER, vec![Then::Leave("")], "instead of answering AUTHENTICATE PLAIN"),
        ("BYE too many\r\n", vec![], "the replica leaves: too many"),
        ("HTTP/1.1 400 Bad Request\r\n\r\n", vec![], "follow the replica's answer"),
    ] {
        let (address, thread) = replica(banner, script);
        let error = open(address, LIMIT).map(drop).expect_err("it cannot be used");
        assert!(error.to_string().contains(expected), "{error}");
        thread.join().expect("it did not panic");
    }
}

#[test]
fn an_answer_has_an_end_and_what_stays_here_is_not_compressed() {
    const COMPRESSING: &str = "* SASL PLAIN\r\n* COMPRESS DEFLATE\r\n* OK r.example.com\r\n";
    let names = format!("* LSUB ({})\r\n", "a ".repeat(60_000)).repeat(100);
    let names: &'static str = names.leak();
    let (address, thread) = replica(COMPRESSING, vec![Then::Say(WELCOME), Then::Leave(names)]);
    let mut session = open(address, LIMIT).expect("it lets us in");
    let get = Command::Get(Get::User("glad".into()));
    let endless = session.command(&get, &mut |_| {});
    assert!(matches!(endless, Err(SessionError::Endless)), "{endless:?}");
    drop(session);
    assert_eq!(thread.join().expect("it did not panic")[1], "GET USER glad");
}

#[test]
fn nobody_waits_for_ever() {
    let (address, thread) = replica(BANNER, vec![Then::Say(WELCOME), Then::Wait]);
    let mut session = open(address, Duration::from_millis(10)).expect("it lets us in");
    let get = Command::Get(Get::User("glad".into()));
    let silent = session.command(&get, &mut |_| {});
    assert!(matches!(silent, Err(SessionError::Link(LinkError::Silent))), "{silent:?}");
    drop(session);
    thread.join().expect("it did not panic");
}
