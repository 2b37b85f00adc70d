//! Which Cyrus this is, as far as locking is concerned, judged from what lies on disk.
//!
//! Nothing on disk names the release. Three things tell: the form of mailboxes.db, the newest
//! minor version among the indexes (a mailbox keeps the version that it was created with, so
//! an old one proves nothing), and whether there is a directory of lock files.
//!
//! | mailboxes.db | newest index | releases whose locks are taken |
//! |---|---|---|
//! | text | up to 10, or none | 2.3, and if there is a lock directory 2.4 to 3.0 |
//! | text | 12 | 2.4 to 3.0 |
//! | dlist, or text not rewritten yet | up to 13, or none | 2.4 to 3.0, 3.2, 3.4 |
//! | likewise | 14 to 16, or some `createdmodseq` in mailboxes.db | 3.2, 3.4 |
//! | likewise | 17 and up | 3.4 |
//! | by id | up to 19, or none | 3.6 to 3.10, 3.12 and newer |
//! | by id | 20 and up | 3.12 and newer |
//!
//! Where several remain, the locks of all of them are taken: a lock file that nobody uses hurts
//! nobody, while a lock that is not taken costs consistency. Only the promise shrinks to what the
//! least of them can keep.

use std::fmt;

use cyrus_format::locks::LockEra;
use cyrus_format::mboxlist::MboxListEra;
use cyrus_format::names::NameEra;
use model::Userid;

/// What was seen on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// The form of mailboxes.db.
    pub list: MboxListEra,
    /// Whether an entry of it has a `createdmodseq`, which only 3.2 and later write.
    pub has_createdmodseq: bool,
    /// The newest minor version among the indexes looked at; `None` if there was none.
    pub newest_index: Option<u32>,
    /// Whether the directory of lock files exists.
    pub lock_dir: bool,
}

/// The releases that may be running, as far as their locks differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Era {
    /// Never empty, oldest first.
    candidates: Vec<LockEra>,
}

impl Era {
    /// Judges by the table above.
    pub fn detect(evidence: Evidence) -> Self {
        use LockEra::{V23, V24, V32, V34, V36, V312};
        let index = evidence.newest_index.unwrap_or(0);
        let candidates = match (evidence.list, index) {
            (MboxListEra::ById, ..20) => vec![V36, V312],
            (MboxListEra::ById, _) => vec![V312],
            (MboxListEra::Text, ..=10) if !evidence.lock_dir => vec![V23],
            (MboxListEra::Text, ..=10) => vec![V23, V24],
            (MboxListEra::Text, ..=12) => vec![V24],
            (_, ..=13) if !evidence.has_createdmodseq => vec![V24, V32, V34],
            (_, ..=16) => vec![V32, V34],
            (_, _) => vec![V34],
        };
        Self { candidates }
    }

    /// The oldest of them.
    pub(crate) fn oldest(&self) -> LockEra {
        self.candidates.first().copied().unwrap_or(LockEra::V36)
    }

    /// Just this one.
    pub(crate) fn only(era: LockEra) -> Self {
        Self { candidates: vec![era] }
    }

    /// How a release that the operator names, like `3.6` or `2.4.17`, locks and reads names;
    /// `None` if there is no such release.
    pub(crate) fn of_release(release: &str) -> Option<(LockEra, NameEra)> {
        let mut numbers = release.split('.').map(|part| part.parse::<u32>());
        let major = numbers.next()?.ok()?;
        let minor = numbers.next()?.ok()?;
        let rest_is_sound = numbers.all(|number| number.is_ok());
        let era = match (major, minor) {
            (2, 2 | 3) => LockEra::V23,
            (2, 4 | 5) | (3, 0) => LockEra::V24,
            (3, 1 | 2) => LockEra::V32,
            (3, 3 | 4) => LockEra::V34,
            (3, 5..=10) => LockEra::V36,
            (3, 11..) => LockEra::V312,
            _ => return None,
        };
        let names = if major == 2 { NameEra::V2 } else { NameEra::V3 };
        rest_is_sound.then_some((era, names))
    }

    /// Whether all locks of this era are among those of the other.
    pub(crate) fn is_within(&self, other: &Era) -> bool {
        self.candidates.iter().all(|era| other.candidates.contains(era))
    }

    /// Whose locks are taken, oldest first.
    pub fn candidates(&self) -> &[LockEra] {
        &self.candidates
    }

    /// Whether record locks on header, index and expunge may be all there is (2.3): nothing but
    /// they keep the message files of a mailbox in place.
    pub fn has_record_locks_only(&self) -> bool {
        self.candidates.contains(&LockEra::V23)
    }

    /// Whether the user lock certainly keeps mailboxes from coming, going and being renamed (3.2+).
    pub fn user_lock_freezes_names(&self) -> bool {
        self.candidates.iter().all(|era| *era >= LockEra::V32)
    }

    /// Whether the lock of an account certainly keeps what is in its mailboxes as it is (3.4+; shared
    /// ones 3.12+): only then are all seen at one instant, and not each at its own.
    pub fn user_lock_freezes_content(&self, userid: &Userid) -> bool {
        self.candidates.iter().all(|era| era.user_lock_covers_content(userid.user()))
    }
}

/// The releases, for people: `3.6 to 3.10`.
impl fmt::Display for Era {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Some(first), Some(last)) = (self.candidates.first(), self.candidates.last()) else {
            return Ok(());
        };
        let from = match first {
            LockEra::V23 => "2.3",
            LockEra::V24 => "2.4",
            LockEra::V32 => "3.2",
            LockEra::V34 => "3.4",
            LockEra::V36 => "3.6",
            LockEra::V312 => "3.12",
        };
        let to = match last {
            LockEra::V23 => "2.3",
            LockEra::V24 => "3.0",
            LockEra::V32 => "3.2",
            LockEra::V34 => "3.4",
            LockEra::V36 => "3.10",
            LockEra::V312 => return write!(f, "{from} or newer"),
        };
        if from == to { f.write_str(from) } else { write!(f, "{from} to {to}") }
    }
}

#[cfg(test)]
mod tests;
