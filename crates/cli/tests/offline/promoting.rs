//! `cylinder promote` as a program: what it refuses, what it says, and that it is done once.

use std::fs;
use std::path::{Path, PathBuf};

use model::Guid;
use serde_json::Value;
use sha1::{Digest, Sha1};
use tempfile::TempDir;

use super::program::{Ran, cylinder};
use super::sample::scratch;
use super::serving::{Server, ask, master, serve, users};

const MESSAGE: &str = "Subject: x\r\n\r\nbody\r\n";

/// A replica with a mailbox of one message, as a master has sent it.
fn replica() -> (TempDir, PathBuf, Server) {
    let directory = scratch();
    let (users, spool) = (users(directory.path()), directory.path().join("spool"));
    let mut server = Server::of(&users, &spool);
    let mut master = master(server.address());
    let guid = Guid(Sha1::digest(MESSAGE).into());
    let size = MESSAGE.len();
    for command in [
        format!("APPLY MESSAGE (%{{default {guid} {size}}}\r\n{MESSAGE})"),
        format!(
            "APPLY MAILBOX %(UNIQUEID ida MBOXNAME user.a LAST_UID 1 HIGHESTMODSEQ 9 RECENTUID 0 \
             RECENTTIME 0 LAST_APPENDDATE 0 POP3_LAST_LOGIN 0 UIDVALIDITY 5 PARTITION default \
             ACL \"a\tlrs\t\" OPTIONS P RECORD (%(UID 1 MODSEQ 7 LAST_UPDATED 8 FLAGS () \
             INTERNALDATE 9 SIZE {size} GUID {guid})))"
        ),
    ] {
        assert_eq!(ask(&mut master, command.as_bytes()), "OK success\r\n");
    }
    assert_eq!(ask(&mut master, b"EXIT"), "OK Finished\r\n");
    (directory, spool, server)
}

fn promote(spool: &Path, conf: &Path, more: &[&str]) -> Ran {
    let mut arguments = vec!["promote".as_ref(), "--spool".as_ref(), spool.as_os_str()];
    arguments.extend(["-C".as_ref(), conf.as_os_str()]);
    arguments.extend(more.iter().map(std::ffi::OsStr::new));
    cylinder(arguments)
}

fn is_replica(spool: &Path) -> bool {
    spool.join("spool/default/uuid/i/d/ida/cyrus.cylinder").exists()
}

#[test]
fn a_replica_is_promoted_once_and_is_none_afterwards() {
    let (directory, spool, server) = replica();
    let conf = spool.join("imapd.conf");
    let busy = promote(&spool, &conf, &[]).expect(75);
    assert!(busy.error().contains("in use by another process"), "{}", busy.stderr);
    assert!(busy.stderr.contains("hint: stop the cylinder serve that has it"));
    assert_eq!(server.end(), Some(0));

    let looked = promote(&spool, &conf, &["--dry-run", "--full"]).expect(0);
    let text = looked.text();
    assert!(text.contains("1 mailbox, 1 message (20 B): whole\nit can be promoted;"), "{text}");
    assert!(is_replica(&spool));
    let document = promote(&spool, &conf, &["--json"]).expect(0).document();
    assert_eq!(document["promoted"], true);
    assert_eq!((&document["mailboxes"], &document["messages"]), (&1.into(), &1.into()));
    assert_eq!(document["findings"], Value::Array(Vec::new()));
    let next = document["next"].as_array().expect("a list");
    assert!(next.last().is_some_and(|step| step.as_str().is_some_and(|s| s.contains("start"))));
    assert!(!is_replica(&spool));

    let again = promote(&spool, &conf, &[]).expect(0).text();
    assert!(again.contains("is promoted already"), "{again}");
    let users = directory.path().join("users");
    let served = serve(&users, &["--listen", "127.0.0.1:0"]).expect(1);
    assert!(
        served.error().contains("it was promoted, and belongs to a Cyrus"),
        "{}",
        served.stderr
    );
    assert!(served.stderr.contains("hint: replicate into a new directory"), "{}", served.stderr);
}

#[test]
fn mail_is_not_lost_without_consent() {
    let (_directory, spool, server) = replica();
    assert_eq!(server.end(), Some(0));
    let conf = spool.join("imapd.conf");
    fs::remove_file(spool.join("spool/default/uuid/i/d/ida/1.")).expect("removed");
    let refused = promote(&spool, &conf, &[]).expect(3);
    assert!(refused.stderr.starts_with("finding: message-missing: user.a uid 1: "));
    assert!(refused.stderr.contains("\n  to do: "), "{}", refused.stderr);
    let text = refused.text();
    assert!(text.contains("1 finding\nnot promoted; --accept-losses does it all"), "{text}");
    assert!(is_replica(&spool));
    let document = promote(&spool, &conf, &["--json"]).expect(3).document();
    assert_eq!(document["promoted"], false);
    assert_eq!(document["findings"][0]["code"], "message-missing");
    promote(&spool, &conf, &["--accept-losses"]).expect(3);
    assert!(!is_replica(&spool));
}

#[test]
fn a_configuration_that_leads_elsewhere_is_refused_whatever_is_accepted() {
    let (directory, spool, server) = replica();
    assert_eq!(server.end(), Some(0));
    let text = fs::read_to_string(spool.join("imapd.conf")).expect("it is there");
    let conf = directory.path().join("new.conf");
    fs::write(&conf, text.replace("/spool/default", "/spool")).expect("written");
    let refused = promote(&spool, &conf, &["--accept-losses"]).expect(3);
    assert!(refused.stderr.starts_with("finding: misplaced: partition-default: it leads to "));
    assert!(refused.text().ends_with("not promoted\n"), "{}", refused.text());
    assert!(is_replica(&spool));
    fs::write(&conf, "configdirectory\n").expect("written");
    promote(&spool, &conf, &[]).expect(1);
    let nothing = promote(directory.path(), &spool.join("imapd.conf"), &[]).expect(1);
    assert!(nothing.error().contains("there is no replica in "), "{}", nothing.stderr);
    assert!(nothing.stderr.contains("hint: --spool is that of cylinder serve"));
}
