//! What quota roots say of their use, against what their mailboxes add up to.

use std::collections::BTreeMap;

use cyrus_format::header::MailboxHeader;
use cyrus_format::index::Index;
use cyrus_format::quota::{Quota, Resource};
use model::{Finding, FindingKind, MboxName};
use spool::Frozen;

/// What the names of roots begin with among an account's files.
const PREFIX: &str = "quota/";

/// What some mailboxes use, by resource.
pub(crate) type Used = [u64; 4];

/// Compares each root of a frozen account with its mailboxes. Of a root that has mailboxes that cannot
/// be read, nothing is said.
pub(super) fn check(frozen: &Frozen) -> Vec<Finding> {
    let mut sums = Sums::default();
    for mailbox in &frozen.mailboxes {
        let (header, index) = (mailbox.header.as_deref(), mailbox.index.as_deref());
        sums.add(&mailbox.entry.name, header, index);
    }
    let mut findings = Vec::new();
    for (root, bytes) in roots(frozen) {
        match Quota::parse(bytes.trim_ascii_end()) {
            // A recount that is under way says something else until it is done.
            Ok(quota) if quota.scan.is_some() => {}
            Ok(quota) => {
                let Some(used) = sums.of(root) else { continue };
                findings.extend(compare(root, &quota, counts_all(bytes), &used));
            }
            Err(error) => {
                findings.push(Finding::new(FindingKind::MetadataUnreadable, root, error));
            }
        }
    }
    findings
}

/// The roots whose mailboxes are all of this account: their names, and what is stored of them.
pub(crate) fn roots(frozen: &Frozen) -> impl Iterator<Item = (&str, &[u8])> {
    let files = frozen.account_files.iter();
    let roots = files.filter_map(|file| Some((file.name.strip_prefix(PREFIX)?, &*file.bytes)));
    roots.filter(|(root, _)| !is_above_users(root, frozen.userid.is_shared()))
}

/// Whether a quota counts all resources: up to 2.4, storage is all that is counted.
pub(crate) fn counts_all(bytes: &[u8]) -> bool {
    bytes.starts_with(b"%")
}

/// Whether the mailboxes below a root are those of several accounts.
fn is_above_users(root: &str, is_shared: bool) -> bool {
    let local = root.split_once('!').map_or(root, |(_, local)| local);
    local.is_empty() || is_shared && local == "user"
}

/// What mailboxes add up to, by the names of roots; `None` where one cannot be counted.
#[derive(Debug, Default)]
pub(crate) struct Sums(BTreeMap<String, Option<Used>>);

impl Sums {
    /// Counts one more, by its cyrus.header and cyrus.index.
    pub fn add(&mut self, name: &MboxName, header: Option<&[u8]>, index: Option<&[u8]>) {
        let Some(Ok(header)) = header.map(MailboxHeader::parse) else {
            // It may count for any of the roots above it.
            self.0.extend(name.and_above().map(|root| (root.to_string(), None)));
            return;
        };
        let Some(root) = header.quotaroot else { return };
        let index = index.and_then(|bytes| Index::parse(bytes).ok());
        let index = index.as_ref().map(Index::header);
        let sum = self.0.entry(root.to_string()).or_insert(Some([0; 4]));
        *sum = sum.zip(index).map(|(used, index)| {
            let parts = [index.quota_mailbox_used, index.exists.into(), index.quota_annot_used, 1];
            std::array::from_fn(|at| used[at].saturating_add(parts[at]))
        });
    }

    /// What the mailboxes of a root come to. One that no mailbox names has nothing to count.
    pub fn of(&self, root: &str) -> Option<Used> {
        self.0.get(root).copied().unwrap_or(Some([0; 4]))
    }
}

fn compare(root: &str, quota: &Quota, counts_all: bool, used: &Used) -> Option<Finding> {
    let resources = Resource::ALL.iter().zip(used);
    let resources = resources.filter(|(resource, _)| counts_all || **resource == Resource::Storage);
    let wrong: Vec<String> = resources
        .filter_map(|(resource, used)| {
            let stored = quota.usage(*resource).used;
            let what = what(*resource);
            (i64::try_from(*used) != Ok(stored))
                .then(|| format!("it says {stored} {what}, its mailboxes have {used}"))
        })
        .collect();
    (!wrong.is_empty()).then(|| Finding::new(FindingKind::QuotaUsage, root, wrong.join("; ")))
}

fn what(resource: Resource) -> &'static str {
    match resource {
        Resource::Storage => "bytes",
        Resource::Messages => "messages",
        Resource::AnnotationStorage => "bytes of annotations",
        Resource::Folders => "mailboxes",
    }
}
