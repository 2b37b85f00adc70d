//! Vaults, as commands use them: opened, explained, and one snapshot of an account chosen.

pub mod backup;
pub mod drill;
pub mod find;
mod garbage;
#[cfg(test)]
mod proof;
pub mod prune;
pub mod verify;

use std::error::Error;
use std::ffi::OsString;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use engine::folder::relative_name;
use jiff::tz::TimeZone;
use model::{Guid, MboxName, Userid};
use segment::manifest::{ManifestHead, StoredMailbox};
use vault::{Account, Entry, History, Store, Vault, VaultError};

use crate::error::CliError;
use crate::when::{At, parse_at, rfc3339};

const STAGE_HINT: &str =
    "large segments are kept in a temporary file first; TMPDIR can name a larger place";

/// Names the directory where what is read again and again of a far vault is kept.
const CACHE: &str = "CYLINDER_CACHE_DIR";

/// Opens a vault that is there.
pub fn open(location: &str) -> Result<Vault, CliError> {
    Vault::open(store(location)?).map_err(explain)
}

/// Opens a vault that is there, and believes nothing but itself.
pub fn open_itself(location: &str) -> Result<Vault, CliError> {
    let store = Store::open(location).map_err(explain)?;
    Vault::open(store).map_err(explain)
}

fn store(location: &str) -> Result<Store, CliError> {
    let store = Store::open(location).map_err(explain)?;
    Ok(match cache_dir(|name| std::env::var_os(name)) {
        Some(directory) => store.with_cache(&directory),
        None => store,
    })
}

/// Where to keep what is read of far vaults: nowhere if the variable is empty, or nobody says where
/// such things belong (XDG Base Directory Specification 0.8).
fn cache_dir(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    if let Some(directory) = variable(CACHE) {
        return Some(PathBuf::from(directory)).filter(|path| !path.as_os_str().is_empty());
    }
    let absolute = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")))?;
    Some(base.join("cylinder"))
}

/// Opens a vault, or makes one: an empty prefix, an empty directory, or a new one whose parent is
/// there.
pub fn open_or_create(location: &str) -> Result<Vault, CliError> {
    let path = Path::new(location);
    if !location.contains("://") && !path.exists() {
        // Only the last directory: where a disk is not mounted, its parent is missing too.
        DirBuilder::new().mode(0o700).create(path).map_err(|error| {
            CliError::failed(format!("cannot make the vault {location}"), error)
                .hint("its parent directory must be there")
        })?;
    }
    Vault::open_or_create(store(location)?).map_err(explain)
}

/// An error of a vault, with what to try.
pub fn explain(error: VaultError) -> CliError {
    let hint = match &error {
        VaultError::Location { .. } => {
            "name a directory, or s3://BUCKET/PREFIX with AWS_ENDPOINT, AWS_ACCESS_KEY_ID and \
             AWS_SECRET_ACCESS_KEY set"
        }
        VaultError::NotAVault { .. } => "cylinder backup makes a vault where nothing is",
        VaultError::NoBucket { .. } => {
            "make the bucket first, or name another; a vault is made in it"
        }
        VaultError::NoCredentials { .. } => {
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run on a machine that has a role"
        }
        VaultError::NotEmpty { .. } => "name a directory or a prefix of its own",
        VaultError::TooNew { .. } => "use the version of cylinder that made it, or a later one",
        VaultError::Store { .. } | VaultError::Short { .. } => {
            "what was stored before is not touched; check the store and try again"
        }
        VaultError::Stage(_) => STAGE_HINT,
        VaultError::Note { .. } => {
            "without it nobody knows what may be used; try another copy of the object"
        }
        VaultError::Marker { .. } => {
            "if it is one, write the line \"cylinder vault 1\" into that object"
        }
        VaultError::Engine(_) => "try again",
    };
    CliError::failed("cannot use the vault", error).hint(hint)
}

/// An error of what is kept in a temporary file until it is stored, or of anything else on the way
/// there.
pub fn explain_staging(headline: &str, error: impl Into<Box<dyn Error + Send + Sync>>) -> CliError {
    let error = CliError::failed(headline, error);
    match error.is_io(io::ErrorKind::StorageFull) {
        true => error.hint(STAGE_HINT),
        false => error,
    }
}

/// The accounts that were named, or all there are: their components in segment names. That there is
/// nothing of one that was named is an error, since its name may be wrong.
pub fn components(vault: &Vault, named: &[String]) -> Result<Vec<String>, CliError> {
    if named.is_empty() {
        return vault.accounts().map_err(explain);
    }
    let mut components = Vec::new();
    for userid in named {
        let account = vault.account(&Userid::from(userid.as_str()));
        if account.is_unknown().map_err(explain)? {
            return Err(nothing_of(vault, userid));
        }
        components.push(account.component().to_owned());
    }
    Ok(components)
}

