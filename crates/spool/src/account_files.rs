//! What belongs to an account besides its mailboxes, each file under its own lock.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fmt::Display;
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use cyrus_format::db::flat;
use cyrus_format::header::MailboxHeader;
use cyrus_format::names::NameError;
use model::{Finding, FindingKind, MboxName, Timestamp, UniqueId, Userid};

use crate::catalog::{Catalog, Owned};
use crate::database::{self, Loaded};
use crate::error::{Result, SpoolError};
use crate::files::{self, Place};
use crate::lock::{Ledger, OrNone};
use crate::mailbox::FrozenMailbox;
use crate::server::Server;

/// The link to the bytecode of the active sieve script (`sieve/sieve_interface.h`).
const ACTIVE_LINK: &str = "defaultbc";
const COUNTERS: &str = "counters";
const BYTECODE_SUFFIX: &[u8] = b".bc";
const SOURCE_SUFFIX: &[u8] = b".script";

/// A file of an account, as it lay on disk or as what its entries in a shared database come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountFile {
    /// Its name, the same whatever release wrote it:
    ///
    /// | name | holds |
    /// |---|---|
    /// | `sub` | the subscriptions, a database file |
    /// | `seen` | the seen state, a database file |
    /// | `counters` | the modseq counters (3.0+) |
    /// | `counters/<domain>` | those of the shared mailboxes of a domain, likewise |
    /// | `quota/<root>` | a quota root, as quotalegacy stores it |
    /// | `mailboxes` | the account's records of mailboxes.db, as a flat database |
    /// | `annotations` | its mailboxes' records of annotations.db, likewise |
    /// | `sieve/<name>.script` | the source of a sieve script (up to 3.4) |
    /// | `sieve.active` | the name of the active script |
    pub name: String,
    /// What it holds.
    pub bytes: Vec<u8>,
    /// When it was last modified; for a shared database, when any of it was.
    pub mtime: Timestamp,
}

/// Collects the files of an account. What cannot be read is a finding.
pub(crate) struct Collector<'a> {
    pub server: &'a Server,
    pub userid: &'a Userid,
    pub owned: &'a Owned,
    pub catalog: &'a Loaded<Catalog>,
    pub files: Vec<AccountFile>,
    pub findings: Vec<Finding>,
}

