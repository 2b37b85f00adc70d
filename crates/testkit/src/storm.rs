//! Many clients at once that do everything a client does, at random.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use crate::imap::{Append, ImapClient, ImapError};
use crate::mail::{MailGenerator, Sizes};
use crate::rng::Rng;

/// What the clients of a storm do.
#[derive(Clone, Debug)]
pub struct StormPlan {
    /// The IMAP server.
    pub address: SocketAddr,
    /// Whose accounts; client `n` is user `n` of these, in turns. They exist already.
    pub users: Vec<String>,
    /// How many clients.
    pub clients: usize,
    /// What each client tries, and the messages it appends, follow from this.
    pub seed: u64,
    /// How much each client does; without a number, until it is told to stop.
    pub operations: Option<u64>,
    /// The mailbox in which and below which they do it. It exists already.
    pub top: String,
    /// How many different folders there can be below it.
    pub folders: u64,
    /// How large the messages are.
    pub sizes: Sizes,
}

impl StormPlan {
    /// Four clients in their accounts, eight folders, small messages, no end.
    pub fn new(address: SocketAddr, users: &[&str], seed: u64) -> Self {
        let users = users.iter().map(|user| (*user).to_owned()).collect();
        let (clients, folders, sizes) = (4, 8, Sizes::Small);
        let top = "INBOX".to_owned();
        Self { address, users, clients, seed, operations: None, top, folders, sizes }
    }
}

/// What a storm did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StormReport {
    /// How often each command succeeded.
    pub done: BTreeMap<&'static str, u64>,
    /// How often each was refused, mostly because another client had been there first.
    pub refused: BTreeMap<&'static str, u64>,
    /// How often a server hung up, as it does when the open mailbox is deleted by another client.
    pub reconnects: u64,
}

impl StormReport {
    /// The number of commands that succeeded.
    pub fn total(&self) -> u64 {
        self.done.values().sum()
    }

    fn add(&mut self, other: &StormReport) {
        for (name, count) in &other.done {
            *self.done.entry(name).or_default() += count;
        }
        for (name, count) in &other.refused {
            *self.refused.entry(name).or_default() += count;
        }
        self.reconnects += other.reconnects;
    }
}

/// A storm that goes on in threads of its own. Dropping it ends it.
#[derive(Debug)]
pub struct Storm {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    clients: Vec<JoinHandle<Result<StormReport, ImapError>>>,
}

