//! Names and paths are those that a real Cyrus gives: `fixtures/paths/README.md` says how it was
//! asked.

use std::path::{Path, PathBuf};

use cyrus_format::names::{NameError, NameRules, Separator};
use cyrus_format::paths::{DirHash, PathRules};
use model::{MboxName, UniqueId, Userid};

/// One answer of Cyrus, and the configuration it was given under.
struct Answer {
    rules: PathRules,
    name: MboxName,
    external: Option<&'static str>,
    owner: Option<Userid>,
    place: Place,
    inbox_place: Place,
    directory: &'static str,
    subscriptions: Option<&'static str>,
    sieve: Option<&'static str>,
}

/// Whether a mailbox lies in a directory by its name or by its identity.
enum Place {
    ByName,
    ById(UniqueId),
}

impl Place {
    fn read(column: &str) -> Self {
        if column == "legacy" { Self::ByName } else { Self::ById(column.into()) }
    }

    fn path(
        &self,
        by_name: impl FnOnce() -> Result<PathBuf, NameError>,
        by_id: impl FnOnce(&UniqueId) -> Result<PathBuf, NameError>,
    ) -> PathBuf {
        let path = match self {
            Place::ByName => by_name(),
            Place::ById(id) => by_id(id),
        };
        path.expect("Cyrus has a path")
    }
}

fn answers() -> impl Iterator<Item = Answer> {
    include_str!("fixtures/paths/mbpath.tsv").lines().map(|line| {
        let columns: Vec<&str> = line.split('\t').collect();
        let columns: [&str; 12] = columns.try_into().expect("twelve columns");
        let [hashed, full, virtdomains, separator, name, external, rest @ ..] = columns;
        let [owner, place, inbox_place, directory, subscriptions, sieve] = rest;
        let names = NameRules {
            virtdomains: virtdomains != "off",
            separator: if separator == "/" { Separator::Slash } else { Separator::Dot },
            ..NameRules::v3()
        };
        let dirhash = if full == "fulldirhash" { DirHash::Full } else { DirHash::Simple };
        let known = |column| Some(column).filter(|column| *column != "-");
        Answer {
            rules: PathRules { names, hashimapspool: hashed == "hashimapspool", dirhash },
            name: name.into(),
            external: known(external),
            owner: known(owner).map(Userid::from),
            place: Place::read(place),
            inbox_place: Place::read(inbox_place),
            directory,
            subscriptions: known(subscriptions),
            sieve: known(sieve),
        }
    })
}

#[test]
fn external_names_and_owners_are_those_of_cyrus() {
    let mut compared = 0;
    for Answer { rules, name, external, owner, .. } in answers() {
        assert_eq!(rules.names.owner(&name), owner, "{name}");
        let Some(external) = external else { continue };
        assert_eq!(rules.names.to_external(&name).as_deref(), Ok(external.as_bytes()));
        assert_eq!(rules.names.from_external(external.as_bytes()), Ok(name));
        compared += 1;
    }
    assert!(compared > 100, "only {compared} compared");
}

#[test]
fn mailbox_directories_are_those_of_cyrus() {
    for Answer { rules, name, place, directory, .. } in answers() {
        let found =
            place.path(|| rules.mailbox_dir_by_name(&name), |id| rules.mailbox_dir_by_id(id));
        assert_eq!(found, Path::new(directory), "{name} with {rules:?}");
    }
}

#[test]
fn account_files_are_those_of_cyrus() {
    let mut compared = 0;
    for Answer { rules, owner, inbox_place, subscriptions, sieve, .. } in answers() {
        let (Some(owner), Some(subscriptions), Some(sieve)) = (owner, subscriptions, sieve) else {
            continue;
        };
        let found = inbox_place.path(
            || rules.user_file_by_name(&owner, "sub"),
            |inbox| rules.user_file_by_id(inbox, "sub"),
        );
        assert_eq!(found, Path::new(subscriptions), "{owner} with {rules:?}");
        let found = inbox_place
            .path(|| rules.sieve_dir_by_name(&owner), |inbox| rules.sieve_dir_by_id(inbox));
        assert_eq!(found, Path::new(sieve), "{owner} with {rules:?}");
        compared += 1;
    }
    assert!(compared > 100, "only {compared} compared");
}
