//! What dead processes have left where messages wait.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha1::{Digest, Sha1};
use spool::read_conf;
use spool::staging::{Group, Maker, Options, Purpose, Removed, Survey, messages_of};

use crate::support::Hand;

/// Above the highest number that Linux gives a process (PID_MAX_LIMIT).
const DEAD: u32 = 4_194_305;

const AT_ONCE: Options = Options { older_than: Duration::ZERO };

/// Data, metadata and archive apart, and another partition in the same directory as the first.
fn hand() -> Hand {
    let mut hand = Hand::new();
    for (name, value) in [
        ("partition-other", "@/spool"),
        ("archivepartition-default", "@/archive"),
        ("archive_enabled", "yes"),
        ("metapartition-default", "@/meta"),
        ("metapartition_files", "header index"),
    ] {
        hand.option(name, value);
    }
    hand.write();
    hand
}

fn survey(hand: &Hand, options: Options) -> Survey {
    let conf = read_conf(&hand.path("imapd.conf")).expect("a configuration");
    Survey::take(&conf, options).expect("a survey")
}

fn guid(bytes: &[u8]) -> String {
    Sha1::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn files(group: &Group) -> Vec<&str> {
    group.files.iter().filter_map(|file| file.name.to_str()).collect()
}

#[test]
fn all_places_of_all_releases_are_found_and_swept() {
    let hand = hand();
    let bytes = b"a message";
    let by_guid = format!("spool/sync./{DEAD}/{}", guid(bytes));
    hand.file(&by_guid, bytes);
    hand.file(&format!("spool/sync./{}/0.", DEAD + 1), "as 2.3 has it");
    hand.file(&format!("spool/sync./{}.cache", DEAD + 1), "as 2.3 has it");
    hand.file(&format!("archive/sync./{DEAD}/{}", guid(b"old")), b"old");
    hand.file(&format!("meta/stage./{DEAD}-1700000000-0"), "nobody puts it there");
    hand.file(&format!("spool/stage./{DEAD}-1700000000-0"), "delivered");
    hand.file(&format!("spool/stage./{DEAD}-1700000000-1"), "delivered");
    fs::create_dir(hand.path(&format!("archive/sync./{}", DEAD + 2))).expect("empty");

    let found = survey(&hand, AT_ONCE);
    assert!(found.strange.is_empty() && found.unread.is_empty());
    assert!(found.groups.iter().all(|group| group.maker == Maker::Gone));
    let groups: BTreeMap<_, _> =
        found.groups.iter().map(|g| ((g.directory.clone(), g.pid), files(g).len())).collect();
    let at = |name: String, pid, files: usize| ((hand.path(&name), Some(pid)), files);
    let want = BTreeMap::from([
        at(format!("spool/sync./{DEAD}"), DEAD, 1),
        at(format!("spool/sync./{}", DEAD + 1), DEAD + 1, 1),
        at("spool/sync.".into(), DEAD + 1, 1),
        at(format!("archive/sync./{DEAD}"), DEAD, 1),
        at(format!("archive/sync./{}", DEAD + 2), DEAD + 2, 0),
        at("meta/stage.".into(), DEAD, 1),
        at("spool/stage.".into(), DEAD, 2),
    ]);
    assert_eq!(groups, want);
    assert_eq!(found.weigh(found.gone()).files, 7);

    for group in found.gone() {
        let removed = found.remove(group);
        assert!(removed.left.is_empty(), "{:?}", removed.left);
        assert_eq!(removed.files, group.files.len() as u64);
        // A second sweep at the same time has nothing to complain of.
        assert!(found.remove(group).left.is_empty());
    }
    assert!(survey(&hand, AT_ONCE).groups.is_empty());
    for area in ["spool/sync.", "spool/stage.", "archive/sync.", "meta/stage."] {
        assert!(hand.path(area).is_dir(), "{area} itself stays");
    }
}

#[test]
fn what_may_be_in_use_stays() {
    let hand = hand();
    let me = std::process::id();
    hand.file(&format!("spool/sync./{me}/{}", guid(b"mine")), b"mine");
    hand.file(&format!("spool/stage./{me}-1700000000-0"), "mine");
    hand.file(&format!("spool/sync./{DEAD}/{}", guid(b"new")), b"new");
    let found = survey(&hand, Options { older_than: Duration::from_secs(3_600) });
    let makers: Vec<&Maker> = found.groups.iter().map(|group| &group.maker).collect();
    let [Maker::Alive(one), Maker::Alive(two), Maker::TooNew] = makers.as_slice() else {
        panic!("{makers:?}")
    };
    assert_eq!(one, two);
    for group in &found.groups {
        let removed = found.remove(group);
        assert_eq!((removed.files, removed.left.len()), (0, 1));
    }
    assert_eq!(survey(&hand, AT_ONCE).groups.len(), 3);
}

fn ctime(path: &Path) -> (i64, i64) {
    let stat = fs::metadata(path).expect("there");
    (stat.ctime(), stat.ctime_nsec())
}

/// Changes something until the file system's clock has gone on meanwhile.
fn until_changed(path: &Path, mut change: impl FnMut()) {
    let before = ctime(path);
    while ctime(path) == before {
        change();
    }
}

fn left(removed: &Removed) -> Vec<&PathBuf> {
    removed.left.iter().map(|(path, _)| path).collect()
}

#[test]
fn what_has_changed_since_is_left_for_the_next_time() {
    let hand = hand();
    let path = |name: &str| hand.path(&format!("spool/sync./{DEAD}/{name}"));
    for name in ["given", "linked", "same", "written"] {
        hand.file(&format!("spool/sync./{DEAD}/{name}"), name);
    }
    fs::create_dir_all(hand.path("spool/user/glad")).expect("made");
    let found = survey(&hand, AT_ONCE);
    fs::write(path("written"), "longer than it was").expect("written");
    // Whoever gives it a name in a mailbox, or to somebody else, is at work with it.
    let message = hand.path("spool/user/glad/7.");
    let link = || {
        drop(fs::remove_file(&message));
        fs::hard_link(path("linked"), &message).expect("linked");
    };
    until_changed(&path("linked"), link);
    let give = || fs::set_permissions(path("given"), Permissions::from_mode(0o640)).expect("given");
    until_changed(&path("given"), give);
    let removed = found.remove(&found.groups[0]);
    assert_eq!(removed.files, 1);
    assert_eq!(left(&removed), [&path("given"), &path("linked"), &path("written")]);
    assert_eq!(files(&survey(&hand, AT_ONCE).groups[0]), ["given", "linked", "written"]);
}

/// Its owner deletes a message while it is swept: what waits is no more in use than before.
#[test]
fn a_name_that_a_mailbox_has_lost_keeps_nothing() {
    let hand = hand();
    let staged = format!("spool/sync./{DEAD}/{}", guid(b"text"));
    hand.file(&staged, b"text").file("spool/user/glad/cyrus.index", "");
    let message = hand.path("spool/user/glad/7.");
    fs::hard_link(hand.path(&staged), &message).expect("linked");
    let found = survey(&hand, AT_ONCE);
    fs::remove_file(&message).expect("deleted");
    let removed = found.remove(&found.groups[0]);
    assert_eq!((removed.files, left(&removed)), (1, vec![]));
}

/// Another process with the same number has come and gone, or has begun.
#[test]
fn a_directory_in_which_somebody_has_worked_since_is_left() {
    let hand = hand();
    let directory = hand.path(&format!("spool/sync./{DEAD}"));
    hand.file(&format!("spool/sync./{DEAD}/old"), "old");
    let found = survey(&hand, AT_ONCE);
    until_changed(&directory, || {
        fs::write(directory.join("new"), "new").expect("written");
        fs::remove_file(directory.join("new")).expect("removed");
    });
    let removed = found.remove(&found.groups[0]);
    assert_eq!((removed.files, left(&removed)), (0, vec![&directory]));

    // It is the same, but for its directory.
    let found = survey(&hand, AT_ONCE);
    let kept = hand.path("kept");
    fs::rename(&directory, &kept).expect("renamed");
    fs::create_dir(&directory).expect("made anew");
    fs::rename(kept.join("old"), directory.join("old")).expect("moved");
    let removed = found.remove(&found.groups[0]);
    assert_eq!((removed.files, left(&removed)), (0, vec![&directory]));
    assert!(directory.join("old").exists());
}

#[test]
fn what_is_none_of_cyrus_is_never_touched() {
    let hand = hand();
    hand.file("spool/sync./README", "an operator's");
    hand.file("spool/stage./4711", "no append has that name");
    hand.file("keep/me", "elsewhere");
    hand.file(&format!("spool/sync./{DEAD}/below/x"), "too deep");
    symlink(hand.path("keep"), hand.path(&format!("spool/sync./{}", DEAD + 1))).expect("a link");
    symlink(hand.path("keep/me"), hand.path(&format!("spool/sync./{DEAD}/link"))).expect("a link");
    let found = survey(&hand, AT_ONCE);
    assert_eq!(found.strange.len(), 5, "{:?}", found.strange);
    for group in found.gone() {
        let removed = found.remove(group);
        assert_eq!(removed.files, 0);
        assert_eq!(removed.left.len(), 1, "its directory is not empty");
    }
    assert_eq!(survey(&hand, AT_ONCE).strange.len(), 5);
    assert!(hand.path("keep/me").exists());
}

#[test]
fn a_file_is_weighed_once_and_holds_room_if_nobody_else_has_it() {
    let hand = hand();
    let bytes = vec![b'x'; 10_000];
    let staged = format!("spool/sync./{DEAD}/{}", guid(&bytes));
    hand.file(&staged, &bytes).file("spool/user/glad/cyrus.index", "");
    let message = hand.path("spool/user/glad/7.");
    fs::hard_link(hand.path(&staged), &message).expect("linked");
    fs::create_dir_all(hand.path(&format!("spool/sync./{}", DEAD + 1))).expect("made");
    let second = hand.path(&format!("spool/sync./{}/{}", DEAD + 1, guid(&bytes)));
    fs::hard_link(&message, &second).expect("linked");

    let found = survey(&hand, AT_ONCE);
    let weight = found.weigh(found.gone());
    assert_eq!((weight.files, weight.bytes, weight.linked, weight.held), (2, 10_000, 2, 0));
    fs::remove_file(&message).expect("removed");
    let found = survey(&hand, AT_ONCE);
    let weight = found.weigh(found.gone());
    assert_eq!((weight.files, weight.bytes, weight.linked), (2, 10_000, 0));
    assert_eq!(weight.held, second.metadata().expect("there").blocks() * 512);
    let one = found.weigh(found.groups.first());
    assert_eq!((one.linked, one.held), (1, 0), "alone, it sets nothing free");
}

#[test]
fn a_message_that_was_cut_short_through_its_other_name_is_told() {
    let hand = hand();
    let (whole, cut, alone) =
        (b"whole".as_slice(), b"a longer message".as_slice(), b"alone".as_slice());
    for bytes in [whole, cut, alone] {
        hand.file(&format!("spool/sync./{DEAD}/{}", guid(bytes)), bytes);
    }
    fs::create_dir_all(hand.path("spool/user/glad")).expect("made");
    for (bytes, uid) in [(whole, 1), (cut, 2)] {
        let staged = hand.path(&format!("spool/sync./{DEAD}/{}", guid(bytes)));
        fs::hard_link(staged, hand.path(&format!("spool/user/glad/{uid}."))).expect("linked");
    }
    // As 2.3 opens what is there already: in place.
    for bytes in [cut, alone] {
        let staged = hand.path(&format!("spool/sync./{DEAD}/{}", guid(bytes)));
        fs::OpenOptions::new().write(true).truncate(true).open(staged).expect("truncated");
    }
    let found = survey(&hand, AT_ONCE);
    let mut read = 0;
    let (damaged, unread) = found.cut_short(|bytes| read += bytes);
    assert!(unread.is_empty());
    assert_eq!(read, 5, "what nobody else has is not read");
    let [damaged] = damaged.as_slice() else { panic!("{damaged:?}") };
    assert_eq!(damaged.guid.to_string(), guid(cut));
    assert_eq!((damaged.found.to_string(), damaged.size), (guid(b""), 0));
    let conf = read_conf(&hand.path("imapd.conf")).expect("a configuration");
    let names = messages_of(&conf, &BTreeSet::from([damaged.inode]));
    assert_eq!(names[&damaged.inode], [hand.path("spool/user/glad/2.")]);
    assert_eq!(found.groups[0].purpose, Purpose::Replication);
}
