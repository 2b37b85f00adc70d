//! Export as mbox: one file a folder, in the `mboxrd` form.
//!
//! Lines end in LF, and a line that looks like a separator (`From `, also behind any number of
//! `>`) gets one more `>`, so that quoting can be undone. Flags become the `Status`, `X-Status`
//! and `X-Keywords` fields that mail programs keep in such files.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::PathBuf;

use model::{Guid, Record, SystemFlags};
use segment::names;

use super::{Body, Exporter, FolderInfo, Tree};

/// Writes one account.
pub(super) struct Mbox<'a> {
    tree: &'a mut dyn Tree,
    file: PathBuf,
    flag_names: Vec<Option<Vec<u8>>>,
    files: BTreeSet<PathBuf>,
}

impl<'a> Mbox<'a> {
    pub fn new(tree: &'a mut dyn Tree) -> Self {
        Self { tree, file: PathBuf::new(), flag_names: Vec::new(), files: BTreeSet::new() }
    }
}

impl Exporter for Mbox<'_> {
    fn marks_expunged(&self) -> bool {
        false
    }

    fn begin(&mut self, folder: &FolderInfo<'_>) -> io::Result<()> {
        self.file = PathBuf::from(format!("{}.mbox", names::escape(&folder.relative_name())));
        if !self.files.insert(self.file.clone()) {
            return Err(io::Error::other("two folders have the same file name"));
        }
        self.flag_names = folder.flag_names.to_vec();
        self.tree.file(&self.file, folder.taken_at, b"")
    }

    fn message(&mut self, record: &Record, _guid: Guid, body: Body<'_>) -> io::Result<()> {
        let mut bytes = Vec::new();
        body.read_to_end(&mut bytes)?;
        let mut text = Vec::with_capacity(bytes.len() + 200);
        let date = asctime(record.internaldate.secs);
        text.extend_from_slice(format!("From MAILER-DAEMON {date}\n").as_bytes());
        quote(&bytes, &flag_fields(record, &self.flag_names), &mut text);
        self.tree.append(&self.file, &text)
    }

    fn end(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Copies a message line by line; `fields` are put where its header ends.
fn quote(message: &[u8], fields: &[u8], out: &mut Vec<u8>) {
    let mut in_header = true;
    for line in message.split_inclusive(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if in_header && line.is_empty() {
            out.extend_from_slice(fields);
            in_header = false;
        }
        let unquoted = line.iter().position(|byte| *byte != b'>').unwrap_or(line.len());
        if line[unquoted..].starts_with(b"From ") {
            out.push(b'>');
        }
        out.extend_from_slice(line);
        out.push(b'\n');
    }
    if in_header {
        out.extend_from_slice(fields);
    }
    out.push(b'\n');
}

fn flag_fields(record: &Record, names: &[Option<Vec<u8>>]) -> Vec<u8> {
    let letters = |table: &[(char, SystemFlags)]| -> String {
        let set = table.iter().filter(|(_, flag)| record.system_flags.contains(*flag));
        set.map(|(letter, _)| *letter).collect()
    };
    let mut fields = Vec::new();
    // O: the message is old, that is, some program has seen it arrive.
    let status = letters(&[('R', SystemFlags::SEEN)]);
    fields.extend_from_slice(format!("Status: {status}O\n").as_bytes());
    let status = letters(&[
        ('A', SystemFlags::ANSWERED),
        ('F', SystemFlags::FLAGGED),
        ('T', SystemFlags::DRAFT),
        ('D', SystemFlags::DELETED),
    ]);
    if !status.is_empty() {
        fields.extend_from_slice(format!("X-Status: {status}\n").as_bytes());
    }
    let set = record.user_flags.iter().filter_map(|n| names.get(n)?.as_deref());
    let keywords: Vec<&[u8]> = set.collect();
    if !keywords.is_empty() {
        let _ = writeln!(fields, "X-Keywords: {}", String::from_utf8_lossy(&keywords.join(&b' ')));
    }
    fields
}

/// The date of a separator line, in UTC: `Thu Jan  1 00:00:00 1970`.
fn asctime(seconds: i64) -> String {
    // A date that no calendar has is somebody's damage, and not worth failing for.
    let moment = jiff::Timestamp::from_second(seconds).unwrap_or_default();
    moment.strftime("%a %b %e %H:%M:%S %Y").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separator_dates_are_those_of_ctime() {
        assert_eq!(asctime(0), "Thu Jan  1 00:00:00 1970");
        assert_eq!(asctime(951_827_696), "Tue Feb 29 12:34:56 2000");
        assert_eq!(asctime(1_795_444_935), "Mon Nov 23 14:42:15 2026");
        assert_eq!(asctime(i64::MAX), "Thu Jan  1 00:00:00 1970");
    }

    #[test]
    fn lines_that_look_like_separators_are_quoted_and_fields_end_the_header() {
        let mut out = Vec::new();
        quote(b"Subject: x\r\n\r\nFrom me\r\n>From you\r\nfrom\r\n", b"Status: O\n", &mut out);
        assert_eq!(
            String::from_utf8_lossy(&out),
            "Subject: x\nStatus: O\n\n>From me\n>>From you\nfrom\n\n"
        );
    }
}
