//! Entries of systemd's journal, as `journalctl -o json` prints them: one object a line
//! (systemd: docs/JOURNAL_EXPORT_FORMATS.md).

use serde_json::{Map, Value};

use super::{Line, cut, process_name};
use crate::time::Time;

/// An entry of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// `__REALTIME_TIMESTAMP`, on the wall; `None` if it has none.
    pub time: Option<Time>,
    /// `__CURSOR`: where to go on after this one.
    pub cursor: String,
    host: String,
    process: String,
    pid: Option<u32>,
    message: Vec<u8>,
}

/// Not an entry of the journal.
#[derive(Debug, thiserror::Error)]
#[error("read an entry of the journal")]
pub struct JournalError(#[from] serde_json::Error);

impl Entry {
    /// Reads one. `utc_offset` is what the wall is ahead of UTC, in seconds.
    ///
    /// # Errors
    ///
    /// If it is not one JSON object. A field that is missing, or of another type, is empty.
    pub fn parse(json: &[u8], utc_offset: i32) -> Result<Self, JournalError> {
        let fields: Map<String, Value> = serde_json::from_slice(json)?;
        let text = |name: &str| fields.get(name).and_then(Value::as_str).unwrap_or_default();
        let micros: Option<i64> = text("__REALTIME_TIMESTAMP").parse().ok();
        let time =
            micros.map(|micros| Time(micros.div_euclid(1_000_000)).plus(i64::from(utc_offset)));
        let pid = ["SYSLOG_PID", "_PID"].iter().find_map(|name| text(name).parse().ok());
        Ok(Self {
            time,
            cursor: text("__CURSOR").to_owned(),
            host: text("_HOSTNAME").to_owned(),
            process: text("SYSLOG_IDENTIFIER").to_owned(),
            pid,
            message: message(fields.get("MESSAGE")),
        })
    }

    /// The entry as a line.
    pub fn line(&self) -> Line<'_> {
        Line {
            time: self.time,
            host: self.host.as_bytes(),
            process: process_name(self.process.as_bytes()),
            pid: self.pid,
            message: cut(&self.message),
        }
    }
}

/// A text, or a list of bytes where it is not UTF-8.
fn message(value: Option<&Value>) -> Vec<u8> {
    match value {
        Some(Value::String(text)) => text.as_bytes().to_vec(),
        Some(Value::Array(bytes)) => {
            bytes.iter().filter_map(|byte| u8::try_from(byte.as_u64()?).ok()).collect()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_a_line() {
        let json = br#"{"__CURSOR":"s=1","__REALTIME_TIMESTAMP":"1795651200123456","_PID":"17",
            "_HOSTNAME":"mail1","SYSLOG_IDENTIFIER":"cyrus/imap","MESSAGE":"hello"}"#;
        let entry = Entry::parse(json, 3600).expect("an entry");
        let line = entry.line();
        assert_eq!((line.process, line.pid), (&b"imap"[..], Some(17)));
        assert_eq!((line.time, line.message), (Some(Time(1_795_654_800)), &b"hello"[..]));
        assert_eq!(entry.cursor, "s=1");
    }

    #[test]
    fn bytes_that_are_no_text_are_a_message_too() {
        let entry = Entry::parse(br#"{"MESSAGE":[104,255,300,"x"]}"#, 0).expect("an entry");
        assert_eq!(entry.line().message, b"h\xff");
        assert_eq!(entry.time, None);
        assert!(Entry::parse(b"{", 0).is_err());
        assert!(Entry::parse(b"[]", 0).is_err());
    }
}
