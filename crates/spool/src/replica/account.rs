//! What belongs to an account and not to a mailbox: subscriptions, seen state, sieve scripts.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cyrus_format::FormatError;
use cyrus_format::db::{self, flat, twoskip};
use cyrus_format::names::NameError;
use cyrus_format::seen::Seen;
use cyrus_format::sieve::{self, SieveFile};
use cyrus_format::subs::{SubsVersion, Subscriptions};
use model::{Guid, MboxName, Timestamp, UniqueId, Userid};
use rustix::fs::FileType;
use sha1::{Digest, Sha1};

use super::batch::{Batch, Step};
use super::contents::{damaged, encode};
use super::disk::{Disk, io_error};
use super::error::{ReplicaError, Result};
use super::{Remains, State, rules};

/// A sieve script that is stored as a file, as up to Cyrus 3.4.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptFile {
    /// Its name, without `.script`.
    pub name: Vec<u8>,
    /// When it was stored.
    pub stored: Timestamp,
    /// SHA-1 of its text.
    pub guid: Guid,
    /// Whether it runs.
    pub active: bool,
}

/// What belongs to an account beside its mailboxes. Whoever uses it has claimed the account.
#[derive(Debug)]
pub struct Home {
    disk: Arc<Disk>,
    userid: Userid,
    /// The identity of the account's INBOX, by which its files are placed.
    id: Option<UniqueId>,
}

impl Home {
    /// What it is subscribed to, sorted.
    ///
    /// # Errors
    /// If the file makes no sense.
    pub fn subscriptions(&self) -> Result<Vec<MboxName>> {
        Ok(self.load_subscriptions()?.mailboxes)
    }

    /// Adds a mailbox to the subscriptions, or takes it away.
    ///
    /// # Errors
    /// A name that has no form there, and what the disk says.
    pub fn subscribe(&self, name: &MboxName, wanted: Wanted) -> Result<()> {
        let mut subs = self.load_subscriptions()?;
        let had = subs.mailboxes.contains(name);
        if had == (wanted == Wanted::Yes) {
            return Ok(());
        }
        subs.mailboxes.retain(|other| other != name);
        if wanted == Wanted::Yes {
            subs.mailboxes.push(name.clone());
            subs.mailboxes.sort();
        }
        let mut records = subs.write(&self.userid, &rules().names)?;
        records.sort();
        records.dedup();
        let path = self.user_file("sub")?;
        let bytes = flat::write(&records).map_err(encode(&path))?;
        self.put(path, bytes)
    }

    fn load_subscriptions(&self) -> Result<Subscriptions> {
        let path = self.user_file("sub")?;
        let Some(bytes) = self.disk.read(&path)? else {
            let (mailboxes, unreadable) = (Vec::new(), Vec::new());
            return Ok(Subscriptions { version: SubsVersion::V2, mailboxes, unreadable });
        };
        let read = db::read(&bytes).map_err(damaged(&path))?;
        let records = read.entries.iter().map(|(key, value)| (key.as_ref(), value.as_ref()));
        Subscriptions::parse(records, &self.userid, &rules().names).map_err(|error| {
            let detail = error.to_string();
            damaged(&path)(FormatError::Damaged { what: "subscriptions", offset: 0, detail })
        })
    }

    /// What it has read in mailboxes that keep no such state, by their identity.
    ///
    /// # Errors
    /// If the file makes no sense.
    pub fn seen(&self) -> Result<BTreeMap<UniqueId, Seen>> {
        let path = self.user_file("seen")?;
        let Some(bytes) = self.disk.read(&path)? else { return Ok(BTreeMap::new()) };
        let read = db::read(&bytes).map_err(damaged(&path))?;
        let read = read.entries.iter().map(|(key, value)| {
            Ok((UniqueId::new(key.as_ref()), Seen::parse(value).map_err(damaged(&path))?))
        });
        read.collect()
    }

    /// Replaces what it has read in one of them.
    ///
    /// # Errors
    /// What the disk says.
    pub fn set_seen(&self, id: UniqueId, seen: Seen) -> Result<()> {
        let mut all = self.seen()?;
        all.insert(id, seen);
        let records: Vec<_> =
            all.iter().map(|(id, seen)| (id.as_bytes().to_vec(), seen.write())).collect();
        let path = self.user_file("seen")?;
        let bytes = twoskip::write_fresh(&records).map_err(encode(&path))?;
        self.put(path, bytes)
    }

    /// Its sieve scripts that are files, by name.
    ///
    /// # Errors
    /// What the disk says.
    pub fn scripts(&self) -> Result<Vec<ScriptFile>> {
        let dir = self.sieve_dir()?;
        let active = self.disk.read_link(&dir.join("defaultbc"))?;
        let active = active.as_deref().and_then(sieve::active_script);
        let mut scripts = Vec::new();
        for (file, kind) in self.disk.names(&dir)? {
            let SieveFile::Script(name) = SieveFile::of(file.as_encoded_bytes()) else { continue };
            let path = dir.join(&file);
            let opened = self.disk.open_file(&path)?.filter(|_| kind == FileType::RegularFile);
            let Some(opened) = opened else { continue };
            let stat = rustix::fs::fstat(&opened);
            let stat = stat.map_err(|error| io_error("examine", &path)(error.into()))?;
            let text = self.disk.read(&path)?.unwrap_or_default();
            scripts.push(ScriptFile {
                name: name.to_vec(),
                stored: Timestamp::from_secs(stat.st_mtime),
                guid: Guid(Sha1::digest(&text).into()),
                active: active == Some(name),
            });
        }
        Ok(scripts)
    }

