use super::*;
use crate::command::Get;
use crate::reply::No;

fn ok(text: &str) -> Reply {
    Reply::Ok(text.to_owned())
}

/// A client that may send.
fn client() -> Client {
    let mut client = Client::default();
    assert_eq!(client.next(&mut &b"* SASL PLAIN\r\n* OK r\r\n"[..]), Ok(Some(Event::Banner)));
    client
}

fn hear<'i>(client: &mut Client, text: &'i [u8]) -> Result<Vec<Event<'i>>, ClientError> {
    let (mut input, mut events) = (text, Vec::new());
    while let Some(event) = client.next(&mut input)? {
        events.push(event);
    }
    Ok(events)
}

fn get() -> Command {
    Command::Get(Get::User("a".into()))
}

fn login() -> Command {
    Command::Authenticate { mechanism: "LOGIN".to_owned(), initial: None }
}

#[test]
fn a_command_waits_for_the_banner_and_for_the_one_before() {
    let mut client = Client::default();
    let mut out = Vec::new();
    assert_eq!(client.send(&get(), &mut out), Err(ClientError::Busy));
    assert_eq!(hear(&mut client, b"* OK"), Ok(vec![]));
    assert_eq!(hear(&mut client, b" r\r\n"), Ok(vec![Event::Banner]));
    assert_eq!(client.send(&get(), &mut out), Ok(()));
    assert_eq!(client.send(&get(), &mut out), Err(ClientError::Busy));
    assert!(client.send_files(&mut out).is_err());
    assert_eq!(out, b"GET USER a\r\n");
    assert_eq!(hear(&mut client, b"OK success\r\n"), Ok(vec![Event::Done(ok("success"))]));
    assert!(client.is_idle());
}

#[test]
fn logging_in_takes_as_many_turns_as_it_needs() {
    let mut client = client();
    let mut out = Vec::new();
    client.send(&login(), &mut out).expect("nothing is under way");
    let data = |text: &str| SaslData::new(text);
    assert_eq!(hear(&mut client, b"+ dQ==\r\n"), Ok(vec![Event::Challenge(data("u"))]));
    client.respond(&data("me"), &mut out).expect("it was asked for");
    assert_eq!(client.respond(&data("me"), &mut out), Err(ClientError::Busy));
    assert_eq!(hear(&mut client, b"+ \r\n"), Ok(vec![Event::Challenge(data(""))]));
    client.cancel(&mut out).expect("it was asked for");
    assert_eq!(out, b"AUTHENTICATE LOGIN\r\nbWU=\r\n*\r\n");
    let refused = Reply::Bad("Client canceled authentication".to_owned());
    let said = b"BAD Client canceled authentication\r\n";
    assert_eq!(hear(&mut client, said), Ok(vec![Event::Done(refused)]));
    assert!(!client.is_logged_in());

    client.send(&login(), &mut out).expect("nothing is under way");
    hear(&mut client, b"OK Success (no protection)\r\n").expect("a reply");
    assert!(client.is_logged_in());
}

#[test]
fn nothing_is_read_until_what_has_to_begin_has_begun() {
    let mut client = client();
    client.send(&Command::StartTls, &mut Vec::new()).expect("nothing is under way");
    let mut input = &b"OK Begin\r\n* OK plain\r\n"[..];
    let done = Ok(Some(Event::Done(ok("Begin"))));
    assert_eq!(client.next(&mut input), done);
    assert_eq!(client.next(&mut input), Ok(None));
    assert_eq!(input, b"* OK plain\r\n", "what came in the clear is left to the caller");
    client.tls_started();
    assert_eq!(hear(&mut client, b"* SASL LOGIN\r\n* OK tls\r\n"), Ok(vec![Event::Banner]));
    assert_eq!((client.banner().greeting.as_str(), client.banner().starttls), ("tls", false));

    let deflate = Command::Compress { algorithm: "DEFLATE".to_owned() };
    client.send(&deflate, &mut Vec::new()).expect("nothing is under way");
    hear(&mut client, b"NO Permission denied\r\n").expect("a reply");
    assert!(client.is_idle(), "what was refused does not begin");
    client.send(&deflate, &mut Vec::new()).expect("nothing is under way");
    hear(&mut client, b"OK DEFLATE active\r\n").expect("a reply");
    assert!(!client.is_idle());
    client.deflate_started();
    assert!(client.is_idle());
}

#[test]
fn a_message_comes_in_pieces_and_may_not_be_there() {
    let mut client = client();
    client.send(&get(), &mut Vec::new()).expect("nothing is under way");
    let text =
        b"* MESSAGE %{p da39a3ee5e6b4b0d3255bfef95601890afd80709 4}\r\n\r\nOK\r\nOK success\r\n";
    let events = hear(&mut client, text).expect("a good answer");
    assert!(matches!(&events[0], Event::File(head) if head.size == 4));
    assert_eq!(
        events[1..],
        [
            Event::FileBytes(b"\r\nOK"),
            Event::FileEnd,
            Event::Untagged(Untagged::Message),
            Event::Done(ok("success")),
        ]
    );
    client.send(&get(), &mut Vec::new()).expect("nothing is under way");
    let events = hear(&mut client, b"* MESSAGE NIL\r\nNO IMAP_SYNC_CHANGED x\r\n");
    let done = Event::Done(Reply::No(No::SyncChanged));
    assert_eq!(events, Ok(vec![Event::Untagged(Untagged::Message), done]));
}

#[test]
fn the_replica_may_leave_at_any_time() {
    for busy in [false, true] {
        let mut client = client();
        if busy {
            client.send(&get(), &mut Vec::new()).expect("nothing is under way");
        }
        let bye = Event::Bye("shutting down".to_owned());
        assert_eq!(hear(&mut client, b"BYE shutting down\r\nOK x\r\n"), Ok(vec![bye]));
        assert_eq!(client.send(&get(), &mut Vec::new()), Err(ClientError::Busy));
    }
}

#[test]
fn what_nobody_asked_for_ends_the_session() {
    for (asked, text) in [
        (false, "OK success\r\n"),
        (false, "+ \r\n"),
        (false, "* LSUB (a)\r\n"),
        (true, "+ \r\n"),
        (true, "* FATE (a)\r\n"),
        (true, "* LSUB a\r\n"),
        (true, "* LSUB (a\r\n)x\r\n"),
        (true, "* MAILBOX %(RECORD (%(UID 1)))\r\n"),
        (true, "* Fatal error: num too big\r\n"),
        (true, "* LSUB ({4294967296}\r\n"),
        (true, "S0 OK success\r\n"),
        (true, "OK\r\n"),
    ] {
        let mut client = client();
        if asked {
            client.send(&get(), &mut Vec::new()).expect("nothing is under way");
        }
        assert!(hear(&mut client, text.as_bytes()).is_err(), "{text:?}");
        assert_eq!(hear(&mut client, b"OK success\r\n"), Ok(vec![]), "{text:?}");
    }
}
