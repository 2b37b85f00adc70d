//! Quotas that do not say what the account's mailboxes have.

use cyrus_format::quota::{Quota, Resource, Usage};
use model::{FindingKind, MboxName};
use spool::{Frozen, Rewriting, Server};

use super::change::{Field, Value, Why};
use super::tell::{Tell, Told};
use crate::audit::{QuotaSums, Subject, counts_all, quota_roots};

/// The fields of a quota, in the order of [`Resource::ALL`].
const NAMES: [&str; 4] = ["storage", "messages", "annotations", "mailboxes"];

/// What mailboxes come to once they are rewritten.
#[derive(Debug, Default)]
pub(super) struct Counted(QuotaSums);

impl Counted {
    /// Counts one more.
    pub fn add(&mut self, subject: &Subject, rewriting: Option<&Rewriting>) {
        let header = rewriting.and_then(|rewriting| rewriting.header.as_deref());
        let index = rewriting.and_then(|rewriting| rewriting.index.as_deref());
        let old = subject.files.get("cyrus.index").map(Vec::as_slice);
        self.0.add(&subject.name, header.or(subject.header()), index.or(old));
    }
}

/// What is to be done to quotas.
#[derive(Debug, Default)]
pub(super) struct Quotas {
    /// What their files are to hold, by root.
    pub files: Vec<(MboxName, Vec<u8>)>,
    pub changes: u64,
    pub left: u64,
}

/// Plans what they are to say.
pub(super) fn plan(
    server: &Server,
    frozen: &Frozen,
    counted: &Counted,
    sink: &mut dyn FnMut(Told<'_>),
) -> Quotas {
    let mut quotas = Quotas::default();
    let is_in_files = server.conf().quota_db() == b"quotalegacy";
    for (root, bytes) in quota_roots(frozen) {
        let mut tell = Tell::of(root, sink);
        match (Quota::parse(bytes.trim_ascii_end()), counted.0.of(root)) {
            // A recount that is under way says something else until it is done.
            (Ok(quota), Some(used)) if quota.scan.is_none() => {
                let (new, fields) = corrected(&quota, counts_all(bytes), &used);
                if !fields.is_empty() && is_in_files {
                    tell.change(None, Why::Quota, fields);
                    quotas.files.push((root.into(), bytes_of(&new, counts_all(bytes))));
                } else if !fields.is_empty() {
                    let detail = "quotas are in a database here: let Cyrus' quota -f correct it";
                    tell.wrong(FindingKind::QuotaUsage, detail);
                }
            }
            // What a mailbox has that cannot be read is not known.
            (Ok(_), _) => {}
            (Err(error), _) => {
                tell.wrong(FindingKind::MetadataUnreadable, error);
            }
        }
        quotas.changes += tell.changes;
        quotas.left += tell.left;
    }
    quotas
}

/// A quota that says what was counted, and what of it is new.
fn corrected(quota: &Quota, counts_all: bool, used: &[u64; 4]) -> (Quota, Vec<Field>) {
    let (mut new, mut fields) = (quota.clone(), Vec::new());
    for ((resource, name), used) in Resource::ALL.into_iter().zip(NAMES).zip(used) {
        if !counts_all && resource != Resource::Storage {
            continue;
        }
        let Usage { used: stored, limit } = quota.usage(resource);
        let used = i64::try_from(*used).unwrap_or(i64::MAX);
        if used != stored {
            fields.push(Field::new(name, Value::text(stored), Value::text(used)));
            new.set(resource, Usage { used, limit });
        }
    }
    (new, fields)
}

fn bytes_of(quota: &Quota, counts_all: bool) -> Vec<u8> {
    match counts_all {
        true => [quota.to_dlist(), b"\n".to_vec()].concat(),
        false => quota.to_lines(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_changes_and_limits_stay() {
        let quota = Quota::parse(b"%(S (100 500) M (3) AS (0) NF (2 9))").expect("a quota");
        let (new, fields) = corrected(&quota, true, &[90, 3, 0, 4]);
        let names: Vec<&str> = fields.iter().map(|field| field.name).collect();
        assert_eq!(names, ["storage", "mailboxes"]);
        assert_eq!(new.usage(Resource::Storage), Usage { used: 90, limit: Some(500) });
        let written = bytes_of(&new, true);
        assert_eq!(Quota::parse(written.trim_ascii_end()).expect("a quota"), new);
        let (old_new, fields) = corrected(&quota, false, &[90, 7, 0, 4]);
        assert_eq!(fields.len(), 1, "storage is all that 2.4 counts");
        assert_eq!(bytes_of(&old_new, false), b"90\n500\n");
    }
}
