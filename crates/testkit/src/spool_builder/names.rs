//! Where a mailbox of a given internal name lies, and what its owner is called: written down once
//! more here, so that the crate under test is not its own judge.

use std::path::{Path, PathBuf};

/// An internal name taken apart: `other.test!user.ann.x`.
#[derive(Clone, Debug)]
pub(super) struct Name<'a> {
    pub domain: Option<&'a str>,
    pub components: Vec<&'a str>,
}

impl<'a> Name<'a> {
    pub fn of(internal: &'a str) -> Self {
        let (domain, local) = match internal.split_once('!') {
            Some((domain, local)) => (Some(domain), local),
            None => (None, internal),
        };
        Self { domain, components: local.split('.').collect() }
    }

    /// The user whose mailbox it is, as he logs in.
    pub fn owner(&self) -> Option<String> {
        let own = match self.components.as_slice() {
            ["DELETED", rest @ ..] => rest,
            all => all,
        };
        let ["user", local, ..] = own else { return None };
        let local = local.replace('^', ".");
        Some(self.domain.map_or_else(|| local.clone(), |domain| format!("{local}@{domain}")))
    }

    /// The data directory below a partition, before Cyrus 3.6.
    pub fn directory(&self, hashed: bool) -> PathBuf {
        let mut path = self.domain_directory(hashed);
        if hashed {
            let [first, ..] = self.components.as_slice() else { return path };
            path.push(letter(self.components.get(1).unwrap_or(first)));
        }
        path.extend(&self.components);
        path
    }

    /// The key in mailboxes.db since 3.6: dots are dots, and levels end in 0x1F.
    pub fn database_name(&self) -> String {
        let local = self.components.join("\x1f").replace('^', ".");
        self.domain.map_or_else(|| local.clone(), |domain| format!("{domain}\x1d{local}"))
    }

    fn domain_directory(&self, hashed: bool) -> PathBuf {
        let Some(domain) = self.domain else { return PathBuf::new() };
        let path = PathBuf::from("domain");
        if hashed { path.join(letter(domain)).join(domain) } else { path.join(domain) }
    }
}

/// A file that belongs to a user, before Cyrus 3.6. The letters are there whatever the options.
pub(super) fn user_file(configuration: &Path, userid: &str, suffix: &str) -> PathBuf {
    let (local, domain) = userid.split_once('@').map_or((userid, None), |(l, d)| (l, Some(d)));
    let mut path = configuration.to_owned();
    if let Some(domain) = domain {
        path.extend(["domain", &letter(domain), domain]);
    }
    path.join("user").join(letter(local)).join(format!("{local}.{suffix}"))
}

/// The file of a quota root, an internal name.
pub(super) fn quota_file(configuration: &Path, root: &str) -> PathBuf {
    let name = Name::of(root);
    let mut path = configuration.to_owned();
    if let Some(domain) = name.domain {
        path.extend(["domain", &letter(domain), domain]);
    }
    let hashed = name.components.get(1).or(name.components.first()).copied().unwrap_or_default();
    path.join("quota").join(letter(hashed)).join(name.components.join("."))
}

/// The directory of a uniqueid below a partition or `user`, since Cyrus 3.6.
pub(super) fn directory_of_id(id: &str) -> PathBuf {
    PathBuf::from("uuid").join(&id[..1]).join(&id[1..2]).join(id)
}

/// The directory that spreads names by their first letter; `q` where it is none.
fn letter(name: &str) -> String {
    let first = name.chars().next().filter(char::is_ascii_alphabetic).unwrap_or('q');
    first.to_ascii_lowercase().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_where_cyrus_puts_them() {
        let check = |name: &str, hashed: &str, plain: &str, owner: Option<&str>| {
            let name = Name::of(name);
            assert_eq!(name.directory(true), Path::new(hashed));
            assert_eq!(name.directory(false), Path::new(plain));
            assert_eq!(name.owner().as_deref(), owner);
        };
        check("user.glad.Sent", "g/user/glad/Sent", "user/glad/Sent", Some("glad"));
        check("user.fred^smith", "f/user/fred^smith", "user/fred^smith", Some("fred.smith"));
        check("shared", "s/shared", "shared", None);
        check(
            "other.test!user.ann",
            "domain/o/other.test/a/user/ann",
            "domain/other.test/user/ann",
            Some("ann@other.test"),
        );
        check(
            "DELETED.user.glad.x.6B0450F1",
            "u/DELETED/user/glad/x/6B0450F1",
            "DELETED/user/glad/x/6B0450F1",
            Some("glad"),
        );
        assert_eq!(Name::of("o.t!user.a^b.c").database_name(), "o.t\x1duser\x1fa.b\x1fc");
    }
}
