//! The records of a mailbox, each against the file of its message.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use model::{FindingKind, Modseq, Record, SystemFlags, Timestamp, Uid, UserFlags};
use spool::MessageStat;

use super::Options;
use super::change::{self, Field, Value, Why};
use super::orphans;
use super::read::{Digested, Read};
use super::remains::{Remains, Trace, Trust, is_plausible};
use super::tell::Tell;

/// Flags that any version knows (`imap/mailbox.h`, Cyrus 3.13).
const KNOWN_FLAGS: u32 = 0xfc00_001f;

/// What records are judged by.
pub(super) struct Judge<'j> {
    pub options: &'j Options<'j>,
    pub files: &'j BTreeMap<Uid, MessageStat>,
    /// What the files have that had to be read.
    pub read: &'j Read,
    /// Records whose cache is not what they say.
    pub bad_cache: &'j BTreeSet<Uid>,
    /// User flags that have a name.
    pub named: UserFlags,
    /// What changed records get.
    pub modseq: Modseq,
    /// Whether archived messages are elsewhere.
    pub has_archive: bool,
    /// The version of the index.
    pub version: u32,
}

/// The first version with sizes above 4 GiB.
const FIRST_WITH_WIDE_SIZES: u32 = 20;

/// The first version that has GUIDs.
pub(super) const FIRST_WITH_GUIDS: u32 = 10;

/// The first version whose servers read a message anew when its cache is not there (3.0); those before do not
/// give it.
pub(super) const FIRST_WITHOUT_CACHE: u32 = 13;

/// Brings records into the order of their UIDs, each UID once. One that no sum vouches for has to lie
/// between its neighbours, or there has to be one file alone that it can be about.
pub(super) fn in_order(
    remains: &mut Remains,
    files: &BTreeMap<Uid, MessageStat>,
    tell: &mut Tell<'_>,
) -> Vec<Trace> {
    let traces = std::mem::take(&mut remains.traces);
    let is_sound = |pair: &[Trace]| pair[0].record.uid < pair[1].record.uid;
    // Cyrus gives the UID 0 to what it wipes (`imap/mailbox.c`: mailbox_wipe_index_record, 3.6).
    let is_one = |trace: &Trace| trace.trust == Trust::Whole && trace.record.uid.0 > 0;
    let is_whole = traces.iter().all(is_one);
    if is_whole && traces.windows(2).all(is_sound) {
        return traces;
    }
    let whole: BTreeSet<Uid> =
        traces.iter().filter(|trace| is_one(trace)).map(|trace| trace.record.uid).collect();
    let mut ordered: BTreeMap<Uid, Trace> = BTreeMap::new();
    let mut before = Uid(0);
    for mut trace in traces {
        if trace.trust == Trust::Doubtful {
            let after = whole.range(Uid(before.0.saturating_add(1))..).next().copied();
            let after = after.unwrap_or(Uid(u32::MAX));
            let is_between = |uid: Uid| before < uid && uid < after;
            let may_be_missing = is_between(trace.record.uid) && !trace.record.guid.is_zero();
            if !files.contains_key(&trace.record.uid) && !may_be_missing
                || !is_between(trace.record.uid)
            {
                let gap = files.range((Bound::Excluded(before), Bound::Unbounded));
                let gap = gap.map(|(uid, _)| uid).take_while(|uid| **uid < after);
                let mut gap = gap.filter(|uid| !ordered.contains_key(uid));
                match (gap.next(), gap.next()) {
                    (Some(only), None) => trace.record.uid = *only,
                    _ => {
                        dropped(&trace.record, Why::RecordDropped, tell);
                        continue;
                    }
                }
            }
        }
        if trace.record.uid.0 == 0 {
            dropped(&trace.record, Why::RecordDropped, tell);
            continue;
        }
        before = before.max(trace.record.uid);
        insert(&mut ordered, trace, files, tell);
    }
    ordered.into_values().collect()
}

/// Of two records with one UID, the one stays whose size is that of the file.
fn insert(
    ordered: &mut BTreeMap<Uid, Trace>,
    trace: Trace,
    files: &BTreeMap<Uid, MessageStat>,
    tell: &mut Tell<'_>,
) {
    let uid = trace.record.uid;
    let fits = |trace: &Trace| {
        let size = files.get(&uid).map(|stat| stat.size);
        (trace.trust == Trust::Whole, size == Some(trace.record.size))
    };
    match ordered.remove(&uid) {
        Some(first) => {
            let (kept, other) =
                if fits(&trace) > fits(&first) { (trace, first) } else { (first, trace) };
            dropped(&other.record, Why::UidTwice, tell);
            ordered.insert(uid, kept);
        }
        None => drop(ordered.insert(uid, trace)),
    }
}

fn dropped(record: &Record, why: Why, tell: &mut Tell<'_>) {
    let said = format!("GUID {}, {} bytes", record.guid, record.size);
    let fields = vec![Field::new("record", Value::Text(said), Value::Nothing)];
    tell.change(Some(record.uid), why, fields);
}

