//! What can happen to an account between two snapshots, lawful or not.

use model::{Guid, Record, SystemFlags};
use proptest::prelude::*;

use super::account::{Account, EPOCH, Mailbox, guid_of};

/// One thing that happens. Numbers choose among what there is, round and round.
#[derive(Clone, Debug)]
pub enum Change {
    Deliver {
        mailbox: u8,
        text: u8,
        guid: GuidGiven,
    },
    Copy {
        mailbox: u8,
        message: u8,
        to: u8,
    },
    Flag {
        mailbox: u8,
        message: u8,
        bit: u8,
    },
    NameFlag {
        mailbox: u8,
    },
    Expunge {
        mailbox: u8,
        message: u8,
    },
    Unlink {
        mailbox: u8,
        message: u8,
    },
    Repack {
        mailbox: u8,
    },
    Create {
        name: u8,
        identity: Identity,
        old: bool,
    },
    Delete {
        mailbox: u8,
    },
    /// The mailbox that was deleted last comes back as it was.
    Undelete,
    Rename {
        mailbox: u8,
        name: u8,
    },
    /// The mailbox starts over: another uidvalidity, UIDs from 1 on.
    StartOver {
        mailbox: u8,
    },
    Annotate {
        mailbox: u8,
        value: Option<u8>,
    },
    PutFile {
        name: u8,
        value: Option<u8>,
    },
    /// A message file disappears.
    Lose {
        mailbox: u8,
        message: u8,
    },
    /// The message files that disappeared are put back.
    Find {
        mailbox: u8,
    },
    /// A wrong or unknown GUID is made right.
    CorrectGuid {
        mailbox: u8,
        message: u8,
    },
    CutIndex {
        mailbox: u8,
        percent: u8,
    },
    MendIndex {
        mailbox: u8,
    },
    ToggleHeader {
        mailbox: u8,
    },
    /// Two records change places.
    Disorder {
        mailbox: u8,
    },
}

/// The GUID that a new message's record gets.
#[derive(Clone, Copy, Debug)]
pub enum GuidGiven {
    Right,
    Zero,
    Wrong,
}

/// The unique id that a new mailbox gets.
#[derive(Clone, Copy, Debug)]
pub enum Identity {
    Own,
    None,
    /// That of another mailbox.
    Of(u8),
}

/// Any of them, the everyday ones more often.
pub fn change() -> impl Strategy<Value = Change> {
    let guid = prop_oneof![
        4 => Just(GuidGiven::Right), 1 => Just(GuidGiven::Zero), 1 => Just(GuidGiven::Wrong)
    ];
    let identity = prop_oneof![
        6 => Just(Identity::Own), 1 => Just(Identity::None), 2 => (0..8u8).prop_map(Identity::Of)
    ];
    let (m, n) = (0..8u8, 0..16u8);
    prop_oneof![
        12 => (m.clone(), any::<u8>(), guid)
            .prop_map(|(mailbox, text, guid)| Change::Deliver { mailbox, text, guid }),
        5 => (m.clone(), n.clone(), m.clone())
            .prop_map(|(mailbox, message, to)| Change::Copy { mailbox, message, to }),
        4 => (m.clone(), n.clone(), 0..5u8)
            .prop_map(|(mailbox, message, bit)| Change::Flag { mailbox, message, bit }),
        1 => m.clone().prop_map(|mailbox| Change::NameFlag { mailbox }),
        3 => (m.clone(), n.clone())
            .prop_map(|(mailbox, message)| Change::Expunge { mailbox, message }),
        2 => (m.clone(), n.clone())
            .prop_map(|(mailbox, message)| Change::Unlink { mailbox, message }),
        1 => m.clone().prop_map(|mailbox| Change::Repack { mailbox }),
        3 => (0..6u8, identity, any::<bool>())
            .prop_map(|(name, identity, old)| Change::Create { name, identity, old }),
        2 => m.clone().prop_map(|mailbox| Change::Delete { mailbox }),
        1 => Just(Change::Undelete),
        3 => (m.clone(), 0..6u8).prop_map(|(mailbox, name)| Change::Rename { mailbox, name }),
        1 => m.clone().prop_map(|mailbox| Change::StartOver { mailbox }),
        2 => (m.clone(), any::<Option<u8>>())
            .prop_map(|(mailbox, value)| Change::Annotate { mailbox, value }),
        2 => (0..3u8, any::<Option<u8>>())
            .prop_map(|(name, value)| Change::PutFile { name, value }),
        2 => (m.clone(), n.clone())
            .prop_map(|(mailbox, message)| Change::Lose { mailbox, message }),
        2 => m.clone().prop_map(|mailbox| Change::Find { mailbox }),
        1 => (m.clone(), n)
            .prop_map(|(mailbox, message)| Change::CorrectGuid { mailbox, message }),
        1 => (m.clone(), 0..100u8)
            .prop_map(|(mailbox, percent)| Change::CutIndex { mailbox, percent }),
        2 => m.clone().prop_map(|mailbox| Change::MendIndex { mailbox }),
        1 => m.clone().prop_map(|mailbox| Change::ToggleHeader { mailbox }),
        1 => m.prop_map(|mailbox| Change::Disorder { mailbox }),
    ]
}

