//! Whether Cyrus uses the lock files that we take.
//!
//! A wrong `hashimapspool` or `mboxname_lockpath` makes us lock files that nobody else looks at,
//! and nothing would fail. But Cyrus opens a lock file, creating and truncating it, whenever it
//! opens a mailbox. So if a mailbox has been changed, its lock file must have been there, and
//! must have been touched.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use model::{Finding, FindingKind};

use crate::lock::{LockDir, LockFile};

/// How much younger than the last use of a user lock a change may be: as long as a session may
/// work on one command.
const LONGEST_COMMAND: i128 = 3600 * 1_000_000_000;

/// Since when a change must have left a lock file behind: lock files may lie in memory and be gone
/// after a restart. `None` if that cannot be told.
pub(crate) fn up_since(locks: &LockDir) -> Option<i128> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let booted: i64 = stat.lines().find_map(|line| line.strip_prefix("btime "))?.parse().ok()?;
    Some(locks.born()?.max(i128::from(booted) * 1_000_000_000))
}

/// What was seen of the lock files of one account, over all attempts to read it.
#[derive(Debug, Default)]
pub(crate) struct LockUse {
    /// Those that did not exist before us.
    born: BTreeSet<PathBuf>,
}

/// The lock files of one attempt, and when what they protect was last changed.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    /// One file or more for the account, and when each was last used.
    pub user: Vec<(PathBuf, i128)>,
    /// For each mailbox: its lock files, and the last change of its index.
    pub names: Vec<(Vec<PathBuf>, Option<i128>)>,
}

impl LockUse {
    /// Takes note of a lock file that was just opened.
    pub fn opened(&mut self, file: &LockFile) {
        if file.born {
            self.born.insert(file.path.clone());
        }
    }

    /// A finding for each kind of lock that Cyrus does not seem to use. `up_since` says from
    /// when on changes are telling. The user lock is judged only where every change needs it.
    pub fn findings(
        &self,
        taken: &Taken,
        up_since: i128,
        user_locks_cover_all: bool,
    ) -> Vec<Finding> {
        let mut findings = Vec::new();
        let newest = taken.names.iter().filter_map(|(_, changed)| *changed).max().unwrap_or(0);
        let idle = |(path, used): &(PathBuf, i128)| {
            self.born.contains(path) || used + LONGEST_COMMAND < newest
        };
        if user_locks_cover_all
            && newest > up_since
            && taken.user.iter().all(idle)
            && let Some((path, _)) = taken.user.first()
        {
            findings.push(finding(path, "mailboxes of the account were changed without it"));
        }
        let unused = |(paths, changed): &&(Vec<PathBuf>, Option<i128>)| {
            changed.is_some_and(|changed| changed > up_since)
                && paths.iter().all(|path| self.born.contains(path))
        };
        let mut unused = taken.names.iter().filter(unused).filter_map(|(paths, _)| paths.first());
        if let Some(path) = unused.next() {
            let detail = match 1 + unused.count() {
                1 => "its mailbox was changed without it".to_owned(),
                all => format!("{all} mailboxes were changed without theirs, this is the first"),
            };
            findings.push(finding(path, &detail));
        }
        findings
    }
}

fn finding(path: &Path, detail: &str) -> Finding {
    Finding::new(FindingKind::LockUnused, path.display(), detail)
}
