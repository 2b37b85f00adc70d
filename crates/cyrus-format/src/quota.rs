//! Quotas: what a root has used and may use (`imap/quota_db.c`).
//!
//! With the backend `quotalegacy` each root has a file of its own, which is the value below;
//! else the values stand in quotas.db under the name of the root.

use model::Modseq;

use crate::dlist::Dlist;
use crate::error::FormatError;

const WHAT: &str = "quota";

/// The kinds of resources, in the order in which Cyrus writes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resource {
    /// Message bytes; the limit is in KiB.
    Storage,
    /// Messages.
    Messages,
    /// Annotation bytes; the limit is in KiB.
    AnnotationStorage,
    /// Folders.
    Folders,
}

impl Resource {
    /// Every one.
    pub const ALL: [Resource; 4] =
        [Resource::Storage, Resource::Messages, Resource::AnnotationStorage, Resource::Folders];

    /// Its name in the value.
    pub fn key(self) -> &'static str {
        match self {
            Resource::Storage => "S",
            Resource::Messages => "M",
            Resource::AnnotationStorage => "AS",
            Resource::Folders => "NF",
        }
    }
}

/// What a root has used of one resource, and may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// In the resource's unit; never below nothing, except after mistakes of old versions.
    pub used: i64,
    /// `None` is unlimited.
    pub limit: Option<u64>,
}

/// The value of one quota root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    usages: [Usage; 4],
    /// When it last changed, in the account's counting (3.0+).
    pub modseq: Option<Modseq>,
    /// A recount that is under way, as it stands there.
    pub scan: Option<Dlist>,
}

impl Quota {
    /// What is used of a resource, and its limit.
    pub fn usage(&self, resource: Resource) -> Usage {
        self.usages[resource as usize]
    }

    /// Sets both.
    pub fn set(&mut self, resource: Resource, usage: Usage) {
        self.usages[resource as usize] = usage;
    }

    /// Reads a value of any version: a dlist (2.5+), or numbers with blanks between them.
    ///
    /// # Errors
    /// [`FormatError::Damaged`] for anything else.
    pub fn parse(value: &[u8]) -> Result<Self, FormatError> {
        match value.starts_with(b"%") {
            true => parse_dlist(value.trim_ascii_end()),
            false => parse_text(value),
        }
    }

    /// The value as 2.5 and later write it, without the line end of a file of its own. Versions
    /// before 3.0 ignore what they do not know of it.
    pub fn to_dlist(&self) -> Vec<u8> {
        let list = |usage: Usage| {
            let mut items = vec![Dlist::bytes(usage.used.to_string())];
            items.extend(usage.limit.map(Dlist::num));
            Dlist::List(items)
        };
        let mut pairs: Vec<(Vec<u8>, Dlist)> = Resource::ALL
            .iter()
            .map(|resource| (resource.key().into(), list(self.usage(*resource))))
            .collect();
        pairs.extend(self.scan.clone().map(|scan| (b"SCAN".to_vec(), scan)));
        pairs.extend(self.modseq.map(|modseq| (b"MODSEQ".to_vec(), Dlist::num(modseq.0))));
        Dlist::Kv(pairs).to_vec()
    }

    /// The file as 2.4 and before write it: storage only, on two lines.
    pub fn to_lines(&self) -> Vec<u8> {
        let Usage { used, limit } = self.usage(Resource::Storage);
        let limit = limit.map_or("-1".to_owned(), |limit| limit.to_string());
        format!("{used}\n{limit}\n").into_bytes()
    }
}

fn parse_dlist(value: &[u8]) -> Result<Quota, FormatError> {
    let list = Dlist::parse_exact(value)?;
    let mut quota = Quota::default();
    for resource in Resource::ALL {
        let items = list.get(resource.key().as_bytes()).and_then(Dlist::items).unwrap_or_default();
        let mut numbers = items.iter().map(|item| {
            let text = item.as_bytes().unwrap_or_default();
            number(text).ok_or_else(|| damaged(0, resource.key(), "holds something but numbers"))
        });
        let used = numbers.next().transpose()?.unwrap_or(0);
        let limit = numbers.next().transpose()?.and_then(limited);
        quota.set(resource, Usage { used, limit });
    }
    quota.scan = list.get(b"SCAN").cloned();
    quota.modseq = list.get(b"MODSEQ").and_then(Dlist::as_num).map(Modseq);
    Ok(quota)
}