    /// The text of a script.
    ///
    /// # Errors
    /// What the disk says.
    pub fn script(&self, name: &[u8]) -> Result<Option<Vec<u8>>> {
        match sieve::script_file(name) {
            Some(file) => self.disk.read(&self.sieve_dir()?.join(OsString::from_vec(file))),
            None => Ok(None),
        }
    }

    /// Stores a script.
    ///
    /// # Errors
    /// A name that is none, and what the disk says.
    pub fn put_script(&self, name: &[u8], text: Vec<u8>) -> Result<()> {
        let file = sieve::script_file(name).ok_or_else(|| no_script(name))?;
        let path = self.sieve_dir()?.join(OsString::from_vec(file));
        self.put(path, text)
    }

    /// Removes a script; if it runs, none does any more. Says whether it was there.
    ///
    /// # Errors
    /// What the disk says.
    pub fn remove_script(&self, name: &[u8]) -> Result<bool> {
        let dir = self.sieve_dir()?;
        let found = self.scripts()?.into_iter().find(|script| script.name == name);
        let (Some(found), Some(file)) = (found, sieve::script_file(name)) else { return Ok(false) };
        let mut batch = Batch::new(&self.disk);
        if found.active {
            batch.then(Step::Remove(dir.join("defaultbc")));
        }
        batch.then(Step::Remove(dir.join(OsString::from_vec(file))));
        batch.commit().map(|()| true)
    }

    /// Lets a script run, or none. Says whether there is such a script.
    ///
    /// # Errors
    /// What the disk says.
    pub fn activate_script(&self, name: Option<&[u8]>) -> Result<bool> {
        let link = self.sieve_dir()?.join("defaultbc");
        let mut batch = Batch::new(&self.disk);
        match name {
            None => batch.then(Step::Remove(link)),
            Some(name) => {
                let there = self.scripts()?.iter().any(|script| script.name == name);
                let target = sieve::active_target(name).filter(|_| there);
                let Some(target) = target else { return Ok(false) };
                batch.put_symlink(link, target);
            }
        }
        batch.commit().map(|()| true)
    }

    fn put(&self, path: PathBuf, bytes: Vec<u8>) -> Result<()> {
        let mut batch = Batch::new(&self.disk);
        batch.put(path, bytes);
        batch.commit()
    }

    fn user_file(&self, suffix: &str) -> Result<PathBuf, NameError> {
        let path = match &self.id {
            Some(id) => rules().user_file_by_id(id, suffix)?,
            None => rules().user_file_by_name(&self.userid, suffix)?,
        };
        Ok(Path::new("conf").join(path))
    }

    fn sieve_dir(&self) -> Result<PathBuf, NameError> {
        let dir = match &self.id {
            Some(id) => rules().sieve_dir_by_id(id)?,
            None => rules().sieve_dir_by_name(&self.userid)?,
        };
        Ok(Path::new("conf/sieve").join(dir))
    }
}

impl State {
    /// What belongs to an account beside its mailboxes.
    pub fn home(&self, userid: &Userid) -> Home {
        let inbox = rules().names.inbox_of(userid).ok();
        let inbox = inbox.and_then(|inbox| self.list.get(&inbox));
        let inbox = inbox.filter(|entry| entry.mbtype.has_data());
        Home {
            disk: Arc::clone(&self.files.disk),
            userid: userid.clone(),
            id: inbox.and_then(|entry| entry.uniqueid.clone()),
        }
    }

    /// Deletes an account: its mailboxes but those that are deleted and kept, and all that belongs
    /// to it. Nothing happens if there is none.
    ///
    /// # Errors
    /// What the disk says.
    pub fn remove_account(&mut self, userid: &Userid) -> Result<()> {
        let inbox = rules().names.inbox_of(userid)?;
        let below = [inbox.as_bytes(), b"."].concat();
        let is_of = |name: &MboxName| *name == inbox || name.as_bytes().starts_with(&below);
        let gone: Vec<_> = self
            .list
            .entries()
            .filter(|entry| is_of(&entry.name) && !entry.mbtype.deleted)
            .map(|entry| (entry.clone(), Remains::Tombstone))
            .collect();
        let mut files = Vec::new();
        let home = self.home(userid);
        for suffix in ["sub", "seen"] {
            files.push(Step::Remove(home.user_file(suffix)?));
        }
        if home.id.is_some() {
            let dir = home.user_file("sub")?;
            files.push(Step::RemoveTree(super::disk::parent(&dir).to_owned()));
        }
        files.push(Step::RemoveTree(home.sieve_dir()?));
        let roots: Vec<MboxName> = self.quotas.keys().filter(|root| is_of(root)).cloned().collect();
        for root in &roots {
            files.push(Step::Remove(Path::new("conf").join(rules().quota_file(root)?)));
        }
        let there = self.is_any_there(&files)?;
        if gone.is_empty() && !there {
            return Ok(());
        }
        // Before anything is counted for them once more.
        let quotas: Vec<_> =
            roots.iter().filter_map(|root| self.quotas.remove_entry(root)).collect();
        self.remove_all(gone, files).inspect_err(|_| self.quotas.extend(quotas))
    }

    /// Whether there is anything to remove.
    fn is_any_there(&self, steps: &[Step]) -> Result<bool> {
        for step in steps {
            let there = match step {
                Step::Remove(path) => self.files.disk.open_file(path)?.is_some(),
                Step::RemoveTree(path) => self.files.disk.dir(path)?.is_some(),
                Step::Rename { .. } | Step::Patch { .. } => true,
            };
            if there {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Whether something is to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// It is.
    Yes,
    /// It is not.
    No,
}

fn no_script(name: &[u8]) -> ReplicaError {
    let name = MboxName::new(name).to_string();
    NameError::NoForm { kind: "sieve script", name, form: "file" }.into()
}
