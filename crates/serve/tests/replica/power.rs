//! The power goes at any time, and what was not synced is gone, or some of it: what the server had said
//! OK to is there, what it was about to do is there as a whole or not at all, and nothing else is left.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use spool::replica::Replica;
use testkit::hostile::{CALLS, Cut, Disk};
use testkit::leftovers::{self, Leftovers};
use testkit::process;
use testkit::skip::{Need, skip};

use crate::driver::Conversation;
use crate::kill::{ROOT, SCRIPT, STRACE, Script, TEST, differing, state_of};
use crate::recorded::banner;

const PATIENCE: Duration = Duration::from_secs(240);

/// The states before the first command and behind each, and what the process did on its disk.
fn watch(script: Script, top: &Path) -> (Vec<String>, String) {
    let root = top.join("watched");
    let replica = Arc::new(Replica::open(&root).expect("a replica"));
    let (mut out, mut states) = (Vec::new(), vec![state_of(&replica)]);
    let mut conversation = Conversation::begin(&replica, banner(), &mut out);
    for command in script.commands() {
        out.clear();
        conversation.hear(&command, &mut out);
        assert!(!out.windows(3).any(|word| word == b"NO " || word == b"BAD"), "{command:?}");
        states.push(state_of(&replica));
    }
    drop((conversation, replica));
    fs::remove_dir_all(&root).expect("emptied");
    fs::create_dir(&root).expect("made");
    let log = top.join("strace");
    let mut command = Command::new(STRACE);
    command.args(["-f", "-qq", "-xx", "-s", "100000000", "-e", CALLS, "-o"]).arg(&log);
    command.arg(std::env::current_exe().expect("this program"));
    command.args(["--exact", TEST, "--nocapture", "--test-threads", "1"]);
    command.env(ROOT, &root).env(SCRIPT, script.name());
    let output = process::run(&mut command, b"", PATIENCE).expect("strace runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    (states, fs::read_to_string(&log).expect("a log"))
}

fn cut_everywhere(test: &str, script: Script) {
    if !Path::new(STRACE).exists() {
        return skip(test, Need::Tools, STRACE);
    }
    let top = tempfile::tempdir().expect("a temporary directory");
    let (states, log) = watch(script, top.path());
    let mut disk = Disk::new(&top.path().join("watched"));
    let (mut answered, mut cuts) = (0, 0);
    for (number, line) in (0..).zip(log.lines()) {
        // In between, less is lost in the same way.
        if Disk::is_sync(line) && !disk.is_clean() {
            let one_kind = if number % 2 == 0 { Cut::Bytes } else { Cut::Names };
            for cut in [Cut::All, Cut::Some(number), one_kind] {
                check(&disk, cut, &top.path().join("cut"), &states[answered..]);
                cuts += 1;
            }
        }
        let Some(said) = disk.run(line) else { continue };
        if String::from_utf8_lossy(&said).contains("answered ") {
            answered += 1;
            check(&disk, Cut::All, &top.path().join("cut"), &states[answered..]);
            cuts += 1;
        }
    }
    assert_eq!(answered + 1, states.len());
    assert!(cuts > states.len() * 2, "the power hardly ever went: {cuts}");
}

/// What is left is the first of the states, or the second.
fn check(disk: &Disk, cut: Cut, to: &Path, states: &[String]) {
    drop(fs::remove_dir_all(to));
    fs::create_dir(to).expect("a directory");
    disk.leave(cut, to).expect("written");
    let replica = Arc::new(Replica::open(to).expect("it opens again"));
    assert!(replica.lock().damaged().is_empty(), "{cut:?}: {:?}", replica.lock().damaged());
    let state = state_of(&replica);
    assert!(
        states.iter().take(2).any(|known| *known == state),
        "{cut:?} behind {:?}",
        states.iter().take(2).map(|known| differing(known, &state)).collect::<Vec<_>>()
    );
    drop(replica);
    assert_eq!(leftovers::below(to).expect("readable"), Leftovers::default(), "{cut:?}");
}

#[test]
fn a_power_cut_leaves_all_of_a_command_or_nothing() {
    cut_everywhere("a_power_cut", Script::Everything);
}

#[test]
fn a_power_cut_leaves_all_of_a_change_of_a_large_index_or_nothing() {
    cut_everywhere("a_power_cut_of_a_large_index", Script::Large);
}
