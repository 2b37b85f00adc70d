//! A Cyrus server on this machine: its configuration, its era, and what is opened once for all
//! accounts.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use cyrus_format::db;
use cyrus_format::imapd_conf::ImapdConf;
use cyrus_format::locks::LockEra;
use cyrus_format::mboxlist::{MailboxEntry, MboxListEra};
use cyrus_format::names::{NameEra, NameRules};
use cyrus_format::paths::PathRules;
use model::{MboxName, UniqueId, Userid};

use crate::catalog::Catalog;
use crate::database::{Cached, Loaded};
use crate::entries::Entries;
use crate::era::{Era, Evidence};
use crate::error::{Result, SpoolError};
use crate::files::{self, Place};
use crate::lock::{Ledger, LockDir};
use crate::mailbox::{INDEX, index_version};
use crate::near;
use crate::placement;
use crate::privileges::{ActingAs, Identity};
use crate::replica;
use crate::roots::Partitions;
use crate::running::{Running, running};
use crate::{limits, unused};

/// How many indexes are looked at to learn the server's release.
const WITNESSES: usize = 32;

/// Whom Cyrus runs as unless `cyrus_user` says otherwise.
pub(crate) const CYRUS_USER: &str = "cyrus";

/// How a server is to be read.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long each single lock is waited for.
    pub lock_timeout: Duration,
    /// The release that runs here, like `3.6`, if the operator knows better than the disk.
    pub cyrus_version: Option<String>,
}

impl Default for Options {
    /// A minute a lock; the release is found out.
    fn default() -> Self {
        Self { lock_timeout: Duration::from_secs(60), cyrus_version: None }
    }
}

/// A Cyrus server on this machine. Nothing is ever written but empty lock files.
#[derive(Debug)]
pub struct Server {
    pub(crate) conf: ImapdConf,
    conf_file: PathBuf,
    /// How names are to be read, if the operator named a release.
    told_names: Option<NameEra>,
    /// How many files this process may have open, if that is limited.
    pub(crate) open_files: Option<u64>,
    pub(crate) lock_timeout: Duration,
    pub(crate) locks: LockDir,
    pub(crate) rules: PathRules,
    pub(crate) list_era: MboxListEra,
    pub(crate) partitions: Partitions,
    /// When a lock file must have been there for us to believe that Cyrus does not use it.
    pub(crate) up_since: Option<i128>,
    annotations: Cached<Entries>,
    quotas: Cached<Entries>,
    catalog: Cached<Catalog>,
    era: Mutex<EraState>,
}

/// What is known about the era; grows as newer indexes are met.
#[derive(Clone, Copy, Debug)]
enum EraState {
    Told(LockEra),
    Judged(Evidence),
}

impl EraState {
    fn era(self) -> Era {
        match self {
            EraState::Told(era) => Era::only(era),
            EraState::Judged(evidence) => Era::detect(evidence),
        }
    }
}

impl Server {
    /// Reads an imapd.conf and what it includes, opens the partitions, and judges the era.
    ///
    /// # Errors
    ///
    /// Whatever makes the configuration unusable: the file itself, mailboxes.db, a partition
    /// with mailboxes but without a directory.
    pub fn open(conf_file: &Path, options: &Options) -> Result<Self> {
        let open_files = limits::raise_open_files();
        let conf = read_conf(conf_file)?;
        let told = options.cyrus_version.as_deref().map(release).transpose()?;
        let mut ledger = Ledger::new(options.lock_timeout);
        let catalog = Cached::new();
        let told_names = told.map(|(_, names)| names);
        let source = CatalogSource { conf: &conf, conf_file, names: told_names };
        let list = source.load(&catalog, &mut ledger)?.value;
        let list_era = list.list.era;
        let rules = conf.path_rules(list.names);
        let partitions = Partitions::open(&conf);
        refuse_missing_partitions(&partitions, &conf, &list)?;
        // Not knowing it is no reason not to go on.
        let cyrus = Identity::find(&cyrus_user(&conf)).ok().flatten();
        let cyrus_uid = cyrus.map(|identity| identity.uid);
        let locks = LockDir::new(conf.lockpath(), cyrus_uid);
        let era = told.map_or_else(
            || {
                let newest_index = newest_index(&list, &partitions, &rules);
                EraState::Judged(list.evidence(newest_index, locks.exists()))
            },
            |(era, _)| EraState::Told(era),
        );
        Ok(Self {
            conf_file: conf_file.to_owned(),
            told_names,
            open_files,
            lock_timeout: options.lock_timeout,
            up_since: unused::up_since(&locks),
            annotations: Cached::new(),
            quotas: Cached::new(),
            era: Mutex::new(era),
            conf,
            locks,
            rules,
            list_era,
            partitions,
            catalog,
        })
    }