impl Collector<'_> {
    /// Those that change together with mailboxes, while the user lock is held.
    pub fn collect_locked(
        &mut self,
        mailboxes: &[FrozenMailbox],
        ledger: &mut Ledger,
    ) -> Result<()> {
        self.counters(mailboxes, ledger)?;
        self.quotas(mailboxes, ledger)?;
        self.mailbox_records();
        self.annotations(mailboxes, ledger)
    }

    /// Those that no user lock protects.
    pub fn collect_others(&mut self, ledger: &mut Ledger) -> Result<()> {
        // Nobody subscribes to anything for the shared mailboxes, nor has read or sorted mail.
        let Some(user) = self.userid.user() else { return Ok(()) };
        for suffix in ["sub", "seen"] {
            let path = self.user_file(user, suffix);
            self.whole_file(suffix, path, ledger)?;
        }
        self.sieve(user)
    }

    /// Shared mailboxes have counters for each domain.
    fn counters(&mut self, mailboxes: &[FrozenMailbox], ledger: &mut Ledger) -> Result<()> {
        if let Some(user) = self.userid.user() {
            let path = self.user_file(user, COUNTERS);
            return self.whole_file(COUNTERS, path, ledger);
        }
        let names = &self.server.rules.names;
        let domains = mailboxes.iter().filter_map(|mailbox| names.parts(&mailbox.entry.name).ok());
        let domains: BTreeSet<Option<Vec<u8>>> = domains.map(|parts| parts.domain).collect();
        for domain in domains {
            let path = self.server.rules.shared_file(domain.as_deref(), COUNTERS);
            let path = path.map(|path| self.server.conf.configdirectory().join(path));
            let name = domain.map_or(COUNTERS.to_owned(), |domain| {
                format!("{COUNTERS}/{}", MboxName::new(domain))
            });
            self.whole_file(&name, path, ledger)?;
        }
        Ok(())
    }

    /// A database file of the account, copied as it is.
    fn whole_file(
        &mut self,
        name: &str,
        path: Result<PathBuf, NameError>,
        ledger: &mut Ledger,
    ) -> Result<()> {
        let path = match path {
            Ok(path) => path,
            Err(error) => {
                self.findings.push(unreadable(name, error));
                return Ok(());
            }
        };
        let copied = database::copy(Place::absolute(&path), ledger);
        if let Some(Some(file)) = self.or_finding(copied)? {
            self.add(name.to_owned(), file.bytes, file.mtime);
        }
        Ok(())
    }

    /// Where 3.6 and later keep a file of an account depends on its INBOX.
    fn user_file(&self, user: &Userid, suffix: &str) -> Result<PathBuf, NameError> {
        let (server, rules) = (self.server, &self.server.rules);
        match self.server.home_id(user, &self.catalog.value) {
            Some(id) => {
                rules.user_file_by_id(id, suffix).map(|path| server.conf.userpath().join(path))
            }
            None => rules
                .user_file_by_name(user, suffix)
                .map(|path| server.conf.configdirectory().join(path)),
        }
    }

    /// The quota roots that the account's mailboxes name, and that of a user's INBOX.
    fn quotas(&mut self, mailboxes: &[FrozenMailbox], ledger: &mut Ledger) -> Result<()> {
        let headers = mailboxes.iter().filter_map(|mailbox| mailbox.header.as_deref());
        let named = headers.filter_map(|bytes| MailboxHeader::parse(bytes).ok()?.quotaroot);
        let mut roots: Vec<MboxName> =
            named.filter(|root| self.owned.has_name(root.as_bytes())).collect();
        let inbox_of = |user| self.server.rules.names.inbox_of(user);
        roots.extend(self.userid.user().and_then(|user| inbox_of(user).ok()));
        roots.sort();
        roots.dedup();
        if self.server.conf.quota_db() != b"quotalegacy" {
            return self.quotas_of_database(&roots, ledger);
        }
        for root in roots {
            let path = self.server.rules.quota_file(&root);
            let path = path.map(|path| self.server.conf.quota_root().join(path));
            self.whole_file(&format!("quota/{root}"), path, ledger)?;
        }
        Ok(())
    }

    fn quotas_of_database(&mut self, roots: &[MboxName], ledger: &mut Ledger) -> Result<()> {
        let loaded = self.server.load_quotas(ledger);
        let Some(Some(quotas)) = self.or_finding(loaded)? else { return Ok(()) };
        for root in roots {
            if let Some((_, value)) = quotas.value.get(root.as_bytes()) {
                self.add(format!("quota/{root}"), value.to_vec(), quotas.mtime);
            }
        }
        Ok(())
    }

    fn mailbox_records(&mut self) {
        let records = self.catalog.value.records_of(self.owned);
        let mtime = self.catalog.mtime;
        self.add_dump("mailboxes", &records, mtime);
    }

    /// Entries of the account's mailboxes, which are keyed by name up to 3.4 and by id since.
    fn annotations(&mut self, mailboxes: &[FrozenMailbox], ledger: &mut Ledger) -> Result<()> {
        let loaded = self.server.load_annotations(ledger);
        let Some(Some(annotations)) = self.or_finding(loaded)? else { return Ok(()) };
        let keys = mailboxes.iter().flat_map(|mailbox| {
            let id = mailbox.entry.uniqueid.as_ref().map(UniqueId::as_bytes);
            [Some(mailbox.entry.name.as_bytes()), id].into_iter().flatten()
        });
        let mut keys: Vec<Vec<u8>> =
            keys.filter(|key| !key.is_empty()).map(|key| [key, b"\0"].concat()).collect();
        keys.sort();
        keys.dedup();
        let found = keys.iter().flat_map(|key| annotations.value.starting_with(key));
        let found: Vec<_> = found.collect();
        if !found.is_empty() {
            self.add_dump("annotations", &found, annotations.mtime);
        }
        if let Some(what) = &annotations.value.recovered {
            self.findings.push(unreadable("annotations.db", what));
        }
        Ok(())
    }

    /// Sources of scripts, and the name of the active one. Bytecode can be compiled anew.
    fn sieve(&mut self, user: &Userid) -> Result<()> {
        if self.server.conf.sieveusehomedir() {
            return Ok(());
        }
        let rules = &self.server.rules;
        let dir = match self.server.home_id(user, &self.catalog.value) {
            Some(id) => rules.sieve_dir_by_id(id),
            None => rules.sieve_dir_by_name(user),
        };
        let dir = match dir {
            Ok(dir) => self.server.conf.sievedir().join(dir),
            Err(error) => {
                self.findings.push(unreadable("sieve", error));
                return Ok(());
            }
        };
        let listed = list_scripts(&dir).map_err(|source| SpoolError::Io {
            op: "list",
            path: dir.clone(),
            source,
        });
        for name in self.or_finding(listed)?.unwrap_or_default() {
            let path = dir.join(OsStr::from_bytes(&name));
            let copied = files::copy(Place::absolute(&path), Vec::new()).or_none();
            let copied = copied.map_err(|e| Place::absolute(&path).error("read", e));
            if let Some(Some(script)) = self.or_finding(copied)? {
                let name = MboxName::new(name);
                self.add(format!("sieve/{name}"), script.bytes, script.mtime);
            }
        }
        self.active_script(&dir.join(ACTIVE_LINK))
    }

    fn active_script(&mut self, link: &Path) -> Result<()> {
        let read = fs::read_link(link).and_then(|target| {
            let written = fs::symlink_metadata(link)?;
            Ok((target, written))
        });
        let read = read.or_none();
        let read = read.map_err(|e| Place::absolute(link).error("read", e));
        if let Some(Some((target, written))) = self.or_finding(read)? {
            let name = target.file_name().unwrap_or_default().as_bytes();
            let name = name.strip_suffix(BYTECODE_SUFFIX).unwrap_or(name);
            let mtime = files::nanos(written.mtime(), written.mtime_nsec());
            self.add("sieve.active".to_owned(), name.to_vec(), mtime);
        }
        Ok(())
    }

    fn add(&mut self, name: String, bytes: Vec<u8>, mtime: i128) {
        self.files.push(AccountFile { name, bytes, mtime: timestamp(mtime) });
    }

    fn add_dump(&mut self, name: &str, records: &[(&[u8], &[u8])], mtime: i128) {
        match flat::write(records) {
            Ok(bytes) => self.add(name.to_owned(), bytes, mtime),
            Err(error) => self.findings.push(unreadable(name, error)),
        }
    }

    /// Turns an error about a single file into a finding.
    fn or_finding<T>(&mut self, result: Result<T>) -> Result<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(error) => {
                let detail = error.into_detail()?;
                self.findings.push(unreadable(self.userid, detail));
                Ok(None)
            }
        }
    }
}

/// The names of the scripts' sources in a directory, sorted; none if there is no directory.
fn list_scripts(dir: &Path) -> io::Result<Vec<Vec<u8>>> {
    let Some(listed) = fs::read_dir(dir).or_none()? else { return Ok(Vec::new()) };
    let mut names = Vec::new();
    for entry in listed {
        let name = entry?.file_name().into_vec();
        if name.ends_with(SOURCE_SUFFIX) {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// From nanoseconds since 1970.
fn timestamp(nanos: i128) -> Timestamp {
    const SECOND: i128 = 1_000_000_000;
    let secs = i64::try_from(nanos.div_euclid(SECOND)).unwrap_or_default();
    Timestamp { secs, nanos: u32::try_from(nanos.rem_euclid(SECOND)).unwrap_or_default() }
}

fn unreadable(place: impl Display, detail: impl Display) -> Finding {
    Finding::new(FindingKind::MetadataUnreadable, place, detail)
}
