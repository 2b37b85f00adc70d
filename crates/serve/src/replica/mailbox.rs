//! APPLY MAILBOX: judged as Cyrus 3.6 judges it (`imap/sync_support.c`, sync_apply_mailbox and
//! sync_mailbox_compare_update), but done as a whole or not at all.

use std::collections::HashMap;
use std::sync::Arc;

use csync::mailbox::{Contents as Told, Mailbox, Since};
use csync::record::Record as ToldRecord;
use csync::reply::No;
use cyrus_format::header::{HeaderForm, MailboxHeader};
use cyrus_format::mboxlist::{MailboxEntry, MailboxType};
use model::crc::ThridText;
use model::{Guid, MboxName, Modseq, Partition, Record, SystemFlags, Uid, UniqueId};
use spool::replica::{
    Claim, Concern, Contents, Files, Message, NewMessage, Recorded, Records, Revised, Revision,
    State, Update, rules,
};

use super::gathered::Gathered;
use super::{Session, convert};
use crate::handler::{Failure, Modes};

/// The letters of mailbox types that 3.6 knows.
const TYPE_LETTERS: &[u8] = b"enbcaspfjdmrzil";

impl Session {
    pub(super) fn apply_mailbox(
        &mut self,
        mailbox: Mailbox,
        mut told_records: Gathered,
        modes: Modes,
    ) -> Result<(), Failure> {
        check_names(&mailbox)?;
        let Some(told) = &mailbox.contents else {
            return put_name(&mut self.replica.lock(), &mailbox);
        };
        let Some(partition) = &told.partition else {
            return Err(refuse(&mailbox, No::BadParameters, "it has no partition"));
        };
        let identity = Concern::Identity(mailbox.uniqueid.clone());
        let claim = self.replica.claim([Concern::owner_of(&mailbox.mboxname), identity]);
        let files = self.replica.files();
        let Found { entry, before, replaces } = find(&claim, files, &mailbox, modes)?;
        let records = entry.as_ref().map(|entry| files.records(entry)).transpose()?;
        let records = records.unwrap_or_else(Records::none);
        let partition = match entry.and_then(|entry| entry.partition) {
            Some(partition) => Partition::new(partition),
            None => partition.clone(),
        };
        check_counters(&mailbox, told, before.as_ref(), modes)?;
        let count = told_records.len();
        let mut plan = |changes: usize| -> Result<(Plan<'_>, Recorded), Failure> {
            let mut plan = Plan::begin(&mailbox, before.as_ref(), &self.staged)?;
            let mut revision = files.revise(&records, &partition, &plan.after, changes)?;
            plan.records(&mailbox, told_records.iter()?, &mut revision, modes)?;
            let revised = revision.finish(&plan.after)?;
            let records = plan.finish(&mailbox, told, revised)?;
            Ok((plan, records))
        };
        let is_other =
            |failure: &Failure| matches!(failure, Failure::Refused { no: No::SyncChecksum, .. });
        let planned = match plan(count) {
            // Perhaps something was wrong here before: then counting what changes is not enough.
            Err(failure) if is_other(&failure) && !records.is_empty() => plan(usize::MAX),
            planned => planned,
        };
        let (Plan { after, messages, .. }, records) = planned?;
        Ok(claim.store(Update { partition, before, after, records, messages, replaces })?)
    }
}

fn refuse(mailbox: &Mailbox, no: No, why: &str) -> Failure {
    Failure::refused(no, format!("{}: {why}", mailbox.mboxname))
}

/// Names that cannot be stored are refused before anything else is thought of them.
fn check_names(mailbox: &Mailbox) -> Result<(), Failure> {
    let names = rules();
    let placed = names.names.to_dbname(&mailbox.mboxname).map(drop);
    let placed = placed.and_then(|()| names.mailbox_dir_by_id(&mailbox.uniqueid).map(drop));
    if let Err(error) = placed {
        return Err(Failure::refused(No::BadParameters, error.to_string()));
    }
    match mailbox.mboxtype.iter().all(|letter| TYPE_LETTERS.contains(letter)) {
        true => Ok(()),
        false => Err(refuse(mailbox, No::MailboxNotSupported, "its type is not known")),
    }
}

/// A tombstone, or a level between mailboxes.
fn put_name(state: &mut State, mailbox: &Mailbox) -> Result<(), Failure> {
    let there = state.mailbox(&mailbox.mboxname).filter(|entry| entry.mbtype.has_data());
    if there.is_some_and(|entry| entry.uniqueid.as_ref() != Some(&mailbox.uniqueid)) {
        return Err(refuse(mailbox, No::MailboxMoved, "it has another uniqueid"));
    }
    let entry = MailboxEntry {
        name: mailbox.mboxname.clone(),
        uniqueid: Some(mailbox.uniqueid.clone()),
        mbtype: MailboxType::from_letters(&mailbox.mboxtype),
        createdmodseq: mailbox.createdmodseq,
        foldermodseq: Some(mailbox.foldermodseq.unwrap_or(mailbox.highestmodseq)),
        ..MailboxEntry::default()
    };
    Ok(state.put_name(entry)?)
}

