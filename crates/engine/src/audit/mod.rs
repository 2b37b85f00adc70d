//! Audit: an account against itself. What its files say of each other, of its messages, and of the
//! lists that name them.
//!
//! A look takes no lock longer than metadata is copied to memory. So anything may have changed between
//! what was copied and what is seen on the disk; whatever looks wrong is looked at again, with metadata
//! that is copied anew and with the mailbox held while its files are opened. Only what is wrong then,
//! too, is told. Nothing is ever written.

mod again;
mod cache;
mod custody;
mod dissection;
mod elsewhere;
mod links;
mod messages;
mod metadata;
mod quota;
mod replica;
mod subject;
mod verdict;

use std::collections::HashMap;

use model::{Finding, Guid, MboxName, Uid, Userid};
use spool::staging::Inode;
use spool::{FrozenMailbox, Server, SpoolError};

use crate::live::locks_held;
use crate::ports::{Monitor, Pace};
use crate::source::LockHeld;

pub use custody::{Custody, Found, Nature, Place, Recorded};
pub use dissection::{Difference, NulRun};
pub use elsewhere::find_elsewhere;
pub use links::{Links, explain};
pub use replica::{Examined, examine};

pub(crate) use cache::damaged as damaged_cache;
pub(crate) use messages::Paced;
pub(crate) use metadata::{FIRST_WITH_ANNOTS, sum_of_notes, sum_style};
pub(crate) use quota::{Sums as QuotaSums, counts_all, roots as quota_roots};
pub(crate) use subject::Subject;

use again::Account;

/// How much of each message is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Depth {
    /// Whether its file is there, and how long it is. Only what looks wrong is read.
    Quick,
    /// All of its bytes.
    Full,
}

/// How to look.
#[derive(Clone, Copy)]
pub struct Options<'o> {
    /// How much of each message.
    pub depth: Depth,
    /// Threads that read messages; at least one.
    pub workers: usize,
    /// How fast they may be read.
    pub pace: &'o dyn Pace,
}

/// Something that is wrong.
#[derive(Clone, Debug)]
pub struct Issue {
    /// What, where, and whose fault.
    pub finding: Finding,
    /// All that is known of a message that is not what its record says.
    pub custody: Option<Box<Custody>>,
}

impl From<Finding> for Issue {
    fn from(finding: Finding) -> Self {
        Self { finding, custody: None }
    }
}

/// A file with names that the account's records do not have all of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shared {
    /// Which file.
    pub inode: Inode,
    /// How many names it has.
    pub links: u64,
    /// How many of them the account's mailboxes have.
    pub names: u64,
    /// One of those.
    pub place: Place,
}

/// What was found out about an account.
#[derive(Clone, Debug, Default)]
pub struct Audited {
    /// Mailboxes looked at.
    pub mailboxes: u64,
    /// Messages whose files should be there, expunged ones included.
    pub messages: u64,
    /// Bytes of messages that were read.
    pub bytes: u64,
    /// Messages whose GUID nobody knows (2.3 with `guid_mode: off`), so that their bytes cannot be
    /// compared with it.
    pub unknown: u64,
    /// What is wrong.
    pub issues: Vec<Issue>,
    /// What looked wrong, and did not when it was looked at again: changes under way.
    pub lapsed: u64,
    /// Files that others may have names of.
    pub shared: Vec<Shared>,
    /// The locks that were held.
    pub locks: Vec<LockHeld>,
}

/// Looks at an account. What is wrong is told to the monitor, too, once it is certain.
///
/// # Errors
/// What keeps the account from being read as a whole: it is not there, or its locks are not to be had.
pub fn account(
    server: &Server,
    userid: &Userid,
    options: &Options<'_>,
    monitor: &dyn Monitor,
) -> Result<Audited, SpoolError> {
    let mut frozen = server.freeze(userid)?;
    frozen.mailboxes.iter_mut().for_each(FrozenMailbox::let_go);
    let account = Account { server, userid, options };
    let mut audited = Audited { locks: locks_held(&frozen.locks), ..Audited::default() };
    let looked = account.whole(&frozen)?;
    let confirmed = account.whole_again(looked, &mut audited.lapsed)?;
    audited.issues.extend(confirmed.into_iter().map(Issue::from));
    let subjects: Vec<Subject> = frozen.mailboxes.into_iter().map(Subject::of).collect();
    let mut names = Vec::new();
    let mut hashed = HashMap::new();
    for (at, subject) in subjects.iter().enumerate() {
        audited.mailboxes += 1;
        let look = look(subject, options, userid.user(), &mut hashed, monitor);
        audited.messages += look.messages.messages;
        audited.bytes += look.messages.bytes;
        audited.unknown += look.messages.unknown;
        names.extend(look.messages.names.iter().map(|name| Name { mailbox: at, ..*name }));
        if look.is_suspicious() {
            audited.issues.extend(account.again(subject, &look, &mut audited.lapsed)?);
        }
    }
    names.sort_unstable_by_key(|name| name.inode);
    custody::complete(&mut audited.issues, &subjects, &names, options.pace);
    audited.shared = shared(&names, &subjects);
    audited.issues.iter().for_each(|issue| monitor.finding(&issue.finding));
    Ok(audited)
}

/// A name of a file that has more than one.
#[derive(Clone, Copy, Debug)]
struct Name {
    inode: Inode,
    links: u64,
    /// Number of the mailbox.
    mailbox: usize,
    uid: Uid,
}

/// What a first look at a mailbox gave.
struct Look {
    findings: Vec<Finding>,
    messages: messages::Looked,
}

impl Look {
    fn is_suspicious(&self) -> bool {
        let messages = &self.messages;
        !self.findings.is_empty() || !messages.suspects.is_empty() || messages.unlisted.is_some()
    }
}

/// Looks at a mailbox once.
fn look(
    subject: &Subject,
    options: &Options<'_>,
    owner: Option<&Userid>,
    hashed: &mut HashMap<Inode, Guid>,
    monitor: &dyn Monitor,
) -> Look {
    let records = subject.records();
    let findings = metadata::check(subject, &records, owner, options.pace);
    let messages = messages::look(subject, &records, options, hashed, monitor);
    Look { findings, messages }
}

/// The files of which the account has not all names.
fn shared(names: &[Name], subjects: &[Subject]) -> Vec<Shared> {
    let groups = names.chunk_by(|a, b| a.inode == b.inode);
    let shared = groups.filter_map(|group| {
        let (first, found) = (group.first()?, group.len() as u64);
        let place = Place { mailbox: name_of(subjects, first.mailbox), uid: first.uid };
        let links = group.iter().map(|name| name.links).min()?;
        (found < links).then_some(Shared { inode: first.inode, links, names: found, place })
    });
    shared.collect()
}

fn name_of(subjects: &[Subject], at: usize) -> MboxName {
    subjects.get(at).map(|subject| subject.name.clone()).unwrap_or_default()
}
