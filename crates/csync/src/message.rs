//! Message files on their way out.

use crate::framer::FileHead;
use crate::wire::Writer;
use cyrus_format::dlist::{Literals, write_string};

/// Writes the files of APPLY MESSAGE. Cyrus puts up to 1024 into one command.
#[derive(Debug)]
#[must_use = "the command is not complete before it is finished"]
pub struct FileWriter {
    begun: bool,
}

impl FileWriter {
    pub(crate) fn begin(out: &mut Vec<u8>) -> Self {
        out.push(b'(');
        Self { begun: false }
    }

    /// Appends what announces the next file. Its bytes, exactly as many as it says, are to follow.
    pub fn file(&mut self, head: &FileHead, out: &mut Vec<u8>) {
        if self.begun {
            out.push(b' ');
        }
        self.begun = true;
        write_head(head, out);
    }

    /// Appends what ends the command.
    pub fn finish(self, out: &mut Vec<u8>) {
        out.extend_from_slice(b")\r\n");
    }
}

/// What announces a file.
pub(crate) fn write_head(head: &FileHead, out: &mut Vec<u8>) {
    out.extend_from_slice(b"%{");
    write_string(head.partition.as_bytes(), Literals::Plus, out);
    out.push(b' ');
    let mut w = Writer::new(out, Literals::Plus);
    w.guid(head.guid);
    w.num(head.size.into());
    out.extend_from_slice(b"}\r\n");
}