/// What is there of a mailbox.
#[derive(Default)]
struct Found {
    entry: Option<MailboxEntry>,
    before: Option<Contents>,
    /// Another one of its name, which has to go for it.
    replaces: Option<UniqueId>,
}

fn find(
    claim: &Claim<'_>,
    files: &Files,
    mailbox: &Mailbox,
    modes: Modes,
) -> Result<Found, Failure> {
    let (there, same) = {
        let state = claim.state();
        let there = state.mailbox(&mailbox.mboxname).filter(|entry| entry.mbtype.has_data());
        (there.cloned(), state.mailbox_by_id(&mailbox.uniqueid).map(|entry| entry.name.clone()))
    };
    let Some(entry) = there else {
        return match same {
            Some(other) => Err(other_name(mailbox, &other)),
            None => Ok(Found::default()),
        };
    };
    if entry.uniqueid.as_ref() == Some(&mailbox.uniqueid) {
        let before = files.contents(&entry)?;
        if entry.mbtype.kind != MailboxType::from_letters(&mailbox.mboxtype).kind {
            return Err(refuse(mailbox, No::Unknown, "it has another type"));
        }
        return Ok(Found { entry: Some(entry), before: Some(before), replaces: None });
    }
    if let Some(other) = same {
        return Err(other_name(mailbox, &other));
    }
    if !modes.force && files.summary(&entry)?.index.last_uid != Uid(0) {
        return Err(refuse(mailbox, No::MailboxMoved, "it has another uniqueid"));
    }
    Ok(Found { replaces: entry.uniqueid, ..Found::default() })
}

fn other_name(mailbox: &Mailbox, other: &MboxName) -> Failure {
    refuse(mailbox, No::MailboxMoved, &format!("its uniqueid is that of {other}"))
}

/// What the master believes, and what must not go back.
fn check_counters(
    mailbox: &Mailbox,
    told: &Told,
    before: Option<&Contents>,
    modes: Modes,
) -> Result<(), Failure> {
    let empty = Contents::default();
    let have = before.unwrap_or(&empty);
    if let Some(since) = told.since.filter(|since| since.modseq != Modseq(0)) {
        let differs = |told: u32, have: u32| told != 0 && have != 0 && told != have;
        let Since { modseq, sync_crc, sync_crc_annot } = since;
        if modseq != have.index.highestmodseq
            || differs(sync_crc, have.index.sync_crc_basic)
            || differs(sync_crc_annot, have.index.sync_crc_annot)
        {
            return Err(refuse(mailbox, No::SyncChanged, "it is not as the master believes"));
        }
    }
    let Some(have) = before.filter(|_| !modes.force) else { return Ok(()) };
    let backwards = [
        ("HIGHESTMODSEQ", mailbox.highestmodseq < have.index.highestmodseq),
        ("UIDVALIDITY", told.uidvalidity < have.index.uidvalidity),
        ("LAST_UID", told.last_uid < have.index.last_uid),
        ("XCONVMODSEQ", told.xconvmodseq.is_some_and(|told| Some(told) < have.extra.xconvmodseq)),
    ];
    match backwards.iter().find(|(_, is_so)| *is_so) {
        Some((name, _)) => {
            Err(refuse(mailbox, No::SyncChecksum, &format!("its {name} would go back")))
        }
        None => Ok(()),
    }
}

/// Why a message cannot be as the master says: what he is told, and what the log is told.
type Objection = (No, &'static str);

/// A mailbox on its way from what is there to what the master says.
struct Plan<'a> {
    after: Contents,
    staged: &'a HashMap<Guid, Arc<Message>>,
    messages: Vec<NewMessage>,
    /// The highest UID before.
    last_uid: Uid,
}

impl<'a> Plan<'a> {
    fn begin(
        mailbox: &Mailbox,
        before: Option<&Contents>,
        staged: &'a HashMap<Guid, Arc<Message>>,
    ) -> Result<Self, Failure> {
        let after = match before {
            Some(before) => before.clone(),
            None => Contents::new(MailboxHeader {
                form: HeaderForm::Dlist,
                mbtype: MailboxType::from_letters(&mailbox.mboxtype).to_string().into_bytes(),
                name: Some(mailbox.mboxname.clone()),
                uniqueid: Some(mailbox.uniqueid.clone()),
                ..MailboxHeader::default()
            })
            .map_err(|error| refuse(mailbox, No::Unknown, &error.to_string()))?,
        };
        let last_uid = after.index.last_uid;
        Ok(Self { after, staged, messages: Vec::new(), last_uid })
    }

    fn records(
        &mut self,
        mailbox: &Mailbox,
        records: impl Iterator<Item = Result<ToldRecord, Failure>>,
        revision: &mut Revision<'_>,
        modes: Modes,
    ) -> Result<(), Failure> {
        let mut previous = Uid(0);
        for told in records {
            let told = told?;
            if told.uid <= previous {
                return Err(refuse(mailbox, No::ProtocolError, "its UIDs do not ascend"));
            }
            previous = told.uid;
            let judged = match revision.take(told.uid, &self.after)? {
                Some(record) => self.update(record, told, modes).map(Some),
                None => self.add(told),
            };
            let judged = judged
                .map_err(|(no, why)| refuse(mailbox, no, &format!("message {previous} {why}")))?;
            if let Some(record) = judged {
                revision.put(record, &self.after)?;
            }
        }
        Ok(())
    }

