//! Names that a store, a file system or a URL might take for something else.

use std::collections::BTreeSet;

use model::Userid;
use segment::names;
use vault::keys::{ACCOUNTS, account_key, component_of};
use vault::{SegmentKind, SegmentName, Vault};

use crate::places::{Place, bytes, everywhere};

const ODD: &[&str] = &[
    "%",
    "%25",
    "%2F",
    "%2e%2e",
    "%00",
    "%C3%A9",
    "a%",
    "100%25",
    "@",
    "a@b.example",
    "=",
    "a=b",
    "+",
    "a+b",
    ",",
    "~",
    "a~1",
    "%~0123456789abcdef",
    "..a",
    "a..",
    "a.",
    "-x",
    "_",
    "A",
    "a",
    "index.html",
    "con",
    "nul.txt",
    "x.tar.zst",
];

#[test]
fn odd_names_come_back_as_they_were() {
    everywhere(|store| {
        for name in ODD {
            store.put(&format!("as-object/{name}"), bytes(name.len(), 1)).expect("stored");
            store.put(&format!("as-directory/{name}/x"), bytes(1, 1)).expect("stored");
        }
        let mut want = ODD.to_vec();
        want.sort_unstable();
        let listed = store.list("as-object").expect("a listing");
        let names: Vec<&str> = listed.iter().map(|object| object.name.as_str()).collect();
        assert_eq!(names, want);
        assert_eq!(store.directories("as-directory").expect("a listing"), want);
        for name in ODD {
            let path = format!("as-object/{name}");
            assert_eq!(store.read_all(&path).expect("read"), bytes(name.len(), 1), "{name}");
            assert_eq!(store.list(&format!("as-directory/{name}")).expect("a listing").len(), 1);
            store.delete(&path).expect("deleted");
        }
        assert!(store.list("as-object").expect("a listing").is_empty());
    });
}

#[test]
fn a_name_cannot_leave_the_store() {
    everywhere(|store| {
        for name in ["..", "../x", "a/../../x", "a/./x", "a//x", "."] {
            store.put(name, bytes(1, 1)).expect_err("no such name");
            store.read_all(name).expect_err("no such name");
            store.delete(name).expect_err("no such name");
            store.list(name).expect_err("no such name");
        }
        assert_eq!(store.first().expect("a listing"), None);
    });
}

#[test]
fn the_longest_names_fit() {
    everywhere(|store| {
        let key = account_key(&Userid::from("x".repeat(300).as_str()));
        assert_eq!(key.len(), names::COMPONENT_MAX);
        let name = SegmentName {
            seq: u32::MAX,
            taken_at: i64::MAX,
            own: model::state::Digest([0xff; 32]),
            parent: Some(model::state::Digest([0xee; 32])),
            kind: SegmentKind::Snapshot,
        };
        let path = format!("{ACCOUNTS}/{key}/{name}");
        store.put(&path, bytes(5, 1)).expect("stored");
        assert_eq!(store.directories(ACCOUNTS).expect("a listing"), std::slice::from_ref(&key));
        let listed = store.list(&format!("{ACCOUNTS}/{key}")).expect("a listing");
        assert_eq!(listed[0].name, name.to_string());
        assert_eq!(store.read_all(&path).expect("read").len(), 5);
    });
}

#[test]
fn an_account_may_have_any_byte_in_its_name() {
    let userids = (0..=u8::MAX).flat_map(|byte| [vec![byte], vec![b'a', byte, b'%', byte]]);
    let mut userids: Vec<Userid> = userids.map(Userid::new).collect();
    userids.push(Userid::new((0..=u8::MAX).collect::<Vec<u8>>()));
    userids.push(Userid::new(Vec::new()));
    userids.push(Userid::shared());
    everywhere(|store| {
        let vault = Vault::open_or_create(store.clone()).expect("a vault");
        for userid in &userids {
            let key = account_key(userid);
            store.put(&format!("{ACCOUNTS}/{key}/x"), bytes(1, 1)).expect("stored");
            let account = vault.account(userid);
            let want = names::account(userid.as_bytes());
            assert_eq!((account.component(), component_of(&key)), (&*want, Some(want.clone())));
        }
        let found: BTreeSet<String> = vault.accounts().expect("a listing").into_iter().collect();
        let want: BTreeSet<String> =
            userids.iter().map(|userid| names::account(userid.as_bytes())).collect();
        assert_eq!(found, want);
        for component in &want {
            let history = vault.account_by_component(component).history().expect("a history");
            assert_eq!(history.strange, ["x"], "{component}");
        }
    });
}

#[test]
fn what_a_directory_is_writing_is_no_object() {
    let [_, place, _] = Place::all();
    let Place::Directory(directory) = &place else { panic!("there is a directory") };
    let store = place.store();
    store.put("accounts/x/name", bytes(1, 1)).expect("stored");
    // As a power cut leaves them.
    for name in ["accounts/x/name#1", "accounts/x/other#27"] {
        std::fs::write(directory.path().join(name), b"half").expect("written");
    }
    let listed = store.list("accounts/x").expect("a listing");
    assert_eq!(listed.len(), 1, "{listed:?}");
    store.put("accounts/x/name", bytes(2, 2)).expect("stored again");
    store.put("accounts/x/other", bytes(3, 3)).expect("stored");
    assert_eq!(store.read_all("accounts/x/other").expect("read"), bytes(3, 3));
}
