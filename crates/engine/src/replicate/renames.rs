//! In which order mailboxes can be renamed, if a name is free only after another rename.

use std::collections::{BTreeMap, BTreeSet};

use model::MboxName;
use model::state::MailboxKey;

/// A mailbox that gets another name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// Which.
    pub key: MailboxKey,
    /// The name it has.
    pub from: MboxName,
    /// The name it gets.
    pub to: MboxName,
}

/// Puts renames into an order in which every name is free when it is needed. `taken` are the names of
/// all mailboxes, those included that are to be renamed. Where names go round in a circle, one mailbox
/// steps `aside` first. Also returns the renames that remain impossible: somebody has their name who
/// keeps it.
pub fn order(
    moves: Vec<Move>,
    mut taken: BTreeSet<MboxName>,
    aside: impl Fn(&Move) -> Option<MboxName>,
) -> (Vec<Move>, Vec<Move>) {
    let mut ordered = Vec::new();
    // By target: parents before their children.
    let mut pending: BTreeMap<MboxName, Move> =
        moves.into_iter().map(|step| (step.to.clone(), step)).collect();
    loop {
        let free = pending.keys().find(|to| !taken.contains(*to)).cloned();
        if let Some(step) = free.and_then(|to| pending.remove(&to)) {
            taken.remove(&step.from);
            taken.insert(step.to.clone());
            ordered.push(step);
            continue;
        }
        let Some((to, name)) = step_aside(&pending, &taken, &aside) else { break };
        let Some(step) = pending.get_mut(&to) else { break };
        taken.remove(&step.from);
        taken.insert(name.clone());
        let from = std::mem::replace(&mut step.from, name.clone());
        ordered.push(Move { key: step.key.clone(), from, to: name });
    }
    (ordered, pending.into_values().collect())
}

/// A rename, by its target, of a circle, and where its mailbox can go meanwhile.
fn step_aside(
    pending: &BTreeMap<MboxName, Move>,
    taken: &BTreeSet<MboxName>,
    aside: impl Fn(&Move) -> Option<MboxName>,
) -> Option<(MboxName, MboxName)> {
    let by_source: BTreeMap<&MboxName, &Move> =
        pending.values().map(|step| (&step.from, step)).collect();
    pending.values().find_map(|start| {
        let mut seen = BTreeSet::from([&start.to]);
        let mut next = by_source.get(&start.to)?;
        while next.to != start.to {
            if !seen.insert(&next.to) {
                return None;
            }
            next = by_source.get(&next.to)?;
        }
        let name = aside(start).filter(|name| !taken.contains(name))?;
        Some((start.to.clone(), name))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(n: u8) -> MailboxKey {
        MailboxKey(vec![n])
    }

    fn name(n: u8) -> MboxName {
        MboxName::from(format!("user.glad.{n}").as_str())
    }

    fn aside(step: &Move) -> Option<MboxName> {
        Some(MboxName::from(format!("user.glad.aside-{}", step.key).as_str()))
    }

    #[test]
    fn two_mailboxes_swap_their_names() {
        let swap = |n, from, to| Move { key: key(n), from: name(from), to: name(to) };
        let taken = [1, 2].map(name).into();
        let (ordered, blocked) = order(vec![swap(b'a', 1, 2), swap(b'b', 2, 1)], taken, aside);
        assert_eq!(blocked, []);
        assert_eq!(ordered.len(), 3, "{ordered:?}");
    }

    #[test]
    fn who_keeps_a_name_is_in_the_way_of_all_who_wait_for_it() {
        let step = |n, from, to| Move { key: key(n), from: name(from), to: name(to) };
        let taken = [1, 2, 3].map(name).into();
        let (ordered, blocked) = order(vec![step(b'a', 1, 2), step(b'b', 2, 3)], taken, aside);
        assert_eq!((ordered.len(), blocked.len()), (0, 2));
    }

    proptest! {
        #[test]
        fn any_permutation_and_any_chain_is_carried_out(
            targets in proptest::sample::subsequence((0..12u8).collect::<Vec<_>>(), 6).prop_shuffle(),
        ) {
            let moves: Vec<Move> = targets
                .iter()
                .zip(0u8..)
                .filter(|(to, from)| *to != from)
                .map(|(to, from)| Move { key: key(from), from: name(from), to: name(*to) })
                .collect();
            let taken: BTreeSet<MboxName> = (0..6).map(name).collect();
            let mut names: BTreeMap<MboxName, MailboxKey> =
                (0..6).map(|n| (name(n), key(n))).collect();
            let (ordered, blocked) = order(moves, taken, aside);
            prop_assert_eq!(blocked, vec![]);
            for step in ordered {
                prop_assert!(!names.contains_key(&step.to), "{:?} is taken", step.to);
                prop_assert_eq!(names.remove(&step.from), Some(step.key.clone()));
                names.insert(step.to, step.key);
            }
            for (to, from) in targets.iter().zip(0u8..) {
                prop_assert_eq!(names.get(&name(*to)), Some(&key(from)));
            }
        }
    }
}
