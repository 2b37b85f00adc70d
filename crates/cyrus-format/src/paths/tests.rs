use std::path::{Component, Path};

use proptest::prelude::*;

use super::*;

fn rules(names: NameRules, dirhash: DirHash, hashimapspool: bool) -> PathRules {
    PathRules { names, hashimapspool, dirhash }
}

fn v3(dirhash: DirHash) -> PathRules {
    rules(NameRules::v3(), dirhash, true)
}

fn v2(dirhash: DirHash) -> PathRules {
    let names = NameRules { virtdomains: true, separator: Separator::Slash, ..NameRules::v2() };
    rules(names, dirhash, true)
}

#[track_caller]
fn check(found: Result<PathBuf, NameError>, expected: &str) {
    assert_eq!(found.as_deref(), Ok(Path::new(expected)));
}

#[test]
fn letters_are_those_of_cyrus() {
    for (name, letter) in [
        ("glad", b'H'),
        ("fred.smith", b'E'),
        ("ann", b'N'),
        ("other.com", b'M'),
        ("Zoe", b'I'),
        ("9er", b'B'),
        ("jo.e", b'A'),
        ("shared", b'T'),
        ("pub", b'W'),
    ] {
        assert_eq!(DirHash::Full.letter(name.as_bytes()), letter, "{name}");
    }
    for (name, letter) in
        [("Zoe", b'z'), ("9er", b'q'), ("*U*", b'q'), ("glad", b'g'), ("", b'q'), ("\u{e4}", b'q')]
    {
        assert_eq!(DirHash::Simple.letter(name.as_bytes()), letter, "{name}");
    }
}

#[test]
fn directories_by_name() {
    let plain = rules(NameRules::v3(), DirHash::Simple, false);
    check(plain.mailbox_dir_by_name(&"user.glad.Sent".into()), "user/glad/Sent");
    check(plain.mailbox_dir_by_name(&"dom!user.glad".into()), "domain/dom/user/glad");
    let simple = v3(DirHash::Simple);
    check(simple.mailbox_dir_by_name(&"user.fred^smith.a^b".into()), "f/user/fred^smith/a^b");
    check(simple.mailbox_dir_by_name(&"shared".into()), "s/shared");
    let deleted = MboxName::from("DELETED.user.glad.x.6B0450F1");
    check(simple.mailbox_dir_by_name(&deleted), "u/DELETED/user/glad/x/6B0450F1");
    check(
        simple.mailbox_dir_by_name(&"other.com!user.ann".into()),
        "domain/o/other.com/a/user/ann",
    );
    let full = v3(DirHash::Full);
    check(full.mailbox_dir_by_name(&deleted), "C/DELETED/user/glad/x/6B0450F1");
    check(full.mailbox_dir_by_name(&"user.fred^smith".into()), "E/user/fred^smith");
    check(full.mailbox_dir_by_name(&"other.com!user.ann".into()), "domain/M/other.com/N/user/ann");
}

#[test]
fn two_dot_x_hashes_the_component_as_stored() {
    let full = v2(DirHash::Full);
    let letter = char::from(DirHash::Full.letter(b"fred^smith"));
    assert_ne!(letter, 'E');
    check(
        full.mailbox_dir_by_name(&"user.fred^smith".into()),
        &format!("{letter}/user/fred^smith"),
    );
    let without = rules(NameRules::v2(), DirHash::Simple, true);
    check(without.mailbox_dir_by_name(&"a!user.ann".into()), "a/a!user/ann");
}

#[test]
fn directories_by_id() {
    let rules = v3(DirHash::Simple);
    let id = UniqueId::from("c1fkpvrdaax34z2hoxb6fgjh");
    check(rules.mailbox_dir_by_id(&id), "uuid/c/1/c1fkpvrdaax34z2hoxb6fgjh");
    check(rules.user_file_by_id(&id, "sub"), "user/uuid/c/1/c1fkpvrdaax34z2hoxb6fgjh/sub.db");
    check(rules.sieve_dir_by_id(&id), "uuid/c/1/c1fkpvrdaax34z2hoxb6fgjh");
    for id in ["", "x", "../etc", "a/b", "ab/c", "..", ".a", "a.\0"] {
        assert!(rules.mailbox_dir_by_id(&id.into()).is_err(), "{id:?}");
    }
}

#[test]
fn files_of_accounts() {
    let rules = v3(DirHash::Simple);
    check(rules.user_file_by_name(&"glad".into(), "sub"), "user/g/glad.sub");
    check(rules.user_file_by_name(&"fred.smith".into(), "seen"), "user/f/fred.smith.seen");
    check(
        rules.user_file_by_name(&"ann@other.com".into(), "sub"),
        "domain/o/other.com/user/a/ann.sub",
    );
    let old = v2(DirHash::Simple);
    check(old.user_file_by_name(&"fred.smith".into(), "sub"), "user/f/fred^smith.sub");
    check(old.user_file_by_name(&"a.b@c.d".into(), "sub"), "domain/c/c.d/user/a/a^b.sub");
}

