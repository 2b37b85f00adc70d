//! What a master does, and how a server ends.

use std::net::Shutdown;
use std::sync::Arc;
use std::time::Duration;

use serve::Limits;
use testkit::process::wait_until;

use crate::site::{LIMIT, Site, limits};

const MESSAGE: &[u8] = b"APPLY MESSAGE (%{default 0000000000000000000000000000000000000000 12}\r\n";

#[test]
fn a_session_is_greeted_logs_in_sends_asks_and_leaves() {
    let site = Site::start();
    let mut client = crate::client::Client::connect(site.plain);
    let greeting = client.greeting();
    assert_eq!(
        greeting,
        [
            "* SASL PLAIN",
            "* STARTTLS",
            "* COMPRESS DEFLATE",
            "* SIEVE-MAILBOX",
            "* OK replica.test.invalid Cyrus sync server 1.0"
        ]
    );
    assert_eq!(client.ask("C01 CAPABILITY"), "C01 BAD IMAP_PROTOCOL_ERROR Unrecognized command");
    assert_eq!(client.ask("GET USER alice"), "NO Please authenticate first");
    assert_eq!(client.ask("AUTHENTICATE PLAIN AHJlcGwAc2VjcmV0"), "OK Success (no protection)");
    assert_eq!(client.ask("APPLY CAPABILITIES (SIEVE-MAILBOX)"), "* ENABLED (SIEVE-MAILBOX)");
    assert_eq!(client.line(), "OK success");
    client.send(MESSAGE);
    client.send(b"Subject: x\r\n)\r\n");
    assert_eq!(client.line(), "OK success");
    assert_eq!(client.ask("GET META alice"), "NO IMAP_INVALID_USER No Such User");
    assert_eq!(client.ask("RESTART"), "OK Restarting");
    assert_eq!(client.ask("EXIT"), "OK Finished");
    assert_eq!(client.rest(), "");
    assert_eq!(site.memory.lock().expect("no panic").messages, [b"Subject: x\r\n"]);
    site.await_over(1);
    site.logged("repl: GET META was answered with NO IMAP_INVALID_USER No Such User: there is");
    site.logged("repl: the master is done; commands: 2");
}

#[test]
fn a_challenge_is_answered_or_cancelled() {
    let site = Site::start();
    let mut client = site.client();
    assert_eq!(client.ask("AUTHENTICATE PLAIN"), "+ ");
    assert_eq!(client.ask("*"), "BAD Client canceled authentication");
    assert_eq!(client.ask("AUTHENTICATE PLAIN"), "+ ");
    assert_eq!(client.ask("AHJlcGwAc2VjcmV0"), "OK Success (no protection)");
    assert_eq!(client.ask("NOOP"), "OK Noop completed");
}

#[test]
fn wrong_passwords_are_refused_and_only_three_are_heard() {
    let site = Site::start();
    let mut client = site.client();
    for response in ["AHJlcGwAd3Jvbmc=", "AG5vYm9keQBzZWNyZXQ=", "xxxx"] {
        let answer = client.ask(&format!("AUTHENTICATE PLAIN {response}"));
        assert_eq!(answer, "NO authentication failure");
    }
    assert_eq!(client.rest(), "");
    site.logged("login as repl failed: no such user, or a wrong password");
    site.logged("login as nobody failed: no such user, or a wrong password");
    site.logged("too many wrong passwords");
    assert_eq!(site.memory.lock().expect("no panic").begun, 0);
}

#[test]
fn a_login_as_somebody_else_and_an_unknown_mechanism_are_refused() {
    let site = Site::start();
    let mut client = site.client();
    // iris NUL repl NUL secret
    let answer = client.ask("AUTHENTICATE PLAIN aXJpcwByZXBsAHNlY3JldA==");
    assert_eq!(answer, "NO authentication failure");
    assert_eq!(client.ask("AUTHENTICATE DIGEST-MD5"), "NO no mechanism available");
    client.log_in();
}

#[test]
fn commands_of_a_pipeline_are_answered_in_order() {
    let site = Site::start();
    let mut client = site.client();
    client
        .send(b"AUTHENTICATE PLAIN AHJlcGwAc2VjcmV0\r\nNOOP\r\nGET USER a\nGET META b\r\nEXIT\r\n");
    assert_eq!(
        client.rest(),
        "OK Success (no protection)\r\nOK Noop completed\r\nOK success\r\n\
         NO IMAP_INVALID_USER No Such User\r\nOK Finished\r\n"
    );
}

