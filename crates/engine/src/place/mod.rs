//! An account at some place, in the words of the protocol, whatever the place is: a spool, a server, a
//! vault, an archive. What is compared, and where good bytes come from.

mod content;

use std::collections::{BTreeMap, BTreeSet};

use csync::mailbox::Mailbox;
use csync::meta::{Quota, Seen};
use csync::record::Record;
use cyrus_format::index::RecordKey;
use model::state::MailboxKey;
use model::{Guid, MboxName, Uid, UniqueId, Userid};
use peer::SessionError;

use crate::ports::{MessageSource, Monitor, Peer};
use crate::replicate::local::Local;
use crate::replicate::remote::{RECORDS_MAX, Remote};
use crate::replicate::{Problem, Trouble};
pub(crate) use content::fetch_of;

/// What a place tells of an account, but for its records.
#[derive(Clone, Debug, Default)]
pub struct Sight {
    /// Its mailboxes.
    pub mailboxes: BTreeMap<MailboxKey, Mailbox>,
    /// Those of them that cannot be relied on, and whatever else cannot.
    pub troubles: Vec<Problem>,
    /// Mailboxes of which no more can be said than that they are there.
    pub unusable: BTreeSet<MailboxKey>,
    /// What it is subscribed to.
    pub subscriptions: Option<BTreeSet<MboxName>>,
    /// What it has read in mailboxes that keep no such state themselves.
    pub seen: BTreeMap<UniqueId, Seen>,
    /// Its quota roots.
    pub quotas: Option<BTreeMap<MboxName, Quota>>,
    /// Its sieve scripts, unless they are messages of a mailbox (3.6+).
    pub scripts: Option<BTreeMap<Vec<u8>, Guid>>,
    /// Whether annotations of mailboxes are told.
    pub tells_annotations: bool,
}

impl Sight {
    /// Whether there is no such account.
    pub fn is_absent(&self) -> bool {
        self.mailboxes.is_empty() && self.unusable.is_empty()
    }
}

/// An account at some place.
pub trait Place {
    /// What it is, but for its records.
    fn sight(&self) -> &Sight;

    /// Looks for what the other place has and this one did not tell of: it may have it all the same.
    ///
    /// # Errors
    /// If the place does not answer.
    fn look_for(&mut self, other: &Sight) -> Result<(), SessionError> {
        let _ = other;
        Ok(())
    }

    /// The records of a mailbox, in the order of their UIDs. The inner error is the mailbox's.
    ///
    /// # Errors
    /// If the place does not answer.
    fn records(
        &mut self,
        key: &MailboxKey,
        take: &mut dyn FnMut(Record),
    ) -> Result<Result<(), Trouble>, SessionError>;

    /// Reads the messages of a mailbox that clients see, in any order, and tells what the bytes of
    /// each hash to; nothing, and why, where they cannot be read.
    ///
    /// # Errors
    /// If the place does not answer.
    fn content(
        &mut self,
        key: &MailboxKey,
        monitor: &dyn Monitor,
        take: &mut dyn FnMut(Uid, Guid, Result<Guid, String>),
    ) -> Result<(), SessionError>;

    /// The bytes of the message of this GUID, wherever in the account it is; whether there is one. Nobody
    /// has compared them with the GUID yet, and what was taken of a copy that fails is no good.
    ///
    /// # Errors
    /// If the place does not answer.
    fn bytes_of(&mut self, guid: &Guid, take: &mut dyn FnMut(&[u8])) -> Result<bool, SessionError>;
}

/// No such account.
#[derive(Debug, Default)]
pub struct Absent(Sight);

impl Place for Absent {
    fn sight(&self) -> &Sight {
        &self.0
    }

    fn records(
        &mut self,
        _key: &MailboxKey,
        _take: &mut dyn FnMut(Record),
    ) -> Result<Result<(), Trouble>, SessionError> {
        Ok(Err(Trouble::NotHere))
    }

    fn content(
        &mut self,
        _key: &MailboxKey,
        _monitor: &dyn Monitor,
        _take: &mut dyn FnMut(Uid, Guid, Result<Guid, String>),
    ) -> Result<(), SessionError> {
        Ok(())
    }

