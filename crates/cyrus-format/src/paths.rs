//! Where things lie below their roots (`imap/mboxname.c`, `lib/util.c`,
//! `lib/cyrusdb_quotalegacy.c`).
//!
//! Every function returns a path relative to a root that the configuration names. A name that
//! would leave that root, or fall together with another's path, is an error and never a path.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use model::{MboxName, UniqueId, Userid};

use crate::names::{Faulty, NameEra, NameError, NameRules, Separator};

/// How a letter is chosen for a directory level (`lib/util.c`, dir_hash_c).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DirHash {
    /// `fulldirhash: no`: the first letter in lower case, `q` if it is none.
    Simple,
    /// `fulldirhash: yes`: one of 23 upper-case letters, computed from everything up to a dot.
    Full,
}

impl DirHash {
    /// The letter for a name.
    pub fn letter(self, name: &[u8]) -> u8 {
        match self {
            DirHash::Simple => match name.first().map(u8::to_ascii_lowercase) {
                Some(letter) if letter.is_ascii_lowercase() => letter,
                _ => b'q',
            },
            DirHash::Full => {
                let hash = name
                    .iter()
                    .take_while(|byte| !matches!(byte, 0 | b'.'))
                    .fold(0_u32, |hash, byte| (hash << 3) ^ (hash >> 5) ^ u32::from(*byte));
                b'A' + (hash % 23) as u8
            }
        }
    }
}

/// What the configuration says about paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathRules {
    /// How names are read.
    pub names: NameRules,
    /// `hashimapspool`: mailbox and lock paths begin with a letter.
    pub hashimapspool: bool,
    /// `fulldirhash`. User files, quotas and sieve directories are hashed whatever
    /// `hashimapspool` says.
    pub dirhash: DirHash,
}

impl PathRules {
    /// A mailbox's directory below its partition where it is placed by name: all of them up to
    /// 3.4, those of type `l` since 3.6.
    ///
    /// # Errors
    /// A name that cannot be taken apart or is no safe path.
    pub fn mailbox_dir_by_name(&self, name: &MboxName) -> Result<PathBuf, NameError> {
        let faulty = Faulty { kind: "mailbox", name: name.as_bytes() };
        self.names.parts(name)?;
        self.hashed(faulty)
    }

    /// A mailbox's directory below its partition where it is placed by identity (3.6+).
    ///
    /// # Errors
    /// An id too short, or one that is no safe path.
    pub fn mailbox_dir_by_id(&self, id: &UniqueId) -> Result<PathBuf, NameError> {
        by_id(RelativePath::new(Faulty { kind: "uniqueid", name: id.as_bytes() }), id)?.finish()
    }

    /// An account's file below `configdirectory`, placed by name: `user/g/glad.sub`. All of them
    /// up to 3.4; since 3.6 those of accounts whose INBOX has type `l` or does not exist.
    ///
    /// 2.x with `unixhierarchysep` writes the dots of a userid as `^`, as this does for
    /// [`NameEra::V2`].
    ///
    /// # Errors
    /// A userid or suffix that is no safe path.
    pub fn user_file_by_name(&self, userid: &Userid, suffix: &str) -> Result<PathBuf, NameError> {
        let faulty = Faulty { kind: "account", name: userid.as_bytes() };
        let parts = self.names.user_parts(userid)?;
        let mut local = parts.user.unwrap_or_default();
        self.escape_user(&mut local);
        let mut path = RelativePath::new(faulty);
        if let Some(domain) = &parts.domain {
            self.push_hashed_domain(&mut path, domain)?;
        }
        path.push(b"user")?;
        path.push(&[self.dirhash.letter(&local)])?;
        local.push(b'.');
        local.extend_from_slice(suffix.as_bytes());
        path.push(&local)?;
        path.finish()
    }

    /// An account's file below `configdirectory` (3.13.7+: `mboxname_userpath`), placed by the
    /// identity of its INBOX (3.6+): `user/uuid/x/y/<id>/sub.db`.
    ///
    /// # Errors
    /// An id or suffix that is no safe path.
    pub fn user_file_by_id(&self, inbox: &UniqueId, suffix: &str) -> Result<PathBuf, NameError> {
        let mut path = RelativePath::new(Faulty { kind: "uniqueid", name: inbox.as_bytes() });
        path.push(b"user")?;
        let mut path = by_id(path, inbox)?;
        path.push(format!("{suffix}.db").as_bytes())?;
        path.finish()
    }

    /// A file below `configdirectory` for the mailboxes that nobody owns, those of a domain or those
    /// of none: `shared.counters`, in every layout (`imap/mboxname.c`:
    /// mboxname_conf_getpath_legacy, 3.6).
    ///
    /// # Errors
    /// A domain or suffix that is no safe path.
    pub fn shared_file(&self, domain: Option<&[u8]>, suffix: &str) -> Result<PathBuf, NameError> {
        let name = domain.unwrap_or_default();
        let mut path = RelativePath::new(Faulty { kind: "domain", name });
        if let Some(domain) = domain {
            self.push_hashed_domain(&mut path, domain)?;
        }
        path.push(format!("shared.{suffix}").as_bytes())?;
        path.finish()
    }

