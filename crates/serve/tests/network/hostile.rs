//! Peers that mean harm, or are broken.

use std::time::{Duration, Instant};

use serve::Limits;
use testkit::process::wait_until;

use crate::client::Client;
use crate::site::{LIMIT, Site, limits};

const GUID: &str = "0000000000000000000000000000000000000000";

/// The server is as good as ever to somebody else.
fn is_well(site: &Site) {
    let mut master = site.master();
    assert_eq!(master.ask("GET USER alice"), "OK success");
    assert_eq!(master.ask("EXIT"), "OK Finished");
}

#[test]
fn a_message_that_is_cut_off_is_not_kept() {
    let site = Site::start();
    let mut master = site.master();
    master.send(format!("APPLY MESSAGE (%{{default {GUID} 1000000}}\r\n").as_bytes());
    master.send(&[b'x'; 70_000]);
    drop(master);
    site.logged("repl: the peer closed the connection in the middle of a command; commands: 0");
    site.await_over(1);
    assert!(site.memory.lock().expect("no panic").messages.is_empty());
    is_well(&site);
}

#[test]
fn a_length_beyond_all_measure_ends_the_session() {
    let site = Site::start();
    for line in [
        "GET USER {9223372036854775808+}\r\n".to_owned(),
        format!("APPLY MESSAGE (%{{default {GUID} 9223372036854775808}}\r\n"),
        "GET USER {18446744073709551616+}\r\n".to_owned(),
    ] {
        let mut master = site.master();
        master.send(line.as_bytes());
        let rest = master.rest();
        assert!(rest.starts_with("* Fatal error: "), "{rest}");
    }
    site.logged("repl: closed: the peer cannot be followed: ");
    is_well(&site);
}

#[test]
fn a_long_list_is_refused_and_the_session_goes_on() {
    let site = Site::start();
    let mut master = site.master();
    master.send(b"GET MAILBOXES (");
    for _ in 0..1000 {
        master.send(&b"a ".repeat(1000));
    }
    master.send(b"a)\r\n");
    let answer = master.line();
    assert!(answer.starts_with("BAD IMAP_PROTOCOL_ERROR Failed to parse GET line: "), "{answer}");
    master.send(&b"(".repeat(1_000_000));
    master.send(b"\r\n");
    assert!(master.line().starts_with("BAD "));
    assert_eq!(master.ask("GET USER alice"), "OK success");
    site.logged("repl: the peer's command was answered with BAD IMAP_PROTOCOL_ERROR");
}

#[test]
fn rubbish_is_answered_and_nothing_more() {
    let site = Site::start();
    let mut client = site.client();
    for line in ["", "\0\0\0", "GET \0 \0", "\u{ff}", "%{", "APPLY", "* OK"] {
        let answer = client.ask(line);
        assert!(answer.starts_with("BAD ") || answer.starts_with("NO "), "{line:?}: {answer}");
    }
    client.log_in();
    for line in ["GET USER \0", "GET", "APPLY MAILBOX %(MBOXNAME \0)", "APPLY MAILBOX NIL"] {
        let answer = client.ask(line);
        assert!(answer.starts_with("BAD ") || answer.starts_with("NO "), "{line:?}: {answer}");
    }
    is_well(&site);
}

#[test]
fn a_stranger_gets_nothing_done() {
    let site = Site::start();
    let mut client = site.client();
    client.send(format!("APPLY MESSAGE (%{{default {GUID} 2}}\r\nab)\r\n").as_bytes());
    assert_eq!(client.line(), "NO Please authenticate first");
    client.send(b"APPLY MAILBOX %(UNIQUEID x MBOXNAME user.a RECORD (%(UID 1) %(UID 2)))\r\n");
    assert_eq!(client.line(), "NO Please authenticate first");
    assert_eq!(client.ask("APPLY UNUSER alice"), "NO Please authenticate first");
    assert_eq!(client.ask("RESTART"), "OK Restarting");
    assert_eq!(site.memory.lock().expect("no panic").begun, 0);
}

#[test]
fn who_drips_is_cut_off_when_his_time_is_over() {
    let site = Site::with(Limits { login: Duration::from_millis(300), ..limits() });
    let mut client = site.client();
    let start = Instant::now();
    // Never a whole line, and never silent: only the time in all ends this.
    let ended = wait_until(LIMIT, || client.try_send(b"N").is_err());
    assert!(ended && start.elapsed() >= Duration::from_millis(250));
    site.logged("closed: the peer did not log in in time");
    let mut talker = site.client();
    let ended = wait_until(LIMIT, || talker.try_send(b"NOOP\r\n").is_err());
    assert!(ended);
}

#[test]
fn a_handshake_that_does_not_go_on_ends_with_the_login_time() {
    let site = Site::with(Limits { login: Duration::from_millis(100), ..limits() });
    let mut client = Client::connect(site.tls);
    client.send(&[0x16, 3, 1, 0, 200, 1, 0]);
    assert_eq!(client.rest(), "");
    site.logged("closed: the peer did not log in in time");
}

#[test]
fn a_master_that_reads_nothing_is_left() {
    let site = Site::with(Limits { idle: Duration::from_millis(300), ..limits() });
    let mut master = site.master();
    let fetch = format!("(MBOXNAME a PARTITION d UNIQUEID x GUID {GUID} UID 4000000000)");
    master.send(format!("GET FETCH %{fetch}\r\n").as_bytes());
    site.logged("repl: closed: the peer was silent for too long");
    site.await_over(1);
}
