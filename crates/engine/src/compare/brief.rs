//! A record in few bytes, for one of two mailboxes that are gone through side by side.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use csync::record::{Annotation, Record};
use model::{Guid, Modseq, SystemFlags, Timestamp, Uid};

/// In front of the names of annotations that Cyrus answers from the record itself; which of them are
/// told depends on the release.
const VIRTUAL: &[u8] = b"/vendor/cmu/cyrus-imapd/";

/// What of a record is compared: about 120 bytes, whatever it says.
#[derive(Clone, Debug)]
pub struct Brief {
    /// Its number.
    pub uid: Uid,
    /// Its bytes.
    pub guid: Guid,
    /// Its size.
    pub size: u32,
    /// When it last changed, in the mailbox's counting.
    pub modseq: Modseq,
    /// When it arrived.
    pub internaldate: Timestamp,
    /// System flags.
    pub system_flags: SystemFlags,
    /// User flags, by their number in [`FlagNames`].
    pub user_flags: Vec<u16>,
    /// Its annotations.
    pub annotations: u64,
    /// The conversation it belongs to; 0 if not told.
    pub thrid: u64,
}

/// The names of a mailbox's user flags on both sides.
#[derive(Clone, Debug, Default)]
pub struct FlagNames {
    names: Vec<Vec<u8>>,
    numbers: BTreeMap<Vec<u8>, u16>,
}

impl FlagNames {
    /// The number of a flag; case does not matter. No more than 65,535 names are told apart, which is
    /// 500 times what a Cyrus keeps.
    fn number(&mut self, name: &[u8]) -> u16 {
        let folded = name.to_ascii_lowercase();
        if let Some(number) = self.numbers.get(&folded) {
            return *number;
        }
        let number = u16::try_from(self.names.len()).unwrap_or(u16::MAX);
        if number < u16::MAX {
            self.names.push(name.to_vec());
            self.numbers.insert(folded, number);
        }
        number
    }

    /// All flags of a message, for people, those of the system first.
    pub fn of(&self, brief: &Brief) -> Vec<String> {
        const SYSTEM: [(&str, SystemFlags); 5] = [
            ("\\Answered", SystemFlags::ANSWERED),
            ("\\Deleted", SystemFlags::DELETED),
            ("\\Draft", SystemFlags::DRAFT),
            ("\\Flagged", SystemFlags::FLAGGED),
            ("\\Seen", SystemFlags::SEEN),
        ];
        let system = SYSTEM.iter().filter(|(_, flag)| brief.system_flags.contains(*flag));
        let mut flags: Vec<String> = system.map(|(name, _)| (*name).to_owned()).collect();
        let names =
            brief.user_flags.iter().filter_map(|number| self.names.get(usize::from(*number)));
        flags.extend(names.map(|name| String::from_utf8_lossy(name).into_owned()));
        flags
    }
}

impl Brief {
    /// Of this record.
    pub fn of(record: &Record, names: &mut FlagNames) -> Self {
        let mut user_flags: Vec<u16> =
            record.user_flags.iter().map(|name| names.number(name)).collect();
        user_flags.sort_unstable();
        user_flags.dedup();
        Self {
            uid: record.uid,
            guid: record.guid,
            size: record.size,
            modseq: record.modseq,
            internaldate: record.internaldate,
            system_flags: record.system_flags,
            user_flags,
            annotations: hashed(&record.annotations),
            thrid: record.thrid(),
        }
    }

    /// Whether it no longer shows to clients.
    pub fn is_expunged(&self) -> bool {
        self.system_flags.contains(SystemFlags::EXPUNGED)
    }
}

fn hashed(annotations: &[Annotation]) -> u64 {
    let own = annotations.iter().filter(|note| !note.entry.starts_with(VIRTUAL));
    let mut notes: Vec<_> =
        own.map(|note| (&note.entry, note.userid.as_bytes(), &note.value)).collect();
    if notes.is_empty() {
        return 0;
    }
    notes.sort();
    let mut hasher = DefaultHasher::new();
    notes.hash(&mut hasher);
    hasher.finish()
}
