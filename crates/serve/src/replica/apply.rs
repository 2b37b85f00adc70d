//! All of APPLY but MAILBOX.

use std::collections::BTreeSet;
use std::io::Write;

use csync::command::{Apply, Expunge, Rename, Reserve, SieveName, SieveScript};
use csync::meta::AnnotationOf;
use csync::reply::No;
use csync::untagged::Untagged;
use cyrus_format::sieve::SieveFile;
use model::crc::ThridText;
use model::{Guid, Partition, SystemFlags, Userid};
use spool::replica::{Note, Recorded, State, Update, Wanted, set_note};

use super::Session;
use super::get::nonexistent;
use crate::handler::Failure;

impl Session {
    pub(super) fn apply_other(&mut self, apply: Apply, out: &mut dyn Write) -> Result<(), Failure> {
        if let Apply::Reserve(reserve) = &apply {
            return self.reserve(reserve, out);
        }
        let mut state = self.replica.lock();
        match apply {
            Apply::UnMailbox(name) => Ok(state.remove(&name)?),
            Apply::Rename(rename) => apply_rename(&mut state, &rename),
            Apply::Expunge(expunge) => apply_expunge(&mut state, &expunge),
            Apply::Quota(quota) => Ok(state.set_quota(&quota.root, quota.limits, quota.modseq)?),
            Apply::UnQuota(root) => Ok(state.remove_quota(&root)?),
            Apply::Sub(sub) => Ok(state.subscribe(&sub.userid, &sub.mboxname, Wanted::Yes)?),
            Apply::UnSub(sub) => Ok(state.subscribe(&sub.userid, &sub.mboxname, Wanted::No)?),
            Apply::Seen { userid, seen } => {
                Ok(state.set_seen(&userid, seen.uniqueid, seen.state)?)
            }
            Apply::Annotation(note) | Apply::UnAnnotation(note) => annotate(&mut state, note),
            Apply::Sieve(script) => put_script(&state, script),
            Apply::UnSieve(name) => remove_script(&state, &name),
            Apply::ActivateSieve(name) => activate_script(&state, &name),
            Apply::UnactivateSieve(userid) => Ok(state.activate_script(&userid, None).map(drop)?),
            Apply::UnUser(userid) => remove_user(&mut state, &userid),
            // The messages have come before this, and the rest is done by `csync::server`.
            Apply::Message | Apply::Force | Apply::Capabilities(_) => Ok(()),
            Apply::Mailbox(_) | Apply::Reserve(_) => Ok(()),
        }
    }

    /// Takes messages for this run that the accounts have already, and tells which are missing.
    fn reserve(&mut self, reserve: &Reserve, out: &mut dyn Write) -> Result<(), Failure> {
        let is_staged = |guid: &Guid| self.staged.contains_key(guid);
        let wanted: BTreeSet<Guid> =
            reserve.guids.iter().filter(|guid| !is_staged(guid)).copied().collect();
        let found = self.replica.lock().find_messages(&reserve.mailboxes, &wanted)?;
        self.staged.extend(found.into_iter().map(|message| (message.guid(), message)));
        let missing = reserve.guids.iter().filter(|guid| !self.staged.contains_key(guid));
        let missing: Vec<Guid> = missing.copied().collect();
        if missing.is_empty() {
            return Ok(());
        }
        let mut text = Vec::new();
        Untagged::Missing(missing).write(&mut text);
        out.write_all(&text).map_err(Failure::Output)
    }
}

fn apply_rename(state: &mut State, rename: &Rename) -> Result<(), Failure> {
    let entry = state.mailbox(&rename.old).filter(|entry| entry.mbtype.has_data());
    let entry = entry.ok_or_else(|| nonexistent(&rename.old))?;
    let here = Partition::new(entry.partition.clone().unwrap_or_default());
    let partition = rename.partition.as_ref().unwrap_or(&here);
    let taken = state.mailbox(&rename.new).is_some_and(|other| other.mbtype.has_data());
    if rename.old != rename.new && taken || rename.old == rename.new && *partition == here {
        let why = format!("{} cannot become {}, which is there", rename.old, rename.new);
        return Err(Failure::refused(No::Unknown, why));
    }
    let partition = partition.clone();
    Ok(state.rename(&rename.old, &rename.new, &partition, rename.uidvalidity)?)
}

