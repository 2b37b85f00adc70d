//! Sessions of a real master with a real replica, with ours in its place.

use std::sync::Arc;

use csync::banner::Banner;
use csync::framer::{Event, Framer, Limits, Stream};
use spool::replica::Replica;

use crate::driver::answers;
use crate::recording::{Connection, recordings};

/// Each answer of a replica, as text.
fn split(replica: &[u8]) -> Vec<String> {
    let mut framer = Framer::new(Stream::Replies, Limits::default());
    let (mut input, mut begin, mut split) = (replica, 0, Vec::new());
    while let Some(event) = framer.next(&mut input).expect("a good stream") {
        if let Event::Line(line) = event
            && !line.starts_with(b"* ")
        {
            let end = replica.len() - input.len();
            split.push(String::from_utf8_lossy(&replica[begin..end]).into_owned());
            begin = end;
        }
    }
    split
}

fn connection(name: &str) -> Connection {
    let mut recordings = recordings(name);
    recordings.remove(0).1.remove(0)
}

fn replica() -> (tempfile::TempDir, Arc<Replica>) {
    let top = tempfile::tempdir().expect("a temporary directory");
    let replica = Replica::open(&top.path().join("replica")).expect("a new replica");
    (top, Arc::new(replica))
}

fn banner() -> Banner {
    Banner { deflate: true, ..Banner::new("r.example.com", "3.6.1-Debian-3.6.1-4+deb12u5") }
}

#[test]
fn a_first_synchronisation_is_taken_and_told_back() {
    let recorded = connection("real-initial-user");
    let (top, replica) = replica();
    let ours = answers(&replica, banner(), &recorded.master);
    assert_eq!(split(&ours), split(&recorded.replica));

    let ask = b"AUTHENTICATE PLAIN AA==\r\nAPPLY CAPABILITIES (SIEVE-MAILBOX)\r\n\
                GET USER alice\r\nGET FULLMAILBOX user.alice\r\nEXIT\r\n";
    let told = split(&answers(&replica, banner(), ask));
    drop(replica);
    let again = Arc::new(Replica::open(&top.path().join("replica")).expect("opened anew"));
    assert!(again.lock().damaged().is_empty());
    assert_eq!(split(&answers(&again, banner(), ask)), told, "it is the same after it was opened");
    // What the master said of a mailbox is what it is told.
    let said = String::from_utf8_lossy(&recorded.master).into_owned();
    let apply = said.split("APPLY MAILBOX ").nth(1).expect("the first mailbox");
    let apply = apply.split("\r\nAPPLY").next().expect("its end").replace("{12+}", "{12}");
    assert!(told[3].contains(&apply), "{apply}\n{}", told[3]);
}
