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

/// Longer lines are not believed: a batch of messages is far from that.
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
        if file.metadata().map_err(failed)?.len() > 0 {
            let notes = Notes::read(path)?;
            if notes.account != args.account {
                return Err(CliError::plain(format!(
                    "{} is about {}, not {}",
                    path.display(),
                    notes.account,
                    args.account
                ))
                .hint("name another file"));
            }
            // A line that was cut off tells of nothing that was done.
            file.set_len(notes.end).map_err(failed)?;
            file.seek(SeekFrom::End(0)).map_err(failed)?;
            return Ok(Self { file });
        }
        let mut undo = Self { file };
        let head = json!({
            "cylinder_undo": VERSION,
            "account": args.account,
            "to": args.to,
            "begun_at": when::rfc3339(when::now()),
        });
        undo.write(&head).map_err(failed)?;
        sync_directory(path).map_err(failed)?;
        Ok(undo)
    }

    fn write(&mut self, line: &Value) -> io::Result<()> {
        self.file.write_all(format!("{line}\n").as_bytes())?;
        self.file.sync_data()
    }
}

impl Journal for UndoFile {
    fn note(&mut self, entry: &Entry) -> io::Result<()> {
        self.write(&entry_json(entry))
    }
}

fn sync_directory(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}

impl Notes {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self, CliError> {
        let place = path.display();
        let file = File::open(path)
            .map_err(|error| CliError::failed(format!("cannot read {place}"), error))?;
        let mut input = BufReader::new(file);
        let mut notes = Self { account: String::new(), entries: Vec::new(), end: 0 };
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            let read = (&mut input).take(LINE_BYTES).read_until(b'\n', &mut line);
            read.map_err(|error| CliError::failed(format!("cannot read {place}"), error))?;
            // What was not written to its end was not done.
            if !line.ends_with(b"\n") {
                break;
            }
            let is_understood = match serde_json::from_slice(&line) {
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
                .hint("it is written by cylinder restore --undo"));
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
        Deed::Create => line["create"] = json!(true),
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
        Deed::Create
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
    use super::*;

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
            Deed::Create,
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

    #[test]
    fn anything_else_is_no_undo_file() {
        for text in ["", "\n", "{}\n", "{\"cylinder_undo\":2,\"account\":\"glad\"}\n", "hello\n"] {
            let mut file = tempfile::NamedTempFile::new().expect("a file");
            file.write_all(text.as_bytes()).expect("written");
            assert!(Notes::read(file.path()).is_err(), "{text:?}");
        }
    }
}
