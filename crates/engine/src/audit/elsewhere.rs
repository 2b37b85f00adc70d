//! What other accounts and the rest of the partition have to do with damaged messages. It takes a look
//! at every index, or at every directory, so it is done once for all of them.

use std::collections::{BTreeMap, BTreeSet};

use cyrus_format::imapd_conf::ImapdConf;
use model::Guid;
use spool::staging::{Inode, messages_of};
use spool::{Server, SpoolError};

use super::custody::{Custody, Place};
use super::dissection::{Dissection, difference};
use super::{Issue, Nature};
use crate::ports::Pace;

/// Good copies that are told of one message.
const COPIES_MAX: usize = 4;

/// Looks for good copies of damaged messages in all accounts, and for all names of their files.
///
/// # Errors
/// What keeps mailboxes.db from being read.
pub fn find_elsewhere(
    server: &Server,
    issues: &mut [&mut Issue],
    pace: &dyn Pace,
) -> Result<(), SpoolError> {
    let mut custodies: Vec<&mut Custody> =
        issues.iter_mut().filter_map(|issue| issue.custody.as_deref_mut()).collect();
    find_copies(server, &mut custodies, pace)?;
    find_names(server.conf(), &mut custodies);
    Ok(())
}

fn find_copies(
    server: &Server,
    custodies: &mut [&mut Custody],
    pace: &dyn Pace,
) -> Result<(), SpoolError> {
    let mut lacking: BTreeMap<Guid, Vec<usize>> = BTreeMap::new();
    for (at, custody) in custodies.iter().enumerate() {
        let may_have = !matches!(custody.nature, Nature::WrongSize | Nature::WrongRecord);
        if custody.copies.is_empty() && may_have && !custody.recorded.guid.is_zero() {
            lacking.entry(custody.recorded.guid).or_default().push(at);
        }
    }
    if lacking.is_empty() {
        return Ok(());
    }
    let wanted: BTreeSet<Guid> = lacking.keys().copied().collect();
    server.find_guids(&wanted, &mut |candidate| {
        let place = Place { mailbox: candidate.mailbox, uid: candidate.record.uid };
        let places = lacking.get(&candidate.record.guid).map(Vec::as_slice).unwrap_or_default();
        let takers = places
            .iter()
            .copied()
            .filter(|at| custodies[*at].place != place && custodies[*at].copies.len() < COPIES_MAX);
        let takers: Vec<usize> = takers.collect();
        let Some(first) = takers.first() else { return };
        let expected = custodies[*first].recorded.size;
        let read = candidate.file.try_clone().and_then(|f| Dissection::of(f, expected, pace));
        if !read.is_ok_and(|read| read.guid == candidate.record.guid) {
            return;
        }
        for at in takers {
            let custody = &mut custodies[at];
            if custody.copies.is_empty() && custody.found.is_some() {
                let bad = server.open_message(&custody.place.mailbox, custody.place.uid);
                let both = bad.and_then(|bad| Ok((bad, candidate.file.try_clone()?)));
                custody.difference = both.and_then(|(bad, good)| difference(bad, good, pace)).ok();
            }
            custody.copies.push(place.clone());
        }
    })
}

/// Finds the names of those files that have more than the account knows.
fn find_names(conf: &ImapdConf, custodies: &mut [&mut Custody]) {
    let mut lacking: BTreeMap<Inode, Vec<usize>> = BTreeMap::new();
    for (at, custody) in custodies.iter().enumerate() {
        let Some(found) = &custody.found else { continue };
        if found.links > 1 + custody.links.len() as u64 {
            lacking.entry(found.inode).or_default().push(at);
        }
    }
    let wanted: BTreeSet<Inode> = lacking.keys().copied().collect();
    for (inode, names) in messages_of(conf, &wanted) {
        for at in lacking.get(&inode).into_iter().flatten() {
            let custody = &mut custodies[*at];
            let others = names.iter().filter(|name| **name != custody.path);
            custody.other_names = others.cloned().collect();
        }
    }
}
