//! A connection as the port that replication speaks through.

use std::io::Read;

use csync::client::Event;
use csync::command::{Apply, Command, Fetch, Get};
use csync::framer::FileHead;
use csync::mailbox::Mailbox;
use csync::record::Record;
use csync::reply::No;
use csync::untagged::Untagged;
use model::MboxName;
use peer::{Session, SessionError};

use crate::ports::Peer;

impl Peer for Session {
    fn ask(&mut self, get: &Get) -> Result<Vec<Untagged>, SessionError> {
        gather(self, &Command::Get(get.clone()))
    }

    fn ask_for_records(
        &mut self,
        name: &MboxName,
        take: &mut dyn FnMut(Record),
    ) -> Result<Option<Mailbox>, SessionError> {
        let mut mailbox = None;
        let get = Command::Get(Get::FullMailbox(name.clone()));
        let told = self.command(&get, &mut |event| match event {
            Event::Record(record) => take(record),
            Event::Untagged(Untagged::Mailbox(told)) => mailbox = Some(*told),
            _ => {}
        });
        match told {
            Ok(()) => Ok(mailbox),
            Err(SessionError::Refused { no: No::MailboxNonexistent, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn fetch(&mut self, fetch: &Fetch, take: &mut dyn FnMut(&[u8])) -> Result<bool, SessionError> {
        let mut is_there = false;
        let get = Command::Get(Get::Fetch(fetch.clone()));
        let told = self.command(&get, &mut |event| match event {
            Event::File(_) => is_there = true,
            Event::FileBytes(bytes) => take(bytes),
            _ => {}
        });
        match told {
            Ok(()) => Ok(is_there),
            Err(SessionError::Refused { no: No::MailboxNonexistent, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn apply(&mut self, apply: &Apply) -> Result<Vec<Untagged>, SessionError> {
        gather(self, &Command::Apply(apply.clone()))
    }

    fn mailbox(
        &mut self,
        mailbox: &Mailbox,
        records: &mut dyn Iterator<Item = Record>,
    ) -> Result<(), SessionError> {
        match mailbox.contents {
            Some(_) => Session::mailbox(self, mailbox, records),
            // A name alone has no list of records.
            None => self.apply(&Apply::Mailbox(Box::new(mailbox.clone()))).map(drop),
        }
    }

    fn message(&mut self, head: &FileHead, bytes: &mut dyn Read) -> Result<(), SessionError> {
        self.file(head, bytes)
    }

    fn end_messages(&mut self) -> Result<(), SessionError> {
        self.end_files()
    }

    fn restart(&mut self) -> Result<(), SessionError> {
        self.command(&Command::Restart, &mut |_| {})
    }
}

fn gather(session: &mut Session, command: &Command) -> Result<Vec<Untagged>, SessionError> {
    let mut told = Vec::new();
    session.command(command, &mut |event| {
        if let Event::Untagged(untagged) = event {
            told.push(untagged);
        }
    })?;
    Ok(told)
}
