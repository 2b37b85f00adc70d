//! A server that is killed at any call: what it had said OK to is there, what it was about to do is
//! there as a whole or not at all, and nothing else is left.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use csync::framer::{Event, Framer, Limits, Stream};
use spool::replica::Replica;
use testkit::leftovers::{self, Leftovers};
use testkit::process;
use testkit::skip::{Need, skip};

use crate::driver::Conversation;
use crate::faults;
use crate::recorded::{banner, connection};

pub const STRACE: &str = "/usr/bin/strace";
const PATIENCE: Duration = Duration::from_secs(120);
/// Where the process that is killed has its replica.
pub const ROOT: &str = "CYLINDER_TEST_REPLICA";
/// Which script it hears.
pub const SCRIPT: &str = "CYLINDER_TEST_SCRIPT";
pub const TEST: &str = "kill::the_server_that_is_killed";
/// What changes a disk, call by call: strace counts each kind by itself, and of several only the most frequent
/// would ever be hit.
pub const CALLS: [&str; 9] = [
    "mkdirat",
    "linkat",
    "symlinkat",
    "renameat",
    "renameat2",
    "unlinkat",
    "fsync",
    "syncfs",
    "write",
];
/// More calls than anything here takes.
pub const CALLS_MAX: usize = 2000;

/// What a master says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Script {
    /// A bit of all that there is.
    Everything,
    /// Changes of a mailbox whose index is so large that it is changed in place.
    Large,
}

impl Script {
    pub fn name(self) -> &'static str {
        match self {
            Script::Everything => "everything",
            Script::Large => "large",
        }
    }

    /// Command by command.
    pub fn commands(self) -> Vec<Vec<u8>> {
        match self {
            Script::Everything => everything(),
            Script::Large => large(),
        }
    }
}

/// So many records have an index of more than 1 MiB.
const MANY: u32 = 9_500;

/// Most of its messages are expunged, and were never sent.
fn large() -> Vec<Vec<u8>> {
    let text = "x";
    let record = |uid: u32, modseq: u32, flags: &str| {
        format!(
            "%(UID {uid} MODSEQ {modseq} LAST_UPDATED 8 FLAGS ({flags}) INTERNALDATE 9 SIZE 1 \
             GUID {})",
            faults::guid(text)
        )
    };
    let mailbox = |last: u32, records: &[String]| {
        let here = "PARTITION default";
        faults::mailbox("user.alice", "ida", here, last as usize, &records.join(" "))
    };
    let first = (1..=MANY).map(|uid| record(uid, 1, if uid < 4 { "" } else { "\\Expunged" }));
    let some = [record(1, 2, "\\Seen"), record(3, 2, "\\Flagged $New"), record(MANY + 1, 2, "")];
    let more = [record(2, 3, "\\Deleted"), record(MANY + 2, 3, "\\Seen")];
    let commands = [
        "AUTHENTICATE PLAIN AA==".to_owned(),
        faults::message("default", faults::guid(text), text),
        mailbox(MANY, &first.collect::<Vec<_>>()),
        mailbox(MANY + 1, &some),
        "APPLY EXPUNGE %(MBOXNAME user.alice UNIQUEID ida UID (1))".to_owned(),
        "APPLY ANNOTATION %(MBOXNAME user.alice ENTRY /comment USERID \"\" VALUE x)".to_owned(),
        mailbox(MANY + 2, &more),
    ];
    commands.iter().map(|command| format!("{command}\r\n").into_bytes()).collect()
}

