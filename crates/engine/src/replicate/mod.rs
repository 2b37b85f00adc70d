//! Bring an account of a replica up to date: what is here and what the replica tells are described in
//! the same words, [`plan`](plan::plan) says what has to be said, and [`apply`] says it.
//!
//! The master is only read, unless both sides have changed a mailbox and are to be brought
//! [together](split). Whatever would cost the replica a message that nothing here says was
//! removed is left as it is and told: as a [`Problem`] of one mailbox, or as a
//! [`Brake`] of the account.

pub mod apply;
pub mod brake;
pub mod compare;
pub mod local;
pub mod plan;
pub(crate) mod remote;
mod renames;
mod session;
pub mod split;
mod state;
pub(crate) mod upload;

use std::collections::BTreeSet;
use std::{fmt, io};

use csync::banner::Banner;
use csync::reply::No;
use cyrus_format::FormatError;
use cyrus_format::names::NameRules;
use model::state::MailboxKey;
use model::{Finding, MboxName, Uid, UniqueId, Userid};
use peer::SessionError;
use thiserror::Error;

use crate::ports::{MessageSource, Monitor, Peer};
use crate::source::SourceAccount;
use apply::{Done, Run};
use brake::Brake;
use compare::Difference;
use local::Local;
use plan::Plan;
use remote::Remote;
use split::{Beside, Resolve};

/// How often an account is looked at anew because the replica was not as it had said.
const ROUNDS_MAX: usize = 3;

/// How to replicate.
#[derive(Clone, Debug)]
pub struct Options {
    /// These mailboxes only; nothing else of the account is looked at, and nothing removed.
    pub mailboxes: Option<BTreeSet<MboxName>>,
    /// Do what the brake would stop, and remove what the replica alone has.
    pub accept_removals: bool,
    /// Of an account's mailboxes and messages, so many per cent may go at once.
    pub removals_max: u64,
    /// Letters of those kinds of mailboxes that the replica cannot keep: see [`kinds_left_out`].
    pub kinds_left_out: Vec<u8>,
    /// Mailboxes that other accounts of this server have: a trace that they were deleted means nothing.
    pub moved: BTreeSet<UniqueId>,
    /// Where new mailboxes are put, if not where they lie here.
    pub partition: Option<model::Partition>,
    /// Bring together what both sides have changed.
    pub resolve: Option<Resolve>,
    /// Compare the records of every mailbox that is to be changed. Without, it is left to the replica to
    /// refuse what does not fit its own, if its counters do not tell.
    pub closely: bool,
    /// Threads that read messages.
    pub workers: usize,
    /// Only make the plan.
    pub dry_run: bool,
}

/// The kinds of mailboxes that a replica cannot keep: sieve scripts, unless both have agreed on them,
/// and notifications before 3.8. A Cyrus dies of a letter that it does not know.
pub fn kinds_left_out(banner: &Banner, sieve_mailbox: bool) -> Vec<u8> {
    let is_old = banner.cyrus_version().is_some_and(|version| version < (3, 8));
    let kinds = [(b'f', !sieve_mailbox), (b'j', is_old)];
    kinds.into_iter().filter(|(_, left_out)| *left_out).map(|(kind, _)| kind).collect()
}

/// What became of an account.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The plan that was made first, with all brakes: what a closer look has shown may be braked, too.
    pub plan: Plan,
    /// What was done, all in all.
    pub done: Done,
    /// What was left as it is, in the end.
    pub problems: Vec<Problem>,
    /// The master was changed, by this or by others: it has to be read anew, and there may be more to do.
    pub is_stale: bool,
}

impl Outcome {
    /// Whether the brake stopped it, before anything was done or in the middle; it stops nobody who
    /// [accepts removals](Options::accept_removals).
    pub fn is_braked(&self, accept_removals: bool) -> bool {
        !self.plan.brakes.is_empty() && !accept_removals
    }

    fn add_brakes(&mut self, brakes: &[Brake]) {
        let new = brakes.iter().filter(|brake| !self.plan.brakes.contains(brake)).cloned();
        let new: Vec<Brake> = new.collect();
        self.plan.brakes.extend(new);
    }
}

