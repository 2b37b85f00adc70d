//! What a replica may answer, and what `cylinder replicate` makes of it: a line that says it, and the
//! exit code that fits.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use testkit::fake::{FakeReplica, Then};
use testkit::process;

use super::program::{CYLINDER, Ran};
use super::replicating::document;
use super::sample::{scratch, spool};

const LIMIT: Duration = Duration::from_secs(120);

/// So much address space is enough, whatever is said, in KiB.
const MEMORY_MAX: u64 = 1 << 20;

/// Replicates glad's account to it.
fn send(fake: &FakeReplica, conf: &Path) -> Ran {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", &format!("ulimit -v {MEMORY_MAX}; exec \"$0\" \"$@\""), CYLINDER]);
    command.args(["replicate", "--json", "--user", "glad", "--to"]);
    command.arg(format!("csync://repl@{}", fake.start().expect("a port"))).arg("-C").arg(conf);
    let output = process::run(&mut command, b"secret\n", LIMIT).expect("it ends");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!stderr.contains("panicked"), "{stderr}");
    Ran { code: output.status.code().expect("no signal"), stdout: output.stdout, stderr }
}

/// Every code that Cyrus has, and one that it will have.
const CODES: [&str; 13] = [
    "IMAP_INVALID_USER No Such User",
    "IMAP_MAILBOX_NONEXISTENT No Such Mailbox",
    "IMAP_MAILBOX_LOCKED Mailbox locked",
    "IMAP_MAILBOX_MOVED Mailbox exists with another name or uniqueid",
    "IMAP_MAILBOX_NOTSUPPORTED Operation is not supported on mailbox",
    "IMAP_SYNC_CHECKSUM Checksum Failure",
    "IMAP_SYNC_CHANGED Changed since last sync",
    "IMAP_SYNC_BADSIEVE Sieve script compilation failure",
    "IMAP_PROTOCOL_ERROR Protocol error",
    "IMAP_PROTOCOL_BAD_PARAMETERS",
    "Permission denied",
    "Unknown error",
    "IMAP_TOMORROW Try again",
];

#[test]
fn what_is_refused_of_an_account_is_said() {
    let directory = scratch();
    let conf = spool(&directory.path().join("master"), 5).imapd_conf;
    for code in CODES {
        let fake = FakeReplica::new("GET USER", format!("NO {code}\r\n").as_bytes(), Then::GoOn);
        let exit = if code.starts_with("IMAP_MAILBOX_LOCKED") { 75 } else { 1 };
        let report = document(&send(&fake, &conf).expect(exit));
        let error = report["accounts"][0]["error"]["error"].as_str().expect("an error");
        assert!(error.starts_with("glad was not replicated: GET USER is refused: "), "{error}");
        assert_eq!((fake.count("GET USER"), fake.count("EXIT")), (1, 1), "{code}");
    }
    let fake = FakeReplica::new("GET USER", b"BAD Unrecognized command\r\n", Then::GoOn);
    let report = document(&send(&fake, &conf).expect(1));
    let error = report["accounts"][0]["error"]["error"].as_str().expect("an error");
    assert!(error.ends_with("GET USER is not understood: Unrecognized command"), "{error}");
}

#[test]
fn what_is_refused_of_a_mailbox_is_said_and_tried_but_a_few_times() {
    let directory = scratch();
    let conf = spool(&directory.path().join("master"), 5).imapd_conf;
    for code in CODES {
        let fake =
            FakeReplica::new("APPLY MAILBOX", format!("NO {code}\r\n").as_bytes(), Then::GoOn);
        let report = document(&send(&fake, &conf).expect(3));
        let problems = report["accounts"][0]["problems"].as_array().expect("problems");
        let codes: Vec<&Value> = problems.iter().map(|problem| &problem["code"]).collect();
        assert_eq!(codes, [&json!("refused"), &json!("refused")], "{report:#}");
        let is_looked_at_again = code.starts_with("IMAP_SYNC_CH");
        let expected = if is_looked_at_again { 6 } else { 2 };
        assert_eq!(fake.count("APPLY MAILBOX"), expected, "{code}");
    }
}