/// The name of this machine, for notes.
pub fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// An account of a vault that there is something of, and its history.
pub fn account(vault: &Vault, userid: &str) -> Result<(Account, History), CliError> {
    let account = vault.account(&Userid::from(userid));
    let history = account.history().map_err(explain)?;
    match history.is_empty() {
        true => Err(nothing_of(vault, userid)),
        false => Ok((account, history)),
    }
}

/// Says that a vault has no such account, and which it has.
fn nothing_of(vault: &Vault, userid: &str) -> CliError {
    let there = match vault.accounts() {
        Ok(there) => there,
        Err(error) => return explain(error),
    };
    let error = CliError::plain(format!("{} holds nothing of {userid}", vault.place()));
    let some = there.iter().take(10).cloned().collect::<Vec<_>>().join(", ");
    match there.len() {
        0 => error.hint("the vault is empty"),
        1..=10 => error.hint(format!("it holds {some}")),
        many => error.hint(format!("it holds {some} and {} more", many - 10)),
    }
}

/// The snapshot that `--at` means: by number, by time, or the newest.
pub fn choose(history: &History, userid: &str, at: Option<&str>) -> Result<Entry, CliError> {
    let snapshots = history.snapshots();
    let torn = || {
        CliError::plain(format!("no snapshot of {userid} is whole"))
            .hint("cylinder verify says what is missing")
    };
    let Some(text) = at else { return history.newest().ok_or_else(torn) };
    let (first, last) = match (snapshots.first(), snapshots.last()) {
        (Some(first), Some(last)) => (first, last),
        _ => return Err(torn()),
    };
    match parse_at(text, &TimeZone::system()) {
        Some(At::Seq(seq)) => {
            let found = snapshots.iter().rfind(|entry| u64::from(entry.name.seq) == seq);
            found.map(|entry| Entry::clone(entry)).ok_or_else(|| {
                let (first, last) = (first.name.seq, last.name.seq);
                CliError::plain(format!("there is no snapshot {seq} of {userid}")).hint(format!(
                    "there are some from {first} to {last}; cylinder history lists them"
                ))
            })
        }
        Some(At::Time(time)) => {
            let found = snapshots.iter().rfind(|entry| entry.name.taken_at <= time);
            found.map(|entry| Entry::clone(entry)).ok_or_else(|| {
                let first = rfc3339(first.name.taken_at);
                CliError::plain(format!("no snapshot of {userid} is that old"))
                    .hint(format!("the first was taken at {first}"))
            })
        }
        None => Err(no_moment(text)),
    }
}

/// Says that a text is no snapshot.
pub fn no_moment(text: &str) -> CliError {
    CliError::usage(format!("{text:?} is neither a snapshot's number nor a time"))
        .hint("use a snapshot's number, or a time like 2026-11-23 or 2026-11-23T19:00:00Z")
}

/// The folders of a snapshot, as their owner knows them, for a hint.
pub fn folders(head: &ManifestHead, userid: &str) -> String {
    let name = |mailbox: &StoredMailbox| {
        MboxName::new(relative_name(mailbox.name.as_bytes(), userid.as_bytes())).to_string()
    };
    head.mailboxes.iter().map(name).collect::<Vec<_>>().join(", ")
}

/// A GUID as it is typed.
pub fn parse_guid(text: &str) -> Result<Guid, CliError> {
    Guid::from_hex(text.as_bytes()).ok_or_else(|| {
        CliError::usage(format!("{text} is no GUID"))
            .hint("a GUID is 40 hex digits; cylinder find prints that of each message")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_lies_where_such_things_belong() {
        let dir = |set: &[(&str, &str)]| {
            let found = |name: &str| set.iter().find(|(set, _)| *set == name);
            cache_dir(|name| found(name).map(|(_, value)| value.into()))
        };
        let some = |path: &str| Some(PathBuf::from(path));
        assert_eq!(dir(&[("HOME", "/root")]), some("/root/.cache/cylinder"));
        let both = [("HOME", "/root"), ("XDG_CACHE_HOME", "/var/cache")];
        assert_eq!(dir(&both), some("/var/cache/cylinder"));
        assert_eq!(dir(&[("XDG_CACHE_HOME", "relative")]), None);
        assert_eq!(dir(&[(CACHE, "/here"), ("HOME", "/root")]), some("/here"));
        assert_eq!(dir(&[(CACHE, ""), ("HOME", "/root")]), None);
        assert_eq!(dir(&[]), None);
    }
}
