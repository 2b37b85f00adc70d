//! Split brain: a mailbox that both sides have changed. What each side has is shown, and kept if that is
//! wanted; then, if that is wanted, both sides are brought together so that no message is lost.

pub(super) mod apply;
mod fetched;
mod merge;
mod variants;

use std::collections::BTreeSet;

use model::MboxName;
use model::state::MailboxKey;
use peer::SessionError;

pub use merge::{Merge, Numbers, Resolve};
pub use variants::{Keep, Side};

use super::local::Local;
use super::plan::{Plan, Step};
use super::remote::Remote;
use super::{Options, Problem, ReplicateError, Trouble};
use crate::ports::{MessageSource, Monitor, Peer};
use apply::Run;
use variants::Variants;

/// This server itself, through its own replication server.
pub trait Master {
    /// Connects, if that was not done before.
    ///
    /// # Errors
    /// If it cannot be reached.
    fn peer(&mut self) -> Result<&mut dyn Peer, SessionError>;
}

/// What is at hand beside the replica.
#[derive(Default)]
pub struct Beside<'b> {
    /// This server, which is to be written to.
    pub master: Option<&'b mut dyn Master>,
    /// What keeps both variants.
    pub keep: Option<&'b mut dyn Keep>,
}

/// What became of the mailboxes that both sides have changed.
#[derive(Default)]
pub(super) struct Settled {
    pub merged: u64,
    pub new: (u64, u64),
    /// The account has to be read anew.
    pub is_stale: bool,
    pub problems: Vec<Problem>,
}

/// Sees to all mailboxes of a plan that both sides have changed, before anything else is done.
///
/// # Errors
/// If the run cannot go on.
pub(super) fn settle(
    plan: &Plan,
    sides: (&Local<'_>, &Remote),
    messages: &dyn MessageSource,
    peer: &mut dyn Peer,
    beside: &mut Beside<'_>,
    options: &Options,
    monitor: &dyn Monitor,
) -> Result<Settled, ReplicateError> {
    let mut settled = Settled::default();
    let mut spoiled = BTreeSet::new();
    if let Some(keep) = &mut beside.keep {
        let (local, remote) = sides;
        let mut variants =
            Variants { local, remote, messages, peer: &mut *peer, keep: &mut **keep };
        for key in in_conflict(plan, local) {
            if let Some(problem) = variants.keep(key)? {
                spoiled.insert(problem.mailbox.clone());
                settled.problems.push(problem);
            }
        }
    }
    let merges = plan.steps.iter().filter_map(|step| match step {
        Step::Merge(merge) if !spoiled.contains(&merge.name) => Some(&**merge),
        _ => None,
    });
    let merges: Vec<&Merge> = merges.collect();
    if options.dry_run || merges.is_empty() {
        return Ok(settled);
    }
    let Some(master) = &mut beside.master else {
        let left = |merge: &&Merge| {
            Problem::new(&merge.name, Trouble::Diverged(merge.differences.clone()))
        };
        settled.problems.extend(merges.iter().map(left));
        return Ok(settled);
    };
    let mut run = Run::begin(sides, messages, (&mut **master, peer), options, monitor)?;
    merges.iter().try_for_each(|merge| run.merge(merge))?;
    run.end()?;
    settled.problems.append(&mut run.problems);
    Ok(Settled { merged: run.merged, new: run.new, is_stale: run.is_stale, ..settled })
}

/// The mailboxes that both sides have changed.
fn in_conflict<'l>(plan: &Plan, local: &'l Local<'_>) -> impl Iterator<Item = &'l MailboxKey> {
    let diverged = plan.problems.iter().filter_map(|problem| match problem.trouble {
        Trouble::Diverged(_) => Some(&problem.mailbox),
        _ => None,
    });
    let merged = plan.steps.iter().filter_map(|step| match step {
        Step::Merge(merge) => Some(&merge.name),
        _ => None,
    });
    let names: BTreeSet<MboxName> = diverged.chain(merged).cloned().collect();
    let mailboxes = local.mailboxes.iter();
    mailboxes.filter(move |(_, own)| names.contains(&own.told.mboxname)).map(|(key, _)| key)
}
