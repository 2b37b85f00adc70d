//! How many files this process may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the number of files that may be open to the most that is allowed, and returns it;
/// `None` means that there is no limit.
///
/// An account keeps a file or two open per mailbox while its messages are read, and the
/// usual soft limit of 1,024 exists only for programs that still use select(2).
pub(crate) fn raise_open_files() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return limit.current;
    }
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        // It was only a precaution.
        Err(_) => limit.current,
    }
}

/// Whether that many mailboxes may keep their directories open besides their locks.
pub(crate) fn allow_directories(open_files: Option<u64>, mailboxes: usize) -> bool {
    let needed = mailboxes.saturating_mul(DESCRIPTORS).saturating_add(RESERVE);
    open_files.is_none_or(|limit| u64::try_from(needed).is_ok_and(|needed| needed <= limit))
}

/// How many message files may be open at once on behalf of so many mailboxes.
///
/// An open file keeps about 1.5 kB of the kernel's memory busy, hence the upper bound.
pub(crate) fn open_messages(mailboxes: usize) -> usize {
    let taken = mailboxes.saturating_mul(DESCRIPTORS).saturating_add(RESERVE);
    let limit = getrlimit(Resource::Nofile).current.and_then(|limit| usize::try_from(limit).ok());
    limit.map_or(OPEN_MESSAGES_MAX, |limit| limit.saturating_sub(taken).min(OPEN_MESSAGES_MAX))
}

/// 75 MB of the kernel's memory.
const OPEN_MESSAGES_MAX: usize = 50_000;

/// A mailbox's lock file, its directory, and that on the archive partition.
const DESCRIPTORS: usize = 3;

/// For everything else: partitions, output, messages being read.
const RESERVE: usize = 256;