/// `used limit [M used limit ...]`; after any pair may stand one more number, which a recount
/// that failed left there.
fn parse_text(value: &[u8]) -> Result<Quota, FormatError> {
    let mut words = value.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let mut words = words.by_ref().peekable();
    let mut quota = Quota::default();
    let mut resource = Resource::Storage;
    loop {
        let used = words.next().and_then(number);
        let limit = words.next().and_then(number);
        let (Some(used), Some(limit)) = (used, limit) else {
            return Err(damaged(value.len(), resource.key(), "lacks two numbers"));
        };
        quota.set(resource, Usage { used, limit: limited(limit) });
        words.next_if(|word| number(word).is_some());
        let Some(name) = words.next() else {
            return Ok(quota);
        };
        let known = |resource: &Resource| name.eq_ignore_ascii_case(resource.key().as_bytes());
        let name = String::from_utf8_lossy(name);
        resource = Resource::ALL
            .into_iter()
            .find(known)
            .ok_or_else(|| damaged(value.len(), &name, "is no resource"))?;
    }
}

fn number(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Any negative limit is none.
fn limited(limit: i64) -> Option<u64> {
    u64::try_from(limit).ok()
}

fn damaged(offset: usize, word: &str, detail: &str) -> FormatError {
    FormatError::Damaged { what: WHAT, offset: offset as u64, detail: format!("{word} {detail}") }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn used(used: i64, limit: impl Into<Option<u64>>) -> Usage {
        Usage { used, limit: limit.into() }
    }

    #[test]
    fn a_file_of_a_real_server() {
        let file = b"%(S (108219 200000) M (92 5000) AS (28) NF (8) MODSEQ 159)\n";
        let quota = Quota::parse(file).expect("it is whole");
        assert_eq!(quota.usage(Resource::Storage), used(108_219, 200_000));
        assert_eq!(quota.usage(Resource::Messages), used(92, 5000));
        assert_eq!(quota.usage(Resource::AnnotationStorage), used(28, None));
        assert_eq!(quota.usage(Resource::Folders), used(8, None));
        assert_eq!(quota.modseq, Some(Modseq(159)));
        assert_eq!(quota.to_dlist(), file.trim_ascii_end());
    }

    #[test]
    fn files_of_older_versions() {
        let quota = Quota::parse(b"108219\n200000\n").expect("2.3");
        assert_eq!(quota.usage(Resource::Storage), used(108_219, 200_000));
        assert_eq!(quota.to_lines(), b"108219\n200000\n");
        let quota = Quota::parse(b"0 -1").expect("unlimited");
        assert_eq!(quota.usage(Resource::Storage), used(0, None));
        assert_eq!(quota.to_lines(), b"0\n-1\n");
        let quota = Quota::parse(b"5 10 77 M 3 -1 as 4 8").expect("2.5, with a recount's remains");
        assert_eq!(quota.usage(Resource::Storage), used(5, 10));
        assert_eq!(quota.usage(Resource::Messages), used(3, None));
        assert_eq!(quota.usage(Resource::AnnotationStorage), used(4, 8));
        assert_eq!(quota.modseq, None);
    }

    #[test]
    fn a_recount_under_way_is_kept() {
        let value = b"%(S (1 2) M (0) AS (0) NF (0) SCAN %(MBOX user.glad S 5) MODSEQ 9)";
        let quota = Quota::parse(value).expect("it is whole");
        assert!(quota.scan.is_some());
        assert_eq!(quota.to_dlist(), value);
    }

    #[test]
    fn what_is_no_quota_is_said_to_be_none() {
        for value in [
            "",
            "5",
            "x 1",
            "5 x",
            "5 10 X 1 2",
            "5 10 M",
            "5 10 M 1",
            "%(S (a))",
            "%(S (1 b))",
            "%(S (1",
        ] {
            let parsed = Quota::parse(value.as_bytes());
            assert!(matches!(parsed, Err(FormatError::Damaged { .. })), "{value:?}: {parsed:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            numbers in prop::array::uniform4((any::<i64>(), prop::option::of(0..=i64::MAX.unsigned_abs()))),
            modseq in prop::option::of(any::<u64>()),
        ) {
            let mut quota = Quota { modseq: modseq.map(Modseq), ..Quota::default() };
            for (resource, (used, limit)) in Resource::ALL.into_iter().zip(numbers) {
                quota.set(resource, Usage { used, limit });
            }
            prop_assert_eq!(Quota::parse(&quota.to_dlist()), Ok(quota.clone()));
            let old = Quota::parse(&quota.to_lines()).expect("just written");
            prop_assert_eq!(old.usage(Resource::Storage), quota.usage(Resource::Storage));
        }

        #[test]
        fn no_bytes_panic(value in prop::collection::vec(any::<u8>(), 0..60)) {
            let list = [b"%(S (", value.as_slice(), b") MODSEQ 1)"].concat();
            for value in [value, list] {
                if let Ok(quota) = Quota::parse(&value) {
                    prop_assert_eq!(Quota::parse(&quota.to_dlist()), Ok(quota));
                }
            }
        }
    }
}
