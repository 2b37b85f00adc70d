//! Puts segments in the order in which they continue each other, as far as they do.

use std::collections::BTreeMap;

use model::state::Digest;

use super::{Chain, ChainError, Snapshot};
use crate::manifest::Parent;
use crate::reader::{ReadError, SegmentRef};

/// One segment that belongs to a chain.
pub(super) struct Member<'a> {
    pub chain: Digest,
    pub parent: Option<Parent>,
    pub snapshot: Snapshot<'a>,
}

impl<'a> Member<'a> {
    pub fn read(segment: &SegmentRef<'a>) -> Result<Self, ReadError> {
        let head = segment.head()?;
        let chain = head.chain.unwrap_or_else(|| segment.manifest_sha256());
        let parent = head.parent.clone();
        Ok(Self { chain, parent, snapshot: Snapshot::here(segment.clone(), head) })
    }
}

/// Puts the members of one chain in order.
pub(super) struct Order<'o> {
    pub account: &'o str,
    /// The full segments of all chains of the account.
    pub firsts: &'o [(u32, Digest)],
    /// Segments that may be of any chain, by number.
    pub unreadable: &'o BTreeMap<u32, ChainError>,
}

/// Number and identity of the segments that continue each one.
type Children = BTreeMap<Digest, Vec<(u32, Digest)>>;

impl Order<'_> {
    /// The chain, as far as its members fit.
    pub fn build<'a>(&self, mut members: Vec<Member<'a>>) -> Chain<'a> {
        members.sort_by_key(|member| member.snapshot.seq());
        let mut children = Children::new();
        for Member { parent, snapshot, .. } in &members {
            if let Some(parent) = parent {
                let child = (snapshot.seq(), snapshot.sha256());
                children.entry(parent.sha256).or_default().push(child);
            }
        }
        let mut chain = Chain::empty(self.account);
        let mut members = members.into_iter().peekable();
        while let Some(member) = members.next() {
            if chain.trouble.is_none() {
                let next = members.peek().map(|next| &next.snapshot);
                let twin = twin(&member, next, &children);
                chain.trouble = self.check(&chain.snapshots, &member, twin);
            }
            if chain.trouble.is_some() {
                chain.behind.push(member.snapshot.taken_at_unix());
            } else {
                chain.snapshots.push(member.snapshot);
                // All of them would not fit into memory.
                chain.keep_heads();
            }
        }
        self.look_behind(&mut chain);
        chain
    }

    /// Nobody knows which chain an unreadable segment is of. Where it may be a newer snapshot than
    /// all that are readable, none of those is called the newest. A full one that begins anew has
    /// number 1, or one above all that there were.
    fn look_behind(&self, chain: &mut Chain<'_>) {
        let Some(last) = chain.snapshots.last() else { return };
        let mut newer = self.unreadable.iter().filter(|(seq, _)| **seq == 1 || **seq > last.seq());
        if let (None, Some((_, cause))) = (&chain.trouble, newer.next()) {
            chain.trouble = Some(cause.clone());
            chain.behind.push(last.taken_at_unix());
        }
    }

    /// What is wrong if this member comes next.
    fn check(
        &self,
        before: &[Snapshot<'_>],
        member: &Member<'_>,
        twin: Option<(u32, Digest)>,
    ) -> Option<ChainError> {
        let account = self.account.to_owned();
        let (seq, own) = (member.snapshot.seq(), member.snapshot.sha256());
        let last = before.last();
        if let Some(parent) = &member.parent
            && last.is_none_or(|last| parent.seq > last.seq())
        {
            return Some(self.gap(member, parent));
        }
        if let Some((other_seq, other)) = twin {
            return Some(ChainError::Fork { account, seq, other_seq, one: own, other });
        }
        let fits = match (&member.parent, last) {
            (None, None) => member.chain == own,
            (Some(parent), Some(last)) => {
                (parent.seq, parent.sha256) == (last.seq(), last.sha256())
            }
            _ => false,
        };
        let wanted = member.parent.as_ref().map_or(member.chain, |parent| parent.sha256);
        let found = last.map(Snapshot::sha256);
        (!fits).then_some(ChainError::ForeignParent { account, seq, wanted, found })
    }

    /// Why what this member continues is not there.
    fn gap(&self, member: &Member<'_>, parent: &Parent) -> ChainError {
        let (account, seq) = (self.account.to_owned(), member.snapshot.seq());
        if let Some(cause) = self.unreadable.get(&parent.seq) {
            return cause.clone();
        }
        match self.firsts.iter().find(|(first, _)| *first == parent.seq) {
            Some((_, found)) => ChainError::ForeignParent {
                account,
                seq,
                wanted: parent.sha256,
                found: Some(*found),
            },
            None => ChainError::Hole { account, missing: parent.seq, next: seq },
        }
    }
}

/// Another member that cannot be in one chain with this one: of the same number, or of the same
/// parent. `next` is the member behind it by number.
fn twin(
    member: &Member<'_>,
    next: Option<&Snapshot<'_>>,
    children: &Children,
) -> Option<(u32, Digest)> {
    let (seq, own) = (member.snapshot.seq(), member.snapshot.sha256());
    if let Some(next) = next.filter(|next| next.seq() == seq) {
        return Some((seq, next.sha256()));
    }
    let siblings = children.get(&member.parent.as_ref()?.sha256)?;
    siblings.iter().find(|(_, sibling)| *sibling != own).copied()
}
