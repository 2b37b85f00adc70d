//! The header of cyrus.index.

use model::{Modseq, Timestamp, Uid, UidValidity, crc};

use super::layout::{self, Layout};
use crate::error::EncodeError;

/// The options of a mailbox (`imap/mailbox.h`, Cyrus 3.13). Up to version 7 only the first is
/// meaningful.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct MailboxOptions(pub u32);

impl MailboxOptions {
    /// POP3 clients get UIDs of the new form.
    pub const POP3_NEW_UIDL: Self = Self(1);
    /// Modseqs are kept; since 2.4 always so, whatever the bit says.
    pub const CONDSTORE: Self = Self(1 << 1);
    /// The seen state is one for all readers.
    pub const SHARED_SEEN: Self = Self(1 << 2);
    /// Duplicates are delivered.
    pub const DUPLICATE_DELIVER: Self = Self(1 << 3);
    /// There are calendar alarms (3.2+).
    pub const HAS_ALARMS: Self = Self(1 << 4);
    /// Files of expunged messages wait to be removed.
    pub const NEEDS_UNLINK: Self = Self(1 << 29);
    /// Records of removed messages wait to be dropped.
    pub const NEEDS_REPACK: Self = Self(1 << 30);
    /// The mailbox itself waits to be removed.
    pub const DELETED: Self = Self(1 << 31);

    /// Whether every bit of `options` is set.
    pub fn contains(self, options: Self) -> bool {
        self.0 & options.0 == options.0
    }
}

/// The header of a cyrus.index or cyrus.expunge.
///
/// A field that the version lacks holds zero, or what Cyrus puts in its place: `exists` is
/// `num_records` and `deletedmodseq` is `highestmodseq` before version 12, `changes_epoch` is
/// `last_repack_time` before version 17. A `highestmodseq` of 0 reads as 1.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IndexHeader {
    /// Grows by one with every repack; the first word of cyrus.cache repeats it.
    pub generation: u32,
    /// Always 0.
    pub format: u32,
    /// The version of the file: 6 to 20.
    pub minor_version: u32,
    /// Bytes before the first record, as the file says.
    pub start_offset: u32,
    /// Bytes from one record to the next, as the file says.
    pub record_size: u32,
    /// How many records there are, as the file says. Expunged ones count since version 12; before,
    /// they are in cyrus.expunge.
    pub num_records: u32,
    /// When a message was last added; in cyrus.expunge of 2.3, when one was last expunged.
    pub last_appenddate: Timestamp,
    /// The highest UID ever given out.
    pub last_uid: Uid,
    /// Bytes of all live messages.
    pub quota_mailbox_used: u64,
    /// When a POP3 client last logged in.
    pub pop3_last_login: Timestamp,
    /// Which incarnation of the mailbox's name this is.
    pub uidvalidity: UidValidity,
    /// Live messages with `\Deleted`.
    pub deleted: u32,
    /// Live messages with `\Answered`.
    pub answered: u32,
    /// Live messages with `\Flagged`.
    pub flagged: u32,
    /// Options of the mailbox.
    pub options: MailboxOptions,
    /// Records in cyrus.cache that no message uses any more.
    pub leaked_cache: u32,
    /// The highest modseq of any record, expunged ones included (version 8+).
    pub highestmodseq: Modseq,
    /// The highest modseq of a record that is no longer here (version 12+).
    pub deletedmodseq: Modseq,
    /// Live messages (version 12+).
    pub exists: u32,
    /// When the oldest of the expunged records was expunged (version 12+).
    pub first_expunged: Timestamp,
    /// When the file was last rewritten without its dead records (version 12+).
    pub last_repack_time: Timestamp,
    /// CRC-32 of cyrus.header, 0 for unknown (version 12+).
    pub header_file_crc: u32,
    /// Fingerprint of all live records (version 12+); see [`model::crc`].
    pub sync_crc_basic: u32,
    /// Messages above this UID are recent to the owner (version 12+).
    pub recentuid: Uid,
    /// When the owner last made the messages old (version 12+).
    pub recenttime: Timestamp,
    /// POP3 clients see only messages that arrived later (version 13+).
    pub pop3_show_after: Timestamp,
    /// Bytes of all annotations, the mailbox's own included (version 13+).
    pub quota_annot_used: u64,
    /// Fingerprint of all annotations of live messages (version 13+); see [`model::crc`].
    pub sync_crc_annot: u32,
    /// Live messages that the owner has not seen (version 14+).
    pub unseen: u32,
    /// The account's modseq when the mailbox was created (version 16+).
    pub createdmodseq: Modseq,
    /// Since when `deletedmodseq` is complete (version 17+).
    pub changes_epoch: Timestamp,
    /// Bytes of live messages with `\Deleted` (version 18+).
    pub quota_deleted_used: u64,
    /// Bytes of expunged messages whose files are still there (version 18+).
    pub quota_expunged_used: u64,
}

impl IndexHeader {
    /// The header of an empty mailbox in an index of version `minor_version`.
    ///
    /// The annotation CRC starts as the Cyrus releases do that write this version by default.
    ///
    /// # Errors
    /// [`EncodeError::Version`] if there is no such version.
    pub fn fresh(minor_version: u32) -> Result<Self, EncodeError> {
        let layout = layout::known(minor_version)?;
        let mut header = Self {
            minor_version,
            highestmodseq: Modseq(1),
            sync_crc_basic: crc::BASIC_START,
            sync_crc_annot: match minor_version {
                0..=12 => 0,
                13..=15 => crc::ANNOT_START_OLD,
                _ => crc::ANNOT_START,
            },
            ..Self::default()
        };
        header.set_sizes(layout);
        header.fill_gaps();
        Ok(header)
    }

    /// Resets those counters that the version has no place for, so that the header equals what is
    /// read after it was written.
    pub(super) fn keep_to_version(&mut self) {
        if self.minor_version < 18 {
            self.quota_deleted_used = 0;
            self.quota_expunged_used = 0;
        }
        if self.minor_version < 14 {
            self.unseen = 0;
        }
        if self.minor_version < 13 {
            self.sync_crc_annot = 0;
        }
        if self.minor_version < 12 {
            self.sync_crc_basic = 0;
            self.first_expunged = Timestamp::default();
        }
        if self.minor_version < 8 {
            self.highestmodseq = Modseq(0);
        }
        self.fill_gaps();
    }

    /// Reads the fields; `raw` is as long as the layout says.
    pub(super) fn load(layout: &Layout, raw: &[u8]) -> Self {
        let mut header = (layout.load_header)(raw);
        header.fill_gaps();
        header
    }

    /// Takes the sizes of the version.
    pub(super) fn set_sizes(&mut self, layout: &Layout) {
        // Both are below 200.
        self.start_offset = layout.header_size as u32;
        self.record_size = layout.record_size as u32;
    }

    /// Puts in place of what the version lacks what Cyrus puts there.
    fn fill_gaps(&mut self) {
        if self.highestmodseq == Modseq(0) {
            self.highestmodseq = Modseq(1);
        }
        if self.minor_version < 12 {
            self.exists = self.num_records;
            self.deletedmodseq = self.highestmodseq;
        }
        if self.minor_version < 17 {
            self.changes_epoch = self.last_repack_time;
        }
    }
}
