//! Counting the records, to write a header or to check one.

use model::crc::{self, FlagCrcs, ThridText};
use model::{Modseq, Record, SystemFlags, Timestamp, Uid};

use super::header::IndexHeader;

/// What a header has to say about its records (`imap/mailbox.c`: header_update_counts, crc_basic
/// and crc_virtannot, Cyrus 2.4 to 3.13). Expunged records count for nothing but where it is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// All records, expunged ones included.
    pub num_records: u32,
    /// Live messages.
    pub exists: u32,
    /// Those with `\Answered`.
    pub answered: u32,
    /// Those with `\Deleted`.
    pub deleted: u32,
    /// Those with `\Flagged`.
    pub flagged: u32,
    /// Those without `\Seen`.
    pub unseen: u32,
    /// Bytes of the live messages.
    pub quota_mailbox_used: u64,
    /// Bytes of the live messages with `\Deleted`.
    pub quota_deleted_used: u64,
    /// Bytes of expunged messages whose files are still there.
    pub quota_expunged_used: u64,
    /// The basic sync CRC.
    pub sync_crc_basic: u32,
    /// What the records add to the annotation CRC, without its start and without the annotations in
    /// cyrus.annotations.
    pub virtual_annots: u32,
    /// The highest UID, expunged ones included.
    pub highest_uid: Uid,
    /// The highest modseq, expunged ones included.
    pub highest_modseq: Modseq,
    /// When the oldest of the expunged records whose files are still there was expunged.
    pub first_expunged: Option<Timestamp>,
}

/// A number of a header that is not what the records say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counter {
    /// The field's name.
    pub name: &'static str,
    /// What the header says.
    pub stored: u64,
    /// What the records say.
    pub counted: u64,
}

impl Tally {
    /// Counts the records of an index of version `minor_version`.
    pub fn of(
        records: impl IntoIterator<Item = Record>,
        minor_version: u32,
        flags: &FlagCrcs,
        thrid: ThridText,
    ) -> Self {
        let mut tally = Self::default();
        for record in records {
            tally.add(&record, minor_version, flags, thrid);
        }
        tally
    }

    /// Counts one more.
    pub fn add(&mut self, record: &Record, minor_version: u32, flags: &FlagCrcs, thrid: ThridText) {
        self.count(record);
        self.sync_crc_basic ^= crc::basic(record, flags);
        self.virtual_annots ^= crc::virtual_annotations(record, minor_version, thrid);
    }

    /// Puts everything that was counted into a header, as far as its version has a place for it.
    ///
    /// Three numbers may rightly be further than the records are and are only moved as far as they
    /// must: `last_uid` and `highestmodseq` up, `first_expunged` down.
    ///
    /// `annots` is the start of the annotation CRC, usually [`crc::ANNOT_START`], XORed with what
    /// the annotations in cyrus.annotations add to it.
    pub fn apply(&self, header: &mut IndexHeader, annots: u32) {
        header.num_records = self.num_records;
        header.exists = self.exists;
        header.answered = self.answered;
        header.deleted = self.deleted;
        header.flagged = self.flagged;
        header.unseen = self.unseen;
        header.quota_mailbox_used = self.quota_mailbox_used;
        header.quota_deleted_used = self.quota_deleted_used;
        header.quota_expunged_used = self.quota_expunged_used;
        header.sync_crc_basic = self.sync_crc_basic;
        header.sync_crc_annot = annots ^ self.virtual_annots;
        header.last_uid = header.last_uid.max(self.highest_uid);
        header.highestmodseq = header.highestmodseq.max(self.highest_modseq);
        let stored = Some(header.first_expunged).filter(|time| *time != Timestamp::default());
        if let Some(oldest) = stored.into_iter().chain(self.first_expunged).min() {
            header.first_expunged = oldest;
        }
        header.keep_to_version();
    }

