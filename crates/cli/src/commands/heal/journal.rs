//! What was healed, a line of JSON each, noted before it is done.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use engine::audit::Custody;
use engine::heal::Origin;
use model::Userid;
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

    /// Notes that a message is about to get its bytes back.
    pub fn note(
        &mut self,
        userid: &Userid,
        wound: &Custody,
        origin: &Origin,
        from: &str,
    ) -> io::Result<()> {
        let from = match origin {
            Origin::Message(message) => format!("{message} of this spool"),
            Origin::Place => from.to_owned(),
        };
        let line = json!({
            "at": when::rfc3339(when::now()),
            "account": userid.to_string(),
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
        // In one piece, so that two of these do not mix.
        self.0.write_all(format!("{line}\n").as_bytes())?;
        self.0.sync_data()
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
    let out: String = match json {
        true => format!("{:#}\n", Value::Array(lines.collect())),
        false => lines.map(|line| line_of(&line)).collect(),
    };
    render::print("what was healed", out)?;
    Ok(Exit::Done)
}

fn line_of(entry: &Value) -> String {
    let text = |name: &str| entry[name].as_str().map(plain).unwrap_or_default();
    format!(
        "{}  {} uid {}: {} from {} ({})\n",
        text("at"),
        text("mailbox"),
        entry["uid"],
        text("guid"),
        text("from"),
        text("nature"),
    )
}
