//! What interrupted writers left behind in a directory.
//!
//! A directory has no uploads: an object that is being written is a file beside it, whose name ends
//! in `#` and digits. Neither listings nor deletions through the storage engine reach it, so that
//! nobody takes half an object for one; nor would anybody ever remove it.

use std::fs::{self, DirEntry};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::keys::{ACCOUNTS, MARKER, NoteName, SegmentName};

/// Removes what was last written to before that time, and returns what that was. An upload that
/// goes on is written to all the time.
pub fn sweep(root: &Path, before: SystemTime) -> io::Result<Vec<PathBuf>> {
    let mut swept = sweep_directory(root, before)?;
    for account in entries(&root.join(ACCOUNTS))? {
        if account.file_type()?.is_dir() {
            let path = account.path();
            let here = sweep_directory(&path, before)?;
            if !here.is_empty() {
                // It goes with its last object, and what was left over has held it back.
                drop(fs::remove_dir(path));
            }
            swept.extend(here);
        }
    }
    swept.sort();
    Ok(swept)
}

fn sweep_directory(directory: &Path, before: SystemTime) -> io::Result<Vec<PathBuf>> {
    let mut swept = Vec::new();
    for entry in entries(directory)? {
        if !entry.file_name().to_str().is_some_and(is_left_over) {
            continue;
        }
        // Whoever wrote it, or another sweep, may be faster.
        let old = match entry.metadata() {
            Ok(metadata) => metadata.is_file() && metadata.modified()? < before,
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(error),
        };
        if old {
            match fs::remove_file(entry.path()) {
                Ok(()) => swept.push(entry.path()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(swept)
}

/// The entries of a directory; none, if it is not there.
pub fn entries(directory: &Path) -> io::Result<Vec<DirEntry>> {
    match fs::read_dir(directory) {
        Ok(entries) => entries.collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Whether it is an object of ours in the making. Other people's files are not our business.
fn is_left_over(name: &str) -> bool {
    let Some((object, number)) = name.rsplit_once('#') else { return false };
    let numbered = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let ours = || {
        object == MARKER
            || SegmentName::parse(object).is_some()
            || NoteName::parse(object).is_some()
    };
    numbered && ours()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use model::state::Digest;

    use super::*;
    use crate::keys::{SegmentKind, What};

    fn ours() -> [String; 3] {
        let own = Digest([7; 32]);
        let kind = SegmentKind::Part;
        let segment = SegmentName { seq: 1, taken_at: 0, own, parent: None, kind };
        let note = NoteName { at: 0, what: What::Hold, sha256: own };
        [MARKER.to_owned(), segment.to_string(), note.to_string()]
    }

    #[test]
    fn only_objects_in_the_making_are_left_over() {
        for name in ours() {
            assert!(is_left_over(&format!("{name}#1")) && is_left_over(&format!("{name}#27")));
            for other in ["", "#", "#x", "#1x", "#1#"] {
                assert!(!is_left_over(&format!("{name}{other}")), "{name}{other}");
            }
        }
        assert!(!is_left_over("report#1") && !is_left_over("#1") && !is_left_over(""));
    }

    #[test]
    fn what_is_old_and_ours_goes_and_nothing_else() {
        let root = tempfile::tempdir().expect("a directory");
        let [marker, segment, note] = ours();
        let (one, two) = (root.path().join("accounts/one"), root.path().join("accounts/two"));
        for directory in [&one, &two] {
            fs::create_dir_all(directory).expect("made");
        }
        let mut goes =
            [marker + "#1", format!("accounts/one/{note}#2"), format!("accounts/two/{segment}#1")]
                .map(|name| root.path().join(name));
        goes.sort();
        let stays = [one.join(segment), one.join("letter#1")];
        for path in goes.iter().chain(&stays) {
            fs::write(path, b"half").expect("written");
        }
        let written = |path: &PathBuf| path.metadata().and_then(|m| m.modified()).expect("a time");
        let first = goes.iter().map(written).min().expect("some");
        assert!(sweep(root.path(), first).expect("swept").is_empty(), "too new");
        let later = goes.iter().map(written).max().expect("some") + Duration::from_secs(1);
        assert_eq!(sweep(root.path(), later).expect("swept"), goes);
        assert!(stays.iter().all(|path| path.exists()), "what is no business of ours");
        assert!(one.exists() && !two.exists(), "an account of which nothing is left is gone");
        assert!(sweep(root.path(), later).expect("swept").is_empty());
    }

    #[test]
    fn where_nothing_is_nothing_goes() {
        let root = tempfile::tempdir().expect("a directory");
        assert!(sweep(root.path(), SystemTime::now()).expect("swept").is_empty());
        assert!(sweep(&root.path().join("none"), SystemTime::now()).expect("swept").is_empty());
    }
}
