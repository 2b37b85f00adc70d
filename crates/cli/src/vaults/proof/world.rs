//! A user's account and that of the shared mailboxes, what happens to them, and the spool that a server would have of it.

use std::fs;
use std::path::Path;

use model::{SystemFlags, Userid};
use proptest::prelude::*;
use spool::{Options, Server};
use testkit::spool_builder::{EPOCH, Era, NewMessage, SpoolBuilder, SpoolOptions};

/// Whose accounts they are.
pub const USERS: [&str; 2] = ["glad", Userid::SHARED];

/// Below INBOX, or the topmost shared mailbox. Few, so that names are given again.
const FOLDERS: [&str; 5] = ["Sent", "Work", "Work.2014", "a b", "x^y"];

/// One thing that happens. Numbers choose among what there is, round and round.
#[derive(Clone, Debug)]
pub enum Change {
    Deliver {
        folder: u8,
        text: u8,
        messages: u8,
    },
    Flag {
        folder: u8,
        message: u8,
        bit: u8,
    },
    Copy {
        folder: u8,
        message: u8,
        to: u8,
    },
    Move {
        folder: u8,
        message: u8,
        to: u8,
    },
    Expunge {
        folder: u8,
        message: u8,
    },
    /// The server's cleanup: files and records of what is expunged go.
    Unlink {
        folder: u8,
    },
    Create {
        name: u8,
    },
    Rename {
        folder: u8,
        name: u8,
    },
    Delete {
        folder: u8,
    },
    /// Deleted, and made anew under its name.
    Recreate {
        folder: u8,
    },
    Subscribe {
        folder: u8,
    },
}

/// Any of them, the everyday ones more often.
pub fn change() -> impl Strategy<Value = Change> {
    let (f, m) = (0..6_u8, 0..32_u8);
    prop_oneof![
        6 => (f.clone(), any::<u8>(), 1..4_u8)
            .prop_map(|(folder, text, messages)| Change::Deliver { folder, text, messages }),
        2 => (f.clone(), m.clone(), 0..5_u8)
            .prop_map(|(folder, message, bit)| Change::Flag { folder, message, bit }),
        2 => (f.clone(), m.clone(), f.clone())
            .prop_map(|(folder, message, to)| Change::Copy { folder, message, to }),
        2 => (f.clone(), m.clone(), f.clone())
            .prop_map(|(folder, message, to)| Change::Move { folder, message, to }),
        2 => (f.clone(), m).prop_map(|(folder, message)| Change::Expunge { folder, message }),
        2 => f.clone().prop_map(|folder| Change::Unlink { folder }),
        2 => (0..5_u8).prop_map(|name| Change::Create { name }),
        1 => (f.clone(), 0..5_u8).prop_map(|(folder, name)| Change::Rename { folder, name }),
        1 => f.clone().prop_map(|folder| Change::Delete { folder }),
        1 => f.clone().prop_map(|folder| Change::Recreate { folder }),
        1 => f.prop_map(|folder| Change::Subscribe { folder }),
    ]
}

#[derive(Clone, Debug)]
struct Message {
    uid: u32,
    text: u8,
    date: i64,
    flags: u32,
    expunged: Option<i64>,
}

#[derive(Clone, Debug)]
struct Folder {
    /// Below INBOX or the topmost shared mailbox, which have none.
    name: Option<&'static str>,
    id: String,
    uidvalidity: u32,
    last_uid: u32,
    messages: Vec<Message>,
    is_subscribed: bool,
}

/// The accounts as they are now.
pub struct World {
    accounts: [Vec<Folder>; USERS.len()],
    /// How much has happened: the source of whatever must be new.
    events: u32,
}

impl World {
    pub fn new() -> Self {
        let mut world = Self { accounts: Default::default(), events: 0 };
        for account in 0..USERS.len() {
            world.events += 1;
            let inbox = world.folder(None);
            world.accounts[account].push(inbox);
        }
        world
    }

    /// Lets something happen to an account, if what it needs is there.
    pub fn live(&mut self, account: usize, change: &Change) {
        self.events += 1;
        // What cannot happen as things are does not.
        let _ = self.try_live(account, change);
    }

