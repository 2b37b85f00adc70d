use proptest::prelude::*;

use super::*;

fn dots() -> NameRules {
    NameRules { separator: Separator::Dot, ..NameRules::v3() }
}

#[track_caller]
fn check(internal: &str, dbname: &[u8], external: &str, owner: Option<&str>) {
    let rules = NameRules::v3();
    let name = MboxName::from(internal);
    assert_eq!(rules.to_dbname(&name).as_deref(), Ok(dbname));
    assert_eq!(rules.from_dbname(dbname), Ok(name.clone()));
    assert_eq!(rules.to_external(&name).as_deref(), Ok(external.as_bytes()));
    assert_eq!(rules.from_external(external.as_bytes()), Ok(name.clone()));
    assert_eq!(rules.owner(&name), owner.map(Userid::from));
}

#[test]
fn every_form_of_a_name() {
    check("user.glad", b"user\x1fglad", "user/glad", Some("glad"));
    check(
        "user.fred^smith.a^b",
        b"user\x1ffred.smith\x1fa.b",
        "user/fred.smith/a.b",
        Some("fred.smith"),
    );
    check(
        "other.com!user.ann.x",
        b"other.com\x1duser\x1fann\x1fx",
        "user/ann/x@other.com",
        Some("ann@other.com"),
    );
    check("shared.list", b"shared\x1flist", "shared/list", None);
    check("user", b"user", "user", None);
    check(
        "user.glad.Entw&APw-rfe",
        b"user\x1fglad\x1fEntw&APw-rfe",
        "user/glad/Entw&APw-rfe",
        Some("glad"),
    );
    check(
        "DELETED.user.glad.tobedel.6B0450F1",
        b"DELETED\x1fuser\x1fglad\x1ftobedel\x1f6B0450F1",
        "DELETED/user/glad/tobedel/6B0450F1",
        Some("glad"),
    );
    check(
        "dom!DELETED.user.a^b.6B0450F1",
        b"dom\x1dDELETED\x1fuser\x1fa.b\x1f6B0450F1",
        "DELETED/user/a.b/6B0450F1@dom",
        Some("a.b@dom"),
    );
}

#[test]
fn a_deleted_name_says_when() {
    let rules = NameRules::v3();
    let parts = rules.parts(&"DELETED.user.glad.x.6B0450F1".into()).expect("a good name");
    assert_eq!(parts.deleted, Some(0x6B04_50F1));
    assert_eq!(parts.user.as_deref(), Some(b"glad".as_slice()));
    assert_eq!(parts.folders, [b"x".to_vec()]);
    // Made by hand: nothing that Cyrus wrote ends like this.
    for name in [
        "DELETED.user.glad",
        "DELETED.user.glad.6b0450f1",
        "DELETED.user.glad.0F",
        "DELETED.6B0450F1",
    ] {
        assert!(!rules.is_deleted(&name.into()), "{name}");
    }
    let other = NameRules { deletedprefix: b"gone".to_vec(), ..NameRules::v3() };
    assert!(other.is_deleted(&"gone.user.glad.6B0450F1".into()));
    assert!(!other.is_deleted(&"DELETED.user.glad.6B0450F1".into()));
}

#[test]
fn the_dot_as_separator_leaves_carets_to_people() {
    let name = MboxName::from("user.fred^smith.a");
    assert_eq!(dots().to_external(&name).as_deref(), Ok(b"user.fred^smith.a".as_slice()));
    assert_eq!(dots().from_external(b"user.fred^smith.a"), Ok(name.clone()));
    assert_eq!(dots().owner(&name), Some("fred.smith".into()));
    // 2.x knows no escape there.
    assert_eq!(NameRules::v2().owner(&name), Some("fred^smith".into()));
}

#[test]
fn inboxes_and_owners_belong_together() {
    for userid in ["glad", "fred.smith", "ann@other.com", "a.b@c.d.e", "9er"] {
        let userid = Userid::from(userid);
        let inbox = NameRules::v3().inbox_of(&userid).expect("a good userid");
        assert_eq!(NameRules::v3().owner(&inbox), Some(userid));
    }
    assert_eq!(NameRules::v3().inbox_of(&"ann@internal".into()), Ok("user.ann".into()));
    assert!(NameRules::v2().inbox_of(&"fred.smith".into()).is_err());
    assert_eq!(NameRules::v2().inbox_of(&"ann@dom".into()), Ok("user.ann@dom".into()));
    let virtdomains = NameRules { virtdomains: true, ..NameRules::v2() };
    assert_eq!(virtdomains.inbox_of(&"ann@dom".into()), Ok("dom!user.ann".into()));
}

#[test]
fn malformed_names_are_errors() {
    let rules = NameRules::v3();
    for name in [
        "",
        ".",
        "user.",
        "user..x",
        ".user",
        "!user.x",
        "dom!",
        "a!b!c",
        "user.a\0b",
        "user.a\x1fb",
    ] {
        assert!(rules.parts(&name.into()).is_err(), "{name:?}");
    }
    assert_eq!(
        rules.parts(&"user..x".into()).map_err(|e| e.to_string()),
        Err("mailbox \"user..x\": a component is empty".to_owned())
    );
    for userid in ["", "@dom", "ann@", "a\0b", "a!b", "a^b"] {
        assert!(rules.inbox_of(&userid.into()).is_err(), "{userid:?}");
    }
    assert!(rules.from_external(b"user/a^b").is_err());
    assert!(dots().from_external(b"user.a/b").is_err());
    assert!(rules.from_dbname(b"user\x1fa^b").is_err());
    assert!(rules.to_external(&"shared.a@b".into()).is_err());
}

fn component() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop::num::u8::ANY
        .prop_filter("separators are tested apart", |byte| !b"\0\x1d\x1f!/@^.".contains(byte));
    let inner = prop::collection::vec(prop_oneof![9 => byte, 1 => Just(b'^')], 1..8);
    prop_oneof![4 => inner, 1 => Just(b"user".to_vec()), 1 => Just(b"DELETED".to_vec())]
}

proptest! {
    #[test]
    fn names_survive_every_form(
        domain in prop::option::of(component()),
        components in prop::collection::vec(component(), 1..6),
    ) {
        let mut internal = domain.map(|mut domain| { domain.push(b'!'); domain }).unwrap_or_default();
        internal.extend(components.join(&b'.'));
        let name = MboxName::new(internal);
        let rules = NameRules::v3();
        let parts = rules.parts(&name).expect("made of good components");
        prop_assert_eq!(&rules.internal(&parts), &name);
        let dbname = rules.to_dbname(&name).expect("good");
        prop_assert_eq!(rules.from_dbname(&dbname), Ok(name.clone()));
        if let Ok(external) = rules.to_external(&name) {
            prop_assert_eq!(rules.from_external(&external), Ok(name));
        }
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        for rules in [NameRules::v2(), NameRules::v3(), dots()] {
            if rules.era == NameEra::V3
                && let Ok(name) = rules.from_dbname(&bytes)
            {
                prop_assert_eq!(rules.to_dbname(&name), Ok(bytes.clone()));
            }
            if let Ok(name) = rules.from_external(&bytes) {
                prop_assert!(rules.parts(&name).is_ok());
            }
            let _ = rules.owner(&MboxName::new(bytes.as_slice()));
        }
    }
}
