//! What cannot be read here is told, and the replica keeps what it has of it.

use csync::meta::Quota;
use csync::record::Annotation;
use engine::replicate::Trouble;
use model::{MboxName, Userid};

use super::replica::MemoryReplica;
use super::replicate::Master;

/// A master and its replica with a message in INBOX and one in `a`.
fn pair() -> (Master, MemoryReplica) {
    let (mut master, mut replica) = (Master::of("glad"), MemoryReplica::default());
    for (body, name) in (1..).zip(["user.glad", "user.glad.a"]) {
        master.create(name);
        master.append(name, body);
    }
    assert_eq!(master.sync(&mut replica).problems, []);
    replica.log.clear();
    (master, replica)
}

fn codes(troubles: impl IntoIterator<Item = Trouble>) -> Vec<&'static str> {
    troubles.into_iter().map(|trouble| trouble.code()).collect()
}

#[test]
fn a_quota_root_that_nobody_can_read_keeps_its_limits_there() {
    let root = MboxName::from("user.glad.a");
    let limits = Quota { root: root.clone(), ..Quota::default() };
    // Its file is damaged, or no header names it.
    for breaks in [
        |master: &mut Master| {
            master.account.files.insert("quota/user.glad.a".to_owned(), b"no quota".to_vec());
        },
        |master: &mut Master| master.account.mailboxes[1].has_header = false,
    ] {
        let (mut master, mut replica) = pair();
        replica.quotas.insert(root.clone(), limits.clone());
        breaks(&mut master);
        master.sync(&mut replica);
        assert_eq!(replica.quotas.len(), 1, "{:?}", replica.log);
    }
    // Without any of that, it was removed here.
    let (master, mut replica) = pair();
    replica.quotas.insert(root, limits);
    master.sync(&mut replica);
    assert!(replica.quotas.is_empty());
}

#[test]
fn annotations_that_nobody_can_read_stay_there() {
    let (mut master, mut replica) = pair();
    let name = MboxName::from("user.glad");
    let note = Annotation {
        entry: b"/comment".to_vec(),
        userid: Userid::default(),
        value: b"ours".to_vec(),
        ..Annotation::default()
    };
    let held = replica.mailboxes.get_mut(&name).expect("an INBOX");
    held.told.contents.as_mut().expect("contents").annotations = vec![note.clone()];
    master.account.files.insert("annotations".to_owned(), b"no database".to_vec());
    master.append("user.glad", 7);
    let outcome = master.sync(&mut replica);
    assert_eq!(outcome.done.messages, 1);
    assert_eq!(codes(outcome.problems.into_iter().map(|problem| problem.trouble)), ["damaged"]);
    let told = replica.mailboxes[&name].told.contents.as_ref().expect("contents");
    assert_eq!(told.annotations, [note]);
}

#[test]
fn an_inbox_that_nobody_can_read_is_made_without_messages() {
    let (mut master, mut replica) = (Master::of("glad"), MemoryReplica::default());
    for name in ["user.glad", "user.glad.a"] {
        master.create(name);
        master.append(name, 1);
    }
    // Its records are damaged, or all of it.
    for breaks in [
        |master: &mut Master| master.account.mailboxes[0].has_header = false,
        |master: &mut Master| master.account.mailboxes[0].index_cut = Some(20),
    ] {
        let mut broken = master.clone();
        breaks(&mut broken);
        let outcome = broken.sync(&mut replica);
        assert_eq!(codes(outcome.problems.into_iter().map(|problem| problem.trouble)), ["damaged"]);
        let counts = replica.mailboxes.values().map(|held| held.records.len());
        assert_eq!(counts.collect::<Vec<_>>(), [0, 1]);
        assert_eq!(master.sync(&mut replica).problems, []);
        master.assert_same(&replica);
        replica = MemoryReplica::default();
    }
}
