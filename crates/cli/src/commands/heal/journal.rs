//! What was healed, a line of JSON each, noted before it is done.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use engine::audit::Custody;
use engine::heal::{Notes, Origin};
use model::{Uid, Userid};
use serde_json::{Value, json};

use crate::error::{CliError, Exit};
use crate::render::{self, plain};
use crate::when;

/// A file that only grows.
pub struct Journal(File);

impl Journal {
    /// Opens it, or makes it.
    pub fn open(path: &Path) -> Result<Self, CliError> {
        let failed = |error| {
            CliError::failed(format!("cannot note what is healed in {}", path.display()), error)
                .hint("--journal names another file")
        };
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        if let Some(directory) = directory {
            let made = fs::DirBuilder::new().mode(0o750).recursive(true).create(directory);
            made.map_err(failed)?;
        }
        let opened = OpenOptions::new().append(true).create(true).mode(0o640).open(path);
        let file = opened.map_err(failed)?;
        // The name has to be there when a line is.
        if let Some(directory) = directory {
            File::open(directory).and_then(|opened| opened.sync_all()).map_err(failed)?;
        }
        Ok(Self(file))
    }

    fn write(&mut self, line: &Value) -> io::Result<()> {
        // In one piece, so that two of these do not mix.
        self.0.write_all(format!("{line}\n").as_bytes())?;
        self.0.sync_data()
    }
}

/// The notes of one account.
pub struct NotesOf<'n> {
    /// Where they are kept; nowhere if nothing is done.
    pub journal: Option<&'n mut Journal>,
    /// The account.
    pub userid: &'n Userid,
    /// The other place where good bytes are.
    pub from: &'n str,
    /// The server that was healed while it ran.
    pub through: Option<&'n str>,
}

impl Notes for NotesOf<'_> {
    fn note(&mut self, wound: &Custody, origin: &Origin, to: Option<Uid>) -> io::Result<()> {
        let from = match origin {
            Origin::Message(message) => format!("{message} of this spool"),
            Origin::Place => self.from.to_owned(),
        };
        let mut line = json!({
            "at": when::rfc3339(when::now()),
            "account": self.userid.to_string(),
            "mailbox": wound.place.mailbox.to_string(),
            "uid": wound.place.uid.0,
            "file": wound.path.display().to_string(),
            "guid": wound.recorded.guid.to_string(),
            "size": wound.recorded.size,
            "nature": wound.nature.code(),
            "had_guid": wound.found.as_ref().map(|found| found.guid.to_string()),
            "had_size": wound.found.as_ref().map(|found| found.size),
            "from": from,
        });
        if let (Some(to), Some(through)) = (to, self.through) {
            line["new_uid"] = to.0.into();
            line["through"] = through.into();
        }
        self.journal.as_mut().map_or(Ok(()), |journal| journal.write(&line))
    }

    fn withdraw(&mut self, wound: &Custody, to: Uid) -> io::Result<()> {
        let line = json!({
            "at": when::rfc3339(when::now()),
            "refused": true,
            "account": self.userid.to_string(),
            "mailbox": wound.place.mailbox.to_string(),
            "uid": wound.place.uid.0,
            "new_uid": to.0,
        });
        self.journal.as_mut().map_or(Ok(()), |journal| journal.write(&line))
    }
}

/// Prints what was healed.
pub fn list(path: &Path, json: bool) -> Result<Exit, CliError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => {
            return Err(CliError::failed(format!("cannot read {}", path.display()), error));
        }
    };
    // A line that a kill has cut was never acted on.
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let lines = without_refused(lines);
    let out: String = match json {
        true => format!("{:#}\n", Value::Array(lines)),
        false => lines.iter().map(line_of).collect(),
    };
    render::print("what was healed", out)?;
    Ok(Exit::Done)
}

/// The notes of what was done: a server that runs may have refused what was noted before.
fn without_refused(lines: impl Iterator<Item = Value>) -> Vec<Value> {
    let mut kept: Vec<Value> = Vec::new();
    for line in lines {
        if line["refused"] != true {
            kept.push(line);
            continue;
        }
        let is_it = |note: &Value| {
            ["account", "mailbox", "uid", "new_uid"].iter().all(|name| note[*name] == line[*name])
        };
        if let Some(at) = kept.iter().rposition(is_it) {
            kept.remove(at);
        }
    }
    kept
}

fn line_of(entry: &Value) -> String {
    let text = |name: &str| entry[name].as_str().map(plain).unwrap_or_default();
    let to = entry["new_uid"].as_u64().map(|uid| format!(" as uid {uid}")).unwrap_or_default();
    format!(
        "{}  {} uid {}: {} from {}{to} ({})\n",
        text("at"),
        text("mailbox"),
        entry["uid"],
        text("guid"),
        text("from"),
        text("nature"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_refused_was_not_done() {
        let note =
            |uid: u32, to: u32| json!({"account": "a", "mailbox": "m", "uid": uid, "new_uid": to});
        let refused = |uid: u32, to: u32| json!({"account": "a", "mailbox": "m", "uid": uid, "new_uid": to, "refused": true});
        let lines =
            [note(1, 5), note(2, 6), refused(1, 5), refused(2, 6), note(1, 7), refused(9, 9)];
        assert_eq!(without_refused(lines.into_iter()), [note(1, 7)]);
    }
}
