//! One attempt to read an account.

use std::path::PathBuf;
use std::sync::Arc;

use cyrus_format::mboxlist::MailboxEntry;
use model::{Finding, FindingKind, Userid};

use crate::account_files::Collector;
use crate::catalog::{Catalog, Owned};
use crate::copy;
use crate::era::Era;
use crate::error::{Result, SpoolError};
use crate::files::Place;
use crate::freeze::{Frozen, Only};
use crate::limits;
use crate::lock::{Held, Ledger, LockKind, Wanted};
use crate::mailbox::{FrozenMailbox, Notes, index_version};
use crate::placement::{self, Placement};
use crate::prepare::Prepared;
use crate::server::Server;
use crate::unused::{LockUse, Taken};

/// One attempt to read an account.
pub(crate) struct Attempt<'a> {
    pub server: &'a Server,
    pub userid: &'a Userid,
    pub only: Only<'a>,
    pub owned: &'a Owned,
    pub era: Era,
    pub ledger: Ledger,
    pub taken: Taken,
    pub lock_use: &'a mut LockUse,
    /// Whether the mailboxes' directories may stay open.
    pub keep_open: bool,
}

impl Attempt<'_> {
    /// `None` if it must be tried again, with all locks given back.
    pub fn freeze(mut self, prepared: Prepared) -> Result<Option<Frozen>> {
        let user_locks = self.lock_user()?;
        let catalog = self.server.load_catalog(&mut self.ledger)?;
        let mailboxes = self.mailboxes(&catalog.value, prepared)?;
        let mut collector = Collector {
            server: self.server,
            userid: self.userid,
            owned: self.owned,
            catalog: &catalog,
            files: Vec::new(),
            findings: self.findings_of_list(&catalog.value),
        };
        collector.collect_locked(&mailboxes, &mut self.ledger)?;
        let is_unchanged = self.is_unchanged(&catalog.value)?;
        drop(user_locks);
        collector.collect_others(&mut self.ledger)?;

        let indexes = mailboxes.iter().filter_map(|mailbox| mailbox.index.as_deref());
        let newest_index = indexes.filter_map(index_version).max();
        if self.server.learn(newest_index, &self.era) || !is_unchanged {
            return Ok(None);
        }
        let mut findings = collector.findings;
        if let Some(up_since) = self.server.up_since {
            let all = self.era.user_lock_freezes_content(self.userid);
            findings.extend(self.lock_use.findings(&self.taken, up_since, all));
        }
        Ok(Some(Frozen {
            userid: self.userid.clone(),
            era: self.era,
            mailboxes,
            account_files: collector.files,
            moved: catalog.value.moved_from(self.owned),
            findings,
            locks: self.ledger.into_reports(),
        }))
    }

    /// Locks all names, then copies the metadata of one mailbox after the other.
    fn mailboxes(&mut self, catalog: &Catalog, mut room: Prepared) -> Result<Vec<FrozenMailbox>> {
        let entries = catalog.of_account(self.userid);
        if !self.only.is_there(&entries) {
            return Err(self.server.no_such_account(self.userid, catalog));
        }
        let entries = self.only.of(entries);
        self.keep_open = limits::allow_directories(self.server.open_files, entries.len());
        let mut mailboxes = Vec::with_capacity(entries.len());
        for entry in entries {
            mailboxes.push(self.hold(entry)?);
        }
        for (mailbox, (_, changed)) in mailboxes.iter_mut().zip(&mut self.taken.names) {
            let room = room.take(&mailbox.entry.name);
            *changed = copy::metadata(mailbox, &self.era, room, &mut self.ledger)?;
            mailbox.check_directory();
        }
        Ok(mailboxes)
    }

    /// Takes the account's lock, under each name that it may have. No other lock is held yet.
    fn lock_user(&mut self) -> Result<Vec<Held>> {
        let files = user_locks(self.server, self.userid, &self.era)?;
        let mut locks = Vec::with_capacity(files.len());
        for file in files {
            let file = self.server.locks.open(&file)?;
            self.lock_use.opened(&file);
            let used = file.used().map_err(|e| Place::absolute(&file.path).error("examine", e))?;
            self.taken.user.push((file.path.clone(), used));
            let wanted = Wanted { kind: LockKind::User, mailbox: None };
            locks.push(self.ledger.lock(file.file, &file.path, wanted)?);
        }
        Ok(locks)
    }

    /// Takes a mailbox's name lock, then opens its directory.
    fn hold(&mut self, entry: &MailboxEntry) -> Result<FrozenMailbox> {
        let mut mailbox = FrozenMailbox::new(entry.clone(), self.era.has_record_locks_only());
        let mut notes = Notes { mailbox: &entry.name, findings: &mut mailbox.findings };
        let (server, mut paths) = (self.server, Vec::new());
        let eras = self.era.candidates();
        let files = placement::name_locks(entry, server.list_era, eras, &server.rules);
        let files = files.unwrap_or_else(|error| {
            notes.add(FindingKind::MetadataUnreadable, format!("its lock has no file: {error}"));
            Vec::new()
        });
        for file in files {
            let opened = server.locks.open(&file).map(Some);
            let Some(file) = notes.optional(FindingKind::MetadataUnreadable, opened)? else {
                continue;
            };
            self.lock_use.opened(&file);
            paths.push(file.path.clone());
            let wanted = Wanted { kind: LockKind::Name, mailbox: Some(&entry.name) };
            mailbox.locks.push(self.ledger.lock(file.file, &file.path, wanted)?);
        }
        self.taken.names.push((paths, None));
        mailbox.place = self.place(entry, &mut notes)?;
        Ok(mailbox)
    }

    /// Finds and opens a mailbox's directory.
    fn place(&self, entry: &MailboxEntry, notes: &mut Notes<'_>) -> Result<Option<Placement>> {
        let name = entry.partition.as_deref().unwrap_or_default();
        let partition = match self.server.partitions.get(name) {
            Some(Ok(partition)) => Arc::clone(partition),
            Some(Err(missing)) => {
                let why = format!("cannot open {}: {}", missing.path.display(), missing.error);
                notes.add(FindingKind::MailboxMissing, why);
                return Ok(None);
            }
            None => {
                let name = String::from_utf8_lossy(name).escape_debug().to_string();
                let why = format!("imapd.conf has no partition \"{name}\"");
                notes.add(FindingKind::MailboxMissing, why);
                return Ok(None);
            }
        };
        match placement::directory(entry, self.server.list_era, &self.server.rules) {
            Ok(dir) => Placement::open(partition, dir, self.keep_open, notes).map(Some),
            Err(error) => {
                notes.add(FindingKind::MailboxMissing, error.to_string());
                Ok(None)
            }
        }
    }

    /// Whether the account still has the mailboxes that were read. Only asked where no user lock
    /// makes sure of it.
    fn is_unchanged(&mut self, before: &Arc<Catalog>) -> Result<bool> {
        if self.era.user_lock_freezes_names() {
            return Ok(true);
        }
        let now = self.server.load_catalog(&mut self.ledger)?.value;
        Ok(Arc::ptr_eq(&now, before)
            || now.of_account(self.userid) == before.of_account(self.userid))
    }

    /// What mailboxes.db itself gives cause to say.
    fn findings_of_list(&self, catalog: &Catalog) -> Vec<Finding> {
        let place = self.server.conf().mboxlist_db_path();
        let unreadable = catalog.unreadable_of(self.userid, self.owned).into_iter();
        let unreadable =
            unreadable.map(|(key, why)| Finding::new(FindingKind::EntryUnreadable, key, why));
        let recovered = catalog
            .raw
            .recovered
            .as_ref()
            .map(|what| Finding::new(FindingKind::MetadataUnreadable, place.display(), what));
        unreadable.chain(recovered).collect()
    }
}

/// The lock files of an account, one for each way in which the releases in question name it.
pub(crate) fn user_locks(server: &Server, userid: &Userid, era: &Era) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for era in era.candidates() {
        let name = era.user_lock(&server.rules.names, userid.user());
        let file = name.and_then(|name| name.map(|name| server.rules.lock_file(&name)).transpose());
        let unusable = |source| SpoolError::NoUserLock { userid: userid.clone(), source };
        files.extend(file.map_err(unusable)?.filter(|file| !files.contains(file)));
    }
    Ok(files)
}
