//! Reconstruct: what is wrong with the metadata of mailboxes is made right by what is left of it, and by the
//! messages.
//!
//! First all is planned, and every change told: [`plan`] changes nothing. [`apply`] then writes what was
//! planned. Nobody may be [at work](spool::running) in the spool meanwhile.
//!
//! What a CRC vouches for stays. Where one bit is wrong, the CRC tells which. What nothing vouches for is
//! believed as far as the message's file bears it out. A message is never given up without being asked to, and
//! no file of a message is ever removed.

mod change;
mod files;
mod header;
mod mailbox;
mod making;
mod orphans;
mod quota;
mod read;
mod records;
mod remains;
mod sums;
mod tell;

use cyrus_format::header::{HeaderForm, MailboxHeader};
use cyrus_format::index::{CrcState, Index, IndexHeader};
use model::{MboxName, Timestamp, Userid};
use spool::{Frozen, FrozenMailbox, Rewriting, Server, SpoolError};

use crate::audit::Subject;
use crate::ports::{Monitor, Pace};
use mailbox::Around;
use tell::Tell;

pub use change::{Change, Field, Value, Why};
pub use tell::Told;

/// How to go about it.
#[derive(Clone, Copy)]
pub struct Options<'o> {
    /// Read every message, and let each record have the GUID of its file.
    pub guids: bool,
    /// Mark messages expunged whose files are gone.
    pub accept_losses: bool,
    /// Let whatever changes here be older than what the master of this replica has, so that the next
    /// replication settles it; otherwise it is news, for clients and for replicas.
    pub is_replica: bool,
    /// Threads that read messages; at least one.
    pub workers: usize,
    /// How fast they may be read.
    pub pace: &'o dyn Pace,
    /// What time it is.
    pub now: Timestamp,
}

/// What is to be done to an account.
#[derive(Debug, Default)]
pub struct Planned {
    /// Mailboxes looked at.
    pub mailboxes: u64,
    /// Messages in them.
    pub messages: u64,
    /// Bytes of messages that were read.
    pub read: u64,
    /// Changes that were told.
    pub changes: u64,
    /// Findings that were told, which stay.
    pub left: u64,
    /// Mailboxes that are to be others.
    rewritings: Vec<Rewriting>,
    /// Quotas that are, by root.
    quotas: Vec<(MboxName, Vec<u8>)>,
}

/// Looks at an account, and tells what is to be different.
///
/// # Errors
/// What keeps the account from being read as a whole.
pub fn plan(
    server: &Server,
    userid: &Userid,
    options: &Options<'_>,
    sink: &mut dyn FnMut(Told<'_>),
    monitor: &dyn Monitor,
) -> Result<Planned, SpoolError> {
    let mut frozen = server.freeze(userid)?;
    frozen.mailboxes.iter_mut().for_each(FrozenMailbox::let_go);
    let around = around(server, &frozen, userid);
    let mut whole = Planned::default();
    for finding in &frozen.findings {
        whole.left += 1;
        sink(Told::Left(finding));
    }
    let mailboxes = std::mem::take(&mut frozen.mailboxes);
    let mut counted = quota::Counted::default();
    for mailbox in mailboxes {
        let subject = Subject::of(mailbox);
        let mut tell = Tell::of(&subject.name, sink);
        let planned = mailbox::plan(&subject, &around, options, &mut tell, monitor);
        whole.changes += tell.changes;
        whole.left += tell.left;
        whole.mailboxes += planned.mailboxes;
        whole.messages += planned.messages;
        whole.read += planned.read;
        counted.add(&subject, planned.rewritings.first());
        whole.rewritings.extend(planned.rewritings);
    }
    let quotas = quota::plan(server, &frozen, &counted, sink);
    whole.changes += quotas.changes;
    whole.left += quotas.left;
    whole.quotas = quotas.files;
    Ok(whole)
}

/// Does what was planned. The calling thread must be [Cyrus' user](Server::act_as_cyrus). What goes wrong with one
/// mailbox is told, and the others go on; what was done until then stays, and a new plan takes it from there.
pub fn apply(server: &Server, planned: &Planned, failed: &mut dyn FnMut(SpoolError)) {
    for rewriting in &planned.rewritings {
        if let Err(error) = server.rewrite(rewriting) {
            failed(error);
        }
    }
    for (root, bytes) in &planned.quotas {
        if let Err(error) = server.rewrite_quota(root, bytes) {
            failed(error);
        }
    }
}

/// What other mailboxes of the account tell of one that cannot be read.
fn around<'a>(server: &'a Server, frozen: &Frozen, userid: &'a Userid) -> Around<'a> {
    let indexes = frozen.mailboxes.iter().filter_map(|mailbox| mailbox.index.as_deref());
    let indexes = indexes.filter_map(|bytes| Index::parse(bytes).ok());
    let indexes = indexes.filter(|index| index.header_crc() != CrcState::Bad);
    let headers: Vec<IndexHeader> = indexes.map(|index| index.header().clone()).collect();
    let modseqs = headers.iter().map(|header| header.highestmodseq);
    let entries = frozen.mailboxes.iter().filter_map(|mailbox| mailbox.entry.foldermodseq);
    let names = frozen.mailboxes.iter().filter_map(|mailbox| mailbox.header.as_deref());
    let form = names.filter_map(|bytes| Some(MailboxHeader::parse(bytes).ok()?.form)).next();
    let by_id = server.has_sieve_mailboxes();
    let versions = headers.iter().map(|header| header.minor_version);
    Around {
        server,
        owner: userid.user(),
        likely: versions.max().or(server.newest_index()),
        usual: server.usual_index(),
        form: form.unwrap_or(if by_id { HeaderForm::Dlist } else { HeaderForm::Lines }),
        highest_modseq: modseqs.chain(entries).max().unwrap_or_default(),
    }
}
