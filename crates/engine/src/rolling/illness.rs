//! What of an account is left as it is, and when it is tried again.

use std::collections::BTreeMap;

use model::{MboxName, Userid};

use super::{Complaint, Moment, delay};

/// Between two tries, in milliseconds: at first, and at most.
const RETRY: (i64, i64) = (2_000, 600_000);

/// Whoever has news is tried again after so long at most, in milliseconds: news is what comes when
/// something is mended.
const RETRY_NEWS_MAX: i64 = 60_000;

/// Complaints about an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Illness {
    /// About all of it.
    pub account: Option<Known>,
    /// About mailboxes and files of it.
    pub mailboxes: BTreeMap<MboxName, Known>,
    /// How often all of it was tried.
    pub tries: u32,
    /// The last time.
    pub last: Moment,
    /// The next time.
    pub next: Moment,
}

/// A complaint, and since when there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub complaint: Complaint,
    pub since: Moment,
}

/// An account that is ill, for people and for files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IllAccount {
    /// Whose.
    pub account: Userid,
    /// How often all of it was tried.
    pub tries: u32,
    /// When it is tried again.
    pub next: Moment,
    /// What is wrong with it.
    pub things: Vec<IllThing>,
}

/// What is wrong with it, or with a mailbox of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IllThing {
    /// The complaint.
    pub complaint: Complaint,
    /// Since when there is one.
    pub since: Moment,
}

impl Illness {
    /// What there is to complain of after all of the account was tried; `None` if nothing.
    pub fn after(before: Option<&Self>, complaints: Vec<Complaint>, now: Moment) -> Option<Self> {
        if complaints.is_empty() {
            return None;
        }
        let tries = before.map_or(0, |before| before.tries).saturating_add(1);
        let next = now.plus(delay(tries, RETRY.0, RETRY.1));
        let mut illness =
            Self { account: None, mailboxes: BTreeMap::new(), tries, last: now, next };
        for complaint in complaints {
            let since = before.and_then(|before| before.known(&complaint.mailbox));
            let since = since.map_or(now, |known| known.since);
            illness.put(Known { complaint, since });
        }
        Some(illness)
    }

    /// Takes a complaint, in place of a former one about the same.
    pub fn put(&mut self, known: Known) {
        match known.complaint.mailbox.clone() {
            // The first one is what the others come from.
            Some(mailbox) => drop(self.mailboxes.entry(mailbox).or_insert(known)),
            None => self.account = Some(known),
        }
    }

    /// What is known of a mailbox, or of the account as a whole.
    pub fn known(&self, mailbox: &Option<MboxName>) -> Option<&Known> {
        match mailbox {
            Some(mailbox) => self.mailboxes.get(mailbox),
            None => self.account.as_ref(),
        }
    }

    /// Whether it was there the next time, too.
    pub fn is_lasting(&self) -> bool {
        self.tries > 1
    }

    /// All complaints.
    pub fn all(&self) -> impl Iterator<Item = &Known> {
        self.account.iter().chain(self.mailboxes.values())
    }

    /// There is news: it may be about to be well.
    pub fn hurry(&mut self) {
        let pause = delay(self.tries, RETRY.0, RETRY_NEWS_MAX);
        self.next = self.next.min(self.last.plus(pause));
    }

    pub fn told(&self, account: &Userid) -> IllAccount {
        let thing =
            |known: &Known| IllThing { complaint: known.complaint.clone(), since: known.since };
        IllAccount {
            account: account.clone(),
            tries: self.tries,
            next: self.next,
            things: self.all().map(thing).collect(),
        }
    }

    /// As it was told before, to be tried at once.
    pub fn from_told(told: &IllAccount, now: Moment) -> Self {
        let mut illness =
            Self { account: None, mailboxes: BTreeMap::new(), tries: 0, last: now, next: now };
        for thing in &told.things {
            illness.put(Known { complaint: thing.complaint.clone(), since: thing.since });
        }
        illness
    }
}