    /// A message that is there.
    fn update(
        &mut self,
        mut record: Record,
        told: ToldRecord,
        modes: Modes,
    ) -> Result<Record, Objection> {
        let Contents { header, notes, .. } = &mut self.after;
        if told.is_expunged() && record.is_expunged() {
            return Ok(record);
        }
        let may_return = modes.force && !record.is_unlinked();
        if record.is_expunged() && !told.is_expunged() && !may_return {
            return Err((No::SyncChecksum, "was expunged here"));
        }
        if told.guid != record.guid {
            return Err((No::SyncChecksum, "is another one here"));
        }
        if told.modseq < record.modseq && !modes.force {
            return Err((No::SyncChecksum, "was changed here"));
        }
        if !convert::update_record(&mut record, &told, header) {
            return Err((No::Unknown, "has a flag too many for the mailbox"));
        }
        let told_notes = convert::notes(told.annotations);
        convert::repeat_snoozed(&mut record, &told_notes);
        match told_notes.is_empty() {
            true => drop(notes.remove(&told.uid)),
            false => drop(notes.insert(told.uid, told_notes)),
        }
        Ok(record)
    }

    /// A message that is not.
    fn add(&mut self, told: ToldRecord) -> Result<Option<Record>, Objection> {
        if told.uid <= self.last_uid {
            return match told.is_expunged() {
                true => Ok(None),
                false => Err((No::SyncChecksum, "is missing here")),
            };
        }
        if told.guid.is_zero() {
            return Err((No::MailboxNotSupported, "has no GUID"));
        }
        let mut record = Record {
            uid: told.uid,
            guid: told.guid,
            size: told.size.into(),
            // What Cyrus takes if there is no better date.
            sentdate: told.internaldate,
            gmtime: told.internaldate,
            ..Record::default()
        };
        if !convert::update_record(&mut record, &told, &mut self.after.header) {
            return Err((No::Unknown, "has a flag too many for the mailbox"));
        }
        match self.staged.get(&told.guid) {
            Some(message) if message.size() == record.size => {
                record.header_size = message.header_size();
                if let Some(sent) = message.sent() {
                    (record.sentdate, record.gmtime) = (sent.day, sent.moment);
                }
                let (message, arrived) = (Arc::clone(message), record.internaldate);
                self.messages.push(NewMessage { uid: told.uid, message, arrived });
            }
            Some(_) => return Err((No::ProtocolError, "has another size than its bytes")),
            None if told.is_expunged() => record.system_flags.0 |= SystemFlags::UNLINKED.0,
            None => return Err((No::ProtocolError, "was not sent")),
        }
        let notes = convert::notes(told.annotations);
        convert::repeat_snoozed(&mut record, &notes);
        if !notes.is_empty() {
            self.after.notes.insert(told.uid, notes);
        }
        Ok(Some(record))
    }

    /// Takes over the mailbox's own state, counts, and compares.
    fn finish(
        &mut self,
        mailbox: &Mailbox,
        told: &Told,
        revised: Revised,
    ) -> Result<Recorded, Failure> {
        let Contents { header, index, extra, .. } = &mut self.after;
        header.acl = convert::acl(&told.acl);
        index.last_uid = told.last_uid;
        index.highestmodseq = mailbox.highestmodseq;
        index.recentuid = told.recentuid;
        index.recenttime = told.recenttime;
        index.last_appenddate = told.last_appenddate;
        index.pop3_last_login = told.pop3_last_login;
        index.pop3_show_after = told.pop3_show_after.unwrap_or_default();
        index.uidvalidity = told.uidvalidity;
        index.options = convert::options(&told.options, index.options);
        index.createdmodseq = mailbox.createdmodseq.unwrap_or_default();
        extra.foldermodseq = mailbox.foldermodseq.unwrap_or(mailbox.highestmodseq);
        extra.xconvmodseq = told.xconvmodseq.or(extra.xconvmodseq);
        extra.raclmodseq = told.raclmodseq.or(extra.raclmodseq);
        extra.notes = convert::notes(told.annotations.clone());
        let is_other = |told: Option<u32>, have: u32| {
            told.is_some_and(|told| told != 0 && have != 0 && told != have)
        };
        // Cyrus 3.13 writes conversation ids otherwise.
        for thrid in [ThridText::Short, ThridText::Padded] {
            let index = revised.index(&self.after, thrid);
            if is_other(told.sync_crc, index.sync_crc_basic) {
                return Err(refuse(mailbox, No::SyncChecksum, "its messages would differ"));
            }
            if !is_other(told.sync_crc_annot, index.sync_crc_annot) {
                self.after.index = index;
                return Ok(revised.records);
            }
        }
        Err(refuse(mailbox, No::SyncChecksum, "annotations of its messages would differ"))
    }
}
