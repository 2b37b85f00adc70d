//! Servers that give trouble: one that goes away, and one that never rests.

use std::io::Read;

use csync::command::{Apply, Fetch, Get};
use csync::framer::FileHead;
use csync::mailbox::Mailbox as Told;
use csync::record::Record;
use csync::untagged::Untagged;
use engine::ports::Peer;
use model::MboxName;
use peer::SessionError;

use super::replica::MemoryReplica;
use super::restore::deliver;

/// A server that is gone after so many commands; the last one may be done, unheard of.
pub struct Mortal<'s> {
    pub server: &'s mut MemoryReplica,
    pub left: usize,
    pub is_done: bool,
}

impl Mortal<'_> {
    fn say<T>(
        &mut self,
        command: impl FnOnce(&mut MemoryReplica) -> Result<T, SessionError>,
    ) -> Result<T, SessionError> {
        let gone = || SessionError::Ended("a command".to_owned());
        let Some(left) = self.left.checked_sub(1) else { return Err(gone()) };
        self.left = left;
        if left == 0 && !self.is_done {
            return Err(gone());
        }
        let answer = command(self.server);
        if left == 0 { Err(gone()) } else { answer }
    }
}

impl Peer for Mortal<'_> {
    fn ask(&mut self, get: &Get) -> Result<Vec<Untagged>, SessionError> {
        self.server.ask(get)
    }

    fn ask_for_records(
        &mut self,
        name: &MboxName,
        take: &mut dyn FnMut(Record),
    ) -> Result<Option<Told>, SessionError> {
        self.server.ask_for_records(name, take)
    }

    fn fetch(&mut self, fetch: &Fetch, take: &mut dyn FnMut(&[u8])) -> Result<bool, SessionError> {
        self.server.fetch(fetch, take)
    }

    fn apply(&mut self, apply: &Apply) -> Result<Vec<Untagged>, SessionError> {
        self.say(|server| server.apply(apply))
    }

    fn mailbox(
        &mut self,
        mailbox: &Told,
        records: &mut dyn Iterator<Item = Record>,
    ) -> Result<(), SessionError> {
        self.say(|server| server.mailbox(mailbox, records))
    }

    fn message(&mut self, head: &FileHead, bytes: &mut dyn Read) -> Result<(), SessionError> {
        self.server.message(head, bytes)
    }

    fn end_messages(&mut self) -> Result<(), SessionError> {
        self.server.end_messages()
    }

    fn restart(&mut self) -> Result<(), SessionError> {
        self.server.restart()
    }
}

/// A server to which a message is delivered whenever something is about to be restored.
pub struct Busy {
    pub server: MemoryReplica,
    pub left: u8,
    /// Also to this mailbox, once, when it is asked for by its name.
    pub asked: Option<MboxName>,
}

impl Peer for Busy {
    fn ask(&mut self, get: &Get) -> Result<Vec<Untagged>, SessionError> {
        if let Get::Mailboxes(names) = get
            && let Some(name) = self.asked.take_if(|name| names.contains(name))
        {
            deliver(&mut self.server, &name.to_string(), b"just now");
        }
        self.server.ask(get)
    }

    fn ask_for_records(
        &mut self,
        name: &MboxName,
        take: &mut dyn FnMut(Record),
    ) -> Result<Option<Told>, SessionError> {
        self.server.ask_for_records(name, take)
    }

    fn fetch(&mut self, fetch: &Fetch, take: &mut dyn FnMut(&[u8])) -> Result<bool, SessionError> {
        self.server.fetch(fetch, take)
    }

    fn apply(&mut self, apply: &Apply) -> Result<Vec<Untagged>, SessionError> {
        self.server.apply(apply)
    }

    fn mailbox(
        &mut self,
        mailbox: &Told,
        records: &mut dyn Iterator<Item = Record>,
    ) -> Result<(), SessionError> {
        if let Some(left) = self.left.checked_sub(1) {
            self.left = left;
            deliver(&mut self.server, &mailbox.mboxname.to_string(), &[b'n', left]);
        }
        self.server.mailbox(mailbox, records)
    }

    fn message(&mut self, head: &FileHead, bytes: &mut dyn Read) -> Result<(), SessionError> {
        self.server.message(head, bytes)
    }

    fn end_messages(&mut self) -> Result<(), SessionError> {
        self.server.end_messages()
    }

    fn restart(&mut self) -> Result<(), SessionError> {
        self.server.restart()
    }
}
