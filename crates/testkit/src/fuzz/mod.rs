//! Parsers under hostile input: bodies that any fuzzer can call, and a small deterministic
//! fuzzer of our own that every test run has the time for.
//!
//! A body takes any bytes. It panics if a parser breaks a promise: that it does not panic, that
//! what it read is written as something that reads the same, that no name leads elsewhere.

mod accounts;
mod csync;
mod formats;
mod logs;
mod mutate;
mod names;
mod segments;
#[cfg(feature = "stores")]
mod vaults;

use std::any::Any;
use std::fs;
use std::io;
use std::panic;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mutate::Mutator;

/// A body: it panics if something is wrong.
pub type Body = fn(&[u8]);

/// Every body by its name, which is also that of its corpus and of its binary for cargo-fuzz.
pub const TARGETS: &[(&str, Body)] = &[
    ("annotations", accounts::annotations),
    ("archive", segments::archive),
    ("cache", formats::cache),
    ("compression", segments::compression),
    ("csync_commands", csync::commands),
    ("csync_framer", csync::framer),
    ("csync_replies", csync::replies),
    ("database", formats::database),
    ("dlist", formats::dlist),
    ("end_block", segments::end_block),
    ("entry_names", segments::entry_names),
    ("expunge", formats::expunge),
    ("header", formats::header),
    ("imapd_conf", formats::imapd_conf),
    ("index", formats::index),
    ("log_lines", logs::log_lines),
    ("mailbox_list", formats::mailbox_list),
    ("mailbox_names", names::mailbox_names),
    ("manifest", segments::manifest),
    ("quota", accounts::quota),
    ("seen", accounts::seen),
    ("sieve_names", accounts::sieve_names),
    ("subscriptions", accounts::subscriptions),
    ("sync_log", logs::sync_log),
    #[cfg(feature = "stores")]
    ("vault_history", vaults::vault_history),
    #[cfg(feature = "stores")]
    ("vault_names", vaults::vault_names),
    #[cfg(feature = "stores")]
    ("vault_notes", vaults::vault_notes),
    ("watch_state", logs::watch_state),
];

/// No input may keep a parser busy for longer, even in an unoptimised build on a busy machine.
const SLOWEST: Duration = Duration::from_secs(10);

/// The body with that name, for the binaries of cargo-fuzz.
///
/// # Panics
///
/// If there is none.
pub fn body(name: &str) -> Body {
    let found = TARGETS.iter().find(|(target, _)| *target == name);
    found.unwrap_or_else(|| panic!("there is no fuzz target {name}")).1
}

/// An input that a body does not take.
#[derive(Debug, thiserror::Error)]
pub enum FuzzError {
    /// The body panicked.
    #[error("{target} panics: {message}; the input, from {origin}: {input}")]
    Panic {
        /// The target's name.
        target: String,
        /// What it said.
        message: String,
        /// The seed that the input was made from.
        origin: String,
        /// The input in hex digits.
        input: String,
    },
    /// The body took too long.
    #[error("{target} takes {took:?}; the input, from {origin}: {input}")]
    Slow {
        /// The target's name.
        target: String,
        /// How long it took.
        took: Duration,
        /// The seed that the input was made from.
        origin: String,
        /// The input in hex digits.
        input: String,
    },
    /// The corpus cannot be read, or is empty.
    #[error("read the corpus {}", path.display())]
    Corpus {
        /// Its directory or file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// The kept inputs of a target: small files, some as they should be, some that once broke it.
pub fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target)
}

/// Gives a body every file of its corpus, every one of them cut short at many places, and then
/// `rounds` inputs made from them. The same corpus and number give the same inputs.
///
/// # Errors
///
/// The first input that the body does not take.
pub fn run(target: &str, body: Body, corpus: &Path, rounds: u64) -> Result<(), FuzzError> {
    let seeds = read_corpus(corpus)?;
    for (origin, seed) in &seeds {
        check(target, body, origin, seed)?;
        // Every length of small files, and as many steps through larger ones.
        for length in (0..seed.len()).step_by(seed.len() / 256 + 1) {
            check(target, body, origin, &seed[..length])?;
        }
    }
    let mut mutator = Mutator::new(target);
    for _ in 0..rounds {
        let (origin, input) = mutator.input(&seeds);
        check(target, body, origin, &input)?;
    }
    Ok(())
}

fn check(target: &str, body: Body, origin: &str, input: &[u8]) -> Result<(), FuzzError> {
    let start = Instant::now();
    let outcome = panic::catch_unwind(|| body(input));
    let took = start.elapsed();
    let (target, origin) = (target.to_owned(), origin.to_owned());
    if let Err(panic) = outcome {
        let message = message_of(panic.as_ref());
        return Err(FuzzError::Panic { target, message, origin, input: hex(input) });
    }
    if took > SLOWEST {
        return Err(FuzzError::Slow { target, took, origin, input: hex(input) });
    }
    Ok(())
}

fn read_corpus(directory: &Path) -> Result<Vec<(String, Vec<u8>)>, FuzzError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| FuzzError::Corpus { path, source }
    };
    let mut seeds = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed(directory))? {
        let path = entry.map_err(failed(directory))?.path();
        let bytes = fs::read(&path).map_err(failed(&path))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        seeds.push((name, bytes));
    }
    if seeds.is_empty() {
        return Err(failed(directory)(io::Error::new(io::ErrorKind::NotFound, "no seeds")));
    }
    // The order of a directory is not the same everywhere.
    seeds.sort();
    Ok(seeds)
}

fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_else(|| "no message".into())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_found_and_told_with_its_input() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        fs::write(directory.path().join("seed"), b"abcdefgh").expect("a seed");
        let picky: Body = |bytes| assert!(bytes.len() != 3, "three bytes");
        let error = run("picky", picky, directory.path(), 0).expect_err("a cut of three bytes");
        let FuzzError::Panic { message, input, origin, .. } = error else { panic!("{error}") };
        assert_eq!(
            (message.as_str(), input.as_str(), origin.as_str()),
            ("three bytes", "616263", "seed")
        );
        run("content", |_| {}, directory.path(), 100).expect("nothing is wrong");
    }

    #[test]
    fn an_empty_corpus_is_an_error() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let error = run("none", |_| {}, directory.path(), 1).expect_err("no seeds");
        assert!(matches!(error, FuzzError::Corpus { .. }));
    }
}