#[test]
fn a_server_that_ends_says_good_bye_between_commands() {
    let mut site = Site::start();
    let (mut master, mut stranger) = (site.master(), site.client());
    site.stop();
    assert_eq!(master.rest(), "BYE shutting down\r\n");
    assert_eq!(stranger.rest(), "BYE shutting down\r\n");
    site.join();
    site.logged("repl: sent away, because this server ends");
}

#[test]
fn a_server_that_ends_finishes_the_command_in_hand() {
    let mut site = Site::start();
    let mut master = site.master();
    master.send(MESSAGE);
    master.send(b"Subject");
    // Sent is not read: a server that has not, is between two commands.
    site.await_files(1);
    let mut other = site.master();
    site.stop();
    // That this one is gone shows that the first has been told, too.
    assert_eq!(other.rest(), "BYE shutting down\r\n");
    master.send(b": x\r\n)\r\n");
    assert_eq!(master.rest(), "OK success\r\nBYE shutting down\r\n");
    site.join();
    assert_eq!(site.memory.lock().expect("no panic").messages.len(), 1);
}

#[test]
fn a_command_that_does_not_end_is_cut_when_the_server_has_to() {
    let mut site = Site::with(Limits { drain: Duration::from_millis(200), ..limits() });
    let mut master = site.master();
    master.send(MESSAGE);
    master.send(b"Subject");
    site.await_files(1);
    site.stop();
    assert_eq!(master.rest(), "");
    site.join();
    assert!(site.memory.lock().expect("no panic").messages.is_empty());
}

#[test]
fn who_is_silent_for_too_long_is_left() {
    let site = Site::with(Limits { idle: Duration::from_millis(100), ..limits() });
    let mut master = site.master();
    assert_eq!(master.rest(), "");
    site.logged("repl: closed: the peer was silent for too long");
    site.await_over(1);
}

#[test]
fn who_leaves_without_exit_is_forgotten() {
    let site = Site::start();
    let mut master = site.master();
    master.socket.shutdown(Shutdown::Write).expect("it is open");
    assert_eq!(master.rest(), "");
    site.await_over(1);
    site.logged("repl: the peer closed the connection; commands: 0");
}

#[test]
fn a_large_answer_comes_whole_to_a_slow_reader() {
    let site = Site::start();
    let mut master = site.master();
    let size = 40_000_000;
    master.send(
        format!(
            "GET FETCH %(MBOXNAME user.a PARTITION default UNIQUEID x GUID {} UID {size})\r\n",
            "0".repeat(40)
        )
        .as_bytes(),
    );
    assert_eq!(master.line(), format!("* MESSAGE %{{default {} {size}}}", "0".repeat(40)));
    let bytes = master.bytes(size);
    assert!(bytes.iter().enumerate().all(|(at, byte)| *byte == (at % 1021 % 251) as u8));
    assert_eq!((master.line(), master.line()), (String::new(), "OK success".to_owned()));
}

#[test]
fn a_bug_ends_one_connection_and_is_called_one() {
    let site = Site::start();
    let (mut victim, mut other) = (site.master(), site.master());
    victim.send(b"GET META panic\r\n");
    assert_eq!(victim.rest(), "");
    site.logged("repl: closed, because of a bug in this program");
    assert_eq!(other.ask("GET USER a"), "OK success");
    site.await_over(1);
}

#[test]
fn who_comes_when_all_places_are_taken_is_told_so() {
    let site = Site::with(Limits { connections_max: 2, ..limits() });
    let (first, _second) = (site.client(), site.client());
    let mut third = crate::client::Client::connect(site.plain);
    assert_eq!(third.rest(), "BYE too many connections\r\n");
    site.logged("as many connections as are allowed");
    drop(first);
    let memory = Arc::clone(&site.memory);
    let admitted = wait_until(LIMIT, || {
        let mut client = crate::client::Client::connect(site.plain);
        let greeted = client.greeting()[0].starts_with("* ");
        if greeted {
            client.log_in();
        }
        greeted
    });
    assert!(admitted && memory.lock().expect("no panic").begun == 1);
}
