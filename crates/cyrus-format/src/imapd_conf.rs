//! imapd.conf: which directories hold what, and how names become paths (`lib/libconfig.c`,
//! `lib/imapoptions`).
//!
//! What Cyrus refuses is refused here as well, with the line and what to do about it. Options
//! that have nothing to do with places are kept as they are and never judged.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::names::{NameEra, NameRules, Separator};
use crate::paths::{DirHash, PathRules};

mod check;
mod error;
mod parse;

pub use error::{ConfError, ConfPlace};

/// The metadata files of a mailbox that may lie elsewhere than its messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Meta {
    /// cyrus.header
    Header,
    /// cyrus.index
    Index,
    /// cyrus.cache
    Cache,
    /// cyrus.expunge (2.3)
    Expunge,
    /// cyrus.annotations (2.5+)
    Annotations,
    /// cyrus.squat
    Squat,
    /// A word that 2.5 and later accept; no file is placed by it.
    Lock,
    /// cyrus.dav (2.5)
    Dav,
    /// cyrus.cache of the messages on the archive partition (3.0+)
    ArchiveCache,
}

impl Meta {
    /// Every one.
    pub const ALL: [Meta; 9] = [
        Meta::Header,
        Meta::Index,
        Meta::Cache,
        Meta::Expunge,
        Meta::Annotations,
        Meta::Squat,
        Meta::Lock,
        Meta::Dav,
        Meta::ArchiveCache,
    ];

    /// The word for it in `metapartition_files`.
    pub fn word(self) -> &'static str {
        match self {
            Meta::Header => "header",
            Meta::Index => "index",
            Meta::Cache => "cache",
            Meta::Expunge => "expunge",
            Meta::Annotations => "annotations",
            Meta::Squat => "squat",
            Meta::Lock => "lock",
            Meta::Dav => "dav",
            Meta::ArchiveCache => "archivecache",
        }
    }

    /// The KIND of the `metadir-KIND-NAME` option that overrides its place, if there is one.
    pub fn override_kind(self) -> Option<&'static str> {
        match self {
            Meta::Header => Some("header"),
            Meta::Index | Meta::Annotations => Some("index"),
            Meta::Cache => Some("cache"),
            Meta::Squat => Some("squat"),
            Meta::Dav => Some("dav"),
            Meta::ArchiveCache => Some("archivecache"),
            Meta::Expunge | Meta::Lock => None,
        }
    }
}

/// `virtdomains`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VirtDomains {
    /// No domains.
    Off,
    /// By the userid only.
    Userid,
    /// By the userid, else by the address that was connected to.
    On,
}

/// One option as it was set.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Setting {
    value: Vec<u8>,
    place: ConfPlace,
}

/// Reads a file that `@include` names; the error is for people.
pub type Include<'a> = dyn FnMut(&str) -> Result<Vec<u8>, String> + 'a;

/// A configuration that Cyrus would start with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImapdConf {
    label: String,
    settings: BTreeMap<String, Setting>,
    service: Option<String>,
    metapartition_files: Vec<Meta>,
    defaultpartition: Option<String>,
}

impl ImapdConf {
    /// Reads a configuration from the text of the outermost file, called `label`.
    ///
    /// # Errors
    /// What Cyrus would not start with, as far as places are concerned.
    pub fn parse(label: &str, text: &[u8], include: &mut Include<'_>) -> Result<Self, ConfError> {
        let settings = parse::settings(label, text, include)?;
        let conf = Self {
            label: label.to_owned(),
            settings,
            service: None,
            metapartition_files: Vec::new(),
            defaultpartition: None,
        };
        conf.checked()
    }

    /// The same, as the service of that name (the first word of its line in cyrus.conf) sees it:
    /// `NAME_option` wins over `option`.
    ///
    /// # Errors
    /// As for [`ImapdConf::parse`], concerning the options of that service.
    pub fn for_service(mut self, service: &str) -> Result<Self, ConfError> {
        self.service = Some(service.to_ascii_lowercase());
        self.checked()
    }

    /// Any option's value as it was set, trimmed; `None` if it was not set.
    pub fn get(&self, key: &str) -> Option<&[u8]> {
        self.setting(key).map(|(_, setting)| setting.value.as_slice())
    }

    /// Where an option was set.
    pub fn place(&self, key: &str) -> Option<&ConfPlace> {
        self.setting(key).map(|(_, setting)| &setting.place)
    }

    /// `configdirectory`
    pub fn configdirectory(&self) -> &Path {
        // Its presence was checked.
        self.get("configdirectory").map(as_path).unwrap_or(Path::new(""))
    }

    /// The root of a partition's messages. Names are compared in lower case.
    pub fn partition(&self, name: &[u8]) -> Option<&Path> {
        self.root("partition-", name)
    }

