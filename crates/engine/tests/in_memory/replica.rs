//! A replica in the plainest way: mailboxes as they were told, and Cyrus' rules about what it takes.
//! Where Cyrus 3.6 would have died, this panics.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::Read;

use csync::command::{Apply, Fetch, Get};
use csync::framer::FileHead;
use csync::mailbox::Mailbox;
use csync::record::Record;
use csync::reply::No;
use csync::untagged::Untagged;
use cyrus_format::mboxlist::MailboxType;
use engine::ports::Peer;
use model::crc::crc32;
use model::{Guid, MboxName, Modseq, SystemFlags, Uid, UniqueId};
use peer::SessionError;

use super::account::guid_of;

/// A mailbox of it.
#[derive(Clone, Debug, Default)]
pub struct Held {
    pub told: Mailbox,
    pub records: BTreeMap<Uid, Record>,
}

/// A replica, and what it was asked.
#[derive(Clone, Debug, Default)]
pub struct MemoryReplica {
    pub mailboxes: BTreeMap<MboxName, Held>,
    pub levels: BTreeMap<MboxName, Mailbox>,
    pub subscriptions: BTreeSet<MboxName>,
    pub quotas: BTreeMap<MboxName, csync::meta::Quota>,
    /// Every command, as `GET USER`.
    pub log: Vec<String>,
    /// What APPLY MAILBOX of this name is answered with, once.
    pub refuse: BTreeMap<MboxName, No>,
    /// Identities of mailboxes that were there once.
    pub tombs: BTreeSet<UniqueId>,
    /// The bytes of all messages that it ever got.
    pub bodies: BTreeMap<Guid, Vec<u8>>,
    staged: HashSet<Guid>,
    arriving: Vec<Guid>,
}

fn refused(command: &str, no: No) -> SessionError {
    SessionError::Refused { command: command.to_owned(), no }
}

impl MemoryReplica {
    /// How many commands changed something.
    pub fn applied(&self) -> usize {
        self.log.iter().filter(|command| command.starts_with("APPLY")).count()
    }

    fn tell(&self, held: &Held) -> Untagged {
        let mut told = held.told.clone();
        if let Some(contents) = &mut told.contents {
            (contents.sync_crc, contents.sync_crc_annot) = crcs(held.records.values());
            contents.records = csync::mailbox::Records::Omitted;
            contents.since = None;
        }
        Untagged::Mailbox(Box::new(told))
    }

    fn account(&self) -> Vec<Untagged> {
        let mut told: Vec<Untagged> = self.mailboxes.values().map(|held| self.tell(held)).collect();
        told.extend(self.levels.values().map(|level| Untagged::Mailbox(Box::new(level.clone()))));
        told.extend(self.quotas.values().cloned().map(Untagged::Quota));
        told.push(Untagged::Lsub(self.subscriptions.iter().cloned().collect()));
        told
    }

    fn rename(&mut self, old: &MboxName, new: &MboxName) -> Result<(), No> {
        if self.mailboxes.contains_key(new) {
            return Err(No::Unknown);
        }
        let mut held = self.mailboxes.remove(old).ok_or(No::MailboxNonexistent)?;
        held.told.mboxname = new.clone();
        self.levels.remove(new);
        self.mailboxes.insert(new.clone(), held);
        Ok(())
    }

    fn take(&mut self, told: &Mailbox, records: Vec<Record>) -> Result<(), No> {
        if let Some(no) = self.refuse.remove(&told.mboxname) {
            return Err(no);
        }
        let inbox = MboxName::from("user.glad");
        let is_below = told.mboxname.as_bytes().starts_with(b"user.glad.");
        if is_below && !self.mailboxes.contains_key(&inbox) {
            return Err(No::Unknown);
        }
        let elsewhere = self.mailboxes.iter();
        let mut elsewhere = elsewhere.filter(|(name, _)| **name != told.mboxname);
        if elsewhere.any(|(_, held)| held.told.uniqueid == told.uniqueid) {
            return Err(No::MailboxMoved);
        }
        if !self.mailboxes.contains_key(&told.mboxname) && self.tombs.contains(&told.uniqueid) {
            return Err(No::MailboxMoved);
        }
        let contents = told.contents.as_ref().expect("a mailbox with messages");
        let mut held = self.mailboxes.get(&told.mboxname).cloned().unwrap_or_default();
        if let Some(have) = held.told.contents.clone() {
            if held.told.uniqueid != told.uniqueid {
                if have.last_uid != Uid(0) {
                    return Err(No::MailboxMoved);
                }
                held = Held::default();
            } else if let Some(since) = contents.since {
                let crc = crcs(held.records.values()).0.unwrap_or(0);
                // None says nothing.
                let is_same_crc = [0, crc].contains(&since.sync_crc);
                if since.modseq != held.told.highestmodseq || !is_same_crc {
                    return Err(No::SyncChanged);
                }
            }
            if told.uniqueid == held.told.uniqueid
                && (told.highestmodseq < held.told.highestmodseq
                    || contents.last_uid < have.last_uid
                    || contents.uidvalidity < have.uidvalidity)
            {
                return Err(No::SyncChecksum);
            }
        }
        let last = held.told.contents.as_ref().map_or(Uid(0), |have| have.last_uid);
        self.records(&mut held, records, last)?;
        let (basic, annot) = crcs(held.records.values());
        let differs = |told: Option<u32>, have: Option<u32>| told != have && told.unwrap_or(0) != 0;
        if differs(contents.sync_crc, basic) || differs(contents.sync_crc_annot, annot) {
            return Err(No::SyncChecksum);
        }
        held.told = told.clone();
        self.levels.remove(&told.mboxname);
        self.mailboxes.insert(told.mboxname.clone(), held);
        Ok(())
    }

