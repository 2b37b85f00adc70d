//! In which order locks are taken: watched by strace, from outside.

use std::path::{Path, PathBuf};

use testkit::cyrus_or_skip;
use testkit::strace::{LockAction, LockCall, locks_or_skip};

use crate::account::Rich;
use crate::old_spool::build_2_3;
use crate::program::{CYLINDER, Snapshot};
use crate::restored::scratch;

/// Runs a snapshot under strace; the calls that succeeded, or `None` where there is no strace.
fn watch(test: &str, conf: &Path, account: &str, output: &Path) -> Option<Vec<LockCall>> {
    let snapshot = Snapshot::full(conf, account);
    let arguments = snapshot.arguments();
    let mut arguments: Vec<&str> =
        arguments.iter().map(|word| word.to_str().expect("plain")).collect();
    arguments.extend(["-o", output.to_str().expect("plain")]);
    let (mut calls, ended) = locks_or_skip(test, Path::new(CYLINDER), &arguments)?;
    assert!(ended.status.success(), "{ended:?}");
    calls.retain(|call| call.succeeded);
    for call in &calls {
        let sound = !matches!(call.action, LockAction::Flock)
            && !matches!(call.action, LockAction::Lock { ofd: false, .. });
        assert!(sound, "not a lock that Cyrus sees, or not one that survives a close: {call:?}");
        let exclusive = testkit::locks::LockMode::Exclusive;
        let writes = matches!(call.action, LockAction::Lock { mode, .. } if mode == exclusive);
        assert!(!writes, "a reader needs no exclusive lock: {call:?}");
    }
    Some(calls)
}

/// The files locked, in order, each time that they were.
fn locked(calls: &[LockCall]) -> Vec<&Path> {
    let locks = calls.iter().filter(|call| matches!(call.action, LockAction::Lock { .. }));
    locks.map(|call| call.path.as_path()).collect()
}

/// Where in the calls a file is first locked, and where it is last given back.
fn span(calls: &[LockCall], path: &Path) -> (usize, usize) {
    let own = || calls.iter().enumerate().filter(|(_, call)| call.path == path);
    let first = own().find(|(_, call)| matches!(call.action, LockAction::Lock { .. }));
    let last = own().rfind(|(_, call)| !matches!(call.action, LockAction::Lock { .. }));
    let found = first.zip(last).map(|((first, _), (last, _))| (first, last));
    found.unwrap_or_else(|| panic!("{} was not locked and given back", path.display()))
}

#[test]
fn cyrus_3_6_is_locked_by_user_then_names_then_indexes() {
    let test = "cyrus_3_6_is_locked_by_user";
    let Some(builder) = cyrus_or_skip(test) else { return };
    let cyrus = builder.start().expect("Cyrus starts");
    Rich::named("glad").fill(&cyrus);
    let scratch = scratch();
    let output = scratch.path().join("glad.tar");
    let Some(calls) = watch(test, cyrus.imapd_conf(), "glad", &output) else { return };

    let lock_directory = cyrus.config_directory().join("lock");
    let user = lock_directory.join("*U*glad.lock");
    let (user_locked, user_released) = span(&calls, &user);
    let spans_of = |wanted: &dyn Fn(&Path) -> bool| -> Vec<(usize, usize)> {
        let mut paths: Vec<&Path> =
            locked(&calls).into_iter().filter(|path| wanted(path)).collect();
        let count = paths.len();
        paths.sort();
        paths.dedup();
        assert_eq!(paths.len(), count, "a file was locked twice");
        let mut spans: Vec<_> = paths.iter().map(|path| span(&calls, path)).collect();
        spans.sort_unstable();
        spans
    };
    // In the order of 3.12 the user's lock has another name; taking both is no harm.
    let is_user = |path: &Path| path.to_string_lossy().contains("/lock/*U*");
    let names = spans_of(&|path| path.starts_with(&lock_directory) && !is_user(path));
    let indexes = spans_of(&|path| path.ends_with("cyrus.index"));
    assert!(names.len() > 10, "{names:?}");
    assert_eq!(names.len(), indexes.len());
    for user in spans_of(&is_user) {
        assert!(user.0 < names[0].0, "a user lock was asked for with a name lock held");
    }
    let (last_name, first_index) = (names[names.len() - 1].0, indexes[0].0);
    assert!(user_locked < last_name && last_name < first_index);
    assert!(indexes.is_sorted_by(|one, next| one.1 < next.0), "two indexes at once: {indexes:?}");
    assert!(indexes[indexes.len() - 1].1 < user_released, "not one instant for all mailboxes");
    assert!(names.iter().all(|name| name.1 > user_released), "a name lock was given back early");
    let ends_with = |names: &[&str], path: &Path| names.iter().any(|name| path.ends_with(name));
    for (locked, released) in spans_of(&|path| ends_with(&["counters.db", "user.glad"], path)) {
        assert!(first_index < locked && released < user_released);
    }
    // These the user's lock does not protect, so nobody is made to wait for whoever holds them.
    for (locked, _) in spans_of(&|path| ends_with(&["sub.db", "seen.db"], path)) {
        assert!(user_released < locked);
    }
}

#[test]
fn cyrus_2_3_is_locked_by_header_index_and_expunge_of_each_mailbox() {
    let test = "cyrus_2_3_is_locked_by_header";
    let Some(builder) = cyrus_or_skip(test) else { return };
    let scratch = scratch();
    let (conf, mailboxes) = build_2_3(&builder, scratch.path());
    let output = scratch.path().join("glad.tar");
    let Some(calls) = watch(test, &conf, "glad", &output) else { return };

    let in_mailboxes = |path: &&Path| mailboxes.iter().any(|dir| path.starts_with(dir));
    let taken: Vec<&Path> = locked(&calls).into_iter().filter(in_mailboxes).collect();
    let files = ["cyrus.header", "cyrus.index", "cyrus.expunge"];
    let want: Vec<PathBuf> =
        mailboxes.iter().flat_map(|dir| files.map(|file| dir.join(file))).collect();
    assert_eq!(taken, want);
    // All are kept until the last message is read: that is after the last one was taken.
    let last_taken = span(&calls, &want[want.len() - 1]).0;
    assert!(want.iter().all(|path| span(&calls, path).1 > last_taken));
}
