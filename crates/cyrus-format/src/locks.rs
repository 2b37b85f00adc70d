//! The names of locks (`imap/mboxname.c`, `imap/user.c`).
//!
//! A lock name becomes a file through [`PathRules::lock_file`](crate::paths::PathRules::lock_file).

use model::{MboxName, UniqueId, Userid};

use crate::names::{NameError, NameRules};

/// Releases that lock alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LockEra {
    /// Up to 2.3: record locks on cyrus.header, cyrus.index and cyrus.expunge, no lock files.
    V23,
    /// 2.4 to 3.0: one lock file a mailbox, by name.
    V24,
    /// 3.2: and one a user, taken exclusively around changes of structure only.
    V32,
    /// 3.4: the user lock is taken on every open, shared or exclusive.
    V34,
    /// 3.6 to 3.10: mailbox locks by uniqueid, by name where the directory is.
    V36,
    /// 3.12 and later: user locks by the name of the INBOX, and a lock of the whole server.
    V312,
}

/// The lock of the whole server, since 3.12 with `global_lock`.
pub const GLOBAL: &[u8] = b"$GLOBAL";

/// Serialises changes of quota roots (2.5+).
pub const QUOTA_CHANGE: &[u8] = b"$QUOTACHANGE";

impl LockEra {
    /// The lock name of a mailbox; `None` where there is no such lock, or no id to name it by.
    pub fn mailbox_lock(self, mailbox: &LockedMailbox<'_>) -> Option<Vec<u8>> {
        match self {
            LockEra::V23 => None,
            LockEra::V24 | LockEra::V32 | LockEra::V34 => Some(mailbox.name.as_bytes().to_vec()),
            LockEra::V36 | LockEra::V312 if mailbox.by_name => {
                Some(mailbox.name.as_bytes().to_vec())
            }
            LockEra::V36 | LockEra::V312 => {
                mailbox.uniqueid.filter(|id| !id.is_empty()).map(|id| id.as_bytes().to_vec())
            }
        }
    }

    /// The lock name of a user; for `None`, of the mailboxes that nobody owns. `Ok(None)` where
    /// there is no such lock.
    ///
    /// # Errors
    /// 3.12+: a userid without a mailbox name.
    pub fn user_lock(
        self,
        rules: &NameRules,
        userid: Option<&Userid>,
    ) -> Result<Option<Vec<u8>>, NameError> {
        let mut lock = b"*U*".to_vec();
        match (self, userid) {
            (LockEra::V23 | LockEra::V24, _) => return Ok(None),
            (_, None) => {}
            (LockEra::V32 | LockEra::V34 | LockEra::V36, Some(userid)) => {
                let escape = |byte: &u8| if *byte == b'.' { b'^' } else { *byte };
                lock.extend(userid.as_bytes().iter().map(escape));
            }
            (LockEra::V312, Some(userid)) => {
                lock.extend_from_slice(rules.inbox_of(userid)?.as_bytes());
            }
        }
        Ok(Some(lock))
    }

    /// Whether the user lock stops changes of messages, and not only of the folders: since 3.4, but
    /// for `None`, the mailboxes that nobody owns, since 3.12 (`imap/mailbox.c`:
    /// mailbox_open_advanced).
    pub fn user_lock_covers_content(self, userid: Option<&Userid>) -> bool {
        match userid {
            Some(_) => self >= LockEra::V34,
            None => self >= LockEra::V312,
        }
    }

    /// The lock names that a release of unknown number between 3.2 and today may use for a user,
    /// oldest first. Holding all of them is safe: none means anything else.
    ///
    /// # Errors
    /// A userid without a mailbox name.
    pub fn user_lock_candidates(
        rules: &NameRules,
        userid: Option<&Userid>,
    ) -> Result<Vec<Vec<u8>>, NameError> {
        let mut names = Vec::new();
        for era in [LockEra::V36, LockEra::V312] {
            names.extend(era.user_lock(rules, userid)?);
        }
        names.dedup();
        Ok(names)
    }
}

