//! Which account is next, and what can be forgotten when it is done.

use std::collections::{BTreeMap, BTreeSet};

use cyrus_format::sync_log::{Scope, Work};
use model::Userid;

use super::account::{Account, Source, Turn};
use super::illness::{IllAccount, Illness};
use super::{ChunkId, Complaint, Ended, Moment, Place, delay};

/// An account over which the connection breaks is tried again after so long, in milliseconds: at first,
/// and at most.
const BROKEN: (i64, i64) = (250, 300_000);

/// A connection that breaks so often in a row over the same account breaks because of it.
const STRIKES_MAX: u32 = 5;

/// Accounts that are to be replicated, each on one connection at a time.
///
/// What is to be done comes from chunks of a sync log. A chunk can be forgotten as soon as all that is
/// in it is on the replica, or known to be ill: what is ill is kept by itself, and is tried again and
/// again, less and less often. What did not go by the mailbox is tried as a whole.
#[derive(Clone, Debug, Default)]
pub struct Schedule {
    accounts: BTreeMap<Userid, Account>,
    ready: BTreeSet<(Moment, Userid)>,
    later: BTreeSet<(Moment, Userid)>,
    /// How many entries need each chunk.
    chunks: BTreeMap<ChunkId, u64>,
    running: usize,
    done: u64,
}

/// Something to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Whose.
    pub account: Userid,
    /// How much of it.
    pub scope: Scope,
}

/// What is to be done outside, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// Which accounts are ill has changed, and is to be kept before anything is forgotten.
    pub keep_ill: bool,
    /// Chunks that nobody needs any more.
    pub forget: Vec<ChunkId>,
    /// What people should hear.
    pub told: Vec<Told>,
}

/// What people should hear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// Something is left as it is.
    Ill(Place, Complaint),
    /// It goes again, after it was ill since then.
    Well(Place, Moment),
}

impl Schedule {
    /// Takes what is to be looked at, as one chunk says whose first line is as old as that.
    pub fn add(&mut self, chunk: ChunkId, since: Moment, work: &Work, now: Moment) -> Effects {
        let mut needed = 0;
        for (userid, scope) in &work.accounts {
            let account = self.accounts.entry(userid.clone()).or_default();
            let source = Source { chunk: Some(chunk), since };
            needed += match scope {
                Scope::Whole => u64::from(account.add_whole(source)),
                Scope::Mailboxes(names) => {
                    names.iter().filter(|name| account.add_mailbox(name, source)).count() as u64
                }
            };
            self.place(userid, now);
        }
        if needed == 0 {
            return Effects { forget: vec![chunk], ..Effects::default() };
        }
        self.chunks.insert(chunk, needed);
        Effects::default()
    }

    /// Takes accounts that were ill before, to be tried at once.
    pub fn restore(&mut self, ill: &[IllAccount], now: Moment) {
        for told in ill {
            let account = self.accounts.entry(told.account.clone()).or_default();
            account.illness = Some(Illness::from_told(told, now));
            self.place(&told.account, now);
        }
    }

    /// What is to be done next, if anything is. Nobody else gets it until it has [ended](Self::finish).
    pub fn next(&mut self, now: Moment) -> Option<Task> {
        while let Some((due, userid)) = self.later.first().cloned()
            && due <= now
        {
            self.place(&userid, now);
        }
        let (_, userid) = self.ready.first().cloned()?;
        let scope = self.accounts.get_mut(&userid)?.start();
        self.running += 1;
        self.place(&userid, now);
        Some(Task { account: userid, scope })
    }

    /// When there is something to be done that cannot be done yet.
    pub fn due(&self) -> Option<Moment> {
        self.later.first().map(|(due, _)| *due)
    }

    /// A task has ended.
    pub fn finish(&mut self, task: &Task, ended: Ended, now: Moment) -> Effects {
        let Some(account) = self.accounts.get_mut(&task.account) else { return Effects::default() };
        let Some(entries) = account.running.take() else { return Effects::default() };
        self.running -= 1;
        let before = account.illness.clone();
        let mut released = match ended {
            Ended::NotReached => account.put_back(entries),
            Ended::Broken(why) => {
                account.strikes = account.strikes.saturating_add(1);
                account.not_before = now.plus(delay(account.strikes, BROKEN.0, BROKEN.1));
                match account.strikes < STRIKES_MAX {
                    true => account.put_back(entries),
                    false => {
                        let complaint = Complaint::of_account("connection", why);
                        account.fail(&task.scope, entries, complaint, now)
                    }
                }
            }
            Ended::Failed(complaint) => {
                account.forgive();
                account.fail(&task.scope, entries, complaint, now)
            }
            Ended::Done(complaints) => {
                account.forgive();
                match task.scope {
                    Scope::Mailboxes(_) => account.end_mailboxes(entries, complaints, now),
                    Scope::Whole => {
                        account.illness = Illness::after(before.as_ref(), complaints, now);
                        entries.sources().copied().collect()
                    }
                }
            }
        };
        released.extend(account.absorb_pending());
        let (told, keep_ill) = changes(&task.account, before.as_ref(), account.illness.as_ref());
        let forget = self.release(&released);
        self.place(&task.account, now);
        Effects { keep_ill, forget, told }
    }

