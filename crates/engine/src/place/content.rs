//! What the bytes of messages hash to, at either kind of place.

use std::convert::Infallible;
use std::io::{self, Read};

use csync::command::Fetch;
use csync::mailbox::Mailbox;
use cyrus_format::index::RecordKey;
use model::{Guid, Uid};
use peer::SessionError;
use sha1::{Digest, Sha1};

use crate::fetch::{self, Action, Job, Outcome, Reading, Work};
use crate::ports::{MessageSource, Monitor, Peer};

/// Told of each message: its UID, its GUID, and what its bytes hash to.
pub type Take<'t> = &'t mut dyn FnMut(Uid, Guid, Result<Guid, String>);

/// Reads the messages of a mailbox whose files are at hand.
pub fn read(
    messages: &dyn MessageSource,
    mailbox: usize,
    workers: usize,
    records: impl Iterator<Item = RecordKey>,
    monitor: &dyn Monitor,
    take: Take<'_>,
) {
    let reading = Reading { source: messages, mailbox, workers, early: None };
    let records = records.filter(|record| !record.is_expunged());
    let mut hashing = Hashing { records, messages, mailbox, monitor, take };
    match fetch::fetch(&reading, &mut hashing) {
        Ok(()) => {}
        Err(never) => match never {},
    }
    messages.release(mailbox);
}

struct Hashing<'h, I> {
    records: I,
    messages: &'h dyn MessageSource,
    mailbox: usize,
    monitor: &'h dyn Monitor,
    take: Take<'h>,
}

impl<I: Iterator<Item = RecordKey>> Work for Hashing<'_, I> {
    type Error = Infallible;

    fn next(&mut self) -> Result<Option<Job>, Infallible> {
        Ok(self.records.next().map(|record| Job { record, action: Action::Read }))
    }

    fn done(&mut self, job: &Job, outcome: Outcome, _bytes: &[u8]) -> Result<(), Infallible> {
        self.monitor.advance(1, job.record.size);
        self.messages.pass(self.mailbox, job.record.uid);
        let found = match outcome {
            Outcome::Whole { guid, .. } | Outcome::Large { guid, .. } => Ok(guid),
            Outcome::Failed(error) if error.kind() == io::ErrorKind::NotFound => {
                Err("its bytes are not there".to_owned())
            }
            Outcome::Failed(error) => Err(error.to_string()),
            // Nobody skips or takes messages here.
            Outcome::Skipped | Outcome::Taken { .. } => return Ok(()),
        };
        (self.take)(job.record.uid, job.record.guid, found);
        Ok(())
    }
}

/// Has a server send the messages of a mailbox.
///
/// # Errors
/// If it does not answer. That it refuses one is told of that one.
pub fn fetch(
    peer: &mut dyn Peer,
    mailbox: &Mailbox,
    messages: &[(Uid, Guid)],
    monitor: &dyn Monitor,
    take: Take<'_>,
) -> Result<(), SessionError> {
    for (uid, guid) in messages {
        let Some(fetch) = fetch_of(mailbox, *uid, *guid) else { return Ok(()) };
        let mut hash = Sha1::new();
        let mut size = 0;
        let fetched = peer.fetch(&fetch, &mut |bytes| {
            size += bytes.len() as u64;
            hash.update(bytes);
        });
        monitor.advance(1, size);
        match fetched {
            Ok(true) => take(*uid, *guid, Ok(Guid(hash.finalize().into()))),
            Ok(false) => take(*uid, *guid, Err("its bytes are not there".to_owned())),
            Err(error) if error.session_goes_on() => take(*uid, *guid, Err(error.to_string())),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The question for a message; none where nobody knows where the mailbox lies.
pub fn fetch_of(mailbox: &Mailbox, uid: Uid, guid: Guid) -> Option<Fetch> {
    Some(Fetch {
        mboxname: mailbox.mboxname.clone(),
        partition: mailbox.contents.as_ref()?.partition.clone()?,
        uniqueid: mailbox.uniqueid.clone(),
        guid,
        uid,
    })
}

/// Hands over all that can be read; whether that was all.
pub fn pour(file: &mut dyn Read, take: &mut dyn FnMut(&[u8])) -> bool {
    let mut piece = vec![0; 64 << 10];
    loop {
        match file.read(&mut piece) {
            Ok(0) => return true,
            Ok(read) => take(&piece[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return false,
        }
    }
}
