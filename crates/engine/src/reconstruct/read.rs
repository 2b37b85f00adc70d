//! What the files of messages have, read by several threads.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

use cyrus_format::sent::Sent;
use model::{Guid, Uid};
use spool::digest::Digest;
use spool::{FrozenMailbox, MessageStat};

use super::Options;
use crate::audit::Paced;
use crate::ports::Monitor;

/// What a record has to say of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Digested {
    pub guid: Guid,
    pub size: u64,
    pub header_size: u32,
    pub sent: Option<Sent>,
}

/// What was learnt of each file, or why nothing was.
pub(super) type Read = HashMap<Uid, Result<Digested, String>>;

/// Reads these files.
pub(super) fn all(
    mailbox: &FrozenMailbox,
    wanted: &[MessageStat],
    options: &Options<'_>,
    monitor: &dyn Monitor,
) -> Read {
    let (next, read) = (AtomicUsize::new(0), Mutex::new(Read::with_capacity(wanted.len())));
    let work = || {
        let mut own = Vec::new();
        while let Some(stat) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
            own.push((stat.uid, one(mailbox, stat, options)));
            monitor.advance(1, stat.size);
        }
        read.lock().unwrap_or_else(PoisonError::into_inner).extend(own);
    };
    let workers = options.workers.min(wanted.len()).max(1);
    std::thread::scope(|scope| {
        (1..workers).for_each(|_| drop(scope.spawn(work)));
        work();
    });
    read.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn one(
    mailbox: &FrozenMailbox,
    stat: &MessageStat,
    options: &Options<'_>,
) -> Result<Digested, String> {
    let file = mailbox.open_message(stat.uid, stat.is_archived);
    let digest = file.and_then(|file| Digest::read(&mut Paced::new(file, options.pace)));
    let digest = digest.map_err(|error| error.to_string())?;
    Ok(Digested {
        guid: digest.guid(),
        size: digest.size(),
        header_size: digest.header_size(),
        sent: digest.sent(),
    })
}
