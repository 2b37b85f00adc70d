//! What belongs to an account besides mail.

use cyrus_format::annotations::{Annotation, AnnotationDb, AnnotationKey};
use cyrus_format::db;
use cyrus_format::names::{NameEra, NameRules};
use cyrus_format::quota::Quota;
use cyrus_format::seen::{Seen, UidSet};
use cyrus_format::sieve::{SieveFile, active_script, active_target, script_file};
use cyrus_format::subs::{SubsVersion, Subscriptions};
use model::Userid;

/// A database of annotations: its keys, and its values, written back.
pub(super) fn annotations(bytes: &[u8]) {
    check_annotation(bytes);
    let Ok(database) = db::read(bytes) else { return };
    for (key, value) in &database.entries {
        for kind in [AnnotationDb::Global, AnnotationDb::Messages] {
            if let Ok(parsed) = AnnotationKey::parse(kind, key) {
                let again = AnnotationKey::parse(kind, &parsed.write());
                assert_eq!(again.as_ref(), Ok(&parsed));
            }
        }
        check_annotation(value);
    }
}

fn check_annotation(value: &[u8]) {
    let Ok(annotation) = Annotation::parse(value) else { return };
    assert!(annotation.value.len() <= value.len());
    // The same bytes may stand for the words of more than one kind of host.
    let again = Annotation::parse(&annotation.write()).expect("what was written is a value");
    assert_eq!(again.value, annotation.value);
}

/// The value of a quota root, written back.
pub(super) fn quota(bytes: &[u8]) {
    let Ok(quota) = Quota::parse(bytes) else { return };
    assert_eq!(Quota::parse(&quota.to_dlist()).as_ref(), Ok(&quota));
    Quota::parse(&quota.to_lines()).expect("what was written is a quota");
}

/// A seen state, and a set of UIDs, written back.
pub(super) fn seen(bytes: &[u8]) {
    if let Ok(seen) = Seen::parse(bytes) {
        assert_eq!(Seen::parse(&seen.write()).as_ref(), Ok(&seen));
    }
    let Ok(set) = UidSet::parse(bytes) else { return };
    assert_eq!(UidSet::parse(set.write().as_bytes()).as_ref(), Ok(&set));
    let mut before = None;
    for (first, last) in set.ranges() {
        assert!(first <= last && before.is_none_or(|before| first.0 > before));
        assert!(set.contains(first) && set.contains(last));
        before = Some(last.0);
    }
}

/// A database of subscriptions, written back.
pub(super) fn subscriptions(bytes: &[u8]) {
    let Ok(database) = db::read(bytes) else { return };
    let userid = Userid::from("glad");
    for rules in [NameRules::v2(), NameRules::v3()] {
        let entries = database.entries.iter().map(|(key, value)| (&**key, &**value));
        let Ok(subs) = Subscriptions::parse(entries, &userid, &rules) else { continue };
        assert!(subs.mailboxes.is_sorted_by(|a, b| a < b));
        // Names of 2.x have no other form, so no such release wrote a version.
        if rules.era == NameEra::V2 && subs.version != SubsVersion::Names {
            continue;
        }
        let Ok(written) = subs.write(&userid, &rules) else { continue };
        let records = written.iter().map(|(key, value)| (&**key, &**value));
        let again = Subscriptions::parse(records, &userid, &rules).expect("a known version");
        assert_eq!(again.mailboxes, subs.mailboxes);
    }
}

/// The name of a file in a sieve directory, or of a script, must not lead elsewhere.
pub(super) fn sieve_names(bytes: &[u8]) {
    let (SieveFile::Script(name) | SieveFile::Bytecode(name)) = SieveFile::of(bytes) else {
        return;
    };
    // A script may be called `..`; no file is, as each has a suffix.
    let is_plain = |name: &[u8]| !name.contains(&b'/') && !name.contains(&0) && name != b"..";
    for made in [active_target(name), script_file(name)].into_iter().flatten() {
        assert!(is_plain(&made), "{made:?}");
    }
    if let Some(script) = active_script(bytes) {
        assert!(!script.contains(&b'/') && !script.contains(&0), "{script:?}");
        assert!(active_target(script).is_some_and(|target| is_plain(&target)), "{script:?}");
    }
}