    fn records(&self, held: &mut Held, records: Vec<Record>, last: Uid) -> Result<(), No> {
        let mut previous = Uid(0);
        for record in records {
            assert!(record.uid > previous, "UIDs out of order");
            previous = record.uid;
            match held.records.get(&record.uid) {
                Some(have) if have.is_expunged() && record.is_expunged() => continue,
                Some(have)
                    if have.is_expunged()
                        || have.modseq > record.modseq
                        || have.guid != record.guid =>
                {
                    return Err(No::SyncChecksum);
                }
                Some(_) => {}
                None if record.uid <= last && record.is_expunged() => continue,
                None if record.uid <= last => return Err(No::SyncChecksum),
                None => {
                    let is_there = self.staged.contains(&record.guid) || record.is_expunged();
                    assert!(is_there, "{} was not sent", record.uid);
                }
            }
            held.records.insert(record.uid, record);
        }
        Ok(())
    }
}

impl Peer for MemoryReplica {
    fn ask(&mut self, get: &Get) -> Result<Vec<Untagged>, SessionError> {
        self.log.push(format!("GET {}", get.name()));
        Ok(match get {
            Get::User(_) => self.account(),
            Get::Mailboxes(names) => {
                let told = names.iter().filter_map(|name| match self.mailboxes.get(name) {
                    Some(held) => Some(self.tell(held)),
                    None => Some(Untagged::Mailbox(Box::new(self.levels.get(name)?.clone()))),
                });
                told.collect()
            }
            Get::UniqueIds(ids) => {
                let held = self.mailboxes.values().filter(|held| ids.contains(&held.told.uniqueid));
                held.map(|held| self.tell(held)).collect()
            }
            Get::Quota(root) => {
                self.quotas.get(root).cloned().map(Untagged::Quota).into_iter().collect()
            }
            other => panic!("nobody asks for {}", other.name()),
        })
    }

    fn ask_for_records(
        &mut self,
        name: &MboxName,
        most: u64,
        take: &mut dyn FnMut(Record),
    ) -> Result<Option<Mailbox>, SessionError> {
        self.log.push("GET FULLMAILBOX".to_owned());
        let Some(held) = self.mailboxes.get(name) else { return Ok(None) };
        assert!(held.records.len() as u64 <= most, "more than were expected");
        held.records.values().cloned().for_each(take);
        let Untagged::Mailbox(told) = self.tell(held) else { return Ok(None) };
        Ok(Some(*told))
    }

    fn fetch(&mut self, fetch: &Fetch, take: &mut dyn FnMut(&[u8])) -> Result<bool, SessionError> {
        self.log.push("GET FETCH".to_owned());
        let held = self.mailboxes.get(&fetch.mboxname).expect("a mailbox that is there");
        let record = held.records.get(&fetch.uid).expect("a message that is there");
        assert_eq!((&held.told.uniqueid, record.guid), (&fetch.uniqueid, fetch.guid));
        let Some(body) = self.bodies.get(&fetch.guid) else { return Ok(false) };
        body.chunks(1 << 16).for_each(take);
        Ok(true)
    }

