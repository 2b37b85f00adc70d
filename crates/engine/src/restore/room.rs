//! Whether quotas allow what is to be restored. Replication itself does not ask them.

use std::collections::BTreeSet;
use std::fmt;

use cyrus_format::quota::Resource;
use model::MboxName;
use model::state::MailboxKey;

use super::place::is_gone;
use super::plan::{Step, key_of};
use crate::replicate::local::is_below;
use crate::replicate::remote::Remote;

/// A quota that would be exceeded. Bytes are bytes here, though their limit is in KiB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortage {
    /// The quota root.
    pub root: MboxName,
    /// What there is too little of.
    pub resource: Resource,
    /// How much of it is used.
    pub used: u64,
    /// How much would be added.
    pub added: u64,
    /// How much there may be.
    pub limit: u64,
}

/// The quotas that do not suffice for these steps, and the mailboxes whose records have to be known to
/// tell. What counts for a root above the account's INBOX cannot be told.
pub fn shortages(
    steps: &[Step],
    inbox: &MboxName,
    remote: &Remote,
) -> (Vec<Shortage>, BTreeSet<MailboxKey>) {
    let (mut shortages, mut unclear) = (Vec::new(), BTreeSet::new());
    for (root, quota) in &remote.quotas {
        let counts = |name: &MboxName| root_of(name, remote) == Some(root);
        let added: Vec<&Step> = steps.iter().filter(|step| counts(&step.told.mboxname)).collect();
        if !(root == inbox || is_below(root, inbox)) {
            continue;
        }
        for resource in [Resource::Storage, Resource::Messages, Resource::Folders] {
            let Some(limit) = quota.limits[resource as usize] else { continue };
            let limit = if resource == Resource::Storage { limit << 10 } else { limit };
            let added = added.iter().map(|step| amount_of(step, resource)).sum();
            if added == 0 {
                continue;
            }
            let mut used = 0;
            for there in remote.mailboxes.values().filter(|there| !is_gone(there)) {
                if !counts(&there.mboxname) {
                    continue;
                }
                let key = key_of(&there.uniqueid);
                match remote.records.get(&key).map(|records| records.iter()) {
                    _ if resource == Resource::Folders => used += 1,
                    Some(records) => {
                        let alive = records.filter(|record| !record.is_expunged());
                        used +=
                            alive.map(|record| amount(resource, record.size.into())).sum::<u64>();
                    }
                    None => {
                        unclear.insert(key);
                    }
                }
            }
            if used.saturating_add(added) > limit {
                shortages.push(Shortage { root: root.clone(), resource, used, added, limit });
            }
        }
    }
    (shortages, unclear)
}

fn amount(resource: Resource, bytes: u64) -> u64 {
    if resource == Resource::Storage { bytes } else { 1 }
}

fn amount_of(step: &Step, resource: Resource) -> u64 {
    match resource {
        Resource::Storage => step.bytes,
        Resource::Messages => step.back.len() as u64,
        Resource::Folders => step.is_new.into(),
        Resource::AnnotationStorage => 0,
    }
}

/// The quota root that a mailbox counts for.
fn root_of<'r>(name: &MboxName, remote: &'r Remote) -> Option<&'r MboxName> {
    let roots = remote.quotas.keys().filter(|root| *root == name || is_below(name, root));
    roots.max_by_key(|root| root.as_bytes().len())
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { root, resource, used, added, limit } = self;
        let what = match resource {
            Resource::Storage => "bytes",
            Resource::Messages => "messages",
            Resource::AnnotationStorage => "bytes of annotations",
            Resource::Folders => "folders",
        };
        write!(f, "the quota of {root} allows {limit} {what}: {used} are there, {added} would come")
    }
}
