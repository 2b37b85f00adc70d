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
