//! Heal a server that runs, through its replication protocol.
//!
//! No command replaces the file of a message that has a number already: of a record that is there, APPLY
//! MAILBOX changes the record alone (`imap/sync_support.c`, sync_mailbox_compare_update, 3.6). So a good copy
//! gets the next free number, with all that is known of the damaged message, which is expunged by the same
//! command: a client sees the one come and the other go, and there is no instant with both or neither. The
//! command is bound to the state that was looked at.
//!
//! RESERVE is never said. It would have the server look for the GUID in its own files, and the damaged one
//! has that GUID.

use std::collections::{BTreeMap, BTreeSet};

use csync::framer::FileHead;
use csync::mailbox::Mailbox;
use csync::record::Record as Told;
use cyrus_format::mboxlist::MailboxType;
use model::{Guid, MboxName, Modseq, Partition, SystemFlags, Timestamp, Uid, Userid};
use peer::SessionError;
use sha1::{Digest, Sha1};
use spool::Server;
use thiserror::Error;

use super::{Left, Notes, Origin, Outcome, find};
use crate::audit::Custody;
use crate::place::{Place, fetch_of};
use crate::ports::Peer;
use crate::replicate::apply::BATCH_MESSAGES;
use crate::replicate::remote::{RECORDS_MAX, Remote, prepared};
use crate::replicate::upload::{BYTES_MAX, FILES_MAX, Staged};
use crate::restore::{ROUNDS_MAX, is_outdated};

/// A server, and how it is to be healed.
pub struct Through<'t> {
    /// Its spool, which is only read.
    pub spool: &'t Server,
    /// The server.
    pub peer: &'t mut dyn Peer,
    /// The account.
    pub userid: &'t Userid,
    /// The time.
    pub now: Timestamp,
    /// Only look.
    pub dry_run: bool,
}

/// Told what became of each damaged message.
pub type Take<'t> = &'t mut dyn FnMut(&Custody, Outcome);

/// Who no longer answers.
#[derive(Debug, Error)]
pub enum HealError {
    /// The place where good bytes are.
    #[error(transparent)]
    Place(SessionError),
    /// The server that is healed.
    #[error(transparent)]
    Server(SessionError),
}

/// Heals damaged messages of an account. All good bytes are brought to the server before anything of it is
/// changed. What is about to be done is noted first.
///
/// # Errors
/// If somebody no longer answers. Then nothing was told of some of the messages; the last note may be of
/// something that the server did not hear.
pub fn heal_through(
    through: Through<'_>,
    wounds: &[&Custody],
    other: &mut dyn Place,
    notes: &mut dyn Notes,
    take: Take<'_>,
) -> Result<(), HealError> {
    let staged = Staged::default();
    let mut run = Run { through, staged, modseq: Modseq(0), files: 0, bytes: 0, notes, take };
    let mut mailboxes: BTreeMap<&MboxName, Vec<&Custody>> = BTreeMap::new();
    for wound in wounds {
        mailboxes.entry(&wound.place.mailbox).or_default().push(wound);
    }
    let mut ready = Vec::new();
    for (name, wounds) in mailboxes {
        ready.push((name, run.gather(name, wounds, other)?));
    }
    for (name, mut wounds) in ready {
        wounds.sort_by_key(|ready| ready.wound.place.uid);
        while !wounds.is_empty() {
            let rest = wounds.split_off(wounds.len().min(BATCH_MESSAGES));
            run.replace(name, wounds)?;
            wounds = rest;
        }
    }
    match run.staged.is_empty() {
        true => Ok(()),
        // What no mailbox refers to is forgotten.
        false => run.through.peer.restart().map_err(HealError::Server),
    }
}

struct Run<'r, 't> {
    through: Through<'t>,
    staged: Staged,
    /// The highest of the account.
    modseq: Modseq,
    /// What was sent since the server has answered.
    files: usize,
    bytes: u64,
    notes: &'r mut dyn Notes,
    take: Take<'r>,
}

/// A damaged message whose bytes the server has been given.
struct Ready<'w> {
    wound: &'w Custody,
    origin: Origin,
}

/// A mailbox as the server tells it, and its records of damaged messages.
struct Seen {
    told: Mailbox,
    records: BTreeMap<Uid, Told>,
}

/// A damaged message, and the number that its good copy gets.
struct Step<'w> {
    ready: Ready<'w>,
    record: Told,
    to: Uid,
}

