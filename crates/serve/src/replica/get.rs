//! Answers to GET.

use std::io::{self, Read, Write};

use csync::command::{Fetch, Get};
use csync::framer::FileHead;
use csync::mailbox::Records;
use csync::meta::{AnnotationOf, Quota, Seen, SieveFile};
use csync::reply::No;
use csync::untagged::{Untagged, begin_mailbox, begin_message, end_message};
use cyrus_format::mboxlist::MailboxEntry;
use cyrus_format::quota::Resource;
use cyrus_format::sieve;
use model::{Guid, MboxName, Timestamp, Userid};
use spool::replica::{Note, Replica, State, Summary};

use super::convert::{told_mailbox, told_name, told_record};
use crate::handler::{Failure, Modes};

/// How much of an answer is gathered before it is handed on.
const PIECE: usize = 1 << 16;

pub fn answer(
    replica: &Replica,
    get: Get,
    modes: Modes,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    if let Get::FullMailbox(name) = get {
        return full_mailbox(replica, &name, out);
    }
    if let Get::Fetch(fetch) = get {
        return message(replica, &fetch, out);
    }
    // The rest is small, and is gathered so that nobody waits for a slow reader.
    let mut text = Vec::new();
    gather(&replica.lock(), get, modes, &mut text)?;
    out.write_all(&text).map_err(Failure::Output)
}

fn gather(state: &State, get: Get, modes: Modes, text: &mut Vec<u8>) -> Result<(), Failure> {
    match get {
        Get::User(userid) => user(state, &userid, modes, text),
        Get::Meta(userid) => meta(state, &userid, modes, text),
        Get::Mailboxes(names) => {
            let entries = names.iter().filter_map(|name| state.mailbox(name));
            mailboxes(state, entries, text).map(drop)
        }
        Get::UniqueIds(ids) => {
            let entries = ids.iter().filter_map(|id| state.mailbox_by_id(id));
            mailboxes(state, entries, text).map(drop)
        }
        Get::Quota(root) => {
            quota(state, &root, text);
            Ok(())
        }
        Get::Annotation(name) => annotations(state, &name, text),
        Get::FetchSieve { userid, filename } => script(state, userid, filename, text),
        Get::FullMailbox(_) | Get::Fetch(_) => Ok(()),
    }
}

fn user(state: &State, userid: &Userid, modes: Modes, text: &mut Vec<u8>) -> Result<(), Failure> {
    let entries = state.mailboxes_of(userid);
    // A master that does not know of scripts in mailboxes would delete what it does not have.
    let known = |entry: &&MailboxEntry| modes.sieve_mailbox || entry.mbtype.kind != b'f';
    let entries: Vec<_> = entries.into_iter().filter(known).collect();
    let roots = mailboxes(state, entries.iter().copied(), text)?;
    roots.iter().for_each(|root| quota(state, root, text));
    match entries.iter().any(|entry| entry.mbtype.has_data()) {
        true => meta(state, userid, modes, text),
        false => Ok(()),
    }
}

/// Tells mailboxes; returns their quota roots in the order in which they came.
fn mailboxes<'a>(
    state: &State,
    entries: impl Iterator<Item = &'a MailboxEntry>,
    text: &mut Vec<u8>,
) -> Result<Vec<MboxName>, Failure> {
    let mut roots: Vec<MboxName> = Vec::new();
    for entry in entries.filter(|entry| !entry.mbtype.deleted) {
        if !entry.mbtype.has_data() {
            told_name(entry).write(text);
            continue;
        }
        let summary = state.summary(entry)?;
        let root = state.quota_root_of(&entry.name);
        let mailbox = told_mailbox(entry, &summary, root);
        Untagged::Mailbox(Box::new(mailbox)).write(text);
        roots.extend(root.filter(|root| !roots.contains(root)).cloned());
    }
    Ok(roots)
}

fn quota(state: &State, root: &MboxName, text: &mut Vec<u8>) {
    let Some(quota) = state.quota(root) else { return };
    let limits = Resource::ALL.map(|resource| quota.usage(resource).limit);
    Untagged::Quota(Quota { root: root.clone(), limits, modseq: quota.modseq }).write(text);
}

fn meta(state: &State, userid: &Userid, modes: Modes, text: &mut Vec<u8>) -> Result<(), Failure> {
    for (uniqueid, state) in state.seen(userid)? {
        Untagged::Seen(Seen { uniqueid, state }).write(text);
    }
    let subscribed = state.subscriptions(userid)?;
    if !subscribed.is_empty() {
        Untagged::Lsub(subscribed).write(text);
    }
    if modes.sieve_mailbox {
        return Ok(());
    }
    for script in state.scripts(userid)? {
        let mut file = SieveFile {
            filename: [&script.name[..], b".script"].concat(),
            last_update: script.stored,
            guid: script.guid,
            active: false,
        };
        Untagged::Sieve(file.clone()).write(text);
        if script.active {
            file.filename = [&script.name[..], b".bc"].concat();
            (file.last_update, file.guid) = (Timestamp::default(), Guid::ZERO);
            file.active = true;
            Untagged::Sieve(file).write(text);
        }
    }
    Ok(())
}

