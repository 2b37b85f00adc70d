//! Whether a configuration has Cyrus look for things where a replica has them.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use cyrus_format::imapd_conf::{ImapdConf, Meta};
use cyrus_format::names::NameEra;
use model::{Finding, FindingKind};

use super::{ANNOTATIONS_DB, MAILBOXES_DB, State, rules};

/// The databases of quotas that are files of their own, as a replica has them.
const QUOTA_DB: &[u8] = b"quotalegacy";

/// What a mailbox has beside its messages.
const METAS: [Meta; 3] = [Meta::Header, Meta::Index, Meta::Annotations];

impl State {
    /// What a Cyrus with this configuration would not find, option by option.
    pub fn misplaced(&self, conf: &ImapdConf) -> Vec<Finding> {
        let mut findings = self.misplaced_roots(conf);
        findings.extend(self.misplaced_partitions(conf));
        findings.extend(self.misread_names(conf));
        findings
    }

    /// What lies at one place for the whole server.
    fn misplaced_roots(&self, conf: &ImapdConf) -> Vec<Finding> {
        let root = self.files.disk.path();
        let is_there = |path: &str| root.join(path).exists();
        let mut places = vec![("configdirectory", conf.configdirectory().to_owned(), "conf")];
        for (option, theirs, ours) in [
            ("mboxlist_db_path", conf.mboxlist_db_path(), MAILBOXES_DB),
            ("annotation_db_path", conf.annotation_db_path(), ANNOTATIONS_DB),
            ("mboxname_userpath", conf.userpath().join("user"), "conf/user"),
            ("quota_db_path", conf.quota_root().join("quota"), "conf/quota"),
            ("sievedir", conf.sievedir(), "conf/sieve"),
        ] {
            if is_there(ours) {
                places.push((option, theirs, ours));
            }
        }
        let mut findings: Vec<Finding> = places
            .into_iter()
            .filter(|(_, theirs, ours)| !is_same(theirs, &root.join(ours)))
            .map(|(option, theirs, ours)| elsewhere(option, &theirs, &root.join(ours)))
            .collect();
        let mut other = |option, detail: &str| {
            findings.push(Finding::new(FindingKind::Misplaced, option, detail));
        };
        if !self.quotas.is_empty() && conf.quota_db() != QUOTA_DB {
            other("quota_db", "quotas are files of their own here: quotalegacy");
        }
        let named = self.files.disk.names(Path::new("conf/user")).unwrap_or_default();
        if conf.fulldirhash() && named.iter().any(|(name, _)| name != "uuid") {
            other("fulldirhash", "accounts without an INBOX have files in other directories");
        }
        if conf.sieveusehomedir() && is_there("conf/sieve") {
            other("sieveusehomedir", "sieve scripts are not in users' homes here");
        }
        findings
    }

    /// The mailboxes' own directories.
    fn misplaced_partitions(&self, conf: &ImapdConf) -> Vec<Finding> {
        let entries = self.list.entries().filter(|entry| entry.mbtype.has_data());
        let used: BTreeSet<&[u8]> =
            entries.filter_map(|entry| entry.partition.as_deref()).collect();
        let mut findings = Vec::new();
        for name in used {
            let shown = String::from_utf8_lossy(name);
            let ours = self.files.disk.path().join("spool").join(&*shown);
            let Some(theirs) = conf.partition(name) else {
                let option = format!("partition-{shown}");
                let detail = format!("it is not set; mailboxes are in {}", ours.display());
                findings.push(Finding::new(FindingKind::Misplaced, option, detail));
                continue;
            };
            if !is_same(theirs, &ours) {
                findings.push(elsewhere(&format!("partition-{shown}"), theirs, &ours));
            }
            let metas = METAS.into_iter().filter_map(|meta| conf.meta_root(meta, name));
            if let Some(meta) = metas.into_iter().find(|meta| *meta != theirs) {
                findings.push(elsewhere(&format!("metapartition-{shown}"), meta, &ours));
            }
        }
        findings
    }

    /// Names that would be other mailboxes.
    fn misread_names(&self, conf: &ImapdConf) -> Option<Finding> {
        let (theirs, ours) = (conf.name_rules(NameEra::V3), rules().names);
        let is_other = |name| theirs.to_dbname(name).ok() != ours.to_dbname(name).ok();
        let name = self.list.entries().map(|entry| &entry.name).find(|name| is_other(name))?;
        let options = "unixhierarchysep, defaultdomain, deletedprefix";
        let detail = format!("Cyrus would not know {name} by its name");
        Some(Finding::new(FindingKind::Misplaced, options, detail))
    }
}

/// Whether two paths lead to one file or directory.
fn is_same(one: &Path, other: &Path) -> bool {
    let identity = |path: &Path| fs::metadata(path).map(|found| (found.dev(), found.ino())).ok();
    identity(one).is_some() && identity(one) == identity(other)
}

fn elsewhere(option: &str, theirs: &Path, ours: &Path) -> Finding {
    let detail = format!("it leads to {}, the replica has {}", theirs.display(), ours.display());
    Finding::new(FindingKind::Misplaced, option, detail)
}
