//! Objects that go in parts, and what reads them in pieces.

use std::error::Error;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use segment::ReadAt;
use testkit::faults::Call;
use vault::{ObjectFile, Stage, Staged};

use crate::places::{Place, bytes, everywhere};

fn stage(content: &[u8]) -> Staged {
    fill(Stage::new(), content)
}

fn fill(mut stage: Stage, content: &[u8]) -> Staged {
    for piece in content.chunks(999_983) {
        stage.write_all(piece).expect("staged");
    }
    stage.flush().expect("staged");
    stage.finish()
}

#[test]
fn a_small_one_stays_in_memory_and_a_large_one_does_not() {
    let small = stage(&bytes(16 << 20, 1));
    assert!(matches!(small, Staged::Memory(_)) && small.size() == 16 << 20);
    let large = stage(&bytes((16 << 20) + 1, 1));
    assert!(matches!(large, Staged::File { .. }) && large.size() == (16 << 20) + 1);
    assert_eq!(stage(b"").size(), 0);
}

#[test]
fn a_large_object_goes_in_parts_and_comes_back() {
    let content = bytes(40_000_000, 3);
    everywhere(|store| {
        for _ in 0..2 {
            store.put_staged("accounts/x/large", stage(&content)).expect("stored");
            let listed = store.list("accounts/x").expect("a listing");
            assert_eq!((listed.len(), listed[0].size), (1, 40_000_000));
        }
        assert!(store.read_all("accounts/x/large").expect("read") == content, "other bytes");
        // Across the places where parts meet, and the last bytes.
        for at in [(8 << 20) - 5, (32 << 20) - 1, 39_999_990] {
            let got = store.read("accounts/x/large", at..at + 10).expect("a range");
            assert_eq!(got, content[at as usize..at as usize + 10]);
        }
    });
}

#[test]
fn a_directory_takes_what_was_staged_in_it_without_a_copy() {
    let content = bytes(3_000_000, 7);
    everywhere(|store| {
        // The second time there is such an object already, as there is after a race.
        for size in [content.len(), content.len() - 1] {
            let staged = fill(store.stage(), &content[..size]);
            assert_eq!(matches!(staged, Staged::Home { .. }), store.is_near());
            store.put_staged("accounts/x/large", staged).expect("stored");
            assert!(store.read_all("accounts/x/large").expect("read") == content[..size]);
        }
        let unused = fill(store.stage(), &content);
        drop(unused);
        assert_eq!(store.list("accounts/x").expect("a listing").len(), 1);
    });
    let [_, place, _] = Place::all();
    let store = place.store();
    let Staged::Home { file, size } = fill(store.stage(), &content) else {
        panic!("it is a directory")
    };
    let inode = file.metadata().expect("a file").ino();
    store.put_staged("a/b", Staged::Home { file, size }).expect("stored");
    let Place::Directory(directory) = &place else { panic!("it is a directory") };
    let stored = directory.path().join("a/b").metadata().expect("stored");
    assert_eq!(stored.ino(), inode, "it was copied");
    let ordinary = directory.path().join("ordinary");
    std::fs::write(&ordinary, b"").expect("written");
    let mode = ordinary.metadata().expect("written").mode();
    assert_eq!(stored.mode(), mode, "others may read it as they may read any file");
    assert_eq!(place.remains(), 0);
}

#[test]
fn a_small_object_takes_the_place_of_a_large_one_and_back() {
    let content = bytes(17 << 20, 5);
    everywhere(|store| {
        store.put_staged("x", stage(&content)).expect("stored");
        store.put_staged("x", stage(&content[..10])).expect("stored");
        assert_eq!(store.read_all("x").expect("read"), content[..10]);
        store.put_staged("x", stage(&content)).expect("stored");
        assert_eq!(store.list("").expect("a listing")[0].size, 17 << 20);
    });
}