fn apply_expunge(state: &mut State, expunge: &Expunge) -> Result<(), Failure> {
    let entry = state.mailbox(&expunge.mboxname).filter(|entry| entry.mbtype.has_data());
    let entry = entry.ok_or_else(|| nonexistent(&expunge.mboxname))?.clone();
    if entry.uniqueid.as_ref() != Some(&expunge.uniqueid) {
        let why = format!("{} has another uniqueid", expunge.mboxname);
        return Err(Failure::refused(No::MailboxMoved, why));
    }
    let before = state.contents(&entry)?;
    let mut after = before.clone();
    let wanted: BTreeSet<_> = expunge.uids.iter().copied().collect();
    let mut found = BTreeSet::new();
    let partition = Partition::new(entry.partition.clone().unwrap_or_default());
    let records = state.records(&entry)?;
    let mut revision = state.revise(&records, &partition, &after, wanted.len())?;
    for uid in wanted {
        let Some(mut record) = revision.take(uid, &after)? else { continue };
        record.system_flags.0 |= SystemFlags::EXPUNGED.0;
        revision.put(record, &after)?;
        found.insert(uid);
    }
    let revised = revision.finish(&after)?;
    after.index = revised.index(&after, ThridText::Short);
    if !found.is_empty() {
        let (records, messages, replaces) = (revised.records, Vec::new(), None);
        let before = Some(before);
        state.store(Update { partition, before, after, records, messages, replaces })?;
    }
    // As in Cyrus, the last one decides what is answered.
    match expunge.uids.last() {
        Some(last) if !found.contains(last) => {
            let why = format!("{} has no message {last}", expunge.mboxname);
            Err(Failure::refused(No::Unknown, why))
        }
        _ => Ok(()),
    }
}

fn annotate(state: &mut State, told: AnnotationOf) -> Result<(), Failure> {
    let AnnotationOf { mboxname, entry, userid, value } = told;
    let mut note = Note { entry, userid, value, ..Note::default() };
    if mboxname.is_empty() {
        return Ok(state.set_server_note(note)?);
    }
    let mailbox = state.mailbox(&mboxname).filter(|entry| entry.mbtype.has_data());
    let mailbox = mailbox.ok_or_else(|| nonexistent(&mboxname))?.clone();
    let before = state.contents(&mailbox)?;
    let mut after = before.clone();
    note.modseq = after.index.highestmodseq;
    set_note(&mut after.extra.notes, note);
    let partition = Partition::new(mailbox.partition.unwrap_or_default());
    let (records, messages, replaces) = (Recorded::Same, Vec::new(), None);
    let before = Some(before);
    Ok(state.store(Update { partition, before, after, records, messages, replaces })?)
}

fn put_script(state: &State, script: SieveScript) -> Result<(), Failure> {
    match SieveFile::of(&script.filename) {
        SieveFile::Script(name) => Ok(state.put_script(&script.userid, name, script.content)?),
        // Cyrus passes over bytecode, which it makes itself.
        SieveFile::Bytecode(_) => Ok(()),
        _ => Err(Failure::refused(No::BadParameters, "no name of a sieve script")),
    }
}

fn remove_script(state: &State, script: &SieveName) -> Result<(), Failure> {
    match SieveFile::of(&script.filename) {
        SieveFile::Script(name) => match state.remove_script(&script.userid, name)? {
            true => Ok(()),
            false => Err(no_script()),
        },
        SieveFile::Bytecode(_) => Ok(()),
        _ => Err(Failure::refused(No::BadParameters, "no name of a sieve script")),
    }
}

fn activate_script(state: &State, script: &SieveName) -> Result<(), Failure> {
    let SieveFile::Bytecode(name) = SieveFile::of(&script.filename) else {
        return Err(Failure::refused(No::BadParameters, "no name of a sieve script's bytecode"));
    };
    match state.activate_script(&script.userid, Some(name))? {
        true => Ok(()),
        false => Err(no_script()),
    }
}

fn no_script() -> Failure {
    Failure::refused(No::Unknown, "there is no such sieve script")
}

fn remove_user(state: &mut State, userid: &Userid) -> Result<(), Failure> {
    match userid.is_empty() {
        true => Ok(()),
        false => Ok(state.remove_account(userid)?),
    }
}