#[test]
fn sieve_directories() {
    let mut rules = v3(DirHash::Simple);
    check(rules.sieve_dir_by_name(&"fred.smith".into()), "f/fred.smith");
    check(rules.sieve_dir_by_name(&"ann@other.com".into()), "a/ann@other.com");
    rules.names.virtdomains = true;
    check(rules.sieve_dir_by_name(&"ann@other.com".into()), "domain/o/other.com/a/ann");
    check(v2(DirHash::Simple).sieve_dir_by_name(&"fred.smith".into()), "f/fred^smith");
    let dots = super::PathRules { names: NameRules::v2(), ..v2(DirHash::Simple) };
    check(dots.sieve_dir_by_name(&"fred.smith".into()), "f/fred.smith");
    assert!(rules.sieve_dir_by_name(&"..".into()).is_err());
}

#[test]
fn files_for_shared_mailboxes() {
    let rules = v3(DirHash::Simple);
    check(rules.shared_file(None, "counters"), "shared.counters");
    check(rules.shared_file(Some(b"dom"), "counters"), "domain/d/dom/shared.counters");
    check(
        v3(DirHash::Full).shared_file(Some(b"other.com"), "sub"),
        "domain/M/other.com/shared.sub",
    );
    for wrong in ["", "..", "a/b", "a\0"] {
        assert!(rules.shared_file(Some(wrong.as_bytes()), "counters").is_err(), "{wrong:?}");
    }
}

#[test]
fn quota_files() {
    let mut rules = v3(DirHash::Simple);
    check(rules.quota_file(&"user.glad".into()), "quota/g/user.glad");
    check(rules.quota_file(&"user.glad.lists".into()), "quota/g/user.glad.lists");
    check(rules.quota_file(&"shared".into()), "quota/s/shared");
    check(rules.quota_file(&"dom!user.ann".into()), "quota/a/dom!user.ann");
    rules.names.virtdomains = true;
    check(rules.quota_file(&"dom!user.ann".into()), "domain/d/dom/quota/a/user.ann");
    check(rules.quota_file(&"dom!".into()), "domain/d/dom/quota/root");
    check(v3(DirHash::Full).quota_file(&"user.glad.x".into()), "quota/H/user.glad.x");
}

#[test]
fn nothing_leaves_its_root() {
    for rules in
        [v3(DirHash::Simple), v2(DirHash::Full), rules(NameRules::v2(), DirHash::Full, false)]
    {
        for name in ["user.a/b", "user./", "user.a\0", "user..a", "", ".", "a.", "..!user.a"] {
            assert!(rules.mailbox_dir_by_name(&name.into()).is_err(), "{name:?}");
            assert!(rules.lock_file(name.as_bytes()).is_err(), "{name:?}");
        }
        for userid in ["", "a/b", "a\0b", "../x"] {
            assert!(rules.user_file_by_name(&userid.into(), "sub").is_err(), "{userid:?}");
            assert!(rules.sieve_dir_by_name(&userid.into()).is_err(), "{userid:?}");
        }
        assert!(rules.user_file_by_name(&"glad".into(), "../sub").is_err());
        for root in ["", "..", "a/b", "user.a\0"] {
            assert!(rules.quota_file(&root.into()).is_err(), "{root:?}");
        }
    }
    assert!(v3(DirHash::Simple).user_file_by_name(&"ann@..".into(), "sub").is_err());
}

proptest! {
    #[test]
    fn no_name_leaves_its_root(
        name in prop::collection::vec(prop_oneof![any::<u8>(), Just(b'.'), Just(b'/'), Just(b'!')], 0..40),
        full in any::<bool>(),
        hashed in any::<bool>(),
    ) {
        let dirhash = if full { DirHash::Full } else { DirHash::Simple };
        for names in [NameRules::v2(), NameRules::v3()] {
            let rules = rules(names, dirhash, hashed);
            let mailbox = MboxName::new(name.as_slice());
            let userid = Userid::new(name.as_slice());
            let id = UniqueId::new(name.as_slice());
            let paths = [
                rules.mailbox_dir_by_name(&mailbox),
                rules.mailbox_dir_by_id(&id),
                rules.user_file_by_name(&userid, "sub"),
                rules.user_file_by_id(&id, "sub"),
                rules.quota_file(&mailbox),
                rules.sieve_dir_by_name(&userid),
                rules.lock_file(&name),
            ];
            for path in paths.into_iter().flatten() {
                let normal = |part: Component<'_>| matches!(part, Component::Normal(_));
                prop_assert!(path.components().all(normal), "{}", path.display());
            }
        }
    }
}