    /// Changes a header for records that counted as `before` and now count as this does; others are
    /// not concerned. `annots` is by what the annotations in cyrus.annotations change the CRC: what
    /// they add to it now, XORed with what they added.
    pub fn apply_change(&self, before: &Self, header: &mut IndexHeader, annots: u32) {
        let moved = |now: u32, was: u32, is: u32| now.wrapping_sub(was).wrapping_add(is);
        let moved_size = |now: u64, was: u64, is: u64| now.saturating_sub(was).saturating_add(is);
        let moved_all = Self {
            num_records: moved(header.num_records, before.num_records, self.num_records),
            exists: moved(header.exists, before.exists, self.exists),
            answered: moved(header.answered, before.answered, self.answered),
            deleted: moved(header.deleted, before.deleted, self.deleted),
            flagged: moved(header.flagged, before.flagged, self.flagged),
            unseen: moved(header.unseen, before.unseen, self.unseen),
            quota_mailbox_used: moved_size(
                header.quota_mailbox_used,
                before.quota_mailbox_used,
                self.quota_mailbox_used,
            ),
            quota_deleted_used: moved_size(
                header.quota_deleted_used,
                before.quota_deleted_used,
                self.quota_deleted_used,
            ),
            quota_expunged_used: moved_size(
                header.quota_expunged_used,
                before.quota_expunged_used,
                self.quota_expunged_used,
            ),
            sync_crc_basic: header.sync_crc_basic ^ before.sync_crc_basic ^ self.sync_crc_basic,
            virtual_annots: before.virtual_annots ^ self.virtual_annots,
            ..*self
        };
        moved_all.apply(header, header.sync_crc_annot ^ annots);
    }

    /// Those counters that the header's version has and that say something else. The annotation
    /// CRC is not among them, as the records alone don't determine it.
    pub fn differences(&self, header: &IndexHeader) -> Vec<Counter> {
        let since = |version, counter| (header.minor_version >= version).then_some(counter);
        let counter = |name, stored: u64, counted: u64| Counter { name, stored, counted };
        let small =
            |name, stored: u32, counted: u32| counter(name, u64::from(stored), u64::from(counted));
        let used = (header.quota_mailbox_used, self.quota_mailbox_used);
        let of_deleted = (header.quota_deleted_used, self.quota_deleted_used);
        let of_expunged = (header.quota_expunged_used, self.quota_expunged_used);
        [
            since(6, small("num_records", header.num_records, self.num_records)),
            since(6, small("answered", header.answered, self.answered)),
            since(6, small("deleted", header.deleted, self.deleted)),
            since(6, small("flagged", header.flagged, self.flagged)),
            since(6, counter("quota_mailbox_used", used.0, used.1)),
            since(12, small("exists", header.exists, self.exists)),
            since(12, small("sync_crc_basic", header.sync_crc_basic, self.sync_crc_basic)),
            since(14, small("unseen", header.unseen, self.unseen)),
            since(18, counter("quota_deleted_used", of_deleted.0, of_deleted.1)),
            since(18, counter("quota_expunged_used", of_expunged.0, of_expunged.1)),
        ]
        .into_iter()
        .flatten()
        .filter(|counter| counter.stored != counter.counted)
        .collect()
    }

    /// Counts one record, but for its CRCs.
    fn count(&mut self, record: &Record) {
        let has = |flag| u32::from(record.system_flags.contains(flag));
        self.num_records = self.num_records.saturating_add(1);
        self.highest_uid = self.highest_uid.max(record.uid);
        self.highest_modseq = self.highest_modseq.max(record.modseq);
        if record.is_expunged() && record.is_unlinked() {
            return;
        }
        if record.is_expunged() {
            add_size(&mut self.quota_expunged_used, record.size);
            let older = self.first_expunged.is_none_or(|oldest| record.last_updated < oldest);
            if older {
                self.first_expunged = Some(record.last_updated);
            }
            return;
        }
        // None can overflow where `num_records` does not.
        self.exists += 1;
        self.answered += has(SystemFlags::ANSWERED);
        self.deleted += has(SystemFlags::DELETED);
        self.flagged += has(SystemFlags::FLAGGED);
        self.unseen += 1 - has(SystemFlags::SEEN);
        add_size(&mut self.quota_mailbox_used, record.size);
        if record.system_flags.contains(SystemFlags::DELETED) {
            add_size(&mut self.quota_deleted_used, record.size);
        }
    }
}

/// Sizes come from files, and their sum may be nonsense; it must not overflow.
fn add_size(sum: &mut u64, size: u64) {
    *sum = sum.saturating_add(size);
}
