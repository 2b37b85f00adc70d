//! Every parser takes its corpus, and what a short fuzzing run makes of it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use testkit::fuzz::{TARGETS, corpus, run};

/// Inputs for each target: enough to notice a parser that trusts a length field, few enough to
/// run every time. `CYLINDER_FUZZ_ROUNDS` asks for more.
const ROUNDS: u64 = 1_000;

/// No parser has a reason to ask for so much, as inputs are below 64 KiB.
const MEMORY: u64 = 4 << 30;

#[test]
fn parsers_take_whatever_comes() {
    let limit = getrlimit(Resource::As);
    let limited = Rlimit { current: Some(MEMORY), maximum: limit.maximum };
    setrlimit(Resource::As, limited).expect("a lower limit is allowed");
    let more = std::env::var("CYLINDER_FUZZ_ROUNDS").ok();
    let rounds = more.map_or(ROUNDS, |rounds| rounds.parse().expect("a number of rounds"));
    for (name, body) in TARGETS {
        if let Err(error) = run(name, *body, &corpus(name), rounds) {
            panic!("{error}");
        }
    }
}

#[test]
fn every_target_has_a_corpus_and_a_binary_and_there_are_no_others() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let targets: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(targets.len(), TARGETS.len(), "two targets of one name");
    assert_eq!(targets, names_in(&root.join("corpus")));
    assert_eq!(targets, names_in(&root.join("../../fuzz/fuzz_targets")));
    let manifest = fs::read_to_string(root.join("../../fuzz/Cargo.toml")).expect("fuzz/Cargo.toml");
    for name in &targets {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} has no binary");
    }
}

fn names_in(directory: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(directory).expect("a directory");
    entries
        .map(|entry| {
            let path = entry.expect("an entry").path();
            path.file_stem().expect("a name").to_string_lossy().into_owned()
        })
        .collect()
}