    /// Makes the calling thread act as Cyrus' user, if it is root's, until the guard is dropped.
    ///
    /// # Errors
    ///
    /// [`SpoolError::UnknownUser`], [`SpoolError::Credentials`].
    pub fn act_as_cyrus(&self) -> Result<ActingAs> {
        ActingAs::user(&cyrus_user(&self.conf))
    }

    /// Whether somebody is [at work](crate::running::running) there.
    ///
    /// # Errors
    ///
    /// What keeps the processes from being listed.
    pub fn running(&self) -> std::io::Result<Option<Running>> {
        running(&self.conf_file, &self.conf)
    }

    /// Whether this is the spool of a [replica](crate::replica) of ours that was not promoted.
    pub fn is_replica(&self) -> bool {
        self.conf.configdirectory().join(replica::LOCK_NAME).exists()
    }

    /// The configuration.
    pub fn conf(&self) -> &ImapdConf {
        &self.conf
    }

    /// How the names of its mailboxes are to be read.
    pub fn name_rules(&self) -> &NameRules {
        &self.rules.names
    }

    /// Whether sieve scripts are messages of a mailbox here (3.6+).
    pub fn has_sieve_mailboxes(&self) -> bool {
        self.list_era == MboxListEra::ById
    }

    /// Whose locks are taken, as far as is known now.
    pub fn era(&self) -> Era {
        self.era_state().era()
    }

    /// Everybody who has a mailbox here, deleted ones included, sorted; and [`Userid::SHARED`] if
    /// there are mailboxes that nobody owns.
    ///
    /// # Errors
    ///
    /// What keeps mailboxes.db from being read.
    pub fn accounts(&self) -> Result<Vec<Userid>> {
        let catalog = self.load_catalog(&mut Ledger::new(self.lock_timeout))?;
        Ok(catalog.value.accounts().cloned().collect())
    }

    /// The names of an account's mailboxes, deleted ones included, sorted.
    ///
    /// # Errors
    ///
    /// What keeps mailboxes.db from being read.
    pub fn mailboxes_of(&self, userid: &Userid) -> Result<Vec<MboxName>> {
        let catalog = self.load_catalog(&mut Ledger::new(self.lock_timeout))?.value;
        Ok(catalog.of_account(userid).into_iter().map(|entry| entry.name.clone()).collect())
    }

    /// mailboxes.db as it is now.
    pub(crate) fn load_catalog(&self, ledger: &mut Ledger) -> Result<Loaded<Catalog>> {
        let (conf, conf_file) = (&self.conf, self.conf_file.as_path());
        CatalogSource { conf, conf_file, names: self.told_names }.load(&self.catalog, ledger)
    }

    /// annotations.db as it is now, if there is one.
    pub(crate) fn load_annotations(&self, ledger: &mut Ledger) -> Result<Option<Loaded<Entries>>> {
        load_entries(&self.annotations, &self.conf.annotation_db_path(), ledger)
    }

    /// The quota database as it is now, if there is one.
    pub(crate) fn load_quotas(&self, ledger: &mut Ledger) -> Result<Option<Loaded<Entries>>> {
        load_entries(&self.quotas, &self.conf.quota_db_path(), ledger)
    }

    /// The error for somebody who has no mailbox, with the names that look like his.
    pub(crate) fn no_such_account(&self, userid: &Userid, catalog: &Catalog) -> SpoolError {
        let near = near::names(userid, catalog.accounts());
        SpoolError::NoSuchAccount { userid: userid.clone(), near }
    }

    /// The newest minor version among the indexes that were looked at; `None` if there was none, or if the
    /// operator named the release.
    pub fn newest_index(&self) -> Option<u32> {
        match self.era_state() {
            EraState::Judged(evidence) => evidence.newest_index,
            EraState::Told(_) => None,
        }
    }

    /// The version of index that the oldest of the releases that may run here writes, where no index tells.
    pub fn usual_index(&self) -> u32 {
        match self.era().oldest() {
            LockEra::V23 => 10,
            LockEra::V24 => 12,
            LockEra::V32 => 16,
            // Newer ones read it as well.
            _ => 17,
        }
    }

    /// Takes note of an index version. Whether releases came into question whose locks `taken`
    /// lacks: then what was read under those locks must be read again.
    pub(crate) fn learn(&self, newest_index: Option<u32>, taken: &Era) -> bool {
        let mut state = self.era.lock().unwrap_or_else(PoisonError::into_inner);
        if let EraState::Judged(evidence) = &mut *state {
            evidence.newest_index = evidence.newest_index.max(newest_index);
        }
        !state.era().is_within(taken)
    }

