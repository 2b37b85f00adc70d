//! What a vault is told by, and how one comes to be.

use std::thread;

use testkit::faults::Cut;
use vault::keys::{MARKER, MARKER_TEXT};
use vault::{Store, Vault, VaultError};

use crate::places::{Place, bytes, everywhere};

fn marker(store: &Store) -> Vec<u8> {
    store.read_all(MARKER).expect("a marker").to_vec()
}

#[test]
fn an_empty_place_becomes_a_vault_only_when_that_is_wanted() {
    everywhere(|store| {
        let error = Vault::open(store.clone()).expect_err("there is none");
        assert!(matches!(error, VaultError::NotAVault { .. }), "{error:?}");
        assert!(error.to_string().starts_with(store.place()), "{error}");
        assert_eq!(store.first().expect("a listing"), None, "looking makes nothing");

        let vault = Vault::open_or_create(store.clone()).expect("a new vault");
        assert_eq!(marker(store), MARKER_TEXT.as_bytes());
        assert!(vault.accounts().expect("a listing").is_empty());
        for _ in 0..2 {
            Vault::open(store.clone()).expect("the vault");
            Vault::open_or_create(store.clone()).expect("the same vault");
        }
        assert_eq!(store.list("").expect("a listing").len(), 1);
    });
}

#[test]
fn many_make_one_vault_at_the_same_time() {
    everywhere(|store| {
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| Vault::open_or_create(store.clone()).expect("a vault"));
            }
        });
        assert_eq!(marker(store), MARKER_TEXT.as_bytes());
        assert_eq!(store.list("").expect("a listing").len(), 1);
    });
}

#[test]
fn what_is_not_ours_does_not_become_a_vault() {
    for other in ["photo.jpg", "deep/down/x", "accounts/glad/x", "cylinder-vault.old", ".hidden"] {
        everywhere(|store| {
            store.put(other, bytes(10, 1)).expect("stored");
            let error = Vault::open_or_create(store.clone()).expect_err("something is here");
            let VaultError::NotEmpty { found, .. } = &error else { panic!("{error:?}") };
            assert!(found.ends_with(other), "{error}");
            let error = Vault::open(store.clone()).expect_err("this is none");
            assert!(matches!(error, VaultError::NotAVault { .. }), "{error:?}");
            assert!(store.read_all(MARKER).expect_err("untouched").is_not_found());
        });
    }
}

#[test]
fn a_newer_vault_is_told_from_a_damaged_one() {
    let newer = ["cylinder vault 2\n", "cylinder vault 17\n", "cylinder vault 2 with more\n"];
    let damaged = [
        "",
        "\n",
        "cylinder vault 1",
        "cylinder vault 1\r\n",
        "cylinder vault x\n",
        "cylinder vault 0\n",
        "Cylinder",
    ];
    everywhere(|store| {
        for text in newer {
            store.put(MARKER, text).expect("stored");
            for opened in [Vault::open(store.clone()), Vault::open_or_create(store.clone())] {
                let error = opened.expect_err("newer than this program");
                let VaultError::TooNew { version, .. } = &error else { panic!("{error:?}") };
                assert_eq!(version, text.trim_end());
            }
        }
        for text in damaged {
            store.put(MARKER, text).expect("stored");
            for opened in [Vault::open(store.clone()), Vault::open_or_create(store.clone())] {
                let error = opened.expect_err("nobody wrote that");
                assert!(matches!(error, VaultError::Marker { .. }), "{text:?}: {error:?}");
                assert!(error.to_string().contains(store.place()), "{error}");
            }
            assert_eq!(marker(store), text.as_bytes(), "nothing is written over it");
        }
        store.put(MARKER, vec![0xff, 0, b'\n']).expect("stored");
        let error = Vault::open(store.clone()).expect_err("that is no text");
        assert!(error.to_string().is_ascii(), "{error}");
    });
}

#[test]
fn a_vault_whose_making_was_cut_short_is_made_by_the_next() {
    for cut in [Cut::Before(1), Cut::After(1)] {
        for place in Place::all() {
            let (store, faults) = place.faulty();
            faults.cut(cut);
            let error = Vault::open_or_create(store).expect_err("it was stopped");
            assert_eq!(error.to_string(), "cannot store faulty/cylinder-vault");
            let there = Vault::open(place.store()).is_ok();
            assert_eq!(there, cut == Cut::After(1));
            Vault::open_or_create(place.store()).expect("a vault");
            Vault::open(place.store()).expect("the same vault");
        }
    }
}

#[test]
fn what_was_being_written_at_a_power_cut_does_not_hinder_a_new_vault() {
    let [_, place, _] = Place::all();
    let Place::Directory(directory) = &place else { panic!("there is a directory") };
    std::fs::write(directory.path().join("cylinder-vault#1"), b"cyl").expect("written");
    Vault::open_or_create(place.store()).expect("a vault");
    assert_eq!(marker(&place.store()), MARKER_TEXT.as_bytes());
}

#[test]
fn a_store_that_cannot_be_read_is_not_taken_for_an_empty_one() {
    for place in Place::all() {
        Vault::open_or_create(place.store()).expect("a vault");
        for nth in [1, 2] {
            let (store, faults) = place.faulty();
            faults.fail_read_every(nth);
            let opened = Vault::open_or_create(store);
            assert_eq!(opened.is_err(), nth == 1);
            if let Err(error) = opened {
                assert_eq!(error.to_string(), "cannot read faulty/cylinder-vault");
            }
        }
    }
    for place in Place::all() {
        // The marker is not there, and then the listing fails.
        let (store, faults) = place.faulty();
        faults.fail_read_every(2);
        let error = Vault::open_or_create(store).expect_err("nobody knows what is there");
        assert!(error.to_string().starts_with("cannot list faulty"), "{error}");
        assert_eq!(faults.mutations(), 0);
        assert_eq!(place.store().first().expect("a listing"), None);
    }
}
