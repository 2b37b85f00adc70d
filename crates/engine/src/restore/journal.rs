//! What a restore writes down before it does it, so that it can be taken back.

use std::collections::BTreeSet;
use std::io;

use csync::record::Record;
use csync::stored::TOLD_FLAGS;
use model::{Guid, MboxName, Modseq, SystemFlags, Uid, UniqueId};

use crate::view::SYSTEM_FLAGS;

/// Keeps notes. A note is durable when [`Journal::note`] returns.
pub trait Journal {
    /// Notes what is about to be done; it may yet fail.
    ///
    /// # Errors
    /// If it cannot be kept: then it is not done.
    fn note(&mut self, entry: &Entry) -> io::Result<()>;
}

/// Keeps nothing.
pub struct Forgetful;

impl Journal for Forgetful {
    fn note(&mut self, _entry: &Entry) -> io::Result<()> {
        Ok(())
    }
}

/// Something that is about to be done to a mailbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The mailbox's name.
    pub mailbox: MboxName,
    /// Its identity, which finds it under whatever name.
    pub uniqueid: UniqueId,
    /// What is done.
    pub deed: Deed,
}

/// What is done to a mailbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deed {
    /// It is made.
    Create {
        /// When, in the account's counting: it is told to be created then. The first notes that were
        /// ever written do not say it.
        modseq: Option<Modseq>,
    },
    /// Messages are added.
    Add {
        /// When, in the account's counting: each of them is told to be created then.
        modseq: Modseq,
        /// Their numbers, and what they are.
        messages: Vec<(Uid, Guid)>,
    },
    /// Flags of messages are set.
    Flag(Vec<Flagged>),
    /// Its owner is subscribed to it.
    Subscribe,
}

/// A message whose flags are set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flagged {
    /// Its number.
    pub uid: Uid,
    /// What it is.
    pub guid: Guid,
    /// Its flags until then.
    pub before: Flags,
    /// Its flags from then on.
    pub after: Flags,
}

/// All flags of a message that clients see.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// System flags.
    pub system: SystemFlags,
    /// Names of others, in any order.
    pub user: Vec<Vec<u8>>,
}

impl Flags {
    /// Those of a record.
    pub fn of(record: &Record) -> Self {
        let seen_by_clients = TOLD_FLAGS & !SystemFlags::EXPUNGED.0;
        let system = SystemFlags(record.system_flags.0 & seen_by_clients);
        Self { system, user: record.user_flags.clone() }
    }

    /// Those of these names.
    pub fn from_names(names: Vec<Vec<u8>>) -> Self {
        let mut flags = Self::default();
        for name in names {
            let is_it = |known: &&str| known.as_bytes().eq_ignore_ascii_case(&name);
            match SYSTEM_FLAGS.iter().find(|(_, known)| is_it(known)) {
                Some((flag, _)) => flags.system.0 |= flag.0,
                None => flags.user.push(name),
            }
        }
        flags
    }

    /// Their names, system flags first.
    pub fn names(&self) -> Vec<Vec<u8>> {
        let system = SYSTEM_FLAGS.iter().filter(|(flag, _)| self.system.contains(*flag));
        let system = system.map(|(_, name)| name.as_bytes().to_vec());
        system.chain(self.user.iter().cloned()).collect()
    }

    /// Gives them to a record.
    pub fn put(&self, record: &mut Record) {
        record.system_flags = self.system;
        record.user_flags.clone_from(&self.user);
    }
}

impl PartialEq for Flags {
    /// Names of flags do not depend on case (RFC 9051).
    fn eq(&self, other: &Self) -> bool {
        let names = |flags: &Self| -> BTreeSet<Vec<u8>> {
            flags.user.iter().map(|name| name.to_ascii_lowercase()).collect()
        };
        self.system == other.system && names(self) == names(other)
    }
}

impl Eq for Flags {}