    /// The file of a quota root below `configdirectory`, with `quota_db: quotalegacy`. A root
    /// that is a domain and nothing else (`other.com!`) is the quota of the whole domain.
    ///
    /// # Errors
    /// A root that is no safe path.
    pub fn quota_file(&self, root: &MboxName) -> Result<PathBuf, NameError> {
        let mut path = RelativePath::new(Faulty { kind: "quota root", name: root.as_bytes() });
        let mut local = root.as_bytes();
        // Unlike mailboxes, quotas of 3.x do care for virtdomains.
        if self.names.virtdomains
            && let (Some(domain), rest) = self.names.split_domain(local)
        {
            self.push_hashed_domain(&mut path, domain)?;
            local = rest;
            if local.is_empty() {
                path.push(b"quota")?;
                path.push(b"root")?;
                return path.finish();
            }
        }
        let hashed =
            local.iter().position(|byte| *byte == b'.').map_or(local, |at| &local[at + 1..]);
        path.push(b"quota")?;
        path.push(&[self.dirhash.letter(hashed)])?;
        path.push(local)?;
        path.finish()
    }

    /// An account's directory below `sievedir`, placed by name; 3.6+ as for
    /// [`PathRules::user_file_by_name`].
    ///
    /// # Errors
    /// A userid that is no safe path.
    pub fn sieve_dir_by_name(&self, userid: &Userid) -> Result<PathBuf, NameError> {
        let mut path = RelativePath::new(Faulty { kind: "account", name: userid.as_bytes() });
        // Without virtdomains the domain stays part of the directory's name, in 3.x as well.
        let (local, domain) = match self.names.virtdomains {
            true => self.names.split_userid(userid),
            false => (userid.as_bytes(), None),
        };
        if let Some(domain) = domain {
            self.push_hashed_domain(&mut path, domain)?;
        }
        let mut local = local.to_vec();
        self.escape_user(&mut local);
        path.push(&[self.dirhash.letter(&local)])?;
        path.push(&local)?;
        path.finish()
    }

    /// An account's directory below `sievedir`, placed by the identity of its INBOX (3.6+).
    ///
    /// # Errors
    /// An id too short, or one that is no safe path.
    pub fn sieve_dir_by_id(&self, inbox: &UniqueId) -> Result<PathBuf, NameError> {
        self.mailbox_dir_by_id(inbox)
    }

    /// The lock file of a lock name (see [`locks`](crate::locks)) below the lock root.
    ///
    /// # Errors
    /// A name that is no safe path.
    pub fn lock_file(&self, lockname: &[u8]) -> Result<PathBuf, NameError> {
        let mut path = self.hashed(Faulty { kind: "lock", name: lockname })?.into_os_string();
        path.push(".lock");
        Ok(PathBuf::from(path))
    }

    /// Maps a name as `mboxname_hash` does, mailboxes and locks alike.
    fn hashed(&self, faulty: Faulty<'_>) -> Result<PathBuf, NameError> {
        let mut path = RelativePath::new(faulty);
        let (domain, local) = self.names.split_domain(faulty.name);
        let default = self.names.defaultdomain.as_deref();
        let foreign =
            domain.filter(|domain| self.names.era == NameEra::V2 || default != Some(*domain));
        if let Some(domain) = foreign {
            path.push(b"domain")?;
            if self.hashimapspool {
                path.push(&[self.dirhash.letter(domain)])?;
            }
            path.push(domain)?;
        }
        let components: Vec<&[u8]> = local.split(|byte| *byte == b'.').collect();
        if self.hashimapspool {
            let mut hashed = components.get(1).or(components.first()).unwrap_or(&&[][..]).to_vec();
            if self.names.era == NameEra::V3 {
                for byte in hashed.iter_mut().filter(|byte| **byte == b'^') {
                    *byte = b'.';
                }
            }
            path.push(&[self.dirhash.letter(&hashed)])?;
        }
        for component in components {
            path.push(component)?;
        }
        path.finish()
    }

    /// 2.x names an account's files by its userid in internal form.
    fn escape_user(&self, local: &mut [u8]) {
        if self.names.era == NameEra::V2 && self.names.separator == Separator::Slash {
            for byte in local.iter_mut().filter(|byte| **byte == b'.') {
                *byte = b'^';
            }
        }
    }

    fn push_hashed_domain(
        &self,
        path: &mut RelativePath<'_>,
        domain: &[u8],
    ) -> Result<(), NameError> {
        path.push(b"domain")?;
        path.push(&[self.dirhash.letter(domain)])?;
        path.push(domain)
    }
}

/// A path that can only grow by safe components.
struct RelativePath<'a> {
    faulty: Faulty<'a>,
    bytes: Vec<u8>,
}

impl<'a> RelativePath<'a> {
    fn new(faulty: Faulty<'a>) -> Self {
        Self { faulty, bytes: Vec::new() }
    }

    fn push(&mut self, component: &[u8]) -> Result<(), NameError> {
        match component {
            b"" => return Err(self.faulty.empty()),
            b"." | b".." => return Err(self.faulty.dots()),
            _ => {}
        }
        if let Some(byte) = component.iter().find(|byte| matches!(byte, 0 | b'/')) {
            return Err(self.faulty.forbidden(*byte));
        }
        if !self.bytes.is_empty() {
            self.bytes.push(b'/');
        }
        self.bytes.extend_from_slice(component);
        Ok(())
    }

    fn finish(self) -> Result<PathBuf, NameError> {
        if self.bytes.is_empty() {
            return Err(self.faulty.empty());
        }
        Ok(PathBuf::from(OsString::from_vec(self.bytes)))
    }
}

/// Appends `uuid/x/y/<id>`.
fn by_id<'a>(mut path: RelativePath<'a>, id: &UniqueId) -> Result<RelativePath<'a>, NameError> {
    let id = id.as_bytes();
    path.push(b"uuid")?;
    path.push(id.get(..1).unwrap_or_default())?;
    path.push(id.get(1..2).unwrap_or_default())?;
    path.push(id)?;
    Ok(path)
}

#[cfg(test)]
mod tests;
