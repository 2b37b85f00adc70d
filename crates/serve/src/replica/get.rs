//! Answers to GET.

use std::collections::BTreeSet;
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
use model::{Guid, MboxName, Timestamp, UniqueId, Userid};
use spool::replica::{Claim, Concern, Note, Replica, State, Summary};

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
    Gathering { replica, claim: claim(replica, &get), text: &mut text }.gather(get, modes)?;
    out.write_all(&text).map_err(Failure::Output)
}

/// Claims what is asked for.
fn claim<'r>(replica: &'r Replica, get: &Get) -> Claim<'r> {
    let account = |userid: &Userid| Concern::Account(Some(userid.clone()));
    match get {
        Get::User(userid) | Get::Meta(userid) | Get::FetchSieve { userid, .. } => {
            replica.claim([account(userid)])
        }
        Get::Mailboxes(names) => replica.claim(names.iter().map(Concern::owner_of)),
        Get::Annotation(name) => replica.claim([Concern::owner_of(name)]),
        Get::UniqueIds(ids) => claim_by_id(replica, ids),
        Get::Quota(_) | Get::FullMailbox(_) | Get::Fetch(_) => replica.claim([]),
    }
}

/// Whose the mailboxes are may change until they are claimed.
fn claim_by_id<'r>(replica: &'r Replica, ids: &[UniqueId]) -> Claim<'r> {
    let owners = |claim: &Claim<'_>| -> BTreeSet<Concern> {
        let state = claim.state();
        let found = ids.iter().filter_map(|id| state.mailbox_by_id(id));
        found.map(|entry| Concern::owner_of(&entry.name)).collect()
    };
    let mut claim = replica.claim([]);
    let mut claimed = BTreeSet::new();
    loop {
        let wanted = owners(&claim);
        if wanted.is_subset(&claimed) {
            return claim;
        }
        drop(claim);
        claim = replica.claim(wanted.iter().cloned());
        claimed = wanted;
    }
}

/// A mailbox and the quota root that it counts for.
type Told = (MailboxEntry, Option<MboxName>);

/// An answer in the making.
struct Gathering<'a> {
    replica: &'a Replica,
    claim: Claim<'a>,
    text: &'a mut Vec<u8>,
}

