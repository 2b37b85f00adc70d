//! All of APPLY but MAILBOX.

use std::collections::BTreeSet;
use std::io::Write;

use csync::command::{Apply, Expunge, Rename, Reserve, SieveName, SieveScript};
use csync::meta::AnnotationOf;
use csync::reply::No;
use csync::untagged::Untagged;
use cyrus_format::mboxlist::MailboxEntry;
use cyrus_format::sieve::SieveFile;
use model::crc::ThridText;
use model::{Guid, MboxName, Partition, SystemFlags, Userid};
use spool::replica::{
    Claim, Concern, Home, Note, Recorded, Replica, State, Update, Wanted, set_note,
};

use super::Session;
use super::get::nonexistent;
use crate::handler::Failure;

impl Session {
    pub(super) fn apply_other(&mut self, apply: Apply, out: &mut dyn Write) -> Result<(), Failure> {
        let replica = &self.replica;
        let home = |userid: &Userid| {
            let claim = replica.claim([Concern::Account(Some(userid.clone()))]);
            let home = claim.state().home(userid);
            (home, claim)
        };
        match apply {
            Apply::Reserve(reserve) => self.reserve(&reserve, out),
            Apply::Expunge(expunge) => apply_expunge(replica, &expunge),
            Apply::Annotation(note) | Apply::UnAnnotation(note) => annotate(replica, note),
            Apply::Sub(sub) => Ok(home(&sub.userid).0.subscribe(&sub.mboxname, Wanted::Yes)?),
            Apply::UnSub(sub) => Ok(home(&sub.userid).0.subscribe(&sub.mboxname, Wanted::No)?),
            Apply::Seen { userid, seen } => {
                Ok(home(&userid).0.set_seen(seen.uniqueid, seen.state)?)
            }
            Apply::Sieve(script) => put_script(&home(&script.userid).0, script),
            Apply::UnSieve(name) => remove_script(&home(&name.userid).0, &name),
            Apply::ActivateSieve(name) => activate_script(&home(&name.userid).0, &name),
            Apply::UnactivateSieve(userid) => {
                Ok(home(&userid).0.activate_script(None).map(drop)?)
            }
            // What follows is about more than one account, or about the list itself.
            Apply::UnMailbox(name) => Ok(replica.lock().remove(&name)?),
            Apply::Rename(rename) => apply_rename(&mut replica.lock(), &rename),
            Apply::Quota(quota) => {
                Ok(replica.lock().set_quota(&quota.root, quota.limits, quota.modseq)?)
            }
            Apply::UnQuota(root) => Ok(replica.lock().remove_quota(&root)?),
            Apply::UnUser(userid) => remove_user(&mut replica.lock(), &userid),
            // The messages have come before this, and the rest is done by `csync::server`.
            Apply::Message | Apply::Force | Apply::Capabilities(_) => Ok(()),
            Apply::Mailbox(_) => Ok(()),
        }
    }

    /// Takes messages for this run that the accounts have already, and tells which are missing.
    fn reserve(&mut self, reserve: &Reserve, out: &mut dyn Write) -> Result<(), Failure> {
        let is_staged = |guid: &Guid| self.staged.contains_key(guid);
        let wanted: BTreeSet<Guid> =
            reserve.guids.iter().filter(|guid| !is_staged(guid)).copied().collect();
        let claim = self.replica.claim(reserve.mailboxes.iter().map(Concern::owner_of));
        let near = claim.state().mailboxes_near(&reserve.mailboxes);
        let found = self.replica.files().find_messages(&near, &wanted)?;
        drop(claim);
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

fn apply_expunge(replica: &Replica, expunge: &Expunge) -> Result<(), Failure> {
    let claim = claim_mailbox(replica, &expunge.mboxname);
    let entry = existing(&claim, &expunge.mboxname)?;
    if entry.uniqueid.as_ref() != Some(&expunge.uniqueid) {
        let why = format!("{} has another uniqueid", expunge.mboxname);
        return Err(Failure::refused(No::MailboxMoved, why));
    }
    let files = replica.files();
    let before = files.contents(&entry)?;
    let mut after = before.clone();
    let wanted: BTreeSet<_> = expunge.uids.iter().copied().collect();
    let mut found = BTreeSet::new();
    let partition = Partition::new(entry.partition.clone().unwrap_or_default());
    let records = files.records(&entry)?;
    let mut revision = files.revise(&records, &partition, &after, wanted.len())?;
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
        claim.store(Update { partition, before, after, records, messages, replaces })?;
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

fn annotate(replica: &Replica, told: AnnotationOf) -> Result<(), Failure> {
    let AnnotationOf { mboxname, entry, userid, value } = told;
    let mut note = Note { entry, userid, value, ..Note::default() };
    if mboxname.is_empty() {
        return Ok(replica.lock().set_server_note(note)?);
    }
    let claim = claim_mailbox(replica, &mboxname);
    let mailbox = existing(&claim, &mboxname)?;
    let before = replica.files().contents(&mailbox)?;
    let mut after = before.clone();
    note.modseq = after.index.highestmodseq;
    set_note(&mut after.extra.notes, note);
    let partition = Partition::new(mailbox.partition.unwrap_or_default());
    let (records, messages, replaces) = (Recorded::Same, Vec::new(), None);
    let before = Some(before);
    Ok(claim.store(Update { partition, before, after, records, messages, replaces })?)
}

fn claim_mailbox<'r>(replica: &'r Replica, name: &MboxName) -> Claim<'r> {
    replica.claim([Concern::owner_of(name)])
}

/// A mailbox that has to be there.
fn existing(claim: &Claim<'_>, name: &MboxName) -> Result<MailboxEntry, Failure> {
    let state = claim.state();
    let entry = state.mailbox(name).filter(|entry| entry.mbtype.has_data());
    entry.cloned().ok_or_else(|| nonexistent(name))
}

fn put_script(home: &Home, script: SieveScript) -> Result<(), Failure> {
    match SieveFile::of(&script.filename) {
        SieveFile::Script(name) => Ok(home.put_script(name, script.content)?),
        // Cyrus passes over bytecode, which it makes itself.
        SieveFile::Bytecode(_) => Ok(()),
        _ => Err(Failure::refused(No::BadParameters, "no name of a sieve script")),
    }
}

fn remove_script(home: &Home, script: &SieveName) -> Result<(), Failure> {
    match SieveFile::of(&script.filename) {
        SieveFile::Script(name) => match home.remove_script(name)? {
            true => Ok(()),
            false => Err(no_script()),
        },
        SieveFile::Bytecode(_) => Ok(()),
        _ => Err(Failure::refused(No::BadParameters, "no name of a sieve script")),
    }
}

fn activate_script(home: &Home, script: &SieveName) -> Result<(), Failure> {
    let SieveFile::Bytecode(name) = SieveFile::of(&script.filename) else {
        return Err(Failure::refused(No::BadParameters, "no name of a sieve script's bytecode"));
    };
    match home.activate_script(Some(name))? {
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
