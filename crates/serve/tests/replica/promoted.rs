//! A replica is looked at, and handed to a Cyrus: as a whole, or not yet.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use cyrus_format::imapd_conf::ImapdConf;
use cyrus_format::names::NameEra;
use engine::audit::{self, Depth, Examined};
use model::FindingKind;
use spool::replica::{Replica, ReplicaError};
use testkit::skip::{Need, skip};

use crate::faults::{Master, OK};
use crate::kill::{CALLS, CALLS_MAX, ROOT, STRACE, files, run_until, state_of};
use crate::recorded::{answers_of, replica};

const TEST: &str = "promoted::the_promotion_that_is_killed";
/// The directory of alice's INBOX, which has messages 1 to 3.
const INBOX: &str = "spool/default/uuid/9/5/95bcv62j2spfsrjtj6dls6rt";

/// A replica that has something of everything, and that is not open.
fn filled() -> (tempfile::TempDir, PathBuf) {
    let (top, replica) = replica();
    answers_of(&replica, "real-initial-user");
    answers_of(&replica, "real-sieve-legacy");
    drop(replica);
    let root = top.path().join("replica");
    (top, root)
}

fn conf_of(root: &Path) -> ImapdConf {
    spool::read_conf(&root.join("imapd.conf")).expect("an imapd.conf")
}

fn examined(root: &Path, depth: Depth) -> (Examined, Vec<FindingKind>) {
    let replica = Replica::open_existing(root).expect("a replica");
    let mut kinds = Vec::new();
    let state = replica.lock();
    let examined = audit::examine(&state, depth, 2, &mut |finding| kinds.push(finding.kind));
    drop(state);
    (examined, kinds)
}

#[test]
fn what_is_whole_is_found_whole() {
    let (_top, root) = filled();
    let (examined, kinds) = examined(&root, Depth::Full);
    assert_eq!(kinds, []);
    assert_eq!((examined.mailboxes, examined.sieve_mailboxes), (4, 0));
    let mut found = Vec::new();
    files(&root, &mut found);
    let messages = found.iter().filter(|path| path.to_string_lossy().ends_with('.')).count();
    assert_eq!(examined.messages, messages as u64);
    assert!(messages > 3);
}

#[test]
fn each_damage_is_found_and_found_again() {
    let flip = |path: &Path, at: u64| {
        let file = fs::File::options().read(true).write(true).open(path).expect("a file");
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).expect("a byte");
        file.write_all_at(&[byte[0] ^ 1], at).expect("another one");
    };
    type Damage<'a> = (&'a str, FindingKind, &'a dyn Fn(&Path));
    let damages: [Damage<'_>; 8] = [
        ("no message", FindingKind::MessageMissing, &|inbox| {
            fs::remove_file(inbox.join("1.")).expect("removed");
        }),
        ("a shorter message", FindingKind::GuidMismatch, &|inbox| {
            fs::write(inbox.join("1."), b"x").expect("written");
        }),
        ("another message", FindingKind::GuidMismatch, &|inbox| flip(&inbox.join("1."), 5)),
        ("a directory for a message", FindingKind::MessageUnreadable, &|inbox| {
            fs::remove_file(inbox.join("1.")).expect("removed");
            fs::create_dir(inbox.join("1.")).expect("made");
        }),
        ("another record", FindingKind::RecordCrc, &|inbox| flip(&inbox.join("cyrus.index"), 200)),
        ("another header", FindingKind::HeaderCrc, &|inbox| {
            let path = inbox.join("cyrus.header");
            let text = fs::read(&path).expect("a header");
            let rights = text.windows(6).position(|six| six == b"lrswip").expect("rights");
            flip(&path, rights as u64);
        }),
        ("no index", FindingKind::MailboxDamaged, &|inbox| {
            fs::remove_file(inbox.join("cyrus.index")).expect("removed");
        }),
        ("no mailbox", FindingKind::MailboxMissing, &|inbox| {
            fs::remove_dir_all(inbox).expect("removed");
        }),
    ];
    for (what, kind, damage) in damages {
        let (_top, root) = filled();
        damage(&root.join(INBOX));
        for _ in 0..2 {
            let (_, kinds) = examined(&root, Depth::Full);
            assert!(kinds.contains(&kind), "{what}: {kinds:?}");
        }
        // Whose size alone is right has to be read.
        let is_read = what == "another message";
        assert_eq!(examined(&root, Depth::Quick).1.is_empty(), is_read, "{what}");
    }
}

#[test]
fn a_mailbox_that_has_vanished_comes_back_from_the_master() {
    let (_top, root) = filled();
    fs::remove_dir_all(root.join(INBOX)).expect("removed");
    let replica = Arc::new(Replica::open(&root).expect("it opens"));
    assert!(matches!(replica.lock().damaged(), [ReplicaError::Vanished { .. }]));
    answers_of(&replica, "real-initial-user");
    drop(replica);
    assert_eq!(examined(&root, Depth::Full).1, []);
}

