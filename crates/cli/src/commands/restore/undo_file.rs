//! The file that says how a restore is taken back: lines of JSON, each durable before what it tells of is
//! done. `docs/restore.md` has the format.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use engine::restore::journal::{Deed, Entry, Flagged, Flags, Journal};
use model::{Guid, MboxName, Modseq, Uid, UniqueId};
use segment::names::{quote, unquote};
use serde_json::{Value, json};

use crate::args::RestoreArgs;
use crate::error::CliError;
use crate::when;

/// The version of the format.
const VERSION: u64 = 1;

/// Longer lines are neither written nor believed: a batch of messages is far from that.
const LINE_BYTES: u64 = 64 << 20;

/// An undo file that is being written.
pub struct UndoFile {
    file: File,
}

/// What an undo file tells.
pub struct Notes {
    /// Whose mail was restored.
    pub account: String,
    /// What was about to be done.
    pub entries: Vec<Entry>,
    /// Where the last whole line ends.
    end: u64,
}

impl UndoFile {
    /// Begins one, or continues one of the same account.
    pub fn open(path: &Path, args: &RestoreArgs) -> Result<Self, CliError> {
        let failed = |error: io::Error| {
            CliError::failed(format!("cannot write {}", path.display()), error)
                .hint("without it, nothing is restored that could not be taken back")
        };
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(path).map_err(failed)?;
        let end = match is_begun(&file, &args.account).map_err(failed)? {
            true => 0,
            false => continued(path, &args.account)?,
        };
        // A line that was cut off tells of nothing that was done.
        file.set_len(end).map_err(failed)?;
        file.seek(SeekFrom::End(0)).map_err(failed)?;
        let mut undo = Self { file };
        if end == 0 {
            let (to, begun_at) = (json!(args.to), json!(when::rfc3339(when::now())));
            let head = head_start(&args.account);
            undo.write(&format!("{head}\"to\":{to},\"begun_at\":{begun_at}}}")).map_err(failed)?;
        }
        // Whoever began it may have been killed before this.
        sync_directory(path).map_err(failed)?;
        Ok(undo)
    }

    fn write(&mut self, line: &str) -> io::Result<()> {
        let line = [line, "\n"].concat();
        if line.len() as u64 > LINE_BYTES {
            let why =
                format!("its note would have {} bytes, and a line has {LINE_BYTES}", line.len());
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
        }
        self.file.write_all(line.as_bytes())?;
        self.file.sync_data()
    }
}

/// What the first line begins with.
fn head_start(account: &str) -> String {
    format!("{{\"cylinder_undo\":{VERSION},\"account\":{},", json!(account))
}

/// Whether nothing was written yet, or only a part of the first line.
fn is_begun(file: &File, account: &str) -> io::Result<bool> {
    /// The rest of that line is an address and a time.
    const HEAD_BYTES: u64 = 4096;
    let len = file.metadata()?.len();
    let head = head_start(account);
    if len > head.len() as u64 + HEAD_BYTES {
        return Ok(false);
    }
    let mut begun = Vec::new();
    let mut input = file;
    input.read_to_end(&mut begun)?;
    let common = begun.len().min(head.len());
    Ok(!begun.contains(&b'\n') && begun[..common] == head.as_bytes()[..common])
}

/// Where the whole lines of a file of this account end.
fn continued(path: &Path, account: &str) -> Result<u64, CliError> {
    let notes = Notes::read(path)?;
    if notes.account == account {
        return Ok(notes.end);
    }
    let (place, other) = (path.display(), &notes.account);
    Err(CliError::plain(format!("{place} is about {other}, not {account}"))
        .hint("name another file"))
}

impl Journal for UndoFile {
    fn note(&mut self, entry: &Entry) -> io::Result<()> {
        self.write(&entry_json(entry).to_string())
    }
}

fn sync_directory(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}

impl Notes {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self, CliError> {
        Self::read_lines(path, LINE_BYTES)
    }

    /// The same with lines of so many bytes at most.
    fn read_lines(path: &Path, line_bytes: u64) -> Result<Self, CliError> {
        let place = path.display();
        let file = File::open(path)
            .map_err(|error| CliError::failed(format!("cannot read {place}"), error))?;
        let mut input = BufReader::new(file);
        let mut notes = Self { account: String::new(), entries: Vec::new(), end: 0 };
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            let read = (&mut input).take(line_bytes).read_until(b'\n', &mut line);
            read.map_err(|error| CliError::failed(format!("cannot read {place}"), error))?;
            let is_whole = line.ends_with(b"\n");
            // What was not written to its end was not done. That of a longer line may have been.
            if !is_whole && (line.len() as u64) < line_bytes {
                break;
            }
            let is_understood = match serde_json::from_slice(&line) {
                _ if !is_whole => None,
                Ok(head) if number == 1 => head_of(&head).map(|account| notes.account = account),
                Ok(entry) => entry_of(&entry).map(|entry| notes.entries.push(entry)),
                Err(_) => None,
            };
            is_understood.ok_or_else(|| {
                CliError::plain(format!("{place} is no undo file: line {number} is not understood"))
                    .hint("it is written by cylinder restore --undo, perhaps of a later version")
            })?;
            notes.end += line.len() as u64;
        }
        if notes.end == 0 {
            return Err(CliError::plain(format!("{place} is no undo file: it has no first line"))
                .hint(
                    "it is written by cylinder restore --undo; without that line, nothing was done",
                ));
        }
        Ok(notes)
    }
}

