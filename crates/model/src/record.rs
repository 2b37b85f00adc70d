//! One record of cyrus.index, whatever version it was read from.

use crate::ids::{Guid, Modseq, Uid};

/// A moment as Cyrus keeps it: whole seconds up to index version 19, nanoseconds in version 20.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    /// Seconds since 1970-01-01T00:00:00Z.
    pub secs: i64,
    /// Nanoseconds within that second, 0 where the version keeps none.
    pub nanos: u32,
}

impl Timestamp {
    /// A whole second.
    pub fn from_secs(secs: i64) -> Self {
        Self { secs, nanos: 0 }
    }
}

/// The word of system flags and internal flags (`imap/mailbox.h`, Cyrus 3.6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SystemFlags(pub u32);

impl SystemFlags {
    /// `\Answered`.
    pub const ANSWERED: Self = Self(1);
    /// `\Flagged`.
    pub const FLAGGED: Self = Self(1 << 1);
    /// `\Deleted`.
    pub const DELETED: Self = Self(1 << 2);
    /// `\Draft`.
    pub const DRAFT: Self = Self(1 << 3);
    /// `\Seen` by the mailbox's owner; only since index version 12.
    pub const SEEN: Self = Self(1 << 4);
    /// Snoozed (3.1+).
    pub const SNOOZED: Self = Self(1 << 26);
    /// Its conversation was split (3.1+).
    pub const SPLIT_CONVERSATION: Self = Self(1 << 27);
    /// Awaits cleanup (3.1+).
    pub const NEEDS_CLEANUP: Self = Self(1 << 28);
    /// File and cache lie on the archive partition (3.0+).
    pub const ARCHIVED: Self = Self(1 << 29);
    /// The file has been removed; implies expunged (2.4+).
    pub const UNLINKED: Self = Self(1 << 30);
    /// Expunged, the file still kept unless unlinked (2.4+).
    pub const EXPUNGED: Self = Self(1 << 31);

    /// Whether every bit of `flags` is set.
    pub fn contains(self, flags: Self) -> bool {
        self.0 & flags.0 == flags.0
    }
}

/// The 128 user flags of a record; flag `n` is named by line `n` of the mailbox's header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserFlags(pub [u32; 4]);

impl UserFlags {
    /// MAX_USER_FLAGS of every Cyrus version.
    pub const MAX: usize = 128;

    /// Whether flag `n` is set; `false` for any `n` past the last.
    pub fn contains(self, n: usize) -> bool {
        n < Self::MAX && self.0[n / 32] >> (n % 32) & 1 == 1
    }

    /// Sets flag `n`; nothing happens for an `n` past the last.
    pub fn insert(&mut self, n: usize) {
        if n < Self::MAX {
            self.0[n / 32] |= 1 << (n % 32);
        }
    }

    /// The numbers of the flags that are set, ascending.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        (0..Self::MAX).filter(move |n| self.contains(*n))
    }
}

/// One message of a mailbox. A field that the index version lacks holds its zero value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// The message's number in its mailbox.
    pub uid: Uid,
    /// When it arrived here.
    pub internaldate: Timestamp,
    /// The day of the Date: header.
    pub sentdate: Timestamp,
    /// The whole Date: header (index 12+).
    pub gmtime: Timestamp,
    /// When the record last changed; in cyrus.expunge of 2.3, when it was expunged.
    pub last_updated: Timestamp,
    /// When it was saved into this mailbox (index 15+).
    pub savedate: Timestamp,
    /// Bytes of the message file.
    pub size: u64,
    /// Bytes before the body, the blank line included.
    pub header_size: u32,
    /// Lines of the body; index 6 to 14 only, and 0 there since 2.4.
    pub content_lines: u32,
    /// System and internal flags.
    pub system_flags: SystemFlags,
    /// User flags.
    pub user_flags: UserFlags,
    /// SHA-1 of the message file (index 10+), zero where unknown.
    pub guid: Guid,
    /// When it last changed, in the account's counting (index 8+).
    pub modseq: Modseq,
    /// When it was created, likewise (index 16+).
    pub createdmodseq: Modseq,
    /// Conversation id (index 13+).
    pub cid: u64,
    /// Conversation it was split from (index 20).
    pub basecid: u64,
    /// Where its cache record starts in cyrus.cache, 0 for none. 48 bits.
    pub cache_offset: u64,
    /// Version of the cache record.
    pub cache_version: u16,
    /// CRC-32 of the cache record (index 12+), 0 for unknown.
    pub cache_crc: u32,
}

impl Record {
    /// Whether the message no longer shows to clients.
    pub fn is_expunged(&self) -> bool {
        self.system_flags.contains(SystemFlags::EXPUNGED)
    }

    /// Whether its file has been removed.
    pub fn is_unlinked(&self) -> bool {
        self.system_flags.contains(SystemFlags::UNLINKED)
    }

    /// Whether its file lies on the archive partition.
    pub fn is_archived(&self) -> bool {
        self.system_flags.contains(SystemFlags::ARCHIVED)
    }
}
