//! Subscriptions: the records of an account's `sub` database (`imap/mboxlist.c`).
//!
//! | version | written by | key |
//! |---|---|---|
//! | none | up to 3.4 | internal name |
//! | 2 | 3.6 to 3.10 | `N`, dbname; what begins like the account's own INBOX begins with `INBOX` |
//! | 3 | 3.12 and later | the same, but only at the end of a component |
//!
//! Version 2 writes `user.glad2` as `INBOX2` if `glad` has subscribed to it. That is read back
//! as it was meant, which 3.12 does as well when it converts the file.

use model::{MboxName, Userid};

use crate::names::{DB_SEPARATOR, NameError, NameRules};

/// The key under which the version stands.
const VERSION_KEY: &[u8] = b"\x1fVER\x1f";

/// How the own INBOX begins.
const INBOX: &[u8] = b"INBOX";

/// A key and its value.
type DbRecord = (Vec<u8>, Vec<u8>);

/// How the records are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SubsVersion {
    /// Up to 3.4, and there is no number.
    Names,
    /// 3.6 to 3.10.
    V2,
    /// 3.12 and later.
    V3,
}

/// What an account is subscribed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscriptions {
    /// How the records were written.
    pub version: SubsVersion,
    /// The mailboxes, sorted. Whether they exist is another question.
    pub mailboxes: Vec<MboxName>,
    /// Keys that make no sense, and why.
    pub unreadable: Vec<(Vec<u8>, String)>,
}

/// A version that nobody has heard of; its records are not guessed at.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("subscriptions: version \"{0}\" is not known")]
pub struct UnknownVersion(pub String);

impl Subscriptions {
    /// Reads the records of an account's `sub` database.
    ///
    /// # Errors
    /// A version that is not known.
    pub fn parse<'a>(
        records: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
        userid: &Userid,
        rules: &NameRules,
    ) -> Result<Self, UnknownVersion> {
        let records: Vec<_> = records.into_iter().collect();
        let version = records.iter().find(|(key, _)| *key == VERSION_KEY);
        let version = match version.map(|(_, value)| *value) {
            None => SubsVersion::Names,
            Some(b"2") => SubsVersion::V2,
            Some(b"3") => SubsVersion::V3,
            Some(other) => {
                return Err(UnknownVersion(String::from_utf8_lossy(other).into_owned()));
            }
        };
        let mut subs = Self { version, mailboxes: Vec::new(), unreadable: Vec::new() };
        for (key, _) in records.into_iter().filter(|(key, _)| *key != VERSION_KEY) {
            match subs.mailbox(key, userid, rules) {
                Ok(name) => subs.mailboxes.push(name),
                Err(error) => subs.unreadable.push((key.to_vec(), error.to_string())),
            }
        }
        subs.mailboxes.sort();
        subs.mailboxes.dedup();
        Ok(subs)
    }

    /// The records for these mailboxes, as the version at hand writes them, in no order.
    ///
    /// # Errors
    /// A name without a dbname.
    pub fn write(&self, userid: &Userid, rules: &NameRules) -> Result<Vec<DbRecord>, NameError> {
        let version = match self.version {
            SubsVersion::Names => {
                let names = self.mailboxes.iter().map(|name| name.as_bytes().to_vec());
                return Ok(names.map(|name| (name, Vec::new())).collect());
            }
            SubsVersion::V2 => b"2",
            SubsVersion::V3 => b"3",
        };
        let inbox = rules.to_dbname(&rules.inbox_of(userid)?)?;
        let mut records = vec![(VERSION_KEY.to_vec(), version.to_vec())];
        for name in &self.mailboxes {
            let dbname = rules.to_dbname(name)?;
            let own = dbname.strip_prefix(inbox.as_slice());
            let key = match own.filter(|rest| self.follows_inbox(rest)) {
                Some(rest) => [b"N", INBOX, rest].concat(),
                None => [b"N", dbname.as_slice()].concat(),
            };
            records.push((key, Vec::new()));
        }
        Ok(records)
    }

    fn mailbox(
        &self,
        key: &[u8],
        userid: &Userid,
        rules: &NameRules,
    ) -> Result<MboxName, KeyError> {
        if self.version == SubsVersion::Names {
            let name = MboxName::new(key);
            rules.parts(&name)?;
            return Ok(name);
        }
        let dbname = key.strip_prefix(b"N").ok_or(KeyError::Kind)?;
        match dbname.strip_prefix(INBOX).filter(|rest| self.follows_inbox(rest)) {
            Some(rest) => {
                let inbox = rules.to_dbname(&rules.inbox_of(userid)?)?;
                Ok(rules.from_dbname(&[inbox.as_slice(), rest].concat())?)
            }
            None => Ok(rules.from_dbname(dbname)?),
        }
    }

    /// Whether what follows makes `INBOX` the own one.
    fn follows_inbox(&self, rest: &[u8]) -> bool {
        self.version == SubsVersion::V2 || matches!(rest, [] | [DB_SEPARATOR, ..])
    }
}