fn everything() -> Vec<Vec<u8>> {
    let recorded = connection("real-initial-user").master;
    let mut commands = split(&recorded);
    let is_more_of_the_same = |command: &[u8]| {
        let command = String::from_utf8_lossy(command).into_owned();
        ["COMPRESS", "EXIT"].iter().any(|word| command.starts_with(word))
            || ["MBOXNAME user.alice.Drafts", "MBOXNAME user.alice.Trash"]
                .iter()
                .any(|name| command.starts_with("APPLY MAILBOX") && command.contains(name))
    };
    commands.retain(|command| !is_more_of_the_same(command));
    let inbox = commands.iter().find(|command| command.starts_with(b"APPLY MAILBOX"));
    let inbox = String::from_utf8_lossy(inbox.expect("a mailbox")).into_owned();
    let guids: Vec<&str> = inbox.split("GUID ").skip(1).map(|rest| &rest[..40]).collect();
    let copy = inbox
        .replace("95bcv62j2spfsrjtj6dls6rt", "copyofinbox")
        .replace("MBOXNAME user.alice ", "MBOXNAME user.alice.Copy ");
    let more = [
        format!(
            "APPLY RESERVE %(PARTITION default MBOXNAME (user.alice) GUID ({}))",
            guids.join(" ")
        ),
        copy.trim_end().to_owned(),
        "APPLY EXPUNGE %(MBOXNAME user.alice.Copy UNIQUEID copyofinbox UID (2 3))".into(),
        "APPLY RENAME %(OLDMBOXNAME user.alice.Copy NEWMBOXNAME user.alice.New PARTITION default)"
            .into(),
        "APPLY RENAME %(OLDMBOXNAME user.alice.New NEWMBOXNAME user.alice.New PARTITION other)"
            .into(),
        "APPLY SEEN %(USERID alice UNIQUEID x LASTREAD 1 LASTUID 1 LASTCHANGE 1 SEENUIDS 1:2)"
            .into(),
        "APPLY SIEVE %(USERID alice FILENAME a.script LAST_UPDATE 1 CONTENT keep;)".into(),
        "APPLY ACTIVATE_SIEVE %(USERID alice FILENAME a.bc)".into(),
        "APPLY UNSIEVE %(USERID alice FILENAME a.script)".into(),
        "APPLY ANNOTATION %(MBOXNAME user.alice ENTRY /comment USERID \"\" VALUE x)".into(),
        "APPLY QUOTA %(ROOT user.alice STORAGE 500 MODSEQ 99)".into(),
        "APPLY UNMAILBOX user.alice.New".into(),
        "APPLY UNUSER alice".into(),
    ];
    commands.extend(more.map(|command| format!("{command}\r\n").into_bytes()));
    commands
}

fn split(master: &[u8]) -> Vec<Vec<u8>> {
    let mut framer = Framer::new(Stream::Commands, Limits::default());
    let (mut input, mut begin, mut commands) = (master, 0, Vec::new());
    while let Some(event) = framer.next(&mut input).expect("a good stream") {
        if matches!(event, Event::Line(_) | Event::Data(_)) {
            let end = master.len() - input.len();
            commands.push(master[begin..end].to_vec());
            begin = end;
        }
    }
    commands
}

/// Everything that a master can ask for.
pub fn state_of(replica: &Arc<Replica>) -> String {
    let mut out = Vec::new();
    let mut conversation = Conversation::begin(replica, banner(), &mut out);
    let mut ask = b"AUTHENTICATE PLAIN AA==\r\nGET USER alice\r\nGET QUOTA user.alice\r\n".to_vec();
    for name in ["", ".Drafts", ".Sent", ".Trash", ".Copy", ".New"] {
        ask.extend(format!("GET FULLMAILBOX user.alice{name}\r\n").into_bytes());
    }
    conversation.hear(&ask, &mut out);
    let text = String::from_utf8_lossy(&out).into_owned();
    // Scripts are as old as their files.
    let mut words: Vec<&str> = text.split(' ').collect();
    for at in 1..words.len() {
        if words[at - 1] == "LAST_UPDATE" {
            words[at] = "then";
        }
    }
    words.join(" ")
}

