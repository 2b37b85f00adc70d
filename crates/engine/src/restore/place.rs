//! Where on the server a mailbox of the snapshot goes.

use std::collections::BTreeSet;

use csync::mailbox::Mailbox;
use model::{MboxName, UniqueId};
use sha2::{Digest, Sha256};

use super::wanted::{INBOX, Wanted, Wish};
use crate::folder::is_deleted;
use crate::replicate::local::is_below;
use crate::replicate::remote::Remote;

/// Hexadecimal digits of an id that is made here: as long as those of Cyrus 3.6.
const ID_DIGITS: usize = 24;

/// How many identities a mailbox may have had that is restored again and again: one that was deleted
/// may be kept for a while.
const GENERATIONS: u8 = 4;

/// A name, and the identities that the mailbox may have that is put there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Site {
    /// The name.
    pub name: MboxName,
    /// The identities.
    pub ids: Vec<UniqueId>,
}

/// What a server has of a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found<'r> {
    /// What was made for it, perhaps by another name since.
    There(&'r Mailbox),
    /// Nothing: it can be made with this identity.
    Free(&'r UniqueId),
    /// Another mailbox has the name.
    Taken(&'r Mailbox),
    /// Whatever was made for it was deleted again, each time.
    Spent,
}

impl Site {
    /// Looks for it. Identities that are `spent` are not used.
    pub fn find<'r>(&'r self, remote: &'r Remote, spent: &BTreeSet<UniqueId>) -> Found<'r> {
        let kept = |id: &UniqueId| remote.of_id(id).filter(|there| !is_gone(there));
        if let Some(there) = self.ids.iter().find_map(kept) {
            return Found::There(there);
        }
        if let Some((_, other)) = remote.named(&self.name) {
            return Found::Taken(other);
        }
        match free_id(&self.ids, remote, spent) {
            Some(id) => Found::Free(id),
            None => Found::Spent,
        }
    }
}

/// The first identity that no mailbox has.
pub fn free_id<'i>(
    ids: &'i [UniqueId],
    remote: &Remote,
    spent: &BTreeSet<UniqueId>,
) -> Option<&'i UniqueId> {
    ids.iter().find(|id| remote.of_id(id).is_none() && !spent.contains(*id))
}

/// Whether a mailbox was deleted and is only kept.
pub fn is_gone(mailbox: &Mailbox) -> bool {
    is_deleted(mailbox.mboxname.as_bytes())
}

/// An identity that depends on nothing but these: so a second run finds what the first one made.
fn derived_id(parts: &[&[u8]]) -> UniqueId {
    let mut hash = Sha256::new();
    hash.update(b"cylinder restore");
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let digits: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    UniqueId::new(&digits.as_bytes()[..ID_DIGITS])
}

/// A tree that a snapshot is restored into.
pub struct Tree<'t> {
    snapshot: &'t [u8],
    top: &'t MboxName,
    /// What the INBOX is called in it.
    label: Vec<u8>,
}

impl<'t> Tree<'t> {
    /// The one below `top`.
    pub fn new(snapshot: &'t [u8], top: &'t MboxName, wish: &'t Wish<'_>) -> Self {
        // The INBOX has no name among the others; one of them may be called so.
        let mut label = INBOX.to_vec();
        let taken = |label: &[u8]| {
            let is_so = |wanted: &Wanted<'_>| {
                let mut levels = wanted.relative.split(|byte| *byte == b'.').skip(1);
                levels.next() == Some(label)
            };
            wish.mailboxes.iter().any(is_so)
        };
        while taken(&label) {
            label.push(b'-');
        }
        Self { snapshot, top, label }
    }

    /// The one of several that a former run has begun, else the first whose names are free, else
    /// the last.
    pub fn choose(
        snapshot: &'t [u8],
        tops: &'t [MboxName],
        wish: &'t Wish<'_>,
        remote: &Remote,
    ) -> Option<Self> {
        let trees: Vec<Self> = tops.iter().map(|top| Tree::new(snapshot, top, wish)).collect();
        let none = BTreeSet::new();
        let found = |tree: &Self, wanted: fn(Found<'_>) -> bool| {
            let sites = wish.mailboxes.iter().map(|mailbox| tree.site(mailbox));
            sites.map(|site| wanted(site.find(remote, &none))).collect::<Vec<bool>>()
        };
        let is_begun =
            |tree: &Self| found(tree, |it| matches!(it, Found::There(_))).contains(&true);
        let is_free =
            |tree: &Self| !found(tree, |it| matches!(it, Found::Taken(_))).contains(&true);
        let last = trees.len().checked_sub(1)?;
        let at = trees.iter().position(is_begun);
        let at = at.or_else(|| trees.iter().position(is_free)).unwrap_or(last);
        trees.into_iter().nth(at)
    }

    /// Where a mailbox goes.
    pub fn site(&self, wanted: &Wanted<'_>) -> Site {
        // One that was deleted has the time of that behind its name.
        let relative = wanted.relative.strip_prefix(b"DELETED.").unwrap_or(&wanted.relative);
        let below = relative.strip_prefix(INBOX).unwrap_or_default();
        let below = match below.strip_prefix(b".") {
            Some(below) if relative.len() == wanted.relative.len() || below.contains(&b'.') => {
                below.to_vec()
            }
            _ => [self.label.as_slice(), below].concat(),
        };
        let name = [self.top.as_bytes(), b".", &below].concat();
        self.derived(MboxName::new(name), wanted.uniqueid.as_bytes())
    }

    /// A level that has to be there for others.
    pub fn level(&self, name: MboxName) -> Site {
        self.derived(name, b"")
    }

    fn derived(&self, name: MboxName, id: &[u8]) -> Site {
        let ids = ids(&[self.snapshot, self.top.as_bytes(), name.as_bytes(), id]);
        Site { ids, name }
    }
}

/// The identities that follow from these parts.
pub fn ids(parts: &[&[u8]]) -> Vec<UniqueId> {
    (0..GENERATIONS).map(|generation| derived_id(&[parts, &[&[generation]]].concat())).collect()
}

/// The names above these that have to be there as well, parents first.
pub fn levels_above(names: &BTreeSet<MboxName>, inbox: &MboxName) -> Vec<MboxName> {
    let mut levels = BTreeSet::new();
    for name in names {
        let mut name = name.as_bytes();
        while let Some(dot) = name.iter().rposition(|byte| *byte == b'.') {
            name = &name[..dot];
            let level = MboxName::new(name);
            if !is_below(&level, inbox) {
                break;
            }
            levels.insert(level);
        }
    }
    levels.into_iter().filter(|level| !names.contains(level)).collect()
}
