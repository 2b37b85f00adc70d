//! Findings: what is wrong, where, whose fault it is, and what to do about it.

use std::fmt;

/// Who has to act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Blame {
    /// The stored data is damaged: the disk, a crash, or a former bug.
    Data,
    /// This machine: permissions, a full disk, a missing file system.
    Environment,
    /// The configuration, or the way the command was called.
    Operator,
    /// The other end of a connection, or whoever wrote the archive.
    Peer,
}

impl Blame {
    /// The word used in manifests and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Blame::Data => "data",
            Blame::Environment => "environment",
            Blame::Operator => "operator",
            Blame::Peer => "peer",
        }
    }
}

macro_rules! finding_kinds {
    ($($(#[$doc:meta])* $variant:ident = $code:literal, $blame:ident, $remedy:literal;)*) => {
        /// What is wrong. Each kind has a stable code for manifests and JSON.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum FindingKind {
            $($(#[$doc])* $variant,)*
        }

        impl FindingKind {
            /// Every kind, in the order of the codes' documentation.
            pub const ALL: &'static [FindingKind] = &[$(FindingKind::$variant,)*];

            /// The stable code.
            pub fn code(self) -> &'static str {
                match self { $(FindingKind::$variant => $code,)* }
            }

            /// The kind with that code.
            pub fn from_code(code: &str) -> Option<Self> {
                match code { $($code => Some(FindingKind::$variant),)* _ => None }
            }

            /// Who has to act.
            pub fn blame(self) -> Blame {
                match self { $(FindingKind::$variant => Blame::$blame,)* }
            }

            /// What to try.
            pub fn remedy(self) -> &'static str {
                match self { $(FindingKind::$variant => $remedy,)* }
            }
        }
    };
}

finding_kinds! {
    /// A record whose message file is not there.
    MessageMissing = "message-missing", Data,
        "cylinder heal brings it back from a replica or a backup; or restore it from an older snapshot";
    /// A message file whose SHA-1 is not the record's GUID.
    GuidMismatch = "guid-mismatch", Data,
        "cylinder heal brings the right bytes back from a replica or a backup; a snapshot keeps those found, under their own hash";
    /// A message file longer or shorter than its record says.
    SizeMismatch = "size-mismatch", Data,
        "compare with an older snapshot or the replica; reconstruct corrects the record";
    /// A message file that cannot be read.
    MessageUnreadable = "message-unreadable", Environment,
        "check the file's owner, its permissions and the disk";
    /// A message file without a record.
    OrphanFile = "orphan-file", Data,
        "cylinder reconstruct with the server stopped adopts it, and so does Cyrus' reconstruct; or remove it";
    /// cyrus.index is missing, or cannot be read at all.
    IndexUnreadable = "index-unreadable", Data,
        "run cylinder reconstruct with the server stopped, or Cyrus' reconstruct beside it";
    /// cyrus.index is shorter than its header says.
    IndexTruncated = "index-truncated", Data,
        "run cylinder reconstruct with the server stopped, or Cyrus' reconstruct beside it";
    /// cyrus.index goes on behind its last record: an append that did not finish, or a count that lies.
    IndexTail = "index-tail", Data,
        "harmless after a crash; if messages are missed, run cylinder reconstruct with the server stopped, or Cyrus' reconstruct beside it";
    /// The index header fails its CRC.
    IndexHeaderCrc = "index-header-crc", Data,
        "run cylinder reconstruct with the server stopped, or Cyrus' reconstruct beside it";
    /// The index header names other sizes than its version has.
    IndexSizes = "index-sizes", Data,
        "run cylinder reconstruct with the server stopped, or Cyrus' reconstruct beside it; the sizes of the version were used";
    /// A record fails its CRC.
    RecordCrc = "record-crc", Data,
        "run cylinder reconstruct with the server stopped, or Cyrus' reconstruct beside it";
    /// Records out of order, or the same UID twice.
    RecordOrder = "record-order", Data,
        "run cylinder reconstruct with the server stopped, or Cyrus' reconstruct beside it";
    /// The index is of a version newer than this program knows.
    IndexTooNew = "index-too-new", Operator,
        "update cylinder; the file itself may be fine";
    /// cyrus.header is missing or cannot be read.
    HeaderUnreadable = "header-unreadable", Data,
        "run cylinder reconstruct with the server stopped, or Cyrus' reconstruct beside it; its name, ACL and identity come from mailboxes.db";
    /// cyrus.header is not the file that the index was written with.
    HeaderCrc = "header-crc", Data,
        "run cylinder reconstruct with the server stopped, or Cyrus' reconstruct beside it";
    /// Some other metadata file cannot be read.
    MetadataUnreadable = "metadata-unreadable", Data,
        "check the file with cyr_dbtool, its permissions and the disk";
    /// A mailbox of mailboxes.db without a directory.
    MailboxMissing = "mailbox-missing", Data,
        "restore it from an older snapshot, or delete the mailbox";
    /// A mailboxes.db entry that cannot be understood.
    EntryUnreadable = "entry-unreadable", Data,
        "check mailboxes.db with ctl_mboxlist -v";
    /// Two mailboxes with the same uniqueid.
    DuplicateUniqueId = "duplicate-uniqueid", Data,
        "run Cyrus' reconstruct; Cyrus before 3.0 could give one id to two mailboxes";
    /// A mailbox whose uniqueid is missing where it should stand.
    UniqueIdLost = "uniqueid-lost", Data,
        "cylinder reconstruct with the server stopped gives it the id that is left, and so does Cyrus' reconstruct";
    /// A mailbox that has one uniqueid in mailboxes.db, and another one in cyrus.header.
    UniqueIdMismatch = "uniqueid-mismatch", Data,
        "find out which mailbox the files are of before reconstruct takes the id of mailboxes.db for them";
    /// A UID in cyrus.index and in cyrus.expunge: a crash in the middle of an expunge.
    ExpungeOverlap = "expunge-overlap", Data,
        "the live record wins; merge cyrus.expunge before any newer Cyrus opens the mailbox";
    /// A message that the archive holds, but not with the bytes that were put in.
    ArchiveDamaged = "archive-damaged", Data,
        "restore it from another copy of the archive, or from another snapshot";
    /// What is left of a mailbox of a replica does not make one.
    MailboxDamaged = "mailbox-damaged", Data,
        "serve the replica once more and let the master send the mailbox again; without a master, restore it from a backup";
    /// The counters of an index are not what its records say.
    IndexCounters = "index-counters", Data,
        "run cylinder reconstruct with the server stopped, or Cyrus' reconstruct beside it";
    /// A sum that replication compares mailboxes by is not that of the records.
    SyncCrc = "sync-crc", Data,
        "run cylinder reconstruct with the server stopped, or Cyrus' reconstruct beside it; until then replicas take it for changed";
    /// cyrus.cache is not what the records say of it.
    CacheDamaged = "cache-damaged", Data,
        "no mail is lost: run cylinder reconstruct with the server stopped, or Cyrus' reconstruct beside it, which makes it anew";
    /// A quota root that does not say what its mailboxes add up to.
    QuotaUsage = "quota-usage", Data,
        "run quota -f on the root";
    /// A message file with more names than records.
    LinksUnexplained = "links-unexplained", Data,
        "cylinder sweep removes what dead servers left; look at any other name before it goes";
    /// The configuration has Cyrus look for something elsewhere than where it lies.
    Misplaced = "misplaced", Operator,
        "correct that option of imapd.conf";
    /// A lock file that no Cyrus process seems to use.
    LockUnused = "lock-unused", Operator,
        "check hashimapspool, fulldirhash and mboxname_lockpath against the running server";
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What is wrong.
    pub kind: FindingKind,
    /// The mailbox's internal name, or the file or database concerned.
    pub place: String,
    /// The message concerned, where it is one.
    pub uid: Option<u32>,
    /// What was expected and what was found, in one line.
    pub detail: String,
}

impl Finding {
    /// A finding about a whole mailbox, file or database.
    pub fn new(kind: FindingKind, place: impl fmt::Display, detail: impl fmt::Display) -> Self {
        Self { kind, place: place.to_string(), uid: None, detail: detail.to_string() }
    }

    /// The same finding, about one message.
    #[must_use]
    pub fn at_uid(mut self, uid: u32) -> Self {
        self.uid = Some(uid);
        self
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.code(), self.place)?;
        if let Some(uid) = self.uid {
            write!(f, " uid {uid}")?;
        }
        write!(f, ": {}", self.detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_found_by_its_code() {
        for kind in FindingKind::ALL {
            assert_eq!(FindingKind::from_code(kind.code()), Some(*kind));
        }
        assert_eq!(FindingKind::from_code("no-such-code"), None);
    }
}