#[test]
fn what_cyrus_would_not_find_is_told_by_the_option() {
    let (_top, root) = filled();
    let own = fs::read_to_string(root.join("imapd.conf")).expect("an imapd.conf");
    let replica = Replica::open_existing(&root).expect("a replica");
    let misplaced = |text: &str| -> Vec<String> {
        let conf = ImapdConf::parse("imapd.conf", text.as_bytes(), &mut |_| Err(String::new()));
        let findings = replica.lock().misplaced(&conf.expect("a good one"));
        findings.into_iter().map(|finding| finding.place).collect()
    };
    let none: Vec<String> = Vec::new();
    assert_eq!(misplaced(&own), none);
    // These have no say in where anything lies.
    let other = own.replace("hashimapspool: no", "hashimapspool: yes") + "altnamespace: no\n";
    assert_eq!(misplaced(&other), none);
    let root = root.display().to_string();
    for (old, new, option) in [
        (format!("configdirectory: {root}/conf"), "configdirectory: /etc".to_owned(), "config"),
        (format!("{root}/spool/default"), "/etc".to_owned(), "partition-default"),
        ("partition-default".to_owned(), "partition-other".to_owned(), "partition-default"),
        (format!("sievedir: {root}/conf/sieve"), "sievedir: /etc".to_owned(), "sievedir"),
        (String::new(), "mboxlist_db_path: /etc/mailboxes.db\n".to_owned(), "mboxlist_db_path"),
        (String::new(), "sieveusehomedir: yes\n".to_owned(), "sieveusehomedir"),
        (
            String::new(),
            "metapartition_files: index\nmetapartition-default: /etc\n".to_owned(),
            "metapartition-default",
        ),
    ] {
        let mut text = own.replacen(&old, &new, 1);
        text = text.replace("defaultpartition: default\n", "");
        let told = misplaced(&text);
        assert!(told.iter().any(|place| place.starts_with(option)), "{text}: {told:?}");
    }
}

#[test]
fn quotas_go_where_the_configuration_has_them() {
    let (_top, root) = filled();
    let replica = Arc::new(Replica::open(&root).expect("a replica"));
    let mut master = Master::of(&replica);
    for quota in ["other.test!user.ann", "user.alice"] {
        assert_eq!(master.ask(format!("APPLY QUOTA %(ROOT {quota} LIMIT 5 STORAGE 5)")), OK);
    }
    drop(master);
    let conf = fs::read_to_string(root.join("imapd.conf")).expect("an imapd.conf");
    let conf = conf.replace("fulldirhash: no", "fulldirhash: yes") + "virtdomains: userid\n";
    fs::write(root.join("new.conf"), conf).expect("written");
    let conf = spool::read_conf(&root.join("new.conf")).expect("a good one");
    assert_eq!(replica.lock().misplaced(&conf), []);
    let mut found = Vec::new();
    files(&root.join("conf/quota"), &mut found);
    assert_eq!(found.len(), 2);
    Arc::into_inner(replica).expect("nobody else has it").promote(&conf, None).expect("promoted");
    let rules = conf.path_rules(NameEra::V3);
    for quota in ["other.test!user.ann", "user.alice"] {
        let path = rules.quota_file(&quota.into()).expect("a path");
        let text = fs::read_to_string(root.join("conf").join(path)).expect("a quota");
        assert!(text.starts_with("%(S (") && text.contains(" 5) "), "{text}");
    }
    assert!(found.iter().all(|path| !path.exists()), "{found:?}");
}

#[test]
fn the_promotion_that_is_killed() {
    // Only as a process of its own is there anything to do.
    let Some(root) = std::env::var_os(ROOT) else { return };
    match Replica::open_existing(Path::new(&root)) {
        Ok(replica) => replica.promote(&conf_of(Path::new(&root)), None).expect("it is promoted"),
        Err(error) => assert!(matches!(error, ReplicaError::Promoted { .. }), "{error}"),
    }
}

/// Nothing of the replica is left but the word that it was one.
fn assert_promoted(root: &Path) {
    let again = Replica::open(root).map(drop);
    assert!(matches!(again, Err(ReplicaError::Promoted { .. })), "{again:?}");
    let mut found = Vec::new();
    files(root, &mut found);
    let is_ours = |path: &&PathBuf| {
        let name = path.file_name().expect("a name").to_string_lossy();
        name.contains("cylinder") || name.ends_with(".NEW")
    };
    let ours: Vec<_> = found.iter().filter(is_ours).collect();
    assert_eq!(ours, [&root.join("conf/cylinder-promoted")]);
}

#[test]
fn a_promotion_killed_at_any_call_was_none_or_is_finished_by_the_next_one() {
    if !Path::new(STRACE).exists() {
        return skip("a_promotion_killed_at_any_call", Need::Tools, STRACE);
    }
    let (_top, kept) = filled();
    // As if the last change had only just come.
    fs::remove_file(kept.join("conf/mailboxes.db")).expect("removed");
    let root = kept.with_file_name("copy");
    let (mut still, mut promoted) = (0, 0);
    for calls in CALLS {
        for nth in 1.. {
            assert!(nth < CALLS_MAX, "it is killed for ever");
            let copy = Command::new("/bin/cp").arg("-a").arg(&kept).arg(&root).status();
            assert!(copy.expect("cp runs").success());
            let (_, is_finished) = run_until(TEST, calls, nth, &root);
            if !is_finished {
                match Replica::open(&root) {
                    Ok(replica) => {
                        still += 1;
                        let replica = Arc::new(replica);
                        assert!(state_of(&replica).contains("MBOXNAME user.alice.Sent"));
                        assert!(replica.lock().damaged().is_empty(), "kill {nth} of {calls}");
                        let replica = Arc::into_inner(replica).expect("nobody else has it");
                        replica.promote(&conf_of(&root), None).expect("it is promoted");
                    }
                    Err(ReplicaError::Promoted { .. }) => promoted += 1,
                    Err(error) => panic!("kill {nth} of {calls}: {error}"),
                }
            }
            assert_promoted(&root);
            fs::remove_dir_all(&root).expect("emptied");
            if is_finished {
                break;
            }
        }
    }
    assert!(still > 3 && promoted > 3, "{still} {promoted}");
}
