//! A replica against itself. Nobody else has it, so that one look is enough.

use std::collections::HashMap;

use cyrus_format::mboxlist::MailboxEntry;
use model::{Finding, FindingKind};
use spool::replica::{ReplicaError, State, rules};

use super::subject::Subject;
use super::verdict::Suspect;
use super::{Depth, Options, look};
use crate::ports::{Silent, Unhurried};

/// What was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Examined {
    /// Mailboxes.
    pub mailboxes: u64,
    /// Of these, the ones that hold sieve scripts.
    pub sieve_mailboxes: u64,
    /// Messages whose files should be there, expunged ones included.
    pub messages: u64,
    /// What they have together, in bytes.
    pub bytes: u64,
}

/// Whether a replica is whole: what a Cyrus that gets it would lack. What is wrong is told, one by one.
pub fn examine(
    state: &State,
    depth: Depth,
    workers: usize,
    tell: &mut dyn FnMut(Finding),
) -> Examined {
    state.damage().into_iter().for_each(&mut *tell);
    let options = Options { depth, workers, pace: &Unhurried };
    let mut examined = Examined::default();
    for entry in state.mailboxes() {
        examined.mailboxes += 1;
        examined.sieve_mailboxes += u64::from(entry.mbtype.kind == b'f');
        if let Err(error) = mailbox(state, entry, &options, &mut examined, tell) {
            let detail = error.explained();
            tell(Finding::new(FindingKind::MailboxDamaged, &entry.name, detail));
        }
    }
    examined
}

fn mailbox(
    state: &State,
    entry: &MailboxEntry,
    options: &Options<'_>,
    examined: &mut Examined,
    tell: &mut dyn FnMut(Finding),
) -> Result<(), ReplicaError> {
    let subject = Subject::of(state.look_at(entry)?);
    let owner = rules().names.owner(&entry.name);
    let look = look(&subject, options, owner.as_ref(), &mut HashMap::new(), &Silent);
    let records = subject.records();
    examined.messages += look.messages.messages;
    examined.bytes += records.linked().map(|record| record.size).sum::<u64>();
    look.findings.into_iter().chain(look.messages.unlisted).for_each(&mut *tell);
    for uid in &look.messages.suspects {
        let suspect = Suspect::open(&subject, &records, *uid);
        if let Some(issue) = suspect.and_then(|s| s.judge(&subject.name, options.pace)) {
            tell(issue.finding);
        }
    }
    Ok(())
}