/// An account that lives on, and what of its past can come back.
pub struct Life {
    pub account: Account,
    /// How much has happened: the clock, and the source of whatever must be new.
    events: u32,
    deleted: Option<Mailbox>,
    /// Message files that disappeared: mailbox name, UID, GUID of the record, bytes.
    lost: Vec<(String, u32, Guid, Vec<u8>)>,
}

/// Copies of messages, and folders made anew, meet under few names.
const NAMES: [&str; 6] = [
    "user.glad.Sent",
    "user.glad.Work",
    "user.glad.Work.2014",
    "user.glad.a~2",
    "DELETED.user.glad.Work.6B0450F1",
    "user.glad.caf\u{e9}",
];

impl Life {
    /// An account with an INBOX.
    pub fn new() -> Self {
        let mut account = Account::new("glad");
        account.mailboxes.push(Mailbox::new("user.glad", "id0", 17));
        Self { account, events: 0, deleted: None, lost: Vec::new() }
    }

    /// Lets something happen, if what it needs is there.
    pub fn live(&mut self, change: &Change) {
        self.events += 1;
        // What cannot happen as things are does not.
        let _ = self.try_live(change);
    }

    fn try_live(&mut self, change: &Change) -> Option<()> {
        let events = self.events;
        match *change {
            Change::Deliver { mailbox, text, guid } => self.deliver(mailbox, text, guid),
            Change::Copy { mailbox, message, to } => self.copy(mailbox, message, to)?,
            Change::Flag { mailbox, message, bit } => {
                self.record(mailbox, message)?.system_flags.0 ^= 1 << bit;
            }
            Change::NameFlag { mailbox } => {
                let mailbox = self.mailbox(mailbox);
                mailbox.flags.push(Some(format!("flag{events}").into_bytes()));
                let number = mailbox.flags.len() - 1;
                mailbox.records.last_mut()?.user_flags.insert(number);
            }
            Change::Expunge { mailbox, message } => self.expunge(mailbox, message)?,
            Change::Unlink { mailbox, message } => self.unlink(mailbox, message)?,
            Change::Repack { mailbox } => {
                self.mailbox(mailbox).records.retain(|record| !record.is_unlinked());
            }
            Change::Create { name, identity, old } => self.create(name, identity, old)?,
            Change::Delete { mailbox } => {
                let at = self.but_inbox(mailbox)?;
                self.deleted = Some(self.account.mailboxes.remove(at));
            }
            Change::Undelete => {
                let mailbox = self.deleted.take()?;
                self.check_free(&mailbox.name)?;
                self.account.mailboxes.push(mailbox);
            }
            Change::Rename { mailbox, name } => {
                let at = self.but_inbox(mailbox)?;
                let name = NAMES[usize::from(name) % NAMES.len()];
                self.check_free(name)?;
                self.account.mailboxes[at].name = name.to_owned();
            }
            Change::StartOver { mailbox } => self.start_over(mailbox),
            Change::Annotate { mailbox, value } => {
                self.mailbox(mailbox).annotations = value.map(|value| vec![value; 9]);
            }
            Change::PutFile { name, value } => self.put_file(name, value),
            Change::Lose { mailbox, message } => self.lose(mailbox, message)?,
            Change::Find { mailbox } => self.find(mailbox),
            Change::CorrectGuid { mailbox, message } => {
                let uid = self.record(mailbox, message)?.uid.0;
                let guid = guid_of(self.mailbox(mailbox).bodies.get(&uid)?);
                self.record(mailbox, message)?.guid = guid;
            }
            Change::CutIndex { mailbox, percent } => {
                let size = self.mailbox(mailbox).files().get("cyrus.index")?.len();
                self.mailbox(mailbox).index_cut = Some(size * usize::from(percent) / 100);
            }
            Change::MendIndex { mailbox } => self.mailbox(mailbox).index_cut = None,
            Change::ToggleHeader { mailbox } => {
                let mailbox = self.mailbox(mailbox);
                mailbox.has_header = !mailbox.has_header;
            }
            Change::Disorder { mailbox } => {
                let records = &mut self.mailbox(mailbox).records;
                let last = records.len().checked_sub(1)?;
                records.swap(0, last);
            }
        }
        Some(())
    }

    fn start_over(&mut self, mailbox: u8) {
        let old = self.mailbox(mailbox);
        old.uidvalidity += 1;
        old.last_uid = 0;
        old.records.clear();
        old.expunged.clear();
        old.bodies.clear();
    }

    fn mailbox(&mut self, number: u8) -> &mut Mailbox {
        let at = usize::from(number) % self.account.mailboxes.len();
        &mut self.account.mailboxes[at]
    }

