//! A replica that keeps what it is sent in memory, and says what it is asked for.

use std::io::Write;
use std::sync::{Arc, Mutex};

use csync::command::{Apply, Command, Get};
use csync::framer::FileHead;
use csync::record::Record;
use csync::reply::No;
use csync::untagged::{begin_message, end_message};
use serve::{Failure, Handler, Modes};

/// What all sessions did.
#[derive(Debug, Default)]
pub struct Memory {
    /// Files of commands that were carried out.
    pub messages: Vec<Vec<u8>>,
    /// How many records the mailboxes had that were carried out, by name.
    pub mailboxes: Vec<(String, usize)>,
    /// Sessions that were begun, and those that are over.
    pub begun: usize,
    pub over: usize,
    /// Files that were begun, whether their commands ended or not.
    pub files: usize,
}

/// One session.
#[derive(Debug)]
pub struct Session {
    memory: Arc<Mutex<Memory>>,
    files: Vec<Vec<u8>>,
    records: usize,
}

impl Session {
    pub fn begin(memory: &Arc<Mutex<Memory>>) -> Self {
        memory.lock().expect("no panic").begun += 1;
        Self { memory: memory.clone(), files: Vec::new(), records: 0 }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Ok(mut memory) = self.memory.lock() {
            memory.over += 1;
        }
    }
}

impl Handler for Session {
    fn file(&mut self, _head: FileHead) {
        self.memory.lock().expect("no panic").files += 1;
        self.files.push(Vec::new());
    }

    fn file_bytes(&mut self, bytes: &[u8]) {
        if let Some(file) = self.files.last_mut() {
            file.extend_from_slice(bytes);
        }
    }

    fn file_end(&mut self) {}

    fn records(&mut self, _command: Option<Box<Command>>) {
        self.records = 0;
    }

    fn record(&mut self, _record: Record) {
        self.records += 1;
    }

    fn abandon(&mut self) {
        self.files.clear();
        self.records = 0;
    }

    /// A message has as many bytes as its UID says; META of `panic` is a bug, that of others refused.
    fn get(&mut self, get: Get, _modes: Modes, out: &mut dyn Write) -> Result<(), Failure> {
        match get {
            Get::Fetch(fetch) => {
                let head =
                    FileHead { partition: fetch.partition, guid: fetch.guid, size: fetch.uid.0 };
                let mut frame = Vec::new();
                begin_message(&head, &mut frame);
                out.write_all(&frame).map_err(Failure::Output)?;
                let line: Vec<u8> = (0..1021_u32).map(|n| (n % 251) as u8).collect();
                let mut left = head.size as usize;
                while left > 0 {
                    let count = left.min(line.len());
                    out.write_all(&line[..count]).map_err(Failure::Output)?;
                    left -= count;
                }
                frame.clear();
                end_message(&mut frame);
                out.write_all(&frame).map_err(Failure::Output)
            }
            Get::Meta(user) if user.as_bytes() == b"panic" => panic!("a bug, as the test wants it"),
            Get::Meta(_) => Err(Failure::refused(No::InvalidUser, "there is nobody here")),
            _ => Ok(()),
        }
    }

    fn apply(&mut self, apply: Apply, _modes: Modes, _out: &mut dyn Write) -> Result<(), Failure> {
        let mut memory = self.memory.lock().expect("no panic");
        match apply {
            Apply::Message => memory.messages.append(&mut self.files),
            Apply::Mailbox(mailbox) => {
                memory.mailboxes.push((mailbox.mboxname.to_string(), self.records));
            }
            _ => {}
        }
        Ok(())
    }

    fn restart(&mut self) {
        self.abandon();
    }
}
