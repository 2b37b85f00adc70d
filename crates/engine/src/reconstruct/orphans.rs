//! Files of messages that no record tells of.

use std::collections::BTreeMap;

use model::{FindingKind, Guid, Record, Uid};
use spool::MessageStat;

use super::change::{Field, Value, Why};
use super::read::Digested;
use super::records::{Judge, and};
use super::tell::Tell;

/// What becomes of them.
#[derive(Debug, Default)]
pub(super) struct Taken {
    /// Their records, by ascending UID.
    pub records: Vec<Record>,
    /// Files that get another UID.
    pub renumbered: Vec<(Uid, Uid)>,
}

/// The files that no record tells of. Empty ones hold no message, and other things than files are no mail:
/// these are told of, and left.
pub(super) fn find(
    files: &BTreeMap<Uid, MessageStat>,
    has_record: impl Fn(Uid) -> bool,
    tell: &mut Tell<'_>,
) -> Vec<MessageStat> {
    let strays = files.values().filter(|stat| !has_record(stat.uid)).copied();
    let (mail, others): (Vec<_>, Vec<_>) = strays.partition(|stat| stat.is_file && stat.size > 0);
    others.iter().for_each(|stat| left(stat, tell));
    mail
}

/// Tells of something that has the name of a message, and is none.
pub(super) fn left(stat: &MessageStat, tell: &mut Tell<'_>) {
    let detail = if stat.is_file { "it is empty" } else { "it is no file" };
    tell.wrong_at(stat.uid, FindingKind::OrphanFile, detail);
}

/// So far above the last UID, a number is more likely a mistake than a message: whoever took it would leave
/// few numbers for others.
const FURTHER_MAX: u32 = 1 << 20;

/// What strays are taken by.
pub(super) struct Rules<'r> {
    /// The highest UID that was given out; `None` if nothing tells.
    pub last_uid: Option<Uid>,
    /// Whether records were lost, so that a file's name is what is left of its record.
    pub keeps_uids: bool,
    /// Records that nobody counted.
    pub tail: &'r BTreeMap<Uid, Record>,
}

impl Rules<'_> {
    fn is_far(&self, uid: Uid) -> bool {
        let last = self.last_uid.map_or(u32::MAX / 2, |last| last.0);
        uid.0 > last.saturating_add(FURTHER_MAX)
    }
}

/// Gives them records, by Cyrus' rules (`imap/mailbox.c`: mailbox_reconstruct, 3.6): what is above the last
/// UID keeps its own; what is below gets the next ones, because its UID may have been another message's. But
/// where records were lost, a file's name is what is left of its record.
pub(super) fn take(
    orphans: &[MessageStat],
    rules: &Rules<'_>,
    judge: &Judge<'_>,
    tell: &mut Tell<'_>,
) -> Taken {
    let mut taken = Taken::default();
    let last_uid = rules.last_uid.unwrap_or_default();
    let (own, others): (Vec<&MessageStat>, Vec<&MessageStat>) =
        orphans.iter().partition(|stat| rules.keeps_uids || stat.uid > last_uid);
    let mut last = last_uid;
    for stat in own {
        if rules.is_far(stat.uid) {
            tell.wrong_at(stat.uid, FindingKind::OrphanFile, "its number is far above all others");
            continue;
        }
        let Some(found) = digested(stat, judge, tell) else { continue };
        let (record, is_told) = adopted(stat, found, rules.tail.get(&stat.uid), judge);
        let why = if is_told { Why::FromTail } else { Why::Adopted };
        tell.change(Some(stat.uid), why, told(None, &record));
        last = last.max(record.uid);
        taken.records.push(record);
    }
    for stat in others {
        let Some(found) = digested(stat, judge, tell) else { continue };
        let Some(next) = next_free(last, judge.files) else {
            tell.wrong_at(stat.uid, FindingKind::OrphanFile, "the mailbox has no UID left for it");
            continue;
        };
        last = next;
        let record = judge.of_file(next, stat, found);
        tell.change(Some(stat.uid), Why::Appended, told(Some(stat.uid), &record));
        taken.renumbered.push((stat.uid, next));
        taken.records.push(record);
    }
    taken.records.sort_by_key(|record| record.uid);
    taken
}

/// The next number that nothing has for its name: nothing that is there, mail or not, loses it to another.
fn next_free(last: Uid, files: &BTreeMap<Uid, MessageStat>) -> Option<Uid> {
    let mut next = last.0.checked_add(1)?;
    while files.contains_key(&Uid(next)) {
        next = next.checked_add(1)?;
    }
    Some(Uid(next))
}

/// What the record of a message is that keeps its UID; and whether there was one that nobody counted.
fn adopted(
    stat: &MessageStat,
    found: &Digested,
    behind: Option<&Record>,
    judge: &Judge<'_>,
) -> (Record, bool) {
    match behind.filter(|record| record.guid == found.guid && record.guid != Guid::ZERO) {
        Some(record) => {
            let mut record = record.clone();
            judge.place(&mut record, stat);
            record.user_flags = and(record.user_flags, judge.named);
            (record, true)
        }
        None => (judge.of_file(stat.uid, stat, found), false),
    }
}

fn digested<'r>(
    stat: &MessageStat,
    judge: &'r Judge<'_>,
    tell: &mut Tell<'_>,
) -> Option<&'r Digested> {
    let why = match judge.read.get(&stat.uid) {
        Some(Ok(found)) if judge.has_room(found.size) => return Some(found),
        Some(Ok(_)) => "it is larger than a record of this version can say",
        Some(Err(why)) => why.as_str(),
        None => "it was not read",
    };
    tell.wrong_at(stat.uid, FindingKind::MessageUnreadable, why);
    None
}

fn told(was: Option<Uid>, record: &Record) -> Vec<Field> {
    let new = |name, value| Field::new(name, Value::Nothing, value);
    let mut fields = vec![
        new("guid", Value::text(record.guid)),
        new("size", Value::Number(record.size)),
        new("internaldate", Value::Time(record.internaldate)),
        new("modseq", Value::text(record.modseq)),
    ];
    if let Some(was) = was {
        fields.insert(0, Field::new("uid", Value::text(was), Value::text(record.uid)));
    }
    fields
}
