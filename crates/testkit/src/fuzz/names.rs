//! Mailbox names and the paths made of them.

use std::path::{Component, Path};

use cyrus_format::names::{NameEra, NameRules, Separator};
use cyrus_format::paths::{DirHash, PathRules};
use model::{MboxName, UniqueId, Userid};

/// A byte of options, then a name in each of its forms.
pub(super) fn mailbox_names(bytes: &[u8]) {
    let Some((options, name)) = bytes.split_first() else { return };
    let names = rules(*options);
    let internal = MboxName::new(name);
    // Cyrus 2.x has no names of that form.
    if names.era == NameEra::V3
        && let Ok(dbname) = names.to_dbname(&internal)
    {
        assert_eq!(names.from_dbname(&dbname).as_ref(), Ok(&internal), "dbname {dbname:?}");
    }
    if let Ok(parts) = names.parts(&internal) {
        assert_eq!(names.internal(&parts), internal, "parts {parts:?}");
    }
    if let Ok(external) = names.to_external(&internal) {
        assert_eq!(names.from_external(&external).as_ref(), Ok(&internal), "{external:?}");
    }
    for found in [names.from_dbname(name), names.from_external(name)].into_iter().flatten() {
        names.owner(&found);
        names.is_deleted(&found);
    }
    check_paths(
        PathRules {
            names,
            hashimapspool: options & 8 != 0,
            dirhash: if options & 16 != 0 { DirHash::Full } else { DirHash::Simple },
        },
        name,
    );
}

fn rules(options: u8) -> NameRules {
    let mut rules = if options & 1 != 0 { NameRules::v2() } else { NameRules::v3() };
    rules.virtdomains = options & 2 != 0;
    rules.separator = if options & 4 != 0 { Separator::Slash } else { Separator::Dot };
    rules
}

/// Every path must stay below the directory that it is meant for.
fn check_paths(paths: PathRules, name: &[u8]) {
    let (mailbox, user, id) = (MboxName::new(name), Userid::new(name), UniqueId::new(name));
    let made = [
        paths.mailbox_dir_by_name(&mailbox),
        paths.mailbox_dir_by_id(&id),
        paths.user_file_by_name(&user, "seen"),
        paths.user_file_by_id(&id, "seen"),
        paths.quota_file(&mailbox),
        paths.sieve_dir_by_name(&user),
        paths.sieve_dir_by_id(&id),
        paths.lock_file(name),
    ];
    for path in made.into_iter().flatten() {
        assert!(stays_below(&path), "{path:?}");
    }
}

fn stays_below(path: &Path) -> bool {
    let plain = |component| matches!(component, Component::Normal(_));
    path.components().next().is_some()
        && path.components().all(plain)
        && !path.as_os_str().as_encoded_bytes().contains(&0)
}
