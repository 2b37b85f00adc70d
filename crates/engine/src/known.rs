//! Which messages the chain has, without a look into all of its tables.
//!
//! A snapshot has the bytes of every message that its indexes list, exceptions aside. So the
//! indexes of the parent tell; most of them are the same bytes in the live account, and are in
//! memory. What is in none of them may be in the chain all the same, and is then stored again:
//! that is rare, and finding out would mean to open every segment there is.

use std::collections::BTreeMap;
use std::rc::Rc;

use model::Guid;
use model::state::{MailboxKey, MailboxState};

use crate::archive::ArchiveError;
use crate::base::{Base, HadMailbox};
use crate::exceptions::Exceptions;
use crate::records::{EXPUNGE, INDEX, Records};

/// The metadata files of a live mailbox, by name.
pub(crate) type Files = BTreeMap<String, Vec<u8>>;

/// What one run knows of the chain that it continues, if it continues one.
pub(crate) struct Known<'a> {
    base: Option<&'a Base<'a>>,
    /// Collected when the first message turns up that nobody else knows.
    guids: Option<Guids>,
    /// What was read of changed mailboxes, as long as it may be needed again.
    had: BTreeMap<MailboxKey, Rc<HadMailbox>>,
}

impl<'a> Known<'a> {
    pub fn new(base: Option<&'a Base<'a>>) -> Self {
        Self { base, guids: None, had: BTreeMap::new() }
    }

    /// Which messages the chain has of a mailbox.
    pub fn had(&mut self, key: &MailboxKey) -> Result<Rc<HadMailbox>, ArchiveError> {
        let Some(base) = self.base else { return Ok(Rc::default()) };
        if let Some(had) = self.had.get(key) {
            return Ok(Rc::clone(had));
        }
        let had = Rc::new(base.mailbox(key)?);
        self.had.insert(key.clone(), Rc::clone(&had));
        Ok(had)
    }

    /// Nobody is going to ask for this mailbox again.
    pub fn forget(&mut self, key: &MailboxKey) {
        if self.guids.is_some() {
            self.had.remove(key);
        }
    }

    /// Whether the chain has the bytes of this message for sure. `live` gives the state and the
    /// files of a live mailbox, as long as they are in memory.
    pub fn holds<'l>(
        &mut self,
        guid: &Guid,
        live: impl Fn(&MailboxKey) -> Option<(&'l MailboxState, &'l Files)>,
    ) -> Result<bool, ArchiveError> {
        let Some(base) = self.base else { return Ok(false) };
        let guids = match self.guids.take() {
            Some(guids) => guids,
            None => self.collect(base, live)?,
        };
        let guids = self.guids.insert(guids);
        Ok(guids.contains(guid))
    }

    fn collect<'l>(
        &mut self,
        base: &Base<'_>,
        live: impl Fn(&MailboxKey) -> Option<(&'l MailboxState, &'l Files)>,
    ) -> Result<Guids, ArchiveError> {
        let mut guids = Vec::with_capacity(base.messages());
        for key in base.keys() {
            match live(key).filter(|(state, files)| base.has_records_of(key, state, files)) {
                Some((_, files)) => {
                    let exceptions = base.exceptions(key)?;
                    let records = Records::read(files);
                    let listed = records.linked().map(|record| (record.uid, record.guid));
                    add(&mut guids, listed, &exceptions);
                }
                None => {
                    // If it cannot be read, the run says so where it needs it; of a mailbox that
                    // is gone, it need not.
                    let Ok(had) = self.had(key) else { continue };
                    add(&mut guids, had.linked.iter().copied(), &had.exceptions);
                }
            }
        }
        base.add_parts(&mut guids)?;
        Ok(Guids::new(guids))
    }
}

/// GUIDs, 20 bytes each, sorted by as much of them as fits into a number: they are hashes, and a
/// million are sorted in half the time.
struct Guids(Vec<Guid>);

impl Guids {
    fn new(mut guids: Vec<Guid>) -> Self {
        guids.sort_unstable_by_key(first_bytes);
        Self(guids)
    }

    fn contains(&self, guid: &Guid) -> bool {
        let first = first_bytes(guid);
        let from = self.0.partition_point(|known| first_bytes(known) < first);
        let mut alike = self.0[from..].iter().take_while(|known| first_bytes(known) == first);
        alike.any(|known| known == guid)
    }
}

/// As much of a GUID as fits into a number.
pub(crate) fn first_bytes(guid: &Guid) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&guid.0[..8]);
    u64::from_be_bytes(first)
}

/// Adds what a mailbox's records and exceptions say that the chain has.
fn add(
    guids: &mut Vec<Guid>,
    listed: impl Iterator<Item = (model::Uid, Guid)>,
    exceptions: &Exceptions,
) {
    guids.extend(listed.filter_map(|(uid, guid)| exceptions.stored(uid, guid)));
}

impl Base<'_> {
    /// Whether the records of a live mailbox are the ones that the chain has of it, and at hand.
    fn has_records_of(&self, key: &MailboxKey, state: &MailboxState, files: &Files) -> bool {
        [INDEX, EXPUNGE].iter().all(|name| {
            let (had, now) = (self.mailbox_file(key, name), state.files.get(*name));
            had.map(|file| file.sha256) == now.map(|now| now.digest)
                && now.is_some() == files.contains_key(*name)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Few different first bytes, so that guids are told apart by the rest.
    fn guid(n: u64) -> Guid {
        let mut guid = [0; 20];
        guid[..8].copy_from_slice(&(n % 7).to_le_bytes());
        guid[12..].copy_from_slice(&n.to_be_bytes());
        Guid(guid)
    }

    #[test]
    fn what_was_put_in_is_there_and_nothing_else() {
        let guids = Guids::new((0..3000).chain(0..10).map(|n| guid(2 * n)).collect());
        for n in 0..6002 {
            assert_eq!(guids.contains(&guid(n)), n % 2 == 0 && n < 6000, "{n}");
        }
        assert!(!Guids::new(Vec::new()).contains(&guid(0)));
    }
}
