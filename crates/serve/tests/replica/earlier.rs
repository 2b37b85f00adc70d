//! Recordings that begin in the middle of a story: what they tell of the replica at their beginning is
//! made first, without the messages, which they do not hold.

use csync::banner::{Banner, Progress};
use csync::command::{Apply, Command, SieveName, SieveScript, Subscription};
use csync::framer::{Event, Framer, Limits, Stream};
use csync::untagged::Untagged;
use model::Userid;

use crate::recorded::{connection, differences};
use crate::recording::recordings;

/// Recordings that are replayed here.
const EARLIER: [&str; 5] = [
    "real-quota-change",
    "real-rename-folder",
    "real-seen-shared",
    "real-sieve-legacy",
    "real-sieve-mailbox",
];

/// Those that are replayed elsewhere.
const ELSEWHERE: [&str; 6] = [
    "hand-edge-forms",
    "hand-get-fetch",
    "hand-intermediate",
    "hand-parse-error",
    "real-annotation-server",
    "real-initial-user",
];

/// Those that are not, and why.
const NOT_REPLAYED: [(&str, &str); 7] = [
    ("hand-edge-unauth", "the login is not the replica's; network::sessions has it"),
    ("real-annotation-message", "of messages that it does not hold; live::kinds does the same"),
    ("real-auth-scram-sha-256", "SCRAM is not offered"),
    ("real-deletedmodseq", "of messages that it does not hold; live::everyday does the same"),
    ("real-imap-embedded", "it is spoken to an IMAP server"),
    ("real-not-admin", "whoever may log in is an administrator"),
    (
        "real-splitbrain-same-uid",
        "of messages that it does not hold; live::conflicts does the same",
    ),
];

#[test]
fn every_recording_is_replayed_or_there_is_a_reason() {
    let names = recordings("").into_iter().map(|(name, _)| name.replace(".session", ""));
    let mut names: Vec<String> = names.collect();
    names.sort();
    let reasons = NOT_REPLAYED.iter().map(|(name, _)| name);
    let mut known: Vec<&str> = EARLIER.iter().chain(&ELSEWHERE).chain(reasons).copied().collect();
    known.sort_unstable();
    assert_eq!(names, known);
}

#[test]
fn a_story_that_has_begun_goes_on_as_with_cyrus() {
    for name in EARLIER {
        let mut recorded = connection(name);
        let before = earlier(&recorded.replica);
        recorded.master = without_sums(&recorded.master);
        let mut found = differences(&recorded, &before);
        for (recorded, ours) in &mut found {
            (*recorded, *ours) = (without_messages(recorded), without_messages(ours));
        }
        found.retain(|(recorded, ours)| recorded != ours);
        assert_eq!(found, [], "{name}");
    }
}

/// An answer without what follows from messages and scripts that are only told of.
fn without_messages(answer: &str) -> String {
    // It was hidden from one of the masters.
    let answer = answer.replace("* SIEVE-MAILBOX \n ", "");
    String::from_utf8_lossy(&without(answer.as_bytes(), &["SYNC_CRC", "SYNC_CRC_ANNOT", "GUID"]))
        .into_owned()
}

/// What a master said, without the sums of mailboxes whose messages it does not send.
fn without_sums(master: &[u8]) -> Vec<u8> {
    let lines = master.split_inclusive(|byte| *byte == b'\n').map(|line| {
        match line.ends_with(b"RECORD ())\r\n") {
            true => without(line, &["SYNC_CRC_ANNOT", "SINCE_CRC_ANNOT"]),
            false => line.to_vec(),
        }
    });
    lines.collect::<Vec<_>>().concat()
}

/// A text without some words and those that follow them.
fn without(text: &[u8], left_out: &[&str]) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut words = text.split(|byte| *byte == b' ');
    while let Some(word) = words.next() {
        match left_out.iter().any(|name| name.as_bytes() == word) {
            true => drop(words.next()),
            false => kept.push(word),
        }
    }
    kept.join(&b' ')
}

/// What a master would say to make of a new replica what a recording begins with.
fn earlier(recorded: &[u8]) -> Vec<u8> {
    let mut said = b"AUTHENTICATE PLAIN AA==\r\nAPPLY CAPABILITIES (SIEVE-MAILBOX)\r\n".to_vec();
    let mut framer = Framer::new(Stream::Replies, Limits::default());
    let (mut input, mut banner, mut is_greeted) = (recorded, Banner::default(), false);
    let mut has_begun = false;
    while let Some(event) = framer.next(&mut input).expect("a good stream") {
        match event {
            Event::Line(line) if !is_greeted => {
                is_greeted = banner.take(line) == Progress::Complete;
            }
            Event::Line(_) if has_begun => break,
            Event::Data(data) => {
                let told = Untagged::from_data(data).expect("a reply");
                has_begun |= !matches!(told, Untagged::Enabled(_));
                make(told, &mut said);
            }
            _ => {}
        }
    }
    said.extend_from_slice(b"EXIT\r\n");
    said
}

fn make(told: Untagged, said: &mut Vec<u8>) {
    let userid = Userid::from("alice");
    let mut apply = |apply: Apply| Command::Apply(apply).write(None, said);
    match told {
        Untagged::Mailbox(mut mailbox) => {
            if let Some(contents) = &mut mailbox.contents {
                (contents.sync_crc, contents.sync_crc_annot) = (None, None);
            }
            Command::begin_mailbox(&mailbox, None, said).finish(said);
        }
        Untagged::Quota(quota) => apply(Apply::Quota(quota)),
        Untagged::Seen(seen) => apply(Apply::Seen { userid, seen }),
        Untagged::Lsub(names) => {
            for mboxname in names {
                let userid = userid.clone();
                apply(Apply::Sub(Subscription { userid, mboxname }));
            }
        }
        Untagged::Sieve(file) if file.active => {
            apply(Apply::ActivateSieve(SieveName { userid, filename: file.filename }));
        }
        Untagged::Sieve(file) => apply(Apply::Sieve(SieveScript {
            userid,
            filename: file.filename,
            last_update: file.last_update,
            content: b"keep;\r\n".to_vec(),
        })),
        Untagged::Enabled(_) => {}
        other => panic!("{other:?}"),
    }
}