    fn record(&mut self, mailbox: u8, message: u8) -> Option<&mut Record> {
        let records = &mut self.mailbox(mailbox).records;
        let at = usize::from(message).checked_rem(records.len())?;
        records.get_mut(at)
    }

    fn but_inbox(&self, number: u8) -> Option<usize> {
        let others = self.account.mailboxes.len() - 1;
        usize::from(number).checked_rem(others).map(|at| at + 1)
    }

    fn check_free(&self, name: &str) -> Option<()> {
        self.account.mailboxes.iter().all(|mailbox| mailbox.name != name).then_some(())
    }

    fn deliver(&mut self, mailbox: u8, text: u8, guid: GuidGiven) {
        let events = self.events;
        // Few texts, so that the same message is delivered twice now and then.
        let body = format!("Subject: {}\r\n\r\n{}\r\n", text % 64, "line\r\n".repeat(text.into()));
        let mailbox = self.mailbox(mailbox);
        // Version 9, of 2.3.9, knows no GUIDs.
        let knows_guids = mailbox.version >= 10;
        let record = mailbox.add(body.as_bytes(), EPOCH + i64::from(events));
        match guid {
            _ if !knows_guids => record.guid = Guid::ZERO,
            GuidGiven::Right => {}
            GuidGiven::Zero => record.guid = Guid::ZERO,
            GuidGiven::Wrong => record.guid = guid_of(&events.to_be_bytes()),
        }
    }

    fn copy(&mut self, mailbox: u8, message: u8, to: u8) -> Option<()> {
        let from = self.record(mailbox, message)?.clone();
        let body = self.mailbox(mailbox).bodies.get(&from.uid.0)?.clone();
        let to = self.mailbox(to);
        let guid = if to.version < 10 { Guid::ZERO } else { from.guid };
        let copy = to.add(&body, from.internaldate.secs);
        copy.guid = guid;
        Some(())
    }

    fn expunge(&mut self, mailbox: u8, message: u8) -> Option<()> {
        let uid = self.record(mailbox, message)?.uid;
        let mailbox = self.mailbox(mailbox);
        let at = mailbox.records.iter().position(|record| record.uid == uid)?;
        if mailbox.version >= 12 {
            mailbox.records[at].system_flags.0 |= SystemFlags::EXPUNGED.0;
        } else {
            let record = mailbox.records.remove(at);
            mailbox.expunged.push(record);
        }
        Some(())
    }

    fn unlink(&mut self, mailbox: u8, message: u8) -> Option<()> {
        if self.mailbox(mailbox).version >= 12 {
            let record = self.record(mailbox, message)?;
            record.system_flags.0 |= SystemFlags::EXPUNGED.0 | SystemFlags::UNLINKED.0;
            let uid = record.uid.0;
            self.mailbox(mailbox).bodies.remove(&uid);
        } else {
            let mailbox = self.mailbox(mailbox);
            let record = mailbox.expunged.pop()?;
            mailbox.bodies.remove(&record.uid.0);
        }
        Some(())
    }

    fn create(&mut self, name: u8, identity: Identity, old: bool) -> Option<()> {
        let name = NAMES[usize::from(name) % NAMES.len()];
        self.check_free(name)?;
        let version = if old { 9 + self.events % 2 } else { 17 + self.events % 4 };
        let id = match identity {
            Identity::Own => Some(format!("id{}", self.events)),
            Identity::None => None,
            Identity::Of(other) => self.mailbox(other).id.clone(),
        };
        let mut mailbox = Mailbox::new(name, "", version);
        mailbox.id = id;
        self.account.mailboxes.push(mailbox);
        Some(())
    }

    fn put_file(&mut self, name: u8, value: Option<u8>) {
        let name = ["sub", "quota/user.glad", "sieve/x y.script"][usize::from(name) % 3];
        match value {
            Some(value) => self.account.files.insert(name.to_owned(), vec![value; 40]),
            None => self.account.files.remove(name),
        };
    }

    fn lose(&mut self, mailbox: u8, message: u8) -> Option<()> {
        let Record { uid, guid, .. } = *self.record(mailbox, message)?;
        let mailbox = self.mailbox(mailbox);
        let body = mailbox.bodies.remove(&uid.0)?;
        let name = mailbox.name.clone();
        self.lost.push((name, uid.0, guid, body));
        Some(())
    }

    fn find(&mut self, mailbox: u8) {
        let mut lost = std::mem::take(&mut self.lost);
        let mailbox = self.mailbox(mailbox);
        lost.retain(|(name, uid, guid, body)| {
            let fits = |record: &Record| record.uid.0 == *uid && record.guid == *guid;
            let found = *name == mailbox.name && mailbox.records.iter().any(fits);
            if found {
                mailbox.bodies.entry(*uid).or_insert_with(|| body.clone());
            }
            !found
        });
        self.lost = lost;
    }
}
