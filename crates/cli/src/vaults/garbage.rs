//! How much of what an account's segments hold nobody needs any more.

use std::collections::BTreeSet;

use engine::archive::{ArchiveError, placed};
use model::Guid;
use model::state::Digest;
use vault::{Account, Entry, History};

/// Bytes of messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Garbage {
    /// In the segments that stay.
    pub all: u64,
    /// Of these, messages that no kept snapshot has.
    pub unneeded: u64,
}

/// Compares what the segments hold with what the kept snapshots have.
pub fn weigh(
    account: &Account,
    history: &History,
    keep: &[Entry],
    needed: &BTreeSet<Digest>,
) -> Result<Garbage, ArchiveError> {
    let mut wanted: Vec<Guid> = Vec::new();
    for entry in keep {
        let opened = account.open(&history.lineage(&entry.name.own));
        let chain = opened.chain();
        let messages = placed(&chain, chain.at(entry.name.seq)?)?;
        wanted.extend(messages.into_iter().map(|placed| placed.guid));
        wanted.sort_unstable();
        wanted.dedup();
    }
    let mut garbage = Garbage::default();
    let mut seen = BTreeSet::new();
    for own in needed {
        let opened = account.open(&history.lineage(own));
        let chain = opened.chain();
        let Some(segment) = chain.snapshots().last().filter(|_| seen.insert(*own)) else {
            continue;
        };
        for row in segment.table()?.iter() {
            garbage.all += row.size;
            garbage.unneeded += if wanted.binary_search(&row.guid).is_err() { row.size } else { 0 };
        }
    }
    Ok(garbage)
}
