//! Files of accounts that a real Cyrus wrote.

use cyrus_format::annotations::{
    Annotated, Annotation, AnnotationDb, AnnotationKey, Audience, HostWord,
};
use cyrus_format::db::{self, Db};
use cyrus_format::names::NameRules;
use cyrus_format::quota::{Quota, Resource, Usage};
use cyrus_format::seen::Seen;
use cyrus_format::subs::{SubsVersion, Subscriptions};
use model::{MboxName, Modseq, Uid};

fn open(file: &[u8]) -> Db<'_> {
    let db = db::read(file).expect("it is whole");
    assert_eq!(db.recovered, None);
    db
}

fn records<'a>(db: &'a Db<'_>) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
    db.entries.iter().map(|(key, value)| (key.as_ref(), value.as_ref()))
}

#[track_caller]
fn annotations(db: AnnotationDb, file: &[u8]) -> Vec<(AnnotationKey, Annotation)> {
    let records = open(file);
    let parsed = self::records(&records).map(|(key, value)| {
        let parsed_key = AnnotationKey::parse(db, key).expect("Cyrus wrote it");
        let annotation = Annotation::parse(value).expect("Cyrus wrote it");
        assert_eq!(parsed_key.write(), key);
        assert_eq!(annotation.write(), value);
        assert_eq!(annotation.word, HostWord::Little64);
        (parsed_key, annotation)
    });
    parsed.collect()
}

#[test]
fn annotations_of_mailboxes() {
    let found =
        annotations(AnnotationDb::Global, include_bytes!("fixtures/account/annotations.db"));
    let has = |id: Option<&str>, entry: &str, audience: Audience, value: &str| {
        let annotated = id.map_or(Annotated::Server, |id| Annotated::Mailbox(id.into()));
        let key = AnnotationKey { annotated, entry: entry.into(), audience };
        found
            .iter()
            .any(|(known, annotation)| *known == key && annotation.value == value.as_bytes())
    };
    let (sent, inbox) = ("93c7p237i1e1ctme09qiyn1r", "ymagizhqjbflmr7v1oxjdfry");
    assert!(has(Some(sent), "/specialuse", Audience::Owner, "\\Sent"));
    assert!(has(Some(inbox), "/comment", Audience::Shared, "abc"));
    assert!(has(Some(inbox), "/comment", Audience::Owner, "hi"));
    assert!(has(None, "/comment", Audience::User("glad".into()), "server"));
    assert_eq!(found.len(), 4);
}

#[test]
fn annotations_of_messages() {
    let found =
        annotations(AnnotationDb::Messages, include_bytes!("fixtures/account/cyrus.annotations"));
    let key = |uid, audience| AnnotationKey {
        annotated: Annotated::Message(Uid(uid)),
        entry: b"/comment".to_vec(),
        audience,
    };
    let expected = [
        (key(1, Audience::Owner), Annotation::new("note", Modseq(12))),
        (key(2, Audience::Shared), Annotation::new("both", Modseq(14))),
    ];
    assert_eq!(found, expected);
}

#[test]
fn seen_state_of_another_user() {
    let db = open(include_bytes!("fixtures/account/glad.seen"));
    let all: Vec<_> = records(&db).collect();
    let [(id, value)] = all[..] else { panic!("one mailbox: {all:?}") };
    assert_eq!(id, b"fa20pc7imnpxppirbyj2pt0y");
    let seen = Seen::parse(value).expect("Cyrus wrote it");
    assert_eq!((seen.last_uid, seen.uids.write().as_str()), (Uid(3), "1"));
    assert_eq!(seen.write(), value);
}

#[test]
fn subscriptions_of_version_2() {
    let db = open(include_bytes!("fixtures/account/glad.sub"));
    let (userid, rules) = ("glad".into(), NameRules::v3());
    let subs = Subscriptions::parse(records(&db), &userid, &rules).expect("a known version");
    assert_eq!(subs.version, SubsVersion::V2);
    assert_eq!(subs.unreadable, []);
    let names: Vec<_> = subs.mailboxes.iter().map(MboxName::to_string).collect();
    assert_eq!(names, ["user.glad.R&AOk-", "user.glad.a", "user.glad.b", "user.glad.gone"]);
    let written = subs.write(&userid, &rules).expect("good names");
    let written = db::flat::write(&written).expect("no key twice");
    assert_eq!(written, include_bytes!("fixtures/account/glad.sub"));
}

#[test]
fn a_neighbours_mailbox_that_version_2_took_for_the_own() {
    let file = include_bytes!("fixtures/account/neighbours.sub");
    let db = open(file);
    let (userid, rules) = ("glad".into(), NameRules::v3());
    let subs = Subscriptions::parse(records(&db), &userid, &rules).expect("a known version");
    let names: Vec<_> = subs.mailboxes.iter().map(MboxName::to_string).collect();
    let expected = ["shared", "user.glad", "user.glad.Sent", "user.glad.with space", "user.glad2"];
    assert_eq!(names, expected);
    let written = subs.write(&userid, &rules).expect("good names");
    assert_eq!(db::flat::write(&written).expect("no key twice"), file);
}

#[test]
fn a_quota() {
    let file = include_bytes!("fixtures/account/quota");
    let quota = Quota::parse(file).expect("Cyrus wrote it");
    assert_eq!(quota.usage(Resource::Storage), Usage { used: 913, limit: Some(1000) });
    assert_eq!(quota.usage(Resource::Folders), Usage { used: 4, limit: None });
    assert_eq!(quota.modseq, Some(Modseq(25)));
    assert_eq!([quota.to_dlist().as_slice(), b"\n"].concat(), file);
}
