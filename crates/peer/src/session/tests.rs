use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use csync::command::{Command, Get};
use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;

use super::*;

/// How long anything may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// Nobody compresses what stays on this machine, so that no other test here does.
#[test]
fn a_session_goes_on_compressed() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let replica = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a master");
        stream.write_all(b"* COMPRESS DEFLATE\r\n* OK r\r\n").expect("it listens");
        let mut line = String::new();
        let mut plain = BufReader::new(stream.try_clone().expect("another descriptor"));
        plain.read_line(&mut line).expect("a line");
        assert_eq!(line, "COMPRESS DEFLATE\r\n");
        stream.write_all(b"OK DEFLATE active\r\n").expect("it listens");
        let mut inflated = BufReader::new(DeflateDecoder::new(plain));
        let mut deflated = DeflateEncoder::new(stream, Compression::fast());
        for _ in 0..2 {
            line.clear();
            inflated.read_line(&mut line).expect("a line");
            assert_eq!(line, "GET USER glad\r\n");
            deflated.write_all(b"* LSUB (a b)\r\nOK success\r\n").expect("it can be deflated");
            deflated.flush().expect("it listens");
        }
    });
    let deadline = Instant::now() + LIMIT;
    let link = Link::connect(&[address], LIMIT, deadline).expect("it listens");
    let mut session = Session::new(link, deadline);
    session.await_banner().expect("a banner");
    session.start_deflate().expect("it agrees");
    for _ in 0..2 {
        let mut told = 0;
        let get = Command::Get(Get::User("glad".into()));
        session.command(&get, &mut |_| told += 1).expect("an answer");
        assert_eq!(told, 1);
    }
    replica.join().expect("it did not panic");
}

/// A mailbox has as many records as it has numbers given out, and a replica that goes on and on fills no
/// memory.
#[test]
fn records_without_end_are_not_taken() {
    const RECORD: &str = "%(UID 1 MODSEQ 1 LAST_UPDATED 1 FLAGS () INTERNALDATE 1 SIZE 1 \
        GUID 0123456789012345678901234567890123456789)";
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let replica = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a master");
        stream.write_all(b"* OK r\r\n").expect("it listens");
        let mut lines = BufReader::new(stream.try_clone().expect("another descriptor"));
        lines.read_line(&mut String::new()).expect("a line");
        stream.write_all(b"* MAILBOX %(RECORD (").expect("it listens");
        let records = format!("{RECORD} ").repeat(1000);
        // Until nobody listens any more.
        while stream.write_all(records.as_bytes()).is_ok() {}
    });
    let deadline = Instant::now() + LIMIT;
    let link = Link::connect(&[address], LIMIT, deadline).expect("it listens");
    let mut session = Session::new(link, deadline);
    session.await_banner().expect("a banner");
    let mut taken = 0_usize;
    let mut count = |event: Event<'_>| taken += usize::from(matches!(event, Event::Record(_)));
    let told = session.full_mailbox(&"user.glad".into(), 100_000, &mut count);
    assert!(matches!(told, Err(SessionError::Endless)), "{told:?}");
    let weight = TOLD_MAX + 100_000 * RECORD_BYTES;
    let most = weight / (RECORD.len() + PART_BYTES);
    assert!((100_000..=most).contains(&taken), "{taken} records were taken");
    drop(session);
    replica.join().expect("it did not panic");
}