    fn bytes_of(
        &mut self,
        _guid: &Guid,
        _take: &mut dyn FnMut(&[u8]),
    ) -> Result<bool, SessionError> {
        Ok(false)
    }
}

/// An account whose files are at hand: of a spool, a vault or an archive.
pub struct Kept<'a> {
    local: Local<'a>,
    messages: Option<&'a dyn MessageSource>,
    workers: usize,
    sight: Sight,
    /// Which mailbox has which message, once somebody has asked.
    known: Option<BTreeMap<Guid, (usize, RecordKey)>>,
}

impl<'a> Kept<'a> {
    /// This account, whose messages so many threads read, if they are to be read at all.
    pub fn new(local: Local<'a>, messages: Option<&'a dyn MessageSource>, workers: usize) -> Self {
        let unusable = local.mailboxes.iter().filter(|(_, mailbox)| !mailbox.is_usable);
        let scripts = local.scripts.as_ref().filter(|_| !local.unknown.scripts);
        let scripts = scripts.map(|scripts| {
            let texts = scripts.texts.iter();
            texts.map(|(name, (guid, _))| (name.clone(), *guid)).collect()
        });
        let sight = Sight {
            unusable: unusable.map(|(key, _)| key.clone()).collect(),
            mailboxes: local
                .mailboxes
                .iter()
                .map(|(key, mailbox)| (key.clone(), mailbox.told.clone()))
                .collect(),
            troubles: local.problems.clone(),
            subscriptions: local.subscriptions.clone(),
            seen: local.seen.clone(),
            quotas: Some(local.quotas.clone()).filter(|_| !local.unknown.quotas),
            scripts,
            tells_annotations: !local.unknown.annotations,
        };
        Self { local, messages, workers, sight, known: None }
    }
}

impl Place for Kept<'_> {
    fn sight(&self) -> &Sight {
        &self.sight
    }

    fn records(
        &mut self,
        key: &MailboxKey,
        take: &mut dyn FnMut(Record),
    ) -> Result<Result<(), Trouble>, SessionError> {
        let Some(mailbox) = self.local.mailboxes.get(key) else { return Ok(Err(Trouble::NotHere)) };
        Ok(mailbox.open().map(|opened| {
            for record in opened.stored() {
                take(opened.tell(&record));
            }
        }))
    }

    fn content(
        &mut self,
        key: &MailboxKey,
        monitor: &dyn Monitor,
        take: &mut dyn FnMut(Uid, Guid, Result<Guid, String>),
    ) -> Result<(), SessionError> {
        let opened = self.local.mailboxes.get(key).map(|mailbox| (mailbox.at, mailbox.open()));
        if let (Some((at, Ok(opened))), Some(messages)) = (opened, self.messages) {
            let workers = self.workers;
            content::read(messages, at, workers, opened.keys(), monitor, take);
        }
        Ok(())
    }

    fn bytes_of(&mut self, guid: &Guid, take: &mut dyn FnMut(&[u8])) -> Result<bool, SessionError> {
        let Some(messages) = self.messages else { return Ok(false) };
        if let Some(file) = messages.open_guid(guid) {
            return Ok(file.is_ok_and(|mut file| content::pour(&mut file, take)));
        }
        let local = &self.local;
        let known = self.known.get_or_insert_with(|| {
            let opened = local.mailboxes.values().map(|mailbox| (mailbox.at, mailbox.open()));
            let opened = opened.filter_map(|(at, opened)| Some((at, opened.ok()?)));
            let keys = opened.flat_map(|(at, opened)| {
                let keys: Vec<RecordKey> = opened.keys().collect();
                keys.into_iter().map(move |key| (key.guid, (at, key)))
            });
            keys.collect()
        });
        let Some((at, record)) = known.get(guid) else { return Ok(false) };
        Ok(messages.open(*at, record).is_ok_and(|mut file| content::pour(&mut file, take)))
    }
}

/// An account as a server tells it over its replication protocol.
pub struct Told<'p> {
    userid: Userid,
    peer: &'p mut dyn Peer,
    remote: Remote,
    sight: Sight,
    /// Which mailbox has which message, once somebody has asked.
    known: Option<BTreeMap<Guid, (MailboxKey, Uid)>>,
}