#[test]
fn a_connection_that_ends_anywhere_fails_the_account() {
    let directory = scratch();
    let conf = spool(&directory.path().join("master"), 5).imapd_conf;
    for (command, answer, expected) in [
        ("GET USER", &b"BYE shutting down\r\n"[..], "the replica leaves: shutting down"),
        ("GET USER", b"", "instead of answering GET USER"),
        ("GET USER", b"* MAILBOX %(UNIQUEID x MBOX", "instead of answering GET USER"),
        ("GET USER", b"* LSUB (user.glad.Sent)\r\n", "instead of answering GET USER"),
        ("APPLY MESSAGE", b"BYE idle\r\n", "the replica leaves: idle"),
        ("APPLY MESSAGE", b"OK succ", "instead of answering APPLY MESSAGE"),
        ("APPLY MAILBOX", b"", "instead of answering APPLY MAILBOX user.glad"),
        ("AUTHENTICATE", b"", "instead of answering AUTHENTICATE PLAIN"),
    ] {
        let fake = FakeReplica::new(command, answer, Then::Leave);
        let report = document(&send(&fake, &conf).expect(1));
        let error = report["accounts"][0]["error"].to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_banner_without_what_is_needed_is_refused_with_a_hint() {
    let directory = scratch();
    let conf = spool(&directory.path().join("master"), 5).imapd_conf;
    for (banner, expected, hint) in [
        (&b"* OK r\r\n"[..], "no login with PLAIN", "sasl_mech_list"),
        (b"* SASL CRAM-MD5\r\n* OK r\r\n", "no login with PLAIN, but", "sasl_mech_list"),
        (b"BYE too many connections\r\n", "the replica leaves: too many connections", ""),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "follow the replica's answer", ""),
        (b"\x16\x03\x01\x02\x00", "closed the connection", ""),
        (b"", "closed the connection", ""),
    ] {
        let mut fake = FakeReplica::new("", b"", Then::Leave);
        fake.banner = banner.to_vec();
        let report = document(&send(&fake, &conf).expect(1));
        let error = report["accounts"][0]["error"].to_string();
        assert!(error.contains(expected) && error.contains(hint), "{error}");
    }
}

#[test]
fn no_answer_takes_memory_without_an_end() {
    let directory = scratch();
    let conf = spool(&directory.path().join("master"), 5).imapd_conf;
    let nested = [b"* MAILBOX ".as_slice(), &b"(".repeat(100_000)].concat();
    let huge = b"* MAILBOX %(UNIQUEID {4294967295+}\r\nx".as_slice();
    let long = [b"* LSUB (".as_slice(), &b"a ".repeat(100_000)].concat();
    for (command, answer) in [
        ("GET USER", &b"a"[..]),
        ("GET USER", b"* LSUB (a"),
        ("GET USER", b"* MAILBOX %(UNIQUEID \"a"),
        ("GET USER", huge),
        ("GET USER", &nested),
        ("GET USER", &long),
        ("GET USER", b"\0\xff\r"),
        ("GET USER", b"* MISSING ()\r\n"),
        ("", b"* OK"),
        ("", b"* X\r\n"),
    ] {
        let mut fake = FakeReplica::new(command, answer, Then::Flood(MEMORY_MAX << 11));
        if command.is_empty() {
            fake.banner.clear();
        }
        let text = String::from_utf8_lossy(&answer[..answer.len().min(40)]).into_owned();
        let ran = send(&fake, &conf);
        assert_eq!(ran.code, 1, "{text}: {}", ran.stderr);
        let report = document(&ran);
        assert!(report["accounts"][0]["error"]["error"].is_string(), "{text}: {report:#}");
    }
}