/// Which files have to be read to judge these records, and the files without one.
pub(super) fn to_read(
    traces: &[Trace],
    orphans: &[MessageStat],
    files: &BTreeMap<Uid, MessageStat>,
    takes_guids: bool,
) -> Vec<MessageStat> {
    let of_records = traces.iter().filter_map(|trace| {
        let stat = files.get(&trace.record.uid).filter(|stat| stat.is_file && stat.size > 0)?;
        let is_doubtful = trace.trust == Trust::Doubtful;
        let is_unsure = takes_guids || stat.size != trace.record.size;
        (is_doubtful || is_unsure && !trace.record.is_unlinked()).then_some(*stat)
    });
    of_records.chain(orphans.iter().copied()).collect()
}

impl Judge<'_> {
    /// What a record is to be; `None` if it goes.
    pub fn judge(&self, trace: Trace, tell: &mut Tell<'_>) -> Option<Record> {
        let mut record = trace.record;
        let stat = self.files.get(&record.uid).filter(|stat| stat.is_file && stat.size > 0);
        if trace.trust == Trust::Doubtful {
            return self.doubtful(&record, stat, tell);
        }
        if !record.is_unlinked() {
            match stat {
                Some(stat) => self.file(&mut record, stat, tell),
                None => self.missing(&mut record, tell),
            }
        }
        self.flags(&mut record, tell);
        self.cache(&mut record, tell);
        Some(record)
    }

    /// A record that no sum vouches for.
    fn doubtful(
        &self,
        old: &Record,
        stat: Option<&MessageStat>,
        tell: &mut Tell<'_>,
    ) -> Option<Record> {
        let (mut record, why) = match (stat, self.read.get(&old.uid)) {
            (Some(stat), Some(Ok(found))) if found.guid == old.guid || self.may_be(old, stat) => {
                let mut record = self.as_far_as_plausible(old, Some(stat));
                set_contents(&mut record, found);
                self.place(&mut record, stat);
                (record, Why::RecordBelieved)
            }
            (Some(stat), Some(Ok(found))) => {
                (self.of_file(old.uid, stat, found), Why::RecordRemade)
            }
            // What it says of a message whose file is gone is what there is to look for it by.
            (None, _) if !self.files.contains_key(&old.uid) && !old.guid.is_zero() => {
                (self.as_far_as_plausible(old, None), Why::RecordBelieved)
            }
            _ => {
                dropped(old, Why::RecordDropped, tell);
                // What has its name has no record then.
                self.files.get(&old.uid).into_iter().for_each(|stat| orphans::left(stat, tell));
                return None;
            }
        };
        forget_cache(&mut record);
        record.user_flags = and(record.user_flags, self.named);
        tell.change(Some(record.uid), why, change::or_sum(change::of_records(old, &record)));
        if stat.is_none() && !record.is_unlinked() {
            self.missing(&mut record, tell);
        }
        Some(record)
    }

    /// Whether a record without a GUID may be that of a file.
    fn may_be(&self, old: &Record, stat: &MessageStat) -> bool {
        old.guid.is_zero() && old.size == stat.size
    }

    /// What can be true of a record.
    fn as_far_as_plausible(&self, old: &Record, stat: Option<&MessageStat>) -> Record {
        let mut record = old.clone();
        let now = self.options.now;
        record.system_flags.0 &= KNOWN_FLAGS;
        // Its file is there. A message that comes back costs less than one that is removed.
        if stat.is_some() {
            record.system_flags.0 &= !(SystemFlags::EXPUNGED.0 | SystemFlags::UNLINKED.0);
        }
        let or = |time: &mut Timestamp, other| {
            if !is_plausible(*time, now) {
                *time = other;
            }
        };
        or(&mut record.internaldate, stat.map_or(now, |stat| self.arrived(stat)));
        if record.savedate != Timestamp::default() {
            let arrived = record.internaldate;
            or(&mut record.savedate, arrived);
        }
        record.createdmodseq = record.createdmodseq.min(self.modseq);
        self.touch(&mut record);
        record
    }

    /// When a message arrived, by its file.
    fn arrived(&self, stat: &MessageStat) -> Timestamp {
        let arrived = Timestamp::from_secs(stat.mtime.secs);
        if is_plausible(arrived, self.options.now) { arrived } else { self.options.now }
    }

    /// The record of a message of which only its file is left.
    pub fn of_file(&self, uid: Uid, stat: &MessageStat, found: &Digested) -> Record {
        let arrived = self.arrived(stat);
        let mut record = Record {
            uid,
            internaldate: arrived,
            sentdate: arrived,
            gmtime: arrived,
            last_updated: self.options.now,
            savedate: self.options.now,
            modseq: self.modseq,
            createdmodseq: self.modseq,
            ..Record::default()
        };
        set_contents(&mut record, found);
        self.place(&mut record, stat);
        record
    }

    /// A file that is there.
    fn file(&self, record: &mut Record, stat: &MessageStat, tell: &mut Tell<'_>) {
        if self.is_misplaced(record, stat) {
            edit(record, Why::Partition, tell, |record| self.place(record, stat));
        }
        let found = match self.read.get(&record.uid) {
            Some(Ok(found)) => found,
            Some(Err(why)) => {
                return tell.wrong_at(record.uid, FindingKind::MessageUnreadable, why);
            }
            None => return,
        };
        let may_be_same = self.may_be(record, stat);
        if found.guid == record.guid {
            if found.size != record.size {
                edit(record, Why::Size, tell, |record| {
                    self.touch(record);
                    set_contents(record, found);
                });
            }
        } else if self.takes_guids() && self.has_room(found.size) {
            edit(record, Why::Guid, tell, |record| {
                self.touch(record);
                set_contents(record, found);
                if !may_be_same {
                    forget_cache(record);
                }
            });
        } else if may_be_same {
            // Nobody knows its GUID, and nobody has asked for it.
        } else if record.guid.is_zero() {
            let said = record.size;
            let detail = format!("the file has {} bytes, the record says {said}", found.size);
            tell.wrong_at(record.uid, FindingKind::SizeMismatch, detail);
        } else {
            let said = record.guid;
            let detail = format!("its file has the SHA-1 {}, its record {said}", found.guid);
            tell.wrong_at(record.uid, FindingKind::GuidMismatch, detail);
        }
    }

    fn takes_guids(&self) -> bool {
        self.options.guids && self.version >= FIRST_WITH_GUIDS
    }

    /// Whether a record can hold that size.
    pub fn has_room(&self, size: u64) -> bool {
        self.version >= FIRST_WITH_WIDE_SIZES || u32::try_from(size).is_ok()
    }

    /// Whether a record says that its file is on the other partition.
    fn is_misplaced(&self, record: &Record, stat: &MessageStat) -> bool {
        self.has_archive && record.is_archived() != stat.is_archived
    }

    /// Says on which partition a file is.
    pub fn place(&self, record: &mut Record, stat: &MessageStat) {
        if self.is_misplaced(record, stat) {
            record.system_flags.0 ^= SystemFlags::ARCHIVED.0;
        }
    }

    /// A file that is not there, or has nothing in it.
    fn missing(&self, record: &mut Record, tell: &mut Tell<'_>) {
        let why = match (record.is_expunged(), self.options.accept_losses) {
            (true, _) => Why::Unlinked,
            (false, true) => Why::GivenUp,
            (false, false) => {
                let (kind, detail) = match self.files.get(&record.uid) {
                    None => (FindingKind::MessageMissing, "there is no file of it"),
                    Some(stat) if stat.is_file => (FindingKind::GuidMismatch, "its file is empty"),
                    Some(_) => (FindingKind::MessageUnreadable, "what has its name is no file"),
                };
                return tell.wrong_at(record.uid, kind, detail);
            }
        };
        edit(record, why, tell, |record| {
            record.system_flags.0 |= SystemFlags::EXPUNGED.0 | SystemFlags::UNLINKED.0;
            if why == Why::GivenUp {
                self.touch(record);
            }
        });
    }

    /// Flags without a name.
    fn flags(&self, record: &mut Record, tell: &mut Tell<'_>) {
        let named = and(record.user_flags, self.named);
        if named != record.user_flags {
            edit(record, Why::FlagsUnnamed, tell, |record| {
                record.user_flags = named;
                self.touch(record);
            });
        }
    }

    /// A cache that is not what the record says.
    fn cache(&self, record: &mut Record, tell: &mut Tell<'_>) {
        if self.bad_cache.contains(&record.uid) && record.cache_offset != 0 {
            edit(record, Why::Cache, tell, forget_cache);
        }
    }

    /// Clients and replicas are to hear of it.
    fn touch(&self, record: &mut Record) {
        record.modseq = self.modseq;
        record.last_updated = self.options.now;
    }
}

/// Changes a record, and tells how.
fn edit(record: &mut Record, why: Why, tell: &mut Tell<'_>, action: impl FnOnce(&mut Record)) {
    let old = record.clone();
    action(record);
    tell.change(Some(record.uid), why, change::of_records(&old, record));
}

fn forget_cache(record: &mut Record) {
    (record.cache_offset, record.cache_crc) = (0, 0);
}

/// What a record has of the bytes of its message.
fn set_contents(record: &mut Record, found: &Digested) {
    record.guid = found.guid;
    record.size = found.size;
    record.header_size = found.header_size;
    if let Some(sent) = found.sent {
        (record.sentdate, record.gmtime) = (sent.day, sent.moment);
    }
}

pub(super) fn and(flags: UserFlags, named: UserFlags) -> UserFlags {
    UserFlags(std::array::from_fn(|word| flags.0[word] & named.0[word]))
}