impl Storm {
    /// Lets loose.
    pub fn start(plan: &StormPlan) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let done = Arc::new(AtomicU64::new(0));
        let clients = (0..plan.clients)
            .map(|number| {
                let (plan, stop, done) = (plan.clone(), Arc::clone(&stop), Arc::clone(&done));
                thread::spawn(move || StormClient::new(&plan, number).run(&plan, &stop, &done))
            })
            .collect();
        Self { stop, done, clients }
    }

    /// The number of commands that have succeeded so far.
    pub fn progress(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Tells the clients to stop after what they are doing, and waits for them.
    ///
    /// # Errors
    ///
    /// Whatever a client met that is neither a refusal nor healed by connecting anew.
    pub fn stop(self) -> Result<StormReport, ImapError> {
        self.stop.store(true, Ordering::Relaxed);
        self.wait()
    }

    /// Waits for the clients of a plan that has an end.
    ///
    /// # Errors
    ///
    /// As [`Storm::stop`] has them.
    pub fn wait(mut self) -> Result<StormReport, ImapError> {
        let mut report = StormReport::default();
        for client in std::mem::take(&mut self.clients) {
            match client.join() {
                Ok(outcome) => report.add(&outcome?),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok(report)
    }
}

impl Drop for Storm {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients.drain(..) {
            if client.join().is_err() {
                eprintln!("a client of the storm panicked");
            }
        }
    }
}

struct StormClient {
    rng: Rng,
    mail: MailGenerator,
    user: String,
    top: String,
    folders: u64,
    selected: Option<(String, u64)>,
    report: StormReport,
}

impl StormClient {
    fn new(plan: &StormPlan, number: usize) -> Self {
        let rng = Rng::new(plan.seed).fork(number as u64);
        let user = plan.users.get(number % plan.users.len().max(1)).cloned().unwrap_or_default();
        Self {
            mail: MailGenerator::new(rng.clone().next_u64(), plan.sizes),
            rng,
            user,
            top: plan.top.clone(),
            folders: plan.folders,
            selected: None,
            report: StormReport::default(),
        }
    }

    fn run(
        mut self,
        plan: &StormPlan,
        stop: &AtomicBool,
        done: &AtomicU64,
    ) -> Result<StormReport, ImapError> {
        let mut client = self.connect(plan)?;
        let mut tried = 0;
        while plan.operations.is_none_or(|limit| tried < limit) && !stop.load(Ordering::Relaxed) {
            tried += 1;
            let (name, outcome) = self.step(&mut client);
            match outcome {
                Ok(()) => {
                    *self.report.done.entry(name).or_default() += 1;
                    done.fetch_add(1, Ordering::Relaxed);
                }
                Err(ImapError::No { .. } | ImapError::Bad { .. }) => {
                    *self.report.refused.entry(name).or_default() += 1;
                }
                Err(ImapError::Io { .. } | ImapError::Unexpected { .. }) => {
                    self.report.reconnects += 1;
                    client = self.connect(plan)?;
                }
            }
        }
        Ok(self.report)
    }

    fn connect(&mut self, plan: &StormPlan) -> Result<ImapClient, ImapError> {
        self.selected = None;
        let mut client = ImapClient::connect(plan.address)?;
        client.login(&self.user, "any")?;
        Ok(client)
    }

    /// One command, and its name. What needs an open mailbox opens one first.
    fn step(&mut self, client: &mut ImapClient) -> (&'static str, Result<(), ImapError>) {
        let choice = self.rng.below(100);
        match choice {
            0..35 => ("append", self.append(client)),
            35..40 => ("create", self.create(client)),
            40..43 => ("rename", self.rename(client)),
            43..46 => ("delete", self.delete(client)),
            46..48 => ("subscribe", client.subscribe(&self.folder())),
            48..50 => ("setacl", client.set_acl(&self.folder(), "fred", "lrs")),
            _ if self.selected.is_none() || choice < 60 => ("select", self.select(client)),
            60..78 => ("store", self.store(client)),
            78..88 => ("copy", self.copy(client)),
            88..92 => ("move", self.move_to(client)),
            92..97 => ("expunge", client.expunge()),
            _ => ("annotate", self.annotate(client)),
        }
    }

    fn append(&mut self, client: &mut ImapClient) -> Result<(), ImapError> {
        let message = self.mail.message();
        let flags: &[&str] = match self.rng.below(4) {
            0 => &["\\Seen"],
            1 => &["\\Seen", "\\Flagged", "$Forwarded"],
            _ => &[],
        };
        let internaldate = Some(1_400_000_000 + self.rng.below(200_000_000) as i64);
        let folder = self.folder();
        client.append(&folder, Append { message: &message, flags, internaldate }).map(drop)
    }

    fn create(&mut self, client: &mut ImapClient) -> Result<(), ImapError> {
        client.create(&self.folder())
    }

    fn rename(&mut self, client: &mut ImapClient) -> Result<(), ImapError> {
        self.leave(client)?;
        let (from, to) = (self.folder(), self.folder());
        // Renaming INBOX moves its messages away, which no client does by accident.
        if from == self.top { client.create(&to) } else { client.rename(&from, &to) }
    }

    fn delete(&mut self, client: &mut ImapClient) -> Result<(), ImapError> {
        self.leave(client)?;
        let folder = self.folder();
        // Cyrus takes the deletion of one's INBOX for that of the account.
        if folder == self.top { Ok(()) } else { client.delete(&folder) }
    }

    fn select(&mut self, client: &mut ImapClient) -> Result<(), ImapError> {
        self.selected = None;
        let folder = self.folder();
        let selected = client.select(&folder)?;
        self.selected = Some((folder, selected.uid_next));
        Ok(())
    }

    fn leave(&mut self, client: &mut ImapClient) -> Result<(), ImapError> {
        match self.selected.take() {
            Some(_) => client.unselect(),
            None => Ok(()),
        }
    }

    fn store(&mut self, client: &mut ImapClient) -> Result<(), ImapError> {
        let flags: &[&str] = match self.rng.below(5) {
            0 => &["\\Seen"],
            1 => &["\\Flagged", "$Work"],
            2 => &["\\Answered", "NonJunk"],
            _ => &["\\Deleted"],
        };
        let change = if self.rng.chance(70) { "+FLAGS" } else { "-FLAGS" };
        client.store(&self.uids(), change, flags)
    }

    fn copy(&mut self, client: &mut ImapClient) -> Result<(), ImapError> {
        let uids = self.uids();
        client.copy(&uids, &self.folder()).map(drop)
    }

    fn move_to(&mut self, client: &mut ImapClient) -> Result<(), ImapError> {
        let uids = self.uids();
        client.move_to(&uids, &self.folder())
    }

    fn annotate(&mut self, client: &mut ImapClient) -> Result<(), ImapError> {
        let value = format!("note {}", self.rng.below(1000));
        client.annotate(&self.uids(), "/comment", "value.shared", &value)
    }

    /// The top in a third of all cases, else one of the folders, which may not exist just now.
    fn folder(&mut self) -> String {
        let top = &self.top;
        if self.folders == 0 || self.rng.below(3) == 0 {
            return top.clone();
        }
        match self.rng.below(self.folders) {
            odd if odd % 2 == 1 => format!("{top}/f{}/deep", odd - 1),
            even => format!("{top}/f{even}"),
        }
    }

    /// One to six neighbours that were there when the mailbox was opened, or not much later.
    fn uids(&mut self) -> String {
        let uid_next = self.selected.as_ref().map_or(1, |(_, uid_next)| *uid_next);
        let first = self.rng.between(1, uid_next.max(1));
        format!("{first}:{}", first + self.rng.below(6))
    }
}
