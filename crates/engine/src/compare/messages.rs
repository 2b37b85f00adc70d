//! The messages of one mailbox at both places, side by side.

use model::state::MailboxKey;
use model::{MboxName, Uid};

use super::brief::{Brief, FlagNames};
use super::difference::{Both, Difference, Side, What, seconds};
use super::{Comparison, Lost, Unclear};
use crate::place::Place;
use crate::ports::Monitor;

/// Compares records one by one. Of the first place's mailbox a brief form is held in memory, the other
/// one's records go past it.
pub(super) fn records(
    comparison: &mut Comparison,
    key: &MailboxKey,
    name: &MboxName,
    places: [&mut dyn Place; 2],
) -> Result<(), Lost> {
    let [a, b] = places;
    let mut names = FlagNames::default();
    let mut had: Vec<Brief> = Vec::new();
    let told = a.records(key, &mut |record| had.push(Brief::of(&record, &mut names)));
    if let Err(trouble) = told.map_err(Side::A.lost())? {
        comparison.unclear.push(Unclear::new(Side::A, name, &trouble));
        return Ok(());
    }
    // A replica's order is its own affair.
    had.sort_by_key(|brief| brief.uid);
    let mut seen = vec![false; had.len()];
    let mut differences = Vec::new();
    let told = b.records(key, &mut |record| {
        let other = Brief::of(&record, &mut names);
        match had.binary_search_by_key(&other.uid, |brief| brief.uid) {
            Ok(at) => {
                seen[at] = true;
                differences.extend(pair(&had[at], &other, &names));
            }
            Err(_) if other.is_expunged() => {}
            Err(_) => {
                differences.push((other.uid, What::OnlyAt(Side::B, Some(other.guid))));
            }
        }
    });
    if let Err(trouble) = told.map_err(Side::B.lost())? {
        comparison.unclear.push(Unclear::new(Side::B, name, &trouble));
        return Ok(());
    }
    let alone = had.iter().zip(&seen).filter(|(brief, seen)| !**seen && !brief.is_expunged());
    differences.extend(alone.map(|(b, _)| (b.uid, What::OnlyAt(Side::A, Some(b.guid)))));
    differences.sort();
    comparison.messages += had.len() as u64;
    comparison.differences.extend(differences.into_iter().map(|(uid, what)| Difference {
        mailbox: Some(name.clone()),
        uid: Some(uid),
        what,
    }));
    Ok(())
}

/// A message that both have.
fn pair(a: &Brief, b: &Brief, names: &FlagNames) -> Vec<(Uid, What)> {
    let mut found = Vec::new();
    match (a.is_expunged(), b.is_expunged()) {
        // Of what is gone, a place keeps as much as it likes.
        (true, true) => {}
        (true, false) => found.push(What::ExpungedAt(Side::A)),
        (false, true) => found.push(What::ExpungedAt(Side::B)),
        (false, false) if a.guid != b.guid => found.push(What::Guid(Both { a: a.guid, b: b.guid })),
        (false, false) => {
            if (a.system_flags, &a.user_flags) != (b.system_flags, &b.user_flags) {
                found.push(What::Flags(Both { a: names.of(a), b: names.of(b) }));
            }
            let mut value = |name, a: String, b: String| {
                if a != b {
                    found.push(What::Value(name, Both { a, b }));
                }
            };
            value("size", a.size.to_string(), b.size.to_string());
            value("internaldate", seconds(a.internaldate), seconds(b.internaldate));
            value("modseq", a.modseq.to_string(), b.modseq.to_string());
            let notes = |hash: u64| if hash == 0 { String::new() } else { format!("#{hash:016x}") };
            value("annotations", notes(a.annotations), notes(b.annotations));
            if a.thrid != 0 && b.thrid != 0 {
                value("thrid", format!("{:016x}", a.thrid), format!("{:016x}", b.thrid));
            }
        }
    }
    found.into_iter().map(|what| (a.uid, what)).collect()
}

/// Reads all messages at both places.
pub(super) fn content(
    comparison: &mut Comparison,
    key: &MailboxKey,
    name: &MboxName,
    places: [&mut dyn Place; 2],
    monitor: &dyn Monitor,
) -> Result<(), Lost> {
    for (side, place) in [Side::A, Side::B].into_iter().zip(places) {
        let mut damaged = Vec::new();
        let read = place.content(key, monitor, &mut |uid, recorded, found| {
            if found.as_ref() != Ok(&recorded) {
                damaged.push((uid, What::Content { at: side, recorded, found }));
            }
        });
        read.map_err(side.lost())?;
        damaged.sort();
        comparison.differences.extend(damaged.into_iter().map(|(uid, what)| Difference {
            mailbox: Some(name.clone()),
            uid: Some(uid),
            what,
        }));
    }
    Ok(())
}
