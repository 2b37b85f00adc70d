//! The one diff: what one place wants against what another has, and the plan that makes them
//! equal.
//!
//! Both levels are an ordered merge of two sorted sequences into left, right and both. The plan
//! is data: a dry run prints the very value that would be applied.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::iter::Peekable;

use crate::ids::{Guid, MboxName, Uid};
use crate::state::{AccountState, FileState, MailboxKey, MailboxState};

/// One thing to do at the place that is brought up to date.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A mailbox that is not there yet, with all that it holds.
    Create {
        /// Which.
        mailbox: MailboxKey,
        /// Its name.
        name: MboxName,
    },
    /// The same mailbox under another name. What it holds is a step of its own.
    Rename {
        /// Which.
        mailbox: MailboxKey,
        /// The name it has there.
        from: MboxName,
        /// The name it should have.
        to: MboxName,
    },
    /// Metadata that differs; records need a closer look if the index is among it.
    Update {
        /// Which.
        mailbox: MailboxKey,
        /// Names of the metadata files that are new or differ.
        files: Vec<String>,
        /// Names of those that are no longer there.
        dropped: Vec<String>,
    },
    /// A mailbox that is no longer wanted.
    Remove {
        /// Which.
        mailbox: MailboxKey,
        /// The name it has there.
        name: MboxName,
    },
    /// A file of the account that is new or differs.
    PutFile(String),
    /// A file of the account that is no longer wanted.
    RemoveFile(String),
}

/// What makes `have` equal to `want`, in the order in which it is safe to do it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The steps.
    pub steps: Vec<Step>,
}

impl Plan {
    /// Whether both sides agree already.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// How many mailboxes it removes: what a brake looks at.
    pub fn mailboxes_removed(&self) -> usize {
        self.steps.iter().filter(|step| matches!(step, Step::Remove { .. })).count()
    }
}

/// Compares two descriptions of one account.
///
/// Additions come before removals, so that whatever applies the plan and is cut off in the
/// middle has too much rather than too little.
pub fn diff(want: &AccountState, have: &AccountState) -> Plan {
    let mut steps = Vec::new();
    let mut removals = Vec::new();
    for pair in merge_by(&want.mailboxes, &have.mailboxes, |a, b| a.0.cmp(b.0)) {
        match pair {
            Side::Left((key, mailbox)) => {
                steps.push(Step::Create { mailbox: key.clone(), name: mailbox.name.clone() });
            }
            Side::Right((key, mailbox)) => {
                removals.push(Step::Remove { mailbox: key.clone(), name: mailbox.name.clone() });
            }
            Side::Both((key, wanted), (_, had)) => diff_mailbox(key, wanted, had, &mut steps),
        }
    }
    let (files, dropped) = diff_files(&want.files, &have.files);
    steps.extend(files.into_iter().map(Step::PutFile));
    steps.append(&mut removals);
    steps.extend(dropped.into_iter().map(Step::RemoveFile));
    Plan { steps }
}

fn diff_mailbox(key: &MailboxKey, want: &MailboxState, have: &MailboxState, steps: &mut Vec<Step>) {
    if want.name != have.name {
        steps.push(Step::Rename {
            mailbox: key.clone(),
            from: have.name.clone(),
            to: want.name.clone(),
        });
    }
    let (files, dropped) = diff_files(&want.files, &have.files);
    if !files.is_empty() || !dropped.is_empty() {
        steps.push(Step::Update { mailbox: key.clone(), files, dropped });
    }
}

/// The names of files that are new or differ, and of those that are gone.
fn diff_files(
    want: &BTreeMap<String, FileState>,
    have: &BTreeMap<String, FileState>,
) -> (Vec<String>, Vec<String>) {
    let put = want.iter().filter(|(name, state)| have.get(*name) != Some(*state));
    let gone = have.keys().filter(|name| !want.contains_key(*name));
    (put.map(|(name, _)| name.clone()).collect(), gone.cloned().collect())
}

/// What happened to one message of a mailbox between two descriptions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordStep<T> {
    /// A message that is not there yet.
    Add(T),
    /// The same UID with other bytes: never lawful, but damage and repair do it.
    Replace(T),
    /// There already.
    Keep(T),
    /// No longer wanted.
    Remove(Uid),
}

/// Compares the records of a mailbox with what is there, both sorted by UID, in one pass and
/// constant memory. `key` tells UID and GUID of a wanted record.
pub fn diff_records<T, W, H, K>(want: W, have: H, key: K) -> impl Iterator<Item = RecordStep<T>>
where
    W: IntoIterator<Item = T>,
    H: IntoIterator<Item = (Uid, Guid)>,
    K: Fn(&T) -> (Uid, Guid),
{
    let want = want.into_iter().map(move |record| (key(&record), record));
    merge_by(want, have, |(a, _), b| a.0.cmp(&b.0)).map(|side| match side {
        Side::Left((_, record)) => RecordStep::Add(record),
        Side::Right((uid, _)) => RecordStep::Remove(uid),
        Side::Both(((_, guid), record), (_, had)) if guid == had => RecordStep::Keep(record),
        Side::Both((_, record), _) => RecordStep::Replace(record),
    })
}