impl Gathering<'_> {
    fn gather(&mut self, get: Get, modes: Modes) -> Result<(), Failure> {
        match get {
            Get::User(userid) => self.user(&userid, modes),
            Get::Meta(userid) => self.meta(&userid, modes),
            Get::Mailboxes(names) => {
                let there = self
                    .told(|state| names.iter().filter_map(|name| state.mailbox(name)).collect());
                self.mailboxes(&there)
            }
            Get::UniqueIds(ids) => {
                let there = self
                    .told(|state| ids.iter().filter_map(|id| state.mailbox_by_id(id)).collect());
                self.mailboxes(&there)
            }
            Get::Quota(root) => {
                self.quota(&root);
                Ok(())
            }
            Get::Annotation(name) => self.annotations(&name),
            Get::FetchSieve { userid, filename } => self.script(userid, filename),
            Get::FullMailbox(_) | Get::Fetch(_) => Ok(()),
        }
    }

    /// Copies some of the list, so that nobody waits for it meanwhile.
    fn told(&self, choose: impl FnOnce(&State) -> Vec<&MailboxEntry>) -> Vec<Told> {
        let state = self.claim.state();
        let told =
            |entry: &MailboxEntry| (entry.clone(), state.quota_root_of(&entry.name).cloned());
        choose(&state).into_iter().map(told).collect()
    }

    fn user(&mut self, userid: &Userid, modes: Modes) -> Result<(), Failure> {
        // A master that does not know of scripts in mailboxes would delete what it does not have.
        let known = |entry: &&MailboxEntry| modes.sieve_mailbox || entry.mbtype.kind != b'f';
        let there =
            self.told(|state| state.mailboxes_of(userid).into_iter().filter(known).collect());
        self.mailboxes(&there)?;
        let mut roots: Vec<&MboxName> = Vec::new();
        for (entry, root) in &there {
            let root =
                root.as_ref().filter(|root| entry.mbtype.has_data() && !roots.contains(root));
            roots.extend(root);
        }
        roots.into_iter().for_each(|root| self.quota(root));
        match there.iter().any(|(entry, _)| entry.mbtype.has_data()) {
            true => self.meta(userid, modes),
            false => Ok(()),
        }
    }

    /// Tells mailboxes.
    fn mailboxes(&mut self, told: &[Told]) -> Result<(), Failure> {
        for (entry, root) in told.iter().filter(|(entry, _)| !entry.mbtype.deleted) {
            if !entry.mbtype.has_data() {
                told_name(entry).write(self.text);
                continue;
            }
            let summary = self.replica.files().summary(entry)?;
            let mailbox = told_mailbox(entry, &summary, root.as_ref());
            Untagged::Mailbox(Box::new(mailbox)).write(self.text);
        }
        Ok(())
    }

    fn quota(&mut self, root: &MboxName) {
        let state = self.claim.state();
        let Some(quota) = state.quota(root) else { return };
        let limits = Resource::ALL.map(|resource| quota.usage(resource).limit);
        let quota = Quota { root: root.clone(), limits, modseq: quota.modseq };
        Untagged::Quota(quota).write(self.text);
    }

    fn meta(&mut self, userid: &Userid, modes: Modes) -> Result<(), Failure> {
        let home = self.claim.state().home(userid);
        for (uniqueid, state) in home.seen()? {
            Untagged::Seen(Seen { uniqueid, state }).write(self.text);
        }
        let subscribed = home.subscriptions()?;
        if !subscribed.is_empty() {
            Untagged::Lsub(subscribed).write(self.text);
        }
        if modes.sieve_mailbox {
            return Ok(());
        }
        for script in home.scripts()? {
            let mut file = SieveFile {
                filename: [&script.name[..], b".script"].concat(),
                last_update: script.stored,
                guid: script.guid,
                active: false,
            };
            Untagged::Sieve(file.clone()).write(self.text);
            if script.active {
                file.filename = [&script.name[..], b".bc"].concat();
                (file.last_update, file.guid) = (Timestamp::default(), Guid::ZERO);
                file.active = true;
                Untagged::Sieve(file).write(self.text);
            }
        }
        Ok(())
    }

    fn annotations(&mut self, name: &MboxName) -> Result<(), Failure> {
        let notes: Vec<Note> = if name.is_empty() {
            self.claim.state().server_notes().to_vec()
        } else {
            let there = self.told(|state| state.mailbox(name).into_iter().collect());
            let there = there.first().filter(|(entry, _)| entry.mbtype.has_data());
            let (entry, _) = there.ok_or_else(|| nonexistent(name))?;
            self.replica.files().summary(entry)?.extra.notes
        };
        for Note { entry, userid, value, .. } in notes {
            let mboxname = name.clone();
            let note = AnnotationOf { mboxname, entry, userid, value };
            Untagged::Annotation(note).write(self.text);
        }
        Ok(())
    }

    fn script(&mut self, userid: Userid, filename: Vec<u8>) -> Result<(), Failure> {
        let name = match sieve::SieveFile::of(&filename) {
            sieve::SieveFile::Script(name) => name,
            _ => return Err(Failure::refused(No::MailboxNonexistent, "no name of a script")),
        };
        let content = self.claim.state().home(&userid).script(name)?;
        let content = content
            .ok_or_else(|| Failure::refused(No::MailboxNonexistent, "there is no such script"))?;
        Untagged::SieveScript { userid, filename, content }.write(self.text);
        Ok(())
    }
}

fn full_mailbox(replica: &Replica, name: &MboxName, out: &mut dyn Write) -> Result<(), Failure> {
    let (mut mailbox, contents, records) = {
        let claim = replica.claim([Concern::owner_of(name)]);
        let (entry, root) = {
            let state = claim.state();
            let entry = state.mailbox(name).filter(|entry| entry.mbtype.has_data());
            let entry = entry.ok_or_else(|| nonexistent(name))?;
            (entry.clone(), state.quota_root_of(name).cloned())
        };
        let contents = replica.files().contents(&entry)?;
        let summary = Summary { index: contents.index.clone(), extra: contents.extra.clone() };
        let records = replica.files().records_to_tell(&entry)?;
        (told_mailbox(&entry, &summary, root.as_ref()), contents, records)
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
    // A message never changes, so that its account need not be claimed.
    let entry = {
        let claim = replica.claim([]);
        let state = claim.state();
        let by_id = state.mailbox_by_id(&fetch.uniqueid);
        let entry = by_id.or_else(|| state.mailbox(&fetch.mboxname));
        entry.filter(|entry| entry.mbtype.has_data()).cloned()
    };
    let found = match entry {
        Some(entry) => replica.files().message(&entry, fetch.uid, fetch.guid)?,
        None => None,
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
