//! Objects: stored, read, listed, removed.

use std::thread;

use vault::{Store, VaultError};

use crate::places::{Place, bytes, everywhere};

fn names(store: &Store, directory: &str) -> Vec<String> {
    let listed = store.list(directory).expect("a listing");
    listed.into_iter().map(|object| object.name).collect()
}

#[test]
fn what_is_put_is_read_back_whole_and_in_pieces() {
    everywhere(|store| {
        for len in [0, 1, 255, 4_096, 70_001] {
            let (name, want) = (format!("some/{len:06}"), bytes(len, 1));
            store.put(&name, want.clone()).expect("stored");
            assert_eq!(store.read_all(&name).expect("read"), want);
            let end = len as u64;
            for range in [0..end, 0..end / 2, end / 2..end, end / 3..end / 2, 0..0, end..end] {
                let got = store.read(&name, range.clone()).expect("a range");
                let (from, to) = (range.start as usize, range.end as usize);
                assert_eq!(got, want[from..to], "{range:?} of {len}");
            }
        }
        let listed = store.list("some").expect("a listing");
        let sizes: Vec<u64> = listed.iter().map(|object| object.size).collect();
        assert_eq!(sizes, [0, 1, 255, 4_096, 70_001]);
    });
}

#[test]
fn a_read_beyond_the_end_is_an_error() {
    everywhere(|store| {
        store.put("short", bytes(100, 1)).expect("stored");
        store.put("empty", bytes(0, 1)).expect("stored");
        for (name, range) in [
            ("short", 0..101),
            ("short", 99..200),
            ("short", 100..101),
            ("short", 500..600),
            ("empty", 0..1),
        ] {
            let error = store.read(name, range.clone()).expect_err("there is no such range");
            assert!(error.to_string().contains(name), "{range:?}: {error}");
            assert!(!error.is_not_found(), "{range:?}: {error}");
        }
    });
}

#[test]
fn a_name_is_written_again_with_the_same_bytes() {
    everywhere(|store| {
        for _ in 0..3 {
            store.put("a/b", bytes(3_000, 7)).expect("stored");
            assert_eq!(store.read_all("a/b").expect("read"), bytes(3_000, 7));
        }
        assert_eq!(names(store, "a"), ["b"]);
    });
}

#[test]
fn a_listing_is_sorted_and_of_one_directory() {
    everywhere(|store| {
        let all = ["z", "a", "d/2", "d/1", "d/sub/x", "d/sub/y", "d/tub/z", "dd/1", "d.x", "d-x/1"];
        for name in all {
            store.put(name, bytes(name.len(), 1)).expect("stored");
        }
        assert_eq!(names(store, ""), ["a", "d.x", "z"]);
        assert_eq!(store.directories("").expect("a listing"), ["d", "d-x", "dd"]);
        assert_eq!(names(store, "d"), ["1", "2"]);
        assert_eq!(store.directories("d").expect("a listing"), ["sub", "tub"]);
        assert_eq!(names(store, "d/sub"), ["x", "y"]);
        assert_eq!(store.list("d").expect("a listing")[0].size, 3);
    });
}

#[test]
fn what_is_missing_is_told_from_what_is_broken() {
    everywhere(|store| {
        for directory in ["", "none", "none/of/this"] {
            assert!(names(store, directory).is_empty());
            assert!(store.directories(directory).expect("a listing").is_empty());
        }
        assert_eq!(store.first().expect("a listing"), None);
        let errors = [
            store.read_all("no/such").expect_err("nothing is there"),
            store.read("no/such", 0..1).expect_err("nothing is there"),
        ];
        for error in errors {
            assert!(error.is_not_found(), "{error}");
            let want = format!("cannot read {}/no/such", store.place());
            assert_eq!(error.to_string(), want);
        }
    });
}

#[test]
fn the_first_object_is_found_at_any_depth() {
    everywhere(|store| {
        store.put("deep/down/here", bytes(1, 1)).expect("stored");
        let first = store.first().expect("a listing").expect("an object");
        assert!(first.ends_with("deep/down/here"), "{first}");
        store.delete("deep/down/here").expect("deleted");
        assert_eq!(store.first().expect("a listing"), None);
    });
}

#[test]
fn what_is_deleted_is_gone_and_may_be_deleted_again() {
    everywhere(|store| {
        store.put("d/one", bytes(10, 1)).expect("stored");
        store.put("d/two", bytes(10, 2)).expect("stored");
        for _ in 0..2 {
            store.delete("d/one").expect("deleted");
            assert_eq!(names(store, "d"), ["two"]);
            assert!(store.read_all("d/one").expect_err("gone").is_not_found());
        }
        store.delete("d/two").expect("deleted");
        store.delete("never/was").expect("nothing to do");
        assert!(store.directories("").expect("a listing").is_empty(), "empty directories go too");
        store.put("d/one", bytes(10, 3)).expect("stored again");
        assert_eq!(names(store, "d"), ["one"]);
    });
}