fn head_of(head: &Value) -> Option<String> {
    (head["cylinder_undo"].as_u64()? == VERSION).then(|| head["account"].as_str())?.map(Into::into)
}

fn entry_json(entry: &Entry) -> Value {
    let mut line = json!({
        "mailbox": quote(entry.mailbox.as_bytes()),
        "uniqueid": quote(entry.uniqueid.as_bytes()),
    });
    match &entry.deed {
        Deed::Create { modseq } => {
            line["create"] = json!(true);
            if let Some(modseq) = modseq {
                line["modseq"] = json!(modseq.0);
            }
        }
        Deed::Subscribe => line["subscribe"] = json!(true),
        Deed::Add { modseq, messages } => {
            let pair = |(uid, guid): &(Uid, Guid)| json!([uid.0, guid.to_string()]);
            line["modseq"] = json!(modseq.0);
            line["add"] = messages.iter().map(pair).collect();
        }
        Deed::Flag(messages) => line["flag"] = messages.iter().map(flagged_json).collect(),
    }
    line
}

fn flagged_json(message: &Flagged) -> Value {
    let names =
        |flags: &Flags| -> Vec<String> { flags.names().iter().map(|name| quote(name)).collect() };
    json!({
        "uid": message.uid.0,
        "guid": message.guid.to_string(),
        "before": names(&message.before),
        "after": names(&message.after),
    })
}

fn entry_of(line: &Value) -> Option<Entry> {
    let bytes = |key: &str| unquote(line[key].as_str()?);
    let deed = if line["create"] == true {
        let modseq = match &line["modseq"] {
            Value::Null => None,
            number => Some(Modseq(number.as_u64()?)),
        };
        Deed::Create { modseq }
    } else if line["subscribe"] == true {
        Deed::Subscribe
    } else if let Some(pairs) = line["add"].as_array() {
        let pair = |pair: &Value| Some((uid_of(&pair[0])?, guid_of(&pair[1])?));
        let messages = pairs.iter().map(pair).collect::<Option<_>>()?;
        Deed::Add { modseq: Modseq(line["modseq"].as_u64()?), messages }
    } else {
        Deed::Flag(line["flag"].as_array()?.iter().map(flagged_of).collect::<Option<_>>()?)
    };
    let (mailbox, uniqueid) = (bytes("mailbox")?, bytes("uniqueid")?);
    Some(Entry { mailbox: MboxName::new(mailbox), uniqueid: UniqueId::new(uniqueid), deed })
}

fn flagged_of(message: &Value) -> Option<Flagged> {
    let flags = |key: &str| -> Option<Flags> {
        let names = message[key].as_array()?.iter();
        let names: Option<Vec<Vec<u8>>> = names.map(|name| unquote(name.as_str()?)).collect();
        Some(Flags::from_names(names?))
    };
    Some(Flagged {
        uid: uid_of(&message["uid"])?,
        guid: guid_of(&message["guid"])?,
        before: flags("before")?,
        after: flags("after")?,
    })
}

fn uid_of(value: &Value) -> Option<Uid> {
    Some(Uid(u32::try_from(value.as_u64()?).ok()?))
}