    /// The identity of an account's INBOX, if that is what places its files (3.6+, unless the
    /// INBOX is still in a directory of its name).
    pub(crate) fn home_id<'c>(
        &self,
        userid: &Userid,
        catalog: &'c Catalog,
    ) -> Option<&'c UniqueId> {
        let inbox = self.rules.names.inbox_of(userid).ok()?;
        let entry = catalog.list.get(&inbox).filter(|entry| entry.mbtype.has_data())?;
        let by_id = self.list_era == MboxListEra::ById && !entry.mbtype.legacy_dirs;
        entry.uniqueid.as_ref().filter(|_| by_id)
    }

    fn era_state(&self) -> EraState {
        *self.era.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The newest minor version among the indexes of some mailboxes.
fn newest_index(list: &Catalog, partitions: &Partitions, rules: &PathRules) -> Option<u32> {
    let version = |entry: &MailboxEntry| {
        let partition = partitions.get(entry.partition.as_deref()?)?.ok()?;
        let name = placement::directory(entry, list.list.era, rules).ok()?.join(INDEX);
        let head = files::head(partition.index.mail_file(&name)).ok()?;
        index_version(&head)
    };
    list.witnesses(WITNESSES).into_iter().filter_map(version).max()
}

/// Reads an imapd.conf and what it includes.
///
/// # Errors
///
/// If it cannot be read, or Cyrus would not start with it.
pub fn read_conf(path: &Path) -> Result<ImapdConf> {
    let text = fs::read(path).map_err(|source| SpoolError::Io {
        op: "read",
        path: path.to_owned(),
        source,
    })?;
    let mut include = |name: &str| fs::read(name).map_err(|error| error.to_string());
    ImapdConf::parse(&path.to_string_lossy(), &text, &mut include)
        .map_err(|source| SpoolError::Conf { path: path.to_owned(), source: Box::new(source) })
}

fn release(name: &str) -> Result<(LockEra, NameEra)> {
    Era::of_release(name).ok_or_else(|| SpoolError::UnknownRelease { release: name.to_owned() })
}

pub(crate) fn cyrus_user(conf: &ImapdConf) -> String {
    let user = conf.cyrus_user().map(|user| String::from_utf8_lossy(user).into_owned());
    user.unwrap_or_else(|| CYRUS_USER.to_owned())
}

/// What it takes to read mailboxes.db.
struct CatalogSource<'a> {
    conf: &'a ImapdConf,
    conf_file: &'a Path,
    names: Option<NameEra>,
}

impl CatalogSource<'_> {
    fn load(&self, cached: &Cached<Catalog>, ledger: &mut Ledger) -> Result<Loaded<Catalog>> {
        let path = self.conf.mboxlist_db_path();
        let parse = |bytes: &[u8]| {
            Catalog::parse(bytes, self.conf, self.names)
                .map_err(|source| SpoolError::Database { path: path.clone(), source })
        };
        cached.load(Place::absolute(&path), ledger, parse)?.ok_or_else(|| {
            SpoolError::NoMailboxList { path: path.clone(), conf: self.conf_file.to_owned() }
        })
    }
}

fn load_entries(
    cached: &Cached<Entries>,
    path: &Path,
    ledger: &mut Ledger,
) -> Result<Option<Loaded<Entries>>> {
    cached.load(Place::absolute(path), ledger, |bytes| {
        let db = db::read(bytes)
            .map_err(|source| SpoolError::Database { path: path.to_owned(), source })?;
        Ok(Entries::new(&db))
    })
}

/// A partition without a directory is one that is not mounted. Its mailboxes are not lost, so
/// this must not look as if they were.
fn refuse_missing_partitions(
    partitions: &Partitions,
    conf: &ImapdConf,
    catalog: &Catalog,
) -> Result<()> {
    for (name, missing) in partitions.missing() {
        let holds_mail = |entry: &MailboxEntry| {
            let partition = entry.partition.as_deref().unwrap_or_default();
            entry.mbtype.has_data() && partition.eq_ignore_ascii_case(name.as_bytes())
        };
        let is_default = conf.defaultpartition() == Some(name);
        if is_default || catalog.list.entries.iter().any(holds_mail) {
            return Err(SpoolError::NoPartition {
                partition: name.to_owned(),
                path: missing.path.clone(),
                source: std::io::Error::new(missing.error.kind(), missing.error.to_string()),
            });
        }
    }
    Ok(())
}