impl Run<'_, '_> {
    /// Asks for a mailbox, and for records of it.
    fn look(
        &mut self,
        name: &MboxName,
        uids: &BTreeSet<Uid>,
    ) -> Result<Result<Seen, Left>, HealError> {
        let Through { peer, userid, .. } = &mut self.through;
        let remote = match userid.is_shared() {
            true => Remote::default().with_names(&BTreeSet::from([name.clone()]), *peer),
            false => Remote::of_user(userid, *peer),
        };
        self.modseq = self.modseq.max(remote.map_err(HealError::Server)?.highest());
        let mut records = BTreeMap::new();
        let told = peer.ask_for_records(name, RECORDS_MAX, &mut |record| {
            if uids.contains(&record.uid) {
                records.insert(record.uid, record);
            }
        });
        let Some(told) = told.map_err(HealError::Server)? else { return Ok(Err(Left::NotThere)) };
        let is_mail = MailboxType::from_letters(&told.mboxtype).kind == MailboxType::default().kind;
        if told.contents.is_none() || !is_mail {
            return Ok(Err(Left::NotMail));
        }
        self.modseq = self.modseq.max(told.highestmodseq);
        Ok(Ok(Seen { told, records }))
    }

    /// Looks for the bytes of the damaged messages of a mailbox, and gives them to the server.
    fn gather<'w>(
        &mut self,
        name: &MboxName,
        wounds: Vec<&'w Custody>,
        other: &mut dyn Place,
    ) -> Result<Vec<Ready<'w>>, HealError> {
        let uids = wounds.iter().map(|wound| wound.place.uid).collect();
        let seen = match self.look(name, &uids)? {
            Ok(seen) => seen,
            Err(why) => {
                wounds.iter().for_each(|wound| (self.take)(wound, Outcome::Left(why.clone())));
                return Ok(Vec::new());
            }
        };
        let mut open = Vec::new();
        for wound in wounds {
            match judge(&seen, wound) {
                // Its own server cannot have it. Whoever has the same records, a replica, can.
                Ok(record) if self.has_whole(&seen.told, record)? => {
                    (self.take)(wound, Outcome::Left(Left::OtherServer));
                }
                Ok(record) => open.push((wound, record)),
                Err(outcome) => (self.take)(wound, outcome),
            }
        }
        // From here on, nothing is asked before all of it is sent.
        let partition = partition_of(&seen.told);
        let mut ready = Vec::new();
        for (wound, record) in open {
            let found = find(self.through.spool, wound, Some(&mut *other));
            let Some((gathered, origin)) = found.map_err(HealError::Place)? else {
                (self.take)(wound, Outcome::NoCopy);
                continue;
            };
            if !self.through.dry_run && !self.staged.has(&partition, &record.guid) {
                match gathered.into_reader() {
                    Ok(mut bytes) => self.send(&partition, record, &mut *bytes)?,
                    Err(error) => {
                        (self.take)(wound, Outcome::Failed(origin, error));
                        continue;
                    }
                }
            }
            ready.push(Ready { wound, origin });
        }
        self.end_messages()?;
        Ok(ready)
    }

    /// Whether the server itself reads the bytes of this record in its file.
    fn has_whole(&mut self, told: &Mailbox, record: &Told) -> Result<bool, HealError> {
        let Some(fetch) = fetch_of(told, record.uid, record.guid) else { return Ok(false) };
        let mut hash = Sha1::new();
        match self.through.peer.fetch(&fetch, &mut |bytes| hash.update(bytes)) {
            Ok(has_come) => Ok(has_come && Guid(hash.finalize().into()) == record.guid),
            Err(error) if error.session_goes_on() => Ok(false),
            Err(error) => Err(HealError::Server(error)),
        }
    }

    fn send(
        &mut self,
        partition: &Partition,
        record: &Told,
        bytes: &mut dyn std::io::Read,
    ) -> Result<(), HealError> {
        let (guid, size) = (record.guid, record.size);
        let head = FileHead { partition: partition.clone(), guid, size };
        self.through.peer.message(&head, bytes).map_err(HealError::Server)?;
        self.staged.insert(partition, guid);
        (self.files, self.bytes) = (self.files + 1, self.bytes + u64::from(size));
        match self.files >= FILES_MAX || self.bytes >= BYTES_MAX {
            true => self.end_messages(),
            false => Ok(()),
        }
    }

    fn end_messages(&mut self) -> Result<(), HealError> {
        (self.files, self.bytes) = (0, 0);
        self.through.peer.end_messages().map_err(HealError::Server)
    }

    /// Has the good copies added, and the damaged messages expunged, as soon as the mailbox stays the same
    /// for long enough.
    fn replace(&mut self, name: &MboxName, mut wounds: Vec<Ready<'_>>) -> Result<(), HealError> {
        let mut why = Left::Busy;
        for _ in 0..=ROUNDS_MAX {
            if wounds.is_empty() {
                return Ok(());
            }
            let uids = wounds.iter().map(|ready| ready.wound.place.uid).collect();
            let seen = match self.look(name, &uids)? {
                Ok(seen) => seen,
                Err(left) => {
                    why = left;
                    break;
                }
            };
            let steps = match self.steps(&seen, wounds) {
                Ok(steps) => steps,
                Err(rest) => {
                    (why, wounds) = (Left::NoUids, rest);
                    break;
                }
            };
            if self.through.dry_run {
                return self.done(steps);
            }
            let steps = self.noted(steps);
            if steps.is_empty() {
                return Ok(());
            }
            let Err(error) = self.say(&seen.told, &steps) else { return self.done(steps) };
            if !error.session_goes_on() {
                return Err(HealError::Server(error));
            }
            for Step { ready, to, .. } in &steps {
                // At worst, something is listed that was not done.
                let _ = self.notes.withdraw(ready.wound, *to);
            }
            wounds = steps.into_iter().map(|step| step.ready).collect();
            if !is_outdated(&error) {
                why = Left::Refused(error.to_string());
                break;
            }
        }
        for ready in wounds {
            (self.take)(ready.wound, Outcome::Left(why.clone()));
        }
        Ok(())
    }

    /// The numbers that good copies get; those that need none any more are told of. An error gives back all
    /// if there are not enough numbers.
    fn steps<'w>(
        &mut self,
        seen: &Seen,
        wounds: Vec<Ready<'w>>,
    ) -> Result<Vec<Step<'w>>, Vec<Ready<'w>>> {
        let last = seen.told.contents.as_ref().map(|contents| contents.last_uid.0).unwrap_or(0);
        if (u32::MAX - last) as usize <= wounds.len() {
            return Err(wounds);
        }
        let mut steps = Vec::new();
        for ready in wounds {
            match judge(seen, ready.wound) {
                Ok(record) => {
                    let to = Uid(last + 1 + steps.len() as u32);
                    steps.push(Step { record: record.clone(), ready, to });
                }
                Err(outcome) => (self.take)(ready.wound, outcome),
            }
        }
        Ok(steps)
    }

    /// Notes what is about to be done; what cannot be noted is not done.
    fn noted<'w>(&mut self, steps: Vec<Step<'w>>) -> Vec<Step<'w>> {
        let mut noted = Vec::new();
        for step in steps {
            let Step { ready: Ready { wound, origin }, to, .. } = &step;
            match self.notes.note(wound, origin, Some(*to)) {
                Ok(()) => noted.push(step),
                Err(error) => (self.take)(wound, Outcome::Failed(origin.clone(), error)),
            }
        }
        noted
    }

    fn done(&mut self, steps: Vec<Step<'_>>) -> Result<(), HealError> {
        for Step { ready: Ready { wound, origin }, to, .. } in steps {
            (self.take)(wound, Outcome::Replaced(origin, to));
        }
        Ok(())
    }

    fn say(&mut self, told: &Mailbox, steps: &[Step<'_>]) -> Result<(), SessionError> {
        self.modseq = Modseq(self.modseq.0 + 1);
        let (modseq, now) = (self.modseq, self.through.now);
        let mut told = prepared(told);
        told.highestmodseq = modseq;
        if let (Some(contents), Some(last)) = (&mut told.contents, steps.last()) {
            contents.last_uid = last.to;
            contents.last_appenddate = now;
        }
        let changed = |record: &Told| Told { modseq, last_updated: now, ..record.clone() };
        let gone = steps.iter().map(|step| {
            let mut record = changed(&step.record);
            record.system_flags.0 |= SystemFlags::EXPUNGED.0 | SystemFlags::DELETED.0;
            record
        });
        let back = steps.iter().map(|step| {
            let mut record = Told { uid: step.to, ..changed(&step.record) };
            record.set_createdmodseq(modseq);
            record
        });
        self.through.peer.mailbox(&told, &mut gone.chain(back))
    }
}

/// The server's record of a damaged message; or what is to be said if it needs no copy, or can have none.
fn judge<'s>(seen: &'s Seen, wound: &Custody) -> Result<&'s Told, Outcome> {
    let Some(record) = seen.records.get(&wound.place.uid) else { return Err(Outcome::Expunged) };
    let is_it = record.guid == wound.recorded.guid && u64::from(record.size) == wound.recorded.size;
    match (record.is_expunged(), is_it) {
        (true, _) => Err(Outcome::Expunged),
        (false, true) => Ok(record),
        (false, false) => Err(Outcome::Left(Left::OtherServer)),
    }
}

fn partition_of(told: &Mailbox) -> Partition {
    let contents = told.contents.as_ref();
    contents.and_then(|contents| contents.partition.clone()).unwrap_or_default()
}