/// Why an account is not replicated.
#[derive(Debug, Error)]
pub enum ReplicateError {
    /// What is here makes no sense.
    #[error("describe the account")]
    Local(#[source] FormatError),
    /// The replica does not do what it should.
    #[error(transparent)]
    Peer(#[from] SessionError),
    /// This server's own replication server does not do what it should.
    #[error("bring this server what the replica has")]
    Master(#[source] SessionError),
    /// Both variants were to be kept before anything is changed, and could not be.
    #[error("keep both variants")]
    Keep(#[source] io::Error),
}

impl ReplicateError {
    /// Whether somebody else holds the account's lock on the replica.
    pub fn is_busy(&self) -> bool {
        use SessionError::Refused;
        matches!(self, ReplicateError::Peer(Refused { no: No::MailboxLocked, .. }))
    }
}

/// Something that is left as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The mailbox, or the file of the account.
    pub mailbox: MboxName,
    /// What is wrong with it.
    pub trouble: Trouble,
}

/// Why something is left as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It is damaged here.
    Damaged(Vec<Finding>),
    /// There is no such mailbox here.
    NotHere,
    /// It has no uniqueid.
    NoIdentity,
    /// This one has the same uniqueid.
    SameIdentity(MboxName),
    /// Its index is older than replication.
    TooOld {
        /// The index's version.
        version: u32,
    },
    /// A message without a GUID.
    NoGuid(Uid),
    /// A message too large for the protocol.
    TooLarge(Uid),
    /// The replica has it, and nothing here says that it was removed.
    ReplicaOnly,
    /// The replica has it, and another account here: it is renamed with that one.
    Elsewhere,
    /// Another mailbox of the replica has the name that it should get, and keeps it.
    NameTaken(MboxName),
    /// Both sides have changed it.
    Diverged(Vec<Difference>),
    /// Messages that the replica alone has are not to be had.
    DamagedThere(Vec<Finding>),
    /// The replica cannot keep mailboxes of its kind.
    NotSupported,
    /// The replica does not take it.
    Refused(String),
}

/// Replicates one account, or some of its mailboxes, over a connection that may be used for others
/// before and after.
///
/// # Errors
/// If the account as a whole cannot be replicated. What concerns one mailbox is a [`Problem`].
pub fn replicate(
    account: &SourceAccount,
    rules: &NameRules,
    messages: &dyn MessageSource,
    peer: &mut dyn Peer,
    options: &Options,
    monitor: &dyn Monitor,
) -> Result<Outcome, ReplicateError> {
    let told = Told::ask(&account.userid, peer, options)?;
    let replication = Replication::begin(account, rules, told, options)?;
    match replication.settled() {
        Some(outcome) => Ok(outcome),
        None => replication.run(messages, peer, Beside::default(), monitor),
    }
}

/// What a replica tells of an account, asked before the account is read: so nobody waits for it
/// while anything is locked here.
pub struct Told(Option<Remote>);

impl Told {
    /// Asks for an account. What can be asked for by names alone is left for later.
    ///
    /// # Errors
    /// If the replica does not tell.
    pub fn ask(
        userid: &Userid,
        peer: &mut dyn Peer,
        options: &Options,
    ) -> Result<Self, ReplicateError> {
        let has_list = !userid.is_shared() && options.mailboxes.is_none();
        Ok(Self(has_list.then(|| Remote::of_user(userid, peer)).transpose()?))
    }

    /// Whether it has told of any mailbox.
    pub fn has_mailboxes(&self) -> bool {
        self.0.as_ref().is_some_and(|told| !told.mailboxes.is_empty())
    }
}

/// An account beside what the replica has told of it.
pub struct Replication<'a> {
    local: Local<'a>,
    told: Option<Remote>,
    options: &'a Options,
}

impl<'a> Replication<'a> {
    /// Reads the account.
    ///
    /// # Errors
    /// If what is here makes no sense.
    pub fn begin(
        account: &'a SourceAccount,
        rules: &'a NameRules,
        told: Told,
        options: &'a Options,
    ) -> Result<Self, ReplicateError> {
        let mut local = Local::of(account, rules).map_err(ReplicateError::Local)?;
        if let Some(names) = &options.mailboxes {
            local.keep_only(names);
        }
        local.leave_out(&options.kinds_left_out);
        Ok(Self { local, told: told.0, options })
    }

    /// What there is to say if nothing is to be done, and nothing more to be asked.
    pub fn settled(&self) -> Option<Outcome> {
        let told = self.told.as_ref().filter(|told| told.lacks(&self.local).next().is_none())?;
        let plan = plan::plan(&self.local, told, self.options);
        let problems = plan.problems.clone();
        let is_settled = plan.is_empty() && plan.unclear.is_empty();
        is_settled.then(|| Outcome { plan, problems, ..Outcome::default() })
    }