fn annotations(state: &State, name: &MboxName, text: &mut Vec<u8>) -> Result<(), Failure> {
    let of_mailbox;
    let notes: &[Note] = match name.is_empty() {
        true => state.server_notes(),
        false => {
            let entry = state.mailbox(name).filter(|entry| entry.mbtype.has_data());
            let entry = entry.ok_or_else(|| nonexistent(name))?;
            of_mailbox = state.summary(entry)?.extra.notes;
            &of_mailbox
        }
    };
    for Note { entry, userid, value, .. } in notes.iter().cloned() {
        let mboxname = name.clone();
        Untagged::Annotation(AnnotationOf { mboxname, entry, userid, value }).write(text);
    }
    Ok(())
}

fn script(
    state: &State,
    userid: Userid,
    filename: Vec<u8>,
    text: &mut Vec<u8>,
) -> Result<(), Failure> {
    let name = match sieve::SieveFile::of(&filename) {
        sieve::SieveFile::Script(name) => name,
        _ => return Err(Failure::refused(No::MailboxNonexistent, "no name of a script")),
    };
    let content = state.script(&userid, name)?;
    let content = content
        .ok_or_else(|| Failure::refused(No::MailboxNonexistent, "there is no such script"))?;
    Untagged::SieveScript { userid, filename, content }.write(text);
    Ok(())
}

fn full_mailbox(replica: &Replica, name: &MboxName, out: &mut dyn Write) -> Result<(), Failure> {
    let (mut mailbox, contents, records) = {
        let state = replica.lock();
        let entry = state.mailbox(name).filter(|entry| entry.mbtype.has_data());
        let entry = entry.ok_or_else(|| nonexistent(name))?;
        let contents = state.contents(entry)?;
        let summary = Summary { index: contents.index.clone(), extra: contents.extra.clone() };
        let records = state.records_to_tell(entry)?;
        (told_mailbox(entry, &summary, state.quota_root_of(name)), contents, records)
    };
    if let Some(told) = &mut mailbox.contents {
        told.records = Records::Listed;
    }
    let mut text = Vec::new();
    let mut writer = begin_mailbox(&mailbox, &mut text);
    for record in &records {
        // In the middle of an answer, only the end of the connection tells that it is none.
        let record = record.map_err(|error| Failure::Output(io::Error::other(error)))?;
        writer.record(&told_record(&record, &contents), &mut text);
        if text.len() > PIECE {
            out.write_all(&text).map_err(Failure::Output)?;
            text.clear();
        }
    }
    writer.finish(&mut text);
    out.write_all(&text).map_err(Failure::Output)
}

fn message(replica: &Replica, fetch: &Fetch, out: &mut dyn Write) -> Result<(), Failure> {
    let found = {
        let state = replica.lock();
        let by_id = state.mailbox_by_id(&fetch.uniqueid);
        let entry = by_id.or_else(|| state.mailbox(&fetch.mboxname));
        let entry = entry.filter(|entry| entry.mbtype.has_data());
        match entry {
            Some(entry) => state.message(entry, fetch.uid, fetch.guid)?,
            None => None,
        }
    };
    let (mut file, message) = found.ok_or_else(|| nonexistent(&fetch.mboxname))?;
    let mut text = Vec::new();
    let size = message.map(|message| u32::try_from(message.size()));
    let Some(Ok(size)) = size else {
        // Cyrus says that it has the message, but not as it should be.
        Untagged::Message.write(&mut text);
        return out.write_all(&text).map_err(Failure::Output);
    };
    let head = FileHead { partition: fetch.partition.clone(), guid: fetch.guid, size };
    begin_message(&head, &mut text);
    out.write_all(&text).map_err(Failure::Output)?;
    io::Seek::rewind(&mut file).map_err(Failure::Output)?;
    let copied = io::copy(&mut file.take(size.into()), out).map_err(Failure::Output)?;
    if copied != u64::from(size) {
        return Err(Failure::Output(io::ErrorKind::UnexpectedEof.into()));
    }
    text.clear();
    end_message(&mut text);
    out.write_all(&text).map_err(Failure::Output)
}

pub fn nonexistent(name: &MboxName) -> Failure {
    Failure::refused(No::MailboxNonexistent, format!("there is no mailbox {name}"))
}
