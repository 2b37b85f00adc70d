//! Who works on what: commands about different accounts do not wait for each other.

use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use model::{MboxName, UniqueId, Userid};

use super::list;

/// A part of a replica that a command is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Concern {
    /// All that belongs to an account; `None` is what nobody owns.
    Account(Option<Userid>),
    /// The directory of this identity, whoever has a mailbox there.
    Identity(UniqueId),
    /// mailboxes.db and annotations.db.
    Databases,
}

impl Concern {
    /// The account that a mailbox belongs to.
    pub fn owner_of(name: &MboxName) -> Self {
        Concern::Account(list::owner(name))
    }
}

/// What is being worked on. Whoever has claimed something claims nothing else.
#[derive(Debug, Default)]
pub(super) struct Claims {
    held: Mutex<Held>,
    freed: Condvar,
}

#[derive(Debug, Default)]
struct Held {
    parts: BTreeSet<Concern>,
    /// How many claims of parts there are.
    count: usize,
    whole: bool,
    /// How many wait for all of it: nobody begins with a part before them.
    waiting: usize,
}

/// What somebody works on, until this is dropped.
#[derive(Debug)]
pub(super) struct Claimed<'c> {
    claims: &'c Claims,
    /// Without it, all of the replica.
    parts: Option<BTreeSet<Concern>>,
}

impl Claims {
    /// Waits until nobody works on anything.
    pub fn whole(&self) -> Claimed<'_> {
        let mut held = self.held();
        held.waiting += 1;
        while held.whole || held.count > 0 {
            held = self.freed.wait(held).unwrap_or_else(PoisonError::into_inner);
        }
        held.waiting -= 1;
        held.whole = true;
        Claimed { claims: self, parts: None }
    }

    /// Waits until nobody works on one of these parts. They are claimed at once, so that no two wait
    /// for each other.
    pub fn parts(&self, parts: BTreeSet<Concern>) -> Claimed<'_> {
        let mut held = self.held();
        while held.whole || held.waiting > 0 || !held.parts.is_disjoint(&parts) {
            held = self.freed.wait(held).unwrap_or_else(PoisonError::into_inner);
        }
        held.count += 1;
        held.parts.extend(parts.iter().cloned());
        Claimed { claims: self, parts: Some(parts) }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        // A panic leaves nothing half done there.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Claimed<'_> {
    fn drop(&mut self) {
        let mut held = self.claims.held();
        match &self.parts {
            Some(parts) => {
                held.count -= 1;
                held.parts.retain(|part| !parts.contains(part));
            }
            None => held.whole = false,
        }
        self.claims.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::thread;

    use super::*;

    fn account(name: &str) -> BTreeSet<Concern> {
        BTreeSet::from([Concern::Account(Some(Userid::new(name)))])
    }

    /// While one part is held: another is to be had, the same one and all of it are not.
    #[test]
    fn only_who_wants_the_same_waits() {
        let claims = Claims::default();
        let (sender, order) = channel();
        thread::scope(|scope| {
            let one = claims.parts(account("one"));
            drop(claims.parts(account("two")));
            drop(claims.parts(BTreeSet::new()));
            let (claims, again) = (&claims, sender.clone());
            scope.spawn(move || {
                let _claimed = claims.parts(account("one"));
                again.send("one").expect("somebody listens");
            });
            let waits = || claims.held().waiting > 0;
            let all = sender.clone();
            scope.spawn(move || {
                let _claimed = claims.whole();
                all.send("all").expect("somebody listens");
            });
            while !waits() {
                thread::yield_now();
            }
            // Nobody gets past who waits for all of it.
            let late = sender.clone();
            scope.spawn(move || {
                let _claimed = claims.parts(account("two"));
                late.send("two").expect("somebody listens");
            });
            sender.send("free").expect("somebody listens");
            drop(one);
        });
        drop(sender);
        let order: Vec<&str> = order.iter().collect();
        assert_eq!(order[0], "free");
        assert_eq!(order.len(), 4);
        assert_eq!(claims.held().count, 0);
    }
}
