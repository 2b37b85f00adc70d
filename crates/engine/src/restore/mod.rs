//! Give a stored snapshot back to a server that runs, through its replication protocol: what is wanted
//! and what the server tells are compared, [`plan`](plan::plan) says what has to be added, and
//! the plan is said to the server, each step noted in a [`Journal`] before it is done.
//!
//! Restoring only adds: a mailbox that is not there, a message that is gone. A UID is never given out a
//! second time, and what is told is bound to the state that it was planned for, so that a server which
//! goes on meanwhile refuses it, and is looked at anew. [`undo`](undo::undo) removes again what a
//! journal says was added.

pub mod apply;
pub mod journal;
mod place;
pub mod plan;
pub mod room;
pub mod undo;
pub mod wanted;

use std::collections::BTreeSet;
use std::{fmt, io};

use csync::reply::No;
use model::state::MailboxKey;
use model::{Finding, MboxName, Partition, Timestamp, Uid, UniqueId};
use peer::SessionError;
use thiserror::Error;

use crate::ports::{MessageSource, Monitor, Peer};
use crate::replicate::remote::{RECORDS_MAX, Remote};
use apply::{Done, Run};
use journal::Journal;
use plan::Plan;
use wanted::Wish;

/// How often a server is looked at anew because it went on meanwhile.
pub(crate) const ROUNDS_MAX: usize = 50;

/// How to restore.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to.
    pub placement: Placement,
    /// Give no messages back, but the flags of those that are there.
    pub flags_only: bool,
    /// Restore also into a mailbox of the same name that is another one, or has other UIDs.
    pub accept_mismatch: bool,
    /// The partition of new mailboxes, if not that of the account's INBOX.
    pub partition: Option<Partition>,
    /// The time.
    pub now: Timestamp,
    /// Threads that read messages.
    pub workers: usize,
    /// Only make the plan.
    pub dry_run: bool,
}

/// Where mail goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placement {
    /// To where it was.
    InPlace,
    /// Into a tree of its own, below the first of these names that is free, or that this very snapshot
    /// was restored to before.
    Tree {
        /// What tells the snapshot from all others.
        snapshot: Vec<u8>,
        /// Names in internal form, all of them below the account's INBOX.
        tops: Vec<MboxName>,
    },
}

/// What became of it.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The plan that was made first.
    pub plan: Plan,
    /// What was done, all in all.
    pub done: Done,
    /// What is wrong with messages, which were left out.
    pub findings: Vec<Finding>,
    /// What could not be restored, in the end.
    pub problems: Vec<Problem>,
}

impl Outcome {
    /// Whether nothing was done for want of consent, or of room.
    pub fn is_stopped(&self, options: &Options) -> bool {
        self.plan.is_stopped(options)
    }
}

/// Why nothing, or not all, is restored.
#[derive(Debug, Error)]
pub enum RestoreError {
    /// The server does not do what it should.
    #[error(transparent)]
    Peer(#[from] SessionError),
    /// What is about to be done could not be noted; so it was not done.
    #[error("note what is about to be done")]
    Journal(#[source] io::Error),
    /// The account has no INBOX there, and a Cyrus takes nothing else first.
    #[error("the server has no mailbox {0}")]
    NoInbox(MboxName),
}

/// Something that is not restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The mailbox, by its name in the snapshot or, of what is undone, on the server.
    pub mailbox: MboxName,
    /// Why.
    pub trouble: Trouble,
}

/// Why something is not restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Its metadata cannot be read.
    Damaged(Vec<Finding>),
    /// It holds something else than mail.
    NotMail,
    /// It is not one of the account's own.
    NotOwn,
    /// It was deleted already, and has no place of its own.
    WasDeleted,
    /// There is none whose flags could be set.
    NotThere,
    /// The mailbox of that name is of another kind, or cannot be made use of.
    OtherKind,
    /// The name is that of another mailbox, of this uniqueid.
    NameTaken(MboxName, UniqueId),
    /// It has no UIDs left to give out.
    NoUids,
    /// The server does not take it.
    Refused(String),
    /// It changed each time before anything could be done.
    Busy,
}

