//! The files of recorded sessions: `C: ` is the master and `S: ` the replica, each text line stands for
//! one that ended in CRLF, or with `<LF>` at its end in LF; `\xNN` is an octet; `--` begins a
//! connection.

use std::fs;
use std::path::Path;

/// One connection.
#[derive(Debug, Default)]
pub struct Connection {
    /// All that the master said.
    pub master: Vec<u8>,
    /// All that the replica said.
    pub replica: Vec<u8>,
}

impl Connection {
    /// Whether it is a session of IMAP.
    pub fn is_imap(&self) -> bool {
        self.replica.starts_with(b"* OK [CAPABILITY")
    }
}

/// Every recording whose name begins like that, with its connections.
pub fn recordings(prefix: &str) -> Vec<(String, Vec<Connection>)> {
    let directory = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../csync/tests/data"));
    let mut recordings = Vec::new();
    for entry in fs::read_dir(directory).expect("the recordings") {
        let path = entry.expect("a recording").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if name.starts_with(prefix) {
            let text = fs::read_to_string(&path).expect("a recording is text");
            recordings.push((name, connections(&text)));
        }
    }
    assert!(!recordings.is_empty(), "no recordings begin with {prefix:?}");
    recordings
}

fn connections(text: &str) -> Vec<Connection> {
    let mut connections = Vec::new();
    for line in text.lines() {
        if line == "--" {
            connections.push(Connection::default());
            continue;
        }
        if connections.is_empty() {
            connections.push(Connection::default());
        }
        let Some(connection) = connections.last_mut() else { continue };
        match line.split_at_checked(3) {
            Some(("C: ", said)) => connection.master.extend(unescape(said)),
            Some(("S: ", said)) => connection.replica.extend(unescape(said)),
            _ => {}
        }
    }
    connections.retain(|connection| !connection.replica.is_empty());
    connections
}

fn unescape(line: &str) -> Vec<u8> {
    let (line, end) = match line.strip_suffix("<LF>") {
        Some(line) => (line, "\n"),
        None => (line, "\r\n"),
    };
    let mut bytes = Vec::new();
    let mut rest = line;
    while let Some(at) = rest.find("\\x") {
        let digits = rest.get(at + 2..at + 4);
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.extend_from_slice(&rest.as_bytes()[..at]);
                bytes.push(byte);
                rest = &rest[at + 4..];
            }
            None => {
                bytes.extend_from_slice(&rest.as_bytes()[..at + 2]);
                rest = &rest[at + 2..];
            }
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes.extend_from_slice(end.as_bytes());
    bytes
}