fn guid_of(value: &Value) -> Option<Guid> {
    Guid::from_hex(value.as_str()?.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use clap::Parser;

    use super::*;
    use crate::args::Cli;

    fn entries() -> Vec<Entry> {
        let flags = |names: &[&str]| {
            Flags::from_names(names.iter().map(|name| name.as_bytes().to_vec()).collect())
        };
        let flagged = Flagged {
            uid: Uid(7),
            guid: Guid([9; 20]),
            before: flags(&["\\Seen", "\\Answered"]),
            after: flags(&["\\Flagged", "$Work", "100%"]),
        };
        let messages = vec![(Uid(1), Guid([1; 20])), (Uid(u32::MAX), Guid([2; 20]))];
        let deeds = [
            Deed::Create { modseq: Some(Modseq(9)) },
            Deed::Create { modseq: None },
            Deed::Add { modseq: Modseq(u64::MAX), messages },
            Deed::Flag(vec![flagged]),
            Deed::Subscribe,
        ];
        let entry = |deed| Entry {
            mailbox: MboxName::new(b"user.gl\xe4d.%".as_slice()),
            uniqueid: UniqueId::from("a1"),
            deed,
        };
        deeds.into_iter().map(entry).collect()
    }

    #[test]
    fn what_is_noted_is_read_back() {
        for entry in entries() {
            let line = entry_json(&entry).to_string();
            let read: Value = serde_json::from_str(&line).expect("JSON");
            assert_eq!(entry_of(&read), Some(entry), "{line}");
        }
    }

    /// A file of all entries, cut off behind so many bytes.
    fn cut(len: Option<usize>) -> (tempfile::NamedTempFile, usize) {
        let head = json!({ "cylinder_undo": VERSION, "account": "glad" });
        let noted = entries();
        let lines = [head].into_iter().chain(noted.iter().map(entry_json));
        let text: String = lines.map(|line| format!("{line}\n")).collect();
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        let len = len.unwrap_or(text.len());
        file.write_all(&text.as_bytes()[..len]).expect("written");
        (file, text.len())
    }

    #[test]
    fn of_a_file_that_breaks_off_all_whole_lines_count() {
        let (_, len) = cut(None);
        let mut before = 0;
        for end in 0..=len {
            let (file, _) = cut(Some(end));
            let Ok(notes) = Notes::read(file.path()) else {
                assert_eq!(before, 0, "{end}");
                continue;
            };
            assert!(notes.entries.len() >= before && notes.end <= end as u64);
            assert_eq!(notes.entries, entries()[..notes.entries.len()]);
            before = notes.entries.len();
        }
        assert_eq!(before, entries().len());
    }

    /// What is not read would not be undone, and be written over.
    #[test]
    fn a_line_that_is_too_long_is_no_end() {
        let (file, len) = cut(None);
        let longest = fs::read_to_string(file.path()).expect("readable");
        let longest = longest.lines().map(str::len).max().expect("lines") as u64 + 1;
        let read = |limit| Notes::read_lines(file.path(), limit);
        let all = read(longest).unwrap_or_else(|error| panic!("{error:?}"));
        assert_eq!((all.entries, all.end), (entries(), len as u64));
        for limit in [longest - 1, longest / 2, 10] {
            assert!(read(limit).is_err(), "{limit}");
        }
        let line = "x".repeat(LINE_BYTES as usize);
        let mut undo = UndoFile { file: tempfile::tempfile().expect("a file") };
        let error = undo.write(&line).expect_err("nobody would read it");
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(undo.file.metadata().expect("a file").len(), 0);
    }

    fn arguments(account: &str) -> RestoreArgs {
        let command = ["cylinder", "restore", account, "--vault", "v", "--to", "csync://h"];
        match Cli::try_parse_from(command).expect("a command").command {
            crate::args::Command::Restore(args) => args,
            other => panic!("{other:?}"),
        }
    }

    /// Killed while it writes the first line, it has done nothing yet, and the next run begins.
    #[test]
    fn a_first_line_that_breaks_off_is_written_anew() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("undo");
        let glad = arguments("gl\"ad");
        drop(UndoFile::open(&path, &glad).unwrap_or_else(|error| panic!("{error:?}")));
        let whole = fs::read(&path).expect("written");
        for end in 0..whole.len() {
            fs::write(&path, &whole[..end]).expect("cut");
            drop(UndoFile::open(&path, &glad).unwrap_or_else(|error| panic!("{end}: {error:?}")));
            let notes = Notes::read(&path).unwrap_or_else(|error| panic!("{end}: {error:?}"));
            assert_eq!((notes.account.as_str(), notes.entries), ("gl\"ad", vec![]));
        }
        // Whose it is not stays as it is.
        let others: [&[u8]; 4] =
            [b"{\"cylinder_undo\":1,\"account\":\"iris\",", b"x", b"{\"a\": 1}", b"\n"];
        for other in others {
            fs::write(&path, other).expect("written");
            assert!(UndoFile::open(&path, &glad).is_err(), "{other:?}");
            assert_eq!(fs::read(&path).expect("readable"), other);
        }
        assert!(UndoFile::open(&path, &arguments("iris")).is_err());
    }

    #[test]
    fn anything_else_is_no_undo_file() {
        for text in ["", "\n", "{}\n", "{\"cylinder_undo\":2,\"account\":\"glad\"}\n", "hello\n"] {
            let mut file = tempfile::NamedTempFile::new().expect("a file");
            file.write_all(text.as_bytes()).expect("written");
            assert!(Notes::read(file.path()).is_err(), "{text:?}");
        }
    }
}