#[test]
fn more_than_a_thousand_names_are_listed() {
    const MANY: usize = 1_050;
    everywhere(|store| {
        thread::scope(|scope| {
            for worker in 0..6 {
                scope.spawn(move || {
                    for n in (worker..MANY).step_by(6) {
                        store.put(&format!("many/{n:05}"), bytes(1, 1)).expect("stored");
                        store.put(&format!("dirs/{n:05}/x"), bytes(1, 1)).expect("stored");
                    }
                });
            }
        });
        let want: Vec<String> = (0..MANY).map(|n| format!("{n:05}")).collect();
        assert_eq!(names(store, "many"), want);
        assert_eq!(store.directories("dirs").expect("a listing"), want);
    });
}

#[test]
fn writers_do_not_disturb_each_other() {
    everywhere(|store| {
        thread::scope(|scope| {
            for writer in 0..8u64 {
                scope.spawn(move || {
                    for n in 0..10 {
                        // Two write to the same new directory at the same time, and the same name.
                        let (own, same) = (format!("{n}/{writer}"), format!("{n}/same"));
                        store.put(&own, bytes(5_000, writer)).expect("stored");
                        store.put(&same, bytes(9_000, n)).expect("stored");
                        assert_eq!(store.read_all(&own).expect("read"), bytes(5_000, writer));
                        assert_eq!(store.read_all(&same).expect("read"), bytes(9_000, n));
                    }
                });
            }
        });
        assert_eq!(names(store, "3"), ["0", "1", "2", "3", "4", "5", "6", "7", "same"]);
    });
}

#[test]
fn writers_and_deleters_of_one_directory_do_not_disturb_each_other() {
    everywhere(|store| {
        thread::scope(|scope| {
            for writer in 0..4u64 {
                scope.spawn(move || {
                    // A directory goes with its last object, and comes back with the next.
                    for n in 0..25 {
                        let name = format!("busy/{writer}-{n}");
                        store.put(&name, bytes(100, n)).expect("stored");
                        store.delete(&name).expect("deleted");
                    }
                });
            }
        });
        assert!(names(store, "busy").is_empty());
    });
}

#[test]
fn a_busy_server_is_asked_again() {
    let place = Place::all().into_iter().find(|place| matches!(place, Place::Bucket(_)));
    let Some(Place::Bucket(server)) = &place else { panic!("there is a bucket") };
    let store = place.as_ref().expect("a bucket").store();
    server.refuse(2);
    store.put("a", bytes(10, 1)).expect("stored at the third try");
    server.refuse(1);
    assert_eq!(names(&store, ""), ["a"]);
    server.refuse(1);
    assert_eq!(store.read_all("a").expect("read"), bytes(10, 1));
    server.refuse(1);
    store.delete("a").expect("deleted");
    assert!(server.keys().is_empty());
}

#[test]
fn neighbours_in_a_bucket_are_not_ours() {
    let place = Place::all().into_iter().find(|place| matches!(place, Place::Bucket(_)));
    let Some(Place::Bucket(server)) = &place else { panic!("there is a bucket") };
    let ours = place.as_ref().expect("a bucket").store();
    let beside = Store::open_with(&server.url("backup"), server.settings()).expect("a bucket");
    beside.put("mail2/x", bytes(1, 1)).expect("stored");
    beside.put("mai", bytes(1, 1)).expect("stored");
    assert_eq!(ours.first().expect("a listing"), None);
    assert!(names(&ours, "").is_empty());
    ours.put("accounts/x", bytes(1, 1)).expect("stored");
    assert_eq!(server.keys(), ["backup/mai", "backup/mail/accounts/x", "backup/mail2/x"]);
}

#[test]
fn what_a_store_says_is_kept_as_the_source() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = Store::open_with(directory.path().to_str().expect("text"), []).expect("a store");
    // A file where a directory is wanted, which no permission of root's gets around.
    std::fs::write(directory.path().join("file"), b"x").expect("written");
    let error = store.put("file/below", bytes(1, 1)).expect_err("that is no directory");
    assert_eq!(error.to_string(), format!("cannot store {}/file/below", store.place()));
    assert!(matches!(error, VaultError::Store { .. }), "{error:?}");
    assert!(std::error::Error::source(&error).is_some());
}