impl<'p> Told<'p> {
    /// Asks for an account.
    ///
    /// # Errors
    /// If the server does not tell.
    pub fn ask(userid: &Userid, peer: &'p mut dyn Peer) -> Result<Self, SessionError> {
        let remote = match userid.is_shared() {
            // No command tells which of those there are: see `look_for`.
            true => Remote::default(),
            false => Remote::of_user(userid, peer)?,
        };
        let (userid, sight) = (userid.clone(), Sight::default());
        let mut told = Self { userid, peer, remote, sight, known: None };
        told.see();
        Ok(told)
    }

    fn see(&mut self) {
        let remote = &self.remote;
        let scripts = remote.scripts.values().filter(|file| !file.active);
        self.sight = Sight {
            mailboxes: remote.mailboxes.clone(),
            troubles: Vec::new(),
            unusable: BTreeSet::new(),
            subscriptions: (!self.userid.is_shared()).then(|| remote.subscriptions.clone()),
            seen: remote.seen.clone(),
            quotas: (!self.userid.is_shared()).then(|| remote.quotas.clone()),
            scripts: Some(scripts.map(|file| (file.filename.clone(), file.guid)).collect()),
            tells_annotations: true,
        };
    }
}

impl Place for Told<'_> {
    fn sight(&self) -> &Sight {
        &self.sight
    }

    fn look_for(&mut self, other: &Sight) -> Result<(), SessionError> {
        let lacks = |key: &&MailboxKey| !self.remote.mailboxes.contains_key(*key);
        let missing: Vec<&MailboxKey> = other.mailboxes.keys().filter(lacks).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let ids = missing.iter().map(|key| UniqueId::new(key.0.as_slice())).collect();
        let names = missing.iter().filter_map(|key| Some(&other.mailboxes.get(*key)?.mboxname));
        let names: BTreeSet<MboxName> = names.cloned().collect();
        let remote = std::mem::take(&mut self.remote);
        let remote =
            if self.userid.is_shared() { remote.with_names(&names, self.peer)? } else { remote };
        self.remote = remote.with_ids(ids, self.peer)?;
        self.see();
        Ok(())
    }

    fn records(
        &mut self,
        key: &MailboxKey,
        take: &mut dyn FnMut(Record),
    ) -> Result<Result<(), Trouble>, SessionError> {
        let Some(mailbox) = self.remote.mailboxes.get(key) else {
            return Ok(Err(Trouble::NotHere));
        };
        let told = self.peer.ask_for_records(&mailbox.mboxname, RECORDS_MAX, take)?;
        Ok(match told {
            Some(told) if told.uniqueid == mailbox.uniqueid => Ok(()),
            _ => Err(Trouble::NotHere),
        })
    }

    fn content(
        &mut self,
        key: &MailboxKey,
        monitor: &dyn Monitor,
        take: &mut dyn FnMut(Uid, Guid, Result<Guid, String>),
    ) -> Result<(), SessionError> {
        let Some(mailbox) = self.remote.mailboxes.get(key).cloned() else { return Ok(()) };
        let mut messages = Vec::new();
        self.peer.ask_for_records(&mailbox.mboxname, RECORDS_MAX, &mut |record| {
            if !record.is_expunged() {
                messages.push((record.uid, record.guid));
            }
        })?;
        content::fetch(self.peer, &mailbox, &messages, monitor, take)
    }

    fn bytes_of(&mut self, guid: &Guid, take: &mut dyn FnMut(&[u8])) -> Result<bool, SessionError> {
        if self.known.is_none() {
            let mut known = BTreeMap::new();
            for (key, mailbox) in &self.remote.mailboxes {
                self.peer.ask_for_records(&mailbox.mboxname, RECORDS_MAX, &mut |record| {
                    if !record.is_expunged() {
                        known.insert(record.guid, (key.clone(), record.uid));
                    }
                })?;
            }
            self.known = Some(known);
        }
        let found = self.known.as_ref().and_then(|known| known.get(guid));
        let Some((mailbox, uid)) =
            found.and_then(|(key, uid)| Some((self.remote.mailboxes.get(key)?, *uid)))
        else {
            return Ok(false);
        };
        let Some(fetch) = fetch_of(mailbox, uid, *guid) else { return Ok(false) };
        match self.peer.fetch(&fetch, take) {
            Err(error) if error.session_goes_on() => Ok(false),
            fetched => fetched,
        }
    }
}