/// An item of one sorted sequence, of the other, or of both.
enum Side<L, R> {
    Left(L),
    Right(R),
    Both(L, R),
}

struct Merge<L: Iterator, R: Iterator, F> {
    left: Peekable<L>,
    right: Peekable<R>,
    order: F,
}

fn merge_by<L, R, F>(left: L, right: R, order: F) -> Merge<L::IntoIter, R::IntoIter, F>
where
    L: IntoIterator,
    R: IntoIterator,
    F: Fn(&L::Item, &R::Item) -> Ordering,
{
    Merge { left: left.into_iter().peekable(), right: right.into_iter().peekable(), order }
}

impl<L, R, F> Iterator for Merge<L, R, F>
where
    L: Iterator,
    R: Iterator,
    F: Fn(&L::Item, &R::Item) -> Ordering,
{
    type Item = Side<L::Item, R::Item>;

    fn next(&mut self) -> Option<Self::Item> {
        let order = match (self.left.peek(), self.right.peek()) {
            (Some(left), Some(right)) => (self.order)(left, right),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => return None,
        };
        Some(match order {
            Ordering::Less => Side::Left(self.left.next()?),
            Ordering::Greater => Side::Right(self.right.next()?),
            Ordering::Equal => Side::Both(self.left.next()?, self.right.next()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ids::Userid;
    use crate::state::Digest;

    fn account(mailboxes: &[(&str, &str, u8)], files: &[(&str, u8)]) -> AccountState {
        let file = |n: u8| FileState { size: 1, digest: Digest([n; 32]) };
        AccountState {
            userid: Userid::from("glad"),
            mailboxes: mailboxes
                .iter()
                .map(|(key, name, n)| {
                    let files = BTreeMap::from([("cyrus.index".to_owned(), file(*n))]);
                    let state = MailboxState { name: MboxName::from(*name), files };
                    (MailboxKey(key.as_bytes().to_vec()), state)
                })
                .collect(),
            files: files.iter().map(|(name, n)| ((*name).to_owned(), file(*n))).collect(),
        }
    }

    #[test]
    fn equal_accounts_need_nothing() {
        let glad = account(&[("a", "user.glad", 1)], &[("sub", 1)]);
        assert!(diff(&glad, &glad.clone()).is_empty());
    }

    #[test]
    fn additions_precede_removals_and_a_rename_is_not_a_copy() {
        let have = account(&[("a", "user.glad", 1), ("b", "user.glad.x", 1)], &[("seen", 1)]);
        let want = account(&[("a", "user.glad.y", 2), ("c", "user.glad", 1)], &[("sub", 1)]);
        let key = |text: &str| MailboxKey(text.as_bytes().to_vec());
        let plan = diff(&want, &have);
        assert_eq!(
            plan.steps,
            [
                Step::Rename {
                    mailbox: key("a"),
                    from: "user.glad".into(),
                    to: "user.glad.y".into()
                },
                Step::Update {
                    mailbox: key("a"),
                    files: vec!["cyrus.index".into()],
                    dropped: vec![]
                },
                Step::Create { mailbox: key("c"), name: "user.glad".into() },
                Step::PutFile("sub".into()),
                Step::Remove { mailbox: key("b"), name: "user.glad.x".into() },
                Step::RemoveFile("seen".into()),
            ]
        );
        assert_eq!(plan.mailboxes_removed(), 1);
    }

    proptest! {
        /// Applying the record steps to `have` gives `want`, whatever the two are.
        #[test]
        fn record_steps_lead_from_have_to_want(
            want in proptest::collection::btree_map(0u32..60, 0u8..3, 0..40),
            have in proptest::collection::btree_map(0u32..60, 0u8..3, 0..40),
        ) {
            let list = |map: &BTreeMap<u32, u8>| -> Vec<(Uid, Guid)> {
                map.iter().map(|(uid, n)| (Uid(*uid), Guid([*n; 20]))).collect()
            };
            let mut result: BTreeMap<Uid, Guid> = list(&have).into_iter().collect();
            for step in diff_records(list(&want), list(&have), |record| *record) {
                match step {
                    RecordStep::Add((uid, guid)) => {
                        prop_assert_eq!(result.insert(uid, guid), None);
                    }
                    RecordStep::Replace((uid, guid)) => {
                        prop_assert_ne!(result.insert(uid, guid), Some(guid));
                    }
                    RecordStep::Keep((uid, guid)) => {
                        prop_assert_eq!(result.get(&uid), Some(&guid));
                    }
                    RecordStep::Remove(uid) => prop_assert!(result.remove(&uid).is_some()),
                }
            }
            prop_assert_eq!(result.into_iter().collect::<Vec<_>>(), list(&want));
        }
    }
}