/// Why a key is unreadable.
#[derive(Debug, thiserror::Error)]
enum KeyError {
    #[error(transparent)]
    Name(#[from] NameError),
    #[error("it does not begin with N")]
    Kind,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(keys: &[&[u8]], version: Option<&[u8]>) -> Result<Subscriptions, UnknownVersion> {
        let version = version.map(|version| (VERSION_KEY, version));
        let records = keys.iter().map(|key| (*key, b"".as_slice())).chain(version);
        Subscriptions::parse(records, &"glad".into(), &NameRules::v3())
    }

    fn names(subs: &Subscriptions) -> Vec<String> {
        subs.mailboxes.iter().map(MboxName::to_string).collect()
    }

    #[test]
    fn internal_names_up_to_3_4() {
        let subs = read(&[b"user.glad.x", b"user.glad", b"other.com!user.a^b"], None);
        let subs = subs.expect("no version");
        assert_eq!(subs.version, SubsVersion::Names);
        assert_eq!(names(&subs), ["other.com!user.a^b", "user.glad", "user.glad.x"]);
    }

    #[test]
    fn version_2_is_read_as_it_was_meant() {
        let keys: [&[u8]; 5] = [
            b"NINBOX",
            b"NINBOX\x1fSent.old",
            b"NINBOX2\x1fShared",
            b"Nshared\x1flist",
            b"Nuser\x1fbob",
        ];
        let subs = read(&keys, Some(b"2")).expect("a known version");
        assert_eq!(
            names(&subs),
            ["shared.list", "user.bob", "user.glad", "user.glad.Sent^old", "user.glad2.Shared"]
        );
        let again = subs.write(&"glad".into(), &NameRules::v3()).expect("good names");
        let mut written: Vec<_> = again.iter().map(|(key, _)| key.as_slice()).collect();
        written.sort_unstable();
        let mut expected = keys.to_vec();
        expected.push(VERSION_KEY);
        expected.sort_unstable();
        assert_eq!(written, expected);
    }

    #[test]
    fn version_3_needs_a_separator() {
        let keys: [&[u8]; 3] = [b"NINBOX\x1fSent", b"NINBOX2", b"Nuser\x1fglad2"];
        let subs = read(&keys, Some(b"3")).expect("a known version");
        assert_eq!(names(&subs), ["INBOX2", "user.glad.Sent", "user.glad2"]);
        let again = subs.write(&"glad".into(), &NameRules::v3()).expect("good names");
        assert!(keys.iter().all(|key| again.contains(&(key.to_vec(), Vec::new()))), "{again:?}");
    }

    #[test]
    fn what_makes_no_sense_is_kept_apart() {
        let subs = read(&[b"user..x", b"user.glad"], None).expect("no version");
        assert_eq!(subs.unreadable.len(), 1);
        let subs = read(&[b"Xuser", b"N", b"NINBOX\x1f", b"NINBOX"], Some(b"3"));
        let subs = subs.expect("a known version");
        assert_eq!((names(&subs), subs.unreadable.len()), (vec!["user.glad".to_owned()], 3));
        assert_eq!(read(&[], Some(b"4")), Err(UnknownVersion("4".to_owned())));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            parts in prop::collection::vec(prop::collection::vec("(user|glad|glad2|INBOX|[a-z^]{1,4})", 1..5), 0..8),
            version in prop::sample::select(vec![SubsVersion::Names, SubsVersion::V2, SubsVersion::V3]),
        ) {
            let mut mailboxes: Vec<MboxName> =
                parts.iter().map(|parts| MboxName::from(parts.join(".").as_str())).collect();
            mailboxes.sort();
            mailboxes.dedup();
            // Version 2 cannot tell a shared mailbox INBOX-something from a neighbour's.
            mailboxes.retain(|name| !name.as_bytes().starts_with(INBOX));
            let subs = Subscriptions { version, mailboxes, unreadable: Vec::new() };
            let (userid, rules) = (Userid::from("glad"), NameRules::v3());
            let records = subs.write(&userid, &rules).expect("good names");
            let records = records.iter().map(|(key, value)| (key.as_slice(), value.as_slice()));
            prop_assert_eq!(Subscriptions::parse(records, &userid, &rules), Ok(subs));
        }

        #[test]
        fn no_bytes_panic(keys in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..5)) {
            for version in [None, Some(b"2".as_slice()), Some(b"3")] {
                let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).filter(|key| *key != VERSION_KEY).collect();
                let subs = read(&keys, version).expect("a known version");
                prop_assert!(subs.mailboxes.len() + subs.unreadable.len() <= keys.len());
            }
        }
    }
}