/// What the lock of a mailbox is named by.
#[derive(Clone, Copy, Debug)]
pub struct LockedMailbox<'a> {
    /// Its internal name.
    pub name: &'a MboxName,
    /// Its identity.
    pub uniqueid: Option<&'a UniqueId>,
    /// Whether its directory is placed by name (3.6+: type `l`).
    pub by_name: bool,
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::paths::{DirHash, PathRules};

    fn rules(hashimapspool: bool) -> PathRules {
        PathRules { names: NameRules::v3(), hashimapspool, dirhash: DirHash::Simple }
    }

    #[track_caller]
    fn check_user(era: LockEra, userid: Option<&str>, hashed: &str, plain: &str) {
        let userid = userid.map(Userid::from);
        for (rules, expected) in [(rules(true), hashed), (rules(false), plain)] {
            let lock = era.user_lock(&rules.names, userid.as_ref()).expect("a good name");
            let lock = lock.expect("this era has user locks");
            assert_eq!(rules.lock_file(&lock).expect("a good path"), Path::new(expected));
        }
    }

    #[test]
    fn user_locks_have_the_files_of_their_era() {
        for era in [LockEra::V32, LockEra::V34, LockEra::V36] {
            check_user(era, Some("glad"), "q/*U*glad.lock", "*U*glad.lock");
            check_user(era, Some("fred.smith"), "q/*U*fred^smith.lock", "*U*fred^smith.lock");
            check_user(
                era,
                Some("ann@other.com"),
                "q/*U*ann@other^com.lock",
                "*U*ann@other^com.lock",
            );
            check_user(era, None, "q/*U*.lock", "*U*.lock");
        }
        check_user(LockEra::V312, Some("glad"), "g/*U*user/glad.lock", "*U*user/glad.lock");
        check_user(
            LockEra::V312,
            Some("x@dom"),
            "domain/q/*U*dom/x/user/x.lock",
            "domain/*U*dom/user/x.lock",
        );
        check_user(LockEra::V312, None, "q/*U*.lock", "*U*.lock");
    }

    #[test]
    fn there_are_no_user_locks_before_3_2() {
        let userid = Userid::from("glad");
        for era in [LockEra::V23, LockEra::V24] {
            assert_eq!(era.user_lock(&NameRules::v2(), Some(&userid)), Ok(None));
            assert!(!era.user_lock_covers_content(Some(&userid)));
        }
        assert!(!LockEra::V32.user_lock_covers_content(Some(&userid)));
        assert!(LockEra::V34.user_lock_covers_content(Some(&userid)));
        assert!(!LockEra::V36.user_lock_covers_content(None));
        assert!(LockEra::V312.user_lock_covers_content(None));
    }

    #[test]
    fn mailbox_locks_are_named_by_what_places_the_directory() {
        let name = MboxName::from("user.glad.Sent");
        let id = UniqueId::from("c1fkpvrdaax34z2hoxb6fgjh");
        let digits = UniqueId::from("9abc");
        let mailbox = LockedMailbox { name: &name, uniqueid: Some(&id), by_name: false };
        let path = |era: LockEra, mailbox: LockedMailbox<'_>| {
            era.mailbox_lock(&mailbox).map(|lock| rules(true).lock_file(&lock).expect("good"))
        };
        assert_eq!(path(LockEra::V23, mailbox), None);
        for era in [LockEra::V24, LockEra::V32, LockEra::V34] {
            assert_eq!(path(era, mailbox).as_deref(), Some(Path::new("g/user/glad/Sent.lock")));
        }
        for era in [LockEra::V36, LockEra::V312] {
            let by_id = Path::new("c/c1fkpvrdaax34z2hoxb6fgjh.lock");
            assert_eq!(path(era, mailbox).as_deref(), Some(by_id));
            let legacy = LockedMailbox { by_name: true, ..mailbox };
            assert_eq!(path(era, legacy).as_deref(), Some(Path::new("g/user/glad/Sent.lock")));
            let odd = LockedMailbox { uniqueid: Some(&digits), ..mailbox };
            assert_eq!(path(era, odd).as_deref(), Some(Path::new("q/9abc.lock")));
            assert_eq!(path(era, LockedMailbox { uniqueid: None, ..mailbox }), None);
        }
    }

    #[test]
    fn the_servers_lock_is_a_name_like_any_other() {
        assert_eq!(rules(true).lock_file(GLOBAL), Ok("q/$GLOBAL.lock".into()));
        assert_eq!(rules(false).lock_file(QUOTA_CHANGE), Ok("$QUOTACHANGE.lock".into()));
    }

    #[test]
    fn candidates_hold_both_forms_once() {
        let userid = Userid::from("glad");
        let names = LockEra::user_lock_candidates(&NameRules::v3(), Some(&userid));
        assert_eq!(names, Ok(vec![b"*U*glad".to_vec(), b"*U*user.glad".to_vec()]));
        let shared = LockEra::user_lock_candidates(&NameRules::v3(), None);
        assert_eq!(shared, Ok(vec![b"*U*".to_vec()]));
    }
}
