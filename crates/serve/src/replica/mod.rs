//! A session's access to a replica: what masters say becomes changes of a spool, and what it holds
//! becomes answers.
//!
//! A command is judged by values alone before anything is changed, so that NO means that nothing
//! has. Where Cyrus 3.6 dies of a command or forgets half of it, it is refused here.

mod apply;
mod convert;
mod gathered;
mod get;
mod mailbox;

use std::collections::HashMap;
use std::io::Write;
use std::sync::Arc;

use csync::command::{Apply, Command, Get};
use csync::framer::FileHead;
use csync::record::Record;
use csync::reply::No;
use model::Guid;
use spool::replica::{Arriving, Message, Replica, ReplicaError};

use crate::handler::{Failure, Handler, Modes};
use gathered::Gathered;

/// One session. Its messages are gone with it, unless a mailbox refers to them.
#[derive(Debug)]
pub struct Session {
    replica: Arc<Replica>,
    /// What was sent or reserved in this run, by GUID.
    staged: HashMap<Guid, Arc<Message>>,
    arriving: Option<Arriving>,
    /// Why a file or a record of the command that is being read could not be taken.
    fault: Option<Failure>,
    /// The records of the command that is being read.
    records: Gathered,
}

impl Session {
    /// A session that begins.
    pub fn new(replica: Arc<Replica>) -> Self {
        let (staged, records) = (HashMap::new(), Gathered::default());
        Self { replica, staged, arriving: None, fault: None, records }
    }

    /// Keeps the first thing that goes wrong with the files or records of a command.
    fn note(&mut self, failure: Failure) {
        self.arriving = None;
        self.fault.get_or_insert(failure);
    }

    /// Writes down what is only in memory, now that the master pauses. If that fails, it is tried
    /// again with the next change, and nothing is lost: all of it can be found out anew.
    fn settle(&self) -> Result<(), ReplicaError> {
        self.replica.settle()
    }
}

impl Handler for Session {
    fn file(&mut self, head: FileHead) {
        if self.fault.is_some() {
            return;
        }
        let arriving = self.replica.files().arriving(&head.partition, head.guid);
        match arriving {
            Ok(arriving) => self.arriving = Some(arriving),
            Err(error) => self.note(failure(error)),
        }
    }

    fn file_bytes(&mut self, bytes: &[u8]) {
        if let Some(Err(error)) = self.arriving.as_mut().map(|arriving| arriving.write(bytes)) {
            self.note(failure(error));
        }
    }

    fn file_end(&mut self) {
        match self.arriving.take().map(Arriving::finish) {
            Some(Ok(message)) => {
                self.staged.insert(message.guid(), Arc::new(message));
            }
            Some(Err(error)) => self.note(failure(error)),
            None => {}
        }
    }

    fn records(&mut self, _command: Option<Box<Command>>) {
        self.records = Gathered::default();
    }

    fn record(&mut self, record: Record) {
        if self.fault.is_none()
            && let Err(failure) = self.records.push(record, &self.replica)
        {
            self.note(failure);
        }
    }

    fn abandon(&mut self) {
        self.records = Gathered::default();
        self.arriving = None;
        self.fault = None;
    }

    fn get(&mut self, get: Get, modes: Modes, out: &mut dyn Write) -> Result<(), Failure> {
        get::answer(&self.replica, get, modes, out)
    }

    fn apply(&mut self, apply: Apply, modes: Modes, out: &mut dyn Write) -> Result<(), Failure> {
        let fault = self.fault.take();
        let records = std::mem::take(&mut self.records);
        match (fault, apply) {
            (Some(fault), _) => Err(fault),
            (None, Apply::Mailbox(mailbox)) => self.apply_mailbox(*mailbox, records, modes),
            (None, apply) => self.apply_other(apply, out),
        }
    }

    fn restart(&mut self) {
        self.abandon();
        self.staged.clear();
        let _ = self.settle();
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.settle();
    }
}

/// What the master is told of an error.
fn failure(error: ReplicaError) -> Failure {
    let no = match &error {
        ReplicaError::NoSuchMailbox(_) => No::MailboxNonexistent,
        ReplicaError::Name(_) | ReplicaError::Partition(_) => No::BadParameters,
        ReplicaError::Locked { .. } => No::MailboxLocked,
        ReplicaError::OtherBytes { .. } => No::ProtocolError,
        _ => No::Unknown,
    };
    Failure::refused(no, error.explained())
}

impl From<ReplicaError> for Failure {
    fn from(error: ReplicaError) -> Self {
        failure(error)
    }
}