    /// All partitions by name, in lower case, with the roots of their messages.
    pub fn partitions(&self) -> impl Iterator<Item = (&str, &Path)> {
        let names = self.settings.keys().filter_map(|key| key.strip_prefix("partition-"));
        names.filter_map(|name| Some((name, self.partition(name.as_bytes())?)))
    }

    /// `metapartition-NAME`
    pub fn metapartition(&self, name: &[u8]) -> Option<&Path> {
        self.root("metapartition-", name)
    }

    /// `metapartition_files`
    pub fn metapartition_files(&self) -> &[Meta] {
        &self.metapartition_files
    }

    /// `metadir-KIND-NAME`, which wins over `metapartition_files` (3.0+).
    pub fn metadir(&self, meta: Meta, name: &[u8]) -> Option<&Path> {
        self.root(&format!("metadir-{}-", meta.override_kind()?), name)
    }

    /// `archivepartition-NAME`, as far as `archive_enabled` lets it count.
    pub fn archivepartition(&self, name: &[u8]) -> Option<&Path> {
        self.root("archivepartition-", name).filter(|_| self.archive_enabled())
    }

    /// The root below which a partition's mailboxes have the given metadata file
    /// (`imap/mboxname.c`, mboxname_metapath); `None` for an unknown partition.
    pub fn meta_root(&self, meta: Meta, partition: &[u8]) -> Option<&Path> {
        let chosen = self.metapartition_files.contains(&meta);
        self.metadir(meta, partition)
            .or_else(|| self.metapartition(partition).filter(|_| chosen))
            .or_else(|| self.archivepartition(partition).filter(|_| meta == Meta::ArchiveCache))
            .or_else(|| self.partition(partition))
    }

    /// The root below which a partition's archived messages lie; `None` for an unknown partition.
    pub fn archive_root(&self, partition: &[u8]) -> Option<&Path> {
        self.archivepartition(partition).or_else(|| self.partition(partition))
    }

    /// `defaultpartition` in lower case. Up to 2.3 it is `default` if nothing is said; later the
    /// partition with most room is taken.
    pub fn defaultpartition(&self) -> Option<&str> {
        self.defaultpartition.as_deref()
    }

    /// `archive_enabled` (3.0+)
    pub fn archive_enabled(&self) -> bool {
        self.switch("archive_enabled", false)
    }

    /// `conversations` (2.5+)
    pub fn conversations(&self) -> bool {
        self.switch("conversations", false)
    }

    /// `hashimapspool`
    pub fn hashimapspool(&self) -> bool {
        self.switch("hashimapspool", false)
    }

    /// `fulldirhash`
    pub fn fulldirhash(&self) -> bool {
        self.switch("fulldirhash", false)
    }

    /// `unixhierarchysep`, on by default since 3.0.
    pub fn unixhierarchysep(&self, era: NameEra) -> bool {
        self.switch("unixhierarchysep", era == NameEra::V3)
    }

    /// `altnamespace`, on by default since 3.0.
    pub fn altnamespace(&self, era: NameEra) -> bool {
        self.switch("altnamespace", era == NameEra::V3)
    }

    /// `mailbox_legacy_dirs` (3.6+): new mailboxes are placed by name.
    pub fn mailbox_legacy_dirs(&self) -> bool {
        self.switch("mailbox_legacy_dirs", false)
    }

    /// `global_lock` (3.12+)
    pub fn global_lock(&self) -> bool {
        self.switch("global_lock", true)
    }

    /// `username_tolower`
    pub fn username_tolower(&self) -> bool {
        self.switch("username_tolower", true)
    }

    /// `virtdomains`
    pub fn virtdomains(&self) -> VirtDomains {
        self.get("virtdomains").and_then(check::virtdomains).unwrap_or(VirtDomains::Off)
    }

    /// `defaultdomain`, `internal` by default since 3.0.
    pub fn defaultdomain(&self, era: NameEra) -> Option<&[u8]> {
        let default = (era == NameEra::V3).then_some(b"internal".as_slice());
        self.get("defaultdomain").or(default)
    }

    /// `deletedprefix`
    pub fn deletedprefix(&self) -> &[u8] {
        self.get("deletedprefix").unwrap_or(b"DELETED")
    }

    /// How this server reads names.
    pub fn name_rules(&self, era: NameEra) -> NameRules {
        NameRules {
            era,
            virtdomains: self.virtdomains() != VirtDomains::Off,
            defaultdomain: self.defaultdomain(era).map(<[u8]>::to_vec),
            separator: match self.unixhierarchysep(era) {
                true => Separator::Slash,
                false => Separator::Dot,
            },
            deletedprefix: self.deletedprefix().to_vec(),
        }
    }

    /// How this server makes paths.
    pub fn path_rules(&self, era: NameEra) -> PathRules {
        PathRules {
            names: self.name_rules(era),
            hashimapspool: self.hashimapspool(),
            dirhash: if self.fulldirhash() { DirHash::Full } else { DirHash::Simple },
        }
    }