    /// Does what has to be done. If that made the outcome [stale](Outcome::is_stale), there may be more.
    ///
    /// # Errors
    /// If the account as a whole cannot be replicated. What concerns one mailbox is a [`Problem`].
    pub fn run(
        self,
        messages: &dyn MessageSource,
        peer: &mut dyn Peer,
        mut beside: Beside<'_>,
        monitor: &dyn Monitor,
    ) -> Result<Outcome, ReplicateError> {
        let Self { local, mut told, options } = self;
        let mut outcome = Outcome::default();
        let mut doubtful = BTreeSet::new();
        for round in 0..ROUNDS_MAX {
            let (remote, plan) = look(&local, told.take(), &doubtful, peer, options)?;
            match round {
                0 => outcome.plan = plan.clone(),
                _ => outcome.add_brakes(&plan.brakes),
            }
            outcome.problems.clone_from(&plan.problems);
            if outcome.is_braked(options.accept_removals) {
                break;
            }
            let sides = (&local, &remote);
            let settled =
                split::settle(&plan, sides, messages, peer, &mut beside, options, monitor)?;
            outcome.problems.extend(settled.problems);
            outcome.is_stale |= settled.is_stale;
            outcome.done.merged += settled.merged;
            (outcome.done.brought, outcome.done.messages) =
                (outcome.done.brought + settled.new.0, outcome.done.messages + settled.new.1);
            if options.dry_run || plan.is_empty() {
                break;
            }
            let mut run = Run::new(&local, &remote, messages, peer, options, monitor);
            let again = run.apply(&plan)?;
            outcome.done.add(&run.done);
            outcome.problems.append(&mut run.problems);
            doubtful.append(&mut run.doubtful);
            if !again || outcome.is_stale {
                break;
            }
        }
        Ok(outcome)
    }
}

/// Asks the replica, beyond what it has `told`, and plans; asks again for what was not clear, or turned
/// out to be `doubtful`.
fn look(
    local: &Local<'_>,
    told: Option<Remote>,
    doubtful: &BTreeSet<MailboxKey>,
    peer: &mut dyn Peer,
    options: &Options,
) -> Result<(Remote, Plan), SessionError> {
    let mut remote = match (&options.mailboxes, told) {
        (Some(names), _) => {
            // What is a level here may be a mailbox there, which a level of its name would replace.
            let names = names.iter().chain(local.names.keys()).cloned().collect();
            Remote::of_mailboxes(&names, local, peer)?
        }
        (None, Some(told)) => told.with_others(local, peer)?,
        (None, None) if local.userid.is_shared() => Remote::of_shared(local, peer)?,
        (None, None) => Remote::of_user(local.userid, peer)?.with_others(local, peer)?,
    };
    for key in doubtful {
        remote.ask_to_compare(key, local, peer)?;
    }
    loop {
        let plan = plan::plan(local, &remote, options);
        if plan.unclear.is_empty() {
            return Ok((remote, plan));
        }
        for key in &plan.unclear {
            remote.ask_to_compare(key, local, peer)?;
        }
    }
}

impl Problem {
    /// A problem of this mailbox.
    pub fn new(mailbox: &MboxName, trouble: Trouble) -> Self {
        Self { mailbox: mailbox.clone(), trouble }
    }
}

impl Trouble {
    /// A stable word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Trouble::Damaged(_) => "damaged",
            Trouble::NotHere => "not-here",
            Trouble::NoIdentity => "no-identity",
            Trouble::SameIdentity(_) => "same-identity",
            Trouble::TooOld { .. } => "too-old",
            Trouble::NoGuid(_) => "no-guid",
            Trouble::TooLarge(_) => "too-large",
            Trouble::ReplicaOnly => "replica-only",
            Trouble::Elsewhere => "elsewhere",
            Trouble::NameTaken(_) => "name-taken",
            Trouble::Diverged(_) => "diverged",
            Trouble::DamagedThere(_) => "damaged-on-replica",
            Trouble::NotSupported => "not-supported",
            Trouble::Refused(_) => "refused",
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Damaged(findings) => match findings.first() {
                Some(finding) => write!(f, "it is damaged here: {finding}"),
                None => write!(f, "it is damaged here"),
            },
            Trouble::NotHere => write!(f, "there is no such mailbox here"),
            Trouble::NoIdentity => write!(f, "it has no uniqueid"),
            Trouble::SameIdentity(other) => write!(f, "{other} has the same uniqueid"),
            Trouble::TooOld { version } => {
                write!(f, "its index is of version {version}; replication needs Cyrus 2.4 or newer")
            }
            Trouble::NoGuid(uid) => write!(f, "message {uid} has no GUID"),
            Trouble::TooLarge(uid) => write!(f, "message {uid} is larger than 4 GiB"),
            Trouble::ReplicaOnly => {
                write!(f, "the replica alone has it, and nothing says that it was removed here")
            }
            Trouble::Elsewhere => {
                write!(f, "it belongs to another account by now, with which it leaves this one")
            }
            Trouble::NameTaken(name) => {
                write!(f, "it cannot be renamed to {name}: the replica has another mailbox there")
            }
            Trouble::Diverged(differences) => {
                write!(f, "both sides have changed it; messages that differ: {}", differences.len())
            }
            Trouble::DamagedThere(findings) => match findings.first() {
                Some(finding) => write!(f, "it is damaged on the replica: {finding}"),
                None => write!(f, "it is damaged on the replica"),
            },
            Trouble::NotSupported => write!(f, "the replica cannot keep mailboxes of its kind"),
            Trouble::Refused(why) => write!(f, "{why}"),
        }
    }
}
