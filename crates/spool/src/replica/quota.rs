//! Quotas of a replica: a file for each root, as `quota_db: quotalegacy` has them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cyrus_format::paths::PathRules;
use cyrus_format::quota::{Quota, Resource, Usage};
use model::{MboxName, Modseq, Partition};
use rustix::fs::FileType;

use super::batch::{Batch, Step};
use super::contents::damaged;
use super::disk::Disk;
use super::error::Result;
use super::{Recorded, State, Update, rules};

/// Reads all of them.
pub(super) fn load(disk: &Disk) -> Result<BTreeMap<MboxName, Quota>> {
    let mut quotas = BTreeMap::new();
    let top = Path::new("conf/quota");
    for (letter, kind) in disk.names(top)? {
        if kind != FileType::Directory {
            continue;
        }
        let dir = top.join(letter);
        for (name, _) in disk.names(&dir)? {
            let path = dir.join(&name);
            let bytes = disk.read(&path)?.unwrap_or_default();
            let quota = Quota::parse(bytes.trim_ascii_end()).map_err(damaged(&path))?;
            quotas.insert(MboxName::new(name.into_encoded_bytes()), quota);
        }
    }
    Ok(quotas)
}

/// Where the file of a root is by these rules.
pub(super) fn path_of(root: &MboxName, rules: &PathRules) -> Result<PathBuf> {
    Ok(Path::new("conf").join(rules.quota_file(root)?))
}

pub(super) fn bytes_of(quota: &Quota) -> Vec<u8> {
    let mut bytes = quota.to_dlist();
    bytes.push(b'\n');
    bytes
}

impl State {
    /// The quota of a root, if it is one.
    pub fn quota(&self, root: &MboxName) -> Option<&Quota> {
        self.quotas.get(root)
    }

    /// The root that a mailbox counts for: the nearest one above it.
    pub fn quota_root_of(&self, name: &MboxName) -> Option<&MboxName> {
        name.and_above().find_map(|root| self.quotas.get_key_value(&root).map(|(root, _)| root))
    }

    /// Sets the limits of a root, by [`Resource`]; it becomes one if it is none. Without a modseq
    /// it is one more than before.
    ///
    /// # Errors
    /// A root that makes no path, and what the disk says.
    pub fn set_quota(
        &mut self,
        root: &MboxName,
        limits: [Option<u64>; 4],
        modseq: Option<Modseq>,
    ) -> Result<()> {
        let old = self.quotas.get(root);
        let mut quota = old.cloned().unwrap_or_default();
        let next = quota.modseq.map_or(1, |modseq| modseq.0.saturating_add(1));
        quota.modseq = Some(modseq.unwrap_or(Modseq(next)));
        for resource in Resource::ALL {
            let used = quota.usage(resource).used;
            quota.set(resource, Usage { used, limit: limits[resource as usize] });
        }
        let is_new = old.is_none();
        let mut batch = Batch::new(&self.files.disk);
        batch.put(path_of(root, &rules())?, bytes_of(&quota));
        batch.commit()?;
        self.quotas.insert(root.clone(), quota);
        if is_new {
            self.unassigned.insert(root.clone());
        }
        self.uncounted.insert(root.clone());
        self.follow();
        Ok(())
    }

    /// Makes a root none any more. Nothing happens if it is none.
    ///
    /// # Errors
    /// As for [`State::set_quota`].
    pub fn remove_quota(&mut self, root: &MboxName) -> Result<()> {
        if !self.quotas.contains_key(root) {
            return Ok(());
        }
        let mut batch = Batch::new(&self.files.disk);
        batch.then(Step::Remove(path_of(root, &rules())?));
        batch.commit()?;
        self.quotas.remove(root);
        self.uncounted.remove(root);
        self.unassigned.insert(root.clone());
        self.follow();
        Ok(())
    }

    /// Lets headers name the roots that they count for, where that may have changed.
    pub(super) fn assign_all(&mut self) -> Result<()> {
        while let Some(root) = self.unassigned.pop_first() {
            if let Err(error) = self.assign_roots(&root) {
                self.unassigned.insert(root);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Lets the headers of all mailboxes at or below a root name the root that they count for.
    fn assign_roots(&mut self, root: &MboxName) -> Result<()> {
        let below = [root.as_bytes(), b"."].concat();
        let affected: Vec<MboxName> = self
            .list
            .entries()
            .filter(|entry| entry.mbtype.has_data())
            .filter(|entry| entry.name == *root || entry.name.as_bytes().starts_with(&below))
            .map(|entry| entry.name.clone())
            .collect();
        affected.iter().try_for_each(|name| self.assign_root(name))
    }

    /// Lets the header of a mailbox name the root that it counts for.
    pub(super) fn assign_root(&mut self, name: &MboxName) -> Result<()> {
        let Some(entry) = self.list.get(name).cloned() else { return Ok(()) };
        let before = self.files.contents(&entry)?;
        let after = before.clone();
        let partition = Partition::new(entry.partition.unwrap_or_default());
        let (records, messages, replaces) = (Recorded::Same, Vec::new(), None);
        // This finds the root.
        self.store(Update { partition, before: Some(before), after, records, messages, replaces })
    }

    /// Adds up what the mailboxes use that count for changed roots.
    pub(super) fn count_quotas(&self, batch: &mut Batch<'_>) -> Result<Vec<(MboxName, Quota)>> {
        let mut counted = Vec::new();
        for root in &self.uncounted {
            let Some(old) = self.quotas.get(root) else { continue };
            let mut used = [0_u64; 4];
            let entries = self.list.entries().filter(|entry| entry.mbtype.has_data());
            for entry in entries.filter(|entry| self.quota_root_of(&entry.name) == Some(root)) {
                let index = self.files.summary(entry)?.index;
                let parts =
                    [index.quota_mailbox_used, index.exists.into(), index.quota_annot_used, 1];
                for (sum, part) in used.iter_mut().zip(parts) {
                    *sum = sum.saturating_add(part);
                }
            }
            let mut quota = old.clone();
            for resource in Resource::ALL {
                let used = i64::try_from(used[resource as usize]).unwrap_or(i64::MAX);
                quota.set(resource, Usage { used, limit: old.usage(resource).limit });
            }
            if quota != *old {
                batch.put(path_of(root, &rules())?, bytes_of(&quota));
                counted.push((root.clone(), quota));
            }
        }
        Ok(counted)
    }
}