    /// The root of the lock files (2.4+).
    pub fn lockpath(&self) -> PathBuf {
        self.path_or("mboxname_lockpath", "lock")
    }

    /// Where each service process writes a line about itself (2.4+).
    pub fn proc_path(&self) -> PathBuf {
        self.path_or("proc_path", "proc")
    }

    /// The root of sieve scripts, unless [`ImapdConf::sieveusehomedir`].
    pub fn sievedir(&self) -> PathBuf {
        self.path("sievedir").unwrap_or_else(|| PathBuf::from("/usr/sieve"))
    }

    /// Whether sieve scripts are `.sieve` in each user's home instead.
    pub fn sieveusehomedir(&self) -> bool {
        self.switch("sieveusehomedir", false)
    }

    /// mailboxes.db
    pub fn mboxlist_db_path(&self) -> PathBuf {
        self.path_or("mboxlist_db_path", "mailboxes.db")
    }

    /// annotations.db
    pub fn annotation_db_path(&self) -> PathBuf {
        self.path_or("annotation_db_path", "annotations.db")
    }

    /// quotas.db, where `quota_db` is not `quotalegacy`.
    pub fn quota_db_path(&self) -> PathBuf {
        self.path_or("quota_db_path", "quotas.db")
    }

    /// `quota_db`: `quotalegacy` has one file a quota root.
    pub fn quota_db(&self) -> &[u8] {
        self.get("quota_db").unwrap_or(b"quotalegacy")
    }

    /// The directory below which `quotalegacy` has its files
    /// ([`PathRules::quota_file`](crate::paths::PathRules::quota_file)).
    pub fn quota_root(&self) -> PathBuf {
        let path = self.quota_db_path();
        path.parent().map(Path::to_path_buf).unwrap_or(path)
    }

    /// user_deny.db (2.4+)
    pub fn userdeny_db_path(&self) -> PathBuf {
        self.path_or("userdeny_db_path", "user_deny.db")
    }

    /// The root of accounts' files that are placed by identity; `mboxname_userpath` since
    /// 3.13.7, before always `configdirectory`.
    pub fn userpath(&self) -> PathBuf {
        self.path("mboxname_userpath").unwrap_or_else(|| self.configdirectory().to_path_buf())
    }

    /// `sync_log`
    pub fn sync_log(&self) -> bool {
        self.switch("sync_log", false)
    }

    /// `sync_log_channels`; `None` is the channel without a name.
    pub fn sync_log_channels(&self) -> Vec<Option<String>> {
        let words = self.get("sync_log_channels").unwrap_or(b"\"\"");
        words
            .split(|byte| *byte == b' ')
            .filter(|word| !word.is_empty())
            .map(|word| (word != b"\"\"").then(|| String::from_utf8_lossy(word).into_owned()))
            .collect()
    }

    /// `cyrus_user` (3.0+; before, it was chosen when Cyrus was built)
    pub fn cyrus_user(&self) -> Option<&[u8]> {
        self.get("cyrus_user")
    }

    /// `cyrus_group` (3.0+)
    pub fn cyrus_group(&self) -> Option<&[u8]> {
        self.get("cyrus_group")
    }

    /// The setting that counts for a key, and the key it stands under.
    fn setting(&self, key: &str) -> Option<(&str, &Setting)> {
        let special = self.service.as_ref().map(|service| format!("{service}_{key}"));
        let special = special.and_then(|key| self.settings.get_key_value(&key));
        special.or_else(|| self.settings.get_key_value(key)).map(|(key, set)| (key.as_str(), set))
    }

    fn switch(&self, key: &str, default: bool) -> bool {
        self.get(key).and_then(check::switch).unwrap_or(default)
    }

    /// A path option, `{configdirectory}` at its start replaced.
    fn path(&self, key: &str) -> Option<PathBuf> {
        const PLACEHOLDER: &[u8] = b"{configdirectory}";
        let value = self.get(key)?;
        let start = value.get(..PLACEHOLDER.len());
        if !start.is_some_and(|start| start.eq_ignore_ascii_case(PLACEHOLDER)) {
            return Some(as_path(value).to_path_buf());
        }
        let mut path = self.configdirectory().as_os_str().to_owned();
        path.push(OsStr::from_bytes(&value[PLACEHOLDER.len()..]));
        Some(PathBuf::from(path))
    }

    /// A path option, by default that name in `configdirectory`.
    fn path_or(&self, key: &str, name: &str) -> PathBuf {
        self.path(key).unwrap_or_else(|| self.configdirectory().join(name))
    }

    fn root(&self, prefix: &str, partition: &[u8]) -> Option<&Path> {
        let partition = std::str::from_utf8(partition).ok()?.to_ascii_lowercase();
        self.get(&format!("{prefix}{partition}")).map(as_path)
    }
}

fn as_path(value: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(value))
}

#[cfg(test)]
mod tests;