#[test]
fn the_server_that_is_killed() {
    // Only as a process of its own is there anything to do.
    let Some(root) = std::env::var_os(ROOT) else { return };
    let replica = Arc::new(Replica::open(Path::new(&root)).expect("a replica"));
    let mut out = Vec::new();
    let mut conversation = Conversation::begin(&replica, banner(), &mut out);
    let name = std::env::var(SCRIPT).expect("a script");
    let scripts = [Script::Everything, Script::Large];
    let script = scripts.into_iter().find(|script| script.name() == name).expect("it is known");
    for (number, command) in script.commands().iter().enumerate() {
        conversation.hear(command, &mut out);
        println!("\nanswered {number}.");
        std::io::stdout().flush().expect("said");
    }
}

/// Runs a test of this program as a process of its own until its nth call; the number of commands
/// that it has answered, and whether it ran to its end.
pub fn run_until(test: &str, calls: &str, nth: usize, root: &Path) -> (usize, bool) {
    let program = std::env::current_exe().expect("this program");
    let inject = format!("inject={calls}:signal=KILL:when={nth}");
    let mut command = Command::new(STRACE);
    command.args(["-f", "-qq", "-o", "/dev/null", "-e"]).arg(format!("trace={calls}"));
    command.args(["-e", &inject]).arg(program);
    command.args(["--exact", test, "--nocapture", "--test-threads", "1"]).env(ROOT, root);
    command.env(SCRIPT, Script::Everything.name());
    let output = process::run(&mut command, b"", PATIENCE).expect("strace runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let answered = said.lines().filter(|line| line.starts_with("answered ")).count();
    (answered, output.status.success())
}

/// Every file below a directory.
pub fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        match fs::symlink_metadata(&path).expect("there").is_dir() {
            true => files(&path, found),
            false => found.push(path),
        }
    }
}

/// The first line that differs.
pub fn differing(want: &str, have: &str) -> String {
    let mut pairs = want.lines().zip(have.lines());
    let (want, have) = pairs.find(|(want, have)| want != have).unwrap_or(("", ""));
    format!("want {want:.300}\nhave {have:.300}")
}

#[test]
fn a_server_killed_at_any_call_leaves_all_of_a_command_or_nothing() {
    if !Path::new(STRACE).exists() {
        return skip("a_server_killed_at_any_call", Need::Tools, STRACE);
    }
    let top = tempfile::tempdir().expect("a temporary directory");
    let root = top.path().join("replica");
    let replica = Arc::new(Replica::open(&root).expect("a replica"));
    let (mut out, mut states) = (Vec::new(), vec![state_of(&replica)]);
    let mut conversation = Conversation::begin(&replica, banner(), &mut out);
    for command in everything() {
        out.clear();
        conversation.hear(&command, &mut out);
        assert!(!out.windows(3).any(|word| word == b"NO " || word == b"BAD"), "{command:?}");
        states.push(state_of(&replica));
    }
    drop((conversation, replica));
    let mut kills = 0;
    for calls in CALLS {
        for nth in 1.. {
            assert!(nth < CALLS_MAX, "it is killed for ever");
            fs::remove_dir_all(&root).expect("emptied");
            fs::create_dir(&root).expect("made");
            let (answered, is_finished) = run_until(TEST, calls, nth, &root);
            if is_finished {
                break;
            }
            kills += 1;
            let replica = Arc::new(Replica::open(&root).expect("it opens again"));
            assert!(replica.lock().damaged().is_empty(), "kill {nth} of {calls}");
            let state = state_of(&replica);
            let next = states.get(answered + 1);
            let is_known = state == states[answered] || Some(&state) == next;
            assert!(
                is_known,
                "kill {nth} of {calls} after {answered}:\n{}\n{}",
                differing(&states[answered], &state),
                differing(next.unwrap_or(&state), &state)
            );
            drop(replica);
            let left = leftovers::below(&root).expect("readable");
            assert_eq!(left, Leftovers::default(), "kill {nth} of {calls}");
        }
    }
    assert!(kills > 50, "it was hardly ever killed: {kills}");
}