    fn try_live(&mut self, account: usize, change: &Change) -> Option<()> {
        let now = EPOCH + i64::from(self.events);
        match *change {
            Change::Deliver { folder, text, messages } => {
                for n in 0..messages {
                    self.at(account, folder).add(text.wrapping_add(n), now, 0);
                }
            }
            Change::Flag { folder, message, bit } => {
                self.at(account, folder).message(message)?.flags ^= 1 << bit;
            }
            Change::Copy { folder, message, to } => {
                let Message { text, flags, .. } = *self.at(account, folder).message(message)?;
                self.at(account, to).add(text, now, flags);
            }
            Change::Move { folder, message, to } => {
                let Message { text, flags, .. } = *self.at(account, folder).message(message)?;
                self.at(account, to).add(text, now, flags);
                self.at(account, folder).message(message)?.expunged = Some(now);
            }
            Change::Expunge { folder, message } => {
                self.at(account, folder).message(message)?.expunged = Some(now);
            }
            Change::Unlink { folder } => {
                self.at(account, folder).messages.retain(|message| message.expunged.is_none());
            }
            Change::Create { name } => {
                let name = self.free_name(account, name)?;
                let folder = self.folder(Some(name));
                self.accounts[account].push(folder);
            }
            Change::Rename { folder, name } => {
                let (at, name) = (self.but_inbox(account, folder)?, self.free_name(account, name)?);
                self.accounts[account][at].name = Some(name);
            }
            Change::Delete { folder } => {
                let at = self.but_inbox(account, folder)?;
                self.accounts[account].remove(at);
            }
            Change::Recreate { folder } => {
                let at = self.but_inbox(account, folder)?;
                let name = self.accounts[account][at].name;
                self.accounts[account][at] = self.folder(name);
            }
            Change::Subscribe { folder } => self.at(account, folder).is_subscribed ^= true,
        }
        Some(())
    }

    fn folder(&self, name: Option<&'static str>) -> Folder {
        Folder {
            name,
            id: format!("{:024}", self.events),
            uidvalidity: 1_400_000_000 + self.events,
            last_uid: 0,
            messages: Vec::new(),
            is_subscribed: false,
        }
    }

    fn at(&mut self, account: usize, folder: u8) -> &mut Folder {
        let folders = &mut self.accounts[account];
        let at = usize::from(folder) % folders.len();
        &mut folders[at]
    }

    fn but_inbox(&self, account: usize, folder: u8) -> Option<usize> {
        let others = self.accounts[account].len() - 1;
        usize::from(folder).checked_rem(others).map(|at| at + 1)
    }

    fn free_name(&self, account: usize, name: u8) -> Option<&'static str> {
        let name = FOLDERS[usize::from(name) % FOLDERS.len()];
        let taken = self.accounts[account].iter().any(|folder| folder.name == Some(name));
        (!taken).then_some(name)
    }

    /// Writes the spool anew, and opens it.
    pub fn server(&self, root: &Path) -> Server {
        if root.exists() {
            fs::remove_dir_all(root).expect("a directory");
        }
        let options = SpoolOptions::new(Era::V3_6);
        let mut builder = SpoolBuilder::create(root, options).expect("a spool");
        for (user, folders) in USERS.iter().zip(&self.accounts) {
            for folder in folders {
                folder.write(user, &mut builder);
            }
        }
        let spool = builder.finish().expect("a spool");
        Server::open(&spool.imapd_conf, &Options::default()).expect("a server")
    }
}

impl Folder {
    fn add(&mut self, text: u8, date: i64, flags: u32) {
        self.last_uid += 1;
        let uid = self.last_uid;
        self.messages.push(Message { uid, text, date, flags, expunged: None });
    }

    fn message(&mut self, number: u8) -> Option<&mut Message> {
        let at = usize::from(number).checked_rem(self.messages.len())?;
        self.messages.get_mut(at)
    }

    fn write(&self, user: &str, builder: &mut SpoolBuilder) {
        let is_shared = user == Userid::SHARED;
        let top = if is_shared { "shared".to_owned() } else { format!("user.{user}") };
        let name = self.name.map_or_else(|| top.clone(), |name| format!("{top}.{name}"));
        let id = self.id.clone();
        let mut mailbox = builder.mailbox_again(&name, id, self.uidvalidity).expect("a mailbox");
        let mut last = 0;
        for message in &self.messages {
            mailbox.skip(message.uid - last - 1);
            last = message.uid;
            let stored = mailbox.add(&NewMessage {
                bytes: &body(message.text),
                internaldate: message.date,
                system_flags: SystemFlags(message.flags),
                expunged: message.expunged,
                ..NewMessage::default()
            });
            stored.expect("a message");
        }
        mailbox.skip(self.last_uid - last);
        builder.finish_mailbox(mailbox).expect("a mailbox");
        if self.is_subscribed && !is_shared {
            builder.subscribe(user, &name);
        }
    }
}

/// From 20 bytes to 6 KB.
fn body(text: u8) -> Vec<u8> {
    let lines = format!("line {text}\r\n").repeat(usize::from(text) * 2);
    format!("Subject: {text}\r\n\r\n{lines}").into_bytes()
}