#[test]
fn an_object_is_read_like_a_file_with_one_request_for_its_end() {
    let content = bytes(1 << 20, 9);
    for place in Place::all() {
        let (store, faults) = place.faulty();
        store.put("x", content.clone()).expect("stored");
        let file = ObjectFile::new(store, "x".to_owned(), 1 << 20);
        assert_eq!(file.len(), 1 << 20);
        let read = |at: usize, len: usize| {
            let mut got = vec![0; len];
            file.read_exact_at(at as u64, &mut got).expect("there");
            assert_eq!(got, content[at..at + len], "{len} bytes at {at}");
        };
        let from = (1 << 20) - (256 << 10);
        for (at, len) in [((1 << 20) - 512, 512), (from, 256 << 10), (from + 7, 1), (1 << 20, 0)] {
            read(at, len);
        }
        assert_eq!(faults.count(Call::Get), 1);
        for (at, len) in [(0, 10), (from - 1, 2), (0, 1 << 20)] {
            read(at, len);
        }
        assert_eq!(faults.count(Call::Get), 4);
        for (at, len) in [(1 << 20, 1), ((1 << 20) - 1, 2), (usize::MAX, 2)] {
            let error = file.read_exact_at(at as u64, &mut vec![0; len]).expect_err("not there");
            assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
        }
    }
}

#[test]
fn an_object_that_is_shorter_than_it_was_listed_is_not_believed() {
    everywhere(|store| {
        store.put("x", bytes(1_000, 1)).expect("stored");
        let file = ObjectFile::new(store.clone(), "x".to_owned(), 2_000);
        for at in [0, 500, 999, 1_990] {
            file.read_exact_at(at, &mut [0; 10]).expect_err("the end is not where it should be");
        }
    });
}

/// A file to be stored, for a process that may not write as much itself.
const SOURCE: &str = "CONFORMANCE_SOURCE";

#[test]
fn a_full_disk_is_an_error_and_nothing_stays_of_what_did_not_fit() {
    let source = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(source.path(), bytes(20 << 20, 1)).expect("written");
    // A limit of 5 MB to each file stands for the disk: it ends a write in the middle too.
    let child = Command::new("/bin/sh")
        .args(["-c", "ulimit -f 10000 && trap '' XFSZ && exec \"$0\" --exact \"$1\" --nocapture"])
        .arg(std::env::current_exe().expect("this program"))
        .arg("large::what_fits_is_stored_and_what_does_not_leaves_nothing")
        .env(SOURCE, source.path())
        .output()
        .expect("a child process");
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stderr));
    assert!(said.contains("1 passed"), "{said}");
}

/// By itself there is room; the test above runs it where there is none.
#[test]
fn what_fits_is_stored_and_what_does_not_leaves_nothing() {
    let limited = std::env::var_os(SOURCE);
    let file = match &limited {
        Some(path) => File::open(path).expect("the source"),
        None => {
            let mut file = tempfile::tempfile().expect("a file");
            file.write_all(&bytes(20 << 20, 1)).expect("written");
            file
        }
    };
    let [_, place, _] = Place::all();
    let store = place.store();
    let results = [
        store.put("a/memory", bytes(12 << 20, 1)),
        store.put_staged("a/file", Staged::File { file, size: 20 << 20 }),
    ];
    let written = store.stage().write_all(&bytes(12 << 20, 1));
    assert_eq!(written.is_err(), limited.is_some());
    for result in results {
        assert_eq!(result.is_err(), limited.is_some());
        let Err(error) = result else { continue };
        assert!(error.to_string().starts_with("cannot store "), "{error}");
        let why = error.source().map(ToString::to_string).unwrap_or_default();
        assert!(why.contains("File too large"), "{why}");
    }
    assert_eq!(place.remains(), 0);
    let there = if limited.is_some() { 0 } else { 2 };
    assert_eq!(store.list("a").expect("a listing").len(), there);
    store.put("a/small", bytes(1_000, 1)).expect("there is room for that");
}