    /// Counts entries as done; the chunks that nobody needs any more.
    fn release(&mut self, sources: &[Source]) -> Vec<ChunkId> {
        let mut unneeded = Vec::new();
        for chunk in sources.iter().filter_map(|source| source.chunk) {
            let Some(needed) = self.chunks.get_mut(&chunk) else { continue };
            *needed -= 1;
            self.done += 1;
            if *needed == 0 {
                self.chunks.remove(&chunk);
                unneeded.push(chunk);
            }
        }
        unneeded
    }

    /// Puts an account where it belongs now.
    fn place(&mut self, userid: &Userid, now: Moment) {
        let Some(account) = self.accounts.get_mut(userid) else { return };
        match account.turn {
            Turn::Ready(since) => drop(self.ready.remove(&(since, userid.clone()))),
            Turn::Later(due) => drop(self.later.remove(&(due, userid.clone()))),
            Turn::None => {}
        }
        account.turn = account.turn(now);
        match account.turn {
            Turn::Ready(since) => drop(self.ready.insert((since, userid.clone()))),
            Turn::Later(due) => drop(self.later.insert((due, userid.clone()))),
            Turn::None if account.is_idle() => drop(self.accounts.remove(userid)),
            Turn::None => {}
        }
    }

    /// How many entries are still to be done; those that are ill do not count.
    pub fn left(&self) -> u64 {
        self.chunks.values().sum()
    }

    /// How many were done, or found to be ill.
    pub fn done(&self) -> u64 {
        self.done
    }

    /// How many tasks have not ended.
    pub fn running(&self) -> usize {
        self.running
    }

    /// How many chunks are needed.
    pub fn chunks(&self) -> usize {
        self.chunks.len()
    }

    /// Whether nothing is left but what is ill.
    pub fn is_done(&self) -> bool {
        self.running == 0 && self.accounts.values().all(|account| account.pending.is_empty())
    }

    /// Since when the oldest entry waits that is not ill.
    pub fn oldest(&self) -> Option<Moment> {
        let entries = self.accounts.values();
        let entries = entries.flat_map(|account| account.running.iter().chain([&account.pending]));
        entries.filter_map(|entries| entries.since()).min()
    }

    /// What is ill.
    pub fn ill(&self) -> Vec<IllAccount> {
        let told = |(userid, account): (&Userid, &Account)| {
            account.illness.as_ref().map(|illness| illness.told(userid))
        };
        self.accounts.iter().filter_map(told).collect()
    }
}

/// What is ill now and was not, and the other way round; and whether anything has to be kept. What is
/// over at the next try is not worth a word: it is what a storm leaves for seconds.
fn changes(
    userid: &Userid,
    before: Option<&Illness>,
    after: Option<&Illness>,
) -> (Vec<Told>, bool) {
    let place = |complaint: &Complaint| Place {
        account: userid.clone(),
        mailbox: complaint.mailbox.clone(),
    };
    let mut told = Vec::new();
    let mut keep = before.is_some() != after.is_some();
    let was_lasting = before.is_some_and(Illness::is_lasting);
    let is_lasting = after.is_some_and(Illness::is_lasting);
    for known in after.into_iter().flat_map(Illness::all) {
        let complaint = &known.complaint;
        let was = before.and_then(|before| before.known(&complaint.mailbox));
        let is_news = was.is_none_or(|was| was.complaint.code != complaint.code);
        keep |= is_news;
        if is_lasting && (is_news || !was_lasting) {
            told.push(Told::Ill(place(complaint), complaint.clone()));
        }
    }
    for known in before.into_iter().flat_map(Illness::all) {
        let complaint = &known.complaint;
        if after.is_none_or(|after| after.known(&complaint.mailbox).is_none()) {
            keep = true;
            if was_lasting {
                told.push(Told::Well(place(complaint), known.since));
            }
        }
    }
    (told, keep)
}

#[cfg(test)]
mod tests;
