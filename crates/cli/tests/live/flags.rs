//! Flags that a client has lost, set again by the script that the README shows.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use testkit::imap::Append;
use testkit::skip::has_tool_or_skip;
use testkit::{Cyrus, cyrus_or_skip};

use crate::program::{cylinder, run};
use crate::restored::scratch;

const PYTHON: &str = "/usr/bin/python3";

/// The only script in the README.
fn script() -> String {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
    let text = fs::read_to_string(readme).expect("the README");
    let (_, behind) = text.split_once("```python\n").expect("a script");
    behind.split_once("```").expect("its end").0.to_owned()
}

/// The flags of all messages, by folder and UID.
fn flags(cyrus: &Cyrus) -> BTreeMap<(String, u32), BTreeSet<String>> {
    let view = cyrus.view("glad").expect("an account");
    let folders = view.folders.into_iter();
    let messages = folders.flat_map(|(name, folder)| {
        folder.messages.into_iter().map(move |(uid, seen)| ((name.clone(), uid), seen.flags))
    });
    messages.collect()
}

/// Makes each folder with three messages that have different flags.
fn fill(cyrus: &Cyrus, folders: &[String]) {
    cyrus.create_user("glad").expect("a user");
    let mut client = cyrus.imap_as("glad").expect("a client");
    for folder in folders {
        if folder != "INBOX" {
            client.create(folder).expect("a folder");
        }
        for (n, flags) in
            [&["\\Seen", "$Forwarded"][..], &[], &["\\Flagged", "Later"]].into_iter().enumerate()
        {
            let text = format!("Subject: {n}\r\n\r\n{folder}\r\n");
            let message = Append { message: text.as_bytes(), flags, ..Append::default() };
            client.append(folder, message).expect("an append");
        }
    }
}

/// In both of the ways in which a server can name personal folders.
#[test]
fn lost_flags_are_set_again_by_the_script_in_the_readme() {
    let test = "lost_flags_are_set_again";
    let Some(builder) = cyrus_or_skip(test) else { return };
    if !has_tool_or_skip(test, PYTHON) {
        return;
    }
    for (altnamespace, prefix) in [("no", "INBOX/"), ("yes", "")] {
        let builder = builder.clone().option("altnamespace", altnamespace);
        let cyrus = builder.start().expect("Cyrus starts");
        let below =
            ["Work", "Work/v1.2", "R&AOk-ports", "Old"].map(|name| format!("{prefix}{name}"));
        let old = below[3].clone();
        fill(&cyrus, &[&["INBOX".to_owned()][..], &below].concat());
        let scratch = scratch();
        let (vault, out) = (scratch.path().join("vault"), scratch.path().join("out"));
        let (conf, vault) = (cyrus.imapd_conf().display().to_string(), vault.display().to_string());
        cylinder(["backup", "-C", &conf, "--vault", &vault, "glad"]).expect(0);
        let want = flags(&cyrus);
        assert_eq!(want.len(), 15);

        let mut client = cyrus.imap_as("glad").expect("a client");
        for folder in ["INBOX"].into_iter().chain(below.iter().map(String::as_str)) {
            client.select(folder).expect("a folder");
            client.store("1:*", "FLAGS", &["\\Seen"]).expect("everything is read");
        }
        // Another mailbox of the same name: its UIDs mean other messages.
        client.select("INBOX").expect("INBOX");
        client.delete(&old).expect("a folder goes");
        client.create(&old).expect("and comes");
        let other = Append { message: b"Subject: other\r\n\r\n", ..Append::default() };
        client.append(&old, other).expect("an append");
        assert_ne!(flags(&cyrus), want);

        let to = format!("dir:{}", out.display());
        cylinder(["restore", "--vault", &vault, "glad", "--flags-only", "--to", &to]).expect(0);
        let address = cyrus.imap_address();
        let (host, port) = (address.ip().to_string(), address.port().to_string());
        let list = out.join("flags.jsonl").display().to_string();
        let mut python = Command::new(PYTHON);
        python.args(["-c", &script(), &host, &port, "glad", "any", &list]);
        let ran = run(&mut python).expect(0);
        assert_eq!(ran.stderr, "");
        let found = flags(&cyrus);
        for (place, flags) in want.iter().filter(|((folder, _), _)| *folder != old) {
            assert_eq!(found.get(place), Some(flags), "{place:?}");
        }
        assert_eq!(found.get(&(old, 1)), Some(&BTreeSet::new()));
    }
}
