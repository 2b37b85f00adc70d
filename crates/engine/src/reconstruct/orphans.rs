//! Files of messages that no record tells of.

use std::collections::BTreeMap;

use model::{Finding, FindingKind, Guid, Record, Uid};
use spool::MessageStat;

use super::change::{Field, Value, Why};
use super::read::Digested;
use super::records::Judge;
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
    let finding = Finding::new(FindingKind::OrphanFile, tell.place(), detail);
    tell.left(&finding.at_uid(stat.uid.0));
}

/// Gives them records, by Cyrus' rules (`imap/mailbox.c`: mailbox_reconstruct, 3.6): what is above the last
/// UID keeps its own; what is below gets the next ones, because its UID may have been another message's. But
/// where records were lost, as `keeps_uids` tells, a file's name is what is left of its record.
pub(super) fn take(
    orphans: &[MessageStat],
    last_uid: Uid,
    keeps_uids: bool,
    tail: &BTreeMap<Uid, Record>,
    judge: &Judge<'_>,
    tell: &mut Tell<'_>,
) -> Taken {
    let mut taken = Taken::default();
    let (own, others): (Vec<&MessageStat>, Vec<&MessageStat>) =
        orphans.iter().partition(|stat| keeps_uids || stat.uid > last_uid);
    // Nothing that is there, mail or not, loses its name to another.
    let mut last = judge.files.keys().next_back().copied().unwrap_or_default().max(last_uid);
    for stat in own {
        let Some(found) = digested(stat, judge, tell) else { continue };
        let record = adopted(stat, found, tail.get(&stat.uid), judge);
        let why = if record.1 { Why::FromTail } else { Why::Adopted };
        tell.change(Some(stat.uid), why, told(None, &record.0));
        taken.records.push(record.0);
    }
    for stat in others {
        let Some(found) = digested(stat, judge, tell) else { continue };
        let Some(next) = last.0.checked_add(1).map(Uid) else {
            let detail = "the mailbox has no UID left for it";
            let finding = Finding::new(FindingKind::OrphanFile, tell.place(), detail);
            tell.left(&finding.at_uid(stat.uid.0));
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

/// What the record of a message is that keeps its UID; and whether there was one that nobody counted.
fn adopted(
    stat: &MessageStat,
    found: &Digested,
    behind: Option<&Record>,
    judge: &Judge<'_>,
) -> (Record, bool) {
    match behind.filter(|record| record.guid == found.guid && record.guid != Guid::ZERO) {
        Some(record) => (record.clone(), true),
        None => (judge.of_file(stat.uid, stat, found), false),
    }
}

fn digested<'r>(
    stat: &MessageStat,
    judge: &'r Judge<'_>,
    tell: &mut Tell<'_>,
) -> Option<&'r Digested> {
    let why = match judge.read.get(&stat.uid) {
        Some(Ok(found)) => return Some(found),
        Some(Err(why)) => why.as_str(),
        None => "it was not read",
    };
    let finding = Finding::new(FindingKind::MessageUnreadable, tell.place(), why);
    tell.left(&finding.at_uid(stat.uid.0));
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