/// What earlier rounds of a run have found out.
#[derive(Clone, Debug, Default)]
pub struct Past {
    /// Messages, by their mailbox's number in the snapshot, whose bytes are not to be had.
    pub lost: BTreeSet<(usize, Uid)>,
    /// Mailboxes of the server that are not tried again.
    pub given_up: BTreeSet<MailboxKey>,
    /// Identities that the server does not take for a new mailbox: it remembers one of old.
    pub spent: BTreeSet<UniqueId>,
}

/// Restores what is wanted of an account, over a connection that may be used for others.
///
/// # Errors
/// If the run cannot go on. What concerns one mailbox is a [`Problem`], and one message a finding.
pub fn restore(
    wish: &Wish<'_>,
    messages: &dyn MessageSource,
    peer: &mut dyn Peer,
    journal: &mut dyn Journal,
    options: &Options,
    monitor: &dyn Monitor,
) -> Result<Outcome, RestoreError> {
    let mut outcome = Outcome::default();
    let mut run = Run::new(wish, messages, peer, journal, options, monitor);
    for round in 0..=ROUNDS_MAX {
        let (remote, plan) = look(wish, &run.past, run.peer, options)?;
        if round == 0 {
            outcome.plan.clone_from(&plan);
            outcome.problems.extend(wish.problems.iter().chain(&plan.problems).cloned());
            let kept = wish.mailboxes.iter().flat_map(wanted::Wanted::not_stored);
            run.report(kept.collect());
        }
        if options.dry_run || plan.steps.is_empty() || outcome.is_stopped(options) {
            break;
        }
        if round == ROUNDS_MAX || plan.is_stopped(options) {
            let left = plan.steps.iter().map(|step| &step.told.mboxname);
            outcome.problems.extend(left.map(|name| Problem::new(name, Trouble::Busy)));
            break;
        }
        run.apply(&remote, &plan)?;
    }
    run.end()?;
    outcome.done = run.done;
    outcome.findings.append(&mut run.findings);
    outcome.problems.append(&mut run.problems);
    Ok(outcome)
}

/// Asks the server, and plans; asks again for what is not clear.
fn look(
    wish: &Wish<'_>,
    past: &Past,
    peer: &mut dyn Peer,
    options: &Options,
) -> Result<(Remote, Plan), RestoreError> {
    let mut remote =
        Remote::of_user(wish.userid, peer)?.with_ids(plan::ids(wish, options), peer)?;
    loop {
        let plan = plan::plan(wish, &remote, past, options)?;
        if plan.unclear.is_empty() {
            return Ok((remote, plan));
        }
        for key in &plan.unclear {
            remote.ask_for_records(key, RECORDS_MAX, peer)?;
        }
    }
}

/// Whether a server that says this is to be looked at anew.
pub(crate) fn is_outdated(error: &SessionError) -> bool {
    use No::{MailboxLocked, MailboxMoved, SyncChanged, SyncChecksum};
    let SessionError::Refused { no, .. } = error else { return false };
    matches!(no, MailboxLocked | MailboxMoved | SyncChanged | SyncChecksum)
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
            Trouble::NotMail => "not-mail",
            Trouble::NotOwn => "not-own",
            Trouble::WasDeleted => "was-deleted",
            Trouble::NotThere => "not-there",
            Trouble::OtherKind => "other-kind",
            Trouble::NameTaken(..) => "name-taken",
            Trouble::NoUids => "no-uids",
            Trouble::Refused(_) => "refused",
            Trouble::Busy => "busy",
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Damaged(findings) => match findings.first() {
                Some(finding) => write!(f, "it is damaged in the snapshot: {finding}"),
                None => write!(f, "it is damaged in the snapshot"),
            },
            Trouble::NotMail => write!(f, "it holds no mail; dir: restores it"),
            Trouble::NotOwn => write!(f, "it is not one of the account's own; dir: restores it"),
            Trouble::WasDeleted => {
                write!(f, "it was deleted already; without --in-place it is restored")
            }
            Trouble::NotThere => write!(f, "the server has no such mailbox; no flags are set"),
            Trouble::OtherKind => write!(f, "the server's mailbox of that name is no mail"),
            Trouble::NameTaken(name, uniqueid) => {
                write!(f, "{name} is another mailbox there, of uniqueid {uniqueid}; try --into")
            }
            Trouble::NoUids => write!(f, "the server's mailbox has given out its last UID"),
            Trouble::Refused(why) => write!(f, "{why}"),
            Trouble::Busy => write!(f, "it changed each time before it could be restored"),
        }
    }
}
