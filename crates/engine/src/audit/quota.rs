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
type Used = [u64; 4];

/// Compares each root of a frozen account with its mailboxes. Of a root that has mailboxes that cannot
/// be read, nothing is said.
pub(super) fn check(frozen: &Frozen) -> Vec<Finding> {
    let sums = sums(frozen);
    let files = frozen.account_files.iter();
    let roots = files.filter_map(|file| Some((file.name.strip_prefix(PREFIX)?, &file.bytes)));
    let mut findings = Vec::new();
    for (root, bytes) in roots {
        if is_above_users(root, frozen.userid.is_shared()) {
            continue;
        }
        match Quota::parse(bytes.trim_ascii_end()) {
            // A recount that is under way says something else until it is done.
            Ok(quota) if quota.scan.is_some() => {}
            Ok(quota) => {
                // A root that no mailbox names has nothing to count.
                let Some(used) = sums.get(root).cloned().unwrap_or(Some([0; 4])) else { continue };
                findings.extend(compare(root, &quota, bytes.starts_with(b"%"), &used));
            }
            Err(error) => {
                findings.push(Finding::new(FindingKind::MetadataUnreadable, root, error));
            }
        }
    }
    findings
}

/// Whether the mailboxes below a root are those of several accounts.
fn is_above_users(root: &str, is_shared: bool) -> bool {
    let local = root.split_once('!').map_or(root, |(_, local)| local);
    local.is_empty() || is_shared && local == "user"
}

/// The sums by the names of roots; `None` where a mailbox cannot be counted.
fn sums(frozen: &Frozen) -> BTreeMap<String, Option<Used>> {
    let mut sums: BTreeMap<String, Option<Used>> = BTreeMap::new();
    for mailbox in &frozen.mailboxes {
        let header = mailbox.header.as_deref().map(MailboxHeader::parse);
        let Some(Ok(header)) = header else {
            // It may count for any of the roots above it.
            for root in roots_above(&mailbox.entry.name) {
                sums.insert(root, None);
            }
            continue;
        };
        let Some(root) = header.quotaroot else { continue };
        let index = mailbox.index.as_deref().and_then(|bytes| Index::parse(bytes).ok());
        let index = index.as_ref().map(Index::header);
        let sum = sums.entry(root.to_string()).or_insert(Some([0; 4]));
        *sum = sum.zip(index).map(|(used, index)| {
            let parts = [index.quota_mailbox_used, index.exists.into(), index.quota_annot_used, 1];
            std::array::from_fn(|at| used[at].saturating_add(parts[at]))
        });
    }
    sums
}

fn roots_above(name: &MboxName) -> impl Iterator<Item = String> + '_ {
    let name = name.as_bytes();
    let ends = (1..=name.len()).filter(|end| matches!(name.get(*end), None | Some(b'.')));
    ends.map(|end| MboxName::new(&name[..end]).to_string())
}

fn compare(root: &str, quota: &Quota, counts_all: bool, used: &Used) -> Option<Finding> {
    let resources = Resource::ALL.iter().zip(used);
    // Up to 2.4, storage is all that is counted.
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