    fn apply(&mut self, apply: &Apply) -> Result<Vec<Untagged>, SessionError> {
        self.log.push(format!("APPLY {}", apply.name()));
        let done = match apply {
            Apply::Reserve(reserve) => {
                let named = reserve.mailboxes.iter();
                let held =
                    named.map(|name| self.mailboxes.get(name).expect("a mailbox that is there"));
                let there: HashSet<Guid> = held
                    .flat_map(|held| held.records.values())
                    .filter(|record| !record.is_expunged())
                    .map(|record| record.guid)
                    .collect();
                self.staged.extend(reserve.guids.iter().filter(|guid| there.contains(*guid)));
                let missing = reserve.guids.iter().filter(|guid| !there.contains(*guid));
                return Ok(vec![Untagged::Missing(missing.copied().collect())]);
            }
            Apply::UnMailbox(name) => {
                self.mailboxes.remove(name).map(drop).ok_or(No::MailboxNonexistent)
            }
            Apply::Rename(rename) => self.rename(&rename.old, &rename.new),
            Apply::Expunge(expunge) => {
                let held = self.mailboxes.get_mut(&expunge.mboxname).expect("a mailbox");
                for uid in &expunge.uids {
                    let record = held.records.get_mut(uid).expect("a message that is there");
                    record.system_flags.0 |= SystemFlags::EXPUNGED.0;
                }
                Ok(())
            }
            Apply::Sub(sub) => {
                self.subscriptions.insert(sub.mboxname.clone());
                Ok(())
            }
            Apply::UnSub(sub) => {
                self.subscriptions.remove(&sub.mboxname);
                Ok(())
            }
            Apply::Quota(quota) => {
                self.quotas.insert(quota.root.clone(), quota.clone());
                Ok(())
            }
            Apply::UnQuota(root) => {
                self.quotas.remove(root);
                Ok(())
            }
            other => panic!("nobody says {}", other.name()),
        };
        done.map(|()| Vec::new()).map_err(|no| refused(apply.name(), no))
    }

    fn mailbox(
        &mut self,
        mailbox: &Mailbox,
        records: &mut dyn Iterator<Item = Record>,
    ) -> Result<(), SessionError> {
        self.log.push(format!("APPLY MAILBOX {}", mailbox.mboxname));
        let records: Vec<Record> = records.collect();
        if MailboxType::from_letters(&mailbox.mboxtype).intermediate {
            // It does not look at what is there.
            self.mailboxes.remove(&mailbox.mboxname);
            self.levels.insert(mailbox.mboxname.clone(), mailbox.clone());
            return Ok(());
        }
        self.take(mailbox, records).map_err(|no| refused("APPLY MAILBOX", no))
    }

    fn message(&mut self, head: &FileHead, bytes: &mut dyn Read) -> Result<(), SessionError> {
        let mut body = Vec::new();
        bytes.read_to_end(&mut body).expect("it can be read");
        assert_eq!((guid_of(&body), body.len()), (head.guid, head.size as usize));
        assert!(!self.staged.contains(&head.guid), "{} is sent twice", head.guid);
        self.arriving.push(head.guid);
        self.bodies.insert(head.guid, body);
        Ok(())
    }

    fn end_messages(&mut self) -> Result<(), SessionError> {
        if !self.arriving.is_empty() {
            self.log.push("APPLY MESSAGE".to_owned());
        }
        self.staged.extend(self.arriving.drain(..));
        Ok(())
    }

    fn restart(&mut self) -> Result<(), SessionError> {
        self.log.push("RESTART".to_owned());
        self.staged.clear();
        Ok(())
    }
}

/// SYNC_CRC and SYNC_CRC_ANNOT of 3.6, from what was told alone.
fn crcs<'r>(records: impl Iterator<Item = &'r Record>) -> (Option<u32>, Option<u32>) {
    let (mut basic, mut annot) = (0, 12_345_678);
    for record in records.filter(|record| !record.is_expunged()) {
        let names = [
            (SystemFlags::DELETED, "\\deleted"),
            (SystemFlags::ANSWERED, "\\answered"),
            (SystemFlags::FLAGGED, "\\flagged"),
            (SystemFlags::DRAFT, "\\draft"),
            (SystemFlags::SEEN, "\\seen"),
        ];
        let system = names.iter().filter(|(flag, _)| record.system_flags.contains(*flag));
        let mut flags = system.fold(0, |crc, (_, name)| crc ^ crc32(name.as_bytes()));
        for flag in &record.user_flags {
            flags ^= crc32(&flag.to_ascii_lowercase());
        }
        let Record { uid, modseq: Modseq(modseq), last_updated, internaldate, guid, .. } = record;
        let (updated, arrived) = (last_updated.secs, internaldate.secs);
        let guid = String::from_utf8_lossy(&guid.to_hex()).into_owned();
        basic ^= crc32(format!("{uid} {modseq} {updated} ({flags}) {arrived} {guid}").as_bytes());
        for note in &record.annotations {
            let mut text = [uid.to_string().as_bytes(), b" ", &note.entry, b" "].concat();
            text.extend([note.userid.as_bytes(), b" "].concat());
            let is_thrid = note.entry.ends_with(b"/thrid");
            let zeros = note.value.iter().take_while(|digit| is_thrid && **digit == b'0').count();
            text.extend(&note.value[zeros..]);
            annot ^= crc32(&text);
        }
    }
    (Some(basic), Some(annot))
}
